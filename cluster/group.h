/* A shard's replicated log at work: replica + log storage + in-order apply, still without sockets or clock.
 *
 *   propose -> replica -> wp_log_write -> committer -> wp_group_persisted -> commit -> apply callback
 *
 * One owner thread (the reactor of the shard). The committer's completions arrive on its thread; the owner's `wake`
 * must hand them over and call wp_group_persisted on the owner thread.
 *
 * Client acknowledgements are given only from `apply` of the client's own entry (raft.md, rule 11). */
#ifndef WP_CLUSTER_GROUP_H
#define WP_CLUSTER_GROUP_H

#include "cluster/replica.h"

struct wp_group;

struct wp_group_callbacks {
    void *context;
    /* Committed and durable entry, in order, exactly once per start above the durable applied index. `ours` = this
     * replica proposed it in this term (its submitters wait for it). Barriers and changes come with an empty slice so
     * that the applied index moves. Must write its state and the applied index in one batch (wp_state_commit). */
    int (*apply)(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
    /* Leadership gained (after an entry of the own term was applied: leader reads are safe) or lost: proposals that
     * were not applied have an unknown outcome. */
    void (*leading)(void *context, bool leading);
    /* From the committer thread: hand (shard, tag) to the owner thread, which calls wp_group_persisted(group, tag). */
    void (*wake)(void *context, uint32_t shard, uint64_t tag);
    /* To a peer. Never called with one voter. */
    void (*send)(void *context, uint64_t to, struct wp_bytes *message);
};

struct wp_group_config {
    uint32_t shard;
    uint64_t replica_id;
    struct wp_membership bootstrap; /* used only when the log and state are empty */
    uint32_t seed;
    uint64_t log_keep_entries;      /* retained below the durable applied index; 1,000 */
};

/* Loads hard state, applied index and log tail; does not apply yet. WP_E_CORRUPT, WP_E_NOMEM, WP_E_IO. */
int wp_group_create(struct wp_store *store, const struct wp_group_config *config, const struct wp_group_callbacks *callbacks,
    struct wp_group **ret_group);
/* Starts the engine: entries above the durable applied index are applied again as they commit. */
int wp_group_start(struct wp_group *group, uint64_t now_ms);
void wp_group_destroy(struct wp_group **group);

/* Every 25-50 ms. Also compacts the log below the durable applied index. */
int wp_group_tick(struct wp_group *group, uint64_t now_ms);
/* Takes the entry (encoded batch of commands, <= WP_ENTRY_SIZE_MAX). WP_E_NOT_LEADER, WP_E_FULL: try after the next persisted. */
int wp_group_propose(struct wp_group *group, uint64_t now_ms, struct wp_bytes **entry, uint64_t *ret_index);
int wp_group_receive(struct wp_group *group, uint64_t now_ms, uint64_t from, struct wp_slice message);
int wp_group_persisted(struct wp_group *group, uint64_t now_ms, uint64_t tag);

bool wp_group_leading(const struct wp_group *group); /* and an entry of the own term is applied */
bool wp_group_can_propose(const struct wp_group *group);
uint64_t wp_group_applied_index(const struct wp_group *group);
uint64_t wp_group_term(const struct wp_group *group);

#endif
