/* CONNECT and CONNACK (MQTT 5 sections 3.1 and 3.2; 3.1.1 likewise). */
#include "gateway/session.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/metric.h"
#include "gateway/refusal.h"
#include "gateway/session_internal.h"

#define SECRET_SIZE_MAX 512u
#define CONNACK_311_BAD_CLIENT_ID 2
#define CONNACK_311_UNAVAILABLE 3
#define CONNACK_311_CREDENTIALS 4

void wp_session_refuse_connect(struct wp_session *session, struct wp_session_turn *turn, int error,
    uint8_t code, uint8_t code_311, const char *detail)
{
    struct wp_mqtt_packet packet = {
        .type = WP_MQTT_CONNACK, .connack = {.code = session->version == WP_MQTT_5 ? code : code_311}};
    const char *text = detail ? detail : wp_error_text(error);
    packet.properties.reason_string = wp_slice(text, strlen(text));
    packet.properties.present = 1u << WP_MQTT_P_REASON_STRING;
    if (wp_mqtt_encoded_size(&packet, session->version) > session->packet_bytes_max) {
        packet.properties.present = 0;
    }
    wp_session_send(session, turn, &packet);
    wp_session_finish(session, error, code, text);
}

struct connect_refusal {
    int error;
    uint8_t code;
    uint8_t code_311; /* 0: this cannot be wrong in 3.1.1 */
    const char *detail;
};

/* What is wrong with a CONNECT before anybody is asked; NULL: nothing. */
static const struct connect_refusal *connect_check(
    const struct wp_mqtt_packet *packet, struct wp_session *session)
{
    static const struct connect_refusal enhanced = {WP_E_DENIED, WP_MQTT_RC_BAD_AUTH_METHOD,
        CONNACK_311_UNAVAILABLE, "enhanced authentication is not offered"};
    static const struct connect_refusal client_id = {WP_E_INVALID, WP_MQTT_RC_BAD_CLIENT_ID,
        CONNACK_311_BAD_CLIENT_ID, "an empty Client Identifier needs Clean Session 1"};
    static const struct connect_refusal will_qos = {
        WP_E_INVALID, WP_MQTT_RC_QOS_UNSUPPORTED, 0, "will with QoS 2"};
    static const struct connect_refusal will_retain = {
        WP_E_INVALID, WP_MQTT_RC_RETAIN_UNSUPPORTED, 0, "retained will"};
    static const struct connect_refusal username = {WP_E_AUTH, WP_MQTT_RC_BAD_CREDENTIALS,
        CONNACK_311_CREDENTIALS, "the user name must be user/device, with the device's secret as password"};
    bool v5 = session->version == WP_MQTT_5;
    if (v5 && wp_mqtt_has(&packet->properties, WP_MQTT_P_AUTH_METHOD)) {
        return &enhanced;
    }
    if (!v5 && packet->connect.client_id.size == 0 && !packet->connect.clean_start) {
        return &client_id;
    }
    if (v5 && packet->connect.has_will && packet->connect.will_qos > 1) {
        return &will_qos;
    }
    if (v5 && packet->connect.has_will && packet->connect.will_retain) {
        return &will_retain;
    }
    if (!packet->connect.has_username || !packet->connect.has_password ||
        packet->connect.password.size == 0 || packet->connect.password.size > SECRET_SIZE_MAX ||
        wp_address_split((const char *)packet->connect.username.data, packet->connect.username.size,
            session->user, session->device) != WP_OK) {
        return &username;
    }
    return NULL;
}

static void keep_alive_set(struct wp_session *session, uint16_t asked_s)
{
    uint32_t max_s = session->policy->keep_alive_max_s;
    uint32_t used_s = asked_s;
    if (max_s > 0 && (asked_s == 0 || asked_s > max_s)) {
        /* 3.1.1 cannot be told another value, so there the client's own rules. */
        session->server_keep_alive = session->version == WP_MQTT_5;
        used_s = session->server_keep_alive ? max_s : asked_s;
    }
    session->keep_alive_s = (uint16_t)used_s;
    session->silence_ms_max = used_s * 1500u;
}

static void limits_take(struct wp_session *session, const struct wp_mqtt_properties *properties)
{
    session->window = session->policy->window;
    if (session->version != WP_MQTT_5) {
        return;
    }
    if (wp_mqtt_has(properties, WP_MQTT_P_RECEIVE_MAXIMUM) && properties->receive_maximum < session->window) {
        session->window = properties->receive_maximum;
    }
    if (wp_mqtt_has(properties, WP_MQTT_P_MAXIMUM_PACKET_SIZE)) {
        session->packet_bytes_max = properties->maximum_packet_size;
    }
    if (wp_mqtt_has(properties, WP_MQTT_P_REQUEST_PROBLEM_INFO)) {
        session->problem_info = properties->request_problem_info != 0;
    }
}

void wp_session_on_connect(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect)
{
    session->version = packet->connect.version;
    session->clean_start = packet->connect.clean_start;
    limits_take(session, &packet->properties);
    keep_alive_set(session, packet->connect.keep_alive);
    const struct connect_refusal *refusal = connect_check(packet, session);
    if (refusal) {
        if (refusal->error == WP_E_AUTH) {
            wp_metric_add(WP_M_AUTH_FAILURES, 1);
        }
        wp_session_refuse_connect(
            session, turn, refusal->error, refusal->code, refusal->code_311, refusal->detail);
        return;
    }
    if (session->version == WP_MQTT_5 && packet->connect.client_id.size == 0) {
        session->assigned_client_id = true;
        for (unsigned i = 0; i < 16; i++) {
            snprintf(session->client_id + (size_t)i * 2, 3, "%02x", turn->random[i]);
        }
        turn->random_used = true;
    }
    session->state = WP_SESSION_ATTACHING;
    effect->kind = WP_SESSION_ATTACH;
    effect->attach.secret = packet->connect.password;
    effect->attach.clean_start = session->clean_start;
    effect->attach.window = session->window;
}

static void connack_properties(const struct wp_session *session, struct wp_mqtt_properties *properties)
{
    properties->session_expiry = UINT32_MAX;
    properties->receive_maximum = (uint16_t)session->policy->receive_maximum;
    properties->maximum_qos = 1;
    properties->retain_available = 0;
    properties->maximum_packet_size = session->policy->packet_bytes_max;
    properties->subscription_id_available = 0;
    properties->shared_available = 0;
    properties->present = 1u << WP_MQTT_P_SESSION_EXPIRY | 1u << WP_MQTT_P_RECEIVE_MAXIMUM |
                          1u << WP_MQTT_P_MAXIMUM_QOS | 1u << WP_MQTT_P_RETAIN_AVAILABLE |
                          1u << WP_MQTT_P_MAXIMUM_PACKET_SIZE | 1u << WP_MQTT_P_SUBSCRIPTION_ID_AVAILABLE |
                          1u << WP_MQTT_P_SHARED_AVAILABLE;
    if (session->assigned_client_id) {
        properties->assigned_client_id = wp_slice(session->client_id, strlen(session->client_id));
        properties->present |= 1u << WP_MQTT_P_ASSIGNED_CLIENT_ID;
    }
    if (session->server_keep_alive) {
        properties->server_keep_alive = session->keep_alive_s;
        properties->present |= 1u << WP_MQTT_P_SERVER_KEEP_ALIVE;
    }
}

void wp_session_attached(
    struct wp_session *session, struct wp_session_turn *turn, const Wp__AttachReply *reply)
{
    if (session->state != WP_SESSION_ATTACHING) {
        return;
    }
    if (reply->error != WP_OK) {
        if (reply->error == WP_E_AUTH) {
            wp_metric_add(WP_M_AUTH_FAILURES, 1);
        }
        wp_session_refuse_connect(session, turn, reply->error, wp_refusal_connack(reply->error),
            wp_refusal_connack_311(reply->error), NULL);
        return;
    }
    session->epoch = reply->epoch;
    session->inbox_subscribed = reply->inbox_subscribed;
    session->receipts_subscribed = reply->receipts_subscribed;
    session->state = WP_SESSION_LIVE;
    session->heard_ms = turn->now_ms;
    struct wp_mqtt_packet packet = {.type = WP_MQTT_CONNACK,
        .connack = {
            .session_present = reply->session_present && !session->clean_start, .code = WP_MQTT_RC_SUCCESS}};
    if (session->version == WP_MQTT_5) {
        connack_properties(session, &packet.properties);
        if (wp_mqtt_encoded_size(&packet, WP_MQTT_5) > session->packet_bytes_max) {
            /* What must be announced does not fit into what the client takes: there is no way to serve it. */
            wp_session_finish(session, WP_E_TOO_LARGE, WP_MQTT_RC_PACKET_TOO_LARGE,
                "Maximum Packet Size below the CONNACK");
            return;
        }
    }
    wp_session_send(session, turn, &packet);
}
