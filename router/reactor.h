/* A reactor: one thread, one loop, one fabric endpoint, and the shards s with (s - 1) % reactor_count ==
 * index.
 *
 *   frames of a turn -> one entry per shard -> group (log, commit) -> machine.apply -> replies and deliveries
 *
 * Everything of a shard happens on its reactor's thread. Other threads hand over work with wp_reactor_post;
 * functions marked "job" may be called only from a job that the reactor runs. A failure of the log, the state
 * or the engine is given to `fatal`, after which nothing is answered any more. */
#ifndef WP_ROUTER_REACTOR_H
#define WP_ROUTER_REACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "node/fabric.h"
#include "node/zap.h"
#include "router/machine.h"
#include "router/roster.h"
#include "storage/store.h"

struct wp_reactor;
struct wp_group;
struct wp_dispatch;
struct wp_overview;
struct wp_overview_group;

struct wp_reactor_config {
    uint32_t index;
    uint32_t reactor_count;
    uint32_t shard_count;
    const char *node;
    const char *listen;             /* "tcp://127.0.0.1:7401" */
    uint32_t self;                  /* number of this node in the roster */
    const struct wp_roster *roster; /* the first one; retained */
    uint64_t cluster_id;
    uint64_t incarnation;
    uint64_t directory_id;
    uint64_t start_id;
    uint8_t hash_key[16];   /* of wp_shard_of */
    uint8_t secret_key[32]; /* of the device-secret hash */
    struct wp_store *store;
    void *zmq_context;
    struct wp_zap *zap;
    const struct wp_keypair *keys;
    uint64_t delivery_timeout_ms;
    uint64_t body_cache_bytes;
    uint64_t log_keep_bytes;            /* of one shard, for peers; 0 = none */
    struct wp_reactor *const *reactors; /* of this process, by index; filled before the first one starts */
    const bool *accept_loss; /* by shard number: start it although its log lost entries; NULL = none */
    void *context;
    void (*fatal)(void *context, int error, const char *text); /* any reactor's thread; should not return */
};

/* Loads the shards and listens; no thread yet. Pointers in `config` are kept. Errors with a sentence in
 * ret_text. */
int wp_reactor_create(const struct wp_reactor_config *config, struct wp_reactor **ret_reactor, char *ret_text,
    size_t text_size);
/* Where it listens. */
const char *wp_reactor_endpoint(const struct wp_reactor *reactor);
int wp_reactor_start(struct wp_reactor *reactor);
/* What the thread of a started reactor does first, for one that is driven without a thread (tests/sim). */
void wp_reactor_begin(struct wp_reactor *reactor);
/* Begins what wp_reactor_stop waits for: so all reactors of a process stop at once. */
void wp_reactor_stop_begin(struct wp_reactor *reactor);
/* Refuses new work, writes gathered cursors, answers what is in flight (at most 3 s), ends the thread. */
void wp_reactor_stop(struct wp_reactor *reactor);
/* After the stop, and after the log completed everything (wp_reactor_log_drain). */
void wp_reactor_destroy(struct wp_reactor **reactor);
/* Waits until the log has completed all writes of `shard` handed to it so far; false after the timeout. */
bool wp_reactor_log_drain(struct wp_store *store, uint32_t shard, uint32_t timeout_ms);

/* Any thread: every shard with a replica here has a leader that is known here. */
bool wp_reactor_ready(const struct wp_reactor *reactor);

/* Any thread: how often the loop has turned; it does so at each tick at least, unless it hangs. */
uint64_t wp_reactor_turns(const struct wp_reactor *reactor);

struct wp_reactor_gauges {
    uint64_t outbox_bytes;
    uint64_t receipts;
    uint64_t messages;
    uint64_t bytes;
    uint64_t attached;
    uint64_t seen_window_min_s;
    uint64_t leads;      /* shards led here */
    uint64_t leaderless; /* shards with a replica here and no leader that is known */
    uint64_t behind;     /* wanted replicas of shards led here that are not in step */
};
/* Any thread; at most a second old. */
void wp_reactor_gauges(const struct wp_reactor *reactor, struct wp_reactor_gauges *ret_gauges);

/* --- work from other threads
 * --------------------------------------------------------------------------------- */

/* `run` is called once on the reactor's thread and owns the job from then on. */
struct wp_reactor_job {
    struct wp_reactor_job *next;
    void (*run)(struct wp_reactor_job *job, struct wp_reactor *reactor);
};
/* WP_E_FULL: too many jobs wait; WP_E_CLOSED: stopping. */
int wp_reactor_post(struct wp_reactor *reactor, struct wp_reactor_job *job);

/* Job: the parts of a shard (1-based); NULL without a replica of it on this reactor. */
struct wp_machine *wp_reactor_machine(struct wp_reactor *reactor, uint32_t shard);
struct wp_dispatch *wp_reactor_dispatch(struct wp_reactor *reactor, uint32_t shard);
struct wp_group *wp_reactor_group(struct wp_reactor *reactor, uint32_t shard);
/* Job: first shard with a replica here, then the next; 0 at the end. */
uint32_t wp_reactor_shard_first(struct wp_reactor *reactor);
uint32_t wp_reactor_shard_next(struct wp_reactor *reactor, uint32_t shard);
/* Job: fills what this reactor knows: its groups, and on reactor 0 the nodes (overview.h). */
void wp_reactor_overview(struct wp_reactor *reactor, struct wp_overview *overview);
void wp_reactor_overview_group(
    struct wp_reactor *reactor, uint32_t shard, struct wp_overview_group *ret_group);
/* Job: begins to hand the leadership of a shard to the replica of node `to`. WP_E_NOT_LEADER; WP_E_NOT_FOUND:
 * no voter of it is there; WP_E_EXISTS: it leads already; WP_E_UNAVAILABLE: not reachable, or another is
 * under way. */
int wp_reactor_transfer(struct wp_reactor *reactor, uint32_t shard, uint32_t to);
/* Job: a new roster holds from now on (retained). */
void wp_reactor_roster_set(struct wp_reactor *reactor, const struct wp_roster *roster);
/* Job: calls `each` for every gateway whose link is up. */
void wp_reactor_peers_each(
    const struct wp_reactor *reactor, void (*each)(void *context, const char *node), void *context);

/* Who waits for the outcome of a proposed command. Called on the reactor's thread, exactly once per proposal.
 */
struct wp_answer {
    void (*answered)(struct wp_answer *answer, uint32_t item, int error);
};
/* Job: proposes a command with the next entry, here or at the leader elsewhere. WP_E_NOT_LEADER,
 * WP_E_DISK_RESERVE, WP_E_CLOSED, WP_E_TOO_LARGE or WP_E_NOMEM: refused, and `answer` is not called. */
int wp_reactor_propose(struct wp_reactor *reactor, uint32_t shard, uint8_t command,
    const ProtobufCMessage *message, struct wp_answer *answer, uint32_t item);

#endif
