/* /v1/nodes, /v1/gateways, /v1/cluster/upgrade and moves of replicas: from JSON to a change of the roster. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "router/admin_meta.h"

#define REACTORS_MAX 64

static struct admin_answer done(
    struct wp_admin *admin, uint8_t command, const struct admin_change *asked, int status, json_t *body)
{
    struct admin_answer refusal;
    if (admin_change_perform(admin, command, asked, &refusal)) {
        json_decref(body);
        return refusal;
    }
    return admin_ok(status, body);
}

/* Copies a member of the body; false when it is missing or longer than there is room for. */
static bool text_take(const json_t *body, const char *member, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(body, member));
    return text && text[0] && (size_t)snprintf(out, size, "%s", text) < size;
}

static bool name_take(const json_t *body, const char *member, char out[WP_NAME_SIZE_MAX + 1])
{
    return text_take(body, member, out, WP_NAME_SIZE_MAX + 1) && wp_address_valid(out);
}

/* --- nodes
 * -------------------------------------------------------------------------------------------------- */

static struct admin_answer node_add(struct wp_admin *admin, const json_t *body)
{
    struct admin_change asked = {.reactors = 1};
    const json_t *reactors = json_object_get(body, "reactors");
    bool good = name_take(body, "node", asked.name) &&
                text_take(body, "endpoint", asked.endpoint, sizeof(asked.endpoint)) &&
                text_take(body, "key", asked.key, sizeof(asked.key));
    if (reactors) {
        json_int_t count = json_integer_value(reactors);
        good = good && count >= 1 && count <= REACTORS_MAX;
        asked.reactors = good ? (uint32_t)count : 1;
    }
    if (!good) {
        return admin_refusal(WP_E_INVALID,
            "the body must be {\"node\": NAME, \"endpoint\": \"tcp://HOST:PORT\", \"key\": PUBLIC KEY, "
            "\"reactors\": N}");
    }
    return done(admin, WP_META_NODE_ADD, &asked, 201, json_pack("{s:s}", "node", asked.name));
}

struct admin_answer admin_nodes(
    struct wp_admin *admin, const char *method, const char *name, const char *verb, const json_t *body)
{
    static const struct {
        const char *verb;
        uint8_t command;
        enum wp_node_state state;
    } verbs[] = {{"drain", WP_META_NODE_STATE, WP_NODE_DRAINING},
        {"revive", WP_META_NODE_STATE, WP_NODE_ACTIVE}, {"remove", WP_META_NODE_STATE, WP_NODE_REMOVED},
        {"replace", WP_META_NODE_REPLACE, WP_NODE_REMOVED}};
    if (!strcmp(method, "POST") && !name) {
        return node_add(admin, body);
    }
    for (size_t i = 0; name && verb && !strcmp(method, "POST") && i < sizeof(verbs) / sizeof(*verbs); i++) {
        struct admin_change asked = {.state = verbs[i].state};
        if (strcmp(verbs[i].verb, verb)) {
            continue;
        }
        snprintf(asked.name, sizeof(asked.name), "%s", name);
        if (json_object_get(body, "by") && !name_take(body, "by", asked.to)) {
            return admin_refusal(WP_E_INVALID, "\"by\" must be the name of a router");
        }
        return done(admin, verbs[i].command, &asked, 200, json_pack("{s:s, s:s}", "node", name, "did", verb));
    }
    return admin_refusal(WP_E_NOT_FOUND, "there is no such request about nodes");
}

struct admin_answer admin_shard_move(struct wp_admin *admin, uint32_t shard, const json_t *body)
{
    struct admin_change asked = {.shard = shard};
    if (!name_take(body, "from", asked.name) || !name_take(body, "to", asked.to)) {
        return admin_refusal(WP_E_INVALID, "the body must be {\"from\": NODE, \"to\": NODE}");
    }
    return done(admin, WP_META_WANTED_SET, &asked, 202,
        json_pack("{s:i, s:s, s:s}", "shard", (int)shard, "from", asked.name, "to", asked.to));
}

/* --- feature level
 * ------------------------------------------------------------------------------------------ */

/* The highest level that every node speaks; 0 with a refusal when one cannot be asked. */
static uint32_t level_of_all(const struct wp_overview *overview, struct admin_answer *ret_refusal)
{
    uint32_t level = UINT32_MAX;
    for (uint32_t i = 0; i < overview->node_count; i++) {
        const struct wp_overview_node *node = &overview->nodes[i];
        if (node->state == WP_NODE_REMOVED) {
            continue;
        }
        if (!node->reachable || node->level_max == 0) {
            *ret_refusal = admin_refusal(WP_E_UNAVAILABLE,
                "%s cannot be asked which level it speaks: bring it back, or remove it, first", node->name);
            return 0;
        }
        level = node->level_max < level ? node->level_max : level;
    }
    return level;
}

struct admin_answer admin_upgrade(struct wp_admin *admin)
{
    struct wp_overview *overview;
    struct admin_answer refusal;
    int error = admin_overview(admin, &overview);
    if (error) {
        return admin_task_refusal(error);
    }
    struct admin_change asked = {.level = level_of_all(overview, &refusal)};
    uint32_t before = overview->feature_level;
    free(overview);
    if (asked.level == 0) {
        return refusal;
    }
    json_t *body = json_pack("{s:i, s:i}", "before", (int)before, "feature_level", (int)asked.level);
    return asked.level == before ? admin_ok(200, body)
                                 : done(admin, WP_META_FEATURE_LEVEL, &asked, 200, body);
}

/* --- gateways
 * ----------------------------------------------------------------------------------------------- */

static struct admin_answer gateway_add(struct wp_admin *admin, const json_t *body)
{
    struct admin_change asked = {0};
    if (!name_take(body, "gateway", asked.name) || !text_take(body, "key", asked.key, sizeof(asked.key))) {
        return admin_refusal(
            WP_E_INVALID, "the body must be {\"gateway\": NAME, \"key\": PUBLIC KEY of 40 characters}");
    }
    return done(admin, WP_META_GATEWAY_ADD, &asked, 201, json_pack("{s:s}", "gateway", asked.name));
}

struct admin_answer admin_gateways(
    struct wp_admin *admin, const char *method, const char *name, const char *verb, const json_t *body)
{
    if (!strcmp(method, "GET") && !name) {
        return admin_gateway_list(admin);
    }
    if (!strcmp(method, "POST") && !name) {
        return gateway_add(admin, body);
    }
    if (!strcmp(method, "POST") && name && verb && !strcmp(verb, "revoke")) {
        struct admin_change asked = {0};
        snprintf(asked.name, sizeof(asked.name), "%s", name);
        return done(admin, WP_META_GATEWAY_REVOKE, &asked, 200, json_pack("{s:s}", "gateway", name));
    }
    return admin_refusal(WP_E_NOT_FOUND, "there is no such request about gateways");
}
