#include "bench/beside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

#define READY_MS (60 * 1000)
#define RESULT_MS (30 * 1000) /* after its end: the grace time for answers, and more */
#define SECONDS_MAX 86400.0   /* it is ended from outside */

/* What the process says: once that it measures, once at its end. */
enum { SAYS_ON, SAYS_DONE };
struct said {
    int what;
    int error;
    char text[256];
    struct wp_beside_result result;
};

struct wp_beside {
    pid_t pid;
    int socket; /* of packets, so that what it says comes whole */
    double offered_per_s;
};

/* --- in the process ----------------------------------------------------------------------------------------
 */

static void say(int socket, const struct said *said)
{
    ssize_t size = send(socket, said, sizeof *said, MSG_NOSIGNAL);
    (void)size; /* who does not listen any more ends us */
}

static void on_mark(void *context, bool start)
{
    const struct said said = {.what = SAYS_ON};
    if (start) {
        say(*(const int *)context, &said);
    }
}

static void child_run(const struct wp_load_config *given, int socket)
{
    struct wp_load_config config = *given;
    struct wp_load_result *result = calloc(1, sizeof *result);
    struct said said = {.what = SAYS_DONE, .error = WP_E_NOMEM};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    config.mark = on_mark;
    config.context = &socket;
    config.seconds = SECONDS_MAX;
    if (result) {
        said.error = wp_load_run(&config, result, said.text, sizeof said.text);
        uint32_t last = result->laps.count > 0 ? result->laps.count - 1 : 0;
        const struct wp_bench_lap *lap = &result->laps.rows[last];
        said.result = (struct wp_beside_result){.seconds = (double)(lap->end_us - lap->start_us) / 1e6,
            .accepted = lap->accepted,
            .refused = lap->refused,
            .ack_us = lap->ack_us};
    }
    say(socket, &said);
    free(result);
    _exit(0);
}

/* --- outside -----------------------------------------------------------------------------------------------
 */

/* The next thing it says. WP_E_TIMEOUT; WP_E_CLOSED: it ended. */
static int hear(const struct wp_beside *beside, int timeout_ms, struct said *ret_said)
{
    struct pollfd poll_fd = {.fd = beside->socket, .events = POLLIN};
    int ready;
    do {
        ready = poll(&poll_fd, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0) {
        return WP_E_TIMEOUT;
    }
    return recv(beside->socket, ret_said, sizeof *ret_said, 0) == (ssize_t)sizeof *ret_said ? WP_OK
                                                                                            : WP_E_CLOSED;
}

static void beside_free(struct wp_beside *beside)
{
    kill(beside->pid, SIGKILL);
    waitpid(beside->pid, NULL, 0);
    close(beside->socket);
    free(beside);
}

static int complain(int error, const struct said *said, char *ret_text, size_t text_size)
{
    error = error ? error : said->error ? said->error : WP_E_UNAVAILABLE;
    snprintf(ret_text, text_size, "the load beside: %s", said->text[0] ? said->text : wp_error_text(error));
    return error;
}

int wp_beside_start(
    const struct wp_load_config *config, struct wp_beside **ret_beside, char *ret_text, size_t text_size)
{
    int ends[2];
    struct wp_beside *beside = calloc(1, sizeof *beside);
    if (!beside || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
        free(beside);
        return WP_E_NOMEM;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        free(beside);
        return WP_E_NOMEM;
    }
    if (pid == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDERR_FILENO); /* its line of progress would mix with ours */
        close(ends[0]);
        child_run(config, ends[1]);
    }
    close(ends[1]);
    *beside = (struct wp_beside){.pid = pid, .socket = ends[0], .offered_per_s = config->rate_per_s};
    struct said said = {0};
    int error = hear(beside, READY_MS, &said);
    if (error || said.what != SAYS_ON) {
        error = complain(error, &said, ret_text, text_size);
        beside_free(beside);
        return error;
    }
    *ret_beside = beside;
    return WP_OK;
}

int wp_beside_pid(const struct wp_beside *beside)
{
    return (int)beside->pid;
}

void wp_beside_mark(struct wp_beside *beside, bool start)
{
    kill(beside->pid, start ? SIGUSR1 : SIGTERM); /* load.h: a lap; the end */
}

int wp_beside_finish(
    struct wp_beside **handle, struct wp_beside_result *ret_result, char *ret_text, size_t text_size)
{
    struct wp_beside *beside = *handle;
    struct said said = {0};
    *handle = NULL;
    int error = hear(beside, RESULT_MS, &said);
    if (error || said.error) {
        error = complain(error, &said, ret_text, text_size);
    } else {
        *ret_result = said.result;
        ret_result->offered_per_s = beside->offered_per_s;
    }
    beside_free(beside);
    return error;
}
