/* The events of a replica: each checks what the engine takes for granted, then steps it.
 *
 * Invariants kept here (those of the engine stand in replica_step.c):
 *   1. the engine is never stepped while hard state waits for its sync;
 *   2. an entry counts as durable only when the write that brought this very copy of it is synced: a number
 * per write tells, whatever was truncated and replaced meanwhile;
 *   3. a RAFT_CHANGE reaches the engine as the first and only new entry of its message;
 *   4. a message that the engine would mistake (same-term append to a leader, results out of their state)
 * stops here. */
#include "cluster/replica.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/replica_step.h"
#include "proto/frame.h"

/* --- life -------------------------------------------------------------------------------------------------
 */

int wp_replica_create(const struct wp_replica_config *config, struct wp_replica **ret_replica)
{
    if (config->id == 0 || config->election_ms == 0 || config->heartbeat_ms == 0 ||
        config->heartbeat_ms >= config->election_ms || config->inflight_entries == 0 ||
        config->inflight_entries > WP_RPC_ENTRIES_MAX) {
        return WP_E_INVALID;
    }
    struct wp_replica *replica = calloc(1, sizeof *replica);
    if (!replica) {
        return WP_E_NOMEM;
    }
    replica->config = *config;
    char address[WP_ENGINE_ADDRESS_SIZE];
    wp_engine_address(config->id, address);
    int code = raft_init(&replica->raft, NULL, NULL, config->id, address);
    if (code) {
        free(replica);
        return wp_engine_error(code);
    }
    /* The default tracer formats every step into a buffer shared by all threads. */
    replica->raft.tracer = NULL;
    raft_seed(&replica->raft, config->seed);
    raft_set_pre_vote(&replica->raft, true);
    raft_set_election_timeout(&replica->raft, config->election_ms);
    raft_set_heartbeat_timeout(&replica->raft, config->heartbeat_ms);
    raft_set_max_inflight_entries(&replica->raft, config->inflight_entries);
    wp_entry_ring_init(&replica->ring, 1);
    *ret_replica = replica;
    return WP_OK;
}

void wp_replica_destroy(struct wp_replica **replica)
{
    struct wp_replica *taken = *replica;
    *replica = NULL;
    if (!taken) {
        return;
    }
    for (uint32_t i = 0; i < taken->update.message_count; i++) {
        wp_bytes_release(&taken->messages[i].bytes);
    }
    raft_close(&taken->raft, NULL);
    wp_entry_ring_fini(&taken->ring);
    free(taken->entries);
    free(taken->messages);
    free(taken->scratch);
    free(taken);
}

/* --- start ------------------------------------------------------------------------------------------------
 */

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
        hard = (struct wp_log_hard_state){.term = hard.term + 1, .voted_for = replica->config.id};
    }
    replica->hard = start->hard;
    replica->stored = replica->ring.next - 1;
    replica->committed_index = UINT64_MAX; /* read the membership from the engine at the first look */
    error = start_engine(replica, start, entries, count, hard);
    return error ? error : wp_replica_finish(replica, WP_REPLICA_FOLLOWER, start->snapshot_index, ret_update);
}

/* --- time -------------------------------------------------------------------------------------------------
 */

int wp_replica_tick(struct wp_replica *replica, uint64_t now_ms, struct wp_replica_update *ret_update)
{
    enum wp_replica_role role = wp_replica_role(replica);
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    if (replica->now_ms >= raft_timeout(&replica->raft)) {
        struct raft_event event = {.type = RAFT_TIMEOUT};
        struct wp_step_source source = {0};
        int error = wp_replica_step(replica, &event, &source, NULL);
        if (error) {
            return error;
        }
    }
    return wp_replica_finish(replica, role, commit, ret_update);
}

/* --- receive ----------------------------------------------------------------------------------------------
 */

static int scratch_reserve(struct wp_replica *replica, uint32_t count)
{
    if (count <= replica->scratch_capacity) {
        return WP_OK;
    }
    struct raft_entry *scratch = realloc(replica->scratch, count * sizeof *scratch);
    if (!scratch) {
        return WP_E_NOMEM;
    }
    replica->scratch = scratch;
    replica->scratch_capacity = count;
    return WP_OK;
}

/* The engine frees the batch of a part it does not keep and hands back that of one it keeps. Our data stays
 * in the received bytes, so the batch is a token, or a CHANGE in the engine's encoding. */
static int part_batch(struct wp_replica *replica, const struct wp_rpc_entry *parsed, uint32_t count)
{
    struct raft_buffer buffer = {0};
    for (uint32_t i = 0; i < count && !buffer.base; i++) {
        struct wp_membership membership;
        if (parsed[i].kind == WP_ENTRY_CHANGE && wp_membership_decode(parsed[i].data, &membership) == WP_OK) {
            int error = wp_engine_configuration_encode(&membership, &buffer);
            if (error) {
                return error;
            }
        }
    }
    void *batch = buffer.base ? buffer.base : raft_malloc(1);
    if (!batch) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        replica->scratch[i] = (struct raft_entry){.term = parsed[i].term,
            .type = (enum raft_entry_type)parsed[i].kind,
            .buf = buffer,
            .batch = batch};
    }
    return WP_OK;
}

/* Whether an answer since `from` says that the log does not reach this far: what follows would be refused
 * too. */
static bool part_refused(const struct wp_replica *replica, uint32_t from)
{
    for (uint32_t i = from; i < replica->update.message_count; i++) {
        const struct wp_rpc *rpc = &replica->messages[i].rpc;
        if (rpc->type == WP_RPC_APPEND_RESULT &&
            (rpc->append_result.rejected_index > 0 || (rpc->flags & WP_RPC_STALE))) {
            return true;
        }
    }
    return false;
}

static int receive_step(
    struct wp_replica *replica, struct raft_message *message, const struct wp_step_source *source)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = message;
    return wp_replica_step(replica, &event, source, NULL);
}

static int receive_part(struct wp_replica *replica, struct raft_message *message,
    const struct wp_rpc_entry *parsed, uint32_t count)
{
    struct wp_step_source source = {.base = replica->scratch, .parsed = parsed};
    source.stale = message->append_entries.term < raft_current_term(&replica->raft);
    message->append_entries.entries = count > 0 ? replica->scratch : NULL;
    message->append_entries.n_entries = count;
    int error = count > 0 ? part_batch(replica, parsed, count) : WP_OK;
    return error ? error : receive_step(replica, message, &source);
}

/* Length of the next part: a CHANGE alone, or everything before the next one. The engine records the index of
 * the first new entry as that of any change in the message (raft.md, rule 7). */
static uint32_t part_length(const struct wp_rpc_entry *parsed, uint32_t count)
{
    if (WP_BUG == 17 || count == 0) {
        return count;
    }
    if (parsed[0].kind == WP_ENTRY_CHANGE) {
        return 1;
    }
    uint32_t length = 1;
    while (length < count && parsed[length].kind != WP_ENTRY_CHANGE) {
        length++;
    }
    return length;
}

static int receive_append(struct wp_replica *replica, const struct wp_rpc *rpc, struct raft_message *message)
{
    struct wp_rpc_entry *parsed = NULL;
    int error = scratch_reserve(replica, rpc->entry_count);
    if (error) {
        return error;
    }
    if (rpc->entry_count > 0) {
        parsed = malloc(rpc->entry_count * sizeof *parsed);
        if (!parsed) {
            return WP_E_NOMEM;
        }
    }
    struct wp_slice rest = rpc->entries;
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        wp_rpc_entry_next(&rest, &parsed[i]);
    }
    uint32_t done = 0;
    do {
        uint32_t from = replica->update.message_count;
        uint32_t length = part_length(parsed + done, rpc->entry_count - done);
        error = receive_part(replica, message, parsed + done, length);
        done += length;
        if (error || part_refused(replica, from)) {
            break;
        }
        if (length > 0) {
            message->append_entries.prev_log_index += length;
            message->append_entries.prev_log_term = parsed[done - 1].term;
        }
    } while (done < rpc->entry_count);
    free(parsed);
    return error;
}

enum receive_verdict { RECEIVE_STEP, RECEIVE_IGNORE, RECEIVE_REFUSE };

static bool result_is_stale(const struct wp_replica *replica, uint64_t from, const struct wp_rpc *rpc)
{
    /* The answer to a request of an older term only tells of the newer one. If we lead that one by now, its
     * hint would be taken for an answer to our own requests. */
    uint64_t term = raft_current_term(&replica->raft);
    if ((rpc->flags & WP_RPC_STALE) && rpc->term <= term) {
        return true;
    }
    /* A refusal of what the peer is known to hold was overtaken on the way. A probing engine would step back
     * to it, below its own match index, count a negative number of entries in flight and never send one
     * again. */
    raft_index match;
    return WP_BUG != 18 && rpc->term == term && rpc->append_result.rejected_index > 0 &&
           raft_match_index(&replica->raft, from, &match) == 0 && rpc->append_result.rejected_index <= match;
}

static enum receive_verdict receive_check(
    const struct wp_replica *replica, uint64_t from, const struct wp_rpc *rpc)
{
    uint64_t term = raft_current_term(&replica->raft);
    int state = replica->raft.state;
    switch (rpc->type) {
    case WP_RPC_APPEND:
        /* Two leaders in one term: the engine would overwrite its leader state as if it were a follower. */
        return state == RAFT_LEADER && rpc->term == term ? RECEIVE_REFUSE : RECEIVE_STEP;
    case WP_RPC_APPEND_RESULT:
        return result_is_stale(replica, from, rpc) ? RECEIVE_IGNORE : RECEIVE_STEP;
    case WP_RPC_VOTE:
        return rpc->vote.candidate != from ? RECEIVE_REFUSE : RECEIVE_STEP;
    case WP_RPC_VOTE_RESULT:
        /* The engine reads its candidate state whatever its state is. A pre-vote's term is only a wish. */
        return state != RAFT_CANDIDATE && ((rpc->flags & WP_RPC_PRE_VOTE) || rpc->term <= term)
                   ? RECEIVE_IGNORE
                   : RECEIVE_STEP;
    default:
        return RECEIVE_STEP;
    }
}

int wp_replica_receive(struct wp_replica *replica, uint64_t now_ms, uint64_t from, struct wp_slice message,
    struct wp_replica_update *ret_update)
{
    struct wp_rpc rpc;
    int error = wp_rpc_decode(message, &rpc);
    if (error) {
        return error;
    }
    enum receive_verdict verdict = receive_check(replica, from, &rpc);
    if (from == 0 || from == replica->config.id || verdict == RECEIVE_REFUSE) {
        return WP_E_MALFORMED;
    }
    enum wp_replica_role role = wp_replica_role(replica);
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    if (verdict == RECEIVE_STEP) {
        char address[WP_ENGINE_ADDRESS_SIZE];
        struct raft_message in;
        wp_engine_address(from, address);
        wp_engine_message_in(&rpc, from, address, &in);
        struct wp_step_source source = {0};
        error = rpc.type == WP_RPC_APPEND ? receive_append(replica, &rpc, &in)
                                          : receive_step(replica, &in, &source);
        if (error) {
            return error;
        }
    }
    return wp_replica_finish(replica, role, commit, ret_update);
}

/* --- propose ----------------------------------------------------------------------------------------------
 */

static int submit(struct wp_replica *replica, struct raft_entry *entry, struct wp_bytes *data)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    event.submit.entries = entry;
    event.submit.n = 1;
    struct wp_step_source source = {.base = entry, .single = data};
    int refused = 0;
    int error = wp_replica_step(replica, &event, &source, &refused);
    if (error || refused == 0) {
        return error;
    }
    switch (refused) {
    case RAFT_NOTLEADER: /* leadership is being transferred */
        return WP_E_NOT_LEADER;
    case RAFT_CANTCHANGE:
        return WP_E_UNAVAILABLE;
    default:
        replica->breach = raft_strerror(refused);
        return wp_engine_error(refused);
    }
}

static int propose_check(const struct wp_replica *replica)
{
    if (replica->raft.state != RAFT_LEADER) {
        return WP_E_NOT_LEADER;
    }
    return wp_replica_can_propose(replica) ? WP_OK : WP_E_FULL;
}

int wp_replica_propose(struct wp_replica *replica, uint64_t now_ms, struct wp_bytes **data,
    uint64_t *ret_index, struct wp_replica_update *ret_update)
{
    int error = propose_check(replica);
    if (error) {
        return error;
    }
    if ((*data)->size > WP_ENTRY_SIZE_MAX) {
        return WP_E_TOO_LARGE;
    }
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    struct raft_entry entry = {.term = raft_current_term(&replica->raft), .type = RAFT_COMMAND};
    entry.buf = (struct raft_buffer){.base = (*data)->data, .len = (*data)->size};
    entry.batch = (*data)->data; /* the engine wants one and never frees that of a submission */
    error = submit(replica, &entry, *data);
    if (error) {
        return error;
    }
    *ret_index = replica->ring.next - 1;
    wp_bytes_release(data);
    return wp_replica_finish(replica, WP_REPLICA_LEADER, commit, ret_update);
}

/* The engine lets nobody vote who is no voter by his own log. So those who stay voters and are known to hold
 * the present membership must be a majority of both memberships; else a group whose members were promoted
 * before they had caught up could fail to elect a leader although all are well, whoever got the change before
 * its leader fell. */
static bool change_is_electable(const struct wp_replica *replica, const struct wp_membership *to)
{
    uint32_t knowing = 0;
    for (uint32_t i = 0; i < to->count; i++) {
        const struct wp_member *member = &to->members[i];
        const struct wp_member *now = wp_membership_find(&replica->membership, member->id);
        if (member->role != WP_MEMBER_VOTER || !now || now->role != WP_MEMBER_VOTER) {
            continue;
        }
        raft_index match = 0;
        bool self = member->id == replica->config.id;
        knowing += self || (raft_match_index(&replica->raft, member->id, &match) == 0 &&
                               match >= replica->committed_index);
    }
    return knowing > wp_membership_voter_count(to) / 2 &&
           knowing > wp_membership_voter_count(&replica->membership) / 2;
}

int wp_replica_propose_change(struct wp_replica *replica, uint64_t now_ms,
    const struct wp_membership *membership, uint64_t *ret_index, struct wp_replica_update *ret_update)
{
    int error = propose_check(replica);
    if (error) {
        return error;
    }
    if (wp_membership_check(membership) != WP_OK ||
        !wp_membership_one_step(&replica->membership, membership)) {
        return WP_E_INVALID;
    }
    if (replica->uncommitted_index != 0 || (!change_is_electable(replica, membership))) {
        return WP_E_UNAVAILABLE;
    }
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    struct wp_bytes *data = wp_membership_encode(membership);
    if (!data) {
        return WP_E_NOMEM;
    }
    struct raft_entry entry = {.term = raft_current_term(&replica->raft), .type = RAFT_CHANGE};
    error = wp_engine_configuration_encode(membership, &entry.buf);
    if (!error) {
        entry.batch = entry.buf.base;
        error = submit(replica, &entry, data);
        raft_free(entry.buf.base);
    }
    wp_bytes_release(&data);
    if (error) {
        return error;
    }
    *ret_index = replica->ring.next - 1;
    return wp_replica_finish(replica, WP_REPLICA_LEADER, commit, ret_update);
}

/* --- durability -------------------------------------------------------------------------------------------
 */

int wp_replica_persisted(
    struct wp_replica *replica, uint64_t now_ms, uint64_t write, struct wp_replica_update *ret_update)
{
    if (write > replica->write) {
        return WP_E_INVALID;
    }
    if (write < replica->parked_write) {
        /* An answer to a peer would leave under a term that is not safe yet; the parking write's report
         * covers it. */
        *ret_update = (struct wp_replica_update){0};
        return WP_OK;
    }
    replica->parked_write = 0;
    enum wp_replica_role role = wp_replica_role(replica);
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    uint64_t index = replica->stored;
    const struct wp_entry_slot *slot = wp_entry_ring_find(&replica->ring, index + 1);
    while (slot && (slot->write <= write || WP_BUG == 13)) {
        index++;
        slot = wp_entry_ring_find(&replica->ring, index + 1);
    }
    if (index > replica->stored) {
        struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
        event.persisted_entries.index = index;
        replica->stored = index;
        struct wp_step_source source = {0};
        int error = wp_replica_step(replica, &event, &source, NULL);
        if (error) {
            return error;
        }
    }
    return wp_replica_finish(replica, role, commit, ret_update);
}

int wp_replica_compacted(struct wp_replica *replica, uint64_t now_ms, uint64_t snapshot_index,
    uint64_t log_first, struct wp_replica_update *ret_update)
{
    if (log_first == 0 || log_first > snapshot_index + 1 ||
        snapshot_index > wp_replica_commit_index(replica)) {
        return WP_E_INVALID;
    }
    enum wp_replica_role role = wp_replica_role(replica);
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    const struct raft_trail *trail = &replica->raft.trail;
    uint64_t trailing = snapshot_index + 1 - log_first;
    bool known = snapshot_index > trail->offset && snapshot_index > trail->snapshot.index;
    if (known && replica->committed_index <= snapshot_index && trailing <= UINT32_MAX) {
        struct raft_event event = {.type = RAFT_SNAPSHOT};
        event.snapshot.metadata.index = snapshot_index;
        event.snapshot.metadata.configuration_index = replica->committed_index;
        event.snapshot.trailing = (unsigned)trailing;
        int error = wp_engine_configuration(&replica->committed, &event.snapshot.metadata.configuration);
        if (error) {
            return error;
        }
        struct wp_step_source source = {0};
        error = wp_replica_step(replica, &event, &source, NULL);
        if (error) {
            return error;
        }
    }
    return wp_replica_finish(replica, role, commit, ret_update);
}

struct wp_bytes *wp_replica_message_fill(
    const struct wp_replica_message *message, const struct wp_log_entry *entries, uint32_t count)
{
    WP_ASSERT(message->rpc.type == WP_RPC_APPEND && count <= message->rpc.entry_count);
    struct wp_rpc rpc = message->rpc;
    rpc.entry_count = count;
    return wp_rpc_encode(&rpc, entries);
}

/* --- accessors --------------------------------------------------------------------------------------------
 */

enum wp_replica_role wp_replica_role(const struct wp_replica *replica)
{
    switch (replica->raft.state) {
    case RAFT_LEADER:
        return WP_REPLICA_LEADER;
    case RAFT_CANDIDATE:
        return WP_REPLICA_CANDIDATE;
    default:
        return WP_REPLICA_FOLLOWER;
    }
}

uint64_t wp_replica_term(const struct wp_replica *replica)
{
    return raft_current_term(&replica->raft);
}

uint64_t wp_replica_leader(const struct wp_replica *replica)
{
    switch (replica->raft.state) {
    case RAFT_LEADER:
        return replica->config.id;
    case RAFT_FOLLOWER:
        return replica->raft.follower_state.current_leader.id;
    default:
        return 0;
    }
}

uint64_t wp_replica_commit_index(const struct wp_replica *replica)
{
#if WP_BUG == 11 /* apply before commit */
    return replica->stored;
#elif WP_BUG == 15 /* apply before durable locally */
    return replica->commit_seen;
#else
    return replica->commit_seen < replica->stored ? replica->commit_seen : replica->stored;
#endif
}

uint64_t wp_replica_durable_index(const struct wp_replica *replica)
{
    return replica->stored;
}

uint64_t wp_replica_last_index(const struct wp_replica *replica)
{
    return replica->ring.next - 1;
}

uint64_t wp_replica_last_write(const struct wp_replica *replica)
{
    return replica->write;
}

bool wp_replica_parked(const struct wp_replica *replica)
{
    return replica->parked_write != 0;
}

bool wp_replica_can_propose(const struct wp_replica *replica)
{
    uint64_t inflight = wp_replica_last_index(replica) - wp_replica_commit_index(replica);
    return replica->raft.state == RAFT_LEADER && replica->parked_write == 0 &&
           inflight < replica->config.inflight_entries;
}

uint64_t wp_replica_match_index(const struct wp_replica *replica)
{
    if (replica->raft.state != RAFT_LEADER) {
        return 0;
    }
    uint64_t lowest = wp_replica_last_index(replica);
    for (uint32_t i = 0; i < replica->membership.count; i++) {
        raft_index match = 0;
        uint64_t id = replica->membership.members[i].id;
        if (id != replica->config.id && raft_match_index(&replica->raft, id, &match) == 0 && match < lowest) {
            lowest = match;
        }
    }
    return lowest;
}

const struct wp_log_entry *wp_replica_entry(const struct wp_replica *replica, uint64_t index)
{
    const struct wp_entry_slot *slot = wp_entry_ring_find(&replica->ring, index);
    return slot ? &slot->entry : NULL;
}

uint64_t wp_replica_retained_bytes(const struct wp_replica *replica)
{
    return replica->ring.bytes;
}

uint64_t wp_replica_retained_first(const struct wp_replica *replica)
{
    return replica->ring.first;
}

void wp_replica_trim(struct wp_replica *replica, uint64_t index)
{
    WP_ASSERT(index <= wp_replica_commit_index(replica) + 1);
    wp_entry_ring_trim(&replica->ring, index);
}

const char *wp_replica_breach(const struct wp_replica *replica)
{
    return replica->breach ? replica->breach : "none";
}

const struct wp_membership *wp_replica_membership(const struct wp_replica *replica)
{
    return &replica->membership;
}

const struct wp_membership *wp_replica_committed_membership(
    const struct wp_replica *replica, uint64_t *ret_index)
{
    *ret_index = replica->committed_index;
    return &replica->committed;
}
