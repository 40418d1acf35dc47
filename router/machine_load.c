/* Loading a shard from the store: everything but bodies. Order matters: users, then devices, then mailboxes
 * with their index rows, then cursors, whose counts need the rows.
 *
 * Rows of a lane are read from the head that its mailbox record names, so that a start does not walk over
 * what was deleted; how many must be there is checked. */
#include "router/machine_inner.h"

#include "base/error.h"

typedef int (*load_row)(struct wp_machine *machine, struct wp_slice key, struct wp_slice value);

static int load_range(
    struct wp_machine *machine, const struct wp_key *from, const struct wp_key *to, load_row each)
{
    struct wp_state_iter *iter = wp_state_iter_create(machine->store, wp_key_slice(from), wp_key_slice(to));
    if (!iter) {
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    for (; wp_state_iter_valid(iter) && !error; wp_state_iter_next(iter)) {
        wp_arena_reset(&machine->arena);
        error = each(machine, wp_state_iter_key(iter), wp_state_iter_value(iter));
    }
    error = error ? error : wp_state_iter_error(iter);
    wp_state_iter_destroy(&iter);
    return error;
}

static int load_tag(struct wp_machine *machine, enum wp_key_tag tag, load_row each)
{
    struct wp_key from, to;
    wp_key_tag(&from, machine->shard, tag);
    wp_key_tag(&to, machine->shard, tag + 1);
    return load_range(machine, &from, &to, each);
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
    error = wp_seen_load_end(machine->seen, record->seen_floor_ms, record->seen_bucket);
    return error ? error : (machine->mailbox_count == record->last_mailbox ? WP_OK : WP_E_CORRUPT);
}

static int load_user(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
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

static int load_device(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
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
    memcpy(device->secret_hash, record->secret_hash.data, WP_SECRET_HASH_SIZE);
    return WP_OK;
}

static int load_index(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    Wp__RecordIndex *record;
    uint64_t number, sequence;
    uint8_t lane_number;
    if (wp_key_parse_position(key, &number, &lane_number, &sequence) ||
        DECODE(machine, record_index, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    if (!mailbox || lane_number >= WP_LANE_COUNT || sequence > mailbox->lanes[lane_number].tail) {
        return WP_E_CORRUPT;
    }
    struct wp_row row = {
        .sequence = sequence,
        .expires_ms = record->expires_ms,
        .size = record->size,
        .acknowledged = record->acknowledged,
    };
    struct wp_expiry_entry entry = {
        .expires_ms = row.expires_ms,
        .place = mailbox->number << 2 | lane_number,
        .sequence_low = (uint32_t)sequence,
    };
    int error = wp_lane_append(&mailbox->lanes[lane_number], &row);
    error = error ? error : wp_expiry_push(&machine->expiry, &entry);
    mailbox->bytes += row.size;
    machine->bytes += row.size;
    machine->messages++;
    return error;
}

static int load_lane(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t number, const Wp__RecordLane *record)
{
    struct wp_lane *lane = &mailbox->lanes[number];
    lane->tail = record->tail;
    if (record->messages == 0) {
        return record->head == record->tail + 1 ? WP_OK : WP_E_CORRUPT;
    }
    struct wp_key from, to;
    wp_key_position(&from, machine->shard, WP_KEY_INDEX, mailbox->number, (uint8_t)number, record->head);
    wp_key_position(&to, machine->shard, WP_KEY_INDEX, mailbox->number, (uint8_t)number, record->tail + 1);
    int error = load_range(machine, &from, &to, load_index);
    if (error) {
        return error;
    }
    return lane->count == record->messages && wp_lane_head(lane) == record->head ? WP_OK : WP_E_CORRUPT;
}

static int load_mailbox(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    Wp__RecordMailbox *record;
    uint64_t number;
    if (wp_key_parse_mailbox(key, &number) || DECODE(machine, record_mailbox, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    if (!mailbox || record->n_lanes != WP_LANE_COUNT) {
        return WP_E_CORRUPT;
    }
    Wp__RecordLane lanes[WP_LANE_COUNT]; /* load_lane resets the arena */
    for (uint32_t i = 0; i < WP_LANE_COUNT; i++) {
        lanes[i] = *record->lanes[i];
    }
    int error = WP_OK;
    for (uint32_t i = 0; i < WP_LANE_COUNT && !error; i++) {
        error = load_lane(machine, mailbox, i, &lanes[i]);
    }
    return error;
}

static int cursor_fill(struct wp_cursor *cursor, const struct wp_lane *lane, const Wp__RecordCursor *record)
{
    cursor->passed = record->passed;
    cursor->sent = record->sent;
    cursor->sent_now = record->sent_now;
    uint64_t last = 0;
    for (size_t i = 0; i < record->n_owed; i++) {
        struct wp_owed owed = {
            .sequence = record->owed[i]->sequence,
            .attempts = record->owed[i]->attempts,
            .set_aside = record->owed[i]->set_aside,
        };
        if (owed.sequence <= last || owed.sequence > cursor->passed ||
            wp_lane_find(lane, owed.sequence) == WP_ROW_NONE) {
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

static int load_cursor(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    Wp__RecordCursor *record;
    uint64_t number;
    uint32_t device_number;
    uint8_t lane_number;
    if (wp_key_parse_cursor(key, &number, &device_number, &lane_number) ||
        DECODE(machine, record_cursor, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_mailbox *mailbox = wp_machine_mailbox(machine, number);
    struct wp_device *device = mailbox ? wp_mailbox_device(mailbox, device_number) : NULL;
    if (!device || lane_number >= WP_LANE_COUNT) {
        return WP_E_CORRUPT;
    }
    return cursor_fill(&device->cursors[lane_number], &mailbox->lanes[lane_number], record);
}

static int load_stream(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    Wp__RecordStream *record;
    struct wp_slice user, device;
    if (wp_key_parse_stream(key, &user, &device) || DECODE(machine, record_stream, value, &record)) {
        return WP_E_CORRUPT;
    }
    struct wp_stream *stream = wp_streams_add(&machine->streams, user, device);
    if (!stream) {
        return WP_E_NOMEM;
    }
    stream->epoch = record->epoch;
    stream->sequence = record->sequence;
    return WP_OK;
}

static int load_seen(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    Wp__RecordSeen *record;
    uint64_t bucket, entry;
    if (wp_key_parse_seen(key, &bucket, &entry) || DECODE(machine, record_seen, value, &record) ||
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

static int load_rate(struct wp_machine *machine, struct wp_slice key, struct wp_slice value)
{
    Wp__RecordRate *record;
    struct wp_slice user;
    if (wp_key_parse_rate(key, &user) || DECODE(machine, record_rate, value, &record)) {
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

static void recount(struct wp_machine *machine)
{
    for (uint32_t i = 0; i < machine->mailbox_count; i++) {
        struct wp_mailbox *mailbox = machine->mailboxes[i];
        for (uint32_t d = 0; d < mailbox->device_count; d++) {
            for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
                wp_cursor_recount(&mailbox->devices[d]->cursors[lane], &mailbox->lanes[lane]);
            }
        }
    }
}

int wp_machine_load(struct wp_machine *machine)
{
    static const struct {
        enum wp_key_tag tag;
        load_row each;
    } steps[] = {
        {WP_KEY_USER, load_user},
        {WP_KEY_DEVICE, load_device},
        {WP_KEY_MAILBOX, load_mailbox},
        {WP_KEY_CURSOR, load_cursor},
        {WP_KEY_STREAM, load_stream},
        {WP_KEY_SEEN, load_seen},
        {WP_KEY_RATE, load_rate},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int error = load_tag(machine, steps[i].tag, steps[i].each);
        if (error) {
            return error;
        }
    }
    int error = load_machine(machine);
    recount(machine);
    wp_arena_reset(&machine->arena);
    return error;
}
