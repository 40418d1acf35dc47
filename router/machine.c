/* Life of the machine and the walk through an entry. What each command does stands in machine_submit.c,
 * machine_users.c, machine_cursors.c, machine_team.c, machine_outbox.c, machine_receipt.c and
 * machine_limits.c; what is written and when in machine_flush.c. */
#include "router/machine.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/frame.h"
#include "router/machine_inner.h"

#define COMMAND_ARENA_MAX                                                                                    \
    (64u * 1024 * 1024) /* an entry of 2 MiB of one-byte positions decodes to 16 MiB                         \
                         */

int wp_machine_create(struct wp_store *store, uint32_t shard, const struct wp_machine_limits *limits,
    struct wp_machine **ret_machine)
{
    struct wp_machine *machine = calloc(1, sizeof *machine);
    if (!machine) {
        return WP_E_NOMEM;
    }
    machine->store = store;
    machine->shard = shard;
    machine->limits = *limits;
    wp_names_init(&machine->users, wp_mailbox_key);
    wp_streams_init(&machine->streams);
    wp_rates_init(&machine->rates);
    wp_names_init(&machine->teams, wp_team_key);
    wp_intern_init(&machine->intern);
    wp_arena_init(&machine->arena, COMMAND_ARENA_MAX);
    int error = wp_machine_limits_load(machine);
    error = error ? error : wp_seen_create(machine->limits.seen_ids_max, &machine->seen);
    error = error ? error : wp_outbox_init(&machine->outbox, limits->shard_count);
    machine->batch = wp_state_batch_create(store);
    error = error ? error : machine->batch ? wp_machine_load(machine) : WP_E_NOMEM;
    if (error) {
        wp_machine_destroy(&machine);
        return error;
    }
    uint64_t term;
    wp_state_applied(store, shard, &machine->applied_index, &term);
    *ret_machine = machine;
    return WP_OK;
}

void wp_machine_destroy(struct wp_machine **machine)
{
    struct wp_machine *taken = *machine;
    *machine = NULL;
    if (!taken) {
        return;
    }
    for (uint32_t i = 0; i < taken->mailbox_count; i++) {
        wp_mailbox_destroy(taken->mailboxes[i]);
    }
    free(taken->mailboxes);
    for (uint32_t i = 0; i < taken->teams.capacity; i++) {
        if (taken->teams.slots[i].object) {
            wp_team_destroy(taken->teams.slots[i].object);
        }
    }
    wp_names_fini(&taken->teams);
    wp_names_fini(&taken->users);
    wp_outbox_fini(&taken->outbox);
    wp_bodies_fini(&taken->bodies);
    wp_intern_fini(&taken->intern);
    wp_streams_fini(&taken->streams);
    wp_rates_fini(&taken->rates);
    wp_seen_destroy(&taken->seen);
    wp_expiry_fini(&taken->expiry);
    wp_journal_fini(&taken->journal);
    if (taken->batch) {
        wp_state_batch_destroy(&taken->batch);
    }
    wp_buffer_free(&taken->dirty_streams);
    wp_buffer_free(&taken->seen_ids);
    wp_buffer_free(&taken->removals);
    wp_buffer_free(&taken->appended);
    wp_buffer_free(&taken->idle);
    wp_buffer_free(&taken->ended);
    wp_buffer_free(&taken->item);
    wp_buffer_free(&taken->journal_row);
    wp_buffer_free(&taken->scratch);
    wp_arena_fini(&taken->arena);
    free(taken);
}

typedef int (*apply_command)(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);

static const apply_command commands[] = {
    [WP_COMMAND_SUBMIT] = wp_apply_submit,
    [WP_COMMAND_ATTACH] = wp_apply_attach,
    [WP_COMMAND_SUBSCRIBE] = wp_apply_subscribe,
    [WP_COMMAND_CURSORS] = wp_apply_cursors,
    [WP_COMMAND_EXPIRE] = wp_apply_expire,
    [WP_COMMAND_USER_ADD] = wp_apply_user_add,
    [WP_COMMAND_DEVICE_ADD] = wp_apply_device_add,
    [WP_COMMAND_DEVICE_REMOVE] = wp_apply_device_remove,
    [WP_COMMAND_TEAM_ADD] = wp_apply_team_add,
    [WP_COMMAND_TEAM_REMOVE] = wp_apply_team_remove,
    [WP_COMMAND_TEAM_MEMBER_ADD] = wp_apply_team_member_add,
    [WP_COMMAND_TEAM_MEMBER_REMOVE] = wp_apply_team_member_remove,
    [WP_COMMAND_TRANSFER_IN] = wp_apply_transfer_in,
    [WP_COMMAND_OUTBOX_ADVANCE] = wp_apply_outbox_advance,
    [WP_COMMAND_IDLE_CHECK] = wp_apply_idle_check,
    [WP_COMMAND_LIMITS] = wp_apply_limits,
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

/* Number of commands; WP_E_CORRUPT when the entry is not one that this version writes. */
static int commands_count(struct wp_record_reader reader, uint32_t *ret_count)
{
    uint32_t count = 0;
    uint8_t type;
    struct wp_slice payload;
    int more;
    while ((more = wp_record_next(&reader, &type, &payload)) == 1) {
        if (type >= COMMAND_COUNT || !commands[type]) {
            return WP_E_CORRUPT;
        }
        count++;
    }
    *ret_count = count;
    return more ? WP_E_CORRUPT : WP_OK;
}

/* Rates that are full again are as good as none. Decided once a minute of machine time, so that replicas and
 * restarts agree on which rows there are. */
static int rates_drop(struct wp_machine *machine, uint64_t previous_ms)
{
    if (machine->time_ms / WP_RATE_FULL_MS == previous_ms / WP_RATE_FULL_MS || machine->rates.count == 0) {
        return WP_OK;
    }
    uint32_t count;
    void **rates = wp_names_sorted(&machine->rates, &count);
    if (!rates) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct wp_rate *rate = rates[i];
        if (machine->time_ms - rate->time_ms >= WP_RATE_FULL_MS) {
            struct wp_key key;
            wp_key_name(&key, machine->shard, WP_KEY_RATE, wp_slice(rate->key, rate->key_size));
            wp_state_delete(machine->batch, wp_key_slice(&key));
            wp_rates_remove(&machine->rates, rate);
        }
    }
    free(rates);
    return WP_OK;
}

static int time_advance(struct wp_machine *machine, uint64_t given_ms)
{
    uint64_t previous_ms = machine->time_ms;
    machine->time_ms =
        given_ms > previous_ms || WP_BUG == 38 ? given_ms : previous_ms; /* 38: time runs back */
    wp_machine_seen_drop(machine, false);
    return rates_drop(machine, previous_ms);
}

static int entry_run(
    struct wp_machine *machine, struct wp_slice entry, struct wp_arena *arena, struct wp_applied *applied)
{
    uint64_t time_ms;
    struct wp_record_reader reader;
    uint32_t count = 0;
    if (wp_entry_open(entry, &time_ms, &reader) || commands_count(reader, &count)) {
        return WP_E_CORRUPT;
    }
    struct wp_result *results = wp_arena_alloc(arena, count * sizeof *results);
    if (!results) {
        return WP_E_NOMEM;
    }
    memset(results, 0, count * sizeof *results);
    int error = time_advance(machine, time_ms);
    uint8_t type;
    struct wp_slice payload;
    for (uint32_t i = 0; !error && wp_record_next(&reader, &type, &payload) == 1; i++) {
        results[i].ordinal = i;
        results[i].command = type;
        wp_arena_reset(&machine->arena);
        error = commands[type](machine, payload, &results[i]);
    }
    applied->results = results;
    applied->result_count = count;
    return error;
}

/* What the entry before gathered was lent to the caller of apply until now. */
static void lent_take_back(struct wp_machine *machine)
{
    machine->removals.size = 0;
    machine->appended.size = 0;
    machine->appended_bytes = 0;
    machine->idle.size = 0;
}

/* Lends what gathered: a copy of many rows need not fit into an arena. */
static void lend(const struct wp_machine *machine, struct wp_applied *applied)
{
    applied->removals = (const void *)machine->removals.data;
    applied->removal_count = (uint32_t)(machine->removals.size / sizeof *applied->removals);
    applied->appended = (const void *)machine->appended.data;
    applied->appended_count = (uint32_t)(machine->appended.size / sizeof *applied->appended);
    applied->idle = (const void *)machine->idle.data;
    applied->idle_count = (uint32_t)(machine->idle.size / sizeof *applied->idle);
}

int wp_machine_apply(struct wp_machine *machine, uint64_t index, uint64_t term, struct wp_slice entry,
    struct wp_arena *arena, struct wp_applied *ret_applied)
{
    struct wp_applied applied = {0};
    if (machine->failed) {
        return machine->failed;
    }
    if (index <= machine->applied_index) {
        *ret_applied = applied;
        return WP_OK;
    }
    machine->entry_index = index;
    lent_take_back(machine);
    int error = WP_OK;
    if (entry.size > 0) {
        error = entry_run(machine, entry, arena, &applied);
        error = error ? error : wp_machine_ended_close(machine);
        error = error ? error : wp_machine_flush(machine);
        lend(machine, &applied);
    }
    error = error ? error : wp_state_commit(machine->store, machine->batch, machine->shard, index, term);
    if (error) {
        machine->failed = error;
        return error;
    }
    machine->applied_index = index;
    *ret_applied = applied;
    return WP_OK;
}
