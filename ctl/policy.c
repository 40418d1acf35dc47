/* Why this file exists: the verbs about choices that hold for all routers. */
#include <stdio.h>

#include "ctl/goal.h"
#include "proto/address.h"

int ctl_policy_list(const struct ctl_arguments *arguments)
{
    static const struct ctl_column columns[] = {
        {"policy", "POLICY"}, {"value", "VALUE"}, {"values", "MAY BE"}, {"meaning", "MEANING"}, {NULL, NULL}};
    struct ctl_access *access;
    json_t *answer;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_call(access, "GET", "/v1/policies", NULL, &answer);
    if (!status) {
        if (arguments->json) {
            ctl_print_json(answer);
        } else {
            ctl_print_table(json_object_get(answer, "policies"), columns);
        }
        json_decref(answer);
    }
    ctl_access_close(&access);
    return status;
}

int ctl_policy_set(const struct ctl_arguments *arguments)
{
    char path[160], done[256];
    const char *value = arguments->words[1];
    if (!wp_address_valid(arguments->name)) {
        return ctl_fail(
            CTL_NOT_FOUND, "there is no policy \"%s\": see wardpostctl policy list", arguments->name);
    }
    snprintf(path, sizeof path, "/v1/policies/%s", arguments->name);
    snprintf(done, sizeof done, "%s is %s from now on, on every router", arguments->name, value);
    return ctl_change(arguments, path, json_pack("{s:s}", "value", value), NULL, done);
}
