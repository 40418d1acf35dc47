#include "router/wire.h"

#include "base/error.h"

static bool varint_next(struct wp_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < rest->size && i < WP_WIRE_VARINT_SIZE_MAX; i++) {
        uint8_t byte = rest->data[i];
        if (i == 9 && byte > 1) {
            return false;
        }
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *rest = wp_slice(rest->data + i + 1, rest->size - i - 1);
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool skip(struct wp_slice *rest, uint64_t size)
{
    if (size > rest->size) {
        return false;
    }
    *rest = wp_slice(rest->data + size, rest->size - size);
    return true;
}

int wp_wire_next(struct wp_slice *rest, struct wp_wire_field *ret_field)
{
    if (rest->size == 0) {
        return 0;
    }
    uint64_t tag;
    if (!varint_next(rest, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX) {
        return WP_E_MALFORMED;
    }
    struct wp_wire_field field = {.number = (uint32_t)(tag >> 3), .type = (enum wp_wire_type)(tag & 7)};
    bool good = false;
    switch (tag & 7) {
    case WP_WIRE_VARINT:
        good = varint_next(rest, &field.value);
        break;
    case WP_WIRE_FIXED64:
        good = skip(rest, 8);
        break;
    case WP_WIRE_FIXED32:
        good = skip(rest, 4);
        break;
    case WP_WIRE_BYTES:
        good = varint_next(rest, &field.value);
        field.bytes = wp_slice(rest->data, field.value);
        good = good && skip(rest, field.value);
        break;
    default:
        break;
    }
    if (!good) {
        return WP_E_MALFORMED;
    }
    *ret_field = field;
    return 1;
}

uint8_t *wp_wire_put_varint(uint8_t *p, uint64_t value)
{
    while (value >= 0x80) {
        *p++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    return p;
}

uint8_t *wp_wire_put_u64(uint8_t *p, uint32_t field, uint64_t value)
{
    if (value == 0) {
        return p;
    }
    p = wp_wire_put_varint(p, (uint64_t)field << 3 | WP_WIRE_VARINT);
    return wp_wire_put_varint(p, value);
}

uint8_t *wp_wire_put_i32(uint8_t *p, uint32_t field, int32_t value)
{
    return wp_wire_put_u64(p, field, ((uint32_t)value << 1) ^ (value < 0 ? UINT32_MAX : 0));
}

uint8_t *wp_wire_put_bytes_head(uint8_t *p, uint32_t field, uint64_t size)
{
    p = wp_wire_put_varint(p, (uint64_t)field << 3 | WP_WIRE_BYTES);
    return wp_wire_put_varint(p, size);
}
