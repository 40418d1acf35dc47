/* `wardpost-bench`: load and latency against a playground, as devices see them. */
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "bench/beside.h"
#include "bench/load.h"
#include "bench/population.h"
#include "bench/report.h"

enum { EXIT_USAGE = 64, EXIT_UNAVAILABLE = 69, EXIT_SOFTWARE = 70, EXIT_IO = 74 };

static const struct scenario {
    const char *name;
    bool online;
    bool team;
    const char *what;
} scenarios[] = {
    {"accept", false, false, "recipients are offline: how many messages a second are taken and made safe"},
    {"online", true, false, "every recipient is connected: acknowledgement and end-to-end latency"},
    {"fanout", true, true, "messages to a team of all recipients, connected: until the last one has it"},
};
#define PREFIX_SIZE_MAX 32u
#define BESIDE_RECEIVERS 500u
#define BESIDE_SENDERS 16u
#define SCENARIO_COUNT (sizeof scenarios / sizeof scenarios[0])

struct arguments {
    const struct scenario *scenario;
    const char *dir;
    const char *json;
    const char *prefix;
    uint32_t users, size, seconds, warmup, rate, window, senders, ttl, seed, messages, beside;
    bool tls;
    bool help;
};

struct bench {
    struct arguments arguments;
    struct wp_playground playground;
    struct wp_profile gateways;
    struct wp_load_config config;
    struct wp_load_result result;
    struct wp_beside *beside; /* NULL: nothing else goes on */
    struct wp_beside_result beside_result;
    struct wp_disk_floor floor;
    struct wp_report report;
};

struct option_row {
    struct option option;
    const char *argument;
    const char *help;
    size_t offset; /* of a uint32_t in struct arguments; 0 = handled by hand */
    uint32_t lowest, highest;
};

#define NUMBER(name, letter, argument, help, field, lowest, highest)                                         \
    {                                                                                                        \
        {name, required_argument, NULL, letter}, argument, help, offsetof(struct arguments, field), lowest,  \
            highest                                                                                          \
    }
static const struct option_row option_rows[] = {
    {{"playground", required_argument, NULL, 'p'}, "DIR", "playground to load (default ./playground)", 0, 0,
        0},
    NUMBER("users", 'u', "N", "recipients (default 1000; fanout: at most 4999)", users, 1, 99999),
    NUMBER("size", 'b', "BYTES", "body size (default 512, at least 24)", size, WP_LOAD_STAMP_SIZE, 1048576),
    NUMBER("seconds", 's', "S", "measured time (default 10)", seconds, 1, 86400),
    NUMBER("warmup", 'w', "S", "time before measuring (default 2)", warmup, 1, 3600),
    NUMBER("rate", 'r', "R", "open loop: messages a second (fanout: default 5)", rate, 1, 1000000),
    NUMBER("window", 'W', "N", "closed loop: messages in flight (default 512)", window, 1, 65536),
    NUMBER("senders", 'n', "N", "sending devices (default 16; fanout: 1)", senders, 1, 1000),
    NUMBER("ttl", 't', "SECONDS", "time to live of the messages (default 600)", ttl, 1, 2592000),
    NUMBER("seed", 'e', "N", "seed of the choice of recipients (default random)", seed, 1, UINT32_MAX),
    NUMBER(
        "messages", 'm', "N", "end when so many were published (warm-up included)", messages, 1, 1000000000),
    NUMBER("beside", 'B', "R", "also R messages a second to 500 others, who are offline", beside, 1, 1000000),
    {{"prefix", required_argument, NULL, 'P'}, "NAME",
        "how the names of its users begin: two at once need two (default bench)", 0, 0, 0},
    {{"tls", no_argument, NULL, 'T'}, NULL, "connect the devices with TLS", 0, 0, 0},
    {{"json", required_argument, NULL, 'j'}, "FILE",
        "also write the result as JSON (- = standard output, then no table)", 0, 0, 0},
    {{"help", no_argument, NULL, 'h'}, NULL, "show this", 0, 0, 0},
    {{"version", no_argument, NULL, 'V'}, NULL, "show the version", 0, 0, 0},
};
#define OPTION_ROWS (sizeof option_rows / sizeof option_rows[0])

static void help_print(void)
{
    printf("Usage: wardpost-bench SCENARIO --playground DIR [OPTIONS]\n\nScenarios:\n");
    for (unsigned i = 0; i < SCENARIO_COUNT; i++) {
        printf("  %-8s %s\n", scenarios[i].name, scenarios[i].what);
    }
    printf("\nOptions:\n");
    for (unsigned i = 0; i < OPTION_ROWS; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", option_rows[i].option.name,
            option_rows[i].argument ? option_rows[i].argument : "");
        printf("  %-18s %s\n", left, option_rows[i].help);
    }
    printf(
        "\nLatency counts from the scheduled time (--rate) or from the publish (--window). While it "
        "measures, SIGUSR1 begins\n"
        "a new lap with figures of its own; SIGTERM and SIGINT end it and it reports.\n"
        "\nExample:\n  wardpost-bench online --playground ./playground --users 100 --rate 500 --seconds 10\n"
        "\nExit codes: 0 done, 64 usage, 69 the playground does not serve, 70 out of memory, 74 cannot "
        "write.\n");
}

static int number_take(struct arguments *arguments, const struct option_row *row, const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < row->lowest || value > row->highest) {
        fprintf(stderr, "wardpost-bench: --%s \"%s\" is no number from %u to %u\n", row->option.name, text,
            row->lowest, row->highest);
        return WP_E_INVALID;
    }
    *(uint32_t *)((char *)arguments + row->offset) = (uint32_t)value;
    return WP_OK;
}

static int arguments_parse(int argc, char **argv, struct arguments *arguments)
{
    struct option options[OPTION_ROWS + 1] = {{0}};
    for (unsigned i = 0; i < OPTION_ROWS; i++) {
        options[i] = option_rows[i].option;
    }
    for (int letter, index = -1; (letter = getopt_long(argc, argv, "h", options, &index)) != -1; index = -1) {
        if (letter == 'h') {
            arguments->help = true;
        } else if (letter == 'V') {
            printf("wardpost-bench %s\n", WP_VERSION);
            exit(0);
        } else if (letter == 'T') {
            arguments->tls = true;
        } else if (letter == 'p') {
            arguments->dir = optarg;
        } else if (letter == 'j') {
            arguments->json = optarg;
        } else if (letter == 'P' && strlen(optarg) > 0 && strlen(optarg) <= PREFIX_SIZE_MAX) {
            arguments->prefix = optarg;
        } else if (letter == '?' || index < 0 ||
                   number_take(arguments, &option_rows[index], optarg) != WP_OK) {
            return WP_E_INVALID;
        }
    }
    if (arguments->help) {
        return WP_OK;
    }
    const char *name = optind < argc ? argv[optind] : NULL;
    for (unsigned i = 0; name && i < SCENARIO_COUNT; i++) {
        if (strcmp(scenarios[i].name, name) == 0) {
            arguments->scenario = &scenarios[i];
        }
    }
    if (!arguments->scenario || optind + 1 < argc) {
        fprintf(stderr,
            "wardpost-bench: %s; scenarios are accept, online, fanout; see wardpost-bench --help\n",
            !name                  ? "a scenario is missing"
            : !arguments->scenario ? "unknown scenario"
                                   : "one scenario at a time");
        return WP_E_INVALID;
    }
    if (arguments->rate > 0 && arguments->window > 0) {
        fprintf(stderr, "wardpost-bench: --rate and --window exclude each other\n");
        return WP_E_INVALID;
    }
    return WP_OK;
}

static void usage_mark(void *context, bool start)
{
    struct bench *bench = context;
    for (uint32_t i = 0; i < bench->report.process_count; i++) {
        struct wp_report_process *process = &bench->report.processes[i];
        wp_usage_read(process->pid, start ? &process->start : &process->end);
    }
    if (bench->beside) {
        wp_beside_mark(bench->beside, start);
    }
}

/* One more process whose use of the machine is told. */
static void process_add(struct bench *bench, const char *name, int pid)
{
    struct wp_report_process *process = &bench->report.processes[bench->report.process_count++];
    snprintf(process->name, sizeof process->name, "%s", name);
    process->pid = pid;
}

static int gateways_find(struct bench *bench, char *text, size_t text_size)
{
    struct wp_playground *playground = &bench->playground;
    for (unsigned i = 0; i < playground->node_count; i++) {
        const struct wp_playground_node *node = &playground->nodes[i];
        struct wp_report_process *process = &bench->report.processes[bench->report.process_count++];
        char endpoint[32];
        _Static_assert(sizeof process->name == sizeof node->id, "both hold the longest name");
        memcpy(process->name, node->id, sizeof process->name);
        process->pid = (int)node->process.pid;
        if (node->kind == WP_PLAYGROUND_GATEWAY) {
            wp_playground_endpoint(
                node, bench->arguments.tls ? WP_PLAYGROUND_MQTTS : WP_PLAYGROUND_MQTT, endpoint);
            wp_profile_gateway_add(&bench->gateways, endpoint);
        }
    }
    process_add(bench, "generator", (int)getpid());
    bench->gateways.tls = bench->arguments.tls;
    snprintf(bench->gateways.ca_path, sizeof bench->gateways.ca_path, "%s/ca.pem", playground->dir);
    if (bench->gateways.gateway_count == 0) {
        snprintf(text, text_size, "the playground has no gateway");
        return WP_E_CONFIG;
    }
    return WP_OK;
}

static void defaults_fill(struct arguments *arguments)
{
    bool team = arguments->scenario->team;
    arguments->senders = arguments->senders ? arguments->senders : team ? 1 : 16;
    if (team && arguments->rate == 0 && arguments->window == 0) {
        arguments->rate = 5;
    }
}

/* Other traffic: from senders to recipients that the measurement has nothing to do with. */
static int beside_start(struct bench *bench, char *text, size_t text_size)
{
    const struct arguments *arguments = &bench->arguments;
    struct wp_bench_identity *senders = NULL, *receivers = NULL;
    char names[2][PREFIX_SIZE_MAX + 16];
    snprintf(names[0], sizeof names[0], "%s-beside-r", arguments->prefix);
    snprintf(names[1], sizeof names[1], "%s-beside-s", arguments->prefix);
    int error =
        wp_population_prepare(&bench->playground, names[0], BESIDE_RECEIVERS, &receivers, text, text_size);
    error = error ? error
                  : wp_population_prepare(
                        &bench->playground, names[1], BESIDE_SENDERS, &senders, text, text_size);
    if (!error) {
        const struct wp_load_config config = {.gateways = &bench->gateways,
            .senders = senders,
            .sender_count = BESIDE_SENDERS,
            .receivers = receivers,
            .receiver_count = BESIDE_RECEIVERS,
            .body_bytes = arguments->size,
            .ttl_s = arguments->ttl,
            .lane = WP__LANE__ROUTINE,
            .rate_per_s = arguments->beside,
            .warmup_s = 1,
            .seed = randombytes_random()};
        error = wp_beside_start(&config, &bench->beside, text, text_size);
    }
    if (!error) {
        process_add(bench, "beside", wp_beside_pid(bench->beside));
    }
    free(senders);
    free(receivers);
    return error;
}

static int load_run(struct bench *bench, char *text, size_t text_size)
{
    int error = bench->arguments.beside ? beside_start(bench, text, text_size) : WP_OK;
    error = error ? error : wp_load_run(&bench->config, &bench->result, text, text_size);
    if (bench->beside) {
        char beside_text[256] = "";
        if (error) {
            wp_beside_mark(bench->beside, false); /* nothing was measured that would have ended it */
        }
        int beside_error =
            wp_beside_finish(&bench->beside, &bench->beside_result, beside_text, sizeof beside_text);
        if (!error && beside_error) {
            snprintf(text, text_size, "%s", beside_text);
            error = beside_error;
        }
    }
    return error;
}

static int bench_run(struct bench *bench, char *text, size_t text_size)
{
    const struct arguments *arguments = &bench->arguments;
    defaults_fill(&bench->arguments);
    char names[3][PREFIX_SIZE_MAX + 8]; /* recipients, senders, team */
    snprintf(names[0], sizeof names[0], "%s-r", arguments->prefix);
    snprintf(names[1], sizeof names[1], "%s-s", arguments->prefix);
    snprintf(names[2], sizeof names[2], "%s-team", arguments->prefix);
    struct wp_bench_identity *senders = NULL, *receivers = NULL;
    int error = wp_playground_load(arguments->dir, &bench->playground, text, text_size);
    error = error ? error : gateways_find(bench, text, text_size);
    error = error ? error
                  : wp_population_prepare(
                        &bench->playground, names[0], arguments->users, &receivers, text, text_size);
    error = error ? error
                  : wp_population_prepare(
                        &bench->playground, names[1], arguments->senders, &senders, text, text_size);
    if (!error && arguments->scenario->team) {
        const struct wp_bench_identity *const members[] = {senders, receivers};
        const uint32_t counts[] = {arguments->senders, arguments->users};
        error = wp_population_team(&bench->playground, names[2], members, counts, text, text_size);
    }
    if (!error) {
        error = wp_disk_floor_measure(bench->playground.dir, &bench->floor);
        fprintf(stderr, "disk: 4 KiB fdatasync p50 %.3f ms, p99 %.3f ms on %s\n",
            (double)bench->floor.p50_us / 1000.0, (double)bench->floor.p99_us / 1000.0,
            bench->floor.file_system);
    }
    if (!error) {
        bench->config = (struct wp_load_config){.gateways = &bench->gateways,
            .senders = senders,
            .sender_count = arguments->senders,
            .receivers = receivers,
            .receiver_count = arguments->users,
            .receivers_online = arguments->scenario->online,
            .team = arguments->scenario->team ? names[2] : NULL,
            .body_bytes = arguments->size,
            .ttl_s = arguments->ttl,
            .lane = WP__LANE__ROUTINE,
            .rate_per_s = arguments->rate,
            .window = arguments->rate     ? 0
                      : arguments->window ? arguments->window
                                          : 512,
            .warmup_s = arguments->warmup,
            .seconds = arguments->seconds,
            .messages = arguments->messages,
            .seed = arguments->seed ? arguments->seed : randombytes_random(),
            .mark = usage_mark,
            .context = bench};
        error = load_run(bench, text, text_size);
    }
    free(senders);
    free(receivers);
    return error;
}

static int bench_report(struct bench *bench)
{
    const char *json = bench->arguments.json;
    bool json_only = json && strcmp(json, "-") == 0;
    bench->report.scenario = bench->arguments.scenario->name;
    bench->report.config = &bench->config;
    bench->report.result = &bench->result;
    bench->report.floor = &bench->floor;
    bench->report.beside = bench->arguments.beside ? &bench->beside_result : NULL;
    if (!json_only) {
        wp_report_table(&bench->report, stdout);
    }
    if (!json) {
        return 0;
    }
    FILE *out = json_only ? stdout : fopen(json, "we");
    int error = out ? wp_report_json(&bench->report, out) : WP_E_IO;
    if (out && out != stdout && fclose(out) != 0) {
        error = WP_E_IO;
    }
    if (error) {
        fprintf(stderr, "wardpost-bench: cannot write \"%s\"\n", json);
    }
    return error ? EXIT_IO : 0;
}

int main(int argc, char **argv)
{
    struct bench *bench = calloc(1, sizeof *bench);
    if (!bench || sodium_init() < 0) {
        fprintf(stderr, "wardpost-bench: out of memory\n");
        free(bench);
        return EXIT_SOFTWARE;
    }
    bench->arguments = (struct arguments){.dir = "playground",
        .prefix = "bench",
        .users = 1000,
        .size = 512,
        .seconds = 10,
        .warmup = 2,
        .ttl = 600};
    int exit_code = EXIT_USAGE;
    char text[512] = "";
    if (arguments_parse(argc, argv, &bench->arguments) == WP_OK) {
        if (bench->arguments.help) {
            help_print();
            exit_code = 0;
        } else {
            int error = bench_run(bench, text, sizeof text);
            exit_code =
                error ? (error == WP_E_NOMEM ? EXIT_SOFTWARE : EXIT_UNAVAILABLE) : bench_report(bench);
            if (error) {
                fprintf(stderr, "wardpost-bench: %s\n", text[0] ? text : wp_error_text(error));
            }
        }
    }
    free(bench);
    return exit_code;
}
