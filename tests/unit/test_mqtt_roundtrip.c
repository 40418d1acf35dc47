/* Seeded random packets of every type survive encoding and decoding in both versions, alone and in a stream
 * that arrives one byte at a time. What the encoder takes is exactly what the decoder takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/test_mqtt_support.h"

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

/* What the decoder accepts must have a canonical form that means the same and does not change any more. */
static void canonical_assert(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version,
    struct wp_arena *arena, size_t size_max)
{
    struct wp_buffer first = WP_BUFFER_INIT;
    struct wp_buffer second = WP_BUFFER_INIT;
    struct wp_mqtt_packet decoded;
    uint8_t reason;
    assert_int_equal(wp_mqtt_encode(packet, version, &first), WP_OK);
    assert_true(first.size <= size_max);
    assert_int_equal(wp_mqtt_decode(buffer_slice(&first), version, arena, &decoded, &reason), WP_OK);
    assert_true(mqtt_packet_equal(packet, &decoded));
    assert_int_equal(wp_mqtt_encode(&decoded, version, &second), WP_OK);
    assert_int_equal(second.size, first.size);
    assert_memory_equal(second.data, first.data, first.size);
    wp_buffer_free(&first);
    wp_buffer_free(&second);
}

static void test_damaged_packets_are_refused_or_canonical(void **state)
{
    (void)state;
    struct wp_prng prng;
    struct wp_arena arena;
    struct wp_buffer out = WP_BUFFER_INIT;
    unsigned accepted = 0;
    wp_arena_init(&arena, ARENA_LIMIT);
    wp_prng_init(&prng, 2);
    for (unsigned i = 0; i < 2 * PACKETS_PER_VERSION; i++) {
        enum wp_mqtt_version version = versions[i & 1];
        struct wp_mqtt_packet packet;
        uint8_t reason;
        mqtt_packet_random(&prng, version, &arena, &packet);
        assert_int_equal(wp_mqtt_encode(&packet, version, &out), WP_OK);
        for (unsigned flips = 1 + (unsigned)wp_prng_below(&prng, 3); flips > 0; flips--) {
            out.data[wp_prng_below(&prng, out.size)] ^= (uint8_t)(1u << wp_prng_below(&prng, 8));
        }
        if (wp_mqtt_decode(buffer_slice(&out), version, &arena, &packet, &reason) == WP_OK) {
            canonical_assert(&packet, version, &arena, out.size);
            accepted++;
        }
        out.size = 0;
        wp_arena_reset(&arena);
    }
    assert_in_range(accepted, PACKETS_PER_VERSION / 10, 2 * PACKETS_PER_VERSION);
    wp_buffer_free(&out);
    wp_arena_fini(&arena);
}

/* Cuts each packet everywhere, with a remaining length that fits the rest, in a block of exactly that size.
 */
static void test_cut_packets_are_refused_or_canonical(void **state)
{
    (void)state;
    struct wp_prng prng;
    struct wp_arena arena;
    struct wp_buffer out = WP_BUFFER_INIT;
    wp_arena_init(&arena, ARENA_LIMIT);
    wp_prng_init(&prng, 3);
    for (unsigned i = 0; i < 4000; i++) {
        enum wp_mqtt_version version = versions[i & 1];
        struct wp_mqtt_packet packet;
        mqtt_packet_random(&prng, version, &arena, &packet);
        assert_int_equal(wp_mqtt_encode(&packet, version, &out), WP_OK);
        size_t rest_max = out.size >= 130 ? 0 : out.size - 2;
        for (size_t rest = 0; rest < rest_max; rest++) {
            uint8_t reason;
            uint8_t *exact = malloc(rest + 2);
            assert_non_null(exact);
            memcpy(exact, out.data, rest + 2);
            exact[1] = (uint8_t)rest;
            if (wp_mqtt_decode(wp_slice(exact, rest + 2), version, &arena, &packet, &reason) == WP_OK) {
                canonical_assert(&packet, version, &arena, rest + 2);
            }
            free(exact);
        }
        out.size = 0;
        wp_arena_reset(&arena);
    }
    wp_buffer_free(&out);
    wp_arena_fini(&arena);
}

/* Makes one thing of `packet` wrong, most of the time. */
static void packet_damage(struct wp_prng *prng, struct wp_mqtt_packet *packet)
{
    uint64_t noise = wp_prng_next(prng);
    switch (wp_prng_below(prng, 8)) {
    case 0:
        packet->properties.present ^= 1u << (noise % 32);
        break;
    case 1:
        packet->ack.id = 0; /* whatever stands in that place of the union */
        break;
    case 2:
        packet->properties.topic_alias = 0;
        packet->properties.receive_maximum = 0;
        break;
    case 3:
        packet->properties.payload_format = packet->properties.maximum_qos = (uint8_t)noise;
        break;
    case 4:
        packet->type = (enum wp_mqtt_type)((packet->type == WP_MQTT_PUBACK) ? WP_MQTT_PUBREL : packet->type);
        break;
    case 5:
        packet->properties.reason_string = wp_slice("\xc3", 1);
        break;
    case 6:
        packet->properties.user_count =
            packet->properties.user_count > 0 ? packet->properties.user_count - 1 : 0;
        break;
    default:
        break;
    }
}

static void publish_damage(struct wp_prng *prng, struct wp_mqtt_packet *packet)
{
    uint64_t noise = wp_prng_next(prng);
    packet->publish.qos = noise & 1 ? (uint8_t)(noise >> 8 & 3) : packet->publish.qos;
    packet->publish.dup = noise & 2 ? !packet->publish.dup : packet->publish.dup;
    packet->publish.id = noise & 4 ? (uint16_t)(noise >> 16 & 1) : packet->publish.id;
    packet->publish.topic = noise & 8 ? wp_slice("a#", noise >> 17 & 3 ? 1 : 2) : packet->publish.topic;
}

/* An encoder that refuses less than the decoder would send packets that nobody takes. */
static void test_what_the_encoder_takes_the_decoder_takes(void **state)
{
    (void)state;
    struct wp_prng prng;
    struct wp_arena arena;
    unsigned refused = 0;
    wp_arena_init(&arena, ARENA_LIMIT);
    wp_prng_init(&prng, 4);
    for (unsigned i = 0; i < 2 * PACKETS_PER_VERSION; i++) {
        enum wp_mqtt_version version = versions[i & 1];
        struct wp_mqtt_packet packet;
        struct wp_mqtt_packet decoded;
        struct wp_buffer out = WP_BUFFER_INIT;
        uint8_t reason;
        mqtt_packet_random(&prng, version, &arena, &packet);
        if (packet.type == WP_MQTT_PUBLISH) {
            publish_damage(&prng, &packet);
        } else if (packet.type != WP_MQTT_CONNECT) {
            packet_damage(&prng, &packet);
        }
        int error = wp_mqtt_encode(&packet, version, &out);
        assert_true(error == WP_OK || error == WP_E_INVALID);
        assert_int_equal(wp_mqtt_encoded_size(&packet, version), out.size);
        if (error == WP_OK) {
            assert_int_equal(wp_mqtt_decode(buffer_slice(&out), version, &arena, &decoded, &reason), WP_OK);
            assert_int_equal(decoded.type, packet.type);
        } else {
            assert_int_equal(out.size, 0);
            refused++;
        }
        wp_buffer_free(&out);
        wp_arena_reset(&arena);
    }
    assert_in_range(refused, PACKETS_PER_VERSION / 10, 2 * PACKETS_PER_VERSION);
    wp_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_of_encode_is_the_packet),
        cmocka_unit_test(test_damaged_packets_are_refused_or_canonical),
        cmocka_unit_test(test_cut_packets_are_refused_or_canonical),
        cmocka_unit_test(test_what_the_encoder_takes_the_decoder_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
