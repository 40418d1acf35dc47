/* What an event of the replica brings, carried out on store, peers and state machine.
 *
 * Invariants:
 *   1. writes reach the committer in the order of the updates, one wp_log_write each, tag = number of the
 * update's write;
 *   2. while hard state is unsynced none of that update's messages leaves;
 *   3. apply sees every index once, in order, never above what is committed and durable here. */
#include <stdlib.h>

#include "base/error.h"
#include "cluster/group_inner.h"

/* Applied entries kept in memory for peers that are a little behind. */
#define GROUP_CACHE_ENTRIES 64u
#define GROUP_CACHE_BYTES (UINT64_C(4) << 20)

/* --- apply ------------------------------------------------------------------------------------- */

bool wp_group_is_leader(const struct wp_group *group)
{
    return wp_replica_role(group->replica) == WP_REPLICA_LEADER;
}

static void notice_leadership(struct wp_group *group)
{
    if (group->leading && !wp_group_is_leader(group)) {
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
        if (!group->leading && wp_group_is_leader(group) && entry->term == wp_replica_term(group->replica)) {
            group->leading = true;
            group->callbacks.leading(group->callbacks.context, true);
        }
    }
    trim_cache(group);
    return WP_OK;
}

/* --- writes and messages ----------------------------------------------------------------------- */

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

int wp_group_send_messages(struct wp_group *group, const struct wp_replica_update *update)
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

int wp_group_handle_update(struct wp_group *group, const struct wp_replica_update *update)
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
    error = wp_group_send_messages(group, update);
    for (uint32_t i = 0; i < update->snapshot_count && group->callbacks.snapshot_needed; i++) {
        group->callbacks.snapshot_needed(group->callbacks.context, update->snapshot_to[i],
            wp_replica_term(group->replica), update->snapshot_index);
    }
    /* 14: counted as durable when handed over, not when synced */
    if (WP_BUG == 14 && !error && update->write && !wp_replica_parked(group->replica)) {
        struct wp_replica_update early;
        error = wp_replica_persisted(group->replica, 0, update->write, &early);
        return error ? error : wp_group_handle_update(group, &early);
    }
    if (error || wp_replica_parked(group->replica)) {
        return error;
    }
    return apply_committed(group);
}
