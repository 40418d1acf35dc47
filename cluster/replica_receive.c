/* Messages from peers: checked for what the engine would mistake, appends cut into the parts it tracks
 * correctly.
 *
 * Invariants:
 *   1. a RAFT_CHANGE reaches the engine as the first and only new entry of its message;
 *   2. a message that the engine would mistake (same-term append to a leader, results out of their state)
 * stops here. */
#include <stdlib.h>

#include "base/error.h"
#include "cluster/replica_step.h"

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
    const struct wp_rpc_entry *parsed, uint32_t count, uint64_t stamp_ms)
{
    struct wp_step_source source = {.base = replica->scratch, .parsed = parsed, .stamp_ms = stamp_ms};
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

/* Results that come when entries are synced return the latest stamp: whoever took that append into account
 * has taken the earlier ones into account. */
static void note_stamp(struct wp_replica *replica, const struct wp_rpc *rpc)
{
    if (rpc->term != raft_current_term(&replica->raft)) {
        return;
    }
    if (replica->heard_term != rpc->term || replica->heard_stamp_ms < rpc->append.stamp_ms) {
        replica->heard_stamp_ms = rpc->append.stamp_ms;
    }
    replica->heard_term = rpc->term;
}

/* How many entries at the front lie at or below our snapshot while their predecessor is unknown here. All of
 * that is committed, so it is the same at every leader of our term or a later one; but the engine knows no
 * terms there: it would refuse, or append the entries at the end of its log. The message is made to begin at
 * the snapshot. */
static uint32_t skip_committed(
    const struct wp_replica *replica, const struct wp_rpc *rpc, struct raft_message *message)
{
    const struct raft_trail *trail = &replica->raft.trail;
    uint64_t previous = rpc->append.previous_index;
    if (rpc->term < raft_current_term(&replica->raft) || trail->offset == 0 || previous > trail->offset ||
        previous == trail->snapshot.index) {
        return 0;
    }
    message->append_entries.prev_log_index = trail->snapshot.index;
    message->append_entries.prev_log_term = trail->snapshot.term;
    uint64_t skip = trail->snapshot.index - previous;
    return skip < rpc->entry_count ? (uint32_t)skip : rpc->entry_count;
}

/* A refusal says where the log ends here, and a leader that believes us to install a snapshot does not listen
 * to it. What is committed here the leader holds too: said first, it makes the leader go on from there. */
static int tell_committed(struct wp_replica *replica, const struct wp_rpc *rpc, uint64_t to)
{
    uint64_t held = wp_replica_commit_index(replica);
    bool follows = replica->raft.state == RAFT_FOLLOWER && rpc->term == raft_current_term(&replica->raft);
    if (!follows || held == 0 || !part_refused(replica, 0)) {
        return WP_OK;
    }
    struct wp_rpc answer = {.type = WP_RPC_APPEND_RESULT, .term = rpc->term};
    answer.append_result.last_index = held;
    answer.append_result.stamp_ms = rpc->append.stamp_ms;
    int error = wp_replica_add_message(replica, to, &answer);
    if (!error) {
        uint32_t last = replica->update.message_count - 1;
        struct wp_replica_message told = replica->messages[last];
        replica->messages[last] = replica->messages[last - 1];
        replica->messages[last - 1] = told;
    }
    return error;
}

static int receive_parts(struct wp_replica *replica, const struct wp_rpc *rpc, struct raft_message *message,
    const struct wp_rpc_entry *parsed, uint32_t count)
{
    int error;
    uint32_t done = 0;
    do {
        uint32_t from = replica->update.message_count;
        const struct wp_rpc_entry *part = parsed ? parsed + done : NULL;
        uint32_t length = part_length(part, count - done);
        error = receive_part(replica, message, part, length, rpc->append.stamp_ms);
        done += length;
        if (error || part_refused(replica, from)) {
            break;
        }
        if (length > 0) {
            message->append_entries.prev_log_index += length;
            message->append_entries.prev_log_term = parsed[done - 1].term;
        }
    } while (done < count);
    return error;
}

static int receive_append(
    struct wp_replica *replica, const struct wp_rpc *rpc, uint64_t from, struct raft_message *message)
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
    uint32_t skip = skip_committed(replica, rpc, message);
    bool falls = skip < rpc->entry_count && parsed[skip].term < message->append_entries.prev_log_term;
    if (falls) {
        error = WP_E_MALFORMED; /* entries older than what is committed before them */
    } else {
        error = receive_parts(replica, rpc, message, parsed ? parsed + skip : NULL, rpc->entry_count - skip);
    }
    free(parsed);
    note_stamp(replica, rpc);
    return error ? error : tell_committed(replica, rpc, from);
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

static enum receive_verdict vote_check(
    const struct wp_replica *replica, uint64_t now_ms, uint64_t from, const struct wp_rpc *rpc)
{
    if (rpc->vote.candidate != from) {
        return RECEIVE_REFUSE;
    }
    /* Before its restart this voter may have returned a stamp on which a leader's lease rests; the engine no
     * longer knows of that leader. A leader that asks for the election itself claims no lease. */
    bool early = now_ms < replica->votes_from_ms && !(rpc->flags & WP_RPC_DISRUPT_LEADER);
    return early || wp_replica_silent(replica) ? RECEIVE_IGNORE : RECEIVE_STEP;
}

static enum receive_verdict receive_check(
    const struct wp_replica *replica, uint64_t now_ms, uint64_t from, const struct wp_rpc *rpc)
{
    uint64_t term = raft_current_term(&replica->raft);
    int state = replica->raft.state;
    switch (rpc->type) {
    case WP_RPC_APPEND:
        /* Two leaders in one term: the engine would overwrite its leader state as if it were a follower. */
        return state == RAFT_LEADER && rpc->term == term ? RECEIVE_REFUSE : RECEIVE_STEP;
    case WP_RPC_APPEND_RESULT:
        if (rpc->append_result.stamp_ms > now_ms && rpc->term == term) {
            return RECEIVE_REFUSE; /* a stamp that we have not taken yet */
        }
        return result_is_stale(replica, from, rpc) ? RECEIVE_IGNORE : RECEIVE_STEP;
    case WP_RPC_VOTE:
        return vote_check(replica, now_ms, from, rpc);
    case WP_RPC_VOTE_RESULT:
        /* The engine reads its candidate state whatever its state is. A pre-vote's term is only a wish. */
        return state != RAFT_CANDIDATE && ((rpc->flags & WP_RPC_PRE_VOTE) || rpc->term <= term)
                   ? RECEIVE_IGNORE
                   : RECEIVE_STEP;
    case WP_RPC_TIMEOUT_NOW:
        return wp_replica_silent(replica) ? RECEIVE_IGNORE : RECEIVE_STEP;
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
    now_ms = now_ms > replica->now_ms ? now_ms : replica->now_ms;
    enum receive_verdict verdict = receive_check(replica, now_ms, from, &rpc);
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
        error = rpc.type == WP_RPC_APPEND ? receive_append(replica, &rpc, from, &in)
                                          : receive_step(replica, &in, &source);
        if (error) {
            return error;
        }
    }
    if (rpc.type == WP_RPC_APPEND_RESULT && !(rpc.flags & WP_RPC_STALE) &&
        rpc.term == raft_current_term(&replica->raft)) {
        wp_replica_lead_echo(replica, from, rpc.append_result.stamp_ms);
    }
    return wp_replica_finish(replica, role, commit, ret_update);
}
