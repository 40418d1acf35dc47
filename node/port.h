/* One ZeroMQ socket of the fabric with its monitor, on the fabric's loop: options, receiving with
 * attribution, sending, connection events. Nothing here knows frames. Loop's thread only. */
#ifndef WP_NODE_PORT_H
#define WP_NODE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "node/keys.h"
#include "node/zloop.h"

#define WP_ROUTING_ID_SIZE_MAX 255

struct wp_port {
    void *socket;
    void *monitor;
    struct wp_zsocket *data;   /* watches socket */
    struct wp_zsocket *events; /* watches monitor */
    bool listening;
};

struct wp_port_message {
    uint8_t routing_id[WP_ROUTING_ID_SIZE_MAX]; /* listening side only */
    uint8_t routing_id_size;
    int fd;              /* of the connection it came on, to match it with WP_PORT_LOST; -1 unknown */
    const char *user_id; /* set by the ZAP handler; "" on the connecting side; valid until fini */
    zmq_msg_t payload;
};

enum wp_port_event {
    WP_PORT_CONNECTED, /* handshake done */
    WP_PORT_LOST,      /* the connection on `fd` ended */
    WP_PORT_DENIED,    /* handshake refused */
};

/* Opens the socket and starts its monitor; not bound nor connected yet. `server_key` NULL: a listening
 * ROUTER, else a connecting DEALER. WP_E_NOMEM, WP_E_INVALID (a key), WP_E_IO. */
int wp_port_open(struct wp_port *port, struct wp_zloop *zloop, void *zmq_context,
    const struct wp_keypair *keys, const char *server_key);
/* Closes; bytes that were sent linger for at most `linger_ms`. Idempotent. */
void wp_port_close(struct wp_port *port, int linger_ms);

/* WP_E_BUSY (address in use), WP_E_INVALID (no such endpoint), WP_E_IO. ret_endpoint: what was really bound.
 */
int wp_port_bind(struct wp_port *port, const char *endpoint, char *ret_endpoint, size_t endpoint_size);
int wp_port_connect(struct wp_port *port, const char *endpoint);

/* Next connection event: 1, or 0 when there is none now. */
int wp_port_event_next(struct wp_port *port, enum wp_port_event *ret_event, int *ret_fd);

/* Next message: 1 (then fini it), or 0 when there is none now. Messages with a wrong number of parts are
 * skipped. */
int wp_port_receive(struct wp_port *port, struct wp_port_message *ret_message);
void wp_port_message_fini(struct wp_port_message *message);
struct wp_slice wp_port_message_payload(struct wp_port_message *message);

/* Whether a message to `routing_id` (listening side) can be sent now: WP_OK, WP_E_FULL or WP_E_CLOSED (no
 * such peer). After WP_OK the next call must be wp_port_send_finish. */
int wp_port_send_start(struct wp_port *port, const uint8_t *routing_id, size_t routing_id_size);
/* Sends the batch, taking the buffer's memory. */
void wp_port_send_finish(struct wp_port *port, struct wp_buffer *batch);

#endif
