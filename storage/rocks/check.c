/* What a start finds, before it changes anything.
 *
 * RocksDB recovers a damaged WAL to the point before the damage and then deletes the WAL. So the log is first
 * opened read-only and measured against the watermark: a start that is refused leaves every file as it was,
 * for a repair or for a copy. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "storage/rocks/rocks.h"

/* The shard of the first key at or after `shard` in a family; UINT32_MAX when there is none. */
static int next_shard(
    struct rocks_store *store, rocksdb_column_family_handle_t *family, uint32_t shard, uint32_t *ret_shard)
{
    uint8_t from[4];
    wp_put_u32be(from, shard);
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(store->log, store->read_plain, family);
    rocksdb_iter_seek(iterator, (const char *)from, sizeof from);
    *ret_shard = UINT32_MAX;
    if (rocksdb_iter_valid(iterator)) {
        size_t size;
        const char *key = rocksdb_iter_key(iterator, &size);
        *ret_shard = size >= 4 ? wp_get_u32be((const uint8_t *)key) : UINT32_MAX;
    }
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    return text != NULL ? rocks_error(store, "instance log, read of keys", &text) : WP_OK;
}

/* Last entry of a shard; index and term 0 when it has none. */
static int last_entry(struct rocks_store *store, uint32_t shard, struct wp_log_entry *ret_entry)
{
    uint8_t end[WP_ENTRY_KEY_SIZE];
    wp_entry_key(end, shard, UINT64_MAX);
    rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(store->log, store->read_plain, store->entries);
    rocksdb_iter_seek_for_prev(iterator, (const char *)end, sizeof end);
    int error = WP_OK;
    if (rocksdb_iter_valid(iterator)) {
        size_t key_size;
        size_t value_size;
        const char *key = rocksdb_iter_key(iterator, &key_size);
        const char *value = rocksdb_iter_value(iterator, &value_size);
        struct wp_slice data;
        if (key_size == WP_ENTRY_KEY_SIZE && memcmp(key, end, 4) == 0 &&
            wp_entry_record_open(wp_slice(key, key_size), wp_slice(value, value_size), ret_entry, &data) !=
                WP_OK) {
            error = wp_store_note(&store->base, WP_E_CORRUPT,
                "instance log, family entries, shard %u, index %llu: the record fails its checksum", shard,
                (unsigned long long)wp_get_u64be((const uint8_t *)key + 4));
        }
    }
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    return text != NULL ? rocks_error(store, "instance log, read of the last entry", &text) : error;
}

static int position_read(struct rocks_store *store, uint32_t shard)
{
    if (shard >= WP_STORE_SHARDS_MAX) {
        return wp_store_note(
            &store->base, WP_E_CORRUPT, "instance log: a key of shard %u, which cannot be", shard);
    }
    struct wp_log_hard_state hard;
    struct wp_log_position *position = &store->positions[shard];
    int error = rocks_log_hard(store, shard, &hard, position);
    struct wp_log_entry last = {0};
    if (error == WP_OK) {
        error = last_entry(store, shard, &last);
    }
    if (error == WP_OK) {
        error = rocks_log_marker(store, shard, &store->markers[shard]);
    }
    if (error != WP_OK) {
        return error;
    }
    position->last = last.index;
    if (position->floor > 0 && position->last < position->floor) {
        position->last = position->floor - 1;
    }
    position->term = last.term > position->term ? last.term : position->term;
    position->term = hard.term > position->term ? hard.term : position->term;
    return WP_OK;
}

static int positions_read(struct rocks_store *store)
{
    uint32_t shard = 0;
    for (;;) {
        uint32_t in_entries;
        uint32_t in_hard;
        int error = next_shard(store, store->entries, shard, &in_entries);
        if (error == WP_OK) {
            error = next_shard(store, store->hard, shard, &in_hard);
        }
        if (error != WP_OK) {
            return error;
        }
        shard = in_entries < in_hard ? in_entries : in_hard;
        if (shard == UINT32_MAX) {
            return WP_OK;
        }
        error = position_read(store, shard);
        if (error != WP_OK) {
            return error;
        }
        shard++;
    }
}

/* *ret_there: the instance holds our families (a first start may have been cut off before). */
static int families_find(struct rocks_store *store, const char *path, bool *ret_there)
{
    char current[ROCKS_PATH_SIZE + 32];
    snprintf(current, sizeof current, "%s/CURRENT", path);
    *ret_there = false;
    if (access(current, F_OK) != 0) {
        return WP_OK;
    }
    size_t count = 0;
    char *text = NULL;
    char **names = rocksdb_list_column_families(store->log_options, path, &count, &text);
    unsigned found = 0;
    for (size_t i = 0; i < count; i++) {
        found += strcmp(names[i], "entries") == 0 || strcmp(names[i], "hard") == 0 ? 1 : 0;
    }
    rocksdb_list_column_families_destroy(names, count); /* an empty list too, after an error */
    if (text != NULL) {
        return rocks_error(store, "instance log, list of families", &text);
    }
    *ret_there = found == 2;
    return WP_OK;
}

/* Opens read-only, reads all positions, closes. */
static int log_measure(struct rocks_store *store)
{
    char path[ROCKS_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/log", store->path);
    bool there;
    int error = families_find(store, path, &there);
    if (error != WP_OK || !there) {
        return error;
    }
    const char *names[] = {"default", "entries", "hard"};
    const rocksdb_options_t *options[] = {store->hard_options, store->log_options, store->hard_options};
    rocksdb_column_family_handle_t *handles[3];
    char *text = NULL;
    store->log = rocksdb_open_for_read_only_column_families(
        store->log_options, path, 3, names, options, handles, 0, &text);
    if (text != NULL) {
        store->log = NULL;
        return rocks_error(store, "instance log, open", &text);
    }
    store->entries = handles[1];
    store->hard = handles[2];
    error = positions_read(store);
    for (int i = 0; i < 3; i++) {
        rocksdb_column_family_handle_destroy(handles[i]);
    }
    rocksdb_close(store->log);
    store->log = NULL;
    store->entries = NULL;
    store->hard = NULL;
    return error;
}

/* What every refusal for forgetting ends with. */
#define GO_ON                                                                                                \
    "the log was rolled back or damaged; restore the directory from a good copy, or start once with "        \
    "--accept-loss %u to go on without what is missing"

static int refuse_forgotten(const struct rocks_store *store, uint32_t shard, char *text, size_t text_size)
{
    const struct wp_watermark_position *known = &store->watermark.filed[shard];
    const struct wp_log_position *found = &store->positions[shard];
    snprintf(text, text_size,
        "the log of shard %u in \"%s/log\" ends at index %llu (term %llu), but index %llu (term %llu) was "
        "synced, "
        "says \"%s/%s\": " GO_ON,
        shard, store->path, (unsigned long long)found->last, (unsigned long long)found->term,
        (unsigned long long)known->index, (unsigned long long)known->term, store->path, WP_WATERMARK_FILE,
        shard);
    return WP_E_FORGOTTEN;
}

static bool loss_accepted(const struct wp_store_config *config, uint32_t shard)
{
    return config->accept_loss || (config->accept_loss_shards != NULL && config->accept_loss_shards[shard]);
}

int rocks_check_log(
    struct rocks_store *store, const struct wp_store_config *config, char *text, size_t text_size)
{
    int error = log_measure(store);
    if (error != WP_OK) {
        wp_store_error_text(&store->base, text, text_size);
        return error;
    }
    for (uint32_t shard = 0; shard < store->watermark.shard_count; shard++) {
        const struct wp_watermark_position *known = &store->watermark.filed[shard];
        struct wp_log_position *found = &store->positions[shard];
        if (store->markers[shard].kind != 0 || (found->last >= known->index && found->term >= known->term)) {
            continue;
        }
        if (!loss_accepted(config, shard)) {
            return refuse_forgotten(store, shard, text, text_size);
        }
        wp_log(WP_LOG_WARN, "audit_loss_accepted",
            "shard=%u index_found=%llu term_found=%llu index_synced=%llu term_synced=%llu", shard,
            (unsigned long long)found->last, (unsigned long long)found->term,
            (unsigned long long)known->index, (unsigned long long)known->term);
        /* Not below the term that was known: this voter may have voted in it. rocks_check_applied makes it
         * so. */
        found->term = found->term < known->term ? known->term : found->term;
    }
    return WP_OK;
}

/* After an accepted loss: the hard state gets the position's term; when state is ahead, the rest of the
 * shard's log is forgotten and goes on after `applied`. Synced. */
static int log_reset(struct rocks_store *store, uint32_t shard, uint64_t applied)
{
    struct wp_log_position *position = &store->positions[shard];
    struct wp_log_hard_state hard;
    struct wp_log_position floor;
    int error = rocks_log_hard(store, shard, &hard, &floor);
    if (error != WP_OK) {
        return error;
    }
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    if (hard.term < position->term) {
        uint8_t key[WP_HARD_KEY_SIZE];
        uint8_t record[WP_HARD_RECORD_SIZE];
        wp_hard_key(key, shard, WP_HARD_STATE);
        hard.term = position->term;
        hard.voted_for = 0;
        wp_hard_seal(wp_slice(key, sizeof key), &hard, record);
        rocksdb_writebatch_put_cf(
            batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
    }
    if (applied > position->last && position->last > 0) {
        wp_log(WP_LOG_WARN, "audit_loss_accepted", "shard=%u index_found=%llu index_applied=%llu", shard,
            (unsigned long long)position->last, (unsigned long long)applied);
        uint8_t first[WP_ENTRY_KEY_SIZE];
        uint8_t end[WP_ENTRY_KEY_SIZE];
        uint8_t key[WP_HARD_KEY_SIZE];
        uint8_t record[WP_FLOOR_RECORD_SIZE];
        wp_entry_key(first, shard, 0);
        wp_entry_key(end, shard + 1, 0);
        rocksdb_writebatch_delete_range_cf(
            batch, store->entries, (const char *)first, sizeof first, (const char *)end, sizeof end);
        wp_hard_key(key, shard, WP_HARD_FLOOR);
        wp_pair_seal(WP_RECORD_FLOOR, wp_slice(key, sizeof key), applied + 1, position->term, record);
        rocksdb_writebatch_put_cf(
            batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
        position->floor = applied + 1;
        position->last = applied;
    }
    char *text = NULL;
    rocksdb_write(store->log, store->write_synced, batch, &text);
    rocksdb_writebatch_destroy(batch);
    return text != NULL ? rocks_error(store, "instance log, reset after an accepted loss", &text) : WP_OK;
}

int rocks_check_applied(
    struct rocks_store *store, const struct wp_store_config *config, char *text, size_t text_size)
{
    for (uint32_t shard = 0; shard < WP_STORE_SHARDS_MAX; shard++) {
        const struct wp_log_position *found = &store->positions[shard];
        uint64_t applied = store->shards[shard].applied_index;
        bool accepted = loss_accepted(config, shard);
        bool ahead = applied > found->last && found->last > 0;
        if (ahead && !accepted) {
            snprintf(text, text_size,
                "the log of shard %u in \"%s/log\" ends at index %llu, but \"%s/state\" holds index "
                "%llu: " GO_ON,
                shard, store->path, (unsigned long long)found->last, store->path, (unsigned long long)applied,
                shard);
            return WP_E_FORGOTTEN;
        }
        if (!accepted || (!ahead && found->term == 0)) {
            continue;
        }
        int error = log_reset(store, shard, applied);
        if (error != WP_OK) {
            wp_store_error_text(&store->base, text, text_size);
            return error;
        }
    }
    return WP_OK;
}
