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
    uint64_t boot;         /* of that directory, when it was last accepted */
    uint64_t start_id;     /* of the process then */
    uint32_t generation;   /* highest given out for a replica on it */
    uint32_t counts_from;  /* replicas of lower generations are those of a disk that forgot: nothing they say
                              counts */
    uint32_t forgotten;    /* how often its directory was found to have forgotten */
    uint64_t meta_replica; /* raft id of its replica of the meta group */
    bool replacing;        /* draining because it is dead: removed once nothing is left on it */
    uint32_t replaced_by;  /* number of the node that its replicas go to first; 0 = anywhere */
};

#define WP_POLICY_KEY_SIZE 33u
#define WP_POLICY_VALUE_SIZE 129u
#define WP_ROSTER_POLICIES_MAX 16u
struct wp_roster_policy {
    char key[WP_POLICY_KEY_SIZE];
    char value[WP_POLICY_VALUE_SIZE];
};

struct wp_roster_gateway {
    char name[WP_NAME_SIZE_MAX + 1];
    char key[WP_KEY_TEXT_SIZE];
    bool revoked;
};

/* Raft ids that a group is wanted to have as voters, ascending. In the meta group every other node that is
 * not removed is wanted as learner. */
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
    uint32_t last_node;   /* highest number given out */
    uint32_t node_count;
    struct wp_roster_node nodes[WP_ROSTER_NODES_MAX]; /* ascending by number, removed ones included */
    uint32_t gateway_count;
    struct wp_roster_gateway gateways[WP_ROSTER_GATEWAYS_MAX];
    uint32_t policy_count;
    struct wp_roster_policy policies[WP_ROSTER_POLICIES_MAX];
    struct wp_roster_wanted wanted[]; /* [group], 0..shard_count */
};

/* An empty one with room for `shard_count` shards and one reference. NULL: out of memory. */
struct wp_roster *wp_roster_create(uint32_t shard_count);
/* The same values with one reference. NULL: out of memory. */
struct wp_roster *wp_roster_copy(const struct wp_roster *roster);
struct wp_roster *wp_roster_retain(const struct wp_roster *roster);
void wp_roster_release(struct wp_roster **roster);

/* Fills `wanted` of every group from the nodes: the first placement (docs/cluster.md, "Forming"). Pure. */
void wp_roster_place_first(struct wp_roster *roster);
/* Fills `wanted` of the meta group: the first 5 (an odd number) active nodes. Pure. */
void wp_roster_place_meta(struct wp_roster *roster);

/* NULL when there is none. */
const struct wp_roster_node *wp_roster_node(const struct wp_roster *roster, uint32_t number);
const struct wp_roster_node *wp_roster_node_named(const struct wp_roster *roster, const char *name);
const struct wp_roster_node *wp_roster_node_keyed(const struct wp_roster *roster, const char *key);
/* Whether what the replica says counts: its node is known and has not forgotten it. */
bool wp_roster_counts(const struct wp_roster *roster, uint64_t id);
/* The raft id that `number` is wanted to have in `group`; 0 = none. */
uint64_t wp_roster_replica(const struct wp_roster *roster, uint32_t group, uint32_t number);
/* Replicas of shards that are wanted on `number`. */
uint32_t wp_roster_replica_count(const struct wp_roster *roster, uint32_t number);
/* NULL when the policy is not set. */
const char *wp_roster_policy(const struct wp_roster *roster, const char *key);
/* The membership that a group is wanted to have, and begins with when the cluster is new: the wanted replicas
 * as voters, and in the meta group the other nodes as learners. */
void wp_roster_membership(
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
