/* Snapshots between routers (docs/cluster.md): a replica whose position the leader's log no longer reaches
 * pulls the shard's rows from the node that offered them, installs them and opens its group again.
 *
 *   leader  snapshot_needed -> SnapshotOffer -->            replica
 *   source  <-- SnapshotPull (a connection of its own)      one pull per reactor at a time
 *           read on a worker thread, SnapshotChunk -->      taken on a worker thread, next SnapshotPull
 *                                                           last: close the shard, install, open it again
 *
 * Shared by router/reactor*.c and router/snapshot*.c only; the reactor's thread, but for the work that is
 * queued. */
#ifndef WP_ROUTER_SNAPSHOT_H
#define WP_ROUTER_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "proto/schema.h"

struct wp_reactor;
struct wp_link;
struct peer;

#define SNAPSHOT_SESSIONS_MAX 8u /* of one reactor as a source */
#define SNAPSHOT_OFFERS_KEPT 64u
#define SNAPSHOT_CHUNK_BYTES (256u * 1024)
#define SNAPSHOT_CHUNK_ROWS 4096u

/* Of one reactor. */
struct snapshots {
    struct snapshot_session *sessions[SNAPSHOT_SESSIONS_MAX];
    struct snapshot_pull *pull; /* NULL = none */
    uint64_t pull_from_ms;      /* after a pull that failed none begins before */
    struct {
        uint64_t peer; /* raft id */
        uint32_t group;
        uint64_t at_ms;
    } offers[SNAPSHOT_OFFERS_KEPT]; /* the last ones made */
    uint32_t offer_next;
};

/* Callback of a group: `context` is a struct shard. */
void wp_snapshot_needed(void *context, uint64_t peer, uint64_t term, uint64_t index);

/* Frames of other routers. */
void wp_snapshot_offer_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);
void wp_snapshot_pull_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);

/* The connection of a pull. */
void wp_snapshot_link_up(struct snapshot_pull *pull);
void wp_snapshot_link_down(struct snapshot_pull *pull);
void wp_snapshot_chunk_take(struct snapshot_pull *pull, enum wp_frame_type type, struct wp_slice payload);

/* Each tick: sessions that nobody asks any more end, requests that waited for the rate are served, a pull
 * that makes no progress ends. */
void wp_snapshots_tick(struct wp_reactor *reactor);
/* Whether work of a snapshot is under way on another thread, or a shard is closed for one. */
bool wp_snapshots_busy(const struct wp_reactor *reactor);
/* When the reactor is taken apart and no work is under way any more. */
void wp_snapshots_free(struct wp_reactor *reactor);

/* snapshot_source.c, snapshot_pull.c */
void wp_snapshot_sessions_tick(struct wp_reactor *reactor);
void wp_snapshot_sessions_free(struct wp_reactor *reactor);
/* XXH3-64 over key size (u32le), key, value size, value of each row. */
uint64_t wp_snapshot_sum(const Wp__SnapshotChunk *chunk);

#endif
