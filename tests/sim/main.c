/* wardpost-sim: one seed, one run. See README.md. */
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/sim/cluster.h"
#include "tests/sim/edge.h"
#include "tests/sim/faults.h"
#include "tests/sim/history.h"
#include "tests/sim/net.h"
#include "tests/sim/people.h"
#include "tests/sim/ports.h"
#include "tests/sim/uv.h"

#define FORM_US_MAX 60000000u /* until everybody is there */
#define HEAL_US_MAX 90000000u /* until everything is delivered */
#define LOOK_US 20000u

int wp_sim_bug; /* which seeded bug the code has: WP_BUG of the simulator's build */

struct options {
    uint64_t seed;
    uint64_t count;   /* seeds from there on */
    uint64_t seconds; /* with faults */
    uint32_t kinds;
    bool twice;
    bool quiet;
};

struct result {
    uint64_t hash, events, sent, accepted, shown, faults;
    char breach[600];
};

static void look(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    sim_history_groups();
    sim_after(LOOK_US, NULL, look, NULL, 0);
}

static bool run_until_true(bool (*is)(void), uint64_t max_us)
{
    uint64_t end_us = sim_now_us() + max_us;
    while (!is() && sim_now_us() < end_us) {
        if (!sim_run_until(sim_now_us() + 50000)) {
            return false;
        }
    }
    return is();
}

static bool all_there(void)
{
    const struct sim_message *missing;
    return sim_people_quiet() && sim_history_complete(&missing);
}

static void phases(const struct options *options)
{
    if (!run_until_true(sim_people_ready, FORM_US_MAX)) {
        sim_breach("I8", "the cluster does not come up");
        return;
    }
    sim_trace("everybody is there");
    sim_people_active(true);
    sim_faults_begin(options->kinds);
    if (!sim_run_until(sim_now_us() + options->seconds * 1000000)) {
        return;
    }
    sim_trace("healing");
    sim_faults_end();
    sim_people_active(false);
    if (!run_until_true(all_there, HEAL_US_MAX)) {
        const struct sim_message *missing = NULL;
        bool complete = sim_history_complete(&missing);
        sim_breach(complete ? "I8" : "I1",
            complete ? "a device does not get its answers after the faults ended"
                     : "an accepted message from device %u is not delivered",
            missing ? missing->sender : 0);
        return;
    }
    sim_run_until(sim_now_us() + 3000000);
    sim_history_states();
}

static void run(const struct options *options, struct result *result)
{
    sim_world_init(options->seed);
    sim_cluster_create(sim_chance(250) ? 5 : 3, 1 + (uint32_t)sim_random(2));
    sim_people_create(4 + (uint32_t)sim_random(5), (uint32_t)sim_random(3));
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        sim_router_start(&sim_cluster.routers[i]);
    }
    for (uint32_t i = 0; i < sim_cluster.gateway_count; i++) {
        sim_gateway_start(&sim_cluster.gateways[i]);
    }
    sim_after(LOOK_US, NULL, look, NULL, 0);
    phases(options);
    result->hash = sim_trace_hash();
    result->events = sim_event_count();
    result->faults = sim_faults_count();
    sim_history_counts(&result->sent, &result->accepted, &result->shown);
    snprintf(result->breach, sizeof result->breach, "%s", sim_breach_text());
    sim_people_free();
    sim_cluster_destroy();
    sim_wires_free();
    sim_net_free();
    sim_history_free();
    sim_uv_free();
    sim_world_fini();
}

/* In a process of its own: a run that aborts is a result, and each begins alike. */
static void run_apart(const struct options *options, struct result *result)
{
    int ends[2];
    memset(result, 0, sizeof *result);
    fflush(stdout);
    if (pipe(ends) != 0) {
        exit(70);
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run(options, result);
        fflush(stdout);
        ssize_t written = write(ends[1], result, sizeof *result);
        _exit(written == (ssize_t)sizeof *result ? 0 : 70);
    }
    close(ends[1]);
    size_t got = 0;
    for (ssize_t n;
         got < sizeof *result && (n = read(ends[0], (char *)result + got, sizeof *result - got)) > 0;) {
        got += (size_t)n;
    }
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    if (got < sizeof *result) {
        memset(result, 0, sizeof *result);
        snprintf(result->breach, sizeof result->breach, "the run ended with %s %d",
            WIFSIGNALED(status) ? "signal" : "status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static void failure_print(const struct options *options, const struct result *result)
{
    char bug[32] = "";
    if (wp_sim_bug) {
        snprintf(bug, sizeof bug, "WP_BUG=%d ", wp_sim_bug);
    }
    printf("BREACH seed %llu: %s\n", (unsigned long long)options->seed, result->breach);
    printf("  replay: %swardpost-sim --seed %llu --seconds %llu --faults %u --trace --log   (build of %s)\n",
        bug, (unsigned long long)options->seed, (unsigned long long)options->seconds, options->kinds,
        WP_SIM_COMMIT);
}

static uint64_t real_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int run_all(struct options options)
{
    struct result sum = {0}, result, again;
    uint64_t failures = 0, doubled = 0, start_ms = real_ms();
    uint64_t first = options.seed;
    for (; options.seed < first + options.count; options.seed++) {
        run_apart(&options, &result);
        bool twice = options.twice || options.seed % 100 == 99;
        if (twice) {
            run_apart(&options, &again);
            doubled++;
            if (again.hash != result.hash && !result.breach[0]) {
                snprintf(result.breach, sizeof result.breach, "two runs differ: trace %016llx and %016llx",
                    (unsigned long long)result.hash, (unsigned long long)again.hash);
            }
        }
        if (result.breach[0]) {
            failures++;
            failure_print(&options, &result);
        }
        sum.events += result.events;
        sum.sent += result.sent;
        sum.accepted += result.accepted;
        sum.shown += result.shown;
        sum.faults += result.faults;
        if (wp_sim_bug && failures) {
            break;
        }
    }
    double seconds = (double)(real_ms() - start_ms) / 1000.0;
    uint64_t done = options.seed - first + (wp_sim_bug && failures);
    printf("%llu seeds, %llu breaches; %llu faults, %llu messages sent, %llu accepted, %llu shown, %llu "
           "events, %llu "
           "seeds run twice; %.1f s, %.1f seeds/s\n",
        (unsigned long long)done, (unsigned long long)failures, (unsigned long long)sum.faults,
        (unsigned long long)sum.sent, (unsigned long long)sum.accepted, (unsigned long long)sum.shown,
        (unsigned long long)sum.events, (unsigned long long)doubled, seconds,
        (double)done / (seconds > 0 ? seconds : 1));
    if (options.count == 1 && !options.quiet) {
        printf("trace %016llx\n", (unsigned long long)result.hash);
    }
    return failures ? 1 : 0;
}

static const char usage[] =
    "usage: wardpost-sim [--seed N] [--count N] [--seconds S] [--faults SET] [--twice] [--trace] [--log]\n"
    "\n"
    "Runs a whole cluster (routers, gateways, devices) on a simulated clock, network and disk. A seed is a "
    "run.\n"
    "  --seed N      first seed (1)\n"
    "  --count N     so many seeds from there (1)\n"
    "  --seconds S   simulated time with faults (20)\n"
    "  --faults SET  sum of: 1 kill, 2 kill all, 4 pause, 8 cut, 16 slow, 32 disk, 64 clock, 128 transfer "
    "(255);\n"
    "                256 with 32: disks that were rolled back too\n"
    "  --twice       every seed twice; the traces must be equal (always for one in a hundred)\n"
    "  --trace       print every message and fault; --log: the programs' log lines too\n"
    "WP_BUG=N in the environment switches a seeded bug on (README.md).\n"
    "example: wardpost-sim --seed 1 --count 200\n";

int main(int argc, char **argv)
{
    static const struct option rows[] = {{"seed", 1, 0, 's'}, {"count", 1, 0, 'c'}, {"seconds", 1, 0, 't'},
        {"faults", 1, 0, 'f'}, {"twice", 0, 0, '2'}, {"trace", 0, 0, 'v'}, {"log", 0, 0, 'l'},
        {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    struct options options = {.seed = 1, .count = 1, .seconds = 20, .kinds = SIM_FAULT_EVERY};
    const char *bug = getenv("WP_BUG");
    wp_sim_bug = bug ? atoi(bug) : 0;
    for (int choice; (choice = getopt_long(argc, argv, "", rows, NULL)) != -1;) {
        switch (choice) {
        case 's':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            options.count = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options.seconds = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            options.kinds = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case '2':
            options.twice = true;
            break;
        case 'v':
            sim_trace_on = true;
            break;
        case 'l':
            sim_log_on = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 64;
        }
    }
    sim_entropy_install();
    if (sodium_init() < 0) {
        return 70;
    }
    return run_all(options);
}
