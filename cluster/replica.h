/* One replica of one Raft group: the engine (C-Raft 0.22.1, raft_step only) behind our own interface.
 *
 * A sans-I/O machine: events in, one bounded, ordered wp_replica_update out. It reads no clock (time comes
 * with each event; a step backwards is taken as standing still), does no I/O, calls nobody back. One owner
 * thread.
 *
 * The order in which a shell must handle an update (raft.md, rule 2):
 *   1. hard state + truncation + entries: ONE wp_log_write, in the order of the updates. When hard_changed is
 * set the replica is parked: no further event but wp_replica_persisted goes in until this write is synced,
 * and this update's messages leave only after it.
 *   2. messages (without hard_changed they may leave in parallel with the write).
 *   3. apply entries up to wp_replica_commit_index, never beyond what is durable locally.
 *
 * Source of the rules: Ongaro 2014 (Raft), figures 3.1 and 8; C-Raft documentation, events and updates. */
#ifndef WP_CLUSTER_REPLICA_H
#define WP_CLUSTER_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "cluster/membership.h"
#include "cluster/message.h"
#include "storage/store.h"

struct wp_replica;

/* CHANGE: data is an encoded membership. BARRIER: no data; the first entry of a leader's term. */
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

/* What a start finds on disk: hard state, a synthetic snapshot at the durable applied index with the last
 * committed membership at or below it, and the retained log (raft.md, rule 15). With nothing on disk: `fresh`
 * and the bootstrap membership, or all zero for a replica that waits to be added by a leader. */
struct wp_replica_start {
    bool fresh; /* entry 1 = CHANGE of `membership` is made and handed out to be written; no snapshot, no
                   entries */
    struct wp_log_hard_state hard;
    uint64_t snapshot_index; /* durable applied index, 0 on the first start */
    uint64_t snapshot_term;
    struct wp_membership membership; /* as of snapshot_index */
    uint64_t membership_index;
    /* Consecutive, the first at or below snapshot_index + 1, the last at or above snapshot_index. Borrowed;
     * data of those above the snapshot is retained, those at or below may have none: only their terms are
     * used. */
    const struct wp_log_entry *entries;
    uint32_t entry_count;
};

/* A message to a peer. Owned by the update, valid until the next event; retain `bytes` to keep them. */
struct wp_replica_message {
    uint64_t to;
    /* Encoded RPC. NULL when its entries are no longer in memory: entries previous_index + 1 .. + entry_count
     * of `rpc` are to be read from the log and filled in by wp_replica_message_fill. */
    struct wp_bytes *bytes;
    struct wp_rpc rpc;
};

struct wp_replica_update {
    uint64_t write; /* number of the write to be done, one more each time; 0 = nothing to write */
    bool hard_changed;
    struct wp_log_hard_state hard;
    uint64_t truncate_from;             /* 0 = none */
    const struct wp_log_entry *entries; /* to be appended after the truncation; valid until the next event */
    uint32_t entry_count;
    const struct wp_replica_message *messages;
    uint32_t message_count;
    /* Members so far behind that the log no longer reaches them: they need a snapshot that reaches at least
     * to snapshot_index. Named again with every heartbeat until they hold so much. */
    uint64_t snapshot_to[WP_REPLICA_MEMBERS_MAX];
    uint32_t snapshot_count;
    uint64_t snapshot_index;
    bool role_changed;
    bool commit_advanced;
};

/* WP_OK, WP_E_NOMEM, or WP_E_INVALID for a configuration the engine refuses. */
int wp_replica_create(const struct wp_replica_config *config, struct wp_replica **ret_replica);
void wp_replica_destroy(struct wp_replica **replica);

/* Events. Each fills *ret_update (borrowed until the next event). An error other than those named is an
 * engine failure (WP_E_ENGINE, WP_E_NOMEM): the process must stop. */

/* First event. A sole voter is leader on return, in a new term and with a barrier to be written.
 * WP_E_CORRUPT: what was found on disk contradicts itself. */
int wp_replica_start(struct wp_replica *replica, uint64_t now_ms, const struct wp_replica_start *start,
    struct wp_replica_update *ret_update);
int wp_replica_tick(struct wp_replica *replica, uint64_t now_ms, struct wp_replica_update *ret_update);
/* WP_E_MALFORMED, WP_E_VERSION: the bytes are no message of this version or cannot come from a correct peer;
 * nothing happened. */
int wp_replica_receive(struct wp_replica *replica, uint64_t now_ms, uint64_t from, struct wp_slice message,
    struct wp_replica_update *ret_update);
/* Proposes one entry; takes the reference on success. WP_E_NOT_LEADER, WP_E_FULL (in-flight limit),
 * WP_E_TOO_LARGE. */
int wp_replica_propose(struct wp_replica *replica, uint64_t now_ms, struct wp_bytes **data,
    uint64_t *ret_index, struct wp_replica_update *ret_update);
/* Proposes a membership one step away from the present one. WP_E_NOT_LEADER, WP_E_FULL, WP_E_INVALID,
 * WP_E_UNAVAILABLE: a change is under way, or too few of the next voters are known to hold the present
 * membership. */
int wp_replica_propose_change(struct wp_replica *replica, uint64_t now_ms,
    const struct wp_membership *membership, uint64_t *ret_index, struct wp_replica_update *ret_update);
/* Hands leadership to voter `to` (Ongaro 2014, section 3.10): from here on nothing is proposed; once `to`
 * holds the whole log it is told to stand for election. Given up after an election timeout, when proposals go
 * on. WP_E_NOT_LEADER, WP_E_INVALID (`to` is no other voter), WP_E_UNAVAILABLE (one is under way). */
int wp_replica_transfer(
    struct wp_replica *replica, uint64_t now_ms, uint64_t to, struct wp_replica_update *ret_update);
/* The connection to the present leader broke: a follower that votes asks for a pre-vote within 100 ms instead
 * of after its timeout (raft.md, rule 18). Takes effect with the ticks that follow; nothing otherwise. */
void wp_replica_leader_lost(struct wp_replica *replica, uint64_t now_ms);
/* Every write up to and including number `write` is synced. Reports of a write that was reported before, and
 * of entries that were truncated or replaced since, change nothing. Ends the parking of that write. */
int wp_replica_persisted(
    struct wp_replica *replica, uint64_t now_ms, uint64_t write, struct wp_replica_update *ret_update);
/* The state is durable up to `snapshot_index` (applied, term known to the log) and the log keeps only entries
 * >= `log_first`: peers further behind need a snapshot. */
int wp_replica_compacted(struct wp_replica *replica, uint64_t now_ms, uint64_t snapshot_index,
    uint64_t log_first, struct wp_replica_update *ret_update);

/* Encodes a message whose entries were read from the log; `count` <= the count asked for, may be 0. NULL: out
 * of memory. The caller owns the reference. */
struct wp_bytes *wp_replica_message_fill(
    const struct wp_replica_message *message, const struct wp_log_entry *entries, uint32_t count);

/* Accessors; pure. */
enum wp_replica_role wp_replica_role(const struct wp_replica *replica);
uint64_t wp_replica_term(const struct wp_replica *replica);
uint64_t wp_replica_leader(const struct wp_replica *replica); /* raft id, 0 = unknown */
uint64_t wp_replica_commit_index(
    const struct wp_replica *replica); /* our own monotonic maximum, <= durable index */
uint64_t wp_replica_durable_index(const struct wp_replica *replica); /* last entry reported as synced */
uint64_t wp_replica_last_index(const struct wp_replica *replica);
uint64_t wp_replica_last_write(const struct wp_replica *replica); /* number of the last write handed out */
bool wp_replica_parked(const struct wp_replica *replica);
bool wp_replica_can_propose(const struct wp_replica *replica); /* leader, not parked, with room in flight */
uint64_t wp_replica_transferring(
    const struct wp_replica *replica); /* raft id that leadership goes to; 0 = none */
/* Why the last transfer of this term was given up, in words; "" when none was. */
const char *wp_replica_transfer_failure(const struct wp_replica *replica);
/* The voter that a transfer is likeliest to reach: of those that answered within an election timeout, else of
 * all, the one that holds most of the log; none of those in `avoid`. 0: there is no such voter, or this one
 * does not lead. */
uint64_t wp_replica_successor(const struct wp_replica *replica, const uint64_t *avoid, uint32_t avoid_count);
/* The latest time T such that a majority of the voters accepted this leader, in this term, at or after T: of
 * the stamps that the voters returned, its own being now (the time of the last event). No other leader is
 * elected before T + election timeout, unless followers that lost their connections elect early. 0: none,
 * also while a transfer is under way, and after one that was given up until a later entry is committed. */
uint64_t wp_replica_lease_ms(const struct wp_replica *replica);
/* Highest index that every other member is known to hold, of those that hold at least up to `from` (leader);
 * own last index when there is none. 0 when not leader. */
uint64_t wp_replica_match_index(const struct wp_replica *replica, uint64_t from);
/* While barred a follower takes entries, but neither votes nor stands for election: it may have forgotten
 * what it promised. */
void wp_replica_bar(struct wp_replica *replica, bool barred);
/* Highest index that the member `id` has told this leader, in this term, to have on disk. 0: nothing yet, or
 * not leader. */
uint64_t wp_replica_acknowledged(const struct wp_replica *replica, uint64_t id);
/* Entry above the snapshot or last trim; NULL when not retained. Borrowed until the next event. */
const struct wp_log_entry *wp_replica_entry(const struct wp_replica *replica, uint64_t index);
/* Bytes of data and number of retained entries. */
uint64_t wp_replica_retained_bytes(const struct wp_replica *replica);
uint64_t wp_replica_retained_first(const struct wp_replica *replica); /* last index + 1 when none */
/* Forget retained entries < index; index <= commit index + 1. Called after apply. */
void wp_replica_trim(struct wp_replica *replica, uint64_t index);
/* After WP_E_ENGINE: which invariant broke, or the engine's own words. */
const char *wp_replica_breach(const struct wp_replica *replica);
/* The membership in force (of the last CHANGE in the log), and the last committed one with the index of its
 * entry. */
const struct wp_membership *wp_replica_membership(const struct wp_replica *replica);
const struct wp_membership *wp_replica_committed_membership(
    const struct wp_replica *replica, uint64_t *ret_index);

#endif
