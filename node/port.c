/* 1. A connecting socket serves one connection: its owner closes it when WP_PORT_LOST comes, so that
 *    nothing of an old connection can be read later. libzmq reconnects by itself only until the first
 *    handshake.
 * 2. Pipes and kernel buffers are short: what waits, waits in the link's lanes, where STAT can still
 *    pass it. About half a mebibyte is on its way at most; with libzmq's defaults it was the whole
 *    credit, and a STAT frame on a saturated link took 24 ms instead of 4. A full pipe is an answer
 *    (WP_E_FULL), never a drop: ROUTER_MANDATORY, and DEALER is asked for POLLOUT first.
 * 3. ZMTP heartbeats stay off: libzmq 4.3.4 aborts (its issue 4364) when the heartbeat timer of a
 *    connection fires that ended while its receive pipe was full, as happens to a process that was
 *    paused. The links have heartbeats of their own, and the kernel ends dead connections (keep-alive,
 *    TCP_USER_TIMEOUT).
 * 4. Monitors are always read until EAGAIN, so their descriptor alone tells when to read again. */
#include "node/port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/frame.h"

#define PIPE_MESSAGES_MAX 2 /* on each side; libzmq needs two, for it counts the routing id as one */
#define KERNEL_BUFFER_SIZE (128 * 1024)
#define KEEPALIVE_S 5
#define UNACKNOWLEDGED_MS 15000
#define HANDSHAKE_INTERVAL_MS 3000
#define CONNECT_TIMEOUT_MS 1000
#define RECONNECT_INTERVAL_MS 50
#define RECONNECT_INTERVAL_MS_MAX 100

static int option_set(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0 ? WP_OK : WP_E_IO;
}

static int options_set(struct wp_port *port, const struct wp_keypair *keys, const char *server_key)
{
    const struct {
        int option, value;
    } both[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_SNDHWM, PIPE_MESSAGES_MAX},
        {ZMQ_RCVHWM, PIPE_MESSAGES_MAX},
        {ZMQ_SNDBUF, KERNEL_BUFFER_SIZE},
        {ZMQ_RCVBUF, KERNEL_BUFFER_SIZE},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_INTERVAL_MS},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_S},
        {ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_S},
        {ZMQ_TCP_KEEPALIVE_CNT, 3},
        {ZMQ_TCP_MAXRT, UNACKNOWLEDGED_MS},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS},
        {ZMQ_RECONNECT_IVL, RECONNECT_INTERVAL_MS},
        {ZMQ_RECONNECT_IVL_MAX, RECONNECT_INTERVAL_MS_MAX},
        {port->listening ? ZMQ_ROUTER_MANDATORY : ZMQ_IMMEDIATE, 1},
        {ZMQ_CURVE_SERVER, port->listening},
    };
    for (unsigned i = 0; i < sizeof both / sizeof both[0]; i++) {
        if (option_set(port->socket, both[i].option, both[i].value) != WP_OK) {
            return WP_E_IO;
        }
    }
    int64_t size_max = WP_BATCH_SIZE_MAX;
    if (zmq_setsockopt(port->socket, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) != 0 ||
        zmq_setsockopt(port->socket, ZMQ_ZAP_DOMAIN, "wardpost", 8) != 0) {
        return WP_E_IO;
    }
    if (zmq_setsockopt(port->socket, ZMQ_CURVE_SECRETKEY, keys->secret_text, WP_KEY_TEXT_SIZE) != 0 ||
        zmq_setsockopt(port->socket, ZMQ_CURVE_PUBLICKEY, keys->public_text, WP_KEY_TEXT_SIZE) != 0) {
        return WP_E_INVALID;
    }
    if (!port->listening &&
        zmq_setsockopt(port->socket, ZMQ_CURVE_SERVERKEY, server_key, WP_KEY_TEXT_SIZE) != 0) {
        return WP_E_INVALID;
    }
    return WP_OK;
}

static int monitor_open(struct wp_port *port, struct wp_zloop *zloop, void *zmq_context)
{
    static uint64_t monitor_count;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://wp-monitor-%llu",
        (unsigned long long)__atomic_add_fetch(&monitor_count, 1, __ATOMIC_RELAXED));
    int events = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                 ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    port->monitor = zmq_socket(zmq_context, ZMQ_PAIR);
    if (!port->monitor) {
        return WP_E_NOMEM;
    }
    if (option_set(port->monitor, ZMQ_LINGER, 0) != WP_OK ||
        zmq_socket_monitor(port->socket, endpoint, events) != 0 ||
        zmq_connect(port->monitor, endpoint) != 0) {
        return WP_E_IO;
    }
    return wp_zsocket_watch(zloop, port->monitor, &port->events);
}

int wp_port_open(struct wp_port *port, struct wp_zloop *zloop, void *zmq_context,
    const struct wp_keypair *keys, const char *server_key)
{
    *port = (struct wp_port){.listening = !server_key};
    if (server_key && strlen(server_key) != WP_KEY_TEXT_SIZE - 1) {
        return WP_E_INVALID;
    }
    port->socket = zmq_socket(zmq_context, port->listening ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!port->socket) {
        return WP_E_NOMEM;
    }
    int error = options_set(port, keys, server_key);
    error = error ? error : monitor_open(port, zloop, zmq_context);
    error = error ? error : wp_zsocket_watch(zloop, port->socket, &port->data);
    if (error) {
        wp_port_close(port, 0);
    }
    return error;
}

void wp_port_close(struct wp_port *port, int linger_ms)
{
    wp_zsocket_unwatch(&port->events);
    wp_zsocket_unwatch(&port->data);
    if (port->socket) {
        option_set(port->socket, ZMQ_LINGER, linger_ms);
        zmq_socket_monitor(port->socket, NULL, 0);
        zmq_close(port->socket);
    }
    if (port->monitor) {
        zmq_close(port->monitor);
    }
    port->socket = port->monitor = NULL;
}

static int address_error(void)
{
    switch (errno) {
    case EADDRINUSE:
        return WP_E_BUSY;
    case EINVAL:
    case EPROTONOSUPPORT:
    case ENODEV:
    case EADDRNOTAVAIL:
        return WP_E_INVALID;
    default:
        return WP_E_IO;
    }
}

int wp_port_bind(struct wp_port *port, const char *endpoint, char *ret_endpoint, size_t endpoint_size)
{
    if (zmq_bind(port->socket, endpoint) != 0) {
        return address_error();
    }
    if (ret_endpoint && zmq_getsockopt(port->socket, ZMQ_LAST_ENDPOINT, ret_endpoint, &endpoint_size) != 0) {
        return WP_E_INVALID;
    }
    return WP_OK;
}

int wp_port_connect(struct wp_port *port, const char *endpoint)
{
    return zmq_connect(port->socket, endpoint) == 0 ? WP_OK : address_error();
}

/* Receives one monitor event (two parts: number and value, address). */
static bool monitor_receive(void *monitor, uint16_t *ret_number, int *ret_value)
{
    uint8_t part[6];
    char address[512];
    int size;
    do {
        size = zmq_recv(monitor, part, sizeof part, ZMQ_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return false;
    }
    int address_size;
    do {
        address_size = zmq_recv(monitor, address, sizeof address, 0);
    } while (address_size < 0 && errno == EINTR);
    uint32_t value = 0;
    if (size == sizeof part) {
        memcpy(ret_number, part, 2);
        memcpy(&value, part + 2, 4);
    } else {
        *ret_number = 0;
    }
    *ret_value = (int)value;
    return true;
}

int wp_port_event_next(struct wp_port *port, enum wp_port_event *ret_event, int *ret_fd)
{
    uint16_t number;
    int value;
    while (monitor_receive(port->monitor, &number, &value)) {
        *ret_fd = -1;
        switch (number) {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            *ret_event = WP_PORT_CONNECTED;
            return 1;
        case ZMQ_EVENT_DISCONNECTED:
            *ret_event = WP_PORT_LOST;
            *ret_fd = value;
            return 1;
        case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            *ret_event = WP_PORT_DENIED;
            return 1;
        default: /* 0: the monitor was stopped */
            break;
        }
    }
    return 0;
}

static bool part_receive(void *socket, zmq_msg_t *message)
{
    zmq_msg_init(message);
    int rc;
    do {
        rc = zmq_msg_recv(message, socket, ZMQ_DONTWAIT);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        zmq_msg_close(message);
    }
    return rc >= 0;
}

/* Receives the parts of one message into `ret_message`; *ret_count says how many there were. False: nothing
 * waits. The parts of a message arrive together, so only the first can be missing. */
static bool parts_receive(struct wp_port *port, struct wp_port_message *ret_message, unsigned *ret_count)
{
    unsigned payload_index = port->listening ? 1 : 0;
    *ret_count = 0;
    ret_message->routing_id_size = 0;
    zmq_msg_init(&ret_message->payload);
    for (bool more = true; more;) {
        zmq_msg_t part;
        if (!part_receive(port->socket, &part)) {
            return *ret_count > 0;
        }
        more = zmq_msg_more(&part);
        size_t size = zmq_msg_size(&part);
        if (*ret_count < payload_index && size <= WP_ROUTING_ID_SIZE_MAX) {
            memcpy(ret_message->routing_id, zmq_msg_data(&part), size);
            ret_message->routing_id_size = (uint8_t)size;
        } else if (*ret_count == payload_index) {
            zmq_msg_move(&ret_message->payload, &part);
        }
        zmq_msg_close(&part);
        (*ret_count)++;
    }
    return true;
}

int wp_port_receive(struct wp_port *port, struct wp_port_message *ret_message)
{
    unsigned count;
    while (parts_receive(port, ret_message, &count)) {
        if (count != (port->listening ? 2u : 1u)) {
            zmq_msg_close(&ret_message->payload);
            continue;
        }
        const char *user_id = port->listening ? zmq_msg_gets(&ret_message->payload, "User-Id") : NULL;
        ret_message->user_id = user_id ? user_id : "";
        ret_message->fd = zmq_msg_get(&ret_message->payload, ZMQ_SRCFD);
        return 1;
    }
    return 0;
}

void wp_port_message_fini(struct wp_port_message *message)
{
    zmq_msg_close(&message->payload);
}

struct wp_slice wp_port_message_payload(struct wp_port_message *message)
{
    return wp_slice(zmq_msg_data(&message->payload), zmq_msg_size(&message->payload));
}

static bool port_writable(struct wp_port *port)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(port->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLOUT);
}

int wp_port_send_start(struct wp_port *port, const uint8_t *routing_id, size_t routing_id_size)
{
    wp_zsocket_touch(port->data);
    if (!port->listening) {
        return port_writable(port) ? WP_OK : WP_E_FULL;
    }
    int rc;
    do {
        rc = zmq_send(port->socket, routing_id, routing_id_size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    } while (rc < 0 && errno == EINTR);
    if (rc >= 0) {
        return WP_OK;
    }
    return errno == EAGAIN ? WP_E_FULL : WP_E_CLOSED;
}

static void batch_free(void *data, void *hint)
{
    (void)hint;
    free(data);
}

void wp_port_send_finish(struct wp_port *port, struct wp_buffer *batch)
{
    zmq_msg_t message;
    /* Out of memory for the small control block: an empty message ends the pending multi-part one, and the
     * peer takes it for a malformed batch and starts the link again. */
    if (zmq_msg_init_data(&message, batch->data, batch->size, batch_free, NULL) == 0) {
        *batch = (struct wp_buffer)WP_BUFFER_INIT;
    } else {
        zmq_msg_init(&message);
    }
    int rc;
    do {
        rc = zmq_msg_send(&message, port->socket, ZMQ_DONTWAIT);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        zmq_msg_close(&message);
    }
    wp_buffer_free(batch);
}
