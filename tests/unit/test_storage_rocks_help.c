/* See test_storage_rocks.h. */
#include "tests/unit/test_storage_rocks.h"

#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

const char *rocks_directory_new(void)
{
    static char path[128];
    static unsigned count;
    snprintf(path, sizeof path, "storage-%ld-%u", (long)getpid(), count++);
    rocks_directory_remove(path);
    return path;
}

static int remove_one(const char *path, const struct stat *stats, int type, struct FTW *place)
{
    (void)stats;
    (void)type;
    (void)place;
    return remove(path);
}

void rocks_directory_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct wp_store_config rocks_test_config(const char *path)
{
    return (struct wp_store_config){
        .path = path,
        .disk_reserve_bytes = 64u << 20,
        .log_wal_bytes_max = 4u << 20,
        .write_buffer_bytes = 2u << 20,
        .compaction_bytes_max = 8u << 20,
    };
}

struct wp_store *rocks_open(const char *path)
{
    struct wp_store_config config = rocks_test_config(path);
    struct wp_store *store = NULL;
    char text[1024] = "";
    if (wp_store_open_rocks(&config, &store, text, sizeof text) != WP_OK) {
        fail_msg("open of %s: %s", path, text);
    }
    return store;
}

static void settle_done(void *context, uint64_t tag)
{
    (void)tag;
    sem_post(context);
}

void rocks_settle(struct wp_store *store)
{
    /* FIFO: when a write that came last is done, all are. A hard state of a shard that no test uses. */
    sem_t done;
    sem_init(&done, 0, 0);
    struct wp_log_hard_state hard = {.term = 1, .voted_for = 1};
    struct wp_log_write write = {
        .shard = WP_STORE_SHARDS_MAX - 1, .hard = &hard, .done = settle_done, .context = &done};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    assert_int_equal(sem_timedwait(&done, &until), 0);
    sem_destroy(&done);
}
