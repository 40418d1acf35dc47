/* Teams, for the operator: made, changed and listed at the shard of the team's name. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cluster/group.h"
#include "proto/frame.h"
#include "router/admin_state.h"

/* --- changes -----------------------------------------------------------------------------------------------
 */

struct change {
    struct wp_answer answer; /* first: the reactor gives it back */
    struct admin_task *task;
    uint8_t command; /* WP_COMMAND_TEAM_* */
    uint32_t shard;
    int error;
    char team[WP_NAME_SIZE_MAX + 1];
    char **users;
    size_t user_count;
};

static void change_free(struct admin_task *task)
{
    struct change *change = task->data;
    for (size_t i = 0; i < change->user_count; i++) {
        free(change->users[i]);
    }
    free(change->users);
    free(change);
}

static void change_answered(struct wp_answer *answer, uint32_t item, int error)
{
    (void)item;
    struct change *change = (struct change *)answer;
    change->error = error;
    admin_job_finish(change->task);
}

static void change_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    struct change *change = task->data;
    Wp__CommandTeamAdd team_add = WP__COMMAND_TEAM_ADD__INIT;
    Wp__CommandTeamRemove team_remove = WP__COMMAND_TEAM_REMOVE__INIT;
    Wp__CommandTeamMemberAdd member_add = WP__COMMAND_TEAM_MEMBER_ADD__INIT;
    Wp__CommandTeamMemberRemove member_remove = WP__COMMAND_TEAM_MEMBER_REMOVE__INIT;
    team_add.team = team_remove.team = member_add.team = member_remove.team = change->team;
    member_add.users = member_remove.users = change->users;
    member_add.n_users = member_remove.n_users = change->user_count;
    const ProtobufCMessage *message = change->command == WP_COMMAND_TEAM_ADD          ? &team_add.base
                                      : change->command == WP_COMMAND_TEAM_REMOVE     ? &team_remove.base
                                      : change->command == WP_COMMAND_TEAM_MEMBER_ADD ? &member_add.base
                                                                                      : &member_remove.base;
    change->answer.answered = change_answered;
    change->task = task;
    int error = wp_reactor_propose(reactor, change->shard, change->command, message, &change->answer, 0);
    if (error) {
        change->error = error;
        admin_job_finish(task);
    }
}

/* WP_OK, WP_E_NOMEM, WP_E_TOO_LARGE: more names than a team may have, or WP_E_INVALID: not a list of names.
 */
static int users_copy(struct change *change, const json_t *users)
{
    size_t count = json_array_size(users);
    if (count > WP_TEAM_MEMBERS_MAX) {
        return WP_E_TOO_LARGE;
    }
    change->users = calloc(count + 1, sizeof(*change->users));
    if (!change->users) {
        return WP_E_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(users, i));
        if (!name || !wp_address_valid(name)) {
            return WP_E_INVALID;
        }
        change->users[i] = strdup(name);
        if (!change->users[i]) {
            return WP_E_NOMEM;
        }
        change->user_count++;
    }
    return WP_OK;
}

static struct admin_answer change_refusal(const struct change *change, int error)
{
    switch (error) {
    case WP_E_EXISTS:
        return admin_refusal(error, "there is a team \"%s\" already", change->team);
    case WP_E_NOT_FOUND:
        return admin_refusal(error, "there is no team \"%s\"", change->team);
    case WP_E_UNKNOWN_RECIPIENT: /* MEMBER_REMOVE */
        return change->user_count == 1
                   ? admin_refusal(WP_E_NOT_FOUND, "nothing changed: \"%s\" is no member of team \"%s\"",
                         change->users[0], change->team)
                   : admin_refusal(WP_E_NOT_FOUND,
                         "nothing changed: none of these names is a member of team \"%s\"", change->team);
    case WP_E_FULL:
        return change->command == WP_COMMAND_TEAM_ADD
                   ? admin_refusal(error, "the shard has as many teams as it may have (%u)", WP_TEAMS_MAX)
                   : admin_refusal(
                         error, "a team has at most %u members; none was added", WP_TEAM_MEMBERS_MAX);
    case WP_E_INVALID:
        return admin_refusal(error, "the body must list valid names");
    case WP_E_TOO_LARGE:
        return admin_refusal(
            error, "a request may list at most %u names; nothing was changed", WP_TEAM_MEMBERS_MAX);
    case WP_E_TIMEOUT:
        return admin_refusal(error, "the shard did not answer in time; it may still do it");
    default:
        return admin_refusal(error, "not possible now: %s", wp_error_text(error));
    }
}

static struct admin_answer change_do(
    struct wp_admin *admin, uint8_t command, const char *team, const json_t *users)
{
    struct change *change = calloc(1, sizeof(*change));
    struct admin_task *task = change ? admin_task_create(admin, change_run, change_free, change) : NULL;
    if (!task) {
        free(change);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    change->command = command;
    change->shard = wp_shard_of(admin->config.hash_key, admin->config.shard_count, team);
    strncpy(change->team, team, WP_NAME_SIZE_MAX);
    int error = users_copy(change, users);
    struct admin_answer answer;
    if (error) {
        answer = change_refusal(change, error);
    } else if ((error = admin_task_perform(task, UINT64_C(1) << admin_reactor_of(admin, change->shard))) !=
               0) {
        answer = admin_task_refusal(error);
    } else if (change->error) {
        answer = change_refusal(change, change->error);
    } else {
        answer = admin_ok(command == WP_COMMAND_TEAM_ADD ? 201 : 200,
            json_pack("{s:s, s:i}", "team", team, "shard", (int)change->shard));
    }
    admin_task_release(task);
    return answer;
}

/* --- all teams ---------------------------------------------------------------------------------------------
 */

/* Each reactor's rows and shards; joined by the HTTP thread. */
struct teams_data {
    bool any;
    struct {
        json_t *rows;
        json_t *shards;
    } parts[64];
};

struct teams_walk {
    json_t *rows;
    uint32_t shard;
};

static void teams_free(struct admin_task *task)
{
    struct teams_data *data = task->data;
    for (size_t i = 0; i < sizeof(data->parts) / sizeof(*data->parts); i++) {
        json_decref(data->parts[i].rows);
        json_decref(data->parts[i].shards);
    }
    free(data);
}

static void team_each(void *context, const struct wp_team_view *view)
{
    struct teams_walk *walk = context;
    json_array_append_new(walk->rows,
        json_pack("{s:s, s:i, s:I, s:i, s:I}", "team", view->team, "members", (int)view->members, "epoch",
            (json_int_t)view->epoch, "shard", (int)walk->shard, "created_ms", (json_int_t)view->created_ms));
}

static void teams_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    struct teams_data *data = task->data;
    struct teams_walk walk = {.rows = json_array()};
    json_t *shards = json_array();
    for (uint32_t s = wp_reactor_shard_first(reactor); s; s = wp_reactor_shard_next(reactor, s)) {
        if (!data->any && !wp_group_leading(wp_reactor_group(reactor, s))) {
            continue;
        }
        walk.shard = s;
        json_array_append_new(shards, json_integer((json_int_t)s));
        wp_machine_teams_each(wp_reactor_machine(reactor, s), team_each, &walk);
    }
    data->parts[reactor_index % 64].rows = walk.rows;
    data->parts[reactor_index % 64].shards = shards;
    admin_job_finish(task);
}

static struct admin_answer teams_list(struct wp_admin *admin, bool any)
{
    struct teams_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, teams_run, teams_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    data->any = any;
    int error = admin_task_perform(task, admin_every_reactor(admin));
    struct admin_answer answer;
    if (error) {
        answer = admin_task_refusal(error);
    } else {
        json_t *rows = json_array();
        json_t *shards = json_array();
        for (size_t i = 0; i < sizeof(data->parts) / sizeof(*data->parts); i++) {
            json_array_extend(rows, data->parts[i].rows);
            json_array_extend(shards, data->parts[i].shards);
        }
        answer = admin_ok(
            200, json_pack("{s:s, s:o, s:o}", "node", admin->config.node, "shards", shards, "teams", rows));
    }
    admin_task_release(task);
    return answer;
}

/* --- members -----------------------------------------------------------------------------------------------
 */

struct members_data {
    char team[WP_NAME_SIZE_MAX + 1];
    uint32_t shard;
    bool any;
    int error;
    json_t *rows;
};

static void members_free(struct admin_task *task)
{
    struct members_data *data = task->data;
    json_decref(data->rows);
    free(data);
}

static void member_each(void *context, const char *user)
{
    json_array_append_new(context, json_string(user));
}

static void members_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    struct members_data *data = task->data;
    const struct wp_machine *machine = wp_reactor_machine(reactor, data->shard);
    bool leading = machine && wp_group_leading(wp_reactor_group(reactor, data->shard));
    data->rows = json_array();
    data->error = !machine || (!leading && !data->any)
                      ? WP_E_NOT_LEADER
                      : wp_machine_members_each(machine, data->team, member_each, data->rows);
    admin_job_finish(task);
}

static struct admin_answer members_list(struct wp_admin *admin, const char *team, bool any)
{
    struct members_data *data = calloc(1, sizeof(*data));
    struct admin_task *task = data ? admin_task_create(admin, members_run, members_free, data) : NULL;
    if (!task) {
        free(data);
        return admin_refusal(WP_E_NOMEM, "out of memory");
    }
    strncpy(data->team, team, WP_NAME_SIZE_MAX);
    data->any = any;
    data->shard = wp_shard_of(admin->config.hash_key, admin->config.shard_count, team);
    int error = admin_task_perform(task, UINT64_C(1) << admin_reactor_of(admin, data->shard));
    struct admin_answer answer = error                            ? admin_task_refusal(error)
                                 : data->error == WP_E_NOT_LEADER ? admin_not_leader(admin, data->shard)
                                 : data->error
                                     ? admin_refusal(data->error, "there is no team \"%s\"", team)
                                     : admin_ok(200, json_pack("{s:s, s:i, s:O}", "team", team, "shard",
                                                         (int)data->shard, "members", data->rows));
    admin_task_release(task);
    return answer;
}

/* --- routes ------------------------------------------------------------------------------------------------
 */

struct admin_answer admin_route_team(struct wp_admin *admin, const struct wp_management_request *request,
    const char *const *parts, size_t count, const json_t *body, bool any)
{
    const char *method = request->method;
    const char *name = count == 2 ? json_string_value(json_object_get(body, "team")) : parts[2];
    const json_t *add = json_object_get(body, "add");
    const json_t *remove = json_object_get(body, "remove");
    if (count == 2 && !strcmp(method, "GET")) {
        return teams_list(admin, any);
    }
    if (!name || !wp_address_valid(name)) {
        return admin_refusal(
            WP_E_INVALID, "\"%.80s\" is no name of a team: use 1 to 64 of a-z 0-9 . _ -", name ? name : "");
    }
    if (count == 2 && !strcmp(method, "POST")) {
        return change_do(admin, WP_COMMAND_TEAM_ADD, name, NULL);
    }
    if (count == 3 && !strcmp(method, "DELETE")) {
        return change_do(admin, WP_COMMAND_TEAM_REMOVE, name, NULL);
    }
    if (count == 4 && !strcmp(parts[3], "members") && !strcmp(method, "GET")) {
        return members_list(admin, name, any);
    }
    if (count == 4 && !strcmp(parts[3], "members") && !strcmp(method, "POST")) {
        return json_is_array(add)      ? change_do(admin, WP_COMMAND_TEAM_MEMBER_ADD, name, add)
               : json_is_array(remove) ? change_do(admin, WP_COMMAND_TEAM_MEMBER_REMOVE, name, remove)
                                       : admin_refusal(WP_E_INVALID,
                                             "the body must be {\"add\": [NAME]} or {\"remove\": [NAME]}");
    }
    return admin_refusal(WP_E_NOT_FOUND, "there is no request %s %.200s", method, request->path);
}
