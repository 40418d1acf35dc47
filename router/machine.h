/* The replicated state machine of one shard: users, devices, mailboxes, cursors, duplicate ids, streams,
 * expiry, teams, and the outbox towards other shards (docs/fanout.md).
 *
 * apply is deterministic (no wall clock, float, hash-iteration order or pointer order), never fails for what
 * a command says (a refusal is a result), and is the only thing that changes replicated state. It sees no
 * socket, no RocksDB and no Raft. Memory holds the whole index (users, devices, cursors, one small row per
 * message); bodies stay in the store.
 *
 * One owner thread. Times are leader times in milliseconds since the epoch, carried in the entry head; the
 * machine uses max(previous, given). */
#ifndef WP_ROUTER_MACHINE_H
#define WP_ROUTER_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "proto/schema.h"
#include "storage/store.h"

#define WP_LANE_COUNT 3u         /* of messages */
#define WP_SEQUENCE_COUNT 4u     /* of a mailbox: the lanes and the receipts (WP__LANE__RECEIPT) */
#define WP_DEVICES_MAX 16u       /* active devices per user */
#define WP_SET_ASIDE_ATTEMPTS 5u /* deliveries on so many connections, then set aside */
#define WP_WINDOW_MAX 1024u      /* deliveries open per device and lane */

/* A mailbox keeps at most so many times its bounds: beyond, the oldest messages that a device has
 * acknowledged go, whoever else was still to get them. */
#define WP_MAILBOX_KEPT_FACTOR 4u

#ifndef WP_RECEIPTS_MAX        /* a test makes it small */
#define WP_RECEIPTS_MAX 10000u /* rows in the receipts of a mailbox; the oldest goes */
#endif
#define WP_RECEIPT_LIFE_MS (30ull * 24 * 3600 * 1000) /* from the end of the message */
#define WP_TEAMS_MAX 10000u                           /* per shard */
#define WP_TEAM_MEMBERS_MAX 5000u
#define WP_TEAM_BYTES_MAX (256ull << 20) /* envelope of a message times members */
/* Beyond so many rows, or bytes of envelopes times members, appended by one entry a message to a team is
 * refused: what the entry makes must fit into memory, the rows on every replica, the bytes before the sockets
 * of the gateways. */
#define WP_ENTRY_ROWS_MAX 100000u
#define WP_ENTRY_BYTES_MAX (256ull << 20)
#define WP_OUTBOX_BYTES_MAX (64ull << 20) /* per shard; the default of limits.outbox_bytes_max */
#define WP_OUTBOX_KEPT_FACTOR 4u          /* receipts are dropped beyond so many times the bound */

struct wp_machine;

/* What every replica of a shard must have the same. The first seven are state: LIMITS in the log changes
 * them, and what is given at create only holds until the first one. The others never change in a cluster. */
struct wp_machine_limits {
    uint64_t mailbox_messages_max;
    uint64_t mailbox_bytes_max;
    uint64_t body_bytes_max;
    uint64_t ttl_default_ms;
    uint64_t ttl_max_ms;
    uint64_t seen_ids_max;
    uint64_t stat_per_minute_max; /* per sender user; 0 = no limit */
    uint64_t inactive_ms;         /* a device unseen for so long stops holding records; 7 days */
    uint64_t outbox_bytes_max;    /* team messages are refused beyond; 0 = WP_OUTBOX_BYTES_MAX */
    uint8_t hash_key[16];         /* of wp_shard_of */
    uint32_t shard_count;         /* 0 = this shard is the only one */
};

/* Loads the shard's state into memory (reads index rows, no bodies). WP_E_CORRUPT, WP_E_IO, WP_E_NOMEM. */
int wp_machine_create(struct wp_store *store, uint32_t shard, const struct wp_machine_limits *limits,
    struct wp_machine **ret_machine);
void wp_machine_destroy(struct wp_machine **machine);

/* --- apply ------------------------------------------------------------------------------------------------
 */

/* What came of one command, in the order of the commands (`ordinal` counts them in the entry from 0). */
struct wp_result {
    uint32_t ordinal;
    uint8_t command; /* enum wp_command_type */
    int error;       /* WP_OK or the refusal */
    union {
        struct { /* SUBMIT: when error is WP_OK and not duplicate, a message stands in the mailbox. `mailbox`
                    is 0 when it went to a team. What to deliver: wp_applied.appended */
            bool duplicate;
            uint64_t accepted_ms;
            uint64_t expires_ms;
            uint64_t resend_from; /* with WP_E_RESEND */
            uint64_t mailbox;
            Wp__Lane lane;
            uint64_t sequence;
            struct wp_slice envelope; /* packed; borrowed from the entry */
        } submit;
        struct { /* ATTACH */
            uint64_t mailbox;
            uint32_t device;
            uint64_t epoch;
            bool session_present;
            bool inbox_subscribed;
            bool receipts_subscribed;
            uint32_t set_aside; /* messages not offered in this attachment (WP_SET_ASIDE_ATTEMPTS) */
        } attach;
        struct { /* SUBSCRIBE, DEVICE_ADD, DEVICE_REMOVE, USER_ADD */
            uint64_t mailbox;
            uint32_t device;
        } admin;
        struct { /* EXPIRE */
            uint32_t expired;
            bool more; /* the limit was reached and others are due */
        } expire;
        struct { /* TEAM_*: state after it */
            uint64_t epoch;
            uint32_t members;
            uint32_t changed; /* members that came or went */
        } team;
        struct {                /* TRANSFER_IN */
            uint64_t watermark; /* everything of the source up to here was applied */
            uint32_t taken;     /* items that were new */
        } transfer;
    };
};

/* A row that came to a mailbox: a message, a member's copy of a team message, or a receipt. In the order in
 * which they came, which is the order to deliver them in. Copies of one team message stand together and share
 * `envelope`. */
struct wp_appended {
    uint64_t mailbox;
    Wp__Lane lane;
    uint64_t sequence;
    uint64_t accepted_ms;
    uint64_t expires_ms;
    uint64_t body; /* number of the shared body; 0: a record of its own, or a receipt */
    struct wp_slice
        envelope; /* packed; borrowed from the entry. Of a receipt: empty, see wp_machine_receipt */
};

/* A device that was unseen for long: its owner's other devices have been told with a receipt. */
struct wp_idle {
    uint64_t mailbox;
    uint32_t device;
    uint64_t active_ms;
};

/* A position that left a mailbox otherwise than by acknowledgement (expired, or beyond
 * WP_MAILBOX_KEPT_FACTOR): stop delivering it. */
struct wp_removal {
    uint64_t mailbox;
    Wp__Lane lane;
    uint64_t sequence;
};

struct wp_applied {
    const struct wp_result *results; /* in the arena given to apply */
    uint32_t result_count;
    /* The others are borrowed until the next apply. */
    const struct wp_removal *removals;
    uint32_t removal_count;
    const struct wp_appended *appended;
    uint32_t appended_count;
    const struct wp_idle *idle;
    uint32_t idle_count;
};

/* Applies one entry and commits state with (index, term) in one batch. Results live in `arena`. An entry at
 * or below the applied index is skipped with no results; an empty one (a barrier of the log) only moves the
 * applied index. Errors are the store's (the process must stop) or WP_E_NOMEM; an entry that cannot be
 * decoded is WP_E_CORRUPT: it was checked before it was proposed. After an error memory and store differ:
 * every later call gives the same error. */
int wp_machine_apply(struct wp_machine *machine, uint64_t index, uint64_t term, struct wp_slice entry,
    struct wp_arena *arena, struct wp_applied *ret_applied);

/* --- leader reads: pure, current as of the last apply
 * -------------------------------------------------------- */

struct wp_device_view {
    uint64_t mailbox;
    uint32_t device; /* number in the mailbox */
    uint64_t epoch;
    bool inbox_subscribed;
    bool receipts_subscribed;
};

/* Keyed BLAKE2b-256 of a device's secret, for CommandDeviceAdd.secret_hash; `key` as in
 * wp_machine_authenticate. */
#define WP_SECRET_HASH_SIZE 32u
void wp_machine_secret_hash(
    const uint8_t key[32], struct wp_slice secret, uint8_t ret_hash[WP_SECRET_HASH_SIZE]);

/* Whether the credentials open the device; constant time in the secret. `key` is the 32-byte key of the
 * secret hash. WP_OK or WP_E_AUTH (unknown user, device or wrong secret alike). */
int wp_machine_authenticate(const struct wp_machine *machine, const uint8_t key[32], const char *user,
    const char *device, struct wp_slice secret, struct wp_device_view *ret_view);
int wp_machine_device_find(
    const struct wp_machine *machine, const char *user, const char *device, struct wp_device_view *ret_view);
bool wp_machine_user_exists(const struct wp_machine *machine, const char *user);
/* The name that belongs to a mailbox number; NULL when there is none. */
const char *wp_machine_mailbox_user(const struct wp_machine *machine, uint64_t mailbox);

/* Next message that `device` still has to get in `lane` at a position > after: not passed, not acknowledged,
 * not set aside, not expired at `now_ms`. False when there is none. O(log n) or better. */
struct wp_pending {
    uint64_t sequence;
    uint64_t expires_ms;
    uint32_t size;
    bool sent_before; /* goes out with DUP */
    uint64_t body;    /* number of the shared body; 0: a record of its own, or a receipt */
};
bool wp_machine_next_pending(const struct wp_machine *machine, uint64_t mailbox, uint32_t device,
    Wp__Lane lane, uint64_t after, uint64_t now_ms, struct wp_pending *ret_pending);

/* A receipt that is kept; `person` is borrowed until the machine ends. WP_E_NOT_FOUND when it left. */
struct wp_receipt_view {
    uint8_t id[16]; /* zero with WP__RECEIPT_STATE__IDLE */
    const char *person;
    Wp__ReceiptState state;
    int error;
    uint64_t time_ms;
    uint64_t expires_ms;
};
int wp_machine_receipt(
    const struct wp_machine *machine, uint64_t mailbox, uint64_t sequence, struct wp_receipt_view *ret_view);

/* Reads bodies for catch-up, on ANY thread, without touching the machine: keys of [from, to] in one lane,
 * which are those with records of their own. WP_OK or WP_E_NOMEM. */
int wp_machine_message_range(uint32_t shard, uint64_t mailbox, Wp__Lane lane, uint64_t from, uint64_t to,
    struct wp_buffer *ret_from_key, struct wp_buffer *ret_to_key);
/* Position and decoded record of an iterator row of that range. WP_OK or WP_E_CORRUPT. */
int wp_machine_message_decode(struct wp_slice key, struct wp_slice value, struct wp_arena *arena,
    uint64_t *ret_sequence, Wp__RecordMessage **ret_record);

/* Key of a shared body, whose value is a RecordMessage too. WP_OK or WP_E_NOMEM. */
int wp_machine_body_key(uint32_t shard, uint64_t body, struct wp_buffer *ret_key);

/* Earliest expiry of any message kept, UINT64_MAX when none: propose EXPIRE when leader time is past it. A
 * lower bound. */
uint64_t wp_machine_expiry_due_ms(const struct wp_machine *machine);

/* How far back the duplicate window reaches at `now_ms`: 24 h unless it had to shrink. For the metric. */
uint64_t wp_machine_seen_window_ms(const struct wp_machine *machine, uint64_t now_ms);

/* Whether the machine was never told its limits, or others than `limits` by a roster older than `version`:
 * propose LIMITS. */
bool wp_machine_limits_due(
    const struct wp_machine *machine, uint64_t version, const struct wp_machine_limits *limits);

/* Whether a device was unseen for long and its owner was not told yet: propose IDLE_CHECK. O(devices). */
bool wp_machine_idle_due(const struct wp_machine *machine, uint64_t now_ms);

/* What was given up, for the operator to see. */
enum wp_drop {
    WP_DROP_RECEIPT_OUTBOX,    /* a receipt: the outbox was over its bound */
    WP_DROP_RECEIPT_DISPLACED, /* the oldest receipt of a sender with WP_RECEIPTS_MAX, for a newer one */
    WP_DROP_RECEIPT_OLD,       /* a receipt that no device took in WP_RECEIPT_LIFE_MS */
    WP_DROP_COPY_REFUSED,      /* a member's copy of a team message: no such user, or no room */
    WP_DROP_COPY_EXPIRED,      /* a member's copy that came after its expiry */
    WP_DROP_COUNT
};

struct wp_machine_totals {
    uint64_t users, devices, messages, bytes;
    uint64_t receipts; /* rows kept */
    uint64_t bodies;   /* shared */
    uint64_t teams;
    uint64_t outbox_items;
    uint64_t outbox_bytes;
    uint64_t drops[WP_DROP_COUNT]; /* since the machine was created */
};
void wp_machine_totals(const struct wp_machine *machine, struct wp_machine_totals *ret_totals);

/* Calls `each` for every user in name order. */
struct wp_user_view {
    const char *user;
    uint64_t mailbox;
    uint64_t created_ms;
    uint64_t queued[WP_LANE_COUNT];
    uint64_t queued_bytes;
    uint32_t devices;
};
void wp_machine_users_each(const struct wp_machine *machine,
    void (*each)(void *context, const struct wp_user_view *view), void *context);
/* Calls `each` for every device of `user` that is not removed; WP_E_NOT_FOUND without the user. */
struct wp_device_detail {
    const char *device;
    uint32_t number;
    uint64_t created_ms;
    uint64_t epoch;
    uint64_t active_ms;
    bool inbox_subscribed;
    bool receipts_subscribed;
    bool inactive; /* as of the last command that looked at the mailbox */
    uint64_t pending[WP_SEQUENCE_COUNT];
    uint64_t set_aside;
};
int wp_machine_devices_each(const struct wp_machine *machine, const char *user,
    void (*each)(void *context, const struct wp_device_detail *detail), void *context);

/* --- teams */

struct wp_team_view {
    const char *team;
    uint64_t created_ms;
    uint64_t epoch;
    uint32_t members;
};
/* Calls `each` for every team in name order. */
void wp_machine_teams_each(const struct wp_machine *machine,
    void (*each)(void *context, const struct wp_team_view *view), void *context);
/* Calls `each` for every member of `team` in name order; WP_E_NOT_FOUND without the team. */
int wp_machine_members_each(const struct wp_machine *machine, const char *team,
    void (*each)(void *context, const char *user), void *context);

/* --- outbox: what this shard owes to others */

struct wp_outbox_view {
    uint64_t first;    /* oldest item pending; last + 1 when there is none */
    uint64_t last;     /* newest item ever */
    uint64_t bytes;    /* of the items pending */
    uint32_t receipts; /* pending receipts */
    uint32_t teams;    /* pending team messages */
};
/* False when `destination` is no other shard. */
bool wp_machine_outbox(
    const struct wp_machine *machine, uint32_t destination, struct wp_outbox_view *ret_view);
/* Packed OutboxItem of a pending sequence, and how many receipts it is (0: a team message); empty when it is
 * not pending. Borrowed until the next apply. */
struct wp_slice wp_machine_outbox_item(
    const struct wp_machine *machine, uint32_t destination, uint64_t sequence, uint32_t *ret_receipts);
/* What this shard has of the outbox of `source`. */
uint64_t wp_machine_taken(const struct wp_machine *machine, uint32_t source);

/* XXH3 of all replicated state in key order, for comparing replicas and restarts. Reads everything: tests and
 * tools only. */
int wp_machine_hash(struct wp_machine *machine, uint64_t *ret_hash);

#endif
