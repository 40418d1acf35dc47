/* Wipe and installation of a shard in the simulated body: the same steps in the same order as in
 * storage/rocks/shard.c, each of which may be the last one before the power fails. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "storage/sim/sim_store.h"

struct sim_install {
    struct wp_state_install base;
    struct sim_node *rows; /* keys with their tag, sealed */
};

static int step(struct sim_store *store)
{
    int error = wp_store_failure(&store->base);
    if (error == WP_OK && store->step_countdown > 0 && --store->step_countdown == 0) {
        error = wp_store_fail(&store->base, WP_E_IO, "injected at a step of a wipe or installation");
    }
    return error;
}

/* What other shards have on its way is synced first: the log is one. */
static int step_mark(
    struct sim_store *store, uint32_t shard, bool keeps, const struct wp_log_hard_state *hard)
{
    while (wp_sim_pending(&store->base) > 0) {
        int error = wp_sim_sync(&store->base, 0);
        if (error != WP_OK) {
            return error;
        }
    }
    int error = step(store);
    if (error != WP_OK) {
        return error;
    }
#if WP_BUG != 5 /* the marker is not written */
    sim_log_put_pair(&store->log, shard, WP_HARD_INSTALLING, WP_RECORD_MARKER, keeps, 0);
#else
    (void)keeps;
#endif
    if (hard != NULL) {
        sim_log_put_hard(&store->log, shard, hard);
    }
    return WP_OK;
}

static void drop_rows(struct sim_node **state, uint32_t shard)
{
    uint8_t from[1 + WP_STATE_SHARD_SIZE] = {WP_STATE_USER};
    uint8_t to[1 + WP_STATE_SHARD_SIZE] = {WP_STATE_USER};
    uint8_t applied[WP_APPLIED_KEY_SIZE];
    wp_put_u32be(from + 1, shard);
    wp_put_u32be(to + 1, shard + 1);
    wp_applied_key(applied, shard);
    sim_map_delete_range(state, wp_slice(from, sizeof from), wp_slice(to, sizeof to));
    sim_map_delete(state, wp_slice(applied, sizeof applied));
}

static int step_drop(struct sim_store *store, uint32_t shard)
{
    int error = step(store);
    if (error != WP_OK) {
        return error;
    }
    drop_rows(&store->state, shard);
    sim_state_boundary(store);
    error = step(store);
    return error != WP_OK ? error : sim_state_flush(&store->base);
}

static int step_switch(struct sim_store *store, uint32_t shard, const struct wp_log_hard_state *hard,
    uint64_t floor, uint64_t floor_term)
{
    int error = step(store);
    if (error != WP_OK) {
        return error;
    }
    sim_log_reset(&store->log, shard, hard, floor, floor_term);
    uint64_t term = hard->term > floor_term ? hard->term : floor_term;
    store->positions[shard] =
        (struct wp_log_position){.floor = floor, .last = floor > 0 ? floor - 1 : 0, .term = term};
    return WP_OK;
}

int sim_shard_wipe(struct wp_store *base, uint32_t shard, const struct wp_log_hard_state *wanted)
{
    struct sim_store *store = (struct sim_store *)base;
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    int error = sim_log_hard(store, shard, &before);
    if (error == WP_OK) {
        error = wp_hard_after_wipe(&before, store->positions[shard].last, wanted, &after);
    }
    if (error != WP_OK) {
        return error;
    }
    bool keeps = before.replica == 0 || before.replica == wanted->replica;
    error = step_mark(store, shard, keeps, &after);
    if (error == WP_OK) {
        error = step_drop(store, shard);
    }
    return error != WP_OK ? error : step_switch(store, shard, &after, 0, 0);
}

static bool marked(const struct sim_store *store, uint32_t shard, uint64_t *ret_keeps)
{
    uint8_t key[1 + WP_HARD_KEY_SIZE] = {SIM_HARD};
    uint64_t unused;
    wp_hard_key(key + 1, shard, WP_HARD_INSTALLING);
    const struct sim_node *node = sim_map_find(store->log, wp_slice(key, sizeof key));
    return node != NULL && wp_pair_open(WP_RECORD_MARKER, wp_slice(key + 1, WP_HARD_KEY_SIZE),
                               sim_node_value(node), ret_keeps, &unused) == WP_OK;
}

void sim_wipe_marked(struct sim_store *store)
{
    for (uint32_t shard = 0; shard < WP_STORE_SHARDS_MAX; shard++) {
        struct wp_log_hard_state before;
        struct wp_log_hard_state after;
        uint64_t keeps;
        if (!marked(store, shard, &keeps) || sim_log_hard(store, shard, &before) != WP_OK) {
            continue;
        }
        uint64_t last = keeps != 0 ? store->positions[shard].last : 0;
        if (wp_hard_after_wipe(&before, last, &before, &after) == WP_OK) {
            drop_rows(&store->state, shard);
            sim_state_flush(&store->base);
            step_switch(store, shard, &after, 0, 0);
        }
    }
}

int sim_install_create(struct wp_store *base, uint32_t shard, struct wp_state_install **ret_install)
{
    struct sim_install *install = sim_memory(calloc(1, sizeof *install));
    install->base.store = base;
    install->base.shard = shard;
    *ret_install = &install->base;
    return WP_OK;
}

int sim_install_add(struct wp_state_install *base, struct wp_slice key, struct wp_slice value)
{
    struct sim_install *install = (struct sim_install *)base;
    struct wp_bytes *full = sim_tagged(WP_STATE_USER, key);
    struct wp_bytes *record = sim_sealed(key, value);
    sim_map_put(&install->rows, wp_slice(full->data, full->size), record);
    wp_bytes_release(&full);
    wp_bytes_release(&record);
    return WP_OK;
}

/* Rows and position become durable together, as the files of one ingestion. */
static int step_take_over(
    struct sim_store *store, const struct sim_install *install, uint64_t index, uint64_t term)
{
    int error = step(store);
    if (error != WP_OK) {
        return error;
    }
    const struct sim_node *node = sim_map_first_from(install->rows, wp_slice(NULL, 0));
    while (node != NULL) {
        sim_map_put(&store->state, sim_node_key(node), node->value);
        node = sim_map_first_after(install->rows, sim_node_key(node));
    }
    sim_state_put_applied(&store->state, install->base.shard, index, term);
    return sim_state_flush(&store->base);
}

int sim_install_commit(struct wp_state_install *base, uint64_t index, uint64_t term, uint64_t leader_term)
{
    struct sim_install *install = (struct sim_install *)base;
    struct sim_store *store = (struct sim_store *)base->store;
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    int error = sim_log_hard(store, base->shard, &before);
    if (error != WP_OK) {
        return error;
    }
    wp_hard_after_install(&before, store->positions[base->shard].last, index, term, leader_term, &after);
    error = step_mark(store, base->shard, true, NULL);
    if (error == WP_OK) {
        error = step_drop(store, base->shard);
    }
    if (error == WP_OK) {
        error = step_take_over(store, install, index, term);
    }
    return error != WP_OK ? error : step_switch(store, base->shard, &after, index + 1, after.term);
}

void sim_install_destroy(struct wp_state_install *base)
{
    struct sim_install *install = (struct sim_install *)base;
    sim_map_release(&install->rows);
    free(install);
}
