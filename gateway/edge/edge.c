/* Listeners, certificates and the clock of the connections. */
#include "gateway/edge/edge.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "gateway/edge/edge_internal.h"

#define BACKLOG 1024

static const struct kind_row {
    const char *name;
    bool tls;
} kind_rows[WP_EDGE_KIND_COUNT] = {
    [WP_EDGE_MQTT] = {"mqtt", false},
    [WP_EDGE_MQTTS] = {"mqtts", true},
    [WP_EDGE_WS] = {"ws", false},
    [WP_EDGE_WSS] = {"wss", true},
};

const char *wp_edge_kind_name(enum wp_edge_kind kind)
{
    return kind_rows[kind].name;
}

static bool kind_wanted(const struct wp_edge *edge, enum wp_edge_kind kind)
{
    return edge->config.listen[kind] && edge->config.listen[kind][0];
}

int wp_edge_create(const struct wp_edge_config *config, struct wp_edge **ret_edge)
{
    struct wp_edge *edge = calloc(1, sizeof *edge);
    if (!edge) {
        return WP_E_NOMEM;
    }
    edge->config = *config;
    for (int kind = 0; kind < WP_EDGE_KIND_COUNT; kind++) {
        edge->listeners[kind].edge = edge;
        edge->listeners[kind].kind = (enum wp_edge_kind)kind;
    }
    *ret_edge = edge;
    return WP_OK;
}

/* Splits "HOST:PORT" or "[HOST]:PORT". WP_OK or WP_E_CONFIG. */
static int address_parse(const char *text, struct sockaddr_storage *ret_address)
{
    char host[INET6_ADDRSTRLEN + 1];
    const char *colon = strrchr(text, ':');
    if (!colon) {
        return WP_E_CONFIG;
    }
    bool bracketed = text[0] == '[' && colon > text && colon[-1] == ']';
    size_t size = (size_t)(colon - text) - (bracketed ? 2 : 0);
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (size >= sizeof host || colon[1] == '\0' || *end != '\0' || port > 65535) {
        return WP_E_CONFIG;
    }
    memcpy(host, text + (bracketed ? 1 : 0), size);
    host[size] = '\0';
    memset(ret_address, 0, sizeof *ret_address);
    return uv_ip4_addr(host, (int)port, (struct sockaddr_in *)ret_address) == 0 ||
                   uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)ret_address) == 0
               ? WP_OK
               : WP_E_CONFIG;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static void bound_tell(struct wp_listener *listener)
{
    struct sockaddr_storage address;
    int size = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";
    if (uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&address, &size) != 0) {
        return;
    }
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        uv_ip4_name(v4, host, sizeof host);
        snprintf(listener->address, sizeof listener->address, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(v6, host, sizeof host);
        snprintf(listener->address, sizeof listener->address, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct wp_listener *listener = stream->data;
    if (status < 0) {
        wp_log(WP_LOG_WARN, "accept_failed", "listener=%s reason=%s", wp_edge_kind_name(listener->kind),
            uv_err_name(status));
        return;
    }
    wp_connection_accept(listener);
}

static int listener_open(struct wp_edge *edge, enum wp_edge_kind kind, char *ret_text, size_t text_size)
{
    struct wp_listener *listener = &edge->listeners[kind];
    const char *name = kind_rows[kind].name;
    const char *wanted = edge->config.listen[kind];
    struct sockaddr_storage address;
    if (address_parse(wanted, &address) != WP_OK) {
        snprintf(
            ret_text, text_size, "listen.%s is \"%s\", not an address like 127.0.0.1:1883", name, wanted);
        return WP_E_CONFIG;
    }
    if (!kind_rows[kind].tls && !is_loopback(&address)) {
        snprintf(ret_text, text_size,
            "listen.%s \"%s\" is not on loopback: secrets would travel in the clear, use %ss", name, wanted,
            name);
        return WP_E_CONFIG;
    }
    int failed = uv_tcp_init(edge->config.loop, &listener->tcp);
    listener->open = failed == 0;
    listener->tcp.data = listener;
    failed = failed ? failed : uv_tcp_bind(&listener->tcp, (const struct sockaddr *)&address, 0);
    failed = failed ? failed : uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    if (failed) {
        snprintf(
            ret_text, text_size, "cannot listen for %s on \"%s\": %s", name, wanted, uv_strerror(failed));
        return failed == UV_EADDRINUSE ? WP_E_BUSY : WP_E_CONFIG;
    }
    bound_tell(listener);
    wp_log(WP_LOG_INFO, "listening", "protocol=%s address=%s", name, listener->address);
    return WP_OK;
}

static void on_timer(uv_timer_t *timer)
{
    struct wp_edge *edge = timer->data;
    uint64_t now_ms = wp_clock_mono_us() / 1000;
    struct wp_connection *next;
    for (struct wp_connection *connection = edge->connections; connection; connection = next) {
        next = connection->next;
        wp_connection_tick(connection, now_ms);
    }
}

static void handle_free(uv_handle_t *handle)
{
    free(handle);
}

int wp_edge_start(struct wp_edge *edge, struct wp_gateway *gateway, char *ret_text, size_t text_size)
{
    edge->gateway = gateway;
    if (kind_wanted(edge, WP_EDGE_MQTTS) || kind_wanted(edge, WP_EDGE_WSS)) {
        int error = wp_edge_reload(edge, ret_text, text_size);
        if (error) {
            return error;
        }
    }
    edge->timer = malloc(sizeof *edge->timer);
    if (!edge->timer) {
        snprintf(ret_text, text_size, "out of memory");
        return WP_E_NOMEM;
    }
    uv_timer_init(edge->config.loop, edge->timer);
    edge->timer->data = edge;
    uv_timer_start(edge->timer, on_timer, WP_EDGE_TICK_MS, WP_EDGE_TICK_MS);
    for (int kind = 0; kind < WP_EDGE_KIND_COUNT; kind++) {
        int error = kind_wanted(edge, (enum wp_edge_kind)kind)
                        ? listener_open(edge, (enum wp_edge_kind)kind, ret_text, text_size)
                        : WP_OK;
        if (error) {
            wp_edge_stop(edge);
            return error;
        }
    }
    return WP_OK;
}

const char *wp_edge_address(const struct wp_edge *edge, enum wp_edge_kind kind)
{
    return edge->listeners[kind].address;
}

uint32_t wp_edge_connections(const struct wp_edge *edge)
{
    return edge->connection_count;
}

int wp_edge_reload(struct wp_edge *edge, char *ret_text, size_t text_size)
{
    if (!kind_wanted(edge, WP_EDGE_MQTTS) && !kind_wanted(edge, WP_EDGE_WSS)) {
        return WP_OK;
    }
    struct wp_tls_context *fresh;
    int error = wp_tls_context_create(edge->config.certificate ? edge->config.certificate : "",
        edge->config.key ? edge->config.key : "", edge->tls, &fresh, ret_text, text_size);
    if (error) {
        return error;
    }
    wp_tls_context_destroy(&edge->tls); /* living connections hold their own reference */
    edge->tls = fresh;
    return WP_OK;
}

void wp_edge_stop(struct wp_edge *edge)
{
    for (int kind = 0; kind < WP_EDGE_KIND_COUNT; kind++) {
        struct wp_listener *listener = &edge->listeners[kind];
        if (listener->open) {
            listener->open = false;
            uv_close((uv_handle_t *)&listener->tcp, NULL);
        }
    }
}

void wp_edge_drop(struct wp_edge *edge)
{
    wp_edge_stop(edge);
    for (struct wp_connection *connection = edge->connections; connection; connection = connection->next) {
        wp_connection_drop(connection);
    }
    if (edge->timer) {
        uv_close((uv_handle_t *)edge->timer, handle_free);
        edge->timer = NULL;
    }
}

void wp_edge_destroy(struct wp_edge **edge)
{
    if (!*edge) {
        return;
    }
    WP_ASSERT(!(*edge)->connections && !(*edge)->timer);
    wp_tls_context_destroy(&(*edge)->tls);
    wp_buffer_free(&(*edge)->plain);
    wp_buffer_free(&(*edge)->mqtt);
    wp_buffer_free(&(*edge)->frames);
    free(*edge);
    *edge = NULL;
}
