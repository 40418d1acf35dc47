/* A store for the tests of cluster/ whose every sync is an explicit call, so that a test stands at any point
 * between hand-over, sync and completion. One shard, one thread, whole writes (the log's batches are atomic).
 *
 * Implements the part of storage/store.h that cluster/ uses; link it instead of wp_storage. */
#ifndef WP_TESTS_CLUSTER_DISK_H
#define WP_TESTS_CLUSTER_DISK_H

#include "storage/store.h"

struct wp_store *disk_create(void);
void disk_destroy(struct wp_store *disk);

/* `observer` sees every entry as it is handed over. */
void disk_observe(
    struct wp_store *disk, void (*observer)(void *context, const struct wp_log_entry *entry), void *context);

/* Writes handed over and not synced. */
uint32_t disk_pending(const struct wp_store *disk);
/* Syncs the oldest `count` writes; with `complete` their done is called, else it never will be. */
void disk_sync(struct wp_store *disk, uint32_t count, bool complete);
/* Everything not synced is gone, and state is what it was at the last disk_flush. The store goes on as after
 * a restart. */
void disk_crash(struct wp_store *disk);
/* Makes state durable as it is. */
void disk_flush(struct wp_store *disk);

/* What is on the disk, synced. 0 = none. */
uint64_t disk_log_first(const struct wp_store *disk);
uint64_t disk_log_last(const struct wp_store *disk);
const struct wp_log_entry *disk_log_entry(const struct wp_store *disk, uint64_t index);
struct wp_log_hard_state disk_hard(const struct wp_store *disk);

/* Damage, for the tests of the start. */
void disk_log_cut(struct wp_store *disk, uint64_t from);        /* entries >= from vanish */
void disk_log_cut_front(struct wp_store *disk, uint64_t below); /* entries < below vanish */

#endif
