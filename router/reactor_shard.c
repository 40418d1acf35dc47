/* How commands become log entries: the commands of a loop turn share one, an entry is closed at
 * ENTRY_TARGET_BYTES, and while the log has no room, or has small entries of this shard on their way, the
 * open entry goes on filling. So load makes entries larger, not more.
 *
 * Invariants
 *   1. An entry has as many waiters as commands, in their order.
 *   2. Entries reach the group in the order in which they were closed; `in_flight` is the order of their
 * commit.
 *   3. Every waiter is answered once: by apply of its own entry or by a refusal. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/policy.h"
#include "router/reactor_meta.h"
#include "router/reactor_outbox.h"

#define GROUP_INFLIGHT 8u
/* Kept below what a crash would leave applied, for peers that were away for a moment, and log_keep_bytes of
 * them at most; a sole replica keeps nothing. */
#define LOG_KEEP_ENTRIES 100000u
#define OPEN_KEEP_BYTES (2u * ENTRY_TARGET_BYTES)
#define INACTIVE_MS (UINT64_C(7) * 24 * 3600 * 1000)
/* With so many entries in flight the next one waits until it has this size or one of them is applied: every
 * replica pays for an entry whatever is in it. A shard that is not busy never has as many. */
#define GATHER_IN_FLIGHT 2u
#define GATHER_BYTES (16u * 1024)
/* Gathered cursors of this age go along with an entry that leaves anyway. */
#define CURSORS_ALONG_MS (WP_CURSORS_DELAY_MS / 2)

static bool index_next_pending(const void *context, uint64_t mailbox, uint32_t device, Wp__Lane lane,
    uint64_t after, uint64_t now_ms, struct wp_pending *ret_pending)
{
    return wp_machine_next_pending(context, mailbox, device, lane, after, now_ms, ret_pending);
}

struct set_aside_search {
    uint32_t device;
    uint64_t count;
};

static void set_aside_each(void *context, const struct wp_device_detail *detail)
{
    struct set_aside_search *search = context;
    if (detail->number == search->device) {
        search->count = detail->set_aside;
    }
}

static uint64_t index_set_aside(const void *context, uint64_t mailbox, uint32_t device)
{
    const struct wp_machine *machine = context;
    const char *user = wp_machine_mailbox_user(machine, mailbox);
    struct set_aside_search search = {.device = device};
    if (user && wp_machine_devices_each(machine, user, set_aside_each, &search)) {
        return 0;
    }
    return search.count;
}

static int index_receipt(
    const void *context, uint64_t mailbox, uint64_t sequence, struct wp_receipt_view *ret_view)
{
    return wp_machine_receipt(context, mailbox, sequence, ret_view);
}

static void shard_leading(void *context, bool leading)
{
    struct shard *shard = context;
    wp_outbox_leading(shard, leading);
    wp_log(WP_LOG_INFO, "leadership", "shard=%u leading=%d term=%llu", shard->number, leading,
        (unsigned long long)wp_group_term(shard->group));
    if (leading) {
        shard->leading_ms = shard->reactor->mono_ms;
        shard->handover = (struct wp_handover){0};
        shard->placed_to = 0;
        shard->reactor->reported_ms = 0; /* the others hear of it with the next tick */
        wp_shard_limits_tell(shard);     /* before anything is submitted */
        wp_map_tell_shard(shard);
        return;
    }
    wp_shard_refuse_all(shard, WP_E_NOT_LEADER);
    wp_dispatch_kick_all(shard->dispatch, WP_E_NOT_LEADER);
}

/* From the committer's thread. */
static void shard_wake(void *context, uint32_t number, uint64_t tag)
{
    struct wp_reactor *reactor = ((struct shard *)context)->reactor;
    pthread_mutex_lock(&reactor->guard);
    bool first = reactor->completion_count == 0;
    if (!reactor->hand_over_closed && reactor->completion_count < reactor->completion_capacity) {
        reactor->completions[reactor->completion_count++] = (struct completion){number, tag};
    } else if (!reactor->hand_over_closed) {
        uint32_t capacity = reactor->completion_capacity * 2;
        struct completion *grown = realloc(reactor->completions, capacity * sizeof(*grown));
        if (!grown) {
            /* A completion that is lost would hang its shard for ever. */
            reactor->config.fatal(reactor->config.context, WP_E_NOMEM, "cannot take a completion of the log");
        } else {
            reactor->completions = grown;
            reactor->completion_capacity = capacity;
            reactor->completions[reactor->completion_count++] = (struct completion){number, tag};
        }
    }
    if (first && !reactor->hand_over_closed) {
        uv_async_send(&reactor->async);
    }
    pthread_mutex_unlock(&reactor->guard);
}

/* The same on every router, whatever its file and its roster say: the first leader's first command brings the
 * roster's. */
struct wp_machine_limits wp_shard_limits(const struct wp_reactor *reactor)
{
    struct wp_machine_limits limits = {.inactive_ms = INACTIVE_MS};
    wp_policy_limits(NULL, &limits);
    limits.shard_count = reactor->config.shard_count;
    memcpy(limits.hash_key, reactor->config.hash_key, sizeof(limits.hash_key));
    return limits;
}

void wp_shard_limits_tell(struct shard *shard)
{
    const struct wp_reactor *reactor = shard->reactor;
    const struct wp_machine_limits *limits = &reactor->limits;
    static const struct waiter waiter = {.kind = WAIT_LIMITS};
    if (shard->limits_open || !wp_machine_limits_due(shard->machine, reactor->roster->version, limits)) {
        return;
    }
    Wp__CommandLimits command = WP__COMMAND_LIMITS__INIT;
    command.version = reactor->roster->version;
    command.mailbox_messages_max = limits->mailbox_messages_max;
    command.mailbox_bytes_max = limits->mailbox_bytes_max;
    command.body_bytes_max = limits->body_bytes_max;
    command.ttl_default_ms = limits->ttl_default_ms;
    command.ttl_max_ms = limits->ttl_max_ms;
    command.seen_ids_max = limits->seen_ids_max;
    command.stat_per_minute_max = limits->stat_per_minute_max;
    shard->limits_open = wp_shard_command(shard, WP_COMMAND_LIMITS, &command.base, &waiter) == WP_OK;
}

/* What a shard has and the meta group has not. */
static int delivery_create(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    const struct wp_reactor_config *config = &reactor->config;
    int error = WP_OK;
    if (!shard->machine) { /* else it was loaded on another thread */
        struct wp_machine_limits limits = wp_shard_limits(reactor);
        error = wp_machine_create(config->store, shard->number, &limits, &shard->machine);
    }
    error = error ? error : wp_outbox_sends_create(shard);
    if (error) {
        return error;
    }
    const struct wp_dispatch_config dispatch = {
        .shard = shard->number,
        .delivery_timeout_ms = config->delivery_timeout_ms,
        .flight_bytes_max = 4u * 1024 * 1024,
        .read_bytes_max = 256u * 1024,
        .reads_max = 1 + READS_MAX / reactor->shard_count,
    };
    const struct wp_dispatch_index index = {
        shard->machine, index_next_pending, index_receipt, index_set_aside};
    return wp_dispatch_create(&dispatch, &index, reactor->cache, &shard->dispatch);
}

int wp_shard_open(struct shard *shard, uint64_t replica, const struct wp_membership *bootstrap)
{
    struct wp_reactor *reactor = shard->reactor;
    const struct wp_reactor_config *config = &reactor->config;
    const bool meta = shard->number == WP_META_GROUP;
    int error =
        meta ? wp_meta_create(config->store, config->shard_count, &shard->meta) : delivery_create(shard);
    if (error) {
        return error;
    }
    const struct wp_group_callbacks callbacks = {shard, meta ? wp_meta_group_apply : wp_shard_apply,
        meta ? wp_meta_group_leading : shard_leading, shard_wake, wp_shard_send, wp_snapshot_needed};
    struct wp_group_config group = {
        .shard = shard->number,
        .replica_id = replica,
        .seed = shard->number * 31 + config->self,
        .log_keep_entries = reactor->roster->node_count > 1 ? LOG_KEEP_ENTRIES : 0,
        .log_keep_bytes = config->log_keep_bytes ? config->log_keep_bytes : 1,
        .inflight_entries = GROUP_INFLIGHT,
        .accept_loss = config->accept_loss && config->accept_loss[shard->number],
    };
    if (bootstrap) {
        group.bootstrap = *bootstrap;
    }
    shard->replica = replica;
    return wp_group_create(config->store, &group, &callbacks, &shard->group);
}

static void proposal_free(struct proposal *proposal)
{
    wp_bytes_release(&proposal->entry);
    free(proposal->waiters.items);
    free(proposal);
}

void wp_shard_shut(struct shard *shard)
{
    struct proposals *const lists[] = {&shard->sealed, &shard->in_flight};
    for (int i = 0; i < 2; i++) {
        for (struct proposal *proposal; lists[i]->stqh_last && (proposal = STAILQ_FIRST(lists[i]));) {
            STAILQ_REMOVE_HEAD(lists[i], next);
            proposal_free(proposal);
        }
    }
    free(shard->open_waiters.items);
    shard->open_waiters = (struct waiters){0};
    wp_buffer_free(&shard->open);
    shard->in_flight_count = 0;
    shard->expire_open = shard->limits_open = false;
    shard->replica = 0;
    wp_group_destroy(&shard->group);
    wp_dispatch_destroy(&shard->dispatch);
    wp_outbox_sends_destroy(shard);
    wp_machine_destroy(&shard->machine);
    wp_meta_destroy(&shard->meta);
}

/* Closes the open entry. */
static int shard_seal(struct shard *shard)
{
    struct proposal *proposal = calloc(1, sizeof(*proposal));
    struct wp_bytes *entry = wp_bytes_copy(shard->open.data, shard->open.size);
    if (!proposal || !entry) {
        free(proposal);
        wp_bytes_release(&entry);
        return WP_E_NOMEM;
    }
    proposal->entry = entry;
    proposal->waiters = shard->open_waiters;
    shard->open_waiters = (struct waiters){0};
    STAILQ_INSERT_TAIL(&shard->sealed, proposal, next);
    if (shard->open.capacity > OPEN_KEEP_BYTES) {
        wp_buffer_free(&shard->open);
    }
    shard->open.size = 0;
    return WP_OK;
}

struct wp_buffer *wp_shard_entry(struct shard *shard, size_t size)
{
    if (shard->open_waiters.count > 0 && shard->open.size + size > ENTRY_TARGET_BYTES && shard_seal(shard)) {
        return NULL;
    }
    if (shard->open.size == 0 && wp_entry_head_encode(shard->reactor->leader_ms, &shard->open)) {
        return NULL;
    }
    return &shard->open;
}

int wp_shard_waiter_reserve(struct shard *shard)
{
    struct waiters *waiters = &shard->open_waiters;
    if (waiters->count < waiters->capacity) {
        return WP_OK;
    }
    uint32_t capacity = waiters->capacity ? 2 * waiters->capacity : 32;
    struct waiter *items = realloc(waiters->items, capacity * sizeof(*items));
    if (!items) {
        return WP_E_NOMEM;
    }
    waiters->items = items;
    waiters->capacity = capacity;
    return WP_OK;
}

void wp_shard_wait(struct shard *shard, const struct waiter *waiter)
{
    WP_ASSERT(shard->open_waiters.count < shard->open_waiters.capacity);
    shard->open_waiters.items[shard->open_waiters.count++] = *waiter;
}

int wp_shard_command(
    struct shard *shard, uint8_t type, const ProtobufCMessage *message, const struct waiter *waiter)
{
    size_t size = WP_RECORD_HEAD_SIZE + protobuf_c_message_get_packed_size(message);
    if (size > WP_ENTRY_SIZE_MAX - WP_ENTRY_HEAD_SIZE) {
        return WP_E_TOO_LARGE; /* the group would refuse the whole entry, which nobody could answer */
    }
    struct wp_buffer *entry = wp_shard_entry(shard, size);
    if (!entry || wp_shard_waiter_reserve(shard) || wp_schema_append(entry, type, message)) {
        return WP_E_NOMEM;
    }
    wp_shard_wait(shard, waiter);
    return WP_OK;
}

void wp_shard_cursors(struct shard *shard)
{
    static const struct waiter nobody = {.kind = WAIT_NONE};
    bool added = true;
    while (added) {
        struct wp_buffer *entry = wp_shard_entry(shard, 64u * 1024);
        if (!entry || wp_shard_waiter_reserve(shard) ||
            wp_dispatch_cursors_take(shard->dispatch, entry, &added)) {
            return; /* still gathered; the next turn tries again */
        }
        if (added) {
            wp_shard_wait(shard, &nobody);
        }
    }
}

static bool cursors_due(const struct shard *shard)
{
    if (!shard->dispatch) {
        return false;
    }
    uint64_t due_ms = wp_dispatch_cursors_due_ms(shard->dispatch);
    uint64_t now_ms = shard->reactor->mono_ms;
    return due_ms <= now_ms || shard->reactor->stopping
               ? due_ms != UINT64_MAX
               : shard->open_waiters.count > 0 && due_ms <= now_ms + CURSORS_ALONG_MS;
}

bool wp_shard_gathers(const struct shard *shard)
{
    return shard->in_flight_count >= GATHER_IN_FLIGHT && shard->open.size < GATHER_BYTES;
}

/* The next entry to propose, closing the open one when there is none; NULL when nothing waits. */
static struct proposal *shard_next(struct shard *shard)
{
    if (STAILQ_EMPTY(&shard->sealed)) {
        if (cursors_due(shard)) {
            wp_shard_cursors(shard);
        }
        if (shard->machine && wp_outbox_advances_due(shard, shard->open_waiters.count > 0)) {
            wp_outbox_advances_take(shard);
        }
        if (STAILQ_EMPTY(&shard->sealed) &&
            (shard->open_waiters.count == 0 || wp_shard_gathers(shard) || shard_seal(shard))) {
            return NULL;
        }
    }
    return STAILQ_FIRST(&shard->sealed);
}

static void entry_set_time(struct wp_bytes *entry, uint64_t time_ms)
{
    struct wp_buffer view = {.data = entry->data, .size = entry->size, .capacity = entry->size};
    wp_entry_head_set_time(&view, time_ms);
}

void wp_shard_propose(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    struct proposal *proposal;
    while (!reactor->failed && wp_group_can_propose(shard->group) && (proposal = shard_next(shard))) {
        STAILQ_REMOVE_HEAD(&shard->sealed, next);
        STAILQ_INSERT_TAIL(&shard->in_flight, proposal, next);
        shard->in_flight_count++;
        entry_set_time(proposal->entry, wp_reactor_time(reactor));
        struct wp_bytes *entry = proposal->entry;
        proposal->entry = NULL;
        uint64_t index;
        int error = wp_group_propose(shard->group, reactor->mono_ms, &entry, &index);
        if (error == WP_E_FULL || error == WP_E_NOT_LEADER) {
            proposal->entry = entry;
            STAILQ_REMOVE(&shard->in_flight, proposal, proposal, next);
            STAILQ_INSERT_HEAD(&shard->sealed, proposal, next);
            shard->in_flight_count--;
            return;
        }
        if (error) {
            wp_reactor_fail(reactor, error, "proposing");
            return;
        }
    }
}

bool wp_shard_idle(const struct shard *shard)
{
    return shard->open_waiters.count == 0 && STAILQ_EMPTY(&shard->sealed) &&
           STAILQ_EMPTY(&shard->in_flight) &&
           (!shard->dispatch || wp_dispatch_cursors_due_ms(shard->dispatch) == UINT64_MAX);
}

static void waiters_refuse(struct shard *shard, const struct waiters *waiters, int error, int answer_error)
{
    for (uint32_t i = 0; i < waiters->count; i++) {
        const struct waiter *waiter = &waiters->items[i];
        wp_waiter_refuse(shard, waiter, waiter->kind == WAIT_ANSWER ? answer_error : error);
    }
}

void wp_shard_refuse_all(struct shard *shard, int error)
{
    struct proposals *const lists[] = {&shard->in_flight, &shard->sealed};
    for (int i = 0; i < 2; i++) {
        /* What gateways sent is known again by its ids and numbers. A command of the operator is not: what is
         * in flight may still be committed, and must not be given again by itself. */
        int answer_error = lists[i] == &shard->in_flight ? WP_E_TIMEOUT : error;
        for (struct proposal *proposal; (proposal = STAILQ_FIRST(lists[i]));) {
            STAILQ_REMOVE_HEAD(lists[i], next);
            waiters_refuse(shard, &proposal->waiters, error, answer_error);
            proposal_free(proposal);
        }
    }
    shard->in_flight_count = 0;
    waiters_refuse(shard, &shard->open_waiters, error, error);
    shard->open_waiters.count = 0;
    shard->open.size = 0;
}
