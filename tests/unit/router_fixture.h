/* A real router in the test's process (rocks storage in a folder of its own, reactor threads, fabric on
 * loopback) and a gateway that the test plays: frames out, frames in, one loop that runs until something is
 * there. */
#ifndef WP_TESTS_ROUTER_FIXTURE_H
#define WP_TESTS_ROUTER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>

#include "node/fabric.h"
#include "proto/uuid.h"
#include "router/admin.h"
#include "router/reactor.h"

#define ROUTER_REACTORS_MAX 2u
#define CLUSTER_ID 0x1122334455667788u

struct router {
    char dir[64];
    uint32_t shard_count;
    uint32_t reactor_count;
    uint64_t delivery_timeout_ms;
    uint64_t disk_reserve_bytes;
    uint32_t node_count;            /* 1; with 3, two more are in the roster and the test plays one of them */
    uint64_t peer_directory_id;     /* that the roster knows of router-2 */
    uint32_t peer_counts_from;      /* generation of router-2 from which its replicas count */
    struct wp_keypair peer_keys[2]; /* of router-2 and router-3, both on the allow-list */
    struct wp_keypair keys;
    struct wp_keypair gateway_keys;
    void *zmq_context;
    struct wp_zap *zap;
    struct wp_store *store;
    struct wp_reactor *reactors[ROUTER_REACTORS_MAX];
    struct wp_admin *admin;
    int fatal_error;
};

/* A folder, keys, one gateway "gateway-1" on the allow-list. Nothing runs yet. */
void router_init(struct router *router);
/* As a process start: opens the store, loads the shards, listens. */
void router_up(struct router *router);
/* As a clean process end. */
void router_down(struct router *router);
void router_fini(struct router *router);

/* A request of the operator; the answer's body (new reference). */
json_t *router_request(
    struct router *router, int status, const char *method, const char *path, const char *body);
/* Makes user and device, keeps the device's secret in ret_secret. */
void router_device(struct router *router, const char *user, const char *device, char ret_secret[64]);
uint32_t router_shard(const struct router *router, const char *user);
/* Positions that the device still has to get, over all lanes; asks until it is `wanted` (then returns it) or
 * 3 s are over. */
uint64_t router_pending(struct router *router, const char *user, const char *device, uint64_t wanted);

/* One frame that came; everything the tests look at, copied. */
struct arrival {
    enum wp_frame_type type;
    uint32_t reactor;
    uint64_t session;
    uint64_t number; /* ticket, request or position */
    int error;
    uint64_t epoch;
    uint64_t retry_after_ms;
    bool session_present;
    bool inbox_subscribed;
    bool duplicate;
    bool dup;
    bool drained;
    uint64_t resend_from;
    uint64_t remaining_ms;
    uint64_t leader_ms; /* told with a lease */
    Wp__Lane lane;
    struct wp_buffer envelope;
    uint32_t shard_count;
};

struct gateway {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool timed_out;
    struct router *router;
    struct wp_fabric *fabric;
    struct wp_link *links[ROUTER_REACTORS_MAX];
    struct arrival *arrivals;
    uint32_t arrival_count;
    uint32_t taken;
    bool keep_credit; /* do not give credit back: a gateway whose buffers are full */
    uint64_t kept;
    uint64_t next_ticket;
};

/* Connects to every reactor and waits for their shard maps. */
void gateway_up(struct gateway *gateway, struct router *router);
void gateway_down(struct gateway *gateway);

/* Next frame of `type` (0 = any) that was not taken yet, skipping no frame of that type. Fails the test after
 * 5 s. */
struct arrival *gateway_next(struct gateway *gateway, int type);
/* Runs the loop for `ms` and fails when a frame of `type` comes. */
void gateway_quiet(struct gateway *gateway, int type, uint32_t ms);

struct attach {
    const char *user;
    const char *device;
    const char *secret;
    uint64_t session;
    uint32_t window;
    bool clean_start;
    Wp__Resume *resume;
};
struct arrival *gateway_attach(struct gateway *gateway, const struct attach *attach);
void gateway_detach(struct gateway *gateway, const char *user, uint64_t session, uint64_t epoch);
struct arrival *gateway_subscribe(
    struct gateway *gateway, const char *user, uint64_t session, uint64_t epoch, bool inbox);
/* Attaches and subscribes; returns the epoch. */
uint64_t gateway_join(struct gateway *gateway, const struct attach *attach);

struct submit {
    const char *user; /* sender */
    const char *device;
    uint64_t epoch;
    uint64_t sequence;
    const char *to;
    Wp__Lane lane;
    uint64_t ttl_ms;
    const void *body;
    size_t body_size;
    uint32_t key_parts; /* that many, for devices "d0", "d1" ... */
    const uint8_t *id;  /* NULL: a new one */
    uint32_t shard;     /* 0: the right one */
    bool to_team;       /* `to` is a team */
};
/* Sends; returns the ticket. */
uint64_t gateway_submit(struct gateway *gateway, const struct submit *submit);
void gateway_acknowledge(
    struct gateway *gateway, const char *user, uint64_t session, Wp__Lane lane, uint64_t from, uint64_t to);

#endif
