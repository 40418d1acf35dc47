/* What each command of the meta group does to the roster, and what it refuses (router/meta.h).
 *
 * Invariants
 *   1. The version grows by one with each command that changed something, and with nothing else.
 *   2. A raft id is given out once: its generation is above every generation that its node had before.
 *   3. Nodes and wanted ids stand in ascending order. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "router/meta_inner.h"

#define GENERATION_MAX 0xFFFFu
#define REACTORS_MAX 64u

/* A command: the refusal, or WP_OK with *changed. */
typedef int (*apply_command)(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed);

/* --- checks of fields
 * ------------------------------------------------------------------------------------------
 */

static bool key_valid(const char *key)
{
    return strlen(key) == WP_KEY_TEXT_SIZE - 1;
}

static bool endpoint_valid(const char *endpoint, uint32_t reactors)
{
    struct wp_roster_node node = {.reactors = reactors};
    char first[WP_ENDPOINT_SIZE_MAX];
    if (strlen(endpoint) >= sizeof(node.endpoint) || strncmp(endpoint, "tcp://", 6) != 0 || reactors < 1 ||
        reactors > REACTORS_MAX) {
        return false;
    }
    strcpy(node.endpoint, endpoint);
    return wp_roster_endpoint(&node, WP_META_GROUP, first) == WP_OK;
}

static struct wp_roster_node *node_get(struct wp_roster *roster, uint32_t number)
{
    for (uint32_t i = 0; i < roster->node_count; i++) {
        if (roster->nodes[i].number == number) {
            return &roster->nodes[i];
        }
    }
    return NULL;
}

static struct wp_roster_gateway *gateway_get(struct wp_roster *roster, const char *name)
{
    for (uint32_t i = 0; i < roster->gateway_count; i++) {
        if (strcmp(roster->gateways[i].name, name) == 0) {
            return &roster->gateways[i];
        }
    }
    return NULL;
}

static bool name_used(const struct wp_roster *roster, const char *name)
{
    const struct wp_roster_node *node = wp_roster_node_named(roster, name);
    if (node && node->state != WP_NODE_REMOVED) {
        return true;
    }
    for (uint32_t i = 0; i < roster->gateway_count; i++) {
        if (!roster->gateways[i].revoked && strcmp(roster->gateways[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool key_used(const struct wp_roster *roster, const char *key)
{
    for (uint32_t i = 0; i < roster->node_count; i++) {
        if (roster->nodes[i].state != WP_NODE_REMOVED && strcmp(roster->nodes[i].key, key) == 0) {
            return true;
        }
    }
    for (uint32_t i = 0; i < roster->gateway_count; i++) {
        if (!roster->gateways[i].revoked && strcmp(roster->gateways[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether enough active nodes would remain without `node`. */
static bool can_spare(const struct wp_roster *roster, const struct wp_roster_node *node)
{
    uint32_t active = 0;
    for (uint32_t i = 0; i < roster->node_count; i++) {
        active += &roster->nodes[i] != node && roster->nodes[i].state == WP_NODE_ACTIVE;
    }
    return active >= roster->replication;
}

/* --- nodes
 * ------------------------------------------------------------------------------------------------------
 */

static int node_take(const Wp__MetaNode *from, struct wp_roster_node *to)
{
    if (from->number == 0 || from->state > WP_NODE_REMOVED || !wp_address_valid(from->name) ||
        !key_valid(from->key) || !endpoint_valid(from->endpoint, from->reactors)) {
        return WP_E_INVALID;
    }
    *to = (struct wp_roster_node){
        .number = from->number,
        .state = (enum wp_node_state)from->state,
        .reactors = from->reactors,
        .meta_replica = WP_RAFT_ID(from->number, 0),
    };
    strcpy(to->name, from->name);
    strcpy(to->key, from->key);
    strcpy(to->endpoint, from->endpoint);
    return WP_OK;
}

static int gateway_take(const Wp__MetaGateway *from, struct wp_roster_gateway *to)
{
    if (!wp_address_valid(from->name) || !key_valid(from->key)) {
        return WP_E_INVALID;
    }
    *to = (struct wp_roster_gateway){.revoked = from->revoked};
    strcpy(to->name, from->name);
    strcpy(to->key, from->key);
    return WP_OK;
}

static int policy_take(const Wp__MetaPolicy *from, struct wp_roster_policy *to)
{
    if (!from->key[0] || strlen(from->key) >= WP_POLICY_KEY_SIZE ||
        strlen(from->value) >= WP_POLICY_VALUE_SIZE) {
        return WP_E_INVALID;
    }
    *to = (struct wp_roster_policy){0};
    strcpy(to->key, from->key);
    strcpy(to->value, from->value);
    return WP_OK;
}

static int wanted_take(
    const struct wp_roster *roster, uint64_t *const ids, size_t count, struct wp_roster_wanted *ret_wanted)
{
    struct wp_roster_wanted wanted = {0};
    if (count < 1 || count > WP_REPLICA_MEMBERS_MAX) {
        return WP_E_INVALID;
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && wp_raft_id_node(ids[i]) <= wp_raft_id_node(ids[i - 1])) {
            return WP_E_INVALID; /* not ascending, or two replicas on one node */
        }
        if (!wp_roster_node(roster, wp_raft_id_node(ids[i]))) {
            return WP_E_NOT_FOUND;
        }
        wanted.ids[wanted.count++] = ids[i];
    }
    *ret_wanted = wanted;
    return WP_OK;
}

static int apply_bootstrap(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaBootstrap *command = (const Wp__MetaBootstrap *)message;
    (void)result;
    if (roster->version != 0) {
        return WP_E_EXISTS;
    }
    const Wp__MetaHead *head = command->head;
    if (!head || head->shard_count != roster->shard_count || command->n_wanted != roster->shard_count ||
        command->n_nodes < 1 || command->n_nodes > WP_ROSTER_NODES_MAX || head->replication < 1 ||
        head->replication > command->n_nodes || command->n_gateways > WP_ROSTER_GATEWAYS_MAX ||
        command->n_policies > WP_ROSTER_POLICIES_MAX) {
        return WP_E_INVALID;
    }
    int error = WP_OK;
    for (size_t i = 0; i < command->n_nodes && !error; i++) {
        error = node_take(command->nodes[i], &roster->nodes[i]);
        error = error || roster->nodes[i].number == i + 1 ? error : WP_E_INVALID;
    }
    roster->node_count = (uint32_t)command->n_nodes;
    roster->last_node = roster->node_count;
    for (size_t i = 0; i < command->n_gateways && !error; i++) {
        error = gateway_take(command->gateways[i], &roster->gateways[i]);
    }
    roster->gateway_count = (uint32_t)command->n_gateways;
    for (size_t i = 0; i < command->n_wanted && !error; i++) {
        const Wp__MetaWanted *wanted = command->wanted[i];
        error = wanted->group == i + 1
                    ? wanted_take(roster, wanted->ids, wanted->n_ids, &roster->wanted[i + 1])
                    : WP_E_INVALID;
    }
    for (size_t i = 0; i < command->n_policies && !error; i++) {
        error = policy_take(command->policies[i], &roster->policies[i]);
    }
    roster->policy_count = (uint32_t)command->n_policies;
    if (error) { /* as empty as before */
        roster->node_count = roster->gateway_count = roster->policy_count = roster->last_node = 0;
        memset(roster->wanted, 0, (size_t)(roster->shard_count + 1) * sizeof(roster->wanted[0]));
        return error;
    }
    roster->replication = head->replication;
    roster->feature_level = head->feature_level;
    wp_roster_place_meta(roster);
    *changed = true;
    return WP_OK;
}

/* Where the new node goes; a removed one makes room when there is none. NULL: full. */
static struct wp_roster_node *node_slot(struct wp_roster *roster)
{
    for (uint32_t i = 0; roster->node_count == WP_ROSTER_NODES_MAX && i < WP_ROSTER_NODES_MAX; i++) {
        if (roster->nodes[i].state == WP_NODE_REMOVED) {
            memmove(&roster->nodes[i], &roster->nodes[i + 1],
                (WP_ROSTER_NODES_MAX - 1 - i) * sizeof(roster->nodes[0]));
            roster->node_count--;
        }
    }
    return roster->node_count < WP_ROSTER_NODES_MAX ? &roster->nodes[roster->node_count++] : NULL;
}

/* The very node was added before, and the answer got lost. */
static const struct wp_roster_node *node_same(
    const struct wp_roster *roster, const struct wp_roster_node *wanted)
{
    const struct wp_roster_node *node = wp_roster_node_named(roster, wanted->name);
    bool same = node && node->state != WP_NODE_REMOVED && strcmp(node->key, wanted->key) == 0 &&
                strcmp(node->endpoint, wanted->endpoint) == 0 && node->reactors == wanted->reactors;
    return same ? node : NULL;
}

static int apply_node_add(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaNodeAdd *command = (const Wp__MetaNodeAdd *)message;
    Wp__MetaNode node = WP__META_NODE__INIT;
    struct wp_roster_node taken;
    node.number = roster->last_node + 1;
    node.name = command->name;
    node.endpoint = command->endpoint;
    node.key = command->key;
    node.reactors = command->reactors;
    int error = node_take(&node, &taken);
    if (error) {
        return error;
    }
    const struct wp_roster_node *same = node_same(roster, &taken);
    if (same) {
        result->number = same->number;
        return WP_OK;
    }
    if (name_used(roster, command->name) || key_used(roster, command->key)) {
        return WP_E_EXISTS;
    }
    struct wp_roster_node *slot = node_slot(roster);
    if (!slot) {
        return WP_E_FULL;
    }
    *slot = taken;
    roster->last_node = taken.number;
    result->number = taken.number;
    wp_roster_place_meta(roster);
    *changed = true;
    return WP_OK;
}

static int state_check(
    const struct wp_roster *roster, const struct wp_roster_node *node, enum wp_node_state state)
{
    if (node->state == WP_NODE_REMOVED) {
        return WP_E_INVALID;
    }
    if (state == WP_NODE_DRAINING && !can_spare(roster, node)) {
        return WP_E_DENIED;
    }
    if (state == WP_NODE_REMOVED && node->state == WP_NODE_ACTIVE) {
        return WP_E_DENIED;
    }
    return state == WP_NODE_REMOVED && wp_roster_replica_count(roster, node->number) > 0 ? WP_E_BUSY : WP_OK;
}

static int apply_node_state(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaNodeState *command = (const Wp__MetaNodeState *)message;
    struct wp_roster_node *node = node_get(roster, command->number);
    (void)result;
    if (!node || command->state > WP_NODE_REMOVED) {
        return node ? WP_E_INVALID : WP_E_NOT_FOUND;
    }
    enum wp_node_state state = (enum wp_node_state)command->state;
    if (node->state == state && !(state == WP_NODE_DRAINING && node->replacing)) {
        return WP_OK;
    }
    int error = state_check(roster, node, state);
    if (error) {
        return error;
    }
    node->state = state;
    node->replacing = false;
    node->replaced_by = 0;
    wp_roster_place_meta(roster);
    *changed = true;
    return WP_OK;
}

static int apply_node_seen(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaNodeSeen *command = (const Wp__MetaNodeSeen *)message;
    struct wp_roster_node *node = node_get(roster, command->number);
    (void)result;
    if (!node || command->directory_id == 0) {
        return node ? WP_E_INVALID : WP_E_NOT_FOUND;
    }
    enum wp_meta_seen seen =
        wp_meta_node_check(roster, command->number, command->directory_id, command->boot, command->start_id);
    if (seen == WP_META_SEEN_FORGOTTEN) {
        return WP_E_FORGOTTEN;
    }
    if (seen != WP_META_SEEN_SAME) {
        node->directory_id = command->directory_id;
        node->boot = command->boot;
        node->start_id = command->start_id;
        *changed = true;
    }
    return WP_OK;
}

/* Every replica of the node gets the generation that follows. */
static void generation_next(struct wp_roster *roster, struct wp_roster_node *node)
{
    uint64_t id = WP_RAFT_ID(node->number, ++node->generation);
    node->meta_replica = id;
    node->counts_from = node->generation;
    for (uint32_t shard = 1; shard <= roster->shard_count; shard++) {
        struct wp_roster_wanted *wanted = &roster->wanted[shard];
        for (uint32_t i = 0; i < wanted->count; i++) {
            wanted->ids[i] = wp_raft_id_node(wanted->ids[i]) == node->number ? id : wanted->ids[i];
        }
    }
    wp_roster_place_meta(roster);
}

static int apply_node_forgot(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaNodeForgot *command = (const Wp__MetaNodeForgot *)message;
    struct wp_roster_node *node = node_get(roster, command->number);
    (void)result;
    if (!node) {
        return WP_E_NOT_FOUND;
    }
    if (command->directory_id == 0 || node->state == WP_NODE_REMOVED) {
        return WP_E_INVALID;
    }
    if (node->directory_id != command->old_directory_id || node->boot != command->old_boot ||
        node->start_id != command->old_start_id) {
        return WP_E_UNAVAILABLE;
    }
    if (node->generation >= GENERATION_MAX) {
        return WP_E_FULL;
    }
    node->directory_id = command->directory_id;
    node->boot = command->boot;
    node->start_id = command->start_id;
    node->forgotten++;
    generation_next(roster, node);
    *changed = true;
    return WP_OK;
}

static int apply_node_replace(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaNodeReplace *command = (const Wp__MetaNodeReplace *)message;
    struct wp_roster_node *node = node_get(roster, command->number);
    const struct wp_roster_node *by = wp_roster_node(roster, command->by);
    (void)result;
    if (!node || (command->by != 0 && !by)) {
        return WP_E_NOT_FOUND;
    }
    if (node->state == WP_NODE_REMOVED || by == node) {
        return WP_E_INVALID;
    }
    if ((by && by->state != WP_NODE_ACTIVE) || !can_spare(roster, node)) {
        return WP_E_DENIED;
    }
    *changed = !node->replacing || node->replaced_by != command->by;
    node->state = WP_NODE_DRAINING;
    node->replacing = true;
    node->replaced_by = command->by;
    wp_roster_place_meta(roster);
    return WP_OK;
}

/* --- groups, gateways, policy
 * -----------------------------------------------------------------------------------
 */

static uint32_t wanted_lacks(const struct wp_roster_wanted *wanted, const struct wp_roster_wanted *of)
{
    uint32_t lacking = of->count;
    for (uint32_t i = 0; i < of->count; i++) {
        for (uint32_t j = 0; j < wanted->count; j++) {
            lacking -= wanted->ids[j] == of->ids[i];
        }
    }
    return lacking;
}

/* The node of a replica that is new in `wanted`; its generation must be the next one. */
static int wanted_new_check(
    const struct wp_roster *roster, uint32_t group, const struct wp_roster_wanted *wanted, uint32_t *ret_node)
{
    for (uint32_t i = 0; i < wanted->count; i++) {
        uint32_t number = wp_raft_id_node(wanted->ids[i]);
        const struct wp_roster_node *node = wp_roster_node(roster, number);
        uint64_t present = wp_roster_replica(roster, group, number);
        if (present == wanted->ids[i]) {
            continue;
        }
        if (present || wanted->ids[i] != WP_RAFT_ID(number, node->generation + 1) ||
            node->generation >= GENERATION_MAX) {
            return WP_E_INVALID;
        }
        if (node->state != WP_NODE_ACTIVE) {
            return WP_E_DENIED;
        }
        *ret_node = number;
    }
    return WP_OK;
}

static int apply_wanted_set(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaWantedSet *command = (const Wp__MetaWantedSet *)message;
    struct wp_roster_wanted wanted;
    uint32_t new_node = 0;
    (void)result;
    if (command->group == WP_META_GROUP || command->group > roster->shard_count) {
        return WP_E_NOT_FOUND;
    }
    if (command->version != roster->version) {
        return WP_E_UNAVAILABLE;
    }
    int error = wanted_take(roster, command->ids, command->n_ids, &wanted);
    error = error ? error : wanted_new_check(roster, command->group, &wanted, &new_node);
    if (error) {
        return error;
    }
    struct wp_roster_wanted *present = &roster->wanted[command->group];
    uint32_t added = wanted_lacks(present, &wanted);
    uint32_t gone = wanted_lacks(&wanted, present);
    if (added > 1 || gone > 1) {
        return WP_E_INVALID;
    }
    if (new_node) {
        node_get(roster, new_node)->generation++;
    }
    *present = wanted;
    *changed = added + gone > 0;
    return WP_OK;
}

static int apply_gateway_add(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    struct wp_roster_gateway gateway;
    (void)result;
    int error = gateway_take((const Wp__MetaGateway *)message, &gateway);
    if (error) {
        return error;
    }
    gateway.revoked = false;
    const struct wp_roster_gateway *same = gateway_get(roster, gateway.name);
    if (same && !same->revoked && strcmp(same->key, gateway.key) == 0) {
        return WP_OK;
    }
    if (name_used(roster, gateway.name) || key_used(roster, gateway.key)) {
        return WP_E_EXISTS;
    }
    struct wp_roster_gateway *slot = gateway_get(roster, gateway.name);
    if (!slot && roster->gateway_count == WP_ROSTER_GATEWAYS_MAX) {
        return WP_E_FULL;
    }
    slot = slot ? slot : &roster->gateways[roster->gateway_count++];
    *slot = gateway;
    *changed = true;
    return WP_OK;
}

static int apply_gateway_revoke(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    struct wp_roster_gateway *gateway = gateway_get(roster, ((const Wp__MetaGatewayRevoke *)message)->name);
    (void)result;
    if (!gateway) {
        return WP_E_NOT_FOUND;
    }
    *changed = !gateway->revoked;
    gateway->revoked = true;
    return WP_OK;
}

static int apply_feature_level(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    uint32_t level = ((const Wp__MetaFeatureLevel *)message)->level;
    (void)result;
    if (level < roster->feature_level) {
        return WP_E_INVALID;
    }
    *changed = level != roster->feature_level;
    roster->feature_level = level;
    return WP_OK;
}

static void policy_remove(struct wp_roster *roster, struct wp_roster_policy *policy)
{
    struct wp_roster_policy *last = &roster->policies[--roster->policy_count];
    *policy = *last;
    *last = (struct wp_roster_policy){0};
}

static int apply_policy(
    struct wp_roster *roster, const ProtobufCMessage *message, struct wp_meta_result *result, bool *changed)
{
    const Wp__MetaPolicy *command = (const Wp__MetaPolicy *)message;
    struct wp_roster_policy *policy = NULL;
    struct wp_roster_policy taken;
    (void)result;
    int error = policy_take(command, &taken);
    if (error) {
        return error;
    }
    for (uint32_t i = 0; i < roster->policy_count; i++) {
        policy = strcmp(roster->policies[i].key, command->key) == 0 ? &roster->policies[i] : policy;
    }
    if (!command->value[0]) {
        if (policy) {
            policy_remove(roster, policy);
        }
        *changed = policy != NULL;
        return WP_OK;
    }
    if (!policy && roster->policy_count == WP_ROSTER_POLICIES_MAX) {
        return WP_E_FULL;
    }
    policy = policy ? policy : &roster->policies[roster->policy_count++];
    *changed = strcmp(policy->value, command->value) != 0;
    *policy = taken;
    return WP_OK;
}

static const apply_command commands[] = {
    [WP_META_BOOTSTRAP] = apply_bootstrap,
    [WP_META_NODE_ADD] = apply_node_add,
    [WP_META_NODE_STATE] = apply_node_state,
    [WP_META_NODE_SEEN] = apply_node_seen,
    [WP_META_NODE_FORGOT] = apply_node_forgot,
    [WP_META_NODE_REPLACE] = apply_node_replace,
    [WP_META_WANTED_SET] = apply_wanted_set,
    [WP_META_GATEWAY_ADD] = apply_gateway_add,
    [WP_META_GATEWAY_REVOKE] = apply_gateway_revoke,
    [WP_META_FEATURE_LEVEL] = apply_feature_level,
    [WP_META_POLICY] = apply_policy,
};

int wp_meta_command_apply(
    struct wp_meta *meta, uint8_t type, struct wp_slice payload, struct wp_meta_result *result)
{
    ProtobufCMessage *message;
    bool changed = false;
    int error = wp_schema_decode(wp_meta_descriptor(type), payload, &meta->arena, &message);
    if (error) {
        return error == WP_E_NOMEM ? error : WP_E_CORRUPT;
    }
    if (type != WP_META_BOOTSTRAP && meta->next->version == 0) {
        result->error = WP_E_UNAVAILABLE;
        return WP_OK;
    }
    result->error = commands[type](meta->next, message, result, &changed);
    meta->next->version += changed;
    return WP_OK;
}
