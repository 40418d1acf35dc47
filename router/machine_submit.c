/* SUBMIT: one message into one mailbox or for one team, or the reason why not.
 *
 * The checks stand in the order in which they are decided; the first that fails is the answer. A refusal
 * after the stream check has consumed the submit's sequence, so the sender's later submits go on.
 *
 * The envelope is read in place: its header and key parts are decoded, its body is only measured and then
 * copied once into the record. */
#include "router/machine_inner.h"

#include "base/error.h"
#include "proto/frame.h"
#include "router/wire.h"

#define HEADER_SIZE_MAX (16u * 1024) /* names, 4 KiB of properties and what their framing takes */
#define KEY_PART_COUNT_MAX 64u
#define KEY_PART_SIZE_MAX 1024u /* with its device name */
#define ITEM_AROUND_BYTES 1024u /* what an entry or frame has around one outbox item */

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
    struct wp_mailbox *mailbox; /* of the recipient, or */
    struct wp_team *team;
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
    const Wp__Header *header = submit->envelope.header;
    struct wp_slice recipient = wp_slice(header->recipient, strlen(header->recipient));
    if (header->to_team) {
        submit->team = wp_machine_team(machine, recipient);
    } else {
        submit->mailbox = wp_machine_user(machine, recipient);
    }
    return submit->mailbox || submit->team ? WP_OK : WP_E_UNKNOWN_RECIPIENT;
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

/* Whether the entry leaves room for a copy for each member. What ended counts with the rows: each makes a
 * receipt. */
static bool entry_has_room(const struct wp_machine *machine, uint64_t members, uint64_t size)
{
    uint64_t rows =
        machine->appended.size / sizeof(struct wp_appended) + machine->ended.size / sizeof(struct wp_ended);
    return rows + members <= WP_ENTRY_ROWS_MAX &&
           machine->appended_bytes + members * size <= WP_ENTRY_BYTES_MAX;
}

static int check_team(const struct wp_machine *machine, const struct submit *submit)
{
    uint64_t members = submit->team->member_count;
    uint64_t names_bytes = members * (WP_NAME_SIZE_MAX + 2);
    if (!wp_team_has(machine, submit->team, submit->user)) {
        return WP_E_DENIED;
    }
    if (members * submit->packed.size > WP_TEAM_BYTES_MAX ||
        submit->packed.size + names_bytes > WP_ENTRY_SIZE_MAX - ITEM_AROUND_BYTES) {
        return WP_E_BODY_TOO_LARGE;
    }
    return machine->outbox.bytes < wp_machine_outbox_bytes_max(machine) &&
                   entry_has_room(machine, members, submit->packed.size)
               ? WP_OK
               : WP_E_FULL;
}

static int check_room(struct wp_machine *machine, struct submit *submit, struct wp_result *result)
{
    if (result->submit.duplicate) {
        return WP_OK;
    }
    return submit->team ? check_team(machine, submit)
                        : wp_mailbox_room(
                              machine, submit->mailbox, submit->envelope.header->lane, submit->packed.size);
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
    check_room,
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
    wp_key_pair(&from, machine->shard, WP_KEY_SEEN, bucket, 0);
    wp_key_pair(&to, machine->shard, WP_KEY_SEEN, bucket + 1, 0);
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

static int message_append(struct wp_machine *machine, const struct submit *submit, struct wp_result *result)
{
    struct wp_mailbox *mailbox = submit->mailbox;
    uint32_t lane = submit->envelope.header->lane;
    struct wp_row row = {
        .expires_ms = submit->expires_ms,
        .sender = wp_intern_get(&machine->intern, submit->user),
        .size = (uint32_t)submit->packed.size,
    };
    memcpy(row.id, submit->id, WP_UUID_SIZE);
    int error = row.sender ? wp_mailbox_append(machine, mailbox, lane, &row, machine->time_ms, submit->packed)
                           : WP_E_NOMEM;
    if (error) {
        return error;
    }
    result->submit.mailbox = mailbox->number;
    result->submit.lane = (Wp__Lane)lane;
    result->submit.sequence = row.sequence;
    result->submit.envelope = submit->packed;
    return wp_mailbox_trim(machine, mailbox);
}

static int team_accept(struct wp_machine *machine, const struct submit *submit)
{
    struct wp_team_message message = {
        .envelope = submit->packed,
        .sender = submit->user,
        .id = submit->id,
        .lane = submit->envelope.header->lane,
        .accepted_ms = machine->time_ms,
        .expires_ms = submit->expires_ms,
    };
    return wp_machine_team_send(machine, submit->team, &message);
}

static int submit_accept(struct wp_machine *machine, const struct submit *submit, struct wp_result *result)
{
    int error = seen_add(machine, submit);
    error = error ? error : rate_take(machine, submit);
    if (error) {
        return error;
    }
    result->submit.accepted_ms = machine->time_ms;
    result->submit.expires_ms = submit->expires_ms;
    return submit->team ? team_accept(machine, submit) : message_append(machine, submit, result);
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
