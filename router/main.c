/* wardpost-router: puts the parts together, waits for a signal, takes them apart again.
 *
 * The order of the start is the order of trust: configuration, keys, storage (checked), identity of the data
 * directory, shards (loaded and checked), and only then sockets. The order of the stop is its reverse. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "node/config.h"
#include "node/program.h"
#include "node/watchdog.h"
#include "proto/address.h"
#include "router/admin.h"
#include "router/allow.h"
#include "router/data_directory.h"
#include "router/identity.h"
#include "router/meta.h"
#include "router/roster_form.h"

/* Beside those of node/program.h; the values of sysexits.h. */
#define EXIT_DATA 65   /* stored data is damaged or forgotten */
#define EXIT_CREATE 73 /* the data directory cannot be made */
#define EXIT_BUSY 75   /* another process has the data directory */

#define REACTORS_MAX 64u
#define LOG_DRAIN_MS 5000u

struct program {
    bool accept_loss_all;
    uint32_t accept_loss_max; /* highest shard named */
    bool accept_loss[WP_STORE_SHARDS_MAX];
    struct wp_router_config *config;
    struct wp_identity identity;
    struct wp_keypair keys;
    struct wp_roster *roster; /* the first one */
    uint32_t self;
    uint64_t start_id;
    struct wp_store *store;
    void *zmq_context;
    struct wp_zap *zap;
    char listen[REACTORS_MAX][128];
    struct wp_reactor *reactors[REACTORS_MAX];
    uint32_t reactor_count;
    const char *gateways[1024];
    uint32_t gateway_count;
    struct wp_admin *admin;
    struct wp_management *management;
    uv_loop_t loop;
    struct wp_signals *signals;
    struct wp_watchdog *watchdog;
    bool stopping;
};

static int exit_code_of(int error)
{
    static const struct {
        int error;
        int code;
    } rows[] = {{WP_E_CORRUPT, EXIT_DATA}, {WP_E_FORGOTTEN, EXIT_DATA}, {WP_E_VERSION, EXIT_DATA},
        {WP_E_IO, WP_EXIT_IO}, {WP_E_NO_SPACE, WP_EXIT_IO}, {WP_E_BUSY, EXIT_BUSY},
        {WP_E_CONFIG, WP_EXIT_CONFIG}, {WP_E_DENIED, EXIT_CREATE}, {WP_E_NOT_FOUND, EXIT_CREATE}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (rows[i].error == error) {
            return rows[i].code;
        }
    }
    return WP_EXIT_INTERNAL;
}

/* Something that the process cannot go on from. Nothing may be answered any more, so nothing is taken apart:
 * what is synced is safe, and the rest was not promised. */
static void give_up(int code, const char *event, const char *text)
{
    char quoted[600];
    wp_log(WP_LOG_ERROR, event, "exit=%d text=%s", code, wp_log_quote(text, quoted, sizeof(quoted)));
    _exit(code);
}

static void on_store_failure(void *context, int error, const char *text)
{
    (void)context;
    (void)error;
    give_up(WP_EXIT_IO, "storage_failed", text);
}

static void on_reactor_fatal(void *context, int error, const char *text)
{
    (void)context;
    give_up(exit_code_of(error), "router_failed", text);
}

/* --- start -------------------------------------------------------------------------------------------------
 */

static struct wp_store_config store_config(const struct program *program)
{
    const struct wp_router_config *config = program->config;
    return (struct wp_store_config){
        .path = config->data,
        .disk_reserve_bytes = config->storage.disk_reserve_bytes,
        .log_wal_bytes_max = config->storage.wal_bytes_max,
        .write_buffer_bytes = config->storage.write_buffer_bytes,
        .compaction_bytes_max = config->storage.compaction_bytes_max,
        .allow_volatile = config->storage.allow_volatile,
        .accept_loss = program->accept_loss_all,
        .accept_loss_shards = program->accept_loss,
    };
}

/* Everything that can be known to be wrong before anything is opened. */
static int config_take(struct program *program, const char *path, char *ret_text, size_t text_size)
{
    int error = wp_router_config_load(path, &program->config, ret_text, text_size);
    if (error) {
        return error;
    }
    const struct wp_router_config *config = program->config;
    const struct wp_store_config store = store_config(program);
    uint64_t reserve_min = wp_store_reserve_bytes_min(&store);
    if (store.disk_reserve_bytes && store.disk_reserve_bytes < reserve_min) {
        snprintf(ret_text, text_size,
            "%s: storage.disk_reserve_bytes is %llu but must be at least %llu for these buffers; raise it or "
            "make "
            "storage.wal_bytes_max, write_buffer_bytes or compaction_bytes_max smaller",
            path, (unsigned long long)store.disk_reserve_bytes, (unsigned long long)reserve_min);
        return WP_E_CONFIG;
    }
    if (config->reactors < 1 || config->reactors > REACTORS_MAX ||
        config->reactors > config->cluster.shards) {
        snprintf(ret_text, text_size,
            "%s: reactors is %u but must be from 1 to %u and at most cluster.shards (%u)", path,
            config->reactors, REACTORS_MAX, config->cluster.shards);
        return WP_E_CONFIG;
    }
    if (program->accept_loss_max > config->cluster.shards) {
        snprintf(ret_text, text_size, "--accept-loss %u: there are shards 1 to %u", program->accept_loss_max,
            config->cluster.shards);
        return WP_E_CONFIG;
    }
    error = wp_identity_load(config->cluster.id, config->cluster.shards, config->cluster.key_file,
        &program->identity, ret_text, text_size);
    error = error ? error : wp_keypair_load(config->fabric.key_file, &program->keys, ret_text, text_size);
    return error ? error
                 : wp_roster_form(config, program->keys.public_text, &program->roster, &program->self,
                       ret_text, text_size);
}

static int config_check(void *context, const char *path, char *ret_text, size_t text_size)
{
    struct program *program = context;
    int error = config_take(program, path, ret_text, text_size);
    if (program->config) {
        wp_router_config_free(&program->config);
    }
    wp_roster_release(&program->roster);
    return error;
}

static int storage_start(struct program *program, char *ret_text, size_t text_size)
{
    const struct wp_store_config store = store_config(program);
    bool replicated = program->roster->replication > 1 && !program->accept_loss_all;
    int error = wp_data_directory_open(&store, replicated, &program->store, ret_text, text_size);
    if (error) {
        return error;
    }
    wp_store_on_failure(program->store, on_store_failure, program);
    return wp_identity_claim(program->store, &program->identity, ret_text, text_size);
}

/* What the meta group applied here rules over what the configuration says. */
static int roster_load(struct program *program, char *ret_text, size_t text_size)
{
    struct wp_meta *meta;
    int error = wp_meta_create(program->store, program->config->cluster.shards, &meta);
    if (error) {
        snprintf(ret_text, text_size, "the roster of the cluster cannot be loaded: %s", wp_error_text(error));
        return error;
    }
    const struct wp_roster *found = wp_meta_roster(meta);
    if (found) {
        wp_roster_form_compare(program->roster, found);
        wp_roster_release(&program->roster);
        program->roster = wp_roster_retain(found);
        const struct wp_roster_node *self = wp_roster_node_keyed(found, program->keys.public_text);
        program->self = self ? self->number : 0;
        if (!self || self->state == WP_NODE_REMOVED) {
            snprintf(ret_text, text_size,
                "this router was removed from the cluster: to add it again, empty its data directory and use "
                "wardpostctl node add");
            error = WP_E_CONFIG;
        }
    }
    wp_meta_destroy(&meta);
    return error;
}

static int allow_all(struct program *program, char *ret_text, size_t text_size)
{
    const struct wp_router_config *config = program->config;
    for (uint32_t i = 0; i < config->fabric.allow_count; i++) {
        const struct wp_config_peer *peer = &config->fabric.allow[i];
        bool gateway = peer->role && !strcmp(peer->role, "gateway");
        int error = wp_zap_allow(
            program->zap, peer->key, peer->node, gateway ? WP__ROLE__ROLE_GATEWAY : WP__ROLE__ROLE_ROUTER);
        if (error) {
            snprintf(
                ret_text, text_size, "fabric.allow: the key of \"%s\": %s", peer->node, wp_error_text(error));
            return WP_E_CONFIG;
        }
        if (gateway && program->gateway_count < sizeof(program->gateways) / sizeof(*program->gateways)) {
            program->gateways[program->gateway_count++] = peer->node;
        }
    }
    wp_allow_roster(program->zap, NULL, program->roster, program->self);
    return WP_OK;
}

static struct wp_reactor_config reactor_config(struct program *program, uint32_t index)
{
    const struct wp_router_config *config = program->config;
    struct wp_reactor_config reactor = {
        .index = index,
        .reactor_count = config->reactors,
        .shard_count = config->cluster.shards,
        .node = config->node,
        .listen = program->listen[index],
        .self = program->self,
        .roster = program->roster,
        .cluster_id = program->identity.cluster_id,
        .incarnation = wp_store_boot(program->store),
        .start_id = program->start_id,
        .directory_id = wp_store_directory_id(program->store),
        .store = program->store,
        .zmq_context = program->zmq_context,
        .zap = program->zap,
        .keys = &program->keys,
        .delivery_timeout_ms = config->limits.delivery_timeout_ms,
        .body_cache_bytes = config->limits.body_cache_bytes,
        .log_keep_bytes = config->storage.log_keep_bytes / config->cluster.shards,
        .reactors = program->reactors,
        .accept_loss = program->accept_loss,
        .context = program,
        .fatal = on_reactor_fatal,
    };
    memcpy(reactor.hash_key, program->identity.hash_key, sizeof(reactor.hash_key));
    memcpy(reactor.secret_key, program->identity.secret_key, sizeof(reactor.secret_key));
    return reactor;
}

static int reactors_start(struct program *program, char *ret_text, size_t text_size)
{
    const struct wp_router_config *config = program->config;
    for (uint32_t i = 0; i < config->reactors; i++) {
        snprintf(program->listen[i], sizeof(program->listen[i]), "tcp://%s:%u", config->fabric.host,
            config->fabric.port + i);
        const struct wp_reactor_config reactor = reactor_config(program, i);
        int error = wp_reactor_create(&reactor, &program->reactors[i], ret_text, text_size);
        if (error) {
            return error;
        }
        program->reactor_count++;
    }
    for (uint32_t i = 0; i < program->reactor_count; i++) {
        int error = wp_reactor_start(program->reactors[i]);
        if (error) {
            snprintf(ret_text, text_size, "cannot start reactor %u: %s", i, wp_error_text(error));
            return error;
        }
    }
    return WP_OK;
}

/* --- management
 * --------------------------------------------------------------------------------------------- */

static bool on_ready(void *context, char *ret_why, size_t why_size)
{
    const struct program *program = context;
    for (uint32_t i = 0; i < program->reactor_count; i++) {
        if (!wp_reactor_ready(program->reactors[i])) {
            snprintf(ret_why, why_size, "a shard of reactor %u has no leader yet", i);
            return false;
        }
    }
    return true;
}

static int on_request(void *context, const struct wp_management_request *request, struct wp_buffer *out)
{
    return wp_admin_handle(((struct program *)context)->admin, request, out);
}

static void on_metrics(void *context)
{
    const struct program *program = context;
    struct wp_reactor_gauges sum = {.seen_window_min_s = UINT64_MAX};
    for (uint32_t i = 0; i < program->reactor_count; i++) {
        struct wp_reactor_gauges gauges;
        wp_reactor_gauges(program->reactors[i], &gauges);
        sum.messages += gauges.messages;
        sum.bytes += gauges.bytes;
        sum.attached += gauges.attached;
        sum.outbox_bytes += gauges.outbox_bytes;
        sum.receipts += gauges.receipts;
        sum.leads += gauges.leads;
        sum.leaderless += gauges.leaderless;
        sum.behind += gauges.behind;
        if (gauges.seen_window_min_s < sum.seen_window_min_s) {
            sum.seen_window_min_s = gauges.seen_window_min_s;
        }
    }
    struct wp_store_disk disk;
    wp_store_disk(program->store, &disk);
    wp_metric_set(WP_M_QUEUED, sum.messages);
    wp_metric_set(WP_M_QUEUED_BYTES, sum.bytes);
    wp_metric_set(WP_M_ATTACHED, sum.attached);
    wp_metric_set(WP_M_OUTBOX_BYTES, sum.outbox_bytes);
    wp_metric_set(WP_M_RECEIPTS, sum.receipts);
    wp_metric_set(WP_M_SEEN_WINDOW, sum.seen_window_min_s);
    wp_metric_set(WP_M_LEADS, sum.leads);
    wp_metric_set(WP_M_LEADERLESS, sum.leaderless);
    wp_metric_set(WP_M_BEHIND, sum.behind);
    wp_metric_set(WP_M_DISK_FREE, disk.free_bytes);
    wp_metric_set(WP_M_DISK_FULL, disk.full);
}

static int management_start(struct program *program, char *ret_text, size_t text_size)
{
    struct wp_admin_config admin = {
        .node = program->config->node,
        .cluster_id = program->config->cluster.id,
        .store = program->store,
        .shard_count = program->config->cluster.shards,
        .reactors = program->reactors,
        .reactor_count = program->reactor_count,
        .gateways = program->gateways,
        .gateway_count = program->gateway_count,
    };
    memcpy(admin.hash_key, program->identity.hash_key, sizeof(admin.hash_key));
    memcpy(admin.secret_key, program->identity.secret_key, sizeof(admin.secret_key));
    int error = wp_admin_create(&admin, &program->admin);
    if (error) {
        snprintf(ret_text, text_size, "out of memory");
        return error;
    }
    const char *address = program->config->management.address;
    const char *socket_path = program->config->management.socket;
    const struct wp_management_config management = {
        .program = "router",
        .address = address && address[0] ? address : NULL,
        .socket_path = socket_path && socket_path[0] ? socket_path : NULL,
        .context = program,
        .ready = on_ready,
        .handle = on_request,
        .before_metrics = on_metrics,
    };
    return wp_management_create(&management, &program->management, ret_text, text_size);
}

/* --- life
 * ---------------------------------------------------------------------------------------------------- */

static void on_stop(void *context, int signal_number)
{
    struct program *program = context;
    if (program->stopping) {
        return;
    }
    program->stopping = true;
    wp_log(WP_LOG_INFO, "stopping", "signal=%d", signal_number);
    (void)wp_notify("STOPPING=1");
    uv_stop(&program->loop);
}

/* Takes apart whatever was put together. */
static void program_end(struct program *program)
{
    if (program->management) {
        wp_management_destroy(&program->management);
    }
    for (uint32_t i = 0; i < program->reactor_count; i++) {
        wp_reactor_stop_begin(program->reactors[i]);
    }
    for (uint32_t i = 0; i < program->reactor_count; i++) {
        wp_reactor_stop(program->reactors[i]);
    }
    /* Completions refer to the groups: without the drain they must outlive the store. */
    bool drained = program->store && wp_reactor_log_drain(program->store, 1, LOG_DRAIN_MS);
    for (uint32_t i = 0; drained && i < program->reactor_count; i++) {
        wp_reactor_destroy(&program->reactors[i]);
    }
    if (program->admin) {
        wp_admin_destroy(&program->admin);
    }
    if (program->zap) {
        wp_zap_destroy(&program->zap);
    }
    if (program->zmq_context) {
        wp_fabric_context_destroy(&program->zmq_context);
    }
    if (program->store) {
        wp_store_close(&program->store);
    }
    if (program->config) {
        wp_router_config_free(&program->config);
    }
    wp_roster_release(&program->roster);
    sodium_memzero(&program->identity, sizeof(program->identity));
    sodium_memzero(&program->keys, sizeof(program->keys));
}

static int program_start(struct program *program, char *ret_text, size_t text_size)
{
    snprintf(ret_text, text_size, "out of memory");
    int error = storage_start(program, ret_text, text_size);
    error = error ? error : roster_load(program, ret_text, text_size);
    error = error ? error : wp_fabric_context_create(&program->zmq_context);
    error = error ? error : wp_zap_create(program->zmq_context, &program->zap);
    error = error ? error : allow_all(program, ret_text, text_size);
    error = error ? error : reactors_start(program, ret_text, text_size);
    return error ? error : management_start(program, ret_text, text_size);
}

static uint64_t reactor_turns(void *context, uint32_t index)
{
    return wp_reactor_turns(((struct program *)context)->reactors[index]);
}

/* Last, when everything turns that is to be watched. */
static int watchdog_start(struct program *program)
{
    const struct wp_watchdog_config watchdog = {.loop = &program->loop,
        .loop_count = program->reactor_count,
        .context = program,
        .turns = reactor_turns};
    return wp_watchdog_create(&watchdog, &program->watchdog);
}

static int program_run(struct program *program)
{
    const struct wp_signals_callbacks signals = {.context = program, .stop = on_stop};
    char text[512];
    int code = WP_EXIT_OK;
    uv_loop_init(&program->loop);
    int error = wp_signals_create(&program->loop, &signals, &program->signals);
    snprintf(text, sizeof(text), "out of memory");
    error = error ? error : program_start(program, text, sizeof(text));
    error = error ? error : watchdog_start(program);
    if (!error) {
        wp_metric_set(WP_M_UP, 1);
        wp_log(WP_LOG_INFO, "started", "version=%s cluster=%s shards=%u reactors=%u boot=%llu management=%s",
            WP_VERSION, program->config->cluster.id, program->config->cluster.shards, program->reactor_count,
            (unsigned long long)wp_store_boot(program->store), wp_management_address(program->management));
        (void)wp_notify("READY=1");
        /* The signal handles do not keep the loop alive; this one does. */
        uv_async_t keep;
        uv_async_init(&program->loop, &keep, NULL);
        uv_run(&program->loop, UV_RUN_DEFAULT);
        uv_close((uv_handle_t *)&keep, NULL);
    } else {
        char quoted[sizeof(text) + 64];
        /* An address in use, not the data directory, when the store is open already. */
        code = error == WP_E_BUSY && program->store ? WP_EXIT_UNAVAILABLE : exit_code_of(error);
        wp_log(WP_LOG_ERROR, "start_failed", "reason=%s exit=%d text=%s", wp_error_slug(error), code,
            wp_log_quote(text, quoted, sizeof(quoted)));
    }
    wp_watchdog_destroy(&program->watchdog);
    program_end(program);
    wp_signals_destroy(&program->signals);
    uv_run(&program->loop, UV_RUN_DEFAULT);
    uv_loop_close(&program->loop);
    if (!error) {
        wp_log(WP_LOG_INFO, "stopped", "clean=1");
    }
    return code;
}

static int accept_loss_take(void *context, const char *value)
{
    struct program *program = context;
    char *end;
    unsigned long shard = strtoul(value, &end, 10);
    if (!strcmp(value, "all")) {
        program->accept_loss_all = true;
        memset(program->accept_loss, 1, sizeof(program->accept_loss));
        return WP_OK;
    }
    if (*end || shard < 1 || shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    program->accept_loss[shard] = true;
    program->accept_loss_max = shard > program->accept_loss_max ? (uint32_t)shard : program->accept_loss_max;
    return WP_OK;
}

int main(int argc, char **argv)
{
    static struct program program;
    static const struct wp_program_option options[] = {
        {"--accept-loss", "SHARD",
            "start although the log of SHARD (or of all) ends before a position known to be synced; what is "
            "missing is lost; may be repeated",
            accept_loss_take},
    };
    const struct wp_program description = {
        .name = "wardpost-router",
        .purpose = "keeps the mailboxes of its shards and delivers to the gateways",
        .example = "wardpost-router --config /etc/wardpost/router.yaml",
        .options = options,
        .option_count = 1,
        .context = &program,
        .check = config_check,
    };
    if (sodium_init() < 0) {
        fprintf(stderr, "wardpost-router: libsodium does not start\n");
        return WP_EXIT_INTERNAL;
    }
    struct wp_program_arguments arguments;
    int code = wp_program_parse(&description, argc, argv, &arguments);
    if (code >= 0) {
        return code;
    }
    char text[768];
    int error = config_take(&program, arguments.config_path, text, sizeof(text));
    if (error) {
        fprintf(stderr, "wardpost-router: %s\n", text);
        return WP_EXIT_CONFIG;
    }
    enum wp_log_level level = WP_LOG_INFO;
    (void)wp_log_level_parse(program.config->log_level, &level);
    randombytes_buf(&program.start_id, sizeof(program.start_id));
    static char node[WP_NAME_SIZE_MAX + 1]; /* outlives the configuration */
    snprintf(node, sizeof(node), "%s", program.config->node);
    wp_log_init(node, level);
    wp_descriptors_raise();
    return program_run(&program);
}
