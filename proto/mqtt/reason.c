/* Reason codes: their names and the packets they may stand in (MQTT 5 table 2-6). */
#include "proto/mqtt/codec.h"

#define IN(type) WP_MQTT_SCOPE(WP_MQTT_##type)
#define IN_ACKS (IN(PUBACK) | IN(PUBREC))
#define IN_ENDS (IN(CONNACK) | IN(DISCONNECT))

static const struct reason_row {
    const char *text;
    uint16_t packets; /* bit 1 << type */
} reason_rows[256] = {
    [0x00] = {"success", IN(CONNACK) | IN_ACKS | IN(PUBREL) | IN(PUBCOMP) | IN(SUBACK) | IN(UNSUBACK) |
                             IN(DISCONNECT) | IN(AUTH)},
    [0x01] = {"granted qos 1", IN(SUBACK)},
    [0x02] = {"granted qos 2", IN(SUBACK)},
    [0x04] = {"disconnect with will message", IN(DISCONNECT)},
    [0x10] = {"no matching subscribers", IN_ACKS},
    [0x11] = {"no subscription existed", IN(UNSUBACK)},
    [0x18] = {"continue authentication", IN(AUTH)},
    [0x19] = {"re-authenticate", IN(AUTH)},
    [0x80] = {"unspecified error", IN_ENDS | IN_ACKS | IN(SUBACK) | IN(UNSUBACK)},
    [0x81] = {"malformed packet", IN_ENDS},
    [0x82] = {"protocol error", IN_ENDS},
    [0x83] = {"implementation specific error", IN_ENDS | IN_ACKS | IN(SUBACK) | IN(UNSUBACK)},
    [0x84] = {"unsupported protocol version", IN(CONNACK)},
    [0x85] = {"client identifier not valid", IN(CONNACK)},
    [0x86] = {"bad user name or password", IN(CONNACK)},
    [0x87] = {"not authorized", IN_ENDS | IN_ACKS | IN(SUBACK) | IN(UNSUBACK)},
    [0x88] = {"server unavailable", IN(CONNACK)},
    [0x89] = {"server busy", IN_ENDS},
    [0x8a] = {"banned", IN(CONNACK)},
    [0x8b] = {"server shutting down", IN(DISCONNECT)},
    [0x8c] = {"bad authentication method", IN_ENDS},
    [0x8d] = {"keep alive timeout", IN(DISCONNECT)},
    [0x8e] = {"session taken over", IN(DISCONNECT)},
    [0x8f] = {"topic filter invalid", IN(SUBACK) | IN(UNSUBACK) | IN(DISCONNECT)},
    [0x90] = {"topic name invalid", IN_ENDS | IN_ACKS},
    [0x91] = {"packet identifier in use", IN_ACKS | IN(SUBACK) | IN(UNSUBACK)},
    [0x92] = {"packet identifier not found", IN(PUBREL) | IN(PUBCOMP)},
    [0x93] = {"receive maximum exceeded", IN(DISCONNECT)},
    [0x94] = {"topic alias invalid", IN(DISCONNECT)},
    [0x95] = {"packet too large", IN_ENDS},
    [0x96] = {"message rate too high", IN(DISCONNECT)},
    [0x97] = {"quota exceeded", IN_ENDS | IN_ACKS | IN(SUBACK)},
    [0x98] = {"administrative action", IN(DISCONNECT)},
    [0x99] = {"payload format invalid", IN_ENDS | IN_ACKS},
    [0x9a] = {"retain not supported", IN_ENDS},
    [0x9b] = {"qos not supported", IN_ENDS},
    [0x9c] = {"use another server", IN_ENDS},
    [0x9d] = {"server moved", IN_ENDS},
    [0x9e] = {"shared subscriptions not supported", IN(SUBACK) | IN(DISCONNECT)},
    [0x9f] = {"connection rate exceeded", IN_ENDS},
    [0xa0] = {"maximum connect time", IN(DISCONNECT)},
    [0xa1] = {"subscription identifiers not supported", IN(SUBACK) | IN(DISCONNECT)},
    [0xa2] = {"wildcard subscriptions not supported", IN(SUBACK) | IN(DISCONNECT)},
};

const char *wp_mqtt_reason_text(uint8_t code)
{
    const char *text = reason_rows[code].text;
    return text ? text : "unknown reason code";
}

bool wp_mqtt_reason_legal(enum wp_mqtt_type type, uint8_t code)
{
    return (reason_rows[code].packets >> type) & 1u;
}
