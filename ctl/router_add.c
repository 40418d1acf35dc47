/* Why this file exists: one command makes a playground bigger by a router, the way an operator adds a
 * machine: keys and configuration, the process, then `node add`.
 *
 * Invariants
 * 1. A router that the cluster refuses leaves nothing behind. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "ctl/file.h"
#include "ctl/goal.h"
#include "ctl/keygen.h"
#include "ctl/layout.h"
#include "ctl/lifecycle.h"
#include "ctl/ports.h"
#include "ctl/settings.h"
#include "ctl/work.h"

#define KILL_TIMEOUT_MS 10000u

/* Room for one more router behind the others, with the next free number. */
static int node_insert(struct ctl_work *work, struct wp_playground_node **ret_node)
{
    struct wp_playground *playground = &work->playground;
    unsigned routers = 0, highest = 0;
    for (unsigned i = 0; i < playground->node_count; i++) {
        const struct wp_playground_node *node = &playground->nodes[i];
        unsigned number = 0;
        routers += node->kind == WP_PLAYGROUND_ROUTER;
        if (sscanf(node->id, "router-%u", &number) == 1 && number > highest) {
            highest = number;
        }
    }
    if (routers == WP_PLAYGROUND_ROUTERS_MAX) {
        return ctl_fail(CTL_REFUSED, "a playground has at most %u routers", WP_PLAYGROUND_ROUTERS_MAX);
    }
    struct wp_playground_node *node = &playground->nodes[routers];
    memmove(node + 1, node, (playground->node_count - routers) * sizeof *node);
    playground->node_count++;
    *node = (struct wp_playground_node){.kind = WP_PLAYGROUND_ROUTER, .joined = true};
    snprintf(node->id, sizeof node->id, "router-%u", highest + 1);
    *ret_node = node;
    return CTL_OK;
}

/* What lies in its folder already is somebody's. */
static int absence_check(const struct wp_playground *playground, const struct wp_playground_node *node)
{
    char path[WP_PLAYGROUND_PATH_SIZE];
    if (wp_playground_path(playground, node, NULL, path, sizeof path) != WP_OK || access(path, F_OK) == 0) {
        return ctl_fail(CTL_REFUSED, "\"%s\" is there already: move it away", path);
    }
    return CTL_OK;
}

static void node_take_out(struct wp_playground *playground, struct wp_playground_node *node)
{
    size_t index = (size_t)(node - playground->nodes);
    memmove(node, node + 1, (playground->node_count - index - 1) * sizeof *node);
    playground->node_count--;
}

/* Removes what files_make made; the process that used it is gone. */
static void files_remove(const struct wp_playground *playground, const struct wp_playground_node *node)
{
    char path[WP_PLAYGROUND_PATH_SIZE];
    if (wp_playground_path(playground, node, NULL, path, sizeof path) == WP_OK) {
        ctl_folder_remove(path);
    }
}

static int files_make(
    struct ctl_work *work, struct wp_playground_node *node, char ret_public[CTL_KEY_TEXT_SIZE])
{
    struct wp_playground *playground = &work->playground;
    char path[WP_PLAYGROUND_PATH_SIZE];
    struct ctl_keys keys;
    unsigned index = (unsigned)(node - playground->nodes);
    int error = ctl_ports_pick_router(node, playground->reactors, work->text, sizeof work->text);
    if (!error && wp_playground_path(playground, node, NULL, path, sizeof path) == WP_OK) {
        error = ctl_folder_make(path, work->text, sizeof work->text);
    }
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        error = wp_playground_path(playground, &playground->nodes[i], "curve.key", path, sizeof path);
        if (!error) {
            error = i == index ? ctl_curve_key_make(path, keys.public_text[i], work->text, sizeof work->text)
                               : ctl_curve_key_read(path, keys.public_text[i], work->text, sizeof work->text);
        }
    }
    error = error ? error : ctl_settings_write(playground, index, &keys, work->text, sizeof work->text);
    if (error) {
        return ctl_fail(ctl_exit_of(error), "%s", work->text);
    }
    memcpy(ret_public, keys.public_text[index], CTL_KEY_TEXT_SIZE);
    return CTL_OK;
}

/* Tells the cluster of it. */
static int cluster_tell(struct ctl_work *work, const struct wp_playground_node *node, const char *key)
{
    char endpoint[40] = "tcp://";
    wp_playground_endpoint(node, WP_PLAYGROUND_FABRIC, endpoint + strlen("tcp://"));
    json_t *body = json_pack("{s:s, s:s, s:s, s:i}", "node", node->id, "endpoint", endpoint, "key", key,
        "reactors", (int)work->playground.reactors);
    int error = wp_operator_call(work->op, "POST", "/v1/nodes", body, NULL, work->text, sizeof work->text);
    json_decref(body);
    return error ? ctl_fail(ctl_exit_of(error), "%s", work->text) : CTL_OK;
}

static void give_up(struct ctl_work *work, struct wp_playground_node *node)
{
    if (ctl_process_signal(&node->process, SIGKILL) == WP_OK) {
        ctl_process_gone_wait(&node->process, KILL_TIMEOUT_MS);
    }
    files_remove(&work->playground, node);
    node_take_out(&work->playground, node);
    ctl_work_save(work);
}

static int share_wait(const struct ctl_arguments *arguments, const struct wp_playground_node *node)
{
    const struct ctl_goal goal = {ctl_goal_even, node->id, 0};
    struct ctl_access *access;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_goal_wait(access, arguments, &goal);
    ctl_access_close(&access);
    return status;
}

static void added_print(const struct ctl_arguments *arguments, const struct wp_playground_node *node)
{
    char endpoint[32];
    wp_playground_endpoint(node, WP_PLAYGROUND_FABRIC, endpoint);
    if (arguments->json) {
        json_t *root =
            json_pack("{s:s, s:i, s:s}", "node", node->id, "pid", (int)node->process.pid, "fabric", endpoint);
        ctl_print_json(root);
        json_decref(root);
    } else {
        printf("%s (pid %d) is added%s\n", node->id, (int)node->process.pid,
            arguments->wait ? " and has its share of the shards" : "; its share of the shards moves to it");
    }
}

int ctl_playground_router_add(const struct ctl_arguments *arguments)
{
    struct ctl_work *work;
    struct wp_playground_node *node = NULL;
    char key[CTL_KEY_TEXT_SIZE];
    int status = ctl_work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    status = node_insert(work, &node);
    status = status ? status : absence_check(&work->playground, node);
    if (status) {
        ctl_work_close(&work);
        return status;
    }
    status = files_make(work, node, key);
    status = status ? status : ctl_work_save(work);
    status = status ? status : ctl_work_start(work, arguments, node);
    status = status ? status : cluster_tell(work, node, key);
    if (status) {
        give_up(work, node);
        ctl_work_close(&work);
        return status;
    }
    const struct wp_playground_node added = *node;
    ctl_work_close(&work); /* others may work on the playground while this one waits */
    status = arguments->wait ? share_wait(arguments, &added) : CTL_OK;
    if (!status) {
        added_print(arguments, &added);
    }
    return status;
}
