/* The source of snapshots: a session is one consistent view of a shard, read chunk after chunk as it is
 * asked.
 *
 * Invariants
 *   1. A session's view is touched by one worker at a time, and not while it is none of them.
 *   2. A chunk that was lost on the way can be asked for again: the last one is kept.
 *   3. All sessions of this process together read at most RATE_BYTES_S. */
#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "router/reactor_router.h"

#define SESSION_IDLE_MS 60000u
#define OFFER_EVERY_MS 1000u
#define RATE_BYTES_S (32u * 1024 * 1024)
#define RATE_BURST_BYTES (4u * 1024 * 1024)

struct snapshot_session {
    uv_work_t work;
    struct wp_reactor *reactor;
    uint32_t group;
    uint64_t replica; /* who asks; raft id */
    uint64_t from;    /* ours */
    uint64_t number;  /* chosen by who asks */
    uint32_t peer;    /* link to answer on */
    uint64_t used_ms;
    bool busy;   /* a worker has it */
    bool wanted; /* the next chunk is asked for and waits for the rate */
    struct wp_state_iter *view;
    uint64_t index, term, leader_term;
    uint64_t chunk;        /* number of the one in `rows`; UINT64_MAX = none yet */
    struct wp_buffer rows; /* key size (u32le) | key | value size | value ... */
    uint32_t row_count;
    bool last;
    int error;
};

/* --- rate -------------------------------------------------------------------------------------- */

static pthread_mutex_t rate_guard = PTHREAD_MUTEX_INITIALIZER;
static int64_t rate_bytes = RATE_BURST_BYTES;
static uint64_t rate_at_us;

/* Whether a chunk may be read now; it is charged when it is known how large it is. */
static bool rate_allows(void)
{
    pthread_mutex_lock(&rate_guard);
    uint64_t now_us = wp_clock_mono_us();
    uint64_t passed_us = now_us - rate_at_us;
    int64_t come = passed_us > 1000000 ? RATE_BURST_BYTES : (int64_t)(passed_us * RATE_BYTES_S / 1000000);
    rate_bytes = rate_bytes + come < RATE_BURST_BYTES ? rate_bytes + come : RATE_BURST_BYTES;
    rate_at_us = now_us;
    bool allows = rate_bytes > 0;
    pthread_mutex_unlock(&rate_guard);
    return allows;
}

static void rate_charge(uint64_t bytes)
{
    pthread_mutex_lock(&rate_guard);
    rate_bytes -= (int64_t)bytes;
    pthread_mutex_unlock(&rate_guard);
}

/* --- offers ------------------------------------------------------------------------------------ */

static bool offer_due(struct wp_reactor *reactor, uint32_t group, uint64_t peer)
{
    struct snapshots *snapshots = &reactor->snapshots;
    uint32_t at = 0;
    while (at < SNAPSHOT_OFFERS_KEPT &&
           (snapshots->offers[at].group != group || snapshots->offers[at].peer != peer)) {
        at++;
    }
    if (at == SNAPSHOT_OFFERS_KEPT) {
        at = snapshots->offer_next++ % SNAPSHOT_OFFERS_KEPT;
    } else if (reactor->mono_ms - snapshots->offers[at].at_ms < OFFER_EVERY_MS) {
        return false;
    }
    snapshots->offers[at].group = group;
    snapshots->offers[at].peer = peer;
    snapshots->offers[at].at_ms = reactor->mono_ms;
    return true;
}

void wp_snapshot_needed(void *context, uint64_t peer, uint64_t term, uint64_t index)
{
    struct shard *shard = context;
    struct wp_reactor *reactor = shard->reactor;
    if (reactor->stopping || !offer_due(reactor, shard->number, peer)) {
        return;
    }
    Wp__SnapshotOffer offer = WP__SNAPSHOT_OFFER__INIT;
    offer.group = shard->number;
    offer.from = shard->replica;
    offer.to = peer;
    offer.term = term;
    offer.index = index;
    wp_metric_add(WP_M_SNAPSHOT_OFFERS, 1);
    (void)wp_router_send(reactor, wp_raft_id_node(peer), shard->number, WP_FRAME_SNAPSHOT_OFFER, &offer.base);
}

/* --- sessions ---------------------------------------------------------------------------------- */

static void session_free(struct snapshot_session *session)
{
    wp_state_iter_destroy(&session->view);
    wp_buffer_free(&session->rows);
    free(session);
}

static struct snapshot_session **session_slot(struct wp_reactor *reactor, const Wp__SnapshotPull *pull)
{
    for (uint32_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = reactor->snapshots.sessions[i];
        if (session && session->group == pull->group && session->replica == pull->from) {
            return &reactor->snapshots.sessions[i]; /* one per replica: a new number ends the old one */
        }
    }
    for (uint32_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        if (!reactor->snapshots.sessions[i]) {
            return &reactor->snapshots.sessions[i];
        }
    }
    return NULL;
}

static void answer(struct snapshot_session *session, const Wp__SnapshotChunk *chunk)
{
    struct peer *peer = wp_peer_find(session->reactor, session->peer);
    if (peer && wp_link_send(peer->link, WP_LINK_ROUTINE, WP_FRAME_SNAPSHOT_CHUNK, &chunk->base) == WP_OK) {
        wp_metric_add(WP_M_SNAPSHOT_BYTES_SENT, session->rows.size);
    }
}

static void answer_error(
    struct wp_reactor *reactor, struct peer *peer, const Wp__SnapshotPull *pull, int error)
{
    (void)reactor;
    Wp__SnapshotChunk chunk = WP__SNAPSHOT_CHUNK__INIT;
    chunk.group = pull->group;
    chunk.session = pull->session;
    chunk.chunk = pull->chunk;
    chunk.error = error;
    (void)wp_link_send(peer->link, WP_LINK_ROUTINE, WP_FRAME_SNAPSHOT_CHUNK, &chunk.base);
}

uint64_t wp_snapshot_sum(const Wp__SnapshotChunk *chunk)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        return 0;
    }
    XXH3_64bits_reset(state);
    for (size_t i = 0; i < chunk->n_rows; i++) {
        const ProtobufCBinaryData *parts[2] = {&chunk->rows[i]->key, &chunk->rows[i]->value};
        for (int part = 0; part < 2; part++) {
            uint8_t size[4];
            wp_put_u32le(size, (uint32_t)parts[part]->len);
            XXH3_64bits_update(state, size, sizeof(size));
            XXH3_64bits_update(state, parts[part]->data, parts[part]->len);
        }
    }
    uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

/* The chunk that the session holds, as a message. */
static void session_answer(struct snapshot_session *session)
{
    Wp__SnapshotChunk chunk = WP__SNAPSHOT_CHUNK__INIT;
    Wp__SnapshotRow *rows = calloc(session->row_count + 1, sizeof(*rows));
    Wp__SnapshotRow **pointers = calloc(session->row_count + 1, sizeof(*pointers));
    uint8_t *at = session->rows.data;
    for (uint32_t i = 0; rows && pointers && i < session->row_count; i++) {
        wp__snapshot_row__init(&rows[i]);
        rows[i].key = (ProtobufCBinaryData){wp_get_u32le(at), at + 4};
        at += 4 + rows[i].key.len;
        rows[i].value = (ProtobufCBinaryData){wp_get_u32le(at), at + 4};
        at += 4 + rows[i].value.len;
        pointers[i] = &rows[i];
    }
    if (rows && pointers) { /* else the one who waits asks again */
        chunk.group = session->group;
        chunk.session = session->number;
        chunk.chunk = session->chunk;
        chunk.error = session->error;
        chunk.n_rows = session->row_count;
        chunk.rows = pointers;
        chunk.last = session->last;
        chunk.index = session->index;
        chunk.term = session->term;
        chunk.leader_term = session->leader_term;
        chunk.checksum = wp_snapshot_sum(&chunk);
        answer(session, &chunk);
    }
    free(rows);
    free(pointers);
}

static int row_append(struct wp_buffer *rows, struct wp_slice part)
{
    uint8_t size[4];
    wp_put_u32le(size, (uint32_t)part.size);
    int error = wp_buffer_append(rows, size, sizeof(size));
    return error ? error : wp_buffer_append(rows, part.data, part.size);
}

static void read_work(uv_work_t *work)
{
    struct snapshot_session *session = work->data;
    struct wp_store *store = session->reactor->config.store;
    if (!session->view) {
        session->view = wp_state_view_create(store, session->group, &session->index, &session->term);
        session->error = session->view ? WP_OK : WP_E_NOMEM;
    }
    session->rows.size = 0;
    session->row_count = 0;
    while (!session->error && wp_state_iter_valid(session->view) &&
           session->row_count < SNAPSHOT_CHUNK_ROWS && session->rows.size < SNAPSHOT_CHUNK_BYTES) {
        session->error = row_append(&session->rows, wp_state_iter_key(session->view));
        if (!session->error) {
            session->error = row_append(&session->rows, wp_state_iter_value(session->view));
        }
        session->row_count++;
        wp_state_iter_next(session->view);
    }
    if (!session->error && !wp_state_iter_valid(session->view)) {
        session->error = wp_state_iter_error(session->view);
        session->last = true;
    }
    if (session->error) {
        session->row_count = 0;
        session->rows.size = 0;
    }
    rate_charge(session->rows.size);
}

/* The log from the view on is kept until the replica had time to install it. */
static void log_hold(const struct snapshot_session *session)
{
    struct wp_reactor *reactor = session->reactor;
    struct shard *shard = wp_reactor_group_of(reactor, session->group);
    if (shard) {
        wp_group_log_hold(shard->group, session->replica, session->index, reactor->mono_ms + SESSION_IDLE_MS);
    }
}

static void read_after(uv_work_t *work, int status)
{
    struct snapshot_session *session = work->data;
    struct wp_reactor *reactor = session->reactor;
    struct shard *shard = wp_reactor_group_of(reactor, session->group);
    session->busy = false;
    session->error = status ? WP_E_CLOSED : session->error;
    if (session->chunk == 0 && shard) {
        /* What the view holds was known to be committed in this term or before. */
        session->leader_term = wp_group_term(shard->group);
    }
    session->error = session->chunk == 0 && !shard ? WP_E_UNAVAILABLE : session->error;
    if (!reactor->closing) {
        log_hold(session);
        session_answer(session);
    }
}

static void session_read(struct snapshot_session *session)
{
    if (!rate_allows()) {
        session->wanted = true;
        return;
    }
    session->work.data = session;
    session->busy = uv_queue_work(&session->reactor->loop, &session->work, read_work, read_after) == 0;
    session->chunk += session->busy;
    session->wanted = !session->busy;
}

static struct snapshot_session *session_begin(
    struct wp_reactor *reactor, struct snapshot_session **slot, const Wp__SnapshotPull *pull)
{
    struct snapshot_session *session = calloc(1, sizeof(*session));
    if (!session) {
        return NULL;
    }
    if (*slot) {
        session_free(*slot);
    }
    session->reactor = reactor;
    session->group = pull->group;
    session->replica = pull->from;
    session->from = pull->to;
    session->number = pull->session;
    session->chunk = UINT64_MAX;
    *slot = session;
    return session;
}

void wp_snapshot_pull_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__SnapshotPull *pull = (const Wp__SnapshotPull *)message;
    struct shard *shard = wp_reactor_group_of(reactor, pull->group);
    struct snapshot_session **slot = session_slot(reactor, pull);
    if (wp_raft_id_node(pull->from) != peer->node || !shard || shard->replica != pull->to || !slot) {
        answer_error(reactor, peer, pull, slot ? WP_E_UNAVAILABLE : WP_E_FULL);
        return;
    }
    struct snapshot_session *session = *slot;
    if (session && session->busy) {
        session->peer = peer->number; /* the answer comes */
        return;
    }
    if (!session || session->number != pull->session) {
        session = pull->chunk == 0 ? session_begin(reactor, slot, pull) : NULL;
        if (!session) {
            answer_error(reactor, peer, pull, pull->chunk == 0 ? WP_E_NOMEM : WP_E_NOT_FOUND);
            return;
        }
    }
    session->peer = peer->number;
    session->used_ms = reactor->mono_ms;
    if (session->chunk == pull->chunk) {
        session_answer(session);
    } else if (session->chunk + 1 == pull->chunk && !session->last && !session->error) {
        session_read(session);
    } else {
        answer_error(reactor, peer, pull, WP_E_NOT_FOUND);
    }
}

void wp_snapshot_sessions_tick(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        struct snapshot_session *session = reactor->snapshots.sessions[i];
        if (!session || session->busy) {
            continue;
        }
        bool done = session->last && reactor->mono_ms - session->used_ms > 5000;
        if (done || reactor->stopping || reactor->mono_ms - session->used_ms > SESSION_IDLE_MS) {
            session_free(session);
            reactor->snapshots.sessions[i] = NULL;
        } else if (session->wanted) {
            session_read(session);
        }
    }
}

void wp_snapshot_sessions_free(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i < SNAPSHOT_SESSIONS_MAX; i++) {
        if (reactor->snapshots.sessions[i]) {
            session_free(reactor->snapshots.sessions[i]);
        }
        reactor->snapshots.sessions[i] = NULL;
    }
}
