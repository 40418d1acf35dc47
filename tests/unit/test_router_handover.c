/* The back-off of hand-overs that nobody takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/handover.h"

static void test_waits_double_up_to_a_minute_and_the_first_is_told(void **state)
{
    (void)state;
    struct wp_handover handover = {0};
    static const uint32_t waits_ms[] = {4000, 8000, 16000, 32000, 60000, 60000};
    uint64_t now_ms = 1000;
    assert_true(wp_handover_may(&handover, now_ms));
    for (size_t i = 0; i < sizeof waits_ms / sizeof waits_ms[0]; i++) {
        handover.to = 7;
        assert_false(wp_handover_may(&handover, now_ms)); /* one is under way */
        now_ms += 500;
        assert_int_equal(wp_handover_failed(&handover, now_ms), i == 0);
        assert_false(wp_handover_may(&handover, now_ms + waits_ms[i] - 1));
        assert_true(wp_handover_may(&handover, now_ms + waits_ms[i]));
        now_ms += waits_ms[i];
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_double_up_to_a_minute_and_the_first_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
