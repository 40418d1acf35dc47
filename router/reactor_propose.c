/* Commands of the operator for a shard that is led elsewhere: they go to the leader's reactor and their
 * answer comes back, so any router can be asked.
 *
 * Invariants
 *   1. Each command is answered once: by the leader, or with WP_E_TIMEOUT when its outcome is unknown or no
 * leader was found in FORWARD_MS_MAX.
 *   2. It is sent again only after a leader said that it is none. */
#include <stdlib.h>

#include "base/error.h"
#include "proto/frame.h"
#include "router/reactor_router.h"

#define FORWARD_MS_MAX 4000u
#define FORWARD_RETRY_MS 100u
#define FORWARD_AROUND_BYTES 64u /* what a frame and an entry add to a command, at most */

struct forward {
    TAILQ_ENTRY(forward) next;
    uint64_t number;
    uint32_t shard;
    uint8_t command;
    uint32_t node; /* asked; 0 = waits for retry_ms */
    uint64_t retry_ms;
    uint64_t deadline_ms;
    struct wp_answer *answer;
    uint32_t item;
    struct wp_buffer payload;
};

/* Commands that an operator gives; the others are the leader's own business. */
static const ProtobufCMessageDescriptor *const operator_commands[] = {
    [WP_COMMAND_USER_ADD] = &wp__command_user_add__descriptor,
    [WP_COMMAND_DEVICE_ADD] = &wp__command_device_add__descriptor,
    [WP_COMMAND_DEVICE_REMOVE] = &wp__command_device_remove__descriptor,
    [WP_COMMAND_TEAM_ADD] = &wp__command_team_add__descriptor,
    [WP_COMMAND_TEAM_REMOVE] = &wp__command_team_remove__descriptor,
    [WP_COMMAND_TEAM_MEMBER_ADD] = &wp__command_team_member_add__descriptor,
    [WP_COMMAND_TEAM_MEMBER_REMOVE] = &wp__command_team_member_remove__descriptor,
};

/* NULL: not one that comes from elsewhere. */
static const ProtobufCMessageDescriptor *command_descriptor(uint32_t shard, uint32_t command)
{
    size_t rows = sizeof(operator_commands) / sizeof(*operator_commands);
    if (shard == WP_META_GROUP) {
        return wp_meta_descriptor(command);
    }
    return command < rows ? operator_commands[command] : NULL;
}

static bool leads(struct wp_reactor *reactor, uint32_t number)
{
    const struct shard *shard = wp_reactor_group_of(reactor, number);
    return shard && wp_group_leading(shard->group);
}

/* Proposes a packed command here and nowhere else. WP_E_NOT_LEADER, WP_E_INVALID, errors of decoding and of
 * wp_reactor_propose: refused, and `answer` is not called. */
static int packed_propose(struct wp_reactor *reactor, uint32_t shard, uint32_t command,
    struct wp_slice payload, struct wp_answer *answer, uint32_t item)
{
    const ProtobufCMessageDescriptor *descriptor = command_descriptor(shard, command);
    ProtobufCMessage *message;
    int error =
        descriptor ? wp_schema_decode(descriptor, payload, &reactor->frame_arena, &message) : WP_E_INVALID;
    error = error || leads(reactor, shard) ? error : WP_E_NOT_LEADER;
    return error ? error : wp_reactor_propose(reactor, shard, (uint8_t)command, message, answer, item);
}

/* --- at the router that was asked
 * ------------------------------------------------------------------------------------------
 */

static void forward_destroy(struct wp_reactor *reactor, struct forward *forward)
{
    TAILQ_REMOVE(&reactor->forwards, forward, next);
    reactor->forward_count--;
    wp_buffer_free(&forward->payload);
    free(forward);
}

static void forward_end(struct wp_reactor *reactor, struct forward *forward, int error)
{
    struct wp_answer *answer = forward->answer;
    uint32_t item = forward->item;
    forward_destroy(reactor, forward);
    answer->answered(answer, item, error);
}

/* We became the leader meanwhile: the command is an own one from here on. */
static void forward_own(struct wp_reactor *reactor, struct forward *forward)
{
    wp_arena_reset(&reactor->frame_arena); /* no frame is being taken: that would not be forwarded */
    int error = packed_propose(reactor, forward->shard, forward->command,
        wp_slice(forward->payload.data, forward->payload.size), forward->answer, forward->item);
    if (error) {
        forward_end(reactor, forward, error);
    } else {
        forward_destroy(reactor, forward);
    }
}

/* Who leads, as far as this node can know: the leader of our replica, or one of the wanted replicas, each
 * asked in its turn. */
static uint32_t leader_guess(struct wp_reactor *reactor, const struct forward *forward)
{
    const struct shard *shard = wp_reactor_group_of(reactor, forward->shard);
    if (shard) {
        return wp_raft_id_node(wp_group_leader(shard->group));
    }
    const struct wp_roster_wanted *wanted = &reactor->roster->wanted[forward->shard];
    uint64_t turn = forward->deadline_ms - reactor->mono_ms;
    return wanted->count ? wp_raft_id_node(wanted->ids[turn / FORWARD_RETRY_MS % wanted->count]) : 0;
}

/* The forward may be gone afterwards. */
static void forward_try(struct wp_reactor *reactor, struct forward *forward)
{
    if (leads(reactor, forward->shard)) {
        forward_own(reactor, forward);
        return;
    }
    uint32_t node = leader_guess(reactor, forward);
    Wp__Propose propose = WP__PROPOSE__INIT;
    propose.number = forward->number;
    propose.shard = forward->shard;
    propose.command = forward->command;
    propose.payload = (ProtobufCBinaryData){forward->payload.size, forward->payload.data};
    bool sent = node != 0 && node != reactor->config.self &&
                wp_router_send(reactor, node, forward->shard, WP_FRAME_PROPOSE, &propose.base) == WP_OK;
    forward->node = sent ? node : 0;
    forward->retry_ms = reactor->mono_ms + FORWARD_RETRY_MS;
}

int wp_reactor_forward(struct wp_reactor *reactor, uint32_t shard, uint8_t command,
    const ProtobufCMessage *message, struct wp_answer *answer, uint32_t item)
{
    if (reactor->forward_count == FORWARDS_MAX || shard > reactor->roster->shard_count) {
        return WP_E_NOT_LEADER;
    }
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > WP_ENTRY_SIZE_MAX - FORWARD_AROUND_BYTES) {
        return WP_E_TOO_LARGE;
    }
    struct forward *forward = calloc(1, sizeof(*forward));
    uint8_t *payload = forward ? wp_buffer_reserve(&forward->payload, size ? size : 1) : NULL;
    if (!payload) {
        free(forward);
        return WP_E_NOMEM;
    }
    forward->payload.size = protobuf_c_message_pack(message, payload);
    forward->number = ++reactor->forward_last;
    forward->shard = shard;
    forward->command = command;
    forward->answer = answer;
    forward->item = item;
    forward->deadline_ms = reactor->mono_ms + FORWARD_MS_MAX;
    TAILQ_INSERT_TAIL(&reactor->forwards, forward, next);
    reactor->forward_count++;
    forward_try(reactor, forward);
    return WP_OK;
}

void wp_forwards_tick(struct wp_reactor *reactor)
{
    struct forward *next;
    for (struct forward *forward = TAILQ_FIRST(&reactor->forwards); forward; forward = next) {
        next = TAILQ_NEXT(forward, next);
        if (reactor->mono_ms >= forward->deadline_ms) {
            forward_end(reactor, forward, WP_E_TIMEOUT);
        } else if (forward->node == 0 && reactor->mono_ms >= forward->retry_ms) {
            forward_try(reactor, forward);
        }
    }
}

void wp_forwards_lost(struct wp_reactor *reactor, uint32_t node)
{
    struct forward *next;
    for (struct forward *forward = TAILQ_FIRST(&reactor->forwards); forward; forward = next) {
        next = TAILQ_NEXT(forward, next);
        if (forward->node != 0 && (node == 0 || forward->node == node)) {
            forward_end(reactor, forward, WP_E_TIMEOUT);
        } else if (node == 0) {
            forward_end(reactor, forward, WP_E_CLOSED);
        }
    }
}

void wp_forward_answered(struct wp_reactor *reactor, const ProtobufCMessage *message)
{
    const Wp__ProposeReply *reply = (const Wp__ProposeReply *)message;
    for (struct forward *forward = TAILQ_FIRST(&reactor->forwards); forward;
         forward = TAILQ_NEXT(forward, next)) {
        if (forward->number != reply->number || forward->node == 0) {
            continue;
        }
        if (reply->error == WP_E_NOT_LEADER) {
            forward->node = 0;
            forward->retry_ms = reactor->mono_ms + FORWARD_RETRY_MS;
        } else {
            forward_end(reactor, forward, reply->error);
        }
        return;
    }
}

/* --- at the leader
 * ------------------------------------------------------------------------------------------
 */

struct asked {
    struct wp_answer answer; /* first */
    struct wp_reactor *reactor;
    uint32_t peer;
    uint64_t number;
};

static void propose_reply(struct wp_reactor *reactor, uint32_t peer, uint64_t number, int error)
{
    Wp__ProposeReply reply = WP__PROPOSE_REPLY__INIT;
    reply.number = number;
    reply.error = error;
    wp_peer_reply(reactor, peer, WP_FRAME_PROPOSE_REPLY, &reply.base, 0);
}

static void asked_answered(struct wp_answer *answer, uint32_t item, int error)
{
    struct asked *asked = (struct asked *)answer;
    (void)item;
    propose_reply(asked->reactor, asked->peer, asked->number, error);
    free(asked);
}

void wp_propose_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__Propose *propose = (const Wp__Propose *)message;
    struct asked *asked = calloc(1, sizeof(*asked));
    int error = WP_E_NOMEM;
    if (asked) {
        asked->answer.answered = asked_answered;
        asked->reactor = reactor;
        asked->peer = peer->number;
        asked->number = propose->number;
        error = packed_propose(reactor, propose->shard, propose->command,
            wp_slice(propose->payload.data, propose->payload.len), &asked->answer, 0);
    }
    if (error) {
        free(asked);
        propose_reply(reactor, peer->number, propose->number, error);
    }
}
