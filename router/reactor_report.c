/* Reports go out on the links that this reactor made and come in on those that others made, so each reactor
 * hears every reactor of every node. */
#include "router/reactor_report.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"

#define FORGOT_REPORTS 2u

/* --- sending
 * ------------------------------------------------------------------------------------------------
 */

struct state_parts {
    Wp__GroupState *groups;
    Wp__GroupState **rows;
    uint64_t (*members)[3 * WP_REPLICA_MEMBERS_MAX]; /* room for voters, learners, lags */
    size_t count;
};

static void group_fill(const struct shard *shard, Wp__GroupState *out, uint64_t *members)
{
    const struct wp_replica *replica = wp_group_replica(shard->group);
    wp__group_state__init(out);
    out->group = shard->number;
    out->replica = shard->replica;
    out->term = wp_group_term(shard->group);
    out->last_index = wp_replica_durable_index(replica);
    out->applied_index = wp_group_applied_index(shard->group);
    out->leading = wp_group_leading(shard->group);
    out->placed = shard->placed_to;
    if (!out->leading) {
        return;
    }
    uint64_t index;
    const struct wp_membership *membership = wp_replica_committed_membership(replica, &index);
    out->voters = members;
    out->learners = members + WP_REPLICA_MEMBERS_MAX;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        if (member->role == WP_MEMBER_VOTER) {
            out->voters[out->n_voters++] = member->id;
        } else {
            out->learners[out->n_learners++] = member->id;
        }
    }
    out->lags = members + 2 * WP_REPLICA_MEMBERS_MAX;
    for (size_t i = 0; i < out->n_voters; i++) {
        out->lags[out->n_lags++] = wp_report_lag(shard, out->voters[i]);
    }
    for (size_t i = 0; i < out->n_learners; i++) {
        out->lags[out->n_lags++] = wp_report_lag(shard, out->learners[i]);
    }
    out->forgot = wp_report_forgot(shard);
}

static int parts_fill(struct wp_reactor *reactor, struct state_parts *parts)
{
    size_t room = reactor->shard_count + 1;
    parts->groups = calloc(room, sizeof(*parts->groups));
    parts->rows = calloc(room, sizeof(*parts->rows));
    parts->members = calloc(room, sizeof(*parts->members));
    if (!parts->groups || !parts->rows || !parts->members) {
        return WP_E_NOMEM;
    }
    for (struct shard *shard = wp_group_next(reactor, NULL); shard; shard = wp_group_next(reactor, shard)) {
        size_t at = parts->count++;
        group_fill(shard, &parts->groups[at], parts->members[at]);
        parts->rows[at] = &parts->groups[at];
    }
    return WP_OK;
}

static void parts_free(struct state_parts *parts)
{
    free(parts->groups);
    free(parts->rows);
    free(parts->members);
}

static void state_send(
    struct wp_reactor *reactor, const struct router_link *router, const struct state_parts *parts)
{
    const struct node_report *heard = wp_report_of(reactor, router->node);
    Wp__NodeState state = WP__NODE_STATE__INIT;
    state.wall_ms = wp_clock_wall_ms();
    state.disk_full = reactor->disk_full;
    state.yields = reactor->stopping || reactor->clock_off;
    state.groups = parts->rows;
    state.n_groups = parts->count;
    if (heard) {
        state.time_echo_ms = heard->wall_ms;
        state.time_held_ms = (uint32_t)(wp_clock_boot_ms() - heard->at_ms);
    }
    if (wp_link_send(router->link, WP_LINK_CONTROL, WP_FRAME_NODE_STATE, &state.base)) {
        wp_metric_add(WP_M_PEER_DROPPED, 1);
    }
}

void wp_report_send(struct wp_reactor *reactor, const struct router_link *router)
{
    struct state_parts parts = {0};
    if (parts_fill(reactor, &parts) == WP_OK) {
        state_send(reactor, router, &parts);
    }
    parts_free(&parts);
}

/* What this reactor would tell other nodes, for reactor 0 of this one: the planner's view is made there. */
struct own_job {
    struct wp_reactor_job job; /* first */
    size_t size;
    uint8_t packed[];
};

static void report_take(struct wp_reactor *reactor, uint32_t node, const Wp__NodeState *state);

static void own_run(struct wp_reactor_job *base, struct wp_reactor *reactor)
{
    struct own_job *job = (struct own_job *)base;
    ProtobufCMessage *message;
    wp_arena_reset(&reactor->frame_arena);
    if (wp_schema_decode(&wp__node_state__descriptor, wp_slice(job->packed, job->size), &reactor->frame_arena,
            &message) == WP_OK) {
        report_take(reactor, reactor->config.self, (const Wp__NodeState *)message);
    }
    free(job);
}

static void own_tell(struct wp_reactor *reactor, const struct state_parts *parts)
{
    Wp__NodeState state = WP__NODE_STATE__INIT;
    state.wall_ms = wp_clock_wall_ms();
    state.disk_full = reactor->disk_full;
    state.yields = reactor->stopping || reactor->clock_off;
    state.groups = parts->rows;
    state.n_groups = parts->count;
    size_t size = protobuf_c_message_get_packed_size(&state.base);
    struct own_job *job = calloc(1, sizeof(*job) + size);
    if (!job) {
        return;
    }
    job->job.run = own_run;
    job->size = protobuf_c_message_pack(&state.base, job->packed);
    if (wp_reactor_post(reactor->config.reactors[0], &job->job)) {
        free(job);
    }
}

void wp_reports_tick(struct wp_reactor *reactor)
{
    if (reactor->router_count == 0 || reactor->mono_ms - reactor->reported_ms < WP_REPORT_MS) {
        return;
    }
    reactor->reported_ms = reactor->mono_ms;
    struct state_parts parts = {0};
    if (parts_fill(reactor, &parts) == WP_OK) {
        for (uint32_t i = 0; i < reactor->router_count; i++) {
            if (reactor->routers[i]->up) {
                state_send(reactor, reactor->routers[i], &parts);
            }
        }
        if (reactor->config.index > 0 && reactor->config.reactors && reactor->config.self) {
            own_tell(reactor, &parts);
        }
    }
    parts_free(&parts);
    int64_t median_ms = wp_clock_median_ms(reactor);
    bool off = median_ms > (int64_t)WP_CLOCK_AHEAD_MS_MAX || median_ms < -(int64_t)WP_CLOCK_AHEAD_MS_MAX;
    if (off != reactor->clock_off) {
        reactor->clock_off = off;
        wp_log(off ? WP_LOG_ERROR : WP_LOG_INFO, off ? "clock_off" : "clock_good",
            "reactor=%u behind_the_median_ms=%lld", reactor->config.index, (long long)median_ms);
    }
    if (reactor->config.index == 0) {
        wp_metric_set(WP_M_CLOCK_OFF, off);
    }
}

/* --- receiving
 * ----------------------------------------------------------------------------------------------
 */

/* Makes room: what a node told that is no longer there. */
static bool removed_drop(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        const struct wp_roster_node *node = wp_roster_node(reactor->roster, reactor->reports[i].node);
        if (!node || node->state == WP_NODE_REMOVED) {
            free(reactor->reports[i].groups);
            reactor->reports[i] = reactor->reports[--reactor->report_count];
            return true;
        }
    }
    return false;
}

static struct node_report *report_slot(struct wp_reactor *reactor, uint32_t node)
{
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        if (reactor->reports[i].node == node) {
            return &reactor->reports[i];
        }
    }
    if (reactor->report_count == WP_ROSTER_NODES_MAX && !removed_drop(reactor)) {
        return NULL;
    }
    struct node_report *report = &reactor->reports[reactor->report_count];
    *report = (struct node_report){0};
    report->groups = calloc((size_t)reactor->config.shard_count + 1, sizeof(*report->groups));
    if (!report->groups) {
        return NULL;
    }
    report->node = node;
    reactor->report_count++;
    return report;
}

static void group_take(struct wp_reactor *reactor, struct node_report *report, const Wp__GroupState *state)
{
    if (state->group > reactor->config.shard_count || wp_raft_id_node(state->replica) != report->node ||
        !wp_roster_counts(reactor->roster, state->replica)) {
        return;
    }
    struct group_report *group = &report->groups[state->group];
    uint32_t less_count = group->replica == state->replica ? group->less_count : 0;
    *group = (struct group_report){
        .replica = state->replica,
        .term = state->term,
        .last_index = state->last_index,
        .applied_index = state->applied_index,
        .at_ms = reactor->mono_ms,
        .leading = state->leading,
        .behind = WP_LAG_UNKNOWN,
        .forgot = state->leading ? state->forgot : 0,
    };
    struct shard *shard = wp_reactor_group_of(reactor, state->group);
    if (shard && wp_group_leading(shard->group) && report->node != reactor->config.self) {
        const struct wp_replica *replica = wp_group_replica(shard->group);
        uint64_t last = wp_replica_last_index(replica);
        group->behind = last > state->last_index ? last - state->last_index : 0;
        bool less = state->term == wp_group_term(shard->group) &&
                    state->last_index < wp_replica_acknowledged(replica, state->replica);
        group->less_count = less ? less_count + 1 : 0;
        shard->handover.placed = shard->handover.placed || state->placed == shard->replica;
    }
    if (state->n_voters + state->n_learners > WP_REPLICA_MEMBERS_MAX) {
        return;
    }
    for (size_t i = 0; i < state->n_voters; i++) {
        group->membership.members[group->membership.count++] =
            (struct wp_member){state->voters[i], WP_MEMBER_VOTER};
    }
    for (size_t i = 0; i < state->n_learners; i++) {
        group->membership.members[group->membership.count++] =
            (struct wp_member){state->learners[i], WP_MEMBER_LEARNER};
    }
    for (uint32_t i = 0; i < group->membership.count; i++) {
        group->lags[i] = i < state->n_lags ? state->lags[i] : WP_LAG_UNKNOWN;
    }
}

void wp_report_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    report_take(reactor, peer->node, (const Wp__NodeState *)message);
}

static void report_take(struct wp_reactor *reactor, uint32_t node, const Wp__NodeState *state)
{
    struct node_report *report = report_slot(reactor, node);
    if (!report) {
        return;
    }
    uint64_t wall_ms = wp_clock_wall_ms();
    report->at_ms = wp_clock_boot_ms();
    report->wall_ms = state->wall_ms;
    report->disk_full = state->disk_full;
    report->yields = state->yields;
    uint64_t passed_ms = wall_ms - state->time_echo_ms;
    /* Half of the way there and back, as NTP does; a clock that was set meanwhile makes no sense of it. */
    if (state->time_echo_ms > 0 && wall_ms >= state->time_echo_ms && passed_ms >= state->time_held_ms &&
        passed_ms - state->time_held_ms < WP_REPORT_MS) {
        report->has_offset = true;
        report->offset_ms =
            (int64_t)state->wall_ms + (int64_t)(passed_ms - state->time_held_ms) / 2 - (int64_t)wall_ms;
    }
    for (size_t i = 0; i < state->n_groups; i++) {
        group_take(reactor, report, state->groups[i]);
    }
}

void wp_report_drop(struct wp_reactor *reactor, uint32_t node)
{
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        struct node_report *report = &reactor->reports[i];
        if (report->node == node) {
            report->at_ms = 0;
            report->has_offset = report->disk_full = false;
            memset(report->groups, 0, ((size_t)reactor->config.shard_count + 1) * sizeof(*report->groups));
        }
    }
}

void wp_reports_free(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        free(reactor->reports[i].groups);
    }
    reactor->report_count = 0;
}

/* --- what follows from them
 * ---------------------------------------------------------------------------------
 */

const struct node_report *wp_report_of(const struct wp_reactor *reactor, uint32_t node)
{
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        const struct node_report *report = &reactor->reports[i];
        if (report->node == node && reactor->mono_ms < report->at_ms + WP_REPORT_FRESH_MS) {
            return report;
        }
    }
    return NULL;
}

bool wp_report_yields(const struct wp_reactor *reactor, uint32_t node)
{
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        if (reactor->reports[i].node == node) {
            return reactor->reports[i].yields;
        }
    }
    return false;
}

const struct group_report *wp_report_of_group(
    const struct wp_reactor *reactor, uint32_t node, uint32_t group, uint64_t fresh_ms)
{
    const struct node_report *report = wp_report_of(reactor, node);
    const struct group_report *found =
        report && group <= reactor->config.shard_count ? &report->groups[group] : NULL;
    return found && found->replica && reactor->mono_ms < found->at_ms + fresh_ms ? found : NULL;
}

uint64_t wp_report_lag(const struct shard *shard, uint64_t replica)
{
    if (replica == shard->replica) {
        return 0;
    }
    const struct group_report *report =
        wp_report_of_group(shard->reactor, wp_raft_id_node(replica), shard->number, WP_REPORT_FRESH_MS);
    if (!report || report->replica != replica) {
        return WP_LAG_UNKNOWN;
    }
    /* What came before we led is compared with our log of now: at worst too far behind. */
    uint64_t last = wp_replica_last_index(wp_group_replica(shard->group));
    uint64_t behind = last > report->last_index ? last - report->last_index : 0;
    return report->behind < behind ? report->behind : behind;
}

uint64_t wp_report_forgot(const struct shard *shard)
{
    const struct wp_membership *membership = wp_replica_membership(wp_group_replica(shard->group));
    for (uint32_t i = 0; i < membership->count; i++) {
        uint64_t id = membership->members[i].id;
        const struct group_report *report =
            wp_report_of_group(shard->reactor, wp_raft_id_node(id), shard->number, WP_REPORT_FRESH_MS);
        if (report && report->replica == id && report->less_count >= FORGOT_REPORTS) {
            return id;
        }
    }
    return 0;
}

static int offset_compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

int64_t wp_clock_median_ms(const struct wp_reactor *reactor)
{
    int64_t offsets[WP_ROSTER_NODES_MAX + 1] = {0}; /* the first is our own */
    uint32_t count = 1;
    for (uint32_t i = 0; i < reactor->report_count; i++) {
        const struct node_report *report = wp_report_of(reactor, reactor->reports[i].node);
        if (report && report->has_offset) {
            offsets[count++] = report->offset_ms;
        }
    }
    qsort(offsets, count, sizeof(offsets[0]), offset_compare);
    return (offsets[(count - 1) / 2] + offsets[count / 2]) / 2;
}

bool wp_shard_disk_full(const struct shard *shard)
{
    const struct wp_reactor *reactor = shard->reactor;
    const struct wp_membership *membership = wp_replica_membership(wp_group_replica(shard->group));
    uint32_t with_room = 0;
    if (reactor->disk_full) {
        return true;
    }
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        const struct node_report *report = wp_report_of(reactor, wp_raft_id_node(member->id));
        with_room += member->role == WP_MEMBER_VOTER && !(report && report->disk_full);
    }
    return with_room <= wp_membership_voter_count(membership) / 2;
}
