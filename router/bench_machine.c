/* wp-bench-machine DIR [users] [messages]: what the state machine costs alone, on the RocksDB body and
 * without a log.
 *
 * CPU time of submits of 512 bytes over all users in entries of 64, each entry followed by one that
 * acknowledges it; then a mailbox fill without acknowledgements, the memory that takes, and the time to load
 * it again. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "base/prng.h"
#include "proto/frame.h"
#include "proto/uuid.h"
#include "router/machine.h"

#define SHARD 1u
#define BODY_SIZE 512u
#define ENTRY_COMMANDS 64u
#define FILL_PER_USER 10u

struct bench {
    struct wp_store *store;
    struct wp_machine *machine;
    struct wp_machine_limits limits;
    struct wp_prng prng;
    uint64_t index;
    uint64_t time_ms;
    uint32_t users;
    uint64_t *stream_sequences; /* one sender device per user */
    struct wp_buffer entry;
    struct wp_buffer envelope;
    struct wp_arena arena;
    struct wp_applied applied;
    uint64_t apply_us;
};

static void must(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "%s: %s\n", what, wp_error_text(error));
        exit(1);
    }
}

/* CPU time of this thread: the figures are costs, and hold beside other load. */
static uint64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void entry_begin(struct bench *bench)
{
    bench->entry.size = 0;
    wp_arena_reset(&bench->arena);
    must(wp_entry_head_encode(bench->time_ms, &bench->entry), "entry");
}

static void entry_apply(struct bench *bench)
{
    uint64_t begin_us = cpu_us();
    must(wp_machine_apply(bench->machine, ++bench->index, 1, wp_slice(bench->entry.data, bench->entry.size),
             &bench->arena, &bench->applied),
        "apply");
    bench->apply_us += cpu_us() - begin_us;
    for (uint32_t i = 0; i < bench->applied.result_count; i++) {
        must(bench->applied.results[i].error, "command");
    }
    wp_state_flush_if_due(bench->store);
}

static void append(struct bench *bench, uint8_t type, const ProtobufCMessage *message)
{
    must(wp_schema_append(&bench->entry, type, message), "command");
}

static void users_add(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->users; i++) {
        char user[16];
        static char device[] = "phone";
        uint8_t hash[WP_SECRET_HASH_SIZE] = {1};
        snprintf(user, sizeof user, "user%u", i);
        entry_begin(bench);
        Wp__CommandUserAdd add = WP__COMMAND_USER_ADD__INIT;
        add.user = user;
        append(bench, WP_COMMAND_USER_ADD, &add.base);
        Wp__CommandDeviceAdd device_add = WP__COMMAND_DEVICE_ADD__INIT;
        device_add.user = user;
        device_add.device = device;
        device_add.secret_hash = (ProtobufCBinaryData){.len = sizeof hash, .data = hash};
        append(bench, WP_COMMAND_DEVICE_ADD, &device_add.base);
        entry_apply(bench);
    }
}

static void submit_append(struct bench *bench, uint32_t from, uint32_t to)
{
    static uint8_t body[BODY_SIZE];
    static char device[] = "phone";
    char sender[16], recipient[16];
    uint8_t random[10], id[WP_UUID_SIZE];
    snprintf(sender, sizeof sender, "user%u", from);
    snprintf(recipient, sizeof recipient, "user%u", to);
    wp_put_u64le(random, wp_prng_next(&bench->prng));
    random[8] = random[9] = 0;
    wp_uuid7_make(bench->time_ms, random, id);
    Wp__Header header = WP__HEADER__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
    header.sender = sender;
    header.sender_device = device;
    header.recipient = recipient;
    header.lane = (Wp__Lane)wp_prng_below(&bench->prng, WP_LANE_COUNT);
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    envelope.header = &header;
    envelope.body = (ProtobufCBinaryData){.len = sizeof body, .data = body};
    bench->envelope.size = wp__envelope__get_packed_size(&envelope);
    size_t size = bench->envelope.size;
    bench->envelope.size = 0;
    uint8_t *p = wp_buffer_reserve(&bench->envelope, size);
    must(p ? WP_OK : WP_E_NOMEM, "envelope");
    wp__envelope__pack(&envelope, p);
    Wp__CommandSubmit submit = WP__COMMAND_SUBMIT__INIT;
    submit.user = sender;
    submit.device = device;
    submit.epoch = 1;
    submit.sequence = ++bench->stream_sequences[from];
    submit.envelope = (ProtobufCBinaryData){.len = size, .data = p};
    append(bench, WP_COMMAND_SUBMIT, &submit.base);
}

static void acknowledge_append(struct bench *bench, const struct wp_applied *applied)
{
    Wp__CursorAdvance advances[ENTRY_COMMANDS];
    Wp__CursorAdvance *advance_list[ENTRY_COMMANDS];
    Wp__Positions positions[ENTRY_COMMANDS];
    Wp__Positions *position_lists[ENTRY_COMMANDS];
    uint64_t sequences[ENTRY_COMMANDS];
    for (uint32_t i = 0; i < applied->result_count; i++) {
        const struct wp_result *result = &applied->results[i];
        sequences[i] = result->submit.sequence;
        positions[i] = (Wp__Positions)WP__POSITIONS__INIT;
        positions[i].lane = result->submit.lane;
        positions[i].n_sequence = 1;
        positions[i].sequence = &sequences[i];
        position_lists[i] = &positions[i];
        advances[i] = (Wp__CursorAdvance)WP__CURSOR_ADVANCE__INIT;
        advances[i].mailbox = result->submit.mailbox;
        advances[i].device = 1;
        advances[i].n_acknowledged = 1;
        advances[i].acknowledged = &position_lists[i];
        advance_list[i] = &advances[i];
    }
    Wp__CommandCursors command = WP__COMMAND_CURSORS__INIT;
    command.n_advances = applied->result_count;
    command.advances = advance_list;
    bench->entry.size = 0;
    must(wp_entry_head_encode(bench->time_ms, &bench->entry), "entry");
    append(bench, WP_COMMAND_CURSORS, &command.base);
}

static void flow(struct bench *bench, uint64_t messages)
{
    uint64_t submit_us = 0;
    uint64_t cursor_us = 0;
    for (uint64_t sent = 0; sent < messages; sent += ENTRY_COMMANDS) {
        bench->time_ms += 1;
        entry_begin(bench);
        for (uint32_t i = 0; i < ENTRY_COMMANDS; i++) {
            submit_append(bench, (uint32_t)wp_prng_below(&bench->prng, bench->users),
                (uint32_t)wp_prng_below(&bench->prng, bench->users));
        }
        bench->apply_us = 0;
        entry_apply(bench);
        submit_us += bench->apply_us;
        acknowledge_append(bench, &bench->applied);
        bench->apply_us = 0;
        entry_apply(bench);
        cursor_us += bench->apply_us;
    }
    double count = (double)messages;
    printf("flow: %" PRIu64 " messages of %u bytes over %u users, entries of %u\n", messages, BODY_SIZE,
        bench->users, ENTRY_COMMANDS);
    printf(
        "  submit %.2f us each (%.0f per CPU second), acknowledge %.2f us each, both %.0f per CPU second\n",
        (double)submit_us / count, count * 1e6 / (double)submit_us, (double)cursor_us / count,
        count * 1e6 / (double)(submit_us + cursor_us));
}

static void fill(struct bench *bench)
{
    bench->time_ms += 1000;
    for (uint32_t round = 0; round < FILL_PER_USER; round++) {
        for (uint32_t user = 0; user < bench->users; user += ENTRY_COMMANDS) {
            entry_begin(bench);
            for (uint32_t i = user; i < user + ENTRY_COMMANDS && i < bench->users; i++) {
                submit_append(bench, (i + round) % bench->users, i);
            }
            entry_apply(bench);
        }
    }
    must(wp_state_flush(bench->store), "flush");
    wp_machine_destroy(&bench->machine);
    uint64_t begin_us = cpu_us();
    must(wp_machine_create(bench->store, SHARD, &bench->limits, &bench->machine), "load");
    uint64_t load_us = cpu_us() - begin_us;
    struct wp_machine_totals totals;
    wp_machine_totals(bench->machine, &totals);
    size_t with = mallinfo2().uordblks + mallinfo2().hblkhd;
    wp_machine_destroy(&bench->machine);
    size_t without = mallinfo2().uordblks + mallinfo2().hblkhd;
    printf("load: %" PRIu64 " mailboxes, %" PRIu64 " messages in %.0f ms of CPU, %.1f MiB of heap\n",
        totals.users, totals.messages, (double)load_us / 1000, (double)(with - without) / (1 << 20));
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: wp-bench-machine DIR [users] [messages]\n");
        return 64;
    }
    struct bench bench = {
        .limits =
            {
                .mailbox_messages_max = 10000,
                .mailbox_bytes_max = 64u << 20,
                .body_bytes_max = 1u << 20,
                .ttl_default_ms = 7ull * 24 * 3600 * 1000,
                .ttl_max_ms = 30ull * 24 * 3600 * 1000,
                .seen_ids_max = 4u << 20,
                .inactive_ms = 7ull * 24 * 3600 * 1000,
            },
        .time_ms = 1700000000000u,
        .users = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000,
    };
    uint64_t messages = argc > 3 ? strtoull(argv[3], NULL, 10) : 300000;
    struct wp_store_config config = {.path = argv[1], .disk_reserve_bytes = 0, .allow_volatile = true};
    char text[512];
    int error = wp_store_open_rocks(&config, &bench.store, text, sizeof text);
    if (error) {
        fprintf(stderr, "%s: %s\n", argv[1], text);
        return 1;
    }
    wp_prng_init(&bench.prng, 1);
    wp_arena_init(&bench.arena, 64u << 20);
    bench.stream_sequences = calloc(bench.users, sizeof *bench.stream_sequences);
    must(bench.stream_sequences ? WP_OK : WP_E_NOMEM, "streams");
    must(wp_machine_create(bench.store, SHARD, &bench.limits, &bench.machine), "create");
    users_add(&bench);
    flow(&bench, messages);
    fill(&bench);
    wp_machine_destroy(&bench.machine);
    wp_store_close(&bench.store);
    free(bench.stream_sequences);
    wp_buffer_free(&bench.entry);
    wp_buffer_free(&bench.envelope);
    wp_arena_fini(&bench.arena);
    return 0;
}
