/* The machine's main path: a message is accepted into its mailbox, pending for each device, and leaves when
 * all have it. Attachments, subscriptions, users and devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "router/keys.h"
#include "tests/unit/machine_fixture.h"

static void test_message_goes_in_and_out(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};

    struct message message = {
        .recipient = "bob", .lane = WP__LANE__URGENT, .body_size = 100, .ttl_ms = HOUR_MS};
    const struct wp_result *result = fixture_send(&f, &ann, &message);
    assert_int_equal(result->error, WP_OK);
    assert_int_equal(result->submit.mailbox, bob);
    assert_int_equal(result->submit.lane, WP__LANE__URGENT);
    assert_int_equal(result->submit.sequence, 1);
    assert_int_equal(result->submit.accepted_ms, f.time_ms);
    assert_int_equal(result->submit.expires_ms, f.time_ms + HOUR_MS);
    assert_in_range((uintptr_t)result->submit.envelope.data, (uintptr_t)f.entry.data,
        (uintptr_t)f.entry.data + f.entry.size - 1);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__URGENT), "1");
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "");

    fixture_acknowledge_one(&f, bob, 1, WP__LANE__URGENT, 1);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__URGENT), "");
    assert_int_equal(fixture_messages(&f), 0);
    assert_int_equal(fixture_rows(&f, WP_KEY_MESSAGE), 0);
    assert_int_equal(fixture_rows(&f, WP_KEY_INDEX), 0);

    /* Positions go on where they were, also over a restart with an empty mailbox. */
    fixture_restart(&f);
    fixture_fill(&f, &ann, "bob", WP__LANE__URGENT, 1);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__URGENT), "2");
    fixture_fini(&f);
}

static void test_stored_record_is_readable(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__STAT, 3);
    struct wp_buffer from = WP_BUFFER_INIT;
    struct wp_buffer to = WP_BUFFER_INIT;
    assert_int_equal(wp_machine_message_range(FIXTURE_SHARD, bob, WP__LANE__STAT, 2, 3, &from, &to), WP_OK);
    struct wp_state_iter *iter =
        wp_state_iter_create(f.store, wp_slice(from.data, from.size), wp_slice(to.data, to.size));
    for (uint64_t expected = 2; expected <= 3; expected++) {
        assert_true(wp_state_iter_valid(iter));
        uint64_t sequence;
        Wp__RecordMessage *record;
        assert_int_equal(wp_machine_message_decode(wp_state_iter_key(iter), wp_state_iter_value(iter),
                             &f.arena, &sequence, &record),
            WP_OK);
        assert_int_equal(sequence, expected);
        assert_int_equal(record->accepted_ms, f.time_ms);
        assert_int_equal(record->expires_ms, f.time_ms + f.limits.ttl_default_ms);
        Wp__Envelope *envelope;
        assert_int_equal(
            wp_schema_decode(&wp__envelope__descriptor, wp_slice(record->envelope.data, record->envelope.len),
                &f.arena, (ProtobufCMessage **)&envelope),
            WP_OK);
        assert_string_equal(envelope->header->recipient, "bob");
        assert_int_equal(envelope->body.len, 100);
        wp_state_iter_next(iter);
    }
    assert_false(wp_state_iter_valid(iter));
    wp_state_iter_destroy(&iter);
    /* "To the end" stays in the lane. */
    assert_int_equal(
        wp_machine_message_range(FIXTURE_SHARD, bob, WP__LANE__URGENT, 1, UINT64_MAX, &from, &to), WP_OK);
    iter = wp_state_iter_create(f.store, wp_slice(from.data, from.size), wp_slice(to.data, to.size));
    assert_false(wp_state_iter_valid(iter));
    wp_state_iter_destroy(&iter);
    wp_buffer_free(&from);
    wp_buffer_free(&to);
    fixture_fini(&f);
}

static void test_every_device_gets_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);

    /* Out of order: 2 stays acknowledged while 1 and 3 are pending. */
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 2);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1+,3");
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "1,2,3");
    assert_int_equal(fixture_messages(&f), 3);

    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 2);
    assert_int_equal(fixture_messages(&f), 2);
    fixture_begin(&f);
    fixture_acknowledge(&f, bob, 1, WP__LANE__ROUTINE, (const uint64_t[]){1, 3}, 2);
    fixture_acknowledge(&f, bob, 2, WP__LANE__ROUTINE, (const uint64_t[]){3}, 1);
    fixture_apply(&f);
    assert_int_equal(fixture_messages(&f), 1);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "1+");
    fixture_restart(&f);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "1+");
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 1);
    assert_int_equal(fixture_messages(&f), 0);
    fixture_fini(&f);
}

static void test_strange_acknowledgements_do_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 2);
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 3); /* never given out */
    fixture_acknowledge_one(&f, bob, 9, WP__LANE__ROUTINE, 1); /* no such device */
    fixture_acknowledge_one(&f, 77, 1, WP__LANE__ROUTINE, 1);  /* no such mailbox */
    fixture_acknowledge_one(&f, bob, 1, (Wp__Lane)7, 1);       /* no such lane */
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 0); /* positions begin at 1 */
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1,2");
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 1);
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 1); /* again */
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "2");
    fixture_sent(&f, bob, 1, WP__LANE__ROUTINE, 99, true); /* beyond the tail: cut to it */
    fixture_apply(&f);
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "2+,3");
    fixture_fini(&f);
}

static void test_attach_and_subscribe(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);

    const struct wp_result *result = fixture_attach_now(&f, "bob", "d1");
    assert_int_equal(result->error, WP_OK);
    assert_int_equal(result->attach.mailbox, bob);
    assert_int_equal(result->attach.device, 1);
    assert_int_equal(result->attach.epoch, 1);
    assert_false(result->attach.session_present);

    fixture_begin(&f);
    fixture_subscribe(&f, "bob", "d1", 1, true);
    assert_int_equal(fixture_apply(&f)->error, WP_OK);
    fixture_restart(&f);
    result = fixture_attach_now(&f, "bob", "d1");
    assert_int_equal(result->attach.epoch, 2);
    assert_true(result->attach.session_present);
    assert_true(result->attach.inbox_subscribed);

    fixture_begin(&f);
    fixture_subscribe(&f, "bob", "d1", 1, false); /* of the attachment before */
    assert_int_equal(fixture_apply(&f)->error, WP_E_STALE_EPOCH);
    struct wp_device_view view;
    assert_int_equal(wp_machine_device_find(f.machine, "bob", "d1", &view), WP_OK);
    assert_true(view.inbox_subscribed);
    assert_int_equal(view.epoch, 2);

    /* Clean start ends the subscription, not the mailbox. */
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    fixture_begin(&f);
    fixture_attach(&f, "bob", "d1", true);
    result = fixture_apply(&f);
    assert_int_equal(result->attach.epoch, 3);
    assert_false(result->attach.session_present);
    assert_false(result->attach.inbox_subscribed);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1");

    assert_int_equal(fixture_attach_now(&f, "bob", "d2")->error, WP_E_NOT_FOUND);
    assert_int_equal(fixture_attach_now(&f, "eve", "d1")->error, WP_E_NOT_FOUND);
    fixture_begin(&f);
    fixture_subscribe(&f, "eve", "d1", 1, true);
    assert_int_equal(fixture_apply(&f)->error, WP_E_NOT_FOUND);
    fixture_fini(&f);
}

static void test_users_and_devices(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    fixture_begin(&f);
    fixture_user_add(&f, "bob");
    fixture_user_add(&f, "Bob");
    fixture_user_add(&f, "");
    fixture_device_add(&f, "bob", "d1");
    fixture_device_add(&f, "bob", "no/slash");
    fixture_device_add(&f, "eve", "d1");
    fixture_device_remove(&f, "bob", "d7");
    fixture_apply(&f);
    static const int expected[] = {
        WP_E_EXISTS, WP_E_INVALID, WP_E_INVALID, WP_E_EXISTS, WP_E_INVALID, WP_E_NOT_FOUND, WP_E_NOT_FOUND};
    assert_int_equal(f.applied.result_count, 7);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(f.applied.results[i].ordinal, i);
        assert_int_equal(f.applied.results[i].error, expected[i]);
    }
    assert_int_equal(f.applied.results[0].admin.mailbox, bob);

    for (uint32_t i = 2; i <= WP_DEVICES_MAX; i++) {
        char name[8] = {'d', (char)('0' + i / 10), (char)('0' + i % 10)};
        fixture_begin(&f);
        fixture_device_add(&f, "bob", name);
        assert_int_equal(fixture_apply(&f)->error, WP_OK);
    }
    fixture_begin(&f);
    fixture_device_add(&f, "bob", "one-more");
    assert_int_equal(fixture_apply(&f)->error, WP_E_FULL);
    assert_true(wp_machine_user_exists(f.machine, "bob"));
    assert_false(wp_machine_user_exists(f.machine, "eve"));
    assert_string_equal(wp_machine_mailbox_user(f.machine, bob), "bob");
    assert_null(wp_machine_mailbox_user(f.machine, 0));
    assert_null(wp_machine_mailbox_user(f.machine, bob + 1));
    fixture_fini(&f);
}

static void test_removed_device_comes_back_as_another(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    fixture_attach_now(&f, "bob", "d1");
    fixture_attach_now(&f, "bob", "d1");
    fixture_begin(&f);
    fixture_device_remove(&f, "bob", "d1");
    const struct wp_result *result = fixture_apply(&f);
    assert_int_equal(result->admin.mailbox, bob);
    assert_int_equal(result->admin.device, 1);
    struct wp_device_view view;
    assert_int_equal(wp_machine_device_find(f.machine, "bob", "d1", &view), WP_E_NOT_FOUND);
    assert_int_equal(fixture_rows(&f, WP_KEY_DEVICE), 0);
    assert_int_equal(fixture_rows(&f, WP_KEY_CURSOR), 0);

    fixture_restart(&f);
    fixture_begin(&f);
    fixture_device_add(&f, "bob", "d1");
    assert_int_equal(fixture_apply(&f)->admin.device, 2);
    /* Streams in other shards know epoch 2 of bob/d1; the new device must come after it. */
    assert_int_equal(fixture_attach_now(&f, "bob", "d1")->attach.epoch, 3);
    fixture_fini(&f);
}

static void test_where_a_new_device_begins(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 0);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 2);
    fixture_begin(&f);
    fixture_device_add(&f, "bob", "first");
    fixture_device_add(&f, "bob", "second");
    fixture_apply(&f);
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1,2");
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "");
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "3");

    /* The lost phone goes: what only it would have got comes to the other one. */
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 1);
    fixture_begin(&f);
    fixture_device_remove(&f, "bob", "first");
    fixture_apply(&f);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "2,3");
    fixture_restart(&f);
    assert_string_equal(fixture_pending(&f, bob, 2, WP__LANE__ROUTINE), "2,3");

    /* And after the last device, to the next first one. */
    fixture_begin(&f);
    fixture_device_remove(&f, "bob", "second");
    fixture_device_add(&f, "bob", "third");
    fixture_apply(&f);
    assert_string_equal(fixture_pending(&f, bob, 3, WP__LANE__ROUTINE), "2,3");
    fixture_fini(&f);
}

static void test_secrets(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 2);
    static const uint8_t key[32] = {7};
    static const uint8_t other_key[32] = {8};
    struct wp_device_view view;
    assert_int_equal(wp_machine_authenticate(f.machine, key, "bob", "d2", wp_slice("d2", 2), &view), WP_OK);
    assert_int_equal(view.device, 2);
    assert_int_equal(
        wp_machine_authenticate(f.machine, key, "bob", "d2", wp_slice("d1", 2), &view), WP_E_AUTH);
    assert_int_equal(
        wp_machine_authenticate(f.machine, key, "bob", "d3", wp_slice("d3", 2), &view), WP_E_AUTH);
    assert_int_equal(
        wp_machine_authenticate(f.machine, key, "eve", "d2", wp_slice("d2", 2), &view), WP_E_AUTH);
    assert_int_equal(
        wp_machine_authenticate(f.machine, key, "bob", "d2", wp_slice(NULL, 0), &view), WP_E_AUTH);
    assert_int_equal(
        wp_machine_authenticate(f.machine, other_key, "bob", "d2", wp_slice("d2", 2), &view), WP_E_AUTH);
    fixture_fini(&f);
}

struct listing {
    char text[256];
};

static void list_user(void *context, const struct wp_user_view *view)
{
    struct listing *listing = context;
    size_t size = strlen(listing->text);
    snprintf(listing->text + size, sizeof listing->text - size, "%s(%u dev %llu+%llu+%llu %lluB) ",
        view->user, view->devices, (unsigned long long)view->queued[0], (unsigned long long)view->queued[1],
        (unsigned long long)view->queued[2], (unsigned long long)(view->queued_bytes > 0));
}

static void list_device(void *context, const struct wp_device_detail *detail)
{
    struct listing *listing = context;
    size_t size = strlen(listing->text);
    snprintf(listing->text + size, sizeof listing->text - size, "%s#%u(%llu+%llu+%llu) ", detail->device,
        detail->number, (unsigned long long)detail->pending[0], (unsigned long long)detail->pending[1],
        (unsigned long long)detail->pending[2]);
}

static void test_listings(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "zoe", 1);
    fixture_user(&f, "bob", 2);
    fixture_user(&f, "bo", 0);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 2);
    fixture_fill(&f, &ann, "bob", WP__LANE__STAT, 1);
    fixture_acknowledge_one(&f, 2, 1, WP__LANE__ROUTINE, 2);
    struct listing listing = {0};
    wp_machine_users_each(f.machine, list_user, &listing);
    assert_string_equal(listing.text, "bo(0 dev 0+0+0 0B) bob(2 dev 2+0+1 1B) zoe(1 dev 0+0+0 0B) ");
    listing.text[0] = '\0';
    assert_int_equal(wp_machine_devices_each(f.machine, "bob", list_device, &listing), WP_OK);
    assert_string_equal(listing.text, "d1#1(1+0+1) d2#2(2+0+1) ");
    assert_int_equal(wp_machine_devices_each(f.machine, "eve", list_device, &listing), WP_E_NOT_FOUND);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_goes_in_and_out),
        cmocka_unit_test(test_stored_record_is_readable),
        cmocka_unit_test(test_every_device_gets_it),
        cmocka_unit_test(test_strange_acknowledgements_do_nothing),
        cmocka_unit_test(test_attach_and_subscribe),
        cmocka_unit_test(test_users_and_devices),
        cmocka_unit_test(test_removed_device_comes_back_as_another),
        cmocka_unit_test(test_where_a_new_device_begins),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_listings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
