/* Small rows written behind. Most rows that a message touches (index, mailbox, cursors, stream) change again
 * within a second; writing each into the store's ordered map every time was most of the cost of a message. So
 * an entry writes its small rows together as ONE journal row, and a row reaches its own key only when nothing
 * mentioned it again in the WP_JOURNAL_ROWS journal rows after that. A message that is acknowledged in that
 * time never writes an index row.
 *
 *     journal row := record*       record := key without the shard, value | gone        (proto/record.proto)
 *
 * Loading reads the rows under their own keys and then the journal, oldest first. The window is counted in
 * rows and bytes of replicated data, so replicas and restarts agree on what stands where.
 *
 * One owner thread. */
#ifndef WP_ROUTER_JOURNAL_H
#define WP_ROUTER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

#ifndef WP_JOURNAL_ROWS /* a test makes it small */
#define WP_JOURNAL_ROWS 512u
#endif
#define WP_JOURNAL_BYTES_MAX (4u * 1024 * 1024)

struct wp_journal_record {
    struct wp_slice key; /* from the tag on */
    struct wp_slice value;
    bool gone; /* the row was removed */
};

/* Appends a record to a journal row. WP_OK or WP_E_NOMEM. */
int wp_journal_append(struct wp_buffer *row, const struct wp_journal_record *record);
/* Next record: 1, 0 at the end, WP_E_CORRUPT. */
int wp_journal_next(struct wp_slice *rest, struct wp_journal_record *ret_record);

struct wp_journal_row {
    uint64_t entry; /* log index that wrote it */
    struct wp_buffer bytes;
};

struct wp_journal {
    struct wp_journal_row rows[WP_JOURNAL_ROWS + 1]; /* ring */
    uint32_t first;
    uint32_t count;
    uint64_t bytes;
};

/* Adds the row of an entry above all before; there is room after wp_journal_overdue was false. WP_OK or
 * WP_E_NOMEM. */
int wp_journal_push(struct wp_journal *journal, uint64_t entry, struct wp_slice bytes);
/* The i-th oldest row. */
const struct wp_journal_row *wp_journal_row_at(const struct wp_journal *journal, uint32_t index);
/* Whether the oldest row has left the window. */
bool wp_journal_overdue(const struct wp_journal *journal);
void wp_journal_pop(struct wp_journal *journal);
void wp_journal_fini(struct wp_journal *journal);

#endif
