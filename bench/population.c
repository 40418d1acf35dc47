#include "bench/population.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "client/operator.h"
#include "proto/address.h"

#define PROVISION_AT_ONCE 1000u

static int secrets_path(const struct wp_playground *playground, char *path, size_t size)
{
    char dir[WP_PLAYGROUND_PATH_SIZE + 16];
    snprintf(dir, sizeof dir, "%s/bench", playground->dir);
    mkdir(dir, 0700); /* it may be there; opening the file below tells when it is not */
    int length = snprintf(path, size, "%s/secrets.json", dir);
    return length > 0 && (size_t)length < size ? WP_OK : WP_E_TOO_LARGE;
}

static int secrets_save(const char *path, const json_t *secrets, char *ret_text, size_t text_size)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.new", path) < 0) {
        return WP_E_NOMEM;
    }
    mode_t mask = umask(077);
    int failed = json_dump_file(secrets, temporary, JSON_COMPACT);
    umask(mask);
    failed = failed || rename(temporary, path) != 0;
    free(temporary);
    if (failed) {
        snprintf(ret_text, text_size, "cannot write \"%s\"", path);
    }
    return failed ? WP_E_IO : WP_OK;
}

/* A device whose secret is not known here is removed, so that it can be made again. */
static int stranger_remove(struct wp_operator *op, const char *user, char *ret_text, size_t text_size)
{
    char path[200];
    snprintf(path, sizeof path, "/v1/users/%s/devices/d", user);
    int error = wp_operator_call(op, "DELETE", path, NULL, NULL, ret_text, text_size);
    return error == WP_E_NOT_FOUND ? WP_OK : error;
}

static int provision_once(struct wp_operator *op, json_t *users, json_t *secrets, json_t **ret_errors,
    char *ret_text, size_t text_size)
{
    json_t *body = json_pack("{s:O}", "users", users);
    json_t *answer = NULL, *row;
    size_t i;
    int error = wp_operator_call(op, "POST", "/v1/provision", body, &answer, ret_text, text_size);
    json_decref(body);
    if (error) {
        return error;
    }
    json_array_foreach(json_object_get(answer, "devices"), i, row)
    {
        const char *username = json_string_value(json_object_get(row, "username"));
        if (username) {
            json_object_set(secrets, username, json_object_get(row, "secret"));
        }
    }
    *ret_errors = json_incref(json_object_get(answer, "errors"));
    json_decref(answer);
    return WP_OK;
}

static int provision(struct wp_operator *op, json_t *users, json_t *secrets, char *ret_text, size_t text_size)
{
    json_t *errors = NULL, *row;
    size_t i;
    int error = provision_once(op, users, secrets, &errors, ret_text, text_size);
    json_t *again = json_array();
    json_array_foreach(errors, i, row)
    {
        const char *username = json_string_value(json_object_get(row, "username"));
        const char *slug = json_string_value(json_object_get(row, "error"));
        if (error || !username || !slug || strcmp(slug, "exists") != 0) {
            snprintf(
                ret_text, text_size, "cannot make \"%s\": %s", username ? username : "?", slug ? slug : "?");
            error = error ? error : WP_E_DENIED;
            break;
        }
        char user[160];
        snprintf(user, sizeof user, "%.*s", (int)strcspn(username, "/"), username);
        error = stranger_remove(op, user, ret_text, text_size);
        json_array_append_new(again, json_pack("{s:s,s:[s]}", "user", user, "devices", "d"));
    }
    json_decref(errors);
    errors = NULL;
    if (!error && json_array_size(again) > 0) {
        error = provision_once(op, again, secrets, &errors, ret_text, text_size);
        if (!error && json_array_size(errors) > 0) {
            snprintf(ret_text, text_size, "the router refuses to make devices again that were removed");
            error = WP_E_DENIED;
        }
        json_decref(errors);
    }
    json_decref(again);
    return error;
}

static int missing_make(const struct wp_playground *playground, const char *prefix, uint32_t count,
    json_t *secrets, uint32_t *ret_made, char *ret_text, size_t text_size)
{
    struct wp_operator *op = NULL;
    int error = wp_operator_create(playground, &op);
    json_t *users = json_array();
    *ret_made = 0;
    for (uint32_t i = 0; i < count && !error; i++) {
        char user[64], username[80];
        snprintf(user, sizeof user, "%s-%05u", prefix, i);
        snprintf(username, sizeof username, "%s/d", user);
        if (!json_object_get(secrets, username)) {
            json_array_append_new(users, json_pack("{s:s,s:[s]}", "user", user, "devices", "d"));
        }
        bool last = i + 1 == count;
        if (json_array_size(users) >= PROVISION_AT_ONCE || (last && json_array_size(users) > 0)) {
            fprintf(stderr, "\rmaking users %u of %u ", i + 1, count);
            *ret_made += (uint32_t)json_array_size(users);
            error = provision(op, users, secrets, ret_text, text_size);
            json_array_clear(users);
        }
    }
    if (*ret_made > 0) {
        fputc('\n', stderr);
    }
    json_decref(users);
    wp_operator_destroy(&op);
    return error;
}

int wp_population_prepare(const struct wp_playground *playground, const char *prefix, uint32_t count,
    struct wp_bench_identity **ret_identities, char *ret_text, size_t text_size)
{
    char path[WP_PLAYGROUND_PATH_SIZE + 32];
    uint32_t made = 0;
    int error = secrets_path(playground, path, sizeof path);
    if (error) {
        return error;
    }
    json_t *secrets = json_load_file(path, 0, NULL);
    if (!json_is_object(secrets)) {
        json_decref(secrets);
        secrets = json_object();
    }
    error = missing_make(playground, prefix, count, secrets, &made, ret_text, text_size);
    if (made > 0) {
        /* Also after an error: what was made must be known to the next run. */
        int saved = secrets_save(path, secrets, ret_text, text_size);
        error = error ? error : saved;
    }
    struct wp_bench_identity *identities = error ? NULL : calloc(count, sizeof *identities);
    for (uint32_t i = 0; identities && i < count; i++) {
        struct wp_bench_identity *identity = &identities[i];
        snprintf(identity->username, sizeof identity->username, "%s-%05u/d", prefix, i);
        const char *secret = json_string_value(json_object_get(secrets, identity->username));
        snprintf(identity->secret, sizeof identity->secret, "%s", secret ? secret : "");
    }
    json_decref(secrets);
    if (!error && !identities) {
        error = WP_E_NOMEM;
    }
    if (!error) {
        *ret_identities = identities;
    }
    return error;
}

static int member_names(const struct wp_bench_identity *identities, uint32_t count, json_t *names)
{
    for (uint32_t i = 0; i < count; i++) {
        char user[WP_NAME_SIZE_MAX + 1], device[WP_NAME_SIZE_MAX + 1];
        const char *username = identities[i].username;
        if (wp_address_split(username, strlen(username), user, device) ||
            json_array_append_new(names, json_string(user))) {
            return WP_E_NOMEM;
        }
    }
    return WP_OK;
}

int wp_population_team(const struct wp_playground *playground, const char *team,
    const struct wp_bench_identity *const members[2], const uint32_t counts[2], char *ret_text,
    size_t text_size)
{
    struct wp_operator *op;
    char path[128];
    json_t *names = json_array();
    snprintf(ret_text, text_size, "out of memory");
    int error = wp_operator_create(playground, &op);
    for (int i = 0; i < 2 && !error; i++) {
        error = member_names(members[i], counts[i], names);
    }
    if (!error) {
        json_t *body = json_pack("{s:s}", "team", team);
        snprintf(path, sizeof path, "/v1/teams/%s", team);
        (void)wp_operator_call(op, "DELETE", path, NULL, NULL, ret_text, text_size); /* of an earlier run */
        error = wp_operator_call(op, "POST", "/v1/teams", body, NULL, ret_text, text_size);
        json_decref(body);
    }
    if (!error) {
        json_t *body = json_pack("{s:O}", "add", names);
        snprintf(path, sizeof path, "/v1/teams/%s/members", team);
        error = wp_operator_call(op, "POST", path, body, NULL, ret_text, text_size);
        json_decref(body);
    }
    json_decref(names);
    wp_operator_destroy(&op);
    return error;
}
