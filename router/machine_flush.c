/* Records of the state machine on their way into the batch of an entry, written by hand where every submit
 * passes (proto/record.proto decodes them all).
 *
 * A row that changes several times in an entry is marked and written once at the end; messages are put and
 * deleted at once. A position is never reused, so a delete can be held back behind later puts without harm.
 */
#include "router/machine_inner.h"

#include "base/error.h"
#include "router/wire.h"

#define RUN_RANGE_MIN 16u /* from so many neighbours on one range delete is cheaper to write and to skip */

void wp_machine_mailbox_dirty(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    if (!mailbox->dirty) {
        mailbox->dirty = true;
        mailbox->dirty_next = machine->dirty_mailboxes;
        machine->dirty_mailboxes = mailbox;
    }
}

void wp_machine_device_dirty(
    struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device, uint8_t what)
{
    device->dirty |= what;
    wp_machine_mailbox_dirty(machine, mailbox);
}

/* Room for a value of at most `size` bytes in the scratch buffer. */
static uint8_t *value_begin(struct wp_machine *machine, size_t size)
{
    machine->scratch.size = 0;
    return wp_buffer_reserve(&machine->scratch, size);
}

static int value_journal(struct wp_machine *machine, const struct wp_key *key, const uint8_t *end)
{
    const uint8_t *value = machine->scratch.data;
    return wp_machine_journal_put(machine, key, wp_slice(value, (size_t)(end - value)));
}

static void value_put(struct wp_machine *machine, const struct wp_key *key, const uint8_t *end)
{
    const uint8_t *value = machine->scratch.data;
    wp_state_put(machine->batch, wp_key_slice(key), wp_slice(value, (size_t)(end - value)));
}

int wp_machine_put_record(struct wp_machine *machine, const struct wp_key *key, uint64_t accepted_ms,
    uint64_t expires_ms, struct wp_slice envelope)
{
    uint8_t *p = value_begin(machine, 3 * WP_WIRE_FIELD_SIZE_MAX + envelope.size);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_u64(p, 1, accepted_ms);
    p = wp_wire_put_u64(p, 2, expires_ms);
    p = wp_wire_put_bytes_head(p, 3, envelope.size);
    memcpy(p, envelope.data, envelope.size);
    value_put(machine, key, p + envelope.size);
    return WP_OK;
}

static uint8_t *bytes_put(uint8_t *p, uint32_t field, struct wp_slice bytes)
{
    p = wp_wire_put_bytes_head(p, field, bytes.size);
    memcpy(p, bytes.data, bytes.size);
    return p + bytes.size;
}

struct wp_slice wp_machine_index_encode(
    const struct wp_machine *machine, const struct wp_row *row, uint8_t value[WP_INDEX_SIZE_MAX])
{
    uint8_t *p = wp_wire_put_u64(value, 1, row->expires_ms);
    p = wp_wire_put_u64(p, 2, row->size);
    p = wp_wire_put_u64(p, 3, row->acknowledged);
    if (row->sender) {
        p = bytes_put(p, 4, wp_slice(row->id, WP_UUID_SIZE));
        p = bytes_put(p, 5, wp_intern_name(&machine->intern, row->sender));
    }
    p = wp_wire_put_u64(p, 6, row->receipt_state);
    p = wp_wire_put_i32(p, 7, row->receipt_error);
    p = wp_wire_put_u64(p, 8, row->body);
    return wp_slice(value, (size_t)(p - value));
}

int wp_machine_put_index(
    struct wp_machine *machine, const struct wp_mailbox *mailbox, uint32_t lane, struct wp_row *row)
{
    row->journaled = 1;
    row->journal_low = WP_ROW_JOURNAL_LOW(machine->entry_index);
    uint8_t value[WP_INDEX_SIZE_MAX];
    struct wp_key key;
    wp_key_position(&key, machine->shard, WP_KEY_INDEX, mailbox->number, (uint8_t)lane, row->sequence);
    return wp_machine_journal_put(machine, &key, wp_machine_index_encode(machine, row, value));
}

int wp_machine_put_rate(struct wp_machine *machine, const struct wp_rate *rate)
{
    uint8_t *p = value_begin(machine, 2 * WP_WIRE_FIELD_SIZE_MAX);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_u64(p, 1, rate->tokens);
    p = wp_wire_put_u64(p, 2, rate->time_ms);
    struct wp_key key;
    wp_key_name(&key, machine->shard, WP_KEY_RATE, wp_slice(rate->key, rate->key_size));
    value_put(machine, &key, p);
    return WP_OK;
}

static int put_seen_row(struct wp_machine *machine)
{
    struct wp_buffer *ids = &machine->seen_ids;
    if (ids->size == 0) {
        return WP_OK;
    }
    uint8_t *p = value_begin(machine, 2 * WP_WIRE_FIELD_SIZE_MAX + ids->size);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_u64(p, 1, machine->time_ms);
    p = wp_wire_put_bytes_head(p, 2, ids->size);
    memcpy(p, ids->data, ids->size);
    struct wp_key key;
    wp_key_pair(&key, machine->shard, WP_KEY_SEEN, machine->seen_bucket, machine->entry_index);
    if (WP_BUG != 30) { /* duplicate window not persisted */
        value_put(machine, &key, p + ids->size);
    }
    ids->size = 0;
    return WP_OK;
}

int wp_machine_put_seen(
    struct wp_machine *machine, uint64_t bucket, uint64_t sender, const uint8_t id[WP_UUID_SIZE])
{
    if (bucket != machine->seen_bucket) {
        int error = put_seen_row(machine);
        if (error) {
            return error;
        }
        machine->seen_bucket = bucket;
    }
    uint8_t row[8 + WP_UUID_SIZE];
    wp_put_u64be(row, sender);
    memcpy(row + 8, id, WP_UUID_SIZE);
    return wp_buffer_append(&machine->seen_ids, row, sizeof row);
}

static void run_flush_tag(struct wp_machine *machine, const struct wp_delete_run *run, enum wp_key_tag tag)
{
    struct wp_key from, to;
    if (run->to - run->from + 1 >= RUN_RANGE_MIN) {
        wp_key_position(&from, machine->shard, tag, run->mailbox->number, (uint8_t)run->lane, run->from);
        wp_key_position(&to, machine->shard, tag, run->mailbox->number, (uint8_t)run->lane, run->to + 1);
        wp_state_delete_range(machine->batch, wp_key_slice(&from), wp_key_slice(&to));
        return;
    }
    for (uint64_t sequence = run->from; sequence <= run->to; sequence++) {
        wp_key_position(&from, machine->shard, tag, run->mailbox->number, (uint8_t)run->lane, sequence);
        wp_state_delete(machine->batch, wp_key_slice(&from));
    }
}

static void run_flush(struct wp_machine *machine)
{
    const struct wp_delete_run run = machine->run;
    if (!run.mailbox) {
        return;
    }
    machine->run.mailbox = NULL;
    if (run.records) {
        run_flush_tag(machine, &run, WP_KEY_MESSAGE);
    }
    if (run.stored) {
        run_flush_tag(machine, &run, WP_KEY_INDEX);
    }
}

void wp_machine_delete_message(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, const struct wp_row *row)
{
    if (row->journaled && WP_BUG != 37) { /* 37: the journal forgets that a message left */
        struct wp_key key;
        wp_key_position(&key, machine->shard, WP_KEY_INDEX, mailbox->number, (uint8_t)lane, row->sequence);
        wp_machine_journal_gone(machine, &key);
    }
    bool records = lane != WP__LANE__RECEIPT && !row->body;
    if (row->body) {
        wp_machine_body_release(machine, row->body);
    }
    if (!records && !row->stored) {
        return; /* nothing of its own is in the store */
    }
    struct wp_delete_run *run = &machine->run;
    if (run->mailbox == mailbox && run->lane == lane && run->stored == row->stored &&
        run->records == records && run->to + 1 == row->sequence) {
        run->to = row->sequence;
        return;
    }
    run_flush(machine);
    *run = (struct wp_delete_run){.mailbox = mailbox,
        .lane = lane,
        .stored = row->stored,
        .records = records,
        .from = row->sequence,
        .to = row->sequence};
}

int wp_machine_put_packed(
    struct wp_machine *machine, const struct wp_key *key, const ProtobufCMessage *message)
{
    uint8_t *p = value_begin(machine, protobuf_c_message_get_packed_size(message));
    if (!p) {
        return WP_E_NOMEM;
    }
    value_put(machine, key, p + protobuf_c_message_pack(message, p));
    return WP_OK;
}

static int put_user(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    Wp__RecordUser record = WP__RECORD_USER__INIT;
    record.user = mailbox->user;
    record.mailbox = mailbox->number;
    record.created_ms = mailbox->created_ms;
    record.next_device = mailbox->next_device;
    record.epoch_floor = mailbox->epoch_floor;
    struct wp_key key;
    wp_key_mailbox(&key, machine->shard, WP_KEY_USER, mailbox->number);
    return wp_machine_put_packed(machine, &key, &record.base);
}

static int put_device(struct wp_machine *machine, const struct wp_mailbox *mailbox, struct wp_device *device)
{
    Wp__RecordDevice record = WP__RECORD_DEVICE__INIT;
    record.device = device->name;
    record.number = device->number;
    record.created_ms = device->created_ms;
    record.secret_hash = (ProtobufCBinaryData){.len = WP_SECRET_HASH_SIZE, .data = device->secret_hash};
    record.epoch = device->epoch;
    record.inbox_subscribed = device->inbox_subscribed;
    record.active_ms = device->active_ms;
    record.receipts_subscribed = device->receipts_subscribed;
    record.warned = device->warned;
    struct wp_key key;
    wp_key_device(&key, machine->shard, mailbox->number, device->number);
    return wp_machine_put_packed(machine, &key, &record.base);
}

/* RecordMailbox: four RecordLane, each at most 33 bytes, so that its size takes one byte. */
static int put_mailbox(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    uint8_t *p = value_begin(machine, WP_SEQUENCE_COUNT * (2 + 3 * WP_WIRE_FIELD_SIZE_MAX));
    if (!p) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < WP_SEQUENCE_COUNT; i++) {
        const struct wp_lane *lane = &mailbox->lanes[i];
        uint8_t *head = p;
        p = wp_wire_put_u64(p + 2, 1, wp_lane_head(lane));
        p = wp_wire_put_u64(p, 2, lane->tail);
        p = wp_wire_put_u64(p, 3, lane->count);
        wp_wire_put_bytes_head(head, 1, (uint64_t)(p - head - 2));
    }
    struct wp_key key;
    wp_key_mailbox(&key, machine->shard, WP_KEY_MAILBOX, mailbox->number);
    mailbox->journal_entry = machine->entry_index;
    return value_journal(machine, &key, p);
}

static int put_cursor(
    struct wp_machine *machine, const struct wp_mailbox *mailbox, struct wp_device *device, uint32_t lane)
{
    const struct wp_cursor *cursor = &device->cursors[lane];
    size_t owed_size_max = 2 + 3 * WP_WIRE_FIELD_SIZE_MAX;
    uint8_t *p = value_begin(machine, 3 * WP_WIRE_FIELD_SIZE_MAX + cursor->owed_count * owed_size_max);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_u64(p, 1, cursor->passed);
    p = wp_wire_put_u64(p, 2, cursor->sent);
    p = wp_wire_put_u64(p, 3, cursor->overdue);
    for (uint32_t i = 0; i < cursor->owed_count; i++) {
        const struct wp_owed *owed = &cursor->owed[i];
        uint8_t *head = p;
        p = wp_wire_put_u64(p + 2, 1, owed->sequence);
        p = wp_wire_put_u64(p, 2, owed->attempts);
        p = wp_wire_put_u64(p, 3, owed->set_aside);
        wp_wire_put_bytes_head(head, 4, (uint64_t)(p - head - 2));
    }
    struct wp_key key;
    wp_key_cursor(&key, machine->shard, mailbox->number, device->number, (uint8_t)lane);
    device->journal_entries[lane] = machine->entry_index;
    return value_journal(machine, &key, p);
}

static int device_flush(struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device)
{
    int error = device->dirty & WP_DEVICE_DIRTY_RECORD ? put_device(machine, mailbox, device) : WP_OK;
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT && !error; lane++) {
        if (device->dirty & WP_DEVICE_DIRTY_CURSOR(lane)) {
            error = put_cursor(machine, mailbox, device, lane);
        }
    }
    device->dirty = 0;
    return error;
}

static int mailbox_flush(struct wp_machine *machine, struct wp_mailbox *mailbox)
{
    int error = mailbox->dirty_user ? put_user(machine, mailbox) : WP_OK;
    if (!error && mailbox->dirty_record) {
        error = put_mailbox(machine, mailbox);
    }
    for (uint32_t i = 0; i < mailbox->device_count && !error; i++) {
        if (mailbox->devices[i]->dirty) {
            error = device_flush(machine, mailbox, mailbox->devices[i]);
        }
    }
    mailbox->dirty = false;
    mailbox->dirty_user = false;
    mailbox->dirty_record = false;
    return error;
}

static int put_stream(struct wp_machine *machine, struct wp_stream *stream)
{
    uint8_t *p = value_begin(machine, 2 * WP_WIRE_FIELD_SIZE_MAX);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_u64(p, 1, stream->epoch);
    p = wp_wire_put_u64(p, 2, stream->sequence);
    struct wp_slice user = wp_slice(stream->key, stream->user_size);
    struct wp_slice device =
        wp_slice(stream->key + stream->user_size + 1, (size_t)stream->key_size - stream->user_size - 1);
    struct wp_key key;
    wp_key_names(&key, machine->shard, WP_KEY_STREAM, user, device);
    stream->journal_entry = machine->entry_index;
    return value_journal(machine, &key, p);
}

static int streams_flush(struct wp_machine *machine)
{
    struct wp_buffer *list = &machine->dirty_streams;
    int error = WP_OK;
    for (size_t i = 0; i < list->size && !error; i += sizeof(struct wp_stream *)) {
        struct wp_stream *stream;
        memcpy(&stream, list->data + i, sizeof stream);
        stream->dirty = false;
        error = put_stream(machine, stream);
    }
    list->size = 0;
    return error;
}

static int put_machine(struct wp_machine *machine)
{
    uint8_t *p = value_begin(machine, 5 * WP_WIRE_FIELD_SIZE_MAX);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_u64(p, 1, machine->time_ms);
    p = wp_wire_put_u64(p, 2, machine->mailbox_count);
    p = wp_wire_put_u64(p, 3, wp_seen_floor_ms(machine->seen));
    p = wp_wire_put_u64(p, 4, wp_seen_last_bucket(machine->seen));
    p = wp_wire_put_u64(p, 5, WP_BUG == 49 ? 0 : machine->body_last); /* 49: numbers are given out again */
    struct wp_key key;
    wp_key_tag(&key, machine->shard, WP_KEY_MACHINE);
    value_put(machine, &key, p);
    return WP_OK;
}

int wp_machine_flush(struct wp_machine *machine)
{
    run_flush(machine);
    int error = put_seen_row(machine);
    while (machine->dirty_mailboxes && !error) {
        struct wp_mailbox *mailbox = machine->dirty_mailboxes;
        machine->dirty_mailboxes = mailbox->dirty_next;
        error = mailbox_flush(machine, mailbox);
    }
    if (!error) {
        error = streams_flush(machine);
    }
    if (!error) {
        error = wp_machine_outbox_flush(machine);
    }
    if (!error) {
        error = put_machine(machine);
    }
    return error ? error : wp_machine_journal_close(machine);
}
