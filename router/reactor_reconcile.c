/* The groups that are led here, on their way to the replicas that are wanted (router/reconcile.h says which
 * step is next). */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "router/reactor_report.h"
#include "router/reconcile.h"

#define STEP_MS 200u
/* Entries that a learner may be behind when it is promoted: they are on their way. */
#define CAUGHT_UP_LAG_MAX 1000u

struct parts {
    struct wp_membership wanted;
    uint64_t voters[WP_REPLICA_MEMBERS_MAX];
    uint64_t learners[WP_REPLICA_MEMBERS_MAX];
    uint64_t gone[WP_REPLICA_MEMBERS_MAX];
    struct wp_step_peer peers[2 * WP_REPLICA_MEMBERS_MAX];
};

/* Whether the replica is at work, or could begin when it is called. */
static bool id_reachable(const struct shard *shard, uint64_t id)
{
    const struct wp_reactor *reactor = shard->reactor;
    uint32_t node = wp_raft_id_node(id);
    if (!wp_report_of(reactor, node) || !wp_router_up(reactor, node, shard->number)) {
        return false;
    }
    const struct group_report *report = wp_report_of_group(reactor, node, shard->number, WP_REPORT_FRESH_MS);
    return (report && report->replica == id) || wp_roster_replica(reactor->roster, shard->number, node) == id;
}

/* It has applied the change that made it a member, and nearly everything since. */
static bool id_caught_up(const struct shard *shard, uint64_t id, uint64_t membership_index)
{
    const struct group_report *report =
        wp_report_of_group(shard->reactor, wp_raft_id_node(id), shard->number, WP_REPORT_FRESH_MS);
    return report && report->replica == id && report->applied_index >= membership_index &&
           wp_report_lag(shard, id) <= CAUGHT_UP_LAG_MAX;
}

static void peer_add(const struct shard *shard, uint64_t id, uint64_t membership_index, struct parts *parts,
    struct wp_step_view *view)
{
    if (id != shard->replica) {
        parts->peers[view->peer_count++] = (struct wp_step_peer){
            .id = id,
            .reachable = id_reachable(shard, id),
            .caught_up = id_caught_up(shard, id, membership_index),
        };
    }
}

/* The operator says that the node is dead, and so it looks. Its voter goes first, wanted or not: with the
 * dead one among four, the two that live are no majority, and who is promoted cannot vote before it knows of
 * it. */
static bool lost(const struct shard *shard, const struct wp_roster_node *node, uint64_t id)
{
    return node->replacing && id != shard->replica && !id_reachable(shard, id);
}

static void view_fill(const struct shard *shard, const struct wp_membership *membership,
    uint64_t membership_index, struct parts *parts, struct wp_step_view *view)
{
    const struct wp_roster *roster = shard->reactor->roster;
    *view = (struct wp_step_view){
        .membership = membership,
        .self = shard->replica,
        .voters = parts->voters,
        .learners = parts->learners,
        .peers = parts->peers,
        .gone = parts->gone,
    };
    wp_roster_membership(roster, shard->number, &parts->wanted);
    for (uint32_t i = 0; i < parts->wanted.count; i++) {
        const struct wp_member *member = &parts->wanted.members[i];
        if (member->role == WP_MEMBER_VOTER) {
            parts->voters[view->voter_count++] = member->id;
        } else {
            parts->learners[view->learner_count++] = member->id;
        }
        peer_add(shard, member->id, membership_index, parts, view);
    }
    for (uint32_t i = 0; i < membership->count; i++) {
        uint64_t id = membership->members[i].id;
        const struct wp_roster_node *node = wp_roster_node(roster, wp_raft_id_node(id));
        if (!node || node->state == WP_NODE_REMOVED || lost(shard, node, id)) {
            parts->gone[view->gone_count++] = id;
        }
        if (!wp_membership_find(&parts->wanted, id)) {
            peer_add(shard, id, membership_index, parts, view);
        }
    }
}

static void step_take(struct shard *shard, const struct wp_step *step)
{
    struct wp_reactor *reactor = shard->reactor;
    uint64_t index = 0;
    int error = step->kind == WP_STEP_CHANGE
                    ? wp_group_propose_change(shard->group, reactor->mono_ms, &step->next, &index)
                    : wp_group_transfer(shard->group, reactor->mono_ms, step->id);
    if (error && wp_error_class(error) == WP_CLASS_FATAL) {
        wp_reactor_fail(reactor, error, "changing a membership");
    } else if (!error) {
        wp_log(WP_LOG_INFO, "membership_step", "shard=%u step=%s replica=%llx index=%llu", shard->number,
            step->what, (unsigned long long)step->id, (unsigned long long)index);
    }
}

static void shard_reconcile(struct shard *shard)
{
    const struct wp_replica *replica = wp_group_replica(shard->group);
    const struct wp_membership membership = *wp_replica_membership(replica);
    uint64_t committed_index;
    const struct wp_membership *committed = wp_replica_committed_membership(replica, &committed_index);
    struct parts parts;
    struct wp_step_view view;
    struct wp_step step;
    if (membership.count != committed->count || memcmp(membership.members, committed->members,
                                                    membership.count * sizeof(membership.members[0])) != 0) {
        return; /* a change is under way */
    }
    view_fill(shard, &membership, committed_index, &parts, &view);
    wp_reconcile(&view, &step);
    if (step.kind != WP_STEP_NOTHING) {
        step_take(shard, &step);
    }
}

void wp_reconcile_tick(struct wp_reactor *reactor)
{
    if (reactor->roster->version == 0 || reactor->stopping) {
        return;
    }
    for (struct shard *shard = wp_group_next(reactor, NULL); shard && !reactor->failed;
         shard = wp_group_next(reactor, shard)) {
        if (!wp_group_leading(shard->group) || wp_group_transferring(shard->group) ||
            reactor->mono_ms < shard->steps_ms + STEP_MS) {
            continue;
        }
        shard->steps_ms = reactor->mono_ms;
        shard_reconcile(shard);
    }
}
