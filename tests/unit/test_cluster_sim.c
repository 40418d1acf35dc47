/* Seeded runs of whole groups under faults (cluster_sim.h). `test_cluster_sim SEED NODES [MEMBERSHIP]`
 * replays one run. With --expect-breach (builds with a seeded bug) the program fails unless some run finds a
 * breach. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cluster_sim.h"

#define SEEDS_PER_SHAPE 60u
#define SEEDS_FOR_A_BUG 500u

static const struct sim_shape {
    const char *name;
    uint32_t node_count;
    bool membership;
    bool compaction;
    bool snapshots;
    bool forgetting;
    bool early;
    uint32_t duration_ms;
} shapes[] = {
    {"one", 1, false, true, false, false, false, 1500},
    {"three", 3, false, false, false, false, false, 2000},
    {"five", 5, false, false, false, false, false, 2000},
    {"members", 5, true, false, false, false, false, 2000},
    {"compacting", 3, false, true, false, false, false, 2000},
    {"snapshots", 3, false, false, true, false, false, 4000},
    {"learners", 5, true, false, true, false, false, 4000},
    {"forgetting", 3, false, false, false, true, false, 3000},
    {"early", 3, false, false, false, false, true, 2000},
};
#define SHAPE_COUNT (sizeof shapes / sizeof shapes[0])

static void run_shape(const struct sim_shape *shape, uint64_t seed, struct sim_result *ret_result)
{
    struct sim_options options = {seed, shape->node_count, shape->membership, shape->compaction,
        shape->snapshots, shape->forgetting, shape->early, shape->duration_ms};
    sim_run(&options, ret_result);
}

static void print_breach(const struct sim_shape *shape, uint64_t seed, const struct sim_result *result)
{
    printf("seed %llu, %s: at %llu ms: %s\n  again: test_cluster_sim %llu %s\n", (unsigned long long)seed,
        shape->name, (unsigned long long)result->at_ms, result->breach, (unsigned long long)seed,
        shape->name);
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

static int replay(uint64_t seed, const char *name)
{
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
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
    fprintf(stderr,
        "no such shape \"%s\": one, three, five, members, compacting, snapshots, learners, forgetting, "
        "early\n",
        name);
    return 2;
}

/* Every seed holds, one in a hundred is run twice and must leave the same trace, and the runs did exercise
 * what they are for: elections, crashes, commands, membership changes. */
static int run_all(uint64_t seeds)
{
    int failed = 0;
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        struct sim_result total = {0};
        for (uint64_t seed = 1; seed <= seeds; seed++) {
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
            total.compacted += result.compacted;
            total.transfers += result.transfers;
            total.leases += result.leases;
            total.snapshots += result.snapshots;
            total.cut_off += result.cut_off;
            total.forgot += result.forgot;
        }
        printf("%-12s %llu seeds: %llu commands, %llu terms led, %llu crashes, %llu memberships, %llu "
               "transfers\n",
            shapes[i].name, (unsigned long long)seeds, (unsigned long long)total.commands,
            (unsigned long long)total.terms, (unsigned long long)total.crashes,
            (unsigned long long)total.changes, (unsigned long long)total.transfers);
        if (shapes[i].snapshots || shapes[i].forgetting) {
            printf("%-12s %llu snapshots, %llu cut off, %llu forgot\n", "",
                (unsigned long long)total.snapshots, (unsigned long long)total.cut_off,
                (unsigned long long)total.forgot);
        }
        bool idle = total.commands < seeds * 10 || total.terms < seeds * 2 || total.crashes < seeds * 2 ||
                    (shapes[i].node_count > 1 && total.leases < seeds * 50) ||
                    (shapes[i].node_count > 1 && total.transfers < seeds) ||
                    (shapes[i].membership && total.changes < seeds * 3) ||
                    (shapes[i].snapshots && (total.snapshots < seeds / 2 || total.cut_off < seeds / 10)) ||
                    (shapes[i].forgetting && total.forgot < seeds / 2) ||
                    (shapes[i].compaction && total.compacted < seeds / 2);
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
    if (argc == 3) {
        return replay(strtoull(argv[1], NULL, 10), argv[2]);
    }
    return run_all(argc == 2 ? strtoull(argv[1], NULL, 10) : SEEDS_PER_SHAPE);
}
