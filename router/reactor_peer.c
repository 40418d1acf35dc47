/* Links of gateways as the reactor knows them: numbers that outlive the link (waiters keep them), and replies
 * that the link would not take at once. A reply to a submit holds back the submit's credit, so held replies
 * are bounded. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "router/reactor_state.h"

int wp_peer_open(struct wp_reactor *reactor, struct wp_link *link)
{
    uint32_t slot = 0;
    while (slot < PEERS_MAX && reactor->peers[slot]) {
        slot++;
    }
    struct peer *peer = slot < PEERS_MAX ? calloc(1, sizeof(*peer)) : NULL;
    if (!peer) {
        return slot < PEERS_MAX ? WP_E_NOMEM : WP_E_FULL;
    }
    reactor->peer_generation++;
    peer->number = reactor->peer_generation * PEERS_MAX + slot;
    peer->kind = LINK_PEER;
    peer->link = link;
    STAILQ_INIT(&peer->held);
    reactor->peers[slot] = peer;
    wp_link_set_user(link, peer);
    return WP_OK;
}

void wp_peer_free(struct peer *peer)
{
    for (struct held_reply *held; (held = STAILQ_FIRST(&peer->held));) {
        STAILQ_REMOVE_HEAD(&peer->held, next);
        free(held);
    }
    free(peer);
}

void wp_peer_close(struct wp_reactor *reactor, struct peer *peer)
{
    for (struct shard *shard = wp_shard_next(reactor, NULL); shard; shard = wp_shard_next(reactor, shard)) {
        wp_dispatch_link_down(shard->dispatch, peer->number);
    }
    reactor->peers[peer->number % PEERS_MAX] = NULL;
    wp_link_set_user(peer->link, NULL);
    wp_peer_free(peer);
}

struct peer *wp_peer_find(struct wp_reactor *reactor, uint32_t number)
{
    struct peer *peer = reactor->peers[number % PEERS_MAX];
    return peer && peer->number == number ? peer : NULL;
}

static int held_fill(struct held_reply *held, enum wp_frame_type type, const ProtobufCMessage *message)
{
    held->type = type;
    switch (type) {
    case WP_FRAME_SUBMIT_REPLY:
        held->submit = *(const Wp__SubmitReply *)message;
        return WP_OK;
    case WP_FRAME_ATTACH_REPLY:
        held->attach = *(const Wp__AttachReply *)message;
        return WP_OK;
    case WP_FRAME_SUBSCRIBE_REPLY:
        held->subscribe = *(const Wp__SubscribeReply *)message;
        return WP_OK;
    case WP_FRAME_TRANSFER_REPLY:
        held->transfer = *(const Wp__TransferReply *)message;
        return WP_OK;
    case WP_FRAME_KICK:
        held->kick = *(const Wp__Kick *)message;
        return WP_OK;
    case WP_FRAME_PROPOSE_REPLY:
        held->propose = *(const Wp__ProposeReply *)message;
        return WP_OK;
    default:
        return WP_E_INVALID;
    }
}

void wp_peer_reply(struct wp_reactor *reactor, uint32_t number, enum wp_frame_type type,
    const ProtobufCMessage *message, uint32_t credit)
{
    struct peer *peer = wp_peer_find(reactor, number);
    if (!peer) {
        return;
    }
    int error = peer->held_count > 0 ? WP_E_FULL : wp_link_send(peer->link, WP_LINK_CONTROL, type, message);
    if (!error) {
        if (credit) {
            wp_link_credit_return(peer->link, credit);
        }
        return;
    }
    if (error == WP_E_CLOSED) {
        return; /* `down` follows */
    }
    struct held_reply *held = calloc(1, sizeof(*held));
    if (!held || held_fill(held, type, message)) {
        /* Without its answer the gateway would wait for ever: better to start over than to go on half deaf.
         */
        free(held);
        wp_reactor_fail(reactor, WP_E_NOMEM, "cannot keep a reply");
        return;
    }
    held->credit = credit;
    STAILQ_INSERT_TAIL(&peer->held, held, next);
    peer->held_count++;
}

void wp_peer_flush(struct wp_reactor *reactor, struct peer *peer)
{
    (void)reactor;
    for (struct held_reply *held; (held = STAILQ_FIRST(&peer->held));) {
        if (wp_link_send(peer->link, WP_LINK_CONTROL, held->type, (const ProtobufCMessage *)&held->submit)) {
            return;
        }
        if (held->credit) {
            wp_link_credit_return(peer->link, held->credit);
        }
        STAILQ_REMOVE_HEAD(&peer->held, next);
        peer->held_count--;
        free(held);
    }
}
