/* Limits come from the log: replicas that began with different ones decide alike once they were told, also
 * over restarts, and a leader with an older roster changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "router/keys.h"
#include "tests/unit/machine_fixture.h"

static int tell(struct fixture *f, uint64_t version, const struct wp_machine_limits *limits)
{
    fixture_begin(f);
    fixture_limits(f, version, limits);
    return fixture_apply(f)->error;
}

static int send(struct fixture *f, struct sender *sender, size_t body_size, uint64_t ttl_ms)
{
    struct message message = {
        .recipient = "bob", .lane = WP__LANE__ROUTINE, .body_size = body_size, .ttl_ms = ttl_ms};
    return fixture_send(f, sender, &message)->error;
}

static void test_replicas_with_different_files_stay_equal(void **state)
{
    (void)state;
    struct fixture f[2];
    for (int i = 0; i < 2; i++) {
        fixture_init(&f[i]);
        f[i].limits.mailbox_messages_max = i ? 1 : 50;
        f[i].limits.body_bytes_max = i ? 10 : 5000;
        f[i].limits.seen_ids_max = i ? 1000 : 5000;
        fixture_restart(&f[i]);
    }
    struct wp_machine_limits limits = f[0].limits;
    limits.mailbox_messages_max = 3;
    limits.body_bytes_max = 100;
    for (int i = 0; i < 2; i++) {
        struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
        assert_int_equal(tell(&f[i], 1, &limits), WP_OK);
        fixture_user(&f[i], "bob", 1);
        assert_int_equal(send(&f[i], &ann, 101, 0), WP_E_BODY_TOO_LARGE);
        for (int n = 0; n < 3; n++) {
            assert_int_equal(send(&f[i], &ann, 100, 0), WP_OK);
            fixture_restart(&f[i]); /* with its own file again */
        }
        assert_int_equal(send(&f[i], &ann, 100, 0), WP_E_MAILBOX_FULL);
    }
    assert_int_equal(fixture_hash(&f[0]), fixture_hash(&f[1]));
    fixture_fini(&f[0]);
    fixture_fini(&f[1]);
}

static void test_a_change_holds_for_what_comes_after_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct wp_machine_limits limits = f.limits;
    assert_int_equal(tell(&f, 7, &limits), WP_OK);
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 5);
    limits.mailbox_messages_max = 4;
    limits.ttl_default_ms = HOUR_MS;
    limits.ttl_max_ms = 2u * HOUR_MS;
    assert_int_equal(tell(&f, 8, &limits), WP_OK);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1,2,3,4,5"); /* what is kept stays */
    assert_int_equal(send(&f, &ann, 10, 3u * HOUR_MS), WP_E_EXPIRY_TOO_LONG);
    assert_int_equal(send(&f, &ann, 10, HOUR_MS), WP_E_MAILBOX_FULL);
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 1);
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 2);
    struct message message = {.recipient = "bob", .lane = WP__LANE__ROUTINE, .body_size = 10};
    const struct wp_result *result = fixture_send(&f, &ann, &message);
    assert_int_equal(result->error, WP_OK);
    assert_int_equal(result->submit.expires_ms, f.time_ms + HOUR_MS);
    fixture_fini(&f);
}

static void test_an_older_roster_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_user(&f, "bob", 1);
    struct wp_machine_limits old = f.limits, new = f.limits;
    new.body_bytes_max = 50;
    assert_true(wp_machine_limits_due(f.machine, 0, &f.limits)); /* never told */
    assert_int_equal(tell(&f, 0, &old), WP_OK);
    assert_false(wp_machine_limits_due(f.machine, 5, &old)); /* the same */
    assert_true(wp_machine_limits_due(f.machine, 5, &new));
    assert_int_equal(tell(&f, 5, &new), WP_OK);
    assert_false(wp_machine_limits_due(f.machine, 4, &old));
    assert_false(wp_machine_limits_due(f.machine, 5, &old));
    assert_int_equal(tell(&f, 4, &old), WP_E_UNAVAILABLE);
    assert_int_equal(tell(&f, 5, &old), WP_E_UNAVAILABLE);
    fixture_restart(&f);
    assert_int_equal(tell(&f, 5, &old), WP_E_UNAVAILABLE);
    assert_int_equal(send(&f, &ann, 51, 0), WP_E_BODY_TOO_LARGE);
    assert_int_equal(tell(&f, 6, &old), WP_OK);
    assert_int_equal(send(&f, &ann, 51, 0), WP_OK);
    fixture_fini(&f);
}

static void test_what_makes_no_sense_is_refused_alike(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    const struct wp_machine_limits good = f.limits;
    uint64_t before = fixture_hash(&f);
    struct wp_machine_limits bad[] = {good, good, good, good};
    bad[0].seen_ids_max = 0;
    bad[1].seen_ids_max = UINT32_MAX;
    bad[2].ttl_max_ms = UINT64_MAX;
    bad[3].stat_per_minute_max = UINT64_C(1) << 41;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(tell(&f, 1 + i, &bad[i]), WP_E_INVALID);
    }
    assert_int_equal(fixture_rows(&f, WP_KEY_LIMITS), 0);
    assert_int_equal(tell(&f, 1, &good), WP_OK);
    assert_int_equal(fixture_rows(&f, WP_KEY_LIMITS), 1);
    assert_int_not_equal(fixture_hash(&f), before);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas_with_different_files_stay_equal),
        cmocka_unit_test(test_a_change_holds_for_what_comes_after_it),
        cmocka_unit_test(test_an_older_roster_changes_nothing),
        cmocka_unit_test(test_what_makes_no_sense_is_refused_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
