#include "tests/unit/test_mqtt_support.h"

#include <string.h>

#include "base/assert.h"

static uint32_t below(struct wp_prng *prng, uint32_t bound)
{
    return (uint32_t)wp_prng_below(prng, bound);
}

static bool coin(struct wp_prng *prng)
{
    return below(prng, 2) == 1;
}

/* Mostly short, sometimes at the edges where length encodings change. */
static size_t size_random(struct wp_prng *prng)
{
    static const size_t edges[] = {0, 1, 7, 8, 9, 127, 128, 300};
    uint32_t pick = below(prng, 24);
    return pick < 8 ? edges[pick] : below(prng, 24);
}

static uint8_t *bytes_alloc(struct wp_arena *arena, size_t size)
{
    uint8_t *data = wp_arena_alloc(arena, size);
    WP_ASSERT(data);
    return data;
}

static struct wp_slice binary_random(struct wp_prng *prng, struct wp_arena *arena)
{
    size_t size = size_random(prng);
    uint8_t *data = bytes_alloc(arena, size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)wp_prng_next(prng);
    }
    return wp_slice(data, size);
}

/* Whole characters of one to four bytes, none of them NUL, '+', '#' or '$'. */
static struct wp_slice text_random(struct wp_prng *prng, struct wp_arena *arena, size_t size_min)
{
    static const char *const characters[] = {"a", "z", "0", "/", "-", " ", "\x7f", "\xc2\x80", "\xc3\xa9",
        "\xe2\x82\xac", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf", "\xef\xbb\xbf"};
    size_t size = size_random(prng);
    size = size < size_min ? size_min : size;
    uint8_t *data = bytes_alloc(arena, size);
    for (size_t at = 0; at < size;) {
        const char *character = characters[below(prng, coin(prng) ? 16 : 6)];
        size_t length = strlen(character);
        if (length <= size - at) {
            memcpy(data + at, character, length);
            at += length;
        }
    }
    return wp_slice(data, size);
}

static struct wp_slice filter_random(struct wp_prng *prng, struct wp_arena *arena)
{
    static const char *const filters[] = {"#", "+", "/", "+/+", "a/#", "/+", "+/", "$SYS/#",
        "$share/group/a/+/#", "$share/g//", "$shared", "wp/v1/inbox/#"};
    uint32_t pick = below(prng, 24);
    return pick < 12 ? wp_slice(filters[pick], strlen(filters[pick])) : text_random(prng, arena, 1);
}

#define BIT(name) (1u << WP_MQTT_P_##name)
#define MESSAGE_BITS                                                                                         \
    (BIT(PAYLOAD_FORMAT) | BIT(MESSAGE_EXPIRY) | BIT(CONTENT_TYPE) | BIT(RESPONSE_TOPIC) |                   \
        BIT(CORRELATION_DATA) | BIT(USER_PROPERTY))
#define AUTH_BITS (BIT(AUTH_METHOD) | BIT(AUTH_DATA))
#define OPENING_BITS                                                                                         \
    (BIT(SESSION_EXPIRY) | BIT(RECEIVE_MAXIMUM) | BIT(TOPIC_ALIAS_MAXIMUM) | BIT(MAXIMUM_PACKET_SIZE) |      \
        AUTH_BITS | BIT(USER_PROPERTY))
#define ACK_BITS (BIT(REASON_STRING) | BIT(USER_PROPERTY))

/* Written from table 2-4 a second time, so that a slip in the codec's table does not hide in its tests. */
static const uint32_t legal_bits[16] = {
    [0] = MESSAGE_BITS | BIT(WILL_DELAY),
    [WP_MQTT_CONNECT] = OPENING_BITS | BIT(REQUEST_PROBLEM_INFO) | BIT(REQUEST_RESPONSE_INFO),
    [WP_MQTT_CONNACK] = OPENING_BITS | BIT(ASSIGNED_CLIENT_ID) | BIT(SERVER_KEEP_ALIVE) | BIT(RESPONSE_INFO) |
                        BIT(SERVER_REFERENCE) | BIT(REASON_STRING) | BIT(MAXIMUM_QOS) |
                        BIT(RETAIN_AVAILABLE) | BIT(WILDCARD_AVAILABLE) | BIT(SUBSCRIPTION_ID_AVAILABLE) |
                        BIT(SHARED_AVAILABLE),
    [WP_MQTT_PUBLISH] = MESSAGE_BITS | BIT(SUBSCRIPTION_ID) | BIT(TOPIC_ALIAS),
    [WP_MQTT_PUBACK] = ACK_BITS,
    [WP_MQTT_PUBREC] = ACK_BITS,
    [WP_MQTT_PUBREL] = ACK_BITS,
    [WP_MQTT_PUBCOMP] = ACK_BITS,
    [WP_MQTT_SUBSCRIBE] = BIT(SUBSCRIPTION_ID) | BIT(USER_PROPERTY),
    [WP_MQTT_SUBACK] = ACK_BITS,
    [WP_MQTT_UNSUBSCRIBE] = BIT(USER_PROPERTY),
    [WP_MQTT_UNSUBACK] = ACK_BITS,
    [WP_MQTT_DISCONNECT] = ACK_BITS | BIT(SESSION_EXPIRY) | BIT(SERVER_REFERENCE),
    [WP_MQTT_AUTH] = ACK_BITS | AUTH_BITS,
};

uint32_t mqtt_properties_legal(unsigned type)
{
    return legal_bits[type];
}

static void user_random(struct wp_prng *prng, struct wp_arena *arena, struct wp_mqtt_properties *properties)
{
    properties->user_count = 1 + below(prng, 4);
    properties->user = wp_arena_alloc(arena, properties->user_count * sizeof *properties->user);
    WP_ASSERT(properties->user);
    for (uint32_t i = 0; i < properties->user_count; i++) {
        properties->user[i].name = text_random(prng, arena, 0);
        properties->user[i].value = text_random(prng, arena, 0);
    }
}

static void ids_random(
    struct wp_prng *prng, struct wp_arena *arena, uint32_t count_max, struct wp_mqtt_properties *properties)
{
    static const uint32_t ids[] = {1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455};
    properties->subscription_id_count = 1 + below(prng, count_max);
    properties->subscription_ids =
        wp_arena_alloc(arena, properties->subscription_id_count * sizeof(uint32_t));
    WP_ASSERT(properties->subscription_ids);
    for (uint32_t i = 0; i < properties->subscription_id_count; i++) {
        properties->subscription_ids[i] = ids[below(prng, 8)];
    }
}

static void properties_random(
    struct wp_prng *prng, struct wp_arena *arena, unsigned type, struct wp_mqtt_properties *properties)
{
    properties->present = coin(prng) ? 0 : legal_bits[type] & (uint32_t)wp_prng_next(prng);
    if (wp_mqtt_has(properties, WP_MQTT_P_AUTH_DATA)) {
        properties->present |= BIT(AUTH_METHOD);
    }
    uint32_t wide = coin(prng) ? (uint32_t)wp_prng_next(prng) : below(prng, 3);
#define SET(name, field, value)                                                                              \
    if (wp_mqtt_has(properties, WP_MQTT_P_##name)) {                                                         \
        properties->field = value;                                                                           \
    }
    SET(PAYLOAD_FORMAT, payload_format, coin(prng))
    SET(MESSAGE_EXPIRY, message_expiry, wide)
    SET(CONTENT_TYPE, content_type, text_random(prng, arena, 0))
    SET(RESPONSE_TOPIC, response_topic, text_random(prng, arena, 1))
    SET(CORRELATION_DATA, correlation_data, binary_random(prng, arena))
    SET(SESSION_EXPIRY, session_expiry, ~wide)
    SET(ASSIGNED_CLIENT_ID, assigned_client_id, text_random(prng, arena, 0))
    SET(SERVER_KEEP_ALIVE, server_keep_alive, (uint16_t)wide)
    SET(AUTH_METHOD, auth_method, text_random(prng, arena, 0))
    SET(AUTH_DATA, auth_data, binary_random(prng, arena))
    SET(REQUEST_PROBLEM_INFO, request_problem_info, coin(prng))
    SET(WILL_DELAY, will_delay, wide)
    SET(REQUEST_RESPONSE_INFO, request_response_info, coin(prng))
    SET(RESPONSE_INFO, response_info, text_random(prng, arena, 0))
    SET(SERVER_REFERENCE, server_reference, text_random(prng, arena, 0))
    SET(REASON_STRING, reason_string, text_random(prng, arena, 0))
    SET(RECEIVE_MAXIMUM, receive_maximum, (uint16_t)(wide | 1))
    SET(TOPIC_ALIAS_MAXIMUM, topic_alias_maximum, (uint16_t)wide)
    SET(TOPIC_ALIAS, topic_alias, (uint16_t)(wide | 1))
    SET(MAXIMUM_QOS, maximum_qos, coin(prng))
    SET(RETAIN_AVAILABLE, retain_available, coin(prng))
    SET(MAXIMUM_PACKET_SIZE, maximum_packet_size, wide | 1)
    SET(WILDCARD_AVAILABLE, wildcard_available, coin(prng))
    SET(SUBSCRIPTION_ID_AVAILABLE, subscription_id_available, coin(prng))
    SET(SHARED_AVAILABLE, shared_available, coin(prng))
#undef SET
    if (wp_mqtt_has(properties, WP_MQTT_P_USER_PROPERTY)) {
        user_random(prng, arena, properties);
    }
    if (wp_mqtt_has(properties, WP_MQTT_P_SUBSCRIPTION_ID)) {
        ids_random(prng, arena, type == WP_MQTT_PUBLISH ? 3 : 1, properties);
    }
}

static uint8_t code_random(struct wp_prng *prng, enum wp_mqtt_type type, enum wp_mqtt_version version)
{
    if (version == WP_MQTT_311) {
        static const uint8_t suback[] = {0, 1, 2, 0x80};
        return type == WP_MQTT_SUBACK    ? suback[below(prng, 4)]
               : type == WP_MQTT_CONNACK ? (uint8_t)below(prng, 6)
                                         : 0;
    }
    uint8_t code = 0;
    while (coin(prng) || !wp_mqtt_reason_legal(type, code)) {
        code = (uint8_t)wp_prng_next(prng);
    }
    return code;
}

static uint16_t id_random(struct wp_prng *prng)
{
    return (uint16_t)(1 + below(prng, 65535));
}

static void connect_random(
    struct wp_prng *prng, enum wp_mqtt_version version, struct wp_arena *arena, struct wp_mqtt_packet *packet)
{
    packet->connect.version = version;
    packet->connect.clean_start = coin(prng);
    packet->connect.keep_alive = (uint16_t)wp_prng_next(prng);
    packet->connect.client_id = text_random(prng, arena, 0);
    packet->connect.has_username = coin(prng);
    packet->connect.has_password = coin(prng) && (version == WP_MQTT_5 || packet->connect.has_username);
    packet->connect.has_will = coin(prng);
    if (packet->connect.has_username) {
        packet->connect.username = text_random(prng, arena, 0);
    }
    if (packet->connect.has_password) {
        packet->connect.password = binary_random(prng, arena);
    }
    if (packet->connect.has_will) {
        packet->connect.will_qos = (uint8_t)below(prng, 3);
        packet->connect.will_retain = coin(prng);
        packet->connect.will_topic = text_random(prng, arena, 1);
        packet->connect.will_payload = binary_random(prng, arena);
        if (version == WP_MQTT_5) {
            properties_random(prng, arena, 0, &packet->connect.will_properties);
        }
    }
}

static void publish_random(
    struct wp_prng *prng, enum wp_mqtt_version version, struct wp_arena *arena, struct wp_mqtt_packet *packet)
{
    packet->publish.qos = (uint8_t)below(prng, 3);
    packet->publish.dup = packet->publish.qos > 0 && coin(prng);
    packet->publish.retain = coin(prng);
    packet->publish.id = packet->publish.qos > 0 ? id_random(prng) : 0;
    bool aliased = version == WP_MQTT_5 && wp_mqtt_has(&packet->properties, WP_MQTT_P_TOPIC_ALIAS);
    packet->publish.topic = aliased && coin(prng) ? wp_slice(NULL, 0) : text_random(prng, arena, 1);
    packet->publish.payload = binary_random(prng, arena);
}

static void subscribe_random(
    struct wp_prng *prng, enum wp_mqtt_version version, struct wp_arena *arena, struct wp_mqtt_packet *packet)
{
    packet->subscribe.id = id_random(prng);
    packet->subscribe.count = 1 + below(prng, 4);
    packet->subscribe.items =
        wp_arena_alloc(arena, packet->subscribe.count * sizeof *packet->subscribe.items);
    WP_ASSERT(packet->subscribe.items);
    for (uint32_t i = 0; i < packet->subscribe.count; i++) {
        struct wp_mqtt_subscription *item = &packet->subscribe.items[i];
        *item = (struct wp_mqtt_subscription){
            .filter = filter_random(prng, arena), .qos = (uint8_t)below(prng, 3)};
        if (version == WP_MQTT_5) {
            bool shared = item->filter.size > 7 && memcmp(item->filter.data, "$share/", 7) == 0;
            item->no_local = coin(prng) && !shared;
            item->retain_as_published = coin(prng);
            item->retain_handling = (uint8_t)below(prng, 3);
        }
    }
}

static void unsubscribe_random(struct wp_prng *prng, struct wp_arena *arena, struct wp_mqtt_packet *packet)
{
    packet->unsubscribe.id = id_random(prng);
    packet->unsubscribe.count = 1 + below(prng, 4);
    packet->unsubscribe.filters = wp_arena_alloc(arena, packet->unsubscribe.count * sizeof(struct wp_slice));
    WP_ASSERT(packet->unsubscribe.filters);
    for (uint32_t i = 0; i < packet->unsubscribe.count; i++) {
        packet->unsubscribe.filters[i] = filter_random(prng, arena);
    }
}

static void suback_random(
    struct wp_prng *prng, enum wp_mqtt_version version, struct wp_arena *arena, struct wp_mqtt_packet *packet)
{
    packet->suback.id = id_random(prng);
    if (version == WP_MQTT_311 && packet->type == WP_MQTT_UNSUBACK) {
        return;
    }
    packet->suback.count = 1 + below(prng, 4);
    uint8_t *codes = bytes_alloc(arena, packet->suback.count);
    for (uint32_t i = 0; i < packet->suback.count; i++) {
        codes[i] = code_random(prng, packet->type, version);
    }
    packet->suback.codes = codes;
}

void mqtt_packet_random(struct wp_prng *prng, enum wp_mqtt_version version, struct wp_arena *arena,
    struct wp_mqtt_packet *ret_packet)
{
    struct wp_mqtt_packet *packet = ret_packet;
    memset(packet, 0, sizeof *packet);
    packet->type = (enum wp_mqtt_type)(1 + below(prng, version == WP_MQTT_5 ? 15 : 14));
    if (version == WP_MQTT_5) {
        properties_random(prng, arena, packet->type, &packet->properties);
    }
    switch (packet->type) {
    case WP_MQTT_CONNECT:
        connect_random(prng, version, arena, packet);
        break;
    case WP_MQTT_CONNACK:
        packet->connack.code = code_random(prng, packet->type, version);
        packet->connack.session_present = packet->connack.code == 0 && coin(prng);
        break;
    case WP_MQTT_PUBLISH:
        publish_random(prng, version, arena, packet);
        break;
    case WP_MQTT_PUBACK:
    case WP_MQTT_PUBREC:
    case WP_MQTT_PUBREL:
    case WP_MQTT_PUBCOMP:
        packet->ack.id = id_random(prng);
        packet->ack.code = code_random(prng, packet->type, version);
        break;
    case WP_MQTT_SUBSCRIBE:
        subscribe_random(prng, version, arena, packet);
        break;
    case WP_MQTT_SUBACK:
    case WP_MQTT_UNSUBACK:
        suback_random(prng, version, arena, packet);
        break;
    case WP_MQTT_UNSUBSCRIBE:
        unsubscribe_random(prng, arena, packet);
        break;
    case WP_MQTT_AUTH:
        packet->disconnect.code = code_random(prng, packet->type, version);
        if (packet->disconnect.code != 0 || packet->properties.present != 0) {
            packet->properties.present |= BIT(AUTH_METHOD);
        }
        break;
    case WP_MQTT_DISCONNECT:
        packet->disconnect.code = code_random(prng, packet->type, version);
        break;
    case WP_MQTT_PINGREQ:
    case WP_MQTT_PINGRESP:
        break;
    }
}

#define SAME(field) (a->field == b->field)
#define SAME_TEXT(field) wp_slice_equal(a->field, b->field)

static bool lists_equal(const struct wp_mqtt_properties *a, const struct wp_mqtt_properties *b)
{
    if (!SAME(user_count) || !SAME(subscription_id_count)) {
        return false;
    }
    for (uint32_t i = 0; i < a->user_count; i++) {
        if (!SAME_TEXT(user[i].name) || !SAME_TEXT(user[i].value)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->subscription_id_count; i++) {
        if (!SAME(subscription_ids[i])) {
            return false;
        }
    }
    return true;
}

static bool properties_equal(const struct wp_mqtt_properties *a, const struct wp_mqtt_properties *b)
{
    return SAME(present) && SAME(payload_format) && SAME(request_problem_info) &&
           SAME(request_response_info) && SAME(maximum_qos) && SAME(retain_available) &&
           SAME(wildcard_available) && SAME(subscription_id_available) && SAME(shared_available) &&
           SAME(server_keep_alive) && SAME(receive_maximum) && SAME(topic_alias_maximum) &&
           SAME(topic_alias) && SAME(message_expiry) && SAME(session_expiry) && SAME(will_delay) &&
           SAME(maximum_packet_size) && SAME_TEXT(content_type) && SAME_TEXT(response_topic) &&
           SAME_TEXT(correlation_data) && SAME_TEXT(assigned_client_id) && SAME_TEXT(auth_method) &&
           SAME_TEXT(auth_data) && SAME_TEXT(response_info) && SAME_TEXT(server_reference) &&
           SAME_TEXT(reason_string) && lists_equal(a, b);
}

static bool connect_equal(const struct wp_mqtt_packet *a, const struct wp_mqtt_packet *b)
{
    return SAME(connect.version) && SAME(connect.clean_start) && SAME(connect.keep_alive) &&
           SAME(connect.has_username) && SAME(connect.has_password) && SAME(connect.has_will) &&
           SAME(connect.will_qos) && SAME(connect.will_retain) && SAME_TEXT(connect.client_id) &&
           SAME_TEXT(connect.username) && SAME_TEXT(connect.password) && SAME_TEXT(connect.will_topic) &&
           SAME_TEXT(connect.will_payload) &&
           properties_equal(&a->connect.will_properties, &b->connect.will_properties);
}

static bool publish_equal(const struct wp_mqtt_packet *a, const struct wp_mqtt_packet *b)
{
    return SAME(publish.dup) && SAME(publish.qos) && SAME(publish.retain) && SAME(publish.id) &&
           SAME_TEXT(publish.topic) && SAME_TEXT(publish.payload);
}

static bool subscribe_equal(const struct wp_mqtt_packet *a, const struct wp_mqtt_packet *b)
{
    bool equal = SAME(subscribe.id) && SAME(subscribe.count);
    for (uint32_t i = 0; equal && i < a->subscribe.count; i++) {
        equal = SAME_TEXT(subscribe.items[i].filter) && SAME(subscribe.items[i].qos) &&
                SAME(subscribe.items[i].no_local) && SAME(subscribe.items[i].retain_as_published) &&
                SAME(subscribe.items[i].retain_handling);
    }
    return equal;
}

static bool unsubscribe_equal(const struct wp_mqtt_packet *a, const struct wp_mqtt_packet *b)
{
    bool equal = SAME(unsubscribe.id) && SAME(unsubscribe.count);
    for (uint32_t i = 0; equal && i < a->unsubscribe.count; i++) {
        equal = SAME_TEXT(unsubscribe.filters[i]);
    }
    return equal;
}

bool mqtt_packet_equal(const struct wp_mqtt_packet *a, const struct wp_mqtt_packet *b)
{
    if (!SAME(type) || !properties_equal(&a->properties, &b->properties)) {
        return false;
    }
    switch (a->type) {
    case WP_MQTT_CONNECT:
        return connect_equal(a, b);
    case WP_MQTT_CONNACK:
        return SAME(connack.code) && SAME(connack.session_present);
    case WP_MQTT_PUBLISH:
        return publish_equal(a, b);
    case WP_MQTT_PUBACK:
    case WP_MQTT_PUBREC:
    case WP_MQTT_PUBREL:
    case WP_MQTT_PUBCOMP:
        return SAME(ack.id) && SAME(ack.code);
    case WP_MQTT_SUBSCRIBE:
        return subscribe_equal(a, b);
    case WP_MQTT_UNSUBSCRIBE:
        return unsubscribe_equal(a, b);
    case WP_MQTT_SUBACK:
    case WP_MQTT_UNSUBACK:
        return SAME(suback.id) && SAME(suback.count) &&
               (a->suback.count == 0 || memcmp(a->suback.codes, b->suback.codes, a->suback.count) == 0);
    case WP_MQTT_DISCONNECT:
    case WP_MQTT_AUTH:
        return SAME(disconnect.code);
    case WP_MQTT_PINGREQ:
    case WP_MQTT_PINGRESP:
        break;
    }
    return true;
}
