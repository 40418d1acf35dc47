/* The frame of the session machine: framing, order of packets, time, the end. The packets themselves are
 * handled in session_connect.c, session_publish.c, session_subscribe.c and session_deliver.c.
 *
 *   1. In NEW nothing but CONNECT is acted on, in ATTACHING nothing at all, in CLOSED neither input nor
 * answers.
 *   2. One step handles at most one packet and returns at most one effect.
 *   3. After the end nothing is appended to the output. */
#include "gateway/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/metric.h"
#include "gateway/refusal.h"
#include "gateway/session_internal.h"

void wp_session_init(struct wp_session *session, const struct wp_session_policy *policy, uint64_t now_ms)
{
    memset(session, 0, sizeof *session);
    session->policy = policy;
    session->version = WP_MQTT_311;
    session->opened_ms = now_ms;
    session->heard_ms = now_ms;
    session->packet_bytes_max = UINT32_MAX;
    session->problem_info = true;
}

void wp_session_fini(struct wp_session *session)
{
    free(session->publishes);
    free(session->request_codes);
    wp_positions_fini(&session->positions);
    memset(session, 0, sizeof *session);
    session->state = WP_SESSION_CLOSED;
}

/* Whether an end with this code means that the device broke the protocol. */
static bool code_is_protocol_error(uint8_t code)
{
    static const uint8_t codes[] = {WP_MQTT_RC_MALFORMED, WP_MQTT_RC_PROTOCOL_ERROR,
        WP_MQTT_RC_UNSUPPORTED_VERSION, WP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED, WP_MQTT_RC_TOPIC_ALIAS_INVALID,
        WP_MQTT_RC_PACKET_TOO_LARGE, WP_MQTT_RC_RETAIN_UNSUPPORTED, WP_MQTT_RC_QOS_UNSUPPORTED,
        WP_MQTT_RC_SUBSCRIPTION_IDS_UNSUPPORTED};
    return memchr(codes, code, sizeof codes) != NULL;
}

void wp_session_finish(struct wp_session *session, int error, uint8_t code, const char *detail)
{
    if (error != WP_OK && session->state != WP_SESSION_CLOSED && code_is_protocol_error(code)) {
        wp_metric_add(WP_M_PROTOCOL_ERRORS, 1);
    }
    session->state = WP_SESSION_CLOSED;
    session->end.error = error;
    session->end.code = code;
    session->end.detail = detail;
}

void wp_session_send(
    struct wp_session *session, struct wp_session_turn *turn, const struct wp_mqtt_packet *packet)
{
    int error = wp_mqtt_encode(packet, session->version, turn->out);
    if (error && session->state != WP_SESSION_CLOSED) {
        wp_session_finish(session, error, WP_MQTT_RC_UNSPECIFIED, "a packet could not be stored");
    }
}

void wp_session_fail(
    struct wp_session *session, struct wp_session_turn *turn, int error, uint8_t code, const char *detail)
{
    if (session->state == WP_SESSION_CLOSED) {
        return;
    }
    /* Before the CONNACK a DISCONNECT may not be sent; the close says enough (MQTT 5 section 3.14). */
    if (session->state == WP_SESSION_LIVE && session->version == WP_MQTT_5) {
        struct wp_mqtt_packet packet = {.type = WP_MQTT_DISCONNECT, .disconnect = {.code = code}};
        if (detail) {
            packet.properties.reason_string = wp_slice(detail, strlen(detail));
            packet.properties.present = 1u << WP_MQTT_P_REASON_STRING;
            if (wp_mqtt_encoded_size(&packet, WP_MQTT_5) > session->packet_bytes_max) {
                packet.properties.present = 0;
            }
        }
        wp_session_send(session, turn, &packet);
    }
    wp_session_finish(session, error, code, detail);
}

/* The session is asked whether it is for a packet of this type; a row without a handler ends it. */
static void packet_dispatch(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect)
{
    if (session->state == WP_SESSION_NEW) {
        if (packet->type == WP_MQTT_CONNECT) {
            wp_session_on_connect(session, turn, packet, effect);
        } else {
            wp_session_finish(
                session, WP_E_MALFORMED, WP_MQTT_RC_PROTOCOL_ERROR, "the first packet was no CONNECT");
        }
        return;
    }
    switch (packet->type) {
    case WP_MQTT_PUBLISH:
        wp_session_on_publish(session, turn, packet, effect);
        return;
    case WP_MQTT_PUBACK:
        /* A refusing code counts as acknowledged too: MQTT 5 [MQTT-4.4.0-2] forbids to send it again. An
         * identifier that is not open belongs to an earlier connection. */
        (void)wp_positions_acknowledge(&session->positions, packet->ack.id, turn->now_ms);
        return;
    case WP_MQTT_SUBSCRIBE:
        wp_session_on_subscribe(session, turn, packet, effect);
        return;
    case WP_MQTT_UNSUBSCRIBE:
        wp_session_on_unsubscribe(session, turn, packet, effect);
        return;
    case WP_MQTT_PINGREQ:
        wp_session_send(session, turn, &(struct wp_mqtt_packet){.type = WP_MQTT_PINGRESP});
        return;
    case WP_MQTT_DISCONNECT:
        wp_session_finish(session, WP_OK, packet->disconnect.code, "the device disconnected");
        return;
    case WP_MQTT_CONNECT:
        wp_session_fail(session, turn, WP_E_MALFORMED, WP_MQTT_RC_PROTOCOL_ERROR, "a second CONNECT");
        return;
    case WP_MQTT_AUTH:
        wp_session_fail(
            session, turn, WP_E_MALFORMED, WP_MQTT_RC_PROTOCOL_ERROR, "AUTH without enhanced authentication");
        return;
    default:
        wp_session_fail(
            session, turn, WP_E_MALFORMED, WP_MQTT_RC_PROTOCOL_ERROR, "a packet that only a server sends");
        return;
    }
}

/* A packet that cannot be taken in. A CONNECT of another version is answered in the oldest form, which every
 * client of any version can read (3.1.1 section 3.1.2.2). */
static void input_refuse(struct wp_session *session, struct wp_session_turn *turn, int error, uint8_t code)
{
    if (session->state == WP_SESSION_NEW && error == WP_E_VERSION) {
        session->version = WP_MQTT_311;
        wp_session_send(
            session, turn, &(struct wp_mqtt_packet){.type = WP_MQTT_CONNACK, .connack = {.code = 1}});
        wp_session_finish(session, error, WP_MQTT_RC_UNSUPPORTED_VERSION, "another protocol version");
        return;
    }
    const char *detail = error == WP_E_TOO_LARGE ? "a packet over the announced maximum"
                         : error == WP_E_NOMEM   ? "a packet with too many parts"
                                                 : "a malformed packet";
    wp_session_fail(session, turn, error, code, detail);
}

size_t wp_session_input(struct wp_session *session, struct wp_session_turn *turn, struct wp_slice input,
    struct wp_session_effect *ret_effect)
{
    ret_effect->kind = WP_SESSION_NOTHING;
    if (session->state == WP_SESSION_CLOSED || wp_session_blocked(session) || input.size == 0) {
        return 0;
    }
    uint32_t size = 0;
    int found = wp_mqtt_frame(input, session->policy->packet_bytes_max, &size);
    if (found == 0) {
        return 0;
    }
    if (found < 0) {
        input_refuse(session, turn, found,
            found == WP_E_TOO_LARGE ? WP_MQTT_RC_PACKET_TOO_LARGE : WP_MQTT_RC_MALFORMED);
        return 0;
    }
    session->heard_ms = turn->now_ms;
    struct wp_mqtt_packet packet;
    uint8_t code = WP_MQTT_RC_MALFORMED;
    int error = wp_mqtt_decode(wp_slice(input.data, size), session->version, turn->arena, &packet, &code);
    if (error) {
        input_refuse(session, turn, error, error == WP_E_NOMEM ? WP_MQTT_RC_QUOTA_EXCEEDED : code);
        return size;
    }
    packet_dispatch(session, turn, &packet, ret_effect);
    return size;
}

bool wp_session_blocked(const struct wp_session *session)
{
    if (session->state == WP_SESSION_ATTACHING || session->request_since_ms != 0 ||
        session->stopped_for_rate) {
        return true;
    }
    /* MQTT 5 clients that pass Receive Maximum are told so; 3.1.1 has no such limit, so they are slowed down.
     */
    return session->version == WP_MQTT_311 && session->publish_count >= session->policy->receive_maximum;
}

void wp_session_close(struct wp_session *session, struct wp_session_turn *turn, int error, const char *detail)
{
    if (session->state == WP_SESSION_CLOSED) {
        return;
    }
    if (session->state == WP_SESSION_ATTACHING) {
        wp_session_refuse_connect(
            session, turn, error, wp_refusal_connack(error), wp_refusal_connack_311(error), detail);
        return;
    }
    if (error == WP_E_STALE_EPOCH) {
        wp_metric_add(WP_M_TAKEOVERS, 1);
    }
    wp_session_fail(
        session, turn, error, wp_refusal_disconnect(error), detail ? detail : wp_error_text(error));
}

static void keep_alive_check(struct wp_session *session, struct wp_session_turn *turn)
{
    if (session->silence_ms_max == 0 || wp_session_blocked(session)) {
        session->heard_ms = wp_session_blocked(session) ? turn->now_ms : session->heard_ms;
        return;
    }
    if (turn->now_ms - session->heard_ms > session->silence_ms_max) {
        wp_metric_add(WP_M_KEEP_ALIVE_TIMEOUTS, 1);
        wp_session_fail(
            session, turn, WP_E_TIMEOUT, WP_MQTT_RC_KEEP_ALIVE_TIMEOUT, "nothing heard for 1.5 x Keep Alive");
    }
}

void wp_session_tick(struct wp_session *session, struct wp_session_turn *turn)
{
    if (session->state == WP_SESSION_CLOSED) {
        return;
    }
    if (session->state != WP_SESSION_LIVE) {
        if (turn->now_ms - session->opened_ms > session->policy->connect_timeout_ms) {
            wp_session_close(session, turn, WP_E_TIMEOUT, "CONNECT was not finished in time");
        }
        return;
    }
    if (session->partial_ms && !wp_session_blocked(session) &&
        turn->now_ms - session->partial_ms > WP_SESSION_PACKET_TIMEOUT_MS) {
        wp_metric_add(WP_M_PROTOCOL_ERRORS, 1);
        wp_session_fail(
            session, turn, WP_E_TIMEOUT, WP_MQTT_RC_KEEP_ALIVE_TIMEOUT, "a packet was not finished in time");
        return;
    }
    if (session->request_since_ms &&
        turn->now_ms - session->request_since_ms > WP_SESSION_REQUEST_TIMEOUT_MS) {
        wp_session_subscribed(session, turn, session->request, WP_E_TIMEOUT);
    }
    if (session->stopped_for_rate && wp_session_rate_allows(session, turn->now_ms)) {
        session->stopped_for_rate = false;
    }
    keep_alive_check(session, turn);
    wp_positions_trim(&session->positions, turn->now_ms);
    if (session->publish_count == 0 && session->publishes) {
        free(session->publishes);
        session->publishes = NULL;
        session->publish_capacity = session->publish_first = 0;
    }
}

void wp_session_partial(struct wp_session *session, uint64_t now_ms, bool partial)
{
    if (!partial) {
        session->partial_ms = 0;
    } else if (session->partial_ms == 0) {
        session->partial_ms = now_ms ? now_ms : 1;
    }
}
