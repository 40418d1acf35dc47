/* Who still holds a message, and when it leaves its mailbox.
 *
 * 1. A message goes when at least one device acknowledged it and no other active device is owed it, or when
 * it expires. Setting aside and inactivity let go of a message but never delete it: the acknowledgement does.
 *    Exception: a mailbox over WP_MAILBOX_KEPT_FACTOR times its bounds lets go of the oldest acknowledged
 * messages, so that a phone in a drawer neither makes senders see "full" nor fills the memory.
 * 2. Between commands no kept message is free to go by the devices' state as of the mailbox's last touch. */
#include "router/machine_inner.h"

#include "base/assert.h"
#include "base/error.h"

#define SWEEP_DEAD_MIN 4096u /* dead entries in the expiry heap before it is swept */

int wp_mailbox_room(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint64_t size)
{
    wp_mailbox_touch(machine, mailbox);
    const struct wp_lane *rows = &mailbox->lanes[lane];
    uint64_t messages, bytes;
    wp_mailbox_backlog(mailbox, &messages, &bytes);
    bool room = messages < machine->limits.mailbox_messages_max &&
                bytes + size <= machine->limits.mailbox_bytes_max &&
                rows->tail + 1 - wp_lane_head(rows) < UINT32_MAX;
    return room ? WP_OK : WP_E_MAILBOX_FULL;
}

/* Rows kept: messages, or receipts. */
static uint64_t *kept_count(struct wp_machine *machine, uint32_t lane)
{
    return lane == WP__LANE__RECEIPT ? &machine->receipts : &machine->messages;
}

static int record_put(struct wp_machine *machine, const struct wp_mailbox *mailbox, uint32_t lane,
    const struct wp_row *row, uint64_t accepted_ms, struct wp_slice envelope)
{
    struct wp_key key;
    wp_key_position(&key, machine->shard, WP_KEY_MESSAGE, mailbox->number, (uint8_t)lane, row->sequence);
    return wp_machine_put_record(machine, &key, accepted_ms, row->expires_ms, envelope);
}

int wp_mailbox_append(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane,
    struct wp_row *row, uint64_t accepted_ms, struct wp_slice envelope)
{
    struct wp_lane *rows = &mailbox->lanes[lane];
    row->sequence = rows->tail + 1;
    int error = wp_lane_append(rows, row);
    if (error) {
        return error;
    }
    rows->tail = row->sequence;
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        wp_cursor_appended(&mailbox->devices[i]->cursors[lane], row);
    }
    mailbox->bytes += row->size;
    machine->bytes += row->size;
    ++*kept_count(machine, lane);
    mailbox->dirty_record = true;
    wp_machine_mailbox_dirty(machine, mailbox);
    struct wp_expiry_entry entry = {
        .expires_ms = row->expires_ms,
        .place = mailbox->number << 2 | lane,
        .sequence_low = (uint32_t)row->sequence,
    };
    const struct wp_appended appended = {
        .mailbox = mailbox->number,
        .lane = (Wp__Lane)lane,
        .sequence = row->sequence,
        .accepted_ms = accepted_ms,
        .expires_ms = row->expires_ms,
        .body = row->body,
        .envelope = envelope,
    };
    machine->appended_bytes += envelope.size;
    error = wp_expiry_push(&machine->expiry, &entry);
    error = error ? error : wp_buffer_append(&machine->appended, &appended, sizeof appended);
    if (!error && row->body) {
        error = wp_machine_body_hold(machine, row->body);
    } else if (!error && envelope.size > 0) {
        error = record_put(machine, mailbox, lane, row, accepted_ms, envelope);
    }
    return error ? error : wp_machine_put_index(machine, mailbox, lane, wp_lane_row(rows, rows->count - 1));
}

bool wp_machine_expiry_row(const struct wp_machine *machine, const struct wp_expiry_entry *entry,
    struct wp_mailbox **ret_mailbox, uint32_t *ret_lane, uint32_t *ret_index)
{
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, entry->place >> 2);
    uint32_t lane_number = entry->place & 3;
    const struct wp_lane *lane = &mailbox->lanes[lane_number];
    if (lane->count == 0) {
        return false;
    }
    uint64_t head = wp_lane_head(lane);
    uint64_t sequence = head + (uint32_t)(entry->sequence_low - (uint32_t)head);
    uint32_t index = wp_lane_find(lane, sequence);
    if (index == WP_ROW_NONE || wp_lane_row(lane, index)->expires_ms != entry->expires_ms) {
        return false;
    }
    *ret_mailbox = mailbox;
    *ret_lane = lane_number;
    *ret_index = index;
    return true;
}

static bool expiry_live(void *context, const struct wp_expiry_entry *entry)
{
    struct wp_mailbox *mailbox;
    uint32_t lane, index;
    return wp_machine_expiry_row(context, entry, &mailbox, &lane, &index);
}

void wp_mailbox_drop(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint32_t index)
{
    const struct wp_row row = *wp_lane_row(&mailbox->lanes[lane], index);
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        struct wp_device *device = mailbox->devices[i];
        struct wp_cursor *cursor = &device->cursors[lane];
        uint32_t holes = cursor->owed_count;
        wp_cursor_forget(cursor, &row);
        if (cursor->owed_count != holes) {
            wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_CURSOR(lane));
        }
    }
    wp_lane_erase(&mailbox->lanes[lane], index);
    WP_ASSERT(mailbox->bytes >= row.size && machine->bytes >= row.size && *kept_count(machine, lane) > 0);
    mailbox->bytes -= row.size;
    machine->bytes -= row.size;
    --*kept_count(machine, lane);
    mailbox->dirty_record = true;
    wp_machine_mailbox_dirty(machine, mailbox);
    wp_machine_delete_message(machine, mailbox, lane, &row);
    if (machine->expiry.count > 2 * (machine->messages + machine->receipts) + SWEEP_DEAD_MIN) {
        wp_expiry_sweep(&machine->expiry, expiry_live, machine);
    }
}

int wp_mailbox_remove(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint32_t index)
{
    struct wp_removal removal = {.mailbox = mailbox->number,
        .lane = (Wp__Lane)lane,
        .sequence = wp_lane_row(&mailbox->lanes[lane], index)->sequence};
    int error = wp_buffer_append(&machine->removals, &removal, sizeof removal);
    if (!error) {
        wp_mailbox_drop(machine, mailbox, lane, index);
    }
    return error;
}

static bool mailbox_over(const struct wp_machine *machine, const struct wp_mailbox *mailbox)
{
    uint64_t messages = 0;
    for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
        messages += mailbox->lanes[lane].count;
    }
    return messages > WP_MAILBOX_KEPT_FACTOR * machine->limits.mailbox_messages_max ||
           mailbox->bytes > WP_MAILBOX_KEPT_FACTOR * machine->limits.mailbox_bytes_max;
}

/* First message that somebody has, routine before urgent before stat. */
static bool delivered_first(const struct wp_mailbox *mailbox, uint32_t *ret_lane, uint32_t *ret_index)
{
    for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
        for (uint32_t index = 0; index < mailbox->lanes[lane].count; index++) {
            if (wp_lane_row(&mailbox->lanes[lane], index)->acknowledged) {
                *ret_lane = lane;
                *ret_index = index;
                return true;
            }
        }
    }
    return false;
}

int wp_mailbox_trim(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    uint32_t lane, index;
    while (mailbox_over(machine, mailbox) && delivered_first(mailbox, &lane, &index)) {
        int error = wp_mailbox_remove(machine, mailbox, lane, index);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

bool wp_mailbox_drop_if_free(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint32_t index)
{
    const struct wp_row *row = wp_lane_row(&mailbox->lanes[lane], index);
    if (!row->acknowledged && WP_BUG != 39) { /* 39: setting aside deletes */
        return false;
    }
    for (uint32_t i = 0; i < mailbox->device_count && WP_BUG != 33;
         i++) { /* 33: goes with the first device */
        const struct wp_device *device = mailbox->devices[i];
        bool wants = lane != WP__LANE__RECEIPT || device->receipts_subscribed;
        if (wants && !device->inactive && wp_cursor_owing(&device->cursors[lane], row->sequence) == WP_OWED) {
            return false;
        }
    }
    wp_mailbox_drop(machine, mailbox, lane, index);
    return true;
}

void wp_mailbox_sweep(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        for (uint32_t index = 0; index < mailbox->lanes[lane].count;) {
            if (!wp_mailbox_drop_if_free(machine, mailbox, lane, index)) {
                index++;
            }
        }
    }
}

void wp_mailbox_touch(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    if (machine->time_ms < mailbox->inactive_due_ms) {
        return;
    }
    bool turned = false;
    mailbox->inactive_due_ms = UINT64_MAX;
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        struct wp_device *device = mailbox->devices[i];
        uint64_t due_ms = device->active_ms + machine->limits.inactive_ms;
        if (device->inactive) {
            continue;
        }
        if (machine->time_ms >= due_ms) {
            device->inactive = true;
            turned = true;
        } else if (due_ms < mailbox->inactive_due_ms) {
            mailbox->inactive_due_ms = due_ms;
        }
    }
    if (turned) {
        wp_mailbox_sweep(machine, mailbox);
    }
}

void wp_mailbox_device_active(
    struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device)
{
    /* Written coarsely: exact times would rewrite the device with every acknowledgement. */
    bool absent = device->inactive || device->warned;
    if (absent || machine->time_ms - device->active_ms >= machine->limits.inactive_ms / 168) {
        device->active_ms = machine->time_ms;
        wp_machine_device_dirty(machine, mailbox, device, WP_DEVICE_DIRTY_RECORD);
    }
    device->inactive = false;
    device->warned = false;
    uint64_t due_ms = device->active_ms + machine->limits.inactive_ms;
    if (due_ms < mailbox->inactive_due_ms) {
        mailbox->inactive_due_ms = due_ms;
    }
}

void wp_mailbox_backlog(const struct wp_mailbox *mailbox, uint64_t *ret_messages, uint64_t *ret_bytes)
{
    uint64_t messages = UINT64_MAX;
    uint64_t bytes = UINT64_MAX;
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        const struct wp_device *device = mailbox->devices[i];
        uint64_t device_messages = 0;
        uint64_t device_bytes = 0;
        for (uint32_t lane = 0; lane < WP_LANE_COUNT && !device->inactive; lane++) {
            device_messages += device->cursors[lane].pending;
            device_bytes += device->cursors[lane].pending_bytes;
        }
        if (!device->inactive) {
            messages = device_messages < messages ? device_messages : messages;
            bytes = device_bytes < bytes ? device_bytes : bytes;
        }
    }
    if (messages == UINT64_MAX) {
        messages = 0;
        for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
            messages += mailbox->lanes[lane].count;
        }
        bytes = mailbox->bytes;
    }
    *ret_messages = messages;
    *ret_bytes = bytes;
}
