/* See net.h. Side 0 of a connection made it, side 1 listens. */
#include "tests/sim/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/error.h"
#include "node/port.h"
#include "node/zap.h"
#include "tests/sim/zap.h"

#define RECONNECT_US 100000u
#define PIPE_MESSAGES_MAX 4u /* on their way in one direction of a connection */
#define PIPE_BYTES_MAX (512u * 1024)

struct message {
    struct message *next;
    struct conn *conn;
    uint8_t to_side;
    uint32_t size;
    uint8_t data[];
};

struct queue {
    struct message *first, **last;
};

struct happening {
    struct happening *next;
    enum wp_port_event event;
    int fd;
};

struct conn {
    struct conn *next;
    struct sim_socket *sides[2]; /* NULL: that side is gone */
    uint32_t process[2];
    int fd;
    bool broken;
    char user_id[128];
    uint64_t arrival_us[2]; /* by receiving side: nothing arrives before it */
    uint32_t under_way[2], bytes_under_way[2];
    struct queue stalled[2]; /* by receiving side: the direction is cut */
};

struct sim_socket {
    struct sim_socket *next;
    struct sim_process *process;
    struct wp_port *port; /* NULL: closed */
    bool listening;
    char endpoint[64];
    char own_key[WP_KEY_TEXT_SIZE];
    char server_key[WP_KEY_TEXT_SIZE];
    struct wp_zap *zap;
    struct conn *conn;    /* connecting side */
    struct conn *sending; /* between send_start and send_finish */
    struct queue received;
    struct happening *happenings, **happenings_last;
};

static struct sim_socket *sockets;
static struct conn *conns;
static int fds;
static bool cut[SIM_PROCESSES_MAX][SIM_PROCESSES_MAX];
static uint64_t slow_us[SIM_PROCESSES_MAX][SIM_PROCESSES_MAX];

static void queue_put(struct queue *queue, struct message *message)
{
    message->next = NULL;
    if (!queue->first) {
        queue->last = &queue->first;
    }
    *queue->last = message;
    queue->last = &message->next;
}

static struct message *queue_take(struct queue *queue)
{
    struct message *message = queue->first;
    if (message) {
        queue->first = message->next;
    }
    return message;
}

uint64_t sim_net_delay(uint32_t from, uint32_t to)
{
    uint64_t delay_us = 30 + sim_random(300);
    if (sim_chance(20)) {
        delay_us += sim_random(20000); /* a scheduler, a retransmission */
    }
    return delay_us + slow_us[from][to];
}

/* --- events of a socket --- */

static void happening_add(struct sim_socket *socket, enum wp_port_event event, int fd)
{
    struct happening *made = calloc(1, sizeof *made);
    WP_ASSERT(made);
    *made = (struct happening){.event = event, .fd = fd};
    if (!socket->happenings) {
        socket->happenings_last = &socket->happenings;
    }
    *socket->happenings_last = made;
    socket->happenings_last = &made->next;
    sim_zsocket_ready(socket->port->events);
}

static void lost_fire(void *context, uint64_t argument)
{
    struct conn *conn = context;
    struct sim_socket *socket = conn->sides[argument];
    if (socket && socket->port) {
        conn->sides[argument] = NULL;
        happening_add(socket, WP_PORT_LOST, conn->fd);
    }
}

/* The connection ends for `side` after what is on its way to it. */
static void conn_lose(struct conn *conn, unsigned side)
{
    struct sim_socket *socket = conn->sides[side];
    if (socket) {
        uint64_t at_us = sim_now_us() + sim_net_delay(conn->process[!side], conn->process[side]);
        at_us = at_us > conn->arrival_us[side] ? at_us : conn->arrival_us[side] + 1;
        sim_after(at_us - sim_now_us(), socket->process, lost_fire, conn, side);
    }
}

static void conn_break(struct conn *conn, bool tell_0, bool tell_1)
{
    if (conn->broken) {
        return;
    }
    conn->broken = true;
    if (tell_0) {
        conn_lose(conn, 0);
    }
    if (tell_1) {
        conn_lose(conn, 1);
    }
}

/* --- messages --- */

static void arrive(void *context, uint64_t argument)
{
    struct message *message = context;
    struct conn *conn = message->conn;
    unsigned side = message->to_side;
    struct sim_socket *socket = conn->sides[side];
    struct sim_socket *sender = conn->sides[!side];
    (void)argument;
    conn->under_way[side]--;
    conn->bytes_under_way[side] -= message->size;
    if (sender && sender->port && !sender->listening) {
        sim_zsocket_ready(sender->port->data); /* it may be writable again */
    }
    if (!socket || !socket->port) {
        free(message);
        return;
    }
    sim_trace_data("receive", message->data, message->size);
    queue_put(&socket->received, message);
    sim_zsocket_ready(socket->port->data);
}

static void message_go(struct message *message)
{
    struct conn *conn = message->conn;
    unsigned side = message->to_side;
    uint64_t at_us = sim_now_us() + sim_net_delay(conn->process[!side], conn->process[side]);
    at_us = at_us > conn->arrival_us[side] ? at_us : conn->arrival_us[side] + 1;
    conn->arrival_us[side] = at_us;
    struct sim_socket *socket = conn->sides[side];
    sim_after(at_us - sim_now_us(), socket ? socket->process : NULL, arrive, message, 0);
}

static void stalled_go(struct conn *conn, unsigned side)
{
    for (struct message *message; (message = queue_take(&conn->stalled[side]));) {
        message_go(message);
    }
}

void sim_net_cut(uint32_t from, uint32_t to, bool is_cut)
{
    cut[from][to] = is_cut;
    for (struct conn *conn = conns; conn && !is_cut; conn = conn->next) {
        for (unsigned side = 0; side < 2; side++) {
            if (conn->process[side] == to && conn->process[!side] == from) {
                stalled_go(conn, side);
            }
        }
    }
}

bool sim_net_is_cut(uint32_t from, uint32_t to)
{
    return cut[from][to];
}

void sim_net_slow(uint32_t from, uint32_t to, uint64_t extra_us)
{
    slow_us[from][to] = extra_us;
}

void sim_net_break(uint32_t a, uint32_t b)
{
    for (struct conn *conn = conns; conn; conn = conn->next) {
        if ((conn->process[0] == a && conn->process[1] == b) ||
            (conn->process[0] == b && conn->process[1] == a)) {
            conn_break(conn, true, true);
        }
    }
}

static void socket_forget(struct sim_socket *socket)
{
    for (struct message *message; (message = queue_take(&socket->received));) {
        free(message);
    }
    while (socket->happenings) {
        struct happening *next = socket->happenings->next;
        free(socket->happenings);
        socket->happenings = next;
    }
    socket->port = NULL;
}

/* The socket closes: its connections end for the others. */
static void socket_leave(struct sim_socket *socket, bool silent)
{
    for (struct conn *conn = conns; conn; conn = conn->next) {
        for (unsigned side = 0; side < 2; side++) {
            if (conn->sides[side] == socket) {
                conn->sides[side] = NULL;
                bool told = !silent && !cut[conn->process[side]][conn->process[!side]];
                conn_break(conn, side == 1 && told, side == 0 && told);
            }
        }
    }
}

void sim_net_gone(struct sim_process *process, bool silent)
{
    for (struct sim_socket *socket = sockets; socket; socket = socket->next) {
        if (socket->process == process && socket->port) {
            socket_leave(socket, silent);
        }
    }
}

bool sim_socket_waiting(const struct sim_socket *socket)
{
    return socket->received.first || socket->happenings;
}

/* --- node/port.h --- */

int wp_port_open(struct wp_port *port, struct wp_zloop *zloop, void *zmq_context,
    const struct wp_keypair *keys, const char *server_key)
{
    struct sim_socket *socket = calloc(1, sizeof *socket);
    WP_ASSERT(socket && sim_current());
    *port = (struct wp_port){.socket = socket, .monitor = socket, .listening = !server_key};
    socket->process = sim_current();
    socket->port = port;
    socket->listening = port->listening;
    socket->zap = zmq_context; /* the simulated context is the allow-list */
    memcpy(socket->own_key, keys->public_text, sizeof socket->own_key);
    snprintf(socket->server_key, sizeof socket->server_key, "%s", server_key ? server_key : "");
    socket->next = sockets;
    sockets = socket;
    wp_zsocket_watch(zloop, socket, &port->events);
    wp_zsocket_watch(zloop, socket, &port->data);
    return WP_OK;
}

void wp_port_close(struct wp_port *port, int linger_ms)
{
    struct sim_socket *socket = port->socket;
    (void)linger_ms;
    wp_zsocket_unwatch(&port->events);
    wp_zsocket_unwatch(&port->data);
    port->socket = port->monitor = NULL;
    if (socket) {
        socket_leave(socket, !socket->process->alive);
        socket_forget(socket);
    }
}

int wp_port_bind(struct wp_port *port, const char *endpoint, char *ret_endpoint, size_t endpoint_size)
{
    struct sim_socket *socket = port->socket;
    snprintf(socket->endpoint, sizeof socket->endpoint, "%s", endpoint);
    if (ret_endpoint) {
        snprintf(ret_endpoint, endpoint_size, "%s", endpoint);
    }
    return WP_OK;
}

static struct sim_socket *listener_find(const char *endpoint)
{
    for (struct sim_socket *socket = sockets; socket; socket = socket->next) {
        if (socket->listening && socket->port && socket->process->alive &&
            strcmp(socket->endpoint, endpoint) == 0) {
            return socket;
        }
    }
    return NULL;
}

static void connect_try(void *context, uint64_t argument)
{
    struct sim_socket *socket = context;
    (void)argument;
    if (!socket->port || socket->conn) {
        return;
    }
    struct sim_socket *listener = listener_find(socket->endpoint);
    bool there = listener && !cut[socket->process->index][listener->process->index] &&
                 !cut[listener->process->index][socket->process->index] &&
                 listener->process->paused_until_us <= sim_now_us();
    if (!there) {
        sim_after(RECONNECT_US + sim_random(RECONNECT_US / 2), socket->process, connect_try, socket, 0);
        return;
    }
    char user_id[128];
    if (strcmp(sim_zap_own_key(listener->zap), socket->server_key) != 0 ||
        !sim_zap_user(listener->zap, socket->own_key, user_id, sizeof user_id)) {
        happening_add(socket, WP_PORT_DENIED, -1);
        return;
    }
    struct conn *conn = calloc(1, sizeof *conn);
    WP_ASSERT(conn);
    conn->sides[0] = socket;
    conn->sides[1] = listener;
    conn->process[0] = socket->process->index;
    conn->process[1] = listener->process->index;
    conn->fd = ++fds;
    memcpy(conn->user_id, user_id, sizeof user_id);
    conn->next = conns;
    conns = conn;
    socket->conn = conn;
    happening_add(socket, WP_PORT_CONNECTED, conn->fd);
}

int wp_port_connect(struct wp_port *port, const char *endpoint)
{
    struct sim_socket *socket = port->socket;
    snprintf(socket->endpoint, sizeof socket->endpoint, "%s", endpoint);
    sim_after(200 + sim_random(1500), socket->process, connect_try, socket, 0);
    return WP_OK;
}

int wp_port_event_next(struct wp_port *port, enum wp_port_event *ret_event, int *ret_fd)
{
    struct sim_socket *socket = port->socket;
    struct happening *first = socket->happenings;
    if (!first) {
        return 0;
    }
    *ret_event = first->event;
    *ret_fd = first->fd;
    socket->happenings = first->next;
    free(first);
    return 1;
}

static void routing_id_write(const struct conn *conn, uint8_t out[5])
{
    uint32_t number = (uint32_t)conn->fd;
    out[0] = 0;
    memcpy(out + 1, &number, 4);
}

int wp_port_receive(struct wp_port *port, struct wp_port_message *ret_message)
{
    struct sim_socket *socket = port->socket;
    struct message *message = queue_take(&socket->received);
    if (!message) {
        return 0;
    }
    int rc = zmq_msg_init_size(&ret_message->payload, message->size);
    WP_ASSERT(rc == 0);
    memcpy(zmq_msg_data(&ret_message->payload), message->data, message->size);
    ret_message->routing_id_size = socket->listening ? 5 : 0;
    routing_id_write(message->conn, ret_message->routing_id);
    ret_message->fd = message->conn->fd;
    ret_message->user_id = socket->listening ? message->conn->user_id : "";
    free(message);
    return 1;
}

void wp_port_message_fini(struct wp_port_message *message)
{
    zmq_msg_close(&message->payload);
}

struct wp_slice wp_port_message_payload(struct wp_port_message *message)
{
    return wp_slice(zmq_msg_data(&message->payload), zmq_msg_size(&message->payload));
}

static struct conn *conn_routed(const struct sim_socket *socket, const uint8_t *routing_id)
{
    for (struct conn *conn = conns; conn; conn = conn->next) {
        uint8_t id[5];
        routing_id_write(conn, id);
        if (conn->sides[1] == socket && memcmp(id, routing_id, sizeof id) == 0) {
            return conn;
        }
    }
    return NULL;
}

int wp_port_send_start(struct wp_port *port, const uint8_t *routing_id, size_t routing_id_size)
{
    struct sim_socket *socket = port->socket;
    (void)routing_id_size;
    struct conn *conn = socket->listening ? conn_routed(socket, routing_id) : socket->conn;
    if (!conn || conn->broken) {
        return socket->listening ? WP_E_CLOSED : WP_E_FULL;
    }
    unsigned side = socket->listening ? 0 : 1;
    if (conn->under_way[side] >= PIPE_MESSAGES_MAX && conn->bytes_under_way[side] >= PIPE_BYTES_MAX / 4) {
        return WP_E_FULL;
    }
    socket->sending = conn;
    return WP_OK;
}

void wp_port_send_finish(struct wp_port *port, struct wp_buffer *batch)
{
    struct sim_socket *socket = port->socket;
    struct conn *conn = socket->sending;
    unsigned side = socket->listening ? 0 : 1;
    sim_effect();
    if (sim_effective() && conn->sides[side]) {
        struct message *message = malloc(sizeof *message + batch->size);
        WP_ASSERT(message);
        *message = (struct message){.conn = conn, .to_side = (uint8_t)side, .size = (uint32_t)batch->size};
        memcpy(message->data, batch->data, batch->size);
        conn->under_way[side]++;
        conn->bytes_under_way[side] += message->size;
        if (cut[conn->process[!side]][conn->process[side]] || conn->stalled[side].first) {
            queue_put(&conn->stalled[side], message);
        } else {
            message_go(message);
        }
    }
    wp_buffer_free(batch);
}

void sim_net_free(void)
{
    while (sockets) {
        struct sim_socket *next = sockets->next;
        socket_forget(sockets);
        free(sockets);
        sockets = next;
    }
    while (conns) {
        struct conn *next = conns->next;
        for (unsigned side = 0; side < 2; side++) {
            for (struct message *message; (message = queue_take(&conns->stalled[side]));) {
                free(message);
            }
        }
        free(conns);
        conns = next;
    }
}
