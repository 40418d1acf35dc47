/* The start of a replica: what was found on disk becomes the engine's RAFT_START.
 *
 * The engine only asserts on what it is given here, so everything that cannot be true together is refused
 * first. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/replica_step.h"

/* What was found on disk must fit together before the engine, which only asserts, is given it. */
static int start_check(const struct wp_replica_start *start)
{
    if (start->fresh) {
        bool clean = start->hard.term == 0 && start->hard.voted_for == 0 && start->snapshot_index == 0 &&
                     start->entry_count == 0;
        return clean && wp_membership_check(&start->membership) == WP_OK ? WP_OK : WP_E_CORRUPT;
    }
    if (start->snapshot_index > 0) {
        if (start->snapshot_term == 0 || start->snapshot_term > start->hard.term ||
            wp_membership_check(&start->membership) != WP_OK || start->membership_index == 0 ||
            start->membership_index > start->snapshot_index) {
            return WP_E_CORRUPT;
        }
    }
    if (start->entry_count == 0) {
        return WP_OK;
    }
    uint64_t first = start->entries[0].index;
    uint64_t last = first + start->entry_count - 1;
    if (first == 0 || first > start->snapshot_index + 1 || last < start->snapshot_index) {
        return WP_E_CORRUPT;
    }
    if (start->snapshot_index == 0 && start->entries[0].kind != WP_ENTRY_CHANGE) {
        return WP_E_CORRUPT; /* entry 1 is the bootstrap membership */
    }
    uint64_t term = 1;
    for (uint32_t i = 0; i < start->entry_count; i++) {
        const struct wp_log_entry *entry = &start->entries[i];
        bool contradicts = entry->index == start->snapshot_index && entry->term != start->snapshot_term;
        if (entry->index != first + i || entry->term < term || entry->term > start->hard.term ||
            contradicts || (entry->index > start->snapshot_index && !entry->data)) {
            return WP_E_CORRUPT;
        }
        term = entry->term;
    }
    return WP_OK;
}

/* The membership in force after the start: the last CHANGE above the snapshot, or the snapshot's. */
static int start_membership(const struct wp_replica_start *start, struct wp_membership *ret_membership)
{
    *ret_membership = start->membership;
    for (uint32_t i = start->entry_count; i > 0; i--) {
        const struct wp_log_entry *entry = &start->entries[i - 1];
        if (entry->index <= start->snapshot_index) {
            return WP_OK;
        }
        if (entry->kind == WP_ENTRY_CHANGE) {
            int error = wp_membership_decode(wp_slice(entry->data->data, entry->data->size), ret_membership);
            return error ? WP_E_CORRUPT : WP_OK;
        }
    }
    return WP_OK;
}

/* The engine's copy of one entry. Only a CHANGE's data is ever read there. */
static int start_entry(
    const struct wp_log_entry *entry, uint64_t snapshot_index, struct raft_entry *ret_entry)
{
    struct raft_entry out = {.term = entry->term, .type = (enum raft_entry_type)entry->kind};
    if (entry->kind == WP_ENTRY_CHANGE && entry->index > snapshot_index) {
        struct wp_membership membership;
        if (wp_membership_decode(wp_slice(entry->data->data, entry->data->size), &membership) != WP_OK) {
            return WP_E_CORRUPT;
        }
        int error = wp_engine_configuration_encode(&membership, &out.buf);
        if (error) {
            return error;
        }
        out.batch = out.buf.base;
    }
    *ret_entry = out;
    return WP_OK;
}

static void start_entries_free(struct raft_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        raft_free(entries[i].batch);
    }
    raft_free(entries);
}

/* In the engine's memory: it frees array and batches when the start fails, we do when it succeeds. */
static int start_entries(const struct wp_log_entry *given, uint32_t count, uint64_t snapshot_index,
    struct raft_entry **ret_entries)
{
    *ret_entries = NULL;
    if (count == 0) {
        return WP_OK;
    }
    struct raft_entry *entries = raft_calloc(count, sizeof *entries);
    if (!entries) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        int error = start_entry(&given[i], snapshot_index, &entries[i]);
        if (error) {
            start_entries_free(entries, i);
            return error;
        }
    }
    *ret_entries = entries;
    return WP_OK;
}

static int start_engine(struct wp_replica *replica, const struct wp_replica_start *start,
    const struct wp_log_entry *entries, uint32_t count, struct wp_log_hard_state hard)
{
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata = {.index = start->snapshot_index, .term = start->snapshot_term};
    event.start.term = hard.term;
    event.start.voted_for = hard.voted_for;
    event.start.start_index = count > 0 ? entries[0].index : start->snapshot_index + 1;
    event.start.n_entries = count;
    int error = start_entries(entries, count, start->snapshot_index, &event.start.entries);
    if (error) {
        return error;
    }
    if (start->snapshot_index > 0) {
        error = wp_engine_configuration(&start->membership, &metadata.configuration);
        if (error) {
            start_entries_free(event.start.entries, count);
            return error;
        }
        metadata.configuration_index = start->membership_index;
        event.start.metadata = &metadata;
    }
    struct wp_step_source source = {0};
    int refused = 0;
    error = wp_replica_step(replica, &event, &source, &refused);
    if (refused) {
        replica->breach = raft_strerror(refused);
        return wp_engine_error(refused); /* the engine freed the entries */
    }
    start_entries_free(event.start.entries, count);
    return error;
}

/* A fresh group's log: the bootstrap membership, the same bytes in every replica that starts with it. */
static int start_fresh(
    struct wp_replica *replica, const struct wp_membership *membership, struct wp_log_entry *ret_entry)
{
    struct wp_bytes *data = wp_membership_encode(membership);
    if (!data) {
        return WP_E_NOMEM;
    }
    *ret_entry = (struct wp_log_entry){.index = 1, .term = 1, .kind = WP_ENTRY_CHANGE, .data = data};
    int error = wp_replica_hand_out(replica, ret_entry);
    wp_bytes_release(&data); /* the ring holds it */
    return error;
}

static int start_log(struct wp_replica *replica, const struct wp_replica_start *start)
{
    wp_entry_ring_init(&replica->ring, start->snapshot_index + 1);
    for (uint32_t i = 0; i < start->entry_count; i++) {
        if (start->entries[i].index > start->snapshot_index) {
            int error = wp_entry_ring_append(&replica->ring, &start->entries[i], 0);
            if (error) {
                return error;
            }
        }
    }
    return WP_OK;
}

int wp_replica_start(struct wp_replica *replica, uint64_t now_ms, const struct wp_replica_start *start,
    struct wp_replica_update *ret_update)
{
    WP_ASSERT(!replica->started);
    struct wp_membership membership;
    int error = start_check(start);
    if (!error) {
        error = start_membership(start, &membership);
    }
    if (error) {
        return error;
    }
    replica->started = true;
    wp_replica_begin(replica, now_ms);
    struct wp_log_entry first;
    const struct wp_log_entry *entries = start->entries;
    uint32_t count = start->entry_count;
    struct wp_log_hard_state hard = start->hard;
    if (start->fresh) {
        error = start_fresh(replica, &start->membership, &first);
        entries = &first;
        count = 1;
        hard.term = 1;
    } else {
        error = start_log(replica, start);
    }
    if (error) {
        return error;
    }
    /* The engine makes a sole voter leader in the term it finds. A term of its own keeps (index, term) unique
     * when entries were handed out but not synced before a crash, and tells our own entries from those found.
     */
    const struct wp_member *self = wp_membership_find(&membership, replica->config.id);
    if (self && self->role == WP_MEMBER_VOTER && wp_membership_voter_count(&membership) == 1 &&
        WP_BUG != 19) {
        hard.term++;
        hard.voted_for = replica->config.id;
    }
    replica->votes_from_ms = start->hard.term > 0 ? replica->now_ms + replica->config.election_ms : 0;
    replica->hard = start->hard;
    replica->hard.replica = replica->config.id;
    replica->stored = replica->ring.next - 1;
    replica->committed_index = UINT64_MAX; /* read the membership from the engine at the first look */
    error = start_engine(replica, start, entries, count, hard);
    return error ? error : wp_replica_finish(replica, WP_REPLICA_FOLLOWER, start->snapshot_index, ret_update);
}
