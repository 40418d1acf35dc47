/* Why this file exists: the verbs that change who belongs to the cluster. Each is one request to the meta
 * group, which carries the change out on its own; --wait only watches. */
#include <stdio.h>
#include <string.h>

#include "ctl/goal.h"
#include "ctl/ports.h"
#include "ctl/work.h"
#include "proto/address.h"

/* --- words
 * ------------------------------------------------------------------------------------------------- */

static int name_check(const char *what, const char *name)
{
    return wp_address_valid(name)
               ? CTL_OK
               : ctl_fail(CTL_USAGE, "\"%s\" is no name of a %s: use 1 to 64 of a-z 0-9 . _ -", name, what);
}

/* --- goals
 * ------------------------------------------------------------------------------------------------ */

static json_int_t integer_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* Nothing is left on the node, in fact and in intention. */
static bool empty_reached(const struct ctl_goal *goal, const json_t *view, char *ret_line, size_t line_size)
{
    json_t *name = json_string(goal->node);
    const json_t *node = ctl_row_of(json_object_get(view, "nodes"), "node", name);
    json_decref(name);
    if (!node || ctl_text_is(node, "state", "removed")) {
        return true;
    }
    json_int_t left = integer_of(node, "replicas");
    snprintf(ret_line, line_size, "%s: %lld replicas left, %u shard%s moving", goal->node, (long long)left,
        ctl_moving_count(view), ctl_moving_count(view) == 1 ? " is" : "s are");
    return left == 0 && ctl_moving_count(view) == 0;
}

static bool gone_reached(const struct ctl_goal *goal, const json_t *view, char *ret_line, size_t line_size)
{
    json_t *name = json_string(goal->node);
    const json_t *node = ctl_row_of(json_object_get(view, "nodes"), "node", name);
    json_decref(name);
    snprintf(
        ret_line, line_size, "%s: %lld replicas left", goal->node, (long long)integer_of(node, "replicas"));
    return !node || ctl_text_is(node, "state", "removed");
}

/* --- nodes
 * -------------------------------------------------------------------------------------------------- */

int ctl_node_add(const struct ctl_arguments *arguments)
{
    char done[256];
    int status = name_check("router", arguments->name);
    if (!status && (!arguments->endpoint || !arguments->key)) {
        status = ctl_fail(CTL_USAGE,
            "node add needs --endpoint and --key: the fabric address and public key of the router");
    }
    if (status) {
        return status;
    }
    const struct ctl_goal goal = {ctl_goal_even, arguments->name, 0};
    snprintf(done, sizeof done,
        arguments->wait ? "%s is added and has its share of the shards"
                        : "%s is added; its share of the shards moves to it",
        arguments->name);
    status = ctl_change(arguments, "/v1/nodes",
        json_pack("{s:s, s:s, s:s, s:i}", "node", arguments->name, "endpoint", arguments->endpoint, "key",
            arguments->key, "reactors",
            (int)(arguments->reactors ? arguments->reactors : CTL_REACTORS_DEFAULT)),
        &goal, done);
    return status || arguments->socket ? status : ctl_work_mark(arguments, arguments->name, false);
}

/* POST /v1/nodes/NAME/VERB. */
static int node_change(const struct ctl_arguments *arguments, const char *verb, json_t *body,
    bool (*reached)(const struct ctl_goal *, const json_t *, char *, size_t), const char *started,
    const char *ended)
{
    char path[160], done[256];
    int status = name_check("router", arguments->name);
    if (status) {
        json_decref(body);
        return status;
    }
    const struct ctl_goal goal = {reached, arguments->name, 0};
    snprintf(path, sizeof path, "/v1/nodes/%s/%s", arguments->name, verb);
    snprintf(done, sizeof done, "%s %s", arguments->name, arguments->wait ? ended : started);
    status = ctl_change(arguments, path, body, &goal, done);
    bool goes = strcmp(verb, "remove") == 0 || strcmp(verb, "replace") == 0;
    return status || !goes || arguments->socket ? status : ctl_work_mark(arguments, arguments->name, true);
}

int ctl_node_drain(const struct ctl_arguments *arguments)
{
    return node_change(arguments, "drain", NULL, empty_reached,
        "is draining: its shards move to other routers",
        "is drained: wardpostctl node remove lets it go, node revive takes it back");
}

int ctl_node_revive(const struct ctl_arguments *arguments)
{
    return node_change(arguments, "revive", NULL, ctl_goal_even,
        "is active again: its share of the shards moves to it",
        "is active again and has its share of the shards");
}

int ctl_node_remove(const struct ctl_arguments *arguments)
{
    return node_change(arguments, "remove", NULL, gone_reached, "is removed: its process may be stopped",
        "is removed: its process may be stopped");
}

int ctl_node_replace(const struct ctl_arguments *arguments)
{
    json_t *body = arguments->by ? json_pack("{s:s}", "by", arguments->by) : NULL;
    return node_change(arguments, "replace", body, gone_reached,
        "is being replaced: its replicas are made again on other routers", "is replaced, and removed");
}

int ctl_node_list(const struct ctl_arguments *arguments)
{
    struct ctl_access *access;
    json_t *view;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_view_get(access, &view);
    if (!status) {
        if (arguments->json) {
            json_t *root = json_pack("{s:O}", "nodes", json_object_get(view, "nodes"));
            ctl_print_json(root);
            json_decref(root);
        } else {
            static const struct ctl_column columns[] = {{"node", "NODE"}, {"number", "NO"},
                {"state", "STATE"}, {"reachable", "REACHABLE"}, {"replicas", "REPLICAS"}, {"leads", "LEADS"},
                {"endpoint", "ENDPOINT"}, {NULL, NULL}};
            ctl_print_table(json_object_get(view, "nodes"), columns);
        }
        json_decref(view);
    }
    ctl_access_close(&access);
    return status;
}

/* --- gateways, feature level
 * -------------------------------------------------------------------------- */

int ctl_cluster_upgrade(const struct ctl_arguments *arguments)
{
    return ctl_change(arguments, "/v1/cluster/upgrade", NULL, NULL,
        "the cluster works at the feature level of its programs");
}

int ctl_gateway_add(const struct ctl_arguments *arguments)
{
    char done[160];
    int status = name_check("gateway", arguments->name);
    if (!status && !arguments->key) {
        status = ctl_fail(CTL_USAGE, "gateway add needs --key: the public key of the gateway");
    }
    if (status) {
        return status;
    }
    snprintf(done, sizeof done, "gateway %s may connect to every router", arguments->name);
    return ctl_change(arguments, "/v1/gateways",
        json_pack("{s:s, s:s}", "gateway", arguments->name, "key", arguments->key), NULL, done);
}

int ctl_gateway_revoke(const struct ctl_arguments *arguments)
{
    char path[160], done[200];
    int status = name_check("gateway", arguments->name);
    if (status) {
        return status;
    }
    snprintf(path, sizeof path, "/v1/gateways/%s/revoke", arguments->name);
    snprintf(done, sizeof done, "gateway %s is cut off; its key is worth nothing any more", arguments->name);
    return ctl_change(arguments, path, NULL, NULL, done);
}

int ctl_gateway_list(const struct ctl_arguments *arguments)
{
    static const struct ctl_column columns[] = {
        {"node", "GATEWAY"}, {"up", "CONNECTED"}, {"revoked", "REVOKED"}, {"key", "KEY"}, {NULL, NULL}};
    struct ctl_access *access;
    json_t *answer;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_call(access, "GET", "/v1/gateways", NULL, &answer);
    if (!status) {
        if (arguments->json) {
            ctl_print_json(answer);
        } else {
            ctl_print_table(json_object_get(answer, "gateways"), columns);
        }
        json_decref(answer);
    }
    ctl_access_close(&access);
    return status;
}
