/* One connection: socket -> [TLS] -> [WebSocket] -> session, and back.
 *
 *   1. Bytes that were read go through TLS and WebSocket at once; only MQTT bytes wait (in `in`), and nothing
 * is read while the client is blocked, so what waits is at most one read.
 *   2. At most one uv_write is under way; what comes meanwhile gathers and goes with the next one.
 *   3. The client is closed before the handle; after that no callback of the gateway names this connection.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/edge/edge_internal.h"

#define NOT_SENT_LOW_WATER 16384 /* bytes the kernel takes before they can leave */

static void connection_flush(struct wp_connection *connection);
static void reading_update(struct wp_connection *connection);

static uint64_t now_ms(void)
{
    return wp_clock_mono_us() / 1000;
}

static void on_closed(uv_handle_t *handle)
{
    struct wp_connection *connection = handle->data;
    struct wp_edge *edge = connection->edge;
    *(connection->previous ? &connection->previous->next : &edge->connections) = connection->next;
    if (connection->next) {
        connection->next->previous = connection->previous;
    }
    edge->connection_count--;
    wp_metric_set(WP_M_CONNECTIONS, edge->connection_count);
    wp_tls_destroy(&connection->tls);
    wp_websocket_destroy(&connection->websocket);
    wp_buffer_free(&connection->in);
    wp_buffer_free(&connection->wire);
    wp_buffer_free(&connection->writing);
    free(connection);
}

void wp_connection_drop(struct wp_connection *connection)
{
    if (connection->state == WP_CONNECTION_CLOSING) {
        return;
    }
    connection->state = WP_CONNECTION_CLOSING;
    wp_client_close(&connection->client);
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct wp_connection *connection = request->data;
    if (status < 0) {
        wp_connection_drop(connection);
    }
}

/* Everything is written: closes our side and lets the peer read it. Closing at once would answer bytes that
 * are still on their way to us with a reset, which can overtake what we sent. */
static void connection_linger(struct wp_connection *connection)
{
    connection->state = WP_CONNECTION_LINGERING;
    connection->deadline_ms = now_ms() + WP_EDGE_LINGER_MS;
    connection->shutdown.data = connection;
    if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown) != 0) {
        wp_connection_drop(connection);
        return;
    }
    reading_update(connection);
}

static void on_written(uv_write_t *request, int status)
{
    struct wp_connection *connection = request->data;
    wp_buffer_free(&connection->writing);
    if (status < 0) {
        wp_connection_drop(connection);
        return;
    }
    connection_flush(connection);
    wp_gateway_turn(connection->edge->gateway);
}

/* Gives `wire` to the socket. What does not fit at once is left to libuv. */
static void wire_write(struct wp_connection *connection)
{
    uv_buf_t part = uv_buf_init((char *)connection->wire.data, (unsigned)connection->wire.size);
    int written = uv_try_write((uv_stream_t *)&connection->tcp, &part, 1);
    if (written < 0 && written != UV_EAGAIN) {
        wp_connection_drop(connection);
        return;
    }
    size_t done = written > 0 ? (size_t)written : 0;
    if (done == connection->wire.size) {
        wp_buffer_free(&connection->wire);
        return;
    }
    connection->writing = connection->wire;
    connection->wire = (struct wp_buffer)WP_BUFFER_INIT;
    part = uv_buf_init((char *)connection->writing.data + done, (unsigned)(connection->writing.size - done));
    connection->write.data = connection;
    if (uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &part, 1, on_written) != 0) {
        wp_connection_drop(connection);
    }
}

/* Moves client->out through the layers into `wire`. */
static int out_wrap(struct wp_connection *connection)
{
    struct wp_edge *edge = connection->edge;
    struct wp_buffer *out = &connection->client->out;
    if (!connection->tls && !connection->websocket && connection->wire.size == 0) {
        wp_buffer_free(&connection->wire);
        connection->wire = *out;
        *out = (struct wp_buffer)WP_BUFFER_INIT;
        return WP_OK;
    }
    struct wp_slice bytes = wp_slice(out->data, out->size);
    struct wp_buffer *frames = connection->tls ? &edge->frames : &connection->wire;
    int error = WP_OK;
    if (connection->websocket) {
        edge->frames.size = 0;
        error = wp_websocket_output(connection->websocket, bytes, frames);
        bytes = wp_slice(frames->data, frames->size);
    }
    if (!error && connection->tls) {
        error = wp_tls_output(connection->tls, bytes, &connection->wire);
    } else if (!error && !connection->websocket) {
        error = wp_buffer_append(&connection->wire, bytes.data, bytes.size);
    }
    wp_buffer_free(out);
    return error;
}

/* Appends what the layers say at the end: a close frame, a close_notify. */
static void goodbye_append(struct wp_connection *connection)
{
    struct wp_edge *edge = connection->edge;
    if (connection->websocket) {
        struct wp_buffer *frames = connection->tls ? &edge->frames : &connection->wire;
        edge->frames.size = 0;
        wp_websocket_close(connection->websocket, WP_WEBSOCKET_NORMAL, frames);
        if (connection->tls && frames->size > 0) {
            (void)wp_tls_output(connection->tls, wp_slice(frames->data, frames->size), &connection->wire);
        }
    }
    if (connection->tls) {
        wp_tls_close(connection->tls, &connection->wire);
    }
}

/* The session is over, or the transport is: writes the rest, then closes. */
static void connection_finish(struct wp_connection *connection)
{
    if (connection->state != WP_CONNECTION_OPEN) {
        return;
    }
    if (connection->client && connection->client->out.size > 0) {
        (void)out_wrap(connection); /* without memory for the last words the close itself has to say it */
    }
    goodbye_append(connection);
    connection->state = WP_CONNECTION_ENDING;
    connection->deadline_ms = now_ms() + WP_EDGE_LINGER_MS;
    wp_client_close(&connection->client);
    wp_buffer_free(&connection->in);
    connection_flush(connection);
}

static void connection_flush(struct wp_connection *connection)
{
    struct wp_client *client = connection->client;
    if (connection->state == WP_CONNECTION_CLOSING || connection->state == WP_CONNECTION_LINGERING) {
        return;
    }
    if (connection->failed) {
        wp_connection_drop(connection);
        return;
    }
    if (client && client->session.state == WP_SESSION_CLOSED && !connection->in_input) {
        connection_finish(connection);
        return;
    }
    if (client && connection->writing.size == 0 && client->out.size > 0 && out_wrap(connection) != WP_OK) {
        wp_connection_drop(connection);
        return;
    }
    if (connection->writing.size == 0 && connection->wire.size > 0) {
        wire_write(connection);
    }
    if (connection->state == WP_CONNECTION_ENDING && connection->writing.size == 0 &&
        connection->wire.size == 0) {
        connection_linger(connection);
        return;
    }
    if (connection->state != WP_CONNECTION_OPEN || !client) {
        return;
    }
    client->wire_bytes = connection->wire.size + connection->writing.size;
    wp_client_writable(client);
    reading_update(connection);
}

/* Offers MQTT bytes to the session and keeps what it does not take. */
static void mqtt_input(struct wp_connection *connection, struct wp_slice bytes)
{
    struct wp_client *client = connection->client;
    int error = WP_OK;
    connection->in_input = true;
    if (connection->in.size == 0) {
        size_t taken = wp_client_input(client, bytes);
        if (taken < bytes.size) {
            error = wp_buffer_append(&connection->in, bytes.data + taken, bytes.size - taken);
        }
    } else {
        error = wp_buffer_append(&connection->in, bytes.data, bytes.size);
        size_t taken =
            error ? 0 : wp_client_input(client, wp_slice(connection->in.data, connection->in.size));
        wp_buffer_consume(&connection->in, taken);
        if (connection->in.size == 0) {
            wp_buffer_free(&connection->in);
        }
    }
    connection->in_input = false;
    /* The caller may be in the middle of the gateway's turn: the flush that follows drops it. */
    connection->failed = error != WP_OK;
}

/* Unwraps what the socket gave. An error ends the connection once what it left for the peer is written. */
static int wire_unwrap(struct wp_connection *connection, struct wp_slice bytes, struct wp_slice *ret_mqtt)
{
    struct wp_edge *edge = connection->edge;
    int error = WP_OK;
    if (connection->tls) {
        edge->plain.size = 0;
        error = wp_tls_input(connection->tls, bytes, &edge->plain, &connection->wire);
        bytes = wp_slice(edge->plain.data, edge->plain.size);
    }
    if (connection->websocket && bytes.size > 0) {
        struct wp_buffer *answer = connection->tls ? &edge->frames : &connection->wire;
        edge->mqtt.size = 0;
        edge->frames.size = 0;
        int broken = wp_websocket_input(connection->websocket, bytes, &edge->mqtt, answer);
        if (connection->tls && answer->size > 0) {
            (void)wp_tls_output(connection->tls, wp_slice(answer->data, answer->size), &connection->wire);
        }
        error = error ? error : broken;
        bytes = wp_slice(edge->mqtt.data, edge->mqtt.size);
    }
    *ret_mqtt = bytes;
    return error;
}

static void connection_input(struct wp_connection *connection, struct wp_slice bytes)
{
    struct wp_slice mqtt;
    int error = wire_unwrap(connection, bytes, &mqtt);
    if (mqtt.size > 0) {
        mqtt_input(connection, mqtt);
    }
    if (connection->state != WP_CONNECTION_OPEN) {
        return;
    }
    if (error) {
        wp_metric_add(WP_M_PROTOCOL_ERRORS, error == WP_E_MALFORMED);
        connection_finish(connection);
        return;
    }
    connection_flush(connection);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    struct wp_connection *connection = handle->data;
    (void)suggested;
    *ret_buffer = uv_buf_init((char *)connection->edge->read_buffer, WP_EDGE_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct wp_connection *connection = stream->data;
    if (size < 0) {
        wp_connection_drop(connection);
    } else if (size > 0 && connection->state == WP_CONNECTION_OPEN) {
        connection_input(connection, wp_slice(buffer->base, (size_t)size));
        wp_gateway_turn(connection->edge->gateway);
    }
}

/* Reads while somebody takes what is read. While ending nothing is read; lingering throws it away. */
static void reading_update(struct wp_connection *connection)
{
    bool wanted = connection->state == WP_CONNECTION_LINGERING ||
                  (connection->state == WP_CONNECTION_OPEN && !wp_client_blocked(connection->client) &&
                      connection->client->out.size + connection->client->wire_bytes < 4 * WP_WRITE_AHEAD_MAX);
    if (connection->state == WP_CONNECTION_CLOSING || wanted == connection->reading) {
        return;
    }
    connection->reading = wanted;
    if (!wanted) {
        uv_read_stop((uv_stream_t *)&connection->tcp);
    } else if (uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read) != 0) {
        wp_connection_drop(connection);
    }
}

void wp_edge_output(void *context, struct wp_client *client)
{
    struct wp_connection *connection = client->connection;
    (void)context;
    if (!connection->in_input) {
        connection_flush(connection);
    }
}

void wp_edge_resume(void *context, struct wp_client *client)
{
    struct wp_connection *connection = client->connection;
    (void)context;
    if (connection->state == WP_CONNECTION_OPEN && connection->in.size > 0 && !connection->in_input) {
        mqtt_input(connection, wp_slice(NULL, 0));
    }
}

void wp_connection_tick(struct wp_connection *connection, uint64_t now)
{
    bool over = connection->state == WP_CONNECTION_ENDING || connection->state == WP_CONNECTION_LINGERING;
    if (over && now > connection->deadline_ms) {
        wp_connection_drop(connection);
    }
}

static bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family) {
        return false;
    }
    if (a->ss_family == AF_INET) {
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    }
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
               16) == 0;
}

static bool address_allowed(const struct wp_edge *edge, const struct wp_connection *connection)
{
    uint32_t count = 0;
    if (edge->config.connections_per_address_max == 0) {
        return true;
    }
    for (const struct wp_connection *other = edge->connections; other; other = other->next) {
        count += other != connection && address_equal(&other->peer, &connection->peer);
    }
    return count < edge->config.connections_per_address_max;
}

/* The layers and the session of an accepted socket. */
static int connection_equip(struct wp_connection *connection, enum wp_edge_kind kind)
{
    struct wp_edge *edge = connection->edge;
    int peer_size = sizeof connection->peer;
    (void)uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&connection->peer, &peer_size);
    if (!address_allowed(edge, connection)) {
        return WP_E_FULL;
    }
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&connection->tcp, &fd) == 0) {
        int low_water = NOT_SENT_LOW_WATER;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low_water, sizeof low_water);
    }
    (void)uv_tcp_nodelay(&connection->tcp, 1);
    int error = WP_OK;
    if (kind == WP_EDGE_MQTTS || kind == WP_EDGE_WSS) {
        error = wp_tls_create(edge->tls, &connection->tls);
    }
    if (!error && (kind == WP_EDGE_WS || kind == WP_EDGE_WSS)) {
        error = wp_websocket_create(&connection->websocket);
    }
    return error ? error : wp_client_open(edge->gateway, connection, &connection->client);
}

void wp_connection_accept(struct wp_listener *listener)
{
    struct wp_edge *edge = listener->edge;
    struct wp_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        return; /* libuv tries again with the next connection */
    }
    connection->edge = edge;
    uv_tcp_init(edge->config.loop, &connection->tcp);
    connection->tcp.data = connection;
    connection->next = edge->connections;
    if (edge->connections) {
        edge->connections->previous = connection;
    }
    edge->connections = connection;
    edge->connection_count++;
    wp_metric_set(WP_M_CONNECTIONS, edge->connection_count);
    wp_metric_add(WP_M_CONNECTIONS_TOTAL, 1);
    int error =
        uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&connection->tcp) == 0 ? WP_OK : WP_E_IO;
    error = error ? error : connection_equip(connection, listener->kind);
    if (error) {
        wp_metric_add(WP_M_CONNECTIONS_REFUSED, 1);
        wp_log(WP_LOG_DEBUG, "connection_refused", "listener=%s reason=%s", wp_edge_kind_name(listener->kind),
            wp_error_slug(error));
        wp_connection_drop(connection);
        return;
    }
    reading_update(connection);
}
