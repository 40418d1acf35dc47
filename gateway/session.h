/* The MQTT session of one connection: a state machine over bytes, frames and time (MQTT 5 and 3.1.1).
 *
 *     NEW --CONNECT--> ATTACHING --AttachReply--> LIVE --...--> CLOSED
 *
 * It does no I/O, reads no clock, draws no randomness and calls nobody back. Each step takes one event,
 * appends the bytes for the device to turn->out and returns at most one effect: a frame that the caller has
 * to bring to a router. What the effect points to lives in turn->arena and in the input until the next step.
 *
 * A session names the device that the CONNECT proved; the Client Identifier means nothing. It sends a
 * delivery once: what is unacknowledged when the connection ends is the router's to send again. PUBACKs leave
 * in the order of the PUBLISHes (MQTT 5 section 4.6), whatever the order of the answers.
 *
 * One thread. Memory per idle session: the struct. */
#ifndef WP_GATEWAY_SESSION_H
#define WP_GATEWAY_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "gateway/positions.h"
#include "proto/address.h"
#include "proto/mqtt/mqtt.h"
#include "proto/schema.h"

/* What every session of a gateway has in common. */
struct wp_session_policy {
    uint32_t receive_maximum; /* PUBLISHes a device may have open towards us, 1..1024 */
    uint32_t window;          /* deliveries open towards a device */
    uint32_t body_bytes_max;
    uint32_t packet_bytes_max; /* announced as Maximum Packet Size */
    uint32_t keep_alive_max_s; /* 0: the client's own */
    uint32_t connect_timeout_ms;
    uint32_t publish_per_second_max; /* 0: no limit */
};

enum wp_session_state {
    WP_SESSION_NEW,       /* nothing but CONNECT is allowed */
    WP_SESSION_ATTACHING, /* a well-formed CONNECT waits for the AttachReply; nothing is read */
    WP_SESSION_LIVE,
    WP_SESSION_CLOSED, /* nothing more is taken in or given out: write what is in the buffer, then close */
};

/* What one step may use. */
struct wp_session_turn {
    uint64_t now_ms; /* monotonic */
    uint64_t now_us; /* the same clock, for latency */
    uint64_t wall_ms;
    const uint8_t *random; /* 16 fresh random bytes; random_used tells that the next step needs others */
    bool random_used;
    struct wp_arena *arena; /* reset by the caller between steps */
    struct wp_buffer *out;  /* bytes for the device are appended */
};

enum wp_session_effect_kind {
    WP_SESSION_NOTHING,
    WP_SESSION_ATTACH,    /* bring an Attach to the user's shard, answer with wp_session_attached */
    WP_SESSION_SUBSCRIBE, /* bring a Subscribe there, answer with wp_session_subscribed */
    WP_SESSION_SUBMIT,    /* bring a Submit to the recipient's shard, answer with wp_session_submitted */
};

struct wp_session_effect {
    enum wp_session_effect_kind kind;
    union {
        struct {
            struct wp_slice secret;
            bool clean_start;
            uint32_t window;
        } attach;
        struct {
            uint64_t request; /* session.request_inbox and request_receipts say what is wanted */
        } subscribe;
        struct {
            uint64_t publish; /* number of the PUBLISH in this session: 1, 2, 3 ... */
            Wp__Envelope *envelope;
        } submit;
    };
};

/* One PUBLISH that has no PUBACK yet. */
struct wp_session_publish {
    uint64_t received_us;
    uint64_t accepted_ms;
    const char *detail; /* Reason String; NULL: the text of `error` */
    uint16_t packet_id;
    bool answered;
    bool made_id; /* `id` was made here and goes back in the PUBACK */
    int error;
    uint8_t id[16];
};

/* Why a session closed. Kept for the log. */
struct wp_session_end {
    int error;            /* WP_OK: the device said goodbye */
    uint8_t code;         /* reason code that was or would have been sent */
    const char *detail;   /* static text */
    bool refused_publish; /* 3.1.1: a PUBLISH was refused; `error` says why */
};

struct wp_session {
    const struct wp_session_policy *policy;
    enum wp_session_state state;
    enum wp_mqtt_version version;
    char user[WP_NAME_SIZE_MAX + 1];
    char device[WP_NAME_SIZE_MAX + 1];
    uint64_t epoch;
    uint64_t opened_ms;
    uint64_t heard_ms;         /* last packet */
    uint64_t partial_ms;       /* since when the start of an unfinished packet is there; 0 = none */
    uint32_t silence_ms_max;   /* 1.5 x Keep Alive; 0 = none */
    uint32_t packet_bytes_max; /* what the client can take */
    uint32_t window;
    uint16_t keep_alive_s;  /* what the client asked for */
    bool server_keep_alive; /* policy replaced it */
    bool clean_start;
    bool problem_info;
    bool inbox_subscribed;
    bool receipts_subscribed;
    bool assigned_client_id;
    bool stopped_for_rate;
    char client_id[33]; /* the assigned one */

    struct wp_session_publish *publishes; /* ring of those without a PUBACK, oldest first */
    uint32_t publish_first, publish_count, publish_capacity;
    uint64_t publish_number; /* of the newest */
    uint64_t tokens_x1000;   /* token bucket of publish_per_second_max */
    uint64_t tokens_ms;

    /* The one SUBSCRIBE or UNSUBSCRIBE that waits for the router; nothing is read meanwhile. */
    uint64_t request;          /* number of the newest */
    uint64_t request_since_ms; /* 0 = none waits */
    bool request_unsubscribes;
    bool request_inbox; /* the subscriptions once it is answered */
    bool request_receipts;
    uint16_t request_packet_id;
    uint8_t *request_codes;
    uint32_t request_count;

    struct wp_positions positions;
    struct wp_session_end end;
};

void wp_session_init(struct wp_session *session, const struct wp_session_policy *policy, uint64_t now_ms);
void wp_session_fini(struct wp_session *session);

/* Takes at most one packet from the front of `input` (bytes as they arrived, any cut). Returns the bytes
 * consumed; 0: more are needed, or the session is blocked or closed. */
size_t wp_session_input(struct wp_session *session, struct wp_session_turn *turn, struct wp_slice input,
    struct wp_session_effect *ret_effect);

/* Whether input is not taken now, however much there is. */
bool wp_session_blocked(const struct wp_session *session);

/* The router's answers. `reply`, answers to questions not asked and answers after the end are ignored. */
void wp_session_attached(
    struct wp_session *session, struct wp_session_turn *turn, const Wp__AttachReply *reply);
void wp_session_subscribed(
    struct wp_session *session, struct wp_session_turn *turn, uint64_t request, int error);
void wp_session_submitted(struct wp_session *session, struct wp_session_turn *turn, uint64_t publish,
    int error, uint64_t accepted_ms);

/* A delivery arrived from the router. WP_OK: it is recorded as open; give it to wp_session_deliver when its
 * turn comes. WP_E_EXISTS: it is open already, or its acknowledgement is on the way: do nothing. WP_E_BUSY,
 * WP_E_NOMEM: it cannot be sent on this connection and stays queued. WP_E_CLOSED: the session is not live. */
int wp_session_deliver_admit(
    struct wp_session *session, uint64_t now_ms, const Wp__Deliver *deliver, bool resumed);

/* Appends the PUBLISH of an admitted delivery, which has `left_ms` (gateway/leader_time.h). WP_OK;
 * WP_E_EXPIRED: that is 0, not sent; WP_E_TOO_LARGE: over the client's Maximum Packet Size, not sent (MQTT 5
 * section 3.1.2.11.4): it stays queued. */
int wp_session_deliver(struct wp_session *session, struct wp_session_turn *turn, const Wp__Deliver *deliver,
    const Wp__Envelope *envelope, uint64_t left_ms);

/* The same for a receipt. */
int wp_session_deliver_receipt(struct wp_session *session, struct wp_session_turn *turn,
    const Wp__Deliver *deliver, const Wp__Receipt *receipt);

/* The router or the gateway ends the connection: DISCONNECT (MQTT 5) with the code for `error`, or CONNACK
 * before the session is live. `detail` is static text or NULL. */
void wp_session_close(
    struct wp_session *session, struct wp_session_turn *turn, int error, const char *detail);

/* Time passed: CONNECT and packet timeouts, keep-alive, rate, memory. Call about four times a second. */
void wp_session_tick(struct wp_session *session, struct wp_session_turn *turn);

/* Tells that bytes of an unfinished packet are waiting (or not): the start of the slow-loris clock. */
void wp_session_partial(struct wp_session *session, uint64_t now_ms, bool partial);

#endif
