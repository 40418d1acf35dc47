/* The inside of a reactor, shared by router/reactor*.c only. */
#ifndef WP_ROUTER_REACTOR_STATE_H
#define WP_ROUTER_REACTOR_STATE_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/metric.h"
#include "cluster/group.h"
#include "router/dispatch.h"
#include "router/dispatch_map.h"
#include "router/handover.h"
#include "router/meta.h"
#include "router/reactor.h"
#include "router/roster.h"
#include "router/snapshot.h"

#define PEERS_MAX 1024u /* links of one reactor; a power of two */
#define ENTRY_TARGET_BYTES (256u * 1024)
#define ATTACHES_MAX 65536u /* attach commands under way */
#define JOBS_MAX 4096u
#define READS_MAX 16u /* catch-up reads of one reactor under way */
#define TICK_MS 25u
#define ROUTER_LINKS_MAX 256u
#define FORWARDS_MAX 65536u

/* --- links (reactor_link.c, reactor_peer.c, reactor_router.c)
 * ------------------------------------------------------------------------ */

/* What the user pointer of a link points to. */
enum link_kind { LINK_PEER, LINK_ROUTER, LINK_SNAPSHOT };
struct link_user {
    enum link_kind kind;
};

/* A reply that the link would not take yet. Its kinds have numbers only, no pointers. */
struct held_reply {
    STAILQ_ENTRY(held_reply) next;
    enum wp_frame_type type;
    uint32_t credit;
    union {
        Wp__SubmitReply submit;
        Wp__AttachReply attach;
        Wp__SubscribeReply subscribe;
        Wp__Kick kick;
        Wp__ProposeReply propose;
        Wp__TransferReply transfer;
    };
};

/* A gateway or a router that connected to us. */
struct peer {
    enum link_kind kind; /* first: a link_user */
    bool refusal_logged;
    uint64_t heard_ms;  /* last frame of a router */
    uint64_t forgot_ms; /* since when it shows a directory that forgot; 0 = it does not */
    bool map_due;       /* a gateway whose link did not take what it is to know of leaders */
    uint32_t node;      /* number of a router; 0 = a gateway, or a router that the roster does not know */
    uint32_t number;    /* slot in the low bits, generation above: never reused while anybody may hold it */
    struct wp_link *link;
    STAILQ_HEAD(, held_reply) held;
    uint32_t held_count;
};

/* Our connection to one reactor of another router. */
struct router_link {
    enum link_kind kind; /* first: a link_user */
    bool up;
    uint32_t node;
    uint32_t index; /* of the reactor there */
    struct wp_link *link;
    char endpoint[WP_ENDPOINT_SIZE_MAX];
    char key[WP_KEY_TEXT_SIZE];
};

/* --- entries (reactor_shard.c)
 * ------------------------------------------------------------------------------ */

enum waiter_kind {
    WAIT_NONE,
    WAIT_SUBMIT,
    WAIT_ATTACH,
    WAIT_SUBSCRIBE,
    WAIT_EXPIRE,
    WAIT_LIMITS,
    WAIT_ANSWER,
    WAIT_TRANSFER,
};

/* Who gets the result of one command: as many as commands in the entry, in their order. */
struct waiter {
    uint8_t kind;
    bool inbox; /* SUBSCRIBE */
    bool receipts;
    uint32_t peer;
    uint32_t credit; /* SUBMIT: bytes to give back */
    uint64_t number; /* SUBMIT: ticket; ATTACH, SUBSCRIBE: session; ANSWER: item */
    union {
        uint64_t received_us;           /* SUBMIT */
        uint64_t request;               /* SUBSCRIBE */
        struct attach_wait *attach;     /* ATTACH */
        struct wp_answer *answer;       /* ANSWER */
        struct transfer_wait *transfer; /* TRANSFER; owned */
    };
};

/* Who is told what was taken of an outbox. */
struct transfer_wait {
    uint32_t source;
    uint32_t peer;             /* link of another router, or */
    struct wp_reactor *origin; /* a reactor of this process */
};

struct attach_wait {
    struct wp_map_node node; /* in attaches, by (peer, session) */
    uint32_t peer;
    uint64_t session;
    uint32_t window;
    bool cancelled; /* the device was gone before its attach was applied */
    char device_name[WP_NAME_SIZE_MAX + 1];
};

struct waiters {
    struct waiter *items;
    uint32_t count;
    uint32_t capacity;
};

struct proposal {
    STAILQ_ENTRY(proposal) next;
    struct wp_bytes *entry; /* NULL once the group has it */
    struct waiters waiters;
};
STAILQ_HEAD(proposals, proposal);

/* A shard of this reactor; without a replica here `group` is NULL and so is everything else. Number 0 is the
 * meta group, which has `meta` instead of machine and dispatch. */
struct shard {
    struct wp_reactor *reactor;
    uint32_t number;
    uint64_t replica;    /* raft id of our replica */
    uint64_t leading_ms; /* since when it leads */
    struct wp_handover handover;
    uint64_t placed_to; /* raft id that the operator gave it, when that was us; 0 = nobody */
    struct wp_machine *machine;
    struct wp_meta *meta;
    struct wp_group *group;
    struct wp_dispatch *dispatch;
    struct wp_buffer open; /* entry being filled; empty = none */
    struct waiters open_waiters;
    struct proposals sealed;    /* wait for room in the log */
    struct proposals in_flight; /* proposed, in order */
    uint32_t in_flight_count;
    bool expire_open;              /* an EXPIRE is on its way */
    bool limits_open;              /* a LIMITS is on its way */
    uint64_t idle_checked_ms;      /* when the devices were last looked at */
    struct outbox_sends *sends;    /* reactor_outbox.c */
    uint32_t reads;                /* catch-up reads under way */
    struct replica_change *change; /* it is being closed, wiped or begun (reactor_replica.c): nobody else
                                      opens it; `group` is NULL */
    bool barred;                   /* reactor_form.h: it neither votes nor stands for election */
    bool replacing;                /* it is closed while a snapshot is installed; `group` is NULL */
    uint64_t installed_ms;         /* when one was; 0 = never */
    uint64_t unwanted_ms;          /* since when it seems that this replica was removed; 0 = it does not */
    uint64_t steps_ms;             /* last look of reactor_reconcile.c */
};

/* --- reactor
 * ------------------------------------------------------------------------------------------------- */

struct completion {
    uint32_t shard;
    uint64_t tag;
};

struct wp_reactor {
    struct wp_reactor_config config;
    char endpoint[128];
    pthread_t thread;
    bool thread_started;
    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t timer;
    uv_prepare_t prepare;
    struct wp_fabric *fabric;
    struct wp_roster *roster;        /* one reference */
    struct wp_machine_limits limits; /* what the roster says */

    struct shard *shards; /* shard number n at (n - 1) / reactor_count; the meta group behind the last */
    uint32_t shard_count; /* slots: shards that this reactor would have, with or without a replica */
    struct snapshots snapshots;
    struct wp_body_cache *cache;
    struct peer *peers[PEERS_MAX];
    struct router_link *routers[ROUTER_LINKS_MAX];
    uint32_t router_count;
    struct node_report *reports; /* WP_ROSTER_NODES_MAX; reactor_report.h */
    uint32_t report_count;
    uint64_t reported_ms;
    uint64_t spread_ms;             /* last hand-over for an even spread */
    struct meta_work *meta_work;    /* reactor 0: reactor_meta.c */
    uint64_t form_told_ms;          /* reactor_form.c */
    bool clock_off;                 /* our clock is not to be trusted */
    TAILQ_HEAD(, forward) forwards; /* reactor_propose.c */
    uint32_t forward_count;
    uint64_t forward_last;
    uint32_t peer_generation;
    struct wp_map attaches;
    struct wp_arena frame_arena;
    struct wp_arena apply_arena;
    struct wp_buffer scratch;
    uint64_t mono_ms;
    uint64_t leader_ms;
    bool disk_full;
    bool stopping;
    bool closing;
    bool failed;
    uint64_t stop_deadline_ms;
    uint64_t gauges_ms;
    uint64_t prepared_us; /* when the loop last went to wait */
    uint64_t idle_us;     /* what it had slept by then */
    bool turn_worked;

    /* Hand-overs from other threads. */
    pthread_mutex_t guard;
    struct completion *completions;
    uint32_t completion_count;
    uint32_t completion_capacity;
    struct wp_reactor_job *jobs_first;
    struct wp_reactor_job **jobs_last;
    uint32_t job_count;
    bool hand_over_closed;
    struct completion *completions_taken; /* the other half of the double buffer */
    uint32_t completions_taken_capacity;

    /* Read by other threads; atomics. */
    bool ready;
    bool stop_asked;
    uint64_t turns;
    struct wp_reactor_gauges gauges;
};

/* reactor.c */
void wp_reactor_fail(struct wp_reactor *reactor, int error, const char *what);
/* Proposes what waits, takes the effects of dispatch. At the end of everything that brought events. */
void wp_reactor_settle(struct wp_reactor *reactor);
/* A shard with a replica here; NULL when there is none. */
struct shard *wp_reactor_shard(struct wp_reactor *reactor, uint64_t number);
/* The first (after NULL) or next shard with a replica here; NULL at the end. */
struct shard *wp_shard_next(struct wp_reactor *reactor, const struct shard *shard);
/* The same with the meta group: what has to do with Raft only. */
struct shard *wp_reactor_group_of(struct wp_reactor *reactor, uint64_t number);
struct shard *wp_group_next(struct wp_reactor *reactor, const struct shard *shard);
/* Whether each shard here has a leader; told to other threads. */
void wp_reactor_ready_refresh(struct wp_reactor *reactor);
/* reactor_gauges.c: once a second. */
void wp_reactor_gauges_refresh(struct wp_reactor *reactor);
/* Time for timeouts and for Raft: CLOCK_BOOTTIME in ms, since leases must not stand still while the machine
 * sleeps. */
void wp_reactor_clock(struct wp_reactor *reactor);
void wp_reactor_on_timer(uv_timer_t *timer);
void wp_reactor_on_async(uv_async_t *async);
void wp_reactor_on_prepare(uv_prepare_t *prepare);
/* Leader time now: max(previous, wall clock). */
uint64_t wp_reactor_time(struct wp_reactor *reactor);
void wp_reactor_wake(struct wp_reactor *reactor);

/* reactor_peer.c */
int wp_peer_open(struct wp_reactor *reactor, struct wp_link *link);
void wp_peer_close(struct wp_reactor *reactor, struct peer *peer);
void wp_peer_free(struct peer *peer);
struct peer *wp_peer_find(struct wp_reactor *reactor, uint32_t number);
/* Sends a reply on the control lane, or holds it until the link takes it. `credit` bytes go back when it
 * left. A link that is gone gets nothing: its soft state is gone too. */
void wp_peer_reply(struct wp_reactor *reactor, uint32_t peer, enum wp_frame_type type,
    const ProtobufCMessage *message, uint32_t credit);
void wp_peer_flush(struct wp_reactor *reactor, struct peer *peer);

/* reactor_link.c: callbacks of the fabric */
void wp_reactor_link_up(void *context, struct wp_link *link);
void wp_reactor_link_down(void *context, struct wp_link *link, int error);
void wp_reactor_link_writable(void *context, struct wp_link *link);
void wp_reactor_link_frame(
    void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload);

/* reactor_map.c: everything known to one gateway; one shard, or the routers, to all of them */
void wp_map_tell_all(struct wp_reactor *reactor, struct peer *peer);
void wp_map_tell_shard(struct shard *shard);
void wp_map_tell_routers(struct wp_reactor *reactor);

/* reactor_frames.c */
void wp_reactor_frame(
    struct wp_reactor *reactor, struct peer *peer, enum wp_frame_type type, struct wp_slice payload);

/* reactor_shard.c */
/* Loads what the store has of the shard as raft id `replica`; not started yet. `bootstrap`: what a new group
 * begins with, NULL = this replica waits to be added. */
int wp_shard_open(struct shard *shard, uint64_t replica, const struct wp_membership *bootstrap);
/* Limits with which the machine of a shard here begins. */
struct wp_machine_limits wp_shard_limits(const struct wp_reactor *reactor);
/* Tells the machine of a shard that is led here the limits of the roster, when it has others. */
void wp_shard_limits_tell(struct shard *shard);
/* Frees the replica and what waits for it; no write of it may complete any more. The slot stays. */
void wp_shard_shut(struct shard *shard);
/* reactor_replica.c: at start, opens what is here already or begins here */
int wp_replica_find(struct wp_reactor *reactor, struct shard *shard, uint32_t number);
/* A leader's message for raft id `to` of this node, which is not the replica here: begins it when it is newer
 * and wanted. Later messages find it. */
void wp_replica_called(struct wp_reactor *reactor, uint32_t group, uint64_t to);
/* Each tick: changes go on, replicas that were removed go. */
void wp_replicas_tick(struct wp_reactor *reactor);
bool wp_replicas_busy(const struct wp_reactor *reactor);
void wp_replicas_free(struct wp_reactor *reactor);

/* reactor_reconcile.c: each tick, the membership changes of the groups that are led here */
void wp_reconcile_tick(struct wp_reactor *reactor);
/* Three steps per command: the buffer for one record of `size` bytes with its head (NULL: out of memory),
 * room for its waiter, and once the record is appended the waiter itself. */
struct wp_buffer *wp_shard_entry(struct shard *shard, size_t size);
int wp_shard_waiter_reserve(struct shard *shard);
void wp_shard_wait(struct shard *shard, const struct waiter *waiter);
/* All three for a message. WP_E_NOMEM, WP_E_TOO_LARGE (no entry holds it): nothing is added, `waiter` stays
 * the caller's. */
int wp_shard_command(
    struct shard *shard, uint8_t type, const ProtobufCMessage *message, const struct waiter *waiter);
/* Puts what is gathered of cursors into the open entry. */
void wp_shard_cursors(struct shard *shard);
void wp_shard_propose(struct shard *shard);
/* Whether the open entry still waits for more, since enough of the shard is on its way. */
bool wp_shard_gathers(const struct shard *shard);
bool wp_shard_idle(const struct shard *shard);
/* Answers every waiter with `error`; those of commands that may still be committed, and that nothing
 * recognizes when they come again (ANSWER), with WP_E_TIMEOUT. */
void wp_shard_refuse_all(struct shard *shard, int error);

/* reactor_apply.c */
int wp_shard_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
void wp_waiter_refuse(struct shard *shard, const struct waiter *waiter, int error);
/* Takes effects out of dispatch; true when some were left for the next turn. */
bool wp_shard_pump(struct shard *shard);

/* Sends one delivery, or gives it back to dispatch. */
void wp_shard_deliver(struct shard *shard, const struct wp_effect *effect);

/* reactor_many.c: what was appended goes to the devices that are attached */
void wp_shard_appended(struct shard *shard, const struct wp_appended *appended, uint32_t count);

/* reactor_read.c */
int wp_shard_read(struct shard *shard, const struct wp_read_request *request);

#endif
