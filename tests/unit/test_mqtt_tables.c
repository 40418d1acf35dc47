/* The two tables of MQTT 5: which property may stand in which packet and how often (table 2-4), and which
 * reason code in which packet (table 2-6). The expected side is written down here a second time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/test_mqtt_support.h"

/* One legal value of each property, as bytes, at the index of its bit. */
static const struct {
    const char *bytes;
    size_t size;
} values[WP_MQTT_PROPERTY_COUNT] = {
#define VALUE(name, text) [WP_MQTT_P_##name] = {text, sizeof(text) - 1}
    VALUE(PAYLOAD_FORMAT, "\x01\1"),
    VALUE(MESSAGE_EXPIRY, "\x02\0\0\0\1"),
    VALUE(CONTENT_TYPE, "\x03\0\1c"),
    VALUE(RESPONSE_TOPIC, "\x08\0\1r"),
    VALUE(CORRELATION_DATA, "\x09\0\1\xff"),
    VALUE(SUBSCRIPTION_ID, "\x0b\1"),
    VALUE(SESSION_EXPIRY, "\x11\0\0\0\1"),
    VALUE(ASSIGNED_CLIENT_ID, "\x12\0\1a"),
    VALUE(SERVER_KEEP_ALIVE, "\x13\0\1"),
    VALUE(AUTH_METHOD, "\x15\0\1m"),
    VALUE(AUTH_DATA, "\x16\0\1\xff"),
    VALUE(REQUEST_PROBLEM_INFO, "\x17\1"),
    VALUE(WILL_DELAY, "\x18\0\0\0\1"),
    VALUE(REQUEST_RESPONSE_INFO, "\x19\1"),
    VALUE(RESPONSE_INFO, "\x1a\0\1i"),
    VALUE(SERVER_REFERENCE, "\x1c\0\1s"),
    VALUE(REASON_STRING, "\x1f\0\1r"),
    VALUE(RECEIVE_MAXIMUM, "\x21\0\1"),
    VALUE(TOPIC_ALIAS_MAXIMUM, "\x22\0\1"),
    VALUE(TOPIC_ALIAS, "\x23\0\1"),
    VALUE(MAXIMUM_QOS, "\x24\1"),
    VALUE(RETAIN_AVAILABLE, "\x25\1"),
    VALUE(USER_PROPERTY, "\x26\0\1n\0\1v"),
    VALUE(MAXIMUM_PACKET_SIZE, "\x27\0\0\0\1"),
    VALUE(WILDCARD_AVAILABLE, "\x28\1"),
    VALUE(SUBSCRIPTION_ID_AVAILABLE, "\x29\1"),
    VALUE(SHARED_AVAILABLE, "\x2a\1"),
#undef VALUE
};

/* The smallest packet of each type, cut where its properties stand. [0] is a CONNECT with a Will. */
static const struct {
    uint8_t first;
    const char *before;
    size_t before_size;
    const char *after;
    size_t after_size;
} frames[16] = {
#define PARTS(first, before, after)                                                                          \
    {                                                                                                        \
        first, before, sizeof(before) - 1, after, sizeof(after) - 1                                          \
    }
    [0] = PARTS(0x10, "\0\4MQTT\5\4\0\0\0\0\1c", "\0\1t\0\1p"),
    [WP_MQTT_CONNECT] = PARTS(0x10, "\0\4MQTT\5\0\0\0", "\0\1c"),
    [WP_MQTT_CONNACK] = PARTS(0x20, "\0\0", ""),
    [WP_MQTT_PUBLISH] = PARTS(0x30, "\0\1t", "p"),
    [WP_MQTT_PUBACK] = PARTS(0x40, "\0\1\0", ""),
    [WP_MQTT_PUBREC] = PARTS(0x50, "\0\1\0", ""),
    [WP_MQTT_PUBREL] = PARTS(0x62, "\0\1\0", ""),
    [WP_MQTT_PUBCOMP] = PARTS(0x70, "\0\1\0", ""),
    [WP_MQTT_SUBSCRIBE] = PARTS(0x82, "\0\1", "\0\1a\1"),
    [WP_MQTT_SUBACK] = PARTS(0x90, "\0\1", "\1"),
    [WP_MQTT_UNSUBSCRIBE] = PARTS(0xa2, "\0\1", "\0\1a"),
    [WP_MQTT_UNSUBACK] = PARTS(0xb0, "\0\1", "\0"),
    [WP_MQTT_PINGREQ] = PARTS(0xc0, "", ""),
    [WP_MQTT_PINGRESP] = PARTS(0xd0, "", ""),
    [WP_MQTT_DISCONNECT] = PARTS(0xe0, "\0", ""),
    [WP_MQTT_AUTH] = PARTS(0xf0, "\0", ""),
#undef PARTS
};

/* Decodes the packet of `type` with `properties`; tells the error and what was found present. */
static int with_properties(
    unsigned type, struct wp_slice properties, uint32_t *ret_present, uint8_t *ret_reason)
{
    uint8_t bytes[128];
    size_t used = 2;
    memcpy(bytes + used, frames[type].before, frames[type].before_size);
    used += frames[type].before_size;
    bytes[used++] = (uint8_t)properties.size;
    memcpy(bytes + used, properties.data, properties.size);
    used += properties.size;
    memcpy(bytes + used, frames[type].after, frames[type].after_size);
    used += frames[type].after_size;
    assert_in_range(used, 3, sizeof bytes);
    bytes[0] = frames[type].first;
    bytes[1] = (uint8_t)(used - 2);

    struct wp_arena arena;
    struct wp_mqtt_packet packet;
    wp_arena_init(&arena, 1u << 16);
    *ret_reason = 0;
    int error = wp_mqtt_decode(wp_slice(bytes, used), WP_MQTT_5, &arena, &packet, ret_reason);
    *ret_present = type == 0 ? packet.connect.will_properties.present : packet.properties.present;
    wp_arena_fini(&arena);
    return error;
}

static bool bare(unsigned type)
{
    return type == WP_MQTT_PINGREQ || type == WP_MQTT_PINGRESP;
}

static void test_each_property_in_each_packet(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 16; type++) {
        for (unsigned property = 0; !bare(type) && property < WP_MQTT_PROPERTY_COUNT; property++) {
            uint32_t present;
            uint8_t reason;
            struct wp_slice value = wp_slice(values[property].bytes, values[property].size);
            int error = with_properties(type, value, &present, &reason);
            bool legal = mqtt_properties_legal(type) >> property & 1u;
            bool needs_method = (type == WP_MQTT_AUTH && property != WP_MQTT_P_AUTH_METHOD) ||
                                (type == WP_MQTT_CONNECT && property == WP_MQTT_P_AUTH_DATA);
            int expected = !legal ? WP_E_MALFORMED : needs_method ? WP_E_INVALID : WP_OK;
            if (error != expected || (error == WP_OK && present != 1u << property)) {
                fail_msg("property 0x%02x in packet %u: %s", (unsigned)values[property].bytes[0], type,
                    wp_error_slug(error));
            }
        }
    }
}

static void test_each_property_twice(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 16; type++) {
        for (unsigned property = 0; !bare(type) && property < WP_MQTT_PROPERTY_COUNT; property++) {
            if (!(mqtt_properties_legal(type) >> property & 1u)) {
                continue;
            }
            /* The method comes first so that nothing but the repetition can be wrong. */
            uint8_t bytes[64];
            struct wp_slice value = wp_slice(values[property].bytes, values[property].size);
            size_t used = 0;
            bool method =
                (type == WP_MQTT_AUTH || type == WP_MQTT_CONNECT) && property != WP_MQTT_P_AUTH_METHOD;
            if (method) {
                memcpy(bytes, "\x15\0\1m", 4);
                used = 4;
            }
            for (unsigned i = 0; i < 2; i++) {
                memcpy(bytes + used, value.data, value.size);
                used += value.size;
            }
            uint32_t present;
            uint8_t reason;
            bool repeats = property == WP_MQTT_P_USER_PROPERTY ||
                           (property == WP_MQTT_P_SUBSCRIPTION_ID && type == WP_MQTT_PUBLISH);
            int error = with_properties(type, wp_slice(bytes, used), &present, &reason);
            assert_int_equal(error, repeats ? WP_OK : WP_E_INVALID);
            assert_int_equal(reason, repeats ? 0 : 0x82);
        }
    }
}

static void test_no_other_identifier_is_known(void **state)
{
    (void)state;
    unsigned known = 0;
    for (unsigned id = 0; id < 256; id++) {
        bool listed = false;
        for (unsigned property = 0; property < WP_MQTT_PROPERTY_COUNT; property++) {
            listed = listed || (uint8_t)values[property].bytes[0] == id;
        }
        known += listed;
        for (size_t size = 1; !listed && size < 10; size++) {
            uint8_t bytes[16] = {(uint8_t)id};
            uint32_t present;
            uint8_t reason;
            assert_int_equal(
                with_properties(WP_MQTT_CONNACK, wp_slice(bytes, size), &present, &reason), WP_E_MALFORMED);
        }
    }
    assert_int_equal(known, 27);
}

static void test_each_property_cut_short(void **state)
{
    (void)state;
    for (unsigned property = 0; property < WP_MQTT_PROPERTY_COUNT; property++) {
        unsigned type = 0;
        while (!(mqtt_properties_legal(type) >> property & 1u)) {
            type++;
        }
        for (size_t size = 1; size < values[property].size; size++) {
            uint32_t present;
            uint8_t reason;
            assert_int_equal(with_properties(type, wp_slice(values[property].bytes, size), &present, &reason),
                WP_E_MALFORMED);
        }
    }
}

/* Table 2-6, by packet. */
static const struct {
    enum wp_mqtt_type type;
    const char *codes;
    size_t count;
} reasons[] = {
#define CODES(type, text)                                                                                    \
    {                                                                                                        \
        WP_MQTT_##type, text, sizeof(text) - 1                                                               \
    }
    CODES(CONNACK, "\0\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f"),
    CODES(PUBACK, "\0\x10\x80\x83\x87\x90\x91\x97\x99"),
    CODES(PUBREC, "\0\x10\x80\x83\x87\x90\x91\x97\x99"),
    CODES(PUBREL, "\0\x92"),
    CODES(PUBCOMP, "\0\x92"),
    CODES(SUBACK, "\0\1\2\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2"),
    CODES(UNSUBACK, "\0\x11\x80\x83\x87\x8f\x91"),
    CODES(DISCONNECT,
        "\0\4\x80\x81\x82\x83\x87\x89\x8b\x8c\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e"
        "\x9f\xa0\xa1\xa2"),
    CODES(AUTH, "\0\x18\x19"),
    {WP_MQTT_CONNECT, "", 0},
    {WP_MQTT_PUBLISH, "", 0},
    {WP_MQTT_SUBSCRIBE, "", 0},
    {WP_MQTT_UNSUBSCRIBE, "", 0},
    {WP_MQTT_PINGREQ, "", 0},
    {WP_MQTT_PINGRESP, "", 0},
#undef CODES
};

static void test_each_reason_code_in_each_packet(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        for (unsigned code = 0; code < 256; code++) {
            bool legal = reasons[i].count > 0 && memchr(reasons[i].codes, (int)code, reasons[i].count);
            if (wp_mqtt_reason_legal(reasons[i].type, (uint8_t)code) != legal) {
                fail_msg("code 0x%02x in packet %u", code, (unsigned)reasons[i].type);
            }
        }
    }
}

static void test_each_legal_code_has_its_own_text(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 256; code++) {
        bool legal = false;
        for (unsigned type = 1; type < 16; type++) {
            legal = legal || wp_mqtt_reason_legal((enum wp_mqtt_type)type, (uint8_t)code);
        }
        const char *text = wp_mqtt_reason_text((uint8_t)code);
        assert_int_equal(strcmp(text, "unknown reason code") != 0, legal);
        for (unsigned other = 0; legal && other < code; other++) {
            assert_string_not_equal(text, wp_mqtt_reason_text((uint8_t)other));
        }
    }
    assert_string_equal(wp_mqtt_reason_text(0x97), "quota exceeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_property_in_each_packet),
        cmocka_unit_test(test_each_property_twice),
        cmocka_unit_test(test_no_other_identifier_is_known),
        cmocka_unit_test(test_each_property_cut_short),
        cmocka_unit_test(test_each_reason_code_in_each_packet),
        cmocka_unit_test(test_each_legal_code_has_its_own_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
