/* What the files of the state machine share. Private to router/machine*.c; everybody else reads machine.h.
 *
 * Memory mirrors the store: what an entry changes in memory it also puts into the one batch of the entry,
 * rows that change several times (mailboxes, cursors, streams) once at its end (machine_flush.c). After an
 * error in the middle of an entry the two differ; the machine then refuses every further entry with that
 * error. */
#ifndef WP_ROUTER_MACHINE_INNER_H
#define WP_ROUTER_MACHINE_INNER_H

#include "router/expiry.h"
#include "router/journal.h"
#include "router/keys.h"
#include "router/machine.h"
#include "router/mailbox.h"
#include "router/names.h"
#include "router/seen.h"
#include "router/stream.h"

#define WP_INDEX_SIZE_MAX 33u /* RecordIndex: three fields */
#define WP_DEVICE_DIRTY_RECORD 1u
#define WP_DEVICE_DIRTY_CURSOR(lane) (2u << (lane))

struct wp_device {
    uint32_t number;
    uint8_t dirty; /* WP_DEVICE_DIRTY_* */
    bool inbox_subscribed;
    bool inactive; /* holds no records; kept current by wp_mailbox_touch */
    uint64_t created_ms;
    uint64_t active_ms;
    uint64_t epoch;
    uint8_t secret_hash[WP_SECRET_HASH_SIZE];
    struct wp_cursor cursors[WP_LANE_COUNT];
    uint64_t journal_entries[WP_LANE_COUNT]; /* last journal row that mentions the cursor; 0 = none does */
    char name[];                             /* NUL-terminated */
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
    struct wp_lane lanes[WP_LANE_COUNT];
    char user[]; /* NUL-terminated */
};

/* Messages to delete that follow each other without a gap. */
struct wp_delete_run {
    struct wp_mailbox *mailbox; /* NULL = none */
    uint32_t lane;
    bool stored; /* with index rows of their own */
    uint64_t from;
    uint64_t to;
};

struct wp_machine {
    struct wp_store *store;
    uint32_t shard;
    int failed; /* error that stopped the machine */
    struct wp_machine_limits limits;
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
int wp_machine_put_message(struct wp_machine *machine, const struct wp_mailbox *mailbox, uint32_t lane,
    const struct wp_row *row, struct wp_slice envelope);
/* RecordIndex of a row. */
struct wp_slice wp_machine_index_encode(const struct wp_row *row, uint8_t value[WP_INDEX_SIZE_MAX]);
int wp_machine_put_index(
    struct wp_machine *machine, const struct wp_mailbox *mailbox, uint32_t lane, struct wp_row *row);
int wp_machine_put_rate(struct wp_machine *machine, const struct wp_rate *rate);
int wp_machine_put_seen(
    struct wp_machine *machine, uint64_t bucket, uint64_t sender, const uint8_t id[WP_UUID_SIZE]);
/* Deletes the record and index of a message that leaves its lane, joining neighbours into ranges. */
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
/* Whether a heap entry is a message still kept, and where. */
bool wp_machine_expiry_row(const struct wp_machine *machine, const struct wp_expiry_entry *entry,
    struct wp_mailbox **ret_mailbox, uint32_t *ret_lane, uint32_t *ret_index);

/* --- machine_submit.c
 * ----------------------------------------------------------------------------------------- */

/* Drops the buckets of the duplicate window whose time is over, and with `want_room` what must go to take an
 * id. */
void wp_machine_seen_drop(struct wp_machine *machine, bool want_room);

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

#endif
