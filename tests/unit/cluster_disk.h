/* Looks into a simulated store (storage/sim/sim.h) the way the tests of cluster/ need: what of one shard's
 * log is synced, and the store as it is found after a power failure. */
#ifndef WP_TESTS_CLUSTER_DISK_H
#define WP_TESTS_CLUSTER_DISK_H

#include "storage/sim/sim.h"

/* First and last synced index; 0 = none. Reads the whole log. */
uint64_t disk_log_first(struct wp_store *disk, uint32_t shard);
uint64_t disk_log_last(struct wp_store *disk, uint32_t shard);
/* Term of a synced entry; 0 = no such entry. */
uint64_t disk_log_term(struct wp_store *disk, uint32_t shard, uint64_t index);
/* A synced entry with one reference to its data for the caller; data NULL when there is none. */
struct wp_log_entry disk_log_entry(struct wp_store *disk, uint32_t shard, uint64_t index);
struct wp_log_hard_state disk_hard(struct wp_store *disk, uint32_t shard);

/* The power fails: *disk is closed and replaced by what the next start finds. Completions no longer come. */
void disk_crash(struct wp_store **disk, uint64_t seed);

#endif
