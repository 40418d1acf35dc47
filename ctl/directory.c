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
#include "ctl/access.h"
#include "ctl/command.h"
#include "ctl/file.h"
#include "proto/address.h"

#define PATH_SIZE 512

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
    struct ctl_access *access;
    int status = user_check(arguments->name);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_call(access, "POST", "/v1/users", json_pack("{s:s}", "user", arguments->name), NULL);
    if (!status && arguments->json) {
        json_t *root = json_pack("{s:s}", "user", arguments->name);
        ctl_print_json(root);
        json_decref(root);
    } else if (!status) {
        printf("user %s added\n", arguments->name);
    }
    ctl_access_close(&access);
    return status;
}

/* -- devices
 * ----------------------------------------------------------------------------------------------------- */

static void secret_path(
    const struct ctl_access *access, const char *user, const char *device, char *ret_path, size_t path_size)
{
    snprintf(ret_path, path_size, "%s/devices/%s%s%s", access->playground.dir, user, device ? "/" : "",
        device ? device : "");
}

static int secret_save(struct ctl_access *access, const char *user, const char *device, const char *secret,
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
    struct ctl_access *access;
    json_t *answer = NULL;
    int status = device_check(arguments->name, user, device);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(request, sizeof request, "/v1/users/%s/devices", user);
    json_t *body = json_pack("{s:s}", "device", device);
    if (arguments->from) {
        json_object_set_new(body, "from_oldest", json_boolean(strcmp(arguments->from, "oldest") == 0));
    }
    status = ctl_call(access, "POST", request, body, &answer);
    if (status) {
        ctl_access_close(&access);
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
    ctl_access_close(&access);
    return status;
}

/* From the leader; over the socket of one router that does not lead, what its own replica holds. */
static int devices_get(struct ctl_access *access, const char *path, json_t **ret_answer)
{
    char any[160];
    int error =
        wp_operator_call(access->op, "GET", path, NULL, ret_answer, access->text, sizeof access->text);
    if (error != WP_E_NOT_LEADER || access->playground.node_count > 0) {
        return error ? ctl_fail(ctl_exit_of(error), "%s", access->text) : CTL_OK;
    }
    fprintf(stderr, "wardpostctl: %s; this is what the router asked here holds\n", access->text);
    snprintf(any, sizeof any, "%s?replica=any", path);
    return ctl_call(access, "GET", any, NULL, ret_answer);
}

int ctl_device_list(const struct ctl_arguments *arguments)
{
    static const struct ctl_column columns[] = {{"device", "DEVICE"}, {"attached", "CONNECTED"},
        {"subscribed", "SUBSCRIBED"}, {"receipts", "RECEIPTS"}, {"pending", "WAITING (STAT/URGENT/ROUTINE)"},
        {"set_aside", "SET ASIDE"}, {"created_ms", "CREATED"}, {NULL, NULL}};
    char path[128];
    struct ctl_access *access;
    json_t *answer = NULL;
    int status = user_check(arguments->name);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(path, sizeof path, "/v1/users/%s/devices", arguments->name);
    status = devices_get(access, path, &answer);
    if (!status && arguments->json) {
        ctl_print_json(answer);
    } else if (!status) {
        ctl_print_table(json_object_get(answer, "devices"), columns);
    }
    json_decref(answer);
    ctl_access_close(&access);
    return status;
}

int ctl_device_remove(const struct ctl_arguments *arguments)
{
    char user[WP_NAME_SIZE_MAX + 1], device[WP_NAME_SIZE_MAX + 1], path[WP_PLAYGROUND_PATH_SIZE + 160],
        request[256];
    struct ctl_access *access;
    int status = device_check(arguments->name, user, device);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(request, sizeof request, "/v1/users/%s/devices/%s", user, device);
    status = ctl_call(access, "DELETE", request, NULL, NULL);
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
    ctl_access_close(&access);
    return status;
}
