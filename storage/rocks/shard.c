/* A shard's end and new beginning.
 *
 *   marker synced in log -> rows and applied position out of state, flushed -> (an installation puts its own
 * in)
 *   -> ONE synced write in log: entries, floor and marker go, hard state and new floor come
 *
 * Invariants:
 *   1. from the marker to the last write the next open goes on where the crash was, before anything else
 * looks at the shard, and no check compares it with the watermark; an installation whose files are damaged
 * becomes a wipe;
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
    wp_hard_key(key, reset->shard, WP_HARD_INSTALLING);
    if (reset->marker == NULL) {
        rocksdb_writebatch_delete_cf(batch, store->hard, (const char *)key, sizeof key);
        return;
    }
#if WP_BUG != 5 /* the marker is not written */
    uint8_t record[WP_MARKER_RECORD_SIZE];
    wp_marker_seal(wp_slice(key, sizeof key), reset->marker, record);
    rocksdb_writebatch_put_cf(
        batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
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
    if (reset->marker == NULL) {
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
    struct wp_marker marker;
    int error = rocks_log_hard(store, shard, &before, &floor);
    pthread_mutex_lock(&store->queue_guard);
    uint64_t last = store->positions[shard].last;
    pthread_mutex_unlock(&store->queue_guard);
    if (error == WP_OK) {
        error = wp_hard_after_wipe(&before, last, wanted, &after, &marker);
    }
    if (error != WP_OK) {
        return error;
    }
    error = rocks_log_reset(store, &(struct rocks_reset){.shard = shard, .marker = &marker, .hard = &after});
    if (error == WP_OK) {
        error = rocks_state_drop(store, shard);
    }
    if (error == WP_OK) {
        error = rocks_log_reset(store, &(struct rocks_reset){.shard = shard, .hard = &after});
    }
    return error;
}

/* --- after a crash ----------------------------------------------------------------------------- */

/* The new rows, when the marker is that of an installation: there already, or taken over now. */
static bool rows_installed(struct rocks_store *store, uint32_t shard, const struct wp_marker *marker)
{
    if (marker->kind != WP_MARKER_INSTALL) {
        return false;
    }
    struct rocks_shard *found = &store->shards[shard];
    if (found->applied_index == marker->index && found->applied_term == marker->term) {
        return true; /* rows and position are taken over in one step */
    }
    return rocks_state_drop(store, shard) == WP_OK &&
           rocks_install_ingest(store, shard, (uint32_t)marker->file_count) == WP_OK;
}

/* The last steps, written at once: the committer does not run yet. */
static int marked_finish(struct rocks_store *store, uint32_t shard)
{
    const struct wp_marker *marker = &store->markers[shard];
    struct wp_log_hard_state before;
    struct wp_log_hard_state after;
    struct wp_log_position floor;
    int error = rocks_log_hard(store, shard, &before, &floor);
    if (error != WP_OK) {
        return error;
    }
    bool installed = rows_installed(store, shard, marker);
    error = installed ? WP_OK : rocks_state_drop(store, shard);
    if (error == WP_OK) {
        error = wp_watermark_reset(&store->watermark, shard);
    }
    if (error != WP_OK) {
        return error;
    }
    wp_hard_after_crash(&before, store->positions[shard].last, marker, installed, &after);
    struct rocks_reset reset = {
        .shard = shard, .floor = installed ? marker->index + 1 : 0, .term = after.term, .hard = &after};
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocks_reset_build(store, batch, &reset);
    char *text = NULL;
    rocksdb_write(store->log, store->write_synced, batch, &text);
    rocksdb_writebatch_destroy(batch);
    if (text != NULL) {
        return rocks_error(store, "instance log, end of a wipe or installation", &text);
    }
    wp_log(WP_LOG_WARN, installed ? "shard_install_finished" : "shard_wiped",
        "shard=%u term=%llu lost_index=%llu", shard, (unsigned long long)after.term,
        (unsigned long long)after.lost_index);
    uint64_t last = installed ? marker->index : 0;
    if (installed) {
        rocks_state_set_applied(store, shard, marker->index, marker->term);
    }
    store->positions[shard] =
        (struct wp_log_position){.floor = reset.floor, .last = last, .term = after.term};
    wp_watermark_put(&store->watermark, shard, after.term, last);
    return WP_OK;
}

int rocks_finish_marked(struct rocks_store *store)
{
    int error = WP_OK;
    for (uint32_t shard = 0; error == WP_OK && shard < WP_STORE_SHARDS_MAX; shard++) {
        if (store->markers[shard].kind != 0) {
            error = marked_finish(store, shard);
        }
    }
    return error;
}
