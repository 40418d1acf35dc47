/* Why this file exists: the verbs about teams are requests to the router that leads the shard of the team's
 * name. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "ctl/access.h"
#include "ctl/command.h"
#include "proto/address.h"

static int team_check(const char *name)
{
    return wp_address_valid(name)
               ? CTL_OK
               : ctl_fail(
                     CTL_USAGE, "\"%s\" is no name: use 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\"", name);
}

/* One request about `arguments->name`; `done` is said of it. */
static int change(const struct ctl_arguments *arguments, const char *method, const char *path, json_t *body,
    const char *done)
{
    struct ctl_access *access;
    int status = team_check(arguments->name);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        json_decref(body);
        return status;
    }
    json_t *answer = NULL;
    status = ctl_call(access, method, path, body, &answer);
    if (!status && arguments->json) {
        ctl_print_json(answer);
    } else if (!status) {
        printf("team %s %s\n", arguments->name, done);
    }
    json_decref(answer);
    ctl_access_close(&access);
    return status;
}

int ctl_team_add(const struct ctl_arguments *arguments)
{
    return change(arguments, "POST", "/v1/teams", json_pack("{s:s}", "team", arguments->name), "added");
}

int ctl_team_remove(const struct ctl_arguments *arguments)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/teams/%.64s", arguments->name);
    return change(arguments, "DELETE", path, NULL, "removed");
}

static int members_change(const struct ctl_arguments *arguments, const char *what)
{
    char path[128];
    json_t *users = json_array();
    for (unsigned i = 1; i < arguments->word_count; i++) {
        json_array_append_new(users, json_string(arguments->all_words[i]));
    }
    snprintf(path, sizeof path, "/v1/teams/%.64s/members", arguments->name);
    return change(arguments, "POST", path, json_pack("{s:o}", what, users), "changed");
}

int ctl_team_member_add(const struct ctl_arguments *arguments)
{
    return members_change(arguments, "add");
}

int ctl_team_member_remove(const struct ctl_arguments *arguments)
{
    return members_change(arguments, "remove");
}

int ctl_team_member_list(const struct ctl_arguments *arguments)
{
    struct ctl_access *access;
    char path[128];
    json_t *answer = NULL;
    int status = team_check(arguments->name);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(path, sizeof path, "/v1/teams/%s/members%s", arguments->name,
        arguments->socket ? "?replica=any" : "");
    status = ctl_call(access, "GET", path, NULL, &answer);
    if (!status && arguments->json) {
        ctl_print_json(answer);
    } else if (!status) {
        size_t i;
        const json_t *user;
        json_array_foreach(json_object_get(answer, "members"), i, user)
        {
            printf("%s\n", json_string_value(user));
        }
    }
    json_decref(answer);
    ctl_access_close(&access);
    return status;
}
