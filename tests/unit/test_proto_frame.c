/* Framing of fabric batches and log entries: exact bytes, every cut, every wrong head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "proto/frame.h"

static const struct wp_fabric_head head = {
    .cluster_id = 0x0102030405060708, .source = 0x1112131415161718, .destination = 0x2122232425262728};

static void test_a_batch_on_the_wire(void **state)
{
    (void)state;
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_fabric_head_encode(&head, &out), WP_OK);
    assert_int_equal(wp_record_append(&out, WP_FRAME_SUBMIT, wp_slice("abc", 3)), WP_OK);
    assert_int_equal(wp_record_append(&out, WP_FRAME_CREDIT, wp_slice(NULL, 0)), WP_OK);
    static const char expected[] = "WP\1\0"
                                   "\x08\7\6\5\4\3\2\1"
                                   "\x18\x17\x16\x15\x14\x13\x12\x11"
                                   "\x28\x27\x26\x25\x24\x23\x22\x21"
                                   "\x08\3\0\0\0abc"
                                   "\x0d\0\0\0\0";
    assert_int_equal(out.size, sizeof expected - 1);
    assert_int_equal(out.size, WP_FABRIC_HEAD_SIZE + WP_RECORD_HEAD_SIZE + 3 + WP_RECORD_HEAD_SIZE);
    assert_memory_equal(out.data, expected, sizeof expected - 1);

    struct wp_fabric_head read;
    struct wp_record_reader reader;
    struct wp_slice payload;
    uint8_t type;
    assert_int_equal(wp_fabric_batch_open(wp_slice(out.data, out.size), &read, &reader), WP_OK);
    assert_memory_equal(&read, &head, sizeof head);
    assert_int_equal(wp_record_next(&reader, &type, &payload), 1);
    assert_int_equal(type, WP_FRAME_SUBMIT);
    assert_true(wp_slice_equal(payload, wp_slice("abc", 3)));
    assert_ptr_equal(payload.data, out.data + WP_FABRIC_HEAD_SIZE + WP_RECORD_HEAD_SIZE);
    assert_int_equal(wp_record_next(&reader, &type, &payload), 1);
    assert_int_equal(type, WP_FRAME_CREDIT);
    assert_int_equal(payload.size, 0);
    assert_int_equal(wp_record_next(&reader, &type, &payload), 0);
    assert_int_equal(wp_record_next(&reader, &type, &payload), 0);
    wp_buffer_free(&out);
}

static void test_an_entry_on_disk(void **state)
{
    (void)state;
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_entry_head_encode(5, &out), WP_OK);
    uint8_t *space = wp_record_append_space(&out, WP_COMMAND_SUBMIT, 2);
    assert_non_null(space);
    memcpy(space, "xy", 2);
    wp_entry_head_set_time(&out, 0x0102030405060708);
    static const char expected[] = "\1\0\0\0\x08\7\6\5\4\3\2\1"
                                   "\1\2\0\0\0xy";
    assert_int_equal(out.size, sizeof expected - 1);
    assert_memory_equal(out.data, expected, sizeof expected - 1);

    struct wp_record_reader reader;
    struct wp_slice payload;
    uint64_t time_ms;
    uint8_t type;
    assert_int_equal(wp_entry_open(wp_slice(out.data, out.size), &time_ms, &reader), WP_OK);
    assert_true(time_ms == 0x0102030405060708);
    assert_int_equal(wp_record_next(&reader, &type, &payload), 1);
    assert_true(type == WP_COMMAND_SUBMIT && wp_slice_equal(payload, wp_slice("xy", 2)));
    assert_int_equal(wp_record_next(&reader, &type, &payload), 0);
    wp_buffer_free(&out);
}

static void test_wrong_heads(void **state)
{
    (void)state;
    struct wp_buffer batch = WP_BUFFER_INIT;
    struct wp_buffer entry = WP_BUFFER_INIT;
    assert_int_equal(wp_fabric_head_encode(&head, &batch), WP_OK);
    assert_int_equal(wp_entry_head_encode(1, &entry), WP_OK);
    static const struct {
        bool is_entry;
        unsigned place;
        int error;
    } rows[] = {{false, 0, WP_E_MALFORMED}, {false, 1, WP_E_MALFORMED}, {false, 2, WP_E_VERSION},
        {false, 3, WP_E_MALFORMED}, {true, 0, WP_E_VERSION}, {true, 1, WP_E_MALFORMED},
        {true, 2, WP_E_MALFORMED}, {true, 3, WP_E_MALFORMED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wp_buffer *bytes = rows[i].is_entry ? &entry : &batch;
        struct wp_fabric_head read;
        struct wp_record_reader reader;
        uint64_t time_ms;
        bytes->data[rows[i].place] ^= 0x40;
        struct wp_slice slice = wp_slice(bytes->data, bytes->size);
        int error = rows[i].is_entry ? wp_entry_open(slice, &time_ms, &reader)
                                     : wp_fabric_batch_open(slice, &read, &reader);
        assert_int_equal(error, rows[i].error);
        bytes->data[rows[i].place] ^= 0x40;
    }
    wp_buffer_free(&batch);
    wp_buffer_free(&entry);
}

/* Reads `size` bytes from a block of exactly that size; tells the records seen and how it ended. */
static int cut_read(const struct wp_buffer *bytes, size_t size, bool is_entry, unsigned *ret_count)
{
    uint8_t *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, bytes->data, size);
    struct wp_fabric_head read;
    struct wp_record_reader reader;
    struct wp_slice payload;
    uint64_t time_ms;
    uint8_t type;
    *ret_count = 0;
    int error = is_entry ? wp_entry_open(wp_slice(exact, size), &time_ms, &reader)
                         : wp_fabric_batch_open(wp_slice(exact, size), &read, &reader);
    while (!error && (error = wp_record_next(&reader, &type, &payload)) == 1) {
        assert_int_equal(payload.size, *ret_count * 3);
        ++*ret_count;
        error = 0;
    }
    free(exact);
    return error;
}

static void test_every_cut_is_noticed_or_a_record_edge(void **state)
{
    (void)state;
    for (unsigned is_entry = 0; is_entry < 2; is_entry++) {
        struct wp_buffer bytes = WP_BUFFER_INIT;
        size_t edges[6];
        if (is_entry) {
            assert_int_equal(wp_entry_head_encode(1, &bytes), WP_OK);
        } else {
            assert_int_equal(wp_fabric_head_encode(&head, &bytes), WP_OK);
        }
        for (unsigned i = 0; i < 6; i++) {
            edges[i] = bytes.size;
            assert_int_equal(wp_record_append(&bytes, 1, wp_slice("0123456789abcdef", i * 3)), WP_OK);
        }
        for (size_t size = 0; size <= bytes.size; size++) {
            unsigned count;
            int error = cut_read(&bytes, size, is_entry, &count);
            bool at_edge = size == bytes.size;
            unsigned whole = 0;
            for (unsigned i = 0; i < 6; i++) {
                at_edge = at_edge || size == edges[i];
                whole += size >= edges[i] + WP_RECORD_HEAD_SIZE + i * 3;
            }
            assert_int_equal(error, at_edge ? WP_OK : WP_E_TRUNCATED);
            assert_int_equal(count, whole);
        }
        wp_buffer_free(&bytes);
    }
}

static void test_a_size_over_the_end_is_not_believed(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {4, 5, 0x7fffffff, 0x80000000, 0xfffffffa, 0xfffffffb, 0xffffffff};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t bytes[WP_RECORD_HEAD_SIZE + 3] = {1};
        wp_put_u32le(bytes + 1, sizes[i]);
        struct wp_record_reader reader = {wp_slice(bytes, sizeof bytes)};
        struct wp_slice payload;
        uint8_t type;
        assert_int_equal(wp_record_next(&reader, &type, &payload), WP_E_TRUNCATED);
        assert_int_equal(wp_record_next(&reader, &type, &payload), WP_E_TRUNCATED);
    }
}

static void test_numbers_of_frames_and_commands_are_unique(void **state)
{
    (void)state;
    static const uint8_t frames[] = {
#define X(name, number, message, up, down, peer) number,
        WP_FRAME_TABLE(X)
#undef X
    };
    static const uint8_t commands[] = {
#define X(name, number, message) number,
        WP_COMMAND_TABLE(X)
#undef X
    };
    for (size_t i = 0; i < sizeof frames; i++) {
        assert_int_equal(frames[i], i + 1);
    }
    for (size_t i = 0; i < sizeof commands; i++) {
        assert_int_equal(commands[i], i + 1);
    }
    assert_int_equal(WP_FRAME_SUBMIT, 8);
    assert_int_equal(WP_FRAME_CHUNK, 14);
    assert_int_equal(WP_COMMAND_CURSORS, 4);
    assert_int_equal(WP_COMMAND_DEVICE_REMOVE, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_batch_on_the_wire),
        cmocka_unit_test(test_an_entry_on_disk),
        cmocka_unit_test(test_wrong_heads),
        cmocka_unit_test(test_every_cut_is_noticed_or_a_record_edge),
        cmocka_unit_test(test_a_size_over_the_end_is_not_believed),
        cmocka_unit_test(test_numbers_of_frames_and_commands_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
