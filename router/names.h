/* Map from a short byte key (a user, "user\0device") to an object that holds the key. Open addressing with
 * linear probing; 16 bytes a slot. Iteration order is hash order: never let it reach replicated state.
 *
 * One owner thread. Objects belong to the caller and outlive their place in the map. */
#ifndef WP_ROUTER_NAMES_H
#define WP_ROUTER_NAMES_H

#include <stdint.h>

#include "base/bytes.h"

struct wp_names_slot {
    uint64_t hash;
    void *object; /* NULL = free */
};

struct wp_names {
    struct wp_names_slot *slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
    struct wp_slice (*key)(const void *object);
};

/* Hash of a key; stable for ever, because the duplicate window stores it. */
uint64_t wp_names_hash(struct wp_slice key);

void wp_names_init(struct wp_names *names, struct wp_slice (*key)(const void *object));
void wp_names_fini(struct wp_names *names);

/* NULL when the key is not there. `hash` = wp_names_hash(key). */
void *wp_names_find(const struct wp_names *names, struct wp_slice key, uint64_t hash);

/* Adds an object whose key is not there yet. WP_OK or WP_E_NOMEM. */
int wp_names_insert(struct wp_names *names, void *object, uint64_t hash);

/* Removes an object that is there. */
void wp_names_remove(struct wp_names *names, const void *object, uint64_t hash);

/* Every object sorted by key into a new array (free it); NULL with *ret_count 0 when empty or out of memory.
 */
void **wp_names_sorted(const struct wp_names *names, uint32_t *ret_count);

#endif
