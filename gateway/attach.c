/* The conversation with the user's own shard: attach, resume after a lost link, subscribe, acknowledge,
 * detach.
 *
 *   1. A client is in the waiting list exactly while attach is WP_CLIENT_WAITING.
 *   2. Acknowledgements leave only while attached; those gathered meanwhile travel in the Resume. */
#include "gateway/gateway_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

static void waiting_remove(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    if (client->attach != WP_CLIENT_WAITING) {
        return;
    }
    *(client->waiting_previous ? &client->waiting_previous->waiting_next : &gateway->waiting_first) =
        client->waiting_next;
    *(client->waiting_next ? &client->waiting_next->waiting_previous : &gateway->waiting_last) =
        client->waiting_previous;
    client->waiting_next = client->waiting_previous = NULL;
    client->attach = WP_CLIENT_DETACHED;
}

void wp_client_attach_again(struct wp_client *client, uint64_t at_ms)
{
    struct wp_gateway *gateway = client->gateway;
    waiting_remove(client);
    client->attach = WP_CLIENT_WAITING;
    client->attach_at_ms = at_ms;
    client->waiting_previous = gateway->waiting_last;
    *(gateway->waiting_last ? &gateway->waiting_last->waiting_next : &gateway->waiting_first) = client;
    gateway->waiting_last = client;
    gateway->waiting_due = true;
}

void wp_client_attach_start(struct wp_client *client, const struct wp_session_effect *effect)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_session_turn turn;
    if (wp_buffer_append(&client->secret, effect->attach.secret.data, effect->attach.secret.size) != WP_OK) {
        wp_client_turn_begin(client, &turn);
        wp_session_close(&client->session, &turn, WP_E_NOMEM, NULL);
        wp_client_turn_end(client, &turn);
        return;
    }
    uint64_t now_ms = wp_gateway_now_ms();
    uint64_t delay_ms =
        wp_penalty_delay_ms(&gateway->penalties, client->session.user, client->session.device, now_ms);
    if (delay_ms > 0) {
        wp_log(WP_LOG_INFO, "device_slowed", "device=%s/%s delay_ms=%llu", client->session.user,
            client->session.device, (unsigned long long)delay_ms);
    }
    wp_client_attach_again(client, now_ms + delay_ms);
}

typedef uint32_t (*positions_list)(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out);

/* Up to one Positions per lane, the receipts included, in the arena; returns how many, or WP_E_NOMEM. */
static int positions_pack(struct wp_arena *arena, const struct wp_positions *positions, positions_list list,
    uint32_t count_max, Wp__Positions ***ret_rows)
{
    Wp__Positions **rows = wp_arena_alloc(arena, WP_HOLDBACK_LANES * sizeof *rows);
    if (!rows) {
        return WP_E_NOMEM;
    }
    int count = 0;
    for (int lane = WP__LANE__ROUTINE; count_max > 0 && lane <= WP__LANE__RECEIPT; lane++) {
        uint64_t *sequences = wp_arena_alloc(arena, count_max * sizeof *sequences);
        Wp__Positions *row = wp_arena_alloc(arena, sizeof *row);
        if (!sequences || !row) {
            return WP_E_NOMEM;
        }
        wp__positions__init(row);
        row->lane = (Wp__Lane)lane;
        row->sequence = sequences;
        row->n_sequence = list(positions, (Wp__Lane)lane, sequences);
        if (row->n_sequence > 0) {
            rows[count++] = row;
        }
    }
    *ret_rows = rows;
    return count;
}

static int resume_fill(struct wp_client *client, struct wp_arena *arena, Wp__Resume *resume)
{
    const struct wp_positions *positions = &client->session.positions;
    resume->epoch = client->session.epoch;
    int open = positions_pack(
        arena, positions, wp_positions_open_list, wp_positions_open_count(positions), &resume->in_flight);
    int acknowledged = positions_pack(arena, positions, wp_positions_acknowledged_list,
        positions->acknowledged_count, &resume->acknowledged);
    if (open < 0 || acknowledged < 0) {
        return WP_E_NOMEM;
    }
    resume->n_in_flight = (size_t)open;
    resume->n_acknowledged = (size_t)acknowledged;
    return WP_OK;
}

static int attach_send(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    Wp__Attach attach = WP__ATTACH__INIT;
    Wp__Resume resume = WP__RESUME__INIT;
    attach.session = client->number;
    attach.shard = client->shard;
    attach.user = client->session.user;
    attach.device = client->session.device;
    attach.window = client->session.window;
    if (client->attached_once) {
        wp_arena_reset(&gateway->arena);
        int error = resume_fill(client, &gateway->arena, &resume);
        if (error) {
            return error;
        }
        attach.resume = &resume;
    } else {
        attach.secret = (ProtobufCBinaryData){client->secret.size, client->secret.data};
        attach.clean_start = client->session.clean_start;
    }
    return wp_routing_send(gateway->routing, client->shard, WP_LINK_CONTROL, WP_FRAME_ATTACH, &attach.base);
}

void wp_gateway_waiting_walk(struct wp_gateway *gateway)
{
    uint64_t now_ms = wp_gateway_now_ms();
    uint32_t full_shard = 0;
    gateway->waiting_due = false;
    struct wp_client *next;
    for (struct wp_client *client = gateway->waiting_first; client; client = next) {
        next = client->waiting_next;
        if (client->shard == 0) {
            client->shard = wp_routing_shard_of(gateway->routing, client->session.user);
        }
        if (now_ms < client->attach_at_ms || client->shard == full_shard ||
            !wp_routing_shard_up(gateway->routing, client->shard)) {
            continue;
        }
        if (attach_send(client)) {
            full_shard = client->shard; /* its link takes no more now: the next tick tries again */
            continue;
        }
        waiting_remove(client);
        client->attach = WP_CLIENT_ASKED;
        client->asked_once = true;
    }
}

void wp_gateway_waiting_hurry(struct wp_gateway *gateway, uint32_t shard)
{
    for (struct wp_client *client = gateway->waiting_first; client; client = client->waiting_next) {
        if (client->shard == shard && client->asked_once) {
            client->attach_at_ms = 0;
        }
    }
}

static void detach_send(struct wp_gateway *gateway, uint64_t session, uint32_t shard, uint64_t epoch)
{
    Wp__Detach detach = WP__DETACH__INIT;
    detach.session = session;
    detach.shard = shard;
    detach.epoch = epoch;
    int error = wp_routing_send(gateway->routing, shard, WP_LINK_CONTROL, WP_FRAME_DETACH, &detach.base);
    if (error == WP_OK || error == WP_E_CLOSED) {
        return; /* a lost link has forgotten the session anyway */
    }
    if (gateway->detach_count == gateway->detach_capacity) {
        uint32_t capacity = gateway->detach_capacity ? gateway->detach_capacity * 2 : 64;
        struct wp_pending_detach *grown = realloc(gateway->detaches, capacity * sizeof *grown);
        if (!grown) {
            return; /* the router's delivery timeout finds the dead session */
        }
        gateway->detaches = grown;
        gateway->detach_capacity = capacity;
    }
    gateway->detaches[gateway->detach_count++] = (struct wp_pending_detach){session, epoch, shard};
}

void wp_gateway_detaches_flush(struct wp_gateway *gateway)
{
    uint32_t count = gateway->detach_count;
    gateway->detach_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct wp_pending_detach detach = gateway->detaches[i];
        detach_send(gateway, detach.session, detach.shard, detach.epoch);
    }
}

void wp_gateway_detaches_forget(struct wp_gateway *gateway, uint32_t shard)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < gateway->detach_count; i++) {
        if (gateway->detaches[i].shard != shard) {
            gateway->detaches[kept++] = gateway->detaches[i];
        }
    }
    gateway->detach_count = kept;
    kept = 0;
    for (uint32_t i = 0; i < gateway->orphan_count; i++) {
        if (gateway->orphans[i].shard != shard) {
            gateway->orphans[kept++] = gateway->orphans[i];
        }
    }
    gateway->orphan_count = kept;
}

static void orphan_add(struct wp_gateway *gateway, uint64_t session, uint32_t shard)
{
    if (gateway->orphan_count == gateway->orphan_capacity) {
        uint32_t capacity = gateway->orphan_capacity ? gateway->orphan_capacity * 2 : 64;
        struct wp_orphan *grown = realloc(gateway->orphans, capacity * sizeof *grown);
        if (!grown) {
            return; /* as with a lost Detach: the router's delivery timeout finds the dead session */
        }
        gateway->orphans = grown;
        gateway->orphan_capacity = capacity;
    }
    gateway->orphans[gateway->orphan_count++] = (struct wp_orphan){session, shard};
}

uint32_t wp_gateway_session_shard(struct wp_gateway *gateway, uint64_t session)
{
    const struct wp_client *client = wp_gateway_client_find(gateway, session);
    for (uint32_t i = 0; !client && i < gateway->orphan_count; i++) {
        if (gateway->orphans[i].session == session) {
            return gateway->orphans[i].shard;
        }
    }
    return client ? client->shard : 0;
}

static void orphan_answered(struct wp_gateway *gateway, const Wp__AttachReply *reply)
{
    for (uint32_t i = 0; i < gateway->orphan_count; i++) {
        if (gateway->orphans[i].session != reply->session) {
            continue;
        }
        struct wp_orphan orphan = gateway->orphans[i];
        gateway->orphans[i] = gateway->orphans[--gateway->orphan_count];
        if (reply->error == WP_OK) {
            detach_send(gateway, orphan.session, orphan.shard, reply->epoch);
        }
        return;
    }
}

void wp_client_detach(struct wp_client *client)
{
    if (client->attach == WP_CLIENT_ATTACHED ||
        (client->attach == WP_CLIENT_ASKED && client->attached_once)) {
        wp_client_acks_send(client);
        detach_send(client->gateway, client->number, client->shard, client->session.epoch);
    } else if (client->attach == WP_CLIENT_ASKED) {
        orphan_add(client->gateway, client->number, client->shard);
    }
    waiting_remove(client);
    client->attach = WP_CLIENT_DETACHED;
}

void wp_client_acks_send(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_positions *positions = &client->session.positions;
    if ((positions->unsent == 0 && positions->skipped_count == 0) || client->attach != WP_CLIENT_ATTACHED) {
        return;
    }
    Wp__Ack ack = WP__ACK__INIT;
    ack.session = client->number;
    ack.shard = client->shard;
    wp_arena_reset(&gateway->arena);
    int count = positions_pack(
        &gateway->arena, positions, wp_positions_unsent_list, positions->unsent, &ack.positions);
    int skipped = positions_pack(
        &gateway->arena, positions, wp_positions_skipped_list, positions->skipped_count, &ack.skipped);
    if (count < 0 || skipped < 0) {
        return;
    }
    ack.n_positions = (size_t)count;
    ack.n_skipped = (size_t)skipped;
    if (wp_routing_send(gateway->routing, client->shard, WP_LINK_CONTROL, WP_FRAME_ACK, &ack.base) == WP_OK) {
        wp_positions_sent(positions);
    }
}

void wp_client_subscribe_try(struct wp_client *client)
{
    struct wp_session *session = &client->session;
    if (!client->subscribe_waits || client->attach != WP_CLIENT_ATTACHED || session->request_since_ms == 0 ||
        wp_gateway_now_ms() < client->subscribe_at_ms) {
        return;
    }
    Wp__Subscribe subscribe = WP__SUBSCRIBE__INIT;
    subscribe.session = client->number;
    subscribe.shard = client->shard;
    subscribe.epoch = session->epoch;
    subscribe.request = session->request;
    subscribe.inbox = session->request_inbox;
    subscribe.receipts = session->request_receipts;
    int error = wp_routing_send(
        client->gateway->routing, client->shard, WP_LINK_CONTROL, WP_FRAME_SUBSCRIBE, &subscribe.base);
    client->subscribe_waits = error != WP_OK;
}

static bool error_is_passing(int error)
{
    return error == WP_E_NOT_LEADER || error == WP_E_UNAVAILABLE;
}

void wp_gateway_on_attach_reply(struct wp_gateway *gateway, const Wp__AttachReply *reply)
{
    struct wp_client *client = wp_gateway_client_find(gateway, reply->session);
    if (!client || client->attach != WP_CLIENT_ASKED) {
        orphan_answered(gateway, reply);
        return;
    }
    if (error_is_passing(reply->error)) {
        wp_client_attach_again(client, wp_gateway_now_ms() + WP_RETRY_MS);
        return;
    }
    struct wp_session_turn turn;
    wp_client_turn_begin(client, &turn);
    client->attach = reply->error == WP_OK ? WP_CLIENT_ATTACHED : WP_CLIENT_DETACHED;
    client->attached_boot_ms = wp_clock_boot_ms();
    if (client->attached_once) {
        if (reply->error != WP_OK) {
            wp_session_close(&client->session, &turn, reply->error, NULL);
        } else {
            client->repeats_until_ms = turn.now_ms + (uint64_t)2 * WP_POSITION_MEMORY_MS;
            client->subscribe_waits = client->session.request_since_ms != 0;
        }
    } else {
        client->attached_once = reply->error == WP_OK;
        wp_buffer_free(&client->secret);
        wp_session_attached(&client->session, &turn, reply);
    }
    wp_client_turn_end(client, &turn);
    wp_client_acks_send(client);
    wp_client_subscribe_try(client);
    wp_client_held_drain(client);
}

void wp_gateway_on_subscribe_reply(struct wp_gateway *gateway, const Wp__SubscribeReply *reply)
{
    struct wp_client *client = wp_gateway_client_find(gateway, reply->session);
    if (!client) {
        return;
    }
    if (error_is_passing(reply->error)) {
        client->subscribe_waits = client->session.request == reply->request;
        client->subscribe_at_ms = wp_gateway_now_ms() + WP_RETRY_MS;
        return;
    }
    struct wp_session_turn turn;
    wp_client_turn_begin(client, &turn);
    wp_session_subscribed(&client->session, &turn, reply->request, reply->error);
    wp_client_turn_end(client, &turn);
}
