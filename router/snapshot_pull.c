/* A replica that pulls a snapshot. One at a time in a reactor: a node that comes back empty needs one for
 * each shard, and several at once would take the disk from those that work.
 *
 *     PULLING --last chunk--> DRAINING --log done, no reads--> REPLACING --installed--> (open again)
 *        |  ^                    (snapshot_replace.c)                                      |
 *        |  '- session gone: begin again                                                   '- refused: open
 * again
 *        '---- no progress for 60 s, offer outdated, damage: given up
 *
 * Invariants
 *   1. Until the last chunk is there the shard works as before: a pull that fails costs nothing.
 *   2. A worker has the pull while `busy`; meanwhile this thread only notes that it was cancelled. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "router/snapshot_inner.h"

#define PROGRESS_MS_MAX 60000u
#define ASK_AGAIN_MS 2000u
#define AFTER_FAILURE_MS 5000u
#define AFTER_INSTALL_MS 2000u
#define CHUNK_ARENA_BYTES (16u * 1024 * 1024)

static void pull_free(struct snapshot_pull *pull)
{
    wp_state_install_abort(&pull->install);
    wp_bytes_release(&pull->payload);
    wp_group_destroy(&pull->group_closed);
    wp_machine_destroy(&pull->machine);
    free(pull);
}

/* The log has brought what the snapshot would: nothing failed. */
static void pull_overtaken(struct snapshot_pull *pull)
{
    wp_log(WP_LOG_INFO, "snapshot_overtaken", "shard=%u index=%llu", pull->group,
        (unsigned long long)pull->index);
}

/* Whoever needs a snapshot is offered one again. */
void wp_snapshot_pull_end(struct snapshot_pull *pull, int error, const char *why)
{
    struct wp_reactor *reactor = pull->reactor;
    if (pull->link && !reactor->closing) {
        wp_link_set_user(pull->link, NULL);
        wp_fabric_disconnect(reactor->fabric, &pull->link);
    }
    pull->link = NULL;
    if (pull->busy) {
        pull->cancelled = true;
        return;
    }
    if (error == WP_E_INVALID && pull->phase == REPLACING) {
        pull_overtaken(pull);
    } else if (error) {
        wp_metric_add(WP_M_SNAPSHOTS_FAILED, 1);
        wp_log(WP_LOG_WARN, "snapshot_failed", "shard=%u from=%u reason=%s error=%s bytes=%llu", pull->group,
            wp_raft_id_node(pull->from), why, wp_error_slug(error), (unsigned long long)pull->byte_count);
        reactor->snapshots.pull_from_ms = reactor->mono_ms + AFTER_FAILURE_MS;
    }
    reactor->snapshots.pull = NULL;
    wp_metric_add(WP_M_SNAPSHOT_PULLING, UINT64_MAX); /* one less */
    pull_free(pull);
}

/* --- asking ------------------------------------------------------------------------------------ */

static void pull_ask(struct snapshot_pull *pull)
{
    Wp__SnapshotPull ask = WP__SNAPSHOT_PULL__INIT;
    ask.group = pull->group;
    ask.from = pull->replica;
    ask.to = pull->from;
    ask.session = pull->session;
    ask.chunk = pull->chunk;
    pull->asked_ms = pull->reactor->mono_ms;
    if (pull->up) { /* else when the connection is there */
        (void)wp_link_send(pull->link, WP_LINK_ROUTINE, WP_FRAME_SNAPSHOT_PULL, &ask.base);
    }
}

static void pull_begin_again(struct snapshot_pull *pull)
{
    wp_state_install_abort(&pull->install);
    pull->membership_seen = false;
    pull->last = false;
    pull->error = WP_OK;
    pull->chunk = 0;
    randombytes_buf(&pull->session, sizeof(pull->session));
    pull_ask(pull);
}

void wp_snapshot_link_up(struct snapshot_pull *pull)
{
    pull->up = true;
    if (pull->phase == PULLING && !pull->busy) {
        pull_ask(pull);
    }
}

void wp_snapshot_link_down(struct snapshot_pull *pull)
{
    pull->up = false; /* the fabric connects again, the session is kept there */
}

static int pull_connect(struct snapshot_pull *pull, const struct wp_roster_node *node)
{
    char endpoint[WP_ENDPOINT_SIZE_MAX];
    int error = wp_roster_endpoint(node, pull->group, endpoint);
    error = error ? error : wp_fabric_connect(pull->reactor->fabric, endpoint, node->key, &pull->link);
    if (!error) {
        wp_link_set_user(pull->link, pull);
    }
    return error;
}

/* An offer may have been under way while the shard was closed: the leader has not heard yet where we stand
 * now. */
static bool just_installed(const struct shard *shard)
{
    return shard->installed_ms && shard->reactor->mono_ms < shard->installed_ms + AFTER_INSTALL_MS;
}

void wp_snapshot_offer_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__SnapshotOffer *offer = (const Wp__SnapshotOffer *)message;
    struct shard *shard = wp_reactor_group_of(reactor, offer->group);
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, peer->node);
    if (!shard || !node || offer->to != shard->replica || wp_raft_id_node(offer->from) != peer->node ||
        !wp_roster_counts(reactor->roster, offer->from) || offer->term < wp_group_term(shard->group) ||
        offer->index <= wp_group_applied_index(shard->group) || reactor->snapshots.pull ||
        reactor->stopping || reactor->mono_ms < reactor->snapshots.pull_from_ms || just_installed(shard)) {
        return; /* outdated, or later: it is offered again */
    }
    struct snapshot_pull *pull = calloc(1, sizeof(*pull));
    if (!pull) {
        return;
    }
    pull->kind = LINK_SNAPSHOT;
    pull->reactor = reactor;
    pull->group = offer->group;
    pull->replica = offer->to;
    pull->from = offer->from;
    pull->offer_term = offer->term;
    pull->began_ms = pull->progress_ms = reactor->mono_ms;
    reactor->snapshots.pull = pull;
    wp_metric_add(WP_M_SNAPSHOT_PULLING, 1);
    wp_log(WP_LOG_INFO, "snapshot_begins", "shard=%u from=%s index=%llu applied=%llu", pull->group,
        node->name, (unsigned long long)offer->index,
        (unsigned long long)wp_group_applied_index(shard->group));
    int error = pull_connect(pull, node);
    if (error) {
        wp_snapshot_pull_end(pull, error, "connecting");
        return;
    }
    pull_begin_again(pull);
}

/* --- taking ------------------------------------------------------------------------------------ */

static int rows_take(struct snapshot_pull *pull, const Wp__SnapshotChunk *chunk)
{
    uint8_t membership[WP_GROUP_KEY_SIZE];
    wp_group_membership_key(pull->group, membership);
    for (size_t i = 0; i < chunk->n_rows; i++) {
        struct wp_slice key = wp_slice(chunk->rows[i]->key.data, chunk->rows[i]->key.len);
        int error = wp_state_install_add(
            pull->install, key, wp_slice(chunk->rows[i]->value.data, chunk->rows[i]->value.len));
        if (error) {
            return error;
        }
        pull->membership_seen =
            pull->membership_seen || wp_slice_equal(key, wp_slice(membership, sizeof(membership)));
    }
    pull->row_count += chunk->n_rows;
    return WP_OK;
}

static int chunk_take(struct snapshot_pull *pull, const Wp__SnapshotChunk *chunk)
{
    if (chunk->group != pull->group || chunk->session != pull->session || chunk->chunk != pull->chunk) {
        return WP_E_EXISTS; /* an answer that was asked for twice */
    }
    if (chunk->error) {
        return chunk->error;
    }
    if (chunk->checksum != wp_snapshot_sum(chunk)) {
        return WP_E_CORRUPT;
    }
    if (!pull->install) {
        int error = wp_state_install_begin(pull->reactor->config.store, pull->group, &pull->install);
        if (error) {
            return error;
        }
        pull->index = chunk->index;
        pull->term = chunk->term;
        pull->leader_term = chunk->leader_term > pull->offer_term ? chunk->leader_term : pull->offer_term;
    }
    int error = rows_take(pull, chunk);
    pull->last = chunk->last;
    return error || !pull->last || pull->membership_seen ? error : WP_E_MALFORMED;
}

static void take_work(uv_work_t *work)
{
    struct snapshot_pull *pull = work->data;
    struct wp_arena arena;
    ProtobufCMessage *message;
    wp_arena_init(&arena, CHUNK_ARENA_BYTES);
    pull->error = wp_schema_decode(&wp__snapshot_chunk__descriptor,
        wp_slice(pull->payload->data, pull->payload->size), &arena, &message);
    if (!pull->error) {
        pull->error = chunk_take(pull, (const Wp__SnapshotChunk *)message);
    }
    wp_arena_fini(&arena);
}

static void take_after(uv_work_t *work, int status)
{
    struct snapshot_pull *pull = work->data;
    struct wp_reactor *reactor = pull->reactor;
    pull->busy = false;
    uint64_t size = pull->payload->size;
    wp_bytes_release(&pull->payload);
    if (pull->cancelled || reactor->closing || status) {
        wp_snapshot_pull_end(pull, WP_E_CLOSED, "cancelled");
        return;
    }
    if (pull->error == WP_E_EXISTS) {
        return;
    }
    if (pull->error == WP_E_NOT_FOUND) {
        pull_begin_again(pull);
        return;
    }
    if (pull->error) {
        wp_snapshot_pull_end(pull, pull->error, "taking a chunk");
        return;
    }
    pull->byte_count += size;
    pull->progress_ms = reactor->mono_ms;
    wp_metric_add(WP_M_SNAPSHOT_BYTES_TAKEN, size);
    if (pull->last) {
        wp_snapshot_replace_begin(pull);
        return;
    }
    pull->chunk++;
    pull_ask(pull);
}

void wp_snapshot_chunk_take(struct snapshot_pull *pull, enum wp_frame_type type, struct wp_slice payload)
{
    if (type != WP_FRAME_SNAPSHOT_CHUNK || pull->phase != PULLING || pull->busy) {
        wp_metric_add(WP_M_PEER_REFUSED, type != WP_FRAME_SNAPSHOT_CHUNK);
        return;
    }
    pull->payload = wp_bytes_copy(payload.data, payload.size);
    if (!pull->payload) {
        return; /* asked for again */
    }
    pull->work.data = pull;
    pull->busy = uv_queue_work(&pull->reactor->loop, &pull->work, take_work, take_after) == 0;
    if (!pull->busy) {
        wp_bytes_release(&pull->payload);
    }
}

/* --- time -------------------------------------------------------------------------------------- */

static void pull_tick(struct snapshot_pull *pull)
{
    struct wp_reactor *reactor = pull->reactor;
    if (pull->busy || reactor->failed) {
        return;
    }
    if (pull->phase != PULLING) {
        wp_snapshot_replace_tick(pull);
        return;
    }
    if (reactor->stopping || reactor->mono_ms - pull->progress_ms > PROGRESS_MS_MAX) {
        wp_snapshot_pull_end(pull, reactor->stopping ? WP_E_CLOSED : WP_E_TIMEOUT, "no progress");
    } else if (reactor->mono_ms - pull->asked_ms > ASK_AGAIN_MS) {
        pull_ask(pull);
    }
}

void wp_snapshots_tick(struct wp_reactor *reactor)
{
    wp_snapshot_sessions_tick(reactor);
    if (reactor->snapshots.pull) {
        pull_tick(reactor->snapshots.pull);
    }
}

bool wp_snapshots_busy(const struct wp_reactor *reactor)
{
    const struct snapshot_pull *pull = reactor->snapshots.pull;
    return pull && (pull->busy || pull->phase != PULLING);
}

void wp_snapshots_free(struct wp_reactor *reactor)
{
    wp_snapshot_sessions_free(reactor);
    if (reactor->snapshots.pull) {
        WP_ASSERT(!reactor->snapshots.pull->busy);
        pull_free(reactor->snapshots.pull);
        reactor->snapshots.pull = NULL;
    }
}
