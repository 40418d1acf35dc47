/* Policies: what is taken, what holds when nobody chose, and what a build makes of words that it does not
 * know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/error.h"
#include "router/policy.h"

static void test_words_are_checked(void **state)
{
    (void)state;
    enum wp_policy policy = WP_POLICY_COUNT;
    assert_int_equal(wp_policy_check("late_device", "oldest", &policy), WP_OK);
    assert_int_equal(policy, WP_POLICY_LATE_DEVICE);
    assert_int_equal(wp_policy_check("late_device", "now", &policy), WP_OK);
    assert_int_equal(wp_policy_check("late_device", "old", &policy), WP_E_INVALID);
    assert_int_equal(wp_policy_check("late_device", "now oldest", &policy), WP_E_INVALID);
    assert_int_equal(wp_policy_check("late_device", "", &policy), WP_E_INVALID);
    assert_int_equal(wp_policy_check("late", "now", &policy), WP_E_NOT_FOUND);
}

static void test_every_row_is_whole(void **state)
{
    (void)state;
    for (int i = 0; i < WP_POLICY_COUNT; i++) {
        enum wp_policy policy = (enum wp_policy)i, found;
        char word[WP_POLICY_VALUE_SIZE];
        uint32_t words = 0;
        for (wp_policy_word(policy, words, word); word[0]; wp_policy_word(policy, ++words, word)) {
            assert_int_equal(wp_policy_check(wp_policy_name(policy), word, &found), WP_OK);
            assert_int_equal(found, policy);
        }
        assert_true(words >= 2);
        assert_true(wp_policy_meaning(policy)[0] != '\0');
    }
}

static void test_what_holds(void **state)
{
    (void)state;
    struct wp_roster *roster = wp_roster_create(1);
    struct wp_roster_policy *row = &roster->policies[0];
    assert_int_equal(wp_policy_get(roster, WP_POLICY_LATE_DEVICE), WP_LATE_DEVICE_NOW);
    roster->policy_count = 1;
    snprintf(row->key, sizeof row->key, "late_device");
    snprintf(row->value, sizeof row->value, "oldest");
    assert_int_equal(wp_policy_get(roster, WP_POLICY_LATE_DEVICE), WP_LATE_DEVICE_OLDEST);
    snprintf(row->value, sizeof row->value, "of-a-later-build");
    assert_int_equal(wp_policy_get(roster, WP_POLICY_LATE_DEVICE), WP_LATE_DEVICE_NOW);
    wp_roster_release(&roster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_checked),
        cmocka_unit_test(test_every_row_is_whole),
        cmocka_unit_test(test_what_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
