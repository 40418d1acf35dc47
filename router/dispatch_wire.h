/* The two hot messages of the router read and written without a decoder in between: a Submit frame becomes a
 * CommandSubmit record, and an envelope becomes the copy that one device gets. Pure; nothing is allocated but
 * in a wp_buffer. The bytes are those protobuf-c would read and write (tests compare). */
#ifndef WP_ROUTER_DISPATCH_WIRE_H
#define WP_ROUTER_DISPATCH_WIRE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"

/* A Submit frame, borrowed from its payload. Absent fields are 0 or empty, as in proto3. */
struct wp_submit_view {
    uint64_t ticket;
    uint32_t shard;
    struct wp_slice user;
    struct wp_slice device;
    uint64_t epoch;
    uint64_t sequence;
    struct wp_slice envelope;
};

/* WP_OK or WP_E_MALFORMED: no Submit, an unknown or wrongly typed field, or a field that comes twice. */
int wp_submit_view(struct wp_slice payload, struct wp_submit_view *ret_view);

/* What a submit must be before it is proposed: valid names, an envelope whose every part decodes and keeps
 * its limits (wp_envelope_check) and whose sender is the stream. `arena` is scratch. WP_OK, WP_E_MALFORMED,
 * WP_E_VERSION or WP_E_DENIED (the envelope names another sender). The body is not copied; *ret_body_size is
 * its bytes. */
int wp_submit_check(const struct wp_submit_view *view, struct wp_arena *arena, size_t *ret_body_size);

/* Bytes that wp_submit_append will add. */
size_t wp_submit_command_size(const struct wp_submit_view *view);
/* Appends the CommandSubmit record. WP_OK or WP_E_NOMEM. */
int wp_submit_append(const struct wp_submit_view *view, struct wp_buffer *entry);

/* The envelope as `device` gets it: with its own key part only. Without key parts that is the envelope
 * itself, borrowed; else it is built in `scratch`, which is emptied first. WP_OK, WP_E_NOMEM, WP_E_MALFORMED.
 */
int wp_envelope_for_device(
    struct wp_slice envelope, const char *device, struct wp_buffer *scratch, struct wp_slice *ret_envelope);

#endif
