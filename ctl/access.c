/* Why this file exists: see access.h. */
#include "ctl/access.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

/* Patience with one router among several: one that is stopped takes the connection and says nothing. */
#define STATUS_TIMEOUT_MS 3000L

void ctl_access_close(struct ctl_access **access)
{
    wp_operator_destroy(&(*access)->op);
    free(*access);
    *access = NULL;
}

int ctl_access_open(const struct ctl_arguments *arguments, struct ctl_access **ret_access)
{
    struct ctl_access *access = calloc(1, sizeof *access);
    if (!access) {
        return ctl_fail(CTL_TEMPORARY, "out of memory");
    }
    int error = WP_OK;
    if (arguments->socket) {
        error = wp_operator_create_at(arguments->socket, &access->op);
        snprintf(access->text, sizeof access->text, "--socket \"%.100s\": %s", arguments->socket,
            wp_error_text(error));
    } else {
        error = wp_playground_load(arguments->dir, &access->playground, access->text, sizeof access->text);
    }
    if (!error && !arguments->socket) {
        snprintf(access->text, sizeof access->text, "out of memory");
        error = wp_operator_create(&access->playground, &access->op);
    }
    if (error) {
        int status = ctl_fail(ctl_exit_of(error), "%s", access->text);
        ctl_access_close(&access);
        return status;
    }
    *ret_access = access;
    return CTL_OK;
}

int ctl_call(
    struct ctl_access *access, const char *method, const char *path, json_t *body, json_t **ret_answer)
{
    int error =
        wp_operator_call(access->op, method, path, body, ret_answer, access->text, sizeof access->text);
    json_decref(body);
    return error ? ctl_fail(ctl_exit_of(error), "%s", access->text) : CTL_OK;
}

/* Why a router among others gave no answer. */
static const char *silence_text(int error, const char *text)
{
    switch (error) {
    case WP_E_CLOSED:
        return "down";
    case WP_E_TIMEOUT:
        return "does not answer";
    default:
        return text;
    }
}

int ctl_call_all(struct ctl_access *access, const char *path, json_t **ret_all)
{
    json_t *answers = json_array(), *silent = json_array();
    int last = WP_E_CLOSED;
    for (unsigned i = 0; i < wp_operator_router_count(access->op); i++) {
        json_t *answer = NULL;
        int error = wp_operator_call_router(
            access->op, i, STATUS_TIMEOUT_MS, "GET", path, NULL, &answer, access->text, sizeof access->text);
        if (!error) {
            json_array_append_new(answers, answer);
            continue;
        }
        last = error;
        json_array_append_new(silent, json_pack("{s:s, s:s}", "node", wp_operator_router_name(access->op, i),
                                          "reason", silence_text(error, access->text)));
    }
    if (json_array_size(answers) == 0) {
        json_decref(answers);
        json_decref(silent);
        return ctl_fail(ctl_exit_of(last), "%s", access->text);
    }
    *ret_all = json_pack("{s:o, s:o}", "answers", answers, "silent", silent);
    return *ret_all ? CTL_OK : ctl_fail(CTL_TEMPORARY, "out of memory");
}
