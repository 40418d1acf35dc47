/* Deliveries on their way from a router's frame to a device's socket.
 *
 *   1. Lower lanes write at most WP_WRITE_AHEAD_MAX ahead to one socket; more is held per lane. STAT is not
 * held for that.
 *   2. Within a lane the order of the router stays.
 *   3. Nothing is written without a lease of the user's shard, nor before the shard's leader knows the
 * session: what is held may be of a device that is connected elsewhere by now.
 *   4. Nothing is written that is past its time as far as this gateway can know, wherever it was since. */
#include "gateway/gateway_internal.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/leader_time.h"
#include "proto/address.h"

/* The bytes that one slow device may hold before the common bound decides about it. */
#define HELD_BYTES_FAIR ((size_t)1024 * 1024)

/* What a delivery carries, decoded into the frame's arena: an envelope, or a receipt. */
struct delivered {
    const Wp__Envelope *envelope;
    const Wp__Receipt *receipt;
};

static int delivered_decode(
    struct wp_gateway *gateway, Wp__Lane lane, struct wp_slice packed, struct delivered *ret_delivered)
{
    ProtobufCMessage *message;
    bool receipt = lane == WP__LANE__RECEIPT;
    int error = wp_schema_decode(receipt ? &wp__receipt__descriptor : &wp__envelope__descriptor, packed,
        &gateway->frame_arena, &message);
    if (error) {
        return error;
    }
    *ret_delivered = (struct delivered){.receipt = receipt ? (const Wp__Receipt *)message : NULL,
        .envelope = receipt ? NULL : (const Wp__Envelope *)message};
    if (receipt) {
        return wp_address_valid(ret_delivered->receipt->person) ? WP_OK : WP_E_MALFORMED;
    }
    return wp_envelope_check(ret_delivered->envelope);
}

/* By the leader's time as it is now, which is known better than how long the frame was on its way. */
static uint64_t left_ms(const struct wp_client *client, const Wp__Deliver *deliver, uint64_t held_ms)
{
    uint64_t leader_ms = wp_routing_leader_ms(client->gateway->routing, client->shard, wp_clock_boot_ms());
    return wp_leader_time_left_ms(deliver, held_ms, leader_ms);
}

/* `delivered` is NULL when it has to be decoded first. */
static void deliver_write(
    struct wp_client *client, const Wp__Deliver *deliver, const struct delivered *delivered, uint64_t held_ms)
{
    struct wp_session_turn turn;
    struct delivered decoded;
    int error = delivered ? WP_OK
                          : delivered_decode(client->gateway, deliver->lane,
                                wp_slice(deliver->envelope.data, deliver->envelope.len), &decoded);
    delivered = delivered ? delivered : &decoded;
    wp_client_turn_begin(client, &turn);
    if (!error && deliver->lane == WP__LANE__RECEIPT) {
        error = wp_session_deliver_receipt(&client->session, &turn, deliver, delivered->receipt);
    } else if (!error) {
        error = wp_session_deliver(
            &client->session, &turn, deliver, delivered->envelope, left_ms(client, deliver, held_ms));
    }
    if (error && error != WP_E_CLOSED) {
        /* It stays queued in the mailbox: nothing acknowledges it. What cannot be sent on this connection
         * must not fill the window either; what there was no memory for ends the connection in time and comes
         * again. */
        if (error != WP_E_NOMEM) {
            (void)wp_positions_skip(&client->session.positions, deliver->lane, deliver->sequence);
        }
        wp_metric_add(WP_M_UNDELIVERABLE, 1);
        wp_log(WP_LOG_WARN, "delivery_not_sent", "device=%s/%s lane=%d sequence=%llu reason=%s",
            client->session.user, client->session.device, deliver->lane,
            (unsigned long long)deliver->sequence, wp_error_slug(error));
    }
    wp_client_turn_end(client, &turn);
}

static bool has_room(const struct wp_client *client)
{
    return client->out.size + client->wire_bytes < WP_WRITE_AHEAD_MAX;
}

static bool may_write(const struct wp_client *client)
{
    return client->attach == WP_CLIENT_ATTACHED &&
           wp_lease_held(client->gateway->leases, client->shard, wp_clock_boot_ms());
}

/* The packed frame is kept; one that came as a target of many is packed first. */
static int held_push(struct wp_client *client, const Wp__Deliver *deliver, struct wp_slice payload)
{
    struct wp_buffer packed = WP_BUFFER_INIT;
    if (payload.size == 0) {
        uint8_t *p = wp_buffer_reserve(&packed, wp__deliver__get_packed_size(deliver));
        if (!p) {
            return WP_E_NOMEM;
        }
        payload = wp_slice(p, wp__deliver__pack(deliver, p));
    }
    int error = wp_holdback_push(&client->held, deliver->lane, payload, wp_clock_boot_ms());
    client->gateway->held_bytes += error ? 0 : payload.size;
    wp_buffer_free(&packed);
    return error;
}

static void deliver_hold(struct wp_client *client, const Wp__Deliver *deliver, struct wp_slice payload)
{
    struct wp_gateway *gateway = client->gateway;
    int error = held_push(client, deliver, payload);
    if (error == WP_OK) {
        error = gateway->held_bytes > WP_HELD_BYTES_MAX && client->held.bytes > HELD_BYTES_FAIR ? WP_E_FULL
                                                                                                : WP_OK;
    }
    if (error) {
        struct wp_session_turn turn;
        wp_client_turn_begin(client, &turn);
        wp_session_close(&client->session, &turn, error, "the device reads too slowly");
        wp_client_turn_end(client, &turn);
    }
}

/* `payload`: the packed frame, empty when `deliver` is a target of many. */
static void deliver_take(struct wp_client *client, const Wp__Deliver *deliver,
    const struct delivered *delivered, struct wp_slice payload)
{
    uint64_t now_ms = wp_gateway_now_ms();
    int error =
        wp_session_deliver_admit(&client->session, now_ms, deliver, now_ms < client->repeats_until_ms);
    if (error == WP_E_EXISTS) {
        wp_client_acks_send(client); /* it may have been acknowledged already */
        return;
    }
    if (error) {
        wp_metric_add(WP_M_UNDELIVERABLE, error != WP_E_CLOSED);
        return;
    }
    bool allowed = may_write(client);
    if (!allowed || wp_holdback_has(&client->held, deliver->lane) ||
        (deliver->lane != WP__LANE__STAT && !has_room(client))) {
        wp_metric_add(WP_M_DELIVERIES_HELD, !allowed);
        deliver_hold(client, deliver, payload);
        return;
    }
    deliver_write(client, deliver, delivered, 0);
}

void wp_gateway_on_deliver(struct wp_gateway *gateway, const Wp__Deliver *deliver, struct wp_slice payload)
{
    struct wp_client *client = wp_gateway_client_find(gateway, deliver->session);
    if (client && deliver->lane <= WP__LANE__RECEIPT) {
        deliver_take(client, deliver, NULL, payload);
    }
}

void wp_gateway_on_deliver_many(
    struct wp_gateway *gateway, const struct wp_link *link, const Wp__DeliverMany *many)
{
    struct delivered delivered;
    struct wp_slice envelope = wp_slice(many->envelope.data, many->envelope.len);
    if (many->lane > WP__LANE__STAT || delivered_decode(gateway, many->lane, envelope, &delivered)) {
        wp_metric_add(WP_M_FABRIC_REFUSED, 1);
        return;
    }
    for (size_t i = 0; i < many->n_targets; i++) {
        const Wp__DeliverTarget *target = many->targets[i];
        struct wp_client *client = wp_gateway_client_find(gateway, target->session);
        if (!client || !wp_routing_leads(gateway->routing, link, client->shard)) {
            wp_metric_add(WP_M_STALE_FRAMES, client != NULL);
            continue;
        }
        Wp__Deliver deliver = WP__DELIVER__INIT;
        deliver.session = target->session;
        deliver.lane = many->lane;
        deliver.sequence = target->sequence;
        deliver.dup = target->dup;
        deliver.drained = target->drained;
        deliver.accepted_ms = many->accepted_ms;
        deliver.expires_ms = many->expires_ms;
        deliver.remaining_ms = many->remaining_ms;
        deliver.envelope = many->envelope;
        deliver_take(client, &deliver, &delivered, wp_slice(NULL, 0));
    }
}

void wp_client_held_drain(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_held *held;
    while (client->session.state == WP_SESSION_LIVE && client->held.bytes > 0 && has_room(client) &&
           may_write(client) && (held = wp_holdback_take(&client->held))) {
        Wp__Deliver *deliver;
        gateway->held_bytes -= held->size;
        wp_arena_reset(&gateway->frame_arena);
        if (wp_schema_decode(&wp__deliver__descriptor, wp_slice(held->deliver, held->size),
                &gateway->frame_arena, (ProtobufCMessage **)&deliver) == WP_OK) {
            deliver_write(client, deliver, NULL, wp_clock_boot_ms() - held->since_ms);
        }
        free(held);
    }
}

void wp_gateway_on_lease_reply(struct wp_gateway *gateway, struct wp_link *link, const Wp__LeaseReply *reply)
{
    uint64_t now_ms = wp_clock_boot_ms();
    bool came = false;
    wp_routing_time_told(gateway->routing, link, reply->time_ms, reply->stamp_ms, now_ms);
    for (size_t i = 0; gateway->leases && i < reply->n_shards; i++) {
        if (wp_routing_leads(gateway->routing, link, reply->shards[i])) {
            came |= wp_leases_granted(gateway->leases, reply->shards[i], reply->stamp_ms, now_ms);
        }
    }
    for (uint32_t i = 0; came && i < gateway->slot_count; i++) {
        if (gateway->slots[i].client) {
            wp_client_held_drain(gateway->slots[i].client);
        }
    }
}

void wp_gateway_lease_turn(struct wp_gateway *gateway)
{
    uint64_t now_ms = wp_clock_boot_ms();
    if (!gateway->leases || !wp_leases_turn(gateway->leases, now_ms)) {
        return;
    }
    Wp__Lease lease = WP__LEASE__INIT;
    lease.stamp_ms = now_ms;
    wp_routing_broadcast(gateway->routing, WP_FRAME_LEASE, &lease.base);
    wp_metric_set(WP_M_LEASES, wp_leases_count(gateway->leases, now_ms));
}

uint32_t wp_gateway_leases(const struct wp_gateway *gateway)
{
    return gateway->leases ? wp_leases_count(gateway->leases, wp_clock_boot_ms()) : 0;
}

void wp_client_lease_check(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    uint64_t now_ms = wp_clock_boot_ms();
    if (client->session.state != WP_SESSION_LIVE ||
        wp_lease_absent_ms(gateway->leases, client->shard, now_ms) < WP_LEASE_ABSENT_MS ||
        now_ms - client->attached_boot_ms < WP_LEASE_ABSENT_MS) {
        return;
    }
    struct wp_session_turn turn;
    wp_metric_add(WP_M_SENT_AWAY, 1);
    wp_client_turn_begin(client, &turn);
    wp_session_close(
        &client->session, &turn, WP_E_CLOSED, "no router answers this gateway; connect to another");
    wp_client_turn_end(client, &turn);
}
