/* Loading a shard from the store: everything but bodies. Rows that are written behind are read under their
 * own keys and then as the journal tells them (router/journal.h).
 *
 * Rows of a lane are read from the head that its mailbox record names, so that a start does not walk over
 * what was deleted; how many must be there in the end is checked. */
#include "router/machine_inner.h"

#include <stdlib.h>

#include "base/error.h"
#include "router/wire.h"

/* What RecordMailbox says of a lane, kept until the rows are there. */
struct lane_expected {
    uint64_t head;
    uint64_t messages;
};

struct loader {
    struct wp_machine *machine;
    struct lane_expected *lanes; /* (mailbox - 1) * WP_SEQUENCE_COUNT + lane */
};

/* Takes a row read under its own key (`entry` 0) or from the journal row of `entry`. */
typedef int (*load_row)(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry);

static int load_range(
    struct loader *loader, const struct wp_key *from, const struct wp_key *to, load_row each)
{
    struct wp_state_iter *iter =
        wp_state_iter_create(loader->machine->store, wp_key_slice(from), wp_key_slice(to));
    if (!iter) {
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    for (; wp_state_iter_valid(iter) && !error; wp_state_iter_next(iter)) {
        wp_arena_reset(&loader->machine->arena);
        error = each(loader, wp_state_iter_key(iter), wp_state_iter_value(iter), 0);
    }
    error = error ? error : wp_state_iter_error(iter);
    wp_state_iter_destroy(&iter);
    return error;
}

static int load_tag(struct loader *loader, enum wp_key_tag tag, load_row each)
{
    struct wp_key from, to;
    wp_key_tag(&from, loader->machine->shard, tag);
    wp_key_tag(&to, loader->machine->shard, tag + 1);
    return load_range(loader, &from, &to, each);
}

#define DECODE(machine, name, value, record)                                                                 \
    wp_schema_decode(&wp__##name##__descriptor, value, &(machine)->arena, (ProtobufCMessage **)(record))

static int load_machine(struct wp_machine *machine)
{
    struct wp_key key;
    wp_key_tag(&key, machine->shard, WP_KEY_MACHINE);
    machine->scratch.size = 0;
    int error = wp_state_get(machine->store, wp_key_slice(&key), &machine->scratch);
    if (error) {
        return error == WP_E_NOT_FOUND ? WP_OK : error;
    }
    Wp__RecordMachine *record;
    if (DECODE(machine, record_machine, wp_slice(machine->scratch.data, machine->scratch.size), &record)) {
        return WP_E_CORRUPT;
    }
    machine->time_ms = record->time_ms;
    if (machine->body_last > record->last_body && WP_BUG != 49) {
        return WP_E_CORRUPT; /* a row names a body that was never given out */
    }
    machine->body_last = record->last_body;
    error = wp_seen_load_end(machine->seen, record->seen_floor_ms, record->seen_bucket);
    return error ? error : (machine->mailbox_count == record->last_mailbox ? WP_OK : WP_E_CORRUPT);
}

static int load_user(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    (void)entry; /* never written behind */
    struct wp_machine *machine = loader->machine;
    Wp__RecordUser *record;
    uint64_t number;
    if (wp_key_parse_mailbox(key, &number) || DECODE(machine, record_user, value, &record) ||
        number != machine->mailbox_count + 1u || !wp_address_valid(record->user)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox =
        wp_machine_mailbox_add(machine, wp_slice(record->user, strlen(record->user)));
    if (!mailbox) {
        return WP_E_NOMEM;
    }
    mailbox->created_ms = record->created_ms;
    mailbox->next_device = record->next_device;
    mailbox->epoch_floor = record->epoch_floor;
    return WP_OK;
}

static int load_device(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    (void)entry; /* never written behind */
    struct wp_machine *machine = loader->machine;
    Wp__RecordDevice *record;
    uint64_t number;
    uint32_t device_number;
    if (wp_key_parse_device(key, &number, &device_number) || DECODE(machine, record_device, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    if (!mailbox || record->number != device_number || record->secret_hash.len != WP_SECRET_HASH_SIZE ||
        mailbox->device_count == WP_DEVICES_MAX || device_number >= mailbox->next_device) {
        return WP_E_CORRUPT;
    }
    struct wp_device *device = wp_machine_device_add(machine, mailbox, record->device, device_number);
    if (!device) {
        return WP_E_NOMEM;
    }
    device->created_ms = record->created_ms;
    device->active_ms = record->active_ms;
    device->epoch = record->epoch;
    device->inbox_subscribed = record->inbox_subscribed;
    device->receipts_subscribed = record->receipts_subscribed;
    device->warned = record->warned;
    memcpy(device->secret_hash, record->secret_hash.data, WP_SECRET_HASH_SIZE);
    return WP_OK;
}

static int load_mailbox(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    Wp__RecordMailbox *record;
    uint64_t number;
    if (wp_key_parse_mailbox(key, &number) || DECODE(machine, record_mailbox, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    if (!mailbox || record->n_lanes != WP_SEQUENCE_COUNT) {
        return WP_E_CORRUPT;
    }
    mailbox->journal_entry = entry;
    for (uint32_t i = 0; i < WP_SEQUENCE_COUNT; i++) {
        mailbox->lanes[i].tail = record->lanes[i]->tail;
        loader->lanes[(number - 1) * WP_SEQUENCE_COUNT + i] =
            (struct lane_expected){.head = record->lanes[i]->head, .messages = record->lanes[i]->messages};
    }
    return WP_OK;
}

static int load_index(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    Wp__RecordIndex *record;
    uint64_t number, sequence;
    uint8_t lane_number;
    if (wp_key_parse_position(key, &number, &lane_number, &sequence) ||
        DECODE(machine, record_index, value, &record) ||
        (record->message_id.len != WP_UUID_SIZE && record->message_id.len != 0) ||
        (record->sender[0] && !wp_address_valid(record->sender))) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    if (!mailbox || lane_number >= WP_SEQUENCE_COUNT || sequence > mailbox->lanes[lane_number].tail) {
        return WP_E_CORRUPT;
    }
    struct wp_lane *lane = &mailbox->lanes[lane_number];
    uint32_t index = wp_lane_find(lane, sequence);
    struct wp_row row = index == WP_ROW_NONE ? (struct wp_row){0} : *wp_lane_row(lane, index);
    row.sequence = sequence;
    row.expires_ms = record->expires_ms;
    row.size = record->size;
    row.body = record->body;
    row.acknowledged = record->acknowledged;
    row.receipt_state = (uint8_t)record->receipt_state;
    row.receipt_error = (int16_t)record->receipt_error;
    if (record->sender[0]) {
        memcpy(row.id, record->message_id.data, record->message_id.len);
        row.sender = wp_intern_get(&machine->intern, wp_slice(record->sender, strlen(record->sender)));
        if (!row.sender) {
            return WP_E_NOMEM;
        }
    }
    row.stored |= entry == 0;
    row.journaled = entry != 0;
    row.journal_low = WP_ROW_JOURNAL_LOW(entry);
    if (index == WP_ROW_NONE) {
        return wp_lane_insert(lane, &row);
    }
    *wp_lane_row(lane, index) = row;
    return WP_OK;
}

/* A message that left after the journal mentioned it. */
static int load_index_gone(struct loader *loader, struct wp_slice key)
{
    uint64_t number, sequence;
    uint8_t lane_number;
    if (wp_key_parse_position(key, &number, &lane_number, &sequence)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(loader->machine, number);
    if (!mailbox || lane_number >= WP_SEQUENCE_COUNT) {
        return WP_E_CORRUPT;
    }
    uint32_t index = wp_lane_find(&mailbox->lanes[lane_number], sequence);
    if (index != WP_ROW_NONE) {
        wp_lane_erase(&mailbox->lanes[lane_number], index);
    }
    return WP_OK;
}

static int cursor_fill(struct wp_cursor *cursor, const Wp__RecordCursor *record)
{
    wp_cursor_fini(cursor);
    cursor->passed = record->passed;
    cursor->sent = record->sent;
    cursor->overdue = record->overdue;
    uint64_t last = 0;
    for (size_t i = 0; i < record->n_owed; i++) {
        struct wp_owed owed = {
            .sequence = record->owed[i]->sequence,
            .attempts = record->owed[i]->attempts,
            .set_aside = record->owed[i]->set_aside,
        };
        if (owed.sequence <= last || owed.sequence > cursor->passed) {
            return WP_E_CORRUPT;
        }
        last = owed.sequence;
        int error = wp_cursor_push(cursor, &owed);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

static int load_cursor(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    Wp__RecordCursor *record;
    uint64_t number;
    uint32_t device_number;
    uint8_t lane;
    if (wp_key_parse_cursor(key, &number, &device_number, &lane) ||
        DECODE(machine, record_cursor, value, &record) || lane >= WP_SEQUENCE_COUNT) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    struct wp_device *device = mailbox ? wp_mailbox_device(mailbox, device_number) : NULL;
    if (!device) {
        return entry && mailbox ? WP_OK : WP_E_CORRUPT; /* the journal may speak of a device removed since */
    }
    device->journal_entries[lane] = entry;
    return cursor_fill(&device->cursors[lane], record);
}

static int load_stream(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    Wp__RecordStream *record;
    struct wp_slice user, device;
    uint64_t hash;
    if (wp_key_parse_names(key, &user, &device) || DECODE(machine, record_stream, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_stream *stream = wp_streams_find(&machine->streams, user, device, &hash);
    if (!stream && !(stream = wp_streams_add(&machine->streams, user, device))) {
        return WP_E_NOMEM;
    }
    stream->epoch = record->epoch;
    stream->sequence = record->sequence;
    stream->journal_entry = entry;
    return WP_OK;
}

static int load_seen(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    (void)entry; /* never written behind */
    struct wp_machine *machine = loader->machine;
    Wp__RecordSeen *record;
    uint64_t bucket, accepted_by;
    if (wp_key_parse_pair(key, &bucket, &accepted_by) || DECODE(machine, record_seen, value, &record) ||
        record->ids.len % (8 + WP_UUID_SIZE) != 0) {
        return WP_E_CORRUPT;
    }
    for (size_t i = 0; i < record->ids.len; i += 8 + WP_UUID_SIZE) {
        const uint8_t *row = record->ids.data + i;
        int error = wp_seen_load(machine->seen, bucket, wp_get_u64be(row), row + 8, record->accepted_ms);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

static int load_rate(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    (void)entry; /* never written behind */
    struct wp_machine *machine = loader->machine;
    Wp__RecordRate *record;
    struct wp_slice user;
    if (wp_key_parse_name(key, &user) || DECODE(machine, record_rate, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_rate *rate = wp_rates_add(&machine->rates, user);
    if (!rate) {
        return WP_E_NOMEM;
    }
    rate->tokens = record->tokens;
    rate->time_ms = record->time_ms;
    return WP_OK;
}

static int load_team(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    (void)entry; /* never written behind */
    Wp__RecordTeam *record;
    struct wp_slice team;
    if (wp_key_parse_name(key, &team) || DECODE(loader->machine, record_team, value, &record)) {
        return WP_E_CORRUPT;
    }
    return wp_machine_team_load(loader->machine, team, record->epoch, record->created_ms);
}

static int load_member(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    (void)entry; /* never written behind */
    (void)value;
    struct wp_slice team, user;
    int error = wp_key_parse_names(key, &team, &user);
    return error ? error : wp_machine_member_load(loader->machine, team, user);
}

static int load_outbox(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    Wp__RecordOutbox *record;
    uint64_t shard;
    if (wp_key_parse_mailbox(key, &shard) || DECODE(machine, record_outbox, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, shard);
    if (!peer || record->watermark > record->last) {
        return WP_E_CORRUPT;
    }
    peer->last = record->last;
    peer->watermark = record->watermark;
    peer->journal_entry = entry;
    return WP_OK;
}

static uint32_t receipts_count(struct wp_slice item)
{
    uint32_t count = 0;
    struct wp_wire_field outer, inner;
    while (wp_wire_next(&item, &outer) == 1) {
        while (outer.number == 2 && wp_wire_next(&outer.bytes, &inner) == 1) {
            count++;
        }
    }
    return count;
}

static int load_item(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    uint64_t shard, sequence;
    if (wp_key_parse_pair(key, &shard, &sequence)) {
        return WP_E_CORRUPT;
    }
    struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, shard);
    if (!peer || sequence > peer->last) {
        return WP_E_CORRUPT;
    }
    if (sequence <= peer->watermark) {
        return entry ? WP_OK : WP_E_CORRUPT; /* the journal may speak of one that is at its destination */
    }
    struct wp_outbox_item *item;
    int error = wp_outbox_insert(&machine->outbox, peer, sequence, value, receipts_count(value), &item);
    if (!error) {
        item->journal_entry = entry;
        item->stored = entry == 0;
    }
    return error;
}

static int load_taken(struct loader *loader, struct wp_slice key, struct wp_slice value, uint64_t entry)
{
    struct wp_machine *machine = loader->machine;
    Wp__RecordWatermark *record;
    uint64_t shard;
    if (wp_key_parse_mailbox(key, &shard) || DECODE(machine, record_watermark, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_outbox_peer *peer = wp_outbox_peer(&machine->outbox, shard);
    if (!peer) {
        return WP_E_CORRUPT;
    }
    peer->taken = record->sequence;
    peer->taken_journal_entry = entry;
    return WP_OK;
}

static int outbox_finish(const struct wp_machine *machine)
{
    for (uint32_t i = 0; i < machine->outbox.peer_count; i++) {
        const struct wp_outbox_peer *peer = &machine->outbox.peers[i];
        if (peer->count != peer->last - peer->watermark) {
            return WP_E_CORRUPT;
        }
    }
    return WP_OK;
}

static int lane_finish(struct loader *loader, struct wp_mailbox *mailbox, uint32_t number)
{
    struct wp_machine *machine = loader->machine;
    const struct lane_expected *expected = &loader->lanes[(mailbox->number - 1) * WP_SEQUENCE_COUNT + number];
    const struct wp_lane *lane = &mailbox->lanes[number];
    if (lane->count != expected->messages || (expected->head && wp_lane_head(lane) != expected->head)) {
        return WP_E_CORRUPT;
    }
    for (uint32_t i = 0; i < lane->count; i++) {
        const struct wp_row *row = wp_lane_row(lane, i);
        struct wp_expiry_entry entry = {
            .expires_ms = row->expires_ms,
            .place = mailbox->number << 2 | number,
            .sequence_low = (uint32_t)row->sequence,
        };
        int error = wp_expiry_push(&machine->expiry, &entry);
        if (!error && row->body) {
            error = wp_machine_body_hold(machine, row->body);
            machine->body_last = row->body > machine->body_last ? row->body : machine->body_last;
        }
        if (error) {
            return error;
        }
        mailbox->bytes += row->size;
    }
    if (number == WP__LANE__RECEIPT) {
        machine->receipts += lane->count;
    } else {
        machine->messages += lane->count;
    }
    return WP_OK;
}

static int cursor_finish(struct wp_cursor *cursor, const struct wp_lane *lane)
{
    for (uint32_t i = 0; i < cursor->owed_count; i++) {
        if (wp_lane_find(lane, cursor->owed[i].sequence) == WP_ROW_NONE) {
            return WP_E_CORRUPT;
        }
    }
    wp_cursor_recount(cursor, lane);
    return WP_OK;
}

static int mailbox_finish(struct loader *loader, struct wp_mailbox *mailbox)
{
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        int error = lane_finish(loader, mailbox, lane);
        for (uint32_t d = 0; d < mailbox->device_count && !error; d++) {
            error = cursor_finish(&mailbox->devices[d]->cursors[lane], &mailbox->lanes[lane]);
        }
        if (error) {
            return error;
        }
    }
    loader->machine->bytes += mailbox->bytes;
    return WP_OK;
}

/* --- steps
 * ------------------------------------------------------------------------------------------------------- */

struct load_step {
    enum wp_key_tag tag;
    load_row each;
    bool behind; /* the journal knows newer ones */
};

static int replay(struct loader *loader, const struct load_step *step)
{
    struct wp_machine *machine = loader->machine;
    struct wp_journal_cursor cursor = {0};
    struct wp_journal_mention mention;
    int more;
    while ((more = wp_machine_journal_next(machine, step->tag, &cursor, &mention)) == 1) {
        wp_arena_reset(&machine->arena);
        struct wp_slice key = wp_key_slice(&mention.key);
        int error = mention.gone ? load_index_gone(loader, key)
                                 : step->each(loader, key, mention.value, mention.entry);
        if (error) {
            return error;
        }
    }
    return more;
}

static int load_step_run(struct loader *loader, const struct load_step *step)
{
    int error = load_tag(loader, step->tag, step->each);
    return error || !step->behind ? error : replay(loader, step);
}

/* Users and devices first: everything else refers to them. Mailboxes tell how far their lanes go. */
static const struct load_step people[] = {
    {WP_KEY_USER, load_user, false},
    {WP_KEY_DEVICE, load_device, false},
};
static const struct load_step rest[] = {
    {WP_KEY_MAILBOX, load_mailbox, true},
    {WP_KEY_INDEX, load_index, true},
    {WP_KEY_CURSOR, load_cursor, true},
    {WP_KEY_STREAM, load_stream, true},
    {WP_KEY_SEEN, load_seen, false},
    {WP_KEY_RATE, load_rate, false},
    {WP_KEY_TEAM, load_team, false},
    {WP_KEY_MEMBER, load_member, false},
    {WP_KEY_OUTBOX, load_outbox, true},
    {WP_KEY_ITEM, load_item, true},
    {WP_KEY_TAKEN, load_taken, true},
};

static int load_steps(struct loader *loader, const struct load_step *steps, size_t count)
{
    int error = WP_OK;
    for (size_t i = 0; i < count && !error; i++) {
        error = load_step_run(loader, &steps[i]);
    }
    return error;
}

int wp_machine_load(struct wp_machine *machine)
{
    struct loader loader = {.machine = machine};
    int error = wp_machine_journal_load(machine);
    error = error ? error : load_steps(&loader, people, sizeof people / sizeof people[0]);
    if (error) {
        return error;
    }
    loader.lanes = calloc((size_t)machine->mailbox_count * WP_SEQUENCE_COUNT + 1, sizeof *loader.lanes);
    if (!loader.lanes) {
        return WP_E_NOMEM;
    }
    error = load_steps(&loader, rest, sizeof rest / sizeof rest[0]);
    error = error ? error : outbox_finish(machine);
    for (uint32_t i = 0; i < machine->mailbox_count && !error; i++) {
        error = mailbox_finish(&loader, machine->mailboxes[i]);
    }
    free(loader.lanes);
    wp_arena_reset(&machine->arena);
    return error ? error : load_machine(machine);
}
