/* Deliveries on their way from a router's frame to a device's socket.
 *
 *   1. Lower lanes write at most WP_WRITE_AHEAD_MAX ahead to one socket; more is held per lane. STAT is never
 * held.
 *   2. Within a lane the order of the router stays. */
#include "gateway/gateway_internal.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"

/* The bytes that one slow device may hold before the common bound decides about it. */
#define HELD_BYTES_FAIR ((size_t)1024 * 1024)

static void deliver_write(struct wp_client *client, const Wp__Deliver *deliver, uint64_t held_ms)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_session_turn turn;
    Wp__Envelope *envelope;
    int error =
        wp_schema_decode(&wp__envelope__descriptor, wp_slice(deliver->envelope.data, deliver->envelope.len),
            &gateway->frame_arena, (ProtobufCMessage **)&envelope);
    error = error ? error : wp_envelope_check(envelope);
    wp_client_turn_begin(client, &turn);
    error = error ? error : wp_session_deliver(&client->session, &turn, deliver, envelope, held_ms);
    if (error && error != WP_E_CLOSED) {
        /* It stays queued in the mailbox: nothing acknowledges it. */
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

static void deliver_hold(struct wp_client *client, Wp__Lane lane, struct wp_slice payload)
{
    struct wp_gateway *gateway = client->gateway;
    int error = wp_holdback_push(&client->held, lane, payload, wp_gateway_now_ms());
    if (error == WP_OK) {
        gateway->held_bytes += payload.size;
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

void wp_gateway_on_deliver(struct wp_gateway *gateway, const Wp__Deliver *deliver, struct wp_slice payload)
{
    struct wp_client *client = wp_gateway_client_find(gateway, deliver->session);
    if (!client || deliver->lane > WP__LANE__STAT) {
        return;
    }
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
    if (deliver->lane != WP__LANE__STAT &&
        (!has_room(client) || wp_holdback_has(&client->held, deliver->lane))) {
        deliver_hold(client, deliver->lane, payload);
        return;
    }
    deliver_write(client, deliver, 0);
}

void wp_client_held_drain(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_held *held;
    while (client->session.state == WP_SESSION_LIVE && has_room(client) &&
           (held = wp_holdback_take(&client->held))) {
        Wp__Deliver *deliver;
        gateway->held_bytes -= held->size;
        wp_arena_reset(&gateway->frame_arena);
        if (wp_schema_decode(&wp__deliver__descriptor, wp_slice(held->deliver, held->size),
                &gateway->frame_arena, (ProtobufCMessage **)&deliver) == WP_OK) {
            deliver_write(client, deliver, wp_gateway_now_ms() - held->since_ms);
        }
        free(held);
    }
}
