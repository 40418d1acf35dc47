/* /v1/policies: what holds for all routers, kept by the meta group. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "router/admin_meta.h"
#include "router/policy.h"
#include "router/reactor_meta.h"

/* --- the roster of this router
 * --- */

struct policies {
    struct wp_roster *roster; /* one reference; NULL until the job ran */
};

static void policies_free(struct admin_task *task)
{
    struct policies *policies = task->data;
    wp_roster_release(&policies->roster);
    free(policies);
}

static void policies_run(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index)
{
    (void)reactor_index;
    ((struct policies *)task->data)->roster = wp_roster_retain(wp_reactor_roster(reactor));
    admin_job_finish(task);
}

/* One reference for the caller. WP_E_NOMEM, errors of admin_task_perform. */
static int roster_get(struct wp_admin *admin, struct wp_roster **ret_roster)
{
    struct policies *policies = calloc(1, sizeof(*policies));
    struct admin_task *task =
        policies ? admin_task_create(admin, policies_run, policies_free, policies) : NULL;
    if (!task) {
        free(policies);
        return WP_E_NOMEM;
    }
    int error = admin_task_perform(task, 1); /* reactor 0 */
    if (!error) {
        *ret_roster = wp_roster_retain(policies->roster);
    }
    admin_task_release(task);
    return error;
}

/* --- list
 * --- */

static json_t *policies_pack(const struct wp_roster *roster)
{
    json_t *rows = json_array();
    for (int i = 0; i < WP_POLICY_COUNT; i++) {
        enum wp_policy policy = (enum wp_policy)i;
        char value[WP_POLICY_VALUE_SIZE], values[WP_POLICY_VALUE_SIZE];
        wp_policy_text(roster, policy, value);
        wp_policy_values(policy, values);
        json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:s}", "policy", wp_policy_name(policy), "value", value,
                      "values", values, "meaning", wp_policy_meaning(policy)));
    }
    return rows;
}

static struct admin_answer policy_list(struct wp_admin *admin)
{
    struct wp_roster *roster = NULL;
    int error = roster_get(admin, &roster);
    struct admin_answer answer = error ? admin_task_refusal(error)
                                       : admin_ok(200, json_pack("{s:o}", "policies", policies_pack(roster)));
    wp_roster_release(&roster);
    return answer;
}

/* --- set
 * --- */

static struct admin_answer policy_set(struct wp_admin *admin, const char *name, const json_t *body)
{
    const char *value = json_string_value(json_object_get(body, "value"));
    struct admin_change asked = {0};
    struct admin_answer refusal;
    struct wp_roster *roster = NULL;
    enum wp_policy policy;
    int error = wp_policy_check(name, value ? value : "", &policy);
    if (error == WP_E_NOT_FOUND) {
        return admin_refusal(error, "there is no policy \"%.40s\": see wardpostctl policy list", name);
    }
    if (error) {
        char values[WP_POLICY_VALUE_SIZE];
        wp_policy_values(policy, values);
        return admin_refusal(error, "%s may be: %s", name, values);
    }
    error = roster_get(admin, &roster);
    if (error) {
        return admin_task_refusal(error);
    }
    const char *clash = wp_policy_clash(roster, policy, value);
    wp_roster_release(&roster);
    if (clash) {
        return admin_refusal(WP_E_INVALID, "%s: see wardpostctl policy list", clash);
    }
    snprintf(asked.name, sizeof(asked.name), "%s", name);
    snprintf(asked.value, sizeof(asked.value), "%s", value);
    return admin_change_perform(admin, WP_META_POLICY, &asked, &refusal)
               ? refusal
               : admin_ok(200, json_pack("{s:s, s:s}", "policy", name, "value", asked.value));
}

struct admin_answer admin_policies(
    struct wp_admin *admin, const char *method, const char *name, const json_t *body)
{
    if (!strcmp(method, "GET") && !name) {
        return policy_list(admin);
    }
    if (!strcmp(method, "POST") && name) {
        return policy_set(admin, name, body);
    }
    return admin_refusal(WP_E_NOT_FOUND, "there is no such request about policies");
}
