/* Properties of MQTT 5 (section 2.2.2): one table, read by decoder, encoder and checker.
 *
 * 1. Rows stand at the index of their enum value, in ascending order of their identifier, so walking the bits
 * of `present` upwards is the canonical order.
 * 2. While parsing a bit of `present` is set at most once: a second occurrence is a protocol error, but for
 * user properties everywhere and subscription identifiers in PUBLISH.
 * 3. Lists are parsed in two rounds over the same bytes: the first counts, the second fills arrays of that
 * size. */
#include <stddef.h>

#include "base/assert.h"
#include "proto/mqtt/codec.h"

enum property_kind { KIND_BYTE, KIND_U16, KIND_U32, KIND_STRING, KIND_BINARY, KIND_ID_LIST, KIND_PAIR_LIST };
enum property_rule { RULE_ANY, RULE_FLAG, RULE_NOT_ZERO, RULE_ALIAS, RULE_TOPIC };

#define IN(type) WP_MQTT_SCOPE(WP_MQTT_##type)
#define IN_MESSAGE (IN(PUBLISH) | WP_MQTT_SCOPE_WILL)
#define IN_OPENING (IN(CONNECT) | IN(CONNACK))
#define IN_AUTH (IN_OPENING | IN(AUTH))
#define IN_REQUESTS (IN(CONNECT) | IN_MESSAGE | IN(SUBSCRIBE) | IN(UNSUBSCRIBE))
#define IN_ACKS (IN(PUBACK) | IN(PUBREC) | IN(PUBREL) | IN(PUBCOMP) | IN(SUBACK) | IN(UNSUBACK))
#define IN_ANSWERS (IN(CONNACK) | IN_ACKS | IN(DISCONNECT) | IN(AUTH))

/* X(name, identifier, kind, rule, scopes, field): table 2-4. */
#define PROPERTY_TABLE(X)                                                                                    \
    X(PAYLOAD_FORMAT, 0x01, BYTE, FLAG, IN_MESSAGE, payload_format)                                          \
    X(MESSAGE_EXPIRY, 0x02, U32, ANY, IN_MESSAGE, message_expiry)                                            \
    X(CONTENT_TYPE, 0x03, STRING, ANY, IN_MESSAGE, content_type)                                             \
    X(RESPONSE_TOPIC, 0x08, STRING, TOPIC, IN_MESSAGE, response_topic)                                       \
    X(CORRELATION_DATA, 0x09, BINARY, ANY, IN_MESSAGE, correlation_data)                                     \
    X(SUBSCRIPTION_ID, 0x0b, ID_LIST, ANY, IN(PUBLISH) | IN(SUBSCRIBE), subscription_ids)                    \
    X(SESSION_EXPIRY, 0x11, U32, ANY, IN_OPENING | IN(DISCONNECT), session_expiry)                           \
    X(ASSIGNED_CLIENT_ID, 0x12, STRING, ANY, IN(CONNACK), assigned_client_id)                                \
    X(SERVER_KEEP_ALIVE, 0x13, U16, ANY, IN(CONNACK), server_keep_alive)                                     \
    X(AUTH_METHOD, 0x15, STRING, ANY, IN_AUTH, auth_method)                                                  \
    X(AUTH_DATA, 0x16, BINARY, ANY, IN_AUTH, auth_data)                                                      \
    X(REQUEST_PROBLEM_INFO, 0x17, BYTE, FLAG, IN(CONNECT), request_problem_info)                             \
    X(WILL_DELAY, 0x18, U32, ANY, WP_MQTT_SCOPE_WILL, will_delay)                                            \
    X(REQUEST_RESPONSE_INFO, 0x19, BYTE, FLAG, IN(CONNECT), request_response_info)                           \
    X(RESPONSE_INFO, 0x1a, STRING, ANY, IN(CONNACK), response_info)                                          \
    X(SERVER_REFERENCE, 0x1c, STRING, ANY, IN(CONNACK) | IN(DISCONNECT), server_reference)                   \
    X(REASON_STRING, 0x1f, STRING, ANY, IN_ANSWERS, reason_string)                                           \
    X(RECEIVE_MAXIMUM, 0x21, U16, NOT_ZERO, IN_OPENING, receive_maximum)                                     \
    X(TOPIC_ALIAS_MAXIMUM, 0x22, U16, ANY, IN_OPENING, topic_alias_maximum)                                  \
    X(TOPIC_ALIAS, 0x23, U16, ALIAS, IN(PUBLISH), topic_alias)                                               \
    X(MAXIMUM_QOS, 0x24, BYTE, FLAG, IN(CONNACK), maximum_qos)                                               \
    X(RETAIN_AVAILABLE, 0x25, BYTE, FLAG, IN(CONNACK), retain_available)                                     \
    X(USER_PROPERTY, 0x26, PAIR_LIST, ANY, IN_REQUESTS | IN_ANSWERS, user)                                   \
    X(MAXIMUM_PACKET_SIZE, 0x27, U32, NOT_ZERO, IN_OPENING, maximum_packet_size)                             \
    X(WILDCARD_AVAILABLE, 0x28, BYTE, FLAG, IN(CONNACK), wildcard_available)                                 \
    X(SUBSCRIPTION_ID_AVAILABLE, 0x29, BYTE, FLAG, IN(CONNACK), subscription_id_available)                   \
    X(SHARED_AVAILABLE, 0x2a, BYTE, FLAG, IN(CONNACK), shared_available)

struct property_row {
    uint8_t id;
    uint8_t kind;
    uint8_t rule;
    uint16_t scopes;
    uint16_t offset; /* of the value in struct wp_mqtt_properties */
};

static const struct property_row property_rows[WP_MQTT_PROPERTY_COUNT] = {
#define X(name, id, kind, rule, scopes, field)                                                               \
    [WP_MQTT_P_##name] = {id, KIND_##kind, RULE_##rule, scopes, offsetof(struct wp_mqtt_properties, field)},
    PROPERTY_TABLE(X)
#undef X
};

#define IDENTIFIER_COUNT 0x2bu

/* Index into the rows by identifier, plus one; 0 = no such property. */
static const uint8_t index_by_id[IDENTIFIER_COUNT] = {
#define X(name, id, kind, rule, scopes, field) [id] = WP_MQTT_P_##name + 1,
    PROPERTY_TABLE(X)
#undef X
};

_Static_assert(WP_MQTT_PROPERTY_COUNT <= 32, "`present` has a bit for each property");

static bool pair_take(struct wp_mqtt_reader *in, struct wp_mqtt_properties *properties)
{
    struct wp_mqtt_user_property pair;
    if (!wp_mqtt_take_string(in, &pair.name) || !wp_mqtt_take_string(in, &pair.value)) {
        return false;
    }
    if (properties->user) {
        properties->user[properties->user_count] = pair;
    }
    properties->user_count++;
    return true;
}

static bool subscription_id_take(struct wp_mqtt_reader *in, struct wp_mqtt_properties *properties)
{
    uint32_t id;
    if (!wp_mqtt_take_varint(in, &id)) {
        return false;
    }
    if (properties->subscription_ids) {
        properties->subscription_ids[properties->subscription_id_count] = id;
    }
    properties->subscription_id_count++;
    return true;
}

static bool value_take(
    struct wp_mqtt_reader *in, const struct property_row *row, struct wp_mqtt_properties *properties)
{
    void *field = (uint8_t *)properties + row->offset;
    switch ((enum property_kind)row->kind) {
    case KIND_BYTE:
        return wp_mqtt_take_u8(in, field);
    case KIND_U16:
        return wp_mqtt_take_u16(in, field);
    case KIND_U32:
        return wp_mqtt_take_u32(in, field);
    case KIND_STRING:
    case KIND_BINARY:
        return wp_mqtt_take_string(in, field);
    case KIND_ID_LIST:
        return subscription_id_take(in, properties);
    case KIND_PAIR_LIST:
        return pair_take(in, properties);
    }
    return false;
}

static unsigned block_parse(struct wp_mqtt_reader in, unsigned scope, struct wp_mqtt_properties *properties)
{
    while (in.at < in.end) {
        uint8_t id = *in.at++;
        unsigned index = id < IDENTIFIER_COUNT ? index_by_id[id] : 0;
        if (index-- == 0) {
            return WP_MQTT_RC_MALFORMED;
        }
        const struct property_row *row = &property_rows[index];
        if (!(row->scopes & scope)) {
            return WP_MQTT_RC_MALFORMED; /* section 2.2.2.2 */
        }
        bool repeats = index == WP_MQTT_P_USER_PROPERTY ||
                       (index == WP_MQTT_P_SUBSCRIPTION_ID && scope == WP_MQTT_SCOPE(WP_MQTT_PUBLISH));
        if ((properties->present >> index & 1u) && !repeats) {
            return WP_MQTT_RC_PROTOCOL_ERROR;
        }
        if (!value_take(&in, row, properties)) {
            return WP_MQTT_RC_MALFORMED;
        }
        properties->present |= 1u << index;
    }
    return 0;
}

static unsigned lists_alloc(struct wp_mqtt_properties *properties, struct wp_arena *arena)
{
    if (properties->user_count > 0) {
        properties->user = wp_arena_alloc(arena, properties->user_count * sizeof *properties->user);
        if (!properties->user) {
            return WP_MQTT_VERDICT_NOMEM;
        }
    }
    if (properties->subscription_id_count > 0) {
        properties->subscription_ids =
            wp_arena_alloc(arena, properties->subscription_id_count * sizeof *properties->subscription_ids);
        if (!properties->subscription_ids) {
            return WP_MQTT_VERDICT_NOMEM;
        }
    }
    return 0;
}

unsigned wp_mqtt_properties_parse(struct wp_mqtt_reader *in, unsigned scope, struct wp_arena *arena,
    struct wp_mqtt_properties *ret_properties)
{
    uint32_t size;
    if (!wp_mqtt_take_varint(in, &size) || size > wp_mqtt_reader_left(in)) {
        return WP_MQTT_RC_MALFORMED;
    }
    if (size == 0) {
        return 0;
    }
    struct wp_mqtt_reader block = {in->at, in->at + size};
    in->at = block.end;
    unsigned verdict = block_parse(block, scope, ret_properties);
    if (verdict || (ret_properties->user_count == 0 && ret_properties->subscription_id_count == 0)) {
        return verdict;
    }
    verdict = lists_alloc(ret_properties, arena);
    if (verdict) {
        return verdict;
    }
    ret_properties->present = 0;
    ret_properties->user_count = 0;
    ret_properties->subscription_id_count = 0;
    return block_parse(block, scope, ret_properties);
}

static unsigned pairs_check(const struct wp_mqtt_properties *properties)
{
    for (uint32_t i = 0; i < properties->user_count; i++) {
        if (!wp_mqtt_utf8_valid(properties->user[i].name) || !wp_mqtt_utf8_valid(properties->user[i].value)) {
            return WP_MQTT_RC_MALFORMED;
        }
    }
    return 0;
}

static unsigned subscription_ids_check(const struct wp_mqtt_properties *properties, unsigned scope)
{
    if (properties->subscription_id_count > 1 && scope != WP_MQTT_SCOPE(WP_MQTT_PUBLISH)) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* section 3.8.2.1.2 */
    }
    for (uint32_t i = 0; i < properties->subscription_id_count; i++) {
        uint32_t id = properties->subscription_ids[i];
        if (id == 0 || id > WP_MQTT_REMAINING_MAX) {
            return WP_MQTT_RC_PROTOCOL_ERROR; /* section 3.3.2.3.8 */
        }
    }
    return 0;
}

static uint32_t number_get(const struct property_row *row, const void *field)
{
    uint16_t half;
    uint32_t whole;
    switch ((enum property_kind)row->kind) {
    case KIND_BYTE:
        return *(const uint8_t *)field;
    case KIND_U16:
        memcpy(&half, field, sizeof half);
        return half;
    default:
        WP_ASSERT(row->kind == KIND_U32);
        memcpy(&whole, field, sizeof whole);
        return whole;
    }
}

static unsigned text_check(const struct property_row *row, struct wp_slice text)
{
    if (row->kind == KIND_BINARY) {
        return text.size <= WP_MQTT_STRING_SIZE_MAX ? 0 : WP_MQTT_RC_MALFORMED;
    }
    bool valid = row->rule == RULE_TOPIC ? wp_mqtt_topic_valid(text) : wp_mqtt_utf8_valid(text);
    return valid ? 0 : WP_MQTT_RC_MALFORMED;
}

static unsigned number_check(const struct property_row *row, uint32_t value)
{
    switch ((enum property_rule)row->rule) {
    case RULE_FLAG:
        return value <= 1 ? 0 : WP_MQTT_RC_PROTOCOL_ERROR;
    case RULE_NOT_ZERO:
        return value != 0 ? 0 : WP_MQTT_RC_PROTOCOL_ERROR;
    case RULE_ALIAS:
        return value != 0 ? 0 : WP_MQTT_RC_TOPIC_ALIAS_INVALID; /* MQTT-3.3.2-8 */
    default:
        return 0;
    }
}

static unsigned value_check(
    const struct property_row *row, const struct wp_mqtt_properties *properties, unsigned scope)
{
    const void *field = (const uint8_t *)properties + row->offset;
    switch ((enum property_kind)row->kind) {
    case KIND_STRING:
    case KIND_BINARY:
        return text_check(row, *(const struct wp_slice *)field);
    case KIND_ID_LIST:
        return subscription_ids_check(properties, scope);
    case KIND_PAIR_LIST:
        return pairs_check(properties);
    default:
        return number_check(row, number_get(row, field));
    }
}

unsigned wp_mqtt_properties_check(const struct wp_mqtt_properties *properties, unsigned scope)
{
    if (wp_mqtt_has(properties, WP_MQTT_P_USER_PROPERTY) != (properties->user_count > 0) ||
        wp_mqtt_has(properties, WP_MQTT_P_SUBSCRIPTION_ID) != (properties->subscription_id_count > 0)) {
        return WP_MQTT_RC_MALFORMED;
    }
    for (uint32_t bits = properties->present; bits; bits &= bits - 1) {
        unsigned index = (unsigned)__builtin_ctz(bits);
        if (index >= WP_MQTT_PROPERTY_COUNT || !(property_rows[index].scopes & scope)) {
            return WP_MQTT_RC_MALFORMED;
        }
        unsigned verdict = value_check(&property_rows[index], properties, scope);
        if (verdict) {
            return verdict;
        }
    }
    return 0;
}

static size_t lists_size(const struct wp_mqtt_properties *properties)
{
    size_t size = 0;
    for (uint32_t i = 0; i < properties->user_count; i++) {
        size += 1 + 2 + properties->user[i].name.size + 2 + properties->user[i].value.size;
    }
    for (uint32_t i = 0; i < properties->subscription_id_count; i++) {
        size += 1 + wp_mqtt_varint_size(properties->subscription_ids[i]);
    }
    return size;
}

size_t wp_mqtt_properties_size(const struct wp_mqtt_properties *properties)
{
    static const uint8_t fixed_size[] = {[KIND_BYTE] = 2,
        [KIND_U16] = 3,
        [KIND_U32] = 5,
        [KIND_STRING] = 3,
        [KIND_BINARY] = 3,
        [KIND_ID_LIST] = 0,
        [KIND_PAIR_LIST] = 0};
    if (properties->present == 0) {
        return 0;
    }
    size_t size = lists_size(properties);
    for (uint32_t bits = properties->present; bits; bits &= bits - 1) {
        const struct property_row *row = &property_rows[__builtin_ctz(bits)];
        size += fixed_size[row->kind];
        if (row->kind == KIND_STRING || row->kind == KIND_BINARY) {
            size +=
                ((const struct wp_slice *)(const void *)((const uint8_t *)properties + row->offset))->size;
        }
    }
    return size;
}

static uint8_t *lists_write(
    const struct property_row *row, const struct wp_mqtt_properties *properties, uint8_t *p)
{
    if (row->kind == KIND_ID_LIST) {
        for (uint32_t i = 0; i < properties->subscription_id_count; i++) {
            *p++ = row->id;
            p = wp_mqtt_put_varint(p, properties->subscription_ids[i]);
        }
        return p;
    }
    for (uint32_t i = 0; i < properties->user_count; i++) {
        *p++ = row->id;
        p = wp_mqtt_put_string(p, properties->user[i].name);
        p = wp_mqtt_put_string(p, properties->user[i].value);
    }
    return p;
}

static uint8_t *value_write(
    const struct property_row *row, const struct wp_mqtt_properties *properties, uint8_t *p)
{
    const void *field = (const uint8_t *)properties + row->offset;
    if (row->kind == KIND_ID_LIST || row->kind == KIND_PAIR_LIST) {
        return lists_write(row, properties, p);
    }
    *p++ = row->id;
    if (row->kind == KIND_STRING || row->kind == KIND_BINARY) {
        return wp_mqtt_put_string(p, *(const struct wp_slice *)field);
    }
    uint32_t value = number_get(row, field);
    if (row->kind == KIND_BYTE) {
        *p++ = (uint8_t)value;
        return p;
    }
    if (row->kind == KIND_U16) {
        return wp_mqtt_put_u16(p, (uint16_t)value);
    }
    wp_put_u32be(p, value);
    return p + 4;
}

uint8_t *wp_mqtt_properties_write(const struct wp_mqtt_properties *properties, size_t size, uint8_t *p)
{
    p = wp_mqtt_put_varint(p, (uint32_t)size);
    for (uint32_t bits = properties->present; bits; bits &= bits - 1) {
        p = value_write(&property_rows[__builtin_ctz(bits)], properties, p);
    }
    return p;
}
