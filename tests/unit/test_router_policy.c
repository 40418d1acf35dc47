/* Policies: what is taken, what holds when nobody chose, and what a build makes of words that it does not
 * know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

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

static void test_numbers_are_checked(void **state)
{
    (void)state;
    enum wp_policy policy = WP_POLICY_COUNT;
    static const char *const good[] = {"1", "10000000", "0007"};
    static const char *const bad[] = {"", "0", "10000001", "-1", "+5", " 5", "5 ", "0x10", "1e3", "now",
        "18446744073709551617", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(wp_policy_check("mailbox_messages_max", good[i], &policy), WP_OK);
        assert_int_equal(policy, WP_POLICY_mailbox_messages_max);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(wp_policy_check("mailbox_messages_max", bad[i], &policy), WP_E_INVALID);
    }
    assert_int_equal(wp_policy_check("stat_per_minute_max", "0", &policy), WP_OK);
    assert_int_equal(wp_policy_check("body_cache_bytes", "5", &policy), WP_E_NOT_FOUND); /* a router's own */
}

static void test_every_row_is_whole(void **state)
{
    (void)state;
    for (int i = 0; i < WP_POLICY_COUNT; i++) {
        enum wp_policy policy = (enum wp_policy)i, found;
        char text[WP_POLICY_VALUE_SIZE];
        wp_policy_text(NULL, policy, text); /* the default */
        assert_int_equal(wp_policy_check(wp_policy_name(policy), text, &found), WP_OK);
        assert_int_equal(found, policy);
        wp_policy_values(policy, text);
        assert_non_null(strchr(text, ' '));
        assert_true(strlen(wp_policy_name(policy)) < WP_POLICY_KEY_SIZE);
        assert_true(wp_policy_meaning(policy)[0] != '\0');
    }
}

static void test_limits_come_from_the_roster(void **state)
{
    (void)state;
    struct wp_roster *roster = wp_roster_create(1);
    struct wp_machine_limits limits = {.inactive_ms = 7};
    wp_policy_put(roster, WP_POLICY_mailbox_messages_max, "20");
    wp_policy_put(roster, WP_POLICY_mailbox_messages_max, "30"); /* one row, the last value */
    wp_policy_put(roster, WP_POLICY_ttl_max_s, "1000000");
    wp_policy_put(roster, WP_POLICY_seen_ids_max, "1"); /* out of bounds: as if nobody had chosen */
    assert_int_equal(roster->policy_count, 3);
    wp_policy_limits(roster, &limits);
    assert_int_equal(limits.mailbox_messages_max, 30);
    assert_int_equal(limits.ttl_max_ms, 1000000000);
    assert_int_equal(limits.seen_ids_max, 1000000);
    assert_int_equal(limits.body_bytes_max, 1048576);
    assert_int_equal(limits.stat_per_minute_max, 60);
    assert_int_equal(limits.inactive_ms, 7); /* none of them */
    wp_roster_release(&roster);
}

static void test_limits_may_not_contradict_each_other(void **state)
{
    (void)state;
    struct wp_roster *roster = wp_roster_create(1);
    assert_null(wp_policy_clash(roster, WP_POLICY_ttl_max_s, "604800"));
    assert_non_null(wp_policy_clash(roster, WP_POLICY_ttl_max_s, "604799"));
    assert_non_null(wp_policy_clash(roster, WP_POLICY_ttl_default_s, "2592001"));
    assert_non_null(wp_policy_clash(roster, WP_POLICY_mailbox_bytes_max, "65536"));
    wp_policy_put(roster, WP_POLICY_body_bytes_max, "65536");
    assert_null(wp_policy_clash(roster, WP_POLICY_mailbox_bytes_max, "65536"));
    assert_null(wp_policy_clash(roster, WP_POLICY_mailbox_messages_max, "1"));
    assert_null(wp_policy_clash(roster, WP_POLICY_LATE_DEVICE, "oldest"));
    wp_roster_release(&roster);
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
        cmocka_unit_test(test_numbers_are_checked),
        cmocka_unit_test(test_every_row_is_whole),
        cmocka_unit_test(test_limits_come_from_the_roster),
        cmocka_unit_test(test_limits_may_not_contradict_each_other),
        cmocka_unit_test(test_what_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
