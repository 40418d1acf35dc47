/* Bytes on the wire for one packet of each shape, written out by hand from the standards, and what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/test_mqtt_support.h"

#define BYTES(text) wp_slice(text, sizeof(text) - 1)
#define HAS(name) (1u << WP_MQTT_P_##name)

/* Encodes and compares; the size told beforehand must be the size written. */
static void wire_assert(
    const struct wp_mqtt_packet *packet, enum wp_mqtt_version version, struct wp_slice expected)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_mqtt_encode(packet, version, &out), WP_OK);
    assert_int_equal(out.size, expected.size);
    assert_memory_equal(out.data, expected.data, expected.size);
    assert_int_equal(wp_mqtt_encoded_size(packet, version), expected.size);
    wp_buffer_free(&out);
}

static void refuse_assert(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_buffer_append(&out, "x", 1), WP_OK);
    assert_int_equal(wp_mqtt_encode(packet, version, &out), WP_E_INVALID);
    assert_int_equal(out.size, 1);
    assert_int_equal(wp_mqtt_encoded_size(packet, version), 0);
    wp_buffer_free(&out);
}

static void test_connect(void **state)
{
    (void)state;
    struct wp_mqtt_packet packet = {.type = WP_MQTT_CONNECT};
    packet.connect.version = WP_MQTT_311;
    packet.connect.clean_start = true;
    packet.connect.keep_alive = 60;
    packet.connect.client_id = BYTES("c");
    wire_assert(&packet, WP_MQTT_311, BYTES("\x10\x0d\0\4MQTT\4\2\0\x3c\0\1c"));
    /* A CONNECT brings its own version, whatever the connection spoke before. */
    wire_assert(&packet, WP_MQTT_5, BYTES("\x10\x0d\0\4MQTT\4\2\0\x3c\0\1c"));
    packet.connect.version = WP_MQTT_5;
    wire_assert(&packet, WP_MQTT_311, BYTES("\x10\x0e\0\4MQTT\5\2\0\x3c\0\0\1c"));

    packet.properties.present = HAS(RECEIVE_MAXIMUM) | HAS(SESSION_EXPIRY);
    packet.properties.receive_maximum = 65535;
    packet.connect.has_will = packet.connect.has_username = packet.connect.has_password = true;
    packet.connect.will_qos = 1;
    packet.connect.will_retain = true;
    packet.connect.will_topic = BYTES("t");
    packet.connect.will_payload = BYTES("\0");
    packet.connect.will_properties.present = HAS(WILL_DELAY);
    packet.connect.will_properties.will_delay = 9;
    packet.connect.username = BYTES("u");
    packet.connect.password = BYTES("\xff");
    wire_assert(&packet, WP_MQTT_5,
        BYTES("\x10\x28\0\4MQTT\5\xee\0\x3c\x08\x11\0\0\0\0\x21\xff\xff\0\1c"
              "\5\x18\0\0\0\x09\0\1t\0\1\0\0\1u\0\1\xff"));
}

static void test_connack(void **state)
{
    (void)state;
    struct wp_mqtt_packet packet = {.type = WP_MQTT_CONNACK};
    packet.connack.session_present = true;
    wire_assert(&packet, WP_MQTT_311, BYTES("\x20\2\1\0"));
    wire_assert(&packet, WP_MQTT_5, BYTES("\x20\3\1\0\0"));
    packet.properties.present = HAS(MAXIMUM_QOS) | HAS(SHARED_AVAILABLE) | HAS(ASSIGNED_CLIENT_ID);
    packet.properties.maximum_qos = 1;
    packet.properties.assigned_client_id = BYTES("id");
    wire_assert(&packet, WP_MQTT_5, BYTES("\x20\x0c\1\0\x09\x12\0\2id\x24\1\x2a\0"));
    wire_assert(&packet, WP_MQTT_311, BYTES("\x20\2\1\0"));
    packet.connack.code = 5;
    refuse_assert(&packet, WP_MQTT_311);
    refuse_assert(&packet, WP_MQTT_5);
    packet.connack.session_present = false;
    wire_assert(&packet, WP_MQTT_311, BYTES("\x20\2\0\5"));
}

static void test_publish(void **state)
{
    (void)state;
    struct wp_mqtt_user_property user[] = {{BYTES("b"), BYTES("1")}, {BYTES("a"), BYTES("")}};
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBLISH};
    packet.publish.topic = BYTES("t");
    packet.publish.payload = BYTES("p");
    wire_assert(&packet, WP_MQTT_311, BYTES("\x30\4\0\1tp"));
    wire_assert(&packet, WP_MQTT_5, BYTES("\x30\5\0\1t\0p"));
    packet.publish.qos = 1;
    packet.publish.dup = packet.publish.retain = true;
    packet.publish.id = 0x1234;
    packet.properties.present = HAS(USER_PROPERTY) | HAS(MESSAGE_EXPIRY) | HAS(SUBSCRIPTION_ID);
    packet.properties.message_expiry = 1;
    packet.properties.user = user;
    packet.properties.user_count = 2;
    packet.properties.subscription_ids = (uint32_t[]){128, 1};
    packet.properties.subscription_id_count = 2;
    wire_assert(&packet, WP_MQTT_5,
        BYTES("\x3b\x1e\0\1t\x12\x34\x17\2\0\0\0\1\x0b\x80\1\x0b\1\x26\0\1b\0\1"
              "1\x26\0\1a\0\0p"));
    wire_assert(&packet, WP_MQTT_311, BYTES("\x3b\6\0\1t\x12\x34p"));
}

static void test_acknowledgements_leave_out_what_says_nothing(void **state)
{
    (void)state;
    static const enum wp_mqtt_type types[] = {
        WP_MQTT_PUBACK, WP_MQTT_PUBREC, WP_MQTT_PUBREL, WP_MQTT_PUBCOMP};
    static const uint8_t firsts[] = {0x40, 0x50, 0x62, 0x70};
    for (unsigned i = 0; i < 4; i++) {
        struct wp_mqtt_packet packet = {.type = types[i]};
        char expected[] = "\0\2\0\7";
        expected[0] = (char)firsts[i];
        packet.ack.id = 7;
        wire_assert(&packet, WP_MQTT_5, wp_slice(expected, 4));
        wire_assert(&packet, WP_MQTT_311, wp_slice(expected, 4));
    }
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBACK};
    packet.ack.id = 7;
    packet.ack.code = WP_MQTT_RC_QUOTA_EXCEEDED;
    wire_assert(&packet, WP_MQTT_5, BYTES("\x40\3\0\7\x97"));
    refuse_assert(&packet, WP_MQTT_311);
    packet.properties.present = HAS(REASON_STRING);
    wire_assert(&packet, WP_MQTT_5, BYTES("\x40\7\0\7\x97\3\x1f\0\0"));
    packet.ack.code = 0;
    wire_assert(&packet, WP_MQTT_5, BYTES("\x40\7\0\7\0\3\x1f\0\0"));
}

static void test_disconnect_and_auth(void **state)
{
    (void)state;
    struct wp_mqtt_packet packet = {.type = WP_MQTT_DISCONNECT};
    wire_assert(&packet, WP_MQTT_311, BYTES("\xe0\0"));
    wire_assert(&packet, WP_MQTT_5, BYTES("\xe0\0"));
    packet.disconnect.code = WP_MQTT_RC_TAKEN_OVER;
    wire_assert(&packet, WP_MQTT_5, BYTES("\xe0\1\x8e"));
    refuse_assert(&packet, WP_MQTT_311);
    packet.properties.present = HAS(REASON_STRING);
    packet.properties.reason_string = BYTES("x");
    wire_assert(&packet, WP_MQTT_5, BYTES("\xe0\6\x8e\4\x1f\0\1x"));

    struct wp_mqtt_packet auth = {.type = WP_MQTT_AUTH};
    wire_assert(&auth, WP_MQTT_5, BYTES("\xf0\0"));
    refuse_assert(&auth, WP_MQTT_311);
    auth.disconnect.code = 0x18;
    refuse_assert(&auth, WP_MQTT_5);
    auth.properties.present = HAS(AUTH_METHOD);
    auth.properties.auth_method = BYTES("m");
    wire_assert(&auth, WP_MQTT_5, BYTES("\xf0\6\x18\4\x15\0\1m"));
    auth.disconnect.code = 0;
    wire_assert(&auth, WP_MQTT_5, BYTES("\xf0\6\0\4\x15\0\1m"));
}

static void test_subscribe_and_its_answers(void **state)
{
    (void)state;
    struct wp_mqtt_subscription items[] = {{BYTES("a"), 1, false, false, 0}, {BYTES("#"), 2, true, true, 2}};
    struct wp_mqtt_packet packet = {.type = WP_MQTT_SUBSCRIBE};
    packet.subscribe.id = 1;
    packet.subscribe.items = items;
    packet.subscribe.count = 1;
    wire_assert(&packet, WP_MQTT_311, BYTES("\x82\6\0\1\0\1a\1"));
    packet.subscribe.count = 2;
    wire_assert(&packet, WP_MQTT_5, BYTES("\x82\x0b\0\1\0\0\1a\1\0\1#\x2e"));
    refuse_assert(&packet, WP_MQTT_311);

    struct wp_mqtt_packet suback = {.type = WP_MQTT_SUBACK};
    suback.suback.id = 1;
    suback.suback.codes = (const uint8_t *)"\1\x80";
    suback.suback.count = 2;
    wire_assert(&suback, WP_MQTT_311, BYTES("\x90\4\0\1\1\x80"));
    wire_assert(&suback, WP_MQTT_5, BYTES("\x90\5\0\1\0\1\x80"));
    suback.suback.codes = (const uint8_t *)"\1\x8f";
    refuse_assert(&suback, WP_MQTT_311);

    struct wp_slice filters[] = {BYTES("a"), BYTES("b/#")};
    struct wp_mqtt_packet unsubscribe = {.type = WP_MQTT_UNSUBSCRIBE};
    unsubscribe.unsubscribe.id = 1;
    unsubscribe.unsubscribe.filters = filters;
    unsubscribe.unsubscribe.count = 2;
    wire_assert(&unsubscribe, WP_MQTT_311, BYTES("\xa2\x0a\0\1\0\1a\0\3b/#"));
    wire_assert(&unsubscribe, WP_MQTT_5, BYTES("\xa2\x0b\0\1\0\0\1a\0\3b/#"));

    struct wp_mqtt_packet unsuback = {.type = WP_MQTT_UNSUBACK};
    unsuback.suback.id = 1;
    wire_assert(&unsuback, WP_MQTT_311, BYTES("\xb0\2\0\1"));
    refuse_assert(&unsuback, WP_MQTT_5);
    unsuback.suback.codes = (const uint8_t *)"\0\x11";
    unsuback.suback.count = 2;
    wire_assert(&unsuback, WP_MQTT_5, BYTES("\xb0\5\0\1\0\0\x11"));
    refuse_assert(&unsuback, WP_MQTT_311);
}

static void test_ping(void **state)
{
    (void)state;
    wire_assert(&(struct wp_mqtt_packet){.type = WP_MQTT_PINGREQ}, WP_MQTT_311, BYTES("\xc0\0"));
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PINGRESP};
    wire_assert(&packet, WP_MQTT_5, BYTES("\xd0\0"));
    packet.properties.present = HAS(REASON_STRING); /* has nowhere to go */
    refuse_assert(&packet, WP_MQTT_5);
}

static void test_short_form_of_puback(void **state)
{
    (void)state;
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_mqtt_encode_puback(0x0102, &out), WP_OK);
    assert_int_equal(wp_mqtt_encode_puback(65535, &out), WP_OK);
    assert_int_equal(out.size, 8);
    assert_memory_equal(out.data, "\x40\2\1\2\x40\2\xff\xff", 8);
    assert_int_equal(wp_mqtt_encode_puback(0, &out), WP_E_INVALID);
    assert_int_equal(out.size, 8);
    wp_buffer_free(&out);
}

static void test_what_no_packet_can_carry_is_refused(void **state)
{
    (void)state;
    char *large = calloc(1, 65536);
    assert_non_null(large);
    struct wp_mqtt_packet publish = {.type = WP_MQTT_PUBLISH};
    publish.publish.topic = BYTES("t");
    wire_assert(&publish, WP_MQTT_311, BYTES("\x30\3\0\1t"));
    refuse_assert(&publish, (enum wp_mqtt_version)0);
    refuse_assert(&publish, (enum wp_mqtt_version)3);

    struct wp_mqtt_packet packet = publish;
    packet.type = (enum wp_mqtt_type)0;
    refuse_assert(&packet, WP_MQTT_5);
    packet.type = (enum wp_mqtt_type)16;
    refuse_assert(&packet, WP_MQTT_5);
    packet = publish;
    packet.publish.id = 1; /* QoS 0 has no identifier */
    refuse_assert(&packet, WP_MQTT_311);
    packet = publish;
    packet.publish.dup = true;
    refuse_assert(&packet, WP_MQTT_311);
    packet = publish;
    packet.publish.qos = 3;
    packet.publish.id = 1;
    refuse_assert(&packet, WP_MQTT_311);
    packet = publish;
    packet.properties.present = HAS(CORRELATION_DATA);
    packet.properties.correlation_data = wp_slice(large, 65536);
    refuse_assert(&packet, WP_MQTT_5);
    packet.properties.correlation_data.size--;
    assert_int_equal(wp_mqtt_encoded_size(&packet, WP_MQTT_5), 1 + 3 + 3 + 3 + 3 + 65535);
    packet = publish;
    packet.properties.present = HAS(USER_PROPERTY); /* without any */
    refuse_assert(&packet, WP_MQTT_5);
    packet = publish;
    packet.properties.user = &(struct wp_mqtt_user_property){BYTES("n"), BYTES("v")};
    packet.properties.user_count = 1; /* without its bit */
    refuse_assert(&packet, WP_MQTT_5);
    packet = publish;
    packet.properties.present = 1u << WP_MQTT_PROPERTY_COUNT;
    refuse_assert(&packet, WP_MQTT_5);
    packet = publish;
    packet.properties.present = HAS(SUBSCRIPTION_ID);
    packet.properties.subscription_ids = (uint32_t[]){268435456};
    packet.properties.subscription_id_count = 1;
    refuse_assert(&packet, WP_MQTT_5);

    struct wp_mqtt_packet subscribe = {.type = WP_MQTT_SUBSCRIBE};
    subscribe.subscribe.id = 1;
    subscribe.subscribe.items = &(struct wp_mqtt_subscription){BYTES("a"), 1, false, false, 0};
    subscribe.subscribe.count = 1;
    subscribe.properties.present = HAS(SUBSCRIPTION_ID);
    subscribe.properties.subscription_ids = (uint32_t[]){1, 2};
    subscribe.properties.subscription_id_count = 1;
    wire_assert(&subscribe, WP_MQTT_5, BYTES("\x82\x09\0\1\2\x0b\1\0\1a\1"));
    subscribe.properties.subscription_id_count = 2;
    refuse_assert(&subscribe, WP_MQTT_5);

    struct wp_mqtt_packet connect = {.type = WP_MQTT_CONNECT};
    connect.connect.version = WP_MQTT_5;
    connect.connect.has_password = true;
    connect.connect.password = wp_slice(large, 65536);
    refuse_assert(&connect, WP_MQTT_5);
    connect.connect.password.size--;
    assert_int_equal(wp_mqtt_encoded_size(&connect, WP_MQTT_5), 1 + 3 + 10 + 1 + 2 + 2 + 65535);
    connect.connect.has_password = false;
    connect.connect.has_will = true;
    connect.connect.will_topic = BYTES("t");
    connect.connect.will_payload = wp_slice(large, 65536);
    refuse_assert(&connect, WP_MQTT_5);
    connect.connect.has_will = false;
    connect.connect.version = (enum wp_mqtt_version)3;
    refuse_assert(&connect, WP_MQTT_5);
    free(large);
}

static void test_over_the_largest_packet(void **state)
{
    (void)state;
    struct wp_buffer out = WP_BUFFER_INIT;
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBLISH};
    packet.publish.topic = BYTES("t");
    packet.publish.payload = wp_slice("", 268435455 - 3);
    assert_int_equal(wp_mqtt_encoded_size(&packet, WP_MQTT_311), 268435460);
    packet.publish.payload.size++;
    assert_int_equal(wp_mqtt_encoded_size(&packet, WP_MQTT_311), 0);
    assert_int_equal(wp_mqtt_encode(&packet, WP_MQTT_311, &out), WP_E_TOO_LARGE);
    assert_int_equal(out.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_connack),
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_acknowledgements_leave_out_what_says_nothing),
        cmocka_unit_test(test_disconnect_and_auth),
        cmocka_unit_test(test_subscribe_and_its_answers),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_short_form_of_puback),
        cmocka_unit_test(test_what_no_packet_can_carry_is_refused),
        cmocka_unit_test(test_over_the_largest_packet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
