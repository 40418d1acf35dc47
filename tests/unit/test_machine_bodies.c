/* The table of shared bodies against an array of counts, with numbers that come and go as those of a shard
 * do: given out in order, let go in any. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/prng.h"
#include "router/bodies.h"

#define NUMBERS 3000u
#define STEPS 40000u

static void test_counts_as_an_array_does(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        static uint32_t holders[NUMBERS];
        struct wp_bodies bodies = {0};
        struct wp_prng prng;
        wp_prng_init(&prng, seed);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < STEPS; i++) {
            uint64_t span = 1 + i * (NUMBERS - 1) / STEPS;
            uint64_t number = 1 + wp_prng_below(&prng, span);
            uint64_t stride = number * 4096; /* all with the same home slot in a small table */
            uint64_t named = seed % 2 ? number : stride;
            if (wp_prng_below(&prng, 2) == 0) {
                assert_int_equal(wp_bodies_hold(&bodies, named), WP_OK);
                kept += holders[number - 1]++ == 0;
            } else if (holders[number - 1] > 0) {
                bool last = --holders[number - 1] == 0;
                kept -= last;
                assert_int_equal(wp_bodies_release(&bodies, named), last);
            }
            assert_int_equal(wp_bodies_holders(&bodies, named), holders[number - 1]);
            assert_int_equal(bodies.count, kept);
        }
        for (uint64_t number = 1; number <= NUMBERS; number++) {
            uint64_t named = seed % 2 ? number : number * 4096;
            assert_int_equal(wp_bodies_holders(&bodies, named), holders[number - 1]);
            holders[number - 1] = 0;
        }
        wp_bodies_fini(&bodies);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts_as_an_array_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
