/* Why this file exists: the command line of wardpostctl follows from two tables, verbs and options; help,
 * parsing and checks read them and nothing else knows a verb's name. */
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"
#include "ctl/ports.h"

/* Options that not every verb takes, as a set. */
enum option_set {
    FOR_UP = 1 << 0,
    FOR_NODE = 1 << 1, /* needs --node */
    FOR_SIGNAL = 1 << 2,
    FOR_START = 1 << 3,  /* starts processes */
    FOR_SECRET = 1 << 4, /* gets a secret */
    FOR_ALL = 1 << 5,
    FOR_CLUSTER = 1 << 6, /* asks a router */
};

static const struct verb {
    const char *words; /* one or two */
    const char *name;  /* the word that it takes, or NULL */
    const char *help;
    const char *example;
    unsigned options;
    int (*run)(const struct ctl_arguments *arguments);
} verbs[] = {
    {"playground up", NULL,
        "make a cluster in a folder of this machine, start what is down of it, print its endpoints",
        "wardpostctl playground up --gateways 2 --dir /var/tmp/ward --json", FOR_UP | FOR_START,
        ctl_playground_up},
    {"playground down", NULL, "stop every process of the playground; its data stays",
        "wardpostctl playground down --dir /var/tmp/ward", 0, ctl_playground_down},
    {"playground status", NULL, "show each process and whether it is ready (status 69 when one is not)",
        "wardpostctl playground status -o json", 0, ctl_playground_status},
    {"playground kill", NULL,
        "send one process a signal, SIGKILL unless told otherwise, and wait for its end",
        "wardpostctl playground kill --node router-1 --signal TERM", FOR_NODE | FOR_SIGNAL,
        ctl_playground_kill},
    {"playground start", NULL, "start one process again and wait until it is ready",
        "wardpostctl playground start --node router-1", FOR_NODE | FOR_START, ctl_playground_start},
    {"user add", "NAME", "add a user", "wardpostctl user add alice", FOR_CLUSTER, ctl_user_add},
    {"user list", NULL, "list the users", "wardpostctl user list -o json", FOR_CLUSTER, ctl_user_list},
    {"device add", "USER/DEVICE", "add a device and print its secret, once",
        "wardpostctl device add alice/phone", FOR_CLUSTER | FOR_SECRET, ctl_device_add},
    {"device list", "USER", "list a user's devices", "wardpostctl device list alice", FOR_CLUSTER,
        ctl_device_list},
    {"device remove", "USER/DEVICE", "remove a device; it cannot connect any more",
        "wardpostctl device remove alice/phone", FOR_CLUSTER, ctl_device_remove},
    {"status", NULL, "show what the router says about itself and its shards", "wardpostctl status",
        FOR_CLUSTER, ctl_status},
    {"keygen id", NULL, "print a new cluster.id", "wardpostctl keygen id", 0, ctl_keygen_id},
    {"keygen cluster", "FILE", "make the key that every router of a cluster has a copy of",
        "wardpostctl keygen cluster /etc/wardpost/cluster.key", 0, ctl_keygen_cluster},
    {"keygen curve", "FILE", "make the key pair of one router or gateway and print its public half",
        "wardpostctl keygen curve /etc/wardpost/router.key", 0, ctl_keygen_curve},
};

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
};

static const struct option_row {
    struct option option;
    const char *argument;
    const char *help;
    unsigned verbs;
} option_rows[] = {
    {{"dir", required_argument, NULL, OPTION_DIR}, "DIR", "the playground's folder (default ./playground)",
        FOR_ALL},
    {{"socket", required_argument, NULL, OPTION_SOCKET}, "PATH",
        "admin socket of a router outside of a playground, such as /run/wardpost-router/admin.sock",
        FOR_CLUSTER},
    {{"output", required_argument, NULL, OPTION_OUTPUT}, "FORMAT", "-o, table (default) or json", FOR_ALL},
    {{"json", no_argument, NULL, OPTION_JSON}, NULL, "the same as -o json", FOR_ALL},
    {{"help", no_argument, NULL, OPTION_HELP}, NULL, "this text", FOR_ALL},
    {{"version", no_argument, NULL, OPTION_VERSION}, NULL, "the version", FOR_ALL},
    {{"routers", required_argument, NULL, OPTION_ROUTERS}, "N", "routers (1 to 9, default 1)", FOR_UP},
    {{"gateways", required_argument, NULL, OPTION_GATEWAYS}, "M", "gateways (1 to 16, default 1)", FOR_UP},
    {{"shards", required_argument, NULL, OPTION_SHARDS}, "S",
        "shards, a power of two, fixed for ever (default 8)", FOR_UP},
    {{"reactors", required_argument, NULL, OPTION_REACTORS}, "W",
        "router threads that own shards (1 to 16, default 2)", FOR_UP},
    {{"port-base", required_argument, NULL, OPTION_PORT_BASE}, "P",
        "fixed ports: router i at P+20(i-1), gateway j at P+200+10(j-1): mqtt, mqtts, ws, wss, management "
        "(default: free ones)",
        FOR_UP},
    {{"allow-volatile", no_argument, NULL, OPTION_ALLOW_VOLATILE}, NULL, "accept a folder in memory (tmpfs)",
        FOR_UP},
    {{"no-start", no_argument, NULL, OPTION_NO_START}, NULL, "make the folder only", FOR_UP},
    {{"node", required_argument, NULL, OPTION_NODE}, "NAME", "router-1, gateway-1, ...", FOR_NODE},
    {{"signal", required_argument, NULL, OPTION_SIGNAL}, "SIGNAL", "name or number (default KILL)",
        FOR_SIGNAL},
    {{"env", required_argument, NULL, OPTION_ENV}, "NAME=VALUE",
        "environment of what is started; may be repeated", FOR_START},
    {{"timeout", required_argument, NULL, OPTION_TIMEOUT}, "SECONDS",
        "how long to wait for ready (default 60)", FOR_START},
    {{"no-save", no_argument, NULL, OPTION_NO_SAVE}, NULL,
        "do not keep the secret in the playground's folder", FOR_SECRET},
};

#define VERB_COUNT (sizeof verbs / sizeof verbs[0])
#define OPTION_COUNT (sizeof option_rows / sizeof option_rows[0])

/* -- help
 * -------------------------------------------------------------------------------------------------------- */

static void options_help(unsigned set)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        char left[64];
        if (row->verbs & (set | FOR_ALL)) {
            snprintf(left, sizeof left, "--%s%s%s", row->option.name, row->argument ? " " : "",
                row->argument ? row->argument : "");
            printf("  %-22s %s\n", left, row->help);
        }
    }
}

static void exits_help(void)
{
    printf("\nExit status\n");
#define X(name, number, meaning) printf("  %-2d  %s\n", number, meaning);
    CTL_EXIT_TABLE(X)
#undef X
}

static void verb_help(const struct verb *verb)
{
    printf("Usage: wardpostctl %s%s%s [OPTION]...\n\n%s.\n\nExample\n  %s\n\nOptions\n", verb->words,
        verb->name ? " " : "", verb->name ? verb->name : "", verb->help, verb->example);
    options_help(verb->options);
    exits_help();
}

/* All verbs, or those that begin with the word `group`. */
static void verbs_help(const char *group)
{
    printf("Usage: wardpostctl VERB [OPTION]...\n\nVerbs\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        char left[64];
        if (!group || strncmp(verbs[i].words, group, strlen(group)) == 0) {
            snprintf(left, sizeof left, "%s%s%s", verbs[i].words, verbs[i].name ? " " : "",
                verbs[i].name ? verbs[i].name : "");
            printf("  %-26s %s\n", left, verbs[i].help);
        }
    }
    printf("\nwardpostctl VERB --help has the options and an example.\n\nOptions of every verb\n");
    options_help(0);
    exits_help();
}

/* -- parsing
 * ----------------------------------------------------------------------------------------------------- */

static bool group_exists(const char *word)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        size_t size = strlen(word);
        if (strncmp(verbs[i].words, word, size) == 0 && verbs[i].words[size] == ' ') {
            return true;
        }
    }
    return false;
}

/* The verb that the first words are; ret_used says how many. NULL: none. */
static const struct verb *verb_find(char *const *words, int count, int *ret_used)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        char text[64];
        bool two = strchr(verbs[i].words, ' ') != NULL;
        if (count < (two ? 2 : 1)) {
            continue;
        }
        snprintf(text, sizeof text, "%s%s%s", words[0], two ? " " : "", two ? words[1] : "");
        if (strcmp(verbs[i].words, text) == 0) {
            *ret_used = two ? 2 : 1;
            return &verbs[i];
        }
    }
    return NULL;
}

static int number_parse(
    const char *option, const char *text, unsigned lowest, unsigned highest, unsigned *ret_number)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < lowest || number > highest) {
        return ctl_fail(CTL_USAGE, "--%s \"%s\" is no number from %u to %u", option, text, lowest, highest);
    }
    *ret_number = (unsigned)number;
    return CTL_OK;
}

static int signal_parse(const char *text, int *ret_signal)
{
    unsigned number;
    if (text[0] >= '0' && text[0] <= '9') {
        int status = number_parse("signal", text, 1, NSIG - 1, &number);
        *ret_signal = status ? *ret_signal : (int)number;
        return status;
    }
    const char *name = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
    for (int candidate = 1; candidate < NSIG; candidate++) {
        const char *known = sigabbrev_np(candidate);
        if (known && strcmp(known, name) == 0) {
            *ret_signal = candidate;
            return CTL_OK;
        }
    }
    return ctl_fail(CTL_USAGE, "--signal \"%s\" is no signal: KILL, TERM, STOP, CONT or a number", text);
}

static int environment_parse(const char *text, struct ctl_arguments *arguments)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        return ctl_fail(CTL_USAGE, "--env \"%s\" is no NAME=VALUE", text);
    }
    if (arguments->environment_count == CTL_ENVIRONMENT_MAX) {
        return ctl_fail(CTL_USAGE, "--env may be given %u times", CTL_ENVIRONMENT_MAX);
    }
    arguments->environment[arguments->environment_count++] = text;
    return CTL_OK;
}

static int shards_parse(const char *text, unsigned *ret_shards)
{
    int status = number_parse("shards", text, 1, 1024, ret_shards);
    if (!status && (*ret_shards & (*ret_shards - 1)) != 0) {
        return ctl_fail(CTL_USAGE, "--shards %u is no power of two", *ret_shards);
    }
    return status;
}

static int output_parse(const char *text, bool *ret_json)
{
    if (strcmp(text, "json") != 0 && strcmp(text, "table") != 0) {
        return ctl_fail(CTL_USAGE, "-o \"%s\" is neither table nor json", text);
    }
    *ret_json = text[0] == 'j';
    return CTL_OK;
}

/* One option into `arguments`; CTL_USAGE when its value is wrong. */
static int option_take(int id, const char *value, struct ctl_arguments *arguments)
{
    switch (id) {
    case OPTION_DIR:
        arguments->dir = value;
        return value[0] ? CTL_OK : ctl_fail(CTL_USAGE, "--dir is empty");
    case OPTION_SOCKET:
        arguments->socket = value;
        return value[0] ? CTL_OK : ctl_fail(CTL_USAGE, "--socket is empty");
    case OPTION_OUTPUT:
        return output_parse(value, &arguments->json);
    case OPTION_JSON:
        arguments->json = true;
        return CTL_OK;
    case OPTION_ROUTERS:
        return number_parse("routers", value, 1, WP_PLAYGROUND_ROUTERS_MAX, &arguments->routers);
    case OPTION_GATEWAYS:
        return number_parse("gateways", value, 1, WP_PLAYGROUND_GATEWAYS_MAX, &arguments->gateways);
    case OPTION_SHARDS:
        return shards_parse(value, &arguments->shards);
    case OPTION_REACTORS:
        return number_parse("reactors", value, 1, CTL_REACTORS_MAX, &arguments->reactors);
    case OPTION_PORT_BASE:
        return number_parse("port-base", value, CTL_PORT_BASE_MIN, CTL_PORT_BASE_MAX, &arguments->port_base);
    case OPTION_ALLOW_VOLATILE:
        arguments->allow_volatile = true;
        return CTL_OK;
    case OPTION_NO_START:
        arguments->no_start = true;
        return CTL_OK;
    case OPTION_NODE:
        arguments->node = value;
        return CTL_OK;
    case OPTION_SIGNAL:
        return signal_parse(value, &arguments->signal);
    case OPTION_ENV:
        return environment_parse(value, arguments);
    case OPTION_TIMEOUT:
        return number_parse("timeout", value, 1, 3600, &arguments->timeout_s);
    default:
        arguments->no_save = true;
        return CTL_OK;
    }
}

/* What was asked for besides the arguments. */
struct asked {
    bool help;
    bool version;
    bool seen[OPTION_COUNT];
};

static size_t row_of(int id)
{
    size_t i = 0;
    while (i + 1 < OPTION_COUNT && option_rows[i].option.val != id) {
        i++;
    }
    return i;
}

static int options_parse(int argc, char **argv, struct ctl_arguments *arguments, struct asked *asked)
{
    struct option options[OPTION_COUNT + 1] = {{0}};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        options[i] = option_rows[i].option;
    }
    int status = CTL_OK;
    for (int id = getopt_long(argc, argv, "o:h", options, NULL); id != -1 && !status;
         id = status ? -1 : getopt_long(argc, argv, "o:h", options, NULL)) {
        if (id == '?') {
            return CTL_USAGE; /* getopt_long has said what is wrong */
        }
        asked->seen[row_of(id)] = true;
        if (id == OPTION_HELP) {
            asked->help = true;
        } else if (id == OPTION_VERSION) {
            asked->version = true;
        } else {
            status = option_take(id, optarg, arguments);
        }
    }
    return status;
}

/* Whether the verb takes these options and this number of words. */
static int verb_check(
    const struct verb *verb, const struct asked *asked, int words_left, const struct ctl_arguments *arguments)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (asked->seen[i] && !(option_rows[i].verbs & (verb->options | FOR_ALL))) {
            return ctl_fail(CTL_USAGE, "%s takes no --%s", verb->words, option_rows[i].option.name);
        }
    }
    if (words_left != (verb->name ? 1 : 0)) {
        return ctl_fail(CTL_USAGE, "usage: wardpostctl %s%s%s [OPTION]...", verb->words,
            verb->name ? " " : "", verb->name ? verb->name : "");
    }
    if ((verb->options & FOR_NODE) && !arguments->node) {
        return ctl_fail(CTL_USAGE, "%s needs --node, for example --node router-1", verb->words);
    }
    return CTL_OK;
}

static int verb_unknown(char *const *words, int count)
{
    if (count == 0) {
        return ctl_fail(CTL_USAGE, "no verb given; see wardpostctl --help");
    }
    return ctl_fail(CTL_USAGE, "unknown verb \"%s%s%s\"; see wardpostctl --help", words[0],
        count > 1 ? " " : "", count > 1 ? words[1] : "");
}

int main(int argc, char **argv)
{
    struct ctl_arguments arguments = {
        .dir = "playground", .routers = 1, .shards = 8, .reactors = 2, .timeout_s = 60, .signal = SIGKILL};
    struct asked asked = {.help = false};
    if (sodium_init() < 0) {
        return ctl_fail(CTL_UNAVAILABLE, "libsodium does not start");
    }
    int status = options_parse(argc, argv, &arguments, &asked);
    if (status) {
        return status;
    }
    char *const *words = argv + optind;
    int count = argc - optind, used = 0;
    if (asked.version) {
        printf("wardpostctl %s\n", WP_VERSION);
        return CTL_OK;
    }
    const struct verb *verb = verb_find(words, count, &used);
    if (asked.help && (verb || count == 0 || group_exists(words[0]))) {
        if (verb) {
            verb_help(verb);
        } else {
            verbs_help(count ? words[0] : NULL);
        }
        return CTL_OK;
    }
    if (!verb) {
        return verb_unknown(words, count);
    }
    status = verb_check(verb, &asked, count - used, &arguments);
    if (status) {
        return status;
    }
    arguments.name = verb->name ? words[used] : NULL;
    return verb->run(&arguments);
}
