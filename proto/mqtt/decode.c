/* From bytes to packets: the structure of each packet type. check.c judges the values afterwards.
 *
 * 1. Nothing is read past the end of the packet, and a packet with bytes left over is malformed.
 * 2. Only lists take memory, and only from the arena; their size is counted before they are allocated, so it
 * is at most a small multiple of the packet. */
#include "base/error.h"
#include "proto/mqtt/codec.h"

#define CONNECT_RESERVED 0x01
#define CONNECT_CLEAN 0x02
#define CONNECT_WILL 0x04
#define CONNECT_WILL_RETAIN 0x20
#define CONNECT_PASSWORD 0x40
#define CONNECT_USERNAME 0x80

struct parse {
    struct wp_mqtt_reader in;
    enum wp_mqtt_version version;
    uint8_t flags; /* of the fixed header */
    struct wp_arena *arena;
    struct wp_mqtt_packet *packet;
};

static bool at_end(const struct parse *parse)
{
    return parse->in.at == parse->in.end;
}

static unsigned properties_parse(struct parse *parse)
{
    if (parse->version != WP_MQTT_5) {
        return 0;
    }
    return wp_mqtt_properties_parse(
        &parse->in, WP_MQTT_SCOPE(parse->packet->type), parse->arena, &parse->packet->properties);
}

/* Verdict for a packet that must end here. */
static unsigned end_parse(const struct parse *parse)
{
    return at_end(parse) ? 0 : WP_MQTT_RC_MALFORMED;
}

static unsigned will_parse(struct parse *parse, uint8_t flags)
{
    struct wp_mqtt_packet *packet = parse->packet;
    packet->connect.has_will = flags & CONNECT_WILL;
    packet->connect.will_qos = (flags >> 3) & 3;
    packet->connect.will_retain = flags & CONNECT_WILL_RETAIN;
    if (!packet->connect.has_will) {
        return 0;
    }
    if (parse->version == WP_MQTT_5) {
        unsigned verdict = wp_mqtt_properties_parse(
            &parse->in, WP_MQTT_SCOPE_WILL, parse->arena, &packet->connect.will_properties);
        if (verdict) {
            return verdict;
        }
    }
    bool whole = wp_mqtt_take_string(&parse->in, &packet->connect.will_topic) &&
                 wp_mqtt_take_string(&parse->in, &packet->connect.will_payload);
    return whole ? 0 : WP_MQTT_RC_MALFORMED;
}

static unsigned credentials_parse(struct parse *parse, uint8_t flags)
{
    struct wp_mqtt_packet *packet = parse->packet;
    packet->connect.has_username = flags & CONNECT_USERNAME;
    packet->connect.has_password = flags & CONNECT_PASSWORD;
    if (packet->connect.has_username && !wp_mqtt_take_string(&parse->in, &packet->connect.username)) {
        return WP_MQTT_RC_MALFORMED;
    }
    if (packet->connect.has_password && !wp_mqtt_take_string(&parse->in, &packet->connect.password)) {
        return WP_MQTT_RC_MALFORMED;
    }
    return end_parse(parse);
}

static unsigned connect_parse(struct parse *parse)
{
    struct wp_mqtt_packet *packet = parse->packet;
    struct wp_slice name;
    uint8_t level;
    uint8_t flags;
    if (!wp_mqtt_take_string(&parse->in, &name) || !wp_mqtt_take_u8(&parse->in, &level)) {
        return WP_MQTT_RC_MALFORMED;
    }
    if (!wp_slice_equal(name, wp_slice("MQTT", 4)) || (level != WP_MQTT_311 && level != WP_MQTT_5)) {
        return WP_MQTT_RC_UNSUPPORTED_VERSION; /* MQTT-3.1.2-1, MQTT-3.1.2-2 */
    }
    parse->version = (enum wp_mqtt_version)level;
    packet->connect.version = parse->version;
    if (!wp_mqtt_take_u8(&parse->in, &flags) || (flags & CONNECT_RESERVED) ||
        !wp_mqtt_take_u16(&parse->in, &packet->connect.keep_alive)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.1.2-3 */
    }
    packet->connect.clean_start = flags & CONNECT_CLEAN;
    unsigned verdict = properties_parse(parse);
    if (verdict) {
        return verdict;
    }
    if (!wp_mqtt_take_string(&parse->in, &packet->connect.client_id)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.1.3-3 */
    }
    verdict = will_parse(parse, flags);
    return verdict ? verdict : credentials_parse(parse, flags);
}

static unsigned connack_parse(struct parse *parse)
{
    uint8_t flags;
    if (!wp_mqtt_take_u8(&parse->in, &flags) || (flags & ~1u) ||
        !wp_mqtt_take_u8(&parse->in, &parse->packet->connack.code)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.2.2-1 */
    }
    parse->packet->connack.session_present = flags & 1;
    unsigned verdict = properties_parse(parse);
    return verdict ? verdict : end_parse(parse);
}

static unsigned publish_parse(struct parse *parse)
{
    struct wp_mqtt_packet *packet = parse->packet;
    packet->publish.dup = parse->flags & 8;
    packet->publish.qos = (parse->flags >> 1) & 3;
    packet->publish.retain = parse->flags & 1;
    if (!wp_mqtt_take_string(&parse->in, &packet->publish.topic)) {
        return WP_MQTT_RC_MALFORMED;
    }
    if (packet->publish.qos > 0) {
        if (!wp_mqtt_take_u16(&parse->in, &packet->publish.id)) {
            return WP_MQTT_RC_MALFORMED;
        }
    }
    unsigned verdict = properties_parse(parse);
    if (!verdict) {
        packet->publish.payload = wp_slice(parse->in.at, wp_mqtt_reader_left(&parse->in));
    }
    return verdict;
}

/* Code and properties of MQTT 5 may be left out from the end (sections 3.4.2.1, 3.4.2.2.1, 3.14.2). */
static unsigned code_parse(struct parse *parse, uint8_t *ret_code)
{
    if (at_end(parse)) {
        return 0;
    }
    if (parse->version != WP_MQTT_5) {
        return WP_MQTT_RC_MALFORMED;
    }
    *ret_code = *parse->in.at++;
    if (at_end(parse)) {
        return 0;
    }
    unsigned verdict = properties_parse(parse);
    return verdict ? verdict : end_parse(parse);
}

static unsigned ack_parse(struct parse *parse)
{
    if (!wp_mqtt_take_u16(&parse->in, &parse->packet->ack.id)) {
        return WP_MQTT_RC_MALFORMED;
    }
    return code_parse(parse, &parse->packet->ack.code);
}

static unsigned disconnect_parse(struct parse *parse)
{
    return code_parse(parse, &parse->packet->disconnect.code);
}

/* Unlike the others AUTH has either nothing or both of code and property length (section 3.15.2.1). */
static unsigned auth_parse(struct parse *parse)
{
    if (parse->version != WP_MQTT_5 || wp_mqtt_reader_left(&parse->in) == 1) {
        return WP_MQTT_RC_MALFORMED;
    }
    return code_parse(parse, &parse->packet->disconnect.code);
}

/* Entries of a list of strings, each followed by `extra` bytes; false when the list is cut off. */
static bool entries_count(struct wp_mqtt_reader in, size_t extra, uint32_t *ret_count)
{
    uint32_t count = 0;
    struct wp_slice text;
    while (in.at < in.end) {
        if (!wp_mqtt_take_string(&in, &text) || wp_mqtt_reader_left(&in) < extra) {
            return false;
        }
        in.at += extra;
        count++;
    }
    *ret_count = count;
    return true;
}

static unsigned subscription_take(struct parse *parse, struct wp_mqtt_subscription *item)
{
    uint8_t options;
    if (!wp_mqtt_take_string(&parse->in, &item->filter) || !wp_mqtt_take_u8(&parse->in, &options)) {
        return WP_MQTT_RC_MALFORMED;
    }
    if (options & (parse->version == WP_MQTT_5 ? 0xc0 : 0xfc)) {
        return WP_MQTT_RC_MALFORMED; /* MQTT-3.8.3-5; 3.1.1: MQTT-3-8.3-4 */
    }
    item->qos = options & 3;
    item->no_local = options & 4;
    item->retain_as_published = options & 8;
    item->retain_handling = options >> 4;
    return 0;
}

static unsigned subscribe_parse(struct parse *parse)
{
    struct wp_mqtt_packet *packet = parse->packet;
    if (!wp_mqtt_take_u16(&parse->in, &packet->subscribe.id)) {
        return WP_MQTT_RC_MALFORMED;
    }
    unsigned verdict = properties_parse(parse);
    if (verdict) {
        return verdict;
    }
    uint32_t count;
    if (!entries_count(parse->in, 1, &count)) {
        return WP_MQTT_RC_MALFORMED;
    }
    packet->subscribe.items = wp_arena_alloc(parse->arena, count * sizeof *packet->subscribe.items);
    if (!packet->subscribe.items) {
        return WP_MQTT_VERDICT_NOMEM;
    }
    for (; !verdict && packet->subscribe.count < count; packet->subscribe.count++) {
        verdict = subscription_take(parse, &packet->subscribe.items[packet->subscribe.count]);
    }
    return verdict;
}

static unsigned unsubscribe_parse(struct parse *parse)
{
    struct wp_mqtt_packet *packet = parse->packet;
    if (!wp_mqtt_take_u16(&parse->in, &packet->unsubscribe.id)) {
        return WP_MQTT_RC_MALFORMED;
    }
    unsigned verdict = properties_parse(parse);
    if (verdict) {
        return verdict;
    }
    uint32_t count;
    if (!entries_count(parse->in, 0, &count)) {
        return WP_MQTT_RC_MALFORMED;
    }
    packet->unsubscribe.filters = wp_arena_alloc(parse->arena, count * sizeof *packet->unsubscribe.filters);
    if (!packet->unsubscribe.filters) {
        return WP_MQTT_VERDICT_NOMEM;
    }
    for (; packet->unsubscribe.count < count; packet->unsubscribe.count++) {
        if (!wp_mqtt_take_string(&parse->in, &packet->unsubscribe.filters[packet->unsubscribe.count])) {
            return WP_MQTT_RC_MALFORMED;
        }
    }
    return 0;
}

static unsigned suback_parse(struct parse *parse)
{
    struct wp_mqtt_packet *packet = parse->packet;
    if (!wp_mqtt_take_u16(&parse->in, &packet->suback.id)) {
        return WP_MQTT_RC_MALFORMED;
    }
    unsigned verdict = properties_parse(parse);
    packet->suback.codes = parse->in.at;
    packet->suback.count = (uint32_t)wp_mqtt_reader_left(&parse->in);
    return verdict;
}

typedef unsigned parse_fn(struct parse *parse);

static unsigned ping_parse(struct parse *parse)
{
    return end_parse(parse);
}

static parse_fn *const parsers[16] = {
    [WP_MQTT_CONNECT] = connect_parse,
    [WP_MQTT_CONNACK] = connack_parse,
    [WP_MQTT_PUBLISH] = publish_parse,
    [WP_MQTT_PUBACK] = ack_parse,
    [WP_MQTT_PUBREC] = ack_parse,
    [WP_MQTT_PUBREL] = ack_parse,
    [WP_MQTT_PUBCOMP] = ack_parse,
    [WP_MQTT_SUBSCRIBE] = subscribe_parse,
    [WP_MQTT_SUBACK] = suback_parse,
    [WP_MQTT_UNSUBSCRIBE] = unsubscribe_parse,
    [WP_MQTT_UNSUBACK] = suback_parse,
    [WP_MQTT_PINGREQ] = ping_parse,
    [WP_MQTT_PINGRESP] = ping_parse,
    [WP_MQTT_DISCONNECT] = disconnect_parse,
    [WP_MQTT_AUTH] = auth_parse,
};

static unsigned packet_parse(struct parse *parse, struct wp_slice bytes)
{
    if (bytes.size < 2 || !wp_mqtt_head_valid(bytes.data[0])) {
        return WP_MQTT_RC_MALFORMED;
    }
    uint32_t remaining;
    int used = wp_mqtt_varint_read(bytes.data + 1, bytes.size - 1, &remaining);
    if (used <= 0 || 1 + (size_t)used + remaining != bytes.size) {
        return WP_MQTT_RC_MALFORMED;
    }
    enum wp_mqtt_type type = (enum wp_mqtt_type)(bytes.data[0] >> 4);
    if (type != WP_MQTT_CONNECT && parse->version != WP_MQTT_311 && parse->version != WP_MQTT_5) {
        return WP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-3.1.0-1: nobody said CONNECT yet */
    }
    parse->packet->type = type;
    parse->flags = bytes.data[0] & 0x0f;
    parse->in.at = bytes.data + 1 + used;
    parse->in.end = bytes.data + bytes.size;
    unsigned verdict = parsers[type](parse);
    if (!verdict && parse->version == WP_MQTT_5 && (unsigned)used != wp_mqtt_varint_size(remaining)) {
        verdict = WP_MQTT_RC_MALFORMED; /* MQTT-1.5.5-1; 3.1.1 has no such rule */
    }
    return verdict;
}

static int verdict_error(unsigned verdict)
{
    switch (verdict) {
    case 0:
        return WP_OK;
    case WP_MQTT_VERDICT_NOMEM:
        return WP_E_NOMEM;
    case WP_MQTT_RC_MALFORMED:
        return WP_E_MALFORMED;
    case WP_MQTT_RC_UNSUPPORTED_VERSION:
        return WP_E_VERSION;
    default:
        return WP_E_INVALID;
    }
}

int wp_mqtt_decode(struct wp_slice packet, enum wp_mqtt_version version, struct wp_arena *arena,
    struct wp_mqtt_packet *ret_packet, uint8_t *ret_reason)
{
    struct parse parse = {.version = version, .arena = arena, .packet = ret_packet};
    memset(ret_packet, 0, sizeof *ret_packet);
    unsigned verdict = packet_parse(&parse, packet);
    if (!verdict) {
        verdict = wp_mqtt_packet_check(ret_packet, parse.version);
    }
    if (verdict) {
        *ret_reason = verdict == WP_MQTT_VERDICT_NOMEM ? WP_MQTT_RC_QUOTA_EXCEEDED : (uint8_t)verdict;
    }
    return verdict_error(verdict);
}
