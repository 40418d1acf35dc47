/* Leadership moves by Raft's transfer only (Ongaro 2014, 3.10): the log goes on without a gap, and proposals
 * that wait meanwhile are answered "not-leader" and sent to the new leader by their gateways.
 *
 * Invariants
 *   1. Nothing is given to a node that says that it gives everything away itself (it yields): routers that
 *      stop together would hand their shards to and fro.
 *   2. What the operator put on a node stays there until the shard has another leader, for whatever reason.
 */
#include "router/reactor_lead.h"

#include "base/error.h"
#include "base/log.h"
#include "router/overview.h"

/* A leadership is given to the replica that should have it at most so often, and not before it settled. */
#define SPREAD_MS 2000u
#define SPREAD_SETTLED_MS 10000u
/* Entries that the one who should lead may be behind. */
#define SPREAD_LAG_MAX 1000u

/* Who could take the shard at once; 0: nobody, since no other voter is connected that does not yield. */
static uint64_t successor(const struct shard *shard)
{
    const struct wp_replica *replica = wp_group_replica(shard->group);
    const struct wp_membership *membership = wp_replica_membership(replica);
    uint64_t avoid[WP_REPLICA_MEMBERS_MAX];
    uint32_t avoid_count = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        uint32_t node = wp_raft_id_node(membership->members[i].id);
        if (wp_report_yields(shard->reactor, node) || !wp_router_up(shard->reactor, node, shard->number)) {
            avoid[avoid_count++] = membership->members[i].id;
        }
    }
    return wp_replica_successor(replica, avoid, avoid_count);
}

static void hand_over(struct shard *shard, uint64_t to, const char *reason)
{
    if (to == 0 || wp_group_transferring(shard->group) != 0) {
        return;
    }
    int error = wp_group_transfer(shard->group, shard->reactor->mono_ms, to);
    if (!error) {
        shard->handover.to = to;
        wp_log(WP_LOG_INFO, "leadership_handed_over", "shard=%u term=%llu to=%u reason=%s", shard->number,
            (unsigned long long)wp_group_term(shard->group), wp_raft_id_node(to), reason);
    } else if (wp_error_class(error) == WP_CLASS_FATAL) {
        wp_reactor_fail(shard->reactor, error, "handing over leadership");
    }
}

/* We lead although we gave it away, and nothing is under way any more. */
static void failure_take(struct shard *shard)
{
    uint64_t to = shard->handover.to;
    if (to == 0 || wp_group_transferring(shard->group) != 0) {
        return;
    }
    shard->placed_to = 0;
    if (wp_handover_failed(&shard->handover, shard->reactor->mono_ms)) {
        wp_log(WP_LOG_WARN, "leadership_not_taken", "shard=%u term=%llu to=%u reason=\"%s\"", shard->number,
            (unsigned long long)wp_group_term(shard->group), wp_raft_id_node(to),
            wp_replica_transfer_failure(wp_group_replica(shard->group)));
    }
}

/* What we tell the one whom the operator gave the shard holds as long as it leads. */
static void placed_forget(struct shard *shard)
{
    uint64_t leader = wp_group_leader(shard->group);
    if (leader != 0 && leader != shard->replica && leader != shard->placed_to) {
        shard->placed_to = 0;
    }
}

/* The replica that leads when all are well: shards take turns among their wanted replicas. */
static uint64_t preferred(const struct shard *shard)
{
    const struct wp_roster_wanted *wanted = &shard->reactor->roster->wanted[shard->number];
    uint32_t turn = shard->number == WP_META_GROUP ? 0 : shard->number - 1;
    return wanted->count ? wanted->ids[turn % wanted->count] : 0;
}

/* Whether all replicas of the node are in step: one that fills its shards would lead slowly. Of groups that
 * another reactor of this node leads nothing is known here. */
static bool node_in_step(struct wp_reactor *reactor, uint32_t node)
{
    const struct wp_roster *roster = reactor->roster;
    struct wp_overview_group group;
    for (uint32_t number = 1; number <= roster->shard_count; number++) {
        uint64_t id = wp_roster_replica(roster, number, node);
        bool here = wp_reactor_of(number, reactor->config.reactor_count) == reactor->config.index;
        wp_reactor_overview_group(reactor, number, &group);
        if (id == 0 || (!here && group.leader == 0)) {
            continue;
        }
        bool in_step = false;
        for (uint32_t i = 0; i < group.member_count; i++) {
            const struct wp_overview_member *member = &group.members[i];
            in_step = in_step || (member->replica == id && member->has_lag && member->lag <= SPREAD_LAG_MAX);
        }
        if (!in_step) {
            return false;
        }
    }
    return true;
}

static bool spread_due(const struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    uint64_t to = preferred(shard);
    if (to == 0 || to == shard->replica || shard->handover.placed ||
        wp_report_yields(reactor, wp_raft_id_node(to)) ||
        reactor->mono_ms < shard->leading_ms + SPREAD_SETTLED_MS) {
        return false;
    }
    const struct wp_member *member =
        wp_membership_find(wp_replica_membership(wp_group_replica(shard->group)), to);
    const struct group_report *report =
        wp_report_of_group(reactor, wp_raft_id_node(to), shard->number, WP_REPORT_FRESH_MS);
    return member && member->role == WP_MEMBER_VOTER && report && report->replica == to &&
           report->last_index + SPREAD_LAG_MAX >= wp_replica_last_index(wp_group_replica(shard->group)) &&
           wp_router_up(reactor, wp_raft_id_node(to), shard->number) &&
           node_in_step(reactor, wp_raft_id_node(to));
}

void wp_leads_tick(struct wp_reactor *reactor)
{
    bool may_spread = reactor->mono_ms >= reactor->spread_ms + SPREAD_MS;
    for (struct shard *shard = wp_group_next(reactor, NULL); shard; shard = wp_group_next(reactor, shard)) {
        if (!wp_group_leading(shard->group)) {
            placed_forget(shard);
            continue;
        }
        failure_take(shard);
        if (reactor->stopping) {
            hand_over(shard, successor(shard), "stop");
        } else if (!wp_handover_may(&shard->handover, reactor->mono_ms)) {
            continue;
        } else if (reactor->clock_off && reactor->mono_ms >= shard->leading_ms + SPREAD_MS) {
            hand_over(shard, successor(shard), "clock");
        } else if (may_spread && !reactor->clock_off && spread_due(shard)) {
            hand_over(shard, preferred(shard), "spread");
            reactor->spread_ms = reactor->mono_ms;
            may_spread = false;
        }
    }
}

int wp_reactor_transfer(struct wp_reactor *reactor, uint32_t number, uint32_t to)
{
    struct shard *shard = wp_reactor_shard(reactor, number);
    if (!shard || !wp_group_leading(shard->group)) {
        return WP_E_NOT_LEADER;
    }
    if (to == reactor->config.self) {
        shard->handover.placed = true; /* it leads already, and is to go on */
        return WP_E_EXISTS;
    }
    const struct wp_membership *membership = wp_replica_membership(wp_group_replica(shard->group));
    const struct wp_member *found = NULL;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        if (wp_raft_id_node(member->id) == to && member->role == WP_MEMBER_VOTER) {
            found = member;
        }
    }
    if (!found) {
        return WP_E_NOT_FOUND;
    }
    if (wp_group_transferring(shard->group) != 0 || !wp_router_up(reactor, to, number) ||
        wp_report_yields(reactor, to)) {
        return WP_E_UNAVAILABLE;
    }
    hand_over(shard, found->id, "operator");
    if (wp_group_transferring(shard->group) != found->id) {
        return WP_E_UNAVAILABLE;
    }
    shard->placed_to = found->id;
    return WP_OK;
}

bool wp_leads_handed_over(struct wp_reactor *reactor)
{
    for (struct shard *shard = wp_group_next(reactor, NULL); shard; shard = wp_group_next(reactor, shard)) {
        if (wp_group_leading(shard->group) && successor(shard) != 0) {
            return false;
        }
    }
    return true;
}

void wp_leads_lost(struct wp_reactor *reactor, const struct router_link *router)
{
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, router->node);
    for (struct shard *shard = wp_group_next(reactor, NULL); node && shard;
         shard = wp_group_next(reactor, shard)) {
        if (wp_raft_id_node(wp_group_leader(shard->group)) == router->node &&
            wp_reactor_of(shard->number, node->reactors) == router->index) {
            wp_group_leader_lost(shard->group, reactor->mono_ms);
        }
    }
}
