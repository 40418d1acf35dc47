/* A value and what can be read off it; nothing here decides what the cluster should look like but the first
 * placement, which every node must derive alike. */
#include "router/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define META_VOTERS_MAX 5u

struct wp_roster *wp_roster_create(uint32_t shard_count)
{
    size_t wanted_size = (size_t)(shard_count + 1) * sizeof(struct wp_roster_wanted);
    struct wp_roster *roster = calloc(1, sizeof(*roster) + wanted_size);
    if (roster) {
        roster->references = 1;
        roster->shard_count = shard_count;
        roster->replication = 1;
    }
    return roster;
}

struct wp_roster *wp_roster_copy(const struct wp_roster *roster)
{
    struct wp_roster *copy = wp_roster_create(roster->shard_count);
    if (copy) {
        size_t wanted_size = (size_t)(roster->shard_count + 1) * sizeof(struct wp_roster_wanted);
        memcpy(copy, roster, sizeof(*roster) + wanted_size);
        copy->references = 1;
    }
    return copy;
}

struct wp_roster *wp_roster_retain(const struct wp_roster *roster)
{
    struct wp_roster *held;
    memcpy(&held, &roster, sizeof(held)); /* the count is the one thing that changes */
    __atomic_add_fetch(&held->references, 1, __ATOMIC_RELAXED);
    return held;
}

void wp_roster_release(struct wp_roster **roster)
{
    struct wp_roster *taken = *roster;
    *roster = NULL;
    if (taken && __atomic_sub_fetch(&taken->references, 1, __ATOMIC_ACQ_REL) == 0) {
        free(taken);
    }
}

static int id_compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void wanted_set(struct wp_roster *roster, uint32_t group, uint32_t from, uint32_t count)
{
    struct wp_roster_wanted *wanted = &roster->wanted[group];
    wanted->count = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct wp_roster_node *node = &roster->nodes[(from + i) % roster->node_count];
        wanted->ids[i] = WP_RAFT_ID(node->number, 0);
    }
    qsort(wanted->ids, count, sizeof(wanted->ids[0]), id_compare);
}

void wp_roster_place_first(struct wp_roster *roster)
{
    WP_ASSERT(roster->node_count > 0 && roster->replication <= roster->node_count);
    for (uint32_t i = 0; i < roster->node_count; i++) {
        roster->nodes[i].meta_replica = WP_RAFT_ID(roster->nodes[i].number, 0);
    }
    wp_roster_place_meta(roster);
    for (uint32_t shard = 1; shard <= roster->shard_count; shard++) {
        wanted_set(
            roster, shard, (shard - 1) * roster->replication % roster->node_count, roster->replication);
    }
}

void wp_roster_place_meta(struct wp_roster *roster)
{
    struct wp_roster_wanted wanted = {0};
    for (uint32_t i = 0; i < roster->node_count && wanted.count < META_VOTERS_MAX; i++) {
        if (roster->nodes[i].state == WP_NODE_ACTIVE) {
            wanted.ids[wanted.count++] = roster->nodes[i].meta_replica;
        }
    }
    if (wanted.count > 0 && wanted.count % 2 == 0) {
        wanted.ids[--wanted.count] = 0;
    }
    roster->wanted[WP_META_GROUP] = wanted;
}

const struct wp_roster_node *wp_roster_node(const struct wp_roster *roster, uint32_t number)
{
    for (uint32_t i = 0; i < roster->node_count; i++) {
        if (roster->nodes[i].number == number) {
            return &roster->nodes[i];
        }
    }
    return NULL;
}

/* A name or a key may be used again after its node was removed. */
const struct wp_roster_node *wp_roster_node_named(const struct wp_roster *roster, const char *name)
{
    const struct wp_roster_node *found = NULL;
    for (uint32_t i = 0; i < roster->node_count; i++) {
        if (strcmp(roster->nodes[i].name, name) == 0 &&
            (!found || roster->nodes[i].state != WP_NODE_REMOVED)) {
            found = &roster->nodes[i];
        }
    }
    return found;
}

const struct wp_roster_node *wp_roster_node_keyed(const struct wp_roster *roster, const char *key)
{
    const struct wp_roster_node *found = NULL;
    for (uint32_t i = 0; i < roster->node_count; i++) {
        if (strcmp(roster->nodes[i].key, key) == 0 && (!found || roster->nodes[i].state != WP_NODE_REMOVED)) {
            found = &roster->nodes[i];
        }
    }
    return found;
}

bool wp_roster_counts(const struct wp_roster *roster, uint64_t id)
{
    const struct wp_roster_node *node = wp_roster_node(roster, wp_raft_id_node(id));
    return node && (uint32_t)(id & 0xffffu) >= node->counts_from;
}

uint64_t wp_roster_replica(const struct wp_roster *roster, uint32_t group, uint32_t number)
{
    if (group > roster->shard_count) {
        return 0;
    }
    if (group == WP_META_GROUP) {
        const struct wp_roster_node *node = wp_roster_node(roster, number);
        return node && node->state != WP_NODE_REMOVED ? node->meta_replica : 0;
    }
    const struct wp_roster_wanted *wanted = &roster->wanted[group];
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (wp_raft_id_node(wanted->ids[i]) == number) {
            return wanted->ids[i];
        }
    }
    return 0;
}

uint32_t wp_roster_replica_count(const struct wp_roster *roster, uint32_t number)
{
    uint32_t count = 0;
    for (uint32_t shard = 1; shard <= roster->shard_count; shard++) {
        count += wp_roster_replica(roster, shard, number) != 0;
    }
    return count;
}

const char *wp_roster_policy(const struct wp_roster *roster, const char *key)
{
    for (uint32_t i = 0; i < roster->policy_count; i++) {
        if (strcmp(roster->policies[i].key, key) == 0) {
            return roster->policies[i].value;
        }
    }
    return NULL;
}

static bool wanted_has(const struct wp_roster_wanted *wanted, uint64_t id)
{
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (wanted->ids[i] == id) {
            return true;
        }
    }
    return false;
}

void wp_roster_membership(
    const struct wp_roster *roster, uint32_t group, struct wp_membership *ret_membership)
{
    struct wp_membership membership = {0};
    for (uint32_t i = 0; i < roster->node_count; i++) {
        uint64_t id = wp_roster_replica(roster, group, roster->nodes[i].number);
        if (id) {
            enum wp_member_role role =
                wanted_has(&roster->wanted[group], id) ? WP_MEMBER_VOTER : WP_MEMBER_LEARNER;
            membership.members[membership.count++] = (struct wp_member){id, role};
        }
    }
    *ret_membership = membership;
}

int wp_roster_endpoint(
    const struct wp_roster_node *node, uint32_t group, char ret_endpoint[WP_ENDPOINT_SIZE_MAX])
{
    const char *colon = strrchr(node->endpoint, ':');
    char *end;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (port == 0 || *end || port + node->reactors > 65536) {
        return WP_E_INVALID;
    }
    int size = snprintf(ret_endpoint, WP_ENDPOINT_SIZE_MAX, "%.*s:%lu", (int)(colon - node->endpoint),
        node->endpoint, port + wp_reactor_of(group, node->reactors));
    return size > 0 && size < (int)WP_ENDPOINT_SIZE_MAX ? WP_OK : WP_E_INVALID;
}
