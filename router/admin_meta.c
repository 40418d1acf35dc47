/* Requests that change who belongs to the cluster: each is one command of the meta group, proposed from
 * reactor 0 of whichever router was asked. What the group refuses is put into words here, with what to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "router/admin_meta.h"
#include "router/reactor_meta.h"

#define ROSTER_WAITS 20u
#define ROSTER_WAIT_MS 10L
#define BUSY_RETRIES 12u
#define BUSY_PAUSE_MS 200L

/* One command on its way. Names are turned into numbers by the roster of the moment, on the reactor. */
struct change {
    struct wp_answer answer; /* first: the reactor gives it back */
    struct admin_task *task;
    uint8_t command;
    struct admin_change asked;
    uint64_t version;   /* of the roster here before */
    int error;          /* outcome */
    char sentence[384]; /* of a refusal that was found before the log; else empty */
};

static void change_free(struct admin_task *task)
{
    free(task->data);
}

static void change_answered(struct wp_answer *answer, uint32_t item, int error)
{
    (void)item;
    struct change *change = (struct change *)answer;
    change->error = error;
    admin_job_finish(change->task);
}

__attribute__((format(printf, 3, 4))) static int refuse(
    struct change *change, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(change->sentence, sizeof(change->sentence), format, arguments);
    va_end(arguments);
    return error;
}

static const struct wp_roster_node *node_get(
    struct change *change, const struct wp_roster *roster, const char *name)
{
    const struct wp_roster_node *node = wp_roster_node_named(roster, name);
    if (!node || node->state == WP_NODE_REMOVED) {
        (void)refuse(change, WP_E_NOT_FOUND, "there is no router \"%.64s\": see wardpostctl node list", name);
        return NULL;
    }
    return node;
}

/* --- the commands: each proposes, or answers an error
 * -------------------------------------------------------------
 */

static int propose_node_add(struct change *change, struct wp_reactor *reactor)
{
    struct admin_change *asked = &change->asked;
    Wp__MetaNodeAdd command = WP__META_NODE_ADD__INIT;
    command.name = asked->name;
    command.endpoint = asked->endpoint;
    command.key = asked->key;
    command.reactors = asked->reactors;
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

/* Which nodes can be reached, by place in the roster. WP_OK or WP_E_NOMEM. */
static int reach_look(struct wp_reactor *reactor, struct wp_plan_view *ret_view)
{
    struct wp_plan_group *groups = calloc(wp_reactor_roster(reactor)->shard_count + 1, sizeof(*groups));
    if (!groups) {
        return WP_E_NOMEM;
    }
    wp_reactor_plan_view(reactor, groups, ret_view);
    free(groups);
    ret_view->groups = NULL;
    return WP_OK;
}

/* What drains needs others that are there to take it. */
static int drain_check(
    struct change *change, struct wp_reactor *reactor, const struct wp_roster_node *leaving)
{
    struct wp_plan_view view;
    uint32_t active = 0, takers = 0;
    if (reach_look(reactor, &view)) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < view.roster->node_count; i++) {
        const struct wp_roster_node *node = &view.roster->nodes[i];
        bool other = node != leaving && node->state == WP_NODE_ACTIVE;
        active += other;
        takers += other && view.reachable[i];
    }
    if (leaving->state != WP_NODE_ACTIVE || active < view.roster->replication ||
        takers >= view.roster->replication) {
        return WP_OK; /* that, the meta group judges */
    }
    return refuse(change, WP_E_DENIED,
        "only %u of the other active routers can be reached, and %u copies of each shard need as many: start "
        "those that are down, or replace them, first",
        takers, view.roster->replication);
}

static int propose_node_state(struct change *change, struct wp_reactor *reactor)
{
    const struct wp_roster_node *node = node_get(change, wp_reactor_roster(reactor), change->asked.name);
    Wp__MetaNodeState command = WP__META_NODE_STATE__INIT;
    if (!node) {
        return WP_E_NOT_FOUND;
    }
    uint32_t replicas = wp_roster_replica_count(wp_reactor_roster(reactor), node->number);
    if (change->asked.state == WP_NODE_REMOVED && replicas > 0) {
        return refuse(change, WP_E_DENIED,
            "%s has replicas of %u shards: wardpostctl node drain it first, or node replace it when it is "
            "dead",
            node->name, replicas);
    }
    command.number = node->number;
    command.state = change->asked.state;
    int error = command.state == WP_NODE_DRAINING ? drain_check(change, reactor, node) : WP_OK;
    if (error) {
        return error;
    }
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

static int propose_node_replace(struct change *change, struct wp_reactor *reactor)
{
    const struct wp_roster *roster = wp_reactor_roster(reactor);
    const struct wp_roster_node *node = node_get(change, roster, change->asked.name);
    const struct wp_roster_node *by =
        node && change->asked.to[0] ? node_get(change, roster, change->asked.to) : NULL;
    Wp__MetaNodeReplace command = WP__META_NODE_REPLACE__INIT;
    if (!node || (change->asked.to[0] && !by)) {
        return WP_E_NOT_FOUND;
    }
    if (by == node) {
        return refuse(change, WP_E_INVALID, "%s cannot be put in the place of itself", node->name);
    }
    struct wp_plan_view view;
    if (reach_look(reactor, &view)) {
        return WP_E_NOMEM;
    }
    if (view.reachable[node - roster->nodes]) {
        return refuse(change, WP_E_DENIED,
            "%s is up: replace is for a router that is dead; wardpostctl node drain moves its replicas away",
            node->name);
    }
    command.number = node->number;
    command.by = by ? by->number : 0;
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

/* What speaks against the move, before it is planned. */
static int move_check(struct change *change, const struct wp_plan_view *view,
    const struct wp_roster_node *from, const struct wp_roster_node *to)
{
    uint32_t group = change->asked.shard;
    const struct wp_roster *roster = view->roster;
    if (!wp_roster_replica(roster, group, from->number)) {
        return refuse(change, WP_E_DENIED, "shard %u has no replica on %s: see wardpostctl shard list", group,
            from->name);
    }
    if (wp_roster_replica(roster, group, to->number)) {
        return refuse(change, WP_E_DENIED, "shard %u has a replica on %s already", group, to->name);
    }
    if (to->state != WP_NODE_ACTIVE) {
        return refuse(change, WP_E_DENIED, "%s is draining and takes no replicas: wardpostctl node revive %s",
            to->name, to->name);
    }
    if (!view->reachable[to - roster->nodes]) {
        return refuse(change, WP_E_UNAVAILABLE, "%s cannot be reached: nothing can be moved to it", to->name);
    }
    if (wp_plan_moving(view, group)) {
        return refuse(
            change, WP_E_UNAVAILABLE, "shard %u is moving already, or has no leader: wait for it", group);
    }
    if (!wp_plan_majority(view, group, from->number)) {
        return refuse(change, WP_E_DENIED,
            "without its replica on %s, shard %u would have no majority that can be reached: bring the "
            "routers that are down back first",
            from->name, group);
    }
    return WP_OK;
}

static int propose_move(struct change *change, struct wp_reactor *reactor)
{
    const struct wp_roster *roster = wp_reactor_roster(reactor);
    const struct wp_roster_node *from = node_get(change, roster, change->asked.name);
    const struct wp_roster_node *to = from ? node_get(change, roster, change->asked.to) : NULL;
    if (!from || !to) {
        return WP_E_NOT_FOUND;
    }
    struct wp_plan_group *groups = calloc(roster->shard_count + 1, sizeof(*groups));
    struct wp_plan_view view;
    if (!groups) {
        return WP_E_NOMEM;
    }
    wp_reactor_plan_view(reactor, groups, &view);
    int error = move_check(change, &view, from, to);
    free(groups);
    if (error) {
        return error;
    }
    struct wp_plan plan;
    wp_plan_move(roster, change->asked.shard, from->number, to->number, &plan);
    Wp__MetaWantedSet command = WP__META_WANTED_SET__INIT;
    command.group = change->asked.shard;
    command.ids = plan.wanted.ids;
    command.n_ids = plan.wanted.count;
    command.version = roster->version;
    return plan.kind == WP_PLAN_WANTED
               ? wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0)
               : WP_E_DENIED;
}

static int propose_gateway_add(struct change *change, struct wp_reactor *reactor)
{
    Wp__MetaGateway command = WP__META_GATEWAY__INIT;
    command.name = change->asked.name;
    command.key = change->asked.key;
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

static int propose_gateway_revoke(struct change *change, struct wp_reactor *reactor)
{
    Wp__MetaGatewayRevoke command = WP__META_GATEWAY_REVOKE__INIT;
    command.name = change->asked.name;
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

static int propose_policy(struct change *change, struct wp_reactor *reactor)
{
    Wp__MetaPolicy command = WP__META_POLICY__INIT;
    command.key = change->asked.name;
    command.value = change->asked.value;
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

static int propose_level(struct change *change, struct wp_reactor *reactor)
{
    Wp__MetaFeatureLevel command = WP__META_FEATURE_LEVEL__INIT;
    command.level = change->asked.level;
    return wp_reactor_meta_propose(reactor, change->command, &command.base, &change->answer, 0);
}

static void change_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    static int (*const proposers[])(struct change * change, struct wp_reactor * reactor) = {
        [WP_META_NODE_ADD] = propose_node_add,
        [WP_META_NODE_STATE] = propose_node_state,
        [WP_META_NODE_REPLACE] = propose_node_replace,
        [WP_META_WANTED_SET] = propose_move,
        [WP_META_GATEWAY_ADD] = propose_gateway_add,
        [WP_META_GATEWAY_REVOKE] = propose_gateway_revoke,
        [WP_META_FEATURE_LEVEL] = propose_level,
        [WP_META_POLICY] = propose_policy,
    };
    (void)reactor_index;
    struct change *change = task->data;
    change->answer.answered = change_answered;
    change->task = task;
    change->version = wp_reactor_roster(reactor)->version;
    int error = proposers[change->command](change, reactor);
    if (error) {
        change->error = error;
        admin_job_finish(task);
    }
}

/* --- in words
 * -----------------------------------------------------------------------------------------------
 */

static const char *sentence_of(const struct change *change)
{
    static const struct {
        uint8_t command;
        int error;
        const char *sentence;
    } rows[] = {
        {WP_META_NODE_ADD, WP_E_EXISTS, "a router of this name or with this key is there already"},
        {WP_META_NODE_ADD, WP_E_FULL, "the cluster has as many routers as it may have: remove one first"},
        {WP_META_NODE_ADD, WP_E_INVALID,
            "the endpoint must be tcp://HOST:PORT and the key the public one of 40 characters"},
        {WP_META_NODE_STATE, WP_E_BUSY,
            "replicas are still on it, or a shard has no leader now: wardpostctl node drain it first and "
            "wait"},
        {WP_META_NODE_REPLACE, WP_E_DENIED,
            "too few active routers would remain for the replicas of each shard: wardpostctl node add "
            "another "
            "one first"},
        {WP_META_WANTED_SET, WP_E_UNAVAILABLE, "the cluster changed meanwhile, try again"},
        {WP_META_WANTED_SET, WP_E_DENIED, "the replica cannot be moved there"},
        {WP_META_GATEWAY_ADD, WP_E_EXISTS, "a gateway of this name or with this key is there already"},
        {WP_META_GATEWAY_ADD, WP_E_FULL, "the cluster has as many gateways as it may have"},
        {WP_META_GATEWAY_ADD, WP_E_INVALID, "the key must be the public one of 40 characters"},
        {WP_META_GATEWAY_REVOKE, WP_E_NOT_FOUND, "there is no such gateway: see wardpostctl gateway list"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (rows[i].command == change->command && rows[i].error == change->error) {
            return rows[i].sentence;
        }
    }
    if (change->command == WP_META_NODE_STATE && change->error == WP_E_DENIED) {
        return change->asked.state == WP_NODE_REMOVED
                   ? "it is active: wardpostctl node drain it first, or node replace a dead one"
                   : "too few active routers would remain for the replicas of each shard: wardpostctl node "
                     "add "
                     "another one first";
    }
    switch (change->error) {
    case WP_E_NOT_LEADER:
    case WP_E_UNAVAILABLE:
    case WP_E_CLOSED:
        return "the meta group has no leader now: try again, or see wardpostctl cluster status";
    case WP_E_TIMEOUT:
        return "the meta group did not answer within 5 seconds; it may still do it";
    default:
        return wp_error_text(change->error);
    }
}

static struct admin_answer change_refusal(const struct change *change)
{
    if (change->sentence[0]) {
        return admin_refusal(change->error, "%s", change->sentence);
    }
    /* Which router asks whom is no matter of the operator's. */
    int error = change->error == WP_E_NOT_LEADER ? WP_E_UNAVAILABLE : change->error;
    const char *name = change->asked.name;
    return admin_refusal(error, "%s%s%s", name, name[0] ? ": " : "", sentence_of(change));
}

/* Waits a moment until this router knows what was decided elsewhere, so that who asked sees it here. A
 * command that changed nothing makes no new roster: then the wait is for nothing, and short. */
static void roster_wait(struct wp_admin *admin, uint64_t version)
{
    bool newer = false;
    for (uint32_t i = 0; i < ROSTER_WAITS && !newer; i++) {
        struct wp_overview *overview;
        if (admin_overview(admin, &overview)) {
            return;
        }
        newer = overview->roster_version > version;
        free(overview);
        if (!newer) {
            nanosleep(&(struct timespec){.tv_nsec = ROSTER_WAIT_MS * 1000000L}, NULL);
        }
    }
}

static int change_perform(struct wp_admin *admin, uint8_t command, const struct admin_change *asked,
    struct admin_answer *ret_refusal)
{
    struct change *change = calloc(1, sizeof(*change));
    struct admin_task *task = change ? admin_task_create(admin, change_run, change_free, change) : NULL;
    if (!task) {
        free(change);
        *ret_refusal = admin_refusal(WP_E_NOMEM, "out of memory");
        return WP_E_NOMEM;
    }
    change->command = command;
    change->asked = *asked;
    int error = admin_task_perform(task, 1);
    if (error) {
        *ret_refusal = admin_task_refusal(error);
    } else if (change->error) {
        error = change->error;
        *ret_refusal = change_refusal(change);
    }
    uint64_t version = error ? 0 : change->version;
    admin_task_release(task);
    if (!error) {
        roster_wait(admin, version);
    }
    return error;
}

int admin_change_perform(struct wp_admin *admin, uint8_t command, const struct admin_change *asked,
    struct admin_answer *ret_refusal)
{
    int error = change_perform(admin, command, asked, ret_refusal);
    /* What is known of other routers' groups is up to a second old: a replica that just left still counts. */
    for (uint32_t i = 0; i < BUSY_RETRIES && error == WP_E_BUSY; i++) {
        json_decref(ret_refusal->body);
        nanosleep(&(struct timespec){.tv_nsec = BUSY_PAUSE_MS * 1000000L}, NULL);
        error = change_perform(admin, command, asked, ret_refusal);
    }
    return error;
}
