/* What a gateway knows of a leader's time, and what a delivery has left by it. A leader whose clock shows
 * LEADER + t when the gateway's shows t. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/leader_time.h"

#define LEADER UINT64_C(1700000000000)

static void test_unknown_before_the_first_answer(void **state)
{
    (void)state;
    struct wp_leader_time time = {0};
    assert_int_equal(wp_leader_time_earliest_ms(&time, 5000), 0);
    wp_leader_time_told(&time, 0, 4000, 5000); /* a router that tells no time */
    assert_int_equal(wp_leader_time_earliest_ms(&time, 5000), 0);
    wp_leader_time_told(&time, LEADER, 6000, 5000); /* a request that was never sent */
    assert_int_equal(wp_leader_time_earliest_ms(&time, 5000), 0);
}

static void test_never_ahead_of_the_leader(void **state)
{
    (void)state;
    for (uint64_t answered_ms = 1000; answered_ms <= 1400; answered_ms += 100) {
        struct wp_leader_time time = {0};
        wp_leader_time_told(&time, LEADER + answered_ms, 1000, 1400);
        uint64_t earliest_ms = wp_leader_time_earliest_ms(&time, 9000);
        assert_in_range(earliest_ms, LEADER + 9000 - 400, LEADER + 9000);
    }
}

/* Answers that a cut network held back say little, however many come. */
static void test_the_shortest_round_trip_is_kept(void **state)
{
    (void)state;
    struct wp_leader_time time = {0};
    wp_leader_time_told(&time, LEADER + 1000, 1000, 1300);
    assert_int_equal(wp_leader_time_earliest_ms(&time, 1300), LEADER + 1000);
    wp_leader_time_told(&time, LEADER + 2001, 2000, 2002);
    assert_int_equal(wp_leader_time_earliest_ms(&time, 2002), LEADER + 2001);
    for (uint64_t asked_ms = 3000; asked_ms < 32000; asked_ms += 1000) {
        wp_leader_time_told(&time, LEADER + asked_ms, asked_ms, asked_ms + 4000);        /* late coming */
        wp_leader_time_told(&time, LEADER + asked_ms + 4000, asked_ms, asked_ms + 4000); /* late going */
    }
    assert_int_equal(wp_leader_time_earliest_ms(&time, 40000), LEADER + 39999);
    /* Clocks drift: in time a somewhat longer one is better than an old one. */
    wp_leader_time_told(&time, LEADER + 62100, 62000, 62200);
    assert_int_equal(wp_leader_time_earliest_ms(&time, 62200), LEADER + 62100);
}

/* The leader's clock was set, or it stands until the others have caught up: the newest answer is believed. */
static void test_a_clock_that_was_set_is_followed(void **state)
{
    (void)state;
    struct wp_leader_time time = {0};
    wp_leader_time_told(&time, LEADER + 1000, 1000, 1001);
    wp_leader_time_told(&time, LEADER + 3000, 2000, 2400);
    assert_int_equal(wp_leader_time_earliest_ms(&time, 2400), LEADER + 3000);
    wp_leader_time_told(&time, LEADER + 3000, 3400, 3900);
    assert_int_equal(wp_leader_time_earliest_ms(&time, 3900), LEADER + 3000);
}

static void test_what_a_delivery_has_left(void **state)
{
    (void)state;
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.expires_ms = LEADER + 10000;
    deliver.remaining_ms = 3000; /* sent at LEADER + 7000 */
    /* Nothing is known of the leader's time: from the arrival on. */
    assert_int_equal(wp_leader_time_left_ms(&deliver, 0, 0), 3000);
    assert_int_equal(wp_leader_time_left_ms(&deliver, 2999, 0), 1);
    assert_int_equal(wp_leader_time_left_ms(&deliver, 3000, 0), 0);
    assert_int_equal(wp_leader_time_left_ms(&deliver, 9000, 0), 0);
    /* It stood in the network. */
    assert_int_equal(wp_leader_time_left_ms(&deliver, 0, LEADER + 8500), 1500);
    assert_int_equal(wp_leader_time_left_ms(&deliver, 0, LEADER + 9999), 1);
    assert_int_equal(wp_leader_time_left_ms(&deliver, 0, LEADER + 10000), 0);
    assert_int_equal(wp_leader_time_left_ms(&deliver, 0, LEADER + 99000), 0);
    /* What is known lags behind what the frame itself says. */
    assert_int_equal(wp_leader_time_left_ms(&deliver, 500, LEADER + 5000), 2500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_before_the_first_answer),
        cmocka_unit_test(test_never_ahead_of_the_leader),
        cmocka_unit_test(test_the_shortest_round_trip_is_kept),
        cmocka_unit_test(test_a_clock_that_was_set_is_followed),
        cmocka_unit_test(test_what_a_delivery_has_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
