/* Reading the log instance. Only records whose sync has returned are visible here: RocksDB inserts a batch
 * into its memtable after the WAL is synced. */
#include <string.h>

#include "base/error.h"
#include "storage/rocks/rocks.h"

/* Bounded to one shard, so that neither another shard's entries nor their tombstones are touched. */
struct entries_cursor {
    rocksdb_readoptions_t *options;
    rocksdb_iterator_t *iterator;
    uint8_t lower[WP_ENTRY_KEY_SIZE];
    uint8_t upper[WP_ENTRY_KEY_SIZE];
};

static void cursor_open(
    struct rocks_store *store, struct entries_cursor *cursor, uint32_t shard, uint64_t first)
{
    wp_entry_key(cursor->lower, shard, first);
    wp_entry_key(cursor->upper, shard + 1, 0);
    cursor->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(cursor->options, 1);
    rocksdb_readoptions_set_fill_cache(cursor->options, 0);
    rocksdb_readoptions_set_iterate_lower_bound(
        cursor->options, (const char *)cursor->lower, sizeof cursor->lower);
    rocksdb_readoptions_set_iterate_upper_bound(
        cursor->options, (const char *)cursor->upper, sizeof cursor->upper);
    cursor->iterator = rocksdb_create_iterator_cf(store->log, cursor->options, store->entries);
    rocksdb_iter_seek_to_first(cursor->iterator);
}

static void cursor_close(struct entries_cursor *cursor)
{
    rocksdb_iter_destroy(cursor->iterator);
    rocksdb_readoptions_destroy(cursor->options);
}

static int cursor_error(struct rocks_store *store, struct entries_cursor *cursor)
{
    char *text = NULL;
    rocksdb_iter_get_error(cursor->iterator, &text);
    return text != NULL ? rocks_error(store, "instance log, read of entries", &text) : WP_OK;
}

static struct wp_slice cursor_key(const struct entries_cursor *cursor)
{
    size_t size;
    const char *data = rocksdb_iter_key(cursor->iterator, &size);
    return wp_slice(data, size);
}

static struct wp_slice cursor_value(const struct entries_cursor *cursor)
{
    size_t size;
    const char *data = rocksdb_iter_value(cursor->iterator, &size);
    return wp_slice(data, size);
}

/* *ret_value NULL when there is no such record; destroy it otherwise. */
static int hard_get(struct rocks_store *store, const uint8_t key[WP_HARD_KEY_SIZE],
    rocksdb_pinnableslice_t **ret_pinned, struct wp_slice *ret_value)
{
    char *text = NULL;
    *ret_pinned = rocksdb_get_pinned_cf(
        store->log, store->read_plain, store->hard, (const char *)key, WP_HARD_KEY_SIZE, &text);
    if (text != NULL) {
        return rocks_error(store, "instance log, read of hard", &text);
    }
    if (*ret_pinned != NULL) {
        size_t size;
        const char *data = rocksdb_pinnableslice_value(*ret_pinned, &size);
        *ret_value = wp_slice(data, size);
    }
    return WP_OK;
}

static int hard_corrupt(struct rocks_store *store, uint32_t shard, const char *what)
{
    return wp_store_note(&store->base, WP_E_CORRUPT,
        "instance log, family hard, shard %u: the %s fails its checksum", shard, what);
}

int rocks_log_hard(struct rocks_store *store, uint32_t shard, struct wp_log_hard_state *ret_hard,
    struct wp_log_position *ret_floor)
{
    struct wp_log_hard_state hard = {0};
    struct wp_log_position floor = {0};
    uint8_t key[WP_HARD_KEY_SIZE];
    rocksdb_pinnableslice_t *pinned;
    struct wp_slice value = {0};
    wp_hard_key(key, shard, WP_HARD_STATE);
    int error = hard_get(store, key, &pinned, &value);
    if (error == WP_OK && pinned != NULL) {
        if (wp_hard_open(wp_slice(key, sizeof key), value, &hard) != WP_OK) {
            error = hard_corrupt(store, shard, "hard state");
        }
        rocksdb_pinnableslice_destroy(pinned);
    }
    if (error != WP_OK) {
        return error;
    }
    wp_hard_key(key, shard, WP_HARD_FLOOR);
    error = hard_get(store, key, &pinned, &value);
    if (error == WP_OK && pinned != NULL) {
        if (wp_pair_open(WP_RECORD_FLOOR, wp_slice(key, sizeof key), value, &floor.floor, &floor.term) !=
            WP_OK) {
            error = hard_corrupt(store, shard, "floor");
        }
        rocksdb_pinnableslice_destroy(pinned);
    }
    if (error == WP_OK) {
        *ret_hard = hard;
        *ret_floor = floor;
    }
    return error;
}

int rocks_log_marker(struct rocks_store *store, uint32_t shard, struct wp_marker *ret_marker)
{
    uint8_t key[WP_HARD_KEY_SIZE];
    rocksdb_pinnableslice_t *pinned;
    struct wp_slice value = {0};
    wp_hard_key(key, shard, WP_HARD_INSTALLING);
    *ret_marker = (struct wp_marker){0};
    int error = hard_get(store, key, &pinned, &value);
    if (error != WP_OK || pinned == NULL) {
        return error;
    }
    if (wp_marker_open(wp_slice(key, sizeof key), value, ret_marker) != WP_OK) {
        error = hard_corrupt(store, shard, "marker of an installation");
    }
    rocksdb_pinnableslice_destroy(pinned);
    return error;
}

int rocks_log_load(struct wp_store *base, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last)
{
    struct rocks_store *store = (struct rocks_store *)base;
    struct wp_log_loader loader = {.shard = shard, .after = after, .each = each, .context = context};
    struct wp_log_hard_state hard;
    struct wp_log_position floor;
    int error = rocks_log_hard(store, shard, &hard, &floor);
    if (error != WP_OK) {
        return error;
    }
    loader.floor = floor.floor;
    struct entries_cursor cursor;
    cursor_open(store, &cursor, shard, loader.floor);
    while (error == WP_OK && rocksdb_iter_valid(cursor.iterator)) {
        error = wp_log_loader_take(base, &loader, cursor_key(&cursor), cursor_value(&cursor));
        rocksdb_iter_next(cursor.iterator);
    }
    if (error == WP_OK) {
        error = cursor_error(store, &cursor);
    }
    cursor_close(&cursor);
    if (error == WP_OK) {
        error = wp_log_loader_finish(base, &loader);
    }
    if (error != WP_OK) {
        return error;
    }
    *ret_hard = hard;
    bool empty = loader.last == 0 && loader.floor > 0;
    *ret_first = empty ? loader.floor : loader.first;
    *ret_last = empty ? loader.floor - 1 : loader.last;
    return WP_OK;
}

/* Verifies one record and copies its data into a reference of its own. */
static int entry_read(struct rocks_store *store, uint32_t shard, uint64_t index, struct wp_slice key,
    struct wp_slice record, struct wp_log_entry *ret_entry)
{
    struct wp_slice data;
    if (wp_entry_record_open(key, record, ret_entry, &data) != WP_OK) {
        return wp_store_note(&store->base, WP_E_CORRUPT,
            "instance log, family entries, shard %u, index %llu: the record fails its checksum", shard,
            (unsigned long long)index);
    }
    if (ret_entry->index != index) {
        return wp_store_note(&store->base, WP_E_CORRUPT,
            "instance log, family entries, shard %u: index %llu is missing", shard,
            (unsigned long long)index);
    }
    ret_entry->data = wp_bytes_copy(data.data, data.size);
    return ret_entry->data != NULL ? WP_OK : WP_E_NOMEM;
}

int rocks_log_read(struct wp_store *base, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count)
{
    struct rocks_store *store = (struct rocks_store *)base;
    struct entries_cursor cursor;
    cursor_open(store, &cursor, shard, first);
    int error = WP_OK;
    uint32_t done = 0;
    if (rocksdb_iter_valid(cursor.iterator) && wp_get_u64be(cursor_key(&cursor).data + 4) != first) {
        error = WP_E_NOT_FOUND;
    }
    while (error == WP_OK && done < count && rocksdb_iter_valid(cursor.iterator)) {
        memset(&ret_entries[done], 0, sizeof ret_entries[done]);
        error = entry_read(
            store, shard, first + done, cursor_key(&cursor), cursor_value(&cursor), &ret_entries[done]);
        done += error == WP_OK ? 1 : 0;
        rocksdb_iter_next(cursor.iterator);
    }
    if (error == WP_OK) {
        error = cursor_error(store, &cursor);
    }
    cursor_close(&cursor);
    if (error == WP_OK && done == 0) {
        error = WP_E_NOT_FOUND;
    }
    if (error == WP_OK) {
        *ret_count = done;
        return WP_OK;
    }
    for (uint32_t i = 0; i < done; i++) {
        wp_bytes_release(&ret_entries[i].data);
    }
    return error;
}

int rocks_log_term(struct wp_store *base, uint32_t shard, uint64_t index, uint64_t *ret_term)
{
    struct rocks_store *store = (struct rocks_store *)base;
    uint8_t key[WP_ENTRY_KEY_SIZE];
    wp_entry_key(key, shard, index);
    char *text = NULL;
    rocksdb_pinnableslice_t *pinned = rocksdb_get_pinned_cf(
        store->log, store->read_plain, store->entries, (const char *)key, sizeof key, &text);
    if (text != NULL) {
        return rocks_error(store, "instance log, read of entries", &text);
    }
    if (pinned == NULL) {
        return WP_E_NOT_FOUND;
    }
    size_t size;
    const char *record = rocksdb_pinnableslice_value(pinned, &size);
    struct wp_log_entry entry = {0};
    struct wp_slice data;
    int error = wp_entry_record_open(wp_slice(key, sizeof key), wp_slice(record, size), &entry, &data);
    rocksdb_pinnableslice_destroy(pinned);
    if (error != WP_OK) {
        return wp_store_note(base, WP_E_CORRUPT,
            "instance log, family entries, shard %u, index %llu: the record fails its checksum", shard,
            (unsigned long long)index);
    }
    *ret_term = entry.term;
    return WP_OK;
}
