/* PUBLISH from the device to PUBACK: validate, hand out as a submit, answer in order.
 *
 *   1. publishes[] holds every PUBLISH without a PUBACK in the order of arrival, refused ones too; an answer
 * leaves only from its head (MQTT 5 section 4.6).
 *   2. The n-th PUBLISH of a session has number n; the head has publish_number - publish_count + 1. */
#include "gateway/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/metric.h"
#include "gateway/refusal.h"
#include "gateway/session_internal.h"
#include "gateway/topic.h"
#include "proto/uuid.h"

#define PROPERTY_COUNT_MAX 16u
#define PROPERTY_BYTES_MAX 4096u
#define NAME_IS(slice, text) wp_slice_equal((slice), wp_slice((text), sizeof(text) - 1))

static struct wp_session_publish *publish_at(struct wp_session *session, uint32_t index)
{
    return &session->publishes[(session->publish_first + index) % session->publish_capacity];
}

static struct wp_session_publish *publish_push(struct wp_session *session)
{
    if (session->publish_count == session->publish_capacity) {
        uint32_t capacity = session->publish_capacity ? session->publish_capacity * 2 : 4;
        struct wp_session_publish *grown = malloc(capacity * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        for (uint32_t i = 0; i < session->publish_count; i++) {
            grown[i] = *publish_at(session, i);
        }
        free(session->publishes);
        session->publishes = grown;
        session->publish_first = 0;
        session->publish_capacity = capacity;
    }
    session->publish_count++;
    session->publish_number++;
    struct wp_session_publish *publish = publish_at(session, session->publish_count - 1);
    memset(publish, 0, sizeof *publish);
    return publish;
}

/* A PUBACK with more than the packet identifier. What does not fit into the client's Maximum Packet Size, or
 * was not asked for (Request Problem Information 0), is left out: the code says the most important
 * (section 3.1.2.11.4, 3.1.2.11.7). */
static void puback_send_full(
    struct wp_session *session, struct wp_session_turn *turn, const struct wp_session_publish *publish)
{
    struct wp_mqtt_packet packet = {
        .type = WP_MQTT_PUBACK, .ack = {.id = publish->packet_id, .code = wp_refusal_puback(publish->error)}};
    struct wp_mqtt_user_property property;
    char id_text[WP_UUID_TEXT_SIZE];
    if (session->problem_info) {
        if (publish->error) {
            const char *text = publish->detail ? publish->detail : wp_error_text(publish->error);
            const char *slug = wp_error_slug(publish->error);
            packet.properties.reason_string = wp_slice(text, strlen(text));
            packet.properties.present |= 1u << WP_MQTT_P_REASON_STRING;
            property = (struct wp_mqtt_user_property){wp_slice("wp-error", 8), wp_slice(slug, strlen(slug))};
        } else {
            wp_uuid_format(publish->id, id_text);
            property = (struct wp_mqtt_user_property){
                wp_slice("wp-id", 5), wp_slice(id_text, WP_UUID_TEXT_SIZE - 1)};
        }
        packet.properties.user = &property;
        packet.properties.user_count = 1;
        packet.properties.present |= 1u << WP_MQTT_P_USER_PROPERTY;
        if (wp_mqtt_encoded_size(&packet, WP_MQTT_5) > session->packet_bytes_max) {
            packet.properties.present = 0;
            packet.properties.user_count = 0;
        }
    }
    wp_session_send(session, turn, &packet);
}

static void puback_send(
    struct wp_session *session, struct wp_session_turn *turn, const struct wp_session_publish *publish)
{
    bool plain = session->version == WP_MQTT_311 || (publish->error == WP_OK && !publish->made_id);
    if (!plain) {
        puback_send_full(session, turn, publish);
    } else if (wp_mqtt_encode_puback(publish->packet_id, turn->out) != WP_OK) {
        wp_session_finish(session, WP_E_NOMEM, WP_MQTT_RC_UNSPECIFIED, "a packet could not be stored");
    }
}

static void publishes_flush(struct wp_session *session, struct wp_session_turn *turn)
{
    while (session->publish_count > 0 && session->state == WP_SESSION_LIVE) {
        struct wp_session_publish *publish = publish_at(session, 0);
        if (!publish->answered) {
            return;
        }
        if (publish->error && session->version == WP_MQTT_311) {
            /* 3.1.1 has no refusal: no acknowledgement, and the connection ends. */
            session->end.refused_publish = true;
            wp_session_finish(session, publish->error, wp_refusal_puback(publish->error),
                publish->detail ? publish->detail : wp_error_text(publish->error));
            return;
        }
        puback_send(session, turn, publish);
        if (publish->error == WP_OK) {
            wp_metric_observe_us(WP_H_ACK, turn->now_us - publish->received_us);
        }
        session->publish_first = (session->publish_first + 1) % session->publish_capacity;
        session->publish_count--;
    }
}

static void publish_refuse(struct wp_session *session, struct wp_session_turn *turn,
    struct wp_session_publish *publish, int error, const char *detail)
{
    wp_metric_add(WP_M_PUBLISHES_REFUSED, 1);
    publish->answered = true;
    publish->error = error;
    publish->detail = detail;
    publishes_flush(session, turn);
}

void wp_session_submitted(struct wp_session *session, struct wp_session_turn *turn, uint64_t publish,
    int error, uint64_t accepted_ms)
{
    uint64_t head = session->publish_number - session->publish_count + 1;
    if (session->state != WP_SESSION_LIVE || publish < head || publish > session->publish_number) {
        return;
    }
    struct wp_session_publish *answered = publish_at(session, (uint32_t)(publish - head));
    if (answered->answered) {
        return;
    }
    answered->accepted_ms = accepted_ms;
    if (error) {
        publish_refuse(session, turn, answered, error, NULL);
        return;
    }
    answered->answered = true;
    publishes_flush(session, turn);
}

bool wp_session_rate_allows(struct wp_session *session, uint64_t now_ms)
{
    uint64_t rate = session->policy->publish_per_second_max;
    if (rate == 0) {
        return true;
    }
    uint64_t full = rate * 1000; /* a burst of one second */
    uint64_t gained = session->tokens_ms == 0 ? full : (now_ms - session->tokens_ms) * rate;
    session->tokens_x1000 = session->tokens_x1000 + gained > full ? full : session->tokens_x1000 + gained;
    session->tokens_ms = now_ms ? now_ms : 1;
    return session->tokens_x1000 >= 1000;
}

/* Errors that end the connection whatever was open before; true when it ended. */
static bool publish_breaks(
    struct wp_session *session, struct wp_session_turn *turn, const struct wp_mqtt_packet *packet)
{
    if (packet->publish.qos == 0) {
        wp_metric_add(WP_M_QOS0_REFUSED, 1);
        wp_session_fail(session, turn, WP_E_INVALID, WP_MQTT_RC_IMPLEMENTATION, "publish with QoS 1");
        return true;
    }
    if (packet->publish.qos == 2) {
        wp_session_fail(session, turn, WP_E_INVALID, WP_MQTT_RC_QOS_UNSUPPORTED, "publish with QoS 1");
        return true;
    }
    if (packet->publish.retain) {
        wp_session_fail(
            session, turn, WP_E_INVALID, WP_MQTT_RC_RETAIN_UNSUPPORTED, "nothing is retained here");
        return true;
    }
    if (session->version == WP_MQTT_5 && wp_mqtt_has(&packet->properties, WP_MQTT_P_TOPIC_ALIAS)) {
        wp_session_fail(
            session, turn, WP_E_INVALID, WP_MQTT_RC_TOPIC_ALIAS_INVALID, "topic aliases are not offered");
        return true;
    }
    if (session->version == WP_MQTT_5 && session->publish_count >= session->policy->receive_maximum) {
        wp_session_fail(session, turn, WP_E_FULL, WP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED,
            "more open PUBLISHes than Receive Maximum");
        return true;
    }
    return false;
}

/* Whether an unanswered PUBLISH has this packet identifier. */
static bool publish_open(struct wp_session *session, uint16_t packet_id)
{
    for (uint32_t i = 0; i < session->publish_count; i++) {
        if (publish_at(session, i)->packet_id == packet_id) {
            return true;
        }
    }
    return false;
}

static char *text_copy(struct wp_arena *arena, struct wp_slice text)
{
    char *copy = wp_arena_alloc(arena, text.size + 1);
    if (copy) {
        if (text.size > 0) {
            memcpy(copy, text.data, text.size);
        }
        copy[text.size] = '\0';
    }
    return copy;
}

/* What a PUBLISH asks for beside topic and payload. */
struct publish_wish {
    bool has_id, has_lane;
    uint8_t id[16];
    Wp__Lane lane;
};

static int property_take_own(
    const struct wp_mqtt_user_property *property, struct publish_wish *wish, const char **ret_detail)
{
    if (NAME_IS(property->name, "wp-id")) {
        if (wish->has_id || wp_uuid_parse(property->value, wish->id) != WP_OK || !wp_uuid7_valid(wish->id)) {
            *ret_detail = "wp-id must be one UUID of version 7";
            return WP_E_INVALID;
        }
        wish->has_id = true;
    } else if (NAME_IS(property->name, "wp-priority")) {
        if (wish->has_lane || wp_lane_parse(property->value, &wish->lane) != WP_OK) {
            *ret_detail = "wp-priority must be one of stat, urgent, routine";
            return WP_E_INVALID;
        }
        wish->has_lane = true;
    }
    return WP_OK; /* other names below wp- are reserved: not carried */
}

/* Reads the properties into the header and the wish. WP_OK, WP_E_INVALID, WP_E_NOMEM. */
static int properties_take(struct wp_arena *arena, const struct wp_mqtt_properties *properties,
    Wp__Header *header, struct publish_wish *wish, const char **ret_detail)
{
    if (wp_mqtt_has(properties, WP_MQTT_P_RESPONSE_TOPIC) ||
        wp_mqtt_has(properties, WP_MQTT_P_CORRELATION_DATA)) {
        *ret_detail = "Response Topic and Correlation Data are not carried";
        return WP_E_INVALID;
    }
    header->properties = wp_arena_alloc(arena, (PROPERTY_COUNT_MAX + 1) * sizeof(Wp__Property *));
    if (!header->properties) {
        return WP_E_NOMEM;
    }
    size_t bytes = properties->content_type.size;
    for (uint32_t i = 0; i < properties->user_count; i++) {
        const struct wp_mqtt_user_property *property = &properties->user[i];
        if (property->name.size >= 3 && memcmp(property->name.data, "wp-", 3) == 0) {
            int error = property_take_own(property, wish, ret_detail);
            if (error) {
                return error;
            }
            continue;
        }
        bytes += property->name.size + property->value.size;
        if (header->n_properties == PROPERTY_COUNT_MAX || bytes > PROPERTY_BYTES_MAX) {
            *ret_detail = "more than 16 user properties or 4 KiB of them";
            return WP_E_INVALID;
        }
        Wp__Property *copy = wp_arena_alloc(arena, sizeof *copy);
        if (!copy) {
            return WP_E_NOMEM;
        }
        wp__property__init(copy);
        copy->name = text_copy(arena, property->name);
        copy->value = text_copy(arena, property->value);
        if (!copy->name || !copy->value) {
            return WP_E_NOMEM;
        }
        header->properties[header->n_properties++] = copy;
    }
    header->utf8_payload =
        wp_mqtt_has(properties, WP_MQTT_P_PAYLOAD_FORMAT) && properties->payload_format == 1;
    if (bytes > PROPERTY_BYTES_MAX) {
        *ret_detail = "Content Type over 4 KiB";
        return WP_E_INVALID;
    }
    if (properties->content_type.size > 0) {
        header->content_type = text_copy(arena, properties->content_type);
    }
    return header->content_type ? WP_OK : WP_E_NOMEM;
}

/* Builds the envelope in the arena. WP_OK or the refusal, with its Reason String in ret_detail (NULL: the
 * error's text). */
static int envelope_make(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, Wp__Envelope **ret_envelope, bool *ret_made_id,
    const char **ret_detail)
{
    struct wp_topic_to to;
    int error = wp_topic_to_parse(packet->publish.topic, session->version, &to);
    if (error) {
        *ret_detail = "no such topic";
        return error;
    }
    if (packet->publish.payload.size > session->policy->body_bytes_max) {
        return WP_E_BODY_TOO_LARGE;
    }
    Wp__Envelope *envelope = wp_arena_alloc(turn->arena, sizeof *envelope);
    Wp__Header *header = wp_arena_alloc(turn->arena, sizeof *header);
    uint8_t *id = wp_arena_alloc(turn->arena, WP_UUID_SIZE);
    char *recipient = text_copy(turn->arena, wp_slice(to.user, strlen(to.user)));
    if (!envelope || !header || !id || !recipient) {
        return WP_E_NOMEM;
    }
    wp__envelope__init(envelope);
    wp__header__init(header);
    struct publish_wish wish = {.has_lane = to.has_lane, .lane = to.lane};
    if (session->version == WP_MQTT_5) {
        error = properties_take(turn->arena, &packet->properties, header, &wish, ret_detail);
        if (error) {
            return error;
        }
        if (wp_mqtt_has(&packet->properties, WP_MQTT_P_MESSAGE_EXPIRY)) {
            if (packet->properties.message_expiry == 0) {
                return WP_E_EXPIRED;
            }
            to.ttl_s = packet->properties.message_expiry;
        }
    }
    if (wish.has_id) {
        memcpy(id, wish.id, WP_UUID_SIZE);
    } else {
        wp_uuid7_make(turn->wall_ms, turn->random, id);
        turn->random_used = true;
    }
    header->version = 1;
    header->message_id = (ProtobufCBinaryData){WP_UUID_SIZE, id};
    header->sender = session->user;
    header->sender_device = session->device;
    header->recipient = recipient;
    header->to_team = to.team;
    header->lane = wish.lane;
    header->ttl_ms = to.ttl_s * 1000;
    header->gateway_made_id = !wish.has_id;
    header->received_ms = turn->wall_ms;
    envelope->header = header;
    envelope->body = (ProtobufCBinaryData){
        packet->publish.payload.size, (uint8_t *)(uintptr_t)packet->publish.payload.data};
    *ret_made_id = !wish.has_id;
    *ret_envelope = envelope;
    return WP_OK;
}

void wp_session_on_publish(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect)
{
    wp_metric_add(WP_M_PUBLISHES, 1);
    if (publish_breaks(session, turn, packet)) {
        return;
    }
    if (publish_open(session, packet->publish.id)) {
        /* 3.1.1 lets a client repeat an unanswered PUBLISH on the same connection; its answer is on the way.
         */
        if (session->version == WP_MQTT_5 || !packet->publish.dup) {
            wp_session_fail(
                session, turn, WP_E_MALFORMED, WP_MQTT_RC_PROTOCOL_ERROR, "the packet identifier is in use");
        }
        return;
    }
    bool within_rate = wp_session_rate_allows(session, turn->now_ms);
    struct wp_session_publish *publish = publish_push(session);
    if (!publish) {
        wp_session_fail(session, turn, WP_E_NOMEM, WP_MQTT_RC_SERVER_BUSY, NULL);
        return;
    }
    publish->packet_id = packet->publish.id;
    publish->received_us = turn->now_us;
    if (!within_rate && session->version == WP_MQTT_5) {
        publish_refuse(session, turn, publish, WP_E_RATE, NULL);
        return;
    }
    if (session->policy->publish_per_second_max) {
        session->tokens_x1000 -= session->tokens_x1000 >= 1000 ? 1000 : session->tokens_x1000;
        /* 3.1.1 cannot be refused without closing: it is not read until it may send again. */
        session->stopped_for_rate = session->version == WP_MQTT_311 && session->tokens_x1000 < 1000;
    }
    Wp__Envelope *envelope = NULL;
    const char *detail = NULL;
    int error = envelope_make(session, turn, packet, &envelope, &publish->made_id, &detail);
    if (error) {
        publish_refuse(session, turn, publish, error, detail);
        return;
    }
    memcpy(publish->id, envelope->header->message_id.data, WP_UUID_SIZE);
    effect->kind = WP_SESSION_SUBMIT;
    effect->submit.publish = session->publish_number;
    effect->submit.envelope = envelope;
}
