/* The planner and the step of a group's leader, played against each other over the meta group's machine:
 * clusters to which anything happens come to rest where they should, on a path of safe steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "router/plan.h"
#include "router/reconcile.h"
#include "tests/unit/meta_fixture.h"

struct world {
    struct meta_fixture f;
    struct wp_plan_group groups[META_SHARDS + 1];
    bool up[64]; /* by node number */
    bool caught_up[64];
    uint32_t changes; /* of wanted replicas */
    struct wp_prng prng;
};

static void world_init(struct world *w, uint32_t nodes, uint32_t replication, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    meta_init(&w->f);
    wp_prng_init(&w->prng, seed);
    assert_int_equal(meta_bootstrap(&w->f, nodes, replication), WP_OK);
    for (uint32_t group = 0; group <= META_SHARDS; group++) {
        wp_roster_membership(meta_roster(&w->f), group, &w->groups[group].membership);
        w->groups[group].known = true;
    }
    memset(w->up, true, sizeof(w->up));
    memset(w->caught_up, true, sizeof(w->caught_up));
}

static struct wp_plan_view view_of(const struct world *w)
{
    struct wp_plan_view view = {.roster = meta_roster(&w->f), .groups = w->groups};
    for (uint32_t i = 0; i < view.roster->node_count; i++) {
        view.reachable[i] = w->up[view.roster->nodes[i].number];
    }
    return view;
}

static uint32_t up_count(const struct world *w, const struct wp_membership *membership)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        count += member->role == WP_MEMBER_VOTER && w->up[wp_raft_id_node(member->id)];
    }
    return count;
}

static bool has_majority(const struct world *w, const struct wp_membership *membership)
{
    return up_count(w, membership) > wp_membership_voter_count(membership) / 2;
}

/* As the replica judges it: those that vote before and after the change, and live, are a majority of both;
 * who is promoted cannot vote yet. */
static bool is_electable(
    const struct world *w, const struct wp_membership *from, const struct wp_membership *to)
{
    uint32_t knowing = 0;
    for (uint32_t i = 0; i < to->count; i++) {
        const struct wp_member *member = &to->members[i];
        const struct wp_member *now = wp_membership_find(from, member->id);
        knowing += member->role == WP_MEMBER_VOTER && now && now->role == WP_MEMBER_VOTER &&
                   w->up[wp_raft_id_node(member->id)];
    }
    return knowing > wp_membership_voter_count(to) / 2 && knowing > wp_membership_voter_count(from) / 2;
}

/* One step of the group's leader, who is some voter that is up. True when there was one. */
static bool group_step(struct world *w, uint32_t group)
{
    struct wp_plan_group *known = &w->groups[group];
    uint64_t self = 0;
    known->known = has_majority(w, &known->membership);
    for (uint32_t i = 0; i < known->membership.count && known->known; i++) {
        const struct wp_member *member = &known->membership.members[i];
        if (member->role == WP_MEMBER_VOTER && w->up[wp_raft_id_node(member->id)] &&
            (!self || wp_prng_below(&w->prng, 2))) {
            self = member->id;
        }
    }
    if (!self) {
        return false;
    }
    struct wp_membership wanted;
    struct wp_step_peer peers[2 * WP_REPLICA_MEMBERS_MAX];
    uint64_t voters[WP_REPLICA_MEMBERS_MAX], learners[WP_REPLICA_MEMBERS_MAX], gone[WP_REPLICA_MEMBERS_MAX];
    struct wp_step_view view = {.membership = &known->membership,
        .gone = gone,
        .self = self,
        .voters = voters,
        .learners = learners,
        .peers = peers};
    wp_roster_membership(meta_roster(&w->f), group, &wanted);
    for (uint32_t i = 0; i < wanted.count; i++) {
        uint32_t node = wp_raft_id_node(wanted.members[i].id);
        if (wanted.members[i].role == WP_MEMBER_VOTER) {
            voters[view.voter_count++] = wanted.members[i].id;
        } else {
            learners[view.learner_count++] = wanted.members[i].id;
        }
        peers[view.peer_count++] =
            (struct wp_step_peer){wanted.members[i].id, w->up[node], w->caught_up[node]};
    }
    for (uint32_t i = 0; i < known->membership.count; i++) {
        uint64_t id = known->membership.members[i].id;
        const struct wp_roster_node *node = wp_roster_node(meta_roster(&w->f), wp_raft_id_node(id));
        if (!node || (node->replacing && !w->up[node->number])) {
            gone[view.gone_count++] = id;
        }
        if (!wp_membership_find(&wanted, id)) {
            peers[view.peer_count++] = (struct wp_step_peer){id, w->up[wp_raft_id_node(id)], true};
        }
    }
    struct wp_step step;
    wp_reconcile(&view, &step);
    if (step.kind == WP_STEP_CHANGE) {
        assert_true(wp_membership_one_step(&known->membership, &step.next));
        assert_true(has_majority(w, &step.next));
        if (!is_electable(w, &known->membership, &step.next)) {
            return false; /* refused: it is tried again later */
        }
        known->membership = step.next;
    } else if (step.kind == WP_STEP_TRANSFER) {
        assert_true(step.id != self && w->up[wp_raft_id_node(step.id)]);
    }
    return step.kind != WP_STEP_NOTHING;
}

static bool plan_step(struct world *w)
{
    struct wp_plan_view view = view_of(w);
    struct wp_plan plan;
    wp_plan_next(&view, &plan);
    if (plan.kind == WP_PLAN_REMOVE) {
        assert_int_equal(meta_node_state(&w->f, plan.from, WP_NODE_REMOVED), WP_OK);
    } else if (plan.kind == WP_PLAN_WANTED) {
        uint32_t moving = 0;
        for (uint32_t shard = 1; shard <= META_SHARDS; shard++) {
            moving += w->groups[shard].known && wp_plan_moving(&view, shard);
        }
        assert_true(moving < WP_PLAN_MOVING_MAX);
        assert_true(has_majority(w, &w->groups[plan.group].membership));
        assert_int_equal(
            meta_wanted_set(&w->f, plan.group, &plan.wanted, meta_roster(&w->f)->version), WP_OK);
        w->changes++;
    }
    return plan.kind != WP_PLAN_NOTHING;
}

/* Until nothing happens any more. */
static void settle(struct world *w)
{
    int quiet = 0;
    for (int round = 0; round < 5000 && quiet < 3; round++) {
        bool worked = false;
        for (uint32_t group = 0; group <= META_SHARDS; group++) {
            worked = group_step(w, group) || worked;
        }
        worked = plan_step(w) || worked;
        quiet = worked ? 0 : quiet + 1;
    }
    assert_int_equal(quiet, 3);
}

/* Every group is where it is wanted, on active nodes, and these have equally many. */
static void assert_at_rest(const struct world *w)
{
    const struct wp_roster *roster = meta_roster(&w->f);
    uint32_t most = 0, least = UINT32_MAX;
    for (uint32_t group = 0; group <= META_SHARDS; group++) {
        struct wp_membership wanted;
        wp_roster_membership(roster, group, &wanted);
        assert_int_equal(wanted.count, w->groups[group].membership.count);
        for (uint32_t i = 0; i < wanted.count; i++) {
            assert_int_equal(wanted.members[i].id, w->groups[group].membership.members[i].id);
            assert_int_equal(wanted.members[i].role, w->groups[group].membership.members[i].role);
        }
        assert_true(group == WP_META_GROUP || wanted.count == roster->replication);
    }
    for (uint32_t i = 0; i < roster->node_count; i++) {
        uint32_t load = wp_roster_replica_count(roster, roster->nodes[i].number);
        if (roster->nodes[i].state != WP_NODE_ACTIVE) {
            assert_int_equal(load, 0);
            continue;
        }
        most = load > most ? load : most;
        least = load < least ? load : least;
    }
    assert_true(most <= least + 1);
}

static struct world world;

static void test_the_first_placement_stays(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= WP_ROSTER_NODES_MAX; nodes++) {
        world_init(&world, nodes, nodes >= 3 ? 3 : 1, nodes);
        settle(&world);
        assert_at_rest(&world);
        assert_int_equal(world.changes, 0);
        meta_fini(&world.f);
    }
}

static void test_a_new_node_gets_its_share_with_the_fewest_moves(void **state)
{
    (void)state;
    world_init(&world, 3, 3, 1);
    settle(&world);
    assert_int_equal(world.changes, 0);
    assert_int_equal(meta_node_add(&world.f, "router-4", 'd'), WP_OK);
    settle(&world);
    assert_at_rest(&world);
    assert_int_equal(world.changes, META_SHARDS * 3 / 4);
    meta_fini(&world.f);
}

static void test_a_drained_node_ends_empty_and_may_go(void **state)
{
    (void)state;
    world_init(&world, 4, 3, 2);
    uint32_t had = wp_roster_replica_count(meta_roster(&world.f), 2);
    assert_int_equal(meta_node_state(&world.f, 2, WP_NODE_DRAINING), WP_OK);
    settle(&world);
    assert_at_rest(&world);
    assert_int_equal(world.changes, had);
    assert_int_equal(
        wp_membership_find(&world.groups[0].membership, WP_RAFT_ID(2, 0))->role, WP_MEMBER_LEARNER);
    assert_int_equal(meta_node_state(&world.f, 2, WP_NODE_REMOVED), WP_OK);
    settle(&world);
    assert_at_rest(&world);
    assert_null(wp_membership_find(&world.groups[0].membership, WP_RAFT_ID(2, 0)));
    meta_fini(&world.f);
}

static void test_a_dead_node_is_replaced_by_the_one_named(void **state)
{
    (void)state;
    world_init(&world, 3, 3, 3);
    world.up[3] = false;
    settle(&world);
    assert_int_equal(world.changes, 0); /* nobody asked */
    assert_int_equal(meta_node_add(&world.f, "router-4", 'd'), WP_OK);
    assert_int_equal(meta_node_replace(&world.f, 3, 4), WP_OK);
    settle(&world);
    assert_at_rest(&world);
    assert_int_equal(wp_roster_node(meta_roster(&world.f), 3)->state, WP_NODE_REMOVED);
    assert_int_equal(wp_roster_replica_count(meta_roster(&world.f), 4), META_SHARDS);
    meta_fini(&world.f);
}

static void test_a_node_that_forgot_is_rebuilt_under_new_ids(void **state)
{
    (void)state;
    world_init(&world, 3, 3, 4);
    meta_node_seen(&world.f, 2, 70, 1, 1);
    assert_int_equal(meta_node_forgot(&world.f, 2, 71, 1), WP_OK);
    world.caught_up[2] = false;
    settle(&world);
    for (uint32_t group = 0; group <= META_SHARDS; group++) {
        const struct wp_membership *membership = &world.groups[group].membership;
        assert_null(wp_membership_find(membership, WP_RAFT_ID(2, 0)));
        assert_int_equal(wp_membership_find(membership, WP_RAFT_ID(2, 1))->role, WP_MEMBER_LEARNER);
    }
    world.caught_up[2] = true;
    settle(&world);
    assert_at_rest(&world);
    assert_int_equal(world.changes, 0);
    meta_fini(&world.f);
}

static void test_nothing_moves_without_a_majority(void **state)
{
    (void)state;
    world_init(&world, 4, 3, 5);
    world.up[1] = world.up[2] = false;
    assert_int_equal(meta_node_state(&world.f, 3, WP_NODE_DRAINING), WP_OK);
    settle(&world);
    for (uint32_t shard = 1; shard <= META_SHARDS; shard++) {
        if (wp_roster_replica(meta_roster(&world.f), shard, 1) &&
            wp_roster_replica(meta_roster(&world.f), shard, 2)) {
            assert_int_equal(wp_membership_voter_count(&world.groups[shard].membership), 3);
        }
    }
    world.up[1] = world.up[2] = true;
    settle(&world);
    assert_at_rest(&world);
    meta_fini(&world.f);
}

/* A single voter cannot take another one beside it: were it to die in between, nobody could be elected. */
static void test_a_single_copy_stays_where_it_is(void **state)
{
    (void)state;
    world_init(&world, 1, 1, 6);
    assert_int_equal(meta_node_add(&world.f, "router-2", 'b'), WP_OK);
    settle(&world);
    assert_int_equal(world.changes, 0);
    meta_fini(&world.f);
}

/* While a copy of a group is away, the others of it stay where they are; what is whole moves. */
static void test_a_group_that_is_not_whole_does_not_move(void **state)
{
    (void)state;
    world_init(&world, 4, 3, 7);
    world.up[2] = false;
    assert_int_equal(meta_node_add(&world.f, "router-5", 'e'), WP_OK);
    settle(&world);
    for (uint32_t shard = 1; shard <= META_SHARDS; shard++) {
        assert_false(wp_roster_replica(meta_roster(&world.f), shard, 2) &&
                     wp_roster_replica(meta_roster(&world.f), shard, 5));
    }
    world.up[2] = true;
    settle(&world);
    assert_at_rest(&world);
    meta_fini(&world.f);
}

static bool all_settled(const struct world *w)
{
    struct wp_plan_view view = view_of(w);
    for (uint32_t group = 0; group <= META_SHARDS; group++) {
        if (!wp_plan_settled(&view, group)) {
            return false;
        }
    }
    return true;
}

static void anything(struct world *w)
{
    char name[16];
    uint32_t last = meta_roster(&w->f)->last_node;
    uint32_t number = 1 + (uint32_t)wp_prng_below(&w->prng, last);
    snprintf(name, sizeof(name), "router-%u", last + 1);
    switch (wp_prng_below(&w->prng, 8)) {
    case 0:
        meta_node_add(&w->f, name, (char)('a' + last % 26));
        break;
    case 1:
        meta_node_state(&w->f, number, WP_NODE_DRAINING);
        break;
    case 2:
        meta_node_state(&w->f, number, WP_NODE_ACTIVE);
        break;
    case 3:
        meta_node_replace(&w->f, number, 0);
        break;
    case 4:
        if (w->up[number] && all_settled(w)) { /* a second lost disk at a time is beyond what is promised */
            meta_node_forgot(&w->f, number, wp_prng_next(&w->prng) | 1, 1);
        }
        break;
    default:
        w->up[number] = wp_prng_below(&w->prng, 3) != 0;
        w->caught_up[number] = wp_prng_below(&w->prng, 3) != 0;
    }
}

/* Steps of leaders, plans and events in any order; then everybody comes back and it must come to rest. */
static void test_random_clusters_come_to_rest(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        uint32_t replication = seed % 3 == 0 ? 5 : 3;
        uint32_t nodes = replication + (uint32_t)(seed % 3);
        world_init(&world, nodes, replication, seed);
        for (int i = 0; i < 200; i++) {
            uint64_t dice = wp_prng_below(&world.prng, 10);
            if (dice == 0) {
                anything(&world);
            } else if (dice < 4) {
                plan_step(&world);
            } else {
                group_step(&world, (uint32_t)wp_prng_below(&world.prng, META_SHARDS + 1));
            }
        }
        memset(world.up, true, sizeof(world.up));
        memset(world.caught_up, true, sizeof(world.caught_up));
        world.changes = 0;
        settle(&world);
        assert_at_rest(&world);
        assert_true(world.changes <= 2 * META_SHARDS * replication);
        settle(&world);
        meta_fini(&world.f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_placement_stays),
        cmocka_unit_test(test_a_new_node_gets_its_share_with_the_fewest_moves),
        cmocka_unit_test(test_a_drained_node_ends_empty_and_may_go),
        cmocka_unit_test(test_a_dead_node_is_replaced_by_the_one_named),
        cmocka_unit_test(test_a_node_that_forgot_is_rebuilt_under_new_ids),
        cmocka_unit_test(test_nothing_moves_without_a_majority),
        cmocka_unit_test(test_a_single_copy_stays_where_it_is),
        cmocka_unit_test(test_a_group_that_is_not_whole_does_not_move),
        cmocka_unit_test(test_random_clusters_come_to_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
