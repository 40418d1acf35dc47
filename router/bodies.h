/* Shared bodies in memory: how many rows of mailboxes name each (docs/fanout.md, "One body for many
 * mailboxes"). Counts only; machine_body.c writes.
 *
 * One owner thread. 16 bytes for each body and what the table leaves free. */
#ifndef WP_ROUTER_BODIES_H
#define WP_ROUTER_BODIES_H

#include <stdbool.h>
#include <stdint.h>

struct wp_bodies_slot {
    uint64_t number; /* 0 = free */
    uint64_t holders;
};

struct wp_bodies {
    struct wp_bodies_slot *slots;
    uint32_t capacity;
    uint32_t count;
};

void wp_bodies_fini(struct wp_bodies *bodies);
/* One holder more of `number`, which is not 0. WP_OK or WP_E_NOMEM. */
int wp_bodies_hold(struct wp_bodies *bodies, uint64_t number);
/* One holder less; true when it was the last one. The body is held. */
bool wp_bodies_release(struct wp_bodies *bodies, uint64_t number);
/* 0 when there is none. */
uint64_t wp_bodies_holders(const struct wp_bodies *bodies, uint64_t number);

#endif
