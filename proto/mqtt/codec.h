/* The inside of the codec, shared by its files and by nobody else.
 *
 * A verdict says what is wrong with a packet: 0 = nothing, else the MQTT 5 reason code to close with, or
 * WP_MQTT_VERDICT_NOMEM. It is turned into an error code once, in decode.c. Parsing finds structure (lengths,
 * reserved bits); check.c holds every rule about values, so that decoder and encoder cannot disagree on them.
 */
#ifndef WP_PROTO_MQTT_CODEC_H
#define WP_PROTO_MQTT_CODEC_H

#include "proto/mqtt/mqtt.h"

#define WP_MQTT_REMAINING_MAX 268435455u /* MQTT 5 section 1.5.5 */
#define WP_MQTT_STRING_SIZE_MAX 65535u
#define WP_MQTT_VERDICT_NOMEM 0x100u

/* Where properties stand: the bit of the packet type, or bit 0 for the properties of a Will. */
#define WP_MQTT_SCOPE(type) (1u << (type))
#define WP_MQTT_SCOPE_WILL 1u

struct wp_mqtt_reader {
    const uint8_t *at;
    const uint8_t *end;
};

static inline size_t wp_mqtt_reader_left(const struct wp_mqtt_reader *in)
{
    return (size_t)(in->end - in->at);
}

static inline bool wp_mqtt_take_u8(struct wp_mqtt_reader *in, uint8_t *ret_value)
{
    if (in->at == in->end) {
        return false;
    }
    *ret_value = *in->at++;
    return true;
}

static inline bool wp_mqtt_take_u16(struct wp_mqtt_reader *in, uint16_t *ret_value)
{
    if (wp_mqtt_reader_left(in) < 2) {
        return false;
    }
    *ret_value = wp_get_u16be(in->at);
    in->at += 2;
    return true;
}

static inline bool wp_mqtt_take_u32(struct wp_mqtt_reader *in, uint32_t *ret_value)
{
    if (wp_mqtt_reader_left(in) < 4) {
        return false;
    }
    *ret_value = wp_get_u32be(in->at);
    in->at += 4;
    return true;
}

/* A UTF-8 string or binary data: two bytes of length, then the bytes. What they hold is for check.c. */
static inline bool wp_mqtt_take_string(struct wp_mqtt_reader *in, struct wp_slice *ret_text)
{
    uint16_t size;
    if (!wp_mqtt_take_u16(in, &size) || wp_mqtt_reader_left(in) < size) {
        return false;
    }
    *ret_text = wp_slice(in->at, size);
    in->at += size;
    return true;
}

/* Reads a variable byte integer (MQTT 5 section 1.5.5) at `data`: the bytes it takes (1..4), 0 when more are
 * needed, WP_E_MALFORMED when it runs over four bytes. A longer form than needed is read as well; compare the
 * result with wp_mqtt_varint_size where the shortest one is demanded. */
int wp_mqtt_varint_read(const uint8_t *data, size_t size, uint32_t *ret_value);

/* Takes a variable byte integer in its shortest form, else false. */
bool wp_mqtt_take_varint(struct wp_mqtt_reader *in, uint32_t *ret_value);

/* Whether `first` is the first byte of a packet: type and flags (MQTT 5 sections 2.1.2, 2.1.3, 3.3.1). */
bool wp_mqtt_head_valid(uint8_t first);

/* Bytes that `value` takes as a variable byte integer. */
static inline unsigned wp_mqtt_varint_size(size_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

/* Writers return the place after what they wrote. */
static inline uint8_t *wp_mqtt_put_u16(uint8_t *p, uint16_t value)
{
    wp_put_u16be(p, value);
    return p + 2;
}

static inline uint8_t *wp_mqtt_put_varint(uint8_t *p, uint32_t value)
{
    while (value >= 128) {
        *p++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    return p;
}

static inline uint8_t *wp_mqtt_put_bytes(uint8_t *p, struct wp_slice bytes)
{
    if (bytes.size > 0) {
        memcpy(p, bytes.data, bytes.size);
    }
    return p + bytes.size;
}

static inline uint8_t *wp_mqtt_put_string(uint8_t *p, struct wp_slice text)
{
    return wp_mqtt_put_bytes(wp_mqtt_put_u16(p, (uint16_t)text.size), text);
}

/* Parses a property length and the properties after it, as they may stand in `scope`. `ret_properties` must
 * be zeroed. Arrays come from `arena`. Returns a verdict. */
unsigned wp_mqtt_properties_parse(struct wp_mqtt_reader *in, unsigned scope, struct wp_arena *arena,
    struct wp_mqtt_properties *ret_properties);

/* Verdict on the values of all properties that are present and on whether they may stand in `scope`. */
unsigned wp_mqtt_properties_check(const struct wp_mqtt_properties *properties, unsigned scope);

/* Bytes of the encoded properties, without their length field. */
size_t wp_mqtt_properties_size(const struct wp_mqtt_properties *properties);

/* Writes the length field (`size` as told by wp_mqtt_properties_size) and the properties, ascending. */
uint8_t *wp_mqtt_properties_write(const struct wp_mqtt_properties *properties, size_t size, uint8_t *p);

/* Verdict on all values of a packet in `version`. */
unsigned wp_mqtt_packet_check(const struct wp_mqtt_packet *packet, enum wp_mqtt_version version);

#endif
