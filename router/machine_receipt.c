/* How messages end and who is told: receipts, and the warning about idle devices.
 *
 * 1. A message ends once: at the first acknowledgement of a device, or by its expiry when there was none, or
 * by the refusal of a member's copy. Each makes one receipt, at the shard of the person.
 * 2. What ended in an entry is gathered and brought on its way at the end of the entry: to the senders of
 * this shard at once, to every other shard as one item of the outbox.
 * 3. A receipt has no record of its own: its index row says everything. */
#include "router/machine_inner.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "router/wire.h"

#define ITEM_RECEIPTS_MAX 1024u /* a larger entry makes several items, so that each fits into a frame */
#define RECEIPT_SIZE_MAX (10u + 2u * (2u + WP_NAME_SIZE_MAX) + 18u + 3u * WP_WIRE_FIELD_SIZE_MAX)
/* Unseen for so much of the time after which a device stops holding messages: its owner is told. */
#define IDLE_NUMERATOR 5u
#define IDLE_DENOMINATOR 7u

int wp_machine_ended(struct wp_machine *machine, struct wp_slice sender, const uint8_t *id,
    struct wp_slice person, Wp__ReceiptState state, int error)
{
    if (sender.size == 0) {
        return WP_OK;
    }
    struct wp_ended ended = {
        .destination = wp_machine_shard_of(machine, sender),
        .ordinal = (uint32_t)(machine->ended.size / sizeof ended),
        .sender = sender,
        .person = person,
        .state = (uint8_t)state,
        .error = (int16_t)error,
        .time_ms = machine->time_ms,
    };
    if (id) {
        memcpy(ended.id, id, WP_UUID_SIZE);
    }
    return wp_buffer_append(&machine->ended, &ended, sizeof ended);
}

int wp_machine_row_ended(struct wp_machine *machine, const struct wp_mailbox *mailbox,
    const struct wp_row *row, Wp__ReceiptState state)
{
    return wp_machine_ended(machine, wp_intern_name(&machine->intern, row->sender), row->id,
        wp_slice(mailbox->user, mailbox->user_size), state, WP_OK);
}

static bool receipts_wanted(const struct wp_mailbox *mailbox)
{
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        if (mailbox->devices[i]->receipts_subscribed) {
            return true;
        }
    }
    return false;
}

int wp_machine_receipt_append(struct wp_machine *machine, const struct wp_ended *ended)
{
    struct wp_mailbox *mailbox = wp_machine_user(machine, ended->sender);
    if (!mailbox || !receipts_wanted(mailbox)) {
        return WP_OK;
    }
    wp_mailbox_touch(machine, mailbox);
    while (mailbox->lanes[WP__LANE__RECEIPT].count >= WP_RECEIPTS_MAX) {
        bool taken = wp_lane_row(&mailbox->lanes[WP__LANE__RECEIPT], 0)->acknowledged;
        machine->drops[WP_DROP_RECEIPT_DISPLACED] += !taken;
        int error = wp_mailbox_remove(machine, mailbox, WP__LANE__RECEIPT, 0);
        if (error) {
            return error;
        }
    }
    struct wp_row row = {
        .expires_ms = ended->time_ms + WP_RECEIPT_LIFE_MS,
        .sender = wp_intern_get(&machine->intern, ended->person),
        .receipt_state = ended->state,
        .receipt_error = ended->error,
    };
    memcpy(row.id, ended->id, WP_UUID_SIZE);
    return row.sender ? wp_mailbox_append(
                            machine, mailbox, WP__LANE__RECEIPT, &row, ended->time_ms, wp_slice(NULL, 0))
                      : WP_E_NOMEM;
}

/* --- the end of an entry -----------------------------------------------------------------------------------
 */

static int ended_compare(const void *a, const void *b)
{
    const struct wp_ended *x = a;
    const struct wp_ended *y = b;
    if (x->destination != y->destination) {
        return x->destination < y->destination ? -1 : 1;
    }
    return x->ordinal < y->ordinal ? -1 : 1;
}

static uint8_t *bytes_put(uint8_t *p, uint32_t field, struct wp_slice bytes)
{
    p = wp_wire_put_bytes_head(p, field, bytes.size);
    memcpy(p, bytes.data, bytes.size);
    return p + bytes.size;
}

/* OutboxReceipt as field 1. */
static uint8_t *receipt_put(uint8_t *p, const struct wp_ended *ended)
{
    uint8_t inner[RECEIPT_SIZE_MAX];
    uint8_t *q = bytes_put(inner, 1, wp_slice(ended->id, WP_UUID_SIZE));
    q = bytes_put(q, 2, ended->person);
    q = wp_wire_put_u64(q, 3, ended->state);
    q = wp_wire_put_i32(q, 4, ended->error);
    q = wp_wire_put_u64(q, 5, ended->time_ms);
    uint8_t outer[2 * RECEIPT_SIZE_MAX];
    uint8_t *o = bytes_put(outer, 1, ended->sender);
    o = bytes_put(o, 2, wp_slice(inner, (size_t)(q - inner)));
    return bytes_put(p, 1, wp_slice(outer, (size_t)(o - outer)));
}

static int receipts_send(struct wp_machine *machine, const struct wp_ended *ended, uint32_t count)
{
    if (machine->outbox.bytes > WP_OUTBOX_KEPT_FACTOR * wp_machine_outbox_bytes_max(machine)) {
        machine->drops[WP_DROP_RECEIPT_OUTBOX] += count;
        return WP_OK;
    }
    size_t size_max = (size_t)count * (2 * RECEIPT_SIZE_MAX + WP_WIRE_FIELD_SIZE_MAX);
    struct wp_buffer *item = &machine->item;
    item->size = 0;
    if (!wp_buffer_reserve(item, WP_WIRE_FIELD_SIZE_MAX + size_max)) {
        return WP_E_NOMEM;
    }
    uint8_t *body = item->data + WP_WIRE_FIELD_SIZE_MAX;
    uint8_t *end = body;
    for (uint32_t i = 0; i < count; i++) {
        end = receipt_put(end, &ended[i]);
    }
    /* The head goes right before what it measures. */
    uint8_t head[WP_WIRE_FIELD_SIZE_MAX];
    size_t body_size = (size_t)(end - body);
    size_t head_size = (size_t)(wp_wire_put_bytes_head(head, 2, body_size) - head);
    memcpy(body - head_size, head, head_size);
    return wp_machine_outbox_add(
        machine, ended->destination, wp_slice(body - head_size, head_size + body_size), count, false);
}

static int receipts_take(struct wp_machine *machine, const struct wp_ended *ended, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int error = wp_machine_receipt_append(machine, &ended[i]);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

int wp_machine_ended_close(struct wp_machine *machine)
{
    struct wp_ended *ended = (struct wp_ended *)(void *)machine->ended.data;
    uint32_t count = (uint32_t)(machine->ended.size / sizeof *ended);
    int error = WP_OK;
    if (count > 1) {
        qsort(ended, count, sizeof *ended, ended_compare);
    }
    for (uint32_t from = 0, to; from < count && !error; from = to) {
        to = from + 1;
        while (
            to < count && ended[to].destination == ended[from].destination && to - from < ITEM_RECEIPTS_MAX) {
            to++;
        }
        error = ended[from].destination == machine->shard ? receipts_take(machine, &ended[from], to - from)
                                                          : receipts_send(machine, &ended[from], to - from);
    }
    machine->ended.size = 0;
    return error;
}

int wp_machine_receipt(
    const struct wp_machine *machine, uint64_t mailbox, uint64_t sequence, struct wp_receipt_view *ret_view)
{
    const struct wp_mailbox *box = wp_machine_mailbox(machine, mailbox);
    const struct wp_lane *rows = box ? &box->lanes[WP__LANE__RECEIPT] : NULL;
    uint32_t index = rows ? wp_lane_find(rows, sequence) : WP_ROW_NONE;
    if (index == WP_ROW_NONE) {
        return WP_E_NOT_FOUND;
    }
    const struct wp_row *row = wp_lane_row(rows, index);
    *ret_view = (struct wp_receipt_view){
        .person = (const char *)wp_intern_name(&machine->intern, row->sender).data,
        .state = (Wp__ReceiptState)row->receipt_state,
        .error = row->receipt_error,
        .time_ms = row->expires_ms - WP_RECEIPT_LIFE_MS,
        .expires_ms = row->expires_ms,
    };
    memcpy(ret_view->id, row->id, sizeof ret_view->id);
    return WP_OK;
}

/* --- idle devices ------------------------------------------------------------------------------------------
 */

static bool device_idle(const struct wp_machine *machine, const struct wp_device *device, uint64_t now_ms)
{
    uint64_t after_ms = machine->limits.inactive_ms / IDLE_DENOMINATOR * IDLE_NUMERATOR;
    return !device->warned && now_ms >= device->active_ms + after_ms;
}

bool wp_machine_idle_due(const struct wp_machine *machine, uint64_t now_ms)
{
    for (uint32_t i = 0; i < machine->mailbox_count; i++) {
        const struct wp_mailbox *mailbox = machine->mailboxes[i];
        for (uint32_t d = 0; d < mailbox->device_count; d++) {
            if (device_idle(machine, mailbox->devices[d], now_ms)) {
                return true;
            }
        }
    }
    return false;
}

static int device_warn(struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device)
{
    struct wp_idle idle = {
        .mailbox = mailbox->number, .device = device->number, .active_ms = device->active_ms};
    device->warned = true;
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_RECORD);
    /* The entry may go on to remove the device, and its name with it. */
    uint32_t name = wp_intern_get(&machine->intern, wp_slice(device->name, strlen(device->name)));
    int error = name ? wp_buffer_append(&machine->idle, &idle, sizeof idle) : WP_E_NOMEM;
    return error ? error
                 : wp_machine_ended(machine, wp_slice(mailbox->user, mailbox->user_size), NULL,
                       wp_intern_name(&machine->intern, name), WP__RECEIPT_STATE__IDLE, WP_OK);
}

int wp_apply_idle_check(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    (void)payload;
    (void)result;
    for (uint32_t i = 0; i < machine->mailbox_count; i++) {
        struct wp_mailbox *mailbox = machine->mailboxes[i];
        for (uint32_t d = 0; d < mailbox->device_count; d++) {
            int error = device_idle(machine, mailbox->devices[d], machine->time_ms)
                            ? device_warn(machine, mailbox, mailbox->devices[d])
                            : WP_OK;
            if (error) {
                return error;
            }
        }
    }
    return WP_OK;
}
