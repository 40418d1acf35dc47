/* Shared by edge.c and connection.c; nobody else includes it. */
#ifndef WP_GATEWAY_EDGE_EDGE_INTERNAL_H
#define WP_GATEWAY_EDGE_EDGE_INTERNAL_H

#include "gateway/edge/edge.h"
#include "gateway/edge/tls.h"
#include "gateway/edge/websocket.h"

#define WP_EDGE_READ_SIZE (64u * 1024)
#define WP_EDGE_LINGER_MS 500u /* for the peer to read the last bytes after we closed our side */
#define WP_EDGE_TICK_MS 100u
#define WP_EDGE_ADDRESS_SIZE 64u

struct wp_listener {
    uv_tcp_t tcp;
    struct wp_edge *edge;
    enum wp_edge_kind kind;
    bool open; /* the handle is initialised and not closed */
    char address[WP_EDGE_ADDRESS_SIZE];
};

enum wp_connection_state {
    WP_CONNECTION_OPEN,
    WP_CONNECTION_ENDING,    /* nothing more is read; the last bytes are being written */
    WP_CONNECTION_LINGERING, /* our side is closed; what still comes is thrown away */
    WP_CONNECTION_CLOSING,   /* the handle is being closed */
};

struct wp_connection {
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct wp_edge *edge;
    struct wp_connection *next, *previous;
    struct wp_client *client;
    struct wp_tls *tls;             /* NULL: plain */
    struct wp_websocket *websocket; /* NULL: bare MQTT */
    struct wp_buffer in;            /* MQTT bytes that the session has not taken */
    struct wp_buffer wire;          /* bytes for the socket, not given to libuv */
    struct wp_buffer writing;       /* given to libuv */
    uint64_t deadline_ms;           /* of ending and lingering */
    enum wp_connection_state state;
    bool reading;
    bool in_input; /* wp_client_input is on the stack */
    bool failed;   /* out of memory: to be dropped */
    struct sockaddr_storage peer;
};

struct wp_edge {
    struct wp_edge_config config;
    struct wp_gateway *gateway;
    struct wp_tls_context *tls;
    struct wp_listener listeners[WP_EDGE_KIND_COUNT];
    struct wp_connection *connections;
    uint32_t connection_count;
    uv_timer_t *timer;
    struct wp_buffer plain, mqtt, frames; /* scratch between the layers */
    uint8_t read_buffer[WP_EDGE_READ_SIZE];
};

/* Takes an accepted connection of `listener` from its queue. */
void wp_connection_accept(struct wp_listener *listener);
/* Ends what is over time. */
void wp_connection_tick(struct wp_connection *connection, uint64_t now_ms);
void wp_connection_drop(struct wp_connection *connection);

#endif
