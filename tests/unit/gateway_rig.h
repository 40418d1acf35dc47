/* A whole gateway in the test's process: edge and sessions on one loop, fake routers behind real fabric
 * listeners, and plain client sockets. Everything runs when the test waits for something. */
#ifndef WP_TESTS_GATEWAY_RIG_H
#define WP_TESTS_GATEWAY_RIG_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "gateway/edge/edge.h"
#include "gateway/gateway.h"
#include "node/fabric.h"
#include "node/zap.h"
#include "proto/mqtt/mqtt.h"

#define RIG_SHARDS 8u
#define RIG_LOG_MAX 4096u

/* What the fake router saw. */
struct rig_submit {
    char user[65], device[65], recipient[65];
    uint64_t epoch, sequence;
    uint8_t id[16];
    Wp__Lane lane;
    uint64_t ttl_ms;
    size_t body_size;
    uint8_t body_first;
    bool gateway_made_id;
};

struct rig_attached {
    bool used;
    uint64_t session;
    uint32_t shard;
    char user[65], device[65];
    uint64_t epoch;
    bool inbox;
};

struct rig_router {
    struct rig *rig;
    const char *name;
    uint64_t terms[RIG_SHARDS]; /* in which it leads; 0 = it does not */
    uint64_t roster;            /* version of the list of routers that it tells; 0 = it tells none */
    bool lists_other;           /* the other router stands in the list */
    bool no_lease;              /* lease requests are not answered */
    uint32_t lease_count;
    uint64_t lease_stamp_ms; /* of the last request */
    struct wp_fabric *fabric;
    struct wp_link *link; /* of the gateway; NULL while down */
    char endpoint[64];
    struct wp_keypair keys;
    uint8_t hash_key[16];
    struct rig_attached attached[64];
    uint64_t next_epoch;
    uint64_t next_position;
    struct rig_submit submits[RIG_LOG_MAX];
    uint32_t submit_count;
    uint32_t attach_count, resume_count, detach_count, subscribe_count;
    uint64_t acked[RIG_LOG_MAX];
    uint32_t acked_count;
    uint64_t skipped[RIG_LOG_MAX];
    uint32_t skipped_count;
    uint64_t remaining_ms;                          /* that deliveries have left; 0 = a minute */
    uint64_t expires_ms;                            /* of deliveries */
    uint64_t leader_ms;                             /* told with leases; 0 = none is told */
    uint32_t resume_in_flight, resume_acknowledged; /* positions in the last Resume */
    bool hold_attach;                               /* the next Attach is answered by rig_attach_release */
    Wp__Attach *held_attach;
    bool hold_credit; /* credit of submits is kept until rig_credit_release */
    uint64_t held_credit;
    bool silent; /* submits get no answer */
    int answer;  /* error for all submits; WP_OK = by recipient: "nobody" unknown, "full" mailbox full */
    int attach_answer;             /* error for all attaches; WP_OK = by password */
    bool deliver;                  /* accepted messages go to the recipient's attached devices */
    uint64_t tickets[RIG_LOG_MAX]; /* of the submits */
};

struct rig {
    uv_loop_t loop;
    uv_timer_t wake;
    void *zmq;
    struct wp_zap *zap;
    struct wp_keypair gateway_keys;
    struct rig_router router; /* leads every shard in term 1 at first */
    struct rig_router other;  /* started by the test; leads nothing at first */
    struct wp_config_peer peers[2];
    struct wp_gateway *gateway;
    struct wp_edge *edge;
    char certificate[128], key[128];
};

struct rig_options {
    struct wp_session_policy policy; /* zero fields get defaults */
    uint32_t connections_max, connections_per_address_max;
    bool tls; /* mqtts and wss too, with a certificate made on the spot */
    bool no_router;
    bool two; /* the other router is configured and running too */
};

struct rig *rig_create(const struct rig_options *options);
void rig_destroy(struct rig **rig);

/* Ends and starts the router's fabric: all its soft state is gone. */
void rig_router_stop(struct rig *rig);
void rig_router_start(struct rig *rig);
void rig_other_stop(struct rig *rig);
void rig_other_start(struct rig *rig);
/* From now on it leads every shard in `term` (0: none), and tells so. */
void rig_lead(struct rig_router *router, uint64_t term);
/* Tells what it knows, again. */
void rig_map_send(struct rig_router *router);

/* Turns the loop until `done` says so; fails the test after 10 s. */
#define RIG_UNTIL(rig, condition)                                                                            \
    for (uint64_t rig_start = rig_now_ms(); !(condition);) {                                                 \
        rig_turn(rig, rig_start, #condition, __FILE__, __LINE__);                                            \
    }
uint64_t rig_now_ms(void);
void rig_turn(struct rig *rig, uint64_t start_ms, const char *what, const char *file, int line);
/* Turns the loop for `ms`: for showing that something does not happen. */
void rig_pass(struct rig *rig, uint64_t ms);

/* A client's socket. */
struct rig_client {
    struct rig *rig;
    int fd;
    enum wp_mqtt_version version;
    struct wp_buffer in;
    bool closed; /* the gateway closed it */
    bool reset;
};

struct rig_client *rig_client_open(struct rig *rig, enum wp_edge_kind kind, enum wp_mqtt_version version);
void rig_client_close(struct rig_client **client);
void rig_client_write(struct rig_client *client, const void *data, size_t size);
void rig_client_send(struct rig_client *client, const struct wp_mqtt_packet *packet);
/* Takes what the socket has. */
void rig_client_read(struct rig_client *client);
/* The next packet; fails the test when none comes. Its strings live in `arena`'s neighbour: the client's
 * buffer, until the next call. */
struct wp_mqtt_packet rig_client_expect(struct rig_client *client, enum wp_mqtt_type type);
void rig_client_expect_closed(struct rig_client *client);

/* Packets. */
struct wp_mqtt_packet rig_connect_packet(
    enum wp_mqtt_version version, const char *username, const char *password);
struct wp_mqtt_packet rig_publish_packet(const char *topic, uint16_t id, const char *body);
struct wp_mqtt_packet rig_subscribe_packet(uint16_t id, const char *filter, uint8_t qos);

/* CONNECT and a good CONNACK. */
struct rig_client *rig_client_attach(struct rig *rig, enum wp_mqtt_version version, const char *username);
/* Sends a Deliver of `body` to the attached device. Returns its position. */
uint64_t rig_deliver(
    struct rig *rig, const char *user, Wp__Lane lane, const char *body, size_t body_size, bool dup);

/* One frame with `body` for a session of each user, and for one session that nobody has; the position. */
uint64_t rig_deliver_many(struct rig *rig, const char *const *users, size_t count, const char *body);
/* A receipt for `user`: `person` has the message. */
void rig_deliver_receipt(struct rig *rig, const char *user, const char *person);
/* The same from a router of choice, to a session of choice, at a position of choice. */
void rig_deliver_from(struct rig_router *router, uint64_t session, uint64_t position, const char *body);
/* Answers the submit that came as number `index` (from 0). */
void rig_answer(struct rig_router *router, uint32_t index, int error);

/* Ends the session of the user's attached device as the router would. */
void rig_kick(struct rig *rig, const char *user, int error);
void rig_attach_release(struct rig *rig);
void rig_credit_release(struct rig *rig);

#endif
