/* Deliver to PUBLISH: topic, packet identifier and properties of a message on its last hop. */
#include "gateway/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/metric.h"
#include "gateway/session_internal.h"
#include "gateway/topic.h"
#include "proto/uuid.h"

#define OWN_PROPERTIES_MAX 5u /* wp-id, wp-from, wp-team, wp-accepted, wp-drained */
#define RECEIPT_JSON_SIZE_MAX 400u

int wp_session_deliver_admit(
    struct wp_session *session, uint64_t now_ms, const Wp__Deliver *deliver, bool resumed)
{
    if (session->state != WP_SESSION_LIVE || deliver->lane > WP__LANE__RECEIPT) {
        return WP_E_CLOSED;
    }
    if (resumed &&
        wp_positions_acknowledged_again(&session->positions, deliver->lane, deliver->sequence, now_ms)) {
        return WP_E_EXISTS;
    }
    return wp_positions_open(&session->positions, deliver->lane, deliver->sequence);
}

static struct wp_mqtt_user_property own_property(const char *name, const char *value)
{
    return (struct wp_mqtt_user_property){wp_slice(name, strlen(name)), wp_slice(value, strlen(value))};
}

static int publish_send(
    struct wp_session *session, struct wp_session_turn *turn, const struct wp_mqtt_packet *packet)
{
    if (session->packet_bytes_max != UINT32_MAX &&
        wp_mqtt_encoded_size(packet, session->version) > session->packet_bytes_max) {
        return WP_E_TOO_LARGE;
    }
    wp_session_send(session, turn, packet);
    if (session->state == WP_SESSION_CLOSED) {
        return WP_E_NOMEM;
    }
    wp_metric_add(WP_M_GATEWAY_DELIVERIES, 1);
    return WP_OK;
}

int wp_session_deliver(struct wp_session *session, struct wp_session_turn *turn, const Wp__Deliver *deliver,
    const Wp__Envelope *envelope, uint64_t left_ms)
{
    if (session->state != WP_SESSION_LIVE) {
        return WP_E_CLOSED;
    }
    if (left_ms == 0) {
        return WP_E_EXPIRED;
    }
    const Wp__Header *header = envelope->header;
    char topic[WP_TOPIC_SIZE_MAX], id[WP_UUID_TEXT_SIZE], accepted[24];
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBLISH,
        .publish = {.dup = deliver->dup,
            .qos = 1,
            .topic = wp_slice(topic, wp_topic_inbox_format(header->lane, header->sender, topic)),
            .id = wp_position_packet_id(deliver->lane, deliver->sequence),
            .payload = wp_slice(envelope->body.data, envelope->body.len)}};
    if (session->version == WP_MQTT_5) {
        struct wp_mqtt_properties *properties = &packet.properties;
        size_t count = 0;
        properties->user = wp_arena_alloc(
            turn->arena, (OWN_PROPERTIES_MAX + header->n_properties) * sizeof *properties->user);
        if (!properties->user) {
            return WP_E_NOMEM;
        }
        wp_uuid_format(header->message_id.data, id);
        snprintf(accepted, sizeof accepted, "%" PRIu64, deliver->accepted_ms);
        properties->user[count++] = own_property("wp-id", id);
        properties->user[count++] = own_property("wp-from", header->sender_device);
        if (header->to_team) {
            properties->user[count++] = own_property("wp-team", header->recipient);
        }
        properties->user[count++] = own_property("wp-accepted", accepted);
        if (deliver->drained) {
            properties->user[count++] = own_property("wp-drained", "1");
        }
        for (size_t i = 0; i < header->n_properties; i++) {
            properties->user[count++] =
                own_property(header->properties[i]->name, header->properties[i]->value);
        }
        properties->user_count = (uint32_t)count;
        /* Rounded up: an expired message is never sent, so 0 would be a lie. */
        uint64_t left_s = (left_ms - 1) / 1000 + 1;
        properties->message_expiry = left_s > UINT32_MAX ? UINT32_MAX : (uint32_t)left_s;
        properties->present = 1u << WP_MQTT_P_USER_PROPERTY | 1u << WP_MQTT_P_MESSAGE_EXPIRY;
        if (header->utf8_payload) {
            properties->payload_format = 1;
            properties->present |= 1u << WP_MQTT_P_PAYLOAD_FORMAT;
        }
        if (header->content_type[0]) {
            properties->content_type = wp_slice(header->content_type, strlen(header->content_type));
            properties->present |= 1u << WP_MQTT_P_CONTENT_TYPE;
        }
    }
    return publish_send(session, turn, &packet);
}

/* The words of a receipt; `error` is empty where there is none. All are names, slugs and numbers: nothing to
 * escape. */
struct receipt_text {
    char id[WP_UUID_TEXT_SIZE];
    char time[24];
    const char *state;
    const char *error;
    char json[RECEIPT_JSON_SIZE_MAX];
};

static void receipt_write(const Wp__Receipt *receipt, struct receipt_text *text)
{
    bool idle = receipt->state == WP__RECEIPT_STATE__IDLE;
    text->id[0] = '\0';
    if (receipt->message_id.len == WP_UUID_SIZE) {
        wp_uuid_format(receipt->message_id.data, text->id);
    }
    snprintf(text->time, sizeof text->time, "%" PRIu64, receipt->time_ms);
    text->state = wp_receipt_state_name(receipt->state);
    text->error = receipt->error ? wp_error_slug(receipt->error) : "";
    snprintf(text->json, sizeof text->json, "{%s%s%s\"%s\":\"%s\",\"state\":\"%s\"%s%s%s,\"time\":%s}",
        text->id[0] ? "\"id\":\"" : "", text->id, text->id[0] ? "\"," : "", idle ? "device" : "person",
        receipt->person, text->state, text->error[0] ? ",\"error\":\"" : "", text->error,
        text->error[0] ? "\"" : "", text->time);
}

int wp_session_deliver_receipt(struct wp_session *session, struct wp_session_turn *turn,
    const Wp__Deliver *deliver, const Wp__Receipt *receipt)
{
    if (session->state != WP_SESSION_LIVE) {
        return WP_E_CLOSED;
    }
    char topic[WP_TOPIC_SIZE_MAX];
    struct receipt_text text;
    receipt_write(receipt, &text);
    struct wp_mqtt_packet packet = {.type = WP_MQTT_PUBLISH,
        .publish = {.dup = deliver->dup,
            .qos = 1,
            .topic = wp_slice(topic, wp_topic_receipt_format(receipt->state, receipt->person, topic)),
            .id = wp_position_packet_id(deliver->lane, deliver->sequence),
            .payload = wp_slice(text.json, strlen(text.json))}};
    struct wp_mqtt_user_property properties[5];
    if (session->version == WP_MQTT_5) {
        uint32_t count = 0;
        bool idle = receipt->state == WP__RECEIPT_STATE__IDLE;
        if (text.id[0]) {
            properties[count++] = own_property("wp-id", text.id);
        }
        properties[count++] = own_property(idle ? "wp-device" : "wp-person", receipt->person);
        properties[count++] = own_property("wp-state", text.state);
        properties[count++] = own_property("wp-time", text.time);
        if (text.error[0]) {
            properties[count++] = own_property("wp-error", text.error);
        }
        packet.properties.user = properties;
        packet.properties.user_count = count;
        packet.properties.payload_format = 1;
        packet.properties.content_type = wp_slice("application/json", 16);
        packet.properties.present =
            1u << WP_MQTT_P_USER_PROPERTY | 1u << WP_MQTT_P_PAYLOAD_FORMAT | 1u << WP_MQTT_P_CONTENT_TYPE;
    }
    return publish_send(session, turn, &packet);
}
