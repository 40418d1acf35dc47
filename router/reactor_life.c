/* How a reactor is put together and taken apart. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "router/policy.h"
#include "router/reactor_meta.h"
#include "router/reactor_report.h"

#define FRAME_ARENA_BYTES (8u * 1024 * 1024)
#define APPLY_ARENA_BYTES (64u * 1024 * 1024)
#define COMPLETIONS_MIN 256u

static void close_walk(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void on_turn(void *context)
{
    wp_reactor_settle(context);
}

static int hand_over_init(struct wp_reactor *reactor)
{
    reactor->completions = calloc(COMPLETIONS_MIN, sizeof(*reactor->completions));
    reactor->completions_taken = calloc(COMPLETIONS_MIN, sizeof(*reactor->completions_taken));
    reactor->completion_capacity = reactor->completions_taken_capacity = COMPLETIONS_MIN;
    reactor->jobs_last = &reactor->jobs_first;
    return reactor->completions && reactor->completions_taken ? WP_OK : WP_E_NOMEM;
}

static int loop_init(struct wp_reactor *reactor)
{
    if (uv_loop_init(&reactor->loop)) {
        return WP_E_NOMEM;
    }
    uv_loop_configure(&reactor->loop, UV_METRICS_IDLE_TIME);
    uv_async_init(&reactor->loop, &reactor->async, wp_reactor_on_async);
    uv_timer_init(&reactor->loop, &reactor->timer);
    uv_prepare_init(&reactor->loop, &reactor->prepare);
    reactor->async.data = reactor->timer.data = reactor->prepare.data = reactor;
    uv_timer_start(&reactor->timer, wp_reactor_on_timer, TICK_MS, TICK_MS);
    uv_prepare_start(&reactor->prepare, wp_reactor_on_prepare);
    return WP_OK;
}

static int shards_init(struct wp_reactor *reactor, char *ret_text, size_t text_size)
{
    const struct wp_reactor_config *config = &reactor->config;
    uint32_t count =
        (config->shard_count - config->index + config->reactor_count - 1) / config->reactor_count;
    reactor->shards = calloc(count + 1, sizeof(*reactor->shards));
    reactor->shard_count = count;
    uint32_t slots = config->index == 0 ? count + 1 : count;
    for (uint32_t i = 0; reactor->shards && i < slots; i++) {
        uint32_t number = i < count ? 1 + config->index + i * config->reactor_count : WP_META_GROUP;
        int error = wp_replica_find(reactor, &reactor->shards[i], number);
        if (error) {
            char store_text[256];
            wp_store_error_text(config->store, store_text, sizeof(store_text));
            snprintf(ret_text, text_size, "shard %u cannot be loaded: %s%s%s", number, wp_error_text(error),
                store_text[0] ? ": " : "", store_text);
            return error;
        }
    }
    return reactor->shards ? WP_OK : WP_E_NOMEM;
}

static int fabric_init(struct wp_reactor *reactor, char *ret_text, size_t text_size)
{
    const struct wp_reactor_config *config = &reactor->config;
    const struct wp_fabric_config fabric = {
        .loop = &reactor->loop,
        .zmq_context = config->zmq_context,
        .zap = config->zap,
        .node = config->node,
        .role = WP__ROLE__ROLE_ROUTER,
        .cluster_id = config->cluster_id,
        .incarnation = config->incarnation,
        .directory_id = config->directory_id,
        .start_id = config->start_id,
        .keys = config->keys,
    };
    const struct wp_fabric_callbacks callbacks = {reactor, wp_reactor_link_up, wp_reactor_link_down,
        wp_reactor_link_frame, on_turn, wp_reactor_link_writable};
    int error = wp_fabric_create(&fabric, &callbacks, &reactor->fabric);
    if (!error) {
        error =
            wp_fabric_listen(reactor->fabric, config->listen, reactor->endpoint, sizeof(reactor->endpoint));
    }
    if (!error) {
        error = wp_routers_update(reactor);
    }
    if (error) {
        snprintf(ret_text, text_size, "cannot listen on \"%s\": %s", config->listen, wp_error_text(error));
    }
    return error;
}

int wp_reactor_create(
    const struct wp_reactor_config *config, struct wp_reactor **ret_reactor, char *ret_text, size_t text_size)
{
    struct wp_reactor *reactor = calloc(1, sizeof(*reactor));
    snprintf(ret_text, text_size, "out of memory");
    if (!reactor) {
        return WP_E_NOMEM;
    }
    reactor->config = *config;
    reactor->roster = wp_roster_retain(config->roster);
    wp_policy_limits(config->roster, &reactor->limits);
    TAILQ_INIT(&reactor->forwards);
    reactor->reports = calloc(WP_ROSTER_NODES_MAX, sizeof(*reactor->reports));
    pthread_mutex_init(&reactor->guard, NULL);
    wp_arena_init(&reactor->frame_arena, FRAME_ARENA_BYTES);
    wp_arena_init(&reactor->apply_arena, APPLY_ARENA_BYTES);
    reactor->cache = wp_body_cache_create(config->body_cache_bytes);
    int error = reactor->cache && reactor->reports ? hand_over_init(reactor) : WP_E_NOMEM;
    error = error ? error : loop_init(reactor);
    if (error) {
        /* The loop is the last thing that can fail here, so there is nothing of it to close. */
        wp_body_cache_destroy(&reactor->cache);
        free(reactor->completions);
        free(reactor->completions_taken);
        pthread_mutex_destroy(&reactor->guard);
        wp_roster_release(&reactor->roster);
        free(reactor->reports);
        free(reactor);
        return error;
    }
    error = config->index == 0 ? wp_meta_work_create(reactor) : WP_OK;
    error = error ? error : shards_init(reactor, ret_text, text_size);
    error = error ? error : fabric_init(reactor, ret_text, text_size);
    if (error) {
        wp_reactor_destroy(&reactor);
        return error;
    }
    *ret_reactor = reactor;
    return WP_OK;
}

const char *wp_reactor_endpoint(const struct wp_reactor *reactor)
{
    return reactor->endpoint;
}

void wp_reactor_begin(struct wp_reactor *reactor)
{
    wp_reactor_clock(reactor);
    wp_reactor_time(reactor);
    for (struct shard *shard = wp_group_next(reactor, NULL); shard && !reactor->failed;
         shard = wp_group_next(reactor, shard)) {
        int error = wp_group_start(shard->group, reactor->mono_ms);
        if (error) {
            wp_reactor_fail(reactor, error, "starting a group");
        }
    }
}

static void *reactor_run(void *context)
{
    struct wp_reactor *reactor = context;
    char name[16]; /* seen in top -H and in a debugger */
    snprintf(name, sizeof(name), "reactor-%u", reactor->config.index);
    pthread_setname_np(pthread_self(), name);
    wp_reactor_begin(reactor);
    uv_run(&reactor->loop, UV_RUN_DEFAULT);
    return NULL;
}

int wp_reactor_start(struct wp_reactor *reactor)
{
    if (pthread_create(&reactor->thread, NULL, reactor_run, reactor)) {
        return WP_E_NOMEM;
    }
    reactor->thread_started = true;
    return WP_OK;
}

void wp_reactor_destroy(struct wp_reactor **handle)
{
    struct wp_reactor *reactor = *handle;
    *handle = NULL;
    if (!reactor) {
        return;
    }
    WP_ASSERT(!reactor->thread_started);
    if (reactor->fabric) {
        wp_fabric_destroy(&reactor->fabric);
    }
    uv_walk(&reactor->loop, close_walk, NULL);
    uv_run(&reactor->loop, UV_RUN_DEFAULT);
    uv_loop_close(&reactor->loop);
    for (uint32_t i = 0; i <= reactor->shard_count && reactor->shards; i++) {
        wp_shard_shut(&reactor->shards[i]);
    }
    wp_replicas_free(reactor);
    free(reactor->shards);
    wp_snapshots_free(reactor);
    wp_routers_free(reactor);
    wp_reports_free(reactor);
    free(reactor->reports);
    free(reactor->meta_work);
    wp_roster_release(&reactor->roster);
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        if (reactor->peers[slot]) {
            wp_peer_free(reactor->peers[slot]);
        }
    }
    wp_map_fini(&reactor->attaches);
    wp_body_cache_destroy(&reactor->cache);
    wp_arena_fini(&reactor->frame_arena);
    wp_arena_fini(&reactor->apply_arena);
    wp_buffer_free(&reactor->scratch);
    free(reactor->completions);
    free(reactor->completions_taken);
    pthread_mutex_destroy(&reactor->guard);
    free(reactor);
}

/* --- drain of the log
 * ------------------------------------------------------------------------------------------
 */

struct drain {
    pthread_mutex_t guard;
    pthread_cond_t done;
    bool finished;
    uint32_t references;
};

static void drain_release(struct drain *drain)
{
    pthread_mutex_lock(&drain->guard);
    bool last = --drain->references == 0;
    pthread_mutex_unlock(&drain->guard);
    if (last) {
        pthread_mutex_destroy(&drain->guard);
        pthread_cond_destroy(&drain->done);
        free(drain);
    }
}

static void drain_done(void *context, uint64_t tag)
{
    (void)tag;
    struct drain *drain = context;
    pthread_mutex_lock(&drain->guard);
    drain->finished = true;
    pthread_cond_signal(&drain->done);
    pthread_mutex_unlock(&drain->guard);
    drain_release(drain);
}

bool wp_reactor_log_drain(struct wp_store *store, uint32_t shard, uint32_t timeout_ms)
{
    struct drain *drain = calloc(1, sizeof(*drain));
    if (!drain) {
        return false;
    }
    pthread_mutex_init(&drain->guard, NULL);
    pthread_cond_init(&drain->done, NULL);
    drain->references = 2;
    struct wp_log_write write = {.shard = shard, .done = drain_done, .context = drain};
    if (wp_log_submit(store, &write)) {
        drain->references = 1;
        drain_release(drain);
        return false;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&drain->guard);
    int waited = 0;
    while (!drain->finished && waited == 0) {
        waited = pthread_cond_timedwait(&drain->done, &drain->guard, &until);
    }
    bool finished = drain->finished;
    pthread_mutex_unlock(&drain->guard);
    drain_release(drain);
    return finished;
}
