/* What this reactor knows of the cluster (overview.h): of the groups that it leads from themselves, of others
 * from what their leaders report. */
#include "router/overview.h"

#include <stdio.h>
#include <string.h>

#include "proto/frame.h"
#include "router/reactor_meta.h"
#include "router/reactor_report.h"
#include "router/reactor_watch.h"

/* --- nodes
 * -------------------------------------------------------------------------------------------------- */

/* What the build of a node said that it can speak, on our connection to it. */
static uint32_t level_of(const struct wp_reactor *reactor, uint32_t node)
{
    for (uint32_t i = 0; i < reactor->router_count; i++) {
        const struct router_link *router = reactor->routers[i];
        if (router->node == node && router->up) {
            return wp_link_level_max(router->link);
        }
    }
    return 0;
}

static void node_fill(
    struct wp_reactor *reactor, const struct wp_roster_node *from, struct wp_overview_node *node)
{
    int64_t median_ms = wp_clock_median_ms(reactor);
    *node = (struct wp_overview_node){.number = from->number, .state = from->state};
    node->forgotten = wp_watch_rebuilding(reactor, from);
    snprintf(node->name, sizeof(node->name), "%s", from->name);
    snprintf(node->endpoint, sizeof(node->endpoint), "%s", from->endpoint);
    if (from->number == reactor->config.self) {
        node->self = node->reachable = true;
        node->level_max = WP_FEATURE_LEVEL_MAX;
        node->disk_full = reactor->disk_full;
        node->has_offset = reactor->report_count > 0;
        node->offset_ms = -median_ms;
    } else {
        const struct node_report *report = wp_report_of(reactor, from->number);
        node->reachable = report && wp_router_up(reactor, from->number, WP_META_GROUP);
        node->disk_full = report && report->disk_full;
        node->level_max = level_of(reactor, from->number);
        node->has_offset = report && report->has_offset;
        node->offset_ms = node->has_offset ? report->offset_ms - median_ms : 0;
    }
    int64_t off_ms = node->offset_ms < 0 ? -node->offset_ms : node->offset_ms;
    node->clock_off = node->has_offset && off_ms > (int64_t)WP_CLOCK_AHEAD_MS_MAX;
}

static void nodes_fill(struct wp_reactor *reactor, struct wp_overview *overview)
{
    const struct wp_roster *roster = reactor->roster;
    overview->roster_version = roster->version;
    overview->feature_level = roster->feature_level;
    overview->replication = roster->replication;
    overview->node_count = roster->node_count;
    overview->gateway_count = roster->gateway_count;
    memcpy(overview->gateways, roster->gateways, sizeof(overview->gateways));
    for (uint32_t i = 0; i < roster->node_count; i++) {
        node_fill(reactor, &roster->nodes[i], &overview->nodes[i]);
    }
}

/* --- groups
 * -------------------------------------------------------------------------------------------------- */

/* The newest leader that reports, and its report. */
static const struct group_report *leader_report(const struct wp_reactor *reactor, uint32_t group)
{
    const struct group_report *newest = NULL;
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        const struct group_report *report =
            wp_report_of_group(reactor, reactor->reports[i].node, group, WP_REPORT_FRESH_MS);
        if (report && report->leading && (!newest || report->term > newest->term)) {
            newest = report;
        }
    }
    return newest;
}

static void member_put(const struct wp_reactor *reactor, uint32_t number, struct wp_overview_group *group,
    const struct wp_member *from, uint64_t lag)
{
    uint32_t node = wp_raft_id_node(from->id);
    const struct wp_roster_node *of = wp_roster_node(reactor->roster, node);
    bool here = node == reactor->config.self;
    /* A start that is not in the roster yet could be rolled back unnoticed: nobody relies on it so far. */
    bool there = of && wp_watch_known(reactor, of) && wp_report_of(reactor, node);
    group->members[group->member_count++] = (struct wp_overview_member){
        .replica = from->id,
        .voter = from->role == WP_MEMBER_VOTER,
        .wanted = wp_roster_replica(reactor->roster, number, node) == from->id,
        .reachable = here || (there && wp_router_up(reactor, node, number)),
        .has_lag = lag != WP_LAG_UNKNOWN,
        .lag = lag != WP_LAG_UNKNOWN ? lag : 0,
    };
}

static void led_here(const struct shard *shard, struct wp_overview_group *group)
{
    uint64_t index;
    const struct wp_membership *membership =
        wp_replica_committed_membership(wp_group_replica(shard->group), &index);
    group->leader = shard->replica;
    group->term = wp_group_term(shard->group);
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        member_put(shard->reactor, shard->number, group, member, wp_report_lag(shard, member->id));
    }
}

static void led_elsewhere(const struct wp_reactor *reactor, uint32_t number,
    const struct group_report *report, struct wp_overview_group *group)
{
    uint32_t node = wp_raft_id_node(report->replica);
    if (!wp_router_up(reactor, node, number)) {
        return;
    }
    group->leader = report->replica;
    group->term = report->term;
    for (uint32_t i = 0; i < report->membership.count; i++) {
        member_put(reactor, number, group, &report->membership.members[i], report->lags[i]);
    }
}

/* A leader that did not report yet: what our own replica knows. */
static void led_unreported(const struct shard *shard, struct wp_overview_group *group)
{
    uint64_t index;
    const struct wp_membership *membership =
        wp_replica_committed_membership(wp_group_replica(shard->group), &index);
    uint64_t leader = wp_group_leader(shard->group);
    if (leader == 0 || leader == shard->replica ||
        !wp_router_up(shard->reactor, wp_raft_id_node(leader), shard->number)) {
        return;
    }
    group->leader = leader;
    group->term = wp_group_term(shard->group);
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        member_put(shard->reactor, shard->number, group, member, member->id == leader ? 0 : WP_LAG_UNKNOWN);
    }
}

void wp_reactor_overview_group(struct wp_reactor *reactor, uint32_t number, struct wp_overview_group *group)
{
    const struct wp_roster_wanted *wanted = &reactor->roster->wanted[number];
    const struct shard *shard = wp_reactor_group_of(reactor, number);
    const struct group_report *report = leader_report(reactor, number);
    *group = (struct wp_overview_group){.known = true, .wanted_count = wanted->count};
    for (uint32_t i = 0; i < wanted->count; i++) {
        group->wanted[i] = wanted->ids[i];
    }
    /* A leader that was cut off goes on reporting for a moment: the term tells which one is the present. */
    bool here =
        shard && wp_group_leading(shard->group) && (!report || report->term <= wp_group_term(shard->group));
    if (here) {
        led_here(shard, group);
    } else if (report && (!shard || report->term >= wp_group_term(shard->group))) {
        led_elsewhere(reactor, number, report, group);
    } else if (shard) {
        led_unreported(shard, group);
    }
    for (uint32_t i = 0; !group->leader && i < wanted->count; i++) {
        const struct wp_member member = {wanted->ids[i], WP_MEMBER_VOTER};
        member_put(reactor, number, group, &member, WP_LAG_UNKNOWN);
    }
}

void wp_reactor_overview(struct wp_reactor *reactor, struct wp_overview *overview)
{
    const struct wp_reactor_config *config = &reactor->config;
    if (config->index == 0) {
        nodes_fill(reactor, overview);
        wp_reactor_overview_group(reactor, WP_META_GROUP, &overview->groups[WP_META_GROUP]);
    }
    for (uint32_t number = 1 + config->index; number <= config->shard_count;
         number += config->reactor_count) {
        wp_reactor_overview_group(reactor, number, &overview->groups[number]);
    }
}
