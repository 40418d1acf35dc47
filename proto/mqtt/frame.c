/* Where a packet ends on a byte stream: fixed header and variable byte integers (MQTT 5 sections 1.5.5, 2.1).
 */
#include "base/error.h"
#include "proto/mqtt/codec.h"

/* Flags of the fixed header by type (table 2-2); PUBLISH has its own rules. */
static const uint8_t head_flags[16] = {
    [WP_MQTT_PUBREL] = 2, [WP_MQTT_SUBSCRIBE] = 2, [WP_MQTT_UNSUBSCRIBE] = 2};

bool wp_mqtt_head_valid(uint8_t first)
{
    unsigned type = first >> 4;
    unsigned flags = first & 0x0f;
    if (type == WP_MQTT_PUBLISH) {
        unsigned qos = (flags >> 1) & 3;
        return qos < 3 && !(qos == 0 && (flags & 8)); /* MQTT-3.3.1-4, MQTT-3.3.1-2 */
    }
    return type != 0 && flags == head_flags[type];
}

int wp_mqtt_varint_read(const uint8_t *data, size_t size, uint32_t *ret_value)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (i == size) {
            return 0;
        }
        value |= (uint32_t)(data[i] & 0x7f) << (7 * i);
        if (!(data[i] & 0x80)) {
            *ret_value = value;
            return (int)i + 1;
        }
    }
    return WP_E_MALFORMED;
}

bool wp_mqtt_take_varint(struct wp_mqtt_reader *in, uint32_t *ret_value)
{
    int used = wp_mqtt_varint_read(in->at, wp_mqtt_reader_left(in), ret_value);
    if (used <= 0 || (unsigned)used != wp_mqtt_varint_size(*ret_value)) {
        return false;
    }
    in->at += used;
    return true;
}

int wp_mqtt_frame(struct wp_slice input, uint32_t size_max, uint32_t *ret_size)
{
    *ret_size = 0;
    if (input.size == 0) {
        return 0;
    }
    if (!wp_mqtt_head_valid(input.data[0])) {
        return WP_E_MALFORMED;
    }
    uint32_t remaining;
    int used = wp_mqtt_varint_read(input.data + 1, input.size - 1, &remaining);
    if (used <= 0) {
        return used;
    }
    *ret_size = 1 + (uint32_t)used + remaining;
    if (*ret_size > size_max) {
        return WP_E_TOO_LARGE;
    }
    return input.size >= *ret_size;
}
