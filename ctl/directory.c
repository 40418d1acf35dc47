/* Why this file exists: the verbs about users and devices are requests to the cluster; here they are put into
 * words.
 *
 * A secret is printed once, when the device is made, and cannot be read again. In a playground it is also
 * kept in DIR/devices/USER/DEVICE, where `wardpost` looks for it; with --socket there is no playground. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "ctl/command.h"
#include "ctl/file.h"
#include "proto/address.h"

#define TEXT_SIZE 1024
#define PATH_SIZE 512
#define PAGE_COUNT 1000u

/* An open way to the cluster, and the words of the last error. */
struct access {
    struct wp_playground playground;
    struct wp_operator *op;
    char text[TEXT_SIZE];
};

static void access_close(struct access **access)
{
    wp_operator_destroy(&(*access)->op);
    free(*access);
    *access = NULL;
}

static int access_open(const struct ctl_arguments *arguments, struct access **ret_access)
{
    struct access *access = calloc(1, sizeof *access);
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
        access_close(&access);
        return status;
    }
    *ret_access = access;
    return CTL_OK;
}

/* One request; a refusal is printed. `body` is taken. */
static int call(
    struct access *access, const char *method, const char *path, json_t *body, json_t **ret_answer)
{
    int error =
        wp_operator_call(access->op, method, path, body, ret_answer, access->text, sizeof access->text);
    json_decref(body);
    return error ? ctl_fail(ctl_exit_of(error), "%s", access->text) : CTL_OK;
}

/* "." and ".." are names on the wire, but no names of files. */
static bool name_good(const char *name)
{
    return wp_address_valid(name) && strspn(name, ".") != strlen(name);
}

static int user_check(const char *name)
{
    if (name_good(name)) {
        return CTL_OK;
    }
    return ctl_fail(CTL_USAGE,
        "\"%s\" is no name: use 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\", not dots alone", name);
}

static int device_check(const char *name, char user[WP_NAME_SIZE_MAX + 1], char device[WP_NAME_SIZE_MAX + 1])
{
    if (wp_address_split(name, strlen(name), user, device) == WP_OK && name_good(user) && name_good(device)) {
        return CTL_OK;
    }
    return ctl_fail(CTL_USAGE,
        "\"%s\" is no USER/DEVICE: each part is 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\", not dots alone",
        name);
}

/* -- users
 * ------------------------------------------------------------------------------------------------------- */

int ctl_user_add(const struct ctl_arguments *arguments)
{
    struct access *access;
    int status = user_check(arguments->name);
    status = status ? status : access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = call(access, "POST", "/v1/users", json_pack("{s:s}", "user", arguments->name), NULL);
    if (!status && arguments->json) {
        json_t *root = json_pack("{s:s}", "user", arguments->name);
        ctl_print_json(root);
        json_decref(root);
    } else if (!status) {
        printf("user %s added\n", arguments->name);
    }
    access_close(&access);
    return status;
}

/* Appends one page to `rows`; ret_last names its last user while more follow, else it is empty. */
static int users_page(struct access *access, char ret_last[WP_NAME_SIZE_MAX + 1], json_t *rows)
{
    char path[256];
    json_t *answer;
    snprintf(path, sizeof path, "/v1/users?after=%s&limit=%u", ret_last, PAGE_COUNT);
    int status = call(access, "GET", path, NULL, &answer);
    if (status) {
        return status;
    }
    json_array_extend(rows, json_object_get(answer, "users"));
    const json_t *last = json_array_get(rows, json_array_size(rows) - 1);
    const char *name = json_string_value(json_object_get(last, "user"));
    bool more = json_is_true(json_object_get(answer, "more")) && name;
    snprintf(ret_last, WP_NAME_SIZE_MAX + 1, "%s", more ? name : "");
    json_decref(answer);
    return CTL_OK;
}

int ctl_user_list(const struct ctl_arguments *arguments)
{
    static const struct ctl_column columns[] = {{"user", "USER"}, {"devices", "DEVICES"},
        {"queued", "WAITING (STAT/URGENT/ROUTINE)"}, {"bytes", "BYTES"}, {"shard", "SHARD"},
        {"created_ms", "CREATED"}, {NULL, NULL}};
    struct access *access;
    int status = access_open(arguments, &access);
    if (status) {
        return status;
    }
    char last[WP_NAME_SIZE_MAX + 1] = "";
    json_t *rows = json_array();
    do {
        status = users_page(access, last, rows);
    } while (!status && last[0]);
    if (!status && arguments->json) {
        json_t *root = json_pack("{s:O}", "users", rows);
        ctl_print_json(root);
        json_decref(root);
    } else if (!status) {
        ctl_print_table(rows, columns);
    }
    json_decref(rows);
    access_close(&access);
    return status;
}

/* -- devices
 * ----------------------------------------------------------------------------------------------------- */

static void secret_path(
    const struct access *access, const char *user, const char *device, char *ret_path, size_t path_size)
{
    snprintf(ret_path, path_size, "%s/devices/%s%s%s", access->playground.dir, user, device ? "/" : "",
        device ? device : "");
}

static int secret_save(struct access *access, const char *user, const char *device, const char *secret,
    char *ret_path, size_t path_size)
{
    char line[300];
    secret_path(access, user, NULL, ret_path, path_size);
    int error = ctl_folder_make(ret_path, access->text, sizeof access->text);
    secret_path(access, user, device, ret_path, path_size);
    snprintf(line, sizeof line, "%s\n", secret);
    error =
        error ? error : ctl_file_write(ret_path, 0600, line, strlen(line), access->text, sizeof access->text);
    explicit_bzero(line, sizeof line);
    return error;
}

static void device_print(const struct ctl_arguments *arguments, const char *secret, const char *path)
{
    if (arguments->json) {
        json_t *root =
            json_pack("{s:s, s:s, s:s*}", "username", arguments->name, "secret", secret, "file", path);
        ctl_print_json(root);
        json_decref(root);
        return;
    }
    printf("device %s added\nusername  %s\nsecret    %s\n", arguments->name, arguments->name, secret);
    if (path) {
        printf("kept in   %s\n", path);
    } else {
        printf("This is the only time that the secret is shown.\n");
    }
}

int ctl_device_add(const struct ctl_arguments *arguments)
{
    char user[WP_NAME_SIZE_MAX + 1], device[WP_NAME_SIZE_MAX + 1], path[WP_PLAYGROUND_PATH_SIZE + 160],
        request[128];
    struct access *access;
    json_t *answer = NULL;
    int status = device_check(arguments->name, user, device);
    status = status ? status : access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(request, sizeof request, "/v1/users/%s/devices", user);
    status = call(access, "POST", request, json_pack("{s:s}", "device", device), &answer);
    if (status) {
        access_close(&access);
        return status;
    }
    const char *secret = json_string_value(json_object_get(answer, "secret"));
    if (!secret) {
        status = ctl_fail(CTL_UNAVAILABLE, "the router's answer holds no secret");
    } else {
        bool keep = !arguments->no_save && !arguments->socket;
        int error = keep ? secret_save(access, user, device, secret, path, sizeof path) : WP_OK;
        /* Printed even when it could not be kept: it exists nowhere else. */
        device_print(arguments, secret, keep && !error ? path : NULL);
        status = error ? ctl_fail(CTL_IO, "%s", access->text) : CTL_OK;
    }
    json_decref(answer);
    access_close(&access);
    return status;
}

int ctl_device_list(const struct ctl_arguments *arguments)
{
    static const struct ctl_column columns[] = {{"device", "DEVICE"}, {"attached", "CONNECTED"},
        {"subscribed", "SUBSCRIBED"}, {"pending", "WAITING (STAT/URGENT/ROUTINE)"},
        {"set_aside", "SET ASIDE"}, {"created_ms", "CREATED"}, {NULL, NULL}};
    char path[128];
    struct access *access;
    json_t *answer = NULL;
    int status = user_check(arguments->name);
    status = status ? status : access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(path, sizeof path, "/v1/users/%s/devices", arguments->name);
    status = call(access, "GET", path, NULL, &answer);
    if (!status && arguments->json) {
        ctl_print_json(answer);
    } else if (!status) {
        ctl_print_table(json_object_get(answer, "devices"), columns);
    }
    json_decref(answer);
    access_close(&access);
    return status;
}

int ctl_device_remove(const struct ctl_arguments *arguments)
{
    char user[WP_NAME_SIZE_MAX + 1], device[WP_NAME_SIZE_MAX + 1], path[WP_PLAYGROUND_PATH_SIZE + 160],
        request[256];
    struct access *access;
    int status = device_check(arguments->name, user, device);
    status = status ? status : access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(request, sizeof request, "/v1/users/%s/devices/%s", user, device);
    status = call(access, "DELETE", request, NULL, NULL);
    if (!status && !arguments->socket) {
        secret_path(access, user, device, path, sizeof path);
        if (unlink(path) != 0 && errno != ENOENT) {
            status = ctl_fail(
                CTL_IO, "the device is removed, its secret \"%s\" is not: %s", path, strerror(errno));
        }
    }
    if (!status && arguments->json) {
        json_t *root = json_pack("{s:s}", "removed", arguments->name);
        ctl_print_json(root);
        json_decref(root);
    } else if (!status) {
        printf("device %s removed\n", arguments->name);
    }
    access_close(&access);
    return status;
}

/* -- cluster
 * ----------------------------------------------------------------------------------------------------- */

/* An array of objects as a table of the first one's own keys. */
static void list_print(const char *heading, const json_t *list)
{
    struct ctl_column columns[12] = {{NULL, NULL}};
    json_t *first = json_array_get(list, 0), *cell;
    const char *name;
    unsigned count = 0;
    json_object_foreach(first, name, cell)
    {
        if (count + 1 < sizeof columns / sizeof columns[0]) {
            columns[count++] = (struct ctl_column){name, name};
        }
    }
    printf("\n%s\n", heading);
    ctl_print_table(list, columns);
}

/* Whatever the router tells: plain values as lines, then each list. */
static void object_print(json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (!json_is_array(value)) {
            printf("%-20s  %s\n", key, json_is_string(value) ? json_string_value(value) : text ? text : "-");
        }
        free(text);
    }
    json_object_foreach(object, key, value)
    {
        if (json_array_size(value)) {
            list_print(key, value);
        }
    }
}

int ctl_status(const struct ctl_arguments *arguments)
{
    struct access *access;
    json_t *answer = NULL;
    int status = access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = call(access, "GET", "/v1/status", NULL, &answer);
    if (!status && arguments->json) {
        ctl_print_json(answer);
    } else if (!status) {
        object_print(answer);
    }
    json_decref(answer);
    access_close(&access);
    return status;
}
