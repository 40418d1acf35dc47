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

static const char *const user_names[MODEL_USERS] = {"u0", "u1", "u2", "u3", "u4", "u5"};
static const char *const device_names[] = {"a", "b", "c", "d"};
static const char *const sender_names[SENDER_USERS] = {"s0", "s1", "s2", "s3", "s4"};

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
    } expected[COMMANDS_MAX];
    struct wp_removal removals[512];
    uint32_t removal_count;
    uint64_t seen_errors; /* bit -error for each refusal met, so that the generator is known to reach them */
    uint32_t trimmed;     /* likewise: messages gone for the bound of what is kept */
    uint32_t set_aside;   /* messages set aside, devices turned inactive */
    uint32_t inactive;
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
    const struct model_stream *stream = &run->model.streams[asked.stream];
    asked.epoch = stream->epoch ? stream->epoch : 1;
    asked.sequence = stream->epoch ? stream->sequence + 1 : 1;
    if (chance(run, 15)) {
        asked.epoch += below(run, 3);
        asked.epoch -= asked.epoch > 1 ? below(run, 2) : 0;
        asked.sequence = chance(run, 50) ? 1 : below(run, asked.sequence + 3);
    }
    struct message message = {
        .recipient = user_names[asked.recipient],
        .lane = (Wp__Lane)below(run, WP_LANE_COUNT),
        .ttl_ms = chance(run, 70)   ? below(run, 90 * MINUTE_MS)
                  : chance(run, 80) ? 0
                                    : 3ull * HOUR_MS,
        .body_size = chance(run, 95) ? below(run, 300) : 301,
    };
    id_choose(run, asked.stream, message.id);
    struct sender sender = {
        .user = sender_names[asked.sender_user], .device = asked.stream % 2 ? "d1" : "d0"};
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
    run->expected[run->command].submit = model_submit(&run->model, &asked);
    const struct model_submit_result *result = &run->expected[run->command].submit;
    run->expected[run->command].error = result->error;
    memcpy(run->removals + run->removal_count, result->removals,
        result->removal_count * sizeof *result->removals);
    run->removal_count += result->removal_count;
    run->trimmed += result->removal_count;
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
    fixture_device_add(&run->f, user < MODEL_USERS ? user_names[user] : "nobody", device);
    uint32_t number = 0;
    run->expected[run->command].error =
        user < MODEL_USERS ? model_device_add(&run->model, user, device, &number) : WP_E_NOT_FOUND;
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
    fixture_subscribe(&run->f, user_names[user], device, epoch, true);
    run->expected[run->command].error = model_subscribe(&run->model, user, device, epoch, true);
}

static void do_cursors(struct run *run)
{
    uint32_t user = skewed(run, MODEL_USERS);
    const struct model_user *found = &run->model.users[user];
    uint32_t devices = found->next_device > 1 ? found->next_device - 1 : 1;
    uint32_t device =
        devices - skewed(run, devices); /* the latest most often: one phone in use, others in drawers */
    uint32_t lane = (uint32_t)below(run, WP_LANE_COUNT);
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
    run->removal_count += model_expire(&run->model, limit, run->removals + run->removal_count,
        &run->expected[run->command].expired, &run->expected[run->command].more);
}

static void command_add(struct run *run)
{
    static const struct {
        uint8_t type;
        uint8_t weight;
        void (*add)(struct run *run);
    } kinds[] = {
        {WP_COMMAND_SUBMIT, 46, do_submit},
        {WP_COMMAND_CURSORS, 30, do_cursors},
        {WP_COMMAND_ATTACH, 12, do_attach},
        {WP_COMMAND_SUBSCRIBE, 2, do_subscribe},
        {WP_COMMAND_EXPIRE, 5, do_expire},
        {WP_COMMAND_DEVICE_ADD, 3, do_device_add},
        {WP_COMMAND_DEVICE_REMOVE, 1, do_device_remove},
        {WP_COMMAND_USER_ADD, 1, do_user_add},
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
    if (!expected->duplicate) {
        const struct model_submit *asked = &run->expected[run->command].asked;
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
        default:
            break;
        }
    }
    expect(run, "removal count", applied->removal_count, run->removal_count);
    for (uint32_t i = 0; i < run->removal_count; i++) {
        expect(run, "removal mailbox", applied->removals[i].mailbox, run->removals[i].mailbox);
        expect(run, "removal lane", applied->removals[i].lane, run->removals[i].lane);
        expect(run, "removal sequence", applied->removals[i].sequence, run->removals[i].sequence);
    }
}

static void check_device(struct run *run, uint32_t user, uint32_t device)
{
    uint64_t mailbox = run->model.users[user].mailbox;
    for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
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
    for (uint32_t lane = 0; lane < WP_LANE_COUNT; lane++) {
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
    uint64_t bytes;
    uint64_t kept = model_kept(&run->model, &bytes);
    expect(run, "messages", totals.messages, kept);
    expect(run, "bytes", totals.bytes, bytes);
    expect(run, "users", totals.users, run->model.mailboxes);
    expect(run, "message rows", fixture_rows(&run->f, WP_KEY_MESSAGE), kept);
    expect(run, "more index rows than messages", fixture_rows(&run->f, WP_KEY_INDEX) > kept, 0);
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
    run->removal_count = 0;
    uint32_t count = commands_add(run);
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

static void limits_set(struct fixture *f, unsigned long seed)
{
    f->limits = (struct wp_machine_limits){
        .mailbox_messages_max = 1 + seed % 4 * 12,
        .mailbox_bytes_max = seed % 2 ? 3000 : 100000,
        .body_bytes_max = 300,
        .ttl_default_ms = HOUR_MS,
        .ttl_max_ms = 2u * HOUR_MS,
        .seen_ids_max = seed % 4 ? 40 + seed % 5 * 60 : 100000,
        .stat_per_minute_max = seed % 3,
        .inactive_ms = 3u * HOUR_MS,
    };
    fixture_restart(f);
}

struct coverage {
    uint64_t errors;
    uint32_t trimmed;
    uint32_t set_aside;
    uint32_t inactive;
};

static void run_seed(unsigned long seed, struct coverage *coverage)
{
    struct run *run = calloc(1, sizeof *run);
    assert_non_null(run);
    run->seed = seed;
    wp_prng_init(&run->prng, seed);
    fixture_init(&run->f);
    fixture_init(&run->twin);
    wp_prng_init(&run->f.prng, seed + 1000000);
    limits_set(&run->f, seed);
    limits_set(&run->twin, seed);
    model_init(&run->model, &run->f.limits, 0);
    for (run->entry = 0; run->entry < ENTRIES; run->entry++) {
        run_entry(run);
    }
    fixture_restart(&run->f);
    check_state(run);
    coverage->errors |= run->seen_errors;
    coverage->trimmed += run->trimmed;
    coverage->set_aside += run->set_aside;
    coverage->inactive += run->inactive;
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
    static const int reached[] = {WP_E_RESEND, WP_E_STALE_EPOCH, WP_E_BODY_TOO_LARGE, WP_E_UNKNOWN_RECIPIENT,
        WP_E_EXPIRY_TOO_LONG, WP_E_ID_TOO_OLD, WP_E_ID_IN_FUTURE, WP_E_SEEN_FULL, WP_E_RATE,
        WP_E_MAILBOX_FULL, WP_E_EXISTS, WP_E_NOT_FOUND};
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
