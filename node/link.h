/* Inside of the fabric: a link with its lanes, credit, chunks and states. Only node/ includes this.
 *
 *     connecting side:  WAITING --open--> CONNECTING --handshake--> GREETING --hello--> UP
 *                          ^------- refused, lost, silent, new nonce --------------------'
 *     listening side:   (hello) --> UP --> GONE, and the link is freed
 */
#ifndef WP_NODE_LINK_H
#define WP_NODE_LINK_H

#include "base/arena.h"
#include "node/fabric.h"
#include "node/port.h"
#include "proto/address.h"

#define WP_LINK_LANE_COUNT 4
#define WP_LINK_CLOSE_LINGER_MS 200
#define WP_LINK_RETRY_US 500000u /* after a refusal */
#define WP_LINK_HEARTBEAT_US 1000000u
#define WP_LINK_SILENCE_US 5000000u

enum wp_link_state {
    WP_LINK_STATE_WAITING,    /* connecting side: no socket until retry_us */
    WP_LINK_STATE_CONNECTING, /* no handshake yet */
    WP_LINK_STATE_GREETING,   /* our hello is due or sent, the peer's is awaited */
    WP_LINK_STATE_UP,
    WP_LINK_STATE_GONE, /* freed at the end of the turn */
};

/* Encoded records in the order they were sent; the first `offset` bytes have left. */
struct wp_lane {
    struct wp_buffer records;
    size_t offset;
    size_t deficit; /* bytes the lane may still send in this round */
};

/* The frame that arrives in chunks on one lane. */
struct wp_assembly {
    bool open;
    uint64_t id;
    uint64_t total;
    enum wp_frame_type type;
    struct wp_buffer frame;
};

struct wp_listener {
    struct wp_listener *next;
    struct wp_port port;
};

struct wp_link {
    struct wp_link *next;
    struct wp_fabric *fabric;
    struct wp_listener *listener; /* NULL on the connecting side */
    enum wp_link_state state;
    void *user;

    /* Peer, as authenticated. */
    char node[WP_NAME_SIZE_MAX + 1];
    Wp__Role role;
    uint64_t incarnation;
    uint64_t directory_id;
    uint64_t start_id;
    uint32_t level_max;
    uint64_t nonce;

    /* Listening side: where it is, and as whom it was let in. */
    uint8_t routing_id[WP_ROUTING_ID_SIZE_MAX];
    uint8_t routing_id_size;
    int fd;
    char user_id[WP_NAME_SIZE_MAX + WP_KEY_TEXT_SIZE + 16];
    uint64_t zap_generation;

    /* Connecting side. */
    struct wp_port port;
    char *endpoint;
    char server_key[WP_KEY_TEXT_SIZE];
    uint64_t retry_us;
    uint64_t state_since_us;

    /* Sending. */
    struct wp_lane lanes[WP_LINK_LANE_COUNT];
    size_t queued_bytes;
    unsigned turn_lane; /* whose turn it is among the weighted lanes */
    int64_t credit;     /* below zero after a frame larger than the whole window */
    uint64_t peer_window;
    uint64_t chunk_count;
    uint64_t credit_owed; /* to return to the peer at the end of the turn */
    uint64_t own_nonce;
    bool hello_due;
    bool heartbeat_due;
    bool dirty;          /* to be flushed */
    bool refused_credit; /* a send got WP_E_FULL for credit: tell `writable` when some comes back */
    bool refused_queue;  /* ... for the byte cap: tell `writable` when half of it is free */
    bool credit_came;    /* in this turn */
    uint64_t sent_us;

    /* Receiving. */
    struct wp_assembly assemblies[WP_LINK_LANE_COUNT];
    uint64_t taken_bytes; /* credit-controlled bytes that came and were not returned */
    uint64_t heard_us;
    bool logged_frame;
};

/* --- sending: link_send.c --- */

/* Sends what is queued until nothing is left or the pipe is full (then the link stays dirty). WP_OK,
 * WP_E_FULL, WP_E_NOMEM, or WP_E_CLOSED: the peer is gone. */
int wp_link_flush(struct wp_link *link);
/* Whether `writable` is to be called now; forgets that it was. */
bool wp_link_take_writable(struct wp_link *link);
/* Whether frames of `type` from `role` consume credit. */
bool wp_link_type_controlled(Wp__Role role, enum wp_frame_type type);
/* Whether `from` may send frames of `type` to `to`; false for an unknown type. */
bool wp_link_type_allowed(Wp__Role from, Wp__Role to, unsigned type);
/* Drops all queued output and forgets credit. */
void wp_link_output_reset(struct wp_link *link);

/* --- lanes: lane.c --- */

/* Appends `message` of `size` packed bytes, in chunks when it is above WP_CHUNK_SIZE_MAX. WP_OK or
 * WP_E_NOMEM. */
int wp_link_lanes_append(struct wp_link *link, enum wp_link_lane lane, enum wp_frame_type type, size_t size,
    const ProtobufCMessage *message);
/* Moves records into a batch until it is full: control first, then stat, urgent and routine 8:4:1 by bytes.
 * `batch` has room for wp_link_lanes_bound more bytes. Returns the number of records. */
unsigned wp_link_lanes_fill(struct wp_link *link, struct wp_buffer *batch);
size_t wp_link_lanes_bound(const struct wp_link *link);
void wp_link_lanes_reset(struct wp_link *link);

/* --- receiving: link_receive.c --- */

/* Handles the records of one batch whose head was checked. WP_OK, or what the peer did wrong: the link must
 * go down. */
int wp_link_records_receive(struct wp_link *link, struct wp_record_reader *reader);
void wp_link_input_reset(struct wp_link *link);

/* --- greeting: hello.c --- */

/* Appends our hello as a record. WP_OK or WP_E_NOMEM. */
int wp_hello_append(struct wp_fabric *fabric, uint64_t nonce, struct wp_buffer *out);
/* Decodes and checks a peer's hello: WP_E_VERSION, WP_E_DENIED (cluster or role), WP_E_AUTH (name),
 * WP_E_MALFORMED. `node` NULL: any valid name. The message lives in the fabric's arena. */
int wp_hello_check(struct wp_fabric *fabric, struct wp_slice payload, Wp__Role role, const char *node,
    Wp__Hello **ret_hello);

/* --- fabric.c, link.c --- */

struct wp_refusal {
    uint64_t hash;
    uint64_t logged_us;
};
#define WP_REFUSAL_COUNT 32

struct wp_fabric {
    struct wp_fabric_config config;
    struct wp_fabric_callbacks callbacks;
    struct wp_zloop *zloop;
    struct wp_listener *listeners;
    struct wp_link *links;
    struct wp_arena arena; /* hello, credit and chunk records while they are handled */
    struct wp_refusal refusals[WP_REFUSAL_COUNT];
    unsigned refusal_next;
    uint64_t now_us; /* of this turn */
    uint64_t zap_generation;
    bool in_turn;
    bool handed_up; /* a frame went up in this turn */
    bool tick_due;
    bool flush_due;
};

/* Appends a new link to the fabric's list; NULL when out of memory. */
struct wp_link *wp_fabric_link_add(struct wp_fabric *fabric);
/* Takes a link down: calls `down` when it was up, then GONE (listening) or WAITING until retry_us
 * (connecting). */
void wp_fabric_link_down(struct wp_link *link, int error, uint64_t retry_us);
/* The greeting is done. */
void wp_fabric_link_up(struct wp_link *link, const Wp__Hello *hello, const char *node);
/* A record was queued: flush at the end of this turn, or make one. */
void wp_fabric_link_dirty(struct wp_link *link);
/* Logs a refusal, each (who, event, error) at most once a minute, and counts it always. */
void wp_fabric_refuse(
    struct wp_fabric *fabric, const char *event, const char *who, int error, const char *why);
uint64_t wp_fabric_nonce(void);

/* --- listen.c, connect.c: the two sides of a turn --- */

void wp_listener_events(struct wp_fabric *fabric, struct wp_listener *listener);
bool wp_listener_receive(struct wp_fabric *fabric, struct wp_listener *listener);
void wp_connector_events(struct wp_link *link);
bool wp_connector_receive(struct wp_link *link);
/* Opens the socket of a WAITING link whose time has come. */
void wp_connector_open(struct wp_link *link);

/* Most that one socket hands up per turn, so that timers and other peers get theirs. */
#define WP_TURN_MESSAGES_MAX 64u
#define WP_TURN_BYTES_MAX (2u * 1024 * 1024)

/* Checks the head of a batch from an up link. WP_OK, or why it is dropped. */
int wp_link_head_check(const struct wp_link *link, const struct wp_fabric_head *head);

#endif
