/* A whole Raft group in one process: groups on simulated disks, a network that delays, loses, repeats and
 * reorders, partitions, crashes that lose unsynced writes, membership changes. One seed is one run; nothing
 * else is random.
 *
 * Checked at every step (Ongaro 2014, figure 3.2, and reliability.md I7): one leader per term; an (index,
 * term) names one entry with one predecessor everywhere (log matching); a new leader holds every committed
 * entry (leader completeness); commit never goes back; nothing is applied that is not synced on that disk;
 * all replicas apply the same commands in the same order, over restarts too; the committed membership is the
 * one of its entry; two leaders never hold, at the same time, a lease younger than the election timeout
 * (without early elections). At the end, healed: one leader, everything acknowledged applied by every member.
 */
#ifndef WP_TESTS_CLUSTER_SIM_H
#define WP_TESTS_CLUSTER_SIM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_options {
    uint64_t seed;
    uint32_t node_count; /* 1, 3 or 5 */
    bool membership;     /* changes of membership, starting with three of five */
    /* Logs are cut close behind; only crashes and short restarts, so that nobody falls behind them. */
    bool compaction;
    /* Logs are cut close behind, with all faults: who falls behind gets a snapshot, and may crash at each of
     * its steps. */
    bool snapshots;
    /* Now and then a crash takes shard and log of one node, as when the files of an installation are damaged.
     */
    bool forgetting;
    bool early; /* followers are told when the leader's connection breaks; leases are not checked */
    uint32_t duration_ms;
};

struct sim_result {
    char breach[160]; /* empty: every check held */
    uint64_t at_ms;
    uint64_t trace;    /* hash of everything that happened; equal for equal options */
    uint64_t commands; /* acknowledged */
    uint64_t terms;
    uint64_t crashes;
    uint64_t changes;   /* membership changes committed */
    uint64_t transfers; /* of leadership, begun */
    uint64_t leases;    /* milliseconds in which an answer left a leader with one */
    uint64_t snapshots; /* installed */
    uint64_t cut_off;   /* installations that a crash interrupted */
    uint64_t forgot;    /* nodes that lost shard and log, but not their hard state */
    uint64_t compacted; /* nodes whose log no longer begins at 1 */
};

void sim_run(const struct sim_options *options, struct sim_result *ret_result);

#endif
