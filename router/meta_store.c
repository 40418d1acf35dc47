/* The roster as records of the store, under the keys of group 0:
 *
 *     0:u32be 1                  MetaHead
 *     0:u32be 2 number:u32be     MetaNode
 *     0:u32be 3 slot:u32be       MetaGateway
 *     0:u32be 4 group:u32be      MetaWanted
 *     0:u32be 5 slot:u32be       MetaPolicy
 *
 * The wanted replicas of the meta group follow from the nodes and are not stored. */
#include <string.h>

#include "base/error.h"
#include "router/meta_inner.h"

enum tag { TAG_HEAD = 1, TAG_NODE = 2, TAG_GATEWAY = 3, TAG_WANTED = 4, TAG_POLICY = 5 };

#define KEY_SIZE 9u

struct key {
    uint32_t size;
    uint8_t data[KEY_SIZE];
};

static struct wp_slice key_make(struct key *key, enum tag tag, uint32_t number)
{
    wp_put_u32be(key->data, WP_META_GROUP);
    key->data[4] = (uint8_t)tag;
    wp_put_u32be(key->data + 5, number);
    key->size = tag == TAG_HEAD ? 5 : KEY_SIZE;
    return wp_slice(key->data, key->size);
}

/* --- to messages
 * ------------------------------------------------------------------------------------------------
 */

/* Generated structs want char * where they only read. */
static char *text(const char *constant)
{
    char *out;
    memcpy(&out, &constant, sizeof(out));
    return out;
}

static void head_fill(const struct wp_roster *roster, Wp__MetaHead *head)
{
    wp__meta_head__init(head);
    head->version = roster->version;
    head->feature_level = roster->feature_level;
    head->replication = roster->replication;
    head->shard_count = roster->shard_count;
    head->last_node = roster->last_node;
}

static void node_fill(const struct wp_roster_node *from, Wp__MetaNode *node)
{
    wp__meta_node__init(node);
    node->number = from->number;
    node->state = from->state;
    node->name = text(from->name);
    node->endpoint = text(from->endpoint);
    node->key = text(from->key);
    node->reactors = from->reactors;
    node->directory_id = from->directory_id;
    node->boot = from->boot;
    node->start_id = from->start_id;
    node->generation = from->generation;
    node->counts_from = from->counts_from;
    node->forgotten = from->forgotten;
    node->meta_replica = from->meta_replica;
    node->replacing = from->replacing;
    node->replaced_by = from->replaced_by;
}

static void gateway_fill(const struct wp_roster_gateway *from, Wp__MetaGateway *gateway)
{
    wp__meta_gateway__init(gateway);
    gateway->name = text(from->name);
    gateway->key = text(from->key);
    gateway->revoked = from->revoked;
}

static void policy_fill(const struct wp_roster_policy *from, Wp__MetaPolicy *policy)
{
    wp__meta_policy__init(policy);
    policy->key = text(from->key);
    policy->value = text(from->value);
}

static void wanted_fill(const struct wp_roster *roster, uint32_t group, Wp__MetaWanted *wanted)
{
    const uint64_t *ids = roster->wanted[group].ids;
    wp__meta_wanted__init(wanted);
    wanted->group = group;
    wanted->n_ids = roster->wanted[group].count;
    memcpy(&wanted->ids, &ids, sizeof(wanted->ids));
}

Wp__MetaBootstrap *wp_meta_bootstrap_fill(const struct wp_roster *roster, struct wp_arena *arena)
{
    Wp__MetaBootstrap *command = wp_arena_alloc(arena, sizeof(*command));
    Wp__MetaHead *head = wp_arena_alloc(arena, sizeof(*head));
    Wp__MetaNode *nodes = wp_arena_alloc(arena, sizeof(*nodes) * (roster->node_count + 1));
    Wp__MetaGateway *gateways = wp_arena_alloc(arena, sizeof(*gateways) * (roster->gateway_count + 1));
    Wp__MetaWanted *wanted = wp_arena_alloc(arena, sizeof(*wanted) * (roster->shard_count + 1));
    Wp__MetaPolicy *policies = wp_arena_alloc(arena, sizeof(*policies) * (roster->policy_count + 1));
    void **rows = wp_arena_alloc(arena, sizeof(*rows) * (roster->node_count + roster->gateway_count +
                                                            roster->policy_count + roster->shard_count + 1));
    if (!command || !head || !nodes || !gateways || !wanted || !policies || !rows) {
        return NULL;
    }
    wp__meta_bootstrap__init(command);
    head_fill(roster, head);
    command->head = head;
    command->nodes = (Wp__MetaNode **)rows;
    command->gateways = (Wp__MetaGateway **)(rows + roster->node_count);
    command->policies = (Wp__MetaPolicy **)(rows + roster->node_count + roster->gateway_count);
    command->wanted =
        (Wp__MetaWanted **)(rows + roster->node_count + roster->gateway_count + roster->policy_count);
    for (uint32_t i = 0; i < roster->node_count; i++) {
        node_fill(&roster->nodes[i], &nodes[i]);
        command->nodes[command->n_nodes++] = &nodes[i];
    }
    for (uint32_t i = 0; i < roster->gateway_count; i++) {
        gateway_fill(&roster->gateways[i], &gateways[i]);
        command->gateways[command->n_gateways++] = &gateways[i];
    }
    for (uint32_t i = 0; i < roster->policy_count; i++) {
        policy_fill(&roster->policies[i], &policies[i]);
        command->policies[command->n_policies++] = &policies[i];
    }
    for (uint32_t shard = 1; shard <= roster->shard_count; shard++) {
        wanted_fill(roster, shard, &wanted[shard - 1]);
        command->wanted[command->n_wanted++] = &wanted[shard - 1];
    }
    return command;
}

/* --- to the store
 * -----------------------------------------------------------------------------------------------
 */

static int record_put(struct wp_meta *meta, enum tag tag, uint32_t number, const ProtobufCMessage *message)
{
    struct key key;
    size_t size = protobuf_c_message_get_packed_size(message);
    meta->scratch.size = 0;
    uint8_t *room = wp_buffer_reserve(&meta->scratch, size ? size : 1);
    if (!room) {
        return WP_E_NOMEM;
    }
    protobuf_c_message_pack(message, room);
    wp_state_put(meta->batch, key_make(&key, tag, number), wp_slice(room, size));
    return WP_OK;
}

static int nodes_put(struct wp_meta *meta, const struct wp_roster *before, const struct wp_roster *after)
{
    int error = WP_OK;
    for (uint32_t i = 0; before && i < before->node_count; i++) {
        struct key key;
        if (!wp_roster_node(after, before->nodes[i].number)) {
            wp_state_delete(meta->batch, key_make(&key, TAG_NODE, before->nodes[i].number));
        }
    }
    for (uint32_t i = 0; i < after->node_count && !error; i++) {
        const struct wp_roster_node *node = &after->nodes[i];
        const struct wp_roster_node *old = before ? wp_roster_node(before, node->number) : NULL;
        Wp__MetaNode record;
        node_fill(node, &record);
        error = old && memcmp(old, node, sizeof(*node)) == 0
                    ? WP_OK
                    : record_put(meta, TAG_NODE, node->number, &record.base);
    }
    return error;
}

static int slots_put(struct wp_meta *meta, const struct wp_roster *before, const struct wp_roster *after)
{
    int error = WP_OK;
    for (uint32_t i = 0; i < after->gateway_count && !error; i++) {
        Wp__MetaGateway record;
        gateway_fill(&after->gateways[i], &record);
        bool same =
            before && memcmp(&before->gateways[i], &after->gateways[i], sizeof(after->gateways[i])) == 0;
        error = same ? WP_OK : record_put(meta, TAG_GATEWAY, i, &record.base);
    }
    uint32_t policies_before = before ? before->policy_count : 0;
    for (uint32_t i = 0; i < policies_before || i < after->policy_count; i++) {
        struct key key;
        Wp__MetaPolicy record;
        policy_fill(&after->policies[i], &record);
        if (i >= after->policy_count) {
            wp_state_delete(meta->batch, key_make(&key, TAG_POLICY, i));
        } else if (!error) {
            error = record_put(meta, TAG_POLICY, i, &record.base);
        }
    }
    return error;
}

int wp_meta_put(struct wp_meta *meta, const struct wp_roster *before, const struct wp_roster *after)
{
    Wp__MetaHead head;
    head_fill(after, &head);
    int error = record_put(meta, TAG_HEAD, 0, &head.base);
    error = error ? error : nodes_put(meta, before, after);
    error = error ? error : slots_put(meta, before, after);
    for (uint32_t shard = 1; shard <= after->shard_count && !error; shard++) {
        Wp__MetaWanted record;
        wanted_fill(after, shard, &record);
        size_t size = sizeof(after->wanted[shard]);
        bool same = before && memcmp(&before->wanted[shard], &after->wanted[shard], size) == 0;
        error = same ? WP_OK : record_put(meta, TAG_WANTED, shard, &record.base);
    }
    return error;
}

/* --- from the store
 * ---------------------------------------------------------------------------------------------
 */

static bool text_take(char *to, size_t size, const char *from)
{
    if (strlen(from) >= size) {
        return false;
    }
    strcpy(to, from);
    return true;
}

static int node_load(struct wp_roster *roster, const ProtobufCMessage *message, uint32_t number)
{
    const Wp__MetaNode *record = (const Wp__MetaNode *)message;
    if (roster->node_count == WP_ROSTER_NODES_MAX || record->number != number ||
        record->state > WP_NODE_REMOVED) {
        return WP_E_CORRUPT;
    }
    struct wp_roster_node *node = &roster->nodes[roster->node_count++];
    node->number = number;
    node->state = (enum wp_node_state)record->state;
    node->reactors = record->reactors;
    node->directory_id = record->directory_id;
    node->boot = record->boot;
    node->start_id = record->start_id;
    node->generation = record->generation;
    node->counts_from = record->counts_from;
    node->forgotten = record->forgotten;
    node->meta_replica = record->meta_replica;
    node->replacing = record->replacing;
    node->replaced_by = record->replaced_by;
    bool fits = text_take(node->name, sizeof(node->name), record->name) &&
                text_take(node->endpoint, sizeof(node->endpoint), record->endpoint) &&
                text_take(node->key, sizeof(node->key), record->key);
    return fits ? WP_OK : WP_E_CORRUPT;
}

static int gateway_load(struct wp_roster *roster, const ProtobufCMessage *message, uint32_t slot)
{
    const Wp__MetaGateway *record = (const Wp__MetaGateway *)message;
    if (slot != roster->gateway_count || slot >= WP_ROSTER_GATEWAYS_MAX) {
        return WP_E_CORRUPT;
    }
    struct wp_roster_gateway *gateway = &roster->gateways[roster->gateway_count++];
    gateway->revoked = record->revoked;
    bool fits = text_take(gateway->name, sizeof(gateway->name), record->name) &&
                text_take(gateway->key, sizeof(gateway->key), record->key);
    return fits ? WP_OK : WP_E_CORRUPT;
}

static int wanted_load(struct wp_roster *roster, const ProtobufCMessage *message, uint32_t group)
{
    const Wp__MetaWanted *record = (const Wp__MetaWanted *)message;
    if (group < 1 || group > roster->shard_count || record->n_ids < 1 ||
        record->n_ids > WP_REPLICA_MEMBERS_MAX) {
        return WP_E_CORRUPT;
    }
    roster->wanted[group].count = (uint32_t)record->n_ids;
    memcpy(roster->wanted[group].ids, record->ids, record->n_ids * sizeof(record->ids[0]));
    return WP_OK;
}

static int policy_load(struct wp_roster *roster, const ProtobufCMessage *message, uint32_t slot)
{
    const Wp__MetaPolicy *record = (const Wp__MetaPolicy *)message;
    if (slot != roster->policy_count || slot >= WP_ROSTER_POLICIES_MAX) {
        return WP_E_CORRUPT;
    }
    struct wp_roster_policy *policy = &roster->policies[roster->policy_count++];
    bool fits = text_take(policy->key, sizeof(policy->key), record->key) &&
                text_take(policy->value, sizeof(policy->value), record->value);
    return fits ? WP_OK : WP_E_CORRUPT;
}

struct load_row {
    enum tag tag;
    const ProtobufCMessageDescriptor *descriptor;
    int (*take)(struct wp_roster *roster, const ProtobufCMessage *message, uint32_t number);
};

static int tag_load(struct wp_meta *meta, struct wp_roster *roster, const struct load_row *row)
{
    struct key from, to;
    struct wp_state_iter *iter =
        wp_state_iter_create(meta->store, key_make(&from, row->tag, 0), key_make(&to, row->tag + 1, 0));
    if (!iter) {
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    for (; wp_state_iter_valid(iter) && !error; wp_state_iter_next(iter)) {
        struct wp_slice key = wp_state_iter_key(iter);
        ProtobufCMessage *message;
        wp_arena_reset(&meta->arena);
        error = key.size == KEY_SIZE
                    ? wp_schema_decode(row->descriptor, wp_state_iter_value(iter), &meta->arena, &message)
                    : WP_E_CORRUPT;
        error = error ? WP_E_CORRUPT : row->take(roster, message, wp_get_u32be(key.data + 5));
    }
    error = error ? error : wp_state_iter_error(iter);
    wp_state_iter_destroy(&iter);
    return error;
}

static int head_load(struct wp_meta *meta, struct wp_roster *roster)
{
    struct key key;
    Wp__MetaHead *head;
    meta->scratch.size = 0;
    int error = wp_state_get(meta->store, key_make(&key, TAG_HEAD, 0), &meta->scratch);
    if (error) {
        return error;
    }
    if (wp_schema_decode(&wp__meta_head__descriptor, wp_slice(meta->scratch.data, meta->scratch.size),
            &meta->arena, (ProtobufCMessage **)&head) ||
        head->shard_count != roster->shard_count || head->version == 0) {
        return WP_E_CORRUPT;
    }
    roster->version = head->version;
    roster->feature_level = head->feature_level;
    roster->replication = head->replication;
    roster->last_node = head->last_node;
    return WP_OK;
}

static int roster_load(struct wp_meta *meta, struct wp_roster *roster)
{
    static const struct load_row rows[] = {
        {TAG_NODE, &wp__meta_node__descriptor, node_load},
        {TAG_GATEWAY, &wp__meta_gateway__descriptor, gateway_load},
        {TAG_WANTED, &wp__meta_wanted__descriptor, wanted_load},
        {TAG_POLICY, &wp__meta_policy__descriptor, policy_load},
    };
    int error = head_load(meta, roster);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows) && !error; i++) {
        error = tag_load(meta, roster, &rows[i]);
    }
    if (!error) {
        wp_roster_place_meta(roster);
    }
    return error;
}

int wp_meta_load(struct wp_meta *meta)
{
    struct wp_roster *roster = wp_roster_create(meta->shard_count);
    if (!roster) {
        return WP_E_NOMEM;
    }
    int error = roster_load(meta, roster);
    if (error) {
        wp_roster_release(&roster);
        return error == WP_E_NOT_FOUND ? WP_OK : error;
    }
    meta->roster = roster;
    return WP_OK;
}
