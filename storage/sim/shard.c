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
static int step_mark(struct sim_store *store, uint32_t shard, const struct wp_marker *marker,
    const struct wp_log_hard_state *hard)
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
    if (WP_BUG != 5) { /* the marker is not written */
        sim_log_put_marker(&store->log, shard, marker);
    }
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
    struct wp_marker marker;
    int error = sim_log_hard(store, shard, &before);
    if (error == WP_OK) {
        error = wp_hard_after_wipe(&before, store->positions[shard].last, wanted, &after, &marker);
    }
    if (error == WP_OK) {
        error = step_mark(store, shard, &marker, &after);
    }
    if (error == WP_OK) {
        error = step_drop(store, shard);
    }
    return error != WP_OK ? error : step_switch(store, shard, &after, 0, 0);
}

/* --- installation ------------------------------------------------------------------------------ */

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

static void files_remove(struct sim_store *store, uint32_t shard)
{
    uint8_t from[4];
    uint8_t to[4];
    wp_put_u32be(from, shard);
    wp_put_u32be(to, shard + 1);
    sim_map_delete_range(&store->files, wp_slice(from, sizeof from), wp_slice(to, sizeof to));
}

static void files_write(struct sim_store *store, const struct sim_install *install)
{
    files_remove(store, install->base.shard);
    const struct sim_node *node = sim_map_first_from(install->rows, wp_slice(NULL, 0));
    for (; node != NULL; node = sim_map_first_after(install->rows, sim_node_key(node))) {
        struct wp_bytes *key = sim_bytes_create(4 + node->key_size);
        wp_put_u32be(key->data, install->base.shard);
        memcpy(key->data + 4, node->key, node->key_size);
        sim_map_put(&store->files, wp_slice(key->data, key->size), node->value);
        wp_bytes_release(&key);
    }
}

/* Rows and position become durable together, as the files of one ingestion. */
static int step_take_over(struct sim_store *store, uint32_t shard, const struct wp_marker *marker)
{
    int error = step(store);
    if (error != WP_OK) {
        return error;
    }
    uint8_t from[4];
    wp_put_u32be(from, shard);
    const struct sim_node *node = sim_map_first_from(store->files, wp_slice(from, sizeof from));
    for (; node != NULL && wp_get_u32be(node->key) == shard;
         node = sim_map_first_after(store->files, sim_node_key(node))) {
        sim_map_put(&store->state, wp_slice(node->key + 4, node->key_size - 4), node->value);
    }
    sim_state_put_applied(&store->state, shard, marker->index, marker->term);
    files_remove(store, shard);
    return sim_state_flush(&store->base);
}

int sim_install_commit(struct wp_state_install *base, uint64_t index, uint64_t term, uint64_t leader_term)
{
    struct sim_install *install = (struct sim_install *)base;
    struct sim_store *store = (struct sim_store *)base->store;
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    struct wp_marker marker = {WP_MARKER_INSTALL, index, term, leader_term, 1};
    int error = sim_log_hard(store, base->shard, &before);
    if (error == WP_OK) {
        error = wp_hard_after_install(&before, store->positions[base->shard].last, &marker, &after);
    }
    if (error != WP_OK) {
        return error;
    }
    files_write(store, install);
    error = step_mark(store, base->shard, &marker, NULL);
    if (error == WP_OK) {
        error = step_drop(store, base->shard);
    }
    if (error == WP_OK) {
        error = step_take_over(store, base->shard, &marker);
    }
    return error != WP_OK ? error : step_switch(store, base->shard, &after, index + 1, after.term);
}

void sim_install_destroy(struct wp_state_install *base)
{
    struct sim_install *install = (struct sim_install *)base;
    sim_map_release(&install->rows);
    free(install);
}

/* --- after a crash ----------------------------------------------------------------------------- */

static void marked_finish(struct sim_store *store, uint32_t shard, const struct wp_marker *marker)
{
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    uint64_t index = 0;
    uint64_t term = 0;
    if (sim_log_hard(store, shard, &before) != WP_OK) {
        return;
    }
    bool installed = marker->kind == WP_MARKER_INSTALL;
    wp_state_applied(&store->base, shard, &index, &term);
    bool there = installed && index == marker->index && term == marker->term;
    if (!there) {
        drop_rows(&store->state, shard);
        sim_state_flush(&store->base);
    }
    if (installed && !there) {
        step_take_over(store, shard, marker);
    }
    wp_hard_after_crash(&before, store->positions[shard].last, marker, installed, &after);
    step_switch(store, shard, &after, installed ? marker->index + 1 : 0, installed ? after.term : 0);
}

void sim_finish_marked(struct sim_store *store)
{
    for (uint32_t shard = 0; shard < WP_STORE_SHARDS_MAX; shard++) {
        struct wp_marker marker;
        if (sim_log_marker(store->log, shard, &marker)) {
            marked_finish(store, shard, &marker);
        }
    }
    sim_map_release(&store->files);
}
