#include "node/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

#define SIGNAL_COUNT 3

static void help_print(const struct wp_program *program)
{
    printf(
        "%s: %s\n\nUsage: %s --config FILE [OPTION...]\n\n", program->name, program->purpose, program->name);
    printf("  --config FILE          configuration (YAML, docs/configuration.md)\n");
    printf("  --check-config         read and check the configuration, say what is wrong, and end\n");
    for (size_t i = 0; i < program->option_count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", program->options[i].name, program->options[i].value);
        printf("  %-22s %s\n", left, program->options[i].help);
    }
    printf("  --version              print the version and end\n");
    printf("  --help                 print this and end\n");
    printf("\nExample:\n  %s\n", program->example);
    printf("\nExit codes: 0 clean stop, 64 wrong arguments, 65 stored data damaged or rolled back, 69 "
           "address in "
           "use,\n73 file or directory not allowed, 74 disk full or failing, 75 data directory in use, 78 "
           "configuration\n");
}

static int complain(const struct wp_program *program, const char *what, const char *argument)
{
    fprintf(stderr, "%s: %s \"%s\"; see %s --help\n", program->name, what, argument, program->name);
    return WP_EXIT_USAGE;
}

static const struct wp_program_option *option_find(const struct wp_program *program, const char *name)
{
    for (size_t i = 0; i < program->option_count; i++) {
        if (strcmp(program->options[i].name, name) == 0) {
            return &program->options[i];
        }
    }
    return NULL;
}

static int config_check(const struct wp_program *program, const char *path)
{
    char text[1024] = "";
    int error = program->check(program->context, path, text, sizeof text);
    if (error) {
        fprintf(stderr, "%s\n", text[0] ? text : wp_error_text(error));
        return WP_EXIT_CONFIG;
    }
    printf("%s: configuration \"%s\" is good\n", program->name, path);
    return WP_EXIT_OK;
}

/* An argument that takes a value. -1 or the exit code. */
static int value_take(const struct wp_program *program, const char *name, const char *value,
    struct wp_program_arguments *ret_arguments)
{
    const struct wp_program_option *option = option_find(program, name);
    if (!option && strcmp(name, "--config") != 0) {
        return complain(program, "unknown argument", name);
    }
    if (!value) {
        return complain(program, "no value after", name);
    }
    if (!option) {
        ret_arguments->config_path = value;
        return -1;
    }
    return option->take(program->context, value) == WP_OK ? -1 : complain(program, "wrong value", value);
}

int wp_program_parse(
    const struct wp_program *program, int argc, char **argv, struct wp_program_arguments *ret_arguments)
{
    struct wp_program_arguments arguments = {0};
    bool check_only = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help_print(program);
            return WP_EXIT_OK;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", program->name, WP_VERSION);
            return WP_EXIT_OK;
        }
        if (strcmp(argv[i], "--check-config") == 0) {
            check_only = true;
            continue;
        }
        int code = value_take(program, argv[i], argv[i + 1], &arguments); /* argv ends with NULL */
        if (code >= 0) {
            return code;
        }
        i++;
    }
    if (!arguments.config_path) {
        fprintf(stderr, "%s: no configuration given: use --config FILE; see %s --help\n", program->name,
            program->name);
        return WP_EXIT_USAGE;
    }
    if (check_only) {
        return config_check(program, arguments.config_path);
    }
    *ret_arguments = arguments;
    return -1;
}

struct wp_signals {
    uv_signal_t handles[SIGNAL_COUNT];
    struct wp_signals_callbacks callbacks;
    unsigned open_handles;
};

static void signal_run(uv_signal_t *handle, int number)
{
    struct wp_signals *signals = handle->data;
    if (number != SIGHUP) {
        signals->callbacks.stop(signals->callbacks.context, number);
    } else if (signals->callbacks.reload) {
        signals->callbacks.reload(signals->callbacks.context);
    }
}

int wp_signals_create(
    uv_loop_t *loop, const struct wp_signals_callbacks *callbacks, struct wp_signals **ret_signals)
{
    static const int numbers[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};
    struct wp_signals *signals = calloc(1, sizeof *signals);
    if (!signals) {
        return WP_E_NOMEM;
    }
    signals->callbacks = *callbacks;
    signals->open_handles = SIGNAL_COUNT;
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < SIGNAL_COUNT; i++) {
        uv_signal_init(loop, &signals->handles[i]);
        signals->handles[i].data = signals;
        uv_signal_start(&signals->handles[i], signal_run, numbers[i]);
        uv_unref((uv_handle_t *)&signals->handles[i]);
    }
    *ret_signals = signals;
    return WP_OK;
}

static void signal_closed(uv_handle_t *handle)
{
    struct wp_signals *signals = handle->data;
    if (--signals->open_handles == 0) {
        free(signals);
    }
}

void wp_signals_destroy(struct wp_signals **signals)
{
    struct wp_signals *taken = *signals;
    *signals = NULL;
    for (unsigned i = 0; taken && i < SIGNAL_COUNT; i++) {
        uv_close((uv_handle_t *)&taken->handles[i], signal_closed);
    }
}

int wp_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || path[0] == '\0') {
        return WP_OK;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t path_size = strlen(path);
    if (path_size >= sizeof address.sun_path) {
        return WP_E_IO;
    }
    memcpy(address.sun_path, path, path_size);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* an abstract address */
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return WP_E_IO;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_size);
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address, size);
    close(fd);
    return sent == (ssize_t)strlen(state) ? WP_OK : WP_E_IO;
}

size_t wp_descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    rlim_t soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? (size_t)limit.rlim_cur : (size_t)soft;
}
