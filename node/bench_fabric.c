/* wp-bench-fabric: how many frames two loops move between them through CURVE on loopback, both ways at once.
 * Usage: wp-bench-fabric [SECONDS [ENVELOPE_BYTES]]. Each side keeps its credit used up, as a busy gateway
 * does. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/log.h"
#include "node/fabric.h"

#define BODY_SIZE_MAX (64u * 1024)
#define STAT_SHARD 2u /* marks the STAT probes; their ticket is the time of sending */

struct end {
    Wp__Role role;
    const char *node;
    struct wp_keypair keys;
    void *zmq;
    struct wp_zap *zap;
    uv_loop_t loop;
    uv_async_t stop;
    uv_timer_t probe;
    struct wp_link *link;
    struct wp_histogram stat_us;
    struct wp_fabric *fabric;
    uint64_t sent, received, turns;
    size_t body_size;
    pthread_t thread;
};

static uint8_t body[BODY_SIZE_MAX];

static int one_send(struct end *end, struct wp_link *link)
{
    char name[] = "alice";
    struct wp_link *to = link;
    if (end->role == WP__ROLE__ROLE_GATEWAY) {
        Wp__Submit submit = WP__SUBMIT__INIT;
        submit.ticket = end->sent;
        submit.shard = 1;
        submit.user = submit.device = name;
        submit.envelope.data = body;
        submit.envelope.len = end->body_size;
        return wp_link_send(to, WP_LINK_ROUTINE, WP_FRAME_SUBMIT, &submit.base);
    }
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.sequence = end->sent;
    deliver.envelope.data = body;
    deliver.envelope.len = end->body_size;
    return wp_link_send(to, WP_LINK_ROUTINE, WP_FRAME_DELIVER, &deliver.base);
}

static void on_writable(void *context, struct wp_link *link)
{
    struct end *end = context;
    while (one_send(end, link) == WP_OK) {
        end->sent++;
    }
}

static void on_down(void *context, struct wp_link *link, int error)
{
    (void)context;
    fprintf(stderr, "link to \"%s\" is down: %s\n", wp_link_node(link), wp_error_text(error));
    exit(1);
}

static void probe_take(struct end *end, struct wp_slice payload)
{
    Wp__Submit *submit = wp__submit__unpack(NULL, payload.size, payload.data);
    if (submit && submit->shard == STAT_SHARD) {
        wp_histogram_record(&end->stat_us, wp_clock_mono_us() - submit->ticket);
    }
    wp__submit__free_unpacked(submit, NULL);
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    struct end *end = context;
    __atomic_add_fetch(&end->received, 1, __ATOMIC_RELAXED);
    wp_link_credit_return(link, payload.size + WP_RECORD_HEAD_SIZE);
    if (type == WP_FRAME_SUBMIT && payload.size < end->body_size) { /* probes have no body */
        probe_take(end, payload);
    }
}

static void probe_run(uv_timer_t *timer)
{
    struct end *end = timer->data;
    Wp__Submit submit = WP__SUBMIT__INIT;
    submit.ticket = wp_clock_mono_us();
    submit.shard = STAT_SHARD;
    (void)wp_link_send(end->link, WP_LINK_STAT, WP_FRAME_SUBMIT, &submit.base);
}

static void on_turn(void *context)
{
    struct end *end = context;
    end->turns++;
}

static void stop_run(uv_async_t *handle)
{
    uv_stop(handle->loop);
}

static void need(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "wp-bench-fabric: %s: %s\n", what, wp_error_text(error));
        exit(1);
    }
}

static void end_open(struct end *end)
{
    need(wp_fabric_context_create(&end->zmq), "context");
    need(wp_zap_create(end->zmq, &end->zap), "allow-list");
    need(uv_loop_init(&end->loop), "loop");
    uv_async_init(&end->loop, &end->stop, stop_run);
    uv_timer_init(&end->loop, &end->probe);
    end->probe.data = end;
    wp_histogram_init(&end->stat_us);
    struct wp_fabric_config config = {.loop = &end->loop,
        .zmq_context = end->zmq,
        .zap = end->zap,
        .node = end->node,
        .role = end->role,
        .cluster_id = 1,
        .incarnation = 1,
        .keys = &end->keys};
    struct wp_fabric_callbacks callbacks = {end, on_writable, on_down, on_frame, on_turn, on_writable};
    need(wp_fabric_create(&config, &callbacks, &end->fabric), "fabric");
}

static void *end_run(void *argument)
{
    struct end *end = argument;
    uv_run(&end->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void end_close(struct end *end)
{
    wp_fabric_destroy(&end->fabric);
    uv_close((uv_handle_t *)&end->stop, NULL);
    uv_close((uv_handle_t *)&end->probe, NULL);
    uv_run(&end->loop, UV_RUN_DEFAULT);
    uv_loop_close(&end->loop);
    wp_zap_destroy(&end->zap);
    wp_fabric_context_destroy(&end->zmq);
}

static uint64_t received_get(const struct end *end)
{
    return __atomic_load_n(&end->received, __ATOMIC_RELAXED);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void pause_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
    size_t body_size = argc > 2 ? strtoul(argv[2], NULL, 10) : 512;
    if (seconds == 0 || body_size > BODY_SIZE_MAX) {
        fprintf(stderr, "usage: wp-bench-fabric [SECONDS [ENVELOPE_BYTES up to %u]]\n", BODY_SIZE_MAX);
        return 64;
    }
    wp_log_init("wp-bench-fabric", WP_LOG_ERROR);
    struct end router = {.role = WP__ROLE__ROLE_ROUTER, .node = "router-1", .body_size = body_size};
    struct end gateway = {.role = WP__ROLE__ROLE_GATEWAY, .node = "gateway-1", .body_size = body_size};
    zmq_curve_keypair(router.keys.public_text, router.keys.secret_text);
    zmq_curve_keypair(gateway.keys.public_text, gateway.keys.secret_text);
    end_open(&router);
    end_open(&gateway);
    need(wp_zap_allow(router.zap, gateway.keys.public_text, gateway.node, gateway.role), "allow");
    char endpoint[64];
    need(wp_fabric_listen(router.fabric, "tcp://127.0.0.1:*", endpoint, sizeof endpoint), "listen");
    need(wp_fabric_connect(gateway.fabric, endpoint, router.keys.public_text, &gateway.link), "connect");
    uv_timer_start(&gateway.probe, probe_run, 600, 1);
    pthread_create(&router.thread, NULL, end_run, &router);
    pthread_create(&gateway.thread, NULL, end_run, &gateway);

    pause_ms(500); /* connected and warm */
    uint64_t begin_us = wp_clock_mono_us(), submits = received_get(&router),
             delivers = received_get(&gateway);
    double cpu = cpu_seconds();
    pause_ms(seconds * 1000);
    double elapsed = (double)(wp_clock_mono_us() - begin_us) / 1e6;
    submits = received_get(&router) - submits;
    delivers = received_get(&gateway) - delivers;
    cpu = cpu_seconds() - cpu;
    uv_async_send(&router.stop);
    uv_async_send(&gateway.stop);
    pthread_join(router.thread, NULL);
    pthread_join(gateway.thread, NULL);
    double rate = (double)(submits + delivers) / elapsed;
    printf(
        "envelope_bytes=%zu submits_per_s=%.0f delivers_per_s=%.0f frames_per_s=%.0f cpu_us_per_frame=%.2f "
        "stat_us_p50=%" PRIu64 " stat_us_p99=%" PRIu64 " stat_us_max=%" PRIu64 "\n",
        body_size, (double)submits / elapsed, (double)delivers / elapsed, rate,
        cpu * 1e6 / (double)(submits + delivers), wp_histogram_quantile(&router.stat_us, 0.5),
        wp_histogram_quantile(&router.stat_us, 0.99), router.stat_us.max);
    end_close(&gateway);
    end_close(&router);
    return submits > 0 && delivers > 0 ? 0 : 1;
}
