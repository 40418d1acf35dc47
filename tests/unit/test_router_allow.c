/* The allow-list follows the roster: who comes is let in, who goes is cut off, and the configuration cannot
 * let in what was revoked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "node/fabric.h"
#include "router/allow.h"

struct fixture {
    void *context;
    struct wp_zap *zap;
    struct wp_roster *roster;
};

/* A key that belongs to a letter. */
static const char *key_of(char letter)
{
    static char keys[4][WP_KEY_TEXT_SIZE];
    static unsigned turn;
    char *key = keys[turn++ % 4];
    memset(key, letter, WP_KEY_TEXT_SIZE - 1);
    return key;
}

static int setup(void **state)
{
    static struct fixture f;
    assert_int_equal(wp_fabric_context_create(&f.context), WP_OK);
    assert_int_equal(wp_zap_create(f.context, &f.zap), WP_OK);
    f.roster = wp_roster_create(1);
    for (uint32_t i = 0; i < 3; i++) {
        struct wp_roster_node *node = &f.roster->nodes[f.roster->node_count++];
        node->number = i + 1;
        snprintf(node->name, sizeof node->name, "router-%u", i + 1);
        snprintf(node->key, sizeof node->key, "%s", key_of((char)('a' + i)));
    }
    struct wp_roster_gateway *gateway = &f.roster->gateways[f.roster->gateway_count++];
    snprintf(gateway->name, sizeof gateway->name, "gateway-1");
    snprintf(gateway->key, sizeof gateway->key, "%s", key_of('g'));
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    wp_zap_destroy(&f->zap);
    wp_fabric_context_destroy(&f->context);
    wp_roster_release(&f->roster);
    return 0;
}

static bool may_enter(const struct fixture *f, const char *role, const char *name, char letter)
{
    char user[160], node[65];
    Wp__Role found;
    snprintf(user, sizeof user, "%s:%s:%s", role, name, key_of(letter));
    return wp_zap_check(f->zap, user, &found, node) == WP_OK;
}

static void test_the_first_roster_lets_its_own_in(void **state)
{
    struct fixture *f = *state;
    wp_allow_roster(f->zap, NULL, f->roster, 1);
    assert_false(may_enter(f, "router", "router-1", 'a')); /* nobody is his own peer */
    assert_true(may_enter(f, "router", "router-2", 'b'));
    assert_true(may_enter(f, "router", "router-3", 'c'));
    assert_true(may_enter(f, "gateway", "gateway-1", 'g'));
    assert_false(may_enter(f, "gateway", "router-2", 'b'));
}

static void test_who_goes_is_cut_off(void **state)
{
    struct fixture *f = *state;
    struct wp_roster *next = wp_roster_copy(f->roster);
    wp_allow_roster(f->zap, NULL, f->roster, 1);
    next->nodes[1].state = WP_NODE_REMOVED;
    next->gateways[0].revoked = true;
    wp_allow_roster(f->zap, f->roster, next, 1);
    assert_false(may_enter(f, "router", "router-2", 'b'));
    assert_true(may_enter(f, "router", "router-3", 'c'));
    assert_false(may_enter(f, "gateway", "gateway-1", 'g'));
    wp_roster_release(&next);
}

static void test_a_new_key_ends_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct wp_roster *next = wp_roster_copy(f->roster);
    wp_allow_roster(f->zap, NULL, f->roster, 1);
    snprintf(next->gateways[0].key, sizeof next->gateways[0].key, "%s", key_of('h'));
    wp_allow_roster(f->zap, f->roster, next, 1);
    assert_false(may_enter(f, "gateway", "gateway-1", 'g'));
    assert_true(may_enter(f, "gateway", "gateway-1", 'h'));
    wp_roster_release(&next);
}

static void test_who_comes_is_let_in(void **state)
{
    struct fixture *f = *state;
    struct wp_roster *next = wp_roster_copy(f->roster);
    wp_allow_roster(f->zap, NULL, f->roster, 1);
    struct wp_roster_node *node = &next->nodes[next->node_count++];
    node->number = 4;
    snprintf(node->name, sizeof node->name, "router-4");
    snprintf(node->key, sizeof node->key, "%s", key_of('d'));
    wp_allow_roster(f->zap, f->roster, next, 1);
    assert_true(may_enter(f, "router", "router-4", 'd'));
    assert_true(may_enter(f, "router", "router-2", 'b'));
    wp_roster_release(&next);
}

static void test_the_configuration_does_not_let_in_what_was_revoked(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(wp_zap_allow(f->zap, key_of('g'), "gateway-1", WP__ROLE__ROLE_GATEWAY), WP_OK);
    assert_int_equal(wp_zap_allow(f->zap, key_of('b'), "router-2", WP__ROLE__ROLE_ROUTER), WP_OK);
    assert_int_equal(wp_zap_allow(f->zap, key_of('x'), "gateway-9", WP__ROLE__ROLE_GATEWAY), WP_OK);
    f->roster->gateways[0].revoked = true;
    f->roster->nodes[1].state = WP_NODE_REMOVED;
    wp_allow_roster(f->zap, NULL, f->roster, 1);
    assert_false(may_enter(f, "gateway", "gateway-1", 'g'));
    assert_false(may_enter(f, "router", "router-2", 'b'));
    assert_true(may_enter(f, "gateway", "gateway-9", 'x')); /* of the configuration alone */
    /* A roster that has nothing to do with it leaves it alone. */
    struct wp_roster *next = wp_roster_copy(f->roster);
    wp_allow_roster(f->zap, f->roster, next, 1);
    assert_true(may_enter(f, "gateway", "gateway-9", 'x'));
    wp_roster_release(&next);
}

static void test_a_key_that_is_none_is_left_out(void **state)
{
    struct fixture *f = *state;
    memset(f->roster->nodes[1].key, ' ', WP_KEY_TEXT_SIZE - 1);
    wp_allow_roster(f->zap, NULL, f->roster, 1);
    assert_false(may_enter(f, "router", "router-2", ' '));
    assert_true(may_enter(f, "router", "router-3", 'c'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_first_roster_lets_its_own_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_goes_is_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_new_key_ends_the_old_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_comes_is_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_the_configuration_does_not_let_in_what_was_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_key_that_is_none_is_left_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
