/* Which replicas this node has, and under which raft id (docs/cluster.md).
 *
 *     open --called under a newer id, or removed--> closing --log done, no reads--> wiping --> open | none
 *
 * Invariants
 *   1. A replica is opened under the raft id that its hard state names; another one begins only on an empty
 *      store, under an id that was never used.
 *   2. A group is founded from the configuration only: once the meta group has a roster, a replica that has
 *      nothing waits until its leader adds it.
 *   3. A replica is freed when the log has completed its writes and no read of it is under way; then the
 * store is wiped on a worker thread, and only then the next one begins. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "router/reactor_form.h"
#include "router/reactor_report.h"

#define UNWANTED_MS 3000u

/* --- at start
 * ---------------------------------------------------------------------------------------------------
 */

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

static int replica_find(struct wp_reactor *reactor, struct shard *shard, uint32_t number)
{
    const struct wp_roster *roster = reactor->roster;
    struct wp_membership founders;
    bool written;
    shard->reactor = reactor;
    shard->number = number;
    STAILQ_INIT(&shard->sealed);
    STAILQ_INIT(&shard->in_flight);
    uint64_t stored = replica_stored(reactor->config.store, number, &written);
    if (number == WP_META_GROUP && reactor->config.self == 0 && stored) {
        reactor->config.self = wp_raft_id_node(stored); /* it joined before, and has no roster yet */
    }
    uint64_t wanted = wp_roster_replica(roster, number, reactor->config.self);
    wp_roster_membership(roster, number, &founders);
    if (stored && wp_raft_id_node(stored) == reactor->config.self) {
        return wp_shard_open(shard, stored, roster->version == 0 && stored == wanted ? &founders : NULL);
    }
    if (stored || !wanted || (roster->version > 0 && !written)) {
        return WP_OK; /* of a number that this node had before, or nobody's yet */
    }
    return wp_shard_open(shard, wanted, &founders);
}

int wp_replica_find(struct wp_reactor *reactor, struct shard *shard, uint32_t number)
{
    int error = replica_find(reactor, shard, number);
    if (!error && shard->group) {
        wp_form_bar(shard);
    }
    return error;
}

/* --- at work
 * ----------------------------------------------------------------------------------------------------
 */

struct replica_change {
    uv_work_t work;
    struct shard *shard;
    struct wp_group *closed; /* the old group; NULL = there was none */
    uint64_t replica;        /* the new one; 0 = none */
    bool log_done;           /* atomic: the log has completed the old group's writes */
    bool drained;            /* and a turn has passed since, which took the completions that came before */
    bool working;
    int error;
};

/* On the committer's thread; the next tick sees it. A job would be refused by a reactor that has too many. */
static void log_done(void *context, uint64_t tag)
{
    struct replica_change *change = context;
    (void)tag;
    __atomic_store_n(&change->log_done, true, __ATOMIC_RELEASE);
}

/* From here on nobody finds the replica that is here. */
static void change_begin(struct shard *shard, uint64_t replica, const char *why)
{
    struct wp_reactor *reactor = shard->reactor;
    struct replica_change *change = calloc(1, sizeof(*change));
    if (!change) {
        return; /* the next message or tick tries again */
    }
    wp_log(WP_LOG_INFO, "replica_changes", "shard=%u from=%llx to=%llx reason=%s", shard->number,
        (unsigned long long)shard->replica, (unsigned long long)replica, why);
    if (shard->group) {
        wp_shard_refuse_all(shard, WP_E_NOT_LEADER);
    }
    if (shard->group && shard->dispatch) {
        wp_dispatch_kick_all(shard->dispatch, WP_E_NOT_LEADER);
        while (wp_shard_pump(shard)) {
        }
    }
    change->shard = shard;
    change->replica = replica;
    change->closed = shard->group;
    shard->group = NULL;
    shard->change = change;
    shard->unwanted_ms = 0;
    const struct wp_log_write write = {.shard = shard->number, .done = log_done, .context = change};
    int error = wp_log_submit(reactor->config.store, &write);
    if (error) {
        wp_reactor_fail(reactor, error, "closing a replica");
    }
}

static void wipe_work(uv_work_t *work)
{
    struct replica_change *change = work->data;
    const struct wp_log_hard_state hard = {.replica = change->replica};
    change->error = wp_store_shard_wipe(change->shard->reactor->config.store, change->shard->number, &hard);
}

static void wipe_after(uv_work_t *work, int status)
{
    struct replica_change *change = work->data;
    struct shard *shard = change->shard;
    struct wp_reactor *reactor = shard->reactor;
    uint64_t replica = change->replica;
    int error = change->error;
    shard->change = NULL;
    free(change);
    if (status || reactor->closing || reactor->failed) {
        return;
    }
    wp_reactor_clock(reactor);
    if (!error && replica) {
        error = wp_shard_open(shard, replica, NULL);
        error = error ? error : wp_group_start(shard->group, reactor->mono_ms);
    }
    if (error) {
        wp_reactor_fail(reactor, error, "beginning a replica");
        return;
    }
    wp_log(WP_LOG_INFO, "replica_changed", "shard=%u replica=%llx", shard->number,
        (unsigned long long)shard->replica);
    wp_reactor_settle(reactor);
}

static void change_tick(struct replica_change *change)
{
    struct shard *shard = change->shard;
    bool drained = change->drained;
    change->drained = __atomic_load_n(&change->log_done, __ATOMIC_ACQUIRE);
    if (!drained || change->working || shard->reads > 0 || shard->reactor->stopping) {
        return;
    }
    wp_group_destroy(&change->closed);
    wp_shard_shut(shard);
    change->working = true;
    change->work.data = change;
    if (uv_queue_work(&shard->reactor->loop, &change->work, wipe_work, wipe_after)) {
        wp_reactor_fail(shard->reactor, WP_E_NOMEM, "wiping a replica");
    }
}

static struct shard *slot_of(struct wp_reactor *reactor, uint32_t group)
{
    const struct wp_reactor_config *config = &reactor->config;
    if (group > config->shard_count || wp_reactor_of(group, config->reactor_count) != config->index) {
        return NULL;
    }
    return &reactor
                ->shards[group == WP_META_GROUP ? reactor->shard_count : (group - 1) / config->reactor_count];
}

void wp_replica_called(struct wp_reactor *reactor, uint32_t group, uint64_t to)
{
    struct shard *shard = slot_of(reactor, group);
    const struct wp_roster *roster = reactor->roster;
    if (!shard || shard->change || shard->replacing || reactor->stopping || to <= shard->replica) {
        return;
    }
    if (reactor->config.self == 0 && group == WP_META_GROUP && roster->version == 0) {
        reactor->config.self =
            wp_raft_id_node(to); /* a node that joins learns its number from who calls it */
    }
    /* The meta group is where a node with an old roster, or none, learns what is wanted. */
    bool wanted = wp_roster_replica(roster, group, reactor->config.self) == to ||
                  (group == WP_META_GROUP && (roster->version == 0 || shard->replica));
    if (wp_raft_id_node(to) == reactor->config.self && wanted) {
        change_begin(shard, to, "called");
    }
}

/* Whether the group goes on without this replica: the roster does not want it, and a leader of a term not
 * below ours reports a membership that it is no part of. */
static bool removed(struct wp_reactor *reactor, const struct shard *shard)
{
    const struct wp_roster *roster = reactor->roster;
    if (roster->version == 0 || shard->number == WP_META_GROUP || wp_group_leading(shard->group) ||
        wp_roster_replica(roster, shard->number, reactor->config.self) == shard->replica) {
        return false;
    }
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        const struct group_report *report =
            wp_report_of_group(reactor, reactor->reports[i].node, shard->number, WP_REPORT_FRESH_MS);
        if (report && report->leading && report->term >= wp_group_term(shard->group) &&
            report->membership.count > 0 && !wp_membership_find(&report->membership, shard->replica)) {
            return true;
        }
    }
    return false;
}

void wp_replicas_tick(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i <= reactor->shard_count && !reactor->failed; i++) {
        struct shard *shard = &reactor->shards[i];
        if (shard->change) {
            change_tick(shard->change);
        } else if (shard->group && removed(reactor, shard)) {
            shard->unwanted_ms = shard->unwanted_ms ? shard->unwanted_ms : reactor->mono_ms;
            if (reactor->mono_ms - shard->unwanted_ms >= UNWANTED_MS && !reactor->stopping) {
                change_begin(shard, 0, "removed");
            }
        } else {
            shard->unwanted_ms = 0;
        }
    }
}

bool wp_replicas_busy(const struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i <= reactor->shard_count; i++) {
        if (reactor->shards[i].change && reactor->shards[i].change->working) {
            return true;
        }
    }
    return false;
}

void wp_replicas_free(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i <= reactor->shard_count && reactor->shards; i++) {
        struct replica_change *change = reactor->shards[i].change;
        if (change) {
            wp_group_destroy(&change->closed);
            free(change);
        }
    }
}
