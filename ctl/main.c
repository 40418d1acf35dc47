/* Why this file exists: the command line of wardpostctl follows from the two tables of verbs.h; help, parsing
 * and checks read them and nothing else knows a verb's name. */
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ports.h"
#include "ctl/verbs.h"

/* -- help
 * -------------------------------------------------------------------------------------------------------- */

static void options_help(unsigned set)
{
    for (size_t i = 0; ctl_options[i].option.name; i++) {
        const struct ctl_option *row = &ctl_options[i];
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

static void verb_help(const struct ctl_verb *verb)
{
    printf("Usage: wardpostctl %s%s%s [OPTION]...\n\n%s.\n\nExample\n  %s\n\nOptions\n", verb->words,
        verb->names ? " " : "", verb->names ? verb->names : "", verb->help, verb->example);
    options_help(verb->options);
    exits_help();
}

/* All verbs, or those that begin with the word `group`. */
static void verbs_help(const char *group)
{
    printf("Usage: wardpostctl VERB [OPTION]...\n\nVerbs\n");
    for (size_t i = 0; ctl_verbs[i].words; i++) {
        char left[64];
        if (!group || strncmp(ctl_verbs[i].words, group, strlen(group)) == 0) {
            snprintf(left, sizeof left, "%s%s%s", ctl_verbs[i].words, ctl_verbs[i].names ? " " : "",
                ctl_verbs[i].names ? ctl_verbs[i].names : "");
            printf("  %-32s %s\n", left, ctl_verbs[i].help);
        }
    }
    printf("\nwardpostctl VERB --help has the options and an example.\n\nOptions of every verb\n");
    options_help(0);
    exits_help();
}

/* -- parsing
 * ----------------------------------------------------------------------------------------------------- */

/* Words of "SHARD NODE". */
static unsigned words_count(const char *names)
{
    unsigned count = names ? 1 : 0;
    for (; names && *names; names++) {
        count += *names == ' ';
    }
    return count;
}

/* "TEAM USER..." takes any number of the last one, at least one. */
static bool words_open(const char *names)
{
    size_t size = names ? strlen(names) : 0;
    return size > 3 && strcmp(names + size - 3, "...") == 0;
}

static bool group_exists(const char *word)
{
    for (size_t i = 0; ctl_verbs[i].words; i++) {
        size_t size = strlen(word);
        if (strncmp(ctl_verbs[i].words, word, size) == 0 && ctl_verbs[i].words[size] == ' ') {
            return true;
        }
    }
    return false;
}

/* The verb that the first words are; ret_used says how many. NULL: none. */
static const struct ctl_verb *verb_find(char *const *words, int count, int *ret_used)
{
    for (size_t i = 0; ctl_verbs[i].words; i++) {
        char text[64];
        int used = (int)words_count(ctl_verbs[i].words);
        size_t size = 0;
        for (int k = 0; k < used && k < count && size < sizeof text; k++) {
            size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", k ? " " : "", words[k]);
        }
        if (used <= count && size < sizeof text && strcmp(ctl_verbs[i].words, text) == 0) {
            *ret_used = used;
            return &ctl_verbs[i];
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
    case OPTION_FROM:
        arguments->from = value;
        return strcmp(value, "oldest") == 0 || strcmp(value, "now") == 0
                   ? CTL_OK
                   : ctl_fail(CTL_USAGE, "--from \"%s\" is neither now nor oldest", value);
    case OPTION_ENDPOINT:
        arguments->endpoint = value;
        return CTL_OK;
    case OPTION_KEY:
        arguments->key = value;
        return CTL_OK;
    case OPTION_BY:
        arguments->by = value;
        return CTL_OK;
    case OPTION_WAIT:
        arguments->wait = true;
        return CTL_OK;
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
    bool seen[CTL_OPTIONS_MAX];
};

static size_t row_of(int id)
{
    size_t i = 0;
    while (ctl_options[i + 1].option.name && ctl_options[i].option.val != id) {
        i++;
    }
    return i;
}

static int options_parse(int argc, char **argv, struct ctl_arguments *arguments, struct asked *asked)
{
    struct option options[CTL_OPTIONS_MAX] = {{0}};
    for (size_t i = 0; ctl_options[i].option.name; i++) {
        options[i] = ctl_options[i].option;
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
static int verb_check(const struct ctl_verb *verb, const struct asked *asked, int words_left,
    const struct ctl_arguments *arguments)
{
    for (size_t i = 0; ctl_options[i].option.name; i++) {
        if (asked->seen[i] && !(ctl_options[i].verbs & (verb->options | FOR_ALL))) {
            return ctl_fail(CTL_USAGE, "%s takes no --%s", verb->words, ctl_options[i].option.name);
        }
    }
    int wanted = (int)words_count(verb->names);
    if (words_open(verb->names) ? words_left < wanted : words_left != wanted) {
        return ctl_fail(CTL_USAGE, "usage: wardpostctl %s%s%s [OPTION]...", verb->words,
            verb->names ? " " : "", verb->names ? verb->names : "");
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
        .dir = "playground", .routers = 1, .shards = 8, .timeout_s = 60, .signal = SIGKILL};
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
    const struct ctl_verb *verb = verb_find(words, count, &used);
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
    for (unsigned i = 0; i < words_count(verb->names); i++) {
        arguments.words[i] = words[used + (int)i];
    }
    arguments.name = arguments.words[0];
    arguments.all_words = words + used;
    arguments.word_count = (unsigned)(count - used);
    return verb->run(&arguments);
}
