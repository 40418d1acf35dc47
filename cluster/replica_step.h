/* The inside of a replica: one step of the engine and what it brings into the update. Private to
 * cluster/replica.c. */
#ifndef WP_CLUSTER_REPLICA_STEP_H
#define WP_CLUSTER_REPLICA_STEP_H

#include "base/prng.h"
#include "cluster/engine.h"
#include "cluster/entry_ring.h"
#include "cluster/replica.h"

/* What a leader knows of one term of its own. */
struct wp_lead {
    uint64_t term; /* 0 = never led */
    struct {
        uint64_t id, stamp_ms; /* the latest stamp of ours that this member returned */
    } echoes[WP_REPLICA_MEMBERS_MAX];
    uint32_t echo_count;
    uint64_t transfer_to; /* 0 = no transfer is under way */
    uint64_t transfer_until_ms;
    bool transfer_ordered;        /* the order to stand for election has left */
    const char *transfer_failure; /* of the last one; NULL = none failed */
    uint64_t lease_from_index;    /* no lease before this entry is committed */
};

/* An election to come before its time (raft.md, rule 18). */
struct wp_early_election {
    uint64_t at_ms; /* 0 = none */
    uint64_t term;
    uint32_t tries;
};

struct wp_replica {
    struct raft raft;
    struct wp_replica_config config;
    bool started;
    bool barred;               /* wp_replica_bar */
    uint64_t now_ms;           /* of the last event; never falls */
    struct wp_entry_ring ring; /* ring.next = last index of the log + 1 */
    uint64_t stored;           /* last index reported as synced; the engine's last_stored */
    uint64_t commit_seen;      /* highest commit index the engine ever named: its own can fall (rule 7) */
    uint64_t write;            /* number of the last write handed out */
    uint64_t parked_write;     /* the write that carries hard state not yet synced; 0 = not parked */
    struct wp_log_hard_state hard;
    struct wp_membership membership; /* in force */
    struct wp_membership committed;
    uint64_t committed_index;   /* of the CHANGE that brought `committed` */
    uint64_t uncommitted_index; /* of a CHANGE in force but not committed; 0 = none */
    struct wp_prng prng;        /* of the jitter of early elections */
    uint64_t votes_from_ms;     /* no vote is given before */
    uint64_t heard_term;        /* the latest stamp of the leader of this term */
    uint64_t heard_stamp_ms;
    struct wp_lead lead;
    struct wp_early_election early;
    const char *breach;
    /* The update under construction and its arrays. */
    struct wp_replica_update update;
    struct wp_log_entry *entries;
    uint32_t entry_capacity;
    struct wp_replica_message *messages;
    uint32_t message_capacity;
    struct raft_entry *scratch; /* what RAFT_RECEIVE is given */
    uint32_t scratch_capacity;
};

/* Where the data of entries that come out of a step is found: the engine hands back pointers into the array
 * it got. */
struct wp_step_source {
    const struct raft_entry *base;     /* the array given to the step; NULL = none */
    const struct wp_rpc_entry *parsed; /* parallel to base, for a received part */
    struct wp_bytes *single;           /* for a submitted entry */
    bool stale;                        /* the step receives a request of an older term */
    uint64_t stamp_ms;                 /* for results: the stamp of the append that they answer */
};

/* Forgets the last update. The replica is started and not parked. */
void wp_replica_begin(struct wp_replica *replica, uint64_t now_ms);
/* Steps the engine and collects: hard state, entries, messages, commit, committed membership. When the engine
 * refuses the event `*ret_refused` (if given) takes its code and nothing happened; else a refusal is
 * WP_E_ENGINE. */
int wp_replica_step(struct wp_replica *replica, struct raft_event *event, const struct wp_step_source *source,
    int *ret_refused);
/* Appends the barrier of a new leader's term, sets role_changed and hands the update out. */
int wp_replica_finish(struct wp_replica *replica, enum wp_replica_role role_before, uint64_t commit_before,
    struct wp_replica_update *ret_update);

/* Adds a message to the update, encoded. WP_OK, WP_E_NOMEM, WP_E_ENGINE. */
int wp_replica_add_message(struct wp_replica *replica, uint64_t to, const struct wp_rpc *rpc);
/* Whether this replica acknowledged entries that it no longer holds (wp_log_hard_state, lost_index): until it
 * has caught up it neither votes nor stands for election. */
bool wp_replica_forgot(const struct wp_replica *replica);
/* It forgot, or may have (wp_replica_bar): it neither votes nor stands for election. */
bool wp_replica_silent(const struct wp_replica *replica);

/* Proposes an entry without data: the first of a term, or one that outlives a transfer given up. */
int wp_replica_append_barrier(struct wp_replica *replica);

/* replica_lead.c. After a step: forgets what was known of an earlier term, and moves a transfer on. */
int wp_replica_lead_step(struct wp_replica *replica);
/* An accepted result of `from` that returned `stamp_ms`. */
void wp_replica_lead_echo(struct wp_replica *replica, uint64_t from, uint64_t stamp_ms);
/* Before a timeout is looked at: sets the election timer back when an early election is due. */
void wp_replica_early_election(struct wp_replica *replica);

/* Number of this update's write, drawn at first use. */
uint64_t wp_replica_write_number(struct wp_replica *replica);
/* Adds an entry to the log in memory and to the update. WP_OK or WP_E_NOMEM. */
int wp_replica_hand_out(struct wp_replica *replica, const struct wp_log_entry *entry);
/* Reads hard state, commit and membership from the engine, parks when hard state changed. */
int wp_replica_observe(struct wp_replica *replica);

#endif
