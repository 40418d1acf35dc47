/* See cluster_disk.h. Entries are copied on the way in, so a test never shares memory with what it "wrote".
 */
#include "tests/unit/cluster_disk.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

#define DISK_KEYS_MAX 8u
#define DISK_VALUE_MAX 256u
#define DISK_KEY_MAX 16u

struct disk_pair {
    uint8_t key[DISK_KEY_MAX];
    uint8_t value[DISK_VALUE_MAX];
    size_t key_size;
    size_t value_size;
};

struct disk_state {
    struct disk_pair pairs[DISK_KEYS_MAX];
    uint32_t count;
    uint64_t applied_index;
    uint64_t applied_term;
};

struct disk_write {
    struct wp_log_write write; /* entries and hard are copies owned by this struct */
    struct wp_log_entry *entries;
    struct wp_log_hard_state hard;
    struct disk_write *next;
};

struct wp_store {
    struct wp_log_entry *entries; /* synced; consecutive from `first` */
    uint64_t first;
    uint64_t count;
    uint64_t capacity;
    struct wp_log_hard_state hard;
    struct disk_write *pending;
    struct disk_write **pending_tail;
    uint32_t pending_count;
    struct disk_state state;
    struct disk_state durable;
    void (*observer)(void *context, const struct wp_log_entry *entry);
    void *observer_context;
};

struct wp_state_batch {
    struct disk_pair pairs[DISK_KEYS_MAX];
    uint32_t count;
};

struct wp_store *disk_create(void)
{
    struct wp_store *disk = calloc(1, sizeof *disk);
    WP_ASSERT(disk);
    disk->pending_tail = &disk->pending;
    disk->first = 1;
    return disk;
}

void disk_observe(
    struct wp_store *disk, void (*observer)(void *context, const struct wp_log_entry *entry), void *context)
{
    disk->observer = observer;
    disk->observer_context = context;
}

static void write_free(struct disk_write *write)
{
    for (uint32_t i = 0; i < write->write.entry_count; i++) {
        wp_bytes_release(&write->entries[i].data);
    }
    free(write->entries);
    free(write);
}

static void pending_clear(struct wp_store *disk)
{
    while (disk->pending) {
        struct disk_write *write = disk->pending;
        disk->pending = write->next;
        write_free(write);
    }
    disk->pending_tail = &disk->pending;
    disk->pending_count = 0;
}

void disk_destroy(struct wp_store *disk)
{
    pending_clear(disk);
    for (uint64_t i = 0; i < disk->count; i++) {
        wp_bytes_release(&disk->entries[i].data);
    }
    free(disk->entries);
    free(disk);
}

uint32_t disk_pending(const struct wp_store *disk)
{
    return disk->pending_count;
}

void disk_log_cut(struct wp_store *disk, uint64_t from)
{
    while (disk->count > 0 && disk->first + disk->count > from) {
        wp_bytes_release(&disk->entries[--disk->count].data);
    }
    if (disk->count == 0) {
        disk->first = from;
    }
}

void disk_log_cut_front(struct wp_store *disk, uint64_t below)
{
    uint64_t dropped = 0;
    while (dropped < disk->count && disk->first + dropped < below) {
        wp_bytes_release(&disk->entries[dropped++].data);
    }
    memmove(disk->entries, disk->entries + dropped, (disk->count - dropped) * sizeof *disk->entries);
    disk->first += dropped;
    disk->count -= dropped;
}

static void log_append(struct wp_store *disk, const struct wp_log_entry *entry)
{
    if (disk->count == 0) {
        disk->first = entry->index;
    }
    WP_ASSERT(entry->index == disk->first + disk->count);
    if (disk->count == disk->capacity) {
        disk->capacity = disk->capacity ? disk->capacity * 2 : 64;
        disk->entries = realloc(disk->entries, disk->capacity * sizeof *disk->entries);
        WP_ASSERT(disk->entries);
    }
    disk->entries[disk->count] = *entry;
    wp_bytes_retain(entry->data);
    disk->count++;
}

static void write_carry_out(struct wp_store *disk, const struct disk_write *write)
{
    if (write->write.truncate_from) {
        disk_log_cut(disk, write->write.truncate_from);
    }
    for (uint32_t i = 0; i < write->write.entry_count; i++) {
        log_append(disk, &write->entries[i]);
    }
    if (write->write.hard) {
        disk->hard = write->hard;
    }
    if (write->write.drop_below) {
        disk_log_cut_front(disk, write->write.drop_below);
    }
}

void disk_sync(struct wp_store *disk, uint32_t count, bool complete)
{
    for (uint32_t i = 0; i < count && disk->pending; i++) {
        struct disk_write *write = disk->pending;
        disk->pending = write->next;
        if (!disk->pending) {
            disk->pending_tail = &disk->pending;
        }
        disk->pending_count--;
        write_carry_out(disk, write);
        if (complete && write->write.done) {
            write->write.done(write->write.context, write->write.tag);
        }
        write_free(write);
    }
}

void disk_crash(struct wp_store *disk)
{
    pending_clear(disk);
    disk->state = disk->durable;
}

void disk_flush(struct wp_store *disk)
{
    disk->durable = disk->state;
}

uint64_t disk_log_first(const struct wp_store *disk)
{
    return disk->count ? disk->first : 0;
}

uint64_t disk_log_last(const struct wp_store *disk)
{
    return disk->count ? disk->first + disk->count - 1 : 0;
}

const struct wp_log_entry *disk_log_entry(const struct wp_store *disk, uint64_t index)
{
    return disk->count && index >= disk->first && index < disk->first + disk->count
               ? &disk->entries[index - disk->first]
               : NULL;
}

struct wp_log_hard_state disk_hard(const struct wp_store *disk)
{
    return disk->hard;
}

/* --- storage/store.h: log
 * ----------------------------------------------------------------------------------- */

int wp_log_submit(struct wp_store *store, const struct wp_log_write *given)
{
    struct disk_write *write = calloc(1, sizeof *write);
    WP_ASSERT(write);
    write->write = *given;
    write->entries = calloc(given->entry_count + 1, sizeof *write->entries);
    WP_ASSERT(write->entries);
    for (uint32_t i = 0; i < given->entry_count; i++) {
        write->entries[i] = given->entries[i];
        write->entries[i].data = wp_bytes_copy(given->entries[i].data->data, given->entries[i].data->size);
        WP_ASSERT(write->entries[i].data);
        if (store->observer) {
            store->observer(store->observer_context, &given->entries[i]);
        }
    }
    if (given->hard) {
        write->hard = *given->hard;
    }
    *store->pending_tail = write;
    store->pending_tail = &write->next;
    store->pending_count++;
    return WP_OK;
}

int wp_log_load(struct wp_store *store, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last)
{
    (void)shard;
    if (store->count > 0 && store->first > after + 1) {
        return WP_E_CORRUPT;
    }
    for (uint64_t i = 0; i < store->count; i++) {
        if (store->first + i > after) {
            int error = each(context, &store->entries[i]);
            if (error) {
                return error;
            }
        }
    }
    *ret_hard = store->hard;
    *ret_first = disk_log_first(store);
    *ret_last = disk_log_last(store);
    return WP_OK;
}

int wp_log_read(struct wp_store *store, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count)
{
    (void)shard;
    uint32_t found = 0;
    while (found < count && disk_log_entry(store, first + found)) {
        ret_entries[found] = *disk_log_entry(store, first + found);
        wp_bytes_retain(ret_entries[found].data);
        found++;
    }
    if (found == 0) {
        return WP_E_NOT_FOUND;
    }
    *ret_count = found;
    return WP_OK;
}

int wp_log_term(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t *ret_term)
{
    (void)shard;
    const struct wp_log_entry *entry = disk_log_entry(store, index);
    if (!entry) {
        return WP_E_NOT_FOUND;
    }
    *ret_term = entry->term;
    return WP_OK;
}

/* --- storage/store.h: state
 * --------------------------------------------------------------------------------- */

struct wp_state_batch *wp_state_batch_create(struct wp_store *store)
{
    (void)store;
    return calloc(1, sizeof(struct wp_state_batch));
}

void wp_state_batch_destroy(struct wp_state_batch **batch)
{
    free(*batch);
    *batch = NULL;
}

static void pair_set(struct disk_pair *pairs, uint32_t *count, const struct disk_pair *pair)
{
    uint32_t i = 0;
    while (i < *count &&
           (pairs[i].key_size != pair->key_size || memcmp(pairs[i].key, pair->key, pair->key_size) != 0)) {
        i++;
    }
    WP_ASSERT(i < DISK_KEYS_MAX);
    pairs[i] = *pair;
    *count = i == *count ? i + 1 : *count;
}

void wp_state_put(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value)
{
    struct disk_pair pair = {.key_size = key.size, .value_size = value.size};
    WP_ASSERT(key.size <= DISK_KEY_MAX && value.size <= DISK_VALUE_MAX);
    memcpy(pair.key, key.data, key.size);
    memcpy(pair.value, value.data, value.size);
    pair_set(batch->pairs, &batch->count, &pair);
}

int wp_state_commit(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term)
{
    (void)shard;
    for (uint32_t i = 0; i < batch->count; i++) {
        pair_set(store->state.pairs, &store->state.count, &batch->pairs[i]);
    }
    batch->count = 0;
    store->state.applied_index = applied_index;
    store->state.applied_term = applied_term;
    return WP_OK;
}

int wp_state_get(struct wp_store *store, struct wp_slice key, struct wp_buffer *out)
{
    for (uint32_t i = 0; i < store->state.count; i++) {
        const struct disk_pair *pair = &store->state.pairs[i];
        if (wp_slice_equal(wp_slice(pair->key, pair->key_size), key)) {
            return wp_buffer_append(out, pair->value, pair->value_size);
        }
    }
    return WP_E_NOT_FOUND;
}

void wp_state_applied(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    (void)shard;
    *ret_index = store->state.applied_index;
    *ret_term = store->state.applied_term;
}

uint64_t wp_state_durable_index(struct wp_store *store, uint32_t shard)
{
    (void)shard;
    return store->durable.applied_index;
}
