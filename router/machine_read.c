/* Reads of the leader: nothing here changes the machine. */
#include "router/machine_inner.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/error.h"

void wp_machine_secret_hash(
    const uint8_t key[32], struct wp_slice secret, uint8_t ret_hash[WP_SECRET_HASH_SIZE])
{
    _Static_assert(WP_SECRET_HASH_SIZE == crypto_generichash_BYTES, "BLAKE2b-256");
    crypto_generichash(ret_hash, WP_SECRET_HASH_SIZE, secret.data, secret.size, key, 32);
}

static struct wp_device *device_find(
    const struct wp_machine *machine, const char *user, const char *device, struct wp_mailbox **ret_mailbox)
{
    *ret_mailbox = wp_machine_user(machine, wp_slice(user, strlen(user)));
    return *ret_mailbox ? wp_mailbox_device_named(*ret_mailbox, device) : NULL;
}

static struct wp_device_view view_of(const struct wp_mailbox *mailbox, const struct wp_device *device)
{
    return (struct wp_device_view){
        .mailbox = mailbox->number,
        .device = device->number,
        .epoch = device->epoch,
        .inbox_subscribed = device->inbox_subscribed,
        .receipts_subscribed = device->receipts_subscribed,
    };
}

int wp_machine_authenticate(const struct wp_machine *machine, const uint8_t key[32], const char *user,
    const char *device, struct wp_slice secret, struct wp_device_view *ret_view)
{
    static const uint8_t nobody[WP_SECRET_HASH_SIZE];
    uint8_t hash[WP_SECRET_HASH_SIZE];
    wp_machine_secret_hash(key, secret, hash);
    struct wp_mailbox *mailbox;
    const struct wp_device *found = device_find(machine, user, device, &mailbox);
    int differ = sodium_memcmp(hash, found ? found->secret_hash : nobody, sizeof hash);
    if (!found || differ) {
        return WP_E_AUTH;
    }
    *ret_view = view_of(mailbox, found);
    return WP_OK;
}

int wp_machine_device_find(
    const struct wp_machine *machine, const char *user, const char *device, struct wp_device_view *ret_view)
{
    struct wp_mailbox *mailbox;
    const struct wp_device *found = device_find(machine, user, device, &mailbox);
    if (!found) {
        return WP_E_NOT_FOUND;
    }
    *ret_view = view_of(mailbox, found);
    return WP_OK;
}

bool wp_machine_user_exists(const struct wp_machine *machine, const char *user)
{
    return wp_machine_user(machine, wp_slice(user, strlen(user))) != NULL;
}

const char *wp_machine_mailbox_user(const struct wp_machine *machine, uint64_t mailbox)
{
    const struct wp_mailbox *found = wp_machine_mailbox(machine, mailbox);
    return found ? found->user : NULL;
}

static bool row_pending(
    const struct wp_cursor *cursor, const struct wp_row *row, uint64_t now_ms, struct wp_pending *ret_pending)
{
    if (row->expires_ms <= now_ms) {
        return false;
    }
    *ret_pending = (struct wp_pending){
        .sequence = row->sequence,
        .expires_ms = row->expires_ms,
        .body = row->body,
        .size = row->size,
        .sent_before = row->sequence <= cursor->sent,
    };
    return true;
}

bool wp_machine_next_pending(const struct wp_machine *machine, uint64_t mailbox, uint32_t device,
    Wp__Lane lane, uint64_t after, uint64_t now_ms, struct wp_pending *ret_pending)
{
    const struct wp_mailbox *box = wp_machine_mailbox(machine, mailbox);
    const struct wp_device *found = box ? wp_mailbox_device(box, device) : NULL;
    if (!found || lane >= WP_SEQUENCE_COUNT) {
        return false;
    }
    const struct wp_cursor *cursor = &found->cursors[lane];
    const struct wp_lane *rows = &box->lanes[lane];
    for (uint32_t i = wp_cursor_lower_bound(cursor, after + 1); i < cursor->owed_count; i++) {
        const struct wp_owed *owed = &cursor->owed[i];
        const struct wp_row *row = wp_lane_row(rows, wp_lane_find(rows, owed->sequence));
        if (!owed->set_aside && row_pending(cursor, row, now_ms, ret_pending)) {
            return true;
        }
    }
    uint64_t above = after > cursor->passed ? after : cursor->passed;
    for (uint32_t i = wp_lane_lower_bound(rows, above + 1); i < rows->count; i++) {
        if (row_pending(cursor, wp_lane_row(rows, i), now_ms, ret_pending)) {
            return true;
        }
    }
    return false;
}

static int key_hand_over(const struct wp_key *key, struct wp_buffer *out)
{
    out->size = 0;
    return wp_buffer_append(out, key->data, key->size);
}

int wp_machine_message_range(uint32_t shard, uint64_t mailbox, Wp__Lane lane, uint64_t from, uint64_t to,
    struct wp_buffer *ret_from_key, struct wp_buffer *ret_to_key)
{
    struct wp_key key;
    wp_key_position(&key, shard, WP_KEY_MESSAGE, mailbox, (uint8_t)lane, from);
    int error = key_hand_over(&key, ret_from_key);
    if (to < UINT64_MAX) {
        wp_key_position(&key, shard, WP_KEY_MESSAGE, mailbox, (uint8_t)lane, to + 1);
    } else {
        wp_key_position(&key, shard, WP_KEY_MESSAGE, mailbox, (uint8_t)(lane + 1), 0);
    }
    return error ? error : key_hand_over(&key, ret_to_key);
}

int wp_machine_message_decode(struct wp_slice key, struct wp_slice value, struct wp_arena *arena,
    uint64_t *ret_sequence, Wp__RecordMessage **ret_record)
{
    uint64_t mailbox;
    uint8_t lane;
    int error = wp_key_parse_position(key, &mailbox, &lane, ret_sequence);
    if (error) {
        return error;
    }
    error = wp_schema_decode(&wp__record_message__descriptor, value, arena, (ProtobufCMessage **)ret_record);
    return error ? WP_E_CORRUPT : WP_OK;
}

uint64_t wp_machine_expiry_due_ms(const struct wp_machine *machine)
{
    const struct wp_expiry_entry *first = wp_expiry_first(&machine->expiry);
    return first ? first->expires_ms : UINT64_MAX;
}

uint64_t wp_machine_seen_window_ms(const struct wp_machine *machine, uint64_t now_ms)
{
    uint64_t oldest_ms = wp_seen_oldest_ms(machine->seen, now_ms);
    return now_ms > oldest_ms ? now_ms - oldest_ms : 0;
}

void wp_machine_totals(const struct wp_machine *machine, struct wp_machine_totals *ret_totals)
{
    *ret_totals = (struct wp_machine_totals){
        .users = machine->mailbox_count,
        .devices = machine->devices,
        .messages = machine->messages,
        .bytes = machine->bytes,
        .receipts = machine->receipts,
        .bodies = machine->bodies.count,
        .teams = machine->teams.count,
        .outbox_items = machine->outbox.items,
        .outbox_bytes = machine->outbox.bytes,
    };
    memcpy(ret_totals->drops, machine->drops, sizeof ret_totals->drops);
}

void wp_machine_users_each(const struct wp_machine *machine,
    void (*each)(void *context, const struct wp_user_view *view), void *context)
{
    uint32_t count;
    void **users = wp_names_sorted(&machine->users, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct wp_mailbox *mailbox = users[i];
        struct wp_user_view view = {
            .user = mailbox->user,
            .mailbox = mailbox->number,
            .created_ms = mailbox->created_ms,
            .queued_bytes = mailbox->bytes,
            .devices = mailbox->device_count,
        };
        for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
            view.queued[lane] = mailbox->lanes[lane].count;
        }
        each(context, &view);
    }
    free(users);
}

static uint64_t set_aside_count(const struct wp_device *device)
{
    uint64_t count = 0;
    for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
        for (uint32_t i = 0; i < device->cursors[lane].owed_count; i++) {
            count += device->cursors[lane].owed[i].set_aside;
        }
    }
    return count;
}

int wp_machine_devices_each(const struct wp_machine *machine, const char *user,
    void (*each)(void *context, const struct wp_device_detail *detail), void *context)
{
    const struct wp_mailbox *mailbox = wp_machine_user(machine, wp_slice(user, strlen(user)));
    if (!mailbox) {
        return WP_E_NOT_FOUND;
    }
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        const struct wp_device *device = mailbox->devices[i];
        struct wp_device_detail detail = {
            .device = device->name,
            .number = device->number,
            .created_ms = device->created_ms,
            .epoch = device->epoch,
            .active_ms = device->active_ms,
            .inbox_subscribed = device->inbox_subscribed,
            .receipts_subscribed = device->receipts_subscribed,
            .inactive = device->inactive,
            .set_aside = set_aside_count(device),
        };
        for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
            detail.pending[lane] = device->cursors[lane].pending;
        }
        each(context, &detail);
    }
    return WP_OK;
}
