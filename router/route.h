/* Whom to send to when leaders move: by the word of whoever refused last, else by what the sender guesses.
 * The sender's own view of shards that it does not hold is up to a second old; a refusal knows better.
 *
 * Pure. */
#ifndef WP_ROUTER_ROUTE_H
#define WP_ROUTER_ROUTE_H

#include <stdint.h>

struct wp_route {
    uint32_t node;     /* who leads, as far as was said; 0: nobody said */
    uint32_t refusals; /* in a row */
};

/* The node to send to; `guess` when nobody said. */
uint32_t wp_route_node(const struct wp_route *route, uint32_t guess);
/* It went well. */
void wp_route_taken(struct wp_route *route);
/* Not by this one; `leader` is who leads by its word, 0 when it does not know. The ms to wait before the next
 * try: none after the first refusal that names somebody, then longer each time, at most 100. */
uint32_t wp_route_refused(struct wp_route *route, uint32_t leader);
/* The node is not reached or does not answer: the next try goes to `self`, which may know who leads, or, when
 * it was that, to the guess. The ms to wait. */
uint32_t wp_route_lost(struct wp_route *route, uint32_t self);

#endif
