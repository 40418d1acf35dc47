/* Decoding protobuf bodies into an arena, and each limit of Envelope v1 on both of its sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "proto/frame.h"
#include "proto/schema.h"

#define BODY(text) wp_slice(text, sizeof(text) - 1)

static int body_decode(const ProtobufCMessageDescriptor *descriptor, struct wp_slice body, size_t limit)
{
    struct wp_arena arena;
    ProtobufCMessage *message = NULL;
    wp_arena_init(&arena, limit);
    int error = wp_schema_decode(descriptor, body, &arena, &message);
    assert_int_equal(message != NULL, error == WP_OK);
    wp_arena_fini(&arena);
    return error;
}

static void test_a_message_survives_a_record(void **state)
{
    (void)state;
    char user[] = "anna";
    char device[] = "phone";
    uint8_t envelope[] = {1, 2, 3, 0, 255};
    Wp__Submit submit = WP__SUBMIT__INIT;
    submit.ticket = UINT64_MAX;
    submit.shard = 8;
    submit.user = user;
    submit.device = device;
    submit.sequence = 300;
    submit.envelope = (ProtobufCBinaryData){sizeof envelope, envelope};
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_schema_append(&out, WP_FRAME_SUBMIT, &submit.base), WP_OK);

    struct wp_record_reader reader = {wp_slice(out.data, out.size)};
    struct wp_slice payload;
    uint8_t type;
    assert_int_equal(wp_record_next(&reader, &type, &payload), 1);
    assert_int_equal(type, WP_FRAME_SUBMIT);
    struct wp_arena arena;
    ProtobufCMessage *message = NULL;
    wp_arena_init(&arena, 4096);
    assert_int_equal(wp_schema_decode(&wp__submit__descriptor, payload, &arena, &message), WP_OK);
    const Wp__Submit *read = (const Wp__Submit *)(const void *)message;
    assert_true(read->ticket == UINT64_MAX);
    assert_int_equal(read->shard, 8);
    assert_int_equal(read->epoch, 0);
    assert_int_equal(read->sequence, 300);
    assert_string_equal(read->user, "anna");
    assert_string_equal(read->device, "phone");
    assert_int_equal(read->envelope.len, sizeof envelope);
    assert_memory_equal(read->envelope.data, envelope, sizeof envelope);
    assert_int_equal(wp_record_next(&reader, &type, &payload), 0);
    wp_arena_fini(&arena);
    wp_buffer_free(&out);
}

static void test_an_empty_message_is_a_message(void **state)
{
    (void)state;
    struct wp_buffer out = WP_BUFFER_INIT;
    Wp__Credit credit = WP__CREDIT__INIT;
    assert_int_equal(wp_schema_append(&out, WP_FRAME_CREDIT, &credit.base), WP_OK);
    assert_int_equal(out.size, WP_RECORD_HEAD_SIZE);
    assert_int_equal(body_decode(&wp__credit__descriptor, BODY(""), 4096), WP_OK);
    wp_buffer_free(&out);
}

static void test_bodies_that_are_no_message(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *body;
        size_t size;
    } rows[] = {
#define ROW(what, body) {what, body, sizeof(body) - 1}
        ROW("number is cut", "\x08"),
        ROW("number of eleven bytes", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"),
        ROW("string is cut", "\x1a\5anna"),
        ROW("string of 4 GiB", "\x1a\xff\xff\xff\xff\x0f"),
        ROW("field number 0", "\0\1"),
        ROW("field number 0 in two bytes", "\x80\0\1"),
        ROW("field number 0 in five bytes", "\x80\x80\x80\x80\0\1"),
        ROW("group", "\x0b\x0c"),
        ROW("wire type 7", "\x0f\1"),
        ROW("text where a number belongs", "\x0a\1x"),
        ROW("tag is cut", "\xff"),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (body_decode(&wp__submit__descriptor, wp_slice(rows[i].body, rows[i].size), 65536) !=
            WP_E_MALFORMED) {
            fail_msg("%s", rows[i].what);
        }
    }
    /* Field number 0 deeper down: in a header, and in the second of several key parts. */
    assert_int_equal(body_decode(&wp__envelope__descriptor, BODY("\x0a\3\x80\0\1"), 65536), WP_E_MALFORMED);
    assert_int_equal(
        body_decode(&wp__envelope__descriptor, BODY("\x12\3\x0a\1x\x12\3\x80\0\1"), 65536), WP_E_MALFORMED);
    assert_int_equal(
        body_decode(&wp__envelope__descriptor, BODY("\x12\3\x0a\1x\x12\3\x0a\1y"), 65536), WP_OK);
}

static void test_fields_of_a_later_version_are_kept(void **state)
{
    (void)state;
    static const char later[] = "\x08\5\xc2\x3e\3new";
    struct wp_arena arena;
    struct wp_buffer out = WP_BUFFER_INIT;
    ProtobufCMessage *message = NULL;
    wp_arena_init(&arena, 4096);
    assert_int_equal(wp_schema_decode(&wp__credit__descriptor, BODY(later), &arena, &message), WP_OK);
    assert_int_equal(((const Wp__Credit *)(const void *)message)->bytes, 5);
    assert_int_equal(wp_schema_append(&out, WP_FRAME_CREDIT, message), WP_OK);
    assert_int_equal(out.size, WP_RECORD_HEAD_SIZE + sizeof later - 1);
    assert_memory_equal(out.data + WP_RECORD_HEAD_SIZE, later, sizeof later - 1);
    wp_buffer_free(&out);
    wp_arena_fini(&arena);
}

static void test_size_and_memory_are_bounded(void **state)
{
    (void)state;
    uint8_t *large = calloc(1, WP_FRAME_SIZE_MAX + 1);
    assert_non_null(large);
    /* One bytes field that fills the frame: tag, four bytes of length. */
    size_t size = WP_FRAME_SIZE_MAX - 5;
    large[0] = 0x3a;
    for (unsigned i = 0; i < 4; i++) {
        large[1 + i] = (uint8_t)((size >> (7 * i) & 0x7f) | (i < 3 ? 0x80 : 0));
    }
    struct wp_slice whole = wp_slice(large, WP_FRAME_SIZE_MAX);
    assert_int_equal(body_decode(&wp__submit__descriptor, whole, 4u << 20), WP_OK);
    assert_int_equal(body_decode(&wp__submit__descriptor, whole, 1u << 20), WP_E_MALFORMED);
    whole.size++;
    assert_int_equal(body_decode(&wp__submit__descriptor, whole, 8u << 20), WP_E_TOO_LARGE);

    /* Two bytes each of input make a whole message each in memory: the arena's limit ends it. */
    for (size_t i = 0; i < WP_FRAME_SIZE_MAX; i += 2) {
        large[i] = 0x0a;
        large[i + 1] = 0;
    }
    assert_int_equal(
        body_decode(&wp__command_cursors__descriptor, wp_slice(large, WP_FRAME_SIZE_MAX), 4u << 20),
        WP_E_MALFORMED);
    free(large);
}

/* A full envelope whose parts a test may bend before it is checked. */
struct sample {
    uint8_t id[16];
    char value[5000];
    uint8_t part[600];
    Wp__Property properties[17];
    Wp__Property *property_pointers[17];
    Wp__KeyPart key_parts[65];
    Wp__KeyPart *key_part_pointers[65];
    Wp__Header header;
    Wp__Envelope envelope;
};

static char name_anna[] = "anna";
static char name_phone[] = "phone";
static char name_ben[] = "ben";
static char name_bad[] = "Ben";
static char name_n[] = "n";
static char text_empty[] = "";

static struct sample *sample_make(void)
{
    struct sample *sample = calloc(1, sizeof *sample);
    assert_non_null(sample);
    wp__envelope__init(&sample->envelope);
    wp__header__init(&sample->header);
    sample->envelope.header = &sample->header;
    sample->header.version = 1;
    sample->header.message_id = (ProtobufCBinaryData){16, sample->id};
    sample->header.sender = name_anna;
    sample->header.sender_device = name_phone;
    sample->header.recipient = name_ben;
    sample->header.lane = WP__LANE__STAT;
    for (unsigned i = 0; i < 17; i++) {
        wp__property__init(&sample->properties[i]);
        sample->properties[i].name = name_n;
        sample->property_pointers[i] = &sample->properties[i];
    }
    for (unsigned i = 0; i < 65; i++) {
        wp__key_part__init(&sample->key_parts[i]);
        sample->key_parts[i].device = name_phone;
        sample->key_parts[i].part = (ProtobufCBinaryData){512, sample->part};
        sample->key_part_pointers[i] = &sample->key_parts[i];
    }
    sample->header.properties = sample->property_pointers;
    sample->header.n_properties = 16;
    sample->envelope.key_parts = sample->key_part_pointers;
    sample->envelope.n_key_parts = 64;
    memset(sample->value, 'v', sizeof sample->value);
    return sample;
}

/* Undoes nothing: `bend` is one statement on a fresh sample. */
#define BENT(expected, bend)                                                                                 \
    do {                                                                                                     \
        struct sample *sample = sample_make();                                                               \
        assert_int_equal(wp_envelope_check(&sample->envelope), WP_OK);                                       \
        bend;                                                                                                \
        assert_int_equal(wp_envelope_check(&sample->envelope), expected);                                    \
        free(sample);                                                                                        \
    } while (0)

static void test_limits_of_the_header(void **state)
{
    (void)state;
    BENT(WP_E_MALFORMED, sample->envelope.header = NULL);
    BENT(WP_E_VERSION, sample->header.version = 0);
    BENT(WP_E_VERSION, sample->header.version = 2);
    BENT(WP_E_MALFORMED, sample->header.message_id.len = 15);
    BENT(WP_E_MALFORMED, sample->header.message_id.len = 0);
    BENT(WP_E_MALFORMED, sample->header.sender = name_bad);
    BENT(WP_E_MALFORMED, sample->header.sender_device = text_empty);
    BENT(WP_E_MALFORMED, sample->header.recipient = name_bad);
    BENT(WP_OK, sample->header.lane = WP__LANE__ROUTINE);
    BENT(WP_E_MALFORMED, sample->header.lane = (Wp__Lane)3);
    BENT(WP_E_MALFORMED, sample->header.lane = (Wp__Lane)-1);
}

static void test_limits_of_properties(void **state)
{
    (void)state;
    BENT(WP_OK, sample->header.n_properties = 0);
    BENT(WP_E_MALFORMED, sample->header.n_properties = 17);
    /* 16 names of one byte leave 4,080 bytes for the rest. */
    BENT(WP_OK, (sample->value[4080] = '\0', sample->properties[15].value = sample->value));
    BENT(WP_E_MALFORMED, (sample->value[4081] = '\0', sample->properties[15].value = sample->value));
    BENT(WP_OK, (sample->value[4080] = '\0', sample->header.content_type = sample->value));
    BENT(WP_E_MALFORMED, (sample->value[4081] = '\0', sample->header.content_type = sample->value));
}

static void test_limits_of_key_parts(void **state)
{
    (void)state;
    BENT(WP_OK, sample->envelope.n_key_parts = 0);
    BENT(WP_E_MALFORMED, sample->envelope.n_key_parts = 65);
    BENT(WP_E_MALFORMED, sample->key_parts[63].part.len = 513);
    BENT(WP_E_MALFORMED, sample->key_parts[63].device = name_bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_survives_a_record),
        cmocka_unit_test(test_an_empty_message_is_a_message),
        cmocka_unit_test(test_bodies_that_are_no_message),
        cmocka_unit_test(test_fields_of_a_later_version_are_kept),
        cmocka_unit_test(test_size_and_memory_are_bounded),
        cmocka_unit_test(test_limits_of_the_header),
        cmocka_unit_test(test_limits_of_properties),
        cmocka_unit_test(test_limits_of_key_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
