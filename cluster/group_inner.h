/* The inside of a group, shared by group.c (life, events, compaction) and group_update.c (what an event
 * brought). Private to them. */
#ifndef WP_CLUSTER_GROUP_INNER_H
#define WP_CLUSTER_GROUP_INNER_H

#include "cluster/group.h"
#include "cluster/group_load.h"
#include "cluster/log_extent.h"

/* A message that waits until the group is no longer parked. */
struct group_message {
    struct group_message *next;
    uint64_t from;
    struct wp_bytes *bytes;
};

struct wp_group {
    struct wp_store *store;
    struct wp_group_config config;
    struct wp_group_callbacks callbacks;
    struct wp_replica *replica;
    struct wp_group_found found; /* between create and start */
    bool started;
    bool busy;
    bool leading;
    uint64_t applied_index;
    uint64_t persisted_tag;
    uint64_t snapshot_index; /* the engine's: the last one compacted to */
    uint64_t log_first;
    struct {
        uint64_t peer, index, until_ms;
    } holds[WP_REPLICA_MEMBERS_MAX]; /* of the log */
    struct wp_log_extent extent;     /* where the log's bytes lie */
    struct wp_replica_update held;   /* of the parked write; its messages wait for the sync */
    struct group_message *queue_head;
    struct group_message **queue_tail;
    uint32_t queue_count;
};

bool wp_group_is_leader(const struct wp_group *group);
/* Carries out an update in the order of raft.md, rule 2: write, then (unless parked) messages and apply. */
int wp_group_handle_update(struct wp_group *group, const struct wp_replica_update *update);
/* Sends the messages of an update, reading from the log what memory no longer holds. */
int wp_group_send_messages(struct wp_group *group, const struct wp_replica_update *update);

#endif
