/* SUBMIT, rule by rule: the stream of the sender device, each refusal and what it consumes, duplicates, the
 * rate of STAT, the bounds of the mailbox. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/error.h"
#include "proto/frame.h"
#include "router/keys.h"
#include "router/seen.h"
#include "tests/unit/machine_fixture.h"

static const struct wp_result *send_at(struct fixture *f, const struct sender *sender, uint64_t epoch,
    uint64_t sequence, struct message *message)
{
    fixture_begin(f);
    fixture_submit_at(f, sender, epoch, sequence, message);
    return fixture_apply(f);
}

static int send_fresh(struct fixture *f, const struct sender *sender, uint64_t epoch, uint64_t sequence,
    uint64_t *ret_resend_from)
{
    struct message message = {.recipient = "bob", .body_size = 10};
    const struct wp_result *result = send_at(f, sender, epoch, sequence, &message);
    *ret_resend_from = result->submit.resend_from;
    return result->error;
}

static void test_stream(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1"};
    static const struct {
        uint64_t epoch, sequence;
        int error;
        uint64_t resend_from;
    } steps[] = {
        {4, 2, WP_E_RESEND, 1}, /* first contact begins at 1 */
        {4, 0, WP_E_RESEND, 1},
        {4, 1, WP_OK, 0},
        {4, 3, WP_E_RESEND, 2}, /* a gap */
        {4, 2, WP_OK, 0},
        {4, 2, WP_E_TIMEOUT, 0}, /* consumed by another message: under a new number it would come late */
        {3, 3, WP_E_STALE_EPOCH, 0},
        {6, 3, WP_E_RESEND, 1}, /* a newer attachment begins at 1 again ... */
        {4, 3, WP_OK, 0},       /* ... and has not begun yet */
        {6, 1, WP_OK, 0},
        {4, 4, WP_E_STALE_EPOCH, 0},
        {6, 2, WP_OK, 0},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        uint64_t resend_from;
        if (i % 3 == 2) {
            fixture_restart(&f);
        }
        assert_int_equal(
            send_fresh(&f, &ann, steps[i].epoch, steps[i].sequence, &resend_from), steps[i].error);
        assert_int_equal(resend_from, steps[i].resend_from);
    }
    assert_int_equal(fixture_messages(&f), 5);

    /* Streams are per device: another device of ann has its own. */
    struct sender other = {.user = "ann", .device = "d2"};
    uint64_t resend_from;
    assert_int_equal(send_fresh(&f, &other, 1, 1, &resend_from), WP_OK);
    fixture_fini(&f);
}

static void test_resend_of_what_was_accepted(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1"};
    struct message first = {.recipient = "bob", .body_size = 10};
    struct message second = {.recipient = "bob", .body_size = 10};
    uint64_t accepted_ms = f.time_ms;
    send_at(&f, &ann, 1, 1, &first);
    f.time_ms += 5000;
    send_at(&f, &ann, 1, 2, &second);
    f.time_ms += 5000;
    fixture_restart(&f);

    /* The answer got lost and the gateway sends the old sequence again: same answer, nothing new. */
    const struct wp_result *result = send_at(&f, &ann, 1, 1, &first);
    assert_int_equal(result->error, WP_OK);
    assert_true(result->submit.duplicate);
    assert_int_equal(result->submit.accepted_ms, accepted_ms);

    /* The device attached anew and sends the same message under a new sequence. */
    result = send_at(&f, &ann, 2, 1, &second);
    assert_int_equal(result->error, WP_OK);
    assert_true(result->submit.duplicate);
    assert_int_equal(result->submit.accepted_ms, accepted_ms + 5000);
    assert_int_equal(fixture_messages(&f), 2);

    /* The duplicate consumed its sequence. */
    struct message third = {.recipient = "bob", .body_size = 10};
    assert_int_equal(send_at(&f, &ann, 2, 2, &third)->error, WP_OK);

    /* The same id of another sender device is another message. */
    struct sender other = {.user = "ann", .device = "d2"};
    result = send_at(&f, &other, 1, 1, &third);
    assert_int_equal(result->error, WP_OK);
    assert_false(result->submit.duplicate);
    assert_int_equal(fixture_messages(&f), 4);
    fixture_fini(&f);
}

static void test_duplicate_within_one_entry(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    struct message message = {.recipient = "bob", .body_size = 10};
    fixture_begin(&f);
    fixture_submit(&f, &ann, &message);
    fixture_submit(&f, &ann, &message);
    fixture_apply(&f);
    assert_false(f.applied.results[0].submit.duplicate);
    assert_true(f.applied.results[1].submit.duplicate);
    assert_int_equal(f.applied.results[1].error, WP_OK);
    assert_int_equal(fixture_messages(&f), 1);
    fixture_fini(&f);
}

static void test_refusals_consume_their_sequence(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.body_bytes_max = 1000;
    fixture_restart(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    const struct {
        struct message message;
        int error;
    } steps[] = {
        {{.recipient = "bob", .body_size = 1000}, WP_OK},
        {{.recipient = "bob", .body_size = 1001}, WP_E_BODY_TOO_LARGE},
        {{.recipient = "eve"}, WP_E_UNKNOWN_RECIPIENT},
        {{.recipient = "Bob"}, WP_E_MALFORMED},
        {{.recipient = "bob", .lane = (Wp__Lane)3}, WP_E_MALFORMED},
        {{.recipient = "bob", .ttl_ms = f.limits.ttl_max_ms}, WP_OK},
        {{.recipient = "bob", .ttl_ms = f.limits.ttl_max_ms + 1}, WP_E_EXPIRY_TOO_LONG},
        {{.recipient = "bob", .ttl_ms = UINT64_MAX}, WP_E_EXPIRY_TOO_LONG},
        {{.recipient = "bob", .id = {1, 2, 3, 4, 5, 6, 0x40, 7, 0x80}}, WP_E_MALFORMED}, /* version 4 */
        {{.recipient = "bob"}, WP_OK},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct message message = steps[i].message;
        const struct wp_result *result = fixture_send(&f, &ann, &message);
        assert_int_equal(result->error, steps[i].error);
    }
    assert_int_equal(fixture_messages(&f), 3);
    fixture_fini(&f);
}

static void test_default_ttl_and_user_without_device(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 0);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    struct message message = {.recipient = "bob"};
    const struct wp_result *result = fixture_send(&f, &ann, &message);
    assert_int_equal(result->error, WP_OK);
    assert_int_equal(result->submit.mailbox, bob);
    assert_int_equal(result->submit.expires_ms, f.time_ms + f.limits.ttl_default_ms);
    fixture_fini(&f);
}

static int send_raw(struct fixture *f, struct sender *sender, struct wp_slice envelope)
{
    fixture_begin(f);
    fixture_submit_raw(f, sender, envelope);
    return fixture_apply(f)->error;
}

static void test_envelopes_that_are_none(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    struct message message = {.recipient = "bob", .body_size = 10};
    fixture_id(&f, f.time_ms, message.id);
    struct wp_buffer good = WP_BUFFER_INIT;
    fixture_envelope(&f, &ann, &message, &good);

    assert_int_equal(send_raw(&f, &ann, wp_slice(NULL, 0)), WP_E_MALFORMED); /* no header */
    for (size_t size = 1; size < good.size; size++) {
        int error = send_raw(&f, &ann, wp_slice(good.data, size));
        bool whole_header = size == good.size - 12; /* the body is missing, which is an empty body */
        assert_int_equal(error, whole_header ? WP_OK : WP_E_MALFORMED);
    }
    /* Twice the same fields: protobuf would merge the headers and let the last body win. */
    struct wp_buffer twice = WP_BUFFER_INIT;
    wp_buffer_append(&twice, good.data, good.size);
    wp_buffer_append(&twice, good.data, good.size);
    assert_int_equal(send_raw(&f, &ann, wp_slice(twice.data, twice.size)), WP_E_MALFORMED);
    assert_int_equal(
        send_raw(&f, &ann, wp_slice(twice.data, good.size)), WP_OK); /* the duplicate of the cut one */

    /* A field from the future is carried through. */
    static const uint8_t unknown[] = {0x7a, 2, 'h', 'i'};
    fixture_id(&f, f.time_ms, message.id);
    fixture_envelope(&f, &ann, &message, &good);
    wp_buffer_append(&good, unknown, sizeof unknown);
    assert_int_equal(send_raw(&f, &ann, wp_slice(good.data, good.size)), WP_OK);
    assert_int_equal(fixture_messages(&f), 2);

    /* A version that this router does not know. */
    uint8_t *version = memchr(good.data, 0x08, 8);
    assert_non_null(version);
    version[1] = 2;
    assert_int_equal(send_raw(&f, &ann, wp_slice(good.data, good.size)), WP_E_VERSION);
    wp_buffer_free(&twice);
    wp_buffer_free(&good);
    fixture_fini(&f);
}

static void test_sender_in_the_envelope_must_be_the_stream(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    static const struct sender others[] = {
        {.user = "eve", .device = "d1"}, {.user = "ann", .device = "d2"}, {.user = "an", .device = "d1"}};
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct message message = {.recipient = "bob"};
        fixture_id(&f, f.time_ms, message.id);
        struct wp_buffer envelope = WP_BUFFER_INIT;
        fixture_envelope(&f, &others[i], &message, &envelope);
        assert_int_equal(send_raw(&f, &ann, wp_slice(envelope.data, envelope.size)), WP_E_MALFORMED);
        wp_buffer_free(&envelope);
    }
    struct message message = {.recipient = "bob"};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_OK);

    /* Names that are none have no stream; they consume nothing and leave no row. */
    uint64_t rows = fixture_rows(&f, WP_KEY_JOURNAL);
    struct sender nobody = {.user = "", .device = "d1", .epoch = 1};
    assert_int_equal(fixture_send(&f, &nobody, &message)->error, WP_E_MALFORMED);
    assert_int_equal(fixture_rows(&f, WP_KEY_JOURNAL), rows);
    fixture_fini(&f);
}

static void test_time_of_the_id(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    const struct {
        int64_t offset_ms;
        int error;
    } steps[] = {
        {WP_SEEN_AHEAD_MAX_MS, WP_OK},
        {WP_SEEN_AHEAD_MAX_MS + 1, WP_E_ID_IN_FUTURE},
        {-(int64_t)DAY_MS, WP_OK},
        {-(int64_t)DAY_MS - 1, WP_E_ID_TOO_OLD},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct message message = {.recipient = "bob"};
        fixture_id(&f, f.time_ms + (uint64_t)steps[i].offset_ms, message.id);
        assert_int_equal(fixture_send(&f, &ann, &message)->error, steps[i].error);
    }
    fixture_fini(&f);
}

static void test_leader_time_never_runs_backwards(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    uint64_t late_ms = f.time_ms + HOUR_MS;
    f.time_ms = late_ms;
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    fixture_restart(&f); /* the time is part of the state */
    f.time_ms = late_ms - 30 * MINUTE_MS;
    struct message message = {.recipient = "bob"};
    fixture_id(&f, late_ms, message.id);
    const struct wp_result *result = fixture_send(&f, &ann, &message);
    assert_int_equal(result->submit.accepted_ms, late_ms);
    fixture_fini(&f);
}

static void test_rate_of_stat(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.stat_per_minute_max = 3;
    fixture_restart(&f);
    fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    struct sender ann2 = {.user = "ann", .device = "d2", .epoch = 1};
    struct sender eve = {.user = "eve", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__STAT, 2);
    fixture_fill(&f, &ann2, "bob", WP__LANE__STAT, 1); /* the user counts, not the device */
    fixture_restart(&f);
    struct message message = {.recipient = "bob", .lane = WP__LANE__STAT};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_RATE);
    fixture_fill(&f, &ann, "bob", WP__LANE__URGENT, 1);
    fixture_fill(&f, &eve, "bob", WP__LANE__STAT, 3);

    f.time_ms += 19999; /* a third of a minute gives one back */
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_RATE);
    f.time_ms += 1;
    fixture_restart(&f);
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_OK);
    struct message next = {.recipient = "bob", .lane = WP__LANE__STAT};
    assert_int_equal(fixture_send(&f, &ann, &next)->error, WP_E_RATE);
    assert_int_equal(fixture_rows(&f, WP_KEY_RATE), 2);

    /* Full again is the same as never used: the rows go. */
    f.time_ms += 2 * MINUTE_MS;
    fixture_fill(&f, &ann, "bob", WP__LANE__STAT, 3);
    assert_int_equal(fixture_rows(&f, WP_KEY_RATE), 1);
    fixture_fini(&f);
}

static void test_bound_in_messages(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.mailbox_messages_max = 5;
    fixture_restart(&f);
    uint64_t bob = fixture_user(&f, "bob", 2);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);
    fixture_fill(&f, &ann, "bob", WP__LANE__STAT, 2); /* all lanes count together */
    struct message message = {.recipient = "bob"};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);

    /* The device furthest on makes room; the phone in the drawer does not. */
    fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, 2);
    fixture_restart(&f);
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);
    for (uint64_t position = 1; position <= 4; position++) {
        fixture_acknowledge_one(&f, bob, 2, WP__LANE__ROUTINE, position);
    }
    assert_string_equal(fixture_pending(&f, bob, 1, WP__LANE__ROUTINE), "1,2,3,4");
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 3);
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);

    /* Without devices everything kept counts. */
    fixture_begin(&f);
    fixture_device_remove(&f, "bob", "d1");
    fixture_device_remove(&f, "bob", "d2");
    fixture_apply(&f);
    assert_int_equal(fixture_messages(&f), 5);
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);
    fixture_fini(&f);
}

static void test_bound_in_bytes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    struct message message = {.recipient = "bob", .body_size = 400};
    uint64_t size = fixture_send(&f, &ann, &message)->submit.envelope.size;
    f.limits.mailbox_bytes_max = 3 * size;
    fixture_restart(&f);
    for (int i = 0; i < 2; i++) {
        struct message more = {.recipient = "bob", .body_size = 400};
        assert_int_equal(fixture_send(&f, &ann, &more)->error, WP_OK);
    }
    struct message one = {.recipient = "bob"};
    assert_int_equal(fixture_send(&f, &ann, &one)->error, WP_E_MAILBOX_FULL);
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 2);
    struct message last = {.recipient = "bob", .body_size = 400};
    assert_int_equal(fixture_send(&f, &ann, &last)->error, WP_OK);
    fixture_fini(&f);
}

static void test_refused_submit_may_be_repeated(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.limits.mailbox_messages_max = 1;
    fixture_restart(&f);
    uint64_t bob = fixture_user(&f, "bob", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(&f, &ann, "bob", WP__LANE__ROUTINE, 1);
    struct message message = {.recipient = "bob"};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_MAILBOX_FULL);
    fixture_acknowledge_one(&f, bob, 1, WP__LANE__ROUTINE, 1);
    const struct wp_result *result = fixture_send(&f, &ann, &message);
    assert_int_equal(result->error, WP_OK); /* the refused id was not remembered as accepted */
    assert_false(result->submit.duplicate);
    fixture_fini(&f);
}

static void test_entries(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_user(&f, "bob", 1);
    uint64_t hash = fixture_hash(&f);

    /* An entry that was applied before is skipped. */
    fixture_begin(&f);
    fixture_user_add(&f, "eve");
    struct wp_slice entry = wp_slice(f.entry.data, f.entry.size);
    assert_int_equal(wp_machine_apply(f.machine, f.index, 1, entry, &f.arena, &f.applied), WP_OK);
    assert_int_equal(f.applied.result_count, 0);
    assert_int_equal(fixture_hash(&f), hash);

    /* A barrier moves the applied position and nothing else. */
    assert_int_equal(
        wp_machine_apply(f.machine, ++f.index, 2, wp_slice(NULL, 0), &f.arena, &f.applied), WP_OK);
    uint64_t index, term;
    wp_state_applied(f.store, FIXTURE_SHARD, &index, &term);
    assert_int_equal(index, f.index);
    assert_int_equal(term, 2);
    assert_int_equal(fixture_hash(&f), hash);

    /* What no leader writes stops the machine for good. */
    static const uint8_t unknown[] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0};
    for (size_t size = 1; size <= sizeof unknown; size++) {
        fixture_restart(&f);
        if (size == WP_ENTRY_HEAD_SIZE) {
            continue;
        }
        int error =
            wp_machine_apply(f.machine, f.index + 1, 2, wp_slice(unknown, size), &f.arena, &f.applied);
        assert_int_equal(error, WP_E_CORRUPT);
        error = wp_machine_apply(f.machine, f.index + 1, 2, entry, &f.arena, &f.applied);
        assert_int_equal(error, WP_E_CORRUPT);
    }
    fixture_restart(&f);
    assert_int_equal(fixture_hash(&f), hash);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_resend_of_what_was_accepted),
        cmocka_unit_test(test_duplicate_within_one_entry),
        cmocka_unit_test(test_refusals_consume_their_sequence),
        cmocka_unit_test(test_default_ttl_and_user_without_device),
        cmocka_unit_test(test_envelopes_that_are_none),
        cmocka_unit_test(test_sender_in_the_envelope_must_be_the_stream),
        cmocka_unit_test(test_time_of_the_id),
        cmocka_unit_test(test_leader_time_never_runs_backwards),
        cmocka_unit_test(test_rate_of_stat),
        cmocka_unit_test(test_bound_in_messages),
        cmocka_unit_test(test_bound_in_bytes),
        cmocka_unit_test(test_refused_submit_may_be_repeated),
        cmocka_unit_test(test_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
