/* The inside of a replica: one step of the engine and what it brings into the update. Private to
 * cluster/replica.c. */
#ifndef WP_CLUSTER_REPLICA_STEP_H
#define WP_CLUSTER_REPLICA_STEP_H

#include "cluster/engine.h"
#include "cluster/entry_ring.h"
#include "cluster/replica.h"

struct wp_replica {
    struct raft raft;
    struct wp_replica_config config;
    bool started;
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

/* Number of this update's write, drawn at first use. */
uint64_t wp_replica_write_number(struct wp_replica *replica);
/* Adds an entry to the log in memory and to the update. WP_OK or WP_E_NOMEM. */
int wp_replica_hand_out(struct wp_replica *replica, const struct wp_log_entry *entry);
/* Reads hard state, commit and membership from the engine, parks when hard state changed. */
int wp_replica_observe(struct wp_replica *replica);

#endif
