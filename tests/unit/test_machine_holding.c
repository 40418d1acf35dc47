/* When messages leave: expiry, redelivery and setting aside, inactive devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/error.h"
#include "router/keys.h"
#include "tests/unit/machine_fixture.h"

static void send_ttl(
    struct fixture *f, struct sender *sender, const char *recipient, Wp__Lane lane, uint64_t ttl_ms)
{
    struct message message = {.recipient = recipient, .lane = lane, .ttl_ms = ttl_ms};
    assert_int_equal(fixture_send(f, sender, &message)->error, WP_OK);
}

static void test_expiry_order_and_limit(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    uint64_t eve = fixture_user(&f, "eve", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    assert_int_equal(wp_machine_expiry_due_ms(f.machine), UINT64_MAX);
    send_ttl(&f, &ann, "eve", WP__LANE__ROUTINE, 3000);
    send_ttl(&f, &ann, "bob", WP__LANE__STAT, 2000);
    send_ttl(&f, &ann, "bob", WP__LANE__ROUTINE, 2000);
    send_ttl(&f, &ann, "bob", WP__LANE__ROUTINE, 1000);
    send_ttl(&f, &ann, "bob", WP__LANE__ROUTINE, 4001);
    uint64_t start_ms = f.time_ms;
    assert_int_equal(wp_machine_expiry_due_ms(f.machine), start_ms + 1000);

    f.time_ms = start_ms + 999;
    assert_int_equal(fixture_expire_now(&f, 10)->expire.expired, 0);
    f.time_ms = start_ms + 4000;
    /* Expired at the leader's clock means not offered, also before EXPIRE has come through. */
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "3");
    const struct wp_result *result = fixture_expire_now(&f, 3);
    assert_int_equal(result->expire.expired, 3);
    assert_true(result->expire.more);
    assert_int_equal(f.applied.removal_count, 3);
    static const struct {
        Wp__Lane lane;
        uint64_t sequence;
    } expected[] = {{WP__LANE__ROUTINE, 2}, {WP__LANE__ROUTINE, 1}, {WP__LANE__STAT, 1}};
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(f.applied.removals[i].mailbox, bob);
        assert_int_equal(f.applied.removals[i].lane, expected[i].lane);
        assert_int_equal(f.applied.removals[i].sequence, expected[i].sequence);
    }
    fixture_restart(&f);
    assert_int_equal(wp_machine_expiry_due_ms(f.machine), start_ms + 3000);
    result = fixture_expire_now(&f, 3);
    assert_int_equal(result->expire.expired, 1);
    assert_false(result->expire.more);
    assert_int_equal(f.applied.removals[0].mailbox, eve);
    assert_int_equal(fixture_messages(&f), 1);
    assert_int_equal(fixture_rows(&f, WP_KEY_MESSAGE), 1);
    f.time_ms = start_ms + 4001;
    result = fixture_expire_now(&f, 1);
    assert_int_equal(result->expire.expired, 1);
    assert_false(result->expire.more);
    assert_int_equal(wp_machine_expiry_due_ms(f.machine), UINT64_MAX);
    fixture_fini(&f);
}

static void test_delivered_is_not_expired(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    send_ttl(&f, &ann, "bob", WP__LANE__ROUTINE, 1000);
    send_ttl(&f, &ann, "bob", WP__LANE__ROUTINE, 1000);
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 1);
    fixture_restart(&f);
    f.time_ms += 1000;
    assert_int_equal(fixture_expire_now(&f, 10)->expire.expired, 1);
    assert_int_equal(f.applied.removal_count, 2); /* the other device must stop getting it all the same */
    assert_int_equal(fixture_messages(&f), 0);
    fixture_fini(&f);
}

static void test_many_neighbours_expire_as_a_range(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    uint64_t eve = fixture_user(&f, "eve", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    for (uint32_t i = 0; i < 100; i++) {
        send_ttl(&f, &ann, "bob", WP__LANE__ROUTINE, i == 50 ? 5000 : 1000);
        send_ttl(&f, &ann, "eve", WP__LANE__ROUTINE, 5000);
    }
    f.time_ms += 1000;
    assert_int_equal(fixture_expire_now(&f, 1000)->expire.expired, 99);
    assert_string_equal(fixture_pending(&f, 1, 1, WP__LANE__ROUTINE), "51");
    assert_int_equal(fixture_rows(&f, WP_KEY_MESSAGE), 101);
    fixture_restart(&f);
    assert_string_equal(fixture_pending(&f, 1, 1, WP__LANE__ROUTINE), "51");
    struct wp_pending pending;
    assert_true(wp_machine_next_pending(f.machine, eve, 1, WP__LANE__ROUTINE, 99, f.time_ms, &pending));
    assert_int_equal(pending.sequence, 100);
    fixture_fini(&f);
}

/* One attachment in which everything up to `sent` goes out and nothing is acknowledged. */
static uint32_t attach_and_send(struct fixture *f, uint64_t mailbox, uint64_t sent)
{
    const struct wp_result *result = fixture_attach_now(f, "bob", "d1");
    assert_int_equal(result->error, WP_OK);
    uint32_t set_aside = result->attach.set_aside;
    if (sent > 0) {
        fixture_begin(f);
        fixture_sent(f, mailbox, 1, WP__LANE__ROUTINE, sent, true);
        fixture_apply(f);
    }
    return set_aside;
}

/* A phone that loses its connection all day has done nothing wrong: nothing is set aside for it. */
static void test_broken_connections_set_nothing_aside(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);
    for (uint32_t i = 0; i < 4 * WP_SET_ASIDE_ATTEMPTS; i++) {
        const struct wp_result *result = fixture_attach_now(&f, "bob", "d1");
        assert_int_equal(result->error, WP_OK);
        assert_int_equal(result->attach.set_aside, 0);
        assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), i == 0 ? "1,2,3" : "1+,2+,3+");
        fixture_begin(&f);
        fixture_sent(&f, bob, 1, WP__LANE__ROUTINE, 3, false);
        fixture_apply(&f);
    }
    fixture_fini(&f);
}

static void test_setting_aside(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1,2,3");

    for (uint32_t i = 0; i < WP_SET_ASIDE_ATTEMPTS; i++) {
        assert_int_equal(attach_and_send(&f, bob, 2), 0);
        assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1+,2+,3");
        if (i == 2) {
            fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 2);
            fixture_restart(&f);
            fixture_attach_now(&f, "bob", "d1"); /* nothing sent in it: counts no attempt */
            fixture_begin(&f);
            fixture_sent(&f, bob, 1, WP__LANE__ROUTINE, 2, true);
            fixture_apply(&f);
            break;
        }
    }
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1+,3");
    attach_and_send(&f, bob, 1);
    /* Five attachments carried it; the sixth does without. */
    assert_int_equal(attach_and_send(&f, bob, 3), 1);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "3+");
    fixture_restart(&f);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "3+");
    /* It is offered again on the next, and set aside again on the one after. */
    assert_int_equal(attach_and_send(&f, bob, 3), 0);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1+,3+");
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 3);
    assert_int_equal(attach_and_send(&f, bob, 0), 1);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "");
    assert_int_equal(fixture_messages(&f), 1); /* nobody acknowledged it: it stays */
    /* A device that acknowledges it after all is done with it. */
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 1);
    assert_int_equal(fixture_messages(&f), 0);
    fixture_fini(&f);
}

static void test_set_aside_lets_go_of_what_others_have(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 2);
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 1);
    for (uint32_t i = 0; i < WP_SET_ASIDE_ATTEMPTS; i++) {
        assert_int_equal(attach_and_send(&f, bob, 2), 0);
    }
    assert_int_equal(fixture_messages(&f), 2);
    assert_int_equal(attach_and_send(&f, bob, 0), 1); /* 1 is gone, 2 is set aside */
    assert_int_equal(fixture_messages(&f), 1);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "2");
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 2);
    assert_int_equal(fixture_messages(&f), 0);
    fixture_fini(&f);
}

static void test_set_aside_counts_against_the_bounds(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.mailbox_messages_max = 2;
    fixture_restart(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 2);
    for (uint32_t i = 0; i <= WP_SET_ASIDE_ATTEMPTS; i++) {
        attach_and_send(&f, bob, 2);
    }
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "");
    struct message message = {.recipient = "bob"};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);
    fixture_fini(&f);
}

static void test_inactive_device_holds_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.ttl_default_ms = 20ull * DAY_MS;
    f.limits.mailbox_messages_max = 3;
    fixture_restart(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 1);
    assert_int_equal(fixture_messages(&f), 3);

    f.time_ms += 6u * DAY_MS;
    fixture_attach_now(&f, "bob", "d2");
    f.time_ms += DAY_MS - 1;
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 2);
    assert_int_equal(fixture_messages(&f), 3); /* d1 still holds 1 and 2 */
    f.time_ms += 1;
    fixture_restart(&f);
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1); /* any look at the mailbox notices */
    assert_int_equal(fixture_messages(&f), 2);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "3,4");

    /* What nobody acknowledged stays for it; and from its return on it holds again. */
    fixture_attach_now(&f, "bob", "d1");
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 3);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "3,4");
    assert_int_equal(fixture_messages(&f), 2);

    /* All inactive: everything kept counts against the bounds, and only expiry deletes. */
    f.time_ms += 7u * DAY_MS;
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 2);
    assert_int_equal(fixture_messages(&f), 3); /* 3 went: acknowledged by d2, held by nobody */
    struct message message = {.recipient = "bob"};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);
    f.time_ms += 14ull * DAY_MS;
    assert_int_equal(fixture_expire_now(&f, 10)->expire.expired, 1);
    fixture_fini(&f);
}

static void test_cursor_advance_is_a_sign_of_life(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.ttl_default_ms = 20ull * DAY_MS;
    fixture_restart(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    f.time_ms += 5u * DAY_MS;
    fixture_begin(&f);
    fixture_acknowledge(&f, bob, 1, WP__LANE__ROUTINE, NULL, 0);
    fixture_apply(&f);
    f.time_ms += 5u * DAY_MS;
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 1);
    assert_int_equal(fixture_messages(&f), 1);
    fixture_fini(&f);
}

static void test_removed_device_holds_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);
    fixture_fill(&f, &ann, "bob", WP__LANE__STAT, 1);
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 1);
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 3);
    fixture_begin(&f);
    fixture_device_remove(&f, "bob", "d1");
    fixture_apply(&f);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "2+");
    assert_int_equal(fixture_messages(&f), 2);
    fixture_fini(&f);
}

static void test_phone_in_a_drawer_is_bounded(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.mailbox_messages_max = 5;
    fixture_restart(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    for (uint64_t i = 1; i <= 20; i++) { /* d2 takes all, d1 nothing: senders never see "full" */
        fixture_fill(&f, &ann, "bob", i == 1 ? WP__LANE__STAT : WP__LANE__ROUTINE, 1);
        fixture_acknowledge_one(&f, bob, 2, i == 1 ? WP__LANE__STAT : WP__LANE__ROUTINE, i == 1 ? 1 : i - 1);
    }
    assert_int_equal(fixture_messages(&f), 20);
    fixture_fill(&f, &ann, "bob", WP__LANE__URGENT, 1);
    assert_int_equal(fixture_messages(&f), 20);
    assert_int_equal(f.applied.removal_count, 1);
    assert_int_equal(f.applied.removals[0].lane, WP__LANE__ROUTINE);
    assert_int_equal(f.applied.removals[0].sequence, 1);
    struct wp_pending pending;
    assert_true(wp_machine_next_pending(f.machine, bob, 1, WP__LANE__ROUTINE, 0, f.time_ms, &pending));
    assert_int_equal(pending.sequence, 2);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__STAT), "1");
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expiry_order_and_limit),
        cmocka_unit_test(test_delivered_is_not_expired),
        cmocka_unit_test(test_many_neighbours_expire_as_a_range),
        cmocka_unit_test(test_broken_connections_set_nothing_aside),
        cmocka_unit_test(test_setting_aside),
        cmocka_unit_test(test_set_aside_lets_go_of_what_others_have),
        cmocka_unit_test(test_set_aside_counts_against_the_bounds),
        cmocka_unit_test(test_inactive_device_holds_nothing),
        cmocka_unit_test(test_cursor_advance_is_a_sign_of_life),
        cmocka_unit_test(test_removed_device_holds_nothing),
        cmocka_unit_test(test_phone_in_a_drawer_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
