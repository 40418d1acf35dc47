/* Why the planner names one move per group at a time and never looks further ahead: each answer is a small
 * step from what is really there, so a plan that was overtaken by events is simply not the next answer. */
#include "router/plan.h"

#include <stddef.h>

/* --- what is there ----------------------------------------------------------------------------------------
 */

static uint32_t place_of(const struct wp_roster *roster, uint32_t number)
{
    uint32_t place = 0;
    while (place < roster->node_count && roster->nodes[place].number != number) {
        place++;
    }
    return place;
}

static bool node_reachable(const struct wp_plan_view *view, uint32_t number)
{
    uint32_t place = place_of(view->roster, number);
    return place < view->roster->node_count && view->roster->nodes[place].state != WP_NODE_REMOVED &&
           view->reachable[place];
}

static bool node_active(const struct wp_plan_view *view, uint32_t number)
{
    const struct wp_roster_node *node = wp_roster_node(view->roster, number);
    return node && node->state == WP_NODE_ACTIVE;
}

static bool wanted_has(const struct wp_roster_wanted *wanted, uint64_t id)
{
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (wanted->ids[i] == id) {
            return true;
        }
    }
    return false;
}

static bool wanted_on(const struct wp_roster_wanted *wanted, uint32_t number)
{
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (wp_raft_id_node(wanted->ids[i]) == number) {
            return true;
        }
    }
    return false;
}

static bool is_voter(const struct wp_membership *membership, uint64_t id)
{
    const struct wp_member *member = wp_membership_find(membership, id);
    return member && member->role == WP_MEMBER_VOTER;
}

bool wp_plan_moving(const struct wp_plan_view *view, uint32_t group)
{
    const struct wp_plan_group *known = &view->groups[group];
    const struct wp_roster_wanted *wanted = &view->roster->wanted[group];
    bool waits = false; /* for a node that is not there */
    if (!known->known) {
        return true;
    }
    for (uint32_t i = 0; i < wanted->count; i++) {
        bool there = is_voter(&known->membership, wanted->ids[i]);
        if (!there && node_reachable(view, wp_raft_id_node(wanted->ids[i]))) {
            return true;
        }
        waits = waits || !there;
    }
    for (uint32_t i = 0; i < known->membership.count && !waits; i++) {
        const struct wp_member *member = &known->membership.members[i];
        if (member->role == WP_MEMBER_VOTER && !wanted_has(wanted, member->id)) {
            return true;
        }
    }
    return false;
}

bool wp_plan_settled(const struct wp_plan_view *view, uint32_t group)
{
    const struct wp_plan_group *known = &view->groups[group];
    const struct wp_roster_wanted *wanted = &view->roster->wanted[group];
    if (!known->known || wp_membership_voter_count(&known->membership) != wanted->count) {
        return false;
    }
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (!is_voter(&known->membership, wanted->ids[i]) ||
            !node_reachable(view, wp_raft_id_node(wanted->ids[i]))) {
            return false;
        }
    }
    return true;
}

/* Voters of the group that are reachable; `without` counts as not. */
static uint32_t voters_reachable(const struct wp_plan_view *view, uint32_t group, uint32_t without)
{
    const struct wp_membership *membership = &view->groups[group].membership;
    uint32_t count = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        uint32_t number = wp_raft_id_node(member->id);
        count += member->role == WP_MEMBER_VOTER && number != without && node_reachable(view, number);
    }
    return count;
}

bool wp_plan_majority(const struct wp_plan_view *view, uint32_t group, uint32_t without)
{
    const struct wp_plan_group *known = &view->groups[group];
    return known->known &&
           voters_reachable(view, group, without) > wp_membership_voter_count(&known->membership) / 2;
}

bool wp_plan_holds(const struct wp_plan_view *view, uint32_t number)
{
    for (uint32_t group = 0; group <= view->roster->shard_count; group++) {
        const struct wp_membership *membership = &view->groups[group].membership;
        for (uint32_t i = 0; i < membership->count && view->groups[group].known; i++) {
            const struct wp_member *member = &membership->members[i];
            if (wp_raft_id_node(member->id) == number &&
                (group != WP_META_GROUP || member->role == WP_MEMBER_VOTER)) {
                return true;
            }
        }
    }
    return false;
}

/* --- one change -------------------------------------------------------------------------------------------
 */

/* Voters that lose their vote before anything else happens: their node is given up and not there. */
static uint32_t voters_lost(const struct wp_plan_view *view, uint32_t group)
{
    const struct wp_membership *membership = &view->groups[group].membership;
    uint32_t count = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        const struct wp_roster_node *node = wp_roster_node(view->roster, wp_raft_id_node(member->id));
        count += member->role == WP_MEMBER_VOTER && (!node || node->replacing) &&
                 !node_reachable(view, wp_raft_id_node(member->id));
    }
    return count;
}

/* For a moment the new replica is a voter beside the old one, and cannot vote itself before it heard of that:
 * a majority of one voter more must be there among those that vote now. So a group with one voter never
 * moves, and one of three with a voter down waits until it is back, or given up. */
static bool may_move(const struct wp_plan_view *view, uint32_t group)
{
    const struct wp_membership *membership = &view->groups[group].membership;
    if (wp_plan_moving(view, group) || !wp_plan_majority(view, group, 0)) {
        return false;
    }
    uint32_t voters = wp_membership_voter_count(membership) - voters_lost(view, group);
    return voters_reachable(view, group, 0) > (voters + 1) / 2;
}

void wp_plan_move(
    const struct wp_roster *roster, uint32_t group, uint32_t from, uint32_t to, struct wp_plan *ret_plan)
{
    const struct wp_roster_wanted *wanted = &roster->wanted[group];
    struct wp_plan plan = {.kind = WP_PLAN_WANTED, .group = group, .from = from, .to = to};
    const struct wp_roster_node *node = wp_roster_node(roster, to);
    uint64_t added = node ? WP_RAFT_ID(to, node->generation + 1) : 0;
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (added && added < wanted->ids[i]) {
            plan.wanted.ids[plan.wanted.count++] = added;
            added = 0;
        }
        if (wp_raft_id_node(wanted->ids[i]) != from) {
            plan.wanted.ids[plan.wanted.count++] = wanted->ids[i];
        }
    }
    if (added) {
        plan.wanted.ids[plan.wanted.count++] = added;
    }
    *ret_plan = plan;
}

/* Whether a replica of the group may come to the node. */
static bool may_take(const struct wp_plan_view *view, uint32_t group, uint32_t number)
{
    return node_active(view, number) && node_reachable(view, number) &&
           !wanted_on(&view->roster->wanted[group], number);
}

/* `first` if it may take a replica of the group, else the least loaded node that may; 0 = none. */
static uint32_t taker_of(const struct wp_plan_view *view, uint32_t group, uint32_t first)
{
    const struct wp_roster *roster = view->roster;
    uint32_t best = 0;
    uint32_t best_load = 0;
    if (first && may_take(view, group, first)) {
        return first;
    }
    for (uint32_t i = 0; i < roster->node_count; i++) {
        uint32_t number = roster->nodes[i].number;
        uint32_t load = wp_roster_replica_count(roster, number);
        if (may_take(view, group, number) && (best == 0 || load < best_load)) {
            best = number;
            best_load = load;
        }
    }
    return best;
}

/* --- 1. off the nodes that go
 * -------------------------------------------------------------------------------- */

static const struct wp_roster_node *leaver_of(const struct wp_plan_view *view, uint32_t group)
{
    const struct wp_roster_wanted *wanted = &view->roster->wanted[group];
    for (uint32_t i = 0; i < wanted->count; i++) {
        const struct wp_roster_node *node = wp_roster_node(view->roster, wp_raft_id_node(wanted->ids[i]));
        if (node && node->state != WP_NODE_ACTIVE) {
            return node;
        }
    }
    return NULL;
}

static bool plan_leavers(const struct wp_plan_view *view, struct wp_plan *plan)
{
    for (uint32_t shard = 1; shard <= view->roster->shard_count; shard++) {
        const struct wp_roster_node *from = leaver_of(view, shard);
        uint32_t to = from && may_move(view, shard) ? taker_of(view, shard, from->replaced_by) : 0;
        if (to) {
            wp_plan_move(view->roster, shard, from->number, to, plan);
            return true;
        }
    }
    return false;
}

/* A group without a leader may still have members on the node, so every group must be known. */
static bool plan_removal(const struct wp_plan_view *view, struct wp_plan *plan)
{
    for (uint32_t group = 0; group <= view->roster->shard_count; group++) {
        if (!view->groups[group].known) {
            return false;
        }
    }
    for (uint32_t i = 0; i < view->roster->node_count; i++) {
        const struct wp_roster_node *node = &view->roster->nodes[i];
        if (node->state == WP_NODE_DRAINING && node->replacing &&
            wp_roster_replica_count(view->roster, node->number) == 0 && !wp_plan_holds(view, node->number)) {
            *plan = (struct wp_plan){.kind = WP_PLAN_REMOVE, .from = node->number};
            return true;
        }
    }
    return false;
}

/* --- 2. even counts
 * -------------------------------------------------------------------------------------------- */

static bool plan_balance(const struct wp_plan_view *view, struct wp_plan *plan)
{
    const struct wp_roster *roster = view->roster;
    uint32_t most = 0, least = 0, most_load = 0, least_load = 0;
    for (uint32_t i = 0; i < roster->node_count; i++) {
        uint32_t number = roster->nodes[i].number;
        uint32_t load = wp_roster_replica_count(roster, number);
        if (!node_active(view, number) || !node_reachable(view, number)) {
            continue;
        }
        if (!most || load > most_load) {
            most = number;
            most_load = load;
        }
        if (!least || load < least_load) {
            least = number;
            least_load = load;
        }
    }
    for (uint32_t shard = 1; shard <= roster->shard_count && most_load > least_load + 1; shard++) {
        if (wanted_on(&roster->wanted[shard], most) && may_take(view, shard, least) &&
            may_move(view, shard)) {
            wp_plan_move(roster, shard, most, least, plan);
            return true;
        }
    }
    return false;
}

/* A group that lost its majority stands still whatever is wanted: it does not keep others from moving. */
static bool counts_as_moving(const struct wp_plan_view *view, uint32_t group)
{
    const struct wp_roster_wanted *wanted = &view->roster->wanted[group];
    uint32_t reachable = 0;
    for (uint32_t i = 0; i < wanted->count; i++) {
        reachable += node_reachable(view, wp_raft_id_node(wanted->ids[i]));
    }
    return wp_plan_moving(view, group) && (view->groups[group].known || reachable > wanted->count / 2);
}

void wp_plan_next(const struct wp_plan_view *view, struct wp_plan *ret_plan)
{
    *ret_plan = (struct wp_plan){.kind = WP_PLAN_NOTHING};
    uint32_t moving = 0;
    for (uint32_t shard = 1; shard <= view->roster->shard_count; shard++) {
        moving += counts_as_moving(view, shard);
    }
    if (plan_removal(view, ret_plan) || moving >= WP_PLAN_MOVING_MAX) {
        return;
    }
    if (!plan_leavers(view, ret_plan)) {
        plan_balance(view, ret_plan);
    }
}
