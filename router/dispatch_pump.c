/* What is sent next. An attachment is ready while something may be pending for it and its window and link are
 * open; ready attachments take turns, and within one the lanes are served 8:4:1 when all wait, receipts last.
 *
 * A delivery needs its body: from the message just applied, from the cache, or through a read that fills the
 * cache. A lane that waits for its read does not hold up the other lanes. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "router/dispatch_state.h"

#define BURST_MAX 16u /* deliveries of one attachment before the next one's turn */

static const uint32_t lane_weight[WP_SEQUENCE_COUNT] = {
    [WP__LANE__ROUTINE] = 1, [WP__LANE__URGENT] = 4, [WP__LANE__STAT] = 8, [WP__LANE__RECEIPT] = 1};
static const Wp__Lane lane_order[WP_SEQUENCE_COUNT] = {
    WP__LANE__STAT, WP__LANE__URGENT, WP__LANE__ROUTINE, WP__LANE__RECEIPT};

void wp_dispatch_place(struct wp_dispatch *dispatch, struct attachment *at, enum place place)
{
    switch (at->place) {
    case PLACE_READY:
        TAILQ_REMOVE(&dispatch->ready, at, queue);
        break;
    case PLACE_BLOCKED:
        TAILQ_REMOVE(&at->link->blocked, at, queue);
        break;
    case PLACE_READ_WAIT:
        TAILQ_REMOVE(&dispatch->read_wait, at, queue);
        break;
    case PLACE_KICKED:
        TAILQ_REMOVE(&dispatch->kicked, at, queue);
        break;
    case PLACE_IDLE:
        break;
    }
    at->place = place;
    at->burst = 0;
    switch (place) {
    case PLACE_READY:
        TAILQ_INSERT_TAIL(&dispatch->ready, at, queue);
        break;
    case PLACE_BLOCKED:
        TAILQ_INSERT_TAIL(&at->link->blocked, at, queue);
        break;
    case PLACE_READ_WAIT:
        TAILQ_INSERT_TAIL(&dispatch->read_wait, at, queue);
        break;
    case PLACE_KICKED:
        TAILQ_INSERT_TAIL(&dispatch->kicked, at, queue);
        break;
    case PLACE_IDLE:
        break;
    }
}

void wp_dispatch_wake(struct wp_dispatch *dispatch, struct attachment *at)
{
    if (at->place != PLACE_IDLE) {
        return;
    }
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        if (at->lanes[lane].waiting && wp_attachment_wants(at, lane)) {
            wp_dispatch_place(dispatch, at, PLACE_READY);
            return;
        }
    }
}

static void flights_compact(struct flights *flights)
{
    uint32_t to = 0;
    for (uint32_t i = flights->first; i < flights->end; i++) {
        if (flights->slots[i].open) {
            flights->slots[to++] = flights->slots[i];
        }
    }
    flights->first = 0;
    flights->end = to;
}

int wp_flights_push(struct flights *flights, const struct flight *flight)
{
    if (flights->end == flights->capacity && flights->open_count * 2 <= flights->capacity) {
        flights_compact(flights);
    }
    if (flights->end == flights->capacity) {
        uint32_t capacity = flights->capacity ? 2 * flights->capacity : 16;
        struct flight *slots = realloc(flights->slots, capacity * sizeof(*slots));
        if (!slots) {
            return WP_E_NOMEM;
        }
        flights->slots = slots;
        flights->capacity = capacity;
    }
    flights->slots[flights->end++] = *flight;
    flights->open_count++;
    flights->open_bytes += flight->size;
    return WP_OK;
}

struct flight *wp_flights_find(struct flights *flights, Wp__Lane lane, uint64_t sequence)
{
    for (uint32_t i = flights->first; i < flights->end; i++) {
        struct flight *flight = &flights->slots[i];
        if (flight->open && flight->sequence == sequence && flight->lane == lane) {
            return flight;
        }
    }
    return NULL;
}

void wp_flights_close(struct flights *flights, struct flight *flight)
{
    flight->open = false;
    flights->open_count--;
    flights->open_bytes -= flight->size;
    while (flights->first < flights->end && !flights->slots[flights->first].open) {
        flights->first++;
    }
    if (flights->first == flights->end) {
        flights->first = flights->end = 0;
    }
}

/* Next position of the lane that is to be sent on this connection. */
static bool lane_next(
    const struct wp_dispatch *dispatch, struct attachment *at, Wp__Lane lane, struct wp_pending *ret_pending)
{
    while (at->lanes[lane].waiting) {
        if (!dispatch->index.next_pending(dispatch->index.context, at->device->mailbox, at->device->number,
                lane, at->lanes[lane].after, dispatch->leader_ms, ret_pending)) {
            at->lanes[lane].waiting = false;
            wp_dispatch_positions_fini(&at->lanes[lane].skip);
            return false;
        }
        if (!wp_positions_have(&at->lanes[lane].skip, ret_pending->sequence)) {
            return true;
        }
        at->lanes[lane].after = ret_pending->sequence;
    }
    return false;
}

static bool window_open(const struct wp_dispatch *dispatch, const struct attachment *at, uint64_t size)
{
    const struct flights *flights = &at->flights;
    return flights->open_count < at->window &&
           (flights->open_count == 0 || flights->open_bytes + size <= dispatch->config.flight_bytes_max);
}

/* The lane to serve: of those that wait (and not for a read) the most urgent one with quota left in this
 * round. */
static int lane_pick(
    const struct wp_dispatch *dispatch, struct attachment *at, struct wp_pending *ret_pending)
{
    for (int round = 0; round < 2; round++) {
        bool waits = false;
        for (int i = 0; i < (int)WP_SEQUENCE_COUNT; i++) {
            int lane = (int)lane_order[i];
            if (at->lanes[lane].read_token || !wp_attachment_wants(at, lane) ||
                !lane_next(dispatch, at, (Wp__Lane)lane, ret_pending)) {
                continue;
            }
            waits = true;
            if (at->lanes[lane].quota > 0) {
                return lane;
            }
        }
        if (!waits) {
            return -1;
        }
        for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
            at->lanes[lane].quota = lane_weight[lane];
        }
    }
    return -1;
}

/* Whether no message is pending any more: the delivery just made was the last of the catch-up. */
static bool caught_up(const struct wp_dispatch *dispatch, struct attachment *at)
{
    struct wp_pending pending;
    for (int lane = 0; lane < (int)WP_LANE_COUNT; lane++) {
        if (lane_next(dispatch, at, (Wp__Lane)lane, &pending)) {
            return false;
        }
    }
    return true;
}

static int deliver(struct wp_dispatch *dispatch, struct attachment *at, Wp__Lane lane,
    const struct wp_pending *pending, const struct wp_body *body, struct wp_effect *ret_effect)
{
    struct flight flight = {
        pending->sequence, dispatch->mono_ms, (uint32_t)body->envelope.size, (uint8_t)lane, true};
    if (wp_flights_push(&at->flights, &flight)) {
        return WP_E_NOMEM;
    }
    struct wp_effect *effect = ret_effect;
    *effect = (struct wp_effect){.type = WP_EFFECT_DELIVER, .link = at->link->number, .session = at->session};
    effect->deliver.device_name = at->device_name;
    effect->deliver.lane = lane;
    effect->deliver.sequence = pending->sequence;
    effect->deliver.dup = pending->sent_before;
    effect->deliver.body = *body;
    effect->undo.after = at->lanes[lane].after;
    effect->undo.quota = at->lanes[lane].quota;
    effect->undo.catching_up = at->catching_up;
    at->lanes[lane].after = pending->sequence;
    at->lanes[lane].quota -= at->lanes[lane].quota > 0;
    if (at->catching_up && lane != WP__LANE__RECEIPT && caught_up(dispatch, at)) {
        at->catching_up = false;
        effect->deliver.drained = true;
    }
    wp_dispatch_sent(dispatch, at->device, lane, pending->sequence);
    return WP_OK;
}

/* Which of the messages wanted share their bodies: those are not found by position. */
static uint32_t shared_list(
    struct wp_dispatch *dispatch, const struct attachment *at, Wp__Lane lane, struct wp_pending pending)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < WP_READ_COUNT_MAX; i++) {
        if (pending.body) {
            dispatch->read_shared[count++] = (struct wp_read_shared){pending.sequence, pending.body};
        }
        if (!dispatch->index.next_pending(dispatch->index.context, at->device->mailbox, at->device->number,
                lane, pending.sequence, dispatch->leader_ms, &pending)) {
            break;
        }
    }
    return count;
}

static void read_effect(struct wp_dispatch *dispatch, struct attachment *at, Wp__Lane lane,
    const struct wp_pending *pending, struct wp_effect *ret_effect)
{
    uint32_t room = at->window - at->flights.open_count;
    dispatch->reads_under_way++;
    at->lanes[lane].read_token = ++dispatch->read_token_last;
    *ret_effect =
        (struct wp_effect){.type = WP_EFFECT_READ, .link = at->link->number, .session = at->session};
    ret_effect->read = (struct wp_read_request){
        .mailbox = at->device->mailbox,
        .device = at->device->number,
        .lane = lane,
        .from = pending->sequence,
        .shared = dispatch->read_shared,
        .shared_count = shared_list(dispatch, at, lane, *pending),
        .count_max = room < WP_READ_COUNT_MAX ? room : WP_READ_COUNT_MAX,
        .bytes_max = dispatch->config.read_bytes_max,
        .token = at->lanes[lane].read_token,
    };
}

/* Packs a receipt that is kept. False: out of memory. */
static bool receipt_body(
    struct wp_dispatch *dispatch, uint64_t mailbox, uint64_t sequence, struct wp_body *ret_body)
{
    struct wp_receipt_view view;
    int error = dispatch->index.receipt(dispatch->index.context, mailbox, sequence, &view);
    WP_ASSERT(!error); /* it was pending a moment ago */
    Wp__Receipt receipt = WP__RECEIPT__INIT;
    bool idle = view.state == WP__RECEIPT_STATE__IDLE;
    receipt.message_id = (ProtobufCBinaryData){idle ? 0 : sizeof(view.id), view.id};
    memcpy(&receipt.person, &view.person, sizeof(view.person)); /* packing only reads it */
    receipt.state = view.state;
    receipt.error = view.error;
    receipt.time_ms = view.time_ms;
    dispatch->receipt.size = 0;
    uint8_t *p = wp_buffer_reserve(&dispatch->receipt, wp__receipt__get_packed_size(&receipt));
    if (!p) {
        return false;
    }
    dispatch->receipt.size = wp__receipt__pack(&receipt, p);
    *ret_body = (struct wp_body){.accepted_ms = view.time_ms,
        .expires_ms = view.expires_ms,
        .envelope = wp_slice(dispatch->receipt.data, dispatch->receipt.size)};
    return true;
}

/* One step for a ready attachment: true with an effect; false after it was moved to where it waits. */
static bool attachment_step(struct wp_dispatch *dispatch, struct attachment *at, struct wp_effect *ret_effect)
{
    struct wp_pending pending = {0};
    int lane = lane_pick(dispatch, at, &pending);
    if (lane < 0) {
        if (at->subscribed && at->catching_up && caught_up(dispatch, at)) {
            at->catching_up = false;
        }
        wp_dispatch_place(dispatch, at, PLACE_IDLE);
        return false;
    }
    if (!window_open(dispatch, at, pending.size)) {
        wp_dispatch_place(dispatch, at, PLACE_IDLE);
        return false;
    }
    struct wp_body receipt;
    struct wp_body_key key = wp_body_key(
        dispatch->config.shard, at->device->mailbox, (Wp__Lane)lane, pending.sequence, pending.body);
    const struct wp_body *body;
    if (lane == WP__LANE__RECEIPT) {
        if (!receipt_body(dispatch, at->device->mailbox, pending.sequence, &receipt)) {
            wp_dispatch_place(dispatch, at, PLACE_IDLE);
            return false;
        }
        body = &receipt;
    } else {
        body = wp_body_cache_find(dispatch->cache, &key);
    }
    if (!body && dispatch->reads_under_way >= dispatch->config.reads_max) {
        wp_dispatch_place(dispatch, at, PLACE_READ_WAIT);
        return false;
    }
    if (!body) {
        read_effect(dispatch, at, (Wp__Lane)lane, &pending, ret_effect);
        return true;
    }
    if (deliver(dispatch, at, (Wp__Lane)lane, &pending, body, ret_effect)) {
        /* Out of memory: the next acknowledgement or tick tries again. */
        wp_dispatch_place(dispatch, at, PLACE_IDLE);
        return false;
    }
    if (++at->burst >= BURST_MAX) {
        wp_dispatch_place(dispatch, at, PLACE_READY);
    }
    return true;
}

/* Those that wait for a read come when there is room for one again. */
static struct attachment *ready_first(struct wp_dispatch *dispatch)
{
    struct attachment *waiter = TAILQ_FIRST(&dispatch->read_wait);
    if (waiter && dispatch->reads_under_way < dispatch->config.reads_max) {
        wp_dispatch_place(dispatch, waiter, PLACE_READY);
    }
    return TAILQ_FIRST(&dispatch->ready);
}

bool wp_dispatch_next(struct wp_dispatch *dispatch, struct wp_effect *ret_effect)
{
    struct attachment *at = TAILQ_FIRST(&dispatch->kicked);
    if (at) {
        *ret_effect =
            (struct wp_effect){.type = WP_EFFECT_KICK, .link = at->link->number, .session = at->session};
        ret_effect->error = at->kick_error;
        wp_dispatch_place(dispatch, at, PLACE_IDLE);
        LIST_REMOVE(at, of_link);
        wp_attachment_free(at);
        return true;
    }
    while ((at = ready_first(dispatch))) {
        if (attachment_step(dispatch, at, ret_effect)) {
            return true;
        }
    }
    return false;
}

static struct attachment *effect_attachment(struct wp_dispatch *dispatch, const struct wp_effect *effect)
{
    struct wp_map_node *node =
        wp_map_find(&dispatch->sessions, wp_map_hash(effect->link, effect->session, 2));
    for (; node; node = wp_map_find_next(node)) {
        struct attachment *at = WP_MAP_OBJECT(node, struct attachment, session_node);
        if (at->session == effect->session && at->link->number == effect->link) {
            return at;
        }
    }
    return NULL;
}

void wp_dispatch_refused(struct wp_dispatch *dispatch, const struct wp_effect *effect)
{
    WP_ASSERT(effect->type == WP_EFFECT_DELIVER);
    struct attachment *at = effect_attachment(dispatch, effect);
    WP_ASSERT(at);
    Wp__Lane lane = effect->deliver.lane;
    struct flight *flight = wp_flights_find(&at->flights, lane, effect->deliver.sequence);
    WP_ASSERT(flight);
    wp_flights_close(&at->flights, flight);
    at->lanes[lane].after = effect->undo.after;
    at->lanes[lane].waiting = true;
    at->lanes[lane].quota = effect->undo.quota;
    at->catching_up = effect->undo.catching_up;
    struct wp_body_key key = wp_body_key(dispatch->config.shard, at->device->mailbox, lane,
        effect->deliver.sequence, effect->deliver.body.shared);
    if (lane != WP__LANE__RECEIPT) {
        /* Without memory for it the body is read again. */
        (void)wp_body_cache_put(dispatch->cache, &key, &effect->deliver.body);
    }
    wp_dispatch_place(dispatch, at, PLACE_BLOCKED);
}

uint32_t wp_dispatch_message(struct wp_dispatch *dispatch, uint64_t mailbox, Wp__Lane lane, uint64_t sequence,
    const struct wp_body *body, struct wp_effect *effects)
{
    uint32_t count = 0;
    bool keep = false;
    struct wp_pending pending = {
        sequence, body->expires_ms, (uint32_t)body->envelope.size, false, body->shared};
    struct wp_map_node *node = wp_map_find(&dispatch->mailboxes, wp_map_hash(mailbox, 0, 3));
    for (; node; node = wp_map_find_next(node)) {
        struct attachment *at = WP_MAP_OBJECT(node, struct attachment, mailbox_node);
        if (at->device->mailbox != mailbox) {
            continue;
        }
        bool direct = at->subscribed && at->place == PLACE_IDLE && !at->lanes[lane].waiting &&
                      window_open(dispatch, at, body->envelope.size) && count < WP_DEVICES_MAX &&
                      body->expires_ms > dispatch->leader_ms;
        if (direct && deliver(dispatch, at, lane, &pending, body, &effects[count]) == WP_OK) {
            count++;
            continue;
        }
        at->lanes[lane].waiting = true;
        keep = keep || at->subscribed;
        wp_dispatch_wake(dispatch, at);
    }
    if (keep) {
        struct wp_body_key key = wp_body_key(dispatch->config.shard, mailbox, lane, sequence, body->shared);
        (void)wp_body_cache_put(dispatch->cache, &key, body);
    }
    return count;
}

void wp_dispatch_receipt(struct wp_dispatch *dispatch, uint64_t mailbox)
{
    struct wp_map_node *node = wp_map_find(&dispatch->mailboxes, wp_map_hash(mailbox, 0, 3));
    for (; node; node = wp_map_find_next(node)) {
        struct attachment *at = WP_MAP_OBJECT(node, struct attachment, mailbox_node);
        if (at->device->mailbox == mailbox) {
            at->lanes[WP__LANE__RECEIPT].waiting = true;
            wp_dispatch_wake(dispatch, at);
        }
    }
}

int wp_dispatch_read_done(struct wp_dispatch *dispatch, const struct wp_read_request *request, int error,
    const struct wp_read_row *rows, uint32_t row_count)
{
    WP_ASSERT(dispatch->reads_under_way > 0);
    dispatch->reads_under_way--;
    /* Last row first: the cache gives up its oldest first, and the first rows are wanted first. */
    for (uint32_t i = row_count; i-- > 0;) {
        struct wp_body_key key = wp_body_key(
            dispatch->config.shard, request->mailbox, request->lane, rows[i].sequence, rows[i].body.shared);
        (void)wp_body_cache_put(dispatch->cache, &key, &rows[i].body);
    }
    struct wp_map_node *node = wp_map_find(&dispatch->mailboxes, wp_map_hash(request->mailbox, 0, 3));
    for (; node; node = wp_map_find_next(node)) {
        struct attachment *at = WP_MAP_OBJECT(node, struct attachment, mailbox_node);
        if (at->lanes[request->lane].read_token != request->token) {
            continue;
        }
        at->lanes[request->lane].read_token = 0;
        struct wp_pending pending;
        if (!error && (row_count == 0 || rows[0].sequence != request->from) &&
            lane_next(dispatch, at, request->lane, &pending) && pending.sequence == request->from) {
            return WP_E_CORRUPT;
        }
        if (at->place == PLACE_IDLE || at->place == PLACE_READ_WAIT) {
            wp_dispatch_place(dispatch, at, PLACE_IDLE);
            wp_dispatch_wake(dispatch, at);
        }
        if (at->place == PLACE_READY) {
            /* Served before its rows can leave the cache again. */
            TAILQ_REMOVE(&dispatch->ready, at, queue);
            TAILQ_INSERT_HEAD(&dispatch->ready, at, queue);
        }
        break;
    }
    return error == WP_E_CORRUPT || error == WP_E_IO ? error : WP_OK;
}
