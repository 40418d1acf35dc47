/* Protobuf wire format by hand, for the few messages of the hot path: submits read in place without copying
 * the body, small records written without a packing call. What is written here, proto/record.proto decodes.
 *
 * Pure. The reader never reads past its slice. Source: protobuf encoding guide, "message structure". */
#ifndef WP_ROUTER_WIRE_H
#define WP_ROUTER_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

enum wp_wire_type { WP_WIRE_VARINT = 0, WP_WIRE_FIXED64 = 1, WP_WIRE_BYTES = 2, WP_WIRE_FIXED32 = 5 };

struct wp_wire_field {
    uint32_t number;
    enum wp_wire_type type;
    uint64_t value;        /* of a VARINT */
    struct wp_slice bytes; /* of BYTES; borrowed */
};

/* Next field of `rest`: 1 with *ret_field, 0 at the end, WP_E_MALFORMED (also for the group types, which
 * proto3 does not have). */
int wp_wire_next(struct wp_slice *rest, struct wp_wire_field *ret_field);

/* Writers at `p`, which has room; they return the end. A value of 0 writes nothing, as proto3 packs it. */
#define WP_WIRE_VARINT_SIZE_MAX 10u
#define WP_WIRE_FIELD_SIZE_MAX 11u /* tag of a field below 16, and a varint */
uint8_t *wp_wire_put_varint(uint8_t *p, uint64_t value);
uint8_t *wp_wire_put_u64(uint8_t *p, uint32_t field, uint64_t value);
/* A sint32 field. */
uint8_t *wp_wire_put_i32(uint8_t *p, uint32_t field, int32_t value);
/* Tag and size of a BYTES field; the caller puts `size` bytes after it. */
uint8_t *wp_wire_put_bytes_head(uint8_t *p, uint32_t field, uint64_t size);

#endif
