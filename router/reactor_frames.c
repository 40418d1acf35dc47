/* What gateways send, one function per frame type. Each frame is answered, or counted when it asks for no
 * answer.
 *
 * A submit that is refused here (this router does not lead, the disk reserve is reached) never reached the
 * log and does not consume the number of its stream; everything else is decided by apply. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/dispatch_wire.h"
#include "router/reactor_report.h"

#define LEASE_ECHO_MS 500u /* the shortest election timeout of the groups */

static void frame_bad(struct wp_reactor *reactor, struct peer *peer, enum wp_frame_type type, int error)
{
    (void)reactor;
    wp_metric_add(WP_M_FABRIC_REFUSED, 1);
    wp_log(WP_LOG_WARN, "frame_refused", "peer=%s type=%d reason=%s", wp_link_node(peer->link), (int)type,
        wp_error_slug(error));
}

/* Whether the shard takes new commands from devices. */
static int shard_check(const struct shard *shard)
{
    if (!shard || shard->reactor->stopping || !wp_group_leading(shard->group)) {
        return WP_E_NOT_LEADER;
    }
    return WP_OK;
}

static void submit_reply(
    struct wp_reactor *reactor, struct peer *peer, uint64_t ticket, int error, uint32_t credit)
{
    Wp__SubmitReply reply = WP__SUBMIT_REPLY__INIT;
    reply.ticket = ticket;
    reply.error = error;
    wp_metric_add(WP_M_REFUSED, 1);
    wp_peer_reply(reactor, peer->number, WP_FRAME_SUBMIT_REPLY, &reply.base, credit);
}

static int submit_take(
    struct wp_reactor *reactor, struct peer *peer, const struct wp_submit_view *view, uint32_t credit)
{
    struct shard *shard = wp_reactor_shard(reactor, view->shard);
    int error = shard_check(shard);
    if (error) {
        return error;
    }
    if (wp_shard_disk_full(shard)) {
        return WP_E_DISK_RESERVE;
    }
    size_t body_size;
    error = wp_submit_check(view, &reactor->frame_arena, &body_size);
    if (error) {
        return error;
    }
    size_t size = wp_submit_command_size(view);
    if (size > WP_ENTRY_SIZE_MAX - WP_ENTRY_HEAD_SIZE) {
        return WP_E_BODY_TOO_LARGE;
    }
    struct wp_buffer *entry = wp_shard_entry(shard, size);
    if (!entry || wp_shard_waiter_reserve(shard) || wp_submit_append(view, entry)) {
        return WP_E_UNAVAILABLE;
    }
    struct waiter waiter = {
        .kind = WAIT_SUBMIT, .peer = peer->number, .credit = credit, .number = view->ticket};
    waiter.received_us = wp_clock_mono_us();
    wp_shard_wait(shard, &waiter);
    return WP_OK;
}

static void frame_submit(struct wp_reactor *reactor, struct peer *peer, struct wp_slice payload)
{
    uint32_t credit = (uint32_t)payload.size + WP_RECORD_HEAD_SIZE;
    struct wp_submit_view view;
    wp_metric_add(WP_M_SUBMITS, 1);
    int error = wp_submit_view(payload, &view);
    if (error) {
        frame_bad(reactor, peer, WP_FRAME_SUBMIT, error);
        wp_link_credit_return(peer->link, credit);
        return;
    }
    error = submit_take(reactor, peer, &view, credit);
    if (error) {
        submit_reply(reactor, peer, view.ticket, error, credit);
    }
}

static void attach_reply(
    struct wp_reactor *reactor, struct peer *peer, uint64_t session, int error, uint64_t retry_ms)
{
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    reply.session = session;
    reply.error = error;
    reply.retry_after_ms = retry_ms;
    reply.time_ms = reactor->leader_ms;
    wp_peer_reply(reactor, peer->number, WP_FRAME_ATTACH_REPLY, &reply.base, 0);
}

/* The device is still connected; only the link was renewed. Its epoch must still be the newest. */
static int attach_resume(struct shard *shard, struct peer *peer, const Wp__Attach *attach)
{
    struct wp_device_view view;
    int error = wp_machine_device_find(shard->machine, attach->user, attach->device, &view);
    if (error) {
        return WP_E_AUTH;
    }
    if (view.epoch != attach->resume->epoch) {
        return WP_E_STALE_EPOCH;
    }
    struct wp_dispatch_attach attached = {
        .link = peer->number,
        .session = attach->session,
        .mailbox = view.mailbox,
        .device = view.device,
        .device_name = attach->device,
        .epoch = view.epoch,
        .window = attach->window,
        .subscribed = view.inbox_subscribed,
        .receipts = view.receipts_subscribed,
        .resume = attach->resume,
    };
    error = wp_dispatch_attached(shard->dispatch, &attached);
    if (error) {
        return WP_E_UNAVAILABLE;
    }
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    reply.session = attach->session;
    reply.epoch = view.epoch;
    reply.session_present = view.inbox_subscribed || view.receipts_subscribed;
    reply.inbox_subscribed = view.inbox_subscribed;
    reply.receipts_subscribed = view.receipts_subscribed;
    reply.time_ms = shard->reactor->leader_ms;
    wp_peer_reply(shard->reactor, peer->number, WP_FRAME_ATTACH_REPLY, &reply.base, 0);
    return WP_OK;
}

static int attach_propose(struct shard *shard, struct peer *peer, const Wp__Attach *attach)
{
    struct wp_reactor *reactor = shard->reactor;
    struct attach_wait *wait = reactor->attaches.count < ATTACHES_MAX ? calloc(1, sizeof(*wait)) : NULL;
    if (!wait) {
        return WP_E_UNAVAILABLE;
    }
    wait->peer = peer->number;
    wait->session = attach->session;
    wait->window = attach->window;
    memcpy(wait->device_name, attach->device, strlen(attach->device)); /* a valid name: it was found */
    if (wp_map_insert(&reactor->attaches, &wait->node, wp_map_hash(peer->number, attach->session, 4))) {
        free(wait);
        return WP_E_UNAVAILABLE;
    }
    /* What the old connection acknowledged must stand before the new epoch counts its attempts. */
    wp_shard_cursors(shard);
    Wp__CommandAttach command = WP__COMMAND_ATTACH__INIT;
    command.user = attach->user;
    command.device = attach->device;
    command.clean_start = attach->clean_start;
    struct waiter waiter = {
        .kind = WAIT_ATTACH, .peer = peer->number, .number = attach->session, .attach = wait};
    if (wp_shard_command(shard, WP_COMMAND_ATTACH, &command.base, &waiter)) {
        wp_map_remove(&reactor->attaches, &wait->node);
        free(wait);
        return WP_E_UNAVAILABLE;
    }
    return WP_OK;
}

static int attach_take(
    struct wp_reactor *reactor, struct peer *peer, const Wp__Attach *attach, uint64_t *ret_retry_ms)
{
    struct shard *shard = wp_reactor_shard(reactor, attach->shard);
    int error = shard_check(shard);
    if (error) {
        return error;
    }
    if (attach->resume) {
        return attach_resume(shard, peer, attach);
    }
    struct wp_device_view view;
    error = wp_machine_authenticate(shard->machine, reactor->config.secret_key, attach->user, attach->device,
        wp_slice(attach->secret.data, attach->secret.len), &view);
    if (error) {
        return error;
    }
    uint64_t retry_ms = wp_dispatch_retry_after_ms(shard->dispatch, view.mailbox, view.device);
    if (retry_ms > 0) {
        *ret_retry_ms = retry_ms;
        return WP_E_RATE;
    }
    return attach_propose(shard, peer, attach);
}

static void frame_attach(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__Attach *attach = (const Wp__Attach *)message;
    uint64_t retry_ms = 0;
    int error = attach_take(reactor, peer, attach, &retry_ms);
    if (error) {
        attach_reply(reactor, peer, attach->session, error, retry_ms);
    }
}

static struct attach_wait *attach_find(struct wp_reactor *reactor, uint32_t peer, uint64_t session)
{
    struct wp_map_node *node = wp_map_find(&reactor->attaches, wp_map_hash(peer, session, 4));
    for (; node; node = wp_map_find_next(node)) {
        struct attach_wait *wait = WP_MAP_OBJECT(node, struct attach_wait, node);
        if (wait->peer == peer && wait->session == session) {
            return wait;
        }
    }
    return NULL;
}

static void frame_detach(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__Detach *detach = (const Wp__Detach *)message;
    struct attach_wait *wait = attach_find(reactor, peer->number, detach->session);
    if (wait) {
        wait->cancelled = true;
    }
    struct shard *shard = wp_reactor_shard(reactor, detach->shard);
    /* Not found is ordinary: kicked a moment ago, or the attach is still on its way. */
    if (shard) {
        (void)wp_dispatch_detached(shard->dispatch, peer->number, detach->session);
    }
}

static int subscribe_take(struct wp_reactor *reactor, struct peer *peer, const Wp__Subscribe *subscribe)
{
    struct shard *shard = wp_reactor_shard(reactor, subscribe->shard);
    int error = shard_check(shard);
    if (error) {
        return error;
    }
    struct wp_dispatch_session session;
    if (!wp_dispatch_session_find(shard->dispatch, peer->number, subscribe->session, &session) ||
        session.epoch != subscribe->epoch) {
        return WP_E_STALE_EPOCH;
    }
    const char *user = wp_machine_mailbox_user(shard->machine, session.mailbox);
    if (!user) {
        return WP_E_STALE_EPOCH;
    }
    /* protobuf-c has no const strings; packing only reads them. */
    Wp__CommandSubscribe command = WP__COMMAND_SUBSCRIBE__INIT;
    char user_copy[WP_NAME_SIZE_MAX + 1] = "";
    char device_copy[WP_NAME_SIZE_MAX + 1] = "";
    strncpy(user_copy, user, WP_NAME_SIZE_MAX);
    strncpy(device_copy, session.device_name, WP_NAME_SIZE_MAX);
    command.user = user_copy;
    command.device = device_copy;
    command.epoch = subscribe->epoch;
    command.inbox = subscribe->inbox;
    command.receipts = subscribe->receipts;
    struct waiter waiter = {.kind = WAIT_SUBSCRIBE, .peer = peer->number, .number = subscribe->session};
    waiter.inbox = subscribe->inbox;
    waiter.receipts = subscribe->receipts;
    waiter.request = subscribe->request;
    return wp_shard_command(shard, WP_COMMAND_SUBSCRIBE, &command.base, &waiter) ? WP_E_UNAVAILABLE : WP_OK;
}

static void frame_subscribe(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__Subscribe *subscribe = (const Wp__Subscribe *)message;
    int error = subscribe_take(reactor, peer, subscribe);
    if (error) {
        Wp__SubscribeReply reply = WP__SUBSCRIBE_REPLY__INIT;
        reply.session = subscribe->session;
        reply.request = subscribe->request;
        reply.error = error;
        wp_peer_reply(reactor, peer->number, WP_FRAME_SUBSCRIBE_REPLY, &reply.base, 0);
    }
}

static void frame_ack(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__Ack *ack = (const Wp__Ack *)message;
    struct shard *shard = wp_reactor_shard(reactor, ack->shard);
    uint32_t known = 0;
    uint32_t unknown = 0;
    if (shard && wp_dispatch_acknowledged(shard->dispatch, peer->number, ack->session, ack->positions,
                     ack->n_positions, &known, &unknown) == WP_E_NOT_FOUND) {
        unknown = 1;
    }
    if (shard && ack->n_skipped > 0) {
        wp_dispatch_skipped(shard->dispatch, peer->number, ack->session, ack->skipped, ack->n_skipped);
    }
    wp_metric_add(WP_M_DELIVERED, known);
    if (unknown > 0) {
        wp_metric_add(WP_M_ACKS_IGNORED, unknown);
    }
}

/* The shards that this reactor vouches for: it leads them, and a majority said so less than an election
 * timeout ago by the clock as it is now, not as it was when this process stood still. One that leads nothing
 * answers too: a gateway that knows its time before it leads can tell from its first delivery whether that
 * was late. A reply that does not fit is left out: the next request comes soon. */
static void frame_lease(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    Wp__LeaseReply reply = WP__LEASE_REPLY__INIT;
    uint32_t *shards = wp_arena_alloc(&reactor->frame_arena, reactor->shard_count * sizeof(*shards));
    reply.stamp_ms = ((const Wp__Lease *)message)->stamp_ms;
    reply.shards = shards;
    reply.time_ms = wp_reactor_time(reactor);
    uint64_t now_ms = wp_clock_boot_ms();
    for (struct shard *shard = wp_shard_next(reactor, NULL); shards && shard;
         shard = wp_shard_next(reactor, shard)) {
        uint64_t accepted_ms = wp_group_lease_ms(shard->group);
        if (shard_check(shard) == WP_OK && accepted_ms > 0 && now_ms < accepted_ms + LEASE_ECHO_MS) {
            shards[reply.n_shards++] = shard->number;
        }
    }
    (void)wp_link_send(peer->link, WP_LINK_CONTROL, WP_FRAME_LEASE_REPLY, &reply.base);
}

struct frame_row {
    const ProtobufCMessageDescriptor *descriptor;
    void (*take)(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);
};

static const struct frame_row frame_rows[] = {
    [WP_FRAME_ATTACH] = {&wp__attach__descriptor, frame_attach},
    [WP_FRAME_DETACH] = {&wp__detach__descriptor, frame_detach},
    [WP_FRAME_SUBSCRIBE] = {&wp__subscribe__descriptor, frame_subscribe},
    [WP_FRAME_ACK] = {&wp__ack__descriptor, frame_ack},
    [WP_FRAME_LEASE] = {&wp__lease__descriptor, frame_lease},
};

void wp_reactor_frame(
    struct wp_reactor *reactor, struct peer *peer, enum wp_frame_type type, struct wp_slice payload)
{
    if (type == WP_FRAME_SUBMIT) {
        frame_submit(reactor, peer, payload);
        return;
    }
    if ((size_t)type >= sizeof(frame_rows) / sizeof(*frame_rows) || !frame_rows[type].take) {
        frame_bad(reactor, peer, type, WP_E_MALFORMED);
        return;
    }
    ProtobufCMessage *message;
    int error = wp_schema_decode(frame_rows[type].descriptor, payload, &reactor->frame_arena, &message);
    if (error) {
        frame_bad(reactor, peer, type, error);
        return;
    }
    frame_rows[type].take(reactor, peer, message);
}
