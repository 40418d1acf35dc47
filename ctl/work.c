/* Why this file exists: see work.h.
 *
 * Invariants
 * 1. One command at a time changes a playground: it holds DIR/.lock.
 * 2. playground.json names a process before anything waits for it: a command that is interrupted loses no
 * process. */
#include "ctl/work.h"

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
#include "ctl/lifecycle.h"

#define LOCK_TIMEOUT_MS 90000u
#define KILL_TIMEOUT_MS 10000u

int ctl_work_lock(struct ctl_work *work, const char *dir)
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

void ctl_work_close(struct ctl_work **work)
{
    if ((*work)->lock >= 0) {
        close((*work)->lock);
    }
    wp_operator_destroy(&(*work)->op);
    free(*work);
    *work = NULL;
}

struct ctl_work *ctl_work_create(void)
{
    struct ctl_work *work = calloc(1, sizeof *work);
    if (!work) {
        ctl_fail(CTL_TEMPORARY, "out of memory");
        return NULL;
    }
    work->lock = -1;
    return work;
}

int ctl_work_open(const struct ctl_arguments *arguments, bool lock, struct ctl_work **ret_work)
{
    struct ctl_work *work = ctl_work_create();
    if (!work) {
        return CTL_TEMPORARY;
    }
    int error = wp_playground_load(arguments->dir, &work->playground, work->text, sizeof work->text);
    int status = error ? ctl_fail(ctl_exit_of(error), "%s", work->text) : CTL_OK;
    if (!status && lock) {
        status = ctl_work_lock(work, work->playground.dir);
        if (!status &&
            wp_playground_load(arguments->dir, &work->playground, work->text, sizeof work->text) != WP_OK) {
            status = ctl_fail(CTL_IO, "%s", work->text);
        }
    }
    if (!status && wp_operator_create(&work->playground, &work->op) != WP_OK) {
        status = ctl_fail(CTL_TEMPORARY, "out of memory");
    }
    if (status) {
        ctl_work_close(&work);
        return status;
    }
    *ret_work = work;
    return CTL_OK;
}

int ctl_work_save(struct ctl_work *work)
{
    if (wp_playground_save(&work->playground, work->text, sizeof work->text) != WP_OK) {
        return ctl_fail(CTL_IO, "%s", work->text);
    }
    return CTL_OK;
}

int ctl_work_start(
    struct ctl_work *work, const struct ctl_arguments *arguments, struct wp_playground_node *only)
{
    bool started[WP_PLAYGROUND_NODES_MAX] = {false};
    struct wp_playground *playground = &work->playground;
    int error = WP_OK;
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        struct wp_playground_node *node = &playground->nodes[i];
        if ((only ? node != only : node->removed) || wp_playground_process_alive(&node->process)) {
            continue;
        }
        error = ctl_node_spawn(playground, node, arguments, work->text, sizeof work->text);
        started[i] = node->process.pid != 0;
        if (!error) {
            error = wp_playground_save(playground, work->text, sizeof work->text);
        }
    }
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        if (only ? &playground->nodes[i] == only : !playground->nodes[i].removed) {
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
    ctl_work_save(work);
    return status;
}

int ctl_work_mark(const struct ctl_arguments *arguments, const char *id, bool removed)
{
    struct ctl_work *work;
    int status = ctl_work_open(arguments, true, &work);
    if (status) {
        return status;
    }
    struct wp_playground_node *node = wp_playground_find(&work->playground, id);
    if (node && node->removed != removed) {
        node->removed = removed;
        status = ctl_work_save(work);
    }
    ctl_work_close(&work);
    return status;
}
