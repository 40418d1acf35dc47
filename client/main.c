/* `wardpost`: a person's device on the command line. */
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "client/command.h"

struct verb {
    const char *name;
    const char *usage;
    const char *what;
    const char *example;
    int (*run)(const struct wp_command *command);
};

static const struct verb verbs[] = {
    {"send", "send RECIPIENT | --team TEAM [TEXT... | -]", "send a message; without TEXT it is read from standard input",
        "wardpost --as alice/phone send bob \"bed 4 needs you\" --lane stat", wp_command_send},
    {"inbox", "inbox", "show what is waiting, once, and end", "wardpost --as bob/phone inbox", wp_command_inbox},
    {"listen", "listen", "show messages as they come, until Ctrl-C or --count", "wardpost --as bob/phone listen --count 10",
        wp_command_listen},
    {"receipts", "receipts", "show how messages ended, once, and end; receipts are kept from the first time on",
        "wardpost --as alice/phone receipts", wp_command_receipts},
};
#define VERB_COUNT (sizeof verbs / sizeof verbs[0])

enum { OPTION_AS = 256, OPTION_GATEWAY, OPTION_SECRET_FILE, OPTION_TLS, OPTION_CA, OPTION_LANE, OPTION_TTL, OPTION_TIMEOUT,
    OPTION_COUNT, OPTION_ID, OPTION_DIR, OPTION_HELP, OPTION_VERSION, OPTION_SEEN, OPTION_TEAM, OPTION_WAIT };

struct option_row {
    struct option option;
    const char *argument;
    const char *help;
};

static const struct option_row option_rows[] = {
    {{"as", required_argument, NULL, OPTION_AS}, "USER/DEVICE", "who this device is"},
    {{"dir", required_argument, NULL, OPTION_DIR}, "DIR", "playground to use (default ./playground)"},
    {{"gateway", required_argument, NULL, OPTION_GATEWAY}, "HOST:PORT", "gateway to use instead of the playground's; may be repeated"},
    {{"secret-file", required_argument, NULL, OPTION_SECRET_FILE}, "FILE", "secret of the device (with --gateway)"},
    {{"seen-file", required_argument, NULL, OPTION_SEEN}, "FILE", "remember shown message ids here (with --gateway)"},
    {{"tls", no_argument, NULL, OPTION_TLS}, NULL, "use TLS"},
    {{"ca", required_argument, NULL, OPTION_CA}, "FILE", "trusted certificate (PEM) for --tls"},
    {{"lane", required_argument, NULL, OPTION_LANE}, "LANE", "send: stat, urgent or routine (default)"},
    {{"ttl", required_argument, NULL, OPTION_TTL}, "SECONDS", "send: time to live (default: the cluster's, 7 days)"},
    {{"id", required_argument, NULL, OPTION_ID}, "UUID", "send: message id, to repeat a send whose outcome is unknown"},
    {{"team", required_argument, NULL, OPTION_TEAM}, "TEAM", "send: to every member of a team that this user belongs to"},
    {{"wait", no_argument, NULL, OPTION_WAIT}, NULL, "send: show the receipts, of one person or (with --count) of N members"},
    {{"timeout", required_argument, NULL, OPTION_TIMEOUT}, "SECONDS", "send, inbox, receipts: give up after so long (default 30)"},
    {{"count", required_argument, NULL, OPTION_COUNT}, "N", "listen: end after N messages; send --wait: after N receipts"},
    {{"output", required_argument, NULL, 'o'}, "table|json", "form of the output (-o); json is one object a line"},
    {{"help", no_argument, NULL, OPTION_HELP}, NULL, "show this (-h)"},
    {{"version", no_argument, NULL, OPTION_VERSION}, NULL, "show the version"},
};
#define OPTION_ROWS (sizeof option_rows / sizeof option_rows[0])

struct arguments {
    struct wp_command command;
    const char *as;
    const char *dir;
    const char *secret_file;
    const char *ca;
    const char *seen_file;
    bool tls;
    bool help;
};

static void help_print(const struct verb *verb)
{
    if (verb) {
        printf("Usage: wardpost [OPTIONS] %s\n\n%s.\n\nExample:\n  %s\n", verb->usage, verb->what, verb->example);
    } else {
        printf("Usage: wardpost [OPTIONS] VERB [ARGUMENTS]\n\nA device of a person: send and receive messages.\n\nVerbs:\n");
        for (unsigned i = 0; i < VERB_COUNT; i++) {
            printf("  %-44s %s\n", verbs[i].usage, verbs[i].what);
        }
        printf("\nExample:\n  %s\n", verbs[0].example);
    }
    printf("\nOptions:\n");
    for (unsigned i = 0; i < OPTION_ROWS; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", option_rows[i].option.name, option_rows[i].argument ? " " : "",
            option_rows[i].argument ? option_rows[i].argument : "");
        printf("  %-26s %s\n", left, option_rows[i].help);
    }
    printf("\nExit codes: 0 done, 64 usage, 65 refused, 69 no answer (outcome unknown), 74 input or output, 75 try again,\n"
           "77 wrong secret or unknown device, 78 configuration.\n");
}

static int number_parse(const char *name, const char *text, uint32_t highest, uint32_t *ret_value)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value == 0 || value > highest) {
        fprintf(stderr, "wardpost: --%s \"%s\" is no number from 1 to %u\n", name, text, highest);
        return WP_E_INVALID;
    }
    *ret_value = (uint32_t)value;
    return WP_OK;
}

static int lane_parse(const char *text, Wp__Lane *ret_lane)
{
    for (unsigned i = 0; i <= WP__LANE__STAT; i++) {
        if (strcmp(text, wp_lane_name((Wp__Lane)i)) == 0) {
            *ret_lane = (Wp__Lane)i;
            return WP_OK;
        }
    }
    fprintf(stderr, "wardpost: --lane \"%s\" is none of stat, urgent, routine\n", text);
    return WP_E_INVALID;
}

static int option_take(struct arguments *arguments, int option, const char *value)
{
    struct wp_command *command = &arguments->command;
    uint32_t seconds = 0;
    int error = WP_OK;
    switch (option) {
    case OPTION_AS:
        arguments->as = value;
        return WP_OK;
    case OPTION_DIR:
        arguments->dir = value;
        return WP_OK;
    case OPTION_SECRET_FILE:
        arguments->secret_file = value;
        return WP_OK;
    case OPTION_SEEN:
        arguments->seen_file = value;
        return WP_OK;
    case OPTION_CA:
        arguments->ca = value;
        arguments->tls = true;
        return WP_OK;
    case OPTION_TLS:
        arguments->tls = true;
        return WP_OK;
    case OPTION_GATEWAY:
        error = wp_profile_gateway_add(&command->profile, value);
        if (error) {
            fprintf(stderr, "wardpost: --gateway \"%s\" is no HOST:PORT\n", value);
        }
        return error;
    case OPTION_LANE:
        return lane_parse(value, &command->lane);
    case OPTION_TEAM:
        command->team = value;
        return WP_OK;
    case OPTION_WAIT:
        command->wait = true;
        return WP_OK;
    case OPTION_TTL:
        return number_parse("ttl", value, 30u * 24 * 3600, &command->ttl_s);
    case OPTION_TIMEOUT:
        error = number_parse("timeout", value, 24u * 3600, &seconds);
        command->timeout_ms = seconds * 1000;
        return error;
    case OPTION_COUNT:
        return number_parse("count", value, 1000000000u, &command->count);
    case OPTION_ID:
        command->has_id = wp_uuid_parse(wp_slice(value, strlen(value)), command->id) == WP_OK && wp_uuid7_valid(command->id);
        if (!command->has_id) {
            fprintf(stderr, "wardpost: --id \"%s\" is no UUID of version 7\n", value);
        }
        return command->has_id ? WP_OK : WP_E_INVALID;
    case 'o':
        command->json = strcmp(value, "json") == 0;
        if (!command->json && strcmp(value, "table") != 0) {
            fprintf(stderr, "wardpost: -o \"%s\" is none of table, json\n", value);
            return WP_E_INVALID;
        }
        return WP_OK;
    case OPTION_HELP:
    case 'h':
        arguments->help = true;
        return WP_OK;
    case OPTION_VERSION:
        printf("wardpost %s\n", WP_VERSION);
        exit(0);
    default:
        fprintf(stderr, "wardpost: see wardpost --help\n");
        return WP_E_INVALID;
    }
}

static int profile_fill(struct arguments *arguments, char *text, size_t text_size)
{
    struct wp_profile *profile = &arguments->command.profile;
    if (profile->gateway_count == 0) {
        return wp_profile_from_playground(arguments->dir, arguments->as, arguments->tls, profile, text, text_size);
    }
    profile->tls = arguments->tls;
    snprintf(profile->username, sizeof profile->username, "%s", arguments->as);
    snprintf(profile->ca_path, sizeof profile->ca_path, "%s", arguments->ca ? arguments->ca : "");
    snprintf(profile->seen_path, sizeof profile->seen_path, "%s", arguments->seen_file ? arguments->seen_file : "");
    if (!arguments->secret_file) {
        snprintf(text, text_size, "--gateway needs --secret-file FILE");
        return WP_E_INVALID;
    }
    return wp_profile_secret_load(arguments->secret_file, profile, text, text_size);
}

static const struct verb *verb_find(const char *name)
{
    for (unsigned i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct option options[OPTION_ROWS + 1] = {{0}};
    struct arguments arguments = {.command = {.timeout_ms = 30000}, .dir = "playground"};
    for (unsigned i = 0; i < OPTION_ROWS; i++) {
        options[i] = option_rows[i].option;
    }
    for (int option; (option = getopt_long(argc, argv, "ho:", options, NULL)) != -1;) {
        if (option_take(&arguments, option, optarg) != WP_OK) {
            return WP_EXIT_USAGE;
        }
    }
    const struct verb *verb = optind < argc ? verb_find(argv[optind]) : NULL;
    if (arguments.help) {
        help_print(verb);
        return WP_EXIT_OK;
    }
    if (!verb) {
        fprintf(stderr, "wardpost: %s%s%s; verbs are send, inbox, listen, receipts; see wardpost --help\n",
            optind < argc ? "unknown verb \"" : "a verb is missing", optind < argc ? argv[optind] : "", optind < argc ? "\"" : "");
        return WP_EXIT_USAGE;
    }
    if (!arguments.as) {
        fprintf(stderr, "wardpost: say who you are: --as USER/DEVICE\n");
        return WP_EXIT_USAGE;
    }
    if (sodium_init() < 0) {
        fprintf(stderr, "wardpost: libsodium does not start\n");
        return WP_EXIT_SOFTWARE;
    }
    char text[512] = "";
    int error = profile_fill(&arguments, text, sizeof text);
    if (error) {
        fprintf(stderr, "wardpost: %s\n", text[0] ? text : wp_error_text(error));
        return error == WP_E_INVALID ? WP_EXIT_USAGE : WP_EXIT_CONFIG;
    }
    arguments.command.argument_count = argc - optind - 1;
    arguments.command.arguments = argv + optind + 1;
    return verb->run(&arguments.command);
}
