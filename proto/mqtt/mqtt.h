/* MQTT 3.1.1 and 5 packets: a pure codec, both directions, incremental on byte streams.
 *
 * One struct for every packet type; a decoded packet borrows strings and payload from the input and takes
 * arrays from an arena (none for a PUBLISH without user properties). Encoding is canonical: properties in
 * ascending identifier order (user properties in their given order), shortest variable byte integers, a
 * reason code of success and an empty property list left out where the standard allows it. So
 * encode(decode(x)) is canonical for any accepted x, and decode(encode(p)) == p for any p whose absent parts
 * are zero. A property is written when and only when its bit in `present` is set, whatever its value; one
 * that is absent reads as zero, not as the default of the standard.
 *
 * What is checked on decode: fixed header flags, remaining length, string UTF-8 (no NUL, no surrogates, MQTT
 * 5 section 1.5.4), which properties may stand in which packet and how often (table 2-4), value ranges, legal
 * reason codes per packet (one table), topic names without wildcards, topic filter syntax, packet identifiers
 * non-zero. What is left to the session: order of packets, which side may send what (both directions are one
 * codec), topics that exist, an empty client identifier, limits of policy. Pure; nothing is kept between
 * calls. */
#ifndef WP_PROTO_MQTT_H
#define WP_PROTO_MQTT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"

enum wp_mqtt_version { WP_MQTT_311 = 4, WP_MQTT_5 = 5 };

enum wp_mqtt_type {
    WP_MQTT_CONNECT = 1,
    WP_MQTT_CONNACK,
    WP_MQTT_PUBLISH,
    WP_MQTT_PUBACK,
    WP_MQTT_PUBREC,
    WP_MQTT_PUBREL,
    WP_MQTT_PUBCOMP,
    WP_MQTT_SUBSCRIBE,
    WP_MQTT_SUBACK,
    WP_MQTT_UNSUBSCRIBE,
    WP_MQTT_UNSUBACK,
    WP_MQTT_PINGREQ,
    WP_MQTT_PINGRESP,
    WP_MQTT_DISCONNECT,
    WP_MQTT_AUTH,
};

/* Reason codes used by Wardpost (MQTT 5 section 2.4). The 3.1.1 CONNACK codes are separate. */
enum wp_mqtt_reason {
    WP_MQTT_RC_SUCCESS = 0x00,
    WP_MQTT_RC_GRANTED_QOS1 = 0x01,
    WP_MQTT_RC_NO_SUBSCRIPTION = 0x11,
    WP_MQTT_RC_UNSPECIFIED = 0x80,
    WP_MQTT_RC_MALFORMED = 0x81,
    WP_MQTT_RC_PROTOCOL_ERROR = 0x82,
    WP_MQTT_RC_IMPLEMENTATION = 0x83,
    WP_MQTT_RC_UNSUPPORTED_VERSION = 0x84,
    WP_MQTT_RC_BAD_CLIENT_ID = 0x85,
    WP_MQTT_RC_BAD_CREDENTIALS = 0x86,
    WP_MQTT_RC_NOT_AUTHORIZED = 0x87,
    WP_MQTT_RC_SERVER_UNAVAILABLE = 0x88,
    WP_MQTT_RC_SERVER_BUSY = 0x89,
    WP_MQTT_RC_BAD_AUTH_METHOD = 0x8C,
    WP_MQTT_RC_SERVER_SHUTTING_DOWN = 0x8B,
    WP_MQTT_RC_KEEP_ALIVE_TIMEOUT = 0x8D,
    WP_MQTT_RC_TAKEN_OVER = 0x8E,
    WP_MQTT_RC_FILTER_INVALID = 0x8F,
    WP_MQTT_RC_TOPIC_INVALID = 0x90,
    WP_MQTT_RC_PACKET_ID_IN_USE = 0x91,
    WP_MQTT_RC_PACKET_ID_NOT_FOUND = 0x92,
    WP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    WP_MQTT_RC_TOPIC_ALIAS_INVALID = 0x94,
    WP_MQTT_RC_PACKET_TOO_LARGE = 0x95,
    WP_MQTT_RC_RATE_TOO_HIGH = 0x96,
    WP_MQTT_RC_QUOTA_EXCEEDED = 0x97,
    WP_MQTT_RC_ADMINISTRATIVE = 0x98,
    WP_MQTT_RC_PAYLOAD_INVALID = 0x99,
    WP_MQTT_RC_RETAIN_UNSUPPORTED = 0x9A,
    WP_MQTT_RC_QOS_UNSUPPORTED = 0x9B,
    WP_MQTT_RC_SHARED_UNSUPPORTED = 0x9E,
    WP_MQTT_RC_WILDCARDS_UNSUPPORTED = 0xA2,
    WP_MQTT_RC_SUBSCRIPTION_IDS_UNSUPPORTED = 0xA1,
};

/* Properties (MQTT 5 section 2.2.2). `present` has bit (1 << WP_MQTT_P_x) for each one given. */
enum wp_mqtt_property {
    WP_MQTT_P_PAYLOAD_FORMAT,
    WP_MQTT_P_MESSAGE_EXPIRY,
    WP_MQTT_P_CONTENT_TYPE,
    WP_MQTT_P_RESPONSE_TOPIC,
    WP_MQTT_P_CORRELATION_DATA,
    WP_MQTT_P_SUBSCRIPTION_ID, /* a PUBLISH may carry several */
    WP_MQTT_P_SESSION_EXPIRY,
    WP_MQTT_P_ASSIGNED_CLIENT_ID,
    WP_MQTT_P_SERVER_KEEP_ALIVE,
    WP_MQTT_P_AUTH_METHOD,
    WP_MQTT_P_AUTH_DATA,
    WP_MQTT_P_REQUEST_PROBLEM_INFO,
    WP_MQTT_P_WILL_DELAY,
    WP_MQTT_P_REQUEST_RESPONSE_INFO,
    WP_MQTT_P_RESPONSE_INFO,
    WP_MQTT_P_SERVER_REFERENCE,
    WP_MQTT_P_REASON_STRING,
    WP_MQTT_P_RECEIVE_MAXIMUM,
    WP_MQTT_P_TOPIC_ALIAS_MAXIMUM,
    WP_MQTT_P_TOPIC_ALIAS,
    WP_MQTT_P_MAXIMUM_QOS,
    WP_MQTT_P_RETAIN_AVAILABLE,
    WP_MQTT_P_USER_PROPERTY,
    WP_MQTT_P_MAXIMUM_PACKET_SIZE,
    WP_MQTT_P_WILDCARD_AVAILABLE,
    WP_MQTT_P_SUBSCRIPTION_ID_AVAILABLE,
    WP_MQTT_P_SHARED_AVAILABLE,
    WP_MQTT_PROPERTY_COUNT,
};

struct wp_mqtt_user_property {
    struct wp_slice name;
    struct wp_slice value;
};

struct wp_mqtt_properties {
    uint32_t present;
    uint8_t payload_format;
    uint8_t request_problem_info;
    uint8_t request_response_info;
    uint8_t maximum_qos;
    uint8_t retain_available;
    uint8_t wildcard_available;
    uint8_t subscription_id_available;
    uint8_t shared_available;
    uint16_t server_keep_alive;
    uint16_t receive_maximum;
    uint16_t topic_alias_maximum;
    uint16_t topic_alias;
    uint32_t message_expiry; /* seconds */
    uint32_t session_expiry; /* seconds */
    uint32_t will_delay;     /* seconds */
    uint32_t maximum_packet_size;
    uint32_t *subscription_ids; /* arena; `present` bit set when subscription_id_count > 0 */
    uint32_t subscription_id_count;
    struct wp_slice content_type;
    struct wp_slice response_topic;
    struct wp_slice correlation_data;
    struct wp_slice assigned_client_id;
    struct wp_slice auth_method;
    struct wp_slice auth_data;
    struct wp_slice response_info;
    struct wp_slice server_reference;
    struct wp_slice reason_string;
    struct wp_mqtt_user_property *user; /* arena; `present` bit set when user_count > 0 */
    uint32_t user_count;
};

static inline bool wp_mqtt_has(const struct wp_mqtt_properties *properties, enum wp_mqtt_property property)
{
    return (properties->present >> property) & 1u;
}

struct wp_mqtt_subscription {
    struct wp_slice filter;
    uint8_t qos;
    bool no_local;
    bool retain_as_published;
    uint8_t retain_handling;
};

struct wp_mqtt_packet {
    enum wp_mqtt_type type;
    struct wp_mqtt_properties properties; /* of the packet; ignored for 3.1.1 */
    union {
        struct {
            enum wp_mqtt_version version;
            bool clean_start;    /* 3.1.1: Clean Session */
            uint16_t keep_alive; /* seconds */
            struct wp_slice client_id;
            bool has_username, has_password, has_will;
            struct wp_slice username;
            struct wp_slice password;
            uint8_t will_qos;
            bool will_retain;
            struct wp_slice will_topic;
            struct wp_slice will_payload;
            struct wp_mqtt_properties will_properties;
        } connect;
        struct {
            bool session_present;
            uint8_t code; /* reason code; 3.1.1: return code 0..5 */
        } connack;
        struct {
            bool dup;
            uint8_t qos;
            bool retain;
            struct wp_slice topic; /* may be empty in MQTT 5 with a topic alias */
            uint16_t id;           /* 0 for QoS 0 */
            struct wp_slice payload;
        } publish;
        struct {
            uint16_t id;
            uint8_t code; /* 0 for 3.1.1 */
        } ack;            /* PUBACK, PUBREC, PUBREL, PUBCOMP */
        struct {
            uint16_t id;
            struct wp_mqtt_subscription *items; /* arena */
            uint32_t count;
        } subscribe;
        struct {
            uint16_t id;
            struct wp_slice *filters; /* arena */
            uint32_t count;
        } unsubscribe;
        struct {
            uint16_t id;
            const uint8_t *codes;
            uint32_t count; /* 0 in an UNSUBACK of 3.1.1 */
        } suback;           /* SUBACK, UNSUBACK */
        struct {
            uint8_t code;
        } disconnect; /* DISCONNECT, AUTH */
    };
};

/* Looks at the start of `input` for a whole packet. 1: *ret_size bytes (fixed header included) are there; 0:
 * more bytes are needed, *ret_size = bytes needed in all once the length is known, else 0; WP_E_MALFORMED:
 * bad type, flags or length encoding; WP_E_TOO_LARGE: whole packet over size_max (told as soon as the length
 * is known, with *ret_size set). Cost is O(1), so calling it again on each arriving byte is fine. */
int wp_mqtt_frame(struct wp_slice input, uint32_t size_max, uint32_t *ret_size);

/* Decodes one whole packet (exactly the bytes that wp_mqtt_frame told). `version` matters for all but
 * CONNECT, which brings its own; pass 0 while no CONNECT was seen, then any other packet is a protocol error.
 * WP_OK; WP_E_MALFORMED or WP_E_INVALID (well-formed but a protocol error); WP_E_VERSION: CONNECT of another
 * protocol version or name; WP_E_NOMEM: arena full. On an error *ret_reason is the MQTT 5 reason code to
 * close with (0x81, 0x82, 0x84, 0x94, 0x97), else it is left alone. *ret_packet is scratch space until WP_OK,
 * and borrows from `packet` and `arena` after it. */
int wp_mqtt_decode(struct wp_slice packet, enum wp_mqtt_version version, struct wp_arena *arena,
    struct wp_mqtt_packet *ret_packet, uint8_t *ret_reason);

/* Appends the canonical encoding to `out`. CONNECT is encoded in its own version, every other packet in
 * `version`. WP_OK, WP_E_NOMEM, WP_E_INVALID (the decoder would refuse the result: a bad topic, a packet
 * identifier of 0, a property or reason code that may not stand here, lists without their bit in `present`,
 * anything but plain success in a 3.1.1 acknowledgement), WP_E_TOO_LARGE (over 268,435,455 bytes). Nothing is
 * appended on an error. */
int wp_mqtt_encode(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version, struct wp_buffer *out);

/* Size that wp_mqtt_encode would append; 0 when it would fail. */
size_t wp_mqtt_encoded_size(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version);

/* Fast path for the hot packets: whole PUBACK with code 0 appended (4 bytes in both versions). WP_OK,
 * WP_E_NOMEM, or WP_E_INVALID for identifier 0. */
int wp_mqtt_encode_puback(uint16_t id, struct wp_buffer *out);

/* Name of a reason code as in the standard, lower case ("quota exceeded"); for logs and CLI. */
const char *wp_mqtt_reason_text(uint8_t code);

/* Whether `code` may stand in a packet of this type, from either side (MQTT 5 table 2-6). */
bool wp_mqtt_reason_legal(enum wp_mqtt_type type, uint8_t code);

/* UTF-8 encoded string rules of section 1.5.4 (at most 65,535 bytes, no NUL, no surrogates); topic name and
 * topic filter rules of section 4.7 (at least one byte). Shared subscription syntax is checked where filters
 * are decoded. */
bool wp_mqtt_utf8_valid(struct wp_slice text);
bool wp_mqtt_topic_valid(struct wp_slice topic);
bool wp_mqtt_filter_valid(struct wp_slice filter);

#endif
