/* What a router says of itself: its part in each shard, its disk, who is connected, and what is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cluster/group.h"
#include "router/admin_state.h"

struct shard_row {
    bool present;
    bool leading;
    uint64_t term;
    uint64_t applied;
    struct wp_machine_totals totals;
};

/* Gateways that are connected to a reactor. */
struct up_part {
    uint32_t count;
    char names[WP_ROSTER_GATEWAYS_MAX][WP_NAME_SIZE_MAX + 1];
};

struct status_data {
    struct shard_row *shards; /* by number - 1; each written by its reactor */
    struct wp_overview *overview;
    struct up_part *up; /* by reactor; each written by its own */
};

static void status_free(struct admin_task *task)
{
    struct status_data *data = task->data;
    free(data->shards);
    free(data->overview);
    free(data->up);
    free(data);
}

static void gateway_each(void *context, const char *node)
{
    struct up_part *part = context;
    if (part->count < WP_ROSTER_GATEWAYS_MAX) {
        snprintf(part->names[part->count++], sizeof(part->names[0]), "%s", node);
    }
}

static void status_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    struct status_data *data = task->data;
    for (uint32_t s = wp_reactor_shard_first(reactor); s; s = wp_reactor_shard_next(reactor, s)) {
        struct shard_row *row = &data->shards[s - 1];
        const struct wp_group *group = wp_reactor_group(reactor, s);
        row->present = true;
        row->leading = wp_group_leading(group);
        row->term = wp_group_term(group);
        row->applied = wp_group_applied_index(group);
        wp_machine_totals(wp_reactor_machine(reactor, s), &row->totals);
    }
    wp_reactor_overview(reactor, data->overview);
    wp_reactor_peers_each(reactor, gateway_each, &data->up[reactor_index]);
    admin_job_finish(task);
}

/* Entries that this router is behind, or where it leads, that the slowest replica is. */
static json_t *lag_pack(
    const struct wp_overview *overview, const struct wp_overview_group *group, bool leading)
{
    uint64_t lag = 0;
    if (leading) {
        return wp_overview_lag(group, &lag) ? json_integer((json_int_t)lag) : json_null();
    }
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct wp_overview_node *node =
            wp_overview_node(overview, wp_raft_id_node(group->members[i].replica));
        if (node && node->self && group->members[i].has_lag) {
            return json_integer((json_int_t)group->members[i].lag);
        }
    }
    return json_null();
}

static json_t *shard_pack(const struct status_data *data, uint32_t number)
{
    const struct shard_row *row = &data->shards[number - 1];
    const struct wp_overview_group *group = &data->overview->groups[number];
    const char *role = !row->present ? "none" : row->leading ? "leader" : "follower";
    json_t *leader =
        group->leader ? json_string(wp_overview_name(data->overview, group->leader)) : json_null();
    json_t *shard = json_pack("{s:i, s:s, s:o, s:I, s:I, s:o}", "shard", (int)number, "role", role, "leader",
        leader, "term", (json_int_t)(row->present ? row->term : group->term), "applied",
        (json_int_t)row->applied, "lag", lag_pack(data->overview, group, row->leading));
    const struct wp_machine_totals *totals = &row->totals;
    json_t *holds = json_pack("{s:I, s:I, s:I, s:I}", "users", (json_int_t)totals->users, "devices",
        (json_int_t)totals->devices, "messages", (json_int_t)totals->messages, "bytes",
        (json_int_t)totals->bytes);
    json_object_update(shard, holds);
    json_decref(holds);
    return shard;
}

static json_t *shards_pack(const struct wp_admin *admin, const struct status_data *data)
{
    json_t *shards = json_array();
    for (uint32_t number = 1; number <= admin->config.shard_count; number++) {
        json_array_append_new(shards, shard_pack(data, number));
    }
    return shards;
}

static bool gateway_up(const struct wp_admin *admin, const struct status_data *data, const char *name)
{
    for (uint32_t r = 0; r < admin->config.reactor_count; r++) {
        for (uint32_t i = 0; i < data->up[r].count; i++) {
            if (!strcmp(data->up[r].names[i], name)) {
                return true;
            }
        }
    }
    return false;
}

static const struct wp_roster_gateway *roster_gateway(const struct wp_overview *overview, const char *name)
{
    for (uint32_t i = 0; i < overview->gateway_count; i++) {
        if (!strcmp(overview->gateways[i].name, name)) {
            return &overview->gateways[i];
        }
    }
    return NULL;
}

/* Those of the roster, and those that the configuration of this router allows besides. */
static json_t *gateways_pack(const struct wp_admin *admin, const struct status_data *data)
{
    json_t *gateways = json_array();
    for (uint32_t i = 0; i < admin->config.gateway_count; i++) {
        const char *name = admin->config.gateways[i];
        if (!roster_gateway(data->overview, name)) {
            json_array_append_new(
                gateways, json_pack("{s:s, s:b, s:b, s:s}", "node", name, "up", gateway_up(admin, data, name),
                              "revoked", 0, "from", "configuration"));
        }
    }
    for (uint32_t i = 0; i < data->overview->gateway_count; i++) {
        const struct wp_roster_gateway *gateway = &data->overview->gateways[i];
        json_array_append_new(gateways, json_pack("{s:s, s:b, s:b, s:s, s:s}", "node", gateway->name, "up",
                                            gateway_up(admin, data, gateway->name), "revoked",
                                            gateway->revoked, "from", "cluster", "key", gateway->key));
    }
    return gateways;
}

static struct admin_answer status_pack(const struct wp_admin *admin, const struct status_data *data)
{
    const struct wp_admin_config *config = &admin->config;
    bool ready = true;
    for (uint32_t i = 0; i < config->reactor_count; i++) {
        ready = ready && wp_reactor_ready(config->reactors[i]);
    }
    struct wp_store_disk disk;
    wp_store_disk(config->store, &disk);
    struct wp_judgement *judgement = malloc(sizeof(*judgement));
    if (!judgement) {
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    wp_overview_judge(data->overview, judgement);
    struct admin_answer answer = admin_ok(
        200, json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:I, s:s, s:o, s:o, s:{s:I, s:I, s:b, s:s}, s:o}",
                 "node", config->node, "version", WP_VERSION, "cluster_id", config->cluster_id, "boot",
                 (json_int_t)wp_store_boot(config->store), "uptime_s",
                 (json_int_t)((wp_clock_boot_ms() - admin->started_ms) / 1000), "ready", ready,
                 "roster_version", (json_int_t)data->overview->roster_version, "cluster", judgement->summary,
                 "alarms", admin_alarms_pack(judgement), "shards", shards_pack(admin, data), "disk",
                 "free_bytes", (json_int_t)disk.free_bytes, "reserve_bytes", (json_int_t)disk.reserve_bytes,
                 "full", disk.full, "file_system", disk.file_system, "gateways", gateways_pack(admin, data)));
    free(judgement);
    return answer;
}

static struct admin_answer gateway_list_pack(const struct wp_admin *admin, const struct status_data *data)
{
    return admin_ok(
        200, json_pack("{s:s, s:o}", "asked", admin->config.node, "gateways", gateways_pack(admin, data)));
}

/* Gathers from every reactor, then packs. */
static struct admin_answer gather(struct wp_admin *admin,
    struct admin_answer (*pack)(const struct wp_admin *admin, const struct status_data *data))
{
    struct status_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, status_run, status_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    data->overview = wp_overview_create(admin->config.shard_count);
    data->shards = calloc(admin->config.shard_count, sizeof(*data->shards));
    data->up = calloc(admin->config.reactor_count, sizeof(*data->up));
    int error = data->overview && data->shards && data->up
                    ? admin_task_perform(task, admin_every_reactor(admin))
                    : WP_E_NOMEM;
    struct admin_answer answer = error ? admin_task_refusal(error) : pack(admin, data);
    admin_task_release(task);
    return answer;
}

struct admin_answer admin_status(struct wp_admin *admin)
{
    return gather(admin, status_pack);
}

struct admin_answer admin_gateway_list(struct wp_admin *admin)
{
    return gather(admin, gateway_list_pack);
}
