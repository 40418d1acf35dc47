/* What the mains of both servers share: arguments, signals, readiness, descriptor limit. Main thread only.
 *
 *     struct wp_program_arguments arguments;
 *     int code = wp_program_parse(&description, argc, argv, &arguments);
 *     if (code >= 0) {
 *         return code;
 *     }
 */
#ifndef WP_NODE_PROGRAM_H
#define WP_NODE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* Exit codes, stable; those of sysexits.h where it has one. */
#define WP_EXIT_OK 0
#define WP_EXIT_FAILURE 1
#define WP_EXIT_USAGE 64       /* wrong arguments */
#define WP_EXIT_UNAVAILABLE 69 /* an address is in use */
#define WP_EXIT_INTERNAL 70
#define WP_EXIT_IO 74 /* disk full or failing: the log cannot be written */
#define WP_EXIT_CONFIG 78

/* An option of one program beside the common ones; takes one value and may come several times. */
struct wp_program_option {
    const char *name;  /* "--accept-loss" */
    const char *value; /* "SHARD" */
    const char *help;
    /* WP_OK, or an error: the value is named in the complaint. */
    int (*take)(void *context, const char *value);
};

struct wp_program {
    const char *name;    /* "wardpost-router" */
    const char *purpose; /* one line */
    const char *example; /* a command line that works */
    const struct wp_program_option *options;
    size_t option_count;
    void *context; /* of the options and of check */
    /* Loads and checks the file: WP_OK, or an error with a sentence in ret_text. */
    int (*check)(void *context, const char *path, char *ret_text, size_t text_size);
};

struct wp_program_arguments {
    const char *config_path;
};

/* Parses the arguments. -1: go on with *ret_arguments. Otherwise the code to exit with: --help, --version and
 * --check-config were answered on stdout, wrong arguments on stderr. */
int wp_program_parse(
    const struct wp_program *program, int argc, char **argv, struct wp_program_arguments *ret_arguments);

struct wp_signals;

struct wp_signals_callbacks {
    void *context;
    void (*stop)(void *context, int signal_number); /* SIGTERM or SIGINT; the second one calls it again */
    void (*reload)(void *context);                  /* SIGHUP; NULL: ignored */
};

/* Watches the signals on `loop` and ignores SIGPIPE. The handles do not keep the loop alive. WP_E_NOMEM. */
int wp_signals_create(
    uv_loop_t *loop, const struct wp_signals_callbacks *callbacks, struct wp_signals **ret_signals);
void wp_signals_destroy(struct wp_signals **signals);

/* Tells the service manager ("READY=1", "STOPPING=1") through NOTIFY_SOCKET as sd_notify(3) does; nothing
 * without it. WP_OK, or WP_E_IO when there is one that cannot be reached. */
int wp_notify(const char *state);

/* Raises the soft limit of open descriptors to the hard one; returns what holds now. */
size_t wp_descriptors_raise(void);

#endif
