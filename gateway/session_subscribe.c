/* SUBSCRIBE and UNSUBSCRIBE: inbox and receipts are the only subscriptions, and they belong to the replicated
 * device record. */
#include "gateway/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gateway/session_internal.h"
#include "gateway/topic.h"

static uint8_t filter_code(
    const struct wp_session *session, const struct wp_mqtt_subscription *item, const char **ret_detail)
{
    bool v5 = session->version == WP_MQTT_5;
    if (wp_topic_is_inbox(item->filter) || wp_topic_is_receipts(item->filter)) {
        if (item->qos > 0) {
            return WP_MQTT_RC_GRANTED_QOS1;
        }
        *ret_detail = "subscribe with QoS 1";
        return v5 ? WP_MQTT_RC_IMPLEMENTATION : WP_MQTT_RC_UNSPECIFIED;
    }
    if (v5 && item->filter.size >= 7 && memcmp(item->filter.data, "$share/", 7) == 0) {
        *ret_detail = "shared subscriptions are not offered";
        return WP_MQTT_RC_SHARED_UNSUPPORTED;
    }
    *ret_detail = "the only subscriptions are wp/v1/inbox/# and wp/v1/receipts/#";
    return v5 ? WP_MQTT_RC_FILTER_INVALID : WP_MQTT_RC_UNSPECIFIED;
}

static void answer_send(struct wp_session *session, struct wp_session_turn *turn, enum wp_mqtt_type type,
    uint16_t id, const uint8_t *codes, uint32_t count, const char *detail)
{
    struct wp_mqtt_packet packet = {.type = type, .suback = {.id = id, .codes = codes, .count = count}};
    if (type == WP_MQTT_UNSUBACK && session->version == WP_MQTT_311) {
        packet.suback.count = 0;
    }
    if (detail && session->problem_info && session->version == WP_MQTT_5) {
        packet.properties.reason_string = wp_slice(detail, strlen(detail));
        packet.properties.present = 1u << WP_MQTT_P_REASON_STRING;
        if (wp_mqtt_encoded_size(&packet, WP_MQTT_5) > session->packet_bytes_max) {
            packet.properties.present = 0;
        }
    }
    wp_session_send(session, turn, &packet);
}

/* What is subscribed once the request is answered. */
struct subscriptions {
    bool inbox;
    bool receipts;
};

/* Keeps the codes until the router answered. */
static void request_start(struct wp_session *session, struct wp_session_turn *turn, uint16_t id,
    uint8_t *codes, uint32_t count, const struct subscriptions *wanted, struct wp_session_effect *effect)
{
    session->request++;
    session->request_since_ms = turn->now_ms ? turn->now_ms : 1;
    session->request_inbox = wanted->inbox;
    session->request_receipts = wanted->receipts;
    session->request_packet_id = id;
    session->request_codes = codes;
    session->request_count = count;
    effect->kind = WP_SESSION_SUBSCRIBE;
    effect->subscribe.request = session->request;
}

void wp_session_on_subscribe(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect)
{
    if (session->version == WP_MQTT_5 && wp_mqtt_has(&packet->properties, WP_MQTT_P_SUBSCRIPTION_ID)) {
        wp_session_fail(session, turn, WP_E_INVALID, WP_MQTT_RC_SUBSCRIPTION_IDS_UNSUPPORTED,
            "subscription identifiers are not offered");
        return;
    }
    uint32_t count = packet->subscribe.count;
    uint8_t *codes = malloc(count);
    if (!codes) {
        wp_session_fail(session, turn, WP_E_NOMEM, WP_MQTT_RC_SERVER_BUSY, NULL);
        return;
    }
    struct subscriptions wanted = {session->inbox_subscribed, session->receipts_subscribed};
    bool granted = false;
    const char *detail = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct wp_mqtt_subscription *item = &packet->subscribe.items[i];
        codes[i] = filter_code(session, item, &detail);
        if (codes[i] == WP_MQTT_RC_GRANTED_QOS1) {
            granted = true;
            wanted.inbox = wanted.inbox || wp_topic_is_inbox(item->filter);
            wanted.receipts = wanted.receipts || wp_topic_is_receipts(item->filter);
        }
    }
    if (granted) {
        session->request_unsubscribes = false;
        request_start(session, turn, packet->subscribe.id, codes, count, &wanted, effect);
        return;
    }
    answer_send(session, turn, WP_MQTT_SUBACK, packet->subscribe.id, codes, count, detail);
    free(codes);
}

void wp_session_on_unsubscribe(struct wp_session *session, struct wp_session_turn *turn,
    const struct wp_mqtt_packet *packet, struct wp_session_effect *effect)
{
    uint32_t count = packet->unsubscribe.count;
    uint8_t *codes = malloc(count);
    if (!codes) {
        wp_session_fail(session, turn, WP_E_NOMEM, WP_MQTT_RC_SERVER_BUSY, NULL);
        return;
    }
    struct subscriptions wanted = {session->inbox_subscribed, session->receipts_subscribed};
    bool ended = false;
    for (uint32_t i = 0; i < count; i++) {
        /* Named twice in one packet, the second one finds nothing any more. */
        struct wp_slice filter = packet->unsubscribe.filters[i];
        bool *subscription = wp_topic_is_inbox(filter)      ? &wanted.inbox
                             : wp_topic_is_receipts(filter) ? &wanted.receipts
                                                            : NULL;
        bool ends = subscription && *subscription;
        codes[i] = ends ? WP_MQTT_RC_SUCCESS : WP_MQTT_RC_NO_SUBSCRIPTION;
        ended = ended || ends;
        if (ends) {
            *subscription = false;
        }
    }
    if (ended) {
        session->request_unsubscribes = true;
        request_start(session, turn, packet->unsubscribe.id, codes, count, &wanted, effect);
        return;
    }
    answer_send(session, turn, WP_MQTT_UNSUBACK, packet->unsubscribe.id, codes, count, NULL);
    free(codes);
}

void wp_session_subscribed(
    struct wp_session *session, struct wp_session_turn *turn, uint64_t request, int error)
{
    if (session->state != WP_SESSION_LIVE || session->request_since_ms == 0 || request != session->request) {
        return;
    }
    bool ends = session->request_unsubscribes;
    for (uint32_t i = 0; error && i < session->request_count; i++) {
        uint8_t *code = &session->request_codes[i];
        uint8_t changed = ends ? WP_MQTT_RC_SUCCESS : WP_MQTT_RC_GRANTED_QOS1;
        if (*code == changed) {
            *code =
                !ends && session->version == WP_MQTT_311 ? WP_MQTT_RC_UNSPECIFIED : WP_MQTT_RC_IMPLEMENTATION;
        }
    }
    if (!error) {
        session->inbox_subscribed = session->request_inbox;
        session->receipts_subscribed = session->request_receipts;
    }
    session->request_since_ms = 0;
    uint8_t *codes = session->request_codes;
    session->request_codes = NULL;
    if (error && ends && session->version == WP_MQTT_311) {
        /* An UNSUBACK of 3.1.1 cannot say no, and a wrong yes would be a lie. */
        wp_session_finish(session, error, WP_MQTT_RC_IMPLEMENTATION, "the subscription could not be ended");
    } else {
        answer_send(session, turn, ends ? WP_MQTT_UNSUBACK : WP_MQTT_SUBACK, session->request_packet_id,
            codes, session->request_count, error ? wp_error_text(error) : NULL);
    }
    free(codes);
}
