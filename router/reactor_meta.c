/* Why reactor 0 alone has the meta group: one place on each node learns the roster, and what the others need
 * is an immutable copy.
 *
 * Invariants
 *   1. Every reactor gets every roster that is the newest when it is told, in rising order of versions.
 *   2. Nothing is proposed from inside of a call of the group. */
#include "router/reactor_meta.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/reactor_report.h"
#include "router/reactor_watch.h"

#define BOOTSTRAP_RETRY_MS 2000u
#define PLAN_MS 1000u
#define BOOTSTRAP_ARENA_MAX (4u << 20)

int wp_meta_work_create(struct wp_reactor *reactor)
{
    reactor->meta_work = calloc(1, sizeof(*reactor->meta_work));
    return reactor->meta_work ? WP_OK : WP_E_NOMEM;
}

static struct shard *meta_of(struct wp_reactor *reactor)
{
    return reactor->config.index == 0 ? wp_reactor_group_of(reactor, WP_META_GROUP) : NULL;
}

/* --- apply
 * ----------------------------------------------------------------------------------------------------
 */

static void proposal_answer(
    struct shard *shard, const struct proposal *proposal, const struct wp_meta_applied *applied)
{
    (void)shard;
    for (uint32_t i = 0; i < applied->result_count && i < proposal->waiters.count; i++) {
        const struct waiter *waiter = &proposal->waiters.items[i];
        if (waiter->kind == WAIT_ANSWER) {
            waiter->answer->answered(waiter->answer, (uint32_t)waiter->number, applied->results[i].error);
        }
    }
}

int wp_meta_group_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours)
{
    struct shard *shard = context;
    struct wp_reactor *reactor = shard->reactor;
    struct wp_meta_applied applied;
    wp_arena_reset(&reactor->apply_arena);
    int error = wp_meta_apply(shard->meta, index, term, entry, &reactor->apply_arena, &applied);
    if (error) {
        return error;
    }
    for (uint32_t i = 0; i < applied.result_count; i++) {
        const struct wp_meta_result *result = &applied.results[i];
        wp_log(WP_LOG_INFO, "meta_applied", "index=%llu command=%u outcome=%s version=%llu",
            (unsigned long long)index, result->command, wp_error_slug(result->error),
            wp_meta_roster(shard->meta) ? (unsigned long long)wp_meta_roster(shard->meta)->version : 0ull);
        if (result->command == WP_META_NODE_FORGOT && !result->error) {
            /* With what the disk has now a router that starts again would not hear the rebuilt node, and with
             * the third one away neither could lead. */
            wp_state_flush_soon(reactor->config.store);
        }
    }
    struct proposal *proposal = ours ? STAILQ_FIRST(&shard->in_flight) : NULL;
    if (proposal) {
        STAILQ_REMOVE_HEAD(&shard->in_flight, next);
        shard->in_flight_count--;
        proposal_answer(shard, proposal, &applied);
        wp_bytes_release(&proposal->entry);
        free(proposal->waiters.items);
        free(proposal);
    }
    return WP_OK;
}

void wp_meta_group_leading(void *context, bool leading)
{
    struct shard *shard = context;
    wp_log(WP_LOG_INFO, "leadership", "shard=meta leading=%d term=%llu", leading,
        (unsigned long long)wp_group_term(shard->group));
    shard->leading_ms = shard->reactor->mono_ms;
    shard->handover = (struct wp_handover){0};
    shard->reactor->reported_ms = 0; /* the others hear of it with the next tick */
    if (!leading) {
        wp_shard_refuse_all(shard, WP_E_NOT_LEADER);
    }
}

/* --- the roster to every reactor
 * ------------------------------------------------------------------------------
 */

struct roster_job {
    struct wp_reactor_job job; /* first */
    struct wp_roster *roster;
};

static void roster_run(struct wp_reactor_job *job, struct wp_reactor *reactor)
{
    struct roster_job *taken = (struct roster_job *)job;
    if (taken->roster->version > reactor->roster->version && !reactor->closing) {
        wp_reactor_roster_set(reactor, taken->roster);
    }
    wp_roster_release(&taken->roster);
    free(taken);
}

/* A reactor that cannot take it now is told with the next turn. */
static void sibling_tell(
    struct meta_work *work, struct wp_reactor *sibling, uint32_t index, const struct wp_roster *roster)
{
    struct roster_job *job = calloc(1, sizeof(*job));
    if (!job) {
        return;
    }
    job->job.run = roster_run;
    job->roster = wp_roster_retain(roster);
    if (wp_reactor_post(sibling, &job->job)) {
        wp_roster_release(&job->roster);
        free(job);
        return;
    }
    work->told[index] = roster->version;
}

void wp_meta_settle(struct wp_reactor *reactor)
{
    struct shard *shard = meta_of(reactor);
    const struct wp_reactor_config *config = &reactor->config;
    if (!shard) {
        return;
    }
    wp_shard_propose(shard);
    const struct wp_roster *roster = wp_meta_roster(shard->meta);
    if (!roster) {
        return;
    }
    if (roster->version > reactor->roster->version) {
        wp_reactor_roster_set(reactor, roster);
    }
    for (uint32_t i = 1; i < config->reactor_count && i < SIBLINGS_MAX && config->reactors; i++) {
        if (reactor->meta_work->told[i] < roster->version) {
            sibling_tell(reactor->meta_work, config->reactors[i], i, roster);
        }
    }
}

/* --- what the leader of the meta group does
 * -------------------------------------------------------------------
 */

/* The first leader of a new cluster proposes what every node derived from its configuration. */
static void bootstrap_if_due(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    static const struct waiter nobody = {.kind = WAIT_NONE};
    if (wp_meta_roster(shard->meta) || !wp_group_leading(shard->group) ||
        reactor->mono_ms < reactor->meta_work->bootstrap_ms + BOOTSTRAP_RETRY_MS) {
        return;
    }
    struct wp_arena arena;
    wp_arena_init(&arena, BOOTSTRAP_ARENA_MAX);
    Wp__MetaBootstrap *command = wp_meta_bootstrap_fill(reactor->roster, &arena);
    if (command && wp_shard_command(shard, WP_META_BOOTSTRAP, &command->base, &nobody) == WP_OK) {
        reactor->meta_work->bootstrap_ms = reactor->mono_ms;
    }
    wp_arena_fini(&arena);
}

void wp_meta_group_known(struct wp_reactor *reactor, uint32_t group, struct wp_plan_group *out)
{
    const struct shard *shard = wp_reactor_group_of(reactor, group);
    uint64_t term = 0, index;
    *out = (struct wp_plan_group){0};
    if (shard && wp_group_leading(shard->group)) {
        out->known = true;
        out->membership = *wp_replica_committed_membership(wp_group_replica(shard->group), &index);
        term = wp_group_term(shard->group);
    }
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        const struct group_report *report =
            wp_report_of_group(reactor, reactor->reports[i].node, group, WP_REPORT_FRESH_MS);
        if (report && report->leading && report->term > term && report->membership.count > 0) {
            out->known = true;
            out->membership = report->membership;
            term = report->term;
        }
    }
}

void wp_reactor_plan_view(
    struct wp_reactor *reactor, struct wp_plan_group *groups, struct wp_plan_view *ret_view)
{
    const struct wp_roster *roster = reactor->roster;
    struct wp_plan_view view = {.roster = roster, .groups = groups};
    for (uint32_t group = 0; group <= roster->shard_count; group++) {
        wp_meta_group_known(reactor, group, &groups[group]);
    }
    for (uint32_t i = 0; i < roster->node_count; i++) {
        uint32_t number = roster->nodes[i].number;
        view.reachable[i] = number == reactor->config.self ||
                            (wp_report_of(reactor, number) && wp_router_up(reactor, number, WP_META_GROUP));
    }
    *ret_view = view;
}

void wp_meta_command(
    struct shard *shard, uint8_t command, const ProtobufCMessage *message, uint64_t *ret_asked_ms)
{
    static const struct waiter nobody = {.kind = WAIT_NONE};
    if (wp_shard_command(shard, command, message, &nobody) == WP_OK) {
        *ret_asked_ms = shard->reactor->mono_ms;
    }
}

static void plan_take(struct shard *shard, const struct wp_plan *plan)
{
    uint64_t asked_ms;
    if (plan->kind == WP_PLAN_REMOVE) {
        Wp__MetaNodeState command = WP__META_NODE_STATE__INIT;
        command.number = plan->from;
        command.state = WP_NODE_REMOVED;
        wp_meta_command(shard, WP_META_NODE_STATE, &command.base, &asked_ms);
    } else if (plan->kind == WP_PLAN_WANTED) {
        struct wp_roster_wanted wanted = plan->wanted;
        Wp__MetaWantedSet command = WP__META_WANTED_SET__INIT;
        command.group = plan->group;
        command.ids = wanted.ids;
        command.n_ids = wanted.count;
        command.version = shard->reactor->roster->version;
        wp_meta_command(shard, WP_META_WANTED_SET, &command.base, &asked_ms);
        wp_log(WP_LOG_INFO, "move_planned", "shard=%u from=%u to=%u", plan->group, plan->from, plan->to);
    }
}

/* Not before the reports of the groups' leaders had time to come. */
static void plan_next(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    struct wp_plan_view view;
    struct wp_plan plan;
    if (reactor->mono_ms < reactor->meta_work->planned_ms + PLAN_MS || reactor->stopping ||
        reactor->mono_ms < shard->leading_ms + WP_REPORT_FRESH_MS ||
        reactor->roster->version != wp_meta_roster(shard->meta)->version) {
        return;
    }
    reactor->meta_work->planned_ms = reactor->mono_ms;
    struct wp_plan_group *groups = calloc(reactor->roster->shard_count + 1, sizeof(*groups));
    if (groups) {
        wp_reactor_plan_view(reactor, groups, &view);
        wp_plan_next(&view, &plan);
        plan_take(shard, &plan);
    }
    free(groups);
}

void wp_meta_tick(struct wp_reactor *reactor)
{
    struct shard *shard = meta_of(reactor);
    if (!shard || reactor->failed) {
        return;
    }
    int error = wp_group_tick(shard->group, reactor->mono_ms);
    if (error) {
        wp_reactor_fail(reactor, error, "meta group tick");
        return;
    }
    bootstrap_if_due(shard);
    wp_watch_count(reactor);
    if (wp_meta_roster(shard->meta) && wp_group_leading(shard->group)) {
        wp_watch_nodes(shard);
        plan_next(shard);
    }
}

/* --- jobs
 * ---------------------------------------------------------------------------------------------------------
 */

const struct wp_roster *wp_reactor_roster(const struct wp_reactor *reactor)
{
    return reactor->roster;
}

/* A node that is removed may have no member of any group. */
static int removal_check(struct wp_reactor *reactor, const Wp__MetaNodeState *command)
{
    struct wp_plan_group *groups = calloc(reactor->roster->shard_count + 1, sizeof(*groups));
    struct wp_plan_view view;
    int error = groups ? WP_OK : WP_E_NOMEM;
    if (groups && command->state == WP_NODE_REMOVED) {
        wp_reactor_plan_view(reactor, groups, &view);
        error = wp_plan_holds(&view, command->number) ? WP_E_BUSY : WP_OK;
        for (uint32_t group = 0; group <= reactor->roster->shard_count; group++) {
            error = groups[group].known ? error : WP_E_BUSY;
        }
    }
    free(groups);
    return error;
}

int wp_reactor_meta_propose(struct wp_reactor *reactor, uint8_t command, const ProtobufCMessage *message,
    struct wp_answer *answer, uint32_t item)
{
    WP_ASSERT(reactor->config.index == 0);
    int error =
        command == WP_META_NODE_STATE ? removal_check(reactor, (const Wp__MetaNodeState *)message) : WP_OK;
    return error ? error : wp_reactor_propose(reactor, WP_META_GROUP, command, message, answer, item);
}
