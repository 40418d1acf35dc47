/* Links between routers as a reactor has them: it connects to every reactor of every other node of the roster
 * and sends only there; what other routers send comes on links that they made (struct peer with a node).
 * Shared by router/reactor*.c only; the reactor's thread. */
#ifndef WP_ROUTER_REACTOR_ROUTER_H
#define WP_ROUTER_REACTOR_ROUTER_H

#include "router/reactor_state.h"

/* Brings the links in line with the roster: new nodes are connected, removed ones let go. WP_OK or
 * WP_E_NOMEM. */
int wp_routers_update(struct wp_reactor *reactor);
void wp_routers_free(struct wp_reactor *reactor);

/* To the reactor of `node` that has `group`. WP_E_CLOSED (no link or not up) and the errors of wp_link_send:
 * the frame is dropped and counted; the sender repeats. */
int wp_router_send(struct wp_reactor *reactor, uint32_t node, uint32_t group, enum wp_frame_type type,
    const ProtobufCMessage *message);
bool wp_router_up(const struct wp_reactor *reactor, uint32_t node, uint32_t group);

void wp_router_link_up(struct wp_reactor *reactor, struct router_link *router);
void wp_router_link_down(struct wp_reactor *reactor, struct router_link *router);

/* A frame of another router: on a link that it made (`peer`), or an answer on one of ours. */
void wp_router_frame(
    struct wp_reactor *reactor, struct peer *peer, enum wp_frame_type type, struct wp_slice payload);
void wp_router_answer(
    struct wp_reactor *reactor, struct router_link *router, enum wp_frame_type type, struct wp_slice payload);

/* reactor_propose.c: commands for leaders elsewhere, and commands from elsewhere */
int wp_reactor_forward(struct wp_reactor *reactor, uint32_t shard, uint8_t command,
    const ProtobufCMessage *message, struct wp_answer *answer, uint32_t item);
void wp_forwards_tick(struct wp_reactor *reactor);
/* The connection to `node` is gone; 0: this reactor ends. */
void wp_forwards_lost(struct wp_reactor *reactor, uint32_t node);
void wp_forward_answered(struct wp_reactor *reactor, const ProtobufCMessage *message);
void wp_propose_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);

/* Callback of a group: sends one RPC. */
void wp_shard_send(void *context, uint64_t to, struct wp_bytes *message);

#endif
