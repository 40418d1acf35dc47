/* The RocksDB body, inside: two instances below one data directory, and three threads.
 *
 *     PATH/LOCK        flock held for life, holds our pid
 *     PATH/watermark   watermark.h
 *     PATH/facts/      one file per fact
 *     PATH/log/        RocksDB: families entries, hard; written by the committer thread only, synced
 *     PATH/state/      RocksDB: one family; written by any thread, WAL off
 *     PATH/install/    files of shards that are being installed; emptied at each open
 *
 *   committer   swaps the round that submitters build, writes it with one sync, runs its completions
 *   keeper      every 100 ms: watermark (when it moved), every 200 ms: free space
 *   flusher     state flushes when due; refreshes the durable applied indexes
 *
 * Private to storage/rocks and its tests. */
#ifndef WP_STORAGE_ROCKS_ROCKS_H
#define WP_STORAGE_ROCKS_ROCKS_H

#include <pthread.h>
#include <rocksdb/c.h>

#include "base/buffer.h"
#include "storage/body.h"
#include "storage/disk.h"
#include "storage/layout.h"
#include "storage/rocks/watermark.h"

#define ROCKS_PATH_SIZE 1024u

struct rocks_shard {
    uint64_t applied_index; /* as last committed, memory included; under state_guard */
    uint64_t applied_term;
    uint64_t durable_index; /* as last seen by a persisted read; under state_guard */
};

/* One group commit in the making: what submitters queued since the committer took the round before. */
struct rocks_round {
    rocksdb_writebatch_t *batch;
    bool sync; /* something in it must be on disk before its completions */
    uint32_t entry_count;
    struct wp_buffer dones; /* struct rocks_done[] */
    struct wp_buffer moves; /* struct rocks_move[] */
};

struct rocks_done {
    void (*done)(void *context, uint64_t tag);
    void *context;
    uint64_t tag;
};

/* Where a shard's log stands after a write of the round. */
struct rocks_move {
    uint32_t shard;
    bool resets;     /* the shard begins anew: the watermark forgets it first, term and all */
    bool lowers;     /* a truncation: the watermark goes down first */
    uint64_t lowest; /* last index right after the truncation */
    struct wp_log_position after;
};

/* What becomes of the log of a shard as a whole. */
struct rocks_reset {
    uint32_t shard;
    const struct wp_marker *marker; /* only it is set (and hard state replaced) */
    uint64_t floor; /* without marker: everything else goes, and the log goes on here; 0 = anywhere */
    uint64_t term;  /* of the floor */
    const struct wp_log_hard_state *hard; /* NULL = unchanged */
};

struct rocks_store {
    struct wp_store base;
    struct wp_store_sizes sizes;
    char path[ROCKS_PATH_SIZE];
    int lock_fd;
    uint64_t boot;
    uint64_t directory_id;

    rocksdb_options_t *log_options;
    rocksdb_options_t *hard_options;
    rocksdb_options_t *state_options;
    rocksdb_block_based_table_options_t *log_tables;
    rocksdb_block_based_table_options_t *state_tables;
    rocksdb_cache_t *log_cache;
    rocksdb_cache_t *state_cache;
    rocksdb_t *log;
    rocksdb_column_family_handle_t *log_default; /* RocksDB insists on one; unused */
    rocksdb_column_family_handle_t *entries;
    rocksdb_column_family_handle_t *hard;
    rocksdb_t *state;
    rocksdb_writeoptions_t *write_synced;
    rocksdb_writeoptions_t *write_lazy;   /* log, no sync */
    rocksdb_writeoptions_t *write_no_wal; /* state */
    rocksdb_readoptions_t *read_plain;
    rocksdb_readoptions_t *read_persisted;
    rocksdb_flushoptions_t *flush_wait;

    pthread_mutex_t queue_guard; /* of pending, positions, stop */
    pthread_cond_t queue_filled;
    struct rocks_round rounds[2];
    struct rocks_round *pending;
    struct wp_log_position *positions; /* WP_STORE_SHARDS_MAX; as queued */
    struct wp_marker *markers;         /* WP_STORE_SHARDS_MAX; as found at the open; kind 0 = none */
    uint64_t resets_queued;            /* numbers of resets */
    uint64_t resets_done;
    pthread_cond_t reset_done;
    bool committer_waits;
    bool committer_stop;
    pthread_t committer;

    struct wp_watermark watermark;

    pthread_mutex_t state_guard; /* of shards, unflushed_bytes, flusher_* */
    pthread_cond_t flusher_wake;
    struct rocks_shard *shards; /* WP_STORE_SHARDS_MAX */
    uint32_t shard_count;       /* highest shard number seen + 1 */
    uint64_t unflushed_bytes;
    bool flush_due;
    bool flusher_stop;
    pthread_t flusher;

    pthread_mutex_t keeper_guard; /* of disk, keeper_stop */
    pthread_cond_t keeper_wake;
    struct wp_store_disk disk;
    bool disk_readable; /* keeper thread only: says a series of failures once */
    bool keeper_stop;
    pthread_t keeper;
    unsigned threads_started; /* committer, keeper, flusher in this order */
};

/* options.c */
void rocks_options_create(struct rocks_store *store);
void rocks_options_destroy(struct rocks_store *store);
/* For threads that write often: RocksDB counts each comparison of the calling thread, and nobody reads it. */
void rocks_count_nothing(void);
/* Code for RocksDB's error text by operation and words; frees and nulls *text, keeps it in
 * wp_store_error_text. */
int rocks_error(struct rocks_store *store, const char *operation, char **text);

/* shard.c */
int rocks_shard_wipe(struct wp_store *store, uint32_t shard, const struct wp_log_hard_state *hard);
/* Finishes what a crash interrupted, for each shard that carries a marker. Before the threads start. */
int rocks_finish_marked(struct rocks_store *store);
/* Puts `reset` into a batch of the log instance. */
void rocks_reset_build(
    struct rocks_store *store, rocksdb_writebatch_t *batch, const struct rocks_reset *reset);
/* Removes rows and applied position of a shard from state, flushed. A failure is final. */
int rocks_state_drop(struct rocks_store *store, uint32_t shard);

/* install.c */
int rocks_install_create(struct wp_store *store, uint32_t shard, struct wp_state_install **ret_install);
int rocks_install_add(struct wp_state_install *install, struct wp_slice key, struct wp_slice value);
int rocks_install_commit(
    struct wp_state_install *install, uint64_t index, uint64_t term, uint64_t leader_term);
void rocks_install_destroy(struct wp_state_install *install);
/* Makes the folder, or removes what an earlier process left in it. */
int rocks_install_clean(struct rocks_store *store);
/* Takes over the files of an installation. WP_E_CORRUPT, WP_E_IO ...: they are not all there, or damaged. */
int rocks_install_ingest(struct rocks_store *store, uint32_t shard, uint32_t file_count);

/* check.c: what the log on disk holds, found by a read-only open so that a refused start changes nothing.
 * Fills `positions`; with `watermark` positions that the log does not reach: WP_E_FORGOTTEN with a sentence
 * in `text`, or when `accept_loss` an audit line and WP_OK. */
int rocks_check_log(
    struct rocks_store *store, const struct wp_store_config *config, char *text, size_t text_size);
/* State must not be ahead of its log: WP_E_FORGOTTEN. With `accept_loss` the log is made to fit what was
 * accepted: it goes on after what state holds, in no lower term than was known. */
int rocks_check_applied(
    struct rocks_store *store, const struct wp_store_config *config, char *text, size_t text_size);

/* committer.c */
void *rocks_committer_run(void *store);
int rocks_log_submit(struct wp_store *store, const struct wp_log_write *write);
/* Queues the reset and waits until it is synced. A failure is final. */
int rocks_log_reset(struct rocks_store *store, const struct rocks_reset *reset);

/* log.c */
int rocks_log_load(struct wp_store *store, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last);
int rocks_log_read(struct wp_store *store, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count);
int rocks_log_term(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t *ret_term);
/* Hard state and floor (with the term it was set in) of a shard; zeros when never written. */
int rocks_log_hard(struct rocks_store *store, uint32_t shard, struct wp_log_hard_state *ret_hard,
    struct wp_log_position *ret_floor);
/* kind 0: the shard carries none. */
int rocks_log_marker(struct rocks_store *store, uint32_t shard, struct wp_marker *ret_marker);

/* state.c */
struct wp_state_batch *rocks_batch_create(struct wp_store *store);
void rocks_batch_destroy(struct wp_state_batch *batch);
void rocks_batch_clear(struct wp_state_batch *batch);
void rocks_batch_put(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value);
void rocks_batch_delete(struct wp_state_batch *batch, struct wp_slice key);
void rocks_batch_delete_range(struct wp_state_batch *batch, struct wp_slice from, struct wp_slice to);
int rocks_state_commit(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term);
int rocks_state_get(struct wp_store *store, struct wp_slice key, struct wp_buffer *out);
void rocks_state_applied(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
uint64_t rocks_state_durable_index(struct wp_store *store, uint32_t shard);
void rocks_state_flush_if_due(struct wp_store *store);
void rocks_state_flush_soon(struct wp_store *store);
int rocks_state_flush(struct wp_store *store);
/* Keeps RocksDB's text as the store's failure. */
int rocks_state_fail(struct rocks_store *store, const char *operation, char **text);
/* The applied position of a shard as found in state after it was replaced: in memory and durable. */
void rocks_state_set_applied(struct rocks_store *store, uint32_t shard, uint64_t index, uint64_t term);
/* Notes a bad record of state under `key`; returns WP_E_CORRUPT. */
int rocks_state_corrupt(struct rocks_store *store, struct wp_slice key);
/* Applied position of a shard with these options; WP_E_NOT_FOUND when it has none. */
int rocks_applied_read(struct rocks_store *store, const rocksdb_readoptions_t *options, uint32_t shard,
    uint64_t *ret_index, uint64_t *ret_term);
/* Fills `shards` from disk. WP_OK, WP_E_CORRUPT, WP_E_IO. */
int rocks_state_load_applied(struct rocks_store *store);
void *rocks_flusher_run(void *store);

/* iter.c */
struct wp_state_iter *rocks_view_create(struct wp_store *store, struct wp_slice from, struct wp_slice to,
    uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
struct wp_state_iter *rocks_iter_create(struct wp_store *store, struct wp_slice from, struct wp_slice to);
bool rocks_iter_valid(struct wp_state_iter *iter);
void rocks_iter_next(struct wp_state_iter *iter);
struct wp_slice rocks_iter_key(struct wp_state_iter *iter);
struct wp_slice rocks_iter_value(struct wp_state_iter *iter);
int rocks_iter_error(struct wp_state_iter *iter);
void rocks_iter_destroy(struct wp_state_iter *iter);

/* keeper.c */
void *rocks_keeper_run(void *store);
/* Waits for `condition` (made with CLOCK_MONOTONIC) at most so long. */
void rocks_wait_ms(pthread_cond_t *condition, pthread_mutex_t *guard, unsigned wait_ms);
/* One reading of the free space now (the keeper's step; tests call it instead of waiting). */
int rocks_disk_refresh(struct rocks_store *store);
void rocks_disk(struct wp_store *store, struct wp_store_disk *ret_disk);

/* facts.c */
int rocks_fact_get(struct wp_store *store, const char *name, struct wp_buffer *out);
int rocks_fact_set(struct wp_store *store, const char *name, struct wp_slice value);
/* Reads the directory id, made at the first open. */
int rocks_directory_id_load(struct rocks_store *store);

#endif
