/* One membership step at a time: tables of situations, then random ones until the members are what is wanted,
 * with leaders that change and nodes that come and go in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/prng.h"
#include "router/reconcile.h"
#include "router/roster.h"

/* --- tables
 * ------------------------------------------------------------------------------------------------- */

/* Members as text: "1 2 3" are voters, "4?" is a learner, "2'" is the second generation of node 2. */
static uint64_t id_read(const char **at)
{
    uint64_t id = WP_RAFT_ID(*(*at)++ - '0', 0);
    while (**at == '\'') {
        id++;
        (*at)++;
    }
    return id;
}

static struct wp_membership members_of(const char *text)
{
    struct wp_membership membership = {0};
    for (const char *at = text; *at;) {
        if (*at == ' ') {
            at++;
            continue;
        }
        struct wp_member *member = &membership.members[membership.count++];
        member->id = id_read(&at);
        member->role = *at == '?' ? WP_MEMBER_LEARNER : WP_MEMBER_VOTER;
        at += *at == '?';
    }
    return membership;
}

static uint32_t ids_of(const char *text, uint64_t *ids)
{
    uint32_t count = 0;
    for (const char *at = text; *at;) {
        if (*at == ' ') {
            at++;
        } else {
            ids[count++] = id_read(&at);
        }
    }
    return count;
}

struct row {
    const char *members;
    const char *self;
    const char *voters;
    const char *learners;
    const char *up;        /* reachable, beside self */
    const char *caught_up; /* of those */
    const char *gone;
    const char *step; /* what and whom; "" = nothing */
};

static const struct row rows[] = {
    /* at rest */
    {"1 2 3", "1", "1 2 3", "", "2 3", "2 3", "", ""},
    {"1 2 3 4?", "1", "1 2 3", "4", "2 3 4", "2 3", "", ""},
    {"1 2 3", "1", "1 2 3", "", "", "", "", ""},
    /* a replica moves from 3 to 4 */
    {"1 2 3", "1", "1 2 4", "", "2 3 4", "2 3", "", "add 4"},
    {"1 2 3", "1", "1 2 4", "", "2 3", "2 3", "", ""},
    {"1 2 3 4?", "1", "1 2 4", "", "2 3 4", "2 3", "", ""},
    {"1 2 3 4?", "1", "1 2 4", "", "2 3 4", "2 3 4", "", "promote 4"},
    {"1 2 3 4?", "1", "1 2 4", "", "2 3", "2 3 4", "", ""},
    {"1 2 3 4", "1", "1 2 4", "", "2 3 4", "2 3 4", "", "remove 3"},
    {"1 2 3 4", "3", "1 2 4", "", "1 2 4", "1 2 4", "", "transfer 1"},
    {"1 2 3 4", "3", "1 2 4", "", "1 2 4", "4", "", "transfer 4"},
    {"1 2 3 4", "3", "1 2 4", "", "1 2 4", "", "", ""},
    /* a dead voter that is not wanted goes before the one in its place is promoted, not sooner */
    {"1 2 3 4?", "1", "1 2 4", "", "2 4", "2 4", "", "remove 3"},
    {"1 2 3 4?", "1", "1 2 4", "", "2 4", "2", "", ""},
    {"1 2 4?", "1", "1 2 4", "", "2 4", "2 4", "", "promote 4"},
    {"1 2 3 4?", "1", "1 2 4", "3", "2 4", "2 4", "", "demote 3"},
    {"1 2 3 4 5 6? 7?", "1", "1 2 3 6 7", "", "2 3 6 7", "2 3 6 7", "", "remove 4"},
    /* not without a majority of what follows */
    {"1 2 3 4?", "1", "1 2 4", "", "4", "4", "", ""},
    {"1 2 3 4", "1", "1 2 4", "", "3", "3", "", ""},
    {"1 2 3 4", "1", "1 2 4", "", "4", "4", "", "remove 3"},
    /* one replica goes elsewhere */
    {"1", "1", "2", "", "2", "", "", "add 2"},
    {"1 2?", "1", "2", "", "2", "2", "", "promote 2"},
    {"1 2", "1", "2", "", "2", "2", "", "transfer 2"},
    {"1 2", "2", "2", "", "1", "1", "", "remove 1"},
    {"1 2", "2", "2", "", "", "", "", "remove 1"},
    /* a node that forgot: its old voter goes first, since it never comes back */
    {"1 2 3", "1", "1 2 3'", "", "2 3'", "2", "", "remove 3"},
    {"1 2 3", "1", "1 2 3'", "", "3'", "", "", ""},
    {"1 2", "1", "1 2 3'", "", "2 3'", "2", "", "add 3'"},
    {"1 2 3'?", "1", "1 2 3''", "", "2 3''", "2", "", "remove 3'"},
    /* a node that was replaced by another one */
    {"1 2 3", "1", "1 2", "", "2", "2", "3", "remove 3"},
    {"1 2 3", "1", "1 2 4", "", "2 4", "2", "3", "remove 3"},
    /* the meta group */
    {"1 2 3", "1", "1 2 3", "4", "2 3 4", "2 3", "", "add 4"},
    {"1 2 3 4? 5?", "1", "1 2 3 4 5", "", "2 3 4 5", "2 3 4 5", "", "promote 4"},
    {"1 2 3 4 5", "1", "1 2 3", "4 5", "2 3 4 5", "2 3 4 5", "", "demote 4"},
    {"1 2 3 4? 5?", "1", "1 2 3", "4", "2 3 4 5", "2 3", "", "remove 5"},
    {"1 2 3 4?", "1", "1 2 3", "4'", "2 3 4'", "2 3", "", "remove 4"},
    /* nobody is wanted: a group is never left without voters */
    {"1 2 3", "1", "", "", "2 3", "2 3", "", ""},
};

static void row_run(const struct row *row)
{
    uint64_t voters[9], learners[9], up[9], caught[9], gone[9], self[1];
    struct wp_membership members = members_of(row->members);
    struct wp_step_peer peers[9] = {{0}};
    (void)ids_of(row->self, self);
    struct wp_step_view view = {
        .membership = &members, .self = self[0], .voters = voters, .learners = learners, .gone = gone};
    view.voter_count = ids_of(row->voters, voters);
    view.learner_count = ids_of(row->learners, learners);
    view.gone_count = ids_of(row->gone, gone);
    view.peer_count = ids_of(row->up, up);
    uint32_t caught_count = ids_of(row->caught_up, caught);
    for (uint32_t i = 0; i < view.peer_count; i++) {
        peers[i] = (struct wp_step_peer){.id = up[i], .reachable = true};
        for (uint32_t k = 0; k < caught_count; k++) {
            peers[i].caught_up = peers[i].caught_up || caught[k] == up[i];
        }
    }
    view.peers = peers;
    struct wp_step step;
    wp_reconcile(&view, &step);
    char text[64] = "";
    if (step.kind != WP_STEP_NOTHING) {
        static const char marks[] = "''''";
        snprintf(text, sizeof text, "%s %u%.*s", step.what, wp_raft_id_node(step.id), (int)(step.id & 0xffff),
            marks);
    }
    if (strcmp(text, row->step) != 0) {
        fail_msg("members %s self %s voters %s learners %s up %s: \"%s\" instead of \"%s\"", row->members,
            row->self, row->voters, row->learners, row->up, text, row->step);
    }
    if (step.kind == WP_STEP_CHANGE) {
        assert_true(wp_membership_one_step(&members, &step.next));
        assert_int_equal(wp_membership_check(&step.next), 0);
    }
}

static void test_situations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        row_run(&rows[i]);
    }
}

/* --- random
 * ---------------------------------------------------------------------------------------------------- */

#define NODES 9u

struct world {
    struct wp_prng prng;
    struct wp_membership members;
    uint64_t voters[5];
    uint32_t voter_count;
    uint64_t learners[NODES];
    uint32_t learner_count;
    bool up[NODES + 1];
    bool caught_up[NODES + 1];
    uint64_t self;
};

static uint64_t replica_of(const struct world *world, uint32_t number)
{
    for (uint32_t i = 0; i < world->members.count; i++) {
        if (wp_raft_id_node(world->members.members[i].id) == number) {
            return world->members.members[i].id;
        }
    }
    return WP_RAFT_ID(number, 0);
}

static bool majority_up(const struct world *world)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->members.count; i++) {
        const struct wp_member *member = &world->members.members[i];
        count += member->role == WP_MEMBER_VOTER && world->up[wp_raft_id_node(member->id)];
    }
    return count > wp_membership_voter_count(&world->members) / 2;
}

/* A leader that is up; 0 when no majority is. */
static uint64_t leader_choose(struct world *world)
{
    if (!majority_up(world)) {
        return 0;
    }
    for (;;) {
        const struct wp_member *member =
            &world->members.members[wp_prng_below(&world->prng, world->members.count)];
        if (member->role == WP_MEMBER_VOTER && world->up[wp_raft_id_node(member->id)]) {
            return member->id;
        }
    }
}

static void wanted_choose(struct world *world, bool meta)
{
    bool taken[NODES + 1] = {false};
    uint32_t counts[] = {1, 3, 5};
    uint32_t count = counts[wp_prng_below(&world->prng, 3)];
    world->voter_count = world->learner_count = 0;
    while (world->voter_count < count) {
        uint32_t number = 1 + (uint32_t)wp_prng_below(&world->prng, NODES);
        if (!taken[number]) {
            taken[number] = true;
            world->voters[world->voter_count++] = replica_of(world, number);
        }
    }
    for (uint32_t number = 1; meta && number <= NODES; number++) {
        if (!taken[number]) {
            world->learners[world->learner_count++] = replica_of(world, number);
        }
    }
}

static bool world_step(struct world *world)
{
    struct wp_step_peer peers[NODES];
    uint32_t count = 0;
    for (uint32_t number = 1; number <= NODES; number++) {
        peers[count++] =
            (struct wp_step_peer){replica_of(world, number), world->up[number], world->caught_up[number]};
    }
    const struct wp_step_view view = {
        .membership = &world->members,
        .self = world->self,
        .voters = world->voters,
        .voter_count = world->voter_count,
        .learners = world->learners,
        .learner_count = world->learner_count,
        .peers = peers,
        .peer_count = count,
    };
    struct wp_step step;
    if (world->self == 0) {
        return false;
    }
    wp_reconcile(&view, &step);
    if (step.kind == WP_STEP_TRANSFER) {
        assert_true(wp_membership_find(&world->members, step.id)->role == WP_MEMBER_VOTER);
        world->self = step.id;
    } else if (step.kind == WP_STEP_CHANGE) {
        assert_true(wp_membership_one_step(&world->members, &step.next));
        const struct wp_member *self = wp_membership_find(&step.next, world->self);
        assert_true(self && self->role == WP_MEMBER_VOTER); /* a leader never removes itself */
        world->members = step.next;
        assert_true(majority_up(world));
        if (strcmp(step.what, "add") == 0) {
            world->caught_up[wp_raft_id_node(step.id)] = false;
        }
    }
    return wp_reconciled(&view);
}

static void test_it_ends_with_what_is_wanted(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct world world = {.members = members_of("1 2 3")};
        wp_prng_init(&world.prng, seed);
        memset(world.up, 1, sizeof world.up);
        memset(world.caught_up, 1, sizeof world.caught_up);
        for (int round = 0; round < 3; round++) {
            wanted_choose(&world, seed % 2);
            /* Storm: nodes come and go, leaders change. */
            for (int i = 0; i < 40; i++) {
                uint32_t number = 1 + (uint32_t)wp_prng_below(&world.prng, NODES);
                world.up[number] = wp_prng_below(&world.prng, 3) > 0;
                world.caught_up[number] = world.caught_up[number] || wp_prng_below(&world.prng, 2);
                if (wp_prng_below(&world.prng, 4) == 0 || !world.up[wp_raft_id_node(world.self)]) {
                    world.self = leader_choose(&world);
                }
                (void)world_step(&world);
            }
            /* Calm. */
            memset(world.up, 1, sizeof world.up);
            memset(world.caught_up, 1, sizeof world.caught_up);
            world.self = leader_choose(&world);
            bool done = false;
            for (int i = 0; i < 40 && !done; i++) {
                done = world_step(&world);
                memset(world.caught_up, 1, sizeof world.caught_up);
            }
            assert_true(done);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_situations),
        cmocka_unit_test(test_it_ends_with_what_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
