/* Rows that came to mailboxes, in the order in which they came. The copies of one message for devices behind
 * one gateway leave as one frame with one body. */
#include <stdlib.h>

#include "base/error.h"
#include "router/dispatch_wire.h"
#include "router/reactor_state.h"

#define TARGETS_MAX 256u /* of one frame */

/* Deliveries of one message. */
struct many {
    struct wp_effect *effects;
    uint32_t count;
    uint32_t capacity;
};

static int many_reserve(struct many *many)
{
    if (many->count + WP_DEVICES_MAX <= many->capacity) {
        return WP_OK;
    }
    uint32_t capacity = many->capacity ? 2 * many->capacity : 4 * WP_DEVICES_MAX;
    struct wp_effect *effects = realloc(many->effects, capacity * sizeof(*effects));
    if (!effects) {
        return WP_E_NOMEM;
    }
    many->effects = effects;
    many->capacity = capacity;
    return WP_OK;
}

/* One frame for effects[0..count), all of one link. */
static int frame_send(struct shard *shard, const struct wp_effect *effects, uint32_t count)
{
    struct wp_reactor *reactor = shard->reactor;
    struct peer *peer = wp_peer_find(reactor, effects->link);
    const struct wp_body *body = &effects->deliver.body;
    Wp__DeliverTarget targets[TARGETS_MAX];
    Wp__DeliverTarget *pointers[TARGETS_MAX];
    if (!peer) {
        return WP_E_CLOSED;
    }
    for (uint32_t i = 0; i < count; i++) {
        wp__deliver_target__init(&targets[i]);
        targets[i].session = effects[i].session;
        targets[i].sequence = effects[i].deliver.sequence;
        targets[i].dup = effects[i].deliver.dup;
        targets[i].drained = effects[i].deliver.drained;
        pointers[i] = &targets[i];
    }
    Wp__DeliverMany many = WP__DELIVER_MANY__INIT;
    many.lane = effects->deliver.lane;
    many.accepted_ms = body->accepted_ms;
    many.expires_ms = body->expires_ms;
    many.remaining_ms = body->expires_ms > reactor->leader_ms ? body->expires_ms - reactor->leader_ms : 0;
    memcpy(
        &many.envelope.data, &body->envelope.data, sizeof(body->envelope.data)); /* packing only reads it */
    many.envelope.len = body->envelope.size;
    many.targets = pointers;
    many.n_targets = count;
    return wp_link_send(peer->link, (enum wp_link_lane)many.lane, WP_FRAME_DELIVER_MANY, &many.base);
}

static void link_flush(struct shard *shard, const struct wp_effect *effects, uint32_t count)
{
    if (count == 1) {
        wp_shard_deliver(shard, effects);
        return;
    }
    if (frame_send(shard, effects, count)) {
        for (uint32_t i = 0; i < count; i++) {
            wp_dispatch_refused(shard->dispatch, &effects[i]);
        }
        return;
    }
    wp_metric_add(WP_M_DELIVERIES, count);
}

static int link_compare(const void *a, const void *b)
{
    uint32_t x = ((const struct wp_effect *)a)->link;
    uint32_t y = ((const struct wp_effect *)b)->link;
    return (x > y) - (x < y);
}

/* Whether every device gets the same bytes. */
static bool same_for_all(struct shard *shard, const struct wp_effect *effect)
{
    struct wp_slice envelope;
    struct wp_slice whole = effect->deliver.body.envelope;
    return wp_envelope_for_device(whole, effect->deliver.device_name, &shard->reactor->scratch, &envelope) ==
               WP_OK &&
           envelope.data == whole.data;
}

static void many_flush(struct shard *shard, struct many *many)
{
    if (many->count > 1 && same_for_all(shard, many->effects)) {
        qsort(many->effects, many->count, sizeof(*many->effects), link_compare);
        for (uint32_t from = 0, to; from < many->count; from = to) {
            to = from + 1;
            while (to < many->count && to - from < TARGETS_MAX &&
                   many->effects[to].link == many->effects[from].link) {
                to++;
            }
            link_flush(shard, &many->effects[from], to - from);
        }
    } else {
        for (uint32_t i = 0; i < many->count; i++) {
            wp_shard_deliver(shard, &many->effects[i]);
        }
    }
    many->count = 0;
}

void wp_shard_appended(struct shard *shard, const struct wp_appended *appended, uint32_t count)
{
    struct many many = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct wp_appended *row = &appended[i];
        if (i > 0 && row->envelope.data != appended[i - 1].envelope.data) {
            many_flush(shard, &many);
        }
        if (row->lane == WP__LANE__RECEIPT) {
            wp_dispatch_receipt(shard->dispatch, row->mailbox);
            continue;
        }
        if (many_reserve(&many)) {
            many_flush(shard, &many);
            wp_reactor_fail(shard->reactor, WP_E_NOMEM, "delivering to a team");
            break;
        }
        const struct wp_body body = {row->accepted_ms, row->expires_ms, row->envelope, row->body};
        many.count += wp_dispatch_message(
            shard->dispatch, row->mailbox, row->lane, row->sequence, &body, &many.effects[many.count]);
    }
    many_flush(shard, &many);
    free(many.effects);
}
