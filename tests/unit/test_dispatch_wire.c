/* The hand-written reading and writing of submits and envelopes against protobuf-c: same fields, same bytes,
 * and nothing let through that the decoder of apply would not take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "proto/frame.h"
#include "proto/schema.h"
#include "router/dispatch_wire.h"

static uint8_t *bytes(const char *value)
{
    uint8_t *copy;
    memcpy(&copy, &value, sizeof(copy)); /* protobuf-c has no const; packing only reads */
    return copy;
}

static char *text(const char *value)
{
    return (char *)bytes(value);
}

/* A packed envelope; free it. */
static uint8_t *envelope_make(
    const char *sender, const char *device, uint32_t parts, size_t body_size, size_t *ret_size)
{
    static const char *const names[] = {"d0", "d1", "d2"};
    Wp__Header header = WP__HEADER__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){16, bytes("0123456789abcdef")};
    header.sender = text(sender);
    header.sender_device = text(device);
    header.recipient = text("bob");
    header.lane = WP__LANE__URGENT;
    Wp__KeyPart part[3];
    Wp__KeyPart *pointers[3];
    assert_true(parts <= 3);
    for (uint32_t i = 0; i < parts; i++) {
        wp__key_part__init(&part[i]);
        part[i].device = text(names[i]);
        part[i].part = (ProtobufCBinaryData){3, bytes("key")};
        pointers[i] = &part[i];
    }
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    envelope.header = &header;
    envelope.key_parts = pointers;
    envelope.n_key_parts = parts;
    envelope.body.len = body_size;
    envelope.body.data = calloc(1, body_size + 1);
    *ret_size = wp__envelope__get_packed_size(&envelope);
    uint8_t *packed = malloc(*ret_size);
    assert_non_null(packed);
    wp__envelope__pack(&envelope, packed);
    free(envelope.body.data);
    return packed;
}

static void test_submit_becomes_the_command_of_protobuf(void **state)
{
    (void)state;
    size_t envelope_size;
    uint8_t *envelope = envelope_make("anna", "pager", 2, 1000, &envelope_size);
    const uint64_t numbers[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        Wp__Submit submit = WP__SUBMIT__INIT;
        submit.ticket = numbers[i];
        submit.shard = (uint32_t)numbers[i];
        submit.user = text("anna");
        submit.device = text("pager");
        submit.epoch = numbers[i];
        submit.sequence = numbers[i] / 2;
        submit.envelope = (ProtobufCBinaryData){envelope_size, envelope};
        uint8_t packed[4096];
        size_t size = wp__submit__pack(&submit, packed);
        struct wp_submit_view view;
        assert_int_equal(wp_submit_view(wp_slice(packed, size), &view), WP_OK);
        assert_int_equal(view.ticket, submit.ticket);
        assert_int_equal(view.shard, submit.shard);
        assert_int_equal(view.epoch, submit.epoch);
        assert_int_equal(view.sequence, submit.sequence);
        assert_true(wp_slice_equal(view.user, wp_slice("anna", 4)));
        assert_ptr_equal(view.envelope.data, packed + size - envelope_size); /* borrowed, not copied */

        Wp__CommandSubmit command = WP__COMMAND_SUBMIT__INIT;
        command.user = submit.user;
        command.device = submit.device;
        command.epoch = submit.epoch;
        command.sequence = submit.sequence;
        command.envelope = submit.envelope;
        struct wp_buffer expected = WP_BUFFER_INIT;
        struct wp_buffer written = WP_BUFFER_INIT;
        assert_int_equal(wp_schema_append(&expected, WP_COMMAND_SUBMIT, &command.base), WP_OK);
        assert_int_equal(wp_submit_append(&view, &written), WP_OK);
        assert_int_equal(wp_submit_command_size(&view), expected.size);
        assert_int_equal(written.size, expected.size);
        assert_memory_equal(written.data, expected.data, expected.size);
        wp_buffer_free(&expected);
        wp_buffer_free(&written);
    }
    free(envelope);
}

static int check(const char *user, const char *device, struct wp_slice envelope)
{
    struct wp_submit_view view = {.user = wp_slice(user, strlen(user)),
        .device = wp_slice(device, strlen(device)),
        .envelope = envelope};
    struct wp_arena arena;
    size_t body_size;
    wp_arena_init(&arena, 1u << 20);
    int error = wp_submit_check(&view, &arena, &body_size);
    wp_arena_fini(&arena);
    return error;
}

static void test_only_whole_envelopes_of_the_stream_pass(void **state)
{
    (void)state;
    size_t size;
    uint8_t *packed = envelope_make("anna", "pager", 3, 64, &size);
    assert_int_equal(check("anna", "pager", wp_slice(packed, size)), WP_OK);
    assert_int_equal(check("anna", "phone", wp_slice(packed, size)), WP_E_DENIED);
    assert_int_equal(check("eve", "pager", wp_slice(packed, size)), WP_E_DENIED);
    assert_int_equal(check("ANNA", "pager", wp_slice(packed, size)), WP_E_MALFORMED);
    assert_int_equal(check("", "pager", wp_slice(packed, size)), WP_E_MALFORMED);
    assert_int_equal(check("anna", "pager", wp_slice(packed, 0)), WP_E_MALFORMED);
    for (size_t cut = 1; cut < size; cut++) {
        /* A cut at the end of a field leaves a smaller envelope that may be whole; it must then decode. */
        if (check("anna", "pager", wp_slice(packed, cut)) == WP_OK) {
            Wp__Envelope *envelope = wp__envelope__unpack(NULL, cut, packed);
            assert_non_null(envelope);
            wp__envelope__free_unpacked(envelope, NULL);
        }
    }
    free(packed);
}

/* Flipped, cut and doubled bytes: what passes must be what protobuf-c reads the same way. */
static void test_damaged_submits_never_pass_as_something_else(void **state)
{
    (void)state;
    struct wp_prng prng;
    wp_prng_init(&prng, 20260101);
    size_t envelope_size;
    uint8_t *envelope = envelope_make("anna", "pager", 1, 20, &envelope_size);
    Wp__Submit submit = WP__SUBMIT__INIT;
    submit.ticket = 7;
    submit.shard = 3;
    submit.user = text("anna");
    submit.device = text("pager");
    submit.epoch = 9;
    submit.sequence = 300;
    submit.envelope = (ProtobufCBinaryData){envelope_size, envelope};
    uint8_t good[512];
    size_t size = wp__submit__pack(&submit, good);
    uint32_t passed = 0;
    for (int round = 0; round < 50000; round++) {
        uint8_t bad[512];
        memcpy(bad, good, size);
        size_t bad_size = wp_prng_below(&prng, 4) == 0 ? wp_prng_below(&prng, size + 1) : size;
        for (uint64_t n = wp_prng_below(&prng, 3); n > 0 && bad_size > 0; n--) {
            bad[wp_prng_below(&prng, bad_size)] ^= (uint8_t)(1u << wp_prng_below(&prng, 8));
        }
        struct wp_submit_view view;
        if (wp_submit_view(wp_slice(bad, bad_size), &view)) {
            continue;
        }
        passed++;
        Wp__Submit *read = wp__submit__unpack(NULL, bad_size, bad);
        if (!read) {
            /* protobuf-c refuses a text that is no UTF-8 or holds a NUL; the names are checked separately. */
            assert_int_not_equal(check("anna", "pager", view.envelope) ? 0 : 1, 2);
            continue;
        }
        assert_int_equal(read->ticket, view.ticket);
        assert_int_equal(read->shard, view.shard);
        assert_int_equal(read->epoch, view.epoch);
        assert_int_equal(read->sequence, view.sequence);
        assert_true(wp_slice_equal(wp_slice(read->envelope.data, read->envelope.len), view.envelope));
        Wp__Envelope *opened = wp__envelope__unpack(NULL, view.envelope.size, view.envelope.data);
        if (check("anna", "pager", view.envelope) == WP_OK) {
            assert_non_null(opened);
            assert_int_equal(wp_envelope_check(opened), WP_OK);
        }
        if (opened) {
            wp__envelope__free_unpacked(opened, NULL);
        }
        wp__submit__free_unpacked(read, NULL);
    }
    assert_true(passed > 1000);
    free(envelope);
}

static void test_fields_may_not_come_twice_or_be_unknown(void **state)
{
    (void)state;
    struct wp_submit_view view;
    const uint8_t twice[] = {0x08, 1, 0x08, 2};
    const uint8_t unknown[] = {0x40, 1};
    const uint8_t wrong_type[] = {0x0a, 1, 'x'};
    const uint8_t fixed[] = {0x09, 1, 2, 3, 4, 5, 6, 7, 8};
    const uint8_t shard_over[] = {0x10, 0xff, 0xff, 0xff, 0xff, 0x1f};
    const uint8_t endless[] = {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    const uint8_t past_end[] = {0x1a, 5, 'a'};
    assert_int_equal(wp_submit_view(wp_slice(twice, sizeof(twice)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(unknown, sizeof(unknown)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(wrong_type, sizeof(wrong_type)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(fixed, sizeof(fixed)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(shard_over, sizeof(shard_over)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(endless, sizeof(endless)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(past_end, sizeof(past_end)), &view), WP_E_MALFORMED);
    assert_int_equal(wp_submit_view(wp_slice(NULL, 0), &view), WP_OK); /* all fields absent */
    assert_int_equal(view.shard, 0);
}

static void test_a_device_sees_only_its_key_part(void **state)
{
    (void)state;
    size_t size;
    struct wp_buffer scratch = WP_BUFFER_INIT;
    struct wp_slice out;
    uint8_t *plain = envelope_make("anna", "pager", 0, 50, &size);
    assert_int_equal(wp_envelope_for_device(wp_slice(plain, size), "d1", &scratch, &out), WP_OK);
    assert_ptr_equal(out.data, plain);
    assert_int_equal(out.size, size);
    free(plain);

    uint8_t *sealed = envelope_make("anna", "pager", 3, 50, &size);
    for (int i = 0; i < 4; i++) {
        const char *const names[] = {"d0", "d1", "d2", "other"};
        assert_int_equal(wp_envelope_for_device(wp_slice(sealed, size), names[i], &scratch, &out), WP_OK);
        Wp__Envelope *envelope = wp__envelope__unpack(NULL, out.size, out.data);
        assert_non_null(envelope);
        assert_int_equal(envelope->n_key_parts, i < 3 ? 1 : 0);
        if (i < 3) {
            assert_string_equal(envelope->key_parts[0]->device, names[i]);
        }
        assert_int_equal(envelope->body.len, 50);
        assert_string_equal(envelope->header->sender, "anna");
        wp__envelope__free_unpacked(envelope, NULL);
    }
    assert_int_equal(
        wp_envelope_for_device(wp_slice(sealed, size - 1), "d0", &scratch, &out), WP_E_MALFORMED);
    free(sealed);
    wp_buffer_free(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_becomes_the_command_of_protobuf),
        cmocka_unit_test(test_only_whole_envelopes_of_the_stream_pass),
        cmocka_unit_test(test_damaged_submits_never_pass_as_something_else),
        cmocka_unit_test(test_fields_may_not_come_twice_or_be_unknown),
        cmocka_unit_test(test_a_device_sees_only_its_key_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
