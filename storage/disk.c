/* Disk full is decided here, before RocksDB meets it: its C API cannot resume after ENOSPC, so the router
 * refuses submits while there is still room for everything that is already on its way (memtables twice, the
 * WAL, one compaction) and for the cursor advances and deletes that make room again. */
#include "storage/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "base/error.h"

#define MIB (1024ull * 1024ull)
#define RESERVE_DEFAULT_BYTES (2048 * MIB)

static wp_disk_reader disk_reader;

void wp_store_sizes(const struct wp_store_config *config, struct wp_store_sizes *ret_sizes)
{
    struct wp_store_sizes sizes = {
        .log_wal_bytes = config->log_wal_bytes_max ? config->log_wal_bytes_max : 256 * MIB,
        .write_buffer_bytes = config->write_buffer_bytes ? config->write_buffer_bytes : 64 * MIB,
        .compaction_bytes = config->compaction_bytes_max ? config->compaction_bytes_max : 1024 * MIB,
    };
    uint64_t level0_files = sizes.compaction_bytes / 2 / sizes.write_buffer_bytes;
    sizes.level0_files = level0_files < 2 ? 2 : level0_files > 16 ? 16 : (int)level0_files;
    /* Two of state, two of the log's entries (same size), two of its small family. */
    sizes.memtable_bytes = 4 * sizes.write_buffer_bytes + 2ull * WP_HARD_BUFFER_BYTES;
    sizes.reserve_bytes_min = 2 * sizes.memtable_bytes + sizes.log_wal_bytes + sizes.compaction_bytes;
    sizes.reserve_bytes = config->disk_reserve_bytes;
    if (sizes.reserve_bytes == 0) {
        sizes.reserve_bytes =
            sizes.reserve_bytes_min > RESERVE_DEFAULT_BYTES ? sizes.reserve_bytes_min : RESERVE_DEFAULT_BYTES;
    }
    *ret_sizes = sizes;
}

void wp_disk_observe(struct wp_store_disk *disk, uint64_t free_bytes)
{
    disk->free_bytes = free_bytes;
    if (free_bytes < disk->reserve_bytes) {
        disk->full = true;
    } else if (free_bytes >= disk->reserve_bytes + disk->reserve_bytes / 2) {
        disk->full = false;
    }
}

int wp_disk_free(const char *path, uint64_t *ret_free_bytes)
{
    if (disk_reader != NULL) {
        return disk_reader(path, ret_free_bytes);
    }
    struct statvfs stats;
    if (statvfs(path, &stats) != 0) {
        return WP_E_IO;
    }
    *ret_free_bytes = (uint64_t)stats.f_bavail * stats.f_frsize;
    return WP_OK;
}

int wp_disk_file_system(const char *path, char ret_name[16], bool *ret_volatile)
{
    static const struct {
        unsigned long magic; /* linux/magic.h */
        const char *name;
        bool in_memory;
    } table[] = {
        {0xEF53, "ext4", false},
        {0x58465342, "xfs", false},
        {0x9123683E, "btrfs", false},
        {0x2FC12FC1, "zfs", false},
        {0xF2F52010, "f2fs", false},
        {0x794C7630, "overlay", false},
        {0x6969, "nfs", false},
        {0x01021997, "9p", false},
        {0x6A656A63, "virtiofs", false},
        {0x65735546, "fuse", false},
        {0x01021994, "tmpfs", true},
        {0x858458F6, "ramfs", true},
    };
    struct statfs stats;
    if (statfs(path, &stats) != 0) {
        return WP_E_IO;
    }
    unsigned long magic = (unsigned long)stats.f_type & 0xFFFFFFFFul;
    snprintf(ret_name, 16, "0x%lx", magic);
    *ret_volatile = false;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].magic == magic) {
            snprintf(ret_name, 16, "%s", table[i].name);
            *ret_volatile = table[i].in_memory;
        }
    }
    return WP_OK;
}

void wp_disk_reader_set(wp_disk_reader reader)
{
    disk_reader = reader;
}
