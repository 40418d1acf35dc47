/* An intrusive chained hash table: nodes live inside the objects, several nodes may share a hash.
 *
 * Not thread-safe. The caller compares keys; the table knows only hashes. Iteration order is that of
 * insertion per slot and must never decide anything that is replicated. */
#ifndef WP_ROUTER_DISPATCH_MAP_H
#define WP_ROUTER_DISPATCH_MAP_H

#include <stddef.h>
#include <stdint.h>

struct wp_map_node {
    struct wp_map_node *next;
    uint64_t hash;
};

struct wp_map {
    struct wp_map_node **slots;
    size_t mask; /* slot count - 1 */
    size_t count;
};

/* The object that holds `node` as `member`. */
#define WP_MAP_OBJECT(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* Mixes up to three numbers into a hash (finalizer of MurmurHash3, public domain). */
static inline uint64_t wp_map_hash(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t h = a * 0x9e3779b97f4a7c15u + b * 0xbf58476d1ce4e5b9u + c * 0x94d049bb133111ebu;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
}

/* Adds `node` under `hash`. WP_E_NOMEM only when there is no table at all; a table that cannot grow just gets
 * slower. */
int wp_map_insert(struct wp_map *map, struct wp_map_node *node, uint64_t hash);
/* Takes `node` out; it must be in the table. */
void wp_map_remove(struct wp_map *map, struct wp_map_node *node);
/* First node with `hash`, NULL when there is none; then the next one with the same hash. */
struct wp_map_node *wp_map_find(const struct wp_map *map, uint64_t hash);
struct wp_map_node *wp_map_find_next(const struct wp_map_node *node);
/* Releases the table, not the objects. */
void wp_map_fini(struct wp_map *map);

#endif
