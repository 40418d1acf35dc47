/* A whole gateway in the test's process: edge and sessions on one loop, a fake router behind a real fabric
 * listener, and plain client sockets. Everything runs when the test waits for something. */
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
    uint32_t resume_in_flight, resume_acknowledged; /* positions in the last Resume */
    bool hold_attach;                               /* the next Attach is answered by rig_attach_release */
    Wp__Attach *held_attach;
    bool hold_credit; /* credit of submits is kept until rig_credit_release */
    uint64_t held_credit;
    bool silent; /* submits get no answer */
    int answer;  /* error for all submits; WP_OK = by recipient: "nobody" unknown, "full" mailbox full */
    int attach_answer; /* error for all attaches; WP_OK = by password */
    bool deliver;      /* accepted messages go to the recipient's attached devices */
};

struct rig {
    uv_loop_t loop;
    uv_timer_t wake;
    void *zmq;
    struct wp_zap *zap;
    struct wp_keypair gateway_keys;
    struct rig_router router;
    struct wp_config_peer peer;
    struct wp_gateway *gateway;
    struct wp_edge *edge;
    char certificate[128], key[128];
};

struct rig_options {
    struct wp_session_policy policy; /* zero fields get defaults */
    uint32_t connections_max, connections_per_address_max;
    bool tls; /* mqtts and wss too, with a certificate made on the spot */
    bool no_router;
};

struct rig *rig_create(const struct rig_options *options);
void rig_destroy(struct rig **rig);

/* Ends and starts the router's fabric: all its soft state is gone. */
void rig_router_stop(struct rig *rig);
void rig_router_start(struct rig *rig);

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

/* Ends the session of the user's attached device as the router would. */
void rig_kick(struct rig *rig, const char *user, int error);
void rig_attach_release(struct rig *rig);
void rig_credit_release(struct rig *rig);

#endif
