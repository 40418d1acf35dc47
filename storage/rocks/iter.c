/* Iterators over state: bounded on both ends, so that neither the neighbours nor their tombstones are read,
 * and every record is verified before it can be seen. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "storage/rocks/rocks.h"

struct rocks_iter {
    struct wp_state_iter base;
    rocksdb_readoptions_t *options;
    const rocksdb_snapshot_t *snapshot; /* of a view, else NULL */
    rocksdb_iterator_t *iterator;
    struct wp_slice key;   /* of the machine, without the tag */
    struct wp_slice value; /* unsealed */
    bool valid;
    int error;
    char lower[1 + WP_STATE_KEY_SIZE_MAX]; /* RocksDB keeps pointers to the bounds */
    char upper[1 + WP_STATE_KEY_SIZE_MAX];
};

static struct rocks_store *iter_store(const struct rocks_iter *iter)
{
    return (struct rocks_store *)iter->base.store;
}

/* Looks at where RocksDB's iterator stands: verifies the record, or finds out why there is none. */
static void iter_settle(struct rocks_iter *iter)
{
    iter->valid = false;
    if (!rocksdb_iter_valid(iter->iterator)) {
        char *text = NULL;
        rocksdb_iter_get_error(iter->iterator, &text);
        if (text != NULL) {
            iter->error = rocks_error(iter_store(iter), "instance state, iteration", &text);
        }
        return;
    }
    size_t key_size;
    size_t value_size;
    const char *key = rocksdb_iter_key(iter->iterator, &key_size);
    const char *value = rocksdb_iter_value(iter->iterator, &value_size);
    iter->key = wp_slice(key + 1, key_size - 1);
    if (wp_record_open(WP_RECORD_STATE, iter->key, wp_slice(value, value_size), 0, &iter->value) != WP_OK) {
        iter->error = rocks_state_corrupt(iter_store(iter), iter->key);
        return;
    }
    iter->valid = true;
}

static size_t bound_fill(char bound[1 + WP_STATE_KEY_SIZE_MAX], struct wp_slice key)
{
    WP_ASSERT(key.size <= WP_STATE_KEY_SIZE_MAX);
    bound[0] = WP_STATE_USER;
    if (key.size > 0) {
        memcpy(bound + 1, key.data, key.size);
    }
    return 1 + key.size;
}

/* `snapshot` NULL: of this moment. Else it is the iterator's from here on: when RocksDB goes on to another
 * file it looks at the snapshot again. */
static struct wp_state_iter *iter_create(
    struct wp_store *base, struct wp_slice from, struct wp_slice to, const rocksdb_snapshot_t *snapshot)
{
    struct rocks_store *store = (struct rocks_store *)base;
    struct rocks_iter *iter = calloc(1, sizeof *iter);
    if (iter == NULL) {
        return NULL;
    }
    iter->base.store = base;
    size_t lower_size = bound_fill(iter->lower, from);
    size_t upper_size = bound_fill(iter->upper, to);
    iter->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(iter->options, 1);
    rocksdb_readoptions_set_iterate_lower_bound(iter->options, iter->lower, lower_size);
    rocksdb_readoptions_set_iterate_upper_bound(iter->options, iter->upper, upper_size);
    if (snapshot != NULL) {
        iter->snapshot = snapshot;
        rocksdb_readoptions_set_snapshot(iter->options, snapshot);
        rocksdb_readoptions_set_fill_cache(iter->options, 0);
    }
    iter->iterator = rocksdb_create_iterator(store->state, iter->options);
    rocksdb_iter_seek_to_first(iter->iterator);
    iter_settle(iter);
    return &iter->base;
}

struct wp_state_iter *rocks_iter_create(struct wp_store *store, struct wp_slice from, struct wp_slice to)
{
    return iter_create(store, from, to, NULL);
}

struct wp_state_iter *rocks_view_create(struct wp_store *base, struct wp_slice from, struct wp_slice to,
    uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    struct rocks_store *store = (struct rocks_store *)base;
    const rocksdb_snapshot_t *snapshot = rocksdb_create_snapshot(store->state);
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(options, 1);
    rocksdb_readoptions_set_snapshot(options, snapshot);
    *ret_index = 0;
    *ret_term = 0;
    int error = rocks_applied_read(store, options, shard, ret_index, ret_term);
    rocksdb_readoptions_destroy(options);
    struct wp_state_iter *iter = iter_create(base, from, to, snapshot);
    if (iter == NULL) {
        rocksdb_release_snapshot(store->state, snapshot);
    } else if (error != WP_OK && error != WP_E_NOT_FOUND) {
        ((struct rocks_iter *)iter)->valid = false;
        ((struct rocks_iter *)iter)->error = error;
    }
    return iter;
}

bool rocks_iter_valid(struct wp_state_iter *iter)
{
    return ((struct rocks_iter *)iter)->valid;
}

void rocks_iter_next(struct wp_state_iter *base)
{
    struct rocks_iter *iter = (struct rocks_iter *)base;
    WP_ASSERT(iter->valid);
    rocksdb_iter_next(iter->iterator);
    iter_settle(iter);
}

struct wp_slice rocks_iter_key(struct wp_state_iter *base)
{
    struct rocks_iter *iter = (struct rocks_iter *)base;
    WP_ASSERT(iter->valid);
    return iter->key;
}

struct wp_slice rocks_iter_value(struct wp_state_iter *base)
{
    struct rocks_iter *iter = (struct rocks_iter *)base;
    WP_ASSERT(iter->valid);
    return iter->value;
}

int rocks_iter_error(struct wp_state_iter *iter)
{
    return ((struct rocks_iter *)iter)->error;
}

void rocks_iter_destroy(struct wp_state_iter *base)
{
    struct rocks_iter *iter = (struct rocks_iter *)base;
    rocksdb_iter_destroy(iter->iterator);
    rocksdb_readoptions_destroy(iter->options);
    if (iter->snapshot != NULL) {
        rocksdb_release_snapshot(iter_store(iter)->state, iter->snapshot);
    }
    free(iter);
}
