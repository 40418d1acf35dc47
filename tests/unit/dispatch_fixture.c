#include "tests/unit/dispatch_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/frame.h"
#include "proto/schema.h"

static bool next_pending(const void *context, uint64_t mailbox, uint32_t device, Wp__Lane lane,
    uint64_t after, uint64_t now_ms, struct wp_pending *ret_pending)
{
    const struct fix *fix = context;
    const struct fix_mailbox *box = &fix->mailboxes[mailbox];
    for (uint32_t i = 0; i < box->count; i++) {
        const struct fix_message *message = &box->messages[i];
        if (message->lane == lane && message->sequence > after && !message->gone &&
            message->expires_ms > now_ms && !(message->acknowledged & (1u << device))) {
            *ret_pending = (struct wp_pending){message->sequence, message->expires_ms, message->size,
                message->sequence <= box->sent[device][lane], message->body};
            return true;
        }
    }
    return false;
}

static int receipt(const void *context, uint64_t mailbox, uint64_t sequence, struct wp_receipt_view *ret_view)
{
    (void)context;
    (void)mailbox;
    *ret_view = (struct wp_receipt_view){.person = "bob",
        .state = WP__RECEIPT_STATE__DELIVERED,
        .time_ms = FIX_EPOCH_MS + sequence,
        .expires_ms = UINT64_MAX};
    return WP_OK;
}

static uint64_t set_aside(const void *context, uint64_t mailbox, uint32_t device)
{
    return ((const struct fix *)context)->mailboxes[mailbox].set_aside[device];
}

struct fix *fix_create(const struct wp_dispatch_config *config, uint64_t cache_bytes)
{
    struct fix *fix = calloc(1, sizeof(*fix));
    assert_non_null(fix);
    fix->cache = wp_body_cache_create(cache_bytes);
    assert_non_null(fix->cache);
    const struct wp_dispatch_config defaults = {.shard = 1,
        .delivery_timeout_ms = 30000,
        .flight_bytes_max = 4u << 20,
        .read_bytes_max = 256u << 10,
        .reads_max = 2};
    const struct wp_dispatch_index index = {fix, next_pending, receipt, set_aside};
    assert_int_equal(
        wp_dispatch_create(config ? config : &defaults, &index, fix->cache, &fix->dispatch), WP_OK);
    fix->mono_ms = 1000;
    fix->leader_ms = FIX_EPOCH_MS;
    wp_dispatch_tick(fix->dispatch, fix->mono_ms, fix->leader_ms);
    return fix;
}

void fix_destroy(struct fix **fix)
{
    wp_dispatch_assert((*fix)->dispatch);
    wp_dispatch_destroy(&(*fix)->dispatch);
    wp_body_cache_destroy(&(*fix)->cache);
    free(*fix);
    *fix = NULL;
}

void fix_pass(struct fix *fix, uint64_t ms)
{
    fix->mono_ms += ms;
    fix->leader_ms += ms;
    wp_dispatch_tick(fix->dispatch, fix->mono_ms, fix->leader_ms);
}

uint64_t fix_queue(struct fix *fix, uint64_t mailbox, Wp__Lane lane, uint32_t size, uint64_t ttl_ms)
{
    struct fix_mailbox *box = &fix->mailboxes[mailbox];
    assert_true(box->count < FIX_MESSAGES && size <= sizeof(fix->body));
    box->messages[box->count++] = (struct fix_message){
        .lane = lane, .sequence = ++box->tail[lane], .expires_ms = fix->leader_ms + ttl_ms, .size = size};
    return box->tail[lane];
}

void fix_copies(struct fix *fix, uint64_t first, uint64_t count, Wp__Lane lane, uint32_t size, uint64_t body)
{
    for (uint64_t box = first; box < first + count; box++) {
        fix_find(fix, box, lane, fix_queue(fix, box, lane, size, 3600000))->body = body;
    }
}

uint32_t fix_message(struct fix *fix, uint64_t mailbox, Wp__Lane lane, uint32_t size, uint64_t ttl_ms,
    struct wp_effect effects[WP_DEVICES_MAX])
{
    uint64_t sequence = fix_queue(fix, mailbox, lane, size, ttl_ms);
    const struct wp_body body = {fix->leader_ms, fix->leader_ms + ttl_ms, wp_slice(fix->body, size), 0};
    return wp_dispatch_message(fix->dispatch, mailbox, lane, sequence, &body, effects);
}

int fix_attach(struct fix *fix, uint32_t link, uint64_t session, uint64_t mailbox, uint32_t device,
    uint64_t epoch, uint32_t window, const Wp__Resume *resume)
{
    const struct wp_dispatch_attach attach = {.link = link,
        .session = session,
        .mailbox = mailbox,
        .device = device,
        .device_name = "phone",
        .epoch = epoch,
        .window = window,
        .subscribed = true,
        .resume = resume};
    return wp_dispatch_attached(fix->dispatch, &attach);
}

/* As the reactor does: records by position, shared bodies as they are asked for. */
static bool read_finds(const struct wp_read_request *request, const struct fix_message *message)
{
    bool asked = message->body == 0;
    for (uint32_t i = 0; i < request->shared_count; i++) {
        asked |= request->shared[i].body == message->body && request->shared[i].sequence == message->sequence;
    }
    return asked && message->lane == request->lane && message->sequence >= request->from && !message->gone;
}

int fix_read(struct fix *fix, const struct wp_read_request *request)
{
    struct wp_read_row rows[64];
    uint32_t count = 0;
    uint64_t bytes = 0;
    const struct fix_mailbox *box = &fix->mailboxes[request->mailbox];
    for (uint32_t i = 0; i < box->count && count < request->count_max && bytes < request->bytes_max; i++) {
        const struct fix_message *message = &box->messages[i];
        if (read_finds(request, message)) {
            rows[count++] = (struct wp_read_row){message->sequence,
                {FIX_EPOCH_MS, message->expires_ms, wp_slice(fix->body, message->size), message->body}};
            bytes += message->size;
        }
    }
    return wp_dispatch_read_done(fix->dispatch, request, WP_OK, rows, count);
}

bool fix_next(struct fix *fix, struct wp_effect *ret_effect)
{
    while (wp_dispatch_next(fix->dispatch, ret_effect)) {
        if (ret_effect->type != WP_EFFECT_READ) {
            return true;
        }
        const struct wp_read_request request = ret_effect->read;
        assert_int_equal(fix_read(fix, &request), WP_OK);
    }
    return false;
}

const char *fix_deliveries(struct fix *fix, uint64_t session)
{
    static char out[4096];
    size_t at = 0;
    struct wp_effect effect;
    out[0] = '\0';
    while (fix_next(fix, &effect)) {
        assert_int_equal(effect.type, WP_EFFECT_DELIVER);
        assert_int_equal(effect.session, session);
        at += (size_t)snprintf(out + at, sizeof(out) - at, "%s%c%llu%s%s", at > 0 ? " " : "",
            "ruse"[effect.deliver.lane], (unsigned long long)effect.deliver.sequence,
            effect.deliver.dup ? "+" : "", effect.deliver.drained ? "!" : "");
        assert_true(at < sizeof(out));
    }
    return out;
}

int fix_acknowledge(
    struct fix *fix, uint32_t link, uint64_t session, Wp__Lane lane, uint64_t sequence, uint32_t *ret_known)
{
    Wp__Positions positions = WP__POSITIONS__INIT;
    Wp__Positions *pointer = &positions;
    positions.lane = lane;
    positions.sequence = &sequence;
    positions.n_sequence = 1;
    uint32_t known = 0;
    uint32_t unknown = 0;
    int error = wp_dispatch_acknowledged(fix->dispatch, link, session, &pointer, 1, &known, &unknown);
    if (ret_known) {
        *ret_known = known;
    }
    return error;
}

struct fix_message *fix_find(struct fix *fix, uint64_t mailbox, Wp__Lane lane, uint64_t sequence)
{
    struct fix_mailbox *box = &fix->mailboxes[mailbox];
    for (uint32_t i = 0; i < box->count; i++) {
        if (box->messages[i].lane == lane && box->messages[i].sequence == sequence) {
            return &box->messages[i];
        }
    }
    return NULL;
}

static void advance_apply(struct fix *fix, const Wp__CursorAdvance *advance)
{
    struct fix_mailbox *box = &fix->mailboxes[advance->mailbox];
    for (size_t i = 0; i < advance->n_acknowledged; i++) {
        const Wp__Positions *lane = advance->acknowledged[i];
        for (size_t j = 0; j < lane->n_sequence; j++) {
            assert_true(j == 0 || lane->sequence[j] > lane->sequence[j - 1]);
            struct fix_message *message = fix_find(fix, advance->mailbox, lane->lane, lane->sequence[j]);
            assert_non_null(message);
            message->acknowledged |= (uint8_t)(1u << advance->device);
        }
    }
    for (size_t i = 0; i < advance->n_sent; i++) {
        uint64_t *sent = &box->sent[advance->device][advance->sent[i]->lane];
        *sent = advance->sent[i]->sequence > *sent ? advance->sent[i]->sequence : *sent;
    }
}

bool fix_cursors(struct fix *fix)
{
    struct wp_buffer entry = WP_BUFFER_INIT;
    bool added = false;
    assert_int_equal(wp_dispatch_cursors_take(fix->dispatch, &entry, &added), WP_OK);
    if (added) {
        struct wp_record_reader reader = {wp_slice(entry.data, entry.size)};
        struct wp_slice payload;
        uint8_t type;
        assert_int_equal(wp_record_next(&reader, &type, &payload), 1);
        assert_int_equal(type, WP_COMMAND_CURSORS);
        Wp__CommandCursors *command = wp__command_cursors__unpack(NULL, payload.size, payload.data);
        assert_non_null(command);
        for (size_t i = 0; i < command->n_advances; i++) {
            advance_apply(fix, command->advances[i]);
        }
        wp__command_cursors__free_unpacked(command, NULL);
        assert_int_equal(wp_record_next(&reader, &type, &payload), 0);
    }
    wp_buffer_free(&entry);
    return added;
}
