/* One replica of one Raft group: the engine (C-Raft 0.22.1, raft_step only) behind our own interface.
 *
 * A sans-I/O machine: events in, one bounded, ordered wp_replica_update out. It reads no clock (time comes with each
 * event and never runs backwards), does no I/O, calls nobody back. One owner thread.
 *
 * The order in which a shell must handle an update (raft.md, rule 2):
 *   1. hard state + truncation + entries: ONE wp_log_write. When hard_changed is set the group is parked: no further
 *      event but wp_replica_persisted goes in until the sync is reported, and messages leave only after it.
 *   2. messages (without hard_changed they may leave in parallel with the write).
 *   3. apply entries up to wp_replica_commit_index, never beyond what is durable locally.
 *
 * Source of the rules: Ongaro 2014 (Raft), figures 3.1 and 8; C-Raft documentation, events and updates. */
#ifndef WP_CLUSTER_REPLICA_H
#define WP_CLUSTER_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "storage/store.h"

struct wp_replica;

#define WP_REPLICA_MEMBERS_MAX 9
enum wp_member_role { WP_MEMBER_VOTER, WP_MEMBER_LEARNER };
struct wp_member {
    uint64_t id; /* raft id, > 0, never reused */
    enum wp_member_role role;
};
struct wp_membership {
    uint32_t count;
    struct wp_member members[WP_REPLICA_MEMBERS_MAX];
};

enum wp_entry_kind { WP_ENTRY_COMMAND = 1, WP_ENTRY_BARRIER = 2, WP_ENTRY_CHANGE = 3 };

enum wp_replica_role { WP_REPLICA_FOLLOWER, WP_REPLICA_CANDIDATE, WP_REPLICA_LEADER };

struct wp_replica_config {
    uint32_t group;
    uint64_t id;               /* raft id of this replica */
    uint32_t seed;             /* of the election timer's randomness */
    uint32_t election_ms;      /* base, drawn 1x-2x; 500 */
    uint32_t heartbeat_ms;     /* 100 */
    uint32_t inflight_entries; /* 8 */
};

/* What a start finds on disk: hard state, a synthetic snapshot at the durable applied index with the last committed
 * membership at or below it, and the retained log above it (raft.md, rule 15). */
struct wp_replica_start {
    struct wp_log_hard_state hard;
    uint64_t snapshot_index;   /* durable applied index, 0 on the first start */
    uint64_t snapshot_term;
    struct wp_membership membership; /* as of snapshot_index */
    uint64_t membership_index;
    const struct wp_log_entry *entries; /* > snapshot_index, consecutive; borrowed, data retained */
    uint32_t entry_count;
};

/* A message to a peer: an encoded Raft RPC whose entries are carried by reference. */
struct wp_replica_message {
    uint64_t to;
    struct wp_bytes *bytes;    /* owned by the update, valid until the next event; retain to keep */
};

struct wp_replica_update {
    bool hard_changed;
    struct wp_log_hard_state hard;
    uint64_t truncate_from;    /* 0 = none */
    const struct wp_log_entry *entries; /* to be appended after the truncation; valid until the next event */
    uint32_t entry_count;
    const struct wp_replica_message *messages;
    uint32_t message_count;
    bool role_changed;
    bool commit_advanced;
};

/* WP_OK, WP_E_NOMEM, or WP_E_INVALID for a configuration the engine refuses. */
int wp_replica_create(const struct wp_replica_config *config, struct wp_replica **ret_replica);
void wp_replica_destroy(struct wp_replica **replica);

/* Events. Each fills *ret_update (borrowed until the next event). An error other than those named is an engine
 * failure: the process must stop. */
int wp_replica_start(struct wp_replica *replica, uint64_t now_ms, const struct wp_replica_start *start,
    struct wp_replica_update *ret_update);
int wp_replica_tick(struct wp_replica *replica, uint64_t now_ms, struct wp_replica_update *ret_update);
/* WP_E_MALFORMED: the bytes are no message of this version; nothing happened. */
int wp_replica_receive(struct wp_replica *replica, uint64_t now_ms, uint64_t from, struct wp_slice message,
    struct wp_replica_update *ret_update);
/* Proposes one entry; takes the reference on success. WP_E_NOT_LEADER, WP_E_FULL (in-flight limit). */
int wp_replica_propose(struct wp_replica *replica, uint64_t now_ms, struct wp_bytes **data, uint64_t *ret_index,
    struct wp_replica_update *ret_update);
/* Everything up to `index` of this write is synced. `term` = term of that entry when it was handed out; a
 * completion of an entry that was truncated since is ignored. */
int wp_replica_persisted(struct wp_replica *replica, uint64_t now_ms, uint64_t index, uint64_t term,
    struct wp_replica_update *ret_update);

/* Accessors; pure. */
enum wp_replica_role wp_replica_role(const struct wp_replica *replica);
uint64_t wp_replica_term(const struct wp_replica *replica);
uint64_t wp_replica_leader(const struct wp_replica *replica);       /* raft id, 0 = unknown */
uint64_t wp_replica_commit_index(const struct wp_replica *replica); /* our own monotonic maximum, <= durable index */
uint64_t wp_replica_last_index(const struct wp_replica *replica);
bool wp_replica_can_propose(const struct wp_replica *replica);      /* leader with room in flight */
/* Entry above the snapshot or last trim; NULL when not retained. Borrowed until the next event. */
const struct wp_log_entry *wp_replica_entry(const struct wp_replica *replica, uint64_t index);
/* Forget retained entries < index; called after apply and for log compaction. */
void wp_replica_trim(struct wp_replica *replica, uint64_t index);
const struct wp_membership *wp_replica_membership(const struct wp_replica *replica);

#endif
