/* What devices acknowledged and were sent, and what expired. */
#include "router/machine_inner.h"

#include "base/error.h"

static int acknowledge(struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device,
    uint32_t lane, uint64_t sequence)
{
    struct wp_lane *rows = &mailbox->lanes[lane];
    if (sequence > rows->tail) {
        return WP_OK; /* never given out; a device that says so is mistaken */
    }
    bool settled;
    int error = wp_cursor_acknowledge(&device->cursors[lane], rows, sequence, &settled);
    if (error || !settled) {
        return error;
    }
    uint32_t index = wp_lane_find(rows, sequence);
    struct wp_row *row = wp_lane_row(rows, index);
    bool news = !row->acknowledged;
    row->acknowledged = 1;
    if ((news || WP_BUG == 43) && lane != WP__LANE__RECEIPT) { /* 43: each device makes a receipt */
        error = wp_machine_row_ended(machine, mailbox, row, WP__RECEIPT_STATE__DELIVERED);
    }
    if (error) {
        return error;
    }
    if (wp_mailbox_drop_if_free(machine, mailbox, lane, index) || !news) {
        return WP_OK;
    }
    return wp_machine_put_index(machine, mailbox, lane, row);
}

static int positions_apply(struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device,
    const Wp__Positions *positions)
{
    if (positions->lane >= WP_SEQUENCE_COUNT) {
        return WP_OK;
    }
    for (size_t i = 0; i < positions->n_sequence; i++) {
        int error = acknowledge(machine, mailbox, device, positions->lane, positions->sequence[i]);
        if (error) {
            return error;
        }
    }
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_CURSOR(positions->lane));
    return WP_OK;
}

static void sent_apply(struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device,
    const Wp__SentUpTo *sent)
{
    if (sent->lane >= WP_SEQUENCE_COUNT) {
        return;
    }
    struct wp_cursor *cursor = &device->cursors[sent->lane];
    uint64_t tail = mailbox->lanes[sent->lane].tail;
    uint64_t sequence = sent->sequence < tail ? sent->sequence : tail;
    cursor->sent = sequence > cursor->sent ? sequence : cursor->sent;
    if (sent->overdue) {
        cursor->overdue = sequence > cursor->overdue ? sequence : cursor->overdue;
    }
    wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_CURSOR(sent->lane));
}

static int advance_apply(struct wp_machine *machine, const Wp__CursorAdvance *advance)
{
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, advance->mailbox);
    struct wp_device *device = mailbox ? wp_mailbox_device(mailbox, advance->device) : NULL;
    if (!device) {
        return WP_OK; /* removed while the acknowledgement was on its way */
    }
    wp_mailbox_touch(machine, mailbox);
    wp_mailbox_device_active(machine, mailbox, device);
    for (size_t i = 0; i < advance->n_acknowledged; i++) {
        int error = positions_apply(machine, mailbox, device, advance->acknowledged[i]);
        if (error) {
            return error;
        }
    }
    for (size_t i = 0; i < advance->n_sent; i++) {
        sent_apply(machine, mailbox, device, advance->sent[i]);
    }
    return WP_OK;
}

int wp_apply_cursors(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    (void)result;
    Wp__CommandCursors *command;
    if (wp_schema_decode(
            &wp__command_cursors__descriptor, payload, &machine->arena, (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    for (size_t i = 0; i < command->n_advances; i++) {
        int error = advance_apply(machine, command->advances[i]);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

/* The next message past its expiry; dead entries before it go. */
static bool due_next(
    struct wp_machine *machine, struct wp_mailbox **ret_mailbox, uint32_t *ret_lane, uint32_t *ret_index)
{
    const struct wp_expiry_entry *first;
    while ((first = wp_expiry_first(&machine->expiry)) != NULL) {
        bool live = wp_machine_expiry_row(machine, first, ret_mailbox, ret_lane, ret_index);
        if (live) {
            uint64_t early_ms = WP_BUG == 31 ? *ret_lane * 1000u : 0; /* expiry off by lane */
            return first->expires_ms <= machine->time_ms + early_ms;
        }
        wp_expiry_pop(&machine->expiry);
    }
    return false;
}

int wp_apply_expire(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandExpire *command;
    if (wp_schema_decode(
            &wp__command_expire__descriptor, payload, &machine->arena, (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox;
    uint32_t lane, index;
    for (uint32_t i = 0; due_next(machine, &mailbox, &lane, &index); i++) {
        if (i == command->limit) {
            result->expire.more = true;
            break;
        }
        const struct wp_row *row = wp_lane_row(&mailbox->lanes[lane], index);
        int error = WP_OK;
        /* Acknowledged means delivered: that is how it ended, whoever else was still to get it. */
        if (lane != WP__LANE__RECEIPT && !row->acknowledged) {
            result->expire.expired++;
            error = wp_machine_row_ended(machine, mailbox, row, WP__RECEIPT_STATE__EXPIRED);
        }
        machine->drops[WP_DROP_RECEIPT_OLD] += lane == WP__LANE__RECEIPT && !row->acknowledged;
        wp_expiry_pop(&machine->expiry);
        error = error ? error : wp_mailbox_remove(machine, mailbox, lane, index);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}
