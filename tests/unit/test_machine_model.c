/* Thousands of random commands against the plain model: results, pending lists and counts must agree; a
 * machine that is loaded again at random points must equal its twin that never was. WP_SEEDS=n tries n seeds,
 * WP_SEED=s only that one. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "router/keys.h"
#include "tests/unit/machine_bug.h"
#include "tests/unit/machine_fixture.h"
#include "tests/unit/machine_model.h"

#define SENDER_USERS 5u
#define STREAMS (SENDER_USERS * 2u)
#define ENTRIES 600u
#define COMMANDS_MAX 8u
#define HISTORY 64u

#define SOURCE_ITEMS 8u

/* Names that live in the shard (the first MODEL_USERS) and in the others: names_choose. */
static char people_names[MODEL_PEOPLE][8];
static const char *people[MODEL_PEOPLE];
#define user_names people
static const char *const device_names[] = {"a", "b", "c", "d"};
static const char *const team_names[MODEL_TEAMS] = {"t0", "t1", "t2"};
/* Two senders are users of the shard and hear how their messages end, the others are told through the outbox.
 */
static const uint32_t sender_people[SENDER_USERS] = {0, 1, 6, 7, 8};

/* What another shard owes to this one, the newest last. */
struct source {
    uint64_t last;
    struct model_item items[SOURCE_ITEMS]; /* by sequence % SOURCE_ITEMS */
    struct wp_buffer packed[SOURCE_ITEMS];
};

struct run {
    unsigned long seed;
    uint32_t entry;
    uint32_t command;
    struct fixture f;    /* loaded again now and then */
    struct fixture twin; /* never */
    struct model model;
    struct wp_prng prng;
    uint8_t history[STREAMS][HISTORY][16]; /* ids that each stream used lately */
    uint32_t history_count[STREAMS];
    struct source sources[MODEL_SHARDS + 1];
    /* What the model expects of the entry being built. */
    struct {
        uint8_t type;
        int error;
        struct model_submit_result submit;
        struct model_attach_result attach;
        struct model_submit asked;
        uint64_t admin_device;
        uint32_t expired;
        bool more;
        uint64_t watermark;
        uint32_t changed;
        uint64_t epoch;
    } expected[COMMANDS_MAX];
    uint64_t seen_errors; /* bit -error for each refusal met, so that the generator is known to reach them */
    uint32_t trimmed;     /* likewise: messages gone for the bound of what is kept */
    uint32_t set_aside;   /* messages set aside, devices turned inactive */
    uint32_t inactive;
    uint32_t
        idle; /* likewise: warnings, copies and receipts that came, items owed and taken, receipts dropped */
    uint32_t copies;
    uint32_t receipts;
    uint32_t owed;
    uint64_t shared; /* copies that took no record of their own */
    uint32_t taken;
    uint32_t dropped;
};

static void expect(const struct run *run, const char *what, uint64_t actual, uint64_t expected)
{
    if (actual != expected) {
        fail_msg("WP_SEED=%lu entry %u command %u: %s is %lld, the model says %lld", run->seed, run->entry,
            run->command, what, (long long)actual, (long long)expected);
    }
}

static uint64_t below(struct run *run, uint64_t bound)
{
    return wp_prng_below(&run->prng, bound);
}

static bool chance(struct run *run, uint64_t percent)
{
    return below(run, 100) < percent;
}

/* Low numbers more often, so that some mailboxes see much. */
static uint32_t skewed(struct run *run, uint32_t bound)
{
    return (uint32_t)below(run, 1 + below(run, bound));
}

static void id_choose(struct run *run, uint32_t stream, uint8_t id[16])
{
    uint32_t known = run->history_count[stream] < HISTORY ? run->history_count[stream] : HISTORY;
    if (known > 0 && chance(run, 20)) {
        memcpy(id, run->history[stream][below(run, known)], 16);
        return;
    }
    uint64_t made_ms = run->f.time_ms;
    if (chance(run, 8)) {
        static const int64_t offsets[] = {
            -25 * (int64_t)HOUR_MS, -HOUR_MS * 3, 9 * MINUTE_MS, 11 * MINUTE_MS};
        made_ms += (uint64_t)offsets[below(run, 4)];
    }
    fixture_id(&run->f, made_ms, id);
    memcpy(run->history[stream][run->history_count[stream]++ % HISTORY], id, 16);
}

static void do_submit(struct run *run)
{
    struct model_submit asked = {
        .stream = (uint32_t)below(run, STREAMS), .recipient = skewed(run, MODEL_USERS)};
    asked.sender_user = asked.stream / 2;
    asked.sender = sender_people[asked.sender_user];
    asked.to_team = chance(run, 20);
    asked.recipient = asked.to_team ? (uint32_t)below(run, MODEL_TEAMS) : asked.recipient;
    const struct model_stream *stream = &run->model.streams[asked.stream];
    asked.epoch = stream->epoch ? stream->epoch : 1;
    asked.sequence = stream->epoch ? stream->sequence + 1 : 1;
    if (chance(run, 15)) {
        asked.epoch += below(run, 3);
        asked.epoch -= asked.epoch > 1 ? below(run, 2) : 0;
        asked.sequence = chance(run, 50) ? 1 : below(run, asked.sequence + 3);
    }
    struct message message = {
        .recipient = asked.to_team ? team_names[asked.recipient] : user_names[asked.recipient],
        .to_team = asked.to_team,
        .lane = (Wp__Lane)below(run, WP_LANE_COUNT),
        .ttl_ms = chance(run, 70)   ? below(run, 90 * MINUTE_MS)
                  : chance(run, 80) ? 0
                                    : 3ull * HOUR_MS,
        .body_size = chance(run, 95) ? below(run, 300) : 301,
    };
    id_choose(run, asked.stream, message.id);
    struct sender sender = {.user = people[asked.sender], .device = asked.stream % 2 ? "d1" : "d0"};
    struct wp_buffer envelope = WP_BUFFER_INIT;
    fixture_envelope(&run->f, &sender, &message, &envelope);
    asked.lane = message.lane;
    asked.ttl_ms = message.ttl_ms;
    asked.body_size = message.body_size;
    asked.envelope_size = envelope.size;
    asked.id = message.id;
    wp_buffer_free(&envelope);
    fixture_submit_at(&run->f, &sender, asked.epoch, asked.sequence, &message);

    uint32_t ids_before = run->model.id_count;
    uint32_t removals_before = run->model.removal_count;
    run->expected[run->command].submit = model_submit(&run->model, &asked);
    const struct model_submit_result *result = &run->expected[run->command].submit;
    run->expected[run->command].error = result->error;
    run->trimmed += run->model.removal_count - removals_before;
    run->expected[run->command].asked = asked;
    if (run->model.id_count > ids_before) { /* accepted: then never before, however long ago */
        for (uint32_t i = 0; i < ids_before; i++) {
            bool same =
                run->model.ids[i].sender == asked.stream && memcmp(run->model.ids[i].id, asked.id, 16) == 0;
            expect(run, "accepted twice", same, 0);
        }
    }
}

static void do_user_add(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    fixture_user_add(&run->f, user_names[user]);
    run->expected[run->command].error = model_user_add(&run->model, user);
}

static void do_device_add(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    const char *device = device_names[skewed(run, 4)];
    if (run->model.users[user].next_device >= MODEL_DEVICES - 1) {
        user = MODEL_USERS; /* numbers of the model used up */
    }
    bool from_oldest = chance(run, 40);
    fixture_device_add_from(&run->f, user < MODEL_USERS ? user_names[user] : "nobody", device, from_oldest);
    uint32_t number = 0;
    run->expected[run->command].error =
        user < MODEL_USERS ? model_device_add(&run->model, user, device, from_oldest, &number)
                           : WP_E_NOT_FOUND;
    run->expected[run->command].admin_device = run->expected[run->command].error ? 0 : number;
}

static void do_device_remove(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    const char *device = device_names[skewed(run, 4)];
    fixture_device_remove(&run->f, user_names[user], device);
    uint32_t number = 0;
    model_device(&run->model, user, device, &number);
    run->expected[run->command].error = model_device_remove(&run->model, user, device);
    run->expected[run->command].admin_device = number;
}

static void attach_add(struct run *run, uint32_t user, const char *device)
{
    bool clean_start = chance(run, 20);
    fixture_attach(&run->f, user_names[user], device, clean_start);
    run->expected[run->command].attach = model_attach(&run->model, user, device, clean_start);
    run->expected[run->command].error = run->expected[run->command].attach.error;
}

static void do_attach(struct run *run)
{
    attach_add(run, skewed(run, MODEL_USERS), device_names[skewed(run, 4)]);
}

static void do_subscribe(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    const char *device = device_names[skewed(run, 4)];
    uint32_t number;
    const struct model_device *found = model_device(&run->model, user, device, &number);
    uint64_t epoch = found ? found->epoch + (chance(run, 20) ? 1 : 0) : 1;
    bool receipts = chance(run, 75);
    fixture_subscribe_receipts(&run->f, user_names[user], device, epoch, true, receipts);
    run->expected[run->command].error = model_subscribe(&run->model, user, device, epoch, true, receipts);
}

static uint32_t crowd(struct run *run)
{
    return (uint32_t)(below(run, 1u << MODEL_PEOPLE) & below(run, 1u << MODEL_PEOPLE));
}

static void do_team(struct run *run)
{
    uint32_t team = (uint32_t)below(run, MODEL_TEAMS);
    if (chance(run, 10) && run->model.teams[team].exists) {
        fixture_team_remove(&run->f, team_names[team]);
        run->expected[run->command].type = WP_COMMAND_TEAM_REMOVE;
        run->expected[run->command].error = model_team_remove(&run->model, team);
        return;
    }
    fixture_team_add(&run->f, team_names[team]);
    run->expected[run->command].error = model_team_add(&run->model, team);
}

static void do_members(struct run *run)
{
    uint32_t team = (uint32_t)below(run, MODEL_TEAMS);
    bool add = chance(run, 65);
    uint32_t bits = crowd(run);
    const char *names[MODEL_PEOPLE];
    size_t count = 0;
    for (uint32_t person = 0; person < MODEL_PEOPLE; person++) {
        if (bits >> person & 1) {
            names[count++] = people[person];
        }
    }
    if (add) {
        fixture_members_add(&run->f, team_names[team], names, count);
    } else {
        fixture_members_remove(&run->f, team_names[team], names, count);
    }
    run->expected[run->command].type = add ? WP_COMMAND_TEAM_MEMBER_ADD : WP_COMMAND_TEAM_MEMBER_REMOVE;
    run->expected[run->command].error =
        model_team_members(&run->model, team, bits, add, &run->expected[run->command].changed);
    run->expected[run->command].epoch = run->model.teams[team].exists ? run->model.teams[team].epoch : 0;
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

static void item_pack(struct wp_buffer *out, const Wp__OutboxItem *item)
{
    out->size = 0;
    uint8_t *p = wp_buffer_reserve(out, wp__outbox_item__get_packed_size(item) + 1);
    assert_non_null(p);
    out->size = wp__outbox_item__pack(item, p);
}

/* A team message of somebody elsewhere for some of our users. */
static void source_team(struct run *run, struct model_item *item, struct wp_buffer *packed)
{
    item->team = true;
    item->fan = (struct model_fan){
        .sender = (uint32_t)below(run, MODEL_PEOPLE),
        .lane = (uint32_t)below(run, WP_LANE_COUNT),
        .accepted_ms = run->f.time_ms - below(run, MINUTE_MS),
        .expires_ms = run->f.time_ms - MINUTE_MS + below(run, HOUR_MS),
        .recipients = (uint32_t)below(run, 1u << MODEL_USERS),
    };
    fixture_id(&run->f, run->f.time_ms, item->fan.id);
    struct message message = {.recipient = "far", .to_team = true, .body_size = below(run, 200)};
    message.lane = (Wp__Lane)item->fan.lane;
    memcpy(message.id, item->fan.id, sizeof message.id);
    struct sender sender = {.user = people[item->fan.sender], .device = "d"};
    struct wp_buffer envelope = WP_BUFFER_INIT;
    fixture_envelope(&run->f, &sender, &message, &envelope);
    item->fan.envelope_size = envelope.size;
    Wp__OutboxTeam team = WP__OUTBOX_TEAM__INIT;
    char *recipients[MODEL_USERS];
    for (uint32_t user = 0; user < MODEL_USERS; user++) {
        if (item->fan.recipients >> user & 1) {
            recipients[team.n_recipients++] = text(user_names[user]);
        }
    }
    team.recipients = recipients;
    team.accepted_ms = item->fan.accepted_ms;
    team.expires_ms = item->fan.expires_ms;
    team.envelope = (ProtobufCBinaryData){.len = envelope.size, .data = envelope.data};
    Wp__OutboxItem message_item = WP__OUTBOX_ITEM__INIT;
    message_item.team = &team;
    item_pack(packed, &message_item);
    wp_buffer_free(&envelope);
}

static void source_receipts(struct run *run, struct model_item *item, struct wp_buffer *packed)
{
    enum { MANY = 6 };
    Wp__OutboxReceipt told[MANY];
    Wp__Receipt receipts[MANY];
    Wp__OutboxReceipt *pointers[MANY];
    item->team = false;
    item->end_count = 1 + (uint32_t)below(run, MANY);
    item->ends = realloc(item->ends, MANY * sizeof *item->ends);
    assert_non_null(item->ends);
    for (uint32_t i = 0; i < item->end_count; i++) {
        struct model_end *end = &item->ends[i];
        *end = (struct model_end){.sender = skewed(run, MODEL_USERS),
            .person = (uint32_t)below(run, MODEL_PEOPLE),
            .state = 1 + (uint32_t)below(run, 3),
            .time_ms = run->f.time_ms - below(run, MINUTE_MS)};
        end->error = end->state == WP__RECEIPT_STATE__REFUSED ? WP_E_MAILBOX_FULL : WP_OK;
        fixture_id(&run->f, run->f.time_ms, end->id);
        wp__receipt__init(&receipts[i]);
        receipts[i].message_id = (ProtobufCBinaryData){.len = 16, .data = end->id};
        receipts[i].person = text(people[end->person]);
        receipts[i].state = (Wp__ReceiptState)end->state;
        receipts[i].error = end->error;
        receipts[i].time_ms = end->time_ms;
        wp__outbox_receipt__init(&told[i]);
        told[i].sender = text(people[end->sender]);
        told[i].receipt = &receipts[i];
        pointers[i] = &told[i];
    }
    Wp__OutboxReceipts list = WP__OUTBOX_RECEIPTS__INIT;
    list.receipts = pointers;
    list.n_receipts = item->end_count;
    Wp__OutboxItem message_item = WP__OUTBOX_ITEM__INIT;
    message_item.receipts = &list;
    item_pack(packed, &message_item);
}

/* Items of another shard: mostly what comes next, now and then what came before, and ahead of a gap. */
static void do_transfer(struct run *run)
{
    static const uint32_t others[] = {1, 2, 4};
    uint32_t number = others[below(run, 3)];
    struct source *source = &run->sources[number];
    uint64_t taken = run->model.peers[number].taken;
    while (source->last < taken + 4) {
        source->last++;
        struct model_item *item = &source->items[source->last % SOURCE_ITEMS];
        struct wp_buffer *packed = &source->packed[source->last % SOURCE_ITEMS];
        item->sequence = source->last;
        item->end_count = 0;
        if (chance(run, 40)) {
            source_team(run, item, packed);
        } else {
            source_receipts(run, item, packed);
        }
    }
    uint64_t back = below(run, taken < 3 ? taken + 1 : 4);
    uint64_t first = chance(run, 8) ? taken + 2 : taken + 1 - (chance(run, 50) ? back : 0);
    size_t count = 1 + below(run, source->last - first + 1);
    struct wp_slice items[SOURCE_ITEMS];
    assert_true(count <= SOURCE_ITEMS);
    for (size_t i = 0; i < count; i++) {
        const struct wp_buffer *packed = &source->packed[(first + i) % SOURCE_ITEMS];
        items[i] = wp_slice(packed->data, packed->size);
        model_take(&run->model, number, first + i, &source->items[(first + i) % SOURCE_ITEMS]);
    }
    fixture_transfer(&run->f, number, first, items, count);
    run->expected[run->command].watermark = run->model.peers[number].taken;
    run->taken += run->model.peers[number].taken > taken;
}

static void do_advance(struct run *run)
{
    static const uint32_t others[] = {1, 2, 4};
    uint32_t number = others[below(run, 3)];
    const struct model_peer *peer = &run->model.peers[number];
    uint64_t watermark = peer->watermark + below(run, peer->last - peer->watermark + 1);
    watermark -= watermark > 0 && chance(run, 10);
    watermark += chance(run, 2) && watermark == peer->last ? 2 : 0; /* this shard forgot some */
    fixture_advance(&run->f, number, watermark);
    model_advance(&run->model, number, watermark);
}

static void do_idle_check(struct run *run)
{
    fixture_idle_check(&run->f);
    model_idle_check(&run->model);
}

static void do_cursors(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    const struct model_user *found = &run->model.users[user];
    uint32_t devices = found->next_device > 1 ? found->next_device - 1 : 1;
    uint32_t device =
        devices - skewed(run, devices); /* the latest most often: one phone in use, others in drawers */
    uint32_t lane = (uint32_t)below(run, WP_SEQUENCE_COUNT);
    uint64_t tail = found->tail[lane];
    if (chance(run, 40)) {
        uint64_t sent = below(run, tail + 3);
        bool overdue = chance(run, 60);
        fixture_sent(&run->f, found->mailbox, device, (Wp__Lane)lane, sent, overdue);
        model_cursor(&run->model, found->mailbox, device, lane, NULL, 0, sent, overdue);
        return;
    }
    uint64_t positions[8];
    uint32_t count = 0;
    uint64_t after = 0;
    for (uint32_t i = (uint32_t)below(run, 8); i > 0; i--) {
        const struct model_message *next = found->devices[device].exists
                                               ? model_next_pending(&run->model, user, device, lane, after, 0)
                                               : NULL;
        bool wild = !next || chance(run, 10);
        positions[count++] = wild ? below(run, tail + 3) : next->sequence;
        after = next ? next->sequence + below(run, 2) : after;
    }
    fixture_acknowledge(&run->f, found->mailbox, device, (Wp__Lane)lane, positions, count);
    model_cursor(&run->model, found->mailbox, device, lane, positions, count, 0, false);
}

static void do_expire(struct run *run)
{
    uint32_t limit = (uint32_t)below(run, 30);
    fixture_expire(&run->f, limit);
    model_expire(&run->model, limit, &run->expected[run->command].expired, &run->expected[run->command].more);
}

static struct wp_machine_limits limits_of(uint64_t number)
{
    return (struct wp_machine_limits){
        .mailbox_messages_max = 1 + number % 4 * 12,
        .mailbox_bytes_max = number % 2 ? 3000 : 100000,
        .body_bytes_max = 300,
        .ttl_default_ms = HOUR_MS,
        .ttl_max_ms = 2u * HOUR_MS,
        .seen_ids_max = number % 4 ? 40 + number % 5 * 60 : 100000,
        .stat_per_minute_max = number % 3,
        .inactive_ms = 3u * HOUR_MS,
        .shard_count = MODEL_SHARDS,
    };
}

/* Also of leaders whose roster is older than what was told before. */
static void do_limits(struct run *run)
{
    struct wp_machine_limits limits = limits_of(below(run, 60));
    uint64_t version = run->model.limits_version + 2 - below(run, 3);
    fixture_limits(&run->f, version, &limits);
    run->expected[run->command].error = model_limits(&run->model, version, &limits);
}

static void command_add(struct run *run)
{
    static const struct {
        uint8_t type;
        uint8_t weight;
        void (*add)(struct run *run);
    } kinds[] = {
        {WP_COMMAND_SUBMIT, 37, do_submit},
        {WP_COMMAND_CURSORS, 26, do_cursors},
        {WP_COMMAND_ATTACH, 8, do_attach},
        {WP_COMMAND_SUBSCRIBE, 4, do_subscribe},
        {WP_COMMAND_TRANSFER_IN, 5, do_transfer},
        {WP_COMMAND_OUTBOX_ADVANCE, 5, do_advance},
        {WP_COMMAND_TEAM_ADD, 1, do_team},
        {WP_COMMAND_TEAM_MEMBER_ADD, 2, do_members},
        {WP_COMMAND_IDLE_CHECK, 1, do_idle_check},
        {WP_COMMAND_EXPIRE, 5, do_expire},
        {WP_COMMAND_DEVICE_ADD, 3, do_device_add},
        {WP_COMMAND_DEVICE_REMOVE, 1, do_device_remove},
        {WP_COMMAND_USER_ADD, 1, do_user_add},
        {WP_COMMAND_LIMITS, 1, do_limits},
    };
    uint64_t draw = below(run, 100);
    uint32_t kind = 0;
    while (draw >= kinds[kind].weight) {
        draw -= kinds[kind++].weight;
    }
    memset(&run->expected[run->command], 0, sizeof run->expected[0]);
    run->expected[run->command].type = kinds[kind].type;
    kinds[kind].add(run);
}

/* A device that takes everything, acknowledges nothing and comes back: two commands for each round. */
static uint32_t storm_add(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    const char *device = device_names[skewed(run, 4)];
    uint32_t number = 0;
    model_device(&run->model, user, device, &number);
    for (run->command = 0; run->command < COMMANDS_MAX; run->command += 2) {
        memset(&run->expected[run->command], 0, 2 * sizeof run->expected[0]);
        run->expected[run->command].type = WP_COMMAND_ATTACH;
        attach_add(run, user, device);
        run->expected[run->command + 1].type = WP_COMMAND_CURSORS;
        uint32_t lane = (uint32_t)below(run, WP_LANE_COUNT - 1);
        const struct model_user *found = &run->model.users[user];
        fixture_sent(&run->f, found->mailbox, number, (Wp__Lane)lane, found->tail[lane], true);
        model_cursor(&run->model, found->mailbox, number, lane, NULL, 0, found->tail[lane], true);
    }
    return COMMANDS_MAX;
}

static uint32_t commands_add(struct run *run)
{
    if (chance(run, 8)) {
        return storm_add(run);
    }
    uint32_t count = 1 + (uint32_t)below(run, COMMANDS_MAX);
    for (run->command = 0; run->command < count; run->command++) {
        command_add(run);
    }
    return count;
}

static void check_submit(const struct run *run, const struct wp_result *result)
{
    const struct model_submit_result *expected = &run->expected[run->command].submit;
    expect(run, "duplicate", result->submit.duplicate, expected->duplicate);
    expect(run, "resend_from", result->submit.resend_from, expected->resend_from);
    if (result->error) {
        return;
    }
    expect(run, "accepted_ms", result->submit.accepted_ms, expected->accepted_ms);
    const struct model_submit *asked = &run->expected[run->command].asked;
    if (!expected->duplicate && asked->to_team) {
        expect(run, "mailbox of a team", result->submit.mailbox, 0);
    } else if (!expected->duplicate) {
        expect(run, "sequence", result->submit.sequence, expected->sequence);
        expect(run, "expires_ms", result->submit.expires_ms, expected->expires_ms);
        expect(run, "mailbox", result->submit.mailbox, run->model.users[asked->recipient].mailbox);
        expect(run, "lane", result->submit.lane, asked->lane);
        expect(run, "envelope size", result->submit.envelope.size, asked->envelope_size);
    }
}

static void check_attach(struct run *run, const struct wp_result *result)
{
    const struct model_attach_result *expected = &run->expected[run->command].attach;
    if (!result->error) {
        expect(run, "device", result->attach.device, expected->device);
        expect(run, "epoch", result->attach.epoch, expected->epoch);
        expect(run, "session_present", result->attach.session_present, expected->session_present);
        expect(run, "set_aside", result->attach.set_aside, expected->set_aside);
        run->set_aside += expected->set_aside;
    }
}

static void check_results(struct run *run, const struct wp_applied *applied, uint32_t count)
{
    expect(run, "result count", applied->result_count, count);
    for (run->command = 0; run->command < count; run->command++) {
        const struct wp_result *result = &applied->results[run->command];
        expect(run, "command", result->command, run->expected[run->command].type);
        expect(run, "error", (uint64_t)result->error, (uint64_t)run->expected[run->command].error);
        run->seen_errors |= 1ull << -result->error;
        switch (result->command) {
        case WP_COMMAND_SUBMIT:
            check_submit(run, result);
            break;
        case WP_COMMAND_ATTACH:
            check_attach(run, result);
            break;
        case WP_COMMAND_DEVICE_ADD:
        case WP_COMMAND_DEVICE_REMOVE:
            expect(run, "admin.device", result->admin.device, run->expected[run->command].admin_device);
            break;
        case WP_COMMAND_EXPIRE:
            expect(run, "expired", result->expire.expired, run->expected[run->command].expired);
            expect(run, "more", result->expire.more, run->expected[run->command].more);
            break;
        case WP_COMMAND_TRANSFER_IN:
            expect(run, "watermark", result->transfer.watermark, run->expected[run->command].watermark);
            break;
        case WP_COMMAND_TEAM_MEMBER_ADD:
        case WP_COMMAND_TEAM_MEMBER_REMOVE:
            expect(run, "members changed", result->team.changed, run->expected[run->command].changed);
            expect(run, "epoch of the team", result->team.epoch, run->expected[run->command].epoch);
            break;
        default:
            break;
        }
    }
    expect(run, "removal count", applied->removal_count, run->model.removal_count);
    for (uint32_t i = 0; i < run->model.removal_count; i++) {
        const struct wp_removal *removal = &run->model.removals[i];
        expect(run, "removal mailbox", applied->removals[i].mailbox, removal->mailbox);
        expect(run, "removal lane", applied->removals[i].lane, removal->lane);
        expect(run, "removal sequence", applied->removals[i].sequence, removal->sequence);
    }
    expect(run, "appended count", applied->appended_count, run->model.appended_count);
    for (uint32_t i = 0; i < run->model.appended_count; i++) {
        const struct model_appended *appended = &run->model.appended[i];
        expect(
            run, "appended mailbox", applied->appended[i].mailbox, run->model.users[appended->user].mailbox);
        expect(run, "appended lane", applied->appended[i].lane, appended->lane);
        expect(run, "appended sequence", applied->appended[i].sequence, appended->sequence);
        run->receipts += appended->lane == WP__LANE__RECEIPT;
    }
    expect(run, "idle count", applied->idle_count, run->model.idle_count);
    run->copies += run->model.copy_count;
    run->idle += applied->idle_count;
}

/* A receipt that is kept says what the model says. */
static void check_receipt(struct run *run, uint32_t user, const struct model_message *row)
{
    struct wp_receipt_view view;
    const struct model_user *found = &run->model.users[user];
    int error = wp_machine_receipt(run->f.machine, found->mailbox, row->sequence, &view);
    expect(run, "receipt found", (uint64_t)error, WP_OK);
    bool idle = row->state == WP__RECEIPT_STATE__IDLE;
    const char *person = idle ? found->devices[row->idle_device].name : people[row->told];
    expect(run, "receipt person", (uint64_t)strcmp(view.person, person), 0);
    expect(run, "receipt state", view.state, row->state);
    expect(run, "receipt error", (uint64_t)view.error, (uint64_t)row->error);
    expect(run, "receipt time", view.time_ms + WP_RECEIPT_LIFE_MS, row->expires_ms);
    expect(run, "receipt id", (uint64_t)memcmp(view.id, row->id, 16), 0);
}

static void check_ends(struct run *run, const Wp__OutboxReceipts *receipts, const struct model_item *item)
{
    expect(run, "receipts in an item", receipts->n_receipts, item->end_count);
    for (uint32_t i = 0; i < item->end_count; i++) {
        const Wp__OutboxReceipt *told = receipts->receipts[i];
        const struct model_end *end = &item->ends[i];
        expect(run, "told", (uint64_t)strcmp(told->sender, people[end->sender]), 0);
        expect(run, "person", (uint64_t)strcmp(told->receipt->person, people[end->person]), 0);
        expect(run, "state", told->receipt->state, end->state);
        expect(run, "why", (uint64_t)told->receipt->error, (uint64_t)end->error);
        expect(run, "when", told->receipt->time_ms, end->time_ms);
        expect(run, "id", (uint64_t)memcmp(told->receipt->message_id.data, end->id, 16), 0);
    }
}

static void check_item(struct run *run, uint32_t destination, const struct model_item *item)
{
    struct wp_arena arena;
    wp_arena_init(&arena, 1u << 20);
    uint32_t receipts;
    struct wp_slice packed = wp_machine_outbox_item(run->f.machine, destination, item->sequence, &receipts);
    Wp__OutboxItem *owed;
    int error = wp_schema_decode(&wp__outbox_item__descriptor, packed, &arena, (ProtobufCMessage **)&owed);
    expect(run, "item decodes", (uint64_t)error, WP_OK);
    expect(run, "kind of an item", owed->team != NULL, item->team);
    expect(run, "count of receipts", receipts, item->end_count);
    if (!item->team) {
        check_ends(run, owed->receipts, item);
        wp_arena_fini(&arena);
        return;
    }
    expect(run, "expiry", owed->team->expires_ms, item->fan.expires_ms);
    expect(run, "acceptance", owed->team->accepted_ms, item->fan.accepted_ms);
    expect(run, "size", owed->team->envelope.len, item->fan.envelope_size);
    uint32_t recipients = 0;
    for (size_t i = 0; i < owed->team->n_recipients; i++) {
        for (uint32_t person = 0; person < MODEL_PEOPLE; person++) {
            recipients |= strcmp(owed->team->recipients[i], people[person]) ? 0 : 1u << person;
        }
    }
    expect(run, "recipients", recipients, item->fan.recipients);
    wp_arena_fini(&arena);
}

static void check_outbox(struct run *run)
{
    for (uint32_t shard = 1; shard <= MODEL_SHARDS; shard++) {
        struct wp_outbox_view view;
        const struct model_peer *peer = &run->model.peers[shard];
        if (!wp_machine_outbox(run->f.machine, shard, &view)) {
            expect(run, "own shard", shard, MODEL_SHARD);
            continue;
        }
        expect(run, "last given out", view.last, peer->last);
        expect(run, "first pending", view.first, peer->item_count ? peer->items[0].sequence : peer->last + 1);
        expect(run, "taken", wp_machine_taken(run->f.machine, shard), peer->taken);
        for (uint32_t i = 0; i < peer->item_count; i++) {
            check_item(run, shard, &peer->items[i]);
        }
        run->owed += peer->item_count;
    }
}

struct team_check {
    struct run *run;
    uint32_t members;
    uint32_t teams;
};

static void check_member(void *context, const char *user)
{
    struct team_check *check = context;
    for (uint32_t person = 0; person < MODEL_PEOPLE; person++) {
        check->members |= strcmp(user, people[person]) ? 0 : 1u << person;
    }
}

static void check_team(void *context, const struct wp_team_view *view)
{
    struct team_check *check = context;
    struct run *run = check->run;
    const struct model_team *team = &run->model.teams[view->team[1] - '0'];
    expect(run, "team exists", team->exists, 1);
    expect(run, "epoch of a team", view->epoch, team->epoch);
    check->members = 0;
    wp_machine_members_each(run->f.machine, view->team, check_member, check);
    expect(run, "members", check->members, team->members);
    check->teams++;
}

static void check_teams(struct run *run)
{
    struct team_check check = {.run = run};
    uint32_t teams = 0;
    for (uint32_t team = 0; team < MODEL_TEAMS; team++) {
        teams += run->model.teams[team].exists;
    }
    wp_machine_teams_each(run->f.machine, check_team, &check);
    expect(run, "teams", check.teams, teams);
}

/* What would be delivered is the message, also when its body is shared. */
static void check_record(
    struct run *run, uint32_t user, const struct model_message *message, const struct wp_pending *pending)
{
    uint8_t id[16] = {0};
    uint64_t mailbox = run->model.users[user].mailbox;
    expect(run, "body", pending->body, message->body);
    expect(run, "record there", fixture_record_id(&run->f, mailbox, (Wp__Lane)message->lane, pending, id), 1);
    expect(run, "record of the message", (uint64_t)memcmp(id, message->id, 16), 0);
}

static void check_device(struct run *run, uint32_t user, uint32_t device)
{
    uint64_t mailbox = run->model.users[user].mailbox;
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        uint64_t after = 0;
        for (;;) {
            struct wp_pending pending = {0};
            const struct model_message *next =
                model_next_pending(&run->model, user, device, lane, after, run->model.time_ms);
            bool found = wp_machine_next_pending(
                run->f.machine, mailbox, device, (Wp__Lane)lane, after, run->model.time_ms, &pending);
            expect(run, "pending found", found, next != NULL);
            if (!next) {
                break;
            }
            expect(run, "pending sequence", pending.sequence, next->sequence);
            expect(run, "pending size", pending.size, next->size);
            if (lane == WP__LANE__RECEIPT) {
                check_receipt(run, user, next);
            } else {
                check_record(run, user, next, &pending);
            }
            expect(run, "pending expiry", pending.expires_ms, next->expires_ms);
            expect(run, "pending sent before", pending.sent_before,
                next->sequence <= run->model.users[user].devices[device].sent[lane]);
            after = next->sequence;
        }
    }
}

struct device_check {
    struct run *run;
    uint32_t user;
    uint32_t count;
};

static void check_detail(void *context, const struct wp_device_detail *detail)
{
    struct device_check *check = context;
    struct run *run = check->run;
    const struct model_device *device = &run->model.users[check->user].devices[detail->number];
    expect(run, "device exists", device->exists, 1);
    expect(run, "device name", strcmp(detail->device, device->name) == 0, 1);
    expect(run, "device epoch", detail->epoch, device->epoch);
    expect(run, "receipts subscribed", detail->receipts_subscribed, device->receipts);
    expect(run, "last seen", detail->active_ms, device->active_ms);
    for (uint32_t lane = 0; lane < WP_SEQUENCE_COUNT; lane++) {
        expect(run, "pending count", detail->pending[lane],
            model_pending_count(&run->model, check->user, detail->number, lane));
    }
    check_device(run, check->user, detail->number);
    run->inactive += device->inactive;
    check->count++;
}

static void check_state(struct run *run)
{
    struct wp_machine_totals totals;
    wp_machine_totals(run->f.machine, &totals);
    uint64_t bytes, receipts;
    uint64_t kept = model_kept(&run->model, &bytes, &receipts);
    expect(run, "messages", totals.messages, kept);
    expect(run, "bytes", totals.bytes, bytes);
    expect(run, "users", totals.users, run->model.mailboxes);
    uint64_t copies;
    uint64_t bodies = model_bodies(&run->model, &copies);
    expect(run, "message rows", fixture_rows(&run->f, WP_KEY_MESSAGE), kept - copies);
    expect(run, "bodies", totals.bodies, bodies);
    expect(run, "body rows", fixture_rows(&run->f, WP_KEY_BODY), bodies);
    run->shared += copies - bodies;
    expect(run, "receipts", totals.receipts, receipts);
    expect(run, "more index rows than rows", fixture_rows(&run->f, WP_KEY_INDEX) > kept + receipts, 0);
    expect(run, "journal rows over the window", fixture_rows(&run->f, WP_KEY_JOURNAL) > 5, 0);
    uint64_t due_ms = UINT64_MAX;
    for (uint32_t i = run->model.message_first; i < run->model.message_count; i++) {
        const struct model_message *message = &run->model.messages[i];
        due_ms = message->kept && message->expires_ms < due_ms ? message->expires_ms : due_ms;
    }
    expect(run, "expiry due too late", wp_machine_expiry_due_ms(run->f.machine) <= due_ms, 1);
    uint32_t devices = 0;
    for (uint32_t user = 0; user < MODEL_USERS; user++) {
        if (run->model.users[user].exists) {
            struct device_check check = {.run = run, .user = user};
            wp_machine_devices_each(run->f.machine, user_names[user], check_detail, &check);
            devices += check.count;
        }
    }
    expect(run, "devices", totals.devices, devices);
    check_outbox(run);
    check_teams(run);
    expect(run, "hash of the twin", fixture_hash(&run->f), fixture_hash(&run->twin));
}

static void time_step(struct run *run)
{
    uint64_t draw = below(run, 1000);
    uint64_t step_ms = draw < 700   ? below(run, 3000)
                       : draw < 960 ? below(run, 2 * MINUTE_MS)
                       : draw < 990 ? below(run, 40 * MINUTE_MS)
                       : draw < 995 ? below(run, 5 * HOUR_MS)
                                    : 0;
    run->f.time_ms += step_ms;
    if (draw >= 998) {
        run->f.time_ms += 25ull * HOUR_MS;
    }
}

static void run_entry(struct run *run)
{
    time_step(run);
    uint64_t back_ms = chance(run, 5) ? below(run, MINUTE_MS) : 0; /* a leader whose clock is behind */
    run->f.time_ms -= back_ms;
    fixture_begin(&run->f);
    run->f.time_ms += back_ms;
    model_time(&run->model, run->f.time_ms - back_ms);
    uint32_t count = commands_add(run);
    uint32_t removals_before = run->model.removal_count;
    model_close(&run->model);
    run->dropped += run->model.removal_count - removals_before;
    fixture_apply(&run->f);
    check_results(run, &run->f.applied, count);
    wp_arena_reset(&run->twin.arena);
    struct wp_slice entry = wp_slice(run->f.entry.data, run->f.entry.size);
    int error = wp_machine_apply(
        run->twin.machine, ++run->twin.index, 1, entry, &run->twin.arena, &run->twin.applied);
    expect(run, "error of the twin", (uint64_t)error, WP_OK);
    check_results(run, &run->twin.applied, count);
    wp_state_flush_if_due(run->f.store);
    if (chance(run, 5)) {
        fixture_restart(&run->f);
        check_state(run);
    } else if (chance(run, 5)) {
        fixture_crash(&run->f, wp_prng_next(&run->prng));
        check_state(run);
    } else if (chance(run, 10)) {
        check_state(run);
    }
}

static void limits_set(struct fixture *f, uint64_t number)
{
    f->limits = limits_of(number);
    fixture_restart(f);
}

/* From here on both have the same limits, whatever they began with. */
static void limits_tell(struct run *run)
{
    const struct wp_machine_limits limits = limits_of(run->seed);
    struct fixture *const both[] = {&run->f, &run->twin};
    for (int i = 0; i < 2; i++) {
        fixture_begin(both[i]);
        fixture_limits(both[i], 1, &limits);
        assert_int_equal(fixture_apply(both[i])->error, WP_OK);
    }
    model_init(&run->model, &limits, run->f.time_ms);
    run->model.limits_version = 1;
}

struct coverage {
    uint64_t errors;
    uint32_t trimmed;
    uint32_t set_aside;
    uint32_t inactive;
    uint32_t idle, copies, receipts, owed, taken, dropped;
    uint64_t shared;
};

static uint32_t shard_of(const void *context, uint32_t person)
{
    const struct run *run = context;
    return fixture_shard_of(&run->f, people[person]);
}

/* Names in the order of `people`: the first live in the shard, the others do not. */
static void names_choose(void)
{
    static const uint8_t key[16];
    uint32_t number = 0;
    for (uint32_t person = 0; person < MODEL_PEOPLE; number++) {
        snprintf(people_names[person], sizeof people_names[person], "p%u", number);
        bool here = wp_shard_of(key, MODEL_SHARDS, people_names[person]) == MODEL_SHARD;
        if (here == (person < MODEL_USERS)) {
            people[person] = people_names[person];
            person++;
        }
    }
}

static void run_seed(unsigned long seed, struct coverage *coverage)
{
    struct run *run = calloc(1, sizeof *run);
    assert_non_null(run);
    run->seed = seed;
    wp_prng_init(&run->prng, seed);
    fixture_init(&run->f);
    fixture_init(&run->twin);
    wp_prng_init(&run->f.prng, seed + 1000000);
    limits_set(&run->f, seed + 1);
    limits_set(&run->twin, seed + 2);
    limits_tell(run);
    run->model.people = people;
    run->model.shard_of = shard_of;
    run->model.context = run;
    for (run->entry = 0; run->entry < ENTRIES; run->entry++) {
        run_entry(run);
    }
    fixture_restart(&run->f);
    check_state(run);
    coverage->errors |= run->seen_errors;
    coverage->trimmed += run->trimmed;
    coverage->set_aside += run->set_aside;
    coverage->inactive += run->inactive;
    coverage->idle += run->idle;
    coverage->copies += run->copies;
    coverage->receipts += run->receipts;
    coverage->owed += run->owed;
    coverage->taken += run->taken;
    coverage->dropped += run->dropped;
    coverage->shared += run->shared;
    for (uint32_t shard = 1; shard <= MODEL_SHARDS; shard++) {
        for (uint32_t i = 0; i < SOURCE_ITEMS; i++) {
            free(run->sources[shard].items[i].ends);
            wp_buffer_free(&run->sources[shard].packed[i]);
        }
    }
    model_fini(&run->model);
    fixture_fini(&run->f);
    fixture_fini(&run->twin);
    free(run);
}

static void test_against_the_model(void **state)
{
    (void)state;
    const char *only = getenv("WP_SEED");
    const char *many = getenv("WP_SEEDS");
    struct coverage coverage = {0};
    if (only) {
        run_seed(strtoul(only, NULL, 10), &coverage);
        return;
    }
    unsigned long seeds = many ? strtoul(many, NULL, 10) : 20;
    for (unsigned long seed = 1; seed <= seeds; seed++) {
        run_seed(seed, &coverage);
    }
    /* The generator reaches every rule, or agreement would prove little. */
    assert_true(coverage.trimmed > 10);
    assert_true(coverage.set_aside > 10);
    assert_true(coverage.inactive > 10);
    assert_true(coverage.idle > 10);
    assert_true(coverage.copies > 100);
    assert_true(coverage.receipts > 100);
    assert_true(coverage.owed > 100);
    assert_true(coverage.taken > 100);
    assert_true(coverage.dropped > 10);
    assert_true(coverage.shared > 100);
    static const int reached[] = {WP_E_RESEND, WP_E_STALE_EPOCH, WP_E_BODY_TOO_LARGE, WP_E_UNKNOWN_RECIPIENT,
        WP_E_EXPIRY_TOO_LONG, WP_E_ID_TOO_OLD, WP_E_ID_IN_FUTURE, WP_E_SEEN_FULL, WP_E_RATE,
        WP_E_MAILBOX_FULL, WP_E_DENIED, WP_E_EXISTS, WP_E_NOT_FOUND};
    for (size_t i = 0; i < sizeof reached / sizeof reached[0]; i++) {
        if (!(coverage.errors >> -reached[i] & 1)) {
            fail_msg("no seed met the refusal \"%s\"", wp_error_text(reached[i]));
        }
    }
}

int wp_machine_bug;

/* A machine with a bug may also stop at an assertion of its own; to the test runner that is a find like any
 * other. */
static void on_abort(int signal)
{
    (void)signal;
    _exit(1);
}

int main(void)
{
    names_choose();
    const char *bug = getenv("WP_MACHINE_BUG");
    if (bug) {
        wp_machine_bug = atoi(bug);
        signal(SIGABRT, on_abort);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
