/* The device side of the protocol against a gateway played by the test: what it sends, what it makes of
 * answers, and that nothing unanswered is forgotten when the stream breaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "client/connection.h"
#include "proto/mqtt/mqtt.h"

struct peer {
    struct wp_connection *connection;
    struct wp_arena arena;
};

static const uint8_t id_one[WP_UUID_SIZE] = {1, 0x8c, 3, 4, 5, 6, 0x77, 8, 0x99, 10, 11, 12, 13, 14, 15, 16};

static int peer_setup(void **state)
{
    static struct peer peer;
    struct wp_connection_config config = {.username = "alice/phone", .secret = "s", .keep_alive_s = 10};
    wp_arena_init(&peer.arena, 1u << 20);
    assert_int_equal(wp_connection_create(&config, &peer.connection), WP_OK);
    assert_int_equal(wp_connection_open(peer.connection, 1000), WP_OK);
    *state = &peer;
    return 0;
}

static int peer_teardown(void **state)
{
    struct peer *peer = *state;
    wp_connection_destroy(&peer->connection);
    wp_arena_fini(&peer->arena);
    return 0;
}

/* Takes one packet off the connection's output. */
static struct wp_mqtt_packet peer_take(struct peer *peer)
{
    static uint8_t bytes[4096];
    struct wp_buffer *output = wp_connection_output(peer->connection);
    struct wp_mqtt_packet packet;
    uint32_t size;
    uint8_t reason;
    assert_int_equal(wp_mqtt_frame(wp_slice(output->data, output->size), 1u << 20, &size), 1);
    assert_true(size <= sizeof bytes);
    memcpy(bytes, output->data, size);
    wp_buffer_consume(output, size);
    assert_int_equal(wp_mqtt_decode(wp_slice(bytes, size), WP_MQTT_5, &peer->arena, &packet, &reason), WP_OK);
    return packet;
}

static void peer_give(struct peer *peer, const struct wp_mqtt_packet *packet)
{
    struct wp_buffer bytes = WP_BUFFER_INIT;
    assert_int_equal(wp_mqtt_encode(packet, WP_MQTT_5, &bytes), WP_OK);
    assert_int_equal(wp_connection_receive(peer->connection, wp_slice(bytes.data, bytes.size), 1100), WP_OK);
    wp_buffer_free(&bytes);
}

static struct wp_connection_event peer_event(struct peer *peer, enum wp_connection_event_kind kind)
{
    struct wp_connection_event event;
    assert_true(wp_connection_event(peer->connection, &event));
    assert_int_equal(event.kind, kind);
    return event;
}

static void peer_bring_up(struct peer *peer, uint16_t window)
{
    assert_int_equal(peer_take(peer).type, WP_MQTT_CONNECT);
    struct wp_mqtt_packet connack = {.type = WP_MQTT_CONNACK};
    connack.properties.present = 1u << WP_MQTT_P_RECEIVE_MAXIMUM | 1u << WP_MQTT_P_MAXIMUM_PACKET_SIZE;
    connack.properties.receive_maximum = window;
    connack.properties.maximum_packet_size = 2000;
    peer_give(peer, &connack);
    peer_event(peer, WP_CONNECTION_UP);
}

static int publish_body(struct peer *peer, struct wp_slice body)
{
    struct wp_connection_publish publish = {
        .recipient = "bob", .lane = WP__LANE__STAT, .ttl_s = 60, .id = id_one, .body = body};
    return wp_connection_publish(peer->connection, &publish);
}

static void connect_carries_credentials_and_window(void **state)
{
    struct wp_mqtt_packet connect = peer_take(*state);
    assert_int_equal(connect.type, WP_MQTT_CONNECT);
    assert_int_equal(connect.connect.version, WP_MQTT_5);
    assert_true(wp_slice_equal(connect.connect.username, wp_slice("alice/phone", 11)));
    assert_true(wp_slice_equal(connect.connect.password, wp_slice("s", 1)));
    assert_int_equal(connect.properties.receive_maximum, 64);
    assert_false(connect.connect.clean_start);
}

static void refused_connect_is_told_with_its_reason(void **state)
{
    struct peer *peer = *state;
    peer_take(peer);
    struct wp_mqtt_packet connack = {.type = WP_MQTT_CONNACK};
    connack.connack.code = WP_MQTT_RC_BAD_CREDENTIALS;
    peer_give(peer, &connack);
    assert_int_equal(peer_event(peer, WP_CONNECTION_REFUSED).code, WP_MQTT_RC_BAD_CREDENTIALS);
    assert_int_equal(publish_body(peer, wp_slice("x", 1)), WP_E_UNAVAILABLE);
}

static void unanswered_publish_is_repeated_with_dup_and_the_same_id(void **state)
{
    struct peer *peer = *state;
    peer_bring_up(peer, 10);
    assert_int_equal(publish_body(peer, wp_slice("hello", 5)), WP_OK);
    struct wp_mqtt_packet first = peer_take(peer);
    assert_false(first.publish.dup);
    assert_true(wp_slice_equal(first.publish.topic, wp_slice("wp/v1/to/bob", 12)));
    assert_int_equal(first.properties.message_expiry, 60);
    uint16_t packet_id = first.publish.id;

    wp_connection_lost(peer->connection);
    assert_int_equal(wp_connection_open(peer->connection, 2000), WP_OK);
    peer_bring_up(peer, 10);
    struct wp_mqtt_packet second = peer_take(peer);
    assert_true(second.publish.dup);
    assert_int_equal(second.publish.id, packet_id);
    assert_true(wp_slice_equal(second.publish.payload, wp_slice("hello", 5)));
    assert_int_equal(second.properties.user_count, 2);

    struct wp_mqtt_packet puback = {.type = WP_MQTT_PUBACK};
    puback.ack.id = packet_id;
    peer_give(peer, &puback);
    struct wp_connection_event event = peer_event(peer, WP_CONNECTION_PUBLISHED);
    assert_int_equal(event.code, 0);
    assert_memory_equal(event.id, id_one, WP_UUID_SIZE);
    assert_int_equal(wp_connection_open_publishes(peer->connection), 0);
    peer_give(peer, &puback); /* a second answer is not a second event */
    struct wp_connection_event none;
    assert_false(wp_connection_event(peer->connection, &none));
}

static void window_and_packet_size_of_the_gateway_are_kept(void **state)
{
    static uint8_t large[4000];
    struct peer *peer = *state;
    peer_bring_up(peer, 2);
    assert_int_equal(publish_body(peer, wp_slice(large, sizeof large)), WP_E_BODY_TOO_LARGE);
    assert_int_equal(publish_body(peer, wp_slice("1", 1)), WP_OK);
    assert_int_equal(publish_body(peer, wp_slice("2", 1)), WP_OK);
    assert_int_equal(publish_body(peer, wp_slice("3", 1)), WP_E_FULL);
    peer_take(peer);
    struct wp_mqtt_packet second = peer_take(peer);
    struct wp_mqtt_packet puback = {.type = WP_MQTT_PUBACK};
    puback.ack.id = second.publish.id; /* out of order: the first is still open */
    peer_give(peer, &puback);
    peer_event(peer, WP_CONNECTION_PUBLISHED);
    assert_int_equal(publish_body(peer, wp_slice("3", 1)), WP_OK);
    assert_int_equal(wp_connection_open_publishes(peer->connection), 2);
}

static void identifiers_stay_unique_over_many_rounds(void **state)
{
    struct peer *peer = *state;
    peer_bring_up(peer, 3);
    for (unsigned i = 0; i < 5000; i++) {
        assert_int_equal(publish_body(peer, wp_slice("x", 1)), WP_OK);
        struct wp_mqtt_packet sent = peer_take(peer);
        assert_true(sent.publish.id >= 1);
        struct wp_mqtt_packet puback = {.type = WP_MQTT_PUBACK};
        puback.ack.id = sent.publish.id;
        peer_give(peer, &puback);
        peer_event(peer, WP_CONNECTION_PUBLISHED);
        wp_arena_reset(&peer->arena);
    }
}

static void delivery_is_read_and_acknowledged(void **state)
{
    struct peer *peer = *state;
    peer_bring_up(peer, 10);
    struct wp_mqtt_user_property user[] = {
        {wp_slice("wp-id", 5), wp_slice("018c0304-0506-7708-990a-0b0c0d0e0f10", 36)},
        {wp_slice("wp-from", 7), wp_slice("tablet", 6)},
        {wp_slice("wp-accepted", 11), wp_slice("1700000000123", 13)},
        {wp_slice("wp-drained", 10), wp_slice("", 0)}};
    struct wp_mqtt_packet publish = {.type = WP_MQTT_PUBLISH};
    publish.publish.qos = 1;
    publish.publish.id = 77;
    publish.publish.topic = wp_slice("wp/v1/inbox/urgent/carol", 24);
    publish.publish.payload = wp_slice("body", 4);
    publish.properties.present = 1u << WP_MQTT_P_USER_PROPERTY;
    publish.properties.user = user;
    publish.properties.user_count = 4;
    peer_give(peer, &publish);
    struct wp_connection_message message = peer_event(peer, WP_CONNECTION_MESSAGE).message;
    assert_int_equal(message.lane, WP__LANE__URGENT);
    assert_true(wp_slice_equal(message.sender, wp_slice("carol", 5)));
    assert_true(wp_slice_equal(message.sender_device, wp_slice("tablet", 6)));
    assert_true(message.drained);
    assert_true(message.has_id);
    assert_int_equal(message.accepted_ms, 1700000000123);
    assert_int_equal(wp_connection_acknowledge(peer->connection, message.packet_id), WP_OK);
    assert_int_equal(peer_take(peer).ack.id, 77);
}

static void rubbish_and_foreign_packets_end_the_connection_once(void **state)
{
    struct peer *peer = *state;
    struct wp_connection_event event;
    peer_bring_up(peer, 10);
    assert_int_equal(
        wp_connection_receive(peer->connection, wp_slice("\x01\xff\xff\xff\xff\xff", 6), 1200), WP_OK);
    assert_int_equal(peer_event(peer, WP_CONNECTION_DOWN).code, WP_MQTT_RC_MALFORMED);
    assert_false(wp_connection_event(peer->connection, &event));

    wp_connection_lost(peer->connection);
    assert_int_equal(wp_connection_open(peer->connection, 2000), WP_OK);
    peer_bring_up(peer, 10);
    struct wp_mqtt_packet publish = {.type = WP_MQTT_PUBLISH};
    publish.publish.topic = wp_slice("somewhere/else", 14);
    peer_give(peer, &publish);
    peer_event(peer, WP_CONNECTION_DOWN);
}

static void packet_that_arrives_byte_by_byte_is_one_event(void **state)
{
    struct peer *peer = *state;
    peer_take(peer);
    const uint8_t connack[] = {0x20, 0x03, 0x00, 0x00, 0x00};
    struct wp_connection_event event;
    for (unsigned i = 0; i < sizeof connack; i++) {
        assert_false(wp_connection_event(peer->connection, &event));
        assert_int_equal(wp_connection_receive(peer->connection, wp_slice(connack + i, 1), 1100), WP_OK);
    }
    peer_event(peer, WP_CONNECTION_UP);
}

static void unanswered_ping_ends_the_connection(void **state)
{
    struct peer *peer = *state;
    struct wp_connection_event event;
    peer_bring_up(peer, 10);
    assert_int_equal(wp_connection_tick(peer->connection, 8400), WP_OK);
    assert_int_equal(wp_connection_output(peer->connection)->size, 0);
    assert_int_equal(wp_connection_tick(peer->connection, 8600), WP_OK);
    assert_int_equal(peer_take(peer).type, WP_MQTT_PINGREQ);
    assert_int_equal(wp_connection_tick(peer->connection, 8600 + WP_CONNECTION_ANSWER_MS), WP_OK);
    assert_false(wp_connection_event(peer->connection, &event));
    assert_int_equal(wp_connection_tick(peer->connection, 8601 + WP_CONNECTION_ANSWER_MS), WP_OK);
    assert_int_equal(peer_event(peer, WP_CONNECTION_DOWN).code, WP_MQTT_RC_KEEP_ALIVE_TIMEOUT);
}

/* A stopped gateway must not hold an unanswered message for a whole keep-alive. */
static void unanswered_publish_asks_soon(void **state)
{
    struct peer *peer = *state;
    struct wp_connection_event event;
    peer_bring_up(peer, 10);
    assert_int_equal(publish_body(peer, wp_slice("x", 1)), WP_OK);
    assert_int_equal(peer_take(peer).type, WP_MQTT_PUBLISH);
    assert_int_equal(wp_connection_tick(peer->connection, 1099 + WP_CONNECTION_ASK_MS), WP_OK);
    assert_int_equal(wp_connection_output(peer->connection)->size, 0);
    assert_int_equal(wp_connection_tick(peer->connection, 1100 + WP_CONNECTION_ASK_MS), WP_OK);
    assert_int_equal(peer_take(peer).type, WP_MQTT_PINGREQ);
    peer_give(peer, &(struct wp_mqtt_packet){.type = WP_MQTT_PINGRESP});
    assert_false(wp_connection_event(peer->connection, &event));
    assert_int_equal(wp_connection_tick(peer->connection, 20000), WP_OK);
    assert_false(wp_connection_event(peer->connection, &event)); /* answered: it waits for the message, not for us */
    assert_int_equal(peer_take(peer).type, WP_MQTT_PINGREQ);
}

static void connect_without_an_answer_is_given_up(void **state)
{
    struct peer *peer = *state;
    struct wp_connection_event event;
    assert_int_equal(wp_connection_tick(peer->connection, 1000 + WP_CONNECTION_CONNECT_MS), WP_OK);
    assert_false(wp_connection_event(peer->connection, &event));
    assert_int_equal(wp_connection_tick(peer->connection, 1001 + WP_CONNECTION_CONNECT_MS), WP_OK);
    peer_event(peer, WP_CONNECTION_DOWN);
    wp_connection_lost(peer->connection);
    assert_int_equal(wp_connection_tick(peer->connection, 90000), WP_OK);
    assert_false(wp_connection_event(peer->connection, &event));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, peer_setup, peer_teardown)
    const struct CMUnitTest tests[] = {
        T(connect_carries_credentials_and_window),
        T(refused_connect_is_told_with_its_reason),
        T(unanswered_publish_is_repeated_with_dup_and_the_same_id),
        T(window_and_packet_size_of_the_gateway_are_kept),
        T(identifiers_stay_unique_over_many_rounds),
        T(delivery_is_read_and_acknowledged),
        T(rubbish_and_foreign_packets_end_the_connection_once),
        T(packet_that_arrives_byte_by_byte_is_one_event),
        T(unanswered_ping_ends_the_connection),
        T(unanswered_publish_asks_soon),
        T(connect_without_an_answer_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
