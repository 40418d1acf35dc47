/* The session machine alone, both protocol versions: packets, frames and time in; packets and effects out.
 * Scripts are tables where the cases differ only in their data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "gateway/session.h"
#include "proto/uuid.h"

#define ID "01890a5d-ac96-774b-bcce-b302099a8057"

struct fixture {
    struct wp_session_policy policy;
    struct wp_session session;
    struct wp_session_turn turn;
    struct wp_session_effect effect;
    struct wp_arena arena, decoded;
    struct wp_buffer out, in;
    uint8_t random[16];
};

static struct wp_slice slice_of(const char *text)
{
    return wp_slice(text, strlen(text));
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->policy = (struct wp_session_policy){.receive_maximum = 4,
        .window = 64,
        .body_bytes_max = 1000,
        .packet_bytes_max = 5000,
        .connect_timeout_ms = 5000};
    wp_arena_init(&fixture->arena, 1024 * 1024);
    wp_arena_init(&fixture->decoded, 1024 * 1024);
    for (unsigned i = 0; i < 16; i++) {
        fixture->random[i] = (uint8_t)(i * 17);
    }
    fixture->turn = (struct wp_session_turn){.now_ms = 100000,
        .now_us = 100000000,
        .wall_ms = 1700000000000u,
        .random = fixture->random,
        .arena = &fixture->arena,
        .out = &fixture->out};
    wp_session_init(&fixture->session, &fixture->policy, fixture->turn.now_ms);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    wp_session_fini(&fixture->session);
    wp_arena_fini(&fixture->arena);
    wp_arena_fini(&fixture->decoded);
    wp_buffer_free(&fixture->out);
    wp_buffer_free(&fixture->in);
    free(fixture);
    return 0;
}

/* A new session in the same fixture. */
static void restart(struct fixture *fixture)
{
    wp_session_fini(&fixture->session);
    wp_session_init(&fixture->session, &fixture->policy, fixture->turn.now_ms);
    fixture->out.size = 0;
    fixture->in.size = 0;
}

/* Gives bytes; all of them must be taken. */
static void give_bytes(struct fixture *fixture, const void *data, size_t size)
{
    wp_arena_reset(&fixture->arena);
    size_t taken =
        wp_session_input(&fixture->session, &fixture->turn, wp_slice(data, size), &fixture->effect);
    assert_true(taken == size || fixture->session.state == WP_SESSION_CLOSED);
}

static void give(struct fixture *fixture, const struct wp_mqtt_packet *packet)
{
    enum wp_mqtt_version version =
        packet->type == WP_MQTT_CONNECT ? packet->connect.version : fixture->session.version;
    fixture->in.size = 0;
    assert_int_equal(wp_mqtt_encode(packet, version, &fixture->in), WP_OK);
    give_bytes(fixture, fixture->in.data, fixture->in.size);
}

/* The next packet for the device; type 0 when there is none. */
static struct wp_mqtt_packet take(struct fixture *fixture)
{
    static uint8_t bytes[65536];
    struct wp_mqtt_packet packet = {0};
    uint32_t size;
    uint8_t code;
    if (fixture->out.size == 0) {
        return packet;
    }
    assert_int_equal(wp_mqtt_frame(wp_slice(fixture->out.data, fixture->out.size), UINT32_MAX, &size), 1);
    memcpy(bytes, fixture->out.data, size);
    wp_buffer_consume(&fixture->out, size);
    wp_arena_reset(&fixture->decoded);
    assert_int_equal(
        wp_mqtt_decode(wp_slice(bytes, size), fixture->session.version, &fixture->decoded, &packet, &code),
        WP_OK);
    return packet;
}

static struct wp_mqtt_packet expect(struct fixture *fixture, enum wp_mqtt_type type)
{
    struct wp_mqtt_packet packet = take(fixture);
    assert_int_equal(packet.type, type);
    return packet;
}

static void expect_nothing(struct fixture *fixture)
{
    assert_int_equal(fixture->out.size, 0);
}

static void assert_slice(struct wp_slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    assert_memory_equal(slice.data, text, slice.size);
}

/* Value of a user property; NULL when there is none. */
static const char *property(const struct wp_mqtt_packet *packet, const char *name)
{
    static char value[256];
    for (uint32_t i = 0; i < packet->properties.user_count; i++) {
        if (wp_slice_equal(packet->properties.user[i].name, slice_of(name))) {
            snprintf(value, sizeof value, "%.*s", (int)packet->properties.user[i].value.size,
                (const char *)packet->properties.user[i].value.data);
            return value;
        }
    }
    return NULL;
}

static struct wp_mqtt_packet connect_packet(enum wp_mqtt_version version)
{
    return (struct wp_mqtt_packet){.type = WP_MQTT_CONNECT,
        .connect = {.version = version,
            .clean_start = true,
            .client_id = slice_of("c1"),
            .has_username = true,
            .has_password = true,
            .username = slice_of("anna/phone"),
            .password = slice_of("secret")}};
}

static void attached(struct fixture *fixture, int error, bool present)
{
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    reply.error = error;
    reply.epoch = 9;
    reply.session_present = present;
    reply.inbox_subscribed = present;
    wp_session_attached(&fixture->session, &fixture->turn, &reply);
}

static void go_live(struct fixture *fixture, enum wp_mqtt_version version)
{
    restart(fixture);
    struct wp_mqtt_packet packet = connect_packet(version);
    give(fixture, &packet);
    assert_int_equal(fixture->effect.kind, WP_SESSION_ATTACH);
    attached(fixture, WP_OK, false);
    assert_int_equal(expect(fixture, WP_MQTT_CONNACK).connack.code, 0);
    assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
}

static struct wp_mqtt_packet publish_packet(uint16_t id, const char *topic)
{
    return (struct wp_mqtt_packet){.type = WP_MQTT_PUBLISH,
        .publish = {.qos = 1, .id = id, .topic = slice_of(topic), .payload = slice_of("hello")}};
}

static void with_user(struct wp_mqtt_packet *packet, struct wp_mqtt_user_property *rows, uint32_t count)
{
    packet->properties.user = rows;
    packet->properties.user_count = count;
    packet->properties.present |= 1u << WP_MQTT_P_USER_PROPERTY;
}

/* --- CONNECT
 * ------------------------------------------------------------------------------------------------ */

static void test_nothing_before_connect(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t pingreq[] = {0xc0, 0}, disconnect[] = {0xe0, 0}, puback[] = {0x40, 2, 0, 1},
                         zero[] = {0, 0}, publish[] = {0x32, 8, 0, 1, 'a', 0, 1, 'b', 'c', 'd'},
                         auth[] = {0xf0, 0};
    static const struct {
        const uint8_t *bytes;
        size_t size;
    } rows[] = {{pingreq, 2}, {disconnect, 2}, {puback, 4}, {publish, 10}, {auth, 2}, {zero, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        restart(fixture);
        give_bytes(fixture, rows[i].bytes, rows[i].size);
        assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
        expect_nothing(fixture);
    }
}

static void test_connect_asks_for_an_attach(void **state)
{
    struct fixture *fixture = *state;
    struct wp_mqtt_packet packet = connect_packet(WP_MQTT_5);
    packet.properties.receive_maximum = 10;
    packet.properties.present = 1u << WP_MQTT_P_RECEIVE_MAXIMUM;
    packet.connect.clean_start = false;
    give(fixture, &packet);
    assert_int_equal(fixture->effect.kind, WP_SESSION_ATTACH);
    assert_slice(fixture->effect.attach.secret, "secret");
    assert_false(fixture->effect.attach.clean_start);
    assert_int_equal(fixture->effect.attach.window, 10);
    assert_string_equal(fixture->session.user, "anna");
    assert_string_equal(fixture->session.device, "phone");
    expect_nothing(fixture);
    assert_true(wp_session_blocked(&fixture->session));
    static const uint8_t pingreq[] = {0xc0, 0};
    assert_int_equal(
        wp_session_input(&fixture->session, &fixture->turn, wp_slice(pingreq, 2), &fixture->effect), 0);
    attached(fixture, WP_OK, true);
    assert_true(expect(fixture, WP_MQTT_CONNACK).connack.session_present);
}

static void test_connack_announces_the_limits(void **state)
{
    struct fixture *fixture = *state;
    struct wp_mqtt_packet packet = connect_packet(WP_MQTT_5);
    fixture->policy.keep_alive_max_s = 60;
    packet.connect.client_id = slice_of("");
    packet.connect.keep_alive = 600;
    give(fixture, &packet);
    assert_true(fixture->turn.random_used);
    attached(fixture, WP_OK, false);
    struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_CONNACK);
    const struct wp_mqtt_properties *properties = &answer.properties;
    assert_int_equal(properties->session_expiry, UINT32_MAX);
    assert_int_equal(properties->receive_maximum, 4);
    assert_true(wp_mqtt_has(properties, WP_MQTT_P_MAXIMUM_QOS));
    assert_int_equal(properties->maximum_qos, 1);
    assert_true(wp_mqtt_has(properties, WP_MQTT_P_RETAIN_AVAILABLE));
    assert_int_equal(properties->retain_available, 0);
    assert_true(wp_mqtt_has(properties, WP_MQTT_P_SUBSCRIPTION_ID_AVAILABLE));
    assert_int_equal(properties->subscription_id_available, 0);
    assert_true(wp_mqtt_has(properties, WP_MQTT_P_SHARED_AVAILABLE));
    assert_int_equal(properties->shared_available, 0);
    assert_int_equal(properties->maximum_packet_size, 5000);
    assert_int_equal(properties->server_keep_alive, 60);
    assert_int_equal(properties->assigned_client_id.size, 32);
    assert_false(wp_mqtt_has(properties, WP_MQTT_P_TOPIC_ALIAS_MAXIMUM));
    assert_int_equal(fixture->session.silence_ms_max, 90000);
}

static void test_connect_refusals(void **state)
{
    struct fixture *fixture = *state;
    enum change {
        NO_USER,
        NO_PASSWORD,
        EMPTY_PASSWORD,
        BAD_USER,
        NO_DEVICE,
        UPPER,
        ENHANCED,
        EMPTY_ID,
        WILL_QOS2,
        WILL_RETAIN
    };
    static const struct {
        enum wp_mqtt_version version;
        enum change change;
        uint8_t code;
    } rows[] = {
        {WP_MQTT_5, NO_USER, 0x86},
        {WP_MQTT_5, NO_PASSWORD, 0x86},
        {WP_MQTT_5, EMPTY_PASSWORD, 0x86},
        {WP_MQTT_5, BAD_USER, 0x86},
        {WP_MQTT_5, NO_DEVICE, 0x86},
        {WP_MQTT_5, UPPER, 0x86},
        {WP_MQTT_5, ENHANCED, 0x8C},
        {WP_MQTT_5, WILL_QOS2, 0x9B},
        {WP_MQTT_5, WILL_RETAIN, 0x9A},
        {WP_MQTT_311, NO_USER, 4},
        {WP_MQTT_311, BAD_USER, 4},
        {WP_MQTT_311, EMPTY_PASSWORD, 4},
        {WP_MQTT_311, EMPTY_ID, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        restart(fixture);
        struct wp_mqtt_packet packet = connect_packet(rows[i].version);
        switch (rows[i].change) {
        case NO_USER:
            packet.connect.has_username = packet.connect.has_password = false;
            break;
        case NO_PASSWORD:
            packet.connect.has_password = false;
            break;
        case EMPTY_PASSWORD:
            packet.connect.password = slice_of("");
            break;
        case BAD_USER:
            packet.connect.username = slice_of("anna");
            break;
        case NO_DEVICE:
            packet.connect.username = slice_of("anna/");
            break;
        case UPPER:
            packet.connect.username = slice_of("Anna/phone");
            break;
        case ENHANCED:
            packet.properties.auth_method = slice_of("SCRAM");
            packet.properties.present = 1u << WP_MQTT_P_AUTH_METHOD;
            break;
        case EMPTY_ID:
            packet.connect.client_id = slice_of("");
            packet.connect.clean_start = false;
            break;
        default:
            packet.connect.has_will = true;
            packet.connect.will_topic = slice_of("a");
            packet.connect.will_qos = rows[i].change == WILL_QOS2 ? 2 : 1;
            packet.connect.will_retain = rows[i].change == WILL_RETAIN;
            break;
        }
        give(fixture, &packet);
        assert_int_equal(expect(fixture, WP_MQTT_CONNACK).connack.code, rows[i].code);
        assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
        assert_int_equal(fixture->effect.kind, WP_SESSION_NOTHING);
    }
}

static void test_attach_refusals(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        int error;
        uint8_t code, code_311;
    } rows[] = {{WP_E_AUTH, 0x86, 4}, {WP_E_RATE, 0x97, 3}, {WP_E_DENIED, 0x87, 5}, {WP_E_NOMEM, 0x88, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
            restart(fixture);
            struct wp_mqtt_packet packet = connect_packet((enum wp_mqtt_version)version);
            give(fixture, &packet);
            attached(fixture, rows[i].error, false);
            struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_CONNACK);
            assert_int_equal(answer.connack.code, version == WP_MQTT_5 ? rows[i].code : rows[i].code_311);
            assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
        }
    }
}

static void test_other_protocol_versions(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t mqtt3[] = {0x10, 15, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 0, 0, 1, 'a'};
    static const uint8_t mqtt6[] = {0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 6, 2, 0, 0, 0, 0, 1, 'a'};
    static const uint8_t answer[] = {0x20, 2, 0, 1};
    const struct wp_slice rows[] = {wp_slice(mqtt3, sizeof mqtt3), wp_slice(mqtt6, sizeof mqtt6)};
    for (size_t i = 0; i < 2; i++) {
        restart(fixture);
        give_bytes(fixture, rows[i].data, rows[i].size);
        assert_int_equal(fixture->out.size, sizeof answer);
        assert_memory_equal(fixture->out.data, answer, sizeof answer);
        assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
    }
}

static void test_one_byte_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    struct wp_mqtt_packet packet = connect_packet(WP_MQTT_5);
    fixture->in.size = 0;
    assert_int_equal(wp_mqtt_encode(&packet, WP_MQTT_5, &fixture->in), WP_OK);
    for (size_t size = 1; size < fixture->in.size; size++) {
        assert_int_equal(wp_session_input(&fixture->session, &fixture->turn, wp_slice(fixture->in.data, size),
                             &fixture->effect),
            0);
        assert_int_equal(fixture->session.state, WP_SESSION_NEW);
    }
    give_bytes(fixture, fixture->in.data, fixture->in.size);
    assert_int_equal(fixture->effect.kind, WP_SESSION_ATTACH);
}

/* --- time
 * ---------------------------------------------------------------------------------------------------- */

static void pass(struct fixture *fixture, uint64_t ms)
{
    fixture->turn.now_ms += ms;
    fixture->turn.now_us += ms * 1000;
    wp_session_tick(&fixture->session, &fixture->turn);
}

static void test_connect_in_time(void **state)
{
    struct fixture *fixture = *state;
    pass(fixture, 5000);
    assert_int_equal(fixture->session.state, WP_SESSION_NEW);
    pass(fixture, 1);
    assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
    expect_nothing(fixture);
    /* A CONNECT that no router answers gets a CONNACK. */
    restart(fixture);
    struct wp_mqtt_packet packet = connect_packet(WP_MQTT_5);
    give(fixture, &packet);
    pass(fixture, 5001);
    assert_int_equal(expect(fixture, WP_MQTT_CONNACK).connack.code, 0x88);
}

static void test_keep_alive(void **state)
{
    struct fixture *fixture = *state;
    for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
        restart(fixture);
        struct wp_mqtt_packet packet = connect_packet((enum wp_mqtt_version)version);
        packet.connect.keep_alive = 10;
        give(fixture, &packet);
        attached(fixture, WP_OK, false);
        (void)take(fixture);
        pass(fixture, 15000);
        assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
        give(fixture, &(struct wp_mqtt_packet){.type = WP_MQTT_PINGREQ});
        (void)expect(fixture, WP_MQTT_PINGRESP);
        pass(fixture, 15000);
        assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
        pass(fixture, 1);
        assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
        if (version == WP_MQTT_5) {
            assert_int_equal(expect(fixture, WP_MQTT_DISCONNECT).disconnect.code, 0x8D);
        }
        expect_nothing(fixture);
    }
}

static void test_packet_that_never_ends(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    wp_session_partial(&fixture->session, fixture->turn.now_ms, true);
    pass(fixture, 30000);
    wp_session_partial(&fixture->session, fixture->turn.now_ms, true); /* a drip does not reset the clock */
    pass(fixture, 30000);
    assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
    pass(fixture, 1);
    assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
    go_live(fixture, WP_MQTT_5);
    wp_session_partial(&fixture->session, fixture->turn.now_ms, true);
    pass(fixture, 50000);
    wp_session_partial(&fixture->session, fixture->turn.now_ms, false);
    pass(fixture, 50000);
    assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
}

/* --- PUBLISH
 * -------------------------------------------------------------------------------------------------- */

static void test_publish_becomes_an_envelope(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_packet packet = publish_packet(3, "wp/v1/to/berta");
    struct wp_mqtt_user_property rows[] = {{slice_of("ward"), slice_of("7b")},
        {slice_of("wp-id"), slice_of(ID)}, {slice_of("wp-priority"), slice_of("stat")},
        {slice_of("wp-from"), slice_of("forged")}};
    with_user(&packet, rows, 4);
    packet.properties.message_expiry = 90;
    packet.properties.content_type = slice_of("text/plain");
    packet.properties.payload_format = 1;
    packet.properties.present |=
        1u << WP_MQTT_P_MESSAGE_EXPIRY | 1u << WP_MQTT_P_CONTENT_TYPE | 1u << WP_MQTT_P_PAYLOAD_FORMAT;
    give(fixture, &packet);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBMIT);
    assert_int_equal(fixture->effect.submit.publish, 1);
    const Wp__Envelope *envelope = fixture->effect.submit.envelope;
    assert_int_equal(wp_envelope_check(envelope), WP_OK);
    assert_string_equal(envelope->header->sender, "anna");
    assert_string_equal(envelope->header->sender_device, "phone");
    assert_string_equal(envelope->header->recipient, "berta");
    assert_int_equal(envelope->header->lane, WP__LANE__STAT);
    assert_int_equal(envelope->header->ttl_ms, 90000);
    assert_string_equal(envelope->header->content_type, "text/plain");
    assert_true(envelope->header->utf8_payload);
    assert_false(envelope->header->gateway_made_id);
    assert_int_equal(envelope->header->n_properties, 1);
    assert_string_equal(envelope->header->properties[0]->name, "ward");
    char text[WP_UUID_TEXT_SIZE];
    wp_uuid_format(envelope->header->message_id.data, text);
    assert_string_equal(text, ID);
    assert_int_equal(envelope->body.len, 5);
    expect_nothing(fixture);
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    static const uint8_t puback[] = {0x40, 2, 0, 3};
    assert_int_equal(fixture->out.size, 4);
    assert_memory_equal(fixture->out.data, puback, 4);
}

static void test_made_id_comes_back(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_packet packet = publish_packet(3, "wp/v1/to/berta");
    give(fixture, &packet);
    assert_true(fixture->effect.submit.envelope->header->gateway_made_id);
    assert_true(wp_uuid7_valid(fixture->effect.submit.envelope->header->message_id.data));
    assert_int_equal(
        wp_uuid7_time_ms(fixture->effect.submit.envelope->header->message_id.data), fixture->turn.wall_ms);
    char text[WP_UUID_TEXT_SIZE];
    wp_uuid_format(fixture->effect.submit.envelope->header->message_id.data, text);
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_PUBACK);
    assert_string_equal(property(&answer, "wp-id"), text);
    /* Not where problem information was declined: user properties may not be sent then. */
    fixture->session.problem_info = false;
    give(fixture, &packet);
    wp_session_submitted(&fixture->session, &fixture->turn, 2, WP_OK, 1);
    assert_int_equal(expect(fixture, WP_MQTT_PUBACK).properties.user_count, 0);
}

static void test_lane_and_life_in_the_topic(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *topic;
        Wp__Lane lane;
        uint64_t ttl_ms;
    } rows[] = {{"wp/v1/to/berta", WP__LANE__ROUTINE, 0}, {"wp/v1/to/berta/urgent", WP__LANE__URGENT, 0},
        {"wp/v1/to/berta/stat/30", WP__LANE__STAT, 30000}};
    for (size_t i = 0; i < 3; i++) {
        go_live(fixture, WP_MQTT_311);
        struct wp_mqtt_packet packet = publish_packet(3, rows[i].topic);
        give(fixture, &packet);
        assert_int_equal(fixture->effect.kind, WP_SESSION_SUBMIT);
        assert_int_equal(fixture->effect.submit.envelope->header->lane, rows[i].lane);
        assert_int_equal(fixture->effect.submit.envelope->header->ttl_ms, rows[i].ttl_ms);
    }
}

static void test_refused_here(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t big[1001];
    static const struct {
        const char *topic;
        size_t body_size;
        const char *name, *value; /* a user property */
        uint8_t code;
        const char *error;
    } rows[] = {
        {"wp/v1/to/", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"wp/v1/to/Berta", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"wp/v1/to/berta/stat", 5, NULL, NULL, 0x90, "unknown-recipient"}, /* the 3.1.1 form */
        {"wp/v1/read/ann", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"wp/v1/rpc/x", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"wp/v2/to/berta", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"$SYS/x", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"wp/v1/inbox/stat/anna", 5, NULL, NULL, 0x90, "unknown-recipient"},
        {"wp/v1/to/berta", 1001, NULL, NULL, 0x99, "body-too-large"},
        {"wp/v1/to/berta", 5, "wp-id", "not a uuid", 0x99, "invalid"},
        {"wp/v1/to/berta", 5, "wp-id", "f47ac10b-58cc-4372-a567-0e02b2c3d479", 0x99,
            "invalid"}, /* version 4 */
        {"wp/v1/to/berta", 5, "wp-priority", "now", 0x99, "invalid"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        go_live(fixture, WP_MQTT_5);
        struct wp_mqtt_packet packet = publish_packet(3, rows[i].topic);
        packet.publish.payload = wp_slice(big, rows[i].body_size);
        struct wp_mqtt_user_property row;
        if (rows[i].name) {
            row = (struct wp_mqtt_user_property){slice_of(rows[i].name), slice_of(rows[i].value)};
            with_user(&packet, &row, 1);
        }
        give(fixture, &packet);
        assert_int_equal(fixture->effect.kind, WP_SESSION_NOTHING);
        struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_PUBACK);
        assert_int_equal(answer.ack.id, 3);
        assert_int_equal(answer.ack.code, rows[i].code);
        assert_string_equal(property(&answer, "wp-error"), rows[i].error);
        assert_true(answer.properties.reason_string.size > 0);
        assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
    }
}

static void test_refused_by_the_shard(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        int error;
        uint8_t code;
    } rows[] = {{WP_E_UNKNOWN_RECIPIENT, 0x90}, {WP_E_DENIED, 0x87}, {WP_E_MAILBOX_FULL, 0x97},
        {WP_E_RATE, 0x97}, {WP_E_DISK_RESERVE, 0x97}, {WP_E_SEEN_FULL, 0x97}, {WP_E_BODY_TOO_LARGE, 0x99},
        {WP_E_UNAVAILABLE, 0x83}, {WP_E_TIMEOUT, 0x83}, {WP_E_ID_TOO_OLD, 0x83}, {WP_E_ID_IN_FUTURE, 0x83},
        {WP_E_EXPIRED, 0x83}, {WP_E_EXPIRY_TOO_LONG, 0x83}, {WP_E_NOMEM, 0x83}, {-9999, 0x83}};
    go_live(fixture, WP_MQTT_5);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wp_mqtt_packet packet = publish_packet(3, "wp/v1/to/berta");
        give(fixture, &packet);
        wp_session_submitted(&fixture->session, &fixture->turn, i + 1, rows[i].error, 0);
        struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_PUBACK);
        assert_int_equal(answer.ack.code, rows[i].code);
        assert_string_equal(property(&answer, "wp-error"), wp_error_slug(rows[i].error));
    }
}

static void test_refusal_without_words(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned why = 0; why < 2; why++) {
        restart(fixture);
        struct wp_mqtt_packet packet = connect_packet(WP_MQTT_5);
        packet.properties.request_problem_info = 0;
        packet.properties.maximum_packet_size = 40;
        packet.properties.present =
            why == 0 ? 1u << WP_MQTT_P_REQUEST_PROBLEM_INFO : 1u << WP_MQTT_P_MAXIMUM_PACKET_SIZE;
        give(fixture, &packet);
        attached(fixture, WP_OK, false);
        (void)expect(fixture, WP_MQTT_CONNACK);
        packet = publish_packet(3, "wp/v1/no");
        give(fixture, &packet);
        assert_int_equal(
            fixture->out.data[1] <= 4, 1); /* identifier, code and at most an empty property length */
        struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_PUBACK);
        assert_int_equal(answer.ack.code, 0x90);
    }
}

static void test_acks_leave_in_order(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_packet packet;
    for (uint16_t id = 10; id < 13; id++) {
        packet = publish_packet(id, "wp/v1/to/berta");
        give(fixture, &packet);
    }
    packet = publish_packet(13, "no/such/topic"); /* refused here, but behind the others */
    give(fixture, &packet);
    expect_nothing(fixture);
    wp_session_submitted(&fixture->session, &fixture->turn, 3, WP_OK, 1);
    wp_session_submitted(&fixture->session, &fixture->turn, 2, WP_E_MAILBOX_FULL, 1);
    expect_nothing(fixture);
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    static const uint8_t codes[] = {0, 0x97, 0, 0x90};
    for (uint16_t i = 0; i < 4; i++) {
        struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_PUBACK);
        assert_int_equal(answer.ack.id, 10 + i);
        assert_int_equal(answer.ack.code, codes[i]);
    }
    /* Answers that nobody waits for change nothing. */
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    wp_session_submitted(&fixture->session, &fixture->turn, 99, WP_OK, 1);
    wp_session_submitted(&fixture->session, &fixture->turn, 0, WP_OK, 1);
    expect_nothing(fixture);
}

static void test_refusal_ends_a_311_connection_after_the_good_acks(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_311);
    struct wp_mqtt_packet packet = publish_packet(1, "wp/v1/to/berta");
    give(fixture, &packet);
    packet = publish_packet(2, "no/such/topic");
    give(fixture, &packet);
    assert_int_equal(fixture->session.state, WP_SESSION_LIVE);
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    assert_int_equal(expect(fixture, WP_MQTT_PUBACK).ack.id, 1);
    expect_nothing(fixture);
    assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
    assert_true(fixture->session.end.refused_publish);
    assert_int_equal(fixture->session.end.error, WP_E_UNKNOWN_RECIPIENT);
}

static void test_publishes_that_end_the_connection(void **state)
{
    struct fixture *fixture = *state;
    enum { QOS0, QOS2, RETAIN, ALIAS, SAME_ID };
    static const struct {
        int kind;
        uint8_t code;
    } rows[] = {{QOS0, 0x83}, {QOS2, 0x9B}, {RETAIN, 0x9A}, {ALIAS, 0x94}, {SAME_ID, 0x82}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
            go_live(fixture, (enum wp_mqtt_version)version);
            struct wp_mqtt_packet packet = publish_packet(3, "wp/v1/to/berta");
            if (rows[i].kind == SAME_ID) {
                give(fixture, &packet);
            }
            packet.publish.qos = rows[i].kind == QOS0 ? 0 : rows[i].kind == QOS2 ? 2 : 1;
            packet.publish.id = rows[i].kind == QOS0 ? 0 : 3;
            packet.publish.retain = rows[i].kind == RETAIN;
            if (rows[i].kind == ALIAS) {
                if (version == WP_MQTT_311) {
                    continue;
                }
                packet.properties.topic_alias = 1;
                packet.properties.present = 1u << WP_MQTT_P_TOPIC_ALIAS;
            }
            give(fixture, &packet);
            assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
            assert_int_equal(fixture->effect.kind, WP_SESSION_NOTHING);
            if (version == WP_MQTT_5) {
                struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_DISCONNECT);
                assert_int_equal(answer.disconnect.code, rows[i].code);
                assert_true(answer.properties.reason_string.size > 0);
            }
            expect_nothing(fixture);
        }
    }
}

static void test_311_may_repeat_an_open_publish(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_311);
    struct wp_mqtt_packet packet = publish_packet(3, "wp/v1/to/berta");
    give(fixture, &packet);
    packet.publish.dup = true;
    give(fixture, &packet);
    assert_int_equal(fixture->effect.kind, WP_SESSION_NOTHING);
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    (void)expect(fixture, WP_MQTT_PUBACK);
    expect_nothing(fixture);
}

static void test_receive_maximum(void **state)
{
    struct fixture *fixture = *state;
    for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
        go_live(fixture, (enum wp_mqtt_version)version);
        struct wp_mqtt_packet packet;
        for (uint16_t id = 1; id <= 4; id++) {
            packet = publish_packet(id, "wp/v1/to/berta");
            give(fixture, &packet);
        }
        if (version == WP_MQTT_311) {
            assert_true(wp_session_blocked(&fixture->session)); /* there is no such limit to break */
            wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
            assert_false(wp_session_blocked(&fixture->session));
            continue;
        }
        packet = publish_packet(5, "wp/v1/to/berta");
        give(fixture, &packet);
        assert_int_equal(expect(fixture, WP_MQTT_DISCONNECT).disconnect.code, 0x93);
    }
}

static void test_rate_limit(void **state)
{
    struct fixture *fixture = *state;
    fixture->policy.publish_per_second_max = 2;
    go_live(fixture, WP_MQTT_5);
    static const uint8_t codes[] = {0, 0, 0x97};
    for (uint16_t i = 0; i < 3; i++) {
        struct wp_mqtt_packet packet = publish_packet((uint16_t)(i + 1), "wp/v1/to/berta");
        give(fixture, &packet);
        wp_session_submitted(&fixture->session, &fixture->turn, i + 1u, WP_OK, 1);
        assert_int_equal(expect(fixture, WP_MQTT_PUBACK).ack.code, codes[i]);
    }
    pass(fixture, 500);
    struct wp_mqtt_packet packet = publish_packet(9, "wp/v1/to/berta");
    give(fixture, &packet);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBMIT);
    /* 3.1.1 is not read instead. */
    go_live(fixture, WP_MQTT_311);
    for (uint16_t i = 0; i < 2; i++) {
        packet = publish_packet((uint16_t)(i + 1), "wp/v1/to/berta");
        give(fixture, &packet);
    }
    assert_true(wp_session_blocked(&fixture->session));
    pass(fixture, 500);
    assert_false(wp_session_blocked(&fixture->session));
}

static void test_properties_over_the_bounds(void **state)
{
    struct fixture *fixture = *state;
    static struct wp_mqtt_user_property rows[17];
    for (unsigned i = 0; i < 17; i++) {
        rows[i] = (struct wp_mqtt_user_property){slice_of("k"), slice_of("v")};
    }
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_packet packet = publish_packet(1, "wp/v1/to/berta");
    with_user(&packet, rows, 16);
    give(fixture, &packet);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBMIT);
    wp_session_submitted(&fixture->session, &fixture->turn, 1, WP_OK, 1);
    (void)expect(fixture, WP_MQTT_PUBACK);
    with_user(&packet, rows, 17);
    give(fixture, &packet);
    assert_int_equal(expect(fixture, WP_MQTT_PUBACK).ack.code, 0x99);
    packet = publish_packet(2, "wp/v1/to/berta");
    packet.properties.response_topic = slice_of("wp/v1/x");
    packet.properties.present = 1u << WP_MQTT_P_RESPONSE_TOPIC;
    give(fixture, &packet);
    assert_int_equal(expect(fixture, WP_MQTT_PUBACK).ack.code, 0x99);
    packet = publish_packet(2, "wp/v1/to/berta");
    packet.properties.message_expiry = 0;
    packet.properties.present = 1u << WP_MQTT_P_MESSAGE_EXPIRY;
    give(fixture, &packet);
    struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_PUBACK);
    assert_int_equal(answer.ack.code, 0x83);
    assert_string_equal(property(&answer, "wp-error"), "expired");
}

/* --- SUBSCRIBE
 * ------------------------------------------------------------------------------------------------ */

static void test_subscriptions_that_do_not_exist(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *filter;
        uint8_t qos, code;
    } rows[] = {{"#", 1, 0x8F}, {"wp/v1/inbox/+", 1, 0x8F}, {"wp/v1/receipts/+", 1, 0x8F},
        {"wp/v1/to/anna", 1, 0x8F}, {"$share/g/wp/v1/inbox/#", 1, 0x9E}, {"wp/v1/inbox/#", 0, 0x83},
        {"$SYS/#", 1, 0x8F}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
            go_live(fixture, (enum wp_mqtt_version)version);
            struct wp_mqtt_subscription item = {.filter = slice_of(rows[i].filter), .qos = rows[i].qos};
            give(fixture, &(struct wp_mqtt_packet){
                              .type = WP_MQTT_SUBSCRIBE, .subscribe = {.id = 5, .items = &item, .count = 1}});
            assert_int_equal(fixture->effect.kind, WP_SESSION_NOTHING);
            struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_SUBACK);
            assert_int_equal(answer.suback.count, 1);
            assert_int_equal(answer.suback.codes[0], version == WP_MQTT_5 ? rows[i].code : 0x80);
        }
    }
}

static void test_inbox_subscription_is_replicated_first(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_subscription items[] = {
        {.filter = slice_of("nope/#"), .qos = 1}, {.filter = slice_of("wp/v1/inbox/#"), .qos = 2}};
    struct wp_mqtt_packet subscribe = {
        .type = WP_MQTT_SUBSCRIBE, .subscribe = {.id = 5, .items = items, .count = 2}};
    give(fixture, &subscribe);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBSCRIBE);
    assert_true(fixture->session.request_inbox);
    assert_true(wp_session_blocked(&fixture->session));
    expect_nothing(fixture);
    wp_session_subscribed(&fixture->session, &fixture->turn, 77, WP_OK); /* not ours */
    expect_nothing(fixture);
    wp_session_subscribed(&fixture->session, &fixture->turn, 1, WP_OK);
    struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_SUBACK);
    assert_int_equal(answer.suback.codes[0], 0x8F);
    assert_int_equal(answer.suback.codes[1], 0x01);
    assert_true(fixture->session.inbox_subscribed);
    /* And back. */
    struct wp_slice filters[] = {slice_of("wp/v1/inbox/#"), slice_of("x"), slice_of("wp/v1/inbox/#")};
    struct wp_mqtt_packet unsubscribe = {
        .type = WP_MQTT_UNSUBSCRIBE, .unsubscribe = {.id = 6, .filters = filters, .count = 3}};
    give(fixture, &unsubscribe);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBSCRIBE);
    assert_false(fixture->session.request_inbox);
    wp_session_subscribed(&fixture->session, &fixture->turn, 2, WP_OK);
    answer = expect(fixture, WP_MQTT_UNSUBACK);
    assert_int_equal(answer.suback.codes[0], 0);
    assert_int_equal(answer.suback.codes[1], 0x11);
    assert_int_equal(answer.suback.codes[2], 0x11);
    give(fixture, &unsubscribe);
    assert_int_equal(fixture->effect.kind, WP_SESSION_NOTHING);
    assert_int_equal(expect(fixture, WP_MQTT_UNSUBACK).suback.codes[0], 0x11);
    /* A shard that does not answer. */
    give(fixture, &subscribe);
    pass(fixture, 5001);
    assert_int_equal(expect(fixture, WP_MQTT_SUBACK).suback.codes[1], 0x83);
    assert_false(wp_session_blocked(&fixture->session));
    assert_false(fixture->session.inbox_subscribed);
}

static void test_receipts_are_a_subscription_of_their_own(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_subscription items[] = {
        {.filter = slice_of("wp/v1/receipts/#"), .qos = 1}, {.filter = slice_of("wp/v1/inbox/#"), .qos = 0}};
    struct wp_mqtt_packet subscribe = {
        .type = WP_MQTT_SUBSCRIBE, .subscribe = {.id = 5, .items = items, .count = 2}};
    give(fixture, &subscribe);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBSCRIBE);
    assert_true(fixture->session.request_receipts && !fixture->session.request_inbox);
    wp_session_subscribed(&fixture->session, &fixture->turn, 1, WP_OK);
    struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_SUBACK);
    assert_int_equal(answer.suback.codes[0], 0x01);
    assert_int_equal(answer.suback.codes[1], 0x83);
    items[1].qos = 1;
    give(fixture, &subscribe); /* both, what was there stays */
    assert_true(fixture->session.request_receipts && fixture->session.request_inbox);
    wp_session_subscribed(&fixture->session, &fixture->turn, 2, WP_OK);
    assert_int_equal(expect(fixture, WP_MQTT_SUBACK).suback.codes[1], 0x01);
    struct wp_slice filter = slice_of("wp/v1/receipts/#");
    struct wp_mqtt_packet unsubscribe = {
        .type = WP_MQTT_UNSUBSCRIBE, .unsubscribe = {.id = 6, .filters = &filter, .count = 1}};
    give(fixture, &unsubscribe);
    assert_true(!fixture->session.request_receipts && fixture->session.request_inbox);
    wp_session_subscribed(&fixture->session, &fixture->turn, 3, WP_E_UNAVAILABLE);
    assert_int_equal(expect(fixture, WP_MQTT_UNSUBACK).suback.codes[0], 0x83);
    assert_true(fixture->session.receipts_subscribed && fixture->session.inbox_subscribed);
}

static void test_publish_to_a_team(void **state)
{
    struct fixture *fixture = *state;
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_packet publish = {.type = WP_MQTT_PUBLISH,
        .publish = {.qos = 1, .id = 3, .topic = slice_of("wp/v1/team/icu"), .payload = slice_of("x")}};
    give(fixture, &publish);
    assert_int_equal(fixture->effect.kind, WP_SESSION_SUBMIT);
    assert_true(fixture->effect.submit.envelope->header->to_team);
    assert_string_equal(fixture->effect.submit.envelope->header->recipient, "icu");
}

static void test_subscription_identifier_is_refused(void **state)
{
    struct fixture *fixture = *state;
    static uint32_t ids[] = {1};
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_subscription item = {.filter = slice_of("wp/v1/inbox/#"), .qos = 1};
    struct wp_mqtt_packet packet = {
        .type = WP_MQTT_SUBSCRIBE, .subscribe = {.id = 5, .items = &item, .count = 1}};
    packet.properties.subscription_ids = ids;
    packet.properties.subscription_id_count = 1;
    packet.properties.present = 1u << WP_MQTT_P_SUBSCRIPTION_ID;
    give(fixture, &packet);
    assert_int_equal(expect(fixture, WP_MQTT_DISCONNECT).disconnect.code, 0xA1);
}

/* --- deliveries
 * ------------------------------------------------------------------------------------------------ */

struct delivery {
    Wp__Deliver deliver;
    Wp__Envelope envelope;
    Wp__Header header;
    Wp__Property property;
    Wp__Property *properties[1];
    uint8_t id[16];
};

static void delivery_make(struct delivery *delivery, Wp__Lane lane, uint64_t sequence)
{
    wp__deliver__init(&delivery->deliver);
    wp__envelope__init(&delivery->envelope);
    wp__header__init(&delivery->header);
    wp__property__init(&delivery->property);
    assert_int_equal(wp_uuid_parse(slice_of(ID), delivery->id), WP_OK);
    delivery->property.name = (char *)(uintptr_t) "ward";
    delivery->property.value = (char *)(uintptr_t) "7b";
    delivery->properties[0] = &delivery->property;
    delivery->header.version = 1;
    delivery->header.message_id = (ProtobufCBinaryData){16, delivery->id};
    delivery->header.sender = (char *)(uintptr_t) "berta";
    delivery->header.sender_device = (char *)(uintptr_t) "tablet";
    delivery->header.recipient = (char *)(uintptr_t) "anna";
    delivery->header.lane = lane;
    delivery->header.utf8_payload = true;
    delivery->header.content_type = (char *)(uintptr_t) "text/plain";
    delivery->header.properties = delivery->properties;
    delivery->header.n_properties = 1;
    delivery->envelope.header = &delivery->header;
    delivery->envelope.body = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "hello"};
    delivery->deliver.lane = lane;
    delivery->deliver.sequence = sequence;
    delivery->deliver.accepted_ms = 1700000000123u;
}

static int deliver(struct fixture *fixture, struct delivery *delivery, uint64_t left_ms)
{
    wp_arena_reset(&fixture->arena);
    int error = wp_session_deliver_admit(&fixture->session, fixture->turn.now_ms, &delivery->deliver, false);
    return error ? error
                 : wp_session_deliver(
                       &fixture->session, &fixture->turn, &delivery->deliver, &delivery->envelope, left_ms);
}

static void test_delivery(void **state)
{
    struct fixture *fixture = *state;
    struct delivery delivery;
    go_live(fixture, WP_MQTT_5);
    delivery_make(&delivery, WP__LANE__URGENT, 16383 + 5);
    delivery.deliver.dup = true;
    delivery.deliver.drained = true;
    assert_int_equal(deliver(fixture, &delivery, 1900), WP_OK);
    struct wp_mqtt_packet packet = expect(fixture, WP_MQTT_PUBLISH);
    assert_slice(packet.publish.topic, "wp/v1/inbox/urgent/berta");
    assert_slice(packet.publish.payload, "hello");
    assert_int_equal(packet.publish.id, 1 + 16383 + 5);
    assert_int_equal(packet.publish.qos, 1);
    assert_true(packet.publish.dup);
    assert_false(packet.publish.retain);
    assert_string_equal(property(&packet, "wp-id"), ID);
    assert_string_equal(property(&packet, "wp-from"), "tablet");
    assert_string_equal(property(&packet, "wp-accepted"), "1700000000123");
    assert_string_equal(property(&packet, "wp-drained"), "1");
    assert_string_equal(property(&packet, "ward"), "7b");
    assert_int_equal(packet.properties.message_expiry, 2); /* 1.9 s, rounded up */
    assert_int_equal(packet.properties.payload_format, 1);
    assert_slice(packet.properties.content_type, "text/plain");
    /* 3.1.1 has topic and body only. */
    go_live(fixture, WP_MQTT_311);
    assert_int_equal(deliver(fixture, &delivery, 2500), WP_OK);
    packet = expect(fixture, WP_MQTT_PUBLISH);
    assert_slice(packet.publish.topic, "wp/v1/inbox/urgent/berta");
    assert_int_equal(packet.publish.id, 1 + 16383 + 5);
}

static void receipt_deliver(struct fixture *fixture, uint64_t sequence, Wp__Receipt *receipt)
{
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.lane = WP__LANE__RECEIPT;
    deliver.sequence = sequence;
    assert_int_equal(
        wp_session_deliver_admit(&fixture->session, fixture->turn.now_ms, &deliver, false), WP_OK);
    assert_int_equal(wp_session_deliver_receipt(&fixture->session, &fixture->turn, &deliver, receipt), WP_OK);
}

static void test_receipt_says_how_a_message_ended(void **state)
{
    struct fixture *fixture = *state;
    static const enum wp_mqtt_version versions[] = {WP_MQTT_5, WP_MQTT_311};
    uint8_t id[16];
    assert_int_equal(wp_uuid_parse(slice_of(ID), id), WP_OK);
    Wp__Receipt receipt = WP__RECEIPT__INIT;
    receipt.message_id = (ProtobufCBinaryData){16, id};
    receipt.person = (char *)(uintptr_t) "bob";
    receipt.state = WP__RECEIPT_STATE__REFUSED;
    receipt.error = WP_E_MAILBOX_FULL;
    receipt.time_ms = 1700000000123u;
    for (size_t i = 0; i < 2; i++) {
        restart(fixture);
        go_live(fixture, versions[i]);
        receipt_deliver(fixture, 2 * 16383 + 4, &receipt);
        struct wp_mqtt_packet packet = expect(fixture, WP_MQTT_PUBLISH);
        assert_slice(packet.publish.topic, "wp/v1/receipts/refused/bob");
        assert_int_equal(packet.publish.id, 1 + 3 * 16383 + 4);
        assert_slice(packet.publish.payload,
            "{\"id\":\"" ID
            "\",\"person\":\"bob\",\"state\":\"refused\",\"error\":\"mailbox-full\",\"time\":1700000000123}");
        assert_int_equal(packet.properties.user_count, versions[i] == WP_MQTT_5 ? 5 : 0);
    }
    Wp__Receipt idle = WP__RECEIPT__INIT;
    idle.person = (char *)(uintptr_t) "tablet";
    idle.state = WP__RECEIPT_STATE__IDLE;
    idle.time_ms = 5;
    receipt_deliver(fixture, 7, &idle);
    struct wp_mqtt_packet packet = expect(fixture, WP_MQTT_PUBLISH);
    assert_slice(packet.publish.topic, "wp/v1/receipts/idle/tablet");
    assert_slice(packet.publish.payload, "{\"device\":\"tablet\",\"state\":\"idle\",\"time\":5}");
}

static void test_delivery_that_is_not_sent(void **state)
{
    struct fixture *fixture = *state;
    struct delivery delivery;
    delivery_make(&delivery, WP__LANE__ROUTINE, 1);
    assert_int_equal(deliver(fixture, &delivery, 2500), WP_E_CLOSED); /* not live yet */
    go_live(fixture, WP_MQTT_5);
    assert_int_equal(deliver(fixture, &delivery, 0), WP_E_EXPIRED);
    go_live(fixture, WP_MQTT_5);
    fixture->session.packet_bytes_max = 100;
    assert_int_equal(deliver(fixture, &delivery, 2500), WP_E_TOO_LARGE);
    expect_nothing(fixture);
    /* It stays open: nothing acknowledged it. */
    assert_int_equal(wp_positions_open_count(&fixture->session.positions), 1);
    fixture->session.packet_bytes_max = UINT32_MAX;
    assert_int_equal(deliver(fixture, &delivery, 2500), WP_E_EXISTS); /* once per connection */
    delivery.deliver.sequence = 1 + 16383;
    assert_int_equal(deliver(fixture, &delivery, 2500), WP_E_BUSY); /* the same packet identifier */
}

static void test_acknowledgements_are_gathered(void **state)
{
    struct fixture *fixture = *state;
    struct delivery delivery;
    uint64_t list[8];
    go_live(fixture, WP_MQTT_5);
    for (uint64_t sequence = 1; sequence <= 3; sequence++) {
        delivery_make(&delivery, WP__LANE__STAT, sequence);
        assert_int_equal(deliver(fixture, &delivery, 2500), WP_OK);
        (void)expect(fixture, WP_MQTT_PUBLISH);
    }
    static const uint64_t order[] = {2, 3};
    for (unsigned i = 0; i < 2; i++) {
        /* A refusing code counts as well (MQTT-4.4.0-2). */
        struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBACK,
            .ack = {.id = wp_position_packet_id(WP__LANE__STAT, order[i]), .code = i ? 0x80 : 0}};
        give(fixture, &packet);
        give(fixture, &packet); /* a second time it means nothing */
    }
    assert_int_equal(fixture->session.positions.unsent, 2);
    assert_int_equal(wp_positions_unsent_list(&fixture->session.positions, WP__LANE__STAT, list), 2);
    assert_int_equal(list[0], 2);
    assert_int_equal(list[1], 3);
    assert_int_equal(wp_positions_unsent_list(&fixture->session.positions, WP__LANE__ROUTINE, list), 0);
    wp_positions_sent(&fixture->session.positions);
    assert_int_equal(fixture->session.positions.unsent, 0);
    /* A renewed link that did not get them asks again: not sent to the device, but answered again. */
    delivery_make(&delivery, WP__LANE__STAT, 2);
    assert_int_equal(
        wp_session_deliver_admit(&fixture->session, fixture->turn.now_ms, &delivery.deliver, true),
        WP_E_EXISTS);
    assert_int_equal(fixture->session.positions.unsent, 1);
    wp_positions_sent(&fixture->session.positions);
    assert_int_equal(wp_positions_acknowledged_list(&fixture->session.positions, WP__LANE__STAT, list), 3);
    pass(fixture, WP_POSITION_MEMORY_MS + 1);
    assert_int_equal(wp_positions_acknowledged_list(&fixture->session.positions, WP__LANE__STAT, list), 0);
    assert_int_equal(wp_positions_open_list(&fixture->session.positions, WP__LANE__STAT, list), 1);
}

/* --- the end
 * ---------------------------------------------------------------------------------------------------- */

static void test_packets_that_end_the_connection(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t auth[] = {0xf0, 0}, connack[] = {0x20, 3, 0, 0, 0}, pubrel[] = {0x62, 2, 0, 1},
                         pubrec[] = {0x50, 2, 0, 1}, reserved[] = {0xc1, 0}, suback[] = {0x90, 4, 0, 1, 0, 0},
                         zero_id[] = {0x32, 6, 0, 1, 'a', 0, 0, 0}, big[] = {0x32, 0xff, 0xff, 0x7f},
                         no_length[] = {0x32, 0xff, 0xff, 0xff, 0xff}, type0[] = {0x00, 0},
                         empty_subscribe[] = {0x82, 3, 0, 1, 0},
                         bad_utf8[] = {0x32, 8, 0, 2, 0xc3, 0x28, 0, 1, 0, 'x'};
    static const struct {
        const uint8_t *bytes;
        size_t size;
        uint8_t code_min, code_max;
    } rows[] = {{auth, 2, 0x82, 0x82}, {connack, 5, 0x81, 0x82}, {pubrel, 4, 0x82, 0x82},
        {pubrec, 4, 0x82, 0x82}, {reserved, 2, 0x81, 0x81}, {suback, 6, 0x81, 0x82}, {zero_id, 8, 0x81, 0x82},
        {big, 4, 0x95, 0x95}, {no_length, 5, 0x81, 0x81}, {type0, 2, 0x81, 0x81},
        {empty_subscribe, 5, 0x81, 0x82}, {bad_utf8, 10, 0x81, 0x81}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        go_live(fixture, WP_MQTT_5);
        give_bytes(fixture, rows[i].bytes, rows[i].size);
        assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
        struct wp_mqtt_packet answer = expect(fixture, WP_MQTT_DISCONNECT);
        assert_in_range(answer.disconnect.code, rows[i].code_min, rows[i].code_max);
        expect_nothing(fixture);
    }
    go_live(fixture, WP_MQTT_5);
    struct wp_mqtt_packet again = connect_packet(WP_MQTT_5);
    give(fixture, &again);
    assert_int_equal(expect(fixture, WP_MQTT_DISCONNECT).disconnect.code, 0x82);
}

static void test_disconnect_is_a_good_end(void **state)
{
    struct fixture *fixture = *state;
    for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
        go_live(fixture, (enum wp_mqtt_version)version);
        give(fixture, &(struct wp_mqtt_packet){.type = WP_MQTT_DISCONNECT});
        assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
        assert_int_equal(fixture->session.end.error, WP_OK);
        expect_nothing(fixture);
        /* After the end nothing is taken and nothing said. */
        struct wp_mqtt_packet packet = publish_packet(1, "wp/v1/to/berta");
        give(fixture, &packet);
        wp_session_close(&fixture->session, &fixture->turn, WP_E_STALE_EPOCH, NULL);
        pass(fixture, 100000);
        expect_nothing(fixture);
    }
}

static void test_ends_that_the_cluster_asks_for(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        int error;
        uint8_t code;
    } rows[] = {{WP_E_STALE_EPOCH, 0x8E}, {WP_E_NOT_FOUND, 0x87}, {WP_E_TIMEOUT, 0x83}, {WP_E_CLOSED, 0x8B},
        {WP_E_FULL, 0x97}, {WP_E_NOMEM, 0x89}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int version = WP_MQTT_311; version <= WP_MQTT_5; version++) {
            go_live(fixture, (enum wp_mqtt_version)version);
            wp_session_close(&fixture->session, &fixture->turn, rows[i].error, NULL);
            assert_int_equal(fixture->session.state, WP_SESSION_CLOSED);
            if (version == WP_MQTT_5) {
                assert_int_equal(expect(fixture, WP_MQTT_DISCONNECT).disconnect.code, rows[i].code);
            }
            expect_nothing(fixture);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_before_connect),
        TEST(test_connect_asks_for_an_attach),
        TEST(test_connack_announces_the_limits),
        TEST(test_connect_refusals),
        TEST(test_attach_refusals),
        TEST(test_other_protocol_versions),
        TEST(test_one_byte_at_a_time),
        TEST(test_connect_in_time),
        TEST(test_keep_alive),
        TEST(test_packet_that_never_ends),
        TEST(test_publish_becomes_an_envelope),
        TEST(test_made_id_comes_back),
        TEST(test_lane_and_life_in_the_topic),
        TEST(test_refused_here),
        TEST(test_refused_by_the_shard),
        TEST(test_refusal_without_words),
        TEST(test_acks_leave_in_order),
        TEST(test_refusal_ends_a_311_connection_after_the_good_acks),
        TEST(test_publishes_that_end_the_connection),
        TEST(test_311_may_repeat_an_open_publish),
        TEST(test_receive_maximum),
        TEST(test_rate_limit),
        TEST(test_properties_over_the_bounds),
        TEST(test_subscriptions_that_do_not_exist),
        TEST(test_inbox_subscription_is_replicated_first),
        TEST(test_receipts_are_a_subscription_of_their_own),
        TEST(test_publish_to_a_team),
        TEST(test_subscription_identifier_is_refused),
        TEST(test_delivery),
        TEST(test_receipt_says_how_a_message_ended),
        TEST(test_delivery_that_is_not_sent),
        TEST(test_acknowledgements_are_gathered),
        TEST(test_packets_that_end_the_connection),
        TEST(test_disconnect_is_a_good_end),
        TEST(test_ends_that_the_cluster_asks_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
