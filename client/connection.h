/* A device's connection to a gateway: MQTT 5, sans-I/O. Bytes and time go in; bytes and events come out.
 *
 *     wp_connection_create -> wp_connection_open        (CONNECT is in the output)
 *     loop: bytes from the socket -> wp_connection_receive; drain wp_connection_event; write wp_connection_output
 *
 * It keeps what was published and not yet answered (bounded by the gateway's Receive Maximum), so that after a lost
 * connection wp_connection_open on a new socket sends it again, with DUP and the same message id, in order.
 * One owner thread. Used by `wardpost`, by wardpost-bench and by libwardpost's shells. */
#ifndef WP_CLIENT_CONNECTION_H
#define WP_CLIENT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "proto/envelope.pb-c.h"
#include "proto/uuid.h"

#define WP_CONNECTION_CONNECT_MS 8000u /* without a CONNACK: DOWN */
#define WP_CONNECTION_ASK_MS 4000u     /* something is open and nothing was heard: PINGREQ */
#define WP_CONNECTION_ANSWER_MS 6000u  /* a PINGREQ without any answer: DOWN */

struct wp_connection;

struct wp_connection_config {
    const char *username;      /* "user/device"; borrowed for the call of create, copied */
    const char *secret;
    uint16_t keep_alive_s;     /* 0 = none */
    uint16_t receive_maximum;  /* deliveries open towards us; 0 = 64 */
    bool clean_start;
};

enum wp_connection_event_kind {
    WP_CONNECTION_UP,          /* CONNACK success */
    WP_CONNECTION_REFUSED,     /* CONNACK failure: code, text; the connection is over */
    WP_CONNECTION_SUBSCRIBED,  /* SUBACK: error is WP_OK or WP_E_DENIED with code */
    WP_CONNECTION_PUBLISHED,   /* PUBACK: user, id, code (0 = accepted), text and error slug of a refusal */
    WP_CONNECTION_MESSAGE,     /* a delivery: message; acknowledge with wp_connection_acknowledge */
    WP_CONNECTION_RECEIPT,     /* how a message ended: receipt; acknowledge likewise */
    WP_CONNECTION_DOWN,        /* DISCONNECT from the gateway, protocol error or silence: code, text */
};

struct wp_connection_message {
    uint16_t packet_id;
    bool dup;
    bool drained;              /* last of a catch-up */
    bool has_id;
    uint8_t id[WP_UUID_SIZE];
    Wp__Lane lane;
    struct wp_slice sender;    /* user */
    struct wp_slice sender_device;
    uint64_t accepted_ms;
    struct wp_slice body;
};

struct wp_connection_receipt {
    uint16_t packet_id;
    bool has_id;               /* not when it is about a device that is idle */
    uint8_t id[WP_UUID_SIZE];
    struct wp_slice state;     /* "delivered", "expired", "refused", "idle" */
    struct wp_slice person;    /* or device */
    struct wp_slice error;     /* slug of a refusal; empty */
    uint64_t time_ms;
};

/* Slices are borrowed until the next call of wp_connection_event or wp_connection_receive. */
struct wp_connection_event {
    enum wp_connection_event_kind kind;
    uint8_t code;              /* MQTT reason code */
    bool session_present;
    struct wp_slice text;      /* Reason String */
    struct wp_slice slug;      /* property wp-error */
    void *user;                /* PUBLISHED: as given to publish */
    uint8_t id[WP_UUID_SIZE];  /* PUBLISHED: message id */
    struct wp_connection_message message;
    struct wp_connection_receipt receipt;
};

/* WP_OK, WP_E_NOMEM or WP_E_INVALID (user name or secret not representable). */
int wp_connection_create(const struct wp_connection_config *config, struct wp_connection **ret_connection);
void wp_connection_destroy(struct wp_connection **connection);

/* A new byte stream begins: forgets half-received bytes, queues CONNECT. */
int wp_connection_open(struct wp_connection *connection, uint64_t now_ms);

/* The byte stream is gone: not up any more; what is unanswered waits for the next wp_connection_open. */
void wp_connection_lost(struct wp_connection *connection);

/* Bytes from the stream, all taken. WP_OK or WP_E_NOMEM; what they mean comes as events. */
int wp_connection_receive(struct wp_connection *connection, struct wp_slice bytes, uint64_t now_ms);

/* Next event; false when there is none. */
bool wp_connection_event(struct wp_connection *connection, struct wp_connection_event *ret_event);

/* Bytes to be written; the shell consumes what it wrote with wp_buffer_consume. */
struct wp_buffer *wp_connection_output(struct wp_connection *connection);

/* Keep-alive, and noticing a gateway that answers nothing: call at least once a second. */
int wp_connection_tick(struct wp_connection *connection, uint64_t now_ms);

/* Subscribes to the inbox of this device (kept by the cluster until unsubscribed or a clean start). */
int wp_connection_subscribe(struct wp_connection *connection);
/* The same for receipts. */
int wp_connection_subscribe_receipts(struct wp_connection *connection);

struct wp_connection_publish {
    const char *recipient;     /* user, or team */
    bool to_team;
    Wp__Lane lane;
    uint32_t ttl_s;            /* 0 = the cluster's default */
    const uint8_t *id;         /* WP_UUID_SIZE bytes */
    struct wp_slice body;      /* copied */
    void *user;                /* given back in PUBLISHED */
};

/* WP_OK; WP_E_FULL: as many are open as the gateway takes; WP_E_UNAVAILABLE: not up; WP_E_BODY_TOO_LARGE: over the
 * gateway's Maximum Packet Size; WP_E_INVALID: recipient is no valid name; WP_E_NOMEM. */
int wp_connection_publish(struct wp_connection *connection, const struct wp_connection_publish *publish);

/* Tells the gateway that a delivery is safe here. Each delivery once. */
int wp_connection_acknowledge(struct wp_connection *connection, uint16_t packet_id);

/* Queues a DISCONNECT; nothing more is sent. */
int wp_connection_close(struct wp_connection *connection);

uint32_t wp_connection_open_publishes(const struct wp_connection *connection);
bool wp_connection_is_up(const struct wp_connection *connection);

#endif
