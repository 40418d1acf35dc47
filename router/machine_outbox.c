/* The outbox of the machine: items on their way to other shards, and those that come from them
 * (docs/fanout.md).
 *
 * 1. Items above the watermark are pending, without a gap up to `last`; none at or below it has a row.
 * 2. `taken` of a source only grows by one applied item: an item that comes again is skipped, one that comes
 * early waits for a repeat.
 * 3. Applying an item always succeeds. */
#include "router/machine_inner.h"

#include "base/error.h"
#include "proto/address.h"
#include "router/wire.h"

#define RUN_RANGE_MIN 16u /* from so many neighbours on one range delete is cheaper */

uint32_t wp_machine_shard_of(const struct wp_machine *machine, struct wp_slice name)
{
    char text[WP_NAME_SIZE_MAX + 1];
    if (machine->limits.shard_count == 0 || name.size > WP_NAME_SIZE_MAX) {
        return machine->shard;
    }
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    return wp_shard_of(machine->limits.hash_key, machine->limits.shard_count, text);
}

uint64_t wp_machine_outbox_bytes_max(const struct wp_machine *machine)
{
    return machine->limits.outbox_bytes_max ? machine->limits.outbox_bytes_max : WP_OUTBOX_BYTES_MAX;
}

/* --- sending side ------------------------------------------------------------------------------------------
 */

static void peer_dirty(struct wp_machine *machine, bool *what)
{
    *what = true;
    machine->outbox.dirty = true;
}

int wp_machine_outbox_add(
    struct wp_machine *machine, uint32_t destination, struct wp_slice packed, uint32_t receipts, bool stored)
{
    struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, destination);
    struct wp_outbox_item *item;
    int error = wp_outbox_push(&machine->outbox, peer, peer->last + 1, packed, receipts, &item);
    if (error) {
        return error;
    }
    peer->last++;
    peer_dirty(machine, &peer->dirty);
    struct wp_key key;
    wp_key_pair(&key, machine->shard, WP_KEY_ITEM, destination, item->sequence);
    if (stored) {
        item->stored = true;
        wp_state_put(machine->batch, wp_key_slice(&key), packed);
        return WP_OK;
    }
    item->journal_entry = machine->entry_index;
    return wp_machine_journal_put(machine, &key, packed);
}

static void items_delete(struct wp_machine *machine, uint64_t destination, uint64_t from, uint64_t to)
{
    struct wp_key key, end;
    if (to - from + 1 >= RUN_RANGE_MIN) {
        wp_key_pair(&key, machine->shard, WP_KEY_ITEM, destination, from);
        wp_key_pair(&end, machine->shard, WP_KEY_ITEM, destination, to + 1);
        wp_state_delete_range(machine->batch, wp_key_slice(&key), wp_key_slice(&end));
        return;
    }
    for (uint64_t sequence = from; sequence <= to; sequence++) {
        wp_key_pair(&key, machine->shard, WP_KEY_ITEM, destination, sequence);
        wp_state_delete(machine->batch, wp_key_slice(&key));
    }
}

static void peer_advance(
    struct wp_machine *machine, struct wp_outbox_peer *peer, uint64_t destination, uint64_t watermark)
{
    uint64_t from = 0; /* of a run of stored items; 0 = none */
    struct wp_outbox_item *item;
    while ((item = wp_outbox_first(peer)) && item->sequence <= watermark) {
        if (item->stored && !from) {
            from = item->sequence;
        } else if (!item->stored && from) {
            items_delete(machine, destination, from, item->sequence - 1);
            from = 0;
        }
        if (from && (item->sequence == watermark || item->sequence == peer->last)) {
            items_delete(machine, destination, from, item->sequence);
            from = 0;
        }
        wp_outbox_pop(&machine->outbox, peer);
    }
    peer->watermark = watermark;
    /* A source that forgot must not give out numbers again that the destination would skip. */
    peer->last = watermark > peer->last ? watermark : peer->last;
    if (WP_BUG != 45) { /* 45: the watermark is not persisted */
        peer_dirty(machine, &peer->dirty);
    }
}

int wp_apply_outbox_advance(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    Wp__CommandOutboxAdvance *command;
    if (wp_schema_decode(&wp__command_outbox_advance__descriptor, payload, &machine->arena,
            (ProtobufCMessage **)&command)) {
        return WP_E_CORRUPT;
    }
    struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, command->destination);
    if (!peer || command->destination == machine->shard) {
        result->error = WP_E_INVALID;
    } else if (command->watermark > peer->watermark) {
        peer_advance(machine, peer, command->destination, command->watermark);
    }
    return WP_OK;
}

/* --- receiving side: read in place, since what is appended borrows from the entry
 * -----------------------------
 */

/* The sender and id of an envelope that another shard accepted; false when it cannot be read. */
static bool envelope_who(struct wp_machine *machine, struct wp_team_message *message)
{
    struct wp_slice rest = message->envelope;
    struct wp_wire_field field;
    while (wp_wire_next(&rest, &field) == 1) {
        Wp__Header *header;
        if (field.number != 1 || field.type != WP_WIRE_BYTES) {
            continue;
        }
        if (wp_schema_decode(
                &wp__header__descriptor, field.bytes, &machine->arena, (ProtobufCMessage **)&header) ||
            header->message_id.len != WP_UUID_SIZE || header->lane >= WP_LANE_COUNT) {
            return false;
        }
        message->id = header->message_id.data;
        message->lane = header->lane;
        for (rest = field.bytes; wp_wire_next(&rest, &field) == 1;) {
            if (field.number == 3 && field.type == WP_WIRE_BYTES) {
                message->sender = field.bytes; /* header.sender, where it stands in the entry */
            }
        }
        return wp_address_valid_n((const char *)message->sender.data, message->sender.size);
    }
    return false;
}

static int team_item_apply(struct wp_machine *machine, struct wp_slice bytes)
{
    struct wp_team_message message = {0};
    struct wp_wire_field field;
    for (struct wp_slice rest = bytes; wp_wire_next(&rest, &field) == 1;) {
        if (field.number == 1 && field.type == WP_WIRE_BYTES) {
            message.envelope = field.bytes;
        } else if (field.number == 2) {
            message.accepted_ms = field.value;
        } else if (field.number == 3) {
            message.expires_ms = field.value;
        }
    }
    if (!envelope_who(machine, &message)) {
        return WP_OK; /* no shard of ours wrote it */
    }
    for (struct wp_slice rest = bytes; wp_wire_next(&rest, &field) == 1;) {
        if (field.number != 4 || field.type != WP_WIRE_BYTES ||
            !wp_address_valid_n((const char *)field.bytes.data, field.bytes.size)) {
            continue;
        }
        int error = wp_machine_team_take(machine, &message, field.bytes);
        if (error) {
            return error;
        }
    }
    wp_machine_team_close(machine, &message);
    return WP_OK;
}

static int receipt_apply(struct wp_machine *machine, struct wp_slice bytes)
{
    Wp__OutboxReceipt *told;
    if (wp_schema_decode(
            &wp__outbox_receipt__descriptor, bytes, &machine->arena, (ProtobufCMessage **)&told) ||
        !told->receipt || !wp_address_valid(told->sender) || !wp_address_valid(told->receipt->person) ||
        told->receipt->message_id.len != WP_UUID_SIZE) {
        return WP_OK;
    }
    const Wp__Receipt *receipt = told->receipt;
    struct wp_ended ended = {
        .sender = wp_slice(told->sender, strlen(told->sender)),
        .person = wp_slice(receipt->person, strlen(receipt->person)),
        .state = (uint8_t)receipt->state,
        .error = (int16_t)receipt->error,
        .time_ms = receipt->time_ms,
    };
    memcpy(ended.id, receipt->message_id.data, WP_UUID_SIZE);
    return wp_machine_receipt_append(machine, &ended);
}

static int receipts_item_apply(struct wp_machine *machine, struct wp_slice bytes)
{
    struct wp_wire_field field;
    while (wp_wire_next(&bytes, &field) == 1) {
        wp_arena_reset(&machine->arena);
        int error =
            field.number == 1 && field.type == WP_WIRE_BYTES ? receipt_apply(machine, field.bytes) : WP_OK;
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

static int item_apply(struct wp_machine *machine, struct wp_slice item)
{
    struct wp_wire_field field;
    while (wp_wire_next(&item, &field) == 1) {
        if (field.type != WP_WIRE_BYTES) {
            continue;
        }
        int error = field.number == 1   ? team_item_apply(machine, field.bytes)
                    : field.number == 2 ? receipts_item_apply(machine, field.bytes)
                                        : WP_OK;
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

static int item_take(struct wp_machine *machine, struct wp_outbox_peer *peer, uint64_t sequence,
    struct wp_slice item, struct wp_result *result)
{
    bool next = sequence == peer->taken + 1;
    if (!next && !(WP_BUG == 41 && sequence == peer->taken)) { /* 41: a repeated item is applied again */
        return WP_OK;
    }
    peer->taken = sequence;
    peer_dirty(machine, &peer->taken_dirty);
    result->transfer.taken++;
    return item_apply(machine, item);
}

int wp_apply_transfer_in(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    struct wp_wire_field field;
    uint64_t source = 0;
    uint64_t sequence = 0;
    struct wp_slice rest = payload;
    int more;
    while ((more = wp_wire_next(&rest, &field)) == 1) {
        source = field.number == 1 && field.type == WP_WIRE_VARINT ? field.value : source;
        sequence = field.number == 2 && field.type == WP_WIRE_VARINT ? field.value : sequence;
    }
    struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, source);
    if (more) {
        return WP_E_CORRUPT;
    }
    if (!peer || source == machine->shard) {
        result->error = WP_E_INVALID;
        return WP_OK;
    }
    for (rest = payload; wp_wire_next(&rest, &field) == 1;) {
        if (field.number != 3 || field.type != WP_WIRE_BYTES) {
            continue;
        }
        wp_arena_reset(&machine->arena);
        int error = item_take(machine, peer, sequence++, field.bytes, result);
        if (error) {
            return error;
        }
    }
    result->transfer.watermark = peer->taken;
    return WP_OK;
}

/* --- records
 * ------------------------------------------------------------------------------------------------
 */

static int numbers_journal(
    struct wp_machine *machine, enum wp_key_tag tag, uint64_t shard, uint64_t first, uint64_t second)
{
    uint8_t value[2 * WP_WIRE_FIELD_SIZE_MAX];
    uint8_t *p = wp_wire_put_u64(value, 1, first);
    p = wp_wire_put_u64(p, 2, second);
    struct wp_key key;
    wp_key_mailbox(&key, machine->shard, tag, shard);
    return wp_machine_journal_put(machine, &key, wp_slice(value, (size_t)(p - value)));
}

int wp_machine_outbox_flush(struct wp_machine *machine)
{
    int error = WP_OK;
    for (uint32_t i = 0; machine->outbox.dirty && i < machine->outbox.peer_count && !error; i++) {
        struct wp_outbox_peer *peer = &machine->outbox.peers[i];
        if (peer->dirty) {
            peer->journal_entry = machine->entry_index;
            error = numbers_journal(machine, WP_KEY_OUTBOX, i + 1u, peer->last, peer->watermark);
        }
        if (peer->taken_dirty && !error && WP_BUG != 42) { /* 42: what was taken is not persisted */
            peer->taken_journal_entry = machine->entry_index;
            error = numbers_journal(machine, WP_KEY_TAKEN, i + 1u, peer->taken, 0);
        }
        peer->dirty = false;
        peer->taken_dirty = false;
    }
    machine->outbox.dirty = false;
    return error;
}

/* --- reads
 * --------------------------------------------------------------------------------------------------
 */

bool wp_machine_outbox(
    const struct wp_machine *machine, uint32_t destination, struct wp_outbox_view *ret_view)
{
    const struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, destination);
    if (!peer || destination == machine->shard) {
        return false;
    }
    const struct wp_outbox_item *first = wp_outbox_first(peer);
    *ret_view = (struct wp_outbox_view){
        .first = first ? first->sequence : peer->last + 1,
        .last = peer->last,
        .bytes = peer->bytes,
        .receipts = peer->receipts,
        .teams = peer->teams,
    };
    return true;
}

struct wp_slice wp_machine_outbox_item(
    const struct wp_machine *machine, uint32_t destination, uint64_t sequence, uint32_t *ret_receipts)
{
    const struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, destination);
    const struct wp_outbox_item *item = peer ? wp_outbox_find(peer, sequence) : NULL;
    *ret_receipts = item ? item->receipts : 0;
    return item ? wp_slice(item->data->data, item->data->size) : wp_slice(NULL, 0);
}

uint64_t wp_machine_taken(const struct wp_machine *machine, uint32_t source)
{
    const struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, source);
    return peer ? peer->taken : 0;
}
