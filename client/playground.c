/* Why this file exists: a started cluster is described in one place, so that every command finds the same
 * processes.
 *
 * Invariants
 * 1. The file is replaced by rename: a reader sees the old one or the new one, never a part.
 * 2. A process counts as ours only when number, start time and boot all agree. */
#include "client/playground.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

#define FILE_NAME "playground.json"
#define FILE_VERSION 1

static const char *const port_names[WP_PLAYGROUND_PORT_COUNT] = {
    [WP_PLAYGROUND_FABRIC] = "fabric",
    [WP_PLAYGROUND_MQTT] = "mqtt",
    [WP_PLAYGROUND_MQTTS] = "mqtts",
    [WP_PLAYGROUND_WS] = "ws",
    [WP_PLAYGROUND_WSS] = "wss",
    [WP_PLAYGROUND_MANAGEMENT] = "management",
};

static const char *const list_names[] = {
    [WP_PLAYGROUND_ROUTER] = "routers",
    [WP_PLAYGROUND_GATEWAY] = "gateways",
};

/* -- reading
 * ----------------------------------------------------------------------------------------------------- */

/* Copies the string at `key`; false when it is missing, no string or too long. */
static bool string_read(const json_t *object, const char *key, char *out, size_t out_size)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && (size_t)snprintf(out, out_size, "%s", value) < out_size;
}

static bool unsigned_read(
    const json_t *object, const char *key, unsigned lowest, unsigned highest, unsigned *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < (json_int_t)lowest || number > (json_int_t)highest) {
        return false;
    }
    *out = (unsigned)number;
    return true;
}

static bool endpoint_read(const json_t *object, const char *key, uint16_t *out)
{
    const char *text = json_string_value(json_object_get(object, key));
    const char *colon = text ? strrchr(text, ':') : NULL;
    if (!colon) {
        return false;
    }
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 1 || port > UINT16_MAX) {
        return false;
    }
    *out = (uint16_t)port;
    return true;
}

static bool port_used(enum wp_playground_kind kind, unsigned port)
{
    return port == WP_PLAYGROUND_MANAGEMENT ||
           (port == WP_PLAYGROUND_FABRIC) == (kind == WP_PLAYGROUND_ROUTER);
}

static bool node_read(const json_t *object, enum wp_playground_kind kind, struct wp_playground_node *node)
{
    node->kind = kind;
    if (!string_read(object, "id", node->id, sizeof node->id)) {
        return false;
    }
    for (unsigned port = 0; port < WP_PLAYGROUND_PORT_COUNT; port++) {
        if (port_used(kind, port) && !endpoint_read(object, port_names[port], &node->ports[port])) {
            return false;
        }
    }
    node->joined = json_is_true(json_object_get(object, "joined"));
    node->removed = json_is_true(json_object_get(object, "removed"));
    const json_t *pid = json_object_get(object, "pid");
    if (json_is_null(pid)) {
        return true;
    }
    const json_t *ticks = json_object_get(object, "start_ticks");
    if (!json_is_integer(pid) || json_integer_value(pid) <= 1 || json_integer_value(pid) > INT_MAX ||
        !json_is_integer(ticks) ||
        !string_read(object, "boot", node->process.boot, sizeof node->process.boot)) {
        return false;
    }
    node->process.pid = (pid_t)json_integer_value(pid);
    node->process.start_ticks = (uint64_t)json_integer_value(ticks);
    return true;
}

static bool nodes_read(
    const json_t *root, enum wp_playground_kind kind, unsigned count_max, struct wp_playground *playground)
{
    const json_t *list = json_object_get(root, list_names[kind]);
    if (!json_is_array(list) || json_array_size(list) > count_max) {
        return false;
    }
    size_t i;
    json_t *object;
    json_array_foreach(list, i, object)
    {
        if (!node_read(object, kind, &playground->nodes[playground->node_count])) {
            return false;
        }
        playground->node_count++;
    }
    return true;
}

static bool playground_read(const json_t *root, struct wp_playground *playground)
{
    unsigned version;
    playground->allow_volatile = json_is_true(json_object_get(root, "allow_volatile"));
    return unsigned_read(root, "version", FILE_VERSION, FILE_VERSION, &version) &&
           string_read(root, "cluster_id", playground->cluster_id, sizeof playground->cluster_id) &&
           string_read(root, "file_system", playground->file_system, sizeof playground->file_system) &&
           unsigned_read(root, "shards", 1, 1024, &playground->shards) &&
           unsigned_read(root, "reactors", 1, 64, &playground->reactors) &&
           nodes_read(root, WP_PLAYGROUND_ROUTER, WP_PLAYGROUND_ROUTERS_MAX, playground) &&
           nodes_read(root, WP_PLAYGROUND_GATEWAY, WP_PLAYGROUND_GATEWAYS_MAX, playground);
}

int wp_playground_load(
    const char *dir, struct wp_playground *ret_playground, char *ret_text, size_t text_size)
{
    char absolute[PATH_MAX], path[PATH_MAX + sizeof FILE_NAME + 1];
    if (!realpath(dir, absolute)) {
        if (errno == ENOENT || errno == ENOTDIR) {
            snprintf(ret_text, text_size, "no playground in \"%s\": start one with wardpostctl playground up",
                dir);
            return WP_E_NOT_FOUND;
        }
        snprintf(ret_text, text_size, "cannot open \"%s\": %s", dir, strerror(errno));
        return WP_E_IO;
    }
    snprintf(path, sizeof path, "%s/%s", absolute, FILE_NAME);
    if (access(path, F_OK) != 0) {
        snprintf(
            ret_text, text_size, "no playground in \"%s\": start one with wardpostctl playground up", dir);
        return WP_E_NOT_FOUND;
    }
    json_error_t where;
    json_t *root = json_load_file(path, 0, &where);
    if (!root) {
        snprintf(ret_text, text_size, "%s:%d: %s", path, where.line, where.text);
        return WP_E_CONFIG;
    }
    *ret_playground = (struct wp_playground){.node_count = 0};
    bool good = playground_read(root, ret_playground) &&
                (size_t)snprintf(ret_playground->dir, sizeof ret_playground->dir, "%s", absolute) <
                    sizeof ret_playground->dir;
    json_decref(root);
    if (!good) {
        snprintf(ret_text, text_size, "\"%s\" is not a playground file of version %d", path, FILE_VERSION);
        return WP_E_CONFIG;
    }
    return WP_OK;
}

/* -- writing
 * ----------------------------------------------------------------------------------------------------- */

static json_t *node_json(const struct wp_playground *playground, const struct wp_playground_node *node)
{
    char text[WP_PLAYGROUND_PATH_SIZE];
    bool started = node->process.pid != 0;
    json_t *object = json_pack(
        "{s:s, s:o}", "id", node->id, "pid", started ? json_integer(node->process.pid) : json_null());
    for (unsigned port = 0; port < WP_PLAYGROUND_PORT_COUNT; port++) {
        if (port_used(node->kind, port)) {
            wp_playground_endpoint(node, port, text);
            json_object_set_new(object, port_names[port], json_string(text));
        }
    }
    if (node->joined) {
        json_object_set_new(object, "joined", json_true());
    }
    if (node->removed) {
        json_object_set_new(object, "removed", json_true());
    }
    if (node->kind == WP_PLAYGROUND_ROUTER &&
        wp_playground_path(playground, node, "admin.sock", text, sizeof text) == WP_OK) {
        json_object_set_new(object, "socket", json_string(text));
    }
    if (wp_playground_path(playground, node, "log", text, sizeof text) == WP_OK) {
        json_object_set_new(object, "log", json_string(text));
    }
    if (started) {
        json_object_set_new(object, "start_ticks", json_integer((json_int_t)node->process.start_ticks));
        json_object_set_new(object, "boot", json_string(node->process.boot));
    }
    return object;
}

json_t *wp_playground_json(const struct wp_playground *playground)
{
    char ca[WP_PLAYGROUND_PATH_SIZE + 16];
    snprintf(ca, sizeof ca, "%s/ca.pem", playground->dir);
    json_t *root = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:i, s:b, s:[], s:[]}", "version", FILE_VERSION,
        "dir", playground->dir, "cluster_id", playground->cluster_id, "file_system", playground->file_system,
        "ca", ca, "shards", (int)playground->shards, "reactors", (int)playground->reactors, "allow_volatile",
        (int)playground->allow_volatile, "routers", "gateways");
    for (unsigned i = 0; root && i < playground->node_count; i++) {
        const struct wp_playground_node *node = &playground->nodes[i];
        if (json_array_append_new(
                json_object_get(root, list_names[node->kind]), node_json(playground, node)) != 0) {
            json_decref(root);
            root = NULL;
        }
    }
    return root;
}

static int text_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return WP_E_IO;
    }
    size_t size = strlen(text);
    bool good = write(fd, text, size) == (ssize_t)size && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    return close(fd) == 0 && good ? WP_OK : WP_E_IO;
}

int wp_playground_save(const struct wp_playground *playground, char *ret_text, size_t text_size)
{
    char path[WP_PLAYGROUND_PATH_SIZE + 32], fresh[WP_PLAYGROUND_PATH_SIZE + 40];
    snprintf(path, sizeof path, "%s/%s", playground->dir, FILE_NAME);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    json_t *root = wp_playground_json(playground);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text) {
        snprintf(ret_text, text_size, "out of memory while writing \"%s\"", path);
        return WP_E_NOMEM;
    }
    int error = text_write(fresh, text);
    free(text);
    if (error || rename(fresh, path) != 0) {
        snprintf(ret_text, text_size, "cannot write \"%s\": %s", path, strerror(errno));
        return WP_E_IO;
    }
    return WP_OK;
}

/* -- parts
 * ------------------------------------------------------------------------------------------------------- */

struct wp_playground_node *wp_playground_find(struct wp_playground *playground, const char *id)
{
    for (unsigned i = 0; i < playground->node_count; i++) {
        if (strcmp(playground->nodes[i].id, id) == 0) {
            return &playground->nodes[i];
        }
    }
    return NULL;
}

void wp_playground_endpoint(
    const struct wp_playground_node *node, enum wp_playground_port port, char ret_text[32])
{
    snprintf(ret_text, 32, "127.0.0.1:%u", (unsigned)node->ports[port]);
}

int wp_playground_path(const struct wp_playground *playground, const struct wp_playground_node *node,
    const char *name, char *ret_path, size_t path_size)
{
    int size = snprintf(
        ret_path, path_size, "%s/%s%s%s", playground->dir, node->id, name ? "/" : "", name ? name : "");
    return size >= 0 && (size_t)size < path_size ? WP_OK : WP_E_TOO_LARGE;
}

/* First line of a file of /proc, without its end; false when there is none. */
static bool line_read(const char *path, char *line, size_t line_size)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    bool good = fgets(line, (int)line_size, file) != NULL;
    fclose(file);
    if (good) {
        line[strcspn(line, "\n")] = '\0';
    }
    return good;
}

/* A process whose first thread has ended still holds its files and locks while another thread is in the kernel, as
 * for the sync that it was killed in. */
static bool threads_left(pid_t pid)
{
    char path[64];
    struct stat info;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return stat(path, &info) == 0 && info.st_nlink > 3; /* ".", ".." and the first thread */
}

int wp_playground_process_read(pid_t pid, struct wp_playground_process *ret_process)
{
    char path[64], line[1024], state;
    struct wp_playground_process process = {.pid = pid};
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (pid <= 0 || !line_read(path, line, sizeof line)) {
        return WP_E_NOT_FOUND;
    }
    /* The name in brackets may hold spaces and brackets itself: fields are counted from the last one. */
    const char *rest = strrchr(line, ')');
    if (!rest || sscanf(rest + 1,
                     " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
                     &state, &process.start_ticks) != 2) {
        return WP_E_NOT_FOUND;
    }
    if (state == 'X' || (state == 'Z' && !threads_left(pid))) {
        return WP_E_NOT_FOUND;
    }
    if (!line_read("/proc/sys/kernel/random/boot_id", process.boot, sizeof process.boot)) {
        return WP_E_NOT_FOUND;
    }
    *ret_process = process;
    return WP_OK;
}

bool wp_playground_process_alive(const struct wp_playground_process *process)
{
    struct wp_playground_process now;
    return process->pid > 0 && wp_playground_process_read(process->pid, &now) == WP_OK &&
           now.start_ticks == process->start_ticks && strcmp(now.boot, process->boot) == 0;
}
