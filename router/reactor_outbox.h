/* Items of the outbox on their way between leaders (docs/fanout.md). Soft state: a leader that begins knows
 * only what the machine has, and sends it. Shared by router/reactor*.c only; the reactor's thread. */
#ifndef WP_ROUTER_REACTOR_OUTBOX_H
#define WP_ROUTER_REACTOR_OUTBOX_H

#include "router/reactor_router.h"

struct outbox_sends;

int wp_outbox_sends_create(struct shard *shard);
void wp_outbox_sends_destroy(struct shard *shard);

/* Our replica leads from now on, or no more. */
void wp_outbox_leading(struct shard *shard, bool leading);
/* An entry was applied; with new items they are sent at the end of the turn. */
void wp_outbox_applied(struct shard *shard);
/* At the end of a turn; at each tick, with `tick`. */
void wp_outbox_pump(struct shard *shard, bool tick);
/* Whether deletions wait that should leave: on their own when they are old enough, else `along` with an
 * entry. */
bool wp_outbox_advances_due(const struct shard *shard, bool along);
/* Puts OUTBOX_ADVANCE for what was answered into the open entry. */
void wp_outbox_advances_take(struct shard *shard);

/* At the destination: frames of other routers, and the outcome of TRANSFER_IN. */
void wp_transfer_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);
void wp_transfer_answer(struct shard *shard, struct transfer_wait *wait, int error, uint64_t watermark);
/* At the source: the answer. */
void wp_transfer_replied(struct wp_reactor *reactor, const ProtobufCMessage *message);

#endif
