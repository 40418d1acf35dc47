/* The simulated state: a batch is a list of operations; a commit applies it to a new version of the map and
 * remembers that version as a boundary. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "storage/sim/sim_store.h"

#define BOUNDARIES_MAX 4096u /* a memtable has a size too: beyond, the commit flushes */

enum operation_kind { PUT, DELETE, DELETE_RANGE };

struct operation {
    enum operation_kind kind;
    struct wp_bytes *key;   /* with its tag */
    struct wp_bytes *value; /* PUT: the sealed record; DELETE_RANGE: the end, with its tag */
};

struct sim_batch {
    struct wp_state_batch base;
    struct wp_buffer operations; /* struct operation[] */
    uint64_t bytes;
};

struct sim_iter {
    struct wp_state_iter base;
    struct sim_node *version;
    const struct sim_node *node;
    struct wp_slice value;
    int error;
    struct wp_bytes *end; /* with its tag */
};

struct wp_bytes *sim_tagged(enum wp_state_tag tag, struct wp_slice key)
{
    WP_ASSERT(key.size <= WP_STATE_KEY_SIZE_MAX);
    struct wp_bytes *bytes = sim_bytes_create(1 + key.size);
    bytes->data[0] = (uint8_t)tag;
    if (key.size > 0) {
        memcpy(bytes->data + 1, key.data, key.size);
    }
    return bytes;
}

static struct wp_slice bytes_slice(const struct wp_bytes *bytes)
{
    return wp_slice(bytes->data, bytes->size);
}

struct wp_state_batch *sim_batch_create(struct wp_store *store)
{
    struct sim_batch *batch = calloc(1, sizeof *batch);
    if (batch != NULL) {
        batch->base.store = store;
    }
    return batch != NULL ? &batch->base : NULL;
}

void sim_batch_clear(struct wp_state_batch *base)
{
    struct sim_batch *batch = (struct sim_batch *)base;
    struct operation *operations = (struct operation *)(void *)batch->operations.data;
    for (size_t i = 0; i < batch->operations.size / sizeof *operations; i++) {
        wp_bytes_release(&operations[i].key);
        wp_bytes_release(&operations[i].value);
    }
    batch->operations.size = 0;
    batch->bytes = 0;
}

void sim_batch_destroy(struct wp_state_batch *base)
{
    struct sim_batch *batch = (struct sim_batch *)base;
    sim_batch_clear(base);
    wp_buffer_free(&batch->operations);
    free(batch);
}

/* Takes key and value. */
static void batch_add(
    struct sim_batch *batch, enum operation_kind kind, struct wp_bytes *key, struct wp_bytes *value)
{
    struct operation operation = {kind, key, value};
    sim_memory(wp_buffer_reserve(&batch->operations, sizeof operation));
    wp_buffer_append(&batch->operations, &operation, sizeof operation);
    batch->bytes += key->size + (value != NULL ? value->size : 0);
}

struct wp_bytes *sim_sealed(struct wp_slice key, struct wp_slice value)
{
    struct wp_bytes *record = sim_bytes_create(WP_RECORD_HEADER_SIZE + value.size);
    wp_record_seal(WP_RECORD_STATE, key, wp_slice(NULL, 0), value, record->data);
    if (value.size > 0) {
        memcpy(record->data + WP_RECORD_HEADER_SIZE, value.data, value.size);
    }
    return record;
}

void sim_batch_put(struct wp_state_batch *base, struct wp_slice key, struct wp_slice value)
{
    batch_add((struct sim_batch *)base, PUT, sim_tagged(WP_STATE_USER, key), sim_sealed(key, value));
}

void sim_batch_delete(struct wp_state_batch *base, struct wp_slice key)
{
    batch_add((struct sim_batch *)base, DELETE, sim_tagged(WP_STATE_USER, key), NULL);
}

void sim_batch_delete_range(struct wp_state_batch *base, struct wp_slice from, struct wp_slice to)
{
    batch_add((struct sim_batch *)base, DELETE_RANGE, sim_tagged(WP_STATE_USER, from),
        sim_tagged(WP_STATE_USER, to));
}

static void operation_apply(struct sim_node **state, const struct operation *operation)
{
    switch (operation->kind) {
    case PUT:
        sim_map_put(state, bytes_slice(operation->key), operation->value);
        break;
    case DELETE:
        sim_map_delete(state, bytes_slice(operation->key));
        break;
    case DELETE_RANGE:
        sim_map_delete_range(state, bytes_slice(operation->key), bytes_slice(operation->value));
        break;
    }
}

void sim_state_put_applied(struct sim_node **state, uint32_t shard, uint64_t index, uint64_t term)
{
    uint8_t key[WP_APPLIED_KEY_SIZE];
    wp_applied_key(key, shard);
    struct wp_bytes *record = sim_bytes_create(WP_APPLIED_RECORD_SIZE);
    wp_pair_seal(WP_RECORD_APPLIED, wp_slice(key, sizeof key), index, term, record->data);
    sim_map_put(state, wp_slice(key, sizeof key), record);
    wp_bytes_release(&record);
}

void sim_state_boundary(struct sim_store *store)
{
    sim_memory(wp_buffer_reserve(&store->boundaries, sizeof(struct sim_boundary)));
    struct sim_boundary boundary = {sim_map_retain(store->state)};
    wp_buffer_append(&store->boundaries, &boundary, sizeof boundary);
    if (store->boundaries.size / sizeof boundary >= BOUNDARIES_MAX) {
        sim_state_flush(&store->base);
    }
}

int sim_state_commit(struct wp_store *base, struct wp_state_batch *batch_base, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term)
{
    struct sim_store *store = (struct sim_store *)base;
    struct sim_batch *batch = (struct sim_batch *)batch_base;
    int error = wp_store_failure(base);
    if (error != WP_OK) {
        return error;
    }
    const struct operation *operations = (const struct operation *)(const void *)batch->operations.data;
    for (size_t i = 0; i < batch->operations.size / sizeof *operations; i++) {
        operation_apply(&store->state, &operations[i]);
    }
    sim_state_put_applied(&store->state, shard, applied_index, applied_term);
    store->unflushed_bytes += batch->bytes + WP_APPLIED_KEY_SIZE + WP_APPLIED_RECORD_SIZE;
    sim_batch_clear(batch_base);
    sim_state_boundary(store);
    return WP_OK;
}

static int state_corrupt(struct sim_store *store, struct wp_slice key)
{
    return wp_store_note(&store->base, WP_E_CORRUPT,
        "instance state, key of %zu bytes: the record fails its checksum", key.size);
}

int sim_state_get(struct wp_store *base, struct wp_slice key, struct wp_buffer *out)
{
    struct sim_store *store = (struct sim_store *)base;
    struct wp_bytes *full = sim_tagged(WP_STATE_USER, key);
    const struct sim_node *node = sim_map_find(store->state, bytes_slice(full));
    wp_bytes_release(&full);
    if (node == NULL) {
        return WP_E_NOT_FOUND;
    }
    struct wp_slice content;
    if (wp_record_open(WP_RECORD_STATE, key, sim_node_value(node), 0, &content) != WP_OK) {
        return state_corrupt(store, key);
    }
    return wp_buffer_append(out, content.data, content.size);
}

static void applied_of(const struct sim_node *state, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    uint8_t key[WP_APPLIED_KEY_SIZE];
    wp_applied_key(key, shard);
    const struct sim_node *node = sim_map_find(state, wp_slice(key, sizeof key));
    if (node != NULL) {
        wp_pair_open(WP_RECORD_APPLIED, wp_slice(key, sizeof key), sim_node_value(node), ret_index, ret_term);
    }
}

void sim_state_applied(struct wp_store *base, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    applied_of(((struct sim_store *)base)->state, shard, ret_index, ret_term);
}

uint64_t sim_state_durable_index(struct wp_store *base, uint32_t shard)
{
    uint64_t index = 0;
    uint64_t term;
    applied_of(((struct sim_store *)base)->flushed, shard, &index, &term);
    return index;
}

void sim_state_flush_if_due(struct wp_store *base)
{
    struct sim_store *store = (struct sim_store *)base;
    if (store->unflushed_bytes > store->flush_bytes) {
        sim_state_flush(base);
    }
}

void sim_state_flush_soon(struct wp_store *base)
{
    sim_state_flush(base);
}

int sim_state_flush(struct wp_store *base)
{
    struct sim_store *store = (struct sim_store *)base;
    struct sim_boundary *boundaries = (struct sim_boundary *)(void *)store->boundaries.data;
    for (size_t i = 0; i < store->boundaries.size / sizeof *boundaries; i++) {
        sim_map_release(&boundaries[i].state);
    }
    store->boundaries.size = 0;
    store->unflushed_bytes = 0;
    sim_map_release(&store->flushed);
    store->flushed = sim_map_retain(store->state);
    return WP_OK;
}

/* Verifies where the iterator came to; ends it at its bound or at a bad record. */
static void iter_settle(struct sim_iter *iter)
{
    if (iter->node == NULL || sim_key_compare(sim_node_key(iter->node), bytes_slice(iter->end)) >= 0) {
        iter->node = NULL;
        return;
    }
    struct wp_slice key = wp_slice(iter->node->key + 1, iter->node->key_size - 1);
    if (wp_record_open(WP_RECORD_STATE, key, sim_node_value(iter->node), 0, &iter->value) != WP_OK) {
        iter->error = state_corrupt((struct sim_store *)iter->base.store, key);
        iter->node = NULL;
    }
}

struct wp_state_iter *sim_iter_create(struct wp_store *base, struct wp_slice from, struct wp_slice to)
{
    struct sim_iter *iter = calloc(1, sizeof *iter);
    if (iter == NULL) {
        return NULL;
    }
    iter->base.store = base;
    iter->version = sim_map_retain(((struct sim_store *)base)->state);
    iter->end = sim_tagged(WP_STATE_USER, to);
    struct wp_bytes *first = sim_tagged(WP_STATE_USER, from);
    iter->node = sim_map_first_from(iter->version, bytes_slice(first));
    wp_bytes_release(&first);
    iter_settle(iter);
    return &iter->base;
}

struct wp_state_iter *sim_view_create(struct wp_store *base, struct wp_slice from, struct wp_slice to,
    uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    wp_state_applied(base, shard, ret_index, ret_term);
    return sim_iter_create(base, from, to);
}

bool sim_iter_valid(struct wp_state_iter *iter)
{
    return ((struct sim_iter *)iter)->node != NULL;
}

void sim_iter_next(struct wp_state_iter *base)
{
    struct sim_iter *iter = (struct sim_iter *)base;
    WP_ASSERT(iter->node != NULL);
    iter->node = sim_map_first_after(iter->version, sim_node_key(iter->node));
    iter_settle(iter);
}

struct wp_slice sim_iter_key(struct wp_state_iter *base)
{
    const struct sim_iter *iter = (const struct sim_iter *)base;
    WP_ASSERT(iter->node != NULL);
    return wp_slice(iter->node->key + 1, iter->node->key_size - 1);
}

struct wp_slice sim_iter_value(struct wp_state_iter *base)
{
    const struct sim_iter *iter = (const struct sim_iter *)base;
    WP_ASSERT(iter->node != NULL);
    return iter->value;
}

int sim_iter_error(struct wp_state_iter *iter)
{
    return ((struct sim_iter *)iter)->error;
}

void sim_iter_destroy(struct wp_state_iter *base)
{
    struct sim_iter *iter = (struct sim_iter *)base;
    sim_map_release(&iter->version);
    wp_bytes_release(&iter->end);
    free(iter);
}
