/* Why by hand: a submit is decoded and packed once per message on the router's one hot thread. protobuf-c
 * would copy its envelope twice and allocate seven times; a scan of seven fields does neither.
 *
 * Invariants
 *   1. Whatever wp_submit_check lets through, apply can decode: every part of the envelope was decoded here.
 *   2. Fields that this version does not know are refused, not carried: what is stored is what was checked.
 */
#include "router/dispatch_wire.h"

#include <stdbool.h>

#include "base/error.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "proto/schema.h"

enum wire_type { WIRE_VARINT = 0, WIRE_BYTES = 2 };

struct field {
    uint32_t number;
    uint32_t type;
    uint64_t value;        /* WIRE_VARINT */
    struct wp_slice bytes; /* WIRE_BYTES */
    struct wp_slice whole; /* tag and value as they stand */
};

static int varint_read(struct wp_slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < rest->size && i < 10; i++) {
        uint64_t byte = rest->data[i];
        value |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *rest = wp_slice(rest->data + i + 1, rest->size - i - 1);
            *ret_value = value;
            return WP_OK;
        }
    }
    return WP_E_MALFORMED;
}

/* 1 with a field, 0 at the end, WP_E_MALFORMED. */
static int field_next(struct wp_slice *rest, struct field *ret_field)
{
    if (rest->size == 0) {
        return 0;
    }
    const uint8_t *start = rest->data;
    uint64_t tag;
    uint64_t value;
    if (varint_read(rest, &tag) || tag > UINT32_MAX || varint_read(rest, &value)) {
        return WP_E_MALFORMED;
    }
    ret_field->number = (uint32_t)(tag >> 3);
    ret_field->type = (uint32_t)(tag & 7);
    ret_field->value = value;
    if (ret_field->type == WIRE_BYTES) {
        if (value > rest->size) {
            return WP_E_MALFORMED;
        }
        ret_field->bytes = wp_slice(rest->data, (size_t)value);
        *rest = wp_slice(rest->data + value, rest->size - (size_t)value);
    } else if (ret_field->type != WIRE_VARINT) {
        return WP_E_MALFORMED;
    }
    ret_field->whole = wp_slice(start, (size_t)(rest->data - start));
    return 1;
}

int wp_submit_view(struct wp_slice payload, struct wp_submit_view *ret_view)
{
    static const uint8_t types[8] = {
        9, WIRE_VARINT, WIRE_VARINT, WIRE_BYTES, WIRE_BYTES, WIRE_VARINT, WIRE_VARINT, WIRE_BYTES};
    struct field fields[8] = {0};
    uint32_t seen = 0;
    struct field field;
    int more;
    while ((more = field_next(&payload, &field)) == 1) {
        if (field.number < 1 || field.number > 7 || field.type != types[field.number] ||
            (seen & (1u << field.number))) {
            return WP_E_MALFORMED;
        }
        seen |= 1u << field.number;
        fields[field.number] = field;
    }
    if (more < 0 || fields[2].value > UINT32_MAX) {
        return WP_E_MALFORMED;
    }
    *ret_view = (struct wp_submit_view){
        .ticket = fields[1].value,
        .shard = (uint32_t)fields[2].value,
        .user = fields[3].bytes,
        .device = fields[4].bytes,
        .epoch = fields[5].value,
        .sequence = fields[6].value,
        .envelope = fields[7].bytes,
    };
    return WP_OK;
}

static int part_decode(const ProtobufCMessageDescriptor *descriptor, struct wp_slice bytes,
    struct wp_arena *arena, ProtobufCMessage **ret_message)
{
    int error = wp_schema_decode(descriptor, bytes, arena, ret_message);
    return error ? error : ((*ret_message)->n_unknown_fields == 0 ? WP_OK : WP_E_MALFORMED);
}

/* Decodes all of the envelope but its body, which is opaque. */
static int envelope_open(
    struct wp_slice rest, struct wp_arena *arena, Wp__Envelope *ret_envelope, size_t *ret_body_size)
{
    enum { PARTS_MAX = 64 };
    Wp__KeyPart **parts = wp_arena_alloc(arena, PARTS_MAX * sizeof(*parts));
    if (!parts) {
        return WP_E_NOMEM;
    }
    wp__envelope__init(ret_envelope);
    ret_envelope->key_parts = parts;
    bool body = false;
    struct field field;
    int more;
    int error = WP_OK;
    *ret_body_size = 0;
    while (!error && (more = field_next(&rest, &field)) == 1) {
        if (field.type != WIRE_BYTES || field.number < 1 || field.number > 3) {
            return WP_E_MALFORMED;
        }
        if (field.number == 1 && !ret_envelope->header) {
            error = part_decode(
                &wp__header__descriptor, field.bytes, arena, (ProtobufCMessage **)&ret_envelope->header);
        } else if (field.number == 2 && ret_envelope->n_key_parts < PARTS_MAX) {
            error = part_decode(&wp__key_part__descriptor, field.bytes, arena,
                (ProtobufCMessage **)&parts[ret_envelope->n_key_parts++]);
        } else if (field.number == 3 && !body) {
            body = true;
            *ret_body_size = field.bytes.size;
        } else {
            return WP_E_MALFORMED;
        }
    }
    return error ? error : more;
}

static bool slice_is(struct wp_slice slice, const char *text)
{
    return wp_slice_equal(slice, wp_slice(text, strlen(text)));
}

int wp_submit_check(const struct wp_submit_view *view, struct wp_arena *arena, size_t *ret_body_size)
{
    if (!wp_address_valid_n((const char *)view->user.data, view->user.size) ||
        !wp_address_valid_n((const char *)view->device.data, view->device.size)) {
        return WP_E_MALFORMED;
    }
    Wp__Envelope envelope;
    int error = envelope_open(view->envelope, arena, &envelope, ret_body_size);
    if (error) {
        return error;
    }
    error = wp_envelope_check(&envelope);
    if (error) {
        return error;
    }
    bool own = slice_is(view->user, envelope.header->sender) &&
               slice_is(view->device, envelope.header->sender_device);
    return own ? WP_OK : WP_E_DENIED;
}

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static uint8_t *varint_write(uint8_t *p, uint64_t value)
{
    while (value >= 0x80) {
        *p++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    return p;
}

/* proto3 leaves out fields that have their default value; so do these. */
static size_t number_size(uint64_t value)
{
    return value ? 1 + varint_size(value) : 0;
}

static size_t bytes_size(struct wp_slice bytes)
{
    return bytes.size ? 1 + varint_size(bytes.size) + bytes.size : 0;
}

static uint8_t *number_write(uint8_t *p, uint32_t number, uint64_t value)
{
    if (value) {
        *p++ = (uint8_t)(number << 3 | WIRE_VARINT);
        p = varint_write(p, value);
    }
    return p;
}

static uint8_t *bytes_write(uint8_t *p, uint32_t number, struct wp_slice bytes)
{
    if (bytes.size) {
        *p++ = (uint8_t)(number << 3 | WIRE_BYTES);
        p = varint_write(p, bytes.size);
        memcpy(p, bytes.data, bytes.size);
        p += bytes.size;
    }
    return p;
}

static size_t payload_size(const struct wp_submit_view *view)
{
    return bytes_size(view->user) + bytes_size(view->device) + number_size(view->epoch) +
           number_size(view->sequence) + bytes_size(view->envelope);
}

size_t wp_submit_command_size(const struct wp_submit_view *view)
{
    return WP_RECORD_HEAD_SIZE + payload_size(view);
}

int wp_submit_append(const struct wp_submit_view *view, struct wp_buffer *entry)
{
    uint8_t *p = wp_record_append_space(entry, WP_COMMAND_SUBMIT, payload_size(view));
    if (!p) {
        return WP_E_NOMEM;
    }
    p = bytes_write(p, 1, view->user);
    p = bytes_write(p, 2, view->device);
    p = number_write(p, 3, view->epoch);
    p = number_write(p, 4, view->sequence);
    bytes_write(p, 5, view->envelope);
    return WP_OK;
}

/* Whether a packed KeyPart is for `device`. */
static bool part_is_for(struct wp_slice part, const char *device)
{
    struct field field;
    while (field_next(&part, &field) == 1) {
        if (field.number == 1 && field.type == WIRE_BYTES) {
            return slice_is(field.bytes, device);
        }
    }
    return false;
}

int wp_envelope_for_device(
    struct wp_slice envelope, const char *device, struct wp_buffer *scratch, struct wp_slice *ret_envelope)
{
    struct field field;
    struct wp_slice rest = envelope;
    bool parts = false;
    int more;
    while ((more = field_next(&rest, &field)) == 1) {
        parts = parts || field.number == 2;
    }
    if (more < 0) {
        return more;
    }
    if (!parts) {
        *ret_envelope = envelope;
        return WP_OK;
    }
    scratch->size = 0;
    for (rest = envelope; field_next(&rest, &field) == 1;) {
        if (field.number == 2 && !part_is_for(field.bytes, device)) {
            continue;
        }
        if (wp_buffer_append(scratch, field.whole.data, field.whole.size)) {
            return WP_E_NOMEM;
        }
    }
    *ret_envelope = wp_slice(scratch->data, scratch->size);
    return WP_OK;
}
