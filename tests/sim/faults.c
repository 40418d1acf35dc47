/* See faults.h. One step draws at most one fault; what it breaks it also repairs, later. */
#include "tests/sim/faults.h"

#include "base/error.h"
#include "storage/sim/sim.h"
#include "tests/sim/cluster.h"
#include "tests/sim/net.h"

#define STEP_US_MAX 1200000u

static struct {
    bool active;
    uint32_t kinds;
    uint64_t count;
    uint64_t forgot_until_us; /* a disk was lost lately: not another one before the first is rebuilt */
} faults;

static struct sim_process *any_process(void)
{
    uint32_t at = (uint32_t)sim_random(sim_cluster.router_count * 2 + sim_cluster.gateway_count);
    uint32_t routers = 2 * sim_cluster.router_count; /* they matter more */
    return at < routers ? &sim_cluster.routers[at / 2].process : &sim_cluster.gateways[at - routers].process;
}

static struct sim_router *any_router(void)
{
    return &sim_cluster.routers[sim_random(sim_cluster.router_count)];
}

static uint32_t dead_routers(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        count += !sim_cluster.routers[i].process.alive;
    }
    return count;
}

/* --- crash and come back --- */

static void revive(void *context, uint64_t argument)
{
    struct sim_process *process = context;
    struct sim_router *router = sim_router_of(process);
    if (process->alive || process->life != argument) {
        return;
    }
    if (router) {
        sim_router_start(router);
    } else {
        sim_gateway_start(sim_gateway_of(process));
    }
}

/* Whoever died for whatever reason is started again, as a service manager does. */
static void supervise(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
    for (uint32_t i = 0; i < sim_cluster.router_count + sim_cluster.gateway_count; i++) {
        struct sim_process *process = i < sim_cluster.router_count
                                          ? &sim_cluster.routers[i].process
                                          : &sim_cluster.gateways[i - sim_cluster.router_count].process;
        if (!process->alive) {
            sim_after(
                100000 + sim_random(faults.active ? 3000000 : 100000), NULL, revive, process, process->life);
        }
    }
    sim_after(500000, NULL, supervise, NULL, 0);
}

static void kill_one(void)
{
    struct sim_process *process = any_process();
    if (!process->alive) {
        return;
    }
    if (sim_chance(600)) {
        process->effects_left = 1 + sim_random(200); /* at any effect */
    } else {
        sim_process_kill(process, sim_chance(300));
    }
}

static void kill_all(void)
{
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        sim_process_kill(&sim_cluster.routers[i].process, sim_chance(500));
    }
}

static void pause_one(void)
{
    struct sim_process *process = any_process();
    uint64_t for_us = sim_chance(200) ? 2000000 + sim_random(8000000) : sim_random(2000000);
    if (process->alive && process->paused_until_us <= sim_now_us()) { /* what waits must not be overtaken */
        process->paused_until_us = sim_now_us() + for_us;
        sim_trace("%s pauses for %llu us", process->name, (unsigned long long)for_us);
    }
}

/* --- network --- */

static void heal(void *context, uint64_t argument)
{
    (void)context;
    sim_net_cut((uint32_t)(argument >> 8), argument & 255, false);
}

static void cut_way(uint32_t from, uint32_t to, uint64_t for_us)
{
    sim_net_cut(from, to, true);
    sim_after(for_us, NULL, heal, NULL, (uint64_t)from << 8 | to);
}

static uint32_t process_number(uint32_t i)
{
    return i < sim_cluster.router_count ? i : SIM_ROUTERS_MAX + i - sim_cluster.router_count;
}

static void cut_some(void)
{
    uint32_t all = sim_cluster.router_count + sim_cluster.gateway_count;
    uint32_t one = process_number((uint32_t)sim_random(all));
    uint32_t other = process_number((uint32_t)sim_random(all));
    uint64_t for_us = sim_chance(300) ? sim_random(12000000) : sim_random(2000000);
    uint64_t kind = sim_random(6);
    sim_trace("cut kind=%llu one=%u other=%u for %llu us", (unsigned long long)kind, one, other,
        (unsigned long long)for_us);
    if (kind == 0 && one != other) {
        sim_net_break(one, other);
        return;
    }
    for (uint32_t i = 0; i < all; i++) {
        uint32_t to = process_number(i);
        if (to == one || (kind == 1 && to != other)) {
            continue;
        }
        if (kind != 3) {
            cut_way(one, to, for_us);
        }
        if (kind != 4) {
            cut_way(to, one, for_us);
        }
    }
}

static void unslow(void *context, uint64_t argument)
{
    struct sim_router *router = context;
    (void)argument;
    router->disk_slow_us = 0;
    for (uint32_t i = 0; i < SIM_PROCESSES_MAX; i++) {
        sim_net_slow(router->process.index, i, 0);
    }
}

static void slow_one(void)
{
    struct sim_router *router = any_router();
    if (sim_chance(500)) {
        router->disk_slow_us = sim_random(100000);
    } else {
        sim_net_slow(router->process.index, (uint32_t)sim_random(SIM_ROUTERS_MAX), sim_random(200000));
    }
    sim_after(sim_random(4000000), NULL, unslow, router, 0);
}

/* --- disks, clocks, operators --- */

static void disk_lost(void *context, uint64_t what)
{
    struct sim_router *router = context;
    if (!router->process.alive && !router->built) {
        sim_router_disk(router, (enum sim_disk)what);
    }
}

static void disk_hurt(void)
{
    struct sim_router *router = any_router();
    if (!router->process.alive || !router->built) {
        return;
    }
    if (sim_chance(500)) {
        router->disk_fault = true;
        wp_sim_fail_sync(router->store, sim_chance(500) ? WP_E_IO : WP_E_NO_SPACE);
        sim_trace("%s: the next sync fails", router->process.name);
    } else if (dead_routers() == 0 && sim_now_us() > faults.forgot_until_us) {
        faults.forgot_until_us = sim_now_us() + 20000000;
        sim_process_kill(&router->process, true);
        bool back = (faults.kinds & SIM_FAULT_ROLL_BACK) && sim_chance(500);
        sim_after(10, NULL, disk_lost, router, back ? SIM_DISK_ROLLED_BACK : SIM_DISK_EMPTIED);
    }
}

static void clock_skew(void)
{
    struct sim_router *router = any_router();
    router->process.skew_ms = sim_chance(500) ? 0 : (int64_t)sim_random(600) - 300;
}

static void transfer_fire(void *context, uint64_t shard)
{
    struct sim_router *router = context;
    wp_reactor_transfer(router->reactors[(shard - 1) % SIM_REACTORS], (uint32_t)shard,
        1 + (uint32_t)sim_random(sim_cluster.router_count));
}

static void transfer_some(void)
{
    struct sim_router *router = any_router();
    if (router->process.alive && router->built) {
        sim_after(1, &router->process, transfer_fire, router, 1 + sim_random(SIM_SHARDS));
    }
}

/* --- the schedule --- */

static void fault_step(void *context, uint64_t argument)
{
    static const struct {
        uint32_t kind;
        uint32_t weight;
        void (*make)(void);
    } rows[] = {{SIM_FAULT_KILL, 30, kill_one}, {SIM_FAULT_KILL_ALL, 4, kill_all},
        {SIM_FAULT_PAUSE, 12, pause_one}, {SIM_FAULT_CUT, 25, cut_some}, {SIM_FAULT_SLOW, 12, slow_one},
        {SIM_FAULT_DISK, 6, disk_hurt}, {SIM_FAULT_CLOCK, 5, clock_skew},
        {SIM_FAULT_TRANSFER, 6, transfer_some}};
    (void)context;
    (void)argument;
    if (!faults.active) {
        return;
    }
    uint64_t at = sim_random(100);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (at < rows[i].weight) {
            if (faults.kinds & rows[i].kind) {
                faults.count++;
                rows[i].make();
            }
            break;
        }
        at -= rows[i].weight;
    }
    sim_after(sim_random(STEP_US_MAX), NULL, fault_step, NULL, 0);
}

void sim_faults_begin(uint32_t kinds)
{
    bool first = faults.kinds == 0;
    faults.active = true;
    faults.kinds = kinds;
    faults.forgot_until_us = 0;
    sim_after(sim_random(STEP_US_MAX), NULL, fault_step, NULL, 0);
    if (first) {
        sim_after(0, NULL, supervise, NULL, 0);
    }
}

void sim_faults_end(void)
{
    faults.active = false;
    for (uint32_t from = 0; from < SIM_PROCESSES_MAX; from++) {
        for (uint32_t to = 0; to < SIM_PROCESSES_MAX; to++) {
            sim_net_cut(from, to, false);
            sim_net_slow(from, to, 0);
        }
    }
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        struct sim_router *router = &sim_cluster.routers[i];
        router->disk_slow_us = 0;
        router->process.skew_ms = 0;
        router->process.effects_left = 0;
    }
    for (uint32_t i = 0; i < sim_cluster.gateway_count; i++) {
        sim_cluster.gateways[i].process.effects_left = 0;
    }
}

uint64_t sim_faults_count(void)
{
    return faults.count;
}
