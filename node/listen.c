/* The listening side: many peers on one ROUTER socket.
 *
 * 1. A peer is who its User-Id says, which the ZAP handler made from its key; a link is found by
 *    routing id and must carry the User-Id it was made with.
 * 2. A link is made by a hello and by nothing else. A peer that talks without one (we forgot it while
 *    it was paused) is answered with a hello of a fresh nonce, so that it starts again at once.
 * 3. The monitor is read before a link is made: what it says later of this descriptor is about this
 *    connection. */
#include "node/link.h"

#include <string.h>

#include "base/error.h"

#define LINKS_PER_NODE_MAX 16u

static struct wp_link *link_find(
    struct wp_fabric *fabric, struct wp_listener *listener, const struct wp_port_message *message)
{
    for (struct wp_link *link = fabric->links; link; link = link->next) {
        if (link->listener == listener && link->state == WP_LINK_STATE_UP &&
            link->routing_id_size == message->routing_id_size &&
            memcmp(link->routing_id, message->routing_id, message->routing_id_size) == 0) {
            return link;
        }
    }
    return NULL;
}

static void links_lose_fd(struct wp_fabric *fabric, struct wp_listener *listener, int fd)
{
    for (struct wp_link *link = fabric->links; link; link = link->next) {
        if (link->listener == listener && link->fd == fd && fd >= 0) {
            wp_fabric_link_down(link, WP_E_CLOSED, 0);
        }
    }
}

void wp_listener_events(struct wp_fabric *fabric, struct wp_listener *listener)
{
    enum wp_port_event event;
    int fd;
    while (wp_port_event_next(&listener->port, &event, &fd)) {
        if (event == WP_PORT_LOST) {
            links_lose_fd(fabric, listener, fd);
        }
    }
}

/* Answers a peer that has no link: our hello, sent at once and on its own. */
static void hello_answer(struct wp_fabric *fabric, struct wp_listener *listener,
    const struct wp_port_message *message, uint64_t destination)
{
    struct wp_fabric_head head = {fabric->config.cluster_id, fabric->config.incarnation, destination};
    struct wp_buffer batch = WP_BUFFER_INIT;
    int error = wp_fabric_head_encode(&head, &batch);
    error = error ? error : wp_hello_append(fabric, wp_fabric_nonce(), &batch);
    error =
        error ? error : wp_port_send_start(&listener->port, message->routing_id, message->routing_id_size);
    if (!error) {
        wp_port_send_finish(&listener->port, &batch);
    }
    wp_buffer_free(&batch);
}

/* A process that started again has one life: links of its earlier one end. WP_E_CLOSED: this is the earlier
 * one. WP_E_FULL: the node has too many links. */
static int lives_compare(struct wp_fabric *fabric, const char *node, uint64_t incarnation)
{
    unsigned count = 0;
    for (struct wp_link *link = fabric->links; link; link = link->next) {
        if (!link->listener || link->state != WP_LINK_STATE_UP || strcmp(link->node, node) != 0) {
            continue;
        }
        if (link->incarnation > incarnation) {
            return WP_E_CLOSED;
        }
        if (link->incarnation < incarnation) {
            wp_fabric_link_down(link, WP_E_CLOSED, 0);
        } else {
            count++;
        }
    }
    return count < LINKS_PER_NODE_MAX ? WP_OK : WP_E_FULL;
}

static struct wp_link *link_make(
    struct wp_fabric *fabric, struct wp_listener *listener, const struct wp_port_message *message)
{
    struct wp_link *link = wp_fabric_link_add(fabric);
    if (!link) {
        return NULL;
    }
    link->listener = listener;
    link->state = WP_LINK_STATE_GREETING;
    memcpy(link->routing_id, message->routing_id, message->routing_id_size);
    link->routing_id_size = message->routing_id_size;
    link->fd = message->fd;
    strncpy(link->user_id, message->user_id, sizeof link->user_id - 1);
    link->zap_generation = fabric->zap_generation;
    link->own_nonce = wp_fabric_nonce();
    link->hello_due = true;
    return link;
}

/* The first batch of a peer. On success its link is up and *ret_link set. */
static int stranger_receive(struct wp_fabric *fabric, struct wp_listener *listener,
    const struct wp_port_message *message, Wp__Role role, const char *node, const struct wp_fabric_head *head,
    struct wp_record_reader *reader, struct wp_link **ret_link)
{
    uint8_t type;
    struct wp_slice payload;
    Wp__Hello *hello;
    if (wp_record_next(reader, &type, &payload) != 1 || type != WP_FRAME_HELLO) {
        hello_answer(fabric, listener, message, head->source);
        return WP_E_CLOSED;
    }
    int error = head->cluster_id != fabric->config.cluster_id
                    ? WP_E_DENIED
                    : wp_hello_check(fabric, payload, role, node, &hello);
    if (!error && head->source != hello->incarnation) {
        error = WP_E_MALFORMED;
    }
    if (!error) {
        error = lives_compare(fabric, node, head->source);
    }
    if (error) {
        wp_fabric_refuse(fabric, "fabric_hello_refused", message->user_id, error, "peer's hello");
        if (error == WP_E_DENIED || error == WP_E_VERSION) {
            hello_answer(fabric, listener, message, head->source); /* so that it sees why, too */
        }
        return error;
    }
    wp_listener_events(fabric, listener);
    links_lose_fd(fabric, listener, message->fd);
    struct wp_link *link = link_make(fabric, listener, message);
    if (!link) {
        return WP_E_NOMEM;
    }
    wp_fabric_link_up(link, hello, node);
    wp_fabric_link_dirty(link);
    *ret_link = link;
    return WP_OK;
}

/* Whether the batch starts with a hello that the link does not know: the peer began again on the same
 * connection. */
static bool batch_restarts(struct wp_link *link, struct wp_record_reader reader)
{
    uint8_t type;
    struct wp_slice payload;
    Wp__Hello *hello;
    return wp_record_next(&reader, &type, &payload) == 1 && type == WP_FRAME_HELLO &&
           wp_hello_check(link->fabric, payload, link->role, link->node, &hello) == WP_OK &&
           hello->nonce != link->nonce;
}

/* Finds the link of a batch. WP_OK with *ret_link, or why the batch is dropped. */
static int batch_attribute(struct wp_fabric *fabric, struct wp_listener *listener,
    const struct wp_port_message *message, const struct wp_fabric_head *head, struct wp_record_reader *reader,
    struct wp_link **ret_link)
{
    Wp__Role role;
    char node[WP_NAME_SIZE_MAX + 1];
    struct wp_link *link = link_find(fabric, listener, message);
    if (link && strcmp(link->user_id, message->user_id) != 0) {
        return WP_E_AUTH;
    }
    if (link && link->zap_generation != fabric->zap_generation) {
        if (wp_zap_check(fabric->config.zap, link->user_id, &role, node) != WP_OK) {
            wp_fabric_link_down(link, WP_E_DENIED, 0);
            return WP_E_DENIED;
        }
        link->zap_generation = fabric->zap_generation;
    }
    if (link && batch_restarts(link, *reader)) {
        wp_fabric_link_down(link, WP_E_CLOSED, 0);
        link = NULL;
    }
    if (link) {
        *ret_link = link;
        return wp_link_head_check(link, head);
    }
    if (wp_zap_check(fabric->config.zap, message->user_id, &role, node) != WP_OK) {
        return WP_E_DENIED;
    }
    return stranger_receive(fabric, listener, message, role, node, head, reader, ret_link);
}

static void message_receive(
    struct wp_fabric *fabric, struct wp_listener *listener, struct wp_port_message *message)
{
    struct wp_fabric_head head;
    struct wp_record_reader reader;
    struct wp_link *link = NULL;
    int error = wp_fabric_batch_open(wp_port_message_payload(message), &head, &reader);
    if (!error) {
        error = batch_attribute(fabric, listener, message, &head, &reader, &link);
    }
    if (error) {
        wp_fabric_refuse(fabric, "fabric_batch_refused", message->user_id, error, "batch from peer");
        return;
    }
    link->heard_us = fabric->now_us;
    error = wp_link_records_receive(link, &reader);
    if (error) {
        wp_fabric_refuse(fabric, "fabric_batch_refused", message->user_id, error, "record from peer");
        wp_fabric_link_down(link, error, 0);
    }
}

bool wp_listener_receive(struct wp_fabric *fabric, struct wp_listener *listener)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < WP_TURN_MESSAGES_MAX && bytes < WP_TURN_BYTES_MAX; i++) {
        struct wp_port_message message;
        if (!wp_port_receive(&listener->port, &message)) {
            return true;
        }
        bytes += wp_port_message_payload(&message).size;
        message_receive(fabric, listener, &message);
        wp_port_message_fini(&message);
    }
    wp_zsocket_touch(listener->port.data);
    return false;
}
