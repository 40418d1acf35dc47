/* The facade: dispatch to the body, and the rules that hold for every body (continuity of the log, failure is
 * told once, names of facts).
 *
 * Invariants:
 *   1. on_failure is called at most once, whichever thread fails first and whenever the callback is set.
 *   2. A log never gets a gap: a write that does not continue it is refused before anything is queued. */
#include "storage/store.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "storage/body.h"
#include "storage/disk.h"
#include "storage/layout.h"

uint64_t wp_store_reserve_bytes_min(const struct wp_store_config *config)
{
    struct wp_store_sizes sizes;
    wp_store_sizes(config, &sizes);
    return sizes.reserve_bytes_min;
}

void wp_store_close(struct wp_store **store)
{
    if (*store != NULL) {
        (*store)->body->close(*store);
        *store = NULL;
    }
}

/* Claims the one call of on_failure when there is a failure and somebody to tell. Caller holds the guard. */
static bool failure_claim(struct wp_store *store)
{
    if (store->failure == WP_OK || store->failure_told || store->on_failure == NULL) {
        return false;
    }
    store->failure_told = true;
    return true;
}

void wp_store_on_failure(
    struct wp_store *store, void (*callback)(void *context, int error, const char *text), void *context)
{
    pthread_mutex_lock(&store->guard);
    store->on_failure = callback;
    store->failure_context = context;
    bool tell = failure_claim(store);
    pthread_mutex_unlock(&store->guard);
    if (tell) {
        callback(context, store->failure, store->failure_text);
    }
}

void wp_store_error_text(struct wp_store *store, char *out, size_t size)
{
    pthread_mutex_lock(&store->guard);
    snprintf(out, size, "%s", store->error_text);
    pthread_mutex_unlock(&store->guard);
}

struct wp_state_batch *wp_state_batch_create(struct wp_store *store)
{
    return store->body->batch_create(store);
}

void wp_state_batch_destroy(struct wp_state_batch **batch)
{
    if (*batch != NULL) {
        (*batch)->store->body->batch_destroy(*batch);
        *batch = NULL;
    }
}

void wp_state_batch_clear(struct wp_state_batch *batch)
{
    batch->store->body->batch_clear(batch);
}

void wp_state_put(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value)
{
    batch->store->body->batch_put(batch, key, value);
}

void wp_state_delete(struct wp_state_batch *batch, struct wp_slice key)
{
    batch->store->body->batch_delete(batch, key);
}

void wp_state_delete_range(struct wp_state_batch *batch, struct wp_slice from, struct wp_slice to)
{
    batch->store->body->batch_delete_range(batch, from, to);
}

int wp_state_commit(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term)
{
    if (shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    return store->body->state_commit(store, batch, shard, applied_index, applied_term);
}

int wp_state_get(struct wp_store *store, struct wp_slice key, struct wp_buffer *out)
{
    return store->body->state_get(store, key, out);
}

struct wp_state_iter *wp_state_iter_create(struct wp_store *store, struct wp_slice from, struct wp_slice to)
{
    return store->body->iter_create(store, from, to);
}

bool wp_state_iter_valid(struct wp_state_iter *iter)
{
    return iter->store->body->iter_valid(iter);
}

void wp_state_iter_next(struct wp_state_iter *iter)
{
    iter->store->body->iter_next(iter);
}

struct wp_slice wp_state_iter_key(struct wp_state_iter *iter)
{
    return iter->store->body->iter_key(iter);
}

struct wp_slice wp_state_iter_value(struct wp_state_iter *iter)
{
    return iter->store->body->iter_value(iter);
}

int wp_state_iter_error(struct wp_state_iter *iter)
{
    return iter->store->body->iter_error(iter);
}

void wp_state_iter_destroy(struct wp_state_iter **iter)
{
    if (*iter != NULL) {
        (*iter)->store->body->iter_destroy(*iter);
        *iter = NULL;
    }
}

void wp_state_applied(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    *ret_index = 0;
    *ret_term = 0;
    if (shard < WP_STORE_SHARDS_MAX) {
        store->body->state_applied(store, shard, ret_index, ret_term);
    }
}

uint64_t wp_state_durable_index(struct wp_store *store, uint32_t shard)
{
    return shard < WP_STORE_SHARDS_MAX ? store->body->state_durable_index(store, shard) : 0;
}

void wp_state_flush_if_due(struct wp_store *store)
{
    store->body->state_flush_if_due(store);
}

void wp_state_flush_soon(struct wp_store *store)
{
    store->body->state_flush_soon(store);
}

int wp_state_flush(struct wp_store *store)
{
    return store->body->state_flush(store);
}

int wp_log_submit(struct wp_store *store, const struct wp_log_write *write)
{
    if (write->shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    return store->body->log_submit(store, write);
}

int wp_log_load(struct wp_store *store, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last)
{
    if (shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    return store->body->log_load(store, shard, after, ret_hard, each, context, ret_first, ret_last);
}

int wp_log_read(struct wp_store *store, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count)
{
    if (shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    return store->body->log_read(store, shard, first, count, ret_entries, ret_count);
}

int wp_log_term(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t *ret_term)
{
    if (shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    return store->body->log_term(store, shard, index, ret_term);
}

bool wp_fact_name_check(const char *name)
{
    size_t size = strlen(name);
    return size > 0 && size <= 64 && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == size;
}

int wp_store_fact_get(struct wp_store *store, const char *name, struct wp_buffer *out)
{
    return wp_fact_name_check(name) ? store->body->fact_get(store, name, out) : WP_E_INVALID;
}

int wp_store_fact_set(struct wp_store *store, const char *name, struct wp_slice value)
{
    if (!wp_fact_name_check(name) || value.size > WP_FACT_SIZE_MAX) {
        return WP_E_INVALID;
    }
    return store->body->fact_set(store, name, value);
}

void wp_store_disk(struct wp_store *store, struct wp_store_disk *ret_disk)
{
    store->body->disk(store, ret_disk);
}

uint64_t wp_store_directory_id(struct wp_store *store)
{
    return store->body->directory_id(store);
}

uint64_t wp_store_boot(struct wp_store *store)
{
    return store->body->boot(store);
}

void wp_store_init(struct wp_store *store, const struct wp_store_body *body)
{
    memset(store, 0, sizeof *store);
    store->body = body;
    pthread_mutex_init(&store->guard, NULL);
}

void wp_store_fini(struct wp_store *store)
{
    pthread_mutex_destroy(&store->guard);
}

int wp_store_note(struct wp_store *store, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&store->guard);
    vsnprintf(store->error_text, sizeof store->error_text, format, args);
    char text[sizeof store->error_text];
    memcpy(text, store->error_text, sizeof text);
    bool first = error == WP_E_CORRUPT && store->running && !store->damage_noted;
    store->damage_noted = store->damage_noted || first;
    pthread_mutex_unlock(&store->guard);
    va_end(args);
    if (error == WP_E_CORRUPT) {
        wp_metric_add(WP_M_CORRUPT, 1);
    }
    if (first) {
        store->body->fact_set(store, WP_FACT_DAMAGED, wp_slice(text, strlen(text)));
    }
    return error;
}

int wp_store_fail(struct wp_store *store, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&store->guard);
    vsnprintf(store->error_text, sizeof store->error_text, format, args);
    bool first = store->failure == WP_OK;
    if (first) {
        snprintf(store->failure_text, sizeof store->failure_text, "%s", store->error_text);
        __atomic_store_n(&store->failure, error, __ATOMIC_RELEASE);
    }
    bool tell = failure_claim(store);
    pthread_mutex_unlock(&store->guard);
    va_end(args);
    if (first) {
        char quoted[600];
        wp_log(WP_LOG_ERROR, "store_failed", "error=%s text=%s", wp_error_slug(error),
            wp_log_quote(store->failure_text, quoted, sizeof quoted));
    }
    if (tell) {
        store->on_failure(store->failure_context, store->failure, store->failure_text);
    }
    return error;
}

int wp_store_failure(struct wp_store *store)
{
    return __atomic_load_n(&store->failure, __ATOMIC_ACQUIRE);
}

/* Takes the entries of `write` into `after`; WP_E_INVALID for a gap. */
static int position_append(const struct wp_log_write *write, struct wp_log_position *after)
{
    bool empty = after->last == 0 && after->floor == 0;
    for (uint32_t i = 0; i < write->entry_count; i++) {
        const struct wp_log_entry *entry = &write->entries[i];
        bool follows = entry->index == after->last + 1 || (empty && i == 0 && entry->index > 0);
        if (!follows || entry->index >= UINT64_MAX - 1) {
            return WP_E_INVALID;
        }
        after->last = entry->index;
        after->term = entry->term > after->term ? entry->term : after->term;
    }
    return WP_OK;
}

int wp_log_position_after(const struct wp_log_position *position, const struct wp_log_write *write,
    struct wp_log_position *ret_after)
{
    struct wp_log_position after = *position;
    if (write->truncate_from != 0 && write->truncate_from <= after.last) {
        if (write->truncate_from < after.floor) {
            return WP_E_INVALID;
        }
        after.last = write->truncate_from - 1;
    }
    int error = position_append(write, &after);
    if (error != WP_OK) {
        return error;
    }
    if (write->hard != NULL && write->hard->term > after.term) {
        after.term = write->hard->term;
    }
    if (write->drop_below > after.floor) {
        after.floor = write->drop_below;
        after.last = after.last < after.floor - 1 ? after.floor - 1 : after.last;
    }
    *ret_after = after;
    return WP_OK;
}

int wp_log_loader_take(
    struct wp_store *store, struct wp_log_loader *loader, struct wp_slice key, struct wp_slice record)
{
    struct wp_log_entry entry = {0};
    struct wp_slice data;
    if (wp_entry_record_open(key, record, &entry, &data) != WP_OK) {
        uint64_t index = key.size == WP_ENTRY_KEY_SIZE ? wp_get_u64be(key.data + 4) : 0;
        return wp_store_note(store, WP_E_CORRUPT,
            "instance log, family entries, shard %u, index %llu: the record fails its checksum",
            loader->shard, (unsigned long long)index);
    }
    uint64_t expected = loader->last != 0 ? loader->last + 1 : loader->floor;
    if (expected != 0 && entry.index != expected) {
        return wp_store_note(store, WP_E_CORRUPT,
            "instance log, family entries, shard %u: index %llu is missing (next found: %llu)", loader->shard,
            (unsigned long long)expected, (unsigned long long)entry.index);
    }
    loader->first = loader->first == 0 ? entry.index : loader->first;
    loader->last = entry.index;
    if (entry.index > loader->after && loader->first > loader->after + 1) {
        return wp_store_note(store, WP_E_CORRUPT,
            "instance log, family entries, shard %u: the log begins at index %llu, state ends at %llu",
            loader->shard, (unsigned long long)loader->first, (unsigned long long)loader->after);
    }
    if (entry.index <= loader->after || loader->each == NULL) {
        return WP_OK;
    }
    entry.data = wp_bytes_copy(data.data, data.size);
    if (entry.data == NULL) {
        return WP_E_NOMEM;
    }
    int error = loader->each(loader->context, &entry);
    wp_bytes_release(&entry.data);
    return error;
}

int wp_log_loader_finish(struct wp_store *store, const struct wp_log_loader *loader)
{
    if (loader->floor > loader->after + 1) {
        return wp_store_note(store, WP_E_CORRUPT,
            "instance log, shard %u: entries below %llu were dropped, state ends at %llu", loader->shard,
            (unsigned long long)loader->floor, (unsigned long long)loader->after);
    }
    return WP_OK;
}
