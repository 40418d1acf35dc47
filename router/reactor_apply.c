/* What happens when an entry is committed: the machine applies it, those who wait for its commands are
 * answered, and dispatch learns what changed. Nobody is answered from anywhere else with a success (raft.md,
 * rule 11). */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/dispatch_wire.h"
#include "router/reactor_outbox.h"

#define EFFECTS_PER_TURN 512u

/* --- deliveries ------------------------------------------------------------------------------------------
 */

void wp_shard_deliver(struct shard *shard, const struct wp_effect *effect)
{
    struct wp_reactor *reactor = shard->reactor;
    struct peer *peer = wp_peer_find(reactor, effect->link);
    const struct wp_body *body = &effect->deliver.body;
    struct wp_slice envelope = body->envelope;
    bool receipt = effect->deliver.lane == WP__LANE__RECEIPT; /* which has no parts for devices */
    if (!peer || (!receipt && wp_envelope_for_device(body->envelope, effect->deliver.device_name,
                                  &reactor->scratch, &envelope))) {
        wp_dispatch_refused(shard->dispatch, effect);
        return;
    }
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.session = effect->session;
    deliver.lane = effect->deliver.lane;
    deliver.sequence = effect->deliver.sequence;
    deliver.dup = effect->deliver.dup;
    deliver.drained = effect->deliver.drained;
    deliver.accepted_ms = body->accepted_ms;
    deliver.expires_ms = body->expires_ms;
    deliver.remaining_ms = body->expires_ms > reactor->leader_ms ? body->expires_ms - reactor->leader_ms : 0;
    /* Packing only reads it. */
    memcpy(&deliver.envelope.data, &envelope.data, sizeof(envelope.data));
    deliver.envelope.len = envelope.size;
    enum wp_link_lane lane =
        effect->deliver.lane == WP__LANE__RECEIPT ? WP_LINK_ROUTINE : (enum wp_link_lane)effect->deliver.lane;
    if (wp_link_send(peer->link, lane, WP_FRAME_DELIVER, &deliver.base)) {
        wp_dispatch_refused(shard->dispatch, effect);
        return;
    }
    wp_metric_add(WP_M_DELIVERIES, 1);
    if (effect->deliver.dup) {
        wp_metric_add(WP_M_REDELIVERIES, 1);
    }
}

static void effect_kick(struct shard *shard, const struct wp_effect *effect)
{
    Wp__Kick kick = WP__KICK__INIT;
    kick.session = effect->session;
    kick.error = effect->error;
    wp_metric_add(WP_M_KICKS, 1);
    wp_peer_reply(shard->reactor, effect->link, WP_FRAME_KICK, &kick.base, 0);
}

static void effect_read(struct shard *shard, const struct wp_effect *effect)
{
    int error = wp_shard_read(shard, &effect->read);
    if (error) {
        error = wp_dispatch_read_done(shard->dispatch, &effect->read, error, NULL, 0);
        if (error) {
            wp_reactor_fail(shard->reactor, error, "reading messages");
        }
    }
}

bool wp_shard_pump(struct shard *shard)
{
    static void (*const take[])(struct shard *, const struct wp_effect *) = {[WP_EFFECT_KICK] = effect_kick,
        [WP_EFFECT_DELIVER] = wp_shard_deliver,
        [WP_EFFECT_READ] = effect_read};
    struct wp_effect effect;
    for (uint32_t i = 0; i < EFFECTS_PER_TURN; i++) {
        if (!wp_dispatch_next(shard->dispatch, &effect)) {
            return false;
        }
        take[effect.type](shard, &effect);
    }
    return true;
}

/* --- answers ----------------------------------------------------------------------------------------------
 */

static void submit_answer(struct shard *shard, const struct waiter *waiter, const struct wp_result *result)
{
    Wp__SubmitReply reply = WP__SUBMIT_REPLY__INIT;
    reply.ticket = waiter->number;
    reply.error = result->error;
    if (result->error == WP_OK) {
        reply.accepted_ms = result->submit.accepted_ms;
        reply.duplicate = result->submit.duplicate;
        wp_metric_add(result->submit.duplicate ? WP_M_DUPLICATES : WP_M_ACCEPTED, 1);
    } else {
        reply.resend_from = result->error == WP_E_RESEND ? result->submit.resend_from : 0;
        wp_metric_add(WP_M_REFUSED, 1);
    }
    wp_metric_observe_us(WP_H_COMMIT, wp_clock_mono_us() - waiter->received_us);
    wp_peer_reply(shard->reactor, waiter->peer, WP_FRAME_SUBMIT_REPLY, &reply.base, waiter->credit);
}

static void attach_wait_free(struct wp_reactor *reactor, struct attach_wait *wait)
{
    wp_map_remove(&reactor->attaches, &wait->node);
    free(wait);
}

static int attach_enter(struct shard *shard, const struct attach_wait *wait, const struct wp_result *result)
{
    if (wait->cancelled || !wp_peer_find(shard->reactor, wait->peer)) {
        /* The new epoch stands although its connection is gone; the old connection must end all the same. */
        wp_dispatch_kick(shard->dispatch, result->attach.mailbox, result->attach.device, WP_E_STALE_EPOCH);
        return WP_E_CLOSED;
    }
    const struct wp_dispatch_attach attach = {
        .link = wait->peer,
        .session = wait->session,
        .mailbox = result->attach.mailbox,
        .device = result->attach.device,
        .device_name = wait->device_name,
        .epoch = result->attach.epoch,
        .window = wait->window,
        .subscribed = result->attach.inbox_subscribed,
        .receipts = result->attach.receipts_subscribed,
    };
    return wp_dispatch_attached(shard->dispatch, &attach) ? WP_E_UNAVAILABLE : WP_OK;
}

static void attach_answer(struct shard *shard, const struct waiter *waiter, const struct wp_result *result)
{
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    reply.session = waiter->number;
    reply.error = result->error ? result->error : attach_enter(shard, waiter->attach, result);
    reply.time_ms = shard->reactor->leader_ms;
    if (!reply.error) {
        reply.epoch = result->attach.epoch;
        reply.session_present = result->attach.session_present;
        reply.inbox_subscribed = result->attach.inbox_subscribed;
        reply.receipts_subscribed = result->attach.receipts_subscribed;
    }
    if (!result->error && result->attach.set_aside > 0) {
        wp_metric_add(WP_M_SET_ASIDE, result->attach.set_aside);
    }
    attach_wait_free(shard->reactor, waiter->attach);
    if (reply.error != WP_E_CLOSED) {
        wp_peer_reply(shard->reactor, waiter->peer, WP_FRAME_ATTACH_REPLY, &reply.base, 0);
    }
}

static void subscribe_answer(struct shard *shard, const struct waiter *waiter, int error)
{
    Wp__SubscribeReply reply = WP__SUBSCRIBE_REPLY__INIT;
    reply.session = waiter->number;
    reply.request = waiter->request;
    reply.error = error;
    wp_peer_reply(shard->reactor, waiter->peer, WP_FRAME_SUBSCRIBE_REPLY, &reply.base, 0);
}

static void waiter_answer(struct shard *shard, const struct waiter *waiter, const struct wp_result *result)
{
    switch ((enum waiter_kind)waiter->kind) {
    case WAIT_NONE:
        break;
    case WAIT_SUBMIT:
        submit_answer(shard, waiter, result);
        break;
    case WAIT_ATTACH:
        attach_answer(shard, waiter, result);
        break;
    case WAIT_SUBSCRIBE:
        if (!result->error) {
            wp_dispatch_subscribed(shard->dispatch, result->admin.mailbox, result->admin.device,
                waiter->inbox, waiter->receipts);
        }
        subscribe_answer(shard, waiter, result->error);
        break;
    case WAIT_EXPIRE:
        shard->expire_open = false;
        break;
    case WAIT_LIMITS:
        shard->limits_open = false;
        break;
    case WAIT_ANSWER:
        waiter->answer->answered(waiter->answer, (uint32_t)waiter->number, result->error);
        break;
    case WAIT_TRANSFER:
        wp_transfer_answer(shard, waiter->transfer, result->error, result->transfer.watermark);
        break;
    }
}

void wp_waiter_refuse(struct shard *shard, const struct waiter *waiter, int error)
{
    struct wp_result result = {.error = error};
    if (waiter->kind == WAIT_SUBMIT || waiter->kind == WAIT_ATTACH || waiter->kind == WAIT_SUBSCRIBE ||
        waiter->kind == WAIT_ANSWER || waiter->kind == WAIT_TRANSFER) {
        waiter_answer(shard, waiter, &result);
    } else if (waiter->kind == WAIT_EXPIRE) {
        shard->expire_open = false;
    } else if (waiter->kind == WAIT_LIMITS) {
        shard->limits_open = false;
    }
}

/* --- apply ------------------------------------------------------------------------------------------------
 */

/* What was submitted is not looked at here: all rows are delivered in the order in which they came to their
 * mailboxes (wp_shard_appended). */
static void result_dispatch(struct shard *shard, const struct wp_result *result)
{
    if (!result->error && result->command == WP_COMMAND_DEVICE_REMOVE) {
        wp_dispatch_kick(shard->dispatch, result->admin.mailbox, result->admin.device, WP_E_NOT_FOUND);
    }
}

static void idle_log(struct shard *shard, const struct wp_applied *applied)
{
    for (uint32_t i = 0; i < applied->idle_count; i++) {
        const struct wp_idle *idle = &applied->idle[i];
        const char *user = wp_machine_mailbox_user(shard->machine, idle->mailbox);
        wp_metric_add(WP_M_IDLE_DEVICES, 1);
        wp_log(WP_LOG_WARN, "device_idle", "user=%s device=%u unseen_h=%llu", user, idle->device,
            (unsigned long long)((shard->reactor->leader_ms - idle->active_ms) / 3600000));
    }
}

static void results_take(struct shard *shard, const struct wp_applied *applied, struct waiters *waiters)
{
    for (uint32_t i = 0; i < applied->result_count; i++) {
        const struct wp_result *result = &applied->results[i];
        if (waiters && result->ordinal < waiters->count) {
            waiter_answer(shard, &waiters->items[result->ordinal], result);
            waiters->items[result->ordinal].kind = WAIT_NONE;
        }
        if (waiters && result->command == WP_COMMAND_EXPIRE) { /* not what a restart only applies again */
            wp_metric_add(WP_M_EXPIRED, result->expire.expired);
        }
        result_dispatch(shard, result);
    }
    for (uint32_t i = 0; waiters && i < waiters->count; i++) {
        WP_ASSERT(waiters->items[i].kind == WAIT_NONE);
    }
    wp_shard_appended(shard, applied->appended, applied->appended_count);
    for (uint32_t i = 0; i < applied->removal_count; i++) { /* some may have come with this entry */
        const struct wp_removal *removal = &applied->removals[i];
        wp_dispatch_expired(shard->dispatch, removal->mailbox, removal->lane, removal->sequence);
    }
    if (waiters) {
        idle_log(shard, applied);
    }
}

int wp_shard_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours)
{
    struct shard *shard = context;
    struct wp_reactor *reactor = shard->reactor;
    struct wp_applied applied = {0};
    uint64_t time_ms;
    struct wp_record_reader reader;
    int error = wp_entry_open(entry, &time_ms, &reader);
    if (error) {
        return WP_E_CORRUPT;
    }
    reactor->leader_ms = time_ms > reactor->leader_ms ? time_ms : reactor->leader_ms;
    wp_arena_reset(&reactor->apply_arena);
    error = wp_machine_apply(shard->machine, index, term, entry, &reactor->apply_arena, &applied);
    if (error) {
        return error;
    }
    struct proposal *proposal = ours ? STAILQ_FIRST(&shard->in_flight) : NULL;
    if (proposal) {
        STAILQ_REMOVE_HEAD(&shard->in_flight, next);
        shard->in_flight_count--;
    }
    wp_dispatch_tick(shard->dispatch, reactor->mono_ms, reactor->leader_ms);
    results_take(shard, &applied, proposal ? &proposal->waiters : NULL);
    wp_outbox_applied(shard);
    if (proposal) {
        wp_bytes_release(&proposal->entry);
        free(proposal->waiters.items);
        free(proposal);
    }
    return WP_OK;
}
