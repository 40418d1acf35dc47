/* The journal of a machine: which rows are written behind, when they reach their own keys, and the replay at
 * a start.
 *
 * 1. The last mention of a row is in the window exactly when its `journal_entry` (`journaled` and
 * `journal_low` of a message) says so; then the journal has its current value, otherwise its own key has.
 * 2. A message's index row stands under its own key exactly when it is `stored`. */
#include "router/machine_inner.h"

#include "base/error.h"

int wp_machine_journal_put(struct wp_machine *machine, const struct wp_key *key, struct wp_slice value)
{
    struct wp_journal_record record = {.key = wp_key_rest(key), .value = value};
    return wp_journal_append(&machine->journal_row, &record);
}

void wp_machine_journal_gone(struct wp_machine *machine, const struct wp_key *key)
{
    struct wp_journal_record record = {.key = wp_key_rest(key), .gone = true};
    int error = wp_journal_append(&machine->journal_row, &record);
    if (error) {
        machine->journal_error = error;
    }
}

/* --- leaving the window: whether this was the last mention, which is then marked as gone from the journal
 * -------- */

static bool settle_index(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    uint64_t number, sequence;
    uint8_t lane;
    if (wp_key_parse_position(key, &number, &lane, &sequence)) {
        return false;
    }
    const struct wp_lane *rows = &wp_machine_mailbox(machine, number)->lanes[lane];
    uint32_t index = wp_lane_find(rows, sequence);
    struct wp_row *row = index == WP_ROW_NONE ? NULL : wp_lane_row(rows, index);
    if (!row || !row->journaled || row->journal_low != WP_ROW_JOURNAL_LOW(entry)) {
        return false;
    }
    row->journaled = 0;
    row->stored = 1;
    *value = wp_machine_index_encode(machine, row, machine->index_value);
    return true;
}

static bool settle_mailbox(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    (void)value;
    uint64_t number;
    struct wp_mailbox *mailbox =
        wp_key_parse_mailbox(key, &number) ? NULL : wp_machine_mailbox(machine, number);
    if (!mailbox || mailbox->journal_entry != entry) {
        return false;
    }
    mailbox->journal_entry = 0;
    return true;
}

static bool settle_cursor(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    (void)value;
    uint64_t number;
    uint32_t device_number;
    uint8_t lane;
    if (wp_key_parse_cursor(key, &number, &device_number, &lane)) {
        return false;
    }
    struct wp_device *device = wp_mailbox_device(wp_machine_mailbox(machine, number), device_number);
    if (!device || device->journal_entries[lane] != entry) {
        return false; /* removed, or mentioned again */
    }
    device->journal_entries[lane] = 0;
    return true;
}

static bool settle_outbox(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    (void)value;
    uint64_t shard;
    struct wp_outbox_peer *peer =
        wp_key_parse_mailbox(key, &shard) ? NULL : wp_outbox_peer(&machine->outbox, shard);
    if (!peer || peer->journal_entry != entry) {
        return false;
    }
    peer->journal_entry = 0;
    return true;
}

static bool settle_taken(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    (void)value;
    uint64_t shard;
    struct wp_outbox_peer *peer =
        wp_key_parse_mailbox(key, &shard) ? NULL : wp_outbox_peer(&machine->outbox, shard);
    if (!peer || peer->taken_journal_entry != entry) {
        return false;
    }
    peer->taken_journal_entry = 0;
    return true;
}

static bool settle_item(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    (void)value;
    uint64_t shard, sequence;
    struct wp_outbox_peer *peer =
        wp_key_parse_pair(key, &shard, &sequence) ? NULL : wp_outbox_peer(&machine->outbox, shard);
    struct wp_outbox_item *item = peer ? wp_outbox_find(peer, sequence) : NULL;
    if (!item || item->journal_entry != entry) {
        return false; /* at its destination already */
    }
    item->journal_entry = 0;
    item->stored = true;
    return true;
}

static bool settle_stream(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value)
{
    (void)value;
    struct wp_slice user, device;
    uint64_t hash;
    if (wp_key_parse_names(key, &user, &device)) {
        return false;
    }
    struct wp_stream *stream = wp_streams_find(&machine->streams, user, device, &hash);
    if (!stream || stream->journal_entry != entry) {
        return false;
    }
    stream->journal_entry = 0;
    return true;
}

typedef bool (*journal_settle)(
    struct wp_machine *machine, uint64_t entry, struct wp_slice key, struct wp_slice *value);

static const journal_settle settlers[] = {
    [WP_KEY_INDEX] = settle_index,
    [WP_KEY_MAILBOX] = settle_mailbox,
    [WP_KEY_CURSOR] = settle_cursor,
    [WP_KEY_STREAM] = settle_stream,
    [WP_KEY_OUTBOX] = settle_outbox,
    [WP_KEY_ITEM] = settle_item,
    [WP_KEY_TAKEN] = settle_taken,
};

static journal_settle settler_of(struct wp_slice rest)
{
    uint8_t tag = rest.data[0];
    return tag < sizeof settlers / sizeof settlers[0] ? settlers[tag] : NULL;
}

/* Writes what the oldest row mentioned last under its own keys and drops the row. */
static int oldest_retire(struct wp_machine *machine)
{
    const struct wp_journal_row *row = wp_journal_row_at(&machine->journal, 0);
    struct wp_slice rest = wp_slice(row->bytes.data, row->bytes.size);
    struct wp_journal_record record;
    struct wp_key key;
    int more;
    while ((more = wp_journal_next(&rest, &record)) == 1) {
        int error = wp_key_join(&key, machine->shard, record.key);
        journal_settle settle = settler_of(record.key);
        if (error || !settle) {
            return WP_E_CORRUPT;
        }
        if (!record.gone && settle(machine, row->entry, wp_key_slice(&key), &record.value)) {
            wp_state_put(machine->batch, wp_key_slice(&key), record.value);
        }
    }
    wp_key_journal(&key, machine->shard, row->entry);
    wp_state_delete(machine->batch, wp_key_slice(&key));
    wp_journal_pop(&machine->journal);
    return more;
}

int wp_machine_journal_close(struct wp_machine *machine)
{
    struct wp_slice bytes = wp_slice(machine->journal_row.data, machine->journal_row.size);
    if (machine->journal_error || bytes.size == 0) {
        return machine->journal_error;
    }
    struct wp_key key;
    wp_key_journal(&key, machine->shard, machine->entry_index);
    wp_state_put(machine->batch, wp_key_slice(&key), bytes);
    int error = wp_journal_push(&machine->journal, machine->entry_index, bytes);
    machine->journal_row.size = 0;
    while (!error && wp_journal_overdue(&machine->journal)) {
        error = oldest_retire(machine);
    }
    return error;
}

static int row_load(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    uint64_t entry;
    if (wp_key_parse_journal(key, &entry) || machine->journal.count == WP_JOURNAL_ROWS + 1u) {
        return WP_E_CORRUPT;
    }
    return wp_journal_push(&machine->journal, entry, value);
}

int wp_machine_journal_load(struct wp_machine *machine)
{
    struct wp_key from, to;
    wp_key_tag(&from, machine->shard, WP_KEY_JOURNAL);
    wp_key_tag(&to, machine->shard, WP_KEY_JOURNAL + 1);
    struct wp_state_iter *iter = wp_state_iter_create(machine->store, wp_key_slice(&from), wp_key_slice(&to));
    if (!iter) {
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    for (; wp_state_iter_valid(iter) && !error; wp_state_iter_next(iter)) {
        error = row_load(machine, wp_state_iter_key(iter), wp_state_iter_value(iter));
    }
    error = error ? error : wp_state_iter_error(iter);
    wp_state_iter_destroy(&iter);
    return error;
}

int wp_machine_journal_next(const struct wp_machine *machine, enum wp_key_tag tag,
    struct wp_journal_cursor *cursor, struct wp_journal_mention *ret_mention)
{
    while (cursor->row < machine->journal.count) {
        const struct wp_journal_row *row = wp_journal_row_at(&machine->journal, cursor->row);
        struct wp_slice rest = wp_slice(row->bytes.data + cursor->offset, row->bytes.size - cursor->offset);
        struct wp_journal_record record;
        int more = wp_journal_next(&rest, &record);
        if (more < 0) {
            return more;
        }
        if (more == 0) {
            *cursor = (struct wp_journal_cursor){.row = cursor->row + 1};
            continue;
        }
        cursor->offset = row->bytes.size - rest.size;
        if (!settler_of(record.key) || wp_key_join(&ret_mention->key, machine->shard, record.key)) {
            return WP_E_CORRUPT;
        }
        if (record.key.data[0] == tag) {
            ret_mention->entry = row->entry;
            ret_mention->gone = record.gone;
            ret_mention->value = record.value;
            return 1;
        }
    }
    return 0;
}
