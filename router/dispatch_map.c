#include "router/dispatch_map.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

#define MAP_SLOTS_MIN 64u

static void map_link(struct wp_map *map, struct wp_map_node *node)
{
    struct wp_map_node **slot = &map->slots[node->hash & map->mask];
    node->next = *slot;
    *slot = node;
}

static int map_grow(struct wp_map *map)
{
    size_t slots = map->slots ? 2 * (map->mask + 1) : MAP_SLOTS_MIN;
    struct wp_map_node **table = calloc(slots, sizeof(*table));
    if (!table) {
        return map->slots ? WP_OK : WP_E_NOMEM;
    }
    struct wp_map old = *map;
    map->slots = table;
    map->mask = slots - 1;
    for (size_t i = 0; old.slots && i <= old.mask; i++) {
        for (struct wp_map_node *node = old.slots[i], *next; node; node = next) {
            next = node->next;
            map_link(map, node);
        }
    }
    free(old.slots);
    return WP_OK;
}

int wp_map_insert(struct wp_map *map, struct wp_map_node *node, uint64_t hash)
{
    if (!map->slots || map->count > map->mask) {
        int error = map_grow(map);
        if (error) {
            return error;
        }
    }
    node->hash = hash;
    map_link(map, node);
    map->count++;
    return WP_OK;
}

void wp_map_remove(struct wp_map *map, struct wp_map_node *node)
{
    WP_ASSERT(map->slots);
    struct wp_map_node **at = &map->slots[node->hash & map->mask];
    while (*at != node) {
        WP_ASSERT(*at);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    map->count--;
}

struct wp_map_node *wp_map_find(const struct wp_map *map, uint64_t hash)
{
    if (!map->slots) {
        return NULL;
    }
    struct wp_map_node *node = map->slots[hash & map->mask];
    while (node && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct wp_map_node *wp_map_find_next(const struct wp_map_node *node)
{
    uint64_t hash = node->hash;
    struct wp_map_node *next = node->next;
    while (next && next->hash != hash) {
        next = next->next;
    }
    return next;
}

void wp_map_fini(struct wp_map *map)
{
    free(map->slots);
    *map = (struct wp_map){0};
}
