/* Why: one implementation of the device side of the protocol for every program that is a device.
 *
 * Invariants:
 *   1. A publish is in `open` from the moment it is taken until its PUBACK, so a new stream can repeat it.
 *   2. Slots of `open` stand in sending order between `head` and `tail`; a slot answered out of order stays as a hole.
 *   3. Packet identifiers of open publishes are unique: the identifier is 1 + slot number, and slots are reused only
 *      after head has passed them. */
#include "client/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/error.h"
#include "proto/address.h"
#include "proto/mqtt/mqtt.h"

#define OPEN_SLOTS 1024u /* power of two; more than any Receive Maximum we make use of */
#define PACKET_SIZE_MAX (1024u * 1024 + 256 * 1024)
#define TOPIC_SIZE_MAX 256u

struct open_publish {
    struct wp_bytes *packet; /* encoded without DUP; NULL = answered */
    void *user;
    uint8_t id[WP_UUID_SIZE];
};

struct wp_connection {
    char *username;
    char *secret;
    uint16_t keep_alive_s;
    uint16_t receive_maximum;
    bool clean_start;
    bool up;
    bool over;                    /* the stream ended: nothing more is read from it */
    bool down_told;
    bool ping_open;
    uint64_t opened_ms;           /* CONNECT was queued */
    uint64_t ping_ms;             /* the ping that is open was queued */
    uint16_t gateway_window;      /* Receive Maximum of the gateway */
    uint32_t gateway_packet_max;  /* Maximum Packet Size of the gateway */
    uint64_t sent_ms;             /* last time bytes were queued */
    uint64_t received_ms;
    uint16_t subscribe_id;
    uint32_t head, tail;          /* free-running slot numbers: open publishes are [head, tail) */
    uint32_t open_count;
    struct open_publish open[OPEN_SLOTS];
    struct wp_buffer input;
    size_t input_read;            /* bytes of input already handed out as events */
    struct wp_buffer output;
    struct wp_arena arena;
    struct wp_slice pending_text; /* of a DOWN that we made ourselves */
    uint8_t pending_code;
    bool pending_down;
};

int wp_connection_create(const struct wp_connection_config *config, struct wp_connection **ret_connection)
{
    if (strlen(config->username) > 2 * WP_NAME_SIZE_MAX + 1 || strlen(config->secret) > 1024) {
        return WP_E_INVALID;
    }
    struct wp_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        return WP_E_NOMEM;
    }
    connection->username = strdup(config->username);
    connection->secret = strdup(config->secret);
    connection->keep_alive_s = config->keep_alive_s;
    connection->receive_maximum = config->receive_maximum ? config->receive_maximum : 64;
    connection->clean_start = config->clean_start;
    wp_arena_init(&connection->arena, 256u * 1024);
    if (!connection->username || !connection->secret) {
        wp_connection_destroy(&connection);
        return WP_E_NOMEM;
    }
    *ret_connection = connection;
    return WP_OK;
}

void wp_connection_destroy(struct wp_connection **connection)
{
    struct wp_connection *taken = *connection;
    *connection = NULL;
    if (!taken) {
        return;
    }
    for (unsigned i = 0; i < OPEN_SLOTS; i++) {
        wp_bytes_release(&taken->open[i].packet);
    }
    if (taken->secret) {
        explicit_bzero(taken->secret, strlen(taken->secret));
    }
    free(taken->username);
    free(taken->secret);
    wp_buffer_free(&taken->input);
    wp_buffer_free(&taken->output);
    wp_arena_fini(&taken->arena);
    free(taken);
}

int wp_connection_open(struct wp_connection *connection, uint64_t now_ms)
{
    connection->input.size = 0;
    connection->input_read = 0;
    connection->output.size = 0;
    connection->up = false;
    connection->over = false;
    connection->down_told = false;
    connection->pending_down = false;
    connection->ping_open = false;
    connection->sent_ms = now_ms;
    connection->opened_ms = now_ms;
    connection->received_ms = now_ms;
    struct wp_mqtt_packet packet = {.type = WP_MQTT_CONNECT};
    packet.connect.version = WP_MQTT_5;
    packet.connect.clean_start = connection->clean_start;
    packet.connect.keep_alive = connection->keep_alive_s;
    packet.connect.client_id = wp_slice(connection->username, strlen(connection->username));
    packet.connect.has_username = true;
    packet.connect.username = packet.connect.client_id;
    packet.connect.has_password = true;
    packet.connect.password = wp_slice(connection->secret, strlen(connection->secret));
    packet.properties.present = 1u << WP_MQTT_P_RECEIVE_MAXIMUM | 1u << WP_MQTT_P_SESSION_EXPIRY;
    packet.properties.receive_maximum = connection->receive_maximum;
    packet.properties.session_expiry = UINT32_MAX;
    return wp_mqtt_encode(&packet, WP_MQTT_5, &connection->output);
}

void wp_connection_lost(struct wp_connection *connection)
{
    connection->up = false;
    connection->over = true;
    connection->output.size = 0;
}

int wp_connection_receive(struct wp_connection *connection, struct wp_slice bytes, uint64_t now_ms)
{
    connection->received_ms = now_ms;
    connection->ping_open = false;
    if (connection->over) {
        return WP_OK;
    }
    if (connection->input_read > 0) {
        wp_buffer_consume(&connection->input, connection->input_read);
        connection->input_read = 0;
    }
    return wp_buffer_append(&connection->input, bytes.data, bytes.size);
}

struct wp_buffer *wp_connection_output(struct wp_connection *connection)
{
    return &connection->output;
}

static bool down_fill(struct wp_connection *connection, struct wp_connection_event *event, uint8_t code, const char *text)
{
    connection->up = false;
    connection->over = true;
    if (connection->down_told) {
        return false;
    }
    connection->down_told = true;
    event->kind = WP_CONNECTION_DOWN;
    event->code = code;
    event->text = wp_slice(text, strlen(text));
    return true;
}

/* Repeats everything unanswered on the new stream, in order (MQTT 5 section 4.4). */
static int open_resend(struct wp_connection *connection)
{
    for (uint32_t n = connection->head; n != connection->tail; n++) {
        const struct wp_bytes *packet = connection->open[n % OPEN_SLOTS].packet;
        if (!packet) {
            continue;
        }
        size_t start = connection->output.size;
        int error = wp_buffer_append(&connection->output, packet->data, packet->size);
        if (error) {
            return error;
        }
        connection->output.data[start] |= 0x08; /* DUP */
    }
    return WP_OK;
}

static struct wp_slice user_property_find(const struct wp_mqtt_properties *properties, const char *name)
{
    size_t size = strlen(name);
    for (uint32_t i = 0; i < properties->user_count; i++) {
        if (wp_slice_equal(properties->user[i].name, wp_slice(name, size))) {
            return properties->user[i].value;
        }
    }
    return wp_slice(NULL, 0);
}

static bool connack_handle(struct wp_connection *connection, const struct wp_mqtt_packet *packet, struct wp_connection_event *event)
{
    event->code = packet->connack.code;
    event->text = packet->properties.reason_string;
    event->slug = user_property_find(&packet->properties, "wp-error");
    if (packet->connack.code != 0) {
        event->kind = WP_CONNECTION_REFUSED;
        connection->over = true;
        connection->down_told = true;
        return true;
    }
    event->kind = WP_CONNECTION_UP;
    event->session_present = packet->connack.session_present;
    connection->up = true;
    connection->gateway_window =
        wp_mqtt_has(&packet->properties, WP_MQTT_P_RECEIVE_MAXIMUM) ? packet->properties.receive_maximum : OPEN_SLOTS;
    if (connection->gateway_window > OPEN_SLOTS) {
        connection->gateway_window = OPEN_SLOTS;
    }
    connection->gateway_packet_max = wp_mqtt_has(&packet->properties, WP_MQTT_P_MAXIMUM_PACKET_SIZE)
        ? packet->properties.maximum_packet_size
        : PACKET_SIZE_MAX;
    if (wp_mqtt_has(&packet->properties, WP_MQTT_P_SERVER_KEEP_ALIVE)) {
        connection->keep_alive_s = packet->properties.server_keep_alive;
    }
    if (open_resend(connection) != WP_OK) {
        return down_fill(connection, event, WP_MQTT_RC_UNSPECIFIED, "out of memory");
    }
    return true;
}

static bool puback_handle(struct wp_connection *connection, const struct wp_mqtt_packet *packet, struct wp_connection_event *event)
{
    struct open_publish *open = packet->ack.id >= 1 && packet->ack.id <= OPEN_SLOTS ? &connection->open[packet->ack.id - 1] : NULL;
    if (!open || !open->packet) {
        return false; /* answered before the stream was renewed */
    }
    event->kind = WP_CONNECTION_PUBLISHED;
    event->code = packet->ack.code;
    event->text = packet->properties.reason_string;
    event->slug = user_property_find(&packet->properties, "wp-error");
    event->user = open->user;
    memcpy(event->id, open->id, WP_UUID_SIZE);
    wp_bytes_release(&open->packet);
    connection->open_count--;
    while (connection->head != connection->tail && !connection->open[connection->head % OPEN_SLOTS].packet) {
        connection->head++;
    }
    return true;
}

static Wp__Lane lane_parse(struct wp_slice text)
{
    static const char *const names[] = {"routine", "urgent", "stat"};
    for (unsigned i = 0; i < 3; i++) {
        if (wp_slice_equal(text, wp_slice(names[i], strlen(names[i])))) {
            return (Wp__Lane)i;
        }
    }
    return WP__LANE__ROUTINE;
}

static uint64_t number_parse(struct wp_slice text)
{
    uint64_t number = 0;
    for (size_t i = 0; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    return number;
}

/* Topic of a delivery: wp/v1/inbox/{lane}/{sender}. */
static bool message_handle(const struct wp_mqtt_packet *packet, struct wp_connection_event *event)
{
    static const char prefix[] = "wp/v1/inbox/";
    const size_t prefix_size = sizeof prefix - 1;
    struct wp_slice topic = packet->publish.topic;
    if (packet->publish.qos != 1 || topic.size <= prefix_size || memcmp(topic.data, prefix, prefix_size) != 0) {
        return false;
    }
    struct wp_slice rest = wp_slice(topic.data + prefix_size, topic.size - prefix_size);
    const uint8_t *slash = memchr(rest.data, '/', rest.size);
    if (!slash) {
        return false;
    }
    struct wp_connection_message *message = &event->message;
    event->kind = WP_CONNECTION_MESSAGE;
    message->packet_id = packet->publish.id;
    message->dup = packet->publish.dup;
    message->lane = lane_parse(wp_slice(rest.data, (size_t)(slash - rest.data)));
    message->sender = wp_slice(slash + 1, rest.size - (size_t)(slash - rest.data) - 1);
    message->sender_device = user_property_find(&packet->properties, "wp-from");
    message->drained = user_property_find(&packet->properties, "wp-drained").data != NULL;
    message->has_id = wp_uuid_parse(user_property_find(&packet->properties, "wp-id"), message->id) == WP_OK;
    message->accepted_ms = number_parse(user_property_find(&packet->properties, "wp-accepted"));
    message->body = packet->publish.payload;
    return true;
}

/* Topic of a receipt: wp/v1/receipts/{state}/{person}. */
static bool receipt_handle(const struct wp_mqtt_packet *packet, struct wp_connection_event *event)
{
    static const char prefix[] = "wp/v1/receipts/";
    const size_t prefix_size = sizeof prefix - 1;
    struct wp_slice topic = packet->publish.topic;
    if (packet->publish.qos != 1 || topic.size <= prefix_size || memcmp(topic.data, prefix, prefix_size) != 0) {
        return false;
    }
    struct wp_slice rest = wp_slice(topic.data + prefix_size, topic.size - prefix_size);
    const uint8_t *slash = memchr(rest.data, '/', rest.size);
    if (!slash) {
        return false;
    }
    struct wp_connection_receipt *receipt = &event->receipt;
    event->kind = WP_CONNECTION_RECEIPT;
    receipt->packet_id = packet->publish.id;
    receipt->state = wp_slice(rest.data, (size_t)(slash - rest.data));
    receipt->person = wp_slice(slash + 1, rest.size - (size_t)(slash - rest.data) - 1);
    receipt->has_id = wp_uuid_parse(user_property_find(&packet->properties, "wp-id"), receipt->id) == WP_OK;
    receipt->error = user_property_find(&packet->properties, "wp-error");
    receipt->time_ms = number_parse(user_property_find(&packet->properties, "wp-time"));
    return true;
}

/* True when the packet made an event. */
static bool packet_handle(struct wp_connection *connection, const struct wp_mqtt_packet *packet, struct wp_connection_event *event)
{
    if (!connection->up && packet->type != WP_MQTT_CONNACK) {
        return down_fill(connection, event, WP_MQTT_RC_PROTOCOL_ERROR, "the gateway answered out of order");
    }
    switch (packet->type) {
    case WP_MQTT_CONNACK:
        return connack_handle(connection, packet, event);
    case WP_MQTT_PUBACK:
        return puback_handle(connection, packet, event);
    case WP_MQTT_SUBACK:
        event->kind = WP_CONNECTION_SUBSCRIBED;
        event->code = packet->suback.count > 0 ? packet->suback.codes[0] : 0;
        event->text = packet->properties.reason_string;
        return true;
    case WP_MQTT_PUBLISH:
        if (!message_handle(packet, event) && !receipt_handle(packet, event)) {
            return down_fill(connection, event, WP_MQTT_RC_PROTOCOL_ERROR, "the gateway sent a message that is no delivery");
        }
        return true;
    case WP_MQTT_PINGRESP:
        return false;
    case WP_MQTT_DISCONNECT: {
        const char *text = wp_mqtt_reason_text(packet->disconnect.code);
        bool told = down_fill(connection, event, packet->disconnect.code, text);
        if (packet->properties.reason_string.size > 0) {
            event->text = packet->properties.reason_string;
        }
        return told;
    }
    default:
        return down_fill(connection, event, WP_MQTT_RC_PROTOCOL_ERROR, "the gateway sent a packet that only clients send");
    }
}

bool wp_connection_event(struct wp_connection *connection, struct wp_connection_event *ret_event)
{
    if (connection->pending_down) {
        connection->pending_down = false;
        memset(ret_event, 0, sizeof *ret_event);
        return down_fill(connection, ret_event, connection->pending_code, (const char *)connection->pending_text.data);
    }
    while (!connection->over) {
        struct wp_slice rest =
            wp_slice(connection->input.data + connection->input_read, connection->input.size - connection->input_read);
        uint32_t size = 0;
        int whole = wp_mqtt_frame(rest, PACKET_SIZE_MAX, &size);
        if (whole == 0) {
            return false;
        }
        memset(ret_event, 0, sizeof *ret_event);
        wp_arena_reset(&connection->arena);
        struct wp_mqtt_packet packet;
        uint8_t reason;
        if (whole < 0 ||
            wp_mqtt_decode(wp_slice(rest.data, size), WP_MQTT_5, &connection->arena, &packet, &reason) != WP_OK) {
            return down_fill(connection, ret_event, WP_MQTT_RC_MALFORMED, "the gateway sent a malformed packet");
        }
        connection->input_read += size;
        if (packet_handle(connection, &packet, ret_event)) {
            return true;
        }
    }
    return false;
}

/* A gateway answers a CONNECT within 5 s and a PINGREQ at once; one that does not is stopped or cut off. */
static bool silent_too_long(const struct wp_connection *connection, uint64_t now_ms)
{
    if (connection->over) {
        return false;
    }
    if (!connection->up) {
        return connection->opened_ms > 0 && now_ms - connection->opened_ms > WP_CONNECTION_CONNECT_MS;
    }
    return connection->ping_open && now_ms - connection->ping_ms > WP_CONNECTION_ANSWER_MS;
}

int wp_connection_tick(struct wp_connection *connection, uint64_t now_ms)
{
    uint64_t period_ms = (uint64_t)connection->keep_alive_s * 1000;
    if (silent_too_long(connection, now_ms)) {
        static const char text[] = "the gateway does not answer";
        connection->pending_down = true;
        connection->pending_code = WP_MQTT_RC_KEEP_ALIVE_TIMEOUT;
        connection->pending_text = wp_slice(text, sizeof text - 1);
        return WP_OK;
    }
    if (!connection->up || period_ms == 0 || connection->ping_open) {
        return WP_OK;
    }
    /* With something unanswered it is worth knowing soon whether the gateway is still there. */
    bool asks = connection->open_count > 0 && now_ms - connection->received_ms >= WP_CONNECTION_ASK_MS;
    if (asks || now_ms - connection->sent_ms >= period_ms - period_ms / 4) {
        struct wp_mqtt_packet packet = {.type = WP_MQTT_PINGREQ};
        connection->sent_ms = now_ms;
        connection->ping_ms = now_ms;
        connection->ping_open = true;
        return wp_mqtt_encode(&packet, WP_MQTT_5, &connection->output);
    }
    return WP_OK;
}

static int filter_subscribe(struct wp_connection *connection, const char *filter, uint16_t id)
{
    if (!connection->up) {
        return WP_E_UNAVAILABLE;
    }
    struct wp_mqtt_subscription item = {.filter = wp_slice(filter, strlen(filter)), .qos = 1};
    struct wp_mqtt_packet packet = {.type = WP_MQTT_SUBSCRIBE};
    packet.subscribe.id = id;
    packet.subscribe.items = &item;
    packet.subscribe.count = 1;
    return wp_mqtt_encode(&packet, WP_MQTT_5, &connection->output);
}

/* Their identifiers stand beside those of publishes. */
int wp_connection_subscribe(struct wp_connection *connection)
{
    return filter_subscribe(connection, "wp/v1/inbox/#", OPEN_SLOTS + 1);
}

int wp_connection_subscribe_receipts(struct wp_connection *connection)
{
    return filter_subscribe(connection, "wp/v1/receipts/#", OPEN_SLOTS + 2);
}

int wp_connection_publish(struct wp_connection *connection, const struct wp_connection_publish *publish)
{
    static const char *const lanes[] = {"routine", "urgent", "stat"};
    if (!connection->up) {
        return WP_E_UNAVAILABLE;
    }
    if (!wp_address_valid(publish->recipient)) {
        return WP_E_INVALID;
    }
    if (connection->open_count >= connection->gateway_window || connection->tail - connection->head >= OPEN_SLOTS) {
        return WP_E_FULL;
    }
    uint32_t slot = connection->tail % OPEN_SLOTS;
    char topic[TOPIC_SIZE_MAX];
    char id_text[WP_UUID_TEXT_SIZE];
    int topic_size = snprintf(topic, sizeof topic, "wp/v1/%s/%s", publish->to_team ? "team" : "to", publish->recipient);
    wp_uuid_format(publish->id, id_text);
    struct wp_mqtt_user_property user[2] = {{wp_slice("wp-id", 5), wp_slice(id_text, WP_UUID_TEXT_SIZE - 1)},
        {wp_slice("wp-priority", 11), wp_slice(lanes[publish->lane], strlen(lanes[publish->lane]))}};
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBLISH};
    packet.publish.qos = 1;
    packet.publish.topic = wp_slice(topic, (size_t)topic_size);
    packet.publish.id = (uint16_t)(slot + 1);
    packet.publish.payload = publish->body;
    packet.properties.present = 1u << WP_MQTT_P_USER_PROPERTY;
    packet.properties.user = user;
    packet.properties.user_count = publish->lane == WP__LANE__ROUTINE ? 1 : 2;
    if (publish->ttl_s > 0) {
        packet.properties.present |= 1u << WP_MQTT_P_MESSAGE_EXPIRY;
        packet.properties.message_expiry = publish->ttl_s;
    }
    size_t start = connection->output.size;
    int error = wp_mqtt_encode(&packet, WP_MQTT_5, &connection->output);
    if (error) {
        return error;
    }
    size_t size = connection->output.size - start;
    if (size > connection->gateway_packet_max) {
        connection->output.size = start;
        return WP_E_BODY_TOO_LARGE;
    }
    struct open_publish *open = &connection->open[slot];
    WP_ASSERT(!open->packet);
    open->packet = wp_bytes_copy(connection->output.data + start, size);
    if (!open->packet) {
        connection->output.size = start;
        return WP_E_NOMEM;
    }
    open->user = publish->user;
    memcpy(open->id, publish->id, WP_UUID_SIZE);
    connection->tail++;
    connection->open_count++;
    return WP_OK;
}

int wp_connection_acknowledge(struct wp_connection *connection, uint16_t packet_id)
{
    return connection->up ? wp_mqtt_encode_puback(packet_id, &connection->output) : WP_E_UNAVAILABLE;
}

int wp_connection_close(struct wp_connection *connection)
{
    if (!connection->up) {
        return WP_OK;
    }
    struct wp_mqtt_packet packet = {.type = WP_MQTT_DISCONNECT};
    connection->up = false;
    connection->over = true;
    connection->down_told = true;
    return wp_mqtt_encode(&packet, WP_MQTT_5, &connection->output);
}

uint32_t wp_connection_open_publishes(const struct wp_connection *connection)
{
    return connection->open_count;
}

bool wp_connection_is_up(const struct wp_connection *connection)
{
    return connection->up;
}
