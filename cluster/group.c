/* The shell of a replica on the store: start, parking, compaction, one entry point per event.
 *
 * Invariants:
 *   1. while hard state is unsynced nothing enters the engine;
 *   2. the log keeps every entry above the durable applied index, and the one at it. */
#include "cluster/group.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/group_inner.h"

#define GROUP_ELECTION_MS 500u
#define GROUP_HEARTBEAT_MS 100u
#define GROUP_INFLIGHT_ENTRIES 8u
#define GROUP_LOG_KEEP_BYTES (UINT64_C(64) << 20)
#define GROUP_SHARD_MAX UINT16_MAX
/* Entries of one removal at least: each is a range tombstone in the log. */
#define GROUP_COMPACT_ENTRIES_MIN 64u
#define GROUP_QUEUE_MAX 256u
#define GROUP_NEAR_ENTRIES 512u

/* --- life -------------------------------------------------------------------------------------- */

static void config_defaults(struct wp_group_config *config)
{
    config->election_ms = config->election_ms ? config->election_ms : GROUP_ELECTION_MS;
    config->heartbeat_ms = config->heartbeat_ms ? config->heartbeat_ms : GROUP_HEARTBEAT_MS;
    config->inflight_entries = config->inflight_entries ? config->inflight_entries : GROUP_INFLIGHT_ENTRIES;
    config->log_keep_bytes = config->log_keep_bytes ? config->log_keep_bytes : GROUP_LOG_KEEP_BYTES;
    config->log_near_entries = config->log_near_entries ? config->log_near_entries : GROUP_NEAR_ENTRIES;
}

int wp_group_create(struct wp_store *store, const struct wp_group_config *config,
    const struct wp_group_callbacks *callbacks, struct wp_group **ret_group)
{
    bool bootstrap_valid = config->bootstrap.count == 0 || wp_membership_check(&config->bootstrap) == WP_OK;
    if (config->shard > GROUP_SHARD_MAX || !bootstrap_valid) {
        return WP_E_INVALID;
    }
    struct wp_group *group = calloc(1, sizeof *group);
    if (!group) {
        return WP_E_NOMEM;
    }
    group->store = store;
    group->config = *config;
    config_defaults(&group->config);
    group->callbacks = *callbacks;
    group->queue_tail = &group->queue_head;
    struct wp_replica_config replica_config = {
        .group = config->shard,
        .id = config->replica_id,
        .seed = config->seed,
        .election_ms = group->config.election_ms,
        .heartbeat_ms = group->config.heartbeat_ms,
        .inflight_entries = group->config.inflight_entries,
    };
    int error = wp_replica_create(&replica_config, &group->replica);
    if (!error) {
        error = wp_group_load(store, &group->config, &group->found);
    }
    if (error) {
        wp_group_destroy(&group);
        return error;
    }
    group->applied_index = group->found.start.snapshot_index;
    group->snapshot_index = group->applied_index;
    group->log_first = group->found.log_first;
    *ret_group = group;
    return WP_OK;
}

void wp_group_destroy(struct wp_group **group)
{
    struct wp_group *taken = *group;
    *group = NULL;
    if (!taken) {
        return;
    }
    WP_ASSERT(!taken->busy);
    while (taken->queue_head) {
        struct group_message *message = taken->queue_head;
        taken->queue_head = message->next;
        wp_bytes_release(&message->bytes);
        free(message);
    }
    wp_group_found_free(&taken->found);
    wp_replica_destroy(&taken->replica);
    free(taken);
}

static void enter(struct wp_group *group)
{
    WP_ASSERT(group->started && !group->busy);
    group->busy = true;
}

static int leave(struct wp_group *group, int error)
{
    group->busy = false;
    return error;
}

int wp_group_start(struct wp_group *group, uint64_t now_ms)
{
    WP_ASSERT(!group->started);
    group->started = true;
    enter(group);
    int error = WP_OK;
    if (group->found.log_lost) {
        struct wp_log_write write = {.shard = group->config.shard, .drop_below = group->found.log_first};
        error = wp_log_submit(group->store, &write);
    }
    wp_log_extent_init(&group->extent, group->found.log_first, group->config.log_keep_bytes);
    for (uint32_t i = 0; i < group->found.entry_count; i++) {
        const struct wp_log_entry *entry = &group->found.entries[i];
        wp_log_extent_add(&group->extent, entry->index, entry->data ? entry->data->size : 0);
    }
    struct wp_replica_update update;
    if (!error) {
        error = wp_replica_start(group->replica, now_ms, &group->found.start, &update);
    }
    wp_group_found_free(&group->found);
    return leave(group, error ? error : wp_group_handle_update(group, &update));
}

/* --- compaction -------------------------------------------------------------------------------- */

/* First index to keep: some entries and bytes below the durable applied index, and what a member lacks that
 * is nearly there: else an ordinary delay would cost a snapshot. */
static uint64_t compact_first(const struct wp_group *group, uint64_t now_ms, uint64_t durable)
{
    uint64_t keep = group->config.log_keep_entries;
    uint64_t first = durable > keep ? durable - keep + 1 : 1;
    uint64_t by_bytes = wp_log_extent_first(&group->extent);
    if (by_bytes > first) {
        first = by_bytes;
    }
    if (first > durable) {
        first =
            durable; /* the entry of the applied index stays: a start compares its term with the state's */
    }
    uint64_t near = group->config.log_near_entries;
    if (wp_group_is_leader(group)) {
        uint64_t match = wp_replica_match_index(group->replica, durable > near ? durable - near : 0);
        first = match + 1 < first ? match + 1 : first;
    }
    for (uint32_t i = 0; i < WP_REPLICA_MEMBERS_MAX; i++) {
        bool holds = group->holds[i].until_ms > now_ms;
        first = holds && group->holds[i].index < first ? group->holds[i].index : first;
    }
    return first;
}

static int compact(struct wp_group *group, uint64_t now_ms)
{
    uint64_t durable = wp_state_durable_index(group->store, group->config.shard);
    if (durable > group->applied_index) {
        durable = group->applied_index;
    }
    uint64_t membership_index;
    wp_replica_committed_membership(group->replica, &membership_index);
    if (durable <= group->snapshot_index || membership_index > durable) {
        return WP_OK;
    }
    uint64_t first = compact_first(group, now_ms, durable);
    if (first < group->log_first + GROUP_COMPACT_ENTRIES_MIN) {
        return WP_OK;
    }
    struct wp_replica_update update;
    int error = wp_replica_compacted(group->replica, now_ms, durable, first, &update);
    if (!error) {
        error = wp_group_handle_update(group, &update);
    }
    if (error) {
        return error;
    }
    struct wp_log_write write = {.shard = group->config.shard, .drop_below = first};
    error = wp_log_submit(group->store, &write);
    if (!error) {
        group->snapshot_index = durable;
        group->log_first = first;
    }
    return error;
}

/* --- events ------------------------------------------------------------------------------------ */

int wp_group_tick(struct wp_group *group, uint64_t now_ms)
{
    enter(group);
    if (wp_replica_parked(group->replica)) {
        return leave(group, WP_OK);
    }
    struct wp_replica_update update;
    int error = wp_replica_tick(group->replica, now_ms, &update);
    if (!error) {
        error = wp_group_handle_update(group, &update);
    }
    if (!error && !wp_replica_parked(group->replica)) {
        error = compact(group, now_ms);
    }
    return leave(group, error);
}

int wp_group_propose(struct wp_group *group, uint64_t now_ms, struct wp_bytes **entry, uint64_t *ret_index)
{
    if (!group->leading) {
        return WP_E_NOT_LEADER;
    }
    enter(group);
    struct wp_replica_update update;
    int error = wp_replica_propose(group->replica, now_ms, entry, ret_index, &update);
    return leave(group, error ? error : wp_group_handle_update(group, &update));
}

int wp_group_propose_change(
    struct wp_group *group, uint64_t now_ms, const struct wp_membership *membership, uint64_t *ret_index)
{
    if (!group->leading) {
        return WP_E_NOT_LEADER;
    }
    enter(group);
    struct wp_replica_update update;
    int error = wp_replica_propose_change(group->replica, now_ms, membership, ret_index, &update);
    return leave(group, error ? error : wp_group_handle_update(group, &update));
}

static int receive(struct wp_group *group, uint64_t now_ms, uint64_t from, struct wp_slice message)
{
    struct wp_replica_update update;
    int error = wp_replica_receive(group->replica, now_ms, from, message, &update);
    return error ? error : wp_group_handle_update(group, &update);
}

static int queue_message(struct wp_group *group, uint64_t from, struct wp_slice bytes)
{
    struct wp_rpc rpc;
    int error = wp_rpc_decode(bytes, &rpc); /* so that the sender's mistake is told here, too */
    if (error || group->queue_count == GROUP_QUEUE_MAX) {
        return error;
    }
    struct group_message *message = malloc(sizeof *message);
    struct wp_bytes *copy = wp_bytes_copy(bytes.data, bytes.size);
    if (!message || !copy) {
        free(message);
        wp_bytes_release(&copy);
        return WP_OK; /* dropped, like a frame on the way */
    }
    *message = (struct group_message){.from = from, .bytes = copy};
    *group->queue_tail = message;
    group->queue_tail = &message->next;
    group->queue_count++;
    return WP_OK;
}

int wp_group_receive(struct wp_group *group, uint64_t now_ms, uint64_t from, struct wp_slice message)
{
    enter(group);
    if (wp_replica_parked(group->replica)) {
        return leave(group, queue_message(group, from, message));
    }
    return leave(group, receive(group, now_ms, from, message));
}

static int drain_queue(struct wp_group *group, uint64_t now_ms)
{
    while (group->queue_head && !wp_replica_parked(group->replica)) {
        struct group_message *message = group->queue_head;
        group->queue_head = message->next;
        if (!group->queue_head) {
            group->queue_tail = &group->queue_head;
        }
        group->queue_count--;
        int error =
            receive(group, now_ms, message->from, wp_slice(message->bytes->data, message->bytes->size));
        wp_bytes_release(&message->bytes);
        free(message);
        if (error && wp_error_class(error) != WP_CLASS_PEER) {
            return error;
        }
    }
    return WP_OK;
}

static int persisted(struct wp_group *group, uint64_t now_ms, uint64_t tag)
{
    struct wp_replica_update update;
    if (group->held.write != 0 && tag >= group->held.write) {
        struct wp_replica_update held = group->held;
        group->held = (struct wp_replica_update){0};
        int error = wp_group_send_messages(group, &held);
        if (error) {
            return error;
        }
    }
    int error = wp_replica_persisted(group->replica, now_ms, tag, &update);
    if (!error) {
        error = wp_group_handle_update(group, &update);
    }
    return error ? error : drain_queue(group, now_ms);
}

int wp_group_persisted(struct wp_group *group, uint64_t now_ms, uint64_t tag)
{
    if (tag <= group->persisted_tag) {
        return WP_OK;
    }
    if (tag > wp_replica_last_write(group->replica)) {
        return WP_E_INVALID;
    }
    enter(group);
    group->persisted_tag = tag;
    return leave(group, persisted(group, now_ms, tag));
}

int wp_group_transfer(struct wp_group *group, uint64_t now_ms, uint64_t to)
{
    if (!group->leading) {
        return WP_E_NOT_LEADER;
    }
    to = to ? to : wp_replica_successor(group->replica, NULL, 0);
    if (to == 0) {
        return WP_E_NOT_FOUND;
    }
    enter(group);
    struct wp_replica_update update;
    int error = wp_replica_transfer(group->replica, now_ms, to, &update);
    return leave(group, error ? error : wp_group_handle_update(group, &update));
}

void wp_group_log_hold(struct wp_group *group, uint64_t peer, uint64_t index, uint64_t until_ms)
{
    uint32_t at = 0; /* the row of the peer, else the one that ends first */
    for (uint32_t i = 0; i < WP_REPLICA_MEMBERS_MAX; i++) {
        if (group->holds[i].peer == peer) {
            at = i;
            break;
        }
        at = group->holds[i].until_ms < group->holds[at].until_ms ? i : at;
    }
    group->holds[at].peer = peer;
    group->holds[at].index = index;
    group->holds[at].until_ms = until_ms;
}

void wp_group_bar(struct wp_group *group, bool barred)
{
    wp_replica_bar(group->replica, barred);
}

void wp_group_leader_lost(struct wp_group *group, uint64_t now_ms)
{
    wp_replica_leader_lost(group->replica, now_ms);
}

/* --- accessors --------------------------------------------------------------------------------- */

bool wp_group_leading(const struct wp_group *group)
{
    return group->leading;
}

bool wp_group_can_propose(const struct wp_group *group)
{
    return group->leading && wp_replica_can_propose(group->replica);
}

uint64_t wp_group_transferring(const struct wp_group *group)
{
    return wp_replica_transferring(group->replica);
}

uint64_t wp_group_lease_ms(const struct wp_group *group)
{
    return group->leading ? wp_replica_lease_ms(group->replica) : 0;
}

uint64_t wp_group_applied_index(const struct wp_group *group)
{
    return group->applied_index;
}

uint64_t wp_group_term(const struct wp_group *group)
{
    return wp_replica_term(group->replica);
}

uint64_t wp_group_leader(const struct wp_group *group)
{
    return wp_replica_leader(group->replica);
}

const struct wp_replica *wp_group_replica(const struct wp_group *group)
{
    return group->replica;
}
