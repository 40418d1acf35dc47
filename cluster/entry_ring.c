/* A power-of-two ring addressed by the low bits of the index, so a lookup is one mask and no scan. */
#include "cluster/entry_ring.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

#define RING_CAPACITY_MIN 16u

void wp_entry_ring_init(struct wp_entry_ring *ring, uint64_t next)
{
    *ring = (struct wp_entry_ring){.first = next, .next = next};
}

void wp_entry_ring_fini(struct wp_entry_ring *ring)
{
    wp_entry_ring_trim(ring, ring->next);
    free(ring->slots);
    *ring = (struct wp_entry_ring){0};
}

static int ring_grow(struct wp_entry_ring *ring)
{
    uint64_t capacity = ring->capacity ? ring->capacity * 2 : RING_CAPACITY_MIN;
    struct wp_entry_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots) {
        return WP_E_NOMEM;
    }
    for (uint64_t i = ring->first; i < ring->next; i++) {
        slots[i & (capacity - 1)] = ring->slots[i & (ring->capacity - 1)];
    }
    free(ring->slots);
    ring->slots = slots;
    ring->capacity = capacity;
    return WP_OK;
}

int wp_entry_ring_append(struct wp_entry_ring *ring, const struct wp_log_entry *entry, uint64_t write)
{
    WP_ASSERT(entry->index == ring->next);
    if (ring->next - ring->first == ring->capacity) {
        int error = ring_grow(ring);
        if (error) {
            return error;
        }
    }
    struct wp_entry_slot *slot = &ring->slots[ring->next & (ring->capacity - 1)];
    slot->entry = *entry;
    slot->write = write;
    wp_bytes_retain(entry->data);
    ring->bytes += entry->data->size;
    ring->next++;
    return WP_OK;
}

static void ring_drop(struct wp_entry_ring *ring, uint64_t index)
{
    struct wp_entry_slot *slot = &ring->slots[index & (ring->capacity - 1)];
    ring->bytes -= slot->entry.data->size;
    wp_bytes_release(&slot->entry.data);
}

void wp_entry_ring_truncate(struct wp_entry_ring *ring, uint64_t index)
{
    while (ring->next > ring->first && ring->next > index) {
        ring->next--;
        ring_drop(ring, ring->next);
    }
    if (ring->next > index) {
        ring->first = index;
        ring->next = index;
    }
}

void wp_entry_ring_trim(struct wp_entry_ring *ring, uint64_t index)
{
    WP_ASSERT(index <= ring->next);
    for (; ring->first < index; ring->first++) {
        ring_drop(ring, ring->first);
    }
}
