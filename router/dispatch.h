/* Delivery of one shard: which device is attached where, what is on its way to it, what it acknowledged.
 *
 * Soft state of the leader; all of it can be lost and comes back with the next attachments. A sans-I/O
 * machine: events in, effects taken out one by one with wp_dispatch_next, no clock (time is an event), no
 * call back but the pure reads of the index port. One owner thread.
 *
 *   attach -> catching up (backlog from the store) -> live (each message as it is applied) -> detach | kick
 *
 * Bounds: deliveries open per attachment (its window) and their bytes, reads under way, bytes of cached
 * bodies. */
#ifndef WP_ROUTER_DISPATCH_H
#define WP_ROUTER_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "proto/address.h"
#include "proto/fabric.pb-c.h"
#include "router/dispatch_cache.h"
#include "router/machine.h"

struct wp_dispatch;

/* What dispatch asks about replicated state; answers are current as of the last apply. */
struct wp_dispatch_index {
    const void *context;
    /* As wp_machine_next_pending. */
    bool (*next_pending)(const void *context, uint64_t mailbox, uint32_t device, Wp__Lane lane,
        uint64_t after, uint64_t now_ms, struct wp_pending *ret_pending);
    /* As wp_machine_receipt. */
    int (*receipt)(
        const void *context, uint64_t mailbox, uint64_t sequence, struct wp_receipt_view *ret_view);
    /* Messages set aside for the device. */
    uint64_t (*set_aside)(const void *context, uint64_t mailbox, uint32_t device);
};

struct wp_dispatch_config {
    uint32_t shard;
    uint64_t delivery_timeout_ms; /* unacknowledged for so long: the connection ends; 30,000 */
    uint64_t flight_bytes_max;    /* envelopes open towards one session; one always fits; 4 MiB */
    uint64_t read_bytes_max;      /* wanted of one catch-up read; 256 KiB */
    uint32_t reads_max;           /* catch-up reads under way; 4 */
};

/* `cache` is borrowed and may be shared by dispatches of one thread. WP_OK or WP_E_NOMEM. */
int wp_dispatch_create(const struct wp_dispatch_config *config, const struct wp_dispatch_index *index,
    struct wp_body_cache *cache, struct wp_dispatch **ret_dispatch);
void wp_dispatch_destroy(struct wp_dispatch **dispatch);

/* --- events ------------------------------------------------------------------------------------------------
 */

/* Time: `mono_ms` for timeouts and ages, `leader_ms` for expiry. Neither runs backwards. Kicks sessions with
 * a delivery that is unacknowledged for too long. */
void wp_dispatch_tick(struct wp_dispatch *dispatch, uint64_t mono_ms, uint64_t leader_ms);

/* 0 when the device may attach now, else the ms to wait: it had messages set aside and made no progress since
 * (1, 5, 30, 120 s). */
uint64_t wp_dispatch_retry_after_ms(const struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t device);

struct wp_dispatch_attach {
    uint32_t link;    /* the caller's number of the gateway's link */
    uint64_t session; /* chosen by the gateway, unique on its link */
    uint64_t mailbox;
    uint32_t device;
    const char *device_name; /* copied */
    uint64_t epoch;
    uint32_t window;          /* deliveries that may be open, all lanes together; 1..WP_WINDOW_MAX, clamped */
    bool subscribed;          /* to the inbox */
    bool receipts;            /* to the receipts */
    const Wp__Resume *resume; /* NULL: a new connection */
};
/* The attachment is applied (or resumed under its epoch). An older attachment of the device on another
 * session is kicked with WP_E_STALE_EPOCH. WP_E_NOMEM; WP_E_EXISTS: the session number is taken on this link.
 */
int wp_dispatch_attached(struct wp_dispatch *dispatch, const struct wp_dispatch_attach *attach);
/* The connection is gone. WP_E_NOT_FOUND when the session is not attached (it may have been kicked). */
int wp_dispatch_detached(struct wp_dispatch *dispatch, uint32_t link, uint64_t session);
/* Ends the device's session, if it has one: WP_E_NOT_FOUND (removed) or WP_E_STALE_EPOCH (taken over by a
 * connection that is itself gone already). */
void wp_dispatch_kick(struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t device, int error);
/* Ends every session: this router leads the shard no more. */
void wp_dispatch_kick_all(struct wp_dispatch *dispatch, int error);
void wp_dispatch_subscribed(
    struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t device, bool inbox, bool receipts);

/* The link is gone with all its sessions; nothing is sent to them. */
void wp_dispatch_link_down(struct wp_dispatch *dispatch, uint32_t link);
/* The link has credit again. */
void wp_dispatch_link_writable(struct wp_dispatch *dispatch, uint32_t link);

/* Acknowledged positions of a session. Positions that are not open are ignored and counted in *ret_unknown;
 * those that are add to *ret_known. WP_E_NOT_FOUND: no such session. WP_E_NOMEM: some count as not
 * acknowledged. */
int wp_dispatch_acknowledged(struct wp_dispatch *dispatch, uint32_t link, uint64_t session,
    Wp__Positions *const *positions, size_t count, uint32_t *ret_known, uint32_t *ret_unknown);

/* Deliveries that the gateway did not send, since they expired there or are too large for the device: their
 * places in the window are free again. Nothing is acknowledged, and this connection does not get them again.
 * Positions that are not open are ignored. */
void wp_dispatch_skipped(struct wp_dispatch *dispatch, uint32_t link, uint64_t session,
    Wp__Positions *const *positions, size_t count);

/* A message was applied to a mailbox. Devices that wait for nothing else get it at once: those deliveries are
 * written to `effects` (room for WP_DEVICES_MAX), with the envelope borrowed from `body`; for the others it
 * is cached. */
struct wp_effect;
uint32_t wp_dispatch_message(struct wp_dispatch *dispatch, uint64_t mailbox, Wp__Lane lane, uint64_t sequence,
    const struct wp_body *body, struct wp_effect *effects);
/* A receipt was applied to a mailbox: its devices get it in their turn. */
void wp_dispatch_receipt(struct wp_dispatch *dispatch, uint64_t mailbox);
/* A message left the mailbox without an acknowledgement. */
void wp_dispatch_expired(struct wp_dispatch *dispatch, uint64_t mailbox, Wp__Lane lane, uint64_t sequence);

/* What a read found, in order of position, shared bodies among the others; one that is gone is left out.
 * `error` is WP_OK or why it failed. WP_E_CORRUPT: the index knows a message that the store does not have;
 * the process must stop. */
struct wp_read_row {
    uint64_t sequence;
    struct wp_body body;
};
/* A message of the lane whose body stands under a number of its own. */
struct wp_read_shared {
    uint64_t sequence;
    uint64_t body;
};
struct wp_read_request {
    uint64_t mailbox;
    uint32_t device;
    Wp__Lane lane;
    uint64_t from;                       /* first position wanted */
    const struct wp_read_shared *shared; /* wanted besides the records from there on, ascending; borrowed
                                            until the next event */
    uint32_t shared_count;
    uint32_t count_max;
    uint64_t bytes_max; /* stop after the row that reaches it */
    uint64_t token;     /* names the request */
};
int wp_dispatch_read_done(struct wp_dispatch *dispatch, const struct wp_read_request *request, int error,
    const struct wp_read_row *rows, uint32_t row_count);

/* --- effects -----------------------------------------------------------------------------------------------
 */

enum wp_effect_type { WP_EFFECT_KICK, WP_EFFECT_DELIVER, WP_EFFECT_READ };

struct wp_effect {
    enum wp_effect_type type;
    uint32_t link;
    uint64_t session;
    int error; /* KICK */
    struct {
        const char *device_name; /* whose key part goes along; borrowed until the next event */
        Wp__Lane lane;
        uint64_t sequence;
        bool dup;
        bool drained;
        struct wp_body body; /* borrowed until the next event; of a receipt: packed Receipt */
    } deliver;
    struct wp_read_request read;
    struct {
        uint64_t after;
        uint32_t quota;
        bool catching_up;
    } undo; /* dispatch's own */
};

/* Next thing to do; false when there is nothing. Kicks come first. */
bool wp_dispatch_next(struct wp_dispatch *dispatch, struct wp_effect *ret_effect);
/* The link did not take this delivery (no credit): it is due again once the link is writable. Call it before
 * any other event. */
void wp_dispatch_refused(struct wp_dispatch *dispatch, const struct wp_effect *effect);

/* --- cursors: lazily replicated
 * ----------------------------------------------------------------------------- */

/* When the oldest gathered advance is due at the latest (mono ms), UINT64_MAX when nothing is gathered. */
#define WP_CURSORS_DELAY_MS 200u
uint64_t wp_dispatch_cursors_due_ms(const struct wp_dispatch *dispatch);
/* Appends one CommandCursors record with what is gathered (at most about 64 KiB of it) to `entry`; *ret_added
 * says whether there was anything. What was appended is forgotten here. WP_OK or WP_E_NOMEM. */
int wp_dispatch_cursors_take(struct wp_dispatch *dispatch, struct wp_buffer *entry, bool *ret_added);

/* --- reads -------------------------------------------------------------------------------------------------
 */

bool wp_dispatch_device_attached(const struct wp_dispatch *dispatch, uint64_t mailbox, uint32_t device);
struct wp_dispatch_session {
    uint64_t mailbox;
    uint32_t device;
    uint64_t epoch;
    const char *device_name; /* borrowed until the next event */
};
/* False when the session is not attached. */
bool wp_dispatch_session_find(const struct wp_dispatch *dispatch, uint32_t link, uint64_t session,
    struct wp_dispatch_session *ret_session);
uint64_t wp_dispatch_attached_count(const struct wp_dispatch *dispatch);
/* Aborts when an invariant of dispatch.c is broken. For tests: walks everything. */
void wp_dispatch_assert(const struct wp_dispatch *dispatch);

#endif
