/* wardpost-gateway: configuration, assembly, signals, management endpoint, clean stop. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/edge/edge.h"
#include "gateway/edge/tls.h"
#include "gateway/gateway.h"
#include "node/config.h"
#include "node/fabric.h"
#include "node/keys.h"
#include "node/management.h"
#include "node/program.h"
#include "node/watchdog.h"

#define TEXT_SIZE 1024u
#define PACKET_OVERHEAD_MAX (64u * 1024) /* topic and properties around a body */
#define STATUS_EVERY_MS 250u
#define STOP_WITHIN_MS 1500u

/* What the threads of the management server may read. The loop writes it. */
struct status {
    pthread_mutex_t lock;
    bool ready;
    char why[256];
    char *json; /* body of /v1/status */
};

struct program {
    uv_loop_t loop;
    struct wp_gateway_config *config;
    struct wp_keypair keys;
    void *zmq_context;
    struct wp_gateway *gateway;
    struct wp_edge *edge;
    struct wp_signals *signals;
    struct wp_management *management;
    struct wp_watchdog *watchdog;
    uv_timer_t status_timer, stop_timer;
    struct status status;
    bool stopping;
};

/* Loads what TLS needs, as a start would. */
static int certificate_check(const struct wp_gateway_config *config, char *ret_text, size_t text_size)
{
    struct wp_tls_context *tls = NULL;
    if (!config->listen.mqtts[0] && !config->listen.wss[0]) {
        return WP_OK;
    }
    int error =
        wp_tls_context_create(config->tls.certificate, config->tls.key, NULL, &tls, ret_text, text_size);
    wp_tls_context_destroy(&tls);
    return error;
}

static int config_check(void *context, const char *path, char *ret_text, size_t text_size)
{
    struct wp_gateway_config *config = NULL;
    struct wp_keypair keys;
    (void)context;
    int error = wp_gateway_config_load(path, &config, ret_text, text_size);
    error = error ? error : wp_keypair_load(config->fabric_key_file, &keys, ret_text, text_size);
    sodium_memzero(&keys, sizeof keys);
    error = error ? error : certificate_check(config, ret_text, text_size);
    wp_gateway_config_free(&config);
    return error;
}

static void link_add(void *context, const char *node, const char *endpoint, bool up)
{
    json_array_append_new(
        context, json_pack("{s:s, s:s, s:b}", "node", node, "endpoint", endpoint, "up", up));
}

static void status_refresh(struct program *program)
{
    char why[256] = "";
    struct wp_routing *routing = wp_gateway_routing(program->gateway);
    bool ready = !program->stopping && wp_routing_ready(routing, why, sizeof why);
    if (program->stopping) {
        snprintf(why, sizeof why, "the gateway stops");
    }
    json_t *links = json_array();
    wp_routing_links_each(routing, link_add, links);
    json_t *listeners = json_object();
    for (int kind = 0; kind < WP_EDGE_KIND_COUNT; kind++) {
        const char *address = wp_edge_address(program->edge, (enum wp_edge_kind)kind);
        if (address[0]) {
            json_object_set_new(listeners, wp_edge_kind_name((enum wp_edge_kind)kind), json_string(address));
        }
    }
    json_t *shards = json_pack("{s:I, s:I, s:I}", "count", (json_int_t)wp_routing_shard_count(routing), "up",
        (json_int_t)wp_routing_shards_up(routing), "leased", (json_int_t)wp_gateway_leases(program->gateway));
    json_t *root = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "node", program->config->node, "version",
        WP_VERSION, "connections", (json_int_t)wp_edge_connections(program->edge), "sessions",
        (json_int_t)wp_gateway_sessions(program->gateway), "listen", listeners, "routers", links, "shards",
        shards);
    char *json = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    wp_metric_set(WP_M_UP, ready);
    pthread_mutex_lock(&program->status.lock);
    char *old = program->status.json;
    program->status.ready = ready;
    memcpy(program->status.why, why, sizeof why);
    program->status.json = json ? json : old;
    pthread_mutex_unlock(&program->status.lock);
    if (json) {
        free(old);
    }
}

static void on_status_timer(uv_timer_t *timer)
{
    status_refresh(timer->data);
}

/* On a thread of the management server. */
static bool on_ready(void *context, char *ret_why, size_t why_size)
{
    struct program *program = context;
    pthread_mutex_lock(&program->status.lock);
    bool ready = program->status.ready;
    snprintf(ret_why, why_size, "%s", program->status.why);
    pthread_mutex_unlock(&program->status.lock);
    return ready;
}

/* On a thread of the management server. */
static int on_request(void *context, const struct wp_management_request *request, struct wp_buffer *out)
{
    struct program *program = context;
    if (strcmp(request->path, "/v1/status") != 0) {
        static const char body[] = "{\"error\":\"not-found\",\"text\":\"no such path\"}";
        (void)wp_buffer_append(out, body, sizeof body - 1);
        return 404;
    }
    if (strcmp(request->method, "GET") != 0) {
        static const char body[] = "{\"error\":\"invalid\",\"text\":\"only GET\"}";
        (void)wp_buffer_append(out, body, sizeof body - 1);
        return 405;
    }
    pthread_mutex_lock(&program->status.lock);
    const char *json = program->status.json;
    int error = json ? wp_buffer_append(out, json, strlen(json)) : WP_E_UNAVAILABLE;
    pthread_mutex_unlock(&program->status.lock);
    return error ? 503 : 200;
}

static void program_end(struct program *program)
{
    wp_edge_drop(program->edge);
    uv_stop(&program->loop);
}

/* Ends when everything is written, or when the time is up. */
static void on_stop_timer(uv_timer_t *timer)
{
    struct program *program = timer->data;
    static uint64_t since_ms;
    uint64_t now_ms = wp_clock_mono_us() / 1000;
    since_ms = since_ms ? since_ms : now_ms;
    if (wp_edge_connections(program->edge) == 0 || now_ms - since_ms > STOP_WITHIN_MS) {
        program_end(program);
    }
}

static void on_stop(void *context, int signal_number)
{
    struct program *program = context;
    if (program->stopping) {
        program_end(program);
        return;
    }
    wp_log(WP_LOG_INFO, "stopping", "signal=%d", signal_number);
    (void)wp_notify("STOPPING=1");
    program->stopping = true;
    wp_edge_stop(program->edge);
    wp_gateway_stop(program->gateway);
    uv_timer_start(&program->stop_timer, on_stop_timer, 20, 20);
}

static void on_reload(void *context)
{
    struct program *program = context;
    char text[TEXT_SIZE] = "", quoted[TEXT_SIZE];
    int error = wp_edge_reload(program->edge, text, sizeof text);
    if (error) {
        wp_log(WP_LOG_ERROR, "certificate_kept", "reason=%s", wp_log_quote(text, quoted, sizeof quoted));
    } else {
        wp_log(WP_LOG_INFO, "certificate_reloaded", "file=%s",
            program->config->tls.certificate ? program->config->tls.certificate : "-");
    }
}

static int gateway_start(struct program *program)
{
    const struct wp_gateway_config *config = program->config;
    struct wp_gateway_setup setup = {
        .policy = {.receive_maximum = config->limits.receive_maximum,
            .window = config->limits.window,
            .body_bytes_max = config->limits.body_bytes_max,
            .packet_bytes_max = config->limits.body_bytes_max + PACKET_OVERHEAD_MAX,
            .keep_alive_max_s = config->limits.keep_alive_max_s,
            .connect_timeout_ms = config->limits.connect_timeout_ms,
            .publish_per_second_max = config->limits.publish_per_second_max},
        .routing = {.fabric = {.loop = &program->loop,
                        .zmq_context = program->zmq_context,
                        .node = config->node,
                        .role = WP__ROLE__ROLE_GATEWAY,
                        .cluster_id = strtoull(config->cluster_id, NULL, 16),
                        .incarnation = wp_clock_wall_ms(),
                        .keys = &program->keys},
            .routers = config->routers,
            .router_count = config->router_count},
        .connections_max = config->limits.connections_max,
        .context = program->edge,
        .output = wp_edge_output,
        .resume = wp_edge_resume,
    };
    return wp_gateway_create(&setup, &program->gateway);
}

static int edge_make(struct program *program)
{
    const struct wp_gateway_config *config = program->config;
    struct wp_edge_config edge = {.loop = &program->loop,
        .listen = {[WP_EDGE_MQTT] = config->listen.mqtt,
            [WP_EDGE_MQTTS] = config->listen.mqtts,
            [WP_EDGE_WS] = config->listen.ws,
            [WP_EDGE_WSS] = config->listen.wss},
        .certificate = config->tls.certificate,
        .key = config->tls.key,
        .connections_per_address_max = config->limits.connections_per_address_max};
    return wp_edge_create(&edge, &program->edge);
}

static int management_start(struct program *program, char *ret_text, size_t text_size)
{
    const struct wp_management_config management = {.program = "gateway",
        .address = program->config->management.address && program->config->management.address[0]
                       ? program->config->management.address
                       : NULL,
        .socket_path = program->config->management.socket && program->config->management.socket[0]
                           ? program->config->management.socket
                           : NULL,
        .context = program,
        .ready = on_ready,
        .handle = on_request};
    return wp_management_create(&management, &program->management, ret_text, text_size);
}

/* Brings everything up; ret_text says what failed. */
static int program_start(struct program *program, char *ret_text, size_t text_size)
{
    const struct wp_signals_callbacks signals = {.context = program, .stop = on_stop, .reload = on_reload};
    int error = wp_keypair_load(program->config->fabric_key_file, &program->keys, ret_text, text_size);
    error = error ? error : wp_fabric_context_create(&program->zmq_context);
    error = error ? error : edge_make(program);
    error = error ? error : gateway_start(program);
    if (error) {
        return error;
    }
    error = wp_edge_start(program->edge, program->gateway, ret_text, text_size);
    error = error ? error : wp_signals_create(&program->loop, &signals, &program->signals);
    if (error) {
        return error;
    }
    status_refresh(program);
    uv_timer_start(&program->status_timer, on_status_timer, STATUS_EVERY_MS, STATUS_EVERY_MS);
    error = management_start(program, ret_text, text_size);
    /* The one loop that does the work is the watchdog's own. */
    const struct wp_watchdog_config watchdog = {.loop = &program->loop};
    return error ? error : wp_watchdog_create(&watchdog, &program->watchdog);
}

static void program_release(struct program *program)
{
    wp_watchdog_destroy(&program->watchdog);
    wp_management_destroy(&program->management);
    if (program->signals) {
        wp_signals_destroy(&program->signals);
    }
    if (program->edge) {
        wp_edge_drop(program->edge);
    }
    if (program->gateway) {
        wp_gateway_destroy(&program->gateway);
    }
    uv_close((uv_handle_t *)&program->status_timer, NULL);
    uv_close((uv_handle_t *)&program->stop_timer, NULL);
    while (uv_run(&program->loop, UV_RUN_DEFAULT)) {
    }
    wp_edge_destroy(&program->edge);
    if (program->zmq_context) {
        wp_fabric_context_destroy(&program->zmq_context);
    }
    (void)uv_loop_close(&program->loop);
    free(program->status.json);
    pthread_mutex_destroy(&program->status.lock);
    sodium_memzero(&program->keys, sizeof program->keys);
    wp_gateway_config_free(&program->config);
}

static int exit_code(int error)
{
    return error == WP_OK                                    ? WP_EXIT_OK
           : error == WP_E_BUSY                              ? WP_EXIT_UNAVAILABLE
           : error == WP_E_CONFIG || error == WP_E_NOT_FOUND ? WP_EXIT_CONFIG
                                                             : WP_EXIT_FAILURE;
}

static int program_run(struct program *program)
{
    char text[TEXT_SIZE] = "", quoted[TEXT_SIZE];
    pthread_mutex_init(&program->status.lock, NULL);
    uv_loop_init(&program->loop);
    uv_timer_init(&program->loop, &program->status_timer);
    uv_timer_init(&program->loop, &program->stop_timer);
    program->status_timer.data = program->stop_timer.data = program;
    int error = program_start(program, text, sizeof text);
    if (error) {
        wp_log(WP_LOG_ERROR, "start_failed", "reason=%s text=%s", wp_error_slug(error),
            wp_log_quote(text[0] ? text : wp_error_text(error), quoted, sizeof quoted));
    } else {
        wp_log(WP_LOG_INFO, "started", "version=%s", WP_VERSION);
        (void)wp_notify("READY=1");
        uv_run(&program->loop, UV_RUN_DEFAULT);
        wp_log(WP_LOG_INFO, "stopped", "clean=1");
    }
    program_release(program);
    return exit_code(error);
}

int main(int argc, char **argv)
{
    static const struct wp_program description = {.name = "wardpost-gateway",
        .purpose =
            "takes the connections of devices (MQTT 5 and 3.1.1) and brings their messages to the routers",
        .example = "wardpost-gateway --config /etc/wardpost/gateway.yaml",
        .check = config_check};
    static struct program program;
    struct wp_program_arguments arguments;
    int code = wp_program_parse(&description, argc, argv, &arguments);
    if (code >= 0) {
        return code;
    }
    char text[TEXT_SIZE] = "";
    int error = wp_gateway_config_load(arguments.config_path, &program.config, text, sizeof text);
    if (error) {
        fprintf(stderr, "%s\n", text[0] ? text : wp_error_text(error));
        return WP_EXIT_CONFIG;
    }
    enum wp_log_level level = WP_LOG_INFO;
    (void)wp_log_level_parse(program.config->log_level, &level);
    wp_log_init(program.config->node, level);
    if (sodium_init() < 0) {
        wp_log(WP_LOG_ERROR, "start_failed", "reason=no-random-numbers");
        return WP_EXIT_FAILURE;
    }
    (void)wp_descriptors_raise();
    return program_run(&program);
}
