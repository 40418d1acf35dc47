/* The cluster as this router sees it, and shards that change hands. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "router/admin_state.h"

/* --- overview
 * ----------------------------------------------------------------------------------------------- */

static void overview_free(struct admin_task *task)
{
    free(task->data);
}

static void overview_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    wp_reactor_overview(reactor, task->data);
    admin_job_finish(task);
}

int admin_overview(struct wp_admin *admin, struct wp_overview **ret_overview)
{
    struct wp_overview *overview = wp_overview_create(admin->config.shard_count);
    struct admin_task *task =
        overview ? admin_task_create(admin, overview_run, overview_free, overview) : NULL;
    if (!task) {
        free(overview);
        return WP_E_NOMEM;
    }
    int error = admin_task_perform(task, admin_every_reactor(admin));
    if (!error) {
        wp_overview_count(overview);
        *ret_overview = overview;
        task->data = NULL;
    }
    admin_task_release(task);
    return error;
}

struct admin_answer admin_not_leader(struct wp_admin *admin, uint32_t shard)
{
    struct wp_overview *overview;
    int error = admin_overview(admin, &overview);
    if (error) {
        return admin_task_refusal(error);
    }
    uint64_t leader = overview->groups[shard].leader;
    struct admin_answer answer;
    if (leader) {
        answer = admin_refusal(WP_E_NOT_LEADER, "shard %u is led by %s: ask that router", shard,
            wp_overview_name(overview, leader));
        json_object_set_new(answer.body, "leader", json_string(wp_overview_name(overview, leader)));
    } else {
        answer = admin_refusal(WP_E_NOT_LEADER, "shard %u has no leader now, try again", shard);
        json_object_set_new(answer.body, "leader", json_null());
    }
    json_object_set_new(answer.body, "shard", json_integer(shard));
    free(overview);
    return answer;
}

/* --- JSON
 * --------------------------------------------------------------------------------------------------- */

static const char *state_word(enum wp_node_state state)
{
    switch (state) {
    case WP_NODE_DRAINING:
        return "draining";
    case WP_NODE_REMOVED:
        return "removed";
    default:
        return "active";
    }
}

static json_t *nodes_pack(const struct wp_overview *overview)
{
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < overview->node_count; i++) {
        const struct wp_overview_node *node = &overview->nodes[i];
        json_array_append_new(nodes,
            json_pack("{s:s, s:i, s:s, s:s, s:b, s:b, s:b, s:o, s:b, s:i, s:i}", "node", node->name, "number",
                (int)node->number, "state", state_word(node->state), "endpoint", node->endpoint, "reachable",
                node->reachable, "forgotten", node->forgotten, "clock_off", node->clock_off, "offset_ms",
                node->has_offset ? json_integer((json_int_t)node->offset_ms) : json_null(), "disk_full",
                node->disk_full, "replicas", (int)node->replicas, "leads", (int)node->leads));
    }
    return nodes;
}

static json_t *leader_pack(const struct wp_overview *overview, const struct wp_overview_group *group)
{
    return group->leader ? json_string(wp_overview_name(overview, group->leader)) : json_null();
}

static json_t *members_pack(const struct wp_overview *overview, const struct wp_overview_group *group)
{
    json_t *members = json_array();
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct wp_overview_member *member = &group->members[i];
        json_array_append_new(members,
            json_pack("{s:s, s:s, s:b, s:b, s:o}", "node", wp_overview_name(overview, member->replica),
                "role", member->voter ? "voter" : "learner", "wanted", member->wanted, "reachable",
                member->reachable, "lag",
                member->has_lag ? json_integer((json_int_t)member->lag) : json_null()));
    }
    return members;
}

static json_t *groups_pack(const struct wp_overview *overview)
{
    json_t *groups = json_array();
    for (uint32_t number = 0; number <= overview->shard_count; number++) {
        const struct wp_overview_group *group = &overview->groups[number];
        uint64_t lag = 0;
        if (!group->known) {
            continue;
        }
        json_t *wanted = json_array();
        for (uint32_t i = 0; i < group->wanted_count; i++) {
            json_array_append_new(wanted, json_string(wp_overview_name(overview, group->wanted[i])));
        }
        json_t *slowest = wp_overview_lag(group, &lag) ? json_integer((json_int_t)lag) : json_null();
        json_array_append_new(
            groups, json_pack("{s:i, s:o, s:I, s:i, s:i, s:o, s:b, s:o, s:o}", "shard", (int)number, "leader",
                        leader_pack(overview, group), "term", (json_int_t)group->term, "in_step",
                        (int)wp_overview_in_step(group), "replicas", (int)group->wanted_count, "lag", slowest,
                        "moving", wp_overview_moving(group), "wanted", wanted, "members",
                        members_pack(overview, group)));
    }
    return groups;
}

json_t *admin_alarms_pack(const struct wp_judgement *judgement)
{
    json_t *alarms = json_array();
    for (uint32_t i = 0; i < judgement->alarm_count; i++) {
        const struct wp_alarm *alarm = &judgement->alarms[i];
        json_array_append_new(alarms, json_pack("{s:s, s:s, s:s}", "alarm", wp_alarm_word(alarm->kind),
                                          "subject", alarm->subject, "text", alarm->text));
    }
    return alarms;
}

struct admin_answer admin_cluster(struct wp_admin *admin)
{
    struct wp_overview *overview;
    struct wp_judgement *judgement = malloc(sizeof(*judgement));
    int error = judgement ? admin_overview(admin, &overview) : WP_E_NOMEM;
    if (error) {
        free(judgement);
        return admin_task_refusal(error);
    }
    wp_overview_judge(overview, judgement);
    struct admin_answer answer =
        admin_ok(200, json_pack("{s:s, s:s, s:I, s:i, s:i, s:b, s:s, s:o, s:o, s:o}", "cluster_id",
                          admin->config.cluster_id, "asked", admin->config.node, "roster_version",
                          (json_int_t)overview->roster_version, "feature_level", (int)overview->feature_level,
                          "replication", (int)overview->replication, "safe", judgement->safe, "summary",
                          judgement->summary, "alarms", admin_alarms_pack(judgement), "nodes",
                          nodes_pack(overview), "shards", groups_pack(overview)));
    free(judgement);
    free(overview);
    return answer;
}

/* --- transfer
 * ----------------------------------------------------------------------------------------------- */

struct transfer {
    uint32_t shard;
    uint32_t to;
    int error;
};

static void transfer_free(struct admin_task *task)
{
    free(task->data);
}

static void transfer_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    struct transfer *transfer = task->data;
    transfer->error = wp_reactor_transfer(reactor, transfer->shard, transfer->to);
    admin_job_finish(task);
}

static int transfer_perform(struct wp_admin *admin, uint32_t shard, uint32_t to, int *ret_outcome)
{
    struct transfer *transfer = calloc(1, sizeof(*transfer));
    struct admin_task *task =
        transfer ? admin_task_create(admin, transfer_run, transfer_free, transfer) : NULL;
    if (!task) {
        free(transfer);
        return WP_E_NOMEM;
    }
    *transfer = (struct transfer){shard, to, WP_OK};
    int error = admin_task_perform(task, UINT64_C(1) << admin_reactor_of(admin, shard));
    if (!error) {
        *ret_outcome = transfer->error;
    }
    admin_task_release(task);
    return error;
}

static const struct wp_overview_node *node_named(const struct wp_overview *overview, const char *name)
{
    for (uint32_t i = 0; i < overview->node_count; i++) {
        if (!strcmp(overview->nodes[i].name, name)) {
            return &overview->nodes[i];
        }
    }
    return NULL;
}

static struct admin_answer transfer_answer(
    struct wp_admin *admin, uint32_t shard, const char *name, int outcome)
{
    switch (outcome) {
    case WP_OK:
        return admin_ok(202, json_pack("{s:i, s:s}", "shard", (int)shard, "to", name));
    case WP_E_NOT_LEADER:
        return admin_not_leader(admin, shard);
    case WP_E_EXISTS:
        return admin_ok(200, json_pack("{s:i, s:s}", "shard", (int)shard, "to", name));
    case WP_E_NOT_FOUND:
        return admin_refusal(WP_E_EXISTS,
            "%s has no voting replica of shard %u: see wardpostctl shard list for those that have", name,
            shard);
    default:
        return admin_refusal(outcome,
            "shard %u cannot be handed to %s now: it is not reachable, or another hand-over is under way",
            shard, name);
    }
}

struct admin_answer admin_shard_transfer(struct wp_admin *admin, uint32_t shard, const char *name)
{
    struct wp_overview *overview;
    int error = admin_overview(admin, &overview);
    if (error) {
        return admin_task_refusal(error);
    }
    const struct wp_overview_node *node = node_named(overview, name);
    uint32_t to = node ? node->number : 0;
    free(overview);
    if (to == 0) {
        return admin_refusal(
            WP_E_NOT_FOUND, "there is no node \"%.80s\": see wardpostctl cluster status", name);
    }
    int outcome = WP_OK;
    error = transfer_perform(admin, shard, to, &outcome);
    return error ? admin_task_refusal(error) : transfer_answer(admin, shard, name, outcome);
}
