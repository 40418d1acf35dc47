/* Free space and what follows from it: the reserve formula, full with hysteresis, the file system's name. */
#ifndef WP_STORAGE_DISK_H
#define WP_STORAGE_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/store.h"

/* The sizes of `config` with the defaults filled in. */
struct wp_store_sizes {
    uint64_t log_wal_bytes;
    uint64_t write_buffer_bytes;
    uint64_t compaction_bytes;
    int level0_files;           /* files of level 0 that start a compaction */
    uint64_t memtable_bytes;    /* all memtables of both instances, at most */
    uint64_t reserve_bytes_min; /* the formula: 2x memtables + WAL cap + largest compaction */
    uint64_t reserve_bytes;     /* what the configuration asks for, or the default */
};
void wp_store_sizes(const struct wp_store_config *config, struct wp_store_sizes *ret_sizes);

#define WP_HARD_BUFFER_BYTES (1024u * 1024u) /* memtable of the log's small family `hard` */

/* Takes a reading: full below the reserve, no longer full from 1.5x the reserve. Pure. */
void wp_disk_observe(struct wp_store_disk *disk, uint64_t free_bytes);

/* Free bytes for an unprivileged writer on the file system of `path`. WP_OK, WP_E_IO. Goes through the hook.
 */
int wp_disk_free(const char *path, uint64_t *ret_free_bytes);

/* Name of the file system of `path` ("ext4"; "0x..." when unknown); *ret_volatile: it lives in memory. WP_OK,
 * WP_E_IO. */
int wp_disk_file_system(const char *path, char ret_name[16], bool *ret_volatile);

/* For tests: what wp_disk_free answers instead of statvfs; NULL puts statvfs back. Set before a store is
 * opened. */
typedef int (*wp_disk_reader)(const char *path, uint64_t *ret_free_bytes);
void wp_disk_reader_set(wp_disk_reader reader);

#endif
