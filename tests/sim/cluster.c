/* See cluster.h. */
#include "tests/sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/error.h"
#include "router/allow.h"
#include "router/reactor_state.h"
#include "router/roster_form.h"
#include "storage/sim/sim.h"
#include "tests/sim/net.h"
#include "tests/sim/uv.h"
#include "tests/sim/zap.h"

#define CLUSTER_ID UINT64_C(0x5157415244504f53)

struct sim_cluster sim_cluster;

struct sim_router *sim_router_of(const struct sim_process *process)
{
    return process && process->index < sim_cluster.router_count ? &sim_cluster.routers[process->index] : NULL;
}

struct sim_gateway *sim_gateway_of(const struct sim_process *process)
{
    bool gateway = process && process->index >= SIM_ROUTERS_MAX;
    return gateway ? &sim_cluster.gateways[process->index - SIM_ROUTERS_MAX] : NULL;
}

static void keys_make(struct wp_keypair *keys)
{
    uint8_t raw[32];
    sim_random_bytes(raw, sizeof raw);
    zmq_z85_encode(keys->public_text, raw, sizeof raw);
}

/* --- configuration --- */

static void endpoint_text(uint32_t index, uint32_t reactor, char out[64])
{
    snprintf(out, 64, "tcp://10.0.0.%u:%u", index + 1, 7400 + reactor);
}

static struct wp_roster *roster_form(struct sim_router *router, uint32_t *ret_self)
{
    static char endpoints[SIM_ROUTERS_MAX][64];
    static char role_gateway[] = "gateway";
    struct wp_config_peer rows[SIM_ROUTERS_MAX] = {0};
    struct wp_config_peer allow[SIM_GATEWAYS_MAX] = {0};
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        endpoint_text(i, 0, endpoints[i]);
        rows[i] = (struct wp_config_peer){.node = sim_cluster.routers[i].process.name,
            .endpoint = endpoints[i],
            .key = sim_cluster.routers[i].keys.public_text,
            .reactors = SIM_REACTORS};
    }
    for (uint32_t i = 0; i < sim_cluster.gateway_count; i++) {
        allow[i] = (struct wp_config_peer){.node = sim_cluster.gateways[i].process.name,
            .role = role_gateway,
            .key = sim_cluster.gateways[i].keys.public_text};
    }
    const struct wp_router_config config = {.node = router->process.name,
        .cluster = {.shards = SIM_SHARDS,
            .replication = 3,
            .routers = rows,
            .router_count = sim_cluster.router_count},
        .reactors = SIM_REACTORS,
        .fabric = {.allow = allow, .allow_count = sim_cluster.gateway_count},
        .limits = {.mailbox_messages_max = 10000,
            .mailbox_bytes_max = 64u << 20,
            .body_bytes_max = 1u << 20,
            .ttl_default_s = 604800,
            .ttl_max_s = 2592000,
            .seen_ids_max = 100000}};
    struct wp_roster *roster;
    char text[256];
    int error = wp_roster_form(&config, router->keys.public_text, &roster, ret_self, text, sizeof text);
    WP_ASSERT(error == WP_OK);
    return roster;
}

/* --- a router --- */

static void on_fatal(void *context, int error, const char *text)
{
    struct sim_router *router = context;
    if (!router->disk_fault && sim_effective()) {
        sim_breach("I7", "%s ended with %s: %s", router->process.name, wp_error_slug(error), text);
    }
    sim_process_kill(&router->process, false);
}

/* The roster that this disk has, if any, rules over the list. */
static int roster_load(struct sim_router *router)
{
    struct wp_meta *meta;
    int error = wp_meta_create(router->store, SIM_SHARDS, &meta);
    if (error) {
        return error;
    }
    const struct wp_roster *found = wp_meta_roster(meta);
    if (found) {
        wp_roster_release(&router->roster);
        router->roster = wp_roster_retain(found);
        const struct wp_roster_node *self = wp_roster_node_keyed(found, router->keys.public_text);
        router->self = self ? self->number : 0;
    }
    wp_meta_destroy(&meta);
    return WP_OK;
}

static int reactors_create(struct sim_router *router)
{
    uint64_t start_id;
    sim_random_bytes(&start_id, sizeof start_id);
    for (uint32_t i = 0; i < SIM_REACTORS; i++) {
        endpoint_text(router->process.index, i, router->listen[i]);
        struct wp_reactor_config config = {.index = i,
            .reactor_count = SIM_REACTORS,
            .shard_count = SIM_SHARDS,
            .node = router->process.name,
            .listen = router->listen[i],
            .self = router->self,
            .roster = router->roster,
            .cluster_id = CLUSTER_ID,
            .incarnation = wp_store_boot(router->store),
            .directory_id = wp_store_directory_id(router->store),
            .start_id = start_id,
            .store = router->store,
            .zmq_context = router->zap,
            .zap = router->zap,
            .keys = &router->keys,
            .delivery_timeout_ms = 30000,
            .body_cache_bytes = 1u << 20,
            .log_keep_bytes = 16384,
            .reactors = router->reactors,
            .context = router,
            .fatal = on_fatal};
        memcpy(config.hash_key, sim_cluster.hash_key, sizeof config.hash_key);
        memcpy(config.secret_key, sim_cluster.secret_key, sizeof config.secret_key);
        char text[512];
        int error = wp_reactor_create(&config, &router->reactors[i], text, sizeof text);
        if (error) {
            sim_trace("cannot start: %s", text);
            return error;
        }
    }
    return WP_OK;
}

static void reactors_destroy(struct sim_router *router)
{
    for (uint32_t i = 0; i < SIM_REACTORS; i++) {
        if (router->reactors[i]) {
            router->reactors[i]->closing =
                true; /* what other threads still bring is only freed, as after a stop */
        }
        wp_reactor_destroy(&router->reactors[i]);
    }
}

static void on_store_failure(void *context, int error, const char *text)
{
    on_fatal(context, error, text);
}

static int router_build(struct sim_router *router)
{
    wp_store_on_failure(router->store, on_store_failure, router);
    router->roster = roster_form(router, &router->self);
    router->zap = sim_zap_create(router->keys.public_text);
    router->built = true;
    int error = roster_load(router);
    if (error) {
        return error;
    }
    for (uint32_t i = 0; i < sim_cluster.gateway_count; i++) {
        wp_zap_allow(router->zap, sim_cluster.gateways[i].keys.public_text,
            sim_cluster.gateways[i].process.name, WP__ROLE__ROLE_GATEWAY);
    }
    wp_allow_roster(router->zap, NULL, router->roster, router->self);
    return reactors_create(router);
}

static void router_take_apart(struct sim_router *router)
{
    if (!router->built) {
        return;
    }
    router->built = false;
    reactors_destroy(router);
    wp_zap_destroy(&router->zap);
    wp_roster_release(&router->roster);
    wp_store_close(&router->store);
}

static void router_run(void *context, uint64_t argument)
{
    struct sim_router *router = context;
    (void)argument;
    router->store = router->image ? router->image : wp_sim_create();
    router->image = NULL;
    router->sync_scheduled = false;
    int error = router_build(router);
    if (error) { /* the directory is set aside, the others rebuild this router */
        if (!router->disk_fault) {
            sim_breach("I7", "%s cannot start: %s", router->process.name, wp_error_slug(error));
        }
        router_take_apart(router);
        router->store = wp_sim_create();
        error = router_build(router);
        WP_ASSERT(error == WP_OK);
    }
    router->disk_fault = false;
    sim_trace("start boot=%llu", (unsigned long long)wp_store_boot(router->store));
    for (uint32_t i = 0; i < SIM_REACTORS; i++) {
        wp_reactor_begin(router->reactors[i]);
    }
}

static void process_begin(struct sim_process *process)
{
    WP_ASSERT(!process->alive);
    process->alive = true;
    process->life++;
    process->paused_until_us = 0;
    process->effects_left = 0;
}

void sim_router_start(struct sim_router *router)
{
    WP_ASSERT(!router->built);
    router->starts++;
    process_begin(&router->process);
    sim_after(0, &router->process, router_run, router, 0);
}

void sim_router_disk(struct sim_router *router, enum sim_disk what)
{
    WP_ASSERT(!router->process.alive && !router->built);
    if (what == SIM_DISK_EMPTIED && router->image) {
        wp_store_close(&router->image);
    } else if (what == SIM_DISK_ROLLED_BACK && router->earlier) {
        if (router->image) {
            wp_store_close(&router->image);
        }
        router->image = router->earlier;
        router->earlier = NULL;
    }
    sim_trace("%s: disk %d", router->process.name, (int)what);
}

/* --- a gateway --- */

static void gateway_run(void *context, uint64_t argument)
{
    struct sim_gateway *gateway = context;
    static char endpoints[SIM_ROUTERS_MAX][64];
    static struct wp_config_peer rows[SIM_ROUTERS_MAX];
    (void)argument;
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        endpoint_text(i, 0, endpoints[i]);
        rows[i] = (struct wp_config_peer){.node = sim_cluster.routers[i].process.name,
            .endpoint = endpoints[i],
            .key = sim_cluster.routers[i].keys.public_text,
            .reactors = SIM_REACTORS};
    }
    uv_loop_init(&gateway->loop);
    struct wp_gateway_setup setup = {.policy = {.receive_maximum = 16,
                                         .window = 16,
                                         .body_bytes_max = 1u << 20,
                                         .packet_bytes_max = (1u << 20) + 65536,
                                         .connect_timeout_ms = 10000},
        .routing = {.fabric = {.loop = &gateway->loop,
                        .node = gateway->process.name,
                        .role = WP__ROLE__ROLE_GATEWAY,
                        .cluster_id = CLUSTER_ID,
                        .incarnation = UINT64_C(1700000000000) + sim_now_us() / 1000,
                        .keys = &gateway->keys},
            .routers = rows,
            .router_count = sim_cluster.router_count},
        .connections_max = 1000,
        .context = gateway,
        .output = sim_edge_output,
        .resume = sim_edge_resume};
    int error = wp_gateway_create(&setup, &gateway->gateway);
    WP_ASSERT(error == WP_OK);
    gateway->built = true;
    sim_trace("start");
}

void sim_gateway_start(struct sim_gateway *gateway)
{
    WP_ASSERT(!gateway->built);
    process_begin(&gateway->process);
    sim_after(0, &gateway->process, gateway_run, gateway, 0);
}

static void gateway_take_apart(struct sim_gateway *gateway)
{
    if (gateway->built) {
        gateway->built = false;
        sim_edge_gone(gateway);
        wp_gateway_destroy(&gateway->gateway);
        uv_run(&gateway->loop, UV_RUN_DEFAULT);
    }
}

/* --- ends --- */

/* Outside of everything that the process may still be doing. */
static void bury(void *context, uint64_t argument)
{
    struct sim_process *process = context;
    (void)argument;
    if (sim_router_of(process)) {
        router_take_apart(sim_router_of(process));
    } else {
        gateway_take_apart(sim_gateway_of(process));
    }
}

void sim_process_kill(struct sim_process *process, bool silent)
{
    struct sim_router *router = sim_router_of(process);
    if (!process->alive) {
        return;
    }
    sim_trace("%s dies%s", process->name, silent ? " silently" : "");
    process->alive = false;
    sim_net_gone(process, silent);
    if (router && router->store) {
        router->image = wp_sim_crash(router->store, sim_random(UINT64_MAX));
        if (!router->earlier && sim_chance(300)) {
            router->earlier = wp_sim_crash(router->store, sim_random(UINT64_MAX));
        }
    }
    sim_after(1, NULL, bury, process, 0);
}

static void on_died(struct sim_process *process)
{
    sim_process_kill(process, sim_chance(300));
}

void sim_cluster_create(uint32_t routers, uint32_t gateways)
{
    memset(&sim_cluster, 0, sizeof sim_cluster);
    sim_cluster.router_count = routers;
    sim_cluster.gateway_count = gateways;
    sim_random_bytes(sim_cluster.hash_key, sizeof sim_cluster.hash_key);
    sim_random_bytes(sim_cluster.secret_key, sizeof sim_cluster.secret_key);
    sim_died = on_died;
    for (uint32_t i = 0; i < routers; i++) {
        struct sim_router *router = &sim_cluster.routers[i];
        snprintf(router->process.name, sizeof router->process.name, "router-%u", i + 1);
        router->process.index = i;
        keys_make(&router->keys);
    }
    for (uint32_t i = 0; i < gateways; i++) {
        struct sim_gateway *gateway = &sim_cluster.gateways[i];
        snprintf(gateway->process.name, sizeof gateway->process.name, "gateway-%u", i + 1);
        gateway->process.index = SIM_ROUTERS_MAX + i;
        keys_make(&gateway->keys);
    }
}

void sim_cluster_destroy(void)
{
    for (uint32_t i = 0; i < sim_cluster.gateway_count; i++) {
        sim_cluster.gateways[i].process.alive = false;
        gateway_take_apart(&sim_cluster.gateways[i]);
    }
    for (uint32_t i = 0; i < sim_cluster.router_count; i++) {
        struct sim_router *router = &sim_cluster.routers[i];
        router->process.alive = false;
        router_take_apart(router);
        if (router->image) {
            wp_store_close(&router->image);
        }
        if (router->earlier) {
            wp_store_close(&router->earlier);
        }
    }
}

/* --- the disk: calls of the store that are effects (linked with --wrap) --- */

static void sync_run(void *context, uint64_t argument)
{
    struct sim_router *router = context;
    (void)argument;
    router->sync_scheduled = false;
    sim_effect(); /* it may end just before the disk has it, */
    if (!sim_effective()) {
        return;
    }
    uint32_t pending = wp_sim_pending(router->store);
    if (pending > 0 && !wp_sim_sync(router->store, sim_chance(500) ? 0 : 1 + (uint32_t)sim_random(pending))) {
        sim_effect(); /* or just after */
    }
    if (sim_effective() && wp_sim_pending(router->store) > 0) {
        router->sync_scheduled = true;
        sim_after(50 + sim_random(300) + router->disk_slow_us, &router->process, sync_run, router, 0);
    }
}

int __real_wp_log_submit(struct wp_store *store, const struct wp_log_write *write);
int __wrap_wp_log_submit(struct wp_store *store, const struct wp_log_write *write);
int __wrap_wp_log_submit(struct wp_store *store, const struct wp_log_write *write)
{
    struct sim_router *router = sim_router_of(sim_current());
    sim_effect();
    int error = __real_wp_log_submit(store, write);
    if (router && sim_effective() && !router->sync_scheduled) {
        uint64_t delay_us =
            80 + sim_random(400) + router->disk_slow_us + (sim_chance(10) ? sim_random(50000) : 0);
        router->sync_scheduled = true;
        sim_after(delay_us, &router->process, sync_run, router, 0);
    }
    return error;
}

int __real_wp_state_commit(
    struct wp_store *store, struct wp_state_batch *batch, uint32_t shard, uint64_t index, uint64_t term);
int __wrap_wp_state_commit(
    struct wp_store *store, struct wp_state_batch *batch, uint32_t shard, uint64_t index, uint64_t term);
int __wrap_wp_state_commit(
    struct wp_store *store, struct wp_state_batch *batch, uint32_t shard, uint64_t index, uint64_t term)
{
    sim_effect();
    return __real_wp_state_commit(store, batch, shard, index, term);
}
