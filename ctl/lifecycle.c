/* Why this file exists: a process that a test kills, or that a colleague finds next morning, must be exactly
 * the one that was started here, and must owe nothing to the shell that started it.
 *
 * Invariants
 * 1. A signal goes through a pidfd whose start time was compared after it was opened: a pid given to somebody
 * else is never signalled.
 * 2. A started process holds no descriptor of its starter: a caller that reads our output to its end is not
 * kept waiting. */
#include "ctl/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "ctl/file.h"
#include "ctl/settings.h"

#define POLL_MS 20
#define PAGE_TIMEOUT_MS 1000L
#define LOG_LINES_MAX 15u

static void pause_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* -- state
 * ------------------------------------------------------------------------------------------------------- */

const char *ctl_node_state_name(enum ctl_node_state state)
{
    static const char *const names[] = {
        [CTL_NODE_DOWN] = "down",
        [CTL_NODE_STOPPED] = "stopped",
        [CTL_NODE_STARTING] = "starting",
        [CTL_NODE_READY] = "ready",
    };
    return names[state];
}

/* Whether SIGSTOP holds the process: asking it would only run into the timeout. */
static bool process_held(pid_t pid)
{
    char path[64], state = ' ';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file) {
        bool good = fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
        fclose(file);
        return good && (state == 'T' || state == 't');
    }
    return false;
}

enum ctl_node_state ctl_node_state_get(
    struct wp_operator *op, const struct wp_playground_node *node, char *ret_why, size_t why_size)
{
    ret_why[0] = '\0';
    if (!wp_playground_process_alive(&node->process)) {
        return CTL_NODE_DOWN;
    }
    if (process_held(node->process.pid)) {
        return CTL_NODE_STOPPED;
    }
    char address[32];
    long status = 0;
    struct wp_buffer page = WP_BUFFER_INIT;
    wp_playground_endpoint(node, WP_PLAYGROUND_MANAGEMENT, address);
    int error = wp_operator_page(op, address, "/readyz", PAGE_TIMEOUT_MS, &page, &status);
    bool ready = error == WP_OK && status == 200;
    if (error) {
        snprintf(ret_why, why_size, "%s does not answer (%s)", address, wp_error_text(error));
    } else if (!ready) {
        int size = (int)(page.size < 200 ? page.size : 200);
        snprintf(ret_why, why_size, "%.*s", size, page.size ? (const char *)page.data : "");
        ret_why[strcspn(ret_why, "\r\n")] = '\0';
    }
    wp_buffer_free(&page);
    return ready ? CTL_NODE_READY : CTL_NODE_STARTING;
}

/* -- start
 * ------------------------------------------------------------------------------------------------------- */

/* The program beside this one, or its bare name for a search in PATH. */
static void program_find(const struct wp_playground_node *node, char *ret_path, size_t path_size)
{
    const char *name = node->kind == WP_PLAYGROUND_ROUTER ? "wardpost-router" : "wardpost-gateway";
    ssize_t size = readlink("/proc/self/exe", ret_path, path_size - 1);
    if (size > 0) {
        ret_path[size] = '\0';
        char *slash = strrchr(ret_path, '/');
        size_t left = path_size - (size_t)(slash + 1 - ret_path);
        if ((size_t)snprintf(slash + 1, left, "%s", name) < left && access(ret_path, X_OK) == 0) {
            return;
        }
    }
    snprintf(ret_path, path_size, "%s", name);
}

/* In the child: becomes the program, or tells errno through `report` and ends. */
static void child_run(
    const char *program, const char *config, int log_fd, int report, const struct ctl_arguments *arguments)
{
    char option[] = "--config";
    char *const words[] = {(char *)(uintptr_t)program, option, (char *)(uintptr_t)config, NULL};
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    if (setsid() >= 0 && chdir("/") == 0 && null_fd >= 0 && dup2(null_fd, 0) == 0 && dup2(log_fd, 1) == 1 &&
        dup2(log_fd, 2) == 2 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 &&
        sigprocmask(SIG_SETMASK, &none, NULL) == 0) {
        signal(SIGPIPE, SIG_DFL);
        for (unsigned i = 0; i < arguments->environment_count; i++) {
            putenv((char *)(uintptr_t)arguments->environment[i]);
        }
        execvp(program, words);
    }
    int reason = errno;
    ssize_t written = write(report, &reason, sizeof reason);
    _exit(written == sizeof reason ? 127 : 126);
}

/* Forks; WP_OK with the pid once the program runs. errno tells the reason otherwise. */
static int child_start(const char *program, const char *config, int log_fd,
    const struct ctl_arguments *arguments, pid_t *ret_pid)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
        return WP_E_IO;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        child_run(program, config, log_fd, report[1], arguments);
    }
    close(report[1]);
    int reason = pid < 0 ? errno : 0;
    ssize_t size = pid < 0 ? 0 : read(report[0], &reason, sizeof reason);
    close(report[0]);
    if (pid < 0 || size == (ssize_t)sizeof reason) {
        errno = reason;
        return WP_E_IO;
    }
    *ret_pid = pid;
    return WP_OK;
}

/* Where this start's lines begin in the log is kept beside it, so that a failure shows them and no older
 * ones. */
static int log_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat info;
    char mark[WP_PLAYGROUND_PATH_SIZE + 8], text[32], ignored[256];
    if (fd >= 0 && fstat(fd, &info) == 0) {
        snprintf(mark, sizeof mark, "%s.start", path);
        snprintf(text, sizeof text, "%lld\n", (long long)info.st_size);
        if (ctl_file_write(mark, 0600, text, strlen(text), ignored, sizeof ignored) != WP_OK) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

int ctl_node_spawn(const struct wp_playground *playground, struct wp_playground_node *node,
    const struct ctl_arguments *arguments, char *ret_text, size_t text_size)
{
    char program[WP_PLAYGROUND_PATH_SIZE], config[WP_PLAYGROUND_PATH_SIZE], log[WP_PLAYGROUND_PATH_SIZE],
        pid_path[WP_PLAYGROUND_PATH_SIZE], text[32];
    pid_t pid = 0;
    program_find(node, program, sizeof program);
    if (wp_playground_path(playground, node, ctl_settings_name(node), config, sizeof config) != WP_OK ||
        wp_playground_path(playground, node, "log", log, sizeof log) != WP_OK ||
        wp_playground_path(playground, node, "pid", pid_path, sizeof pid_path) != WP_OK) {
        snprintf(ret_text, text_size, "the path of \"%s\" is too long", node->id);
        return WP_E_IO;
    }
    int log_fd = log_open(log);
    if (log_fd < 0) {
        snprintf(ret_text, text_size, "cannot write the log \"%s\": %s", log, strerror(errno));
        return WP_E_IO;
    }
    int error = child_start(program, config, log_fd, arguments, &pid);
    if (error) {
        snprintf(ret_text, text_size, "cannot start \"%s\": %s", program, strerror(errno));
        close(log_fd);
        return error;
    }
    close(log_fd);
    if (wp_playground_process_read(pid, &node->process) != WP_OK) {
        node->process =
            (struct wp_playground_process){.pid = pid}; /* ended already; the wait for ready tells */
    }
    snprintf(text, sizeof text, "%d\n", (int)pid);
    return ctl_file_write(pid_path, 0600, text, strlen(text), ret_text, text_size);
}

/* -- waiting
 * ----------------------------------------------------------------------------------------------------- */

/* Prints the last lines that the node logged since its start. */
static void log_show(const struct wp_playground *playground, const struct wp_playground_node *node)
{
    char path[WP_PLAYGROUND_PATH_SIZE], mark[WP_PLAYGROUND_PATH_SIZE + 8], line[600];
    long long start = 0;
    if (wp_playground_path(playground, node, "log", path, sizeof path) != WP_OK) {
        return;
    }
    snprintf(mark, sizeof mark, "%s.start", path);
    FILE *file = fopen(mark, "re");
    if (file) {
        if (fscanf(file, "%lld", &start) != 1) {
            start = 0;
        }
        fclose(file);
    }
    file = fopen(path, "re");
    if (!file) {
        return;
    }
    unsigned long count = 0, number = 0;
    fseek(file, (long)start, SEEK_SET);
    while (fgets(line, sizeof line, file)) {
        count++;
    }
    fprintf(stderr, "--- end of %s\n", path);
    fseek(file, (long)start, SEEK_SET);
    while (fgets(line, sizeof line, file)) {
        if (number++ + LOG_LINES_MAX >= count) {
            fprintf(stderr, "    %s%s", line, strchr(line, '\n') ? "" : "\n");
        }
    }
    fclose(file);
}

/* How a child of ours ended, in words; empty when it was not ours to collect. */
static void end_describe(pid_t pid, char *out, size_t out_size)
{
    int status;
    out[0] = '\0';
    if (waitpid(pid, &status, WNOHANG) != pid) {
        return;
    }
    if (WIFEXITED(status)) {
        snprintf(out, out_size, " with status %d", WEXITSTATUS(status));
    } else if (WIFSIGNALED(status)) {
        snprintf(out, out_size, " by SIG%s", sigabbrev_np(WTERMSIG(status)));
    }
}

int ctl_node_ready_wait(const struct wp_playground *playground, struct wp_operator *op,
    const struct wp_playground_node *node, unsigned timeout_s, char *ret_text, size_t text_size)
{
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)timeout_s * 1000000;
    char why[256];
    for (;;) {
        enum ctl_node_state state = ctl_node_state_get(op, node, why, sizeof why);
        if (state == CTL_NODE_READY) {
            return WP_OK;
        }
        if (state == CTL_NODE_DOWN) {
            char how[64];
            end_describe(node->process.pid, how, sizeof how);
            log_show(playground, node);
            snprintf(ret_text, text_size, "\"%s\" ended%s while starting; the lines above are its log",
                node->id, how);
            return WP_E_CLOSED;
        }
        if (wp_clock_mono_us() >= end_us) {
            log_show(playground, node);
            snprintf(ret_text, text_size, "\"%s\" is not ready after %u s%s%s", node->id, timeout_s,
                why[0] ? ": " : "", why);
            return WP_E_TIMEOUT;
        }
        pause_ms(POLL_MS);
    }
}

/* -- end
 * ---------------------------------------------------------------------------------------------------------
 */

int ctl_process_signal(const struct wp_playground_process *process, int number)
{
    if (process->pid <= 1) {
        return WP_E_NOT_FOUND;
    }
    int fd = pidfd_open(process->pid, 0);
    if (fd < 0) {
        return WP_E_NOT_FOUND;
    }
    int error = WP_E_NOT_FOUND;
    if (wp_playground_process_alive(process)) {
        error = pidfd_send_signal(fd, number, NULL, 0) == 0 ? WP_OK
                : errno == ESRCH                            ? WP_E_NOT_FOUND
                                                            : WP_E_DENIED;
    }
    close(fd);
    return error;
}

bool ctl_process_gone_wait(const struct wp_playground_process *process, unsigned timeout_ms)
{
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)timeout_ms * 1000;
    while (wp_playground_process_alive(process)) {
        if (wp_clock_mono_us() >= end_us) {
            return false;
        }
        pause_ms(POLL_MS / 4);
    }
    return true;
}
