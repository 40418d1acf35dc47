/* A mailbox in memory: the rows of its three lanes and of its receipts, and the cursors of its devices. No
 * store and no time in here; the machine decides, this keeps count.
 *
 * One owner thread. Limits: a lane spans fewer than 2^32 positions (machine_submit.c refuses beyond). */
#ifndef WP_ROUTER_MAILBOX_H
#define WP_ROUTER_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/* --- lane: the messages kept, ascending
 * ---------------------------------------------------------------------- */

struct wp_row {
    uint64_t sequence;
    uint64_t expires_ms;
    uint64_t body;   /* number of the shared body; 0: a record of its own, or a receipt */
    uint8_t id[16];  /* of the message */
    uint32_t sender; /* interned: who hears how the message ends; of a receipt: the person. 0 = nobody */
    uint32_t size;   /* what counts against the bounds; 0 of a receipt */
    uint8_t receipt_state; /* Wp__ReceiptState of a receipt */
    int16_t receipt_error;
    uint32_t acknowledged : 1; /* by at least one device */
    uint32_t stored : 1;       /* has an index row under its own key */
    uint32_t journaled : 1;    /* the journal mentions it, last in the row that `journal_low` tells */
    uint32_t journal_low : 29; /* low bits of an entry */
};
#define WP_ROW_JOURNAL_LOW(entry) ((uint32_t)((entry)&0x1fffffff))

struct wp_lane {
    struct wp_row *rows; /* [start, start + count) are in use */
    uint32_t start;
    uint32_t count;
    uint32_t capacity;
    uint64_t tail; /* last position given out; 0 = none yet */
};

#define WP_ROW_NONE UINT32_MAX

static inline struct wp_row *wp_lane_row(const struct wp_lane *lane, uint32_t index)
{
    return &lane->rows[lane->start + index];
}
/* First position kept, tail + 1 when empty. */
static inline uint64_t wp_lane_head(const struct wp_lane *lane)
{
    return lane->count ? lane->rows[lane->start].sequence : lane->tail + 1;
}

/* Index of the first row with a sequence >= `sequence`; lane->count when there is none. */
uint32_t wp_lane_lower_bound(const struct wp_lane *lane, uint64_t sequence);
/* Index of the row, WP_ROW_NONE when it is not kept. */
uint32_t wp_lane_find(const struct wp_lane *lane, uint64_t sequence);
/* Appends a row above the last. WP_OK or WP_E_NOMEM. */
int wp_lane_append(struct wp_lane *lane, const struct wp_row *row);
/* Puts a row where its sequence belongs; it is not there yet. For loading. WP_OK or WP_E_NOMEM. */
int wp_lane_insert(struct wp_lane *lane, const struct wp_row *row);
/* Removes one row by moving the shorter side. */
void wp_lane_erase(struct wp_lane *lane, uint32_t index);
void wp_lane_fini(struct wp_lane *lane);

/* --- cursor of a device in a lane
 * ------------------------------------------------------------------------------ */

/* A message at or below `passed` that the device still has to get: a hole in what it acknowledged. */
struct wp_owed {
    uint64_t sequence;
    uint32_t attempts; /* attachments that ended because it, or one sent with it, was not acknowledged */
    bool set_aside;    /* not offered in this attachment */
};

/* Every message kept above `passed` is owed to the device; of those at or below it, exactly the ones in
 * `owed`. The list is short: what was in flight when something above it was acknowledged or the device
 * attached anew. */
struct wp_cursor {
    uint64_t passed;
    uint64_t sent;        /* highest position ever sent */
    uint64_t overdue;     /* highest position sent when a connection was ended for an unacknowledged one */
    struct wp_owed *owed; /* ascending */
    uint32_t owed_count;
    uint32_t owed_capacity;
    uint32_t pending; /* messages owed, set aside ones included */
    uint64_t pending_bytes;
};

enum wp_owing { WP_SETTLED, WP_OWED, WP_OWED_SET_ASIDE };

/* What the device owes of a message that is kept. */
enum wp_owing wp_cursor_owing(const struct wp_cursor *cursor, uint64_t sequence);

/* Index of the first hole with a sequence >= `sequence`. */
uint32_t wp_cursor_lower_bound(const struct wp_cursor *cursor, uint64_t sequence);

/* A message was appended to the lane above everything. */
void wp_cursor_appended(struct wp_cursor *cursor, const struct wp_row *row);

/* The device acknowledged `sequence` (<= lane->tail). *ret_settled: it was owed and kept. WP_OK or
 * WP_E_NOMEM. */
int wp_cursor_acknowledge(
    struct wp_cursor *cursor, const struct wp_lane *lane, uint64_t sequence, bool *ret_settled);

/* A row is about to be erased from the lane. */
void wp_cursor_forget(struct wp_cursor *cursor, const struct wp_row *row);

/* Makes a kept message that is settled owed again. WP_OK or WP_E_NOMEM. */
int wp_cursor_owe(struct wp_cursor *cursor, const struct wp_row *row);

/* A new attachment: when the last one was ended for an unacknowledged delivery, what was sent in it and not
 * acknowledged counts an attempt (a connection that merely broke counts nothing); at `attempts_max`
 * it is set aside for this attachment, and what was set aside in the last one is offered again.
 * *ret_set_aside: how many are set aside now. WP_OK or WP_E_NOMEM. */
int wp_cursor_attach(
    struct wp_cursor *cursor, const struct wp_lane *lane, uint32_t attempts_max, uint32_t *ret_set_aside);

/* Counts pending anew from the lane, after loading. */
void wp_cursor_recount(struct wp_cursor *cursor, const struct wp_lane *lane);
/* Appends a hole, above the last; for loading. WP_OK or WP_E_NOMEM. */
int wp_cursor_push(struct wp_cursor *cursor, const struct wp_owed *owed);
void wp_cursor_fini(struct wp_cursor *cursor);

#endif
