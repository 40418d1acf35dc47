/* An ordered map of byte strings that keeps old versions for the price of a pointer: a treap with copied
 * paths. A root is a version; whoever keeps one sees it unchanged whatever is done to later ones. That is an
 * iterator's snapshot, a batch boundary to fall back to, and a crash image.
 *
 * The shape depends on the keys alone (priorities are hashes), so runs are repeatable. One thread. NULL is
 * the empty map. Out of memory ends the process. */
#ifndef WP_STORAGE_SIM_MAP_H
#define WP_STORAGE_SIM_MAP_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct sim_node {
    uint32_t references;
    uint64_t priority;
    struct sim_node *left;
    struct sim_node *right;
    struct wp_bytes *value;
    size_t key_size;
    uint8_t key[];
};

/* Another holder of this version; returns it. */
struct sim_node *sim_map_retain(struct sim_node *root);
void sim_map_release(struct sim_node **root);

/* Replace *root by the version after the change. `value` is retained. */
void sim_map_put(struct sim_node **root, struct wp_slice key, struct wp_bytes *value);
void sim_map_delete(struct sim_node **root, struct wp_slice key);
/* Every key in [from, to); nothing when to <= from. */
void sim_map_delete_range(struct sim_node **root, struct wp_slice from, struct wp_slice to);

/* Borrowed nodes, valid as long as the version is held; NULL when there is none. */
const struct sim_node *sim_map_find(const struct sim_node *root, struct wp_slice key);
const struct sim_node *sim_map_first_from(
    const struct sim_node *root, struct wp_slice key); /* first key >= */
const struct sim_node *sim_map_first_after(
    const struct sim_node *root, struct wp_slice key); /* first key > */

static inline struct wp_slice sim_node_key(const struct sim_node *node)
{
    return wp_slice(node->key, node->key_size);
}

static inline struct wp_slice sim_node_value(const struct sim_node *node)
{
    return wp_slice(node->value->data, node->value->size);
}

/* Order of byte strings as everywhere in storage: < 0, 0, > 0. */
int sim_key_compare(struct wp_slice a, struct wp_slice b);

#endif
