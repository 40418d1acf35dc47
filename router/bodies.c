/* Invariant: between a number's home slot and its place no slot is free, so a search ends at the first free
 * slot. Removal shifts later ones back instead of leaving marks. Numbers are given out in order, so their low
 * bits spread them. */
#include "router/bodies.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

#define CAPACITY_MIN 16u

void wp_bodies_fini(struct wp_bodies *bodies)
{
    free(bodies->slots);
    *bodies = (struct wp_bodies){0};
}

/* The slot of the number, or the free one where it belongs. There is a free one. */
static struct wp_bodies_slot *slot_find(struct wp_bodies_slot *slots, uint32_t capacity, uint64_t number)
{
    uint32_t mask = capacity - 1;
    uint32_t i = (uint32_t)number & mask;
    while (slots[i].number && slots[i].number != number) {
        i = (i + 1) & mask;
    }
    return &slots[i];
}

static int bodies_grow(struct wp_bodies *bodies)
{
    uint32_t capacity = bodies->capacity ? bodies->capacity * 2 : CAPACITY_MIN;
    struct wp_bodies_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < bodies->capacity; i++) {
        if (bodies->slots[i].number) {
            *slot_find(slots, capacity, bodies->slots[i].number) = bodies->slots[i];
        }
    }
    free(bodies->slots);
    bodies->slots = slots;
    bodies->capacity = capacity;
    return WP_OK;
}

int wp_bodies_hold(struct wp_bodies *bodies, uint64_t number)
{
    WP_ASSERT(number > 0);
    if (bodies->count + 1 > bodies->capacity / 4 * 3) {
        int error = bodies_grow(bodies);
        if (error) {
            return error;
        }
    }
    struct wp_bodies_slot *slot = slot_find(bodies->slots, bodies->capacity, number);
    bodies->count += slot->number == 0;
    slot->number = number;
    slot->holders++;
    return WP_OK;
}

static void slot_remove(struct wp_bodies *bodies, uint32_t hole)
{
    uint32_t mask = bodies->capacity - 1;
    for (uint32_t i = (hole + 1) & mask; bodies->slots[i].number; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)bodies->slots[i].number & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            bodies->slots[hole] = bodies->slots[i];
            hole = i;
        }
    }
    bodies->slots[hole] = (struct wp_bodies_slot){0};
    bodies->count--;
}

bool wp_bodies_release(struct wp_bodies *bodies, uint64_t number)
{
    WP_ASSERT(bodies->count > 0);
    struct wp_bodies_slot *slot = slot_find(bodies->slots, bodies->capacity, number);
    WP_ASSERT(slot->number == number && slot->holders > 0);
    if (--slot->holders > 0) {
        return false;
    }
    slot_remove(bodies, (uint32_t)(slot - bodies->slots));
    return true;
}

uint64_t wp_bodies_holders(const struct wp_bodies *bodies, uint64_t number)
{
    return bodies->count ? slot_find(bodies->slots, bodies->capacity, number)->holders : 0;
}
