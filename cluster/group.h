/* A shard's replicated log at work: replica + log storage + in-order apply, still without sockets or clock.
 *
 *   propose -> replica -> wp_log_write -> committer -> wp_group_persisted -> commit -> apply callback
 *
 * One owner thread (the reactor of the shard). The committer's completions arrive on its thread; the owner's
 * `wake` must hand them over and call wp_group_persisted on the owner thread.
 *
 * Client acknowledgements are given only from `apply` of the client's own entry (raft.md, rule 11). */
#ifndef WP_CLUSTER_GROUP_H
#define WP_CLUSTER_GROUP_H

#include "cluster/replica.h"

struct wp_group;

/* All but `wake` run on the owner thread, inside a call into the group: they must not call into it again
 * (accessors are fine). */
struct wp_group_callbacks {
    void *context;
    /* Committed and durable COMMAND, in order, exactly once per start above the durable applied index. `ours`
     * = this replica proposed it in this term (its submitters wait for it). Must write its state and the
     * applied index in one batch (wp_state_commit). Barriers and membership changes never come here: the
     * group commits the applied index for them itself. An error stops the process. */
    int (*apply)(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
    /* Leadership gained (after an entry of the own term was applied: leader reads are safe, proposals are
     * taken) or lost: proposals that were not applied have an unknown outcome. Strictly alternating, first
     * true. */
    void (*leading)(void *context, bool leading);
    /* From the committer thread: hand (shard, tag) to the owner thread, which calls wp_group_persisted(group,
     * tag). Tags rise; of several at once the highest is enough. */
    void (*wake)(void *context, uint32_t shard, uint64_t tag);
    /* To a peer; borrowed, retain to keep. Never called with one voter. */
    void (*send)(void *context, uint64_t to, struct wp_bytes *message);
    /* While leading: member `peer` lacks entries that the log no longer holds; it needs a state of this shard
     * that reaches at least to `index` (wp_state_view_create here, wp_state_install_commit there with
     * `term`). When it has one and its group is open again, the log goes on from there. Comes again with each
     * heartbeat until then. NULL: nobody is told. */
    void (*snapshot_needed)(void *context, uint64_t peer, uint64_t term, uint64_t index);
};

struct wp_group_config {
    uint32_t shard;
    uint64_t replica_id;
    struct wp_membership bootstrap; /* used only when the log and state are empty; empty: wait to be added */
    uint32_t seed;
    /* Retained below the durable applied index, also for members that lack them: the last so many entries, at
     * most about so many bytes of them (0 = 64 MiB). Who lacks more needs a snapshot; but who lacks at most
     * log_near_entries (0 = 512) needs none. */
    uint64_t log_keep_entries;
    uint64_t log_keep_bytes;
    uint64_t log_near_entries;
    uint32_t election_ms;      /* 0 = 500 */
    uint32_t heartbeat_ms;     /* 0 = 100 */
    uint32_t inflight_entries; /* 0 = 8 */
    bool accept_loss; /* start although the log ends below the durable applied index; what is missing is lost
                       */
};

/* Loads hard state, applied index and log tail; does not apply yet. WP_E_CORRUPT, WP_E_FORGOTTEN (the log
 * ends below the durable applied index), WP_E_NOMEM, WP_E_IO, WP_E_INVALID (configuration, or what is stored
 * belongs to a replica of another id: wp_store_shard_wipe begins a new one). */
int wp_group_create(struct wp_store *store, const struct wp_group_config *config,
    const struct wp_group_callbacks *callbacks, struct wp_group **ret_group);
/* Starts the engine: entries above the durable applied index are applied again as they commit. With one voter
 * the group is leader at once and leading as soon as its first write is synced. */
int wp_group_start(struct wp_group *group, uint64_t now_ms);
/* No write of this group may complete any more (drain or close the store before): completions refer to the
 * group, which itself uses the store no more. */
void wp_group_destroy(struct wp_group **group);

/* Events. An error of class fatal (and WP_E_NOMEM) from any of them means: stop the process, acknowledge
 * nothing. */

/* Every 25-50 ms. Also compacts the log below the durable applied index. */
int wp_group_tick(struct wp_group *group, uint64_t now_ms);
/* Takes the entry (encoded batch of commands, <= WP_ENTRY_SIZE_MAX). WP_E_NOT_LEADER, WP_E_FULL: try after
 * the next persisted, WP_E_TOO_LARGE. */
int wp_group_propose(struct wp_group *group, uint64_t now_ms, struct wp_bytes **entry, uint64_t *ret_index);
/* WP_E_NOT_LEADER, WP_E_FULL, WP_E_INVALID (more than one step away), WP_E_UNAVAILABLE (try again: one is
 * under way, or too few of the next voters have caught up). */
int wp_group_propose_change(
    struct wp_group *group, uint64_t now_ms, const struct wp_membership *membership, uint64_t *ret_index);
/* WP_E_MALFORMED, WP_E_VERSION: nothing happened. While hard state is being synced messages wait in a short
 * queue and are dropped beyond it (Raft repeats them). */
int wp_group_receive(struct wp_group *group, uint64_t now_ms, uint64_t from, struct wp_slice message);
/* Every write up to `tag` is synced. WP_E_INVALID: no such tag was handed out. */
int wp_group_persisted(struct wp_group *group, uint64_t now_ms, uint64_t tag);

/* Hands leadership to voter `to`; 0: to the one likeliest to take it at once (wp_replica_successor). While it
 * is under way wp_group_can_propose is false: proposals wait with the caller and go to the new leader, or
 * here again when it was given up (after an election timeout). WP_E_NOT_LEADER, WP_E_NOT_FOUND (there is no
 * other voter), WP_E_INVALID (`to` is none), WP_E_UNAVAILABLE (one is under way). */
int wp_group_transfer(struct wp_group *group, uint64_t now_ms, uint64_t to);
/* Keeps the entries above `index` until `until_ms`, for `peer`, which is getting a snapshot that ends there:
 * else the log could be cut again before it is installed, and so on for ever. A later call for the same peer
 * replaces this one. */
void wp_group_log_hold(struct wp_group *group, uint64_t peer, uint64_t index, uint64_t until_ms);
/* wp_replica_bar. */
void wp_group_bar(struct wp_group *group, bool barred);
/* The connection to the node of the present leader broke: wp_replica_leader_lost. */
void wp_group_leader_lost(struct wp_group *group, uint64_t now_ms);

bool wp_group_leading(const struct wp_group *group); /* and an entry of the own term is applied */
bool wp_group_can_propose(const struct wp_group *group);
uint64_t wp_group_transferring(const struct wp_group *group); /* raft id that leadership goes to; 0 = none */
/* While leading: the latest time at or after which a majority accepted this leader (wp_replica_lease_ms);
 * else 0. Times are the `now_ms` of the events: readings of a clock that goes on while the machine sleeps,
 * taken after what the event brings had arrived. */
uint64_t wp_group_lease_ms(const struct wp_group *group);
uint64_t wp_group_applied_index(const struct wp_group *group);
uint64_t wp_group_term(const struct wp_group *group);
uint64_t wp_group_leader(const struct wp_group *group); /* raft id, 0 = unknown */
/* The replica inside, for its accessors. */
const struct wp_replica *wp_group_replica(const struct wp_group *group);

/* Where the group keeps its committed membership in `state`: u32be shard | 0x00 | 'm'. No other writer. */
#define WP_GROUP_KEY_SIZE 6
void wp_group_membership_key(uint32_t shard, uint8_t ret_key[WP_GROUP_KEY_SIZE]);

#endif
