/* Shared by the codec's unit tests and fuzz targets: packets made from a seed, and deep equality of packets.
 */
#ifndef WP_TESTS_MQTT_SUPPORT_H
#define WP_TESTS_MQTT_SUPPORT_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/prng.h"
#include "proto/mqtt/mqtt.h"

/* A packet that `version` can carry, of any of its types, with any of the properties it may have. Strings and
 * lists come from `arena`, which must be large enough. */
void mqtt_packet_random(struct wp_prng *prng, enum wp_mqtt_version version, struct wp_arena *arena,
    struct wp_mqtt_packet *ret_packet);

/* Bits of `present` that a packet of `type` may have; type 0 = the Will of a CONNECT. */
uint32_t mqtt_properties_legal(unsigned type);

/* Whether all that two packets say is equal; pointers may differ. */
bool mqtt_packet_equal(const struct wp_mqtt_packet *a, const struct wp_mqtt_packet *b);

#endif
