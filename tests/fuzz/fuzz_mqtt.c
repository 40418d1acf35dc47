/* Fuzz target for the MQTT codec. Input: one byte for the version (4, 5; any other: none until a CONNECT is
 * seen), then a byte stream. Each packet that decodes must have a canonical encoding that means the same and
 * is a fixpoint, and that is never longer than what was sent. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "tests/unit/test_mqtt_support.h"

#define PACKET_SIZE_MAX (1u << 20)
#define ARENA_LIMIT (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void canonical_assert(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version,
    struct wp_arena *arena, size_t size_max)
{
    struct wp_buffer first = WP_BUFFER_INIT;
    struct wp_buffer second = WP_BUFFER_INIT;
    struct wp_mqtt_packet again;
    uint8_t reason;
    uint32_t framed;
    WP_ASSERT(wp_mqtt_encode(packet, version, &first) == WP_OK);
    WP_ASSERT(first.size <= size_max);
    WP_ASSERT(wp_mqtt_encoded_size(packet, version) == first.size);
    WP_ASSERT(wp_mqtt_frame(wp_slice(first.data, first.size), PACKET_SIZE_MAX, &framed) == 1 &&
              framed == first.size);
    WP_ASSERT(wp_mqtt_decode(wp_slice(first.data, first.size), version, arena, &again, &reason) == WP_OK);
    WP_ASSERT(mqtt_packet_equal(packet, &again));
    WP_ASSERT(wp_mqtt_encode(&again, version, &second) == WP_OK);
    WP_ASSERT(wp_slice_equal(wp_slice(first.data, first.size), wp_slice(second.data, second.size)));
    wp_buffer_free(&first);
    wp_buffer_free(&second);
}

/* Decodes one packet from a block of exactly its size. Returns the version that holds from here on. */
static enum wp_mqtt_version packet_run(
    struct wp_slice bytes, enum wp_mqtt_version version, struct wp_arena *arena)
{
    uint8_t *exact = malloc(bytes.size);
    WP_ASSERT(exact);
    memcpy(exact, bytes.data, bytes.size);
    struct wp_mqtt_packet packet;
    uint8_t reason = 0;
    int error = wp_mqtt_decode(wp_slice(exact, bytes.size), version, arena, &packet, &reason);
    WP_ASSERT((error == WP_OK) == (reason == 0));
    if (error == WP_OK) {
        version = packet.type == WP_MQTT_CONNECT ? packet.connect.version : version;
        canonical_assert(&packet, version, arena, bytes.size);
    }
    wp_arena_reset(arena);
    free(exact);
    return version;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum wp_mqtt_version version = data[0] == 4   ? WP_MQTT_311
                                   : data[0] == 5 ? WP_MQTT_5
                                                  : (enum wp_mqtt_version)0;
    struct wp_slice rest = wp_slice(data + 1, size - 1);
    struct wp_arena arena;
    uint32_t packet_size;
    wp_arena_init(&arena, ARENA_LIMIT);
    while (wp_mqtt_frame(rest, PACKET_SIZE_MAX, &packet_size) == 1) {
        WP_ASSERT(packet_size >= 2 && packet_size <= rest.size);
        version = packet_run(wp_slice(rest.data, packet_size), version, &arena);
        rest = wp_slice(rest.data + packet_size, rest.size - packet_size);
    }
    wp_arena_fini(&arena);
    return 0;
}
