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
#include "router/allow.h"
#include "router/policy.h"
#include "router/reactor_form.h"
#include "router/reactor_lead.h"
#include "router/reactor_meta.h"
#include "router/reactor_outbox.h"
#include "router/roster_form.h"

#define GAUGES_MS 1000u
#define STOP_MS_MAX 3000u
#define EXPIRE_LIMIT 1000u
#define IDLE_CHECK_MS (3600u * 1000)

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
    struct shard *shard = &reactor->shards[(number - 1) / config->reactor_count];
    return shard->group ? shard : NULL;
}

struct shard *wp_shard_next(struct wp_reactor *reactor, const struct shard *shard)
{
    uint32_t i = shard ? (uint32_t)(shard - reactor->shards) + 1 : 0;
    while (i < reactor->shard_count && !reactor->shards[i].group) {
        i++;
    }
    return i < reactor->shard_count ? &reactor->shards[i] : NULL;
}

struct shard *wp_reactor_group_of(struct wp_reactor *reactor, uint64_t number)
{
    struct shard *meta = &reactor->shards[reactor->shard_count];
    return number != WP_META_GROUP ? wp_reactor_shard(reactor, number) : meta->group ? meta : NULL;
}

struct shard *wp_group_next(struct wp_reactor *reactor, const struct shard *shard)
{
    uint32_t i = shard ? (uint32_t)(shard - reactor->shards) + 1 : 0;
    while (i <= reactor->shard_count && !reactor->shards[i].group) {
        i++;
    }
    return i <= reactor->shard_count ? &reactor->shards[i] : NULL;
}

void wp_reactor_clock(struct wp_reactor *reactor)
{
    reactor->mono_ms = wp_clock_boot_ms();
}

uint64_t wp_reactor_time(struct wp_reactor *reactor)
{
    uint64_t wall_ms = wp_clock_wall_ms();
    int64_t median_ms = wp_clock_median_ms(reactor);
    if (median_ms < -(int64_t)WP_CLOCK_AHEAD_MS_MAX) {
        wall_ms -= (uint64_t)-median_ms - WP_CLOCK_AHEAD_MS_MAX;
    }
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
    wp_reactor_clock(reactor);
    wp_reactor_time(reactor);
    bool more = false;
    for (struct shard *shard = wp_shard_next(reactor, NULL); shard && !reactor->failed;
         shard = wp_shard_next(reactor, shard)) {
        wp_dispatch_tick(shard->dispatch, reactor->mono_ms, reactor->leader_ms);
        more = wp_shard_pump(shard) || more;
        wp_outbox_pump(shard, false);
        wp_shard_propose(shard);
    }
    wp_meta_settle(reactor);
    if (more) {
        wp_reactor_wake(reactor);
    }
}

static void idle_check(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    static const struct waiter nobody = {.kind = WAIT_NONE};
    if (shard->idle_checked_ms && reactor->mono_ms < shard->idle_checked_ms + IDLE_CHECK_MS) {
        return;
    }
    Wp__CommandIdleCheck command = WP__COMMAND_IDLE_CHECK__INIT;
    if (!wp_machine_idle_due(shard->machine, reactor->leader_ms) ||
        wp_shard_command(shard, WP_COMMAND_IDLE_CHECK, &command.base, &nobody) == WP_OK) {
        shard->idle_checked_ms = reactor->mono_ms;
    }
}

static void shard_tick(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    int error = wp_group_tick(shard->group, reactor->mono_ms);
    if (error) {
        wp_reactor_fail(reactor, error, "group tick");
        return;
    }
    wp_outbox_pump(shard, true);
    if (reactor->stopping || reactor->clock_off || !wp_group_leading(shard->group)) {
        return;
    }
    wp_shard_limits_tell(shard);
    idle_check(shard);
    if (shard->expire_open || wp_machine_expiry_due_ms(shard->machine) > reactor->leader_ms) {
        return;
    }
    static const struct waiter waiter = {.kind = WAIT_EXPIRE};
    Wp__CommandExpire command = WP__COMMAND_EXPIRE__INIT;
    command.limit = EXPIRE_LIMIT;
    shard->expire_open = wp_shard_command(shard, WP_COMMAND_EXPIRE, &command.base, &waiter) == WP_OK;
}

void wp_reactor_ready_refresh(struct wp_reactor *reactor)
{
    bool ready = true;
    for (const struct shard *shard = wp_group_next(reactor, NULL); shard && ready;
         shard = wp_group_next(reactor, shard)) {
        uint64_t leader = wp_group_leader(shard->group);
        ready = leader == shard->replica ? wp_group_leading(shard->group) : leader != 0;
    }
    __atomic_store_n(&reactor->ready, ready, __ATOMIC_RELAXED);
}

bool wp_reactor_ready(const struct wp_reactor *reactor)
{
    return __atomic_load_n(&reactor->ready, __ATOMIC_RELAXED);
}

/* --- stop
 * ----------------------------------------------------------------------------------------------------- */

/* Once nothing waits for an answer: replies leave, handles close, the loop ends. */
static void stop_if_idle(struct wp_reactor *reactor)
{
    bool idle = wp_leads_handed_over(reactor) && !wp_replicas_busy(reactor) && !wp_snapshots_busy(reactor);
    for (struct shard *shard = wp_group_next(reactor, NULL); shard; shard = wp_group_next(reactor, shard)) {
        idle = idle && wp_shard_idle(shard);
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
    wp_forwards_lost(reactor, 0);
    wp_fabric_flush(reactor->fabric);
    wp_fabric_destroy(&reactor->fabric);
    uv_close((uv_handle_t *)&reactor->async, NULL);
    uv_close((uv_handle_t *)&reactor->timer, NULL);
    uv_close((uv_handle_t *)&reactor->prepare, NULL);
}

/* At the tick after it was asked for. */
static void stop_begin(struct wp_reactor *reactor)
{
    reactor->stopping = true;
    reactor->stop_deadline_ms = reactor->mono_ms + STOP_MS_MAX;
    reactor->reported_ms = 0; /* the others are told before anything is handed over */
}

void wp_reactor_stop_begin(struct wp_reactor *reactor)
{
    __atomic_store_n(&reactor->stop_asked, true, __ATOMIC_RELAXED);
}

void wp_reactor_stop(struct wp_reactor *reactor)
{
    if (!reactor->thread_started) {
        return;
    }
    wp_reactor_stop_begin(reactor);
    pthread_join(reactor->thread, NULL);
    reactor->thread_started = false;
}

/* --- sources of events
 * ---------------------------------------------------------------------------------------- */

void wp_reactor_on_timer(uv_timer_t *timer)
{
    struct wp_reactor *reactor = timer->data;
    wp_reactor_clock(reactor);
    wp_reactor_time(reactor);
    if (!reactor->stopping && __atomic_load_n(&reactor->stop_asked, __ATOMIC_RELAXED)) {
        stop_begin(reactor);
    }
    for (struct shard *shard = wp_shard_next(reactor, NULL); shard && !reactor->failed;
         shard = wp_shard_next(reactor, shard)) {
        shard_tick(shard);
    }
    wp_meta_tick(reactor);
    wp_form_tick(reactor);
    wp_replicas_tick(reactor);
    wp_forwards_tick(reactor);
    wp_snapshots_tick(reactor);
    wp_reports_tick(reactor);
    wp_leads_tick(reactor);
    wp_reconcile_tick(reactor);
    wp_reactor_ready_refresh(reactor);
    struct wp_store_disk disk;
    wp_store_disk(reactor->config.store, &disk);
    reactor->disk_full = disk.full;
    if (reactor->config.index == 0) {
        wp_state_flush_if_due(reactor->config.store);
    }
    if (reactor->mono_ms - reactor->gauges_ms >= GAUGES_MS) {
        wp_reactor_gauges_refresh(reactor);
    }
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        struct peer *peer = reactor->peers[slot];
        if (peer && peer->held_count > 0) {
            wp_peer_flush(reactor, peer);
        }
        if (peer && peer->map_due) {
            wp_map_tell_all(reactor, peer);
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

void wp_reactor_on_async(uv_async_t *async)
{
    struct wp_reactor *reactor = async->data;
    struct wp_reactor_job *jobs;
    uint32_t count = completions_take(reactor, &jobs);
    reactor->turn_worked = true;
    wp_reactor_clock(reactor);
    for (uint32_t i = 0; i < count && !reactor->failed; i++) {
        struct shard *shard = wp_reactor_group_of(reactor, reactor->completions_taken[i].shard);
        if (!shard) {
            continue;
        }
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
void wp_reactor_on_prepare(uv_prepare_t *prepare)
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
    __atomic_store_n(&reactor->turns, reactor->turns + 1, __ATOMIC_RELAXED);
}

uint64_t wp_reactor_turns(const struct wp_reactor *reactor)
{
    return __atomic_load_n(&reactor->turns, __ATOMIC_RELAXED);
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

uint32_t wp_reactor_shard_first(struct wp_reactor *reactor)
{
    const struct shard *shard = wp_shard_next(reactor, NULL);
    return shard ? shard->number : 0;
}

uint32_t wp_reactor_shard_next(struct wp_reactor *reactor, uint32_t number)
{
    const struct shard *shard = wp_shard_next(reactor, wp_reactor_shard(reactor, number));
    return shard ? shard->number : 0;
}

void wp_reactor_peers_each(
    const struct wp_reactor *reactor, void (*each)(void *context, const char *node), void *context)
{
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        if (reactor->peers[slot] && wp_link_role(reactor->peers[slot]->link) == WP__ROLE__ROLE_GATEWAY) {
            each(context, wp_link_node(reactor->peers[slot]->link));
        }
    }
}

void wp_reactor_roster_set(struct wp_reactor *reactor, const struct wp_roster *roster)
{
    if (reactor->config.index == 0 && reactor->roster->version == 0) { /* else main.c did */
        wp_roster_form_compare(reactor->roster, roster);
    }
    if (reactor->config.index == 0) { /* one list for all of them */
        wp_allow_roster(reactor->config.zap, reactor->roster, roster, reactor->config.self);
    }
    wp_roster_release(&reactor->roster);
    reactor->roster = wp_roster_retain(roster);
    wp_policy_limits(roster, &reactor->limits);
    const struct wp_roster_node *self = wp_roster_node_keyed(roster, reactor->config.keys->public_text);
    if (self && self->state != WP_NODE_REMOVED) {
        reactor->config.self = self->number; /* a node that joins learns it here */
    } else if (self && reactor->config.index == 0) {
        wp_log(WP_LOG_ERROR, "removed_from_cluster", "node=%s number=%u", self->name, self->number);
    }
    if (wp_routers_update(reactor)) {
        wp_reactor_fail(reactor, WP_E_NOMEM, "connecting to routers");
        return;
    }
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        struct peer *peer = reactor->peers[slot];
        if (peer && wp_link_role(peer->link) == WP__ROLE__ROLE_ROUTER) {
            const struct wp_roster_node *node = wp_roster_node_named(roster, wp_link_node(peer->link));
            peer->node = node ? node->number : 0;
        }
    }
    wp_map_tell_routers(reactor);
}

int wp_reactor_propose(struct wp_reactor *reactor, uint32_t number, uint8_t command,
    const ProtobufCMessage *message, struct wp_answer *answer, uint32_t item)
{
    struct shard *shard = wp_reactor_group_of(reactor, number);
    if (reactor->stopping || reactor->failed) {
        return WP_E_CLOSED;
    }
    if (!shard || !wp_group_leading(shard->group)) {
        return wp_reactor_forward(reactor, number, command, message, answer, item);
    }
    if (number != WP_META_GROUP && wp_shard_disk_full(shard) && command != WP_COMMAND_DEVICE_REMOVE) {
        return WP_E_DISK_RESERVE;
    }
    const struct waiter waiter = {.kind = WAIT_ANSWER, .number = item, .answer = answer};
    return wp_shard_command(shard, command, message, &waiter);
}
