/* Credit, the byte cap and packing.
 *
 * 1. credit + bytes of controlled frames that the peer has not returned == the window it announced.
 * 2. The last quarter of the window is closed to routine frames and the last eighth to urgent ones, so
 *    that routine traffic that uses up its credit never keeps STAT waiting for a return.
 * 3. Memory is reserved before a message is started: what was started is always finished. */
#include "node/link.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/metric.h"

#define QUEUE_BYTES_MAX (32u * 1024 * 1024) /* beside what the peer's window allows */
#define OWN_RECORDS_SIZE_MAX 1024u          /* hello and credit */
#define FULL_RETRY_MS 2u

struct type_row {
    bool up, down, peer;
};
static const struct type_row type_rows[] = {
#define X(name, number, message, up, down, peer) [number] = {up, down, peer},
    WP_FRAME_TABLE(X)
#undef X
};

bool wp_link_type_allowed(Wp__Role from, Wp__Role to, unsigned type)
{
    if (type >= sizeof type_rows / sizeof type_rows[0]) {
        return false;
    }
    const struct type_row *row = &type_rows[type];
    return from == WP__ROLE__ROLE_GATEWAY ? to == WP__ROLE__ROLE_ROUTER && row->up
                                          : (to == WP__ROLE__ROLE_GATEWAY ? row->down : row->peer);
}

bool wp_link_type_controlled(Wp__Role role, enum wp_frame_type type)
{
    return role == WP__ROLE__ROLE_GATEWAY ? type == WP_FRAME_SUBMIT
                                          : type == WP_FRAME_DELIVER || type == WP_FRAME_DELIVER_MANY;
}

static uint64_t lane_reserve_bytes(const struct wp_link *link, enum wp_link_lane lane)
{
    return lane == WP_LINK_ROUTINE  ? link->peer_window / 4
           : lane == WP_LINK_URGENT ? link->peer_window / 8
                                    : 0;
}

/* A frame larger than its part of the window may go when nothing else is open. */
static bool credit_allows(const struct wp_link *link, enum wp_link_lane lane, uint64_t bytes)
{
    return link->credit >= (int64_t)(bytes + lane_reserve_bytes(link, lane)) ||
           link->credit == (int64_t)link->peer_window;
}

int wp_link_send(
    struct wp_link *link, enum wp_link_lane lane, enum wp_frame_type type, const ProtobufCMessage *message)
{
    Wp__Role own = link->fabric->config.role;
    WP_ASSERT(lane < WP_LINK_LANE_COUNT);
    WP_ASSERT(type != WP_FRAME_HELLO && type != WP_FRAME_CREDIT && type != WP_FRAME_CHUNK);
    if (link->state != WP_LINK_STATE_UP) {
        return WP_E_CLOSED;
    }
    WP_ASSERT(wp_link_type_allowed(own, link->role, type));
    size_t size = protobuf_c_message_get_packed_size(message);
    uint64_t bytes = size + WP_RECORD_HEAD_SIZE;
    if (size > WP_FRAME_SIZE_MAX) {
        return WP_E_TOO_LARGE;
    }
    bool controlled = wp_link_type_controlled(own, type);
    if (controlled && !credit_allows(link, lane, bytes)) {
        link->refused_credit = true;
        return WP_E_FULL;
    }
    if (!controlled && link->queued_bytes + bytes > QUEUE_BYTES_MAX + link->peer_window) {
        link->refused_queue = true;
        return WP_E_FULL;
    }
    int error = wp_link_lanes_append(link, lane, type, size, message);
    if (error) {
        return error;
    }
    if (controlled) {
        link->credit -= (int64_t)bytes;
    }
    wp_fabric_link_dirty(link);
    return WP_OK;
}

void wp_link_credit_return(struct wp_link *link, uint64_t bytes)
{
    if (link->state != WP_LINK_STATE_UP) {
        return;
    }
    /* Bytes taken before the link last came up were forgotten by the peer together with their credit. */
    link->credit_owed += bytes;
    if (link->credit_owed > link->taken_bytes) {
        link->credit_owed = link->taken_bytes;
    }
    wp_fabric_link_dirty(link);
}

uint64_t wp_link_credit(const struct wp_link *link)
{
    int64_t free_bytes = link->credit - (int64_t)lane_reserve_bytes(link, WP_LINK_ROUTINE);
    return link->state == WP_LINK_STATE_UP && free_bytes > 0 ? (uint64_t)free_bytes : 0;
}

bool wp_link_take_writable(struct wp_link *link)
{
    bool by_credit = link->refused_credit && link->credit_came;
    bool by_queue = link->refused_queue && link->queued_bytes < QUEUE_BYTES_MAX / 2;
    link->credit_came = false;
    if (link->state != WP_LINK_STATE_UP || (!by_credit && !by_queue)) {
        return false;
    }
    link->refused_credit = link->refused_queue = false;
    return true;
}

static bool link_has_output(const struct wp_link *link)
{
    return link->hello_due || link->heartbeat_due || link->credit_owed > 0 || link->queued_bytes > 0;
}

/* Fills the reserved batch; the returned count is of frames that the owner sent. */
static unsigned batch_fill(struct wp_link *link, struct wp_buffer *batch)
{
    struct wp_fabric *fabric = link->fabric;
    struct wp_fabric_head head = {fabric->config.cluster_id, fabric->config.incarnation, link->incarnation};
    int error = wp_fabric_head_encode(&head, batch);
    if (link->hello_due) {
        error = error ? error : wp_hello_append(fabric, link->own_nonce, batch);
        link->hello_due = false;
    }
    if (link->credit_owed > 0) {
        Wp__Credit credit = WP__CREDIT__INIT;
        credit.bytes = link->credit_owed;
        error = error ? error : wp_schema_append(batch, WP_FRAME_CREDIT, &credit.base);
        link->taken_bytes -= link->credit_owed;
        link->credit_owed = 0;
    }
    WP_ASSERT(error == WP_OK); /* the room was reserved */
    link->heartbeat_due = false;
    return wp_link_lanes_fill(link, batch);
}

static int batch_send(struct wp_link *link)
{
    struct wp_port *port = link->listener ? &link->listener->port : &link->port;
    struct wp_buffer batch = WP_BUFFER_INIT;
    if (!wp_buffer_reserve(&batch, WP_FABRIC_HEAD_SIZE + OWN_RECORDS_SIZE_MAX + wp_link_lanes_bound(link))) {
        return WP_E_NOMEM;
    }
    int error = wp_port_send_start(port, link->routing_id, link->routing_id_size);
    if (error) {
        wp_buffer_free(&batch);
        return error;
    }
    unsigned frames = batch_fill(link, &batch);
    wp_port_send_finish(port, &batch);
    wp_metric_add(WP_M_FABRIC_MESSAGES, 1);
    wp_metric_add(WP_M_FABRIC_FRAMES, frames);
    return WP_OK;
}

int wp_link_flush(struct wp_link *link)
{
    while (link_has_output(link)) {
        int error = batch_send(link);
        if (error == WP_E_FULL || error == WP_E_NOMEM) {
            wp_zloop_wake_later(link->fabric->zloop, FULL_RETRY_MS);
        }
        if (error) {
            return error;
        }
        link->sent_us = wp_clock_mono_us();
    }
    link->dirty = false;
    return WP_OK;
}

void wp_link_output_reset(struct wp_link *link)
{
    wp_link_lanes_reset(link);
    link->credit = 0;
    link->peer_window = link->credit_owed = 0;
    link->hello_due = link->heartbeat_due = link->dirty = false;
    link->refused_credit = link->refused_queue = link->credit_came = false;
}
