/* Translation only: no decision about the protocol is taken here. */
#include "cluster/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

/* The engine reads the pre-vote flag of an RPC only from this version on. Our own version byte covers the
 * wire. */
#define RPC_VERSION_PRE_VOTE 2

void wp_engine_address(uint64_t id, char out[WP_ENGINE_ADDRESS_SIZE])
{
    snprintf(out, WP_ENGINE_ADDRESS_SIZE, "%llu", (unsigned long long)id);
}

int wp_engine_error(int error)
{
    return error == RAFT_NOMEM ? WP_E_NOMEM : WP_E_ENGINE;
}

int wp_engine_configuration(
    const struct wp_membership *membership, struct raft_configuration *ret_configuration)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        char address[WP_ENGINE_ADDRESS_SIZE];
        wp_engine_address(member->id, address);
        int role = member->role == WP_MEMBER_VOTER ? RAFT_VOTER : RAFT_STANDBY;
        int error = raft_configuration_add(&configuration, member->id, address, role);
        if (error) {
            raft_configuration_close(&configuration);
            return wp_engine_error(error);
        }
    }
    *ret_configuration = configuration;
    return WP_OK;
}

int wp_engine_configuration_encode(const struct wp_membership *membership, struct raft_buffer *ret_buffer)
{
    struct raft_configuration configuration;
    int error = wp_engine_configuration(membership, &configuration);
    if (error) {
        return error;
    }
    error = raft_configuration_encode(&configuration, ret_buffer);
    raft_configuration_close(&configuration);
    return error ? wp_engine_error(error) : WP_OK;
}

static unsigned trail_back(const struct raft_trail *trail)
{
    return trail->back == 0 ? trail->size - 1 : trail->back - 1;
}

uint64_t wp_engine_last_index(const struct raft *raft)
{
    const struct raft_trail *trail = &raft->trail;
    return trail->front == trail->back ? trail->snapshot.index : trail->records[trail_back(trail)].index;
}

uint64_t wp_engine_last_term(const struct raft *raft)
{
    const struct raft_trail *trail = &raft->trail;
    return trail->front == trail->back ? trail->snapshot.term : trail->records[trail_back(trail)].term;
}

bool wp_engine_membership(
    const struct raft_configuration *configuration, struct wp_membership *ret_membership)
{
    if (configuration->n > WP_REPLICA_MEMBERS_MAX) {
        return false;
    }
    struct wp_membership membership = {.count = configuration->n};
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        membership.members[i].id = server->id;
        membership.members[i].role = server->role == RAFT_VOTER ? WP_MEMBER_VOTER : WP_MEMBER_LEARNER;
    }
    *ret_membership = membership;
    return true;
}

bool wp_engine_message_out(const struct raft_message *message, bool stale, struct wp_rpc *ret_rpc)
{
    struct wp_rpc rpc = {0};
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        rpc.type = WP_RPC_APPEND;
        rpc.term = message->append_entries.term;
        rpc.append.previous_index = message->append_entries.prev_log_index;
        rpc.append.previous_term = message->append_entries.prev_log_term;
        rpc.append.commit_index = message->append_entries.leader_commit;
        rpc.entry_count = message->append_entries.n_entries;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        rpc.type = WP_RPC_APPEND_RESULT;
        rpc.flags = stale ? WP_RPC_STALE : 0;
        rpc.term = message->append_entries_result.term;
        rpc.append_result.rejected_index = message->append_entries_result.rejected;
        rpc.append_result.last_index = stale ? 0 : message->append_entries_result.last_log_index;
        break;
    case RAFT_REQUEST_VOTE:
        rpc.type = WP_RPC_VOTE;
        rpc.flags = (uint8_t)((message->request_vote.pre_vote ? WP_RPC_PRE_VOTE : 0) |
                              (message->request_vote.disrupt_leader ? WP_RPC_DISRUPT_LEADER : 0));
        rpc.term = message->request_vote.term;
        rpc.vote.candidate = message->request_vote.candidate_id;
        rpc.vote.last_index = message->request_vote.last_log_index;
        rpc.vote.last_term = message->request_vote.last_log_term;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        rpc.type = WP_RPC_VOTE_RESULT;
        rpc.flags = (uint8_t)((message->request_vote_result.pre_vote ? WP_RPC_PRE_VOTE : 0) |
                              (message->request_vote_result.vote_granted ? WP_RPC_GRANTED : 0));
        rpc.term = message->request_vote_result.term;
        break;
    case RAFT_TIMEOUT_NOW:
        rpc.type = WP_RPC_TIMEOUT_NOW;
        rpc.term = message->timeout_now.term;
        rpc.timeout_now.last_index = message->timeout_now.last_log_index;
        rpc.timeout_now.last_term = message->timeout_now.last_log_term;
        break;
    case RAFT_INSTALL_SNAPSHOT:
    default:
        return false;
    }
    *ret_rpc = rpc;
    return true;
}

void wp_engine_message_in(
    const struct wp_rpc *rpc, uint64_t from, const char *address, struct raft_message *ret_message)
{
    struct raft_message message;
    memset(&message, 0, sizeof message);
    message.server_id = from;
    message.server_address = address;
    switch (rpc->type) {
    case WP_RPC_APPEND:
        message.type = RAFT_APPEND_ENTRIES;
        message.append_entries.term = rpc->term;
        message.append_entries.prev_log_index = rpc->append.previous_index;
        message.append_entries.prev_log_term = rpc->append.previous_term;
        message.append_entries.leader_commit = rpc->append.commit_index;
        break;
    case WP_RPC_APPEND_RESULT:
        message.type = RAFT_APPEND_ENTRIES_RESULT;
        message.append_entries_result.version = RPC_VERSION_PRE_VOTE;
        message.append_entries_result.term = rpc->term;
        message.append_entries_result.rejected = rpc->append_result.rejected_index;
        message.append_entries_result.last_log_index = rpc->append_result.last_index;
        break;
    case WP_RPC_VOTE:
        message.type = RAFT_REQUEST_VOTE;
        message.request_vote.version = RPC_VERSION_PRE_VOTE;
        message.request_vote.term = rpc->term;
        message.request_vote.candidate_id = rpc->vote.candidate;
        message.request_vote.last_log_index = rpc->vote.last_index;
        message.request_vote.last_log_term = rpc->vote.last_term;
        message.request_vote.pre_vote = (rpc->flags & WP_RPC_PRE_VOTE) != 0;
        message.request_vote.disrupt_leader = (rpc->flags & WP_RPC_DISRUPT_LEADER) != 0;
        break;
    case WP_RPC_VOTE_RESULT:
        message.type = RAFT_REQUEST_VOTE_RESULT;
        message.request_vote_result.version = RPC_VERSION_PRE_VOTE;
        message.request_vote_result.term = rpc->term;
        message.request_vote_result.vote_granted = (rpc->flags & WP_RPC_GRANTED) != 0;
        message.request_vote_result.pre_vote = (rpc->flags & WP_RPC_PRE_VOTE) != 0;
        break;
    case WP_RPC_TIMEOUT_NOW:
        message.type = RAFT_TIMEOUT_NOW;
        message.timeout_now.term = rpc->term;
        message.timeout_now.last_log_index = rpc->timeout_now.last_index;
        message.timeout_now.last_log_term = rpc->timeout_now.last_term;
        break;
    }
    *ret_message = message;
}
