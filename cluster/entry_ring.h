/* Log entries held in memory, found by index in constant time: the unapplied tail and a cache for followers.
 *
 * Holds the consecutive indexes [first, next). One owner thread; grows by doubling, never shrinks. */
#ifndef WP_CLUSTER_ENTRY_RING_H
#define WP_CLUSTER_ENTRY_RING_H

#include "storage/store.h"

struct wp_entry_slot {
    struct wp_log_entry entry; /* holds one reference to its data */
    uint64_t write;            /* number of the log write that carries it; 0 = was on disk at the start */
};

struct wp_entry_ring {
    struct wp_entry_slot *slots;
    uint64_t capacity; /* power of two, or 0 */
    uint64_t first;
    uint64_t next;
    uint64_t bytes; /* data held */
};

/* Empty; the first entry to be appended has index `next`. Allocates nothing. */
void wp_entry_ring_init(struct wp_entry_ring *ring, uint64_t next);
void wp_entry_ring_fini(struct wp_entry_ring *ring);

/* Appends `entry` (its index is ring->next) and retains its data. WP_OK or WP_E_NOMEM. */
int wp_entry_ring_append(struct wp_entry_ring *ring, const struct wp_log_entry *entry, uint64_t write);
/* Drops entries >= index, which may lie below `first` (then everything goes and the ring goes on at index).
 */
void wp_entry_ring_truncate(struct wp_entry_ring *ring, uint64_t index);
/* Drops entries < index; index <= next. */
void wp_entry_ring_trim(struct wp_entry_ring *ring, uint64_t index);

/* NULL when not held. Valid until the next change of the ring. */
static inline const struct wp_entry_slot *wp_entry_ring_find(const struct wp_entry_ring *ring, uint64_t index)
{
    return index >= ring->first && index < ring->next ? &ring->slots[index & (ring->capacity - 1)] : NULL;
}

#endif
