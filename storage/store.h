/* The store port: the two durable things of a router, behind one interface with two bodies.
 *
 *   state   one ordered key-value space, everything the state machines own. Written WITHOUT a write-ahead
 * log: after a crash it is some earlier whole batch boundary (per flush), never torn inside a batch. The log
 *           is the truth; replay from the applied index kept in the same batch repeats what was lost.
 *   log     Raft entries and hard state of every shard. Written only by the committer thread: one synced
 * write at a time, everything that arrived meanwhile goes in the next (group commit).
 *
 * Bodies: storage/rocks (RocksDB, two instances) and storage/sim (ordered map; unsynced writes can vanish or
 * tear). Values carry a version byte and a checksum added and verified inside the body (storage/record.h): a
 * mismatch is WP_E_CORRUPT, is counted, names instance and key in wp_store_error_text, and is never served.
 *
 * Threads: wp_state_* may be called from any thread (a batch or an iterator belongs to one thread at a time).
 * wp_log_submit may be called from any thread; completions run on the committer thread. */
#ifndef WP_STORAGE_STORE_H
#define WP_STORAGE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct wp_store; /* one router's storage */
struct wp_state_install;
struct wp_state_batch; /* atomic group of writes to `state` */
struct wp_state_iter;

#define WP_STORE_SHARDS_MAX 4096u  /* shard numbers are below */
#define WP_STATE_KEY_SIZE_MAX 512u /* bytes; longer keys are a caller's bug */
#define WP_FACT_SIZE_MAX 4096u     /* bytes */

/* --- life -------------------------------------------------------------------------------------------------
 */

struct wp_store_config {
    const char *path;              /* data directory; created when missing; locked against a second process */
    uint64_t disk_reserve_bytes;   /* below so much free space submits are refused; 0 = the default formula */
    uint64_t log_wal_bytes_max;    /* WAL cap of the log instance; 0 = 256 MiB */
    uint64_t write_buffer_bytes;   /* memtable size of state; 0 = 64 MiB; two of them at most */
    uint64_t compaction_bytes_max; /* largest compaction; 0 = 1 GiB */
    bool allow_volatile;           /* allow a tmpfs (tests that need a small full disk) */
    bool accept_loss; /* single voter: start although logs end below the watermark (audited in the log) */
    /* WP_STORE_SHARDS_MAX flags, borrowed for the call; the same for single shards. NULL = none. */
    const bool *accept_loss_shards;
};

/* Opens or creates the RocksDB body. WP_E_BUSY: another process holds the directory. WP_E_CONFIG: reserve
 * below the formula or a volatile file system. WP_E_DENIED: a file or directory may not be opened or made.
 * WP_E_CORRUPT / WP_E_FORGOTTEN / WP_E_IO / WP_E_NO_SPACE. Each with a sentence in `ret_text` (text_size
 * bytes) that names the shard, index or file and says what to do. */
int wp_store_open_rocks(
    const struct wp_store_config *config, struct wp_store **ret_store, char *ret_text, size_t text_size);

/* The smallest disk_reserve_bytes that `config` allows: 2x all memtables + WAL cap + largest compaction.
 * Pure. */
uint64_t wp_store_reserve_bytes_min(const struct wp_store_config *config);

/* Stops the committer after its queue is empty, flushes state, writes the clean-stop watermark, closes. */
void wp_store_close(struct wp_store **store);

/* Called (on any thread) when a write, flush or sync failed for good: WP_E_IO, WP_E_NO_SPACE or WP_E_CORRUPT.
 * The process must stop with exit code 74 and acknowledge nothing more. At most once. */
void wp_store_on_failure(
    struct wp_store *store, void (*callback)(void *context, int error, const char *text), void *context);

/* Last error's text (which instance, operation, key); for logs. Any thread; copied into `out`. */
void wp_store_error_text(struct wp_store *store, char *out, size_t size);

/* 64 random bits that were made with the data directory: another number, another directory. Cheap. */
uint64_t wp_store_directory_id(struct wp_store *store);

/* Whether a record of the directory was found damaged while it was in use (WP_E_CORRUPT of any read, also
 * earlier starts). Needs no open store. */
bool wp_store_damaged(const char *path);

/* Moves a directory that no process holds out of the way, durably: to PATH.damaged-YYYYMMDD-HHMMSS (UTC, "-2"
 * and so on behind it when that is taken), which is written to `ret_path`. WP_E_BUSY: a process holds it, or
 * it is a mount point. WP_E_NOT_FOUND, WP_E_DENIED, WP_E_IO. Each with a sentence in `ret_text`. */
int wp_store_set_aside(const char *path, char *ret_path, size_t path_size, char *ret_text, size_t text_size);

/* --- state ------------------------------------------------------------------------------------------------
 */

struct wp_state_batch *wp_state_batch_create(struct wp_store *store); /* NULL: out of memory */
void wp_state_batch_destroy(struct wp_state_batch **batch);
void wp_state_batch_clear(struct wp_state_batch *batch);
void wp_state_put(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value);
void wp_state_delete(struct wp_state_batch *batch, struct wp_slice key);
/* Every key in [from, to). */
void wp_state_delete_range(struct wp_state_batch *batch, struct wp_slice from, struct wp_slice to);

/* Applies the batch as one; readers see all or nothing. The batch is cleared. `applied` = the shard's log
 * index and term after this batch, stored in the same batch. WP_OK or a failure that is also reported to
 * on_failure. */
int wp_state_commit(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term);

/* Value of `key` appended to `out`. WP_OK, WP_E_NOT_FOUND, WP_E_CORRUPT, WP_E_IO. May read the disk. */
int wp_state_get(struct wp_store *store, struct wp_slice key, struct wp_buffer *out);

/* Iterator over [from, to), bounded on both ends, at the first key. A consistent view of its time of
 * creation. NULL: out of memory. Check wp_state_iter_error when it is no longer valid: WP_OK at the end, else
 * WP_E_CORRUPT/WP_E_IO. */
struct wp_state_iter *wp_state_iter_create(struct wp_store *store, struct wp_slice from, struct wp_slice to);
bool wp_state_iter_valid(struct wp_state_iter *iter);
void wp_state_iter_next(struct wp_state_iter *iter);
struct wp_slice wp_state_iter_key(struct wp_state_iter *iter);
struct wp_slice wp_state_iter_value(struct wp_state_iter *iter); /* unsealed; verified */
int wp_state_iter_error(struct wp_state_iter *iter);
void wp_state_iter_destroy(struct wp_state_iter **iter);

/* Applied position of `shard` as last committed (memory included); 0, 0 when the shard was never written. And
 * the index that a crash right now would fall back to: a lower bound, refreshed after each flush and every
 * 200 ms; cheap. */
void wp_state_applied(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
uint64_t wp_state_durable_index(struct wp_store *store, uint32_t shard);

/* Flushes state in the background when more than a memtable's share of bytes is unflushed; cheap, call each
 * tick. */
void wp_state_flush_if_due(struct wp_store *store);
/* The same now, however little it is: what was committed before is durable soon. */
void wp_state_flush_soon(struct wp_store *store);
/* Flushes now and waits. For clean stop and tests. */
int wp_state_flush(struct wp_store *store);

/* --- log --------------------------------------------------------------------------------------------------
 */

struct wp_log_entry {
    uint64_t index;
    uint64_t term;
    uint8_t kind;          /* raft_entry_type of the engine; opaque here */
    struct wp_bytes *data; /* one reference per holder; NULL is written as no bytes */
};

struct wp_log_hard_state {
    uint64_t term;
    uint64_t voted_for; /* raft id, 0 = none */
    uint64_t replica;   /* raft id of the replica whose log and promises these are; 0 = none yet */
    /* This replica acknowledged entries up to lost_index, in terms up to lost_term, that it holds no more. It
     * must not vote before its log holds so much again, or an entry of a later term. 0, 0 = it holds what it
     * acknowledged. */
    uint64_t lost_index;
    uint64_t lost_term;
};

/* One write of one shard; its parts are applied in this order: truncate, entries, hard state, drop. */
struct wp_log_write {
    uint32_t shard;
    uint64_t truncate_from; /* remove entries >= this index first; 0 = none */
    const struct wp_log_entry
        *entries; /* consecutive indexes; array borrowed for the call, data is retained */
    uint32_t entry_count;
    const struct wp_log_hard_state *hard; /* NULL = unchanged */
    uint64_t drop_below; /* remove entries < this index (log compaction); 0 = none; needs no sync */
    void (*done)(void *context, uint64_t tag); /* on the committer thread, after the sync; NULL allowed */
    void *context;
    uint64_t tag;
};

/* Queues the write; FIFO over all shards. The queue is bounded by the callers' in-flight limits. WP_OK,
 * WP_E_NOMEM. WP_E_INVALID: the entries do not continue the log (after this write's truncation), are not
 * consecutive, or a truncation goes below what was dropped; nothing is queued. An empty log may start at any
 * index; after a drop above its end it goes on at drop_below. After a failed write nothing completes any
 * more, on_failure has been called, and this returns the error of that failure. */
int wp_log_submit(struct wp_store *store, const struct wp_log_write *write);

/* Loads what a restart needs: hard state, and every retained entry with index > after, in order, through
 * `each` (which may retain entry->data; a value other than WP_OK ends the load and is returned). *ret_first,
 * *ret_last = the whole retained range, also the part up to `after`. When nothing is retained: where the log
 * goes on (the last drop_below, or above an installed state) and the index before it; 0, 0: at any index.
 * WP_E_CORRUPT when a record fails its checksum or there is a gap, also between `after` and the first
 * retained entry. WP_E_IO, WP_E_NOMEM. Sees synced writes only. */
int wp_log_load(struct wp_store *store, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last);

/* Entries [first, first + count) for a slow follower, data referenced for the caller (who releases it); fewer
 * when the log ends before. WP_E_NOT_FOUND when `first` is not retained; WP_E_CORRUPT, WP_E_IO, WP_E_NOMEM
 * (then nothing is to be released). Sees synced writes only. May read the disk. */
int wp_log_read(struct wp_store *store, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count);

/* Term and existence of one retained entry. WP_E_NOT_FOUND outside the retained range; WP_E_CORRUPT, WP_E_IO.
 */
int wp_log_term(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t *ret_term);

/* --- a shard as a whole: copied out, wiped, put in
 * ----------------------------------------------------------
 *
 * Every key of `state` begins with its shard as u32be. Wipe, begin, add and commit may wait for the disk and
 * run on any thread, one at a time for a shard. */

/* Everything of the shard at one moment: the rows in ascending order, and the applied position that belongs
 * to them. Nothing of later commits is seen. As every iterator it keeps the files and memtables of its moment
 * from being dropped. NULL: out of memory. */
struct wp_state_iter *wp_state_view_create(
    struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);

/* The shard as if nothing had ever been written but `hard`: no rows, no applied position, no entries, no
 * floor. Durable on return; a crash on the way is finished at the next open, before anybody sees the shard.
 * With the replica that is stored already, what its log held is noted as lost in the new hard state
 * (`hard->lost_*` are not read). The group is closed and its writes are done. WP_E_INVALID: the same replica
 * would forget its term or vote. Any other failure is final (on_failure). */
int wp_store_shard_wipe(struct wp_store *store, uint32_t shard, const struct wp_log_hard_state *hard);

/* Takes rows for the shard beside its present ones, which stay as they are until the commit. WP_E_NO_SPACE:
 * the disk is full; WP_E_IO, WP_E_NOMEM. */
int wp_state_install_begin(struct wp_store *store, uint32_t shard, struct wp_state_install **ret_install);
/* WP_E_INVALID: not above the last key, or not of this shard. WP_E_IO, WP_E_NO_SPACE. */
int wp_state_install_add(struct wp_state_install *install, struct wp_slice key, struct wp_slice value);
/* The rows replace those of the shard, with the applied position (index, term); the log is emptied and goes
 * on above it. Term and vote are kept, but raised to `leader_term`: that of the leader whose committed state
 * this is. Durable on return, always consumed. Before the old rows go, the shard gets a marker in the log:
 * after a crash the next open finishes the installation from the files, or wipes the shard when they are
 * damaged (term, vote and replica kept, its log noted as lost). WP_E_INVALID: `index` is not above the
 * applied position, or below the end of the log: what was acknowledged must not be forgotten. After an error
 * nothing has changed, unless on_failure was called. The group is closed and its writes are done. */
int wp_state_install_commit(
    struct wp_state_install **install, uint64_t index, uint64_t term, uint64_t leader_term);
/* Forgets the rows; the shard is as it was. */
void wp_state_install_abort(struct wp_state_install **install);

/* --- small durable facts of the node (cluster id, hash key, node id): one file each, replaced and fsynced
 * ----- */

/* Names: [a-z0-9._-]{1,64}, not starting with a dot (WP_E_INVALID); values up to WP_FACT_SIZE_MAX bytes. */
int wp_store_fact_get(
    struct wp_store *store, const char *name, struct wp_buffer *out); /* WP_E_NOT_FOUND, WP_E_CORRUPT */
int wp_store_fact_set(struct wp_store *store, const char *name, struct wp_slice value);

/* --- disk -------------------------------------------------------------------------------------------------
 */

struct wp_store_disk {
    uint64_t free_bytes;
    uint64_t reserve_bytes;
    bool full;            /* below the reserve, until 1.5x of it is free again */
    char file_system[16]; /* "ext4", "tmpfs" ... */
};

/* Cached reading, refreshed at most every 200 ms by the store's own thread; cheap. */
void wp_store_disk(struct wp_store *store, struct wp_store_disk *ret_disk);

/* Boot count of this data directory: 1 at its first start, one more at each open. */
uint64_t wp_store_boot(struct wp_store *store);

#endif
