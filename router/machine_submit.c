/* SUBMIT: one message into one mailbox, or the reason why not.
 *
 * The checks stand in the order in which they are decided; the first that fails is the answer. A refusal
 * after the stream check has consumed the submit's sequence, so the sender's later submits go on.
 *
 * The envelope is read in place: its header and key parts are decoded, its body is only measured and then
 * copied once into the record. */
#include "router/machine_inner.h"

#include "base/error.h"
#include "router/wire.h"

#define HEADER_SIZE_MAX (16u * 1024) /* names, 4 KiB of properties and what their framing takes */
#define KEY_PART_COUNT_MAX 64u
#define KEY_PART_SIZE_MAX 1024u /* with its device name */

struct submit {
    struct wp_slice user;
    struct wp_slice device;
    uint64_t epoch;
    uint64_t sequence;
    struct wp_slice packed;
    Wp__Envelope envelope; /* without the body */
    uint64_t body_size;
    const uint8_t *id; /* 16 bytes; NULL when the envelope cannot be read */
    int envelope_error;
    uint64_t sender; /* hash of user and device */
    struct wp_stream *stream;
    struct wp_mailbox *mailbox;
    uint64_t expires_ms;
};

/* Anything that the leader's own encoder cannot have written is WP_E_CORRUPT. */
static int command_read(struct wp_slice payload, struct submit *submit)
{
    struct wp_wire_field field;
    int more;
    while ((more = wp_wire_next(&payload, &field)) == 1) {
        static const enum wp_wire_type types[] = {
            WP_WIRE_BYTES, WP_WIRE_BYTES, WP_WIRE_VARINT, WP_WIRE_VARINT, WP_WIRE_BYTES};
        if (field.number > 5) {
            continue;
        }
        if (field.type != types[field.number - 1]) {
            return WP_E_CORRUPT;
        }
        switch (field.number) {
        case 1:
            submit->user = field.bytes;
            break;
        case 2:
            submit->device = field.bytes;
            break;
        case 3:
            submit->epoch = field.value;
            break;
        case 4:
            submit->sequence = field.value;
            break;
        default:
            submit->packed = field.bytes;
            break;
        }
    }
    return more ? WP_E_CORRUPT : WP_OK;
}

static int header_read(struct wp_machine *machine, struct wp_slice bytes, Wp__Envelope *envelope)
{
    if (envelope->header || bytes.size > HEADER_SIZE_MAX) {
        return WP_E_MALFORMED;
    }
    return wp_schema_decode(
        &wp__header__descriptor, bytes, &machine->arena, (ProtobufCMessage **)&envelope->header);
}

static int key_part_read(struct wp_machine *machine, struct wp_slice bytes, Wp__Envelope *envelope)
{
    if (envelope->n_key_parts == KEY_PART_COUNT_MAX || bytes.size > KEY_PART_SIZE_MAX) {
        return WP_E_MALFORMED;
    }
    if (!envelope->key_parts) {
        envelope->key_parts = wp_arena_alloc(&machine->arena, KEY_PART_COUNT_MAX * sizeof(Wp__KeyPart *));
        if (!envelope->key_parts) {
            return WP_E_MALFORMED;
        }
    }
    ProtobufCMessage **place = (ProtobufCMessage **)&envelope->key_parts[envelope->n_key_parts];
    int error = wp_schema_decode(&wp__key_part__descriptor, bytes, &machine->arena, place);
    envelope->n_key_parts += !error;
    return error;
}

/* The fields of the envelope without a copy of its body. A second header or body, which protobuf would merge
 * or let win, is refused: no encoder of ours writes one. */
static int envelope_read(struct wp_machine *machine, struct submit *submit)
{
    Wp__Envelope *envelope = &submit->envelope;
    *envelope = (Wp__Envelope)WP__ENVELOPE__INIT;
    struct wp_slice rest = submit->packed;
    struct wp_wire_field field;
    bool has_body = false;
    int more;
    while ((more = wp_wire_next(&rest, &field)) == 1) {
        int error = WP_OK;
        if (field.number <= 3 && field.type != WP_WIRE_BYTES) {
            return WP_E_MALFORMED;
        }
        if (field.number == 1) {
            error = header_read(machine, field.bytes, envelope);
        } else if (field.number == 2) {
            error = key_part_read(machine, field.bytes, envelope);
        } else if (field.number == 3) {
            error = has_body ? WP_E_MALFORMED : WP_OK;
            has_body = true;
            submit->body_size = field.bytes.size;
        }
        if (error) {
            return error;
        }
    }
    return more ? WP_E_MALFORMED : wp_envelope_check(envelope);
}

static bool text_equal(const char *text, struct wp_slice bytes)
{
    return strlen(text) == bytes.size && memcmp(text, bytes.data, bytes.size) == 0;
}

static void envelope_open(struct wp_machine *machine, struct submit *submit)
{
    submit->envelope_error = envelope_read(machine, submit);
    const Wp__Header *header = submit->envelope.header;
    if (header && header->message_id.len == WP_UUID_SIZE) {
        submit->id = header->message_id.data;
    }
    if (submit->envelope_error) {
        return;
    }
    if (!text_equal(header->sender, submit->user) || !text_equal(header->sender_device, submit->device) ||
        !wp_uuid7_valid(submit->id)) {
        submit->envelope_error = WP_E_MALFORMED;
    }
}

/* --- checks: WP_OK or the refusal
 * ------------------------------------------------------------------------------ */

static int check_envelope(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    (void)machine;
    (void)result;
    return submit->envelope_error;
}

static int check_body(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    (void)result;
    return submit->body_size <= machine->limits.body_bytes_max ? WP_OK : WP_E_BODY_TOO_LARGE;
}

static int check_recipient(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    (void)result;
    const char *recipient = submit->envelope.header->recipient;
    submit->mailbox = wp_machine_user(machine, wp_slice(recipient, strlen(recipient)));
    return submit->mailbox ? WP_OK : WP_E_UNKNOWN_RECIPIENT;
}

static int check_ttl(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    (void)result;
    uint64_t ttl_ms = submit->envelope.header->ttl_ms;
    ttl_ms = ttl_ms ? ttl_ms : machine->limits.ttl_default_ms;
    submit->expires_ms = machine->time_ms + ttl_ms;
    return ttl_ms <= machine->limits.ttl_max_ms ? WP_OK : WP_E_EXPIRY_TOO_LONG;
}

static bool is_duplicate(struct wp_machine *machine, const struct submit *submit, struct wp_result *result)
{
    uint64_t accepted_ms;
    if (!submit->id || !wp_seen_find(machine->seen, submit->sender, submit->id, &accepted_ms)) {
        return false;
    }
    result->submit.duplicate = true;
    result->submit.accepted_ms = accepted_ms;
    return true;
}

static int check_id_time(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    if (is_duplicate(machine, submit, result)) {
        return WP_OK;
    }
    uint64_t made_ms = wp_uuid7_time_ms(submit->id);
    if (made_ms < wp_seen_oldest_ms(machine->seen, machine->time_ms)) {
        return WP_E_ID_TOO_OLD;
    }
    return made_ms <= machine->time_ms + WP_SEEN_AHEAD_MAX_MS ? WP_OK : WP_E_ID_IN_FUTURE;
}

static int check_seen_room(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    (void)submit;
    return result->submit.duplicate || wp_seen_has_room(machine->seen, machine->time_ms) ? WP_OK
                                                                                         : WP_E_SEEN_FULL;
}

static bool is_limited(const struct wp_machine *machine, const struct submit *submit)
{
    return submit->envelope.header->lane == WP__LANE__STAT && machine->limits.stat_per_minute_max > 0;
}

static int check_rate(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    if (result->submit.duplicate || !is_limited(machine, submit)) {
        return WP_OK;
    }
    const struct wp_rate *rate = wp_rates_find(&machine->rates, submit->user);
    uint64_t tokens = wp_rate_tokens(rate, machine->limits.stat_per_minute_max, machine->time_ms);
    return tokens >= WP_RATE_TOKEN ? WP_OK : WP_E_RATE;
}

static int check_mailbox(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    if (result->submit.duplicate) {
        return WP_OK;
    }
    wp_mailbox_touch(machine, submit->mailbox);
    const struct wp_lane *lane = &submit->mailbox->lanes[submit->envelope.header->lane];
    uint64_t messages, bytes;
    wp_mailbox_backlog(submit->mailbox, &messages, &bytes);
    bool room = messages < machine->limits.mailbox_messages_max &&
                bytes + submit->packed.size <= machine->limits.mailbox_bytes_max &&
                lane->tail + 1 - wp_lane_head(lane) < UINT32_MAX;
    return room ? WP_OK : WP_E_MAILBOX_FULL;
}

typedef int (*submit_check)(struct wp_machine *machine, struct submit *submit, struct wp_result *result);

static const submit_check checks[] = {
    check_envelope,
    check_body,
    check_recipient,
    check_ttl,
    check_id_time,
    check_seen_room,
    check_rate,
    check_mailbox,
};

static int submit_check_all(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        int error = checks[i](machine, submit, result);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

/* --- acceptance
 * -------------------------------------------------------------------------------------------------- */

static void seen_bucket_delete(struct wp_machine *machine, uint64_t bucket)
{
    struct wp_key from, to;
    wp_key_seen(&from, machine->shard, bucket, 0);
    wp_key_seen(&to, machine->shard, bucket + 1, 0);
    wp_state_delete_range(machine->batch, wp_key_slice(&from), wp_key_slice(&to));
}

void wp_machine_seen_drop(struct wp_machine *machine, bool want_room)
{
    uint64_t bucket;
    while (wp_seen_drop_due(machine->seen, machine->time_ms, want_room, &bucket)) {
        seen_bucket_delete(machine, bucket);
    }
}

static int seen_add(struct wp_machine *machine, const struct submit *submit)
{
    wp_machine_seen_drop(machine, true);
    uint64_t bucket;
    int error = wp_seen_insert(machine->seen, submit->sender, submit->id, machine->time_ms, &bucket);
    return error ? error : wp_machine_put_seen(machine, bucket, submit->sender, submit->id);
}

static int rate_take(struct wp_machine *machine, const struct submit *submit)
{
    if (!is_limited(machine, submit)) {
        return WP_OK;
    }
    struct wp_rate *rate = wp_rates_find(&machine->rates, submit->user);
    uint64_t tokens = wp_rate_tokens(rate, machine->limits.stat_per_minute_max, machine->time_ms);
    if (!rate && !(rate = wp_rates_add(&machine->rates, submit->user))) {
        return WP_E_NOMEM;
    }
    rate->tokens = tokens - WP_RATE_TOKEN;
    rate->time_ms = machine->time_ms;
    return wp_machine_put_rate(machine, rate);
}

static int row_append(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, const struct wp_row *row)
{
    int error = wp_lane_append(&mailbox->lanes[lane], row);
    if (error) {
        return error;
    }
    mailbox->lanes[lane].tail = row->sequence;
    for (uint32_t i = 0; i < mailbox->device_count; i++) {
        wp_cursor_appended(&mailbox->devices[i]->cursors[lane], row);
    }
    mailbox->bytes += row->size;
    machine->bytes += row->size;
    machine->messages++;
    mailbox->dirty_record = true;
    wp_machine_mailbox_dirty(machine, mailbox);
    struct wp_expiry_entry entry = {
        .expires_ms = row->expires_ms,
        .place = mailbox->number << 2 | lane,
        .sequence_low = (uint32_t)row->sequence,
    };
    return wp_expiry_push(&machine->expiry, &entry);
}

static int message_append(struct wp_machine *machine, const struct submit *submit, struct wp_result *result)
{
    struct wp_mailbox *mailbox = submit->mailbox;
    uint32_t lane = submit->envelope.header->lane;
    struct wp_row row = {
        .sequence = mailbox->lanes[lane].tail + 1,
        .expires_ms = submit->expires_ms,
        .size = (uint32_t)submit->packed.size,
    };
    int error = row_append(machine, mailbox, lane, &row);
    error = error ? error : wp_machine_put_message(machine, mailbox, lane, &row, submit->packed);
    if (error) {
        return error;
    }
    struct wp_row *kept = wp_lane_row(&mailbox->lanes[lane], mailbox->lanes[lane].count - 1);
    result->submit.accepted_ms = machine->time_ms;
    result->submit.expires_ms = row.expires_ms;
    result->submit.mailbox = mailbox->number;
    result->submit.lane = (Wp__Lane)lane;
    result->submit.sequence = row.sequence;
    result->submit.envelope = submit->packed;
    error = wp_machine_put_index(machine, mailbox, lane, kept);
    return error ? error : wp_mailbox_trim(machine, mailbox);
}

static int submit_accept(struct wp_machine *machine, const struct submit *submit, struct wp_result *result)
{
    int error = seen_add(machine, submit);
    error = error ? error : rate_take(machine, submit);
    return error ? error : message_append(machine, submit, result);
}

/* --- stream
 * ------------------------------------------------------------------------------------------------------ */

static int stream_consume(struct wp_machine *machine, struct submit *submit)
{
    struct wp_stream *stream = submit->stream;
    if (!stream) {
        stream = wp_streams_add(&machine->streams, submit->user, submit->device);
        if (!stream) {
            return WP_E_NOMEM;
        }
    }
    stream->epoch = submit->epoch;
    stream->sequence = submit->sequence;
    if (stream->dirty) {
        return WP_OK;
    }
    stream->dirty = true;
    return wp_buffer_append(&machine->dirty_streams, &stream, sizeof stream);
}

/* Whether the submit goes on; otherwise *result says why not. */
static bool stream_admit(struct wp_machine *machine, const struct submit *submit, struct wp_result *result)
{
    uint64_t expected = 0;
    enum wp_stream_verdict verdict =
        wp_stream_judge(submit->stream, submit->epoch, submit->sequence, &expected);
    if (verdict == WP_STREAM_NEXT) {
        return true;
    }
    if (verdict == WP_STREAM_STALE) {
        result->error = WP_E_STALE_EPOCH;
    } else if (verdict == WP_STREAM_GAP) {
        result->error = WP_E_RESEND;
        result->submit.resend_from = expected;
    } else if (!is_duplicate(machine, submit, result)) {
        /* Its number was consumed by a refusal whose answer was lost. Under a new number it would come after
         * its successors; so the sender hears that the outcome is unknown and decides. */
        result->error = WP_E_TIMEOUT;
    }
    return false;
}

int wp_apply_submit(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result)
{
    struct submit submit = {0};
    int error = command_read(payload, &submit);
    if (error) {
        return error;
    }
    if (!wp_address_valid_n((const char *)submit.user.data, submit.user.size) ||
        !wp_address_valid_n((const char *)submit.device.data, submit.device.size)) {
        result->error = WP_E_MALFORMED; /* names no stream, so it consumes nothing */
        return WP_OK;
    }
    submit.stream = wp_streams_find(&machine->streams, submit.user, submit.device, &submit.sender);
    envelope_open(machine, &submit);
    if (!stream_admit(machine, &submit, result)) {
        return WP_OK;
    }
    error = stream_consume(machine, &submit);
    if (error) {
        return error;
    }
    result->error = submit_check_all(machine, &submit, result);
    if (result->error || result->submit.duplicate) {
        return WP_OK;
    }
    return submit_accept(machine, &submit, result);
}
