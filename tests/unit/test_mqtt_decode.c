/* One row for each rule of the standards that a packet can break, and for each liberty it may take.
 * Sections are those of MQTT 5 unless a row says 3.1.1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/test_mqtt_support.h"

#define V4 WP_MQTT_311
#define V5 WP_MQTT_5
#define BODY(text) (text), sizeof(text) - 1

#define MALFORMED WP_E_MALFORMED, 0x81
#define PROTOCOL WP_E_INVALID, 0x82
#define VERSION WP_E_VERSION, 0x84
#define ALIAS WP_E_INVALID, 0x94

/* Name, level, flags, keep-alive; then properties (MQTT 5), client identifier "c" where a row does not
 * matter. */
#define HEAD4(flags) "\0\4MQTT\4" flags "\0\x3c"
#define HEAD5(flags) "\0\4MQTT\5" flags "\0\x3c"
#define C "\0\1c"

struct row {
    const char *what;
    enum wp_mqtt_version version;
    uint8_t first;
    const char *body;
    size_t size;
    int error;
    uint8_t reason;
};

static const struct row refused[] = {
    {"2.1.2 type 0", V5, 0x00, BODY(""), MALFORMED},
    {"3.1.1 2.2.1 type 15", V4, 0xf0, BODY(""), MALFORMED},
    {"2.1.3 flags of CONNECT", V5, 0x11, BODY(HEAD5("\0") "\0" C), MALFORMED},
    {"2.1.3 flags of AUTH", V5, 0xf1, BODY(""), MALFORMED},

    {"3.1 CONNECT is empty", V5, 0x10, BODY(""), MALFORMED},
    {"3.1.2.1 name is cut", V5, 0x10, BODY("\0\4MQT"), MALFORMED},
    {"3.1.2.1 name of MQTT 3.1", V5, 0x10, BODY("\0\6MQIsdp\3\0\0\x3c" C), VERSION},
    {"3.1.2.1 name in lower case", V5, 0x10, BODY("\0\4mqtt\5\0\0\x3c\0" C), VERSION},
    {"3.1.2.2 level is missing", V5, 0x10, BODY("\0\4MQTT"), MALFORMED},
    {"3.1.2.2 level 3", V5, 0x10, BODY("\0\4MQTT\3\0\0\x3c" C), VERSION},
    {"3.1.2.2 level 6", V5, 0x10, BODY("\0\4MQTT\6\0\0\x3c\0" C), VERSION},
    {"3.1.2.3 flags are missing", V5, 0x10, BODY("\0\4MQTT\5"), MALFORMED},
    {"MQTT-3.1.2-3 reserved flag", V5, 0x10, BODY(HEAD5("\1") "\0" C), MALFORMED},
    {"3.1.1 MQTT-3.1.2-3 reserved flag", V4, 0x10, BODY(HEAD4("\1") C), MALFORMED},
    {"3.1.2.10 keep-alive is cut", V5, 0x10, BODY("\0\4MQTT\5\0\0"), MALFORMED},
    {"3.1.2.11.1 property length is missing", V5, 0x10, BODY(HEAD5("\0")), MALFORMED},
    {"MQTT-3.1.3-3 client identifier is missing", V5, 0x10, BODY(HEAD5("\0") "\0"), MALFORMED},
    {"1.5.4 client identifier is cut", V5, 0x10, BODY(HEAD5("\0") "\0\0\2c"), MALFORMED},
    {"MQTT-3.1.3-4 client identifier is not UTF-8", V5, 0x10, BODY(HEAD5("\0") "\0\0\1\xff"), MALFORMED},
    {"MQTT-1.5.4-2 NUL in client identifier", V4, 0x10, BODY(HEAD4("\0") "\0\1\0"), MALFORMED},
    {"MQTT-3.1.2-11 Will QoS without Will", V5, 0x10, BODY(HEAD5("\x08") "\0" C), MALFORMED},
    {"MQTT-3.1.2-13 Will Retain without Will", V5, 0x10, BODY(HEAD5("\x20") "\0" C), MALFORMED},
    {"MQTT-3.1.2-12 Will QoS 3", V5, 0x10, BODY(HEAD5("\x1c") "\0" C "\0\0\1t\0\1p"), MALFORMED},
    {"3.1.1 MQTT-3.1.2-14 Will QoS 3", V4, 0x10, BODY(HEAD4("\x1c") C "\0\1t\0\1p"), MALFORMED},
    {"3.1.3.2 Will properties are missing", V5, 0x10, BODY(HEAD5("\4") "\0" C), MALFORMED},
    {"3.1.3.3 Will topic is missing", V5, 0x10, BODY(HEAD5("\4") "\0" C "\0"), MALFORMED},
    {"4.7.3 Will topic is empty", V5, 0x10, BODY(HEAD5("\4") "\0" C "\0\0\0\0\1p"), MALFORMED},
    {"4.7.1 wildcard in Will topic", V5, 0x10, BODY(HEAD5("\4") "\0" C "\0\0\1#\0\1p"), MALFORMED},
    {"3.1.3.4 Will payload is missing", V5, 0x10, BODY(HEAD5("\4") "\0" C "\0\0\1t"), MALFORMED},
    {"3.1.3.2 Session Expiry in a Will", V5, 0x10, BODY(HEAD5("\4") "\0" C "\5\x11\0\0\0\1\0\1t\0\1p"),
        MALFORMED},
    {"3.1.3.2.3 Payload Format 2 in a Will", V5, 0x10, BODY(HEAD5("\4") "\0" C "\2\1\2\0\1t\0\1p"), PROTOCOL},
    {"3.1.3.2.5 content type of a Will is not UTF-8", V5, 0x10,
        BODY(HEAD5("\4") "\0" C "\4\3\0\1\xff\0\1t\0\1p"), MALFORMED},
    {"3.1.3.5 user name is missing", V5, 0x10, BODY(HEAD5("\x80") "\0" C), MALFORMED},
    {"MQTT-3.1.3-12 user name is not UTF-8", V5, 0x10, BODY(HEAD5("\x80") "\0" C "\0\2\xc3("), MALFORMED},
    {"3.1.3.6 password is missing", V5, 0x10, BODY(HEAD5("\x40") "\0" C), MALFORMED},
    {"3.1.1 MQTT-3.1.2-22 password alone", V4, 0x10, BODY(HEAD4("\x40") C "\0\1p"), MALFORMED},
    {"3.1.3 bytes after the last field", V5, 0x10, BODY(HEAD5("\0") "\0" C "x"), MALFORMED},
    {"3.1.1 3.1.3 bytes after the last field", V4, 0x10, BODY(HEAD4("\0") C "\0"), MALFORMED},
    {"3.1.2.11.3 Receive Maximum 0", V5, 0x10, BODY(HEAD5("\0") "\3\x21\0\0" C), PROTOCOL},
    {"3.1.2.11.4 Maximum Packet Size 0", V5, 0x10, BODY(HEAD5("\0") "\5\x27\0\0\0\0" C), PROTOCOL},
    {"3.1.2.11.6 Request Response Information 2", V5, 0x10, BODY(HEAD5("\0") "\2\x19\2" C), PROTOCOL},
    {"3.1.2.11.7 Request Problem Information 2", V5, 0x10, BODY(HEAD5("\0") "\2\x17\2" C), PROTOCOL},
    {"3.1.2.11.10 data without method", V5, 0x10, BODY(HEAD5("\0") "\4\x16\0\1d" C), PROTOCOL},
    {"2.2.2.2 unknown property", V5, 0x10, BODY(HEAD5("\0") "\2\x04\0" C), MALFORMED},
    {"2.2.2.2 property over the table", V5, 0x10, BODY(HEAD5("\0") "\2\x7f\0" C), MALFORMED},
    {"2.2.2.1 properties over the end", V5, 0x10, BODY(HEAD5("\0") "\x7f" C), MALFORMED},
    {"2.2.2.1 property over the list", V5, 0x10, BODY(HEAD5("\0") "\3\x11\0\0\0\1" C), MALFORMED},
    {"1.5.7 user property without value", V5, 0x10, BODY(HEAD5("\0") "\4\x26\0\1n" C), MALFORMED},
    {"1.5.7 user property is not UTF-8", V5, 0x10, BODY(HEAD5("\0") "\7\x26\0\1n\0\1\x80" C), MALFORMED},

    {"3.2.2 CONNACK is cut", V5, 0x20, BODY("\0"), MALFORMED},
    {"3.2.2.3 CONNACK without property length", V5, 0x20, BODY("\0\0"), MALFORMED},
    {"3.1.1 3.2.2 CONNACK is too long", V4, 0x20, BODY("\0\0\0"), MALFORMED},
    {"MQTT-3.2.2-1 reserved flags", V5, 0x20, BODY("\2\0\0"), MALFORMED},
    {"MQTT-3.2.2-6 session present and refused", V5, 0x20, BODY("\1\x87\0"), PROTOCOL},
    {"3.1.1 MQTT-3.2.2-4 session present and refused", V4, 0x20, BODY("\1\5"), PROTOCOL},
    {"MQTT-3.2.2-8 code of another packet", V5, 0x20, BODY("\0\x8b\0"), PROTOCOL},
    {"3.1.1 3.2.2.3 return code 6", V4, 0x20, BODY("\0\6"), PROTOCOL},
    {"3.2.2.3.4 Maximum QoS 2", V5, 0x20, BODY("\0\0\2\x24\2"), PROTOCOL},
    {"3.2.2.3.5 Retain Available 2", V5, 0x20, BODY("\0\0\2\x25\2"), PROTOCOL},

    {"MQTT-3.3.1-4 QoS 3", V5, 0x36, BODY("\0\1t\0\1\0"), MALFORMED},
    {"MQTT-3.3.1-2 DUP with QoS 0", V5, 0x38, BODY("\0\1t\0"), MALFORMED},
    {"3.3.2.1 topic is missing", V5, 0x30, BODY(""), MALFORMED},
    {"3.3.2.1 topic is cut", V5, 0x30, BODY("\0\4t"), MALFORMED},
    {"MQTT-3.3.2-2 wildcard + in topic", V5, 0x30, BODY("\0\3a/+\0"), MALFORMED},
    {"3.1.1 MQTT-3.3.2-2 wildcard # in topic", V4, 0x30, BODY("\0\3a/#"), MALFORMED},
    {"MQTT-3.3.2-1 topic is not UTF-8", V5, 0x30, BODY("\0\3\xed\xa0\x80\0"), MALFORMED},
    {"MQTT-4.7.3-2 NUL in topic", V4, 0x30, BODY("\0\3a\0b"), MALFORMED},
    {"3.3.2.1 empty topic without alias", V5, 0x30, BODY("\0\0\0"), PROTOCOL},
    {"3.1.1 MQTT-4.7.3-1 empty topic", V4, 0x30, BODY("\0\0"), MALFORMED},
    {"3.3.2.2 packet identifier is missing", V5, 0x32, BODY("\0\1t\0"), MALFORMED},
    {"MQTT-2.2.1-3 packet identifier 0", V5, 0x32, BODY("\0\1t\0\0\0"), PROTOCOL},
    {"3.1.1 MQTT-2.3.1-1 packet identifier 0", V4, 0x34, BODY("\0\1t\0\0"), PROTOCOL},
    {"3.3.2.3 property length is missing", V5, 0x30, BODY("\0\1t"), MALFORMED},
    {"MQTT-1.5.5-1 property length too long", V5, 0x30, BODY("\0\1t\x80\0"), MALFORMED},
    {"1.5.5 property length of five bytes", V5, 0x30, BODY("\0\1t\x80\x80\x80\x80\1"), MALFORMED},
    {"3.3.2.3.2 Payload Format 2", V5, 0x30, BODY("\0\1t\2\1\2"), PROTOCOL},
    {"3.3.2.3.3 expiry is cut", V5, 0x30, BODY("\0\1t\4\2\0\0\0"), MALFORMED},
    {"3.3.2.3.3 expiry twice", V5, 0x30, BODY("\0\1t\x0a\2\0\0\0\1\2\0\0\0\1"), PROTOCOL},
    {"MQTT-3.3.2-8 topic alias 0", V5, 0x30, BODY("\0\1t\3\x23\0\0"), ALIAS},
    {"MQTT-3.3.2-14 wildcard in response topic", V5, 0x30, BODY("\0\1t\4\x08\0\1#"), MALFORMED},
    {"3.3.2.3.5 empty response topic", V5, 0x30, BODY("\0\1t\3\x08\0\0"), MALFORMED},
    {"3.3.2.3.8 subscription identifier 0", V5, 0x30, BODY("\0\1t\2\x0b\0"), PROTOCOL},
    {"1.5.5 subscription identifier too long", V5, 0x30, BODY("\0\1t\3\x0b\x81\0"), MALFORMED},
    {"3.3.2.3.9 content type is not UTF-8", V5, 0x30, BODY("\0\1t\4\3\0\1\xc0"), MALFORMED},

    {"3.4.2 PUBACK is cut", V5, 0x40, BODY("\0"), MALFORMED},
    {"MQTT-2.2.1-3 PUBACK of 0", V5, 0x40, BODY("\0\0"), PROTOCOL},
    {"3.1.1 3.4.1 PUBACK is too long", V4, 0x40, BODY("\0\1\0"), MALFORMED},
    {"MQTT-3.4.2-1 code of another packet", V5, 0x40, BODY("\0\1\x11"), PROTOCOL},
    {"3.4.2.2.1 properties over the end", V5, 0x40, BODY("\0\1\0\3"), MALFORMED},
    {"3.4.2 bytes after the properties", V5, 0x40, BODY("\0\1\0\0x"), MALFORMED},
    {"MQTT-3.5.2-1 code of another packet", V5, 0x50, BODY("\0\1\x92"), PROTOCOL},
    {"MQTT-3.6.1-1 flags of PUBREL", V5, 0x60, BODY("\0\1"), MALFORMED},
    {"MQTT-3.6.2-1 code of another packet", V5, 0x62, BODY("\0\1\x97"), PROTOCOL},
    {"MQTT-3.7.2-1 code of another packet", V5, 0x70, BODY("\0\1\x80"), PROTOCOL},

    {"MQTT-3.8.1-1 flags of SUBSCRIBE", V5, 0x80, BODY("\0\1\0\0\1a\1"), MALFORMED},
    {"MQTT-2.2.1-3 SUBSCRIBE with 0", V5, 0x82, BODY("\0\0\0\0\1a\1"), PROTOCOL},
    {"3.8.2 SUBSCRIBE is cut", V5, 0x82, BODY("\0"), MALFORMED},
    {"3.8.2.1 properties over the end", V5, 0x82, BODY("\0\1\5"), MALFORMED},
    {"MQTT-3.8.3-2 no filter", V5, 0x82, BODY("\0\1\0"), PROTOCOL},
    {"3.1.1 MQTT-3.8.3-3 no filter", V4, 0x82, BODY("\0\1"), PROTOCOL},
    {"3.8.3 filter without options", V5, 0x82, BODY("\0\1\0\0\1a"), MALFORMED},
    {"3.8.3 filter is cut", V5, 0x82, BODY("\0\1\0\0\4a\1"), MALFORMED},
    {"MQTT-4.7.3-1 empty filter", V5, 0x82, BODY("\0\1\0\0\0\1"), MALFORMED},
    {"MQTT-3.8.3-1 filter is not UTF-8", V5, 0x82, BODY("\0\1\0\0\1\xf5\1"), MALFORMED},
    {"MQTT-4.7.1-1 # inside", V5, 0x82, BODY("\0\1\0\0\3#/a\1"), MALFORMED},
    {"MQTT-4.7.1-2 + beside text", V4, 0x82, BODY("\0\1\0\2a+\1"), MALFORMED},
    {"MQTT-3.8.3-5 reserved options", V5, 0x82, BODY("\0\1\0\0\1a\x41"), MALFORMED},
    {"3.1.1 MQTT-3-8.3-4 reserved options", V4, 0x82, BODY("\0\1\0\1a\x05"), MALFORMED},
    {"3.8.3.1 QoS 3", V5, 0x82, BODY("\0\1\0\0\1a\3"), PROTOCOL},
    {"3.1.1 MQTT-3-8.3-4 QoS 3", V4, 0x82, BODY("\0\1\0\1a\3"), MALFORMED},
    {"3.8.3.1 Retain Handling 3", V5, 0x82, BODY("\0\1\0\0\1a\x31"), PROTOCOL},
    {"MQTT-3.8.3-4 No Local on a shared one", V5, 0x82, BODY("\0\1\0\0\x0a$share/g/a\5"), PROTOCOL},
    {"MQTT-4.8.2-1 empty share name", V5, 0x82, BODY("\0\1\0\0\x09$share//a\1"), MALFORMED},
    {"MQTT-4.8.2-1 nothing after $share/", V5, 0x82, BODY("\0\1\0\0\7$share/\1"), MALFORMED},
    {"MQTT-4.8.2-2 share name without filter", V5, 0x82, BODY("\0\1\0\0\x08$share/g\1"), MALFORMED},
    {"MQTT-4.8.2-2 share name and empty filter", V5, 0x82, BODY("\0\1\0\0\x09$share/g/\1"), MALFORMED},
    {"MQTT-4.8.2-2 wildcard as share name", V5, 0x82, BODY("\0\1\0\0\x0a$share/+/a\1"), MALFORMED},
    {"3.8.2.1.2 subscription identifier twice", V5, 0x82, BODY("\0\1\4\x0b\1\x0b\2\0\1a\1"), PROTOCOL},
    {"3.8.2.1.2 subscription identifier 0", V5, 0x82, BODY("\0\1\2\x0b\0\0\1a\1"), PROTOCOL},

    {"MQTT-2.2.1-3 SUBACK of 0", V5, 0x90, BODY("\0\0\0\0"), PROTOCOL},
    {"3.9.2 SUBACK is cut", V5, 0x90, BODY("\0"), MALFORMED},
    {"3.9.2 SUBACK without property length", V5, 0x90, BODY("\0\1"), MALFORMED},
    {"MQTT-3.8.4-5 SUBACK without codes", V5, 0x90, BODY("\0\1\0"), PROTOCOL},
    {"3.1.1 MQTT-3.8.4-5 SUBACK without codes", V4, 0x90, BODY("\0\1"), PROTOCOL},
    {"MQTT-3.9.3-2 code of another packet", V5, 0x90, BODY("\0\1\0\1\x11"), PROTOCOL},
    {"3.1.1 MQTT-3.9.3-2 return code 3", V4, 0x90, BODY("\0\1\1\3"), PROTOCOL},

    {"MQTT-3.10.1-1 flags of UNSUBSCRIBE", V5, 0xa0, BODY("\0\1\0\0\1a"), MALFORMED},
    {"MQTT-2.2.1-3 UNSUBSCRIBE with 0", V5, 0xa2, BODY("\0\0\0\0\1a"), PROTOCOL},
    {"3.10.2 UNSUBSCRIBE is cut", V5, 0xa2, BODY("\0"), MALFORMED},
    {"3.10.2.1 properties over the end", V5, 0xa2, BODY("\0\1\5"), MALFORMED},
    {"MQTT-3.10.3-2 no filter", V5, 0xa2, BODY("\0\1\0"), PROTOCOL},
    {"MQTT-3.10.3-1 filter is cut", V5, 0xa2, BODY("\0\1\0\0\2a"), MALFORMED},
    {"MQTT-4.7.1-1 filter a#", V5, 0xa2, BODY("\0\1\0\0\2a#"), MALFORMED},
    {"MQTT-4.8.2-1 filter $share//", V5, 0xa2, BODY("\0\1\0\0\x09$share//x"), MALFORMED},
    {"MQTT-2.2.1-3 UNSUBACK of 0", V5, 0xb0, BODY("\0\0\0\0"), PROTOCOL},
    {"3.11.3 UNSUBACK without codes", V5, 0xb0, BODY("\0\1\0"), PROTOCOL},
    {"MQTT-3.11.3-2 code of another packet", V5, 0xb0, BODY("\0\1\0\1"), PROTOCOL},
    {"3.1.1 3.11.1 UNSUBACK with codes", V4, 0xb0, BODY("\0\1\0"), PROTOCOL},

    {"3.12.1 PINGREQ with a body", V5, 0xc0, BODY("x"), MALFORMED},
    {"2.1.3 flags of PINGREQ", V5, 0xc1, BODY(""), MALFORMED},
    {"3.13.1 PINGRESP with a body", V4, 0xd0, BODY("x"), MALFORMED},
    {"MQTT-3.14.1-1 flags of DISCONNECT", V5, 0xe1, BODY(""), MALFORMED},
    {"MQTT-3.14.2-1 code of another packet", V5, 0xe0, BODY("\x84"), PROTOCOL},
    {"3.1.1 3.14.1 DISCONNECT with a body", V4, 0xe0, BODY("\0"), MALFORMED},
    {"3.14.2.2.1 properties over the end", V5, 0xe0, BODY("\0\5"), MALFORMED},
    {"3.15 AUTH of one byte", V5, 0xf0, BODY("\x18"), MALFORMED},
    {"3.15.2.2.2 AUTH without method", V5, 0xf0, BODY("\x18\0"), PROTOCOL},
    {"MQTT-3.15.2-1 code of another packet", V5, 0xf0, BODY("\1\5\x15\0\2me"), PROTOCOL},
};

static const struct row accepted[] = {
    {"3.1.3.1 empty client identifier is the session's", V4, 0x10, BODY(HEAD4("\0") "\0\0"), WP_OK, 0},
    {"3.1.2.9 password without user name", V5, 0x10, BODY(HEAD5("\x40") "\0" C "\0\1p"), WP_OK, 0},
    {"3.1.3.5 empty user name and password", V5, 0x10, BODY(HEAD5("\xc0") "\0" C "\0\0\0\0"), WP_OK, 0},
    {"3.1.2.11.10 data after method", V5, 0x10, BODY(HEAD5("\0") "\x09\x15\0\2me\x16\0\1d" C), WP_OK, 0},
    {"2.2.2.2 properties in any order", V5, 0x10, BODY(HEAD5("\0") "\x08\x21\0\1\x11\0\0\0\1" C), WP_OK, 0},
    {"3.1.3.2 Will with delay", V5, 0x10, BODY(HEAD5("\x2c") "\0" C "\5\x18\0\0\0\1\0\1t\0\0"), WP_OK, 0},
    {"3.3.2.3.4 empty topic with alias", V5, 0x30, BODY("\0\0\3\x23\0\1p"), WP_OK, 0},
    {"3.3.2.3.8 several subscription identifiers", V5, 0x30, BODY("\0\1t\4\x0b\1\x0b\1"), WP_OK, 0},
    {"3.3.3 empty payload", V4, 0x3d, BODY("\0\1t\0\1"), WP_OK, 0},
    {"1.5.4 control characters are allowed", V5, 0x30, BODY("\0\2\1\x7f\0"), WP_OK, 0},
    {"1.5.4.3 byte order mark is kept", V5, 0x30, BODY("\0\4\xef\xbb\xbft\0"), WP_OK, 0},
    {"3.4.2.1 PUBACK without code", V5, 0x40, BODY("\0\1"), WP_OK, 0},
    {"3.4.2.2.1 PUBACK without property length", V5, 0x40, BODY("\0\1\x10"), WP_OK, 0},
    {"3.4.2.2.1 PUBACK with no properties", V5, 0x40, BODY("\0\1\0\0"), WP_OK, 0},
    {"3.8.3.1 all options", V5, 0x82, BODY("\0\1\0\0\1a\x2e"), WP_OK, 0},
    {"4.8.2 share", V5, 0x82, BODY("\0\1\0\0\x0a$share/g/#\2"), WP_OK, 0},
    {"3.1.1 knows no shares", V4, 0x82, BODY("\0\1\0\x08$share/g\1"), WP_OK, 0},
    {"3.1.1 3.11.1 UNSUBACK", V4, 0xb0, BODY("\0\1"), WP_OK, 0},
    {"3.14.2.1 DISCONNECT without code", V5, 0xe0, BODY(""), WP_OK, 0},
    {"3.14.2.1 DISCONNECT with Will", V5, 0xe0, BODY("\4"), WP_OK, 0},
    {"3.15.2.1 AUTH without code", V5, 0xf0, BODY(""), WP_OK, 0},
    {"3.15.2.2.2 AUTH with method", V5, 0xf0, BODY("\x19\5\x15\0\2me"), WP_OK, 0},
};

/* Decodes `row` from a block of exactly its size, so that a sanitizer sees each read past the end. */
static int row_decode(const struct row *row, struct wp_arena *arena, uint8_t *ret_reason)
{
    size_t size = 2 + row->size;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    assert_true(row->size < 128);
    bytes[0] = row->first;
    bytes[1] = (uint8_t)row->size;
    memcpy(bytes + 2, row->body, row->size);
    struct wp_mqtt_packet packet;
    int error = wp_mqtt_decode(wp_slice(bytes, size), row->version, arena, &packet, ret_reason);
    free(bytes);
    return error;
}

static void rows_run(const struct row *rows, size_t count)
{
    struct wp_arena arena;
    wp_arena_init(&arena, 1u << 16);
    for (size_t i = 0; i < count; i++) {
        uint8_t reason = 0;
        int error = row_decode(&rows[i], &arena, &reason);
        if (error != rows[i].error || reason != rows[i].reason) {
            fail_msg("%s: got %s with 0x%02x, expected %s with 0x%02x", rows[i].what, wp_error_slug(error),
                reason, wp_error_slug(rows[i].error), rows[i].reason);
        }
        wp_arena_reset(&arena);
    }
    wp_arena_fini(&arena);
}

static void test_each_rule_is_enforced(void **state)
{
    (void)state;
    rows_run(refused, sizeof refused / sizeof refused[0]);
}

static void test_each_liberty_is_granted(void **state)
{
    (void)state;
    rows_run(accepted, sizeof accepted / sizeof accepted[0]);
}

static int bytes_decode(const char *bytes, size_t size, enum wp_mqtt_version version)
{
    struct wp_arena arena;
    struct wp_mqtt_packet packet;
    uint8_t reason;
    wp_arena_init(&arena, 1u << 16);
    int error = wp_mqtt_decode(wp_slice(bytes, size), version, &arena, &packet, &reason);
    wp_arena_fini(&arena);
    return error;
}

static void test_the_bytes_must_be_one_whole_packet(void **state)
{
    (void)state;
    assert_int_equal(bytes_decode(BODY(""), V5), WP_E_MALFORMED);
    assert_int_equal(bytes_decode(BODY("\xc0"), V5), WP_E_MALFORMED);
    assert_int_equal(bytes_decode(BODY("\xc0\0\0"), V5), WP_E_MALFORMED);
    assert_int_equal(bytes_decode(BODY("\x40\3\0\1"), V5), WP_E_MALFORMED);
    assert_int_equal(bytes_decode(BODY("\xc0\x80\x80\x80\x80\0"), V5), WP_E_MALFORMED);
    assert_int_equal(bytes_decode(BODY("\xc0\0"), V5), WP_OK);
}

static void test_a_long_remaining_length_is_malformed_in_5_only(void **state)
{
    (void)state;
    assert_int_equal(bytes_decode(BODY("\xc0\x80\0"), V5), WP_E_MALFORMED); /* MQTT-1.5.5-1 */
    assert_int_equal(bytes_decode(BODY("\xc0\x80\0"), V4), WP_OK);
    assert_int_equal(bytes_decode(BODY("\x10\x8e\0" HEAD5("\0") "\0" C), V4), WP_E_MALFORMED);
    assert_int_equal(bytes_decode(BODY("\x10\x8d\x80\x80\0" HEAD4("\0") C), V5), WP_OK);
}

static void test_nothing_but_connect_comes_before_the_version(void **state)
{
    (void)state;
    const enum wp_mqtt_version none = (enum wp_mqtt_version)0;
    struct wp_arena arena;
    struct wp_mqtt_packet packet;
    uint8_t reason = 0;
    wp_arena_init(&arena, 1u << 16);
    assert_int_equal(wp_mqtt_decode(wp_slice("\xc0\0", 2), none, &arena, &packet, &reason), WP_E_INVALID);
    assert_int_equal(reason, 0x82); /* MQTT-3.1.0-1 */
    static const char connect[] = "\x10\x0d" HEAD4("\0") C;
    assert_int_equal(
        wp_mqtt_decode(wp_slice(connect, sizeof connect - 1), none, &arena, &packet, &reason), WP_OK);
    assert_int_equal(packet.connect.version, WP_MQTT_311);
    wp_arena_fini(&arena);
}

static void test_lists_stay_inside_the_arena_limit(void **state)
{
    (void)state;
    static const char *const packets[] = {"\x82\x0b\0\1\0\0\1a\1\0\1b\1", "\xa2\x09\0\1\0\0\1a\0\1b",
        "\x30\x0b\0\1t\7\x26\0\1n\0\1v", "\x30\x06\0\1t\2\x0b\1"};
    static const size_t sizes[] = {13, 11, 13, 8};
    for (unsigned i = 0; i < 4; i++) {
        struct wp_arena arena;
        struct wp_mqtt_packet packet;
        uint8_t reason = 0;
        wp_arena_init(&arena, 3);
        assert_int_equal(
            wp_mqtt_decode(wp_slice(packets[i], sizes[i]), V5, &arena, &packet, &reason), WP_E_NOMEM);
        assert_int_equal(reason, 0x97);
        wp_arena_fini(&arena);
        wp_arena_init(&arena, 256);
        assert_int_equal(wp_mqtt_decode(wp_slice(packets[i], sizes[i]), V5, &arena, &packet, &reason), WP_OK);
        wp_arena_fini(&arena);
    }
}

static void test_a_plain_publish_takes_no_memory(void **state)
{
    (void)state;
    struct wp_arena arena;
    struct wp_mqtt_packet packet;
    uint8_t reason;
    wp_arena_init(&arena, 0);
    static const char bytes[] = "\x3b\x14\0\4wp/1\1\2\x07\1\1\2\0\0\0\x05"
                                "body";
    assert_int_equal(wp_mqtt_decode(wp_slice(bytes, sizeof bytes - 1), V5, &arena, &packet, &reason), WP_OK);
    assert_null(arena.blocks);
    assert_true(packet.publish.dup && packet.publish.retain);
    assert_int_equal(packet.publish.qos, 1);
    assert_int_equal(packet.publish.id, 0x0102);
    assert_int_equal(packet.properties.message_expiry, 5);
    assert_int_equal(packet.properties.payload_format, 1);
    assert_true(wp_slice_equal(packet.publish.topic, wp_slice("wp/1", 4)));
    assert_true(wp_slice_equal(packet.publish.payload, wp_slice("body", 4)));
    assert_ptr_equal(packet.publish.payload.data, (const uint8_t *)bytes + sizeof bytes - 1 - 4);
    wp_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_rule_is_enforced),
        cmocka_unit_test(test_each_liberty_is_granted),
        cmocka_unit_test(test_the_bytes_must_be_one_whole_packet),
        cmocka_unit_test(test_a_long_remaining_length_is_malformed_in_5_only),
        cmocka_unit_test(test_nothing_but_connect_comes_before_the_version),
        cmocka_unit_test(test_lists_stay_inside_the_arena_limit),
        cmocka_unit_test(test_a_plain_publish_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
