/* A shard's end and new beginning.
 *
 *   marker synced in log -> rows and applied position out of state, flushed -> (an installation puts its own
 * in)
 *   -> ONE synced write in log: entries, floor and marker go, hard state and new floor come
 *
 * Invariants:
 *   1. from the marker to the last write the next open wipes the shard whatever it finds; nothing else looks
 * at it, and no check compares it with the watermark;
 *   2. the watermark file forgets the shard before the last write is made: it never promises more than the
 * log will hold. */
#include "base/error.h"
#include "base/log.h"
#include "storage/rocks/rocks.h"

/* --- log --------------------------------------------------------------------------------------- */

static void build_marker(
    struct rocks_store *store, rocksdb_writebatch_t *batch, const struct rocks_reset *reset)
{
    uint8_t key[WP_HARD_KEY_SIZE];
    uint8_t record[WP_MARKER_RECORD_SIZE];
    wp_hard_key(key, reset->shard, WP_HARD_INSTALLING);
    if (!reset->mark) {
        rocksdb_writebatch_delete_cf(batch, store->hard, (const char *)key, sizeof key);
        return;
    }
#if WP_BUG != 5 /* the marker is not written */
    wp_pair_seal(WP_RECORD_MARKER, wp_slice(key, sizeof key), reset->keeps, 0, record);
    rocksdb_writebatch_put_cf(
        batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
#else
    (void)record;
#endif
}

static void build_clear(
    struct rocks_store *store, rocksdb_writebatch_t *batch, const struct rocks_reset *reset)
{
    uint8_t first[WP_ENTRY_KEY_SIZE];
    uint8_t end[WP_ENTRY_KEY_SIZE];
    uint8_t key[WP_HARD_KEY_SIZE];
    uint8_t record[WP_FLOOR_RECORD_SIZE];
    wp_entry_key(first, reset->shard, 0);
    wp_entry_key(end, reset->shard + 1, 0);
    rocksdb_writebatch_delete_range_cf(
        batch, store->entries, (const char *)first, sizeof first, (const char *)end, sizeof end);
    wp_hard_key(key, reset->shard, WP_HARD_FLOOR);
    if (reset->floor == 0) {
        rocksdb_writebatch_delete_cf(batch, store->hard, (const char *)key, sizeof key);
        return;
    }
    wp_pair_seal(WP_RECORD_FLOOR, wp_slice(key, sizeof key), reset->floor, reset->term, record);
    rocksdb_writebatch_put_cf(
        batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
}

void rocks_reset_build(
    struct rocks_store *store, rocksdb_writebatch_t *batch, const struct rocks_reset *reset)
{
    if (!reset->mark) {
        build_clear(store, batch, reset);
    }
    build_marker(store, batch, reset);
    if (reset->hard != NULL) {
        uint8_t key[WP_HARD_KEY_SIZE];
        uint8_t record[WP_HARD_RECORD_SIZE];
        wp_hard_key(key, reset->shard, WP_HARD_STATE);
        wp_hard_seal(wp_slice(key, sizeof key), reset->hard, record);
        rocksdb_writebatch_put_cf(
            batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
    }
}

/* --- state ------------------------------------------------------------------------------------- */

int rocks_state_drop(struct rocks_store *store, uint32_t shard)
{
    char from[1 + WP_STATE_SHARD_SIZE] = {WP_STATE_USER};
    char to[1 + WP_STATE_SHARD_SIZE] = {WP_STATE_USER};
    uint8_t applied[WP_APPLIED_KEY_SIZE];
    wp_put_u32be((uint8_t *)from + 1, shard);
    wp_put_u32be((uint8_t *)to + 1, shard + 1);
    wp_applied_key(applied, shard);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writebatch_delete_range(batch, from, sizeof from, to, sizeof to);
    rocksdb_writebatch_delete(batch, (const char *)applied, sizeof applied);
    char *text = NULL;
    rocksdb_write(store->state, store->write_no_wal, batch, &text);
    rocksdb_writebatch_destroy(batch);
    if (text != NULL) {
        return rocks_state_fail(store, "instance state, removal of a shard", &text);
    }
    rocks_state_set_applied(store, shard, 0, 0);
    return rocks_state_flush(&store->base);
}

/* --- wipe -------------------------------------------------------------------------------------- */

int rocks_shard_wipe(struct wp_store *base, uint32_t shard, const struct wp_log_hard_state *wanted)
{
    struct rocks_store *store = (struct rocks_store *)base;
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    struct wp_log_position floor;
    int error = rocks_log_hard(store, shard, &before, &floor);
    if (error != WP_OK) {
        return error;
    }
    pthread_mutex_lock(&store->queue_guard);
    uint64_t last = store->positions[shard].last;
    pthread_mutex_unlock(&store->queue_guard);
    error = wp_hard_after_wipe(&before, last, wanted, &after);
    if (error != WP_OK) {
        return error;
    }
    bool keeps = before.replica == 0 || before.replica == wanted->replica;
    error = rocks_log_reset(
        store, &(struct rocks_reset){.shard = shard, .mark = true, .keeps = keeps, .hard = &after});
    if (error == WP_OK) {
        error = rocks_state_drop(store, shard);
    }
    if (error == WP_OK) {
        error = rocks_log_reset(store, &(struct rocks_reset){.shard = shard, .hard = &after});
    }
    return error;
}

/* The same from the state drop on, written at once: the committer does not run yet. */
static int wipe_finish(struct rocks_store *store, uint32_t shard)
{
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    struct wp_log_position floor;
    bool marked;
    uint64_t keeps = 0;
    int error = rocks_log_hard(store, shard, &before, &floor);
    if (error == WP_OK) {
        error = rocks_log_marker(store, shard, &marked, &keeps);
    }
    if (error == WP_OK) {
        error = rocks_state_drop(store, shard);
    }
    if (error == WP_OK) {
        error = wp_watermark_reset(&store->watermark, shard);
    }
    if (error != WP_OK) {
        return error;
    }
    error = wp_hard_after_wipe(&before, keeps != 0 ? store->positions[shard].last : 0, &before, &after);
    if (error != WP_OK) {
        return error;
    }
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocks_reset_build(store, batch, &(struct rocks_reset){.shard = shard, .hard = &after});
    char *text = NULL;
    rocksdb_write(store->log, store->write_synced, batch, &text);
    rocksdb_writebatch_destroy(batch);
    if (text != NULL) {
        return rocks_error(store, "instance log, wipe of a shard", &text);
    }
    wp_log(WP_LOG_WARN, "shard_wiped", "shard=%u term=%llu lost_index=%llu", shard,
        (unsigned long long)after.term, (unsigned long long)after.lost_index);
    store->positions[shard] = (struct wp_log_position){.term = after.term};
    wp_watermark_put(&store->watermark, shard, after.term, 0);
    return WP_OK;
}

int rocks_wipe_marked(struct rocks_store *store)
{
    int error = WP_OK;
    for (uint32_t shard = 0; error == WP_OK && shard < WP_STORE_SHARDS_MAX; shard++) {
        if (store->marked[shard]) {
            error = wipe_finish(store, shard);
        }
    }
    return error;
}
