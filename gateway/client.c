/* One device connection between edge and routers: its bytes in, its steps, its end.
 *
 *   1. What a step left in client->out, and the end of a session, reach the edge at the end of the turn.
 *   2. A session that ended is detached from its shard at once and its streams are closed. */
#include "gateway/gateway_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"

static int slots_grow(struct wp_gateway *gateway)
{
    uint32_t count = gateway->slot_count ? gateway->slot_count * 2 : 64;
    struct wp_client_slot *grown = realloc(gateway->slots, count * sizeof *grown);
    if (!grown) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = gateway->slot_count; i < count; i++) {
        grown[i] = (struct wp_client_slot){.next_free = i + 1 < count ? i + 1 : UINT32_MAX};
    }
    gateway->slot_free = gateway->slot_count;
    gateway->slots = grown;
    gateway->slot_count = count;
    return WP_OK;
}

int wp_client_open(struct wp_gateway *gateway, void *connection, struct wp_client **ret_client)
{
    if (gateway->client_count >= gateway->config.connections_max) {
        return WP_E_FULL;
    }
    if (gateway->slot_free == UINT32_MAX && slots_grow(gateway) != WP_OK) {
        return WP_E_NOMEM;
    }
    struct wp_client *client = calloc(1, sizeof *client);
    if (!client) {
        return WP_E_NOMEM;
    }
    uint32_t index = gateway->slot_free;
    struct wp_client_slot *slot = &gateway->slots[index];
    gateway->slot_free = slot->next_free;
    slot->client = client;
    slot->generation = slot->generation + 1 ? slot->generation + 1 : 1;
    client->gateway = gateway;
    client->connection = connection;
    client->number = (uint64_t)slot->generation << 32 | index;
    wp_session_init(&client->session, &gateway->config.policy, wp_gateway_now_ms());
    gateway->client_count++;
    *ret_client = client;
    return WP_OK;
}

struct wp_client *wp_gateway_client_find(struct wp_gateway *gateway, uint64_t number)
{
    uint32_t index = (uint32_t)number;
    if (index >= gateway->slot_count) {
        return NULL;
    }
    struct wp_client *client = gateway->slots[index].client;
    return client && client->number == number ? client : NULL;
}

uint64_t wp_gateway_sessions(const struct wp_gateway *gateway)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < gateway->slot_count; i++) {
        const struct wp_client *client = gateway->slots[i].client;
        count += client && client->session.state == WP_SESSION_LIVE;
    }
    return count;
}

static void streams_close(struct wp_client *client)
{
    if (!client->streams) {
        return;
    }
    for (uint32_t i = 0; i < wp_routing_shard_count(client->gateway->routing); i++) {
        wp_stream_close(client->gateway->submits, &client->streams[i]);
    }
    free(client->streams);
    client->streams = NULL;
}

void wp_client_mark(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    if (client->dirty) {
        return;
    }
    client->dirty = true;
    client->dirty_next = NULL;
    *(gateway->dirty_last ? &gateway->dirty_last->dirty_next : &gateway->dirty_first) = client;
    gateway->dirty_last = client;
}

static void dirty_remove(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_client *previous = NULL;
    for (struct wp_client *at = gateway->dirty_first; client->dirty && at;
         previous = at, at = at->dirty_next) {
        if (at != client) {
            continue;
        }
        *(previous ? &previous->dirty_next : &gateway->dirty_first) = client->dirty_next;
        if (gateway->dirty_last == client) {
            gateway->dirty_last = previous;
        }
        client->dirty = false;
        return;
    }
}

static void end_log(const struct wp_client *client)
{
    const struct wp_session *session = &client->session;
    const struct wp_session_end *end = &session->end;
    char detail[160];
    const char *named = session->user[0] ? session->user : "-";
    const char *device = session->device[0] ? session->device : "-";
    wp_log_quote(end->detail ? end->detail : "", detail, sizeof detail);
    if (end->error == WP_OK) {
        wp_log(WP_LOG_DEBUG, "session_end", "device=%s/%s", named, device);
    } else if (end->refused_publish) {
        wp_log(WP_LOG_WARN, "publish_refused", "device=%s/%s protocol=3.1.1 reason=%s detail=%s", named,
            device, wp_error_slug(end->error), detail);
    } else {
        wp_log(WP_LOG_INFO, "session_end", "device=%s/%s reason=%s code=0x%02x detail=%s", named, device,
            wp_error_slug(end->error), end->code, detail);
    }
}

/* The session is over: nobody else has to do with it. The edge still writes what is in the buffer. */
static void client_end(struct wp_client *client)
{
    if (client->ended) {
        return;
    }
    client->ended = true;
    end_log(client);
    if (client->session.end.refused_publish) {
        wp_penalty_add(
            &client->gateway->penalties, client->session.user, client->session.device, wp_gateway_now_ms());
    }
    wp_client_detach(client);
    streams_close(client);
    client->gateway->held_bytes -= client->held.bytes;
    wp_holdback_clear(&client->held);
    wp_buffer_free(&client->secret);
}

void wp_client_close(struct wp_client **client)
{
    struct wp_client *taken = *client;
    if (!taken) {
        return;
    }
    struct wp_gateway *gateway = taken->gateway;
    if (taken->session.state != WP_SESSION_CLOSED) {
        taken->session.state = WP_SESSION_CLOSED;
        taken->session.end =
            (struct wp_session_end){.error = WP_E_CLOSED, .detail = "the connection was lost"};
    }
    client_end(taken);
    dirty_remove(taken);
    uint32_t index = (uint32_t)taken->number;
    gateway->slots[index].client = NULL;
    gateway->slots[index].next_free = gateway->slot_free;
    gateway->slot_free = index;
    gateway->client_count--;
    wp_session_fini(&taken->session);
    wp_buffer_free(&taken->out);
    free(taken);
    *client = NULL;
}

void wp_client_turn_begin(struct wp_client *client, struct wp_session_turn *turn)
{
    struct wp_gateway *gateway = client->gateway;
    if (gateway->random_used + 16 > sizeof gateway->random) {
        randombytes_buf(gateway->random, sizeof gateway->random);
        gateway->random_used = 0;
    }
    wp_arena_reset(&gateway->arena);
    turn->now_us = wp_clock_mono_us();
    turn->now_ms = turn->now_us / 1000;
    turn->wall_ms = wp_clock_wall_ms();
    turn->random = gateway->random + gateway->random_used;
    turn->random_used = false;
    turn->arena = &gateway->arena;
    turn->out = &client->out;
}

void wp_client_turn_end(struct wp_client *client, struct wp_session_turn *turn)
{
    if (turn->random_used) {
        client->gateway->random_used += 16;
    }
    if (client->session.state == WP_SESSION_CLOSED) {
        client_end(client);
        wp_client_mark(client);
    } else if (client->out.size > 0 || (client->starved && !wp_client_blocked(client))) {
        wp_client_mark(client);
    }
}

bool wp_client_blocked(const struct wp_client *client)
{
    return client->paused_shard != 0 || wp_session_blocked(&client->session);
}

/* The stream of this attachment to `shard`, opened when first needed. */
static int stream_get(struct wp_client *client, uint32_t shard, struct wp_stream **ret_stream)
{
    struct wp_gateway *gateway = client->gateway;
    if (!client->streams) {
        client->streams = calloc(wp_routing_shard_count(gateway->routing), sizeof *client->streams);
        if (!client->streams) {
            return WP_E_NOMEM;
        }
    }
    struct wp_stream **stream = &client->streams[shard - 1];
    if (!*stream) {
        int error = wp_stream_open(gateway->submits, shard, client->number, client->session.user,
            client->session.device, client->session.epoch, stream);
        if (error) {
            return error;
        }
    }
    *ret_stream = *stream;
    return WP_OK;
}

static void client_submit(
    struct wp_client *client, struct wp_session_turn *turn, const struct wp_session_effect *effect)
{
    struct wp_gateway *gateway = client->gateway;
    uint32_t shard = wp_routing_shard_of(gateway->routing, effect->submit.envelope->header->recipient);
    WP_ASSERT(shard > 0); /* a live session has been attached, so the map is known */
    struct wp_stream *stream;
    int error = stream_get(client, shard, &stream);
    error = error ? error
                  : wp_stream_push(gateway->submits, stream, effect->submit.publish, effect->submit.envelope,
                        turn->now_ms);
    if (error) {
        wp_session_submitted(&client->session, turn, effect->submit.publish, error, 0);
        return;
    }
    wp_gateway_pump(gateway, shard);
    if (wp_submits_waiting_bytes(gateway->submits, shard) > WP_SHARD_WAITING_MAX) {
        gateway->choked[shard - 1] = 1;
        client->paused_shard = shard;
        wp_metric_add(WP_M_BACKPRESSURE, 1);
    }
}

static void effect_take(
    struct wp_client *client, struct wp_session_turn *turn, const struct wp_session_effect *effect)
{
    switch (effect->kind) {
    case WP_SESSION_ATTACH:
        wp_client_attach_start(client, effect);
        return;
    case WP_SESSION_SUBSCRIBE:
        client->subscribe_waits = true;
        client->subscribe_at_ms = 0;
        wp_client_subscribe_try(client);
        return;
    case WP_SESSION_SUBMIT:
        client_submit(client, turn, effect);
        return;
    case WP_SESSION_NOTHING:
        return;
    }
}

size_t wp_client_input(struct wp_client *client, struct wp_slice input)
{
    size_t taken = 0;
    size_t consumed = 1;
    while (consumed > 0 && taken < input.size && client->session.state != WP_SESSION_CLOSED &&
           !wp_client_blocked(client)) {
        struct wp_session_turn turn;
        struct wp_session_effect effect;
        wp_client_turn_begin(client, &turn);
        consumed = wp_session_input(
            &client->session, &turn, wp_slice(input.data + taken, input.size - taken), &effect);
        effect_take(client, &turn, &effect);
        taken += consumed;
        wp_client_turn_end(client, &turn);
    }
    if (client->session.state == WP_SESSION_CLOSED) {
        return input.size;
    }
    uint64_t now_ms = wp_gateway_now_ms();
    client->starved = wp_client_blocked(client);
    if (taken > 0) {
        wp_session_partial(&client->session, now_ms, false);
    }
    wp_session_partial(&client->session, now_ms, taken < input.size && !client->starved);
    wp_client_acks_send(client);
    return taken;
}

void wp_client_writable(struct wp_client *client)
{
    if (client->held.bytes > 0 && client->session.state == WP_SESSION_LIVE) {
        wp_client_held_drain(client);
    }
}
