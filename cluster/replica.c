/* The events of a replica: each checks what the engine takes for granted, then steps it.
 *
 * Invariants kept here (those of the engine stand in replica_step.c):
 *   1. the engine is never stepped while hard state waits for its sync;
 *   2. an entry counts as durable only when the write that brought this very copy of it is synced: a number
 * per write tells, whatever was truncated and replaced meanwhile. */
#include "cluster/replica.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/replica_step.h"
#include "proto/frame.h"

/* A member that was to get a snapshot and was not heard of so long is looked at afresh. */
#define SNAPSHOT_TIMEOUTS 10u

/* --- life -------------------------------------------------------------------------------------- */

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
    raft_set_install_snapshot_timeout(&replica->raft, SNAPSHOT_TIMEOUTS * config->election_ms);
    raft_set_max_inflight_entries(&replica->raft, config->inflight_entries);
    wp_prng_init(&replica->prng, config->seed ^ config->id);
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

/* --- time -------------------------------------------------------------------------------------- */

int wp_replica_tick(struct wp_replica *replica, uint64_t now_ms, struct wp_replica_update *ret_update)
{
    enum wp_replica_role role = wp_replica_role(replica);
    uint64_t commit = wp_replica_commit_index(replica);
    wp_replica_begin(replica, now_ms);
    wp_replica_early_election(replica);
    if (role == WP_REPLICA_FOLLOWER && wp_replica_silent(replica)) {
        replica->raft.election_timer_start = replica->now_ms; /* it stands for no election */
    }
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

/* --- propose ----------------------------------------------------------------------------------- */

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

/* --- durability -------------------------------------------------------------------------------- */

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
        bool heard = replica->heard_term == raft_current_term(&replica->raft);
        struct wp_step_source source = {.stamp_ms = heard ? replica->heard_stamp_ms : 0};
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

/* --- accessors --------------------------------------------------------------------------------- */

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
    if (WP_BUG == 11 || WP_BUG == 15) { /* 11: apply before commit; 15: apply before durable locally */
        return WP_BUG == 11 ? replica->stored : replica->commit_seen;
    }
    return replica->commit_seen < replica->stored ? replica->commit_seen : replica->stored;
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
           replica->lead.transfer_to == 0 && inflight < replica->config.inflight_entries;
}

uint64_t wp_replica_match_index(const struct wp_replica *replica, uint64_t from)
{
    if (replica->raft.state != RAFT_LEADER) {
        return 0;
    }
    uint64_t lowest = wp_replica_last_index(replica);
    for (uint32_t i = 0; i < replica->membership.count; i++) {
        raft_index match = 0;
        uint64_t id = replica->membership.members[i].id;
        if (id != replica->config.id && raft_match_index(&replica->raft, id, &match) == 0 && match >= from &&
            match < lowest) {
            lowest = match;
        }
    }
    return lowest;
}

void wp_replica_bar(struct wp_replica *replica, bool barred)
{
    replica->barred = barred;
}

uint64_t wp_replica_acknowledged(const struct wp_replica *replica, uint64_t id)
{
    raft_index match = 0;
    bool leads = replica->raft.state == RAFT_LEADER && id != replica->config.id;
    return leads && raft_match_index(&replica->raft, id, &match) == 0 ? match : 0;
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
