/* The command line as two tables, verbs and options, from which parsing and help follow (main.c). */
#ifndef WP_CTL_VERBS_H
#define WP_CTL_VERBS_H

#include <getopt.h>

#include "ctl/command.h"

/* Options that not every verb takes, as a set. */
enum option_set {
    FOR_UP = 1 << 0,
    FOR_NODE = 1 << 1, /* needs --node */
    FOR_SIGNAL = 1 << 2,
    FOR_START = 1 << 3,  /* starts processes */
    FOR_SECRET = 1 << 4, /* gets a secret */
    FOR_ALL = 1 << 5,
    FOR_CLUSTER = 1 << 6,  /* asks a router */
    FOR_WHICH = 1 << 7,    /* takes --node, need not */
    FOR_PATIENCE = 1 << 8, /* waits */
    FOR_DEVICE = 1 << 9,   /* makes a device */
    FOR_NODE_ADD = 1 << 13,
    FOR_WAIT = 1 << 10, /* may wait for what it began */
    FOR_KEY = 1 << 11,
    FOR_REPLACE = 1 << 12,
};

struct ctl_verb {
    const char *words; /* one to three */
    const char *names; /* the words that it takes, "SHARD NODE", "TEAM USER..."; NULL = none */
    const char *help;
    const char *example;
    unsigned options;
    int (*run)(const struct ctl_arguments *arguments);
};

/* The last one has words NULL. */
extern const struct ctl_verb ctl_verbs[];

enum option_id {
    OPTION_HELP = 'h',
    OPTION_OUTPUT = 'o',
    OPTION_DIR = 256,
    OPTION_JSON,
    OPTION_VERSION,
    OPTION_ROUTERS,
    OPTION_GATEWAYS,
    OPTION_SHARDS,
    OPTION_REACTORS,
    OPTION_PORT_BASE,
    OPTION_ALLOW_VOLATILE,
    OPTION_NO_START,
    OPTION_NODE,
    OPTION_SIGNAL,
    OPTION_ENV,
    OPTION_TIMEOUT,
    OPTION_NO_SAVE,
    OPTION_SOCKET,
    OPTION_FROM,
    OPTION_ENDPOINT,
    OPTION_KEY,
    OPTION_BY,
    OPTION_WAIT,
};

#define CTL_OPTIONS_MAX 40u

struct ctl_option {
    struct option option;
    const char *argument; /* NULL = a mere switch */
    const char *help;
    unsigned verbs;
};

/* The last one has option.name NULL. */
extern const struct ctl_option ctl_options[];

#endif
