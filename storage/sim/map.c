/* Invariant: a node with more than one reference is never written; sim_own makes a private copy first. A
 * change descends from the root, so a node with one reference below an owned parent belongs to this version
 * alone. */
#include "storage/sim/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int sim_key_compare(struct wp_slice a, struct wp_slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size > 0 ? memcmp(a.data, b.data, size) : 0;
    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

static struct sim_node *node_create(struct wp_slice key, struct wp_bytes *value)
{
    struct sim_node *node = calloc(1, sizeof *node + key.size);
    if (node == NULL) {
        fputs("simulated store: out of memory\n", stderr);
        abort();
    }
    node->references = 1;
    node->priority = XXH3_64bits(key.data, key.size);
    node->value = wp_bytes_retain(value);
    node->key_size = key.size;
    if (key.size > 0) {
        memcpy(node->key, key.data, key.size);
    }
    return node;
}

struct sim_node *sim_map_retain(struct sim_node *root)
{
    if (root != NULL) {
        root->references++;
    }
    return root;
}

void sim_map_release(struct sim_node **root)
{
    struct sim_node *node = *root;
    *root = NULL;
    if (node == NULL || --node->references > 0) {
        return;
    }
    sim_map_release(&node->left);
    sim_map_release(&node->right);
    wp_bytes_release(&node->value);
    free(node);
}

/* Takes the caller's reference of `node`, gives one of a node that may be written. */
static struct sim_node *node_own(struct sim_node *node)
{
    if (node->references == 1) {
        return node;
    }
    struct sim_node *copy = node_create(sim_node_key(node), node->value);
    copy->left = sim_map_retain(node->left);
    copy->right = sim_map_retain(node->right);
    node->references--;
    return copy;
}

/* Takes `node`; *ret_less gets the keys below `key`, *ret_rest the others. */
static void map_split(
    struct sim_node *node, struct wp_slice key, struct sim_node **ret_less, struct sim_node **ret_rest)
{
    if (node == NULL) {
        *ret_less = NULL;
        *ret_rest = NULL;
        return;
    }
    node = node_own(node);
    struct sim_node *child;
    if (sim_key_compare(sim_node_key(node), key) < 0) {
        map_split(node->right, key, &child, ret_rest);
        node->right = child;
        *ret_less = node;
    } else {
        map_split(node->left, key, ret_less, &child);
        node->left = child;
        *ret_rest = node;
    }
}

/* Takes both; every key of `less` is below every key of `rest`. */
static struct sim_node *map_merge(struct sim_node *less, struct sim_node *rest)
{
    if (less == NULL || rest == NULL) {
        return less != NULL ? less : rest;
    }
    if (less->priority > rest->priority) {
        less = node_own(less);
        less->right = map_merge(less->right, rest);
        return less;
    }
    rest = node_own(rest);
    rest->left = map_merge(less, rest->left);
    return rest;
}

/* Takes `node`, drops the one with exactly `key`; all keys are >= key. */
static struct sim_node *drop_first(struct sim_node *node, struct wp_slice key)
{
    if (node == NULL) {
        return NULL;
    }
    if (node->left == NULL) {
        if (sim_key_compare(sim_node_key(node), key) != 0) {
            return node;
        }
        struct sim_node *right = sim_map_retain(node->right);
        sim_map_release(&node);
        return right;
    }
    node = node_own(node);
    node->left = drop_first(node->left, key);
    return node;
}

void sim_map_put(struct sim_node **root, struct wp_slice key, struct wp_bytes *value)
{
    struct sim_node *less;
    struct sim_node *rest;
    struct sim_node *node = node_create(key, value); /* before the split: `key` may lie in the map */
    map_split(*root, sim_node_key(node), &less, &rest);
    rest = drop_first(rest, sim_node_key(node));
    *root = map_merge(map_merge(less, node), rest);
}

void sim_map_delete(struct sim_node **root, struct wp_slice key)
{
    struct sim_node *less;
    struct sim_node *rest;
    map_split(*root, key, &less, &rest);
    *root = map_merge(less, drop_first(rest, key));
}

void sim_map_delete_range(struct sim_node **root, struct wp_slice from, struct wp_slice to)
{
    if (sim_key_compare(from, to) >= 0) {
        return;
    }
    struct sim_node *less;
    struct sim_node *middle;
    struct sim_node *rest;
    map_split(*root, from, &less, &rest);
    map_split(rest, to, &middle, &rest);
    sim_map_release(&middle);
    *root = map_merge(less, rest);
}

const struct sim_node *sim_map_find(const struct sim_node *root, struct wp_slice key)
{
    const struct sim_node *node = sim_map_first_from(root, key);
    return node != NULL && sim_key_compare(sim_node_key(node), key) == 0 ? node : NULL;
}

static const struct sim_node *map_first(const struct sim_node *root, struct wp_slice key, int order_min)
{
    const struct sim_node *best = NULL;
    while (root != NULL) {
        int order = sim_key_compare(sim_node_key(root), key);
        order = order > 0 ? 1 : order < 0 ? -1 : 0;
        if (order >= order_min) {
            best = root;
            root = root->left;
        } else {
            root = root->right;
        }
    }
    return best;
}

const struct sim_node *sim_map_first_from(const struct sim_node *root, struct wp_slice key)
{
    return map_first(root, key, 0);
}

const struct sim_node *sim_map_first_after(const struct sim_node *root, struct wp_slice key)
{
    return map_first(root, key, 1);
}
