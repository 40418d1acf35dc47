/* When which message expires: a binary heap over all messages of a shard, 16 bytes each. A message that
 * leaves its mailbox earlier stays in the heap as a dead entry until it comes up or the heap is swept; the
 * owner tells live from dead. Order: expiry, mailbox, lane, position, so that every replica expires the same
 * messages first.
 *
 * One owner thread. */
#ifndef WP_ROUTER_EXPIRY_H
#define WP_ROUTER_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

struct wp_expiry_entry {
    uint64_t expires_ms;
    uint32_t place;        /* mailbox << 2 | lane */
    uint32_t sequence_low; /* low half of the position; a lane spans fewer than 2^32 positions */
};

struct wp_expiry {
    struct wp_expiry_entry *entries;
    uint32_t count;
    uint32_t capacity;
};

#define WP_EXPIRY_MAILBOX_MAX (UINT32_MAX >> 2)

/* WP_OK or WP_E_NOMEM. */
int wp_expiry_push(struct wp_expiry *expiry, const struct wp_expiry_entry *entry);
/* The first entry, NULL when empty. */
const struct wp_expiry_entry *wp_expiry_first(const struct wp_expiry *expiry);
void wp_expiry_pop(struct wp_expiry *expiry);
/* Drops every entry that is not live. O(count). */
void wp_expiry_sweep(struct wp_expiry *expiry,
    bool (*live)(void *context, const struct wp_expiry_entry *entry), void *context);
void wp_expiry_fini(struct wp_expiry *expiry);

#endif
