/* The keeper thread: the watermark file and the reading of free space, away from every thread that must not
 * wait. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "storage/rocks/rocks.h"

#define KEEPER_TICK_MS 100u

void rocks_wait_ms(pthread_cond_t *condition, pthread_mutex_t *guard, unsigned wait_ms)
{
    struct timespec until;
    clock_gettime(
        CLOCK_MONOTONIC, &until); /* the condition's clock, not a reading that anything depends on */
    until.tv_nsec += (long)wait_ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(condition, guard, &until);
}

int rocks_disk_refresh(struct rocks_store *store)
{
    uint64_t free_bytes;
    int error = wp_disk_free(store->path, &free_bytes);
    if (error != WP_OK) {
        return wp_store_note(
            &store->base, error, "cannot read the free space of \"%s\": %s", store->path, strerror(errno));
    }
    pthread_mutex_lock(&store->keeper_guard);
    bool full_before = store->disk.full;
    wp_disk_observe(&store->disk, free_bytes);
    struct wp_store_disk disk = store->disk;
    pthread_mutex_unlock(&store->keeper_guard);
    wp_metric_set(WP_M_DISK_FREE, free_bytes);
    wp_metric_set(WP_M_DISK_FULL, disk.full ? 1 : 0);
    if (disk.full != full_before) {
        wp_log(disk.full ? WP_LOG_WARN : WP_LOG_INFO,
            disk.full ? "disk_reserve_reached" : "disk_reserve_free", "free_bytes=%llu reserve_bytes=%llu",
            (unsigned long long)disk.free_bytes, (unsigned long long)disk.reserve_bytes);
    }
    return WP_OK;
}

void rocks_disk(struct wp_store *base, struct wp_store_disk *ret_disk)
{
    struct rocks_store *store = (struct rocks_store *)base;
    pthread_mutex_lock(&store->keeper_guard);
    *ret_disk = store->disk;
    pthread_mutex_unlock(&store->keeper_guard);
}

static void keeper_step(struct rocks_store *store, unsigned tick)
{
    if (wp_store_failure(&store->base) != WP_OK) {
        return;
    }
    int error = wp_watermark_write(&store->watermark, false);
    if (error != WP_OK && error != WP_E_NOMEM) {
        wp_store_fail(&store->base, error, "cannot replace \"%s/%s\": %s", store->path, WP_WATERMARK_FILE,
            strerror(errno));
        return;
    }
    if (tick % 2 == 0) {
        bool readable = rocks_disk_refresh(store) == WP_OK;
        if (!readable && store->disk_readable) {
            wp_log(WP_LOG_WARN, "disk_unreadable", "path=\"%s\"", store->path);
        }
        store->disk_readable = readable;
    }
}

void *rocks_keeper_run(void *context)
{
    struct rocks_store *store = context;
    unsigned tick = 0;
    pthread_mutex_lock(&store->keeper_guard);
    while (!store->keeper_stop) {
        rocks_wait_ms(&store->keeper_wake, &store->keeper_guard, KEEPER_TICK_MS);
        if (store->keeper_stop) {
            break;
        }
        pthread_mutex_unlock(&store->keeper_guard);
        keeper_step(store, ++tick);
        pthread_mutex_lock(&store->keeper_guard);
    }
    pthread_mutex_unlock(&store->keeper_guard);
    return NULL;
}
