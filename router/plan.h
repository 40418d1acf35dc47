/* The planner: what should change next in the wanted replicas, from the roster and what is known of the
 * groups (docs/cluster.md, "Moving replicas"). Pure: the meta leader asks it about once a second and proposes
 * what it says as one WANTED_SET; nothing is remembered between two questions.
 *
 *   1. Replicas on nodes that are draining go elsewhere; a node that is replaced is removed when nothing is
 * left on it.
 *   2. Counts of replicas per active node differ by at most one, with the fewest moves.
 *
 * At most WP_PLAN_MOVING_MAX groups are in motion at a time, and a group only moves while a majority of its
 * present and of its next voters is reachable. */
#ifndef WP_ROUTER_PLAN_H
#define WP_ROUTER_PLAN_H

#include "router/roster.h"

#define WP_PLAN_MOVING_MAX 2u

/* What the leader of a group last told. */
struct wp_plan_group {
    bool known; /* there is a leader and it told lately */
    struct wp_membership membership;
};

struct wp_plan_view {
    const struct wp_roster *roster;
    const struct wp_plan_group *groups;  /* [group], 0..shard_count */
    bool reachable[WP_ROSTER_NODES_MAX]; /* by place in the roster */
};

enum wp_plan_kind { WP_PLAN_NOTHING, WP_PLAN_WANTED, WP_PLAN_REMOVE };

struct wp_plan {
    enum wp_plan_kind kind;
    uint32_t group; /* WANTED */
    struct wp_roster_wanted wanted;
    uint32_t from; /* node that a replica leaves, REMOVE: that is removed; 0 = none */
    uint32_t to;
};

void wp_plan_next(const struct wp_plan_view *view, struct wp_plan *ret_plan);
/* WANTED that takes the group's replica on `from` (0 = none) away and gives one to `to` (0 = none). */
void wp_plan_move(
    const struct wp_roster *roster, uint32_t group, uint32_t from, uint32_t to, struct wp_plan *ret_plan);

/* Whether voters of the group are still to come or to go: what is wanted on nodes that are not reachable does
 * not count, since nothing happens there. An unknown group is in motion. */
bool wp_plan_moving(const struct wp_plan_view *view, uint32_t group);
/* Whether the group has exactly the wanted voters, every one of them reachable. */
bool wp_plan_settled(const struct wp_plan_view *view, uint32_t group);
/* Whether a majority of the group's voters stays reachable when node `without` (0 = none) is not. */
bool wp_plan_majority(const struct wp_plan_view *view, uint32_t group, uint32_t without);
/* Whether the node has a replica among the members of any known group, the meta group's learners apart: a
 * node that is to be removed must have none. */
bool wp_plan_holds(const struct wp_plan_view *view, uint32_t number);

#endif
