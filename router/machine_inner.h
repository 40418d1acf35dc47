/* What the files of the state machine share. Private to router/machine*.c; everybody else reads machine.h.
 *
 * Memory mirrors the store: what an entry changes in memory it also puts into the one batch of the entry,
 * rows that change several times (mailboxes, cursors, streams) once at its end (machine_flush.c). After an
 * error in the middle of an entry the two differ; the machine then refuses every further entry with that
 * error. */
#ifndef WP_ROUTER_MACHINE_INNER_H
#define WP_ROUTER_MACHINE_INNER_H

#include "router/bodies.h"
#include "router/expiry.h"
#include "router/intern.h"
#include "router/journal.h"
#include "router/keys.h"
#include "router/machine.h"
#include "router/mailbox.h"
#include "router/names.h"
#include "router/outbox.h"
#include "router/seen.h"
#include "router/stream.h"

#define WP_INDEX_SIZE_MAX                                                                                    \
    (6u * 11u + 18u + 2u + WP_NAME_SIZE_MAX) /* RecordIndex: six numbers, id, sender                         \
                                              */
#define WP_DEVICE_DIRTY_RECORD 1u
#define WP_DEVICE_DIRTY_CURSOR(lane) (2u << (lane))

struct wp_device {
    uint32_t number;
    uint8_t dirty; /* WP_DEVICE_DIRTY_* */
    bool inbox_subscribed;
    bool receipts_subscribed;
    bool warned;   /* its owner was told that it is idle */
    bool inactive; /* holds no records; kept current by wp_mailbox_touch */
    uint64_t created_ms;
    uint64_t active_ms;
    uint64_t epoch;
    uint8_t secret_hash[WP_SECRET_HASH_SIZE];
    struct wp_cursor cursors[WP_SEQUENCE_COUNT];
    uint64_t
        journal_entries[WP_SEQUENCE_COUNT]; /* last journal row that mentions the cursor; 0 = none does */
    char name[];                            /* NUL-terminated */
};

struct wp_mailbox {
    struct wp_mailbox *dirty_next;
    bool dirty;        /* on the dirty list */
    bool dirty_record; /* RecordMailbox changed */
    bool dirty_user;   /* RecordUser changed */
    uint8_t user_size;
    uint32_t number;
    uint32_t next_device;
    uint32_t device_count;
    struct wp_device **devices; /* in the order of their numbers */
    uint64_t created_ms;
    uint64_t epoch_floor;
    uint64_t bytes;           /* of all messages kept */
    uint64_t inactive_due_ms; /* no device turns inactive before */
    uint64_t journal_entry;   /* last journal row that mentions RecordMailbox; 0 = none does */
    struct wp_lane lanes[WP_SEQUENCE_COUNT];
    char user[]; /* NUL-terminated */
};

struct wp_team {
    uint64_t epoch;
    uint64_t created_ms;
    uint32_t *members; /* interned, ascending by name */
    uint32_t member_count;
    uint32_t member_capacity;
    uint8_t name_size;
    char name[]; /* NUL-terminated */
};

/* A message that ended, or a device that is idle: told to `sender` at the end of the entry. Names are
 * borrowed for as long as the entry. */
struct wp_ended {
    uint32_t destination; /* shard of `sender` */
    uint32_t ordinal;
    struct wp_slice sender;
    struct wp_slice person;
    uint8_t id[WP_UUID_SIZE];
    uint8_t state; /* Wp__ReceiptState */
    int16_t error;
    uint64_t time_ms;
};

/* Messages to delete that follow each other without a gap. */
struct wp_delete_run {
    struct wp_mailbox *mailbox; /* NULL = none */
    uint32_t lane;
    bool stored;  /* with index rows of their own */
    bool records; /* with records of their own */
    uint64_t from;
    uint64_t to;
};

struct wp_machine {
    struct wp_store *store;
    uint32_t shard;
    int failed; /* error that stopped the machine */
    struct wp_machine_limits limits;
    bool limits_known; /* from the log */
    uint64_t limits_version;
    uint64_t applied_index;
    uint64_t time_ms;

    struct wp_names users;
    struct wp_mailbox **mailboxes; /* number - 1 */
    uint32_t mailbox_count;
    uint32_t mailbox_capacity;
    struct wp_names streams;
    struct wp_names rates;
    struct wp_seen *seen;
    struct wp_expiry expiry;
    struct wp_journal journal;
    struct wp_intern intern;
    struct wp_names teams;
    struct wp_bodies bodies;
    uint64_t body_last; /* highest number given out */
    struct wp_outbox outbox;
    uint64_t receipts;             /* rows kept */
    uint64_t drops[WP_DROP_COUNT]; /* not replicated: for the operator */
    uint64_t messages;
    uint64_t bytes;
    uint64_t devices;

    /* The entry being applied. */
    struct wp_state_batch *batch;
    struct wp_mailbox *dirty_mailboxes;
    struct wp_buffer dirty_streams; /* struct wp_stream * */
    struct wp_buffer seen_ids;      /* as RecordSeen.ids */
    uint64_t seen_bucket;
    uint64_t entry_index;
    struct wp_delete_run run;
    struct wp_buffer removals;              /* struct wp_removal */
    struct wp_buffer appended;              /* struct wp_appended */
    uint64_t appended_bytes;                /* of their envelopes */
    struct wp_buffer idle;                  /* struct wp_idle */
    struct wp_buffer ended;                 /* struct wp_ended */
    struct wp_buffer item;                  /* an outbox item being packed */
    struct wp_buffer journal_row;           /* of this entry */
    uint8_t index_value[WP_INDEX_SIZE_MAX]; /* a RecordIndex on its way from the journal to its key */
    int journal_error;                      /* of a mention that its caller could not report */
    struct wp_buffer scratch;               /* a value on its way into the batch */
    struct wp_arena arena;                  /* of one command */
};

/* --- machine_flush.c: records into the batch ---------------------------------------------------------------
 */

void wp_machine_mailbox_dirty(struct wp_machine *machine, struct wp_mailbox *mailbox);
void wp_machine_device_dirty(
    struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device, uint8_t what);
/* RecordMessage, under the key of a message or of a shared body. */
int wp_machine_put_record(struct wp_machine *machine, const struct wp_key *key, uint64_t accepted_ms,
    uint64_t expires_ms, struct wp_slice envelope);
/* RecordIndex of a row. */
struct wp_slice wp_machine_index_encode(
    const struct wp_machine *machine, const struct wp_row *row, uint8_t value[WP_INDEX_SIZE_MAX]);
/* Packs `message` into the scratch buffer and puts it. WP_OK or WP_E_NOMEM. */
int wp_machine_put_packed(
    struct wp_machine *machine, const struct wp_key *key, const ProtobufCMessage *message);
int wp_machine_put_index(
    struct wp_machine *machine, const struct wp_mailbox *mailbox, uint32_t lane, struct wp_row *row);
int wp_machine_put_rate(struct wp_machine *machine, const struct wp_rate *rate);
int wp_machine_put_seen(
    struct wp_machine *machine, uint64_t bucket, uint64_t sender, const uint8_t id[WP_UUID_SIZE]);
/* Deletes the record (or lets go of the shared body) and the index of a message that leaves its lane, joining
 * neighbours into ranges. */
void wp_machine_delete_message(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, const struct wp_row *row);
/* Everything still owed to the batch. */
int wp_machine_flush(struct wp_machine *machine);

/* --- machine_journal.c: small rows written behind
 * ------------------------------------------------------------ */

/* Mentions a row in the journal row of this entry. */
int wp_machine_journal_put(struct wp_machine *machine, const struct wp_key *key, struct wp_slice value);
void wp_machine_journal_gone(struct wp_machine *machine, const struct wp_key *key);
/* Writes the journal row of this entry, and what left the window under its own keys. Last step of an entry.
 */
int wp_machine_journal_close(struct wp_machine *machine);
/* Reads the journal into memory. */
int wp_machine_journal_load(struct wp_machine *machine);
/* Walks what the journal mentions under `tag`, oldest first; the cursor begins as {0}. 1, 0 at the end,
 * WP_E_CORRUPT. */
struct wp_journal_cursor {
    uint32_t row;
    size_t offset;
};
struct wp_journal_mention {
    uint64_t entry;
    bool gone;
    struct wp_key key;
    struct wp_slice value; /* borrowed from the journal */
};
int wp_machine_journal_next(const struct wp_machine *machine, enum wp_key_tag tag,
    struct wp_journal_cursor *cursor, struct wp_journal_mention *ret_mention);

/* --- machine_holding.c: who holds a message, and when it goes
 * ------------------------------------------------- */

/* Notes devices that turned inactive by machine time and drops what only they held. First step of every
 * command that looks at a mailbox. */
void wp_mailbox_touch(struct wp_machine *machine, struct wp_mailbox *mailbox);
/* The device showed itself. */
void wp_mailbox_device_active(
    struct wp_machine *machine, struct wp_mailbox *mailbox, struct wp_device *device);
/* Erases the row from memory and store. */
void wp_mailbox_drop(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint32_t index);
/* Erases the row and tells the caller of apply that nobody gets it any more. WP_OK or WP_E_NOMEM. */
int wp_mailbox_remove(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint32_t index);
/* Keeps what slow devices hold within WP_MAILBOX_KEPT_FACTOR times the bounds. WP_OK or WP_E_NOMEM. */
int wp_mailbox_trim(struct wp_machine *machine, struct wp_mailbox *mailbox);
/* Drops the message when a device acknowledged it and no other holds it. */
bool wp_mailbox_drop_if_free(
    struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint32_t index);
/* The same for every message kept. */
void wp_mailbox_sweep(struct wp_machine *machine, struct wp_mailbox *mailbox);
/* What counts against the bounds: what the most advanced active device still has to get. */
void wp_mailbox_backlog(const struct wp_mailbox *mailbox, uint64_t *ret_messages, uint64_t *ret_bytes);
/* Whether the bounds leave room for a message of `size` bytes: WP_OK or WP_E_MAILBOX_FULL. */
int wp_mailbox_room(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane, uint64_t size);
/* A new row at the tail of a sequence, which the caller of apply is told of; `row` has everything but
 * `sequence`, which is set. With `envelope` (borrowed from the entry) its record is put too, unless the row
 * names a shared body, which it holds from now on. WP_OK or WP_E_NOMEM. */
int wp_mailbox_append(struct wp_machine *machine, struct wp_mailbox *mailbox, uint32_t lane,
    struct wp_row *row, uint64_t accepted_ms, struct wp_slice envelope);
/* Whether a heap entry is a message still kept, and where. */
bool wp_machine_expiry_row(const struct wp_machine *machine, const struct wp_expiry_entry *entry,
    struct wp_mailbox **ret_mailbox, uint32_t *ret_lane, uint32_t *ret_index);

/* --- machine_submit.c
 * ----------------------------------------------------------------------------------------- */

/* Drops the buckets of the duplicate window whose time is over, and with `want_room` what must go to take an
 * id. */
void wp_machine_seen_drop(struct wp_machine *machine, bool want_room);

/* --- machine_receipt.c: how messages end, and who is told
 * -------------------------------------------------------- */

/* Notes an end; `id` is NULL with IDLE. WP_OK or WP_E_NOMEM. */
int wp_machine_ended(struct wp_machine *machine, struct wp_slice sender, const uint8_t *id,
    struct wp_slice person, Wp__ReceiptState state, int error);
/* The same for a message that is kept. */
int wp_machine_row_ended(struct wp_machine *machine, const struct wp_mailbox *mailbox,
    const struct wp_row *row, Wp__ReceiptState state);
/* Brings what ended in this entry to its senders or their outboxes. After the last command. */
int wp_machine_ended_close(struct wp_machine *machine);
/* A receipt for a user of this shard; nothing when no device of the user wants them. */
int wp_machine_receipt_append(struct wp_machine *machine, const struct wp_ended *ended);

/* --- machine_body.c: what the copies of a team message share
 * --------------------------------------------------- */

/* Puts a body under a new number; the caller holds it until wp_machine_body_release. WP_OK or WP_E_NOMEM. */
int wp_machine_body_put(struct wp_machine *machine, uint64_t accepted_ms, uint64_t expires_ms,
    struct wp_slice envelope, uint64_t *ret_number);
/* One holder more. WP_OK or WP_E_NOMEM. */
int wp_machine_body_hold(struct wp_machine *machine, uint64_t number);
/* One holder less; the body goes with the last one. */
void wp_machine_body_release(struct wp_machine *machine, uint64_t number);

/* --- machine_team.c
 * ------------------------------------------------------------------------------------------- */

/* A message for members of a team, at the shard that keeps it for them. */
struct wp_team_message {
    struct wp_slice envelope; /* borrowed from the entry */
    struct wp_slice sender;   /* likewise */
    const uint8_t *id;
    uint32_t lane;
    uint64_t accepted_ms;
    uint64_t expires_ms;
    uint64_t body; /* 0 until the first copy; then held for the fan-out until wp_machine_team_close */
};

struct wp_slice wp_team_key(const void *team);
struct wp_team *wp_machine_team(const struct wp_machine *machine, struct wp_slice name);
bool wp_team_has(const struct wp_machine *machine, const struct wp_team *team, struct wp_slice user);
/* For loading. WP_OK, WP_E_NOMEM or WP_E_CORRUPT. */
int wp_machine_team_load(
    struct wp_machine *machine, struct wp_slice name, uint64_t epoch, uint64_t created_ms);
int wp_machine_member_load(struct wp_machine *machine, struct wp_slice team, struct wp_slice user);
void wp_team_destroy(struct wp_team *team);
/* Queues the message for each member but the sender: here, or in the outbox towards the member's shard. */
int wp_machine_team_send(
    struct wp_machine *machine, const struct wp_team *team, struct wp_team_message *message);
/* Queues it for one member of this shard or refuses it, which the sender is told. */
int wp_machine_team_take(struct wp_machine *machine, struct wp_team_message *message, struct wp_slice user);
/* After the last member of this shard. */
void wp_machine_team_close(struct wp_machine *machine, struct wp_team_message *message);

/* --- machine_outbox.c
 * ----------------------------------------------------------------------------------------- */

/* Shard of a user or team. */
uint32_t wp_machine_shard_of(const struct wp_machine *machine, struct wp_slice name);
uint64_t wp_machine_outbox_bytes_max(const struct wp_machine *machine);
/* Adds an item; `stored` puts it under its own key at once, else it is written behind. WP_OK or WP_E_NOMEM.
 */
int wp_machine_outbox_add(
    struct wp_machine *machine, uint32_t destination, struct wp_slice packed, uint32_t receipts, bool stored);
/* RecordOutbox and RecordWatermark of what changed. */
int wp_machine_outbox_flush(struct wp_machine *machine);

/* --- machine_users.c
 * ------------------------------------------------------------------------------------------ */

/* Key of a mailbox in `users`: the name. */
struct wp_slice wp_mailbox_key(const void *mailbox);
struct wp_mailbox *wp_machine_mailbox(const struct wp_machine *machine, uint64_t number);
struct wp_mailbox *wp_machine_user(const struct wp_machine *machine, struct wp_slice user);
struct wp_device *wp_mailbox_device(const struct wp_mailbox *mailbox, uint64_t number);
struct wp_device *wp_mailbox_device_named(const struct wp_mailbox *mailbox, const char *name);
/* Adds to memory; the caller stores. NULL: out of memory (or, for a mailbox, numbers used up). */
struct wp_mailbox *wp_machine_mailbox_add(struct wp_machine *machine, struct wp_slice user);
struct wp_device *wp_machine_device_add(
    struct wp_machine *machine, struct wp_mailbox *mailbox, const char *name, uint32_t number);
void wp_mailbox_destroy(struct wp_mailbox *mailbox);

/* --- machine_load.c
 * ------------------------------------------------------------------------------------------- */

int wp_machine_load(struct wp_machine *machine);

/* --- machine_limits.c
 * ----------------------------------------------------------------------------------------- */

/* What the log brought replaces what was given at create. Before everything else is loaded. */
int wp_machine_limits_load(struct wp_machine *machine);

/* --- commands: WP_OK with the outcome in *result, or an error that stops the machine
 * -------------------------- */

int wp_apply_submit(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_attach(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_subscribe(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_cursors(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_expire(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_user_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_device_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_device_remove(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_team_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_team_remove(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_team_member_add(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_team_member_remove(
    struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_transfer_in(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_outbox_advance(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_idle_check(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);
int wp_apply_limits(struct wp_machine *machine, struct wp_slice payload, struct wp_result *result);

#endif
