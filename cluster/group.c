/* The shell of a replica on the store: one write per update, apply in order, parking, compaction.
 *
 * Invariants:
 *   1. writes reach the committer in the order of the updates, one wp_log_write each, tag = number of the
 * update's write;
 *   2. while hard state is unsynced nothing enters the engine and none of that update's messages leaves;
 *   3. apply sees every index once, in order, never above what is committed and durable here;
 *   4. the log keeps every entry above the durable applied index. */
#include "cluster/group.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/group_load.h"
#include "cluster/log_extent.h"

#define GROUP_ELECTION_MS 500u
#define GROUP_HEARTBEAT_MS 100u
#define GROUP_INFLIGHT_ENTRIES 8u
#define GROUP_LOG_KEEP_BYTES (UINT64_C(64) << 20)
#define GROUP_SHARD_MAX UINT16_MAX
/* Entries of one removal at least: each is a range tombstone in the log. */
#define GROUP_COMPACT_ENTRIES_MIN 64u
/* Applied entries kept in memory for peers that are a little behind. */
#define GROUP_CACHE_ENTRIES 64u
#define GROUP_CACHE_BYTES (UINT64_C(4) << 20)
#define GROUP_QUEUE_MAX 256u

struct group_message {
    struct group_message *next;
    uint64_t from;
    struct wp_bytes *bytes;
};

struct wp_group {
    struct wp_store *store;
    struct wp_group_config config;
    struct wp_group_callbacks callbacks;
    struct wp_replica *replica;
    struct wp_group_found found; /* between create and start */
    bool started;
    bool busy;
    bool leading;
    uint64_t applied_index;
    uint64_t persisted_tag;
    uint64_t snapshot_index; /* the engine's: the last one compacted to */
    uint64_t log_first;
    struct wp_log_extent extent;   /* where the log's bytes lie */
    struct wp_replica_update held; /* of the parked write; its messages wait for the sync */
    struct group_message *queue_head;
    struct group_message **queue_tail;
    uint32_t queue_count;
};

/* --- life -------------------------------------------------------------------------------------------------
 */

static void config_defaults(struct wp_group_config *config)
{
    config->election_ms = config->election_ms ? config->election_ms : GROUP_ELECTION_MS;
    config->heartbeat_ms = config->heartbeat_ms ? config->heartbeat_ms : GROUP_HEARTBEAT_MS;
    config->inflight_entries = config->inflight_entries ? config->inflight_entries : GROUP_INFLIGHT_ENTRIES;
    config->log_keep_bytes = config->log_keep_bytes ? config->log_keep_bytes : GROUP_LOG_KEEP_BYTES;
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

/* --- apply ------------------------------------------------------------------------------------------------
 */

static bool is_leader(const struct wp_group *group)
{
    return wp_replica_role(group->replica) == WP_REPLICA_LEADER;
}

static void notice_leadership(struct wp_group *group)
{
    if (group->leading && !is_leader(group)) {
        group->leading = false;
        group->callbacks.leading(group->callbacks.context, false);
    }
}

static int apply_entry(struct wp_group *group, const struct wp_log_entry *entry)
{
    struct wp_slice data = wp_slice(entry->data->data, entry->data->size);
    if (entry->kind == WP_ENTRY_COMMAND) {
        /* Each start and each election brings a new term, so an entry of the term we lead is one we proposed.
         */
        bool ours = group->leading && entry->term == wp_replica_term(group->replica);
        return group->callbacks.apply(group->callbacks.context, entry->index, entry->term, data, ours);
    }
    struct wp_state_batch *batch = wp_state_batch_create(group->store);
    if (!batch) {
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    if (entry->kind == WP_ENTRY_CHANGE) {
        error = wp_group_membership_put(batch, group->config.shard, entry->index, data);
    }
    if (!error) {
        error = wp_state_commit(group->store, batch, group->config.shard, entry->index, entry->term);
    }
    wp_state_batch_destroy(&batch);
    return error;
}

/* Entries below the applied index stay in memory only for peers. */
static void trim_cache(struct wp_group *group)
{
    struct wp_replica *replica = group->replica;
    uint64_t end = group->applied_index + 1;
    if (wp_replica_membership(replica)->count <= 1) {
        wp_replica_trim(replica, end);
        return;
    }
    for (uint64_t first = wp_replica_retained_first(replica); first < end; first++) {
        if (end - first <= GROUP_CACHE_ENTRIES && wp_replica_retained_bytes(replica) <= GROUP_CACHE_BYTES) {
            return;
        }
        wp_replica_trim(replica, first + 1);
    }
}

static int apply_committed(struct wp_group *group)
{
    uint64_t commit = wp_replica_commit_index(group->replica);
    if (group->applied_index >= commit) {
        return WP_OK;
    }
    while (group->applied_index < commit) {
        const struct wp_log_entry *entry = wp_replica_entry(group->replica, group->applied_index + 1);
        if (!entry) {
            return WP_E_ENGINE;
        }
        int error = apply_entry(group, entry);
        if (error) {
            return error;
        }
        group->applied_index = entry->index;
        if (!group->leading && is_leader(group) && entry->term == wp_replica_term(group->replica)) {
            group->leading = true;
            group->callbacks.leading(group->callbacks.context, true);
        }
    }
    trim_cache(group);
    return WP_OK;
}

/* --- writes and messages
 * ------------------------------------------------------------------------------------ */

static void write_done(void *context, uint64_t tag)
{
    const struct wp_group *group = context;
    group->callbacks.wake(group->callbacks.context, group->config.shard, tag);
}

static int submit_write(struct wp_group *group, const struct wp_replica_update *update)
{
    for (uint32_t i = 0; i < update->entry_count; i++) {
        wp_log_extent_add(&group->extent, update->entries[i].index, update->entries[i].data->size);
    }
    struct wp_log_write write = {
        .shard = group->config.shard,
        .truncate_from = update->truncate_from,
        .entries = update->entries,
        .entry_count = update->entry_count,
        .hard = update->hard_changed ? &update->hard : NULL,
        .done = write_done,
        .context = group,
        .tag = update->write,
    };
    return wp_log_submit(group->store, &write);
}

/* A peer further behind than memory reaches: the older entries come from the log, the newer from memory. */
static int message_read(
    struct wp_group *group, const struct wp_replica_message *message, struct wp_bytes **ret_bytes)
{
    uint64_t first = message->rpc.append.previous_index + 1;
    uint64_t retained = wp_replica_retained_first(group->replica);
    uint32_t wanted = message->rpc.entry_count;
    uint32_t stored = first + wanted > retained ? (uint32_t)(retained - first) : wanted;
    struct wp_log_entry *entries = calloc(wanted, sizeof *entries);
    uint32_t count = 0;
    if (!entries) {
        return WP_E_NOMEM;
    }
    int error = wp_log_read(group->store, group->config.shard, first, stored, entries, &count);
    if (error && error != WP_E_NOT_FOUND) {
        free(entries);
        return error;
    }
    uint32_t owned = count;
    for (; count >= stored && count < wanted; count++) {
        entries[count] = *wp_replica_entry(group->replica, first + count);
    }
    *ret_bytes = wp_replica_message_fill(message, entries, count);
    for (uint32_t i = 0; i < owned; i++) {
        wp_bytes_release(&entries[i].data);
    }
    free(entries);
    return *ret_bytes ? WP_OK : WP_E_NOMEM;
}

static int send_messages(struct wp_group *group, const struct wp_replica_update *update)
{
    for (uint32_t i = 0; i < update->message_count; i++) {
        const struct wp_replica_message *message = &update->messages[i];
        if (message->bytes) {
            group->callbacks.send(group->callbacks.context, message->to, message->bytes);
            continue;
        }
        struct wp_bytes *bytes;
        int error = message_read(group, message, &bytes);
        if (error) {
            return error;
        }
        group->callbacks.send(group->callbacks.context, message->to, bytes);
        wp_bytes_release(&bytes);
    }
    return WP_OK;
}

/* The order of raft.md, rule 2. */
static int handle_update(struct wp_group *group, const struct wp_replica_update *update)
{
    int error = update->write ? submit_write(group, update) : WP_OK;
    if (error) {
        return error;
    }
    notice_leadership(group);
    if (update->hard_changed && WP_BUG != 16) {
        group->held = *update;
        return WP_OK;
    }
    error = send_messages(group, update);
#if WP_BUG == 14 /* counted as durable when handed over, not when synced */
    if (!error && update->write && !wp_replica_parked(group->replica)) {
        struct wp_replica_update early;
        error = wp_replica_persisted(group->replica, 0, update->write, &early);
        return error ? error : handle_update(group, &early);
    }
#endif
    if (error || wp_replica_parked(group->replica)) {
        return error;
    }
    return apply_committed(group);
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
    return leave(group, error ? error : handle_update(group, &update));
}

/* --- compaction
 * --------------------------------------------------------------------------------------------- */

/* First index to keep: some entries and bytes below the durable applied index, and what a slow peer lacks. */
static uint64_t compact_first(const struct wp_group *group, uint64_t durable)
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
    if (is_leader(group)) {
        uint64_t match = wp_replica_match_index(group->replica);
        first = match + 1 < first ? match + 1 : first;
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
    uint64_t first = compact_first(group, durable);
    if (first < group->log_first + GROUP_COMPACT_ENTRIES_MIN) {
        return WP_OK;
    }
    struct wp_replica_update update;
    int error = wp_replica_compacted(group->replica, now_ms, durable, first, &update);
    if (!error) {
        error = handle_update(group, &update);
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

/* --- events
 * ------------------------------------------------------------------------------------------------- */

int wp_group_tick(struct wp_group *group, uint64_t now_ms)
{
    enter(group);
    if (wp_replica_parked(group->replica)) {
        return leave(group, WP_OK);
    }
    struct wp_replica_update update;
    int error = wp_replica_tick(group->replica, now_ms, &update);
    if (!error) {
        error = handle_update(group, &update);
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
    return leave(group, error ? error : handle_update(group, &update));
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
    return leave(group, error ? error : handle_update(group, &update));
}

static int receive(struct wp_group *group, uint64_t now_ms, uint64_t from, struct wp_slice message)
{
    struct wp_replica_update update;
    int error = wp_replica_receive(group->replica, now_ms, from, message, &update);
    return error ? error : handle_update(group, &update);
}

static int queue_message(struct wp_group *group, uint64_t from, struct wp_slice bytes)
{
    if (group->queue_count == GROUP_QUEUE_MAX) {
        return WP_OK;
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
        int error = send_messages(group, &held);
        if (error) {
            return error;
        }
    }
    int error = wp_replica_persisted(group->replica, now_ms, tag, &update);
    if (!error) {
        error = handle_update(group, &update);
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

/* --- accessors
 * ---------------------------------------------------------------------------------------------- */

bool wp_group_leading(const struct wp_group *group)
{
    return group->leading;
}

bool wp_group_can_propose(const struct wp_group *group)
{
    return group->leading && wp_replica_can_propose(group->replica);
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
