/* Leases under a simulated clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/error.h"
#include "gateway/lease.h"

static struct wp_leases *make(uint64_t now_ms)
{
    struct wp_leases *leases;
    assert_int_equal(wp_leases_create(4, now_ms, &leases), WP_OK);
    return leases;
}

static void test_asked_each_second_and_after_a_gap(void **state)
{
    (void)state;
    struct wp_leases *leases = make(1000);
    uint64_t asked[8] = {0};
    unsigned count = 0;
    for (uint64_t now_ms = 1020; now_ms < 4000; now_ms += 20) {
        if (wp_leases_turn(leases, now_ms)) {
            asked[count++] = now_ms;
        }
    }
    assert_int_equal(count, 3);
    assert_int_equal(asked[0], 1020);
    assert_int_equal(asked[1], 2020);
    assert_int_equal(asked[2], 3020);
    assert_true(wp_leases_turn(leases, 3980 + WP_LEASE_GAP_MS + 1)); /* stood still */
    assert_false(wp_leases_turn(leases, 4190));
    wp_leases_hurry(leases);
    assert_true(wp_leases_turn(leases, 4200));
    assert_false(wp_leases_turn(leases, 4210));
    wp_leases_destroy(&leases);
}

/* What the whole is for: an answer that was long on its way grants what is left of the time from sending. */
static void test_counted_from_the_request(void **state)
{
    (void)state;
    struct wp_leases *leases = make(1000);
    assert_false(wp_lease_held(leases, 1, 1000));
    assert_true(wp_leases_turn(leases, 1000));
    assert_true(wp_leases_granted(leases, 1, 1000, 4500));
    assert_true(wp_lease_held(leases, 1, 1000 + WP_LEASE_MS - 1));
    assert_false(wp_lease_held(leases, 1, 1000 + WP_LEASE_MS));
    assert_false(wp_lease_held(leases, 2, 4500));
    assert_int_equal(wp_leases_count(leases, 4500), 1);
    /* One that comes when its time is over grants nothing. */
    assert_true(wp_leases_turn(leases, 7000));
    assert_false(wp_leases_granted(leases, 1, 7000, 7000 + WP_LEASE_MS));
    assert_false(wp_lease_held(leases, 1, 7000 + WP_LEASE_MS));
    assert_int_equal(wp_lease_absent_ms(leases, 1, 7000 + WP_LEASE_MS + 300), 300);
    wp_leases_destroy(&leases);
}

static void test_renewed_and_never_shortened(void **state)
{
    (void)state;
    struct wp_leases *leases = make(1000);
    assert_true(wp_leases_turn(leases, 1000));
    assert_true(wp_leases_turn(leases, 2000));
    assert_true(wp_leases_granted(leases, 3, 2000, 2001));
    assert_false(wp_leases_granted(leases, 3, 1000, 2002)); /* the older answer comes last */
    assert_true(wp_lease_held(leases, 3, 2000 + WP_LEASE_MS - 1));
    assert_int_equal(wp_lease_absent_ms(leases, 3, 2500), 0);
    /* A stamp that nobody sent, and a shard that is not there. */
    assert_false(wp_leases_granted(leases, 3, 900000, 2003));
    assert_false(wp_lease_held(leases, 3, 2000 + WP_LEASE_MS));
    assert_false(wp_leases_granted(leases, 0, 2000, 2003));
    assert_false(wp_leases_granted(leases, 5, 2000, 2003));
    wp_leases_destroy(&leases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked_each_second_and_after_a_gap),
        cmocka_unit_test(test_counted_from_the_request),
        cmocka_unit_test(test_renewed_and_never_shortened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
