/* Decoding protobuf bodies into an arena, with limits checked before the decoder runs.
 *
 *     Wp__Submit *submit;
 *     int error = wp_schema_decode(&wp__submit__descriptor, payload, &arena, (ProtobufCMessage **)&submit);
 *
 * The message lives until the arena is reset and is never freed on its own. */
#ifndef WP_PROTO_SCHEMA_H
#define WP_PROTO_SCHEMA_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"

#include "proto/command.pb-c.h"
#include "proto/envelope.pb-c.h"
#include "proto/fabric.pb-c.h"
#include "proto/meta.pb-c.h"
#include "proto/record.pb-c.h"

/* WP_OK, WP_E_TOO_LARGE (over WP_FRAME_SIZE_MAX), WP_E_MALFORMED (also field number 0, or an arena limit that the
 * message would pass). Unknown fields are kept and packed again. What decodes also decodes after it was packed; a
 * string that holds NUL ends there. */
int wp_schema_decode(const ProtobufCMessageDescriptor *descriptor, struct wp_slice payload, struct wp_arena *arena,
    ProtobufCMessage **ret_message);

/* Packs `message` as one record of `type` at the end of `out` (proto/frame.h). WP_OK or WP_E_NOMEM. */
int wp_schema_append(struct wp_buffer *out, uint8_t type, const ProtobufCMessage *message);

/* Limits of Envelope v1: version 1, 16-byte id, valid names, known lane, <= 16 properties of <= 4 KiB together,
 * <= 64 key parts of <= 512 bytes. WP_OK, WP_E_VERSION or WP_E_MALFORMED. The body bound is the router's policy. */
int wp_envelope_check(const Wp__Envelope *envelope);

#endif
