/* What a run costs: CPU time and memory of processes, and the disk's own speed. Linux /proc. */
#ifndef WP_BENCH_PROCESS_H
#define WP_BENCH_PROCESS_H

#include <stdint.h>

struct wp_usage {
    uint64_t cpu_us; /* user + system, all threads, since the process started */
    uint64_t rss_bytes;
};

/* WP_OK or WP_E_NOT_FOUND. */
int wp_usage_read(int pid, struct wp_usage *ret_usage);

struct wp_disk_floor {
    uint64_t p50_us;
    uint64_t p99_us;
    char file_system[16];
};

/* Writes 4 KiB and calls fdatasync, 200 times, in a scratch file in `dir`: what one synced write costs
 * without us. WP_OK or WP_E_IO. */
int wp_disk_floor_measure(const char *dir, struct wp_disk_floor *ret_floor);

#endif
