/* Whom a sender turns to when leaders move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/route.h"

#define SELF 1u
#define GUESS 7u

/* A hand-over: the old leader says who leads, and the second try is right, without waiting for the next
 * report about leaders. */
static void test_refusal_that_names_the_leader_costs_no_time(void **state)
{
    (void)state;
    struct wp_route route = {0};
    assert_int_equal(wp_route_node(&route, GUESS), GUESS);
    assert_int_equal(wp_route_refused(&route, 3), 0);
    assert_int_equal(wp_route_node(&route, GUESS), 3);
    wp_route_taken(&route);
    assert_int_equal(wp_route_node(&route, GUESS), 3); /* stays until somebody says otherwise */
    assert_int_equal(wp_route_refused(&route, 2), 0);
    assert_int_equal(wp_route_node(&route, GUESS), 2);
}

/* Two that name each other, and a shard without a leader: slower with each refusal, and bounded. */
static void test_refusals_in_a_row_slow_down(void **state)
{
    (void)state;
    static const uint32_t waits[] = {0, 50, 100, 100, 100};
    static const uint32_t unknown[] = {25, 50, 100, 100};
    struct wp_route route = {0};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(wp_route_refused(&route, 2 + i % 2), waits[i]);
    }
    route = (struct wp_route){.node = 3};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(wp_route_refused(&route, 0), unknown[i]);
        assert_int_equal(wp_route_node(&route, GUESS), GUESS);
    }
    route.refusals = UINT32_MAX;
    assert_int_equal(wp_route_refused(&route, 0), 100);
}

/* A leader that died says nothing: our own replica may know the next one, else the guess does in time. */
static void test_silence_asks_ourselves_then_guesses_again(void **state)
{
    (void)state;
    struct wp_route route = {.node = 3};
    assert_int_equal(wp_route_lost(&route, SELF), 25);
    assert_int_equal(wp_route_node(&route, GUESS), SELF);
    assert_int_equal(wp_route_refused(&route, 2), 50);
    assert_int_equal(wp_route_node(&route, GUESS), 2);
    assert_int_equal(wp_route_lost(&route, SELF), 100);
    assert_int_equal(wp_route_lost(&route, SELF), 100);
    assert_int_equal(wp_route_node(&route, GUESS), GUESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusal_that_names_the_leader_costs_no_time),
        cmocka_unit_test(test_refusals_in_a_row_slow_down),
        cmocka_unit_test(test_silence_asks_ourselves_then_guesses_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
