#include "tests/unit/machine_store.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"

struct row {
    struct wp_buffer key;
    struct wp_buffer value;
};

struct wp_store {
    struct row *rows;
    size_t count;
    size_t capacity;
    uint64_t applied_index;
    uint64_t applied_term;
    int fail_next;
};

enum op_kind { OP_PUT, OP_DELETE, OP_DELETE_RANGE };

struct op {
    enum op_kind kind;
    size_t a, a_size, b, b_size; /* in bytes */
};

struct wp_state_batch {
    struct wp_buffer bytes;
    struct wp_buffer ops;
};

struct wp_state_iter {
    struct row *rows; /* copies: a consistent view */
    size_t count;
    size_t place;
};

struct wp_store *machine_store_open(void)
{
    return calloc(1, sizeof(struct wp_store));
}

static void row_free(struct row *row)
{
    wp_buffer_free(&row->key);
    wp_buffer_free(&row->value);
}

void machine_store_close(struct wp_store **store)
{
    for (size_t i = 0; i < (*store)->count; i++) {
        row_free(&(*store)->rows[i]);
    }
    free((*store)->rows);
    free(*store);
    *store = NULL;
}

void machine_store_fail_next(struct wp_store *store, int error)
{
    store->fail_next = error;
}

static int key_compare(const struct wp_buffer *a, struct wp_slice b)
{
    int order = memcmp(a->data, b.data, a->size < b.size ? a->size : b.size);
    return order ? order : (a->size > b.size) - (a->size < b.size);
}

static size_t lower_bound(const struct wp_store *store, struct wp_slice key)
{
    size_t low = 0;
    size_t high = store->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (key_compare(&store->rows[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool row_is(const struct wp_store *store, size_t place, struct wp_slice key)
{
    return place < store->count && key_compare(&store->rows[place].key, key) == 0;
}

static void rows_erase(struct wp_store *store, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        row_free(&store->rows[i]);
    }
    memmove(&store->rows[from], &store->rows[to], (store->count - to) * sizeof *store->rows);
    store->count -= to - from;
}

static void put(struct wp_store *store, struct wp_slice key, struct wp_slice value)
{
    size_t place = lower_bound(store, key);
    if (!row_is(store, place, key)) {
        if (store->count == store->capacity) {
            store->capacity = store->capacity ? store->capacity * 2 : 64;
            store->rows = realloc(store->rows, store->capacity * sizeof *store->rows);
            assert(store->rows);
        }
        memmove(&store->rows[place + 1], &store->rows[place], (store->count - place) * sizeof *store->rows);
        store->count++;
        store->rows[place] = (struct row){0};
        wp_buffer_append(&store->rows[place].key, key.data, key.size);
    }
    store->rows[place].value.size = 0;
    wp_buffer_append(&store->rows[place].value, value.data, value.size);
}

struct wp_state_batch *wp_state_batch_create(struct wp_store *store)
{
    (void)store;
    return calloc(1, sizeof(struct wp_state_batch));
}

void wp_state_batch_destroy(struct wp_state_batch **batch)
{
    wp_buffer_free(&(*batch)->bytes);
    wp_buffer_free(&(*batch)->ops);
    free(*batch);
    *batch = NULL;
}

void wp_state_batch_clear(struct wp_state_batch *batch)
{
    batch->bytes.size = 0;
    batch->ops.size = 0;
}

static void op_append(struct wp_state_batch *batch, enum op_kind kind, struct wp_slice a, struct wp_slice b)
{
    struct op op = {.kind = kind, .a = batch->bytes.size, .a_size = a.size, .b_size = b.size};
    wp_buffer_append(&batch->bytes, a.data, a.size);
    op.b = batch->bytes.size;
    wp_buffer_append(&batch->bytes, b.data, b.size);
    wp_buffer_append(&batch->ops, &op, sizeof op);
}

void wp_state_put(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value)
{
    op_append(batch, OP_PUT, key, value);
}

void wp_state_delete(struct wp_state_batch *batch, struct wp_slice key)
{
    op_append(batch, OP_DELETE, key, wp_slice(NULL, 0));
}

void wp_state_delete_range(struct wp_state_batch *batch, struct wp_slice from, struct wp_slice to)
{
    op_append(batch, OP_DELETE_RANGE, from, to);
}

static void op_run(struct wp_store *store, const struct wp_state_batch *batch, const struct op *op)
{
    struct wp_slice a = wp_slice(batch->bytes.data + op->a, op->a_size);
    struct wp_slice b = wp_slice(batch->bytes.data + op->b, op->b_size);
    size_t place = lower_bound(store, a);
    switch (op->kind) {
    case OP_PUT:
        put(store, a, b);
        break;
    case OP_DELETE:
        if (row_is(store, place, a)) {
            rows_erase(store, place, place + 1);
        }
        break;
    case OP_DELETE_RANGE:
        rows_erase(store, place, lower_bound(store, b));
        break;
    }
}

int wp_state_commit(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term)
{
    (void)shard;
    int error = store->fail_next;
    store->fail_next = WP_OK;
    for (size_t i = 0; i < batch->ops.size && !error; i += sizeof(struct op)) {
        struct op op;
        memcpy(&op, batch->ops.data + i, sizeof op);
        op_run(store, batch, &op);
    }
    wp_state_batch_clear(batch);
    if (!error) {
        store->applied_index = applied_index;
        store->applied_term = applied_term;
    }
    return error;
}

int wp_state_get(struct wp_store *store, struct wp_slice key, struct wp_buffer *out)
{
    size_t place = lower_bound(store, key);
    if (!row_is(store, place, key)) {
        return WP_E_NOT_FOUND;
    }
    return wp_buffer_append(out, store->rows[place].value.data, store->rows[place].value.size);
}

void wp_state_applied(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    (void)shard;
    *ret_index = store->applied_index;
    *ret_term = store->applied_term;
}

struct wp_state_iter *wp_state_iter_create(struct wp_store *store, struct wp_slice from, struct wp_slice to)
{
    struct wp_state_iter *iter = calloc(1, sizeof *iter);
    size_t first = lower_bound(store, from);
    size_t end = lower_bound(store, to);
    iter->rows = calloc(end > first ? end - first : 1, sizeof *iter->rows);
    for (size_t i = first; i < end; i++) {
        struct row *copy = &iter->rows[iter->count++];
        wp_buffer_append(&copy->key, store->rows[i].key.data, store->rows[i].key.size);
        wp_buffer_append(&copy->value, store->rows[i].value.data, store->rows[i].value.size);
    }
    return iter;
}

bool wp_state_iter_valid(struct wp_state_iter *iter)
{
    return iter->place < iter->count;
}

void wp_state_iter_next(struct wp_state_iter *iter)
{
    iter->place++;
}

struct wp_slice wp_state_iter_key(struct wp_state_iter *iter)
{
    return wp_slice(iter->rows[iter->place].key.data, iter->rows[iter->place].key.size);
}

struct wp_slice wp_state_iter_value(struct wp_state_iter *iter)
{
    return wp_slice(iter->rows[iter->place].value.data, iter->rows[iter->place].value.size);
}

int wp_state_iter_error(struct wp_state_iter *iter)
{
    (void)iter;
    return WP_OK;
}

void wp_state_iter_destroy(struct wp_state_iter **iter)
{
    for (size_t i = 0; i < (*iter)->count; i++) {
        row_free(&(*iter)->rows[i]);
    }
    free((*iter)->rows);
    free(*iter);
    *iter = NULL;
}
