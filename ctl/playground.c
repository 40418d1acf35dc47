/* Why this file exists: the verbs that start and stop a whole cluster on this machine. Every test, demo and
 * benchmark uses them. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "ctl/command.h"
#include "ctl/file.h"
#include "ctl/layout.h"
#include "ctl/lifecycle.h"
#include "ctl/work.h"

#define STOP_TIMEOUT_MS 10000u
#define KILL_TIMEOUT_MS 10000u

static const struct ctl_column status_columns[] = {{"id", "NODE"}, {"pid", "PID"}, {"state", "STATE"},
    {"fabric", "FABRIC"}, {"mqtt", "MQTT"}, {"mqtts", "MQTTS"}, {"ws", "WS"}, {"wss", "WSS"},
    {"management", "MANAGEMENT"}, {"reason", "REASON"}, {NULL, NULL}};

/* -- nodes
 * ------ */

/* The node that --node names. */
static int node_get(
    struct ctl_work *work, const struct ctl_arguments *arguments, struct wp_playground_node **ret_node)
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

/* A playground keeps the shape that it was made with. */
static int shape_check(const struct ctl_work *work, const struct ctl_arguments *arguments)
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
static int up_open(const struct ctl_arguments *arguments, struct ctl_work *work)
{
    char dir[PATH_MAX];
    if (ctl_folder_make(arguments->dir, work->text, sizeof work->text) != WP_OK) {
        return ctl_fail(CTL_IO, "%s", work->text);
    }
    if (!realpath(arguments->dir, dir)) {
        return ctl_fail(CTL_IO, "cannot open \"%s\": %s", arguments->dir, strerror(errno));
    }
    int status = ctl_work_lock(work, dir);
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
static int status_print(struct ctl_work *work, const struct ctl_arguments *arguments, bool *ret_all_ready)
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
        bool over = node->removed && state == CTL_NODE_DOWN;
        json_object_set_new(row, "state", json_string(over ? "removed" : ctl_node_state_name(state)));
        json_object_set_new(row, "reason", why[0] ? json_string(why) : json_null());
        if (state == CTL_NODE_DOWN) {
            json_object_set_new(row, "pid", json_null());
        }
        json_array_append(rows, row);
        *ret_all_ready = *ret_all_ready && (node->removed || state == CTL_NODE_READY);
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
    struct ctl_work *work = ctl_work_create();
    if (!work) {
        return CTL_TEMPORARY;
    }
    bool ready;
    int status = up_open(arguments, work);
    if (!status && !arguments->no_start) {
        status = ctl_work_start(work, arguments, NULL);
    }
    if (!status) {
        status = status_print(work, arguments, &ready);
    }
    ctl_work_close(&work);
    return status;
}

/* -- down
 * -------------------------------------------------------------------------------------------------------- */

/* Ends the nodes of one kind: SIGTERM to all, then patience, then SIGKILL. One row per node in `rows`. */
static void kind_stop(struct ctl_work *work, enum wp_playground_kind kind, json_t *rows)
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
    struct ctl_work *work;
    int status = ctl_work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    json_t *rows = json_array();
    kind_stop(work, WP_PLAYGROUND_GATEWAY, rows);
    kind_stop(work, WP_PLAYGROUND_ROUTER, rows);
    status = ctl_work_save(work);
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
    ctl_work_close(&work);
    return status;
}

/* -- single nodes
 * ------------------------------------------------------------------------------------------------ */

int ctl_playground_status(const struct ctl_arguments *arguments)
{
    struct ctl_work *work;
    bool ready;
    int status = ctl_work_open(arguments, false, &work);
    if (status) {
        return status;
    }
    status = status_print(work, arguments, &ready);
    ctl_work_close(&work);
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
    struct ctl_work *work;
    struct wp_playground_node *node = NULL;
    int status = ctl_work_open(arguments, true, &work);
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
            status = ctl_work_save(work);
        } else {
            status = ctl_fail(CTL_TEMPORARY, "\"%s\" got the signal and still runs after 10 s", node->id);
        }
    }
    if (!status) {
        node_print(arguments, node->id, pid, node->process.pid ? "signalled" : "down");
    }
    ctl_work_close(&work);
    return status;
}

int ctl_playground_start(const struct ctl_arguments *arguments)
{
    struct ctl_work *work;
    struct wp_playground_node *node = NULL;
    int status = ctl_work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    status = node_get(work, arguments, &node);
    bool was_up = !status && wp_playground_process_alive(&node->process);
    if (!status) {
        status = ctl_work_start(work, arguments, node);
    }
    if (!status) {
        node_print(arguments, node->id, node->process.pid, was_up ? "was running" : "ready");
    }
    ctl_work_close(&work);
    return status;
}
