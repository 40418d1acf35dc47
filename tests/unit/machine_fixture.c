#include "tests/unit/machine_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "proto/uuid.h"
#include "router/keys.h"
#include "storage/sim/sim.h"

void fixture_init(struct fixture *f)
{
    *f = (struct fixture){
        .limits =
            {
                .mailbox_messages_max = 10000,
                .mailbox_bytes_max = 64u << 20,
                .body_bytes_max = 1u << 20,
                .ttl_default_ms = 7u * DAY_MS,
                .ttl_max_ms = 30ull * DAY_MS,
                .seen_ids_max = 100000,
                .stat_per_minute_max = 0,
                .inactive_ms = 7u * DAY_MS,
            },
        .time_ms = FIXTURE_START_MS,
    };
    wp_prng_init(&f->prng, 1);
    wp_arena_init(&f->arena, 64u << 20);
    f->store = wp_sim_create();
    assert_int_equal(wp_machine_create(f->store, FIXTURE_SHARD, &f->limits, &f->machine), WP_OK);
}

void fixture_fini(struct fixture *f)
{
    wp_machine_destroy(&f->machine);
    wp_store_close(&f->store);
    for (size_t i = 0; i < f->log_count; i++) {
        wp_bytes_release(&f->log[i]);
    }
    free(f->log);
    wp_buffer_free(&f->entry);
    wp_arena_fini(&f->arena);
}

void fixture_ring(struct fixture *f, uint32_t shard_count)
{
    f->limits.shard_count = shard_count;
    fixture_restart(f);
}

uint32_t fixture_shard_of(const struct fixture *f, const char *name)
{
    return f->limits.shard_count ? wp_shard_of(f->limits.hash_key, f->limits.shard_count, name)
                                 : FIXTURE_SHARD;
}

void fixture_restart(struct fixture *f)
{
    wp_machine_destroy(&f->machine);
    assert_int_equal(wp_machine_create(f->store, FIXTURE_SHARD, &f->limits, &f->machine), WP_OK);
}

void fixture_crash(struct fixture *f, uint64_t seed)
{
    wp_machine_destroy(&f->machine);
    struct wp_store *image = wp_sim_crash(f->store, seed);
    wp_store_close(&f->store);
    f->store = image;
    assert_int_equal(wp_machine_create(f->store, FIXTURE_SHARD, &f->limits, &f->machine), WP_OK);
    uint64_t applied, term;
    wp_state_applied(f->store, FIXTURE_SHARD, &applied, &term);
    for (uint64_t index = applied + 1; index <= f->index; index++) {
        struct wp_bytes *entry = f->log[index - 1];
        wp_arena_reset(&f->arena);
        int error = wp_machine_apply(
            f->machine, index, 1, wp_slice(entry->data, entry->size), &f->arena, &f->applied);
        assert_int_equal(error, WP_OK);
    }
}

static void log_append(struct fixture *f)
{
    if (f->log_count == f->log_capacity) {
        f->log_capacity = f->log_capacity ? f->log_capacity * 2 : 64;
        f->log = realloc(f->log, f->log_capacity * sizeof *f->log);
        assert_non_null(f->log);
    }
    f->log[f->log_count++] = wp_bytes_copy(f->entry.data, f->entry.size);
}

void fixture_begin(struct fixture *f)
{
    f->entry.size = 0;
    wp_arena_reset(&f->arena);
    assert_int_equal(wp_entry_head_encode(f->time_ms, &f->entry), WP_OK);
}

static void append(struct fixture *f, uint8_t type, const ProtobufCMessage *message)
{
    assert_int_equal(wp_schema_append(&f->entry, type, message), WP_OK);
}

/* Generated structs want char * where they only read. */
static char *text(const char *constant)
{
    union {
        const char *in;
        char *out;
    } cast = {.in = constant};
    return cast.out;
}

void fixture_user_add(struct fixture *f, const char *user)
{
    Wp__CommandUserAdd command = WP__COMMAND_USER_ADD__INIT;
    command.user = text(user);
    append(f, WP_COMMAND_USER_ADD, &command.base);
}

void fixture_device_add(struct fixture *f, const char *user, const char *device)
{
    fixture_device_add_from(f, user, device, false);
}

void fixture_device_add_from(struct fixture *f, const char *user, const char *device, bool from_oldest)
{
    static const uint8_t key[32] = {7};
    uint8_t hash[WP_SECRET_HASH_SIZE];
    wp_machine_secret_hash(key, wp_slice(device, strlen(device)), hash);
    Wp__CommandDeviceAdd command = WP__COMMAND_DEVICE_ADD__INIT;
    command.user = text(user);
    command.device = text(device);
    command.secret_hash = (ProtobufCBinaryData){.len = sizeof hash, .data = hash};
    command.from_oldest = from_oldest;
    append(f, WP_COMMAND_DEVICE_ADD, &command.base);
}

void fixture_device_remove(struct fixture *f, const char *user, const char *device)
{
    Wp__CommandDeviceRemove command = WP__COMMAND_DEVICE_REMOVE__INIT;
    command.user = text(user);
    command.device = text(device);
    append(f, WP_COMMAND_DEVICE_REMOVE, &command.base);
}

void fixture_attach(struct fixture *f, const char *user, const char *device, bool clean_start)
{
    Wp__CommandAttach command = WP__COMMAND_ATTACH__INIT;
    command.user = text(user);
    command.device = text(device);
    command.clean_start = clean_start;
    append(f, WP_COMMAND_ATTACH, &command.base);
}

void fixture_subscribe(struct fixture *f, const char *user, const char *device, uint64_t epoch, bool inbox)
{
    fixture_subscribe_receipts(f, user, device, epoch, inbox, false);
}

void fixture_subscribe_receipts(
    struct fixture *f, const char *user, const char *device, uint64_t epoch, bool inbox, bool receipts)
{
    Wp__CommandSubscribe command = WP__COMMAND_SUBSCRIBE__INIT;
    command.user = text(user);
    command.device = text(device);
    command.epoch = epoch;
    command.inbox = inbox;
    command.receipts = receipts;
    append(f, WP_COMMAND_SUBSCRIBE, &command.base);
}

void fixture_team_add(struct fixture *f, const char *team)
{
    Wp__CommandTeamAdd command = WP__COMMAND_TEAM_ADD__INIT;
    command.team = text(team);
    append(f, WP_COMMAND_TEAM_ADD, &command.base);
}

void fixture_team_remove(struct fixture *f, const char *team)
{
    Wp__CommandTeamRemove command = WP__COMMAND_TEAM_REMOVE__INIT;
    command.team = text(team);
    append(f, WP_COMMAND_TEAM_REMOVE, &command.base);
}

static char **texts(const char *const *constants, size_t count)
{
    char **list = calloc(count + 1, sizeof *list);
    assert_non_null(list);
    for (size_t i = 0; i < count; i++) {
        list[i] = text(constants[i]);
    }
    return list;
}

void fixture_members_add(struct fixture *f, const char *team, const char *const *users, size_t count)
{
    Wp__CommandTeamMemberAdd command = WP__COMMAND_TEAM_MEMBER_ADD__INIT;
    command.team = text(team);
    command.n_users = count;
    command.users = texts(users, count);
    append(f, WP_COMMAND_TEAM_MEMBER_ADD, &command.base);
    free(command.users);
}

void fixture_members_remove(struct fixture *f, const char *team, const char *const *users, size_t count)
{
    Wp__CommandTeamMemberRemove command = WP__COMMAND_TEAM_MEMBER_REMOVE__INIT;
    command.team = text(team);
    command.n_users = count;
    command.users = texts(users, count);
    append(f, WP_COMMAND_TEAM_MEMBER_REMOVE, &command.base);
    free(command.users);
}

void fixture_transfer(
    struct fixture *f, uint32_t source, uint64_t first, const struct wp_slice *items, size_t count)
{
    ProtobufCBinaryData list[16];
    assert_true(count <= 16);
    for (size_t i = 0; i < count; i++) {
        list[i].len = items[i].size;
        memcpy(&list[i].data, &items[i].data, sizeof list[i].data); /* packing only reads it */
    }
    Wp__CommandTransferIn command = WP__COMMAND_TRANSFER_IN__INIT;
    command.source = source;
    command.first = first;
    command.n_items = count;
    command.items = list;
    append(f, WP_COMMAND_TRANSFER_IN, &command.base);
}

void fixture_advance(struct fixture *f, uint32_t destination, uint64_t watermark)
{
    Wp__CommandOutboxAdvance command = WP__COMMAND_OUTBOX_ADVANCE__INIT;
    command.destination = destination;
    command.watermark = watermark;
    append(f, WP_COMMAND_OUTBOX_ADVANCE, &command.base);
}

void fixture_idle_check(struct fixture *f)
{
    Wp__CommandIdleCheck command = WP__COMMAND_IDLE_CHECK__INIT;
    append(f, WP_COMMAND_IDLE_CHECK, &command.base);
}

void fixture_limits(struct fixture *f, uint64_t version, const struct wp_machine_limits *limits)
{
    Wp__CommandLimits command = WP__COMMAND_LIMITS__INIT;
    command.version = version;
    command.mailbox_messages_max = limits->mailbox_messages_max;
    command.mailbox_bytes_max = limits->mailbox_bytes_max;
    command.body_bytes_max = limits->body_bytes_max;
    command.ttl_default_ms = limits->ttl_default_ms;
    command.ttl_max_ms = limits->ttl_max_ms;
    command.seen_ids_max = limits->seen_ids_max;
    command.stat_per_minute_max = limits->stat_per_minute_max;
    append(f, WP_COMMAND_LIMITS, &command.base);
}

void fixture_id(struct fixture *f, uint64_t time_ms, uint8_t ret_id[16])
{
    uint8_t random[10];
    wp_put_u64le(random, wp_prng_next(&f->prng));
    random[8] = random[9] = 0;
    wp_uuid7_make(time_ms, random, ret_id);
}

void fixture_envelope(const struct fixture *f, const struct sender *sender, const struct message *message,
    struct wp_buffer *out)
{
    (void)f;
    static uint8_t body[2u << 20];
    uint8_t id[16];
    memcpy(id, message->id, sizeof id);
    Wp__Header header = WP__HEADER__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
    header.sender = text(sender->user);
    header.sender_device = text(sender->device);
    header.recipient = text(message->recipient);
    header.lane = message->lane;
    header.ttl_ms = message->ttl_ms;
    header.to_team = message->to_team;
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    envelope.header = &header;
    envelope.body = (ProtobufCBinaryData){.len = message->body_size, .data = body};
    out->size = 0;
    uint8_t *p = wp_buffer_reserve(out, wp__envelope__get_packed_size(&envelope));
    assert_non_null(p);
    out->size = wp__envelope__pack(&envelope, p);
}

static void submit_append(struct fixture *f, const struct sender *sender, uint64_t epoch, uint64_t sequence,
    struct wp_slice envelope)
{
    uint8_t *copy = malloc(envelope.size + 1);
    if (envelope.size > 0) {
        memcpy(copy, envelope.data, envelope.size);
    }
    Wp__CommandSubmit command = WP__COMMAND_SUBMIT__INIT;
    command.user = text(sender->user);
    command.device = text(sender->device);
    command.epoch = epoch;
    command.sequence = sequence;
    command.envelope = (ProtobufCBinaryData){.len = envelope.size, .data = copy};
    append(f, WP_COMMAND_SUBMIT, &command.base);
    free(copy);
}

void fixture_submit_at(struct fixture *f, const struct sender *sender, uint64_t epoch, uint64_t sequence,
    struct message *message)
{
    static const uint8_t none[16];
    if (memcmp(message->id, none, sizeof none) == 0) {
        fixture_id(f, f->time_ms, message->id);
    }
    struct wp_buffer envelope = WP_BUFFER_INIT;
    fixture_envelope(f, sender, message, &envelope);
    submit_append(f, sender, epoch, sequence, wp_slice(envelope.data, envelope.size));
    wp_buffer_free(&envelope);
}

void fixture_submit(struct fixture *f, struct sender *sender, struct message *message)
{
    fixture_submit_at(f, sender, sender->epoch, ++sender->sequence, message);
}

void fixture_submit_raw(struct fixture *f, struct sender *sender, struct wp_slice envelope)
{
    submit_append(f, sender, sender->epoch, ++sender->sequence, envelope);
}

static void advance_append(struct fixture *f, Wp__CursorAdvance *advance)
{
    Wp__CommandCursors command = WP__COMMAND_CURSORS__INIT;
    command.n_advances = 1;
    command.advances = &advance;
    append(f, WP_COMMAND_CURSORS, &command.base);
}

void fixture_acknowledge(struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane,
    const uint64_t *positions, size_t count)
{
    uint64_t copy[64];
    assert_true(count <= 64);
    if (count > 0) {
        memcpy(copy, positions, count * sizeof *copy);
    }
    Wp__Positions list = WP__POSITIONS__INIT;
    list.lane = lane;
    list.n_sequence = count;
    list.sequence = copy;
    Wp__Positions *lists[] = {&list};
    Wp__CursorAdvance advance = WP__CURSOR_ADVANCE__INIT;
    advance.mailbox = mailbox;
    advance.device = device;
    advance.n_acknowledged = 1;
    advance.acknowledged = lists;
    advance_append(f, &advance);
}

void fixture_sent(
    struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane, uint64_t sequence, bool overdue)
{
    Wp__SentUpTo sent = WP__SENT_UP_TO__INIT;
    sent.lane = lane;
    sent.sequence = sequence;
    sent.overdue = overdue;
    Wp__SentUpTo *list[] = {&sent};
    Wp__CursorAdvance advance = WP__CURSOR_ADVANCE__INIT;
    advance.mailbox = mailbox;
    advance.device = device;
    advance.n_sent = 1;
    advance.sent = list;
    advance_append(f, &advance);
}

void fixture_expire(struct fixture *f, uint32_t limit)
{
    Wp__CommandExpire command = WP__COMMAND_EXPIRE__INIT;
    command.limit = limit;
    append(f, WP_COMMAND_EXPIRE, &command.base);
}

const struct wp_result *fixture_apply(struct fixture *f)
{
    struct wp_slice entry = wp_slice(f->entry.data, f->entry.size);
    log_append(f);
    int error = wp_machine_apply(f->machine, ++f->index, 1, entry, &f->arena, &f->applied);
    assert_int_equal(error, WP_OK);
    return f->applied.result_count ? &f->applied.results[f->applied.result_count - 1] : NULL;
}

const struct wp_result *fixture_send(struct fixture *f, struct sender *sender, struct message *message)
{
    fixture_begin(f);
    fixture_submit(f, sender, message);
    return fixture_apply(f);
}

const struct wp_result *fixture_attach_now(struct fixture *f, const char *user, const char *device)
{
    fixture_begin(f);
    fixture_attach(f, user, device, false);
    return fixture_apply(f);
}

const struct wp_result *fixture_acknowledge_one(
    struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane, uint64_t position)
{
    fixture_begin(f);
    fixture_acknowledge(f, mailbox, device, lane, &position, 1);
    return fixture_apply(f);
}

const struct wp_result *fixture_expire_now(struct fixture *f, uint32_t limit)
{
    fixture_begin(f);
    fixture_expire(f, limit);
    return fixture_apply(f);
}

uint64_t fixture_user(struct fixture *f, const char *user, uint32_t devices)
{
    fixture_begin(f);
    fixture_user_add(f, user);
    const struct wp_result *result = fixture_apply(f);
    assert_int_equal(result->error, WP_OK);
    uint64_t mailbox = result->admin.mailbox;
    for (uint32_t i = 1; i <= devices; i++) {
        char device[16];
        snprintf(device, sizeof device, "d%u", i);
        fixture_begin(f);
        fixture_device_add(f, user, device);
        result = fixture_apply(f);
        assert_int_equal(result->error, WP_OK);
        assert_int_equal(result->admin.device, i);
    }
    return mailbox;
}

void fixture_fill(
    struct fixture *f, struct sender *sender, const char *recipient, Wp__Lane lane, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct message message = {.recipient = recipient, .lane = lane, .body_size = 100};
        const struct wp_result *result = fixture_send(f, sender, &message);
        assert_int_equal(result->error, WP_OK);
        assert_false(result->submit.duplicate);
    }
}

const char *fixture_pending(const struct fixture *f, uint64_t mailbox, uint32_t device, Wp__Lane lane)
{
    static char list[4096];
    size_t size = 0;
    list[0] = '\0';
    struct wp_pending pending = {0};
    while (size < sizeof list - 32 && wp_machine_next_pending(f->machine, mailbox, device, lane,
                                          pending.sequence, f->time_ms, &pending)) {
        size += (size_t)snprintf(list + size, sizeof list - size, "%s%llu%s", size ? "," : "",
            (unsigned long long)pending.sequence, pending.sent_before ? "+" : "");
    }
    return list;
}

uint64_t fixture_messages(const struct fixture *f)
{
    struct wp_machine_totals totals;
    wp_machine_totals(f->machine, &totals);
    return totals.messages;
}

uint64_t fixture_hash(struct fixture *f)
{
    uint64_t hash;
    assert_int_equal(wp_machine_hash(f->machine, &hash), WP_OK);
    return hash;
}

bool fixture_record_id(const struct fixture *f, uint64_t mailbox, Wp__Lane lane,
    const struct wp_pending *pending, uint8_t ret_id[16])
{
    struct wp_key key;
    if (pending->body) {
        wp_key_mailbox(&key, FIXTURE_SHARD, WP_KEY_BODY, pending->body);
    } else {
        wp_key_position(&key, FIXTURE_SHARD, WP_KEY_MESSAGE, mailbox, (uint8_t)lane, pending->sequence);
    }
    struct wp_buffer value = WP_BUFFER_INIT;
    bool found = wp_state_get(f->store, wp_key_slice(&key), &value) == WP_OK;
    Wp__RecordMessage *record = found ? wp__record_message__unpack(NULL, value.size, value.data) : NULL;
    Wp__Envelope *envelope =
        record ? wp__envelope__unpack(NULL, record->envelope.len, record->envelope.data) : NULL;
    found = envelope && record->expires_ms == pending->expires_ms;
    if (found) {
        memcpy(ret_id, envelope->header->message_id.data, 16);
    }
    wp__envelope__free_unpacked(envelope, NULL);
    wp__record_message__free_unpacked(record, NULL);
    wp_buffer_free(&value);
    return found;
}

uint64_t fixture_rows(const struct fixture *f, uint8_t tag)
{
    struct wp_key from, to;
    wp_key_tag(&from, FIXTURE_SHARD, (enum wp_key_tag)tag);
    wp_key_tag(&to, FIXTURE_SHARD, (enum wp_key_tag)(tag + 1));
    struct wp_state_iter *iter = wp_state_iter_create(f->store, wp_key_slice(&from), wp_key_slice(&to));
    uint64_t count = 0;
    for (; wp_state_iter_valid(iter); wp_state_iter_next(iter)) {
        count++;
    }
    assert_int_equal(wp_state_iter_error(iter), WP_OK);
    wp_state_iter_destroy(&iter);
    return count;
}
