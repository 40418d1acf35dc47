/* Why this file exists: the verbs that start and stop a whole cluster on this machine. Every test, demo and
 * benchmark uses them.
 *
 * Invariants
 * 1. One command at a time changes a playground: it holds DIR/.lock.
 * 2. playground.json names a process before anything waits for it: a command that is interrupted loses no
 * process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "ctl/command.h"
#include "ctl/file.h"
#include "ctl/layout.h"
#include "ctl/lifecycle.h"

#define TEXT_SIZE 1024
#define LOCK_TIMEOUT_MS 90000u
#define STOP_TIMEOUT_MS 10000u
#define KILL_TIMEOUT_MS 10000u

/* A playground that is being worked on. */
struct work {
    struct wp_playground playground;
    struct wp_operator *op;
    int lock; /* -1 = not held */
    char text[TEXT_SIZE];
};

static const struct ctl_column status_columns[] = {{"id", "NODE"}, {"pid", "PID"}, {"state", "STATE"},
    {"fabric", "FABRIC"}, {"mqtt", "MQTT"}, {"mqtts", "MQTTS"}, {"ws", "WS"}, {"wss", "WSS"},
    {"management", "MANAGEMENT"}, {"reason", "REASON"}, {NULL, NULL}};

/* -- work
 * -------------------------------------------------------------------------------------------------------- */

static int lock_take(struct work *work, const char *dir)
{
    char path[PATH_MAX];
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)LOCK_TIMEOUT_MS * 1000;
    snprintf(path, sizeof path, "%s/.lock", dir);
    work->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (work->lock < 0) {
        return ctl_fail(CTL_IO, "cannot open \"%s\": %s", path, strerror(errno));
    }
    while (flock(work->lock, LOCK_EX | LOCK_NB) != 0) {
        if (wp_clock_mono_us() >= end_us) {
            return ctl_fail(CTL_TEMPORARY, "another wardpostctl is working on \"%s\"", dir);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return CTL_OK;
}

static void work_close(struct work **work)
{
    if ((*work)->lock >= 0) {
        close((*work)->lock);
    }
    wp_operator_destroy(&(*work)->op);
    free(*work);
    *work = NULL;
}

static struct work *work_create(void)
{
    struct work *work = calloc(1, sizeof *work);
    if (!work) {
        ctl_fail(CTL_TEMPORARY, "out of memory");
        return NULL;
    }
    work->lock = -1;
    return work;
}

/* Reads the playground, under the lock when `lock` says so. Nothing is made where none is. */
static int work_open(const struct ctl_arguments *arguments, bool lock, struct work **ret_work)
{
    struct work *work = work_create();
    if (!work) {
        return CTL_TEMPORARY;
    }
    int error = wp_playground_load(arguments->dir, &work->playground, work->text, sizeof work->text);
    int status = error ? ctl_fail(ctl_exit_of(error), "%s", work->text) : CTL_OK;
    if (!status && lock) {
        status = lock_take(work, work->playground.dir);
        if (!status &&
            wp_playground_load(arguments->dir, &work->playground, work->text, sizeof work->text) != WP_OK) {
            status = ctl_fail(CTL_IO, "%s", work->text);
        }
    }
    if (!status && wp_operator_create(&work->playground, &work->op) != WP_OK) {
        status = ctl_fail(CTL_TEMPORARY, "out of memory");
    }
    if (status) {
        work_close(&work);
        return status;
    }
    *ret_work = work;
    return CTL_OK;
}

static int work_save(struct work *work)
{
    if (wp_playground_save(&work->playground, work->text, sizeof work->text) != WP_OK) {
        return ctl_fail(CTL_IO, "%s", work->text);
    }
    return CTL_OK;
}

/* The node that --node names. */
static int node_get(
    struct work *work, const struct ctl_arguments *arguments, struct wp_playground_node **ret_node)
{
    struct wp_playground_node *node = wp_playground_find(&work->playground, arguments->node);
    if (!node) {
        return ctl_fail(CTL_NOT_FOUND, "the playground has no node \"%s\": see wardpostctl playground status",
            arguments->node);
    }
    *ret_node = node;
    return CTL_OK;
}

/* -- up
 * ----------------------------------------------------------------------------------------------------------
 */

/* Starts what is down, waits for all of it. What was started here is ended again when one of them does not
 * come up. */
static int nodes_start(
    struct work *work, const struct ctl_arguments *arguments, struct wp_playground_node *only)
{
    bool started[WP_PLAYGROUND_NODES_MAX] = {false};
    struct wp_playground *playground = &work->playground;
    int error = WP_OK;
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        struct wp_playground_node *node = &playground->nodes[i];
        if ((only && node != only) || wp_playground_process_alive(&node->process)) {
            continue;
        }
        error = ctl_node_spawn(playground, node, arguments, work->text, sizeof work->text);
        started[i] = node->process.pid != 0;
        if (!error) {
            error = wp_playground_save(playground, work->text, sizeof work->text);
        }
    }
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        if (!only || &playground->nodes[i] == only) {
            error = ctl_node_ready_wait(playground, work->op, &playground->nodes[i], arguments->timeout_s,
                work->text, sizeof work->text);
        }
    }
    if (!error) {
        return CTL_OK;
    }
    int status = ctl_fail(CTL_UNAVAILABLE, "%s", work->text);
    for (unsigned i = 0; i < playground->node_count; i++) {
        struct wp_playground_process *process = &playground->nodes[i].process;
        if (started[i] && ctl_process_signal(process, SIGKILL) == WP_OK) {
            ctl_process_gone_wait(process, KILL_TIMEOUT_MS);
        }
        if (started[i]) {
            *process = (struct wp_playground_process){0};
        }
    }
    work_save(work);
    return status;
}

/* A playground keeps the shape that it was made with. */
static int shape_check(const struct work *work, const struct ctl_arguments *arguments)
{
    unsigned gateways = 0;
    for (unsigned i = 0; i < work->playground.node_count; i++) {
        gateways += work->playground.nodes[i].kind == WP_PLAYGROUND_GATEWAY;
    }
    if (arguments->gateways && arguments->gateways != gateways) {
        return ctl_fail(CTL_REFUSED, "\"%s\" was made with %u gateway(s): take another folder for %u",
            work->playground.dir, gateways, arguments->gateways);
    }
    return CTL_OK;
}

/* Makes the folder when there is no playground in it yet. */
static int up_open(const struct ctl_arguments *arguments, struct work *work)
{
    char dir[PATH_MAX];
    if (ctl_folder_make(arguments->dir, work->text, sizeof work->text) != WP_OK) {
        return ctl_fail(CTL_IO, "%s", work->text);
    }
    if (!realpath(arguments->dir, dir)) {
        return ctl_fail(CTL_IO, "cannot open \"%s\": %s", arguments->dir, strerror(errno));
    }
    int status = lock_take(work, dir);
    if (status) {
        return status;
    }
    int error = wp_playground_load(dir, &work->playground, work->text, sizeof work->text);
    if (error == WP_OK) {
        status = shape_check(work, arguments);
    } else if (error == WP_E_NOT_FOUND) {
        status = ctl_layout_make(dir, arguments, &work->playground, work->text, sizeof work->text);
        status = status ? ctl_fail((enum ctl_exit)status, "%s", work->text) : CTL_OK;
    } else {
        status = ctl_fail(ctl_exit_of(error), "%s", work->text);
    }
    if (!status && wp_operator_create(&work->playground, &work->op) != WP_OK) {
        status = ctl_fail(CTL_TEMPORARY, "out of memory");
    }
    return status;
}

/* All nodes with their state; the table has them in one list, JSON keeps the two that programs expect. */
static int status_print(struct work *work, const struct ctl_arguments *arguments, bool *ret_all_ready)
{
    json_t *root = wp_playground_json(&work->playground), *rows = json_array();
    size_t counts[2] = {0, 0};
    *ret_all_ready = true;
    for (unsigned i = 0; root && rows && i < work->playground.node_count; i++) {
        const struct wp_playground_node *node = &work->playground.nodes[i];
        json_t *list = json_object_get(root, node->kind == WP_PLAYGROUND_ROUTER ? "routers" : "gateways");
        json_t *row = json_array_get(list, counts[node->kind]++);
        char why[256];
        enum ctl_node_state state = ctl_node_state_get(work->op, node, why, sizeof why);
        json_object_set_new(row, "state", json_string(ctl_node_state_name(state)));
        json_object_set_new(row, "reason", why[0] ? json_string(why) : json_null());
        if (state == CTL_NODE_DOWN) {
            json_object_set_new(row, "pid", json_null());
        }
        json_array_append(rows, row);
        *ret_all_ready = *ret_all_ready && state == CTL_NODE_READY;
    }
    if (arguments->json) {
        ctl_print_json(root);
    } else {
        printf("playground %s (%s), cluster %s, certificate authority %s/ca.pem\n", work->playground.dir,
            work->playground.file_system, work->playground.cluster_id, work->playground.dir);
        ctl_print_table(rows, status_columns);
    }
    json_decref(rows);
    json_decref(root);
    return CTL_OK;
}

int ctl_playground_up(const struct ctl_arguments *arguments)
{
    struct work *work = work_create();
    if (!work) {
        return CTL_TEMPORARY;
    }
    bool ready;
    int status = up_open(arguments, work);
    if (!status && !arguments->no_start) {
        status = nodes_start(work, arguments, NULL);
    }
    if (!status) {
        status = status_print(work, arguments, &ready);
    }
    work_close(&work);
    return status;
}

/* -- down
 * -------------------------------------------------------------------------------------------------------- */

/* Ends the nodes of one kind: SIGTERM to all, then patience, then SIGKILL. One row per node in `rows`. */
static void kind_stop(struct work *work, enum wp_playground_kind kind, json_t *rows)
{
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)STOP_TIMEOUT_MS * 1000;
    bool signalled[WP_PLAYGROUND_NODES_MAX] = {false};
    for (unsigned i = 0; i < work->playground.node_count; i++) {
        const struct wp_playground_node *node = &work->playground.nodes[i];
        if (node->kind == kind) {
            signalled[i] = ctl_process_signal(&node->process, SIGTERM) == WP_OK;
            ctl_process_signal(&node->process, SIGCONT); /* one that was stopped could not end */
        }
    }
    for (unsigned i = 0; i < work->playground.node_count; i++) {
        struct wp_playground_node *node = &work->playground.nodes[i];
        if (node->kind != kind) {
            continue;
        }
        const char *result = "was down";
        if (signalled[i]) {
            uint64_t now_us = wp_clock_mono_us();
            result = "stopped";
            if (!ctl_process_gone_wait(
                    &node->process, now_us < end_us ? (unsigned)((end_us - now_us) / 1000) : 0)) {
                result = ctl_process_signal(&node->process, SIGKILL) == WP_OK ? "killed" : result;
                if (!ctl_process_gone_wait(&node->process, KILL_TIMEOUT_MS)) {
                    result = "still there";
                }
            }
        }
        json_array_append_new(rows, json_pack("{s:s, s:s}", "id", node->id, "result", result));
        if (strcmp(result, "still there") != 0) {
            node->process = (struct wp_playground_process){0};
        }
    }
}

int ctl_playground_down(const struct ctl_arguments *arguments)
{
    static const struct ctl_column columns[] = {{"id", "NODE"}, {"result", "RESULT"}, {NULL, NULL}};
    struct work *work;
    int status = work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    json_t *rows = json_array();
    kind_stop(work, WP_PLAYGROUND_GATEWAY, rows);
    kind_stop(work, WP_PLAYGROUND_ROUTER, rows);
    status = work_save(work);
    for (unsigned i = 0; i < work->playground.node_count && !status; i++) {
        if (work->playground.nodes[i].process.pid) {
            status = ctl_fail(
                CTL_UNAVAILABLE, "\"%s\" does not end, not even by SIGKILL", work->playground.nodes[i].id);
        }
    }
    if (arguments->json) {
        json_t *root = json_pack("{s:O}", "nodes", rows);
        ctl_print_json(root);
        json_decref(root);
    } else {
        ctl_print_table(rows, columns);
    }
    json_decref(rows);
    work_close(&work);
    return status;
}

/* -- single nodes
 * ------------------------------------------------------------------------------------------------ */

int ctl_playground_status(const struct ctl_arguments *arguments)
{
    struct work *work;
    bool ready;
    int status = work_open(arguments, false, &work);
    if (status) {
        return status;
    }
    status = status_print(work, arguments, &ready);
    work_close(&work);
    return status || ready ? status : CTL_UNAVAILABLE;
}

static void node_print(const struct ctl_arguments *arguments, const char *id, pid_t pid, const char *did)
{
    if (arguments->json) {
        json_t *root = json_pack("{s:s, s:i, s:s}", "node", id, "pid", (int)pid, "result", did);
        ctl_print_json(root);
        json_decref(root);
    } else {
        printf("%s (pid %d): %s\n", id, (int)pid, did);
    }
}

/* Whether a process that gets this signal and does not handle it goes on living. */
static bool signal_spares(int number)
{
    return number == SIGSTOP || number == SIGCONT || number == SIGTSTP || number == SIGHUP ||
           number == SIGUSR1 || number == SIGUSR2 || number == SIGCHLD || number == SIGURG ||
           number == SIGWINCH;
}

int ctl_playground_kill(const struct ctl_arguments *arguments)
{
    struct work *work;
    struct wp_playground_node *node = NULL;
    int status = work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    status = node_get(work, arguments, &node);
    pid_t pid = status ? 0 : node->process.pid;
    if (!status && ctl_process_signal(&node->process, arguments->signal) != WP_OK) {
        status = ctl_fail(CTL_REFUSED, "\"%s\" is not running", node->id);
    }
    if (!status && !signal_spares(arguments->signal)) {
        if (ctl_process_gone_wait(&node->process, KILL_TIMEOUT_MS)) {
            node->process = (struct wp_playground_process){0};
            status = work_save(work);
        } else {
            status = ctl_fail(CTL_TEMPORARY, "\"%s\" got the signal and still runs after 10 s", node->id);
        }
    }
    if (!status) {
        node_print(arguments, node->id, pid, node->process.pid ? "signalled" : "down");
    }
    work_close(&work);
    return status;
}

int ctl_playground_start(const struct ctl_arguments *arguments)
{
    struct work *work;
    struct wp_playground_node *node = NULL;
    int status = work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    status = node_get(work, arguments, &node);
    bool was_up = !status && wp_playground_process_alive(&node->process);
    if (!status) {
        status = nodes_start(work, arguments, node);
    }
    if (!status) {
        node_print(arguments, node->id, node->process.pid, was_up ? "was running" : "ready");
    }
    work_close(&work);
    return status;
}
