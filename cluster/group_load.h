/* What a group finds in the store at its start. Private to cluster/group.c. */
#ifndef WP_CLUSTER_GROUP_LOAD_H
#define WP_CLUSTER_GROUP_LOAD_H

#include "cluster/group.h"

struct wp_group_found {
    struct wp_replica_start start; /* start.entries points to `entries` */
    struct wp_log_entry *entries;
    uint32_t entry_count;
    uint32_t entry_capacity;
    uint64_t log_first; /* first index retained in the log; last + 1 when it is empty */
    bool log_lost; /* the log ends below the applied index and the loss is accepted: it must go on above it */
};

/* WP_E_CORRUPT, WP_E_FORGOTTEN, WP_E_NOMEM, WP_E_IO. On error nothing is held. */
int wp_group_load(
    struct wp_store *store, const struct wp_group_config *config, struct wp_group_found *ret_found);
void wp_group_found_free(struct wp_group_found *found);

/* The record of the committed membership: u64le index of its CHANGE | membership. */
int wp_group_membership_put(
    struct wp_state_batch *batch, uint32_t shard, uint64_t index, struct wp_slice encoded_membership);

#endif
