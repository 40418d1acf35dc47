/* The roster: who is who in the cluster, as an immutable, reference-counted value.
 *
 * It is the state of the meta group (docs/cluster.md). Until the meta group has applied anything, it is
 * derived from the configuration, the same on every node that has the same list. The owner of the meta group
 * makes a new one after each change and hands it to every reactor; nobody changes one. Any thread. */
#ifndef WP_ROUTER_ROSTER_H
#define WP_ROUTER_ROSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster/membership.h"
#include "node/keys.h"
#include "proto/address.h"

#define WP_META_GROUP 0u
#define WP_ROSTER_NODES_MAX 9u /* each is a member of the meta group */
#define WP_ROSTER_GATEWAYS_MAX 64u
#define WP_ENDPOINT_SIZE_MAX 128u

/* A raft id is number << 16 | generation. */
#define WP_RAFT_ID(number, generation) ((uint64_t)(number) << 16 | (generation))
static inline uint32_t wp_raft_id_node(uint64_t id)
{
    return (uint32_t)(id >> 16);
}

enum wp_node_state { WP_NODE_ACTIVE, WP_NODE_DRAINING, WP_NODE_REMOVED };

struct wp_roster_node {
    uint32_t number; /* 1, 2, 3 ...; never reused */
    enum wp_node_state state;
    char name[WP_NAME_SIZE_MAX + 1];
    char endpoint[WP_ENDPOINT_SIZE_MAX]; /* tcp://HOST:PORT of reactor 0; reactor i is on PORT + i */
    char key[WP_KEY_TEXT_SIZE];
    uint32_t reactors;
    uint64_t directory_id; /* of the data directory it was last accepted with; 0 = not seen yet */
};

struct wp_roster_gateway {
    char name[WP_NAME_SIZE_MAX + 1];
    char key[WP_KEY_TEXT_SIZE];
    bool revoked;
};

/* Raft ids that a group is wanted to have as voters, ascending. */
struct wp_roster_wanted {
    uint32_t count;
    uint64_t ids[WP_REPLICA_MEMBERS_MAX];
};

struct wp_roster {
    uint32_t references; /* atomic */
    uint64_t version;    /* grows with each change; 0 = derived from the configuration */
    uint32_t feature_level;
    uint32_t replication; /* 1, 3 or 5 */
    uint32_t shard_count; /* shards are 1..shard_count */
    uint32_t node_count;
    struct wp_roster_node nodes[WP_ROSTER_NODES_MAX]; /* ascending by number, removed ones included */
    uint32_t gateway_count;
    struct wp_roster_gateway gateways[WP_ROSTER_GATEWAYS_MAX];
    struct wp_roster_wanted wanted[]; /* [group], 0..shard_count */
};

/* An empty one with room for `shard_count` shards and one reference. NULL: out of memory. */
struct wp_roster *wp_roster_create(uint32_t shard_count);
struct wp_roster *wp_roster_retain(const struct wp_roster *roster);
void wp_roster_release(struct wp_roster **roster);

/* Fills `wanted` of every group from the nodes: the first placement (docs/cluster.md, "Forming"). Pure. */
void wp_roster_place_first(struct wp_roster *roster);

/* NULL when there is none. */
const struct wp_roster_node *wp_roster_node(const struct wp_roster *roster, uint32_t number);
const struct wp_roster_node *wp_roster_node_named(const struct wp_roster *roster, const char *name);
/* The raft id that `number` has among the wanted replicas of `group`; 0 = none. */
uint64_t wp_roster_replica(const struct wp_roster *roster, uint32_t group, uint32_t number);
/* The membership that a group begins with when the cluster is new: the wanted replicas as voters, and in the
 * meta group the other nodes as learners. */
void wp_roster_bootstrap(
    const struct wp_roster *roster, uint32_t group, struct wp_membership *ret_membership);
/* Where `node` listens for `group`. WP_OK or WP_E_INVALID (endpoint of the node). */
int wp_roster_endpoint(
    const struct wp_roster_node *node, uint32_t group, char ret_endpoint[WP_ENDPOINT_SIZE_MAX]);
/* Reactor of `group` among `reactors`: 0 for the meta group. */
static inline uint32_t wp_reactor_of(uint32_t group, uint32_t reactors)
{
    return group == WP_META_GROUP ? 0 : (group - 1) % reactors;
}

#endif
