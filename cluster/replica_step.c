/* One step of the engine, seen from outside it.
 *
 * Invariants, checked after every step because the engine's own assertions are compiled out (WP_E_ENGINE):
 *   1. the term never falls and a vote given in a term never changes;
 *   2. the engine's last index is ours, and so is its last stored index;
 *   3. nothing at or below an index ever seen committed is truncated;
 *   4. the commit index lies within the log. */
#include "cluster/replica_step.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

static int breach(struct wp_replica *replica, const char *text)
{
    replica->breach = text;
    return WP_E_ENGINE;
}

/* Makes room for one more element; `*array` grows by doubling. */
static int array_reserve(void **array, uint32_t *capacity, uint32_t count, size_t size)
{
    if (count < *capacity) {
        return WP_OK;
    }
    uint32_t wanted = *capacity ? *capacity * 2 : 16;
    void *grown = realloc(*array, wanted * size);
    if (!grown) {
        return WP_E_NOMEM;
    }
    *array = grown;
    *capacity = wanted;
    return WP_OK;
}

void wp_replica_begin(struct wp_replica *replica, uint64_t now_ms)
{
    WP_ASSERT(replica->started && replica->parked_write == 0);
    for (uint32_t i = 0; i < replica->update.message_count; i++) {
        wp_bytes_release(&replica->messages[i].bytes);
    }
    replica->update = (struct wp_replica_update){0};
    if (now_ms > replica->now_ms) {
        replica->now_ms = now_ms;
    }
}

uint64_t wp_replica_write_number(struct wp_replica *replica)
{
    if (replica->update.write == 0) {
        replica->update.write = ++replica->write;
    }
    return replica->update.write;
}

int wp_replica_hand_out(struct wp_replica *replica, const struct wp_log_entry *entry)
{
    struct wp_replica_update *update = &replica->update;
    int error = array_reserve(
        (void **)&replica->entries, &replica->entry_capacity, update->entry_count, sizeof *replica->entries);
    if (error) {
        return error;
    }
    error = wp_entry_ring_append(&replica->ring, entry, wp_replica_write_number(replica));
    if (error) {
        return error;
    }
    replica->entries[update->entry_count++] = *entry;
    update->entries = replica->entries;
    return WP_OK;
}

static int truncate_log(struct wp_replica *replica, uint64_t index)
{
    if (index <= replica->commit_seen) {
        return breach(replica, "a committed entry is to be truncated");
    }
    if (replica->update.entry_count > 0 || replica->update.truncate_from != 0) {
        return breach(replica, "entries handed out in this update are to be truncated");
    }
    wp_entry_ring_truncate(&replica->ring, index);
    if (replica->stored >= index) {
        replica->stored = index - 1;
    }
    wp_replica_write_number(replica);
    replica->update.truncate_from = index;
    return WP_OK;
}

/* The `at`-th entry of the batch that came out of the engine, as an entry of ours with one reference to its
 * data. */
static struct wp_bytes *entry_data(
    const struct wp_replica *replica, const struct wp_step_source *source, const struct raft_entry *entry)
{
    if (entry == &replica->raft.barrier) {
        return wp_bytes_create(0); /* the engine's no-op carries eight zero bytes that mean nothing */
    }
    if (source->single) {
        return wp_bytes_retain(source->single);
    }
    struct wp_slice data = source->parsed[entry - source->base].data;
    return wp_bytes_copy(data.data, data.size);
}

static int collect_entries(
    struct wp_replica *replica, const struct raft_update *update, const struct wp_step_source *source)
{
    uint64_t index = update->entries.index;
    if (index < replica->ring.next) {
        int error = truncate_log(replica, index);
        if (error) {
            return error;
        }
    }
    if (index != replica->ring.next) {
        return breach(replica, "entries leave a gap in the log");
    }
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *given = &update->entries.batch[i];
        struct wp_log_entry entry = {.index = index + i, .term = given->term, .kind = (uint8_t)given->type};
        entry.data = entry_data(replica, source, given);
        if (!entry.data) {
            return WP_E_NOMEM;
        }
        int error = wp_replica_hand_out(replica, &entry);
        wp_bytes_release(&entry.data); /* the ring holds its own reference */
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

/* Memory of a submitted entry is ours all along; the barrier's and a received part's came from the engine's
 * heap and fell to us with the flag. */
static void free_batch(
    struct wp_replica *replica, const struct raft_update *update, const struct wp_step_source *source)
{
    if (update->entries.batch == &replica->raft.barrier || !source->single) {
        raft_free(update->entries.batch[0].batch);
    }
}

/* Entries from memory when all are there; else the shell reads them from the log. */
static int message_encode(struct wp_replica *replica, struct wp_replica_message *message)
{
    const struct wp_rpc *rpc = &message->rpc;
    uint64_t first = rpc->append.previous_index + 1;
    if (rpc->entry_count == 0) {
        message->bytes = wp_rpc_encode(rpc, NULL);
        return message->bytes ? WP_OK : WP_E_NOMEM;
    }
    if (first < replica->ring.first) {
        return WP_OK;
    }
    if (first + rpc->entry_count > replica->ring.next || rpc->entry_count > WP_RPC_ENTRIES_MAX) {
        return breach(replica, "a message names entries beyond the log");
    }
    struct wp_log_entry *entries = malloc(rpc->entry_count * sizeof *entries);
    if (!entries) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        entries[i] = wp_entry_ring_find(&replica->ring, first + i)->entry;
    }
    message->bytes = wp_rpc_encode(rpc, entries);
    free(entries);
    return message->bytes ? WP_OK : WP_E_NOMEM;
}

/* Stamps; and the true term in the refusal of a pre-vote. The engine answers with the term that was asked
 * for: two who stand still in an old term with long logs, and two in a later one with short logs, would never
 * learn of each other. */
static void amend(const struct wp_replica *replica, const struct wp_step_source *source, struct wp_rpc *rpc)
{
    uint64_t term = raft_current_term(&replica->raft);
    if (rpc->type == WP_RPC_VOTE_RESULT && rpc->flags == WP_RPC_PRE_VOTE && rpc->term < term) {
        rpc->term = term;
    }
    if (rpc->type == WP_RPC_APPEND) {
        rpc->append.stamp_ms = replica->now_ms;
    } else if (rpc->type == WP_RPC_APPEND_RESULT && !(rpc->flags & WP_RPC_STALE)) {
        rpc->append_result.stamp_ms = source->stamp_ms;
    }
}

int wp_replica_add_message(struct wp_replica *replica, uint64_t to, const struct wp_rpc *rpc)
{
    struct wp_replica_update *out = &replica->update;
    struct wp_replica_message message = {.to = to, .rpc = *rpc};
    int error = array_reserve((void **)&replica->messages, &replica->message_capacity, out->message_count,
        sizeof *replica->messages);
    if (!error) {
        error = message_encode(replica, &message);
    }
    if (!error) {
        replica->messages[out->message_count++] = message;
        out->messages = replica->messages;
    }
    return error;
}

static void note_snapshot(struct wp_replica *replica, uint64_t to)
{
    struct wp_replica_update *out = &replica->update;
    for (uint32_t i = 0; i < out->snapshot_count; i++) {
        if (out->snapshot_to[i] == to) {
            return;
        }
    }
    out->snapshot_index = replica->raft.trail.snapshot.index;
    if (out->snapshot_count < WP_REPLICA_MEMBERS_MAX) {
        out->snapshot_to[out->snapshot_count++] = to;
    }
}

static int collect_messages(
    struct wp_replica *replica, const struct raft_update *update, const struct wp_step_source *source)
{
    for (unsigned i = 0; i < update->messages.n; i++) {
        const struct raft_message *given = &update->messages.batch[i];
        struct wp_rpc rpc;
        if (!wp_engine_message_out(given, source->stale, &rpc)) {
            note_snapshot(replica, given->server_id);
            continue;
        }
        amend(replica, source, &rpc);
        int error = wp_replica_add_message(replica, given->server_id, &rpc);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

/* Whole again: as long as before, or with an entry that a later leader added (that leader's log holds
 * whatever was committed with this replica's help, and this log is the same up to there). */
bool wp_replica_forgot(const struct wp_replica *replica)
{
    const struct wp_log_hard_state *hard = &replica->hard;
    if (hard->lost_index == 0 || replica->stored >= hard->lost_index || WP_BUG == 21) {
        return false;
    }
    const struct wp_entry_slot *slot = wp_entry_ring_find(&replica->ring, replica->stored);
    bool all = replica->stored + 1 == replica->ring.next;
    uint64_t term = slot ? slot->entry.term : all ? wp_engine_last_term(&replica->raft) : 0;
    return term <= hard->lost_term;
}

bool wp_replica_silent(const struct wp_replica *replica)
{
    return replica->barred || wp_replica_forgot(replica);
}

static int observe_hard_state(struct wp_replica *replica)
{
    struct wp_log_hard_state hard = replica->hard;
    hard.term = raft_current_term(&replica->raft);
    hard.voted_for = raft_voted_for(&replica->raft);
    if (hard.term < replica->hard.term) {
        return breach(replica, "the term fell");
    }
    if (hard.term == replica->hard.term) {
        if (hard.voted_for == replica->hard.voted_for) {
            return WP_OK;
        }
        if (replica->hard.voted_for != 0) {
            return breach(replica, "a vote changed within its term");
        }
    }
    if (!wp_replica_forgot(replica)) {
        hard.lost_index = 0;
        hard.lost_term = 0;
    }
    replica->hard = hard;
    replica->update.hard_changed = true;
    replica->update.hard = hard;
    replica->update.hard.voted_for = WP_BUG == 10 ? 0 : hard.voted_for; /* 10: vote not persisted */
    replica->parked_write = wp_replica_write_number(replica);
    return WP_OK;
}

/* A committed membership is told to the engine at once, not when it is applied: a follower must not roll back
 * behind it when a second change arrives in the same message. */
static int observe_membership(struct wp_replica *replica)
{
    struct raft *raft = &replica->raft;
    if (raft->configuration_uncommitted_index != 0 &&
        raft->configuration_uncommitted_index <= replica->commit_seen) {
        struct raft_event event = {.time = replica->now_ms, .type = RAFT_CONFIGURATION};
        struct wp_membership membership;
        event.configuration.index = raft->configuration_uncommitted_index;
        if (!wp_engine_membership(&raft->configuration, &membership)) {
            return breach(replica, "the engine's configuration is not one of ours");
        }
        int error = wp_engine_configuration(&membership, &event.configuration.conf);
        if (error) {
            return error;
        }
        struct raft_update update = {0};
        int code = raft_step(raft, &event, &update);
        if (code) {
            return wp_engine_error(code);
        }
    }
    if (raft->configuration_committed_index == replica->committed_index &&
        raft->configuration_uncommitted_index == replica->uncommitted_index) {
        return WP_OK;
    }
    replica->committed_index = raft->configuration_committed_index;
    replica->uncommitted_index = raft->configuration_uncommitted_index;
    if (!wp_engine_membership(&raft->configuration, &replica->membership) ||
        !wp_engine_membership(&raft->configuration_committed, &replica->committed)) {
        return breach(replica, "the engine's configuration is not one of ours");
    }
    return WP_OK;
}

int wp_replica_observe(struct wp_replica *replica)
{
    const struct raft *raft = &replica->raft;
    int error = observe_hard_state(replica);
    if (error) {
        return error;
    }
    uint64_t last = replica->ring.next - 1;
    if (wp_engine_last_index(raft) != last) {
        return breach(replica, "the engine's log ends elsewhere than ours");
    }
    if (raft->last_stored != replica->stored) {
        return breach(replica, "the engine counts other entries as stored than we reported");
    }
    if (raft->commit_index > last) {
        return breach(replica, "the commit index lies beyond the log");
    }
    if (raft->commit_index > replica->commit_seen || WP_BUG == 12) { /* 12: commit index may go back */
        replica->commit_seen = raft->commit_index;
    }
    return observe_membership(replica);
}

int wp_replica_step(struct wp_replica *replica, struct raft_event *event, const struct wp_step_source *source,
    int *ret_refused)
{
    struct raft_update update = {0};
    event->time = replica->now_ms;
    int code = raft_step(&replica->raft, event, &update);
    if (code && ret_refused) {
        *ret_refused = code;
        return WP_OK;
    }
    if (code) {
        replica->breach = raft_strerror(code);
        return wp_engine_error(code);
    }
    int error = WP_OK;
    if (update.flags & (RAFT_UPDATE_ENTRIES)) {
        error = collect_entries(replica, &update, source);
        free_batch(replica, &update, source);
    }
    if (!error && (update.flags & (RAFT_UPDATE_MESSAGES))) {
        error = collect_messages(replica, &update, source);
    }
    if (!error && (update.flags & (RAFT_UPDATE_SNAPSHOT))) {
        error = breach(replica, "the engine installs a snapshot nobody sent");
    }
    return error ? error : wp_replica_observe(replica);
}

int wp_replica_append_barrier(struct wp_replica *replica)
{
    struct wp_bytes *data = wp_bytes_create(0);
    if (!data) {
        return WP_E_NOMEM;
    }
    struct raft_entry entry = {.term = raft_current_term(&replica->raft), .type = RAFT_BARRIER};
    entry.buf.base = data->data;
    entry.batch = data->data;
    struct raft_event event = {.type = RAFT_SUBMIT};
    event.submit.entries = &entry;
    event.submit.n = 1;
    struct wp_step_source source = {.base = &entry, .single = data};
    int error = wp_replica_step(replica, &event, &source, NULL);
    wp_bytes_release(&data);
    return error;
}

int wp_replica_finish(struct wp_replica *replica, enum wp_replica_role role_before, uint64_t commit_before,
    struct wp_replica_update *ret_update)
{
    /* A leader commits entries of older terms only through one of its own (Raft, section 5.4.2) and answers
     * reads only after it (raft.md, rule 18). The engine appends one only when it finds entries past its
     * commit index. */
    int error = WP_OK;
    if (replica->raft.state == RAFT_LEADER &&
        wp_engine_last_term(&replica->raft) != raft_current_term(&replica->raft)) {
        error = wp_replica_append_barrier(replica);
    }
    if (!error) {
        error = wp_replica_lead_step(replica);
    }
    if (error) {
        return error;
    }
    replica->update.role_changed = wp_replica_role(replica) != role_before;
    replica->update.commit_advanced = wp_replica_commit_index(replica) > commit_before;
    *ret_update = replica->update;
    return WP_OK;
}
