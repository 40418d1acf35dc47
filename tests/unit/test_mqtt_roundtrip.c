/* Seeded random packets of every type survive encoding and decoding in both versions, alone and in a stream
 * that arrives one byte at a time. What the encoder takes is exactly what the decoder takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/error.h"
#include "test_mqtt_support.h"

#define PACKETS_PER_VERSION 60000u
#define ARENA_LIMIT (4u * 1024 * 1024)

static const enum wp_mqtt_version versions[] = {WP_MQTT_311, WP_MQTT_5};

static struct wp_slice buffer_slice(const struct wp_buffer *buffer)
{
    return wp_slice(buffer->data, buffer->size);
}

static void test_decode_of_encode_is_the_packet(void **state)
{
    (void)state;
    struct wp_prng prng;
    struct wp_arena arena;
    struct wp_buffer out = WP_BUFFER_INIT;
    struct wp_buffer again = WP_BUFFER_INIT;
    unsigned types_seen = 0;
    wp_arena_init(&arena, ARENA_LIMIT);
    wp_prng_init(&prng, 1);
    for (unsigned i = 0; i < 2 * PACKETS_PER_VERSION; i++) {
        enum wp_mqtt_version version = versions[i & 1];
        struct wp_mqtt_packet packet;
        struct wp_mqtt_packet decoded;
        uint8_t reason = 0;
        uint32_t size;
        mqtt_packet_random(&prng, version, &arena, &packet);
        types_seen |= 1u << packet.type;

        assert_int_equal(wp_mqtt_encode(&packet, version, &out), WP_OK);
        assert_int_equal(wp_mqtt_encoded_size(&packet, version), out.size);
        assert_int_equal(wp_mqtt_frame(buffer_slice(&out), (uint32_t)out.size, &size), 1);
        assert_int_equal(size, out.size);
        assert_int_equal(wp_mqtt_decode(buffer_slice(&out), version, &arena, &decoded, &reason), WP_OK);
        assert_int_equal(reason, 0);
        assert_true(mqtt_packet_equal(&packet, &decoded));

        assert_int_equal(wp_mqtt_encode(&decoded, version, &again), WP_OK);
        assert_int_equal(again.size, out.size);
        assert_memory_equal(again.data, out.data, out.size);
        out.size = 0;
        again.size = 0;
        wp_arena_reset(&arena);
    }
    assert_int_equal(types_seen, 0xfffe);
    wp_buffer_free(&out);
    wp_buffer_free(&again);
    wp_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_of_encode_is_the_packet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
