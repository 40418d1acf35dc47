/* Why this file exists: `status` puts what every router says of itself side by side, and says which ones say
 * nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "ctl/access.h"
#include "ctl/cluster.h"
#include "ctl/command.h"

/* --- asking
 * ------------------------------------------------------------------------------------------------- */

/* One router by its name; shaped like the answer of all. */
static int one_get(struct ctl_access *access, const char *name, json_t **ret_all)
{
    for (unsigned i = 0; i < wp_operator_router_count(access->op); i++) {
        if (strcmp(wp_operator_router_name(access->op, i), name) != 0) {
            continue;
        }
        json_t *answer;
        int error = wp_operator_call_router(
            access->op, i, 0, "GET", "/v1/status", NULL, &answer, access->text, sizeof access->text);
        if (error == WP_E_CLOSED) {
            return ctl_fail(CTL_UNAVAILABLE, "%s is down: see wardpostctl playground status", name);
        }
        if (error) {
            return ctl_fail(ctl_exit_of(error), "%s", access->text);
        }
        *ret_all = json_pack("{s:[o], s:[]}", "answers", answer, "silent");
        return CTL_OK;
    }
    return ctl_fail(CTL_NOT_FOUND, "there is no router \"%s\"", name);
}

/* --- showing
 * ------------------------------------------------------------------------------------------------ */

static const char *duration_text(json_int_t seconds, char *room, size_t size)
{
    if (seconds < 120) {
        snprintf(room, size, "%d s", (int)seconds);
    } else if (seconds < 7200) {
        snprintf(room, size, "%d min", (int)(seconds / 60));
    } else if (seconds < 172800) {
        snprintf(room, size, "%d h", (int)(seconds / 3600));
    } else {
        snprintf(room, size, "%d d", (int)(seconds / 86400));
    }
    return room;
}

static json_int_t integer_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *disk_text(const json_t *disk, char *room, size_t size)
{
    double gib = (double)integer_of(disk, "free_bytes") / (1 << 30);
    snprintf(room, size, "%.1f GiB free%s", gib, json_is_true(json_object_get(disk, "full")) ? ", FULL" : "");
    return room;
}

/* What stands in one line about a router. */
static json_t *row_make(const json_t *answer)
{
    char uptime[24], disk[48], gateways[24];
    int leads = 0, follows = 0, up = 0;
    json_int_t messages = 0;
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(answer, "shards"), i, entry)
    {
        const char *role = json_string_value(json_object_get(entry, "role"));
        bool leader = role && strcmp(role, "leader") == 0;
        leads += leader;
        follows += role && strcmp(role, "follower") == 0;
        messages += leader ? integer_of(entry, "messages") : 0;
    }
    const json_t *list = json_object_get(answer, "gateways");
    json_array_foreach(list, i, entry)
    {
        up += json_is_true(json_object_get(entry, "up"));
    }
    snprintf(gateways, sizeof gateways, "%d of %zu", up, json_array_size(list));
    return json_pack("{s:O, s:s, s:O, s:s, s:i, s:i, s:I, s:s, s:s}", "node", json_object_get(answer, "node"),
        "state", json_is_true(json_object_get(answer, "ready")) ? "ready" : "starting", "version",
        json_object_get(answer, "version"), "uptime",
        duration_text(integer_of(answer, "uptime_s"), uptime, sizeof uptime), "leads", leads, "follows",
        follows, "messages", messages, "gateways", gateways, "disk",
        disk_text(json_object_get(answer, "disk"), disk, sizeof disk));
}

static void table_print(const json_t *routers, const json_t *answers)
{
    static const struct ctl_column columns[] = {{"node", "ROUTER"}, {"state", "STATE"}, {"uptime", "UP FOR"},
        {"leads", "LEADS"}, {"follows", "FOLLOWS"}, {"messages", "MESSAGES"}, {"gateways", "GATEWAYS"},
        {"disk", "DISK"}, {NULL, NULL}};
    static const struct ctl_column shard_columns[] = {{"shard", "SHARD"}, {"role", "ROLE"},
        {"leader", "LEADER"}, {"term", "TERM"}, {"lag", "LAG"}, {"users", "USERS"}, {"devices", "DEVICES"},
        {"messages", "MESSAGES"}, {"bytes", "BYTES"}, {NULL, NULL}};
    static const struct ctl_column gateway_columns[] = {
        {"node", "GATEWAY"}, {"up", "CONNECTED"}, {NULL, NULL}};
    json_t *rows = json_array();
    size_t i;
    json_t *router;
    json_array_foreach(routers, i, router)
    {
        bool told = json_object_get(router, "shards") != NULL;
        json_array_append_new(rows, told ? row_make(router) : json_incref(router));
    }
    const json_t *best = ctl_view_best(answers);
    ctl_summary_print(json_string_value(json_object_get(best, "cluster")), json_object_get(best, "alarms"));
    ctl_print_table(rows, columns);
    json_decref(rows);
    if (json_array_size(routers) == 1) {
        printf("\n");
        ctl_print_table(json_object_get(json_array_get(routers, 0), "shards"), shard_columns);
        printf("\n");
        ctl_print_table(json_object_get(json_array_get(routers, 0), "gateways"), gateway_columns);
    }
}

/* Those that answered and those that did not, by name. */
static json_t *routers_make(json_t *all)
{
    json_t *routers = json_array();
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(all, "answers"), i, entry)
    {
        bool ready = json_is_true(json_object_get(entry, "ready"));
        json_object_set_new(entry, "state", json_string(ready ? "ready" : "starting"));
        json_array_append(routers, entry);
    }
    json_array_foreach(json_object_get(all, "silent"), i, entry)
    {
        json_array_append_new(routers, json_pack("{s:O, s:O}", "node", json_object_get(entry, "node"),
                                           "state", json_object_get(entry, "reason")));
    }
    json_t *sorted = ctl_sorted(routers, "node");
    json_decref(routers);
    return sorted;
}

int ctl_status(const struct ctl_arguments *arguments)
{
    struct ctl_access *access;
    json_t *all;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status =
        arguments->node ? one_get(access, arguments->node, &all) : ctl_call_all(access, "/v1/status", &all);
    if (!status) {
        json_t *routers = routers_make(all);
        const json_t *answers = json_object_get(all, "answers");
        if (arguments->json) {
            json_t *root =
                json_pack("{s:O, s:O, s:O}", "cluster", json_object_get(ctl_view_best(answers), "cluster"),
                    "alarms", json_object_get(ctl_view_best(answers), "alarms"), "routers", routers);
            ctl_print_json(root);
            json_decref(root);
        } else {
            table_print(routers, answers);
        }
        status = json_array_size(json_object_get(all, "silent")) ? CTL_UNAVAILABLE : CTL_OK;
        json_decref(routers);
        json_decref(all);
    }
    ctl_access_close(&access);
    return status;
}
