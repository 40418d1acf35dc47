/* Every rule about the values of a packet. The decoder asks after parsing and the encoder before writing, so
 * a packet that one of them takes is a packet that the other one takes. Rules about bytes that a struct
 * cannot hold (reserved bits, lengths) are in decode.c. */
#include "base/error.h"
#include "proto/mqtt/codec.h"

#define SHARED_PREFIX "$share/"
#define CONNACK_311_CODE_MAX 5

static unsigned binary_check(struct wp_slice data)
{
    return data.size <= WP_MQTT_STRING_SIZE_MAX ? 0 : WP_MQTT_RC_MALFORMED;
}

static unsigned will_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if (!packet->connect.has_will) {
        bool quiet = packet->connect.will_qos == 0 && !packet->connect.will_retain;
        return quiet ? 0 : WP_MQTT_RC_MALFORMED; /* MQTT-3.1.2-11, MQTT-3.1.2-13 */
    }
    if (packet->connect.will_qos > 2 || !wp_mqtt_topic_valid(packet->connect.will_topic)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.1.2-12, MQTT-3.1.3-11 */
    }
    unsigned verdict = binary_check(packet->connect.will_payload);
    if (!verdict && version == WP_MQTT_5) {
        verdict = wp_mqtt_properties_check(&packet->connect.will_properties, WP_MQTT_SCOPE_WILL);
    }
    return verdict;
}

static unsigned connect_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if (!wp_mqtt_utf8_valid(packet->connect.client_id)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.1.3-4 */
    }
    if (packet->connect.has_username && !wp_mqtt_utf8_valid(packet->connect.username)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.1.3-12 */
    }
    if (packet->connect.has_password) {
        if (version == WP_MQTT_311 && !packet->connect.has_username) {
            return WP_MQTT_RC_MALFORMED; /* 3.1.1: MQTT-3.1.2-22 */
        }
        if (binary_check(packet->connect.password)) {
            return WP_MQTT_RC_MALFORMED;
        }
    }
    if (version == WP_MQTT_5 && wp_mqtt_has(&packet->properties, WP_MQTT_P_AUTH_DATA) &&
        !wp_mqtt_has(&packet->properties, WP_MQTT_P_AUTH_METHOD)) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* section 3.1.2.11.10 */
    }
    return will_check(packet, version);
}

static unsigned connack_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    bool legal = version == WP_MQTT_5 ? wp_mqtt_reason_legal(WP_MQTT_CONNACK, packet->connack.code)
                                      : packet->connack.code <= CONNACK_311_CODE_MAX;
    if (!legal || (packet->connack.session_present && packet->connack.code != 0)) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-3.2.2-8, MQTT-3.2.2-6 */
    }
    return 0;
}

static unsigned publish_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if (packet->publish.qos > 2 || (packet->publish.qos == 0 && packet->publish.dup)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.3.1-4, MQTT-3.3.1-2 */
    }
    if ((packet->publish.qos == 0) != (packet->publish.id == 0)) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-2.2.1-2, MQTT-2.2.1-3 */
    }
    if (packet->publish.topic.size == 0 && version == WP_MQTT_5) {
        bool aliased = wp_mqtt_has(&packet->properties, WP_MQTT_P_TOPIC_ALIAS);
        return aliased ? 0 : WP_MQTT_RC_PROTOCOL_ERROR; /* section 3.3.2.1 */
    }
    return wp_mqtt_topic_valid(packet->publish.topic) ? 0
                                                      : WP_MQTT_RC_MALFORMED; /* MQTT-3.3.2-1, MQTT-3.3.2-2 */
}

static unsigned ack_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    bool legal =
        version == WP_MQTT_5 ? wp_mqtt_reason_legal(packet->type, packet->ack.code) : packet->ack.code == 0;
    return packet->ack.id != 0 && legal ? 0 : WP_MQTT_RC_PROTOCOL_ERROR;
}

/* Shared subscriptions: $share/{name}/{filter} (section 4.8.2). 3.1.1 knows none: there it is a plain filter.
 */
static bool shared_is(struct wp_slice filter)
{
    size_t prefix_size = sizeof SHARED_PREFIX - 1;
    return filter.size >= prefix_size && memcmp(filter.data, SHARED_PREFIX, prefix_size) == 0;
}

static bool shared_valid(struct wp_slice filter)
{
    size_t prefix_size = sizeof SHARED_PREFIX - 1;
    struct wp_slice rest = wp_slice(filter.data + prefix_size, filter.size - prefix_size);
    const uint8_t *slash = memchr(rest.data, '/', rest.size);
    if (!slash || slash == rest.data || slash + 1 == rest.data + rest.size) {
        return false;
    }
    size_t name_size = (size_t)(slash - rest.data);
    return !memchr(rest.data, '+', name_size) && !memchr(rest.data, '#', name_size); /* MQTT-4.8.2-1, -2 */
}

static unsigned filter_check(struct wp_slice filter, enum wp_mqtt_version version)
{
    if (!wp_mqtt_filter_valid(filter)) {
        return WP_MQTT_RC_MALFORMED;
    }
    bool whole = version == WP_MQTT_311 || !shared_is(filter) || shared_valid(filter);
    return whole ? 0 : WP_MQTT_RC_MALFORMED;
}

static unsigned options_check(const struct wp_mqtt_subscription *item, enum wp_mqtt_version version)
{
    if (version == WP_MQTT_311) {
        bool plain =
            item->qos <= 2 && !item->no_local && !item->retain_as_published && item->retain_handling == 0;
        return plain ? 0 : WP_MQTT_RC_MALFORMED; /* 3.1.1: MQTT-3-8.3-4 */
    }
    bool legal = item->qos <= 2 && item->retain_handling <= 2 && !(item->no_local && shared_is(item->filter));
    return legal ? 0 : WP_MQTT_RC_PROTOCOL_ERROR; /* section 3.8.3.1, MQTT-3.8.3-4 */
}

static unsigned subscribe_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if (packet->subscribe.id == 0 || packet->subscribe.count == 0) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-2.2.1-3, MQTT-3.8.3-2 */
    }
    for (uint32_t i = 0; i < packet->subscribe.count; i++) {
        unsigned verdict = filter_check(packet->subscribe.items[i].filter, version);
        verdict = verdict ? verdict : options_check(&packet->subscribe.items[i], version);
        if (verdict) {
            return verdict;
        }
    }
    return 0;
}

static unsigned unsubscribe_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if (packet->unsubscribe.id == 0 || packet->unsubscribe.count == 0) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-2.2.1-3, MQTT-3.10.3-2 */
    }
    for (uint32_t i = 0; i < packet->unsubscribe.count; i++) {
        unsigned verdict = filter_check(packet->unsubscribe.filters[i], version);
        if (verdict) {
            return verdict;
        }
    }
    return 0;
}

static bool suback_code_legal(enum wp_mqtt_type type, uint8_t code, enum wp_mqtt_version version)
{
    return version == WP_MQTT_5 ? wp_mqtt_reason_legal(type, code) : code <= 2 || code == 0x80;
}

static unsigned suback_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    bool codeless = version == WP_MQTT_311 && packet->type == WP_MQTT_UNSUBACK;
    if (packet->suback.id == 0 || (packet->suback.count == 0) != codeless) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-2.2.1-3, MQTT-3.8.4-5, MQTT-3.11.3-1; 3.1.1: section 3.11.3
                                           */
    }
    for (uint32_t i = 0; i < packet->suback.count; i++) {
        if (!suback_code_legal(packet->type, packet->suback.codes[i], version)) {
            return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-3.9.3-2, MQTT-3.11.3-2 */
        }
    }
    return 0;
}

static unsigned ping_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    (void)packet;
    (void)version;
    return 0;
}

static unsigned disconnect_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    bool legal = version == WP_MQTT_5 ? wp_mqtt_reason_legal(WP_MQTT_DISCONNECT, packet->disconnect.code)
                                      : packet->disconnect.code == 0;
    return legal ? 0 : WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-3.14.2-1 */
}

/* An AUTH that says anything names its method (section 3.15.2.2.2); the empty one stands for plain success.
 */
static unsigned auth_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if (version != WP_MQTT_5) {
        return WP_MQTT_RC_MALFORMED;
    }
    bool empty = packet->disconnect.code == 0 && packet->properties.present == 0;
    bool legal = wp_mqtt_reason_legal(WP_MQTT_AUTH, packet->disconnect.code) &&
                 (empty || wp_mqtt_has(&packet->properties, WP_MQTT_P_AUTH_METHOD));
    return legal ? 0 : WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-3.15.2-1 */
}

typedef unsigned check_fn(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version);

static check_fn *const checks[16] = {
    [WP_MQTT_CONNECT] = connect_check,
    [WP_MQTT_CONNACK] = connack_check,
    [WP_MQTT_PUBLISH] = publish_check,
    [WP_MQTT_PUBACK] = ack_check,
    [WP_MQTT_PUBREC] = ack_check,
    [WP_MQTT_PUBREL] = ack_check,
    [WP_MQTT_PUBCOMP] = ack_check,
    [WP_MQTT_SUBSCRIBE] = subscribe_check,
    [WP_MQTT_SUBACK] = suback_check,
    [WP_MQTT_UNSUBSCRIBE] = unsubscribe_check,
    [WP_MQTT_UNSUBACK] = suback_check,
    [WP_MQTT_PINGREQ] = ping_check,
    [WP_MQTT_PINGRESP] = ping_check,
    [WP_MQTT_DISCONNECT] = disconnect_check,
    [WP_MQTT_AUTH] = auth_check,
};

unsigned wp_mqtt_packet_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    if ((unsigned)packet->type > WP_MQTT_AUTH || !checks[packet->type]) {
        return WP_MQTT_RC_MALFORMED;
    }
    unsigned verdict = checks[packet->type](packet, version);
    if (verdict || version != WP_MQTT_5) {
        return verdict;
    }
    return wp_mqtt_properties_check(&packet->properties, WP_MQTT_SCOPE(packet->type));
}
