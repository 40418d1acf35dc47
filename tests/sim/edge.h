/* The wire between a device and a gateway: bytes in order, late, and a connection that may break. Stands in
 * the place of gateway/edge/ and of a device's socket. */
#ifndef WP_SIM_EDGE_H
#define WP_SIM_EDGE_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "tests/sim/cluster.h"

struct sim_wire;

struct sim_wire_owner {
    void *context;
    void (*data)(void *context, struct wp_slice bytes);
    void (*lost)(void *context); /* exactly once, unless the owner cut it; the wire is gone after it */
};

/* Begins to connect. */
struct sim_wire *sim_wire_connect(struct sim_gateway *gateway, const struct sim_wire_owner *owner);
/* Takes the bytes of `buffer`. */
void sim_wire_write(struct sim_wire *wire, struct wp_buffer *buffer);
/* The device is gone from it, without a word. */
void sim_wire_cut(struct sim_wire **wire);
void sim_wires_free(void);

#endif
