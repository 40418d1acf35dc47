/* The fabric: links between gateways and routers over ZeroMQ (DEALER connects, ROUTER listens) with
 * CURVE.
 *
 * One wp_fabric per event loop, used on that loop's thread only. It owns the sockets, the batching,
 * the chunking of frames above 64 KiB, the credit, the hello and the heartbeat; what it hands up are
 * whole frames of live links.
 *
 *   - Outgoing frames queue per link in four lanes (control, stat, urgent, routine; the latter three
 *     served 8:4:1) and leave at the end of each loop turn, packed into ZeroMQ messages of up to 128
 *     KiB. It never waits to fill one.
 *   - Submit (towards a router) and Deliver (towards a gateway) consume credit: payload bytes +
 *     WP_RECORD_HEAD_SIZE. The receiver returns it with wp_link_credit_return. Without credit
 *     wp_link_send answers WP_E_FULL; `writable` tells when to try again. The last quarter of the
 *     window is kept from routine frames and the last eighth from urgent ones, so STAT never waits
 *     for routine frames to be returned; a frame larger than its part may go when nothing is open.
 *     Other frames are bounded by a byte cap per link (WP_E_FULL past it).
 *   - About half a mebibyte is on its way in sockets and pipes at most: what waits, waits in lanes.
 *   - A frame is attributed by the User-Id that the ZAP handler set from the authenticated key, never
 *     by a field in it. Frame types are checked per role; a frame of a wrong cluster, destination or
 *     type is counted, logged once per link and dropped.
 *   - Each connection starts with Hello. A new nonce from the peer means that all soft state is gone:
 *     `down` is called, then `up`, and both sides resend what is unanswered.
 *   - A peer silent for 5 s (heartbeats every 1 s) is down; connecting goes on by itself. */
#ifndef WP_NODE_FABRIC_H
#define WP_NODE_FABRIC_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "node/keys.h"
#include "node/zap.h"
#include "proto/frame.h"
#include "proto/schema.h"

struct wp_fabric;
struct wp_link;

enum wp_link_lane {
    WP_LINK_ROUTINE = WP__LANE__ROUTINE,
    WP_LINK_URGENT = WP__LANE__URGENT,
    WP_LINK_STAT = WP__LANE__STAT,
    WP_LINK_CONTROL
};

struct wp_fabric_config {
    uv_loop_t *loop;
    void *zmq_context;  /* wp_fabric_context_create; one per process */
    struct wp_zap *zap; /* the allow-list; NULL on a fabric that never listens */
    const char *node;   /* own name, kept by pointer */
    Wp__Role role;      /* own role */
    uint64_t cluster_id;
    uint64_t incarnation;  /* boot count or start time, grows with each start */
    uint64_t directory_id; /* of a router: told in its Hello */
    uint64_t start_id;     /* random, of this start of the process: told in its Hello */
    const struct wp_keypair *keys;
    uint64_t window_bytes; /* credit that this side grants each peer (8 MiB when 0) */
};

/* Callbacks may send and disconnect; they must not destroy the fabric. */
struct wp_fabric_callbacks {
    void *context;
    /* Hello exchanged; frames may flow. `node` and `role` are the authenticated ones. */
    void (*up)(void *context, struct wp_link *link);
    /* Soft state of the link is gone. Listening side: the link is destroyed after the call. */
    void (*down)(void *context, struct wp_link *link, int error);
    /* One whole frame; payload borrowed for the call. */
    void (*frame)(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload);
    /* Every frame of this wake-up was handed up: propose, then what was sent leaves. */
    void (*turn)(void *context);
    /* Credit came back after a WP_E_FULL. */
    void (*writable)(void *context, struct wp_link *link);
};

/* The ZeroMQ context of the process. Destroy it after every fabric and the ZAP handler; waits for bytes that
 * linger (at most 200 ms). WP_E_NOMEM. */
int wp_fabric_context_create(void **ret_zmq_context);
void wp_fabric_context_destroy(void **zmq_context);

int wp_fabric_create(const struct wp_fabric_config *config, const struct wp_fabric_callbacks *callbacks,
    struct wp_fabric **ret_fabric);
/* Closes links and sockets; the handles of the loop are closed when it next runs. */
void wp_fabric_destroy(struct wp_fabric **fabric);

/* Binds "tcp://HOST:PORT" as a CURVE server ("tcp://127.0.0.1:*" picks a port, told in ret_endpoint). A ZAP
 * handler must exist (node/zap.h). WP_E_BUSY: address in use. */
int wp_fabric_listen(
    struct wp_fabric *fabric, const char *endpoint, char *ret_endpoint, size_t endpoint_size);
/* Connects to a router endpoint whose public key is `server_key` (Z85). The link exists from now on, `up`
 * comes later. */
int wp_fabric_connect(
    struct wp_fabric *fabric, const char *endpoint, const char *server_key, struct wp_link **ret_link);
void wp_fabric_disconnect(struct wp_fabric *fabric, struct wp_link **link);

/* Packs `message` into the link's queue. WP_OK, WP_E_FULL (no credit / over the byte cap), WP_E_CLOSED (not
 * up), WP_E_NOMEM, WP_E_TOO_LARGE. */
int wp_link_send(
    struct wp_link *link, enum wp_link_lane lane, enum wp_frame_type type, const ProtobufCMessage *message);
/* The peer's Submit/Deliver bytes that were taken off our buffers; sent coalesced at the end of the turn. */
void wp_link_credit_return(struct wp_link *link, uint64_t bytes);
/* Bytes that routine credit-controlled frames may still use. */
uint64_t wp_link_credit(const struct wp_link *link);
bool wp_link_up(const struct wp_link *link);
const char *wp_link_node(const struct wp_link *link); /* authenticated name of the peer; "" before up */
Wp__Role wp_link_role(const struct wp_link *link);
uint64_t wp_link_incarnation(const struct wp_link *link);
uint64_t wp_link_directory_id(const struct wp_link *link); /* of a router's Hello, 0 = none told */
uint64_t wp_link_start_id(const struct wp_link *link);
uint32_t wp_link_level_max(const struct wp_link *link);   /* highest feature level of the peer's build */
const char *wp_link_endpoint(const struct wp_link *link); /* connected side: where to */
void wp_link_set_user(struct wp_link *link, void *user);
void *wp_link_user(const struct wp_link *link);

/* Sends what is queued now instead of at the end of the turn, waiting up to 200 ms for full pipes. For
 * clean stop: wp_fabric_destroy itself sends only what fits. */
void wp_fabric_flush(struct wp_fabric *fabric);

#endif
