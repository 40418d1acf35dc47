/* The flow through the gateway, in one place:
 *
 *   device bytes -> wp_client_input -> session -> Attach | Subscribe | stream -> router link
 *   router frame -> on_frame -> session or stream -> client->out -> (end of turn) edge
 *
 *   1. A client is in the dirty list at most once; the end of the turn empties the list.
 *   2. Every turn of the loop that came from a router or the clock ends with wp_gateway_turn. */
#include "gateway/gateway.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/gateway_internal.h"
#include "proto/frame.h"

#define ARENA_BYTES_MAX ((size_t)8 * 1024 * 1024) /* a frame of 2 MiB, decoded, with its envelope */

uint64_t wp_gateway_now_ms(void)
{
    return wp_clock_mono_us() / 1000;
}

static int on_sharded(void *context, uint32_t shard_count)
{
    struct wp_gateway *gateway = context;
    uint8_t *choked = calloc(shard_count, 1);
    if (!choked) {
        return WP_E_NOMEM;
    }
    int error = wp_submits_create(shard_count, &gateway->submits);
    error = error ? error : wp_leases_create(shard_count, wp_clock_boot_ms(), &gateway->leases);
    if (error) {
        wp_submits_destroy(&gateway->submits);
        free(choked);
        return error;
    }
    gateway->choked = choked;
    gateway->waiting_due = true;
    return WP_OK;
}

/* First the sessions of the shard, then the submits that wait for it. */
static void on_shard_up(void *context, uint32_t shard)
{
    struct wp_gateway *gateway = context;
    wp_leases_hurry(gateway->leases);
    wp_submits_shard_found(gateway->submits, shard);
    wp_gateway_waiting_hurry(gateway, shard);
    wp_gateway_waiting_walk(gateway);
    wp_gateway_pump(gateway, shard);
}

static void on_shard_down(void *context, uint32_t shard)
{
    struct wp_gateway *gateway = context;
    wp_submits_shard_lost(gateway->submits, shard);
    wp_gateway_detaches_forget(gateway, shard);
    for (uint32_t i = 0; i < gateway->slot_count; i++) {
        struct wp_client *client = gateway->slots[i].client;
        if (client && client->shard == shard &&
            (client->attach == WP_CLIENT_ATTACHED || client->attach == WP_CLIENT_ASKED)) {
            wp_client_attach_again(client, 0);
        }
    }
}

void wp_gateway_pump(struct wp_gateway *gateway, uint32_t shard)
{
    uint64_t now_ms = wp_gateway_now_ms();
    Wp__Submit submit;
    Wp__Lane lane;
    while (wp_submits_next(gateway->submits, shard, gateway->lane_turn, now_ms, &submit, &lane)) {
        int error =
            wp_routing_send(gateway->routing, shard, (enum wp_link_lane)lane, WP_FRAME_SUBMIT, &submit.base);
        if (error) {
            break;
        }
        wp_submits_sent(gateway->submits, shard);
    }
    if (gateway->choked[shard - 1] &&
        wp_submits_waiting_bytes(gateway->submits, shard) < WP_SHARD_WAITING_MAX / 2) {
        gateway->choked[shard - 1] = 0;
        gateway->choke_ended = true;
    }
}

static void pump_all(struct wp_gateway *gateway)
{
    for (uint32_t shard = 1; shard <= wp_routing_shard_count(gateway->routing); shard++) {
        wp_gateway_pump(gateway, shard);
    }
}

void wp_gateway_answer(struct wp_gateway *gateway, const struct wp_submit_answer *answer)
{
    struct wp_client *client = wp_gateway_client_find(gateway, answer->owner);
    if (!client) {
        return;
    }
    struct wp_session_turn turn;
    wp_client_turn_begin(client, &turn);
    if (answer->error == WP_E_STALE_EPOCH) {
        wp_session_close(&client->session, &turn, answer->error, NULL);
    } else {
        wp_session_submitted(&client->session, &turn, answer->publish, answer->error, answer->accepted_ms);
    }
    wp_client_turn_end(client, &turn);
}

static void on_submit_reply(struct wp_gateway *gateway, const Wp__SubmitReply *reply)
{
    struct wp_submit_answer answer;
    if (gateway->submits && wp_submits_reply(gateway->submits, reply, wp_gateway_now_ms(), &answer)) {
        wp_gateway_answer(gateway, &answer);
    }
}

static void on_kick(struct wp_gateway *gateway, const Wp__Kick *kick)
{
    struct wp_client *client = wp_gateway_client_find(gateway, kick->session);
    if (!client || client->attach == WP_CLIENT_DETACHED) {
        return;
    }
    if (kick->error == WP_E_NOT_LEADER || kick->error == WP_E_UNAVAILABLE) {
        /* The shard moves; the device need not notice. */
        wp_client_attach_again(client, wp_gateway_now_ms() + WP_RETRY_MS);
        return;
    }
    struct wp_session_turn turn;
    wp_client_turn_begin(client, &turn);
    const char *detail = kick->error == WP_E_STALE_EPOCH ? "the device connected elsewhere"
                         : kick->error == WP_E_NOT_FOUND ? "the device was removed"
                         : kick->error == WP_E_TIMEOUT   ? "a delivery was not acknowledged in time"
                                                         : NULL;
    wp_session_close(&client->session, &turn, kick->error, detail);
    client->attach = WP_CLIENT_DETACHED; /* the router has ended it already */
    wp_client_turn_end(client, &turn);
}

/* The shard that a frame speaks of; 0: none that we know. Session and ticket stand first in each. */
static uint32_t frame_shard(
    struct wp_gateway *gateway, enum wp_frame_type type, const ProtobufCMessage *message)
{
    switch (type) {
    case WP_FRAME_ATTACH_REPLY:
        return wp_gateway_session_shard(gateway, ((const Wp__AttachReply *)message)->session);
    case WP_FRAME_SUBSCRIBE_REPLY:
        return wp_gateway_session_shard(gateway, ((const Wp__SubscribeReply *)message)->session);
    case WP_FRAME_DELIVER:
        return wp_gateway_session_shard(gateway, ((const Wp__Deliver *)message)->session);
    case WP_FRAME_KICK:
        return wp_gateway_session_shard(gateway, ((const Wp__Kick *)message)->session);
    default:
        return gateway->submits
                   ? wp_submits_shard_of(gateway->submits, ((const Wp__SubmitReply *)message)->ticket)
                   : 0;
    }
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    static const ProtobufCMessageDescriptor *const descriptors[] = {
        [WP_FRAME_ATTACH_REPLY] = &wp__attach_reply__descriptor,
        [WP_FRAME_SUBSCRIBE_REPLY] = &wp__subscribe_reply__descriptor,
        [WP_FRAME_SUBMIT_REPLY] = &wp__submit_reply__descriptor,
        [WP_FRAME_DELIVER] = &wp__deliver__descriptor,
        [WP_FRAME_KICK] = &wp__kick__descriptor,
        [WP_FRAME_LEASE_REPLY] = &wp__lease_reply__descriptor,
        [WP_FRAME_DELIVER_MANY] = &wp__deliver_many__descriptor,
    };
    struct wp_gateway *gateway = context;
    ProtobufCMessage *message;
    if (type == WP_FRAME_DELIVER || type == WP_FRAME_DELIVER_MANY) {
        /* It is on the device's account from now on (deliver.c bounds that), not on the link's. */
        wp_link_credit_return(link, payload.size + WP_RECORD_HEAD_SIZE);
    }
    wp_arena_reset(&gateway->frame_arena);
    if (type >= sizeof descriptors / sizeof descriptors[0] || !descriptors[type] ||
        wp_schema_decode(descriptors[type], payload, &gateway->frame_arena, &message) != WP_OK) {
        wp_metric_add(WP_M_FABRIC_REFUSED, 1);
        return;
    }
    if (type == WP_FRAME_LEASE_REPLY) {
        wp_gateway_on_lease_reply(gateway, link, (const Wp__LeaseReply *)message);
        return;
    }
    if (type == WP_FRAME_DELIVER_MANY) {
        wp_gateway_on_deliver_many(gateway, link, (const Wp__DeliverMany *)message);
        return;
    }
    uint32_t shard = frame_shard(gateway, type, message);
    if (!wp_routing_leads(gateway->routing, link, shard)) {
        /* Of a session that ended meanwhile, or of a router that leads no more: its successor says it again.
         */
        wp_metric_add(WP_M_STALE_FRAMES, shard != 0);
        return;
    }
    switch (type) {
    case WP_FRAME_ATTACH_REPLY:
        wp_gateway_on_attach_reply(gateway, (const Wp__AttachReply *)message);
        return;
    case WP_FRAME_SUBSCRIBE_REPLY:
        wp_gateway_on_subscribe_reply(gateway, (const Wp__SubscribeReply *)message);
        return;
    case WP_FRAME_SUBMIT_REPLY:
        on_submit_reply(gateway, (const Wp__SubmitReply *)message);
        return;
    case WP_FRAME_DELIVER:
        wp_gateway_on_deliver(gateway, (const Wp__Deliver *)message, payload);
        return;
    default:
        on_kick(gateway, (const Wp__Kick *)message);
        return;
    }
}

static void on_writable(void *context)
{
    struct wp_gateway *gateway = context;
    gateway->waiting_due = gateway->waiting_due || gateway->waiting_first;
    wp_gateway_detaches_flush(gateway);
    pump_all(gateway);
}

static void on_turn(void *context)
{
    struct wp_gateway *gateway = context;
    if (gateway->submits) {
        pump_all(gateway); /* what a reply gave back to its stream */
        wp_gateway_lease_turn(gateway);
    }
    wp_gateway_turn(gateway);
}

/* Clients that were not read because a shard took no more are looked at again. */
static void choke_release(struct wp_gateway *gateway)
{
    gateway->choke_ended = false;
    for (uint32_t i = 0; i < gateway->slot_count; i++) {
        struct wp_client *client = gateway->slots[i].client;
        if (client && client->paused_shard && !gateway->choked[client->paused_shard - 1]) {
            client->paused_shard = 0;
            wp_client_mark(client);
        }
    }
}

void wp_gateway_turn(struct wp_gateway *gateway)
{
    do {
        if (gateway->waiting_due) {
            wp_gateway_waiting_walk(gateway);
        }
        if (gateway->choke_ended) {
            choke_release(gateway);
        }
        while (gateway->dirty_first) {
            struct wp_client *client = gateway->dirty_first;
            gateway->dirty_first = client->dirty_next;
            if (!gateway->dirty_first) {
                gateway->dirty_last = NULL;
            }
            client->dirty_next = NULL;
            client->dirty = false;
            if (client->starved && !wp_client_blocked(client)) {
                client->starved = false;
                gateway->config.resume(gateway->config.context, client);
            }
            gateway->config.output(gateway->config.context, client);
        }
    } while (gateway->waiting_due || gateway->choke_ended);
}

static void give_up_late(struct wp_gateway *gateway)
{
    uint64_t now_ms = wp_gateway_now_ms();
    struct wp_submit_answer answer;
    for (uint32_t shard = 1; shard <= wp_routing_shard_count(gateway->routing); shard++) {
        bool up = wp_routing_shard_up(gateway->routing, shard);
        while (wp_submits_give_up(gateway->submits, shard, up, now_ms, &answer)) {
            wp_gateway_answer(gateway, &answer);
        }
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct wp_gateway *gateway = timer->data;
    gateway->phase = (gateway->phase + 1) % WP_TICK_PHASES;
    wp_gateway_lease_turn(gateway);
    for (uint32_t i = gateway->phase; i < gateway->slot_count; i += WP_TICK_PHASES) {
        struct wp_client *client = gateway->slots[i].client;
        if (!client) {
            continue;
        }
        struct wp_session_turn turn;
        wp_client_turn_begin(client, &turn);
        if (client->paused_shard) {
            client->session.heard_ms = turn.now_ms; /* we do not listen: its silence means nothing */
        }
        wp_session_tick(&client->session, &turn);
        wp_client_turn_end(client, &turn);
        wp_client_lease_check(client);
        wp_client_acks_send(client);
        wp_client_subscribe_try(client);
    }
    if (gateway->phase % 5 == 0 && gateway->submits) {
        wp_routing_tick(gateway->routing, wp_gateway_now_ms());
        give_up_late(gateway);
        pump_all(gateway);
        wp_gateway_detaches_flush(gateway);
        gateway->waiting_due = gateway->waiting_first != NULL;
    }
    wp_gateway_turn(gateway);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct wp_gateway *gateway = prepare->data;
    gateway->lane_turn++;
}

static void handle_free(uv_handle_t *handle)
{
    free(handle);
}

static int handles_start(struct wp_gateway *gateway)
{
    uv_loop_t *loop = gateway->config.routing.fabric.loop;
    gateway->timer = malloc(sizeof *gateway->timer);
    gateway->prepare = malloc(sizeof *gateway->prepare);
    if (!gateway->timer || !gateway->prepare) {
        free(gateway->timer);
        free(gateway->prepare);
        gateway->timer = NULL;
        gateway->prepare = NULL;
        return WP_E_NOMEM;
    }
    uv_timer_init(loop, gateway->timer);
    gateway->timer->data = gateway;
    uv_timer_start(gateway->timer, on_timer, WP_TICK_MS, WP_TICK_MS);
    uv_prepare_init(loop, gateway->prepare);
    gateway->prepare->data = gateway;
    uv_prepare_start(gateway->prepare, on_prepare);
    return WP_OK;
}

int wp_gateway_create(const struct wp_gateway_setup *config, struct wp_gateway **ret_gateway)
{
    struct wp_gateway *gateway = calloc(1, sizeof *gateway);
    if (!gateway) {
        return WP_E_NOMEM;
    }
    gateway->config = *config;
    gateway->slot_free = UINT32_MAX;
    gateway->random_used = sizeof gateway->random;
    wp_arena_init(&gateway->arena, ARENA_BYTES_MAX);
    wp_arena_init(&gateway->frame_arena, ARENA_BYTES_MAX);
    const struct wp_routing_callbacks callbacks = {.context = gateway,
        .sharded = on_sharded,
        .shard_up = on_shard_up,
        .shard_down = on_shard_down,
        .frame = on_frame,
        .turn = on_turn,
        .writable = on_writable};
    int error = wp_routing_create(&config->routing, &callbacks, &gateway->routing);
    error = error ? error : handles_start(gateway);
    if (error) {
        wp_gateway_destroy(&gateway);
        return error;
    }
    *ret_gateway = gateway;
    return WP_OK;
}

void wp_gateway_destroy(struct wp_gateway **gateway)
{
    struct wp_gateway *taken = *gateway;
    if (!taken) {
        return;
    }
    WP_ASSERT(taken->client_count == 0);
    if (taken->timer) {
        uv_close((uv_handle_t *)taken->timer, handle_free);
        uv_close((uv_handle_t *)taken->prepare, handle_free);
    }
    wp_routing_destroy(&taken->routing);
    wp_submits_destroy(&taken->submits);
    wp_leases_destroy(&taken->leases);
    wp_arena_fini(&taken->arena);
    wp_arena_fini(&taken->frame_arena);
    free(taken->choked);
    free(taken->slots);
    free(taken->detaches);
    free(taken->orphans);
    free(taken);
    *gateway = NULL;
}

struct wp_routing *wp_gateway_routing(struct wp_gateway *gateway)
{
    return gateway->routing;
}

void wp_gateway_stop(struct wp_gateway *gateway)
{
    for (uint32_t i = 0; i < gateway->slot_count; i++) {
        struct wp_client *client = gateway->slots[i].client;
        if (client) {
            struct wp_session_turn turn;
            wp_client_turn_begin(client, &turn);
            wp_session_close(&client->session, &turn, WP_E_CLOSED, "the gateway stops");
            wp_client_turn_end(client, &turn);
        }
    }
    wp_gateway_turn(gateway);
    wp_routing_flush(gateway->routing);
}
