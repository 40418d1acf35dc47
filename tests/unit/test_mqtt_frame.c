/* Finding packets on a byte stream: every remaining length, every first byte, every way to cut a stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/test_mqtt_support.h"

static int frame(const char *bytes, size_t size, uint32_t size_max, uint32_t *ret_size)
{
    *ret_size = 0xdead;
    return wp_mqtt_frame(wp_slice(bytes, size), size_max, ret_size);
}

static void test_a_length_is_told_once_it_is_known(void **state)
{
    (void)state;
    uint32_t size;
    assert_int_equal(frame("", 0, 100, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(frame("\x30", 1, 100, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(frame("\x30\x80", 2, 1000, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(frame("\x30\x80\1", 3, 1000, &size), 0);
    assert_int_equal(size, 3 + 128);
    assert_int_equal(frame("\xc0\0\x30", 3, 100, &size), 1);
    assert_int_equal(size, 2);
}

static void test_edges_of_the_length_encoding(void **state)
{
    (void)state;
    /* Section 1.5.5, table 1-1. */
    static const struct {
        const char *bytes;
        size_t size;
        uint32_t total;
    } rows[] = {{"\x30\0", 2, 2}, {"\x30\x7f", 2, 2 + 127}, {"\x30\x80\1", 3, 3 + 128},
        {"\x30\xff\x7f", 3, 3 + 16383}, {"\x30\x80\x80\1", 4, 4 + 16384},
        {"\x30\xff\xff\x7f", 4, 4 + 2097151}, {"\x30\x80\x80\x80\1", 5, 5 + 2097152},
        {"\x30\xff\xff\xff\x7f", 5, 5 + 268435455}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t size;
        int whole = frame(rows[i].bytes, rows[i].size, UINT32_MAX, &size);
        assert_int_equal(whole, rows[i].total == rows[i].size);
        assert_int_equal(size, rows[i].total);
    }
    uint32_t size;
    assert_int_equal(frame("\x30\x80\x80\x80\x80", 5, UINT32_MAX, &size), WP_E_MALFORMED);
    assert_int_equal(frame("\x30\xff\xff\xff\xff\x7f", 6, UINT32_MAX, &size), WP_E_MALFORMED);
}

static void test_too_large_is_told_from_the_length_alone(void **state)
{
    (void)state;
    uint32_t size;
    assert_int_equal(frame("\x30\x7f", 2, 128, &size), WP_E_TOO_LARGE);
    assert_int_equal(size, 129);
    assert_int_equal(frame("\x30\x7f", 2, 129, &size), 0);
    assert_int_equal(frame("\x30\xff\xff\xff\x7f", 5, 1u << 20, &size), WP_E_TOO_LARGE);
    assert_int_equal(size, 268435460);
}

static void test_first_bytes_of_table_2_2(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        unsigned type = first >> 4;
        unsigned flags = first & 15;
        bool legal = flags == 0;
        if (type == 0) {
            legal = false;
        } else if (type == WP_MQTT_PUBLISH) {
            legal = flags < 6 || flags == 10 || flags == 11 || flags == 12 || flags == 13;
        } else if (type == WP_MQTT_PUBREL || type == WP_MQTT_SUBSCRIBE || type == WP_MQTT_UNSUBSCRIBE) {
            legal = flags == 2;
        }
        const char bytes[2] = {(char)first, 5};
        uint32_t size;
        assert_int_equal(frame(bytes, 2, 100, &size), legal ? 0 : WP_E_MALFORMED);
    }
}

/* Random packets in one stream, handed over in pieces of 1 to `piece_max` bytes from a block of exactly the
 * bytes that arrived: each packet comes out once, in order, whole. */
static void stream_run(unsigned piece_max, unsigned packet_count)
{
    struct wp_arena arena;
    struct wp_prng prng;
    struct wp_buffer stream = WP_BUFFER_INIT;
    struct wp_buffer input = WP_BUFFER_INIT;
    struct wp_buffer again = WP_BUFFER_INIT;
    wp_arena_init(&arena, 1u << 20);
    wp_prng_init(&prng, piece_max);
    for (unsigned i = 0; i < packet_count; i++) {
        struct wp_mqtt_packet packet;
        mqtt_packet_random(&prng, WP_MQTT_5, &arena, &packet);
        assert_int_equal(wp_mqtt_encode(&packet, WP_MQTT_5, &stream), WP_OK);
        wp_arena_reset(&arena);
    }
    unsigned seen = 0;
    size_t told_size = 0;
    for (size_t at = 0; at < stream.size;) {
        size_t piece = 1 + wp_prng_below(&prng, piece_max);
        piece = piece < stream.size - at ? piece : stream.size - at;
        assert_int_equal(wp_buffer_append(&input, stream.data + at, piece), WP_OK);
        at += piece;
        uint32_t size;
        int whole;
        while ((whole = wp_mqtt_frame(wp_slice(input.data, input.size), UINT32_MAX, &size)) == 1) {
            struct wp_mqtt_packet packet;
            uint8_t reason;
            assert_true(told_size == 0 || told_size == size);
            assert_int_equal(
                wp_mqtt_decode(wp_slice(input.data, size), WP_MQTT_5, &arena, &packet, &reason), WP_OK);
            assert_int_equal(wp_mqtt_encode(&packet, WP_MQTT_5, &again), WP_OK);
            wp_buffer_consume(&input, size);
            wp_arena_reset(&arena);
            told_size = 0;
            seen++;
        }
        assert_int_equal(whole, 0);
        told_size = size;
    }
    assert_int_equal(seen, packet_count);
    assert_int_equal(input.size, 0);
    assert_int_equal(again.size, stream.size);
    assert_memory_equal(again.data, stream.data, stream.size);
    wp_buffer_free(&stream);
    wp_buffer_free(&input);
    wp_buffer_free(&again);
    wp_arena_fini(&arena);
}

static void test_a_stream_one_byte_at_a_time(void **state)
{
    (void)state;
    stream_run(1, 3000);
}

static void test_a_stream_in_pieces(void **state)
{
    (void)state;
    stream_run(40, 3000);
    stream_run(3000, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_length_is_told_once_it_is_known),
        cmocka_unit_test(test_edges_of_the_length_encoding),
        cmocka_unit_test(test_too_large_is_told_from_the_length_alone),
        cmocka_unit_test(test_first_bytes_of_table_2_2),
        cmocka_unit_test(test_a_stream_one_byte_at_a_time),
        cmocka_unit_test(test_a_stream_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
