/* See cluster_disk.h. */
#include "tests/unit/cluster_disk.h"

#include "base/assert.h"
#include "base/error.h"

/* Above every index, and small enough for one to be added. */
#define AFTER_EVERYTHING (UINT64_C(1) << 60)

static int nothing(void *context, const struct wp_log_entry *entry)
{
    (void)context;
    (void)entry;
    return WP_OK;
}

static void log_range(struct wp_store *disk, uint32_t shard, struct wp_log_hard_state *ret_hard,
    uint64_t *ret_first, uint64_t *ret_last)
{
    int error = wp_log_load(disk, shard, AFTER_EVERYTHING, ret_hard, nothing, NULL, ret_first, ret_last);
    WP_ASSERT(error == WP_OK);
}

uint64_t disk_log_first(struct wp_store *disk, uint32_t shard)
{
    struct wp_log_hard_state hard;
    uint64_t first;
    uint64_t last;
    log_range(disk, shard, &hard, &first, &last);
    return first;
}

uint64_t disk_log_last(struct wp_store *disk, uint32_t shard)
{
    struct wp_log_hard_state hard;
    uint64_t first;
    uint64_t last;
    log_range(disk, shard, &hard, &first, &last);
    return last;
}

struct wp_log_hard_state disk_hard(struct wp_store *disk, uint32_t shard)
{
    struct wp_log_hard_state hard;
    uint64_t first;
    uint64_t last;
    log_range(disk, shard, &hard, &first, &last);
    return hard;
}

uint64_t disk_log_term(struct wp_store *disk, uint32_t shard, uint64_t index)
{
    uint64_t term;
    return wp_log_term(disk, shard, index, &term) == WP_OK ? term : 0;
}

struct wp_log_entry disk_log_entry(struct wp_store *disk, uint32_t shard, uint64_t index)
{
    struct wp_log_entry entry;
    uint32_t count;
    bool found = wp_log_read(disk, shard, index, 1, &entry, &count) == WP_OK && count == 1;
    return found ? entry : (struct wp_log_entry){0};
}

void disk_crash(struct wp_store **disk, uint64_t seed)
{
    struct wp_store *image = wp_sim_crash(*disk, seed);
    wp_store_close(disk);
    *disk = image;
}
