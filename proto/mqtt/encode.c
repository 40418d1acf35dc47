/* From packets to canonical bytes: check, measure, then write into one reservation.
 *
 * 1. Nothing is appended unless the whole packet is.
 * 2. The bytes written are as many as were measured; both follow the same layout. */
#include "base/assert.h"
#include "base/error.h"
#include "proto/mqtt/codec.h"

/* Sizes found while measuring that writing needs again. */
struct layout {
    size_t remaining;       /* bytes after the fixed header */
    size_t properties;      /* bytes of the packet's properties, without their length */
    size_t will_properties; /* likewise */
    bool has_code;          /* acknowledgements, DISCONNECT and AUTH: the reason code is written */
    bool has_properties;    /* the property length (and what it counts) is written */
};

static size_t string_size(struct wp_slice text)
{
    return 2 + text.size;
}

/* Size of a block of properties with its length, 0 when the packet has none to write. */
static size_t block_size(const struct layout *layout)
{
    return layout->has_properties ? wp_mqtt_varint_size(layout->properties) + layout->properties : 0;
}

static size_t connect_size(const struct wp_mqtt_packet *packet, struct layout *layout)
{
    size_t size = 10 + string_size(packet->connect.client_id);
    if (packet->connect.has_will) {
        size += string_size(packet->connect.will_topic) + string_size(packet->connect.will_payload);
        if (layout->has_properties) {
            layout->will_properties = wp_mqtt_properties_size(&packet->connect.will_properties);
            size += wp_mqtt_varint_size(layout->will_properties) + layout->will_properties;
        }
    }
    size += packet->connect.has_username ? string_size(packet->connect.username) : 0;
    size += packet->connect.has_password ? string_size(packet->connect.password) : 0;
    return size + block_size(layout);
}

static size_t subscribe_size(const struct wp_mqtt_packet *packet)
{
    size_t size = 2;
    for (uint32_t i = 0; i < packet->subscribe.count; i++) {
        size += string_size(packet->subscribe.items[i].filter) + 1;
    }
    return size;
}

static size_t unsubscribe_size(const struct wp_mqtt_packet *packet)
{
    size_t size = 2;
    for (uint32_t i = 0; i < packet->unsubscribe.count; i++) {
        size += string_size(packet->unsubscribe.filters[i]);
    }
    return size;
}

/* The shortest of the legal forms: code and properties are left out from the end while they say nothing. AUTH
 * has both or none (section 3.15.2.1). */
static size_t tail_size(const struct wp_mqtt_packet *packet, uint8_t code, struct layout *layout)
{
    bool speaks = layout->properties > 0;
    layout->has_code = code != 0 || speaks;
    layout->has_properties = speaks || (packet->type == WP_MQTT_AUTH && layout->has_code);
    return layout->has_code + block_size(layout);
}

static size_t body_size(const struct wp_mqtt_packet *packet, struct layout *layout)
{
    switch (packet->type) {
    case WP_MQTT_CONNECT:
        return connect_size(packet, layout);
    case WP_MQTT_CONNACK:
        return 2 + block_size(layout);
    case WP_MQTT_PUBLISH:
        return string_size(packet->publish.topic) + (packet->publish.qos > 0 ? 2 : 0) + block_size(layout) +
               packet->publish.payload.size;
    case WP_MQTT_PUBACK:
    case WP_MQTT_PUBREC:
    case WP_MQTT_PUBREL:
    case WP_MQTT_PUBCOMP:
        return 2 + tail_size(packet, packet->ack.code, layout);
    case WP_MQTT_SUBSCRIBE:
        return subscribe_size(packet) + block_size(layout);
    case WP_MQTT_UNSUBSCRIBE:
        return unsubscribe_size(packet) + block_size(layout);
    case WP_MQTT_SUBACK:
    case WP_MQTT_UNSUBACK:
        return 2 + block_size(layout) + packet->suback.count;
    case WP_MQTT_DISCONNECT:
    case WP_MQTT_AUTH:
        return tail_size(packet, packet->disconnect.code, layout);
    case WP_MQTT_PINGREQ:
    case WP_MQTT_PINGRESP:
        break;
    }
    return 0;
}

/* Checks and measures. WP_OK, WP_E_INVALID or WP_E_TOO_LARGE. */
static int packet_measure(
    const struct wp_mqtt_packet *packet, enum wp_mqtt_version version, struct layout *ret_layout)
{
    if (packet->type == WP_MQTT_CONNECT) {
        version = packet->connect.version;
    }
    if ((version != WP_MQTT_311 && version != WP_MQTT_5) || wp_mqtt_packet_check(packet, version) != 0) {
        return WP_E_INVALID;
    }
    *ret_layout = (struct layout){.has_properties = version == WP_MQTT_5};
    if (version == WP_MQTT_5) {
        ret_layout->properties = wp_mqtt_properties_size(&packet->properties);
    }
    ret_layout->remaining = body_size(packet, ret_layout);
    return ret_layout->remaining <= WP_MQTT_REMAINING_MAX ? WP_OK : WP_E_TOO_LARGE;
}

static uint8_t *block_write(const struct wp_mqtt_packet *packet, const struct layout *layout, uint8_t *p)
{
    return layout->has_properties ? wp_mqtt_properties_write(&packet->properties, layout->properties, p) : p;
}

static uint8_t connect_flags(const struct wp_mqtt_packet *packet)
{
    return (uint8_t)(packet->connect.clean_start << 1 | packet->connect.has_will << 2 |
                     packet->connect.will_qos << 3 | packet->connect.will_retain << 5 |
                     packet->connect.has_password << 6 | packet->connect.has_username << 7);
}

static uint8_t *connect_write(const struct wp_mqtt_packet *packet, const struct layout *layout, uint8_t *p)
{
    p = wp_mqtt_put_string(p, wp_slice("MQTT", 4));
    *p++ = (uint8_t)packet->connect.version;
    *p++ = connect_flags(packet);
    p = wp_mqtt_put_u16(p, packet->connect.keep_alive);
    p = block_write(packet, layout, p);
    p = wp_mqtt_put_string(p, packet->connect.client_id);
    if (packet->connect.has_will) {
        if (layout->has_properties) {
            p = wp_mqtt_properties_write(&packet->connect.will_properties, layout->will_properties, p);
        }
        p = wp_mqtt_put_string(p, packet->connect.will_topic);
        p = wp_mqtt_put_string(p, packet->connect.will_payload);
    }
    if (packet->connect.has_username) {
        p = wp_mqtt_put_string(p, packet->connect.username);
    }
    if (packet->connect.has_password) {
        p = wp_mqtt_put_string(p, packet->connect.password);
    }
    return p;
}

static uint8_t *publish_write(const struct wp_mqtt_packet *packet, const struct layout *layout, uint8_t *p)
{
    p = wp_mqtt_put_string(p, packet->publish.topic);
    if (packet->publish.qos > 0) {
        p = wp_mqtt_put_u16(p, packet->publish.id);
    }
    p = block_write(packet, layout, p);
    return wp_mqtt_put_bytes(p, packet->publish.payload);
}

static uint8_t *tail_write(
    const struct wp_mqtt_packet *packet, uint8_t code, const struct layout *layout, uint8_t *p)
{
    if (layout->has_code) {
        *p++ = code;
    }
    return block_write(packet, layout, p);
}

static uint8_t *subscribe_write(const struct wp_mqtt_packet *packet, const struct layout *layout, uint8_t *p)
{
    p = wp_mqtt_put_u16(p, packet->subscribe.id);
    p = block_write(packet, layout, p);
    for (uint32_t i = 0; i < packet->subscribe.count; i++) {
        const struct wp_mqtt_subscription *item = &packet->subscribe.items[i];
        p = wp_mqtt_put_string(p, item->filter);
        *p++ = (uint8_t)(item->qos | item->no_local << 2 | item->retain_as_published << 3 |
                         item->retain_handling << 4);
    }
    return p;
}

static uint8_t *unsubscribe_write(
    const struct wp_mqtt_packet *packet, const struct layout *layout, uint8_t *p)
{
    p = wp_mqtt_put_u16(p, packet->unsubscribe.id);
    p = block_write(packet, layout, p);
    for (uint32_t i = 0; i < packet->unsubscribe.count; i++) {
        p = wp_mqtt_put_string(p, packet->unsubscribe.filters[i]);
    }
    return p;
}

static uint8_t *body_write(const struct wp_mqtt_packet *packet, const struct layout *layout, uint8_t *p)
{
    switch (packet->type) {
    case WP_MQTT_CONNECT:
        return connect_write(packet, layout, p);
    case WP_MQTT_CONNACK:
        *p++ = packet->connack.session_present;
        *p++ = packet->connack.code;
        return block_write(packet, layout, p);
    case WP_MQTT_PUBLISH:
        return publish_write(packet, layout, p);
    case WP_MQTT_PUBACK:
    case WP_MQTT_PUBREC:
    case WP_MQTT_PUBREL:
    case WP_MQTT_PUBCOMP:
        p = wp_mqtt_put_u16(p, packet->ack.id);
        return tail_write(packet, packet->ack.code, layout, p);
    case WP_MQTT_SUBSCRIBE:
        return subscribe_write(packet, layout, p);
    case WP_MQTT_UNSUBSCRIBE:
        return unsubscribe_write(packet, layout, p);
    case WP_MQTT_SUBACK:
    case WP_MQTT_UNSUBACK:
        p = wp_mqtt_put_u16(p, packet->suback.id);
        p = block_write(packet, layout, p);
        return wp_mqtt_put_bytes(p, wp_slice(packet->suback.codes, packet->suback.count));
    case WP_MQTT_DISCONNECT:
    case WP_MQTT_AUTH:
        return tail_write(packet, packet->disconnect.code, layout, p);
    case WP_MQTT_PINGREQ:
    case WP_MQTT_PINGRESP:
        break;
    }
    return p;
}

static uint8_t head_byte(const struct wp_mqtt_packet *packet)
{
    unsigned flags = 0;
    if (packet->type == WP_MQTT_PUBLISH) {
        flags = (unsigned)(packet->publish.dup << 3 | packet->publish.qos << 1 | packet->publish.retain);
    } else if (packet->type == WP_MQTT_PUBREL || packet->type == WP_MQTT_SUBSCRIBE ||
               packet->type == WP_MQTT_UNSUBSCRIBE) {
        flags = 2;
    }
    return (uint8_t)(packet->type << 4 | flags);
}

int wp_mqtt_encode(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version, struct wp_buffer *out)
{
    struct layout layout;
    int error = packet_measure(packet, version, &layout);
    if (error) {
        return error;
    }
    size_t size = 1 + wp_mqtt_varint_size(layout.remaining) + layout.remaining;
    uint8_t *start = wp_buffer_reserve(out, size);
    if (!start) {
        return WP_E_NOMEM;
    }
    uint8_t *p = start;
    *p++ = head_byte(packet);
    p = wp_mqtt_put_varint(p, (uint32_t)layout.remaining);
    p = body_write(packet, &layout, p);
    WP_ASSERT(p == start + size);
    out->size += size;
    return WP_OK;
}

size_t wp_mqtt_encoded_size(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version)
{
    struct layout layout;
    if (packet_measure(packet, version, &layout) != WP_OK) {
        return 0;
    }
    return 1 + wp_mqtt_varint_size(layout.remaining) + layout.remaining;
}

int wp_mqtt_encode_puback(uint16_t id, struct wp_buffer *out)
{
    if (id == 0) {
        return WP_E_INVALID;
    }
    uint8_t *p = wp_buffer_reserve(out, 4);
    if (!p) {
        return WP_E_NOMEM;
    }
    *p++ = WP_MQTT_PUBACK << 4;
    *p++ = 2;
    wp_put_u16be(p, id);
    out->size += 4;
    return WP_OK;
}
