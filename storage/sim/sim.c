/* The simulated body: life, sync, crash, injection. See sim.h for what may happen to what. */
#include "storage/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "storage/disk.h"
#include "storage/sim/sim_store.h"

#define SECTOR_SIZE 512u
#define RESERVE_BYTES (1ull << 30)

void *sim_memory(void *memory)
{
    if (memory == NULL) {
        fputs("simulated store: out of memory\n", stderr);
        abort();
    }
    return memory;
}

struct wp_bytes *sim_bytes_create(size_t size)
{
    return sim_memory(wp_bytes_create(size));
}

static void sim_close(struct wp_store *base)
{
    struct sim_store *store = (struct sim_store *)base;
    sim_state_flush(base);
    sim_map_release(&store->flushed);
    sim_map_release(&store->state);
    sim_map_release(&store->log);
    sim_map_release(&store->facts);
    sim_map_release(&store->files);
    wp_buffer_free(&store->wal);
    wp_buffer_free(&store->pending);
    wp_buffer_free(&store->boundaries);
    free(store->positions);
    wp_store_fini(base);
    free(store);
}

static int sim_fact_get(struct wp_store *base, const char *name, struct wp_buffer *out)
{
    const struct sim_node *node =
        sim_map_find(((struct sim_store *)base)->facts, wp_slice(name, strlen(name)));
    if (node == NULL) {
        return WP_E_NOT_FOUND;
    }
    return wp_buffer_append(out, node->value->data, node->value->size);
}

static int sim_fact_set(struct wp_store *base, const char *name, struct wp_slice value)
{
    struct wp_bytes *copy = sim_memory(wp_bytes_copy(value.data, value.size));
    sim_map_put(&((struct sim_store *)base)->facts, wp_slice(name, strlen(name)), copy);
    wp_bytes_release(&copy);
    return WP_OK;
}

static void sim_disk(struct wp_store *base, struct wp_store_disk *ret_disk)
{
    *ret_disk = ((struct sim_store *)base)->disk;
}

static uint64_t sim_boot(struct wp_store *base)
{
    return ((struct sim_store *)base)->boot;
}

static uint64_t sim_directory_id(struct wp_store *base)
{
    return ((struct sim_store *)base)->directory_id;
}

static const struct wp_store_body sim_body = {
    .close = sim_close,
    .batch_create = sim_batch_create,
    .batch_destroy = sim_batch_destroy,
    .batch_clear = sim_batch_clear,
    .batch_put = sim_batch_put,
    .batch_delete = sim_batch_delete,
    .batch_delete_range = sim_batch_delete_range,
    .state_commit = sim_state_commit,
    .state_get = sim_state_get,
    .state_applied = sim_state_applied,
    .state_durable_index = sim_state_durable_index,
    .state_flush_if_due = sim_state_flush_if_due,
    .state_flush_soon = sim_state_flush_soon,
    .state_flush = sim_state_flush,
    .view_create = sim_view_create,
    .iter_create = sim_iter_create,
    .iter_valid = sim_iter_valid,
    .iter_next = sim_iter_next,
    .iter_key = sim_iter_key,
    .iter_value = sim_iter_value,
    .iter_error = sim_iter_error,
    .iter_destroy = sim_iter_destroy,
    .log_submit = sim_log_submit,
    .log_load = sim_log_load,
    .log_read = sim_log_read,
    .log_term = sim_log_term,
    .shard_wipe = sim_shard_wipe,
    .install_create = sim_install_create,
    .install_add = sim_install_add,
    .install_commit = sim_install_commit,
    .install_destroy = sim_install_destroy,
    .fact_get = sim_fact_get,
    .fact_set = sim_fact_set,
    .disk = sim_disk,
    .boot = sim_boot,
    .directory_id = sim_directory_id,
};

struct sim_store *sim_store_create(void)
{
    struct sim_store *store = sim_memory(calloc(1, sizeof *store));
    wp_store_init(&store->base, &sim_body);
    static uint64_t created;
    store->boot = 1;
    store->directory_id = UINT64_C(0x9e3779b97f4a7c15) * ++created;
    store->base.running = true;
    store->positions = sim_memory(calloc(WP_STORE_SHARDS_MAX, sizeof *store->positions));
    store->disk.reserve_bytes = RESERVE_BYTES;
    store->disk.free_bytes = UINT64_MAX;
    snprintf(store->disk.file_system, sizeof store->disk.file_system, "simulated");
    store->flush_bytes = 64ull * 1024;
    return store;
}

struct wp_store *wp_sim_create(void)
{
    return &sim_store_create()->base;
}

uint32_t wp_sim_pending(struct wp_store *base)
{
    return (uint32_t)(((struct sim_store *)base)->pending.size / sizeof(struct sim_pending));
}

/* The first pending writes, taken over by the caller: bytes and completions. */
struct taken {
    struct wp_buffer writes; /* struct sim_pending[] */
    size_t wal_size;
};

static void pending_take(struct sim_store *store, uint32_t count, struct taken *taken)
{
    const struct sim_pending *pending = (const struct sim_pending *)(const void *)store->pending.data;
    memset(taken, 0, sizeof *taken);
    sim_memory(wp_buffer_reserve(&taken->writes, count * sizeof *pending));
    wp_buffer_append(&taken->writes, pending, count * sizeof *pending);
    for (uint32_t i = 0; i < count; i++) {
        taken->wal_size += pending[i].frame_size;
    }
}

static void taken_complete(struct taken *taken)
{
    const struct sim_pending *writes = (const struct sim_pending *)(const void *)taken->writes.data;
    for (size_t i = 0; i < taken->writes.size / sizeof *writes; i++) {
        if (writes[i].done != NULL && !writes[i].completed) {
            writes[i].done(writes[i].context, writes[i].tag);
        }
    }
}

/* Bug 1. Acknowledges what is not synced; the sync itself comes with the next call. */
static void pending_complete_early(struct sim_store *store, uint32_t count)
{
    struct taken taken;
    pending_take(store, count, &taken);
    struct sim_pending *pending = (struct sim_pending *)(void *)store->pending.data;
    for (uint32_t i = 0; i < count; i++) {
        pending[i].completed = true;
    }
    taken_complete(&taken);
    wp_buffer_free(&taken.writes);
}

int wp_sim_sync(struct wp_store *base, uint32_t count)
{
    struct sim_store *store = (struct sim_store *)base;
    int error = wp_store_failure(base);
    uint32_t pending = wp_sim_pending(base);
    count = count == 0 || count > pending ? pending : count;
    if (error != WP_OK || count == 0) {
        return error;
    }
    if (WP_BUG == 1 && !((struct sim_pending *)(void *)store->pending.data)->completed) {
        pending_complete_early(store, count);
        return WP_OK;
    }
    if (WP_BUG != 2 && store->sync_error != WP_OK) {
        return wp_store_fail(base, store->sync_error, "instance log, write: injected");
    }
    struct taken taken;
    pending_take(store, count, &taken);
    if (store->sync_error == WP_OK) {
        sim_log_replay(&store->log, wp_slice(store->wal.data, taken.wal_size));
    }
    wp_buffer_consume(&store->wal, taken.wal_size);
    wp_buffer_consume(&store->pending, taken.writes.size);
    taken_complete(&taken);
    wp_buffer_free(&taken.writes);
    return WP_OK;
}

/* What is left of the unsynced bytes: all, nothing, cut at any byte, or a sector of zeros in the middle. */
static void wal_tear(struct wp_buffer *wal, struct wp_prng *prng)
{
    if (wal->size == 0) {
        return;
    }
    uint64_t kind = wp_prng_below(prng, 8);
    if (kind == 0) {
        wal->size = 0;
    } else if (kind == 2 || kind == 3) {
        size_t at = wp_prng_below(prng, wal->size) / SECTOR_SIZE * SECTOR_SIZE;
        size_t size = wal->size - at < SECTOR_SIZE ? wal->size - at : SECTOR_SIZE;
        memset(wal->data + at, 0, size);
    } else if (kind > 3) {
        wal->size = wp_prng_below(prng, wal->size + 1);
    }
}

/* The next boot of what `from` holds on disk. */
static struct sim_store *image_create(const struct sim_store *from, struct sim_node *state)
{
    struct sim_store *image = sim_store_create();
    image->boot = from->boot + 1;
    image->directory_id = from->directory_id;
    image->disk = from->disk;
    image->flush_bytes = from->flush_bytes;
    image->log = sim_map_retain(from->log);
    image->facts = sim_map_retain(from->facts);
    image->files = sim_map_retain(from->files);
    image->state = sim_map_retain(state);
    image->flushed = sim_map_retain(state);
    return image;
}

struct wp_store *wp_sim_crash(struct wp_store *base, uint64_t seed)
{
    struct sim_store *store = (struct sim_store *)base;
    struct wp_prng prng;
    wp_prng_init(&prng, seed);
    const struct sim_boundary *boundaries = (const struct sim_boundary *)(const void *)store->boundaries.data;
    uint64_t choice = wp_prng_below(&prng, store->boundaries.size / sizeof *boundaries + 1);
    struct sim_store *image =
        image_create(store, choice == 0 ? store->flushed : boundaries[choice - 1].state);
    struct wp_buffer wal = WP_BUFFER_INIT;
    if (wp_buffer_append(&wal, store->wal.data, store->wal.size) != WP_OK) {
        sim_memory(NULL);
    }
    wal_tear(&wal, &prng);
    sim_log_replay(&image->log, wp_slice(wal.data, wal.size));
    wp_buffer_free(&wal);
    sim_log_positions(image);
    sim_finish_marked(image);
    return &image->base;
}

void wp_sim_restart(struct wp_store **store)
{
    while (wp_sim_pending(*store) > 0 && wp_sim_sync(*store, 0) == WP_OK) {
    }
    wp_state_flush(*store);
    struct sim_store *from = (struct sim_store *)*store;
    struct sim_store *next = image_create(from, from->state);
    sim_log_positions(next);
    wp_store_close(store);
    *store = &next->base;
}

void wp_sim_fail_sync(struct wp_store *store, int error)
{
    ((struct sim_store *)store)->sync_error = error;
}

void wp_sim_fail_step(struct wp_store *store, uint32_t count)
{
    ((struct sim_store *)store)->step_countdown = count;
}

void wp_sim_disk_set(struct wp_store *store, uint64_t free_bytes)
{
    wp_disk_observe(&((struct sim_store *)store)->disk, free_bytes);
}

void wp_sim_flush_bytes_set(struct wp_store *store, uint64_t bytes)
{
    ((struct sim_store *)store)->flush_bytes = bytes;
}

/* A new version of the map with one bit of one value turned. */
static int map_flip(struct sim_node **root, struct wp_slice key, uint64_t seed)
{
    const struct sim_node *node = sim_map_find(*root, key);
    if (node == NULL) {
        return WP_E_NOT_FOUND;
    }
    struct wp_bytes *copy = sim_memory(wp_bytes_copy(node->value->data, node->value->size));
    struct wp_prng prng;
    wp_prng_init(&prng, seed);
    uint64_t bit = wp_prng_below(&prng, copy->size * 8);
    copy->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    sim_map_put(root, key, copy);
    wp_bytes_release(&copy);
    return WP_OK;
}

int wp_sim_flip_state(struct wp_store *store, struct wp_slice key, uint64_t seed)
{
    uint8_t full[1 + WP_STATE_KEY_SIZE_MAX];
    if (key.size > WP_STATE_KEY_SIZE_MAX) {
        return WP_E_NOT_FOUND;
    }
    full[0] = WP_STATE_USER;
    if (key.size > 0) {
        memcpy(full + 1, key.data, key.size);
    }
    return map_flip(&((struct sim_store *)store)->state, wp_slice(full, 1 + key.size), seed);
}

int wp_sim_flip_entry(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t seed)
{
    uint8_t key[SIM_LOG_KEY_SIZE];
    key[0] = SIM_ENTRIES;
    wp_entry_key(key + 1, shard, index);
    return map_flip(&((struct sim_store *)store)->log, wp_slice(key, sizeof key), seed);
}
