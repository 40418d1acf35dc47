/* The outbox of a shard in memory: per other shard the items it is still owed, and what this shard has of the
 * other's outbox. No store and no time in here; machine_outbox.c writes, this keeps count.
 *
 * One owner thread. Items are kept with their bytes: the bound of the outbox bounds the memory. */
#ifndef WP_ROUTER_OUTBOX_H
#define WP_ROUTER_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct wp_outbox_item {
    uint64_t sequence;
    uint64_t journal_entry; /* journal row that has it; 0 = none */
    bool stored;            /* under its own key */
    uint32_t receipts;      /* in it; 0: a team message */
    struct wp_bytes *data;  /* packed OutboxItem */
};

struct wp_outbox_peer {
    uint64_t last;      /* sequence given out last */
    uint64_t watermark; /* the peer has everything up to here */
    uint64_t taken;     /* sequence of the peer's outbox applied last */
    uint64_t journal_entry;
    uint64_t taken_journal_entry;
    bool dirty;
    bool taken_dirty;
    struct wp_outbox_item *items; /* [start, start + count), ascending, all above watermark */
    uint32_t start;
    uint32_t count;
    uint32_t capacity;
    uint64_t bytes;
    uint32_t receipts;
    uint32_t teams;
};

struct wp_outbox {
    struct wp_outbox_peer *peers; /* shard - 1 */
    uint32_t peer_count;
    uint64_t bytes; /* of all items */
    uint64_t items;
    bool dirty; /* some peer is */
};

/* WP_OK or WP_E_NOMEM. */
int wp_outbox_init(struct wp_outbox *outbox, uint32_t shard_count);
void wp_outbox_fini(struct wp_outbox *outbox);
/* NULL when there is no such shard. */
struct wp_outbox_peer *wp_outbox_peer(const struct wp_outbox *outbox, uint64_t shard);

/* Appends an item under a sequence above all pending ones; copies the bytes. WP_OK or WP_E_NOMEM. */
int wp_outbox_push(struct wp_outbox *outbox, struct wp_outbox_peer *peer, uint64_t sequence,
    struct wp_slice packed, uint32_t receipts, struct wp_outbox_item **ret_item);
/* The same wherever the sequence belongs, for loading. */
int wp_outbox_insert(struct wp_outbox *outbox, struct wp_outbox_peer *peer, uint64_t sequence,
    struct wp_slice packed, uint32_t receipts, struct wp_outbox_item **ret_item);
/* NULL when it is not pending. Borrowed until the next push or pop. */
struct wp_outbox_item *wp_outbox_find(const struct wp_outbox_peer *peer, uint64_t sequence);
/* The oldest pending item, NULL when there is none. */
struct wp_outbox_item *wp_outbox_first(const struct wp_outbox_peer *peer);
/* Forgets the oldest item. */
void wp_outbox_pop(struct wp_outbox *outbox, struct wp_outbox_peer *peer);

#endif
