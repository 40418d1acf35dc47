/* Why mostly stop and wait: a source has one Transfer of receipts open towards each destination, and all that
 * gathered meanwhile leaves with the next. So load makes transfers larger, not more. A message to a team does
 * not wait for an answer: it follows at once, behind what is open, in the order of the link.
 *
 * Invariants
 *   1. Only a leader sends, and what it sends stands in its applied state.
 *   2. An item counts as arrived when the destination's leader answered a watermark at or above it; it is
 * deleted by OUTBOX_ADVANCE alone.
 *   3. What is open is given up after RETRY_MS in which nothing arrived, after a refusal, and when the last
 * answer left a gap: then everything after `arrived` is sent again, to whoever leads.
 *   4. Who leads is told by whoever refuses (route.h): our own view may be a second old. */
#include "router/reactor_outbox.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/reactor_report.h"
#include "router/route.h"

#define GATHER_MS 20u        /* receipts wait so long for others */
#define GATHER_RECEIPTS 256u /* but not when so many are there */
#define BATCH_BYTES (256u * 1024)
#define BATCH_ITEMS 256u
/* A team message of this size travels alone: what it becomes is its body times its members. */
#define TEAM_ITEM_ALONE_BYTES (32u * 1024)
#define OPEN_MAX 8u /* Transfers without an answer */
#define TRANSFER_SEALED_MAX 16u
#define RETRY_MS 500u   /* without an answer */
#define REFUSED_MS 100u /* after a leader that could not take it now */
#define ADVANCE_MS 200u /* arrived items are deleted after it at the latest */
#define ADVANCE_ALONG_MS (ADVANCE_MS / 2)

/* What is on its way to one destination. */
struct outbox_send {
    uint64_t arrived;    /* watermark answered */
    uint64_t arrived_ms; /* since when an OUTBOX_ADVANCE for it is owed; 0 = it is not */
    uint64_t since_ms;   /* since when something waits to be sent; 0 = nothing */
    uint64_t sent;       /* of the open Transfers the last item; 0 = none is open */
    uint64_t retry_ms;   /* when what is open is given up; with none open: nothing is sent before */
    uint32_t open;       /* Transfers without an answer */
    struct wp_route route;
};

struct outbox_sends {
    uint64_t items;                /* pending in the machine as of the last pump */
    bool news;                     /* something was added since */
    uint32_t ahead;                /* destinations with `arrived_ms` */
    uint64_t drops[WP_DROP_COUNT]; /* of the machine, as counted for the operator */
    struct outbox_send to[];       /* by shard */
};

int wp_outbox_sends_create(struct shard *shard)
{
    uint32_t shards = shard->reactor->config.shard_count;
    shard->sends = calloc(1, sizeof(*shard->sends) + (shards + 1) * sizeof(*shard->sends->to));
    return shard->sends ? WP_OK : WP_E_NOMEM;
}

void wp_outbox_sends_destroy(struct shard *shard)
{
    free(shard->sends);
    shard->sends = NULL;
}

void wp_outbox_leading(struct shard *shard, bool leading)
{
    uint32_t shards = shard->reactor->config.shard_count;
    memset(shard->sends, 0, sizeof(*shard->sends) + (shards + 1) * sizeof(*shard->sends->to));
    struct wp_machine_totals totals;
    wp_machine_totals(shard->machine, &totals);
    shard->sends->items = totals.outbox_items;
    memcpy(shard->sends->drops, totals.drops, sizeof(totals.drops));
    shard->sends->news = leading;
}

/* Only the leader counts, so that the sum over all routers is right. */
static void drops_count(struct shard *shard, const struct wp_machine_totals *totals)
{
    static const enum wp_metric metrics[WP_DROP_COUNT] = {
        [WP_DROP_RECEIPT_OUTBOX] = WP_M_RECEIPTS_DROPPED,
        [WP_DROP_RECEIPT_DISPLACED] = WP_M_RECEIPTS_DISPLACED,
        [WP_DROP_RECEIPT_OLD] = WP_M_RECEIPTS_OLD,
        [WP_DROP_COPY_REFUSED] = WP_M_COPIES_REFUSED,
        [WP_DROP_COPY_EXPIRED] = WP_M_COPIES_EXPIRED,
    };
    for (int i = 0; i < WP_DROP_COUNT; i++) {
        if (totals->drops[i] > shard->sends->drops[i]) {
            wp_metric_add(metrics[i], totals->drops[i] - shard->sends->drops[i]);
            shard->sends->drops[i] = totals->drops[i];
        }
    }
}

void wp_outbox_applied(struct shard *shard)
{
    struct wp_machine_totals totals;
    wp_machine_totals(shard->machine, &totals);
    shard->sends->news = shard->sends->news || totals.outbox_items > shard->sends->items;
    shard->sends->items = totals.outbox_items;
    if (wp_group_leading(shard->group)) {
        drops_count(shard, &totals);
    }
}

/* --- who gets it -------------------------------------------------------------------------------------------
 */

/* Node that leads `group`, as far as this reactor can know; our own when nobody else says so. */
static uint32_t leader_guess(struct wp_reactor *reactor, uint32_t group)
{
    const struct shard *shard = wp_reactor_shard(reactor, group);
    if (shard) {
        return wp_raft_id_node(wp_group_leader(shard->group));
    }
    uint32_t leader = reactor->config.self;
    uint64_t term = 0;
    for (uint32_t i = 0; i < reactor->roster->node_count; i++) {
        uint32_t node = reactor->roster->nodes[i].number;
        const struct group_report *report = wp_report_of_group(reactor, node, group, WP_REPORT_FRESH_MS);
        if (node != reactor->config.self && report && report->leading && report->term > term) {
            term = report->term;
            leader = node;
        }
    }
    return leader;
}

/* A message between two reactors of this process. */
struct outbox_job {
    struct wp_reactor_job job;
    struct wp_reactor *origin; /* of a Transfer: who gets the answer */
    bool reply;
    size_t size;
    uint8_t packed[];
};

/* While the log takes nothing (a disk that hangs), what is sent again must not pile up. */
static bool sealed_full(const struct shard *shard)
{
    uint32_t count = 0;
    const struct proposal *proposal;
    STAILQ_FOREACH(proposal, &shard->sealed, next)
    {
        if (++count == TRANSFER_SEALED_MAX) {
            return true;
        }
    }
    return false;
}

static void transfer_propose(
    struct wp_reactor *reactor, const Wp__Transfer *transfer, uint32_t peer, struct wp_reactor *origin);

static void job_run(struct wp_reactor_job *base, struct wp_reactor *reactor)
{
    struct outbox_job *job = (struct outbox_job *)base;
    const ProtobufCMessageDescriptor *descriptor =
        job->reply ? &wp__transfer_reply__descriptor : &wp__transfer__descriptor;
    ProtobufCMessage *message;
    wp_arena_reset(&reactor->frame_arena);
    if (wp_schema_decode(descriptor, wp_slice(job->packed, job->size), &reactor->frame_arena, &message) ==
        WP_OK) {
        if (job->reply) {
            wp_transfer_replied(reactor, message);
        } else {
            transfer_propose(reactor, (const Wp__Transfer *)message, 0, job->origin);
        }
    }
    free(job);
}

static int job_post(struct wp_reactor *reactor, uint32_t group, struct wp_reactor *origin,
    const ProtobufCMessage *message, bool reply)
{
    struct wp_reactor *to =
        reactor->config.reactors
            ? reactor->config.reactors[wp_reactor_of(group, reactor->config.reactor_count)]
            : NULL;
    size_t size = protobuf_c_message_get_packed_size(message);
    struct outbox_job *job = to ? calloc(1, sizeof(*job) + size) : NULL;
    if (!job) {
        return WP_E_UNAVAILABLE;
    }
    job->job.run = job_run;
    job->origin = origin;
    job->reply = reply;
    job->size = protobuf_c_message_pack(message, job->packed);
    int error = wp_reactor_post(to, &job->job);
    if (error) {
        free(job);
    }
    return error;
}

static int transfer_send(struct shard *shard, const struct outbox_send *send, Wp__Transfer *transfer)
{
    struct wp_reactor *reactor = shard->reactor;
    uint32_t node = wp_route_node(&send->route, leader_guess(reactor, transfer->destination));
    if (node == 0) {
        return WP_E_NOT_LEADER;
    }
    if (node != reactor->config.self) {
        return wp_router_send(reactor, node, transfer->destination, WP_FRAME_TRANSFER, &transfer->base);
    }
    /* By a job also when the destination is on this very reactor: nothing is proposed from inside an apply.
     */
    return job_post(reactor, transfer->destination, reactor, &transfer->base, false);
}

/* --- sending -----------------------------------------------------------------------------------------------
 */

/* What the next Transfer takes along. */
struct batch {
    uint64_t first;
    size_t count;
    size_t bytes;
    uint32_t receipts;
    bool team;
    ProtobufCBinaryData items[BATCH_ITEMS];
};

static void batch_fill(const struct shard *shard, uint32_t destination, uint64_t first, struct batch *batch)
{
    *batch = (struct batch){.first = first};
    while (batch->count < BATCH_ITEMS) {
        uint32_t receipts;
        struct wp_slice item =
            wp_machine_outbox_item(shard->machine, destination, first + batch->count, &receipts);
        bool alone = receipts == 0 && item.size > TEAM_ITEM_ALONE_BYTES;
        if (item.size == 0 || (batch->count > 0 && (alone || batch->bytes + item.size > BATCH_BYTES))) {
            return;
        }
        ProtobufCBinaryData *place = &batch->items[batch->count++];
        place->len = item.size;
        memcpy(&place->data, &item.data, sizeof(item.data)); /* packing only reads it */
        batch->bytes += item.size;
        batch->receipts += receipts;
        batch->team = batch->team || receipts == 0;
        if (alone) {
            return;
        }
    }
}

/* Everything that has not arrived, not before `at_ms`. */
static void send_again(struct outbox_send *send, uint64_t at_ms)
{
    send->open = 0;
    send->sent = 0;
    send->retry_ms = at_ms;
}

static void destination_pump(struct shard *shard, uint32_t destination)
{
    struct outbox_send *send = &shard->sends->to[destination];
    uint64_t now_ms = shard->reactor->mono_ms;
    struct wp_outbox_view view;
    if (send->open > 0 && now_ms >= send->retry_ms) {
        (void)wp_route_lost(&send->route, shard->reactor->config.self); /* waited for long enough */
        send_again(send, 0);
    }
    if (!wp_machine_outbox(shard->machine, destination, &view) ||
        (send->open == 0 && now_ms < send->retry_ms)) {
        return;
    }
    uint64_t done = send->arrived > send->sent ? send->arrived : send->sent;
    uint64_t first = done + 1 > view.first ? done + 1 : view.first;
    if (first > view.last) {
        send->since_ms = 0;
        return;
    }
    send->since_ms = send->since_ms ? send->since_ms : now_ms;
    struct batch batch;
    batch_fill(shard, destination, first, &batch);
    bool gathered = batch.receipts >= GATHER_RECEIPTS || now_ms >= send->since_ms + GATHER_MS;
    if (batch.team ? send->open == OPEN_MAX : send->open > 0 || !gathered) {
        return;
    }
    Wp__Transfer transfer = WP__TRANSFER__INIT;
    transfer.source = shard->number;
    transfer.destination = destination;
    transfer.first = first;
    transfer.items = batch.items;
    transfer.n_items = batch.count;
    if (transfer_send(shard, send, &transfer)) {
        send_again(send, now_ms + wp_route_lost(&send->route, shard->reactor->config.self));
        return;
    }
    if (send->open++ == 0) { /* later ones must not put off that one of them was lost */
        send->retry_ms = now_ms + RETRY_MS;
    }
    send->sent = first + batch.count - 1;
    send->since_ms = 0;
}

void wp_outbox_pump(struct shard *shard, bool tick)
{
    struct outbox_sends *sends = shard->sends;
    if (sends->items == 0 || (!tick && !sends->news) || !wp_group_leading(shard->group)) {
        return;
    }
    sends->news = false;
    for (uint32_t destination = 1; destination <= shard->reactor->config.shard_count; destination++) {
        destination_pump(shard, destination);
    }
}

void wp_transfer_replied(struct wp_reactor *reactor, const ProtobufCMessage *message)
{
    const Wp__TransferReply *reply = (const Wp__TransferReply *)message;
    struct shard *shard = wp_reactor_shard(reactor, reply->source);
    if (!shard || !wp_group_leading(shard->group) || reply->destination < 1 ||
        reply->destination > reactor->config.shard_count) {
        return;
    }
    struct outbox_send *send = &shard->sends->to[reply->destination];
    if (reply->error) {
        uint32_t wait_ms =
            reply->error == WP_E_NOT_LEADER ? wp_route_refused(&send->route, reply->leader) : REFUSED_MS;
        send_again(send, reactor->mono_ms + wait_ms);
        shard->sends->news = true;
        return;
    }
    wp_route_taken(&send->route);
    send->open -= send->open > 0;
    if (send->open == 0) {
        send_again(send, 0);
    }
    shard->sends->news = true;
    if (reply->watermark <= send->arrived) {
        return;
    }
    send->arrived = reply->watermark;
    if (send->open > 0) {
        send->retry_ms = reactor->mono_ms + RETRY_MS;
    }
    if (send->arrived_ms == 0) {
        send->arrived_ms = reactor->mono_ms;
        shard->sends->ahead++;
    }
}

bool wp_outbox_advances_due(const struct shard *shard, bool along)
{
    const struct outbox_sends *sends = shard->sends;
    uint64_t age_ms = along ? ADVANCE_ALONG_MS : ADVANCE_MS;
    for (uint32_t i = 1; sends->ahead > 0 && i <= shard->reactor->config.shard_count; i++) {
        uint64_t since_ms = sends->to[i].arrived_ms;
        if (since_ms && shard->reactor->mono_ms >= since_ms + age_ms) {
            return true;
        }
    }
    return false;
}

void wp_outbox_advances_take(struct shard *shard)
{
    static const struct waiter nobody = {.kind = WAIT_NONE};
    struct outbox_sends *sends = shard->sends;
    for (uint32_t i = 1; sends->ahead > 0 && i <= shard->reactor->config.shard_count; i++) {
        struct outbox_send *send = &sends->to[i];
        Wp__CommandOutboxAdvance advance = WP__COMMAND_OUTBOX_ADVANCE__INIT;
        advance.destination = i;
        advance.watermark = send->arrived;
        if (!send->arrived_ms || wp_shard_command(shard, WP_COMMAND_OUTBOX_ADVANCE, &advance.base, &nobody)) {
            continue; /* nothing to say, or no memory: the next turn tries again */
        }
        send->arrived_ms = 0;
        sends->ahead--;
    }
}

/* --- at the destination ------------------------------------------------------------------------------------
 */

static void reply_send(struct wp_reactor *reactor, const struct transfer_wait *wait, uint32_t destination,
    int error, uint64_t watermark)
{
    const struct shard *shard = wp_reactor_shard(reactor, destination);
    Wp__TransferReply reply = WP__TRANSFER_REPLY__INIT;
    reply.source = wait->source;
    reply.destination = destination;
    reply.error = error;
    reply.leader = error == WP_E_NOT_LEADER && shard ? wp_raft_id_node(wp_group_leader(shard->group)) : 0;
    reply.watermark = watermark;
    if (wait->origin) {
        (void)job_post(reactor, wait->source, NULL, &reply.base, true); /* lost: sent again */
    } else {
        wp_peer_reply(reactor, wait->peer, WP_FRAME_TRANSFER_REPLY, &reply.base, 0);
    }
}

void wp_transfer_answer(struct shard *shard, struct transfer_wait *wait, int error, uint64_t watermark)
{
    reply_send(shard->reactor, wait, shard->number, error, watermark);
    free(wait);
}

static void transfer_propose(
    struct wp_reactor *reactor, const Wp__Transfer *transfer, uint32_t peer, struct wp_reactor *origin)
{
    struct transfer_wait *wait = calloc(1, sizeof(*wait));
    if (!wait) {
        return; /* sent again after RETRY_MS */
    }
    *wait = (struct transfer_wait){.source = transfer->source, .peer = peer, .origin = origin};
    struct shard *shard = wp_reactor_shard(reactor, transfer->destination);
    int error = !shard || reactor->stopping || !wp_group_leading(shard->group) ? WP_E_NOT_LEADER
                : wp_shard_disk_full(shard)                                    ? WP_E_DISK_RESERVE
                : sealed_full(shard)                                           ? WP_E_FULL
                                                                               : WP_OK;
    if (!error) {
        Wp__CommandTransferIn command = WP__COMMAND_TRANSFER_IN__INIT;
        command.source = transfer->source;
        command.first = transfer->first;
        command.items = transfer->items;
        command.n_items = transfer->n_items;
        const struct waiter waiter = {.kind = WAIT_TRANSFER, .transfer = wait};
        error = wp_shard_command(shard, WP_COMMAND_TRANSFER_IN, &command.base, &waiter);
    }
    if (error) {
        reply_send(reactor, wait, transfer->destination, error, 0);
        free(wait);
    }
}

void wp_transfer_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    transfer_propose(reactor, (const Wp__Transfer *)message, peer->number, NULL);
}
