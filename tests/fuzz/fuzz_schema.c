#include "tests/fuzz/fuzz_schema.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/frame.h"

#define ARENA_LIMIT (8u << 20)
#define ARENA_LIMIT_TINY 600u

static void message_pack(const ProtobufCMessage *message, struct wp_buffer *out)
{
    struct wp_record_reader reader;
    struct wp_slice payload;
    uint8_t type;
    WP_ASSERT(wp_schema_append(out, 7, message) == WP_OK);
    reader.rest = wp_slice(out->data, out->size);
    WP_ASSERT(wp_record_next(&reader, &type, &payload) == 1 && type == 7);
    WP_ASSERT(wp_record_next(&reader, &type, &payload) == 0);
}

static int envelope_check(const ProtobufCMessage *message)
{
    if (message->descriptor != &wp__envelope__descriptor) {
        return WP_OK;
    }
    return wp_envelope_check((const Wp__Envelope *)(const void *)message);
}

/* An arena of its own: a second copy may need as much again as the first. */
static void packing_assert(const ProtobufCMessage *message)
{
    struct wp_buffer first = WP_BUFFER_INIT;
    struct wp_buffer second = WP_BUFFER_INIT;
    struct wp_arena arena;
    ProtobufCMessage *again;
    wp_arena_init(&arena, 2 * ARENA_LIMIT);
    message_pack(message, &first);
    struct wp_slice body = wp_slice(first.data + WP_RECORD_HEAD_SIZE, first.size - WP_RECORD_HEAD_SIZE);
    WP_ASSERT(wp_schema_decode(message->descriptor, body, &arena, &again) == WP_OK);
    WP_ASSERT(envelope_check(message) == envelope_check(again));
    message_pack(again, &second);
    WP_ASSERT(wp_slice_equal(wp_slice(first.data, first.size), wp_slice(second.data, second.size)));
    wp_buffer_free(&first);
    wp_buffer_free(&second);
    wp_arena_fini(&arena);
}

int fuzz_schema_run(
    const ProtobufCMessageDescriptor *const *descriptors, size_t count, const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *descriptor = descriptors[(data[0] & 0x7f) % count];
    struct wp_arena arena;
    ProtobufCMessage *message = NULL;
    wp_arena_init(&arena, data[0] & 0x80 ? ARENA_LIMIT_TINY : ARENA_LIMIT);
    int error = wp_schema_decode(descriptor, wp_slice(data + 1, size - 1), &arena, &message);
    WP_ASSERT(arena.used <= arena.limit);
    if (error == WP_OK) {
        WP_ASSERT(message && message->descriptor == descriptor);
        packing_assert(message);
    } else {
        WP_ASSERT(!message);
    }
    wp_arena_fini(&arena);
    return 0;
}
