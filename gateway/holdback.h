/* Deliveries of one client that wait for room on its socket, per lane. Pure. Empty: no memory but the struct.
 */
#ifndef WP_GATEWAY_HOLDBACK_H
#define WP_GATEWAY_HOLDBACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "proto/schema.h"

#define WP_HOLDBACK_LANES 4u /* the receipts are the last */

struct wp_held {
    struct wp_held *next;
    uint64_t since_ms; /* boot clock, here and below: time runs on while the machine sleeps */
    size_t size;
    uint8_t deliver[]; /* the packed Deliver frame */
};

struct wp_holdback {
    struct wp_held *first[WP_HOLDBACK_LANES];
    struct wp_held *last[WP_HOLDBACK_LANES];
    uint8_t budget[WP_HOLDBACK_LANES]; /* what is left of 8:4:1:1 */
    size_t bytes;
};

/* Copies a packed Deliver of `lane`. WP_E_NOMEM. */
int wp_holdback_push(struct wp_holdback *holdback, Wp__Lane lane, struct wp_slice deliver, uint64_t now_ms);

/* Takes the next one, lanes weighted 8:4:1, receipts last; NULL when there is none. The caller frees it with
 * free(). */
struct wp_held *wp_holdback_take(struct wp_holdback *holdback);

/* Whether something of `lane` waits, so that a new one has to queue behind it. */
bool wp_holdback_has(const struct wp_holdback *holdback, Wp__Lane lane);

void wp_holdback_clear(struct wp_holdback *holdback);

#endif
