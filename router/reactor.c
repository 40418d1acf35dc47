/* The loop of a reactor: what wakes it, and that everything it was woken for is settled before it sleeps.
 *
 * Invariants
 *   1. Only the loop's thread touches shards, peers and the fabric; the guarded part is all that others see.
 *   2. Each source of events ends with wp_reactor_settle: nothing that could be proposed or sent waits for
 * the tick.
 *   3. After wp_reactor_fail nothing is proposed, applied or answered. */
#include "router/reactor.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/reactor_state.h"

#define FRAME_ARENA_BYTES (8u * 1024 * 1024)
#define APPLY_ARENA_BYTES (64u * 1024 * 1024)
#define COMPLETIONS_MIN 256u
#define GAUGES_MS 1000u
#define STOP_MS_MAX 3000u
#define EXPIRE_LIMIT 1000u

void wp_reactor_fail(struct wp_reactor *reactor, int error, const char *what)
{
    if (reactor->failed) {
        return;
    }
    reactor->failed = true;
    char store_text[256];
    char text[384];
    wp_store_error_text(reactor->config.store, store_text, sizeof(store_text));
    snprintf(text, sizeof(text), "reactor %u: %s: %s%s%s", reactor->config.index, what, wp_error_text(error),
        store_text[0] ? ": " : "", store_text);
    reactor->config.fatal(reactor->config.context, error, text);
}

struct shard *wp_reactor_shard(struct wp_reactor *reactor, uint64_t number)
{
    const struct wp_reactor_config *config = &reactor->config;
    if (number < 1 || number > config->shard_count || (number - 1) % config->reactor_count != config->index) {
        return NULL;
    }
    return &reactor->shards[(number - 1) / config->reactor_count];
}

uint64_t wp_reactor_time(struct wp_reactor *reactor)
{
    uint64_t wall_ms = wp_clock_wall_ms();
    reactor->leader_ms = wall_ms > reactor->leader_ms ? wall_ms : reactor->leader_ms;
    return reactor->leader_ms;
}

void wp_reactor_wake(struct wp_reactor *reactor)
{
    uv_async_send(&reactor->async);
}

/* --- turns
 * -------------------------------------------------------------------------------------------------- */

void wp_reactor_settle(struct wp_reactor *reactor)
{
    if (reactor->failed || reactor->closing) {
        return;
    }
    reactor->mono_ms = wp_clock_mono_us() / 1000;
    wp_reactor_time(reactor);
    bool more = false;
    for (uint32_t i = 0; i < reactor->shard_count && !reactor->failed; i++) {
        struct shard *shard = &reactor->shards[i];
        wp_dispatch_tick(shard->dispatch, reactor->mono_ms, reactor->leader_ms);
        more = wp_shard_pump(shard) || more;
        wp_shard_propose(shard);
    }
    if (more) {
        wp_reactor_wake(reactor);
    }
}

static void on_turn(void *context)
{
    wp_reactor_settle(context);
}

static void shard_tick(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    int error = wp_group_tick(shard->group, reactor->mono_ms);
    if (error) {
        wp_reactor_fail(reactor, error, "group tick");
        return;
    }
    if (shard->expire_open || reactor->stopping || !wp_group_leading(shard->group) ||
        wp_machine_expiry_due_ms(shard->machine) > reactor->leader_ms) {
        return;
    }
    static const struct waiter waiter = {.kind = WAIT_EXPIRE};
    Wp__CommandExpire command = WP__COMMAND_EXPIRE__INIT;
    command.limit = EXPIRE_LIMIT;
    shard->expire_open = wp_shard_command(shard, WP_COMMAND_EXPIRE, &command.base, &waiter) == WP_OK;
}

static void gauges_refresh(struct wp_reactor *reactor)
{
    struct wp_reactor_gauges sum = {.seen_window_min_s = UINT64_MAX};
    for (uint32_t i = 0; i < reactor->shard_count; i++) {
        const struct shard *shard = &reactor->shards[i];
        struct wp_machine_totals totals;
        wp_machine_totals(shard->machine, &totals);
        sum.messages += totals.messages;
        sum.bytes += totals.bytes;
        sum.attached += wp_dispatch_attached_count(shard->dispatch);
        uint64_t window_s = wp_machine_seen_window_ms(shard->machine, reactor->leader_ms) / 1000;
        sum.seen_window_min_s = window_s < sum.seen_window_min_s ? window_s : sum.seen_window_min_s;
    }
    __atomic_store_n(&reactor->gauges.messages, sum.messages, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.bytes, sum.bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.attached, sum.attached, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.seen_window_min_s, sum.seen_window_min_s, __ATOMIC_RELAXED);
    reactor->gauges_ms = reactor->mono_ms;
}

void wp_reactor_gauges(const struct wp_reactor *reactor, struct wp_reactor_gauges *ret_gauges)
{
    ret_gauges->messages = __atomic_load_n(&reactor->gauges.messages, __ATOMIC_RELAXED);
    ret_gauges->bytes = __atomic_load_n(&reactor->gauges.bytes, __ATOMIC_RELAXED);
    ret_gauges->attached = __atomic_load_n(&reactor->gauges.attached, __ATOMIC_RELAXED);
    ret_gauges->seen_window_min_s = __atomic_load_n(&reactor->gauges.seen_window_min_s, __ATOMIC_RELAXED);
}

bool wp_reactor_ready(const struct wp_reactor *reactor)
{
    return __atomic_load_n(&reactor->leading_count, __ATOMIC_RELAXED) == reactor->shard_count;
}

/* --- stop
 * ----------------------------------------------------------------------------------------------------- */

static void close_walk(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Once nothing waits for an answer: replies leave, handles close, the loop ends. */
static void stop_if_idle(struct wp_reactor *reactor)
{
    bool idle = true;
    for (uint32_t i = 0; i < reactor->shard_count; i++) {
        idle = idle && wp_shard_idle(&reactor->shards[i]);
    }
    if (reactor->closing || (!idle && !reactor->failed && reactor->mono_ms < reactor->stop_deadline_ms)) {
        return;
    }
    reactor->closing = true;
    pthread_mutex_lock(&reactor->guard);
    reactor->hand_over_closed = true;
    struct wp_reactor_job *jobs = reactor->jobs_first;
    reactor->jobs_first = NULL;
    reactor->jobs_last = &reactor->jobs_first;
    pthread_mutex_unlock(&reactor->guard);
    while (jobs) {
        struct wp_reactor_job *job = jobs;
        jobs = job->next;
        job->run(job, reactor);
    }
    wp_fabric_flush(reactor->fabric);
    wp_fabric_destroy(&reactor->fabric);
    uv_close((uv_handle_t *)&reactor->async, NULL);
    uv_close((uv_handle_t *)&reactor->timer, NULL);
    uv_close((uv_handle_t *)&reactor->prepare, NULL);
}

struct stop_job {
    struct wp_reactor_job job;
};

static void stop_run(struct wp_reactor_job *job, struct wp_reactor *reactor)
{
    free(job);
    reactor->stopping = true;
    reactor->stop_deadline_ms = reactor->mono_ms + STOP_MS_MAX;
}

void wp_reactor_stop(struct wp_reactor *reactor)
{
    if (!reactor->thread_started) {
        return;
    }
    struct stop_job *stop = calloc(1, sizeof(*stop));
    WP_ASSERT(stop);
    stop->job.run = stop_run;
    int error = wp_reactor_post(reactor, &stop->job);
    if (error) {
        free(stop);
    }
    WP_ASSERT(!error || error == WP_E_CLOSED);
    pthread_join(reactor->thread, NULL);
    reactor->thread_started = false;
}

/* --- sources of events
 * ---------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct wp_reactor *reactor = timer->data;
    reactor->mono_ms = wp_clock_mono_us() / 1000;
    wp_reactor_time(reactor);
    for (uint32_t i = 0; i < reactor->shard_count && !reactor->failed; i++) {
        shard_tick(&reactor->shards[i]);
    }
    struct wp_store_disk disk;
    wp_store_disk(reactor->config.store, &disk);
    reactor->disk_full = disk.full;
    if (reactor->config.index == 0) {
        wp_state_flush_if_due(reactor->config.store);
    }
    if (reactor->mono_ms - reactor->gauges_ms >= GAUGES_MS) {
        gauges_refresh(reactor);
    }
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        if (reactor->peers[slot] && reactor->peers[slot]->held_count > 0) {
            wp_peer_flush(reactor, reactor->peers[slot]);
        }
    }
    wp_reactor_settle(reactor);
    if (reactor->stopping) {
        stop_if_idle(reactor);
    }
}

/* Swaps the arrays, so that the committer never waits for the work of this thread. */
static uint32_t completions_take(struct wp_reactor *reactor, struct wp_reactor_job **ret_jobs)
{
    pthread_mutex_lock(&reactor->guard);
    struct completion *items = reactor->completions;
    uint32_t capacity = reactor->completion_capacity;
    uint32_t count = reactor->completion_count;
    reactor->completions = reactor->completions_taken;
    reactor->completion_capacity = reactor->completions_taken_capacity;
    reactor->completion_count = 0;
    *ret_jobs = reactor->jobs_first;
    reactor->jobs_first = NULL;
    reactor->jobs_last = &reactor->jobs_first;
    reactor->job_count = 0;
    pthread_mutex_unlock(&reactor->guard);
    reactor->completions_taken = items;
    reactor->completions_taken_capacity = capacity;
    return count;
}

static void on_async(uv_async_t *async)
{
    struct wp_reactor *reactor = async->data;
    struct wp_reactor_job *jobs;
    uint32_t count = completions_take(reactor, &jobs);
    reactor->turn_worked = true;
    reactor->mono_ms = wp_clock_mono_us() / 1000;
    for (uint32_t i = 0; i < count && !reactor->failed; i++) {
        struct shard *shard = wp_reactor_shard(reactor, reactor->completions_taken[i].shard);
        int error = wp_group_persisted(shard->group, reactor->mono_ms, reactor->completions_taken[i].tag);
        if (error) {
            wp_reactor_fail(reactor, error, "applying the log");
        }
    }
    while (jobs) {
        struct wp_reactor_job *job = jobs;
        jobs = job->next;
        job->run(job, reactor);
    }
    wp_reactor_settle(reactor);
}

/* One turn is everything since the last prepare, without the time that the loop slept. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct wp_reactor *reactor = prepare->data;
    uint64_t now_us = wp_clock_mono_us();
    uint64_t idle_us = uv_metrics_idle_time(&reactor->loop) / 1000;
    uint64_t slept_us = idle_us - reactor->idle_us;
    uint64_t passed_us = now_us - reactor->prepared_us;
    if (reactor->turn_worked) {
        wp_metric_observe_us(WP_H_TURN, passed_us > slept_us ? passed_us - slept_us : 0);
    }
    reactor->prepared_us = now_us;
    reactor->idle_us = idle_us;
    reactor->turn_worked = false;
}

int wp_reactor_post(struct wp_reactor *reactor, struct wp_reactor_job *job)
{
    pthread_mutex_lock(&reactor->guard);
    int error = reactor->hand_over_closed ? WP_E_CLOSED : reactor->job_count >= JOBS_MAX ? WP_E_FULL : WP_OK;
    if (!error) {
        job->next = NULL;
        *reactor->jobs_last = job;
        reactor->jobs_last = &job->next;
        reactor->job_count++;
        uv_async_send(&reactor->async);
    }
    pthread_mutex_unlock(&reactor->guard);
    return error;
}

/* --- links
 * ---------------------------------------------------------------------------------------------------- */

static void map_send(struct wp_reactor *reactor, struct wp_link *link)
{
    const struct wp_reactor_config *config = &reactor->config;
    Wp__ShardPlace *places = calloc(config->shard_count, sizeof(*places));
    Wp__ShardPlace **pointers = calloc(config->shard_count, sizeof(*pointers));
    char node[WP_NAME_SIZE_MAX + 1] = "";
    strncpy(node, config->node, WP_NAME_SIZE_MAX);
    int error = places && pointers ? WP_OK : WP_E_NOMEM;
    for (uint32_t i = 0; !error && i < config->shard_count; i++) {
        wp__shard_place__init(&places[i]);
        places[i].shard = i + 1;
        places[i].node = node;
        places[i].endpoint = reactor->endpoints[i % config->reactor_count];
        pointers[i] = &places[i];
    }
    Wp__ShardMap map = WP__SHARD_MAP__INIT;
    map.version = config->incarnation;
    map.hash_key = (ProtobufCBinaryData){sizeof(reactor->config.hash_key), reactor->config.hash_key};
    map.shard_count = config->shard_count;
    map.places = pointers;
    map.n_places = config->shard_count;
    error = error ? error : wp_link_send(link, WP_LINK_CONTROL, WP_FRAME_SHARD_MAP, &map.base);
    if (error) {
        wp_reactor_fail(reactor, error, "sending the shard map");
    }
    free(places);
    free(pointers);
}

static void on_up(void *context, struct wp_link *link)
{
    struct wp_reactor *reactor = context;
    int error = wp_peer_open(reactor, link);
    wp_log(error ? WP_LOG_ERROR : WP_LOG_INFO, "link_up", "peer=%s reactor=%u error=%s", wp_link_node(link),
        reactor->config.index, wp_error_slug(error));
    if (!error) {
        map_send(reactor, link);
    }
}

static void on_down(void *context, struct wp_link *link, int error)
{
    struct wp_reactor *reactor = context;
    struct peer *peer = wp_link_user(link);
    wp_log(WP_LOG_INFO, "link_down", "peer=%s reactor=%u reason=%s", wp_link_node(link),
        reactor->config.index, wp_error_slug(error));
    if (peer) {
        wp_peer_close(reactor, peer);
    }
}

static void on_writable(void *context, struct wp_link *link)
{
    struct wp_reactor *reactor = context;
    struct peer *peer = wp_link_user(link);
    if (!peer) {
        return;
    }
    wp_peer_flush(reactor, peer);
    for (uint32_t i = 0; i < reactor->shard_count; i++) {
        wp_dispatch_link_writable(reactor->shards[i].dispatch, peer->number);
    }
    wp_reactor_settle(reactor);
}

/* --- life
 * ------------------------------------------------------------------------------------------------------ */

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
    uv_async_init(&reactor->loop, &reactor->async, on_async);
    uv_timer_init(&reactor->loop, &reactor->timer);
    uv_prepare_init(&reactor->loop, &reactor->prepare);
    reactor->async.data = reactor->timer.data = reactor->prepare.data = reactor;
    uv_timer_start(&reactor->timer, on_timer, TICK_MS, TICK_MS);
    uv_prepare_start(&reactor->prepare, on_prepare);
    return WP_OK;
}

static int shards_init(struct wp_reactor *reactor, char *ret_text, size_t text_size)
{
    const struct wp_reactor_config *config = &reactor->config;
    uint32_t count =
        (config->shard_count - config->index + config->reactor_count - 1) / config->reactor_count;
    reactor->shards = calloc(count, sizeof(*reactor->shards));
    reactor->shard_count = count;
    for (uint32_t i = 0; reactor->shards && i < count; i++) {
        uint32_t number = 1 + config->index + i * config->reactor_count;
        int error = wp_shard_init(reactor, &reactor->shards[i], number);
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
        .keys = config->keys,
    };
    const struct wp_fabric_callbacks callbacks = {
        reactor, on_up, on_down, wp_reactor_frame, on_turn, on_writable};
    int error = wp_fabric_create(&fabric, &callbacks, &reactor->fabric);
    if (!error) {
        error =
            wp_fabric_listen(reactor->fabric, config->listen, reactor->endpoint, sizeof(reactor->endpoint));
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
    pthread_mutex_init(&reactor->guard, NULL);
    wp_arena_init(&reactor->frame_arena, FRAME_ARENA_BYTES);
    wp_arena_init(&reactor->apply_arena, APPLY_ARENA_BYTES);
    reactor->cache = wp_body_cache_create(config->body_cache_bytes);
    int error = reactor->cache ? hand_over_init(reactor) : WP_E_NOMEM;
    error = error ? error : loop_init(reactor);
    if (error) {
        /* The loop is the last thing that can fail here, so there is nothing of it to close. */
        wp_body_cache_destroy(&reactor->cache);
        free(reactor->completions);
        free(reactor->completions_taken);
        pthread_mutex_destroy(&reactor->guard);
        free(reactor);
        return error;
    }
    error = shards_init(reactor, ret_text, text_size);
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

static void *reactor_run(void *context)
{
    struct wp_reactor *reactor = context;
    reactor->mono_ms = wp_clock_mono_us() / 1000;
    wp_reactor_time(reactor);
    for (uint32_t i = 0; i < reactor->shard_count && !reactor->failed; i++) {
        int error = wp_group_start(reactor->shards[i].group, reactor->mono_ms);
        if (error) {
            wp_reactor_fail(reactor, error, "starting a group");
        }
    }
    uv_run(&reactor->loop, UV_RUN_DEFAULT);
    return NULL;
}

int wp_reactor_start(struct wp_reactor *reactor, const char *const *endpoints)
{
    uint32_t count = reactor->config.reactor_count;
    reactor->endpoints = calloc(count, sizeof(*reactor->endpoints));
    for (uint32_t i = 0; reactor->endpoints && i < count; i++) {
        reactor->endpoints[i] = strdup(endpoints[i]);
        if (!reactor->endpoints[i]) {
            return WP_E_NOMEM;
        }
    }
    if (!reactor->endpoints || pthread_create(&reactor->thread, NULL, reactor_run, reactor)) {
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
    for (uint32_t i = 0; i < reactor->shard_count && reactor->shards; i++) {
        wp_shard_fini(&reactor->shards[i]);
    }
    free(reactor->shards);
    for (uint32_t i = 0; reactor->endpoints && i < reactor->config.reactor_count; i++) {
        free(reactor->endpoints[i]);
    }
    free(reactor->endpoints);
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

/* --- for jobs
 * --------------------------------------------------------------------------------------------------- */

struct wp_machine *wp_reactor_machine(struct wp_reactor *reactor, uint32_t shard)
{
    struct shard *found = wp_reactor_shard(reactor, shard);
    return found ? found->machine : NULL;
}

struct wp_dispatch *wp_reactor_dispatch(struct wp_reactor *reactor, uint32_t shard)
{
    struct shard *found = wp_reactor_shard(reactor, shard);
    return found ? found->dispatch : NULL;
}

struct wp_group *wp_reactor_group(struct wp_reactor *reactor, uint32_t shard)
{
    struct shard *found = wp_reactor_shard(reactor, shard);
    return found ? found->group : NULL;
}

uint32_t wp_reactor_shard_first(const struct wp_reactor *reactor)
{
    return reactor->shard_count > 0 ? reactor->config.index + 1 : 0;
}

uint32_t wp_reactor_shard_next(const struct wp_reactor *reactor, uint32_t shard)
{
    uint32_t next = shard + reactor->config.reactor_count;
    return next <= reactor->config.shard_count ? next : 0;
}

void wp_reactor_peers_each(
    const struct wp_reactor *reactor, void (*each)(void *context, const char *node), void *context)
{
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        if (reactor->peers[slot] && wp_link_up(reactor->peers[slot]->link)) {
            each(context, wp_link_node(reactor->peers[slot]->link));
        }
    }
}

int wp_reactor_propose(struct wp_reactor *reactor, uint32_t number, uint8_t command,
    const ProtobufCMessage *message, struct wp_answer *answer, uint32_t item)
{
    struct shard *shard = wp_reactor_shard(reactor, number);
    if (reactor->stopping || reactor->failed) {
        return WP_E_CLOSED;
    }
    if (!shard || !wp_group_leading(shard->group)) {
        return WP_E_NOT_LEADER;
    }
    if (reactor->disk_full && command != WP_COMMAND_DEVICE_REMOVE) {
        return WP_E_DISK_RESERVE;
    }
    const struct waiter waiter = {.kind = WAIT_ANSWER, .number = item, .answer = answer};
    return wp_shard_command(shard, command, message, &waiter);
}
