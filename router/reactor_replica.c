/* Which replicas this node has, and under which raft id (docs/cluster.md).
 *
 * Invariants
 *   1. A replica is opened under the raft id that its hard state names; another one begins only on an empty
 *      store, under an id that was never used.
 *   2. A group is founded from the configuration only: once the meta group has a roster, a replica that has
 *      nothing waits until its leader adds it. */
#include "base/error.h"
#include "router/reactor_state.h"

static int entry_skip(void *context, const struct wp_log_entry *entry)
{
    (void)context;
    (void)entry;
    return WP_OK;
}

/* Raft id of the replica that the store has, 0 = none; *ret_written: something of the shard is there. */
static uint64_t replica_stored(struct wp_store *store, uint32_t number, bool *ret_written)
{
    struct wp_log_hard_state hard = {0};
    uint64_t applied, term;
    uint64_t first = 0, last = 0;
    wp_state_applied(store, number, &applied, &term);
    /* What is damaged or lost is found, and told, when the group is opened. */
    (void)wp_log_load(store, number, applied, &hard, entry_skip, NULL, &first, &last);
    *ret_written = applied > 0 || last > 0 || hard.term > 0;
    return hard.replica;
}

int wp_replica_find(struct wp_reactor *reactor, struct shard *shard, uint32_t number)
{
    const struct wp_roster *roster = reactor->roster;
    struct wp_membership founders;
    bool written;
    shard->reactor = reactor;
    shard->number = number;
    STAILQ_INIT(&shard->sealed);
    STAILQ_INIT(&shard->in_flight);
    uint64_t stored = replica_stored(reactor->config.store, number, &written);
    uint64_t wanted = wp_roster_replica(roster, number, reactor->config.self);
    if (stored && wp_raft_id_node(stored) == reactor->config.self) {
        wp_roster_membership(roster, number, &founders);
        return wp_shard_open(shard, stored, roster->version == 0 && stored == wanted ? &founders : NULL);
    }
    if (stored || !wanted || (roster->version > 0 && !written)) {
        return WP_OK; /* of a number that this node had before, or nobody's yet */
    }
    wp_roster_membership(roster, number, &founders);
    return wp_shard_open(shard, wanted, &founders);
}
