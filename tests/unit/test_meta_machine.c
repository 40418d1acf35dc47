/* The meta group's machine: what each command changes, what it refuses, and that a crash at any moment and a
 * replay of the log lead to the same roster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "router/policy.h"
#include "storage/sim/sim.h"
#include "tests/unit/meta_fixture.h"

static int setup(void **state)
{
    static struct meta_fixture f;
    meta_init(&f);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    meta_fini(*state);
    return 0;
}

static int gateway_add(struct meta_fixture *f, const char *name, char letter)
{
    char copy[WP_NAME_SIZE_MAX + 1], key[WP_KEY_TEXT_SIZE];
    Wp__MetaGateway command = WP__META_GATEWAY__INIT;
    snprintf(copy, sizeof(copy), "%s", name);
    meta_key(key, letter);
    command.name = copy;
    command.key = key;
    return meta_command(f, WP_META_GATEWAY_ADD, &command.base);
}

static int gateway_revoke(struct meta_fixture *f, const char *name)
{
    char copy[WP_NAME_SIZE_MAX + 1];
    Wp__MetaGatewayRevoke command = WP__META_GATEWAY_REVOKE__INIT;
    snprintf(copy, sizeof(copy), "%s", name);
    command.name = copy;
    return meta_command(f, WP_META_GATEWAY_REVOKE, &command.base);
}

static int policy(struct meta_fixture *f, const char *key, const char *value)
{
    char key_copy[128], value_copy[256];
    Wp__MetaPolicy command = WP__META_POLICY__INIT;
    snprintf(key_copy, sizeof(key_copy), "%s", key);
    snprintf(value_copy, sizeof(value_copy), "%s", value);
    command.key = key_copy;
    command.value = value_copy;
    return meta_command(f, WP_META_POLICY, &command.base);
}

static int level(struct meta_fixture *f, uint32_t wanted)
{
    Wp__MetaFeatureLevel command = WP__META_FEATURE_LEVEL__INIT;
    command.level = wanted;
    return meta_command(f, WP_META_FEATURE_LEVEL, &command.base);
}

static void test_nothing_is_there_before_bootstrap(void **state)
{
    struct meta_fixture *f = *state;
    assert_null(meta_roster(f));
    assert_int_equal(gateway_add(f, "g", 'x'), WP_E_UNAVAILABLE);
    assert_null(meta_roster(f));
    assert_int_equal(meta_bootstrap(f, 3, 5), WP_E_INVALID); /* more copies than nodes */
    assert_null(meta_roster(f));
    assert_int_equal(meta_bootstrap(f, 3, 3), WP_OK);
    assert_int_equal(meta_roster(f)->version, 1);
    assert_int_equal(meta_roster(f)->wanted[WP_META_GROUP].count, 3);
    assert_int_equal(meta_roster(f)->wanted[8].ids[2], WP_RAFT_ID(3, 0));
    assert_int_equal(meta_bootstrap(f, 5, 3), WP_E_EXISTS);
    assert_int_equal(meta_roster(f)->node_count, 3);
}

static void test_a_roster_that_was_handed_out_stays_as_it_was(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 3, 3);
    struct wp_roster *held = wp_roster_retain(meta_roster(f));
    assert_int_equal(meta_node_add(f, "router-4", 'd'), WP_OK);
    assert_int_equal(held->version, 1);
    assert_int_equal(held->node_count, 3);
    assert_int_equal(meta_roster(f)->version, 2);
    wp_roster_release(&held);
}

static void test_nodes_come_and_go(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 3, 3);
    assert_int_equal(meta_node_add(f, "router-3", 'x'), WP_E_EXISTS);
    assert_int_equal(meta_node_add(f, "router-4", 'c'), WP_E_EXISTS);
    assert_int_equal(meta_node_add(f, "no name", 'x'), WP_E_INVALID);
    assert_int_equal(meta_node_state(f, 1, WP_NODE_DRAINING), WP_E_DENIED); /* two cannot keep three copies */
    assert_int_equal(meta_node_add(f, "router-4", 'd'), WP_OK);
    assert_int_equal(f->last.number, 4);
    assert_int_equal(meta_node_add(f, "router-4", 'd'), WP_OK); /* the answer got lost, the same again */
    assert_int_equal(f->last.number, 4);
    assert_int_equal(meta_roster(f)->version, 2);
    assert_int_equal(meta_roster(f)->wanted[WP_META_GROUP].count, 3);      /* an odd number */
    assert_int_equal(meta_node_state(f, 4, WP_NODE_REMOVED), WP_E_DENIED); /* not drained */
    assert_int_equal(meta_node_state(f, 1, WP_NODE_DRAINING), WP_OK);
    assert_int_equal(meta_roster(f)->wanted[WP_META_GROUP].ids[0], WP_RAFT_ID(2, 0));
    assert_int_equal(meta_node_state(f, 1, WP_NODE_DRAINING), WP_OK);
    assert_int_equal(meta_roster(f)->version, 3); /* nothing new */
    assert_int_equal(meta_node_state(f, 2, WP_NODE_DRAINING), WP_E_DENIED);
    assert_int_equal(meta_node_state(f, 1, WP_NODE_REMOVED), WP_E_BUSY); /* replicas are wanted on it */
    assert_int_equal(meta_node_state(f, 1, WP_NODE_ACTIVE), WP_OK);
    assert_int_equal(meta_node_state(f, 4, WP_NODE_DRAINING), WP_OK);
    assert_int_equal(meta_node_state(f, 4, WP_NODE_REMOVED), WP_OK);
    assert_int_equal(meta_node_state(f, 4, WP_NODE_ACTIVE), WP_E_INVALID); /* for good */
    assert_int_equal(wp_roster_replica(meta_roster(f), WP_META_GROUP, 4), 0);
    assert_int_equal(meta_node_add(f, "router-4", 'd'), WP_OK);
    assert_int_equal(f->last.number, 5); /* never the same number again */
    assert_int_equal(wp_roster_node_named(meta_roster(f), "router-4")->number, 5);
    assert_int_equal(meta_node_state(f, 77, WP_NODE_ACTIVE), WP_E_NOT_FOUND);
    assert_int_equal(meta_node_state(f, 1, 9), WP_E_INVALID);
}

static void test_removed_nodes_make_room(void **state)
{
    struct meta_fixture *f = *state;
    char name[16];
    meta_bootstrap(f, 3, 3);
    for (uint32_t i = 4; i <= WP_ROSTER_NODES_MAX; i++) {
        snprintf(name, sizeof(name), "router-%u", i);
        assert_int_equal(meta_node_add(f, name, (char)('a' + i - 1)), WP_OK);
    }
    assert_int_equal(meta_node_add(f, "more", 'z'), WP_E_FULL);
    assert_int_equal(meta_roster(f)->wanted[WP_META_GROUP].count, 5);
    assert_int_equal(meta_node_state(f, 6, WP_NODE_DRAINING), WP_OK);
    assert_int_equal(meta_node_state(f, 6, WP_NODE_REMOVED), WP_OK);
    assert_int_equal(meta_node_add(f, "more", 'z'), WP_OK);
    assert_null(wp_roster_node(meta_roster(f), 6));
    for (uint32_t i = 1; i < meta_roster(f)->node_count; i++) {
        assert_true(meta_roster(f)->nodes[i - 1].number < meta_roster(f)->nodes[i].number);
    }
    meta_crash(f, 3);
    assert_null(wp_roster_node(meta_roster(f), 6));
}

static void test_a_directory_is_known_by_what_it_shows(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 3, 3);
    assert_int_equal(wp_meta_node_check(meta_roster(f), 2, 70, 5, 1), WP_META_SEEN_FIRST);
    assert_int_equal(meta_node_seen(f, 2, 0, 5, 1), WP_E_INVALID);
    assert_int_equal(meta_node_seen(f, 2, 70, 5, 1), WP_OK);
    assert_int_equal(wp_meta_node_check(meta_roster(f), 2, 70, 5, 1), WP_META_SEEN_SAME);
    assert_int_equal(wp_meta_node_check(meta_roster(f), 2, 70, 6, 2), WP_META_SEEN_NEW_BOOT);
    assert_int_equal(wp_meta_node_check(meta_roster(f), 2, 70, 5, 2), WP_META_SEEN_FORGOTTEN);
    assert_int_equal(wp_meta_node_check(meta_roster(f), 2, 70, 4, 9), WP_META_SEEN_FORGOTTEN);
    assert_int_equal(wp_meta_node_check(meta_roster(f), 2, 71, 9, 9), WP_META_SEEN_FORGOTTEN);
    assert_int_equal(meta_node_seen(f, 2, 70, 5, 1), WP_OK);
    assert_int_equal(meta_roster(f)->version, 2); /* the same process: nothing new */
    assert_int_equal(meta_node_seen(f, 2, 70, 4, 9), WP_E_FORGOTTEN);
    assert_int_equal(meta_node_seen(f, 2, 71, 9, 9), WP_E_FORGOTTEN);
    assert_int_equal(meta_node_seen(f, 2, 70, 6, 2), WP_OK);
    assert_int_equal(meta_roster(f)->version, 3);
    assert_int_equal(meta_node_seen(f, 9, 70, 6, 2), WP_E_NOT_FOUND);
}

static void test_a_node_that_forgot_gets_new_raft_ids(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 4, 3);
    meta_node_seen(f, 2, 70, 5, 1);
    assert_int_equal(meta_node_forgot(f, 2, 71, 1), WP_OK);
    const struct wp_roster *roster = meta_roster(f);
    for (uint32_t group = 0; group <= META_SHARDS; group++) {
        uint64_t id = wp_roster_replica(roster, group, 2);
        assert_true(id == 0 || id == WP_RAFT_ID(2, 1));
        assert_true(group != WP_META_GROUP || id != 0);
        assert_true(wp_roster_replica(roster, group, 3) == 0 ||
                    wp_roster_replica(roster, group, 3) == WP_RAFT_ID(3, 0));
    }
    assert_int_equal(roster->wanted[WP_META_GROUP].ids[1], WP_RAFT_ID(2, 1));
    assert_int_equal(roster->nodes[1].forgotten, 1);
    assert_int_equal(wp_meta_node_check(roster, 2, 71, 1, 72), WP_META_SEEN_SAME);
    /* A second proposal for the same event compares with values that are gone. */
    Wp__MetaNodeForgot again = WP__META_NODE_FORGOT__INIT;
    again.number = 2;
    again.old_directory_id = 70;
    again.old_boot = 5;
    again.old_start_id = 1;
    again.directory_id = 71;
    again.boot = 1;
    again.start_id = 72;
    assert_int_equal(meta_command(f, WP_META_NODE_FORGOT, &again.base), WP_E_UNAVAILABLE);
    assert_int_equal(meta_roster(f)->nodes[1].generation, 1);
    assert_int_equal(meta_node_forgot(f, 9, 1, 1), WP_E_NOT_FOUND);
}

static void test_wanted_replicas_change_one_by_one(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 5, 3); /* shard 1 on nodes 1, 2, 3 */
    const struct wp_roster_wanted to_4 = {3, {WP_RAFT_ID(1, 0), WP_RAFT_ID(2, 0), WP_RAFT_ID(4, 1)}};
    const struct wp_roster_wanted old_generation = {
        3, {WP_RAFT_ID(1, 0), WP_RAFT_ID(2, 0), WP_RAFT_ID(4, 0)}};
    const struct wp_roster_wanted twice = {3, {WP_RAFT_ID(1, 0), WP_RAFT_ID(2, 0), WP_RAFT_ID(2, 1)}};
    const struct wp_roster_wanted two_new = {3, {WP_RAFT_ID(1, 0), WP_RAFT_ID(4, 1), WP_RAFT_ID(5, 1)}};
    const struct wp_roster_wanted unknown = {3, {WP_RAFT_ID(1, 0), WP_RAFT_ID(2, 0), WP_RAFT_ID(8, 1)}};
    const struct wp_roster_wanted none = {0};
    assert_int_equal(meta_wanted_set(f, 0, &to_4, 1), WP_E_NOT_FOUND);
    assert_int_equal(meta_wanted_set(f, META_SHARDS + 1, &to_4, 1), WP_E_NOT_FOUND);
    assert_int_equal(meta_wanted_set(f, 1, &to_4, 7), WP_E_UNAVAILABLE);
    assert_int_equal(meta_wanted_set(f, 1, &old_generation, 1), WP_E_INVALID);
    assert_int_equal(meta_wanted_set(f, 1, &twice, 1), WP_E_INVALID);
    assert_int_equal(meta_wanted_set(f, 1, &two_new, 1), WP_E_INVALID);
    assert_int_equal(meta_wanted_set(f, 1, &unknown, 1), WP_E_NOT_FOUND);
    assert_int_equal(meta_wanted_set(f, 1, &none, 1), WP_E_INVALID);
    assert_int_equal(meta_roster(f)->version, 1);
    assert_int_equal(meta_wanted_set(f, 1, &to_4, 1), WP_OK);
    assert_int_equal(wp_roster_replica(meta_roster(f), 1, 4), WP_RAFT_ID(4, 1));
    assert_int_equal(meta_roster(f)->nodes[3].generation, 1);
    assert_int_equal(meta_node_state(f, 5, WP_NODE_DRAINING), WP_OK);
    const struct wp_roster_wanted to_5 = {3, {WP_RAFT_ID(1, 0), WP_RAFT_ID(2, 0), WP_RAFT_ID(5, 1)}};
    assert_int_equal(meta_wanted_set(f, 1, &to_5, meta_roster(f)->version), WP_E_DENIED);
}

static void test_a_dead_node_is_replaced(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 3, 3);
    assert_int_equal(meta_node_replace(f, 3, 0), WP_E_DENIED); /* nobody is there for it */
    meta_node_add(f, "router-4", 'd');
    assert_int_equal(meta_node_replace(f, 3, 3), WP_E_INVALID);
    assert_int_equal(meta_node_replace(f, 3, 9), WP_E_NOT_FOUND);
    assert_int_equal(meta_node_replace(f, 3, 4), WP_OK);
    assert_int_equal(meta_roster(f)->nodes[2].state, WP_NODE_DRAINING);
    assert_true(meta_roster(f)->nodes[2].replacing);
    assert_int_equal(meta_roster(f)->nodes[2].replaced_by, 4);
    assert_int_equal(meta_node_replace(f, 1, 3), WP_E_DENIED);      /* not active */
    assert_int_equal(meta_node_state(f, 3, WP_NODE_ACTIVE), WP_OK); /* it is back after all */
    assert_false(meta_roster(f)->nodes[2].replacing);
}

static void test_gateways_level_and_policy(void **state)
{
    struct meta_fixture *f = *state;
    meta_bootstrap(f, 3, 3);
    assert_int_equal(gateway_add(f, "gateway-1", 'x'), WP_OK);
    assert_int_equal(gateway_add(f, "gateway-1", 'x'), WP_OK);
    assert_int_equal(gateway_add(f, "gateway-1", 'y'), WP_E_EXISTS);
    assert_int_equal(gateway_add(f, "gateway-2", 'x'), WP_E_EXISTS);
    assert_int_equal(gateway_add(f, "gateway-2", 'a'), WP_E_EXISTS); /* key of a node */
    assert_int_equal(gateway_add(f, "router-1", 'y'), WP_E_EXISTS);
    assert_int_equal(gateway_revoke(f, "gateway-2"), WP_E_NOT_FOUND);
    assert_int_equal(gateway_revoke(f, "gateway-1"), WP_OK);
    assert_int_equal(gateway_add(f, "gateway-1", 'y'), WP_OK); /* with a new key */
    assert_int_equal(meta_roster(f)->gateway_count, 1);
    assert_false(meta_roster(f)->gateways[0].revoked);
    assert_int_equal(level(f, 2), WP_OK);
    assert_int_equal(meta_roster(f)->feature_level, 2);
    assert_int_equal(level(f, 1), WP_E_INVALID);
    assert_int_equal(policy(f, "", "x"), WP_E_INVALID);
    assert_int_equal(policy(f, "late-device", "oldest"), WP_OK);
    assert_string_equal(wp_roster_policy(meta_roster(f), "late-device"), "oldest");
    assert_int_equal(policy(f, "other", "1"), WP_OK);
    assert_int_equal(policy(f, "late-device", ""), WP_OK);
    assert_null(wp_roster_policy(meta_roster(f), "late-device"));
    assert_string_equal(wp_roster_policy(meta_roster(f), "other"), "1");
    meta_crash(f, 9);
    assert_string_equal(wp_roster_policy(meta_roster(f), "other"), "1");
    assert_int_equal(meta_roster(f)->policy_count, 1);
}

/* The limits of a new cluster come with its first entry. */
static void test_policies_of_the_first_entry(void **state)
{
    struct meta_fixture *f = *state;
    struct wp_roster *roster = wp_roster_create(META_SHARDS);
    struct wp_arena arena;
    wp_arena_init(&arena, 1u << 20);
    roster->node_count = roster->replication = 1;
    roster->nodes[0] = (struct wp_roster_node){.number = 1, .reactors = 1};
    snprintf(roster->nodes[0].name, sizeof(roster->nodes[0].name), "router-1");
    snprintf(roster->nodes[0].endpoint, sizeof(roster->nodes[0].endpoint), "tcp://10.0.0.1:7401");
    meta_key(roster->nodes[0].key, 'a');
    wp_roster_place_first(roster);
    wp_policy_put(roster, WP_POLICY_mailbox_messages_max, "5");
    wp_policy_put(roster, WP_POLICY_seen_ids_max, "2000");
    Wp__MetaBootstrap *command = wp_meta_bootstrap_fill(roster, &arena);
    command->policies[1]->key = command->policies[1]->value + strlen(command->policies[1]->value); /* "" */
    assert_int_equal(meta_command(f, WP_META_BOOTSTRAP, &command->base), WP_E_INVALID);
    assert_null(meta_roster(f));
    assert_int_equal(
        meta_command(f, WP_META_BOOTSTRAP, &wp_meta_bootstrap_fill(roster, &arena)->base), WP_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(meta_roster(f)->policy_count, 2);
        assert_string_equal(wp_roster_policy(meta_roster(f), "mailbox_messages_max"), "5");
        assert_string_equal(wp_roster_policy(meta_roster(f), "seen_ids_max"), "2000");
        meta_crash(f, 3);
    }
    wp_roster_release(&roster);
    wp_arena_fini(&arena);
}

static void random_command(struct meta_fixture *f, struct wp_prng *prng)
{
    char name[16];
    uint32_t number = 1 + (uint32_t)wp_prng_below(prng, 9);
    snprintf(name, sizeof(name), "n-%u", number);
    switch (wp_prng_below(prng, 8)) {
    case 0:
        meta_node_add(f, name, (char)('a' + wp_prng_below(prng, 26)));
        break;
    case 1:
        meta_node_state(f, number, (uint32_t)wp_prng_below(prng, 3));
        break;
    case 2:
        meta_node_seen(f, number, 1 + wp_prng_below(prng, 2), wp_prng_below(prng, 5), wp_prng_below(prng, 2));
        break;
    case 3:
        meta_node_forgot(f, number, 1 + wp_prng_below(prng, 2), wp_prng_below(prng, 5));
        break;
    case 4:
        meta_node_replace(f, number, (uint32_t)wp_prng_below(prng, 4));
        break;
    case 5:
        gateway_add(f, name, (char)('A' + wp_prng_below(prng, 26)));
        break;
    case 6:
        gateway_revoke(f, name);
        break;
    default:
        policy(f, name, wp_prng_below(prng, 2) ? "v" : "");
    }
}

/* Random commands with power failures between them against a machine that never fails. */
static void test_crash_and_replay_lead_to_the_same_roster(void **state)
{
    struct meta_fixture *f = *state;
    static struct meta_fixture steady;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct wp_prng prng, same;
        wp_prng_init(&prng, seed);
        wp_prng_init(&same, seed);
        meta_fini(f);
        meta_init(f);
        meta_init(&steady);
        meta_bootstrap(f, 4, 3);
        meta_bootstrap(&steady, 4, 3);
        for (int i = 0; i < 150; i++) {
            random_command(f, &prng);
            random_command(&steady, &same);
            assert_int_equal(f->last.error, steady.last.error);
            if (i % 7 == 0) {
                meta_crash(f, seed + (uint64_t)i);
            }
            meta_assert_equal(meta_roster(f), meta_roster(&steady));
        }
        meta_fini(&steady);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_there_before_bootstrap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_roster_that_was_handed_out_stays_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nodes_come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policies_of_the_first_entry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_nodes_make_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_directory_is_known_by_what_it_shows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_node_that_forgot_gets_new_raft_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wanted_replicas_change_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_node_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateways_level_and_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash_and_replay_lead_to_the_same_roster, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
