/* Shared by the tests of the fabric: ends of links on one loop with real sockets on loopback, recording what
 * is handed up. Nothing sleeps: FIXTURE_UNTIL runs the loop until a condition holds and fails after ten
 * seconds. */
#ifndef WP_TESTS_NODE_FIXTURE_H
#define WP_TESTS_NODE_FIXTURE_H

#include <stdbool.h>
#include <uv.h>

#include "node/fabric.h"
#include "node/keys.h"
#include "node/zap.h"

#define FIXTURE_FRAMES_MAX 20000
#define FIXTURE_CLUSTER 0x1122334455667788u

struct fixture_frame {
    enum wp_frame_type type;
    Wp__Lane lane;   /* of a Deliver */
    uint64_t number; /* ticket of a Submit, sequence of a Deliver */
    size_t size;     /* of the payload */
};

struct fixture;

/* One process's end: a fabric and what it was told. */
struct fixture_end {
    struct fixture *fixture;
    struct wp_fabric *fabric;
    struct wp_keypair keys;
    char node[32];
    struct wp_link
        *link; /* connecting side: the link; listening side: the last one that came up, NULL when down */
    unsigned up_count, down_count, turn_count, writable_count, frame_count;
    int down_error;
    bool return_credit; /* give back every credit-controlled frame at once */
    struct fixture_frame frames[FIXTURE_FRAMES_MAX];
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t guard;
    uint64_t deadline_ms;
    void *zmq;
    struct wp_zap *zap;
    struct fixture_end *router;
    char endpoint[64];
};

/* A loop, a context with its ZAP handler, and a router "router-1" that listens on a port of the kernel's
 * choice. */
struct fixture *fixture_create(void);
void fixture_destroy(struct fixture **fixture);

struct fixture_options {
    const char *node;
    Wp__Role role;
    uint64_t cluster_id;           /* 0: FIXTURE_CLUSTER */
    uint64_t incarnation;          /* 0: 1 */
    uint64_t window_bytes;         /* 0: the default */
    bool denied;                   /* not put on the allow-list */
    const struct wp_keypair *keys; /* NULL: a new pair */
};
struct fixture_end *fixture_end_create(struct fixture *fixture, const struct fixture_options *options);
void fixture_end_connect(struct fixture_end *end);
void fixture_end_destroy(struct fixture_end **end);
/* The usual: gateway-1, connected and up on both sides. */
struct fixture_end *fixture_gateway(struct fixture *fixture);

/* Ends the router's fabric as a crash does, and starts it again with its key on its old endpoint. */
void fixture_router_stop(struct fixture *fixture);
void fixture_router_start(struct fixture *fixture, uint64_t incarnation, uint64_t window_bytes);

/* Sends a Submit (from a gateway) or a Deliver (from a router) with an envelope of `size` bytes. */
int fixture_submit(struct fixture_end *gateway, enum wp_link_lane lane, uint64_t ticket, size_t size);
int fixture_deliver(struct fixture_end *router, enum wp_link_lane lane, uint64_t sequence, size_t size);

/* A peer without a fabric, that says what it likes: a DEALER with an allowed key of "gateway-9" (role
 * gateway). */
struct raw_peer {
    struct fixture *fixture;
    struct wp_keypair keys;
    void *socket;
    struct wp_buffer batch; /* being made */
    uint64_t nonce;
    unsigned received_count; /* hellos that came */
    bool credit_came, frame_came;
};
struct raw_peer *raw_peer_create(struct fixture *fixture);
void raw_peer_destroy(struct raw_peer **peer);
/* Begins a batch; appends records; sends it. Incarnations as a good peer of incarnation 5 would have them
 * unless set. */
void raw_begin(struct raw_peer *peer);
void raw_begin_as(struct raw_peer *peer, uint64_t cluster_id, uint64_t source, uint64_t destination);
void raw_hello(struct raw_peer *peer, const char *node, Wp__Role role);
void raw_record(struct raw_peer *peer, unsigned type, const ProtobufCMessage *message);
void raw_chunk(
    struct raw_peer *peer, uint64_t id, unsigned type, uint64_t total, uint64_t offset, size_t size);
void raw_send(struct raw_peer *peer);
/* Says hello as a good peer and waits until the router's link is up. */
void raw_greet(struct raw_peer *peer);
/* Reads what came; use in the condition of FIXTURE_UNTIL. Returns received_count. */
unsigned raw_poll(struct raw_peer *peer);

/* Starts the ten seconds; one iteration of the loop, failing the test when they are over. */
void fixture_begin(struct fixture *fixture);
void fixture_step(struct fixture *fixture);

#define FIXTURE_UNTIL(fixture, condition)                                                                    \
    do {                                                                                                     \
        fixture_begin(fixture);                                                                              \
        while (!(condition)) {                                                                               \
            fixture_step(fixture);                                                                           \
        }                                                                                                    \
    } while (0)

#endif
