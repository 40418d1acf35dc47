/* Seeded runs of whole groups under faults (cluster_sim.h). `test_cluster_sim SEED NODES [MEMBERSHIP]`
 * replays one run. With --expect-breach (builds with a seeded bug) the program fails unless some run finds a
 * breach. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cluster_sim.h"

#define SEEDS_PER_SHAPE 120u
#define SEEDS_FOR_A_BUG 500u

static const struct sim_shape {
    const char *name;
    uint32_t node_count;
    bool membership;
    uint32_t duration_ms;
} shapes[] = {
    {"one voter", 1, false, 1500},
    {"three voters", 3, false, 2000},
    {"five voters", 5, false, 2000},
    {"changing members", 5, true, 2000},
};
#define SHAPE_COUNT (sizeof shapes / sizeof shapes[0])

static void run_shape(const struct sim_shape *shape, uint64_t seed, struct sim_result *ret_result)
{
    struct sim_options options = {seed, shape->node_count, shape->membership, shape->duration_ms};
    sim_run(&options, ret_result);
}

static void print_breach(const struct sim_shape *shape, uint64_t seed, const struct sim_result *result)
{
    printf("seed %llu, %s: at %llu ms: %s\n  again: test_cluster_sim %llu %u%s\n", (unsigned long long)seed,
        shape->name, (unsigned long long)result->at_ms, result->breach, (unsigned long long)seed,
        shape->node_count, shape->membership ? " membership" : "");
}

static int expect_breach(void)
{
    for (uint64_t seed = 1; seed <= SEEDS_FOR_A_BUG; seed++) {
        for (size_t i = 0; i < SHAPE_COUNT; i++) {
            struct sim_result result;
            run_shape(&shapes[i], seed, &result);
            if (result.breach[0]) {
                print_breach(&shapes[i], seed, &result);
                return 0;
            }
        }
    }
    printf("the seeded bug survived %u seeds\n", SEEDS_FOR_A_BUG);
    return 1;
}

static int replay(uint64_t seed, uint32_t node_count, bool membership)
{
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (shapes[i].node_count == node_count && shapes[i].membership == membership) {
            struct sim_result result;
            run_shape(&shapes[i], seed, &result);
            if (result.breach[0]) {
                print_breach(&shapes[i], seed, &result);
                return 1;
            }
            printf("seed %llu holds\n", (unsigned long long)seed);
            return 0;
        }
    }
    fprintf(stderr, "no such shape: nodes 1, 3 or 5; membership with 5\n");
    return 2;
}

/* Every seed holds, one in a hundred is run twice and must leave the same trace, and the runs did exercise
 * what they are for: elections, crashes, commands, membership changes. */
static int run_all(void)
{
    int failed = 0;
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        struct sim_result total = {0};
        for (uint64_t seed = 1; seed <= SEEDS_PER_SHAPE; seed++) {
            struct sim_result result;
            run_shape(&shapes[i], seed, &result);
            if (result.breach[0]) {
                print_breach(&shapes[i], seed, &result);
                failed++;
            }
            if (seed % 100 == 1) {
                struct sim_result again;
                run_shape(&shapes[i], seed, &again);
                if (again.trace != result.trace) {
                    printf("seed %llu, %s: two runs differ\n", (unsigned long long)seed, shapes[i].name);
                    failed++;
                }
            }
            total.commands += result.commands;
            total.terms += result.terms;
            total.crashes += result.crashes;
            total.changes += result.changes;
        }
        printf("%-16s %u seeds: %llu commands, %llu terms led, %llu crashes, %llu memberships\n",
            shapes[i].name, SEEDS_PER_SHAPE, (unsigned long long)total.commands,
            (unsigned long long)total.terms, (unsigned long long)total.crashes,
            (unsigned long long)total.changes);
        bool idle = total.commands < SEEDS_PER_SHAPE * 10 || total.terms < SEEDS_PER_SHAPE * 2 ||
                    total.crashes < SEEDS_PER_SHAPE * 2 ||
                    (shapes[i].membership && total.changes < SEEDS_PER_SHAPE * 3);
        if (idle) {
            printf("%s: too little happened\n", shapes[i].name);
            failed++;
        }
    }
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--expect-breach") == 0) {
        return expect_breach();
    }
    if (argc >= 3) {
        return replay(strtoull(argv[1], NULL, 10), (uint32_t)strtoul(argv[2], NULL, 10), argc > 3);
    }
    return run_all();
}
