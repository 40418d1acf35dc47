#include "proto/schema.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "proto/address.h"
#include "proto/frame.h"

static void *arena_alloc(void *data, size_t size)
{
    return wp_arena_alloc(data, size ? size : 1);
}

static void arena_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

static bool numbers_legal(const ProtobufCMessage *message);

static bool children_legal(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message;
    const void *member = base + field->offset;
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        const ProtobufCMessage *child = *(const ProtobufCMessage *const *)member;
        return !child || numbers_legal(child);
    }
    size_t count;
    memcpy(&count, base + field->quantifier_offset, sizeof count);
    const ProtobufCMessage *const *children = *(const ProtobufCMessage *const *const *)member;
    for (size_t i = 0; i < count; i++) {
        if (!numbers_legal(children[i])) {
            return false;
        }
    }
    return true;
}

/* protobuf-c takes field number 0 when it is written in more bytes than needed, keeps it as an unknown field,
 * and packs it into bytes that it refuses: a message accepted here would be lost where it is read next.
 * Nesting ends with the schema, which has no recursive message. */
static bool numbers_legal(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        if (message->unknown_fields[i].tag == 0) {
            return false;
        }
    }
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !children_legal(message, field)) {
            return false;
        }
    }
    return true;
}

int wp_schema_decode(const ProtobufCMessageDescriptor *descriptor, struct wp_slice payload,
    struct wp_arena *arena, ProtobufCMessage **ret_message)
{
    if (payload.size > WP_FRAME_SIZE_MAX) {
        return WP_E_TOO_LARGE;
    }
    ProtobufCAllocator allocator = {.alloc = arena_alloc, .free = arena_free, .allocator_data = arena};
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, payload.size, payload.data);
    if (!message || !numbers_legal(message)) {
        return WP_E_MALFORMED;
    }
    *ret_message = message;
    return WP_OK;
}

int wp_schema_append(struct wp_buffer *out, uint8_t type, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *p = wp_record_append_space(out, type, size);
    if (!p) {
        return WP_E_NOMEM;
    }
    protobuf_c_message_pack(message, p);
    return WP_OK;
}

#define PROPERTY_COUNT_MAX 16u
#define PROPERTY_BYTES_MAX 4096u
#define KEY_PART_COUNT_MAX 64u
#define KEY_PART_SIZE_MAX 512u

int wp_envelope_check(const Wp__Envelope *envelope)
{
    const Wp__Header *header = envelope->header;
    if (!header) {
        return WP_E_MALFORMED;
    }
    if (header->version != 1) {
        return WP_E_VERSION;
    }
    if (header->message_id.len != 16 || header->lane > WP__LANE__STAT || !wp_address_valid(header->sender) ||
        !wp_address_valid(header->sender_device) || !wp_address_valid(header->recipient) ||
        header->n_properties > PROPERTY_COUNT_MAX || envelope->n_key_parts > KEY_PART_COUNT_MAX) {
        return WP_E_MALFORMED;
    }
    size_t bytes = strlen(header->content_type);
    for (size_t i = 0; i < header->n_properties; i++) {
        bytes += strlen(header->properties[i]->name) + strlen(header->properties[i]->value);
    }
    for (size_t i = 0; i < envelope->n_key_parts; i++) {
        if (envelope->key_parts[i]->part.len > KEY_PART_SIZE_MAX ||
            !wp_address_valid(envelope->key_parts[i]->device)) {
            return WP_E_MALFORMED;
        }
    }
    return bytes <= PROPERTY_BYTES_MAX ? WP_OK : WP_E_MALFORMED;
}
