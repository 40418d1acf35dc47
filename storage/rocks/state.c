/* The state instance: batches without WAL, the applied position in each batch, flushes off the caller's
 * thread.
 *
 * Invariants:
 *   1. The applied position is in the same batch and the same family as what it describes: a flush writes
 * whole batches in their order, so after a crash both are of the same earlier boundary.
 *   2. durable_index never exceeds what a persisted read found. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "storage/rocks/rocks.h"

struct rocks_batch {
    struct wp_state_batch base;
    rocksdb_writebatch_t *batch;
};

static const char user_prefix[1] = {WP_STATE_USER};

/* The machine's key with its tag in front, as RocksDB sees it. */
struct user_key {
    const char *parts[2];
    size_t sizes[2];
};

static struct user_key user_key(struct wp_slice key)
{
    WP_ASSERT(key.size <= WP_STATE_KEY_SIZE_MAX);
    return (struct user_key){{user_prefix, (const char *)key.data}, {1, key.size}};
}

struct wp_state_batch *rocks_batch_create(struct wp_store *store)
{
    struct rocks_batch *batch = calloc(1, sizeof *batch);
    if (batch != NULL) {
        batch->base.store = store;
        batch->batch = rocksdb_writebatch_create();
    }
    return batch != NULL ? &batch->base : NULL;
}

void rocks_batch_destroy(struct wp_state_batch *base)
{
    struct rocks_batch *batch = (struct rocks_batch *)base;
    rocksdb_writebatch_destroy(batch->batch);
    free(batch);
}

void rocks_batch_clear(struct wp_state_batch *base)
{
    rocksdb_writebatch_clear(((struct rocks_batch *)base)->batch);
}

void rocks_batch_put(struct wp_state_batch *base, struct wp_slice key, struct wp_slice value)
{
    struct rocks_batch *batch = (struct rocks_batch *)base;
    struct user_key parts = user_key(key);
    uint8_t header[WP_RECORD_HEADER_SIZE];
    wp_record_seal(WP_RECORD_STATE, key, wp_slice(NULL, 0), value, header);
    const char *values[2] = {(const char *)header, (const char *)value.data};
    size_t sizes[2] = {sizeof header, value.size};
    rocksdb_writebatch_putv(batch->batch, 2, parts.parts, parts.sizes, value.size > 0 ? 2 : 1, values, sizes);
}

void rocks_batch_delete(struct wp_state_batch *base, struct wp_slice key)
{
    struct rocks_batch *batch = (struct rocks_batch *)base;
    struct user_key parts = user_key(key);
    rocksdb_writebatch_deletev(batch->batch, 2, parts.parts, parts.sizes);
}

static bool slice_before(struct wp_slice a, struct wp_slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size > 0 ? memcmp(a.data, b.data, size) : 0;
    return order < 0 || (order == 0 && a.size < b.size);
}

void rocks_batch_delete_range(struct wp_state_batch *base, struct wp_slice from, struct wp_slice to)
{
    struct rocks_batch *batch = (struct rocks_batch *)base;
    if (!slice_before(from, to)) {
        return; /* RocksDB would refuse the whole batch */
    }
    struct user_key first = user_key(from);
    struct user_key end = user_key(to);
    rocksdb_writebatch_delete_rangev(batch->batch, 2, first.parts, first.sizes, end.parts, end.sizes);
}

static void batch_put_applied(struct rocks_batch *batch, uint32_t shard, uint64_t index, uint64_t term)
{
    uint8_t key[WP_APPLIED_KEY_SIZE];
    uint8_t record[WP_APPLIED_RECORD_SIZE];
    wp_applied_key(key, shard);
    wp_pair_seal(WP_RECORD_APPLIED, wp_slice(key, sizeof key), index, term, record);
    rocksdb_writebatch_put(batch->batch, (const char *)key, sizeof key, (const char *)record, sizeof record);
}

int rocks_state_fail(struct rocks_store *store, const char *operation, char **text)
{
    char note[sizeof store->base.error_text];
    int error = rocks_error(store, operation, text);
    wp_store_error_text(&store->base, note, sizeof note);
    return wp_store_fail(&store->base, error, "%s", note);
}

int rocks_state_commit(struct wp_store *base, struct wp_state_batch *batch_base, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term)
{
    struct rocks_store *store = (struct rocks_store *)base;
    struct rocks_batch *batch = (struct rocks_batch *)batch_base;
    int error = wp_store_failure(base);
    if (error != WP_OK) {
        return error;
    }
    batch_put_applied(batch, shard, applied_index, applied_term);
    size_t bytes = 0;
    rocksdb_writebatch_data(batch->batch, &bytes);
    char *text = NULL;
    rocks_count_nothing();
    rocksdb_write(store->state, store->write_no_wal, batch->batch, &text);
    if (text != NULL) {
        return rocks_state_fail(store, "instance state, write", &text);
    }
    rocksdb_writebatch_clear(batch->batch);
    pthread_mutex_lock(&store->state_guard);
    store->shards[shard].applied_index = applied_index;
    store->shards[shard].applied_term = applied_term;
    store->shard_count = shard >= store->shard_count ? shard + 1 : store->shard_count;
    store->unflushed_bytes += bytes;
    pthread_mutex_unlock(&store->state_guard);
    return WP_OK;
}

int rocks_state_get(struct wp_store *base, struct wp_slice key, struct wp_buffer *out)
{
    struct rocks_store *store = (struct rocks_store *)base;
    WP_ASSERT(key.size <= WP_STATE_KEY_SIZE_MAX);
    char full[1 + WP_STATE_KEY_SIZE_MAX];
    full[0] = WP_STATE_USER;
    if (key.size > 0) {
        memcpy(full + 1, key.data, key.size);
    }
    char *text = NULL;
    rocksdb_pinnableslice_t *pinned =
        rocksdb_get_pinned(store->state, store->read_plain, full, 1 + key.size, &text);
    if (text != NULL) {
        return rocks_error(store, "instance state, read", &text);
    }
    if (pinned == NULL) {
        return WP_E_NOT_FOUND;
    }
    size_t size;
    const char *data = rocksdb_pinnableslice_value(pinned, &size);
    struct wp_slice content;
    int error = wp_record_open(WP_RECORD_STATE, key, wp_slice(data, size), 0, &content);
    if (error == WP_OK) {
        error = wp_buffer_append(out, content.data, content.size);
    } else {
        error = rocks_state_corrupt(store, key);
    }
    rocksdb_pinnableslice_destroy(pinned);
    return error;
}

int rocks_state_corrupt(struct rocks_store *store, struct wp_slice key)
{
    char hex[2 * 48 + 1] = "";
    size_t shown = key.size < 48 ? key.size : 48;
    for (size_t i = 0; i < shown; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[2 * i] = digits[key.data[i] >> 4];
        hex[2 * i + 1] = digits[key.data[i] & 15];
        hex[2 * i + 2] = '\0';
    }
    return wp_store_note(&store->base, WP_E_CORRUPT,
        "instance state, key %s%s: the record fails its checksum", hex, shown < key.size ? "..." : "");
}

void rocks_state_applied(struct wp_store *base, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    struct rocks_store *store = (struct rocks_store *)base;
    pthread_mutex_lock(&store->state_guard);
    *ret_index = store->shards[shard].applied_index;
    *ret_term = store->shards[shard].applied_term;
    pthread_mutex_unlock(&store->state_guard);
}

uint64_t rocks_state_durable_index(struct wp_store *base, uint32_t shard)
{
    struct rocks_store *store = (struct rocks_store *)base;
    pthread_mutex_lock(&store->state_guard);
    uint64_t index = store->shards[shard].durable_index;
    pthread_mutex_unlock(&store->state_guard);
    return index;
}

/* Applied position of a shard: what a persisted read finds is in an SST file, synced and in the manifest. */
int rocks_applied_read(struct rocks_store *store, const rocksdb_readoptions_t *options, uint32_t shard,
    uint64_t *ret_index, uint64_t *ret_term)
{
    uint8_t key[WP_APPLIED_KEY_SIZE];
    wp_applied_key(key, shard);
    char *text = NULL;
    rocksdb_pinnableslice_t *pinned =
        rocksdb_get_pinned(store->state, options, (const char *)key, sizeof key, &text);
    if (text != NULL) {
        return rocks_error(store, "instance state, read of an applied position", &text);
    }
    if (pinned == NULL) {
        return WP_E_NOT_FOUND;
    }
    size_t size;
    const char *data = rocksdb_pinnableslice_value(pinned, &size);
    int error =
        wp_pair_open(WP_RECORD_APPLIED, wp_slice(key, sizeof key), wp_slice(data, size), ret_index, ret_term);
    rocksdb_pinnableslice_destroy(pinned);
    if (error != WP_OK) {
        return wp_store_note(&store->base, WP_E_CORRUPT,
            "instance state, applied position of shard %u: the record fails its checksum", shard);
    }
    return WP_OK;
}

int rocks_state_load_applied(struct rocks_store *store)
{
    static const char first[1] = {WP_STATE_APPLIED};
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(options, 1);
    rocksdb_readoptions_set_iterate_upper_bound(options, user_prefix, sizeof user_prefix);
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(store->state, options);
    int error = WP_OK;
    for (rocksdb_iter_seek(iterator, first, sizeof first); error == WP_OK && rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t size;
        const char *key = rocksdb_iter_key(iterator, &size);
        uint32_t shard = size == WP_APPLIED_KEY_SIZE ? wp_get_u32be((const uint8_t *)key + 1) : UINT32_MAX;
        if (shard >= WP_STORE_SHARDS_MAX) {
            error = wp_store_note(&store->base, WP_E_CORRUPT, "instance state: a key of no known kind");
            break;
        }
        struct rocks_shard *row = &store->shards[shard];
        error = rocks_applied_read(store, store->read_plain, shard, &row->applied_index, &row->applied_term);
        row->durable_index = row->applied_index;
        store->shard_count = shard + 1;
    }
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    if (text != NULL) {
        error = rocks_error(store, "instance state, read of applied positions", &text);
    }
    rocksdb_iter_destroy(iterator);
    rocksdb_readoptions_destroy(options);
    return error;
}

/* Persisted reads for the shards that moved since. */
static int durable_refresh(struct rocks_store *store)
{
    pthread_mutex_lock(&store->state_guard);
    uint32_t shard_count = store->shard_count;
    pthread_mutex_unlock(&store->state_guard);
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        pthread_mutex_lock(&store->state_guard);
        bool behind = store->shards[shard].durable_index < store->shards[shard].applied_index;
        pthread_mutex_unlock(&store->state_guard);
        if (!behind) {
            continue;
        }
        uint64_t index = 0;
        uint64_t term;
        int error = rocks_applied_read(store, store->read_persisted, shard, &index, &term);
        if (error == WP_E_NOT_FOUND) {
            continue;
        }
        if (error != WP_OK) {
            return error;
        }
        pthread_mutex_lock(&store->state_guard);
        /* Not when the shard was wiped while this read was under way. */
        if (index <= store->shards[shard].applied_index) {
            store->shards[shard].durable_index = index;
        }
        pthread_mutex_unlock(&store->state_guard);
    }
    return WP_OK;
}

void rocks_state_set_applied(struct rocks_store *store, uint32_t shard, uint64_t index, uint64_t term)
{
    pthread_mutex_lock(&store->state_guard);
    store->shards[shard] = (struct rocks_shard){index, term, index};
    store->shard_count = shard >= store->shard_count ? shard + 1 : store->shard_count;
    pthread_mutex_unlock(&store->state_guard);
}

int rocks_state_flush(struct wp_store *base)
{
    struct rocks_store *store = (struct rocks_store *)base;
    pthread_mutex_lock(&store->state_guard);
    uint64_t bytes = store->unflushed_bytes;
    pthread_mutex_unlock(&store->state_guard);
    char *text = NULL;
    rocksdb_flush(store->state, store->flush_wait, &text);
    if (text != NULL) {
        return rocks_state_fail(store, "instance state, flush", &text);
    }
    pthread_mutex_lock(&store->state_guard);
    store->unflushed_bytes -= bytes < store->unflushed_bytes ? bytes : store->unflushed_bytes;
    pthread_mutex_unlock(&store->state_guard);
    return durable_refresh(store);
}

void rocks_state_flush_if_due(struct wp_store *base)
{
    struct rocks_store *store = (struct rocks_store *)base;
    /* Ahead of RocksDB's own trigger, so that a commit never waits for room in a memtable. */
    uint64_t share = store->sizes.write_buffer_bytes / 4 * 3;
    pthread_mutex_lock(&store->state_guard);
    bool wake = store->unflushed_bytes > share && !store->flush_due;
    store->flush_due = store->flush_due || wake;
    pthread_mutex_unlock(&store->state_guard);
    if (wake) {
        pthread_cond_signal(&store->flusher_wake);
    }
}

void rocks_state_flush_soon(struct wp_store *base)
{
    struct rocks_store *store = (struct rocks_store *)base;
    pthread_mutex_lock(&store->state_guard);
    store->flush_due = true;
    pthread_mutex_unlock(&store->state_guard);
    pthread_cond_signal(&store->flusher_wake);
}

/* RocksDB flushes and compacts on threads of its own and tells nobody who does not ask. */
static void background_check(struct rocks_store *store)
{
    rocksdb_t *const instances[] = {store->state, store->log};
    static const char *const names[] = {"state", "log"};
    for (int i = 0; i < 2; i++) {
        uint64_t errors = 0;
        rocksdb_property_int(instances[i], "rocksdb.background-errors", &errors);
        if (errors > 0 && wp_store_failure(&store->base) == WP_OK) {
            wp_store_fail(&store->base, WP_E_IO,
                "instance %s: a background flush or compaction failed; see \"%s/%s/LOG\"", names[i],
                store->path, names[i]);
        }
    }
}

static void flusher_step(struct rocks_store *store, bool flush)
{
    if (wp_store_failure(&store->base) != WP_OK) {
        return;
    }
    int error = flush ? rocks_state_flush(&store->base) : durable_refresh(store);
    if (error != WP_OK && wp_store_failure(&store->base) == WP_OK) {
        char note[sizeof store->base.error_text];
        wp_store_error_text(&store->base, note, sizeof note);
        wp_store_fail(&store->base, error, "%s", note);
    }
    background_check(store);
}

void *rocks_flusher_run(void *context)
{
    struct rocks_store *store = context;
    pthread_mutex_lock(&store->state_guard);
    while (!store->flusher_stop) {
        if (!store->flush_due) {
            rocks_wait_ms(&store->flusher_wake, &store->state_guard, 200);
        }
        bool flush = store->flush_due;
        store->flush_due = false;
        if (store->flusher_stop) {
            break;
        }
        pthread_mutex_unlock(&store->state_guard);
        flusher_step(store, flush);
        pthread_mutex_lock(&store->state_guard);
    }
    pthread_mutex_unlock(&store->state_guard);
    return NULL;
}
