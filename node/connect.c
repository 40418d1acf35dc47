/* The connecting side: one socket per link and connection.
 *
 * 1. A socket whose connection is lost is never used again; the link opens a new one.
 * 2. `up` is called only after the router's hello was checked; libzmq has checked its key before. */
#include "node/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

static void state_enter(struct wp_link *link, enum wp_link_state state)
{
    link->state = state;
    link->state_since_us = link->fabric->now_us;
}

void wp_connector_open(struct wp_link *link)
{
    struct wp_fabric *fabric = link->fabric;
    int error = wp_port_open(
        &link->port, fabric->zloop, fabric->config.zmq_context, fabric->config.keys, link->server_key);
    if (!error) {
        error = wp_port_connect(&link->port, link->endpoint);
    }
    if (error) {
        wp_port_close(&link->port, 0);
        link->retry_us = fabric->now_us + WP_LINK_RETRY_US;
        wp_fabric_refuse(fabric, "fabric_connect_failed", link->endpoint, error, "cannot open a socket");
        return;
    }
    state_enter(link, WP_LINK_STATE_CONNECTING);
}

static void connection_begin(struct wp_link *link)
{
    if (link->state != WP_LINK_STATE_CONNECTING) {
        return;
    }
    state_enter(link, WP_LINK_STATE_GREETING);
    link->own_nonce = wp_fabric_nonce();
    link->incarnation = 0;
    link->hello_due = true;
    wp_fabric_link_dirty(link);
}

void wp_connector_events(struct wp_link *link)
{
    enum wp_port_event event;
    int fd;
    while (link->port.socket && wp_port_event_next(&link->port, &event, &fd)) {
        if (event == WP_PORT_CONNECTED) {
            connection_begin(link);
        } else if (event == WP_PORT_DENIED) {
            wp_fabric_refuse(link->fabric, "fabric_handshake_failed", link->endpoint, WP_E_DENIED,
                "the handshake did not finish: the router went away, does not know our key, or has another "
                "key than configured");
            wp_fabric_link_down(link, WP_E_DENIED, link->fabric->now_us + WP_LINK_RETRY_US);
        } else if (link->state == WP_LINK_STATE_UP) {
            wp_fabric_link_down(link, WP_E_CLOSED, link->fabric->now_us);
        } else {
            /* Lost before it was up: a router that is stopping, or that drops us. Not in a tight circle. */
            wp_fabric_link_down(link, WP_E_CLOSED, link->fabric->now_us + WP_LINK_RETRY_US / 10);
        }
        if (link->state == WP_LINK_STATE_WAITING || link->state == WP_LINK_STATE_GONE) {
            return;
        }
    }
}

/* The router's hello: the first record of its first batch. */
static int greeting_receive(
    struct wp_link *link, const struct wp_fabric_head *head, struct wp_record_reader *reader)
{
    uint8_t type;
    struct wp_slice payload;
    Wp__Hello *hello;
    if (head->cluster_id != link->fabric->config.cluster_id) {
        return WP_E_DENIED;
    }
    if (wp_record_next(reader, &type, &payload) != 1 || type != WP_FRAME_HELLO) {
        return WP_E_MALFORMED;
    }
    int error = wp_hello_check(link->fabric, payload, WP__ROLE__ROLE_ROUTER, NULL, &hello);
    if (!error && (hello->incarnation != head->source ||
                      (head->destination != 0 && head->destination != link->fabric->config.incarnation))) {
        error = WP_E_CLOSED;
    }
    if (error) {
        return error;
    }
    wp_fabric_link_up(link, hello, hello->node);
    return WP_OK;
}

static void batch_receive(struct wp_link *link, struct wp_slice batch)
{
    struct wp_fabric_head head;
    struct wp_record_reader reader;
    int error = wp_fabric_batch_open(batch, &head, &reader);
    if (!error && link->state == WP_LINK_STATE_GREETING) {
        error = greeting_receive(link, &head, &reader);
        if (error) {
            wp_fabric_refuse(link->fabric, "fabric_hello_refused", link->endpoint, error, "router's hello");
            wp_fabric_link_down(link, error, link->fabric->now_us + 10 * (uint64_t)WP_LINK_RETRY_US);
            return;
        }
    } else if (!error) {
        error = wp_link_head_check(link, &head);
    }
    if (!error) {
        link->heard_us = link->fabric->now_us;
        error = wp_link_records_receive(link, &reader);
    }
    if (error) {
        wp_fabric_refuse(link->fabric, "fabric_batch_refused", link->endpoint, error, "batch from router");
        wp_fabric_link_down(
            link, error, link->fabric->now_us + (error == WP_E_CLOSED ? 0 : WP_LINK_RETRY_US));
    }
}

bool wp_connector_receive(struct wp_link *link)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < WP_TURN_MESSAGES_MAX && bytes < WP_TURN_BYTES_MAX; i++) {
        struct wp_port_message message;
        if (link->state != WP_LINK_STATE_GREETING && link->state != WP_LINK_STATE_UP) {
            /* Nothing to read yet; but libzmq's own commands wait behind the descriptor, and until they are
             * taken it stays readable and the loop spins. */
            if (link->port.socket) {
                wp_zsocket_touch(link->port.data);
            }
            return true;
        }
        if (!wp_port_receive(&link->port, &message)) {
            return true;
        }
        struct wp_slice batch = wp_port_message_payload(&message);
        bytes += batch.size;
        batch_receive(link, batch);
        wp_port_message_fini(&message);
    }
    wp_zsocket_touch(link->port.data);
    return false;
}
