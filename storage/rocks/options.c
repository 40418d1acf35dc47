/* RocksDB's options, with the reason for each that is not the default, and the translation of its error
 * texts.
 *
 * Never set: unordered_write, pipelined write, atomic_flush (raft.md, rule 20), mmap writes, WAL recycling
 * (excludes point-in-time recovery), compression (bodies are small or end-to-end encrypted). */
#include <string.h>

#include "base/error.h"
#include "storage/rocks/rocks.h"

#define KIB 1024ull
#define MIB (1024ull * 1024ull)

static rocksdb_options_t *options_common(const struct rocks_store *store)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_max_write_buffer_number(options, 2);
    rocksdb_options_set_write_buffer_size(options, store->sizes.write_buffer_bytes);
    rocksdb_options_set_max_compaction_bytes(options, store->sizes.compaction_bytes);
    rocksdb_options_set_target_file_size_base(options, store->sizes.write_buffer_bytes);
    /* A compaction of level 0 takes all of it and all of level 1: each may be half of the largest compaction.
     * The fewer of them, the less is written again; reads hardly notice, since the index is in memory and
     * catch-up iterates one lane. */
    rocksdb_options_set_level0_file_num_compaction_trigger(options, store->sizes.level0_files);
    rocksdb_options_set_max_bytes_for_level_base(options, store->sizes.compaction_bytes / 2);
    /* Compaction that lags is answered by the disk reserve, not by stalling the committer. */
    rocksdb_options_set_level0_slowdown_writes_trigger(options, 40);
    rocksdb_options_set_level0_stop_writes_trigger(options, 80);
    rocksdb_options_set_soft_pending_compaction_bytes_limit(options, 0);
    rocksdb_options_set_hard_pending_compaction_bytes_limit(options, 0);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_open_files(options, 512);
    /* Without it a compaction reads block by block. Each of its files has a buffer of this size. */
    rocksdb_options_compaction_readahead_size(options, 256 * KIB);
    /* Spreads the write-back of a flush, so that the committer's next sync does not pay for all of it. */
    rocksdb_options_set_bytes_per_sync(options, MIB);
    rocksdb_options_set_allow_mmap_writes(options, 0);
    rocksdb_options_set_allow_mmap_reads(options, 0);
    /* Nothing into its own log file but what it says at the start: after a write to that file failed (a full
     * disk) the next one ends the process on an assertion. Errors come to us with each call. */
    rocksdb_options_set_info_log_level(options, 4);
    rocksdb_options_set_keep_log_file_num(options, 4);
    rocksdb_options_set_max_log_file_size(options, 4 * MIB);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    return options;
}

static rocksdb_block_based_table_options_t *tables_create(rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *tables = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(tables, cache);
    /* Both instances are read by iteration more than by key, and each block costs its writer and every
     * compaction. */
    rocksdb_block_based_options_set_block_size(tables, 16u * KIB);
    /* Index blocks count against the cache: memory stays bounded whatever the number of files. */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(tables, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(tables, 1);
    rocksdb_block_based_options_set_format_version(tables, 5);
    return tables;
}

void rocks_options_create(struct rocks_store *store)
{
    store->log_cache = rocksdb_cache_create_lru(8 * MIB);
    store->state_cache = rocksdb_cache_create_lru(store->sizes.write_buffer_bytes);
    store->log_tables = tables_create(store->log_cache);
    store->state_tables = tables_create(store->state_cache);
    rocksdb_block_based_options_set_filter_policy(
        store->state_tables, rocksdb_filterpolicy_create_bloom_full(10));

    store->log_options = options_common(store);
    rocksdb_options_set_block_based_table_factory(store->log_options, store->log_tables);
    /* Without the cap, `hard`, which is flushed rarely, would pin every WAL file. */
    rocksdb_options_set_max_total_wal_size(store->log_options, store->sizes.log_wal_bytes);
    rocksdb_options_set_wal_recovery_mode(store->log_options, rocksdb_point_in_time_recovery);
    rocksdb_options_set_allow_concurrent_memtable_write(store->log_options, 0); /* one writer */
    store->hard_options = options_common(store);
    rocksdb_options_set_block_based_table_factory(store->hard_options, store->log_tables);
    rocksdb_options_set_write_buffer_size(store->hard_options, WP_HARD_BUFFER_BYTES);

    store->state_options = options_common(store);
    rocksdb_options_set_block_based_table_factory(store->state_options, store->state_tables);

    store->write_synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write_synced, 1);
    store->write_lazy = rocksdb_writeoptions_create();
    store->write_no_wal = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write_no_wal, 1);
    store->read_plain = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(store->read_plain, 1);
    store->read_persisted = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(store->read_persisted, 1);
    rocksdb_readoptions_set_read_tier(store->read_persisted, 2); /* kPersistedTier */
    store->flush_wait = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(store->flush_wait, 1);

    /* Both instances share RocksDB's pools: with one flush thread, a flush of the log would hold up one of
     * state. */
    rocksdb_env_t *env = rocksdb_create_default_env();
    rocksdb_env_set_high_priority_background_threads(env, 2);
    rocksdb_env_set_background_threads(env, 1);
    rocksdb_env_destroy(env);
}

void rocks_options_destroy(struct rocks_store *store)
{
    rocksdb_options_destroy(store->log_options);
    rocksdb_options_destroy(store->hard_options);
    rocksdb_options_destroy(store->state_options);
    rocksdb_block_based_options_destroy(store->log_tables);
    rocksdb_block_based_options_destroy(store->state_tables);
    rocksdb_cache_destroy(store->log_cache);
    rocksdb_cache_destroy(store->state_cache);
    rocksdb_writeoptions_destroy(store->write_synced);
    rocksdb_writeoptions_destroy(store->write_lazy);
    rocksdb_writeoptions_destroy(store->write_no_wal);
    rocksdb_readoptions_destroy(store->read_plain);
    rocksdb_readoptions_destroy(store->read_persisted);
    rocksdb_flushoptions_destroy(store->flush_wait);
}

void rocks_count_nothing(void)
{
    rocksdb_set_perf_level(rocksdb_disable);
}

int rocks_error(struct rocks_store *store, const char *operation, char **text)
{
    /* RocksDB's C API gives a sentence and no code: "Corruption: ...", "IO error: No space left on device:
     * ...". */
    int error = WP_E_IO;
    if (strncmp(*text, "Corruption", 10) == 0 || strstr(*text, "hecksum mismatch") != NULL ||
        strstr(*text, "No such file or directory") != NULL) { /* a file that the others name is gone */
        error = WP_E_CORRUPT;
    } else if (strstr(*text, "No space left on device") != NULL ||
               strstr(*text, "Disk quota exceeded") != NULL) {
        error = WP_E_NO_SPACE;
    } else if (strstr(*text, "Permission denied") != NULL || strstr(*text, "Read-only file system") != NULL) {
        error = WP_E_DENIED;
    }
    wp_store_note(&store->base, error, "%s: %s", operation, *text);
    rocksdb_free(*text);
    *text = NULL;
    return error;
}
