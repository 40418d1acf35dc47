/* The fabric's turn: everything that arrived goes up, then everything that is queued leaves.
 *
 * 1. Callbacks are made only inside a turn and wp_fabric_flush; links and sockets that they end are
 *    released after it.
 * 2. A peer is judged silent only in a turn that read its socket empty, so a stall of our own loop
 *    downs nobody.
 * 3. Nothing is sent to a link whose key was revoked: the check runs in the turn after the change. */
#include "node/fabric.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "node/link.h"

#define TICK_MS 100
#define WINDOW_BYTES_DEFAULT (8u * 1024 * 1024)
#define ARENA_BYTES_MAX (256u * 1024)
#define FLUSH_US_MAX 200000u

int wp_fabric_context_create(void **ret_zmq_context)
{
    void *context = zmq_ctx_new();
    if (!context) {
        return WP_E_NOMEM;
    }
    *ret_zmq_context = context;
    return WP_OK;
}

void wp_fabric_context_destroy(void **zmq_context)
{
    void *taken = *zmq_context;
    *zmq_context = NULL;
    while (taken && zmq_ctx_term(taken) != 0 && zmq_errno() == EINTR) {
        continue;
    }
}

static void links_flush(struct wp_fabric *fabric)
{
    do {
        fabric->flush_due = false;
        for (struct wp_link *link = fabric->links; link; link = link->next) {
            if (link->dirty && wp_link_flush(link) == WP_E_CLOSED) {
                wp_fabric_link_down(link, WP_E_CLOSED, fabric->now_us);
            }
        }
    } while (fabric->flush_due);
}

static void links_writable(struct wp_fabric *fabric)
{
    for (struct wp_link *link = fabric->links; link; link = link->next) {
        if (wp_link_take_writable(link)) {
            fabric->callbacks.writable(fabric->callbacks.context, link);
        }
    }
}

/* Releases what ended in this turn and opens sockets whose time has come. */
static void links_sweep(struct wp_fabric *fabric)
{
    struct wp_link **at = &fabric->links;
    while (*at) {
        struct wp_link *link = *at;
        bool idle = link->state == WP_LINK_STATE_WAITING || link->state == WP_LINK_STATE_GONE;
        if (idle && link->port.socket) {
            wp_port_close(&link->port, link->state == WP_LINK_STATE_GONE ? WP_LINK_CLOSE_LINGER_MS : 0);
        }
        if (link->state == WP_LINK_STATE_GONE) {
            *at = link->next;
            wp_link_output_reset(link);
            wp_link_input_reset(link);
            free(link->endpoint);
            free(link);
            continue;
        }
        if (link->state == WP_LINK_STATE_WAITING && link->retry_us <= fabric->now_us) {
            wp_connector_open(link);
        }
        at = &link->next;
    }
}

static void link_tick(struct wp_link *link, bool drained)
{
    struct wp_fabric *fabric = link->fabric;
    if (link->state == WP_LINK_STATE_GREETING && fabric->now_us - link->state_since_us > WP_LINK_SILENCE_US) {
        wp_fabric_refuse(
            fabric, "fabric_no_hello", link->endpoint, WP_E_TIMEOUT, "the router does not answer our hello");
        wp_fabric_link_down(link, WP_E_TIMEOUT, fabric->now_us);
        return;
    }
    if (link->state != WP_LINK_STATE_UP) {
        return;
    }
    if (drained && fabric->now_us - link->heard_us > WP_LINK_SILENCE_US) {
        wp_fabric_link_down(link, WP_E_TIMEOUT, fabric->now_us);
        return;
    }
    if (fabric->now_us - link->sent_us >= WP_LINK_HEARTBEAT_US) {
        link->heartbeat_due = true;
        wp_fabric_link_dirty(link);
    }
}

static void links_check_keys(struct wp_fabric *fabric)
{
    uint64_t generation = fabric->config.zap ? wp_zap_generation(fabric->config.zap) : 0;
    if (generation == fabric->zap_generation) {
        return;
    }
    fabric->zap_generation = generation;
    for (struct wp_link *link = fabric->links; link; link = link->next) {
        Wp__Role role;
        char node[WP_NAME_SIZE_MAX + 1];
        if (link->listener && wp_zap_check(fabric->config.zap, link->user_id, &role, node) != WP_OK) {
            wp_fabric_link_down(link, WP_E_DENIED, 0);
        } else {
            link->zap_generation = generation;
        }
    }
}

/* Data before events: what a peer sent before it went away is still its own. Only a link that waits for its
 * handshake looks at the event first, which lets it read at all. */
static bool connector_run(struct wp_link *link)
{
    bool drained = true;
    if (link->state == WP_LINK_STATE_CONNECTING && wp_zsocket_take_ready(link->port.events)) {
        wp_connector_events(link);
    }
    if (wp_zsocket_take_ready(link->port.data)) {
        drained = wp_connector_receive(link);
    }
    if (wp_zsocket_take_ready(link->port.events)) {
        wp_connector_events(link);
    }
    return drained;
}

/* Reads all sockets; false when one of them has more than its share. */
static bool sockets_receive(struct wp_fabric *fabric)
{
    bool drained = true;
    for (struct wp_listener *listener = fabric->listeners; listener; listener = listener->next) {
        if (wp_zsocket_take_ready(listener->port.data)) {
            drained = wp_listener_receive(fabric, listener) && drained;
        }
        if (wp_zsocket_take_ready(listener->port.events)) {
            wp_listener_events(fabric, listener);
        }
    }
    for (struct wp_link *link = fabric->links; link; link = link->next) {
        if (link->port.socket) {
            drained = connector_run(link) && drained;
        }
    }
    return drained;
}

static void fabric_turn(void *context)
{
    struct wp_fabric *fabric = context;
    fabric->in_turn = true;
    fabric->handed_up = false;
    fabric->now_us = wp_clock_mono_us();
    links_check_keys(fabric);
    bool drained = sockets_receive(fabric);
    if (fabric->tick_due) {
        fabric->tick_due = false;
        for (struct wp_link *link = fabric->links; link; link = link->next) {
            link_tick(link, drained);
        }
    }
    links_writable(fabric);
    if (fabric->handed_up) {
        fabric->callbacks.turn(fabric->callbacks.context);
    }
    links_flush(fabric);
    links_sweep(fabric);
    fabric->in_turn = false;
}

static void fabric_tick(void *context)
{
    struct wp_fabric *fabric = context;
    fabric->tick_due = true;
    wp_zloop_wake(fabric->zloop);
}

int wp_fabric_create(const struct wp_fabric_config *config, const struct wp_fabric_callbacks *callbacks,
    struct wp_fabric **ret_fabric)
{
    struct wp_fabric *fabric = calloc(1, sizeof *fabric);
    if (!fabric) {
        return WP_E_NOMEM;
    }
    fabric->config = *config;
    fabric->callbacks = *callbacks;
    fabric->config.window_bytes = config->window_bytes ? config->window_bytes : WINDOW_BYTES_DEFAULT;
    fabric->now_us = wp_clock_mono_us();
    struct wp_zloop_callbacks hooks = {fabric, fabric_turn, fabric_tick};
    int error = wp_zloop_create(config->loop, &hooks, TICK_MS, &fabric->zloop);
    if (error) {
        free(fabric);
        return error;
    }
    wp_arena_init(&fabric->arena, ARENA_BYTES_MAX);
    *ret_fabric = fabric;
    return WP_OK;
}

void wp_fabric_destroy(struct wp_fabric **fabric)
{
    struct wp_fabric *taken = *fabric;
    *fabric = NULL;
    if (!taken) {
        return;
    }
    WP_ASSERT(!taken->in_turn);
    for (struct wp_link *link = taken->links; link; link = link->next) {
        if (link->dirty) {
            (void)wp_link_flush(link); /* no callbacks any more: not wp_fabric_flush */
        }
        link->state = WP_LINK_STATE_GONE;
    }
    links_sweep(taken);
    while (taken->listeners) {
        struct wp_listener *listener = taken->listeners;
        taken->listeners = listener->next;
        wp_port_close(&listener->port, WP_LINK_CLOSE_LINGER_MS);
        free(listener);
    }
    wp_zloop_destroy(&taken->zloop);
    wp_arena_fini(&taken->arena);
    free(taken);
}

int wp_fabric_listen(struct wp_fabric *fabric, const char *endpoint, char *ret_endpoint, size_t endpoint_size)
{
    if (!fabric->config.zap) {
        return WP_E_INVALID; /* without a handler every key is let in */
    }
    struct wp_listener *listener = calloc(1, sizeof *listener);
    if (!listener) {
        return WP_E_NOMEM;
    }
    int error =
        wp_port_open(&listener->port, fabric->zloop, fabric->config.zmq_context, fabric->config.keys, NULL);
    error = error ? error : wp_port_bind(&listener->port, endpoint, ret_endpoint, endpoint_size);
    if (error) {
        wp_port_close(&listener->port, 0);
        free(listener);
        return error;
    }
    listener->next = fabric->listeners;
    fabric->listeners = listener;
    return WP_OK;
}

int wp_fabric_connect(
    struct wp_fabric *fabric, const char *endpoint, const char *server_key, struct wp_link **ret_link)
{
    uint8_t raw[32];
    if (strlen(server_key) != WP_KEY_TEXT_SIZE - 1 || !zmq_z85_decode(raw, server_key)) {
        return WP_E_INVALID;
    }
    char *endpoint_copy = strdup(endpoint);
    struct wp_link *link = endpoint_copy ? wp_fabric_link_add(fabric) : NULL;
    if (!link) {
        free(endpoint_copy);
        return WP_E_NOMEM;
    }
    link->endpoint = endpoint_copy;
    memcpy(link->server_key, server_key, WP_KEY_TEXT_SIZE);
    link->state = WP_LINK_STATE_WAITING;
    wp_zloop_wake(fabric->zloop);
    *ret_link = link;
    return WP_OK;
}

void wp_fabric_disconnect(struct wp_fabric *fabric, struct wp_link **link)
{
    struct wp_link *taken = *link;
    *link = NULL;
    if (!taken) {
        return;
    }
    WP_ASSERT(!taken->listener);
    if (taken->dirty && taken->port.socket) {
        (void)wp_link_flush(taken);
    }
    taken->state = WP_LINK_STATE_GONE;
    taken->dirty = false;
    wp_zloop_wake(fabric->zloop);
}

static bool links_dirty(const struct wp_fabric *fabric)
{
    for (const struct wp_link *link = fabric->links; link; link = link->next) {
        if (link->dirty) {
            return true;
        }
    }
    return false;
}

void wp_fabric_flush(struct wp_fabric *fabric)
{
    bool in_turn = fabric->in_turn;
    uint64_t end_us = wp_clock_mono_us() + FLUSH_US_MAX;
    fabric->in_turn = true;
    links_flush(fabric);
    while (links_dirty(fabric) && wp_clock_mono_us() < end_us) {
        poll(NULL, 0, 1); /* a full pipe: libzmq's thread and the peer empty it */
        links_flush(fabric);
    }
    fabric->in_turn = in_turn;
}
