#include "bench/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/histogram.h"

#define FLOOR_ROUNDS 200u
#define FLOOR_BLOCK 4096u

int wp_usage_read(int pid, struct wp_usage *ret_usage)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    text[size] = '\0';
    /* The name in parentheses may hold anything; the fields after it are numbers (proc(5)). */
    const char *rest = strrchr(text, ')');
    unsigned long user_ticks, system_ticks;
    long resident_pages;
    if (!rest ||
        sscanf(rest + 1,
            " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
            &user_ticks, &system_ticks, &resident_pages) != 3) {
        return WP_E_NOT_FOUND;
    }
    ret_usage->cpu_us = (uint64_t)(user_ticks + system_ticks) * 1000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    ret_usage->rss_bytes = (uint64_t)resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return WP_OK;
}

static const char *file_system_name(long magic)
{
    static const struct {
        long magic;
        const char *name;
    } rows[] = {{0xEF53, "ext4"}, {0x58465342, "xfs"}, {0x9123683E, "btrfs"}, {0x01021994, "tmpfs"},
        {0x794C7630, "overlay"}, {0x2FC12FC1, "zfs"}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].magic == magic) {
            return rows[i].name;
        }
    }
    return "other";
}

int wp_disk_floor_measure(const char *dir, struct wp_disk_floor *ret_floor)
{
    char path[1024];
    static const uint8_t block[FLOOR_BLOCK];
    struct statfs info;
    snprintf(path, sizeof path, "%s/bench-floor-XXXXXX", dir);
    int fd = mkstemp(path);
    struct wp_histogram *times = malloc(sizeof *times);
    if (fd < 0 || !times || fstatfs(fd, &info) != 0) {
        free(times);
        if (fd >= 0) {
            close(fd);
            unlink(path);
        }
        return WP_E_IO;
    }
    wp_histogram_init(times);
    int error = WP_OK;
    for (unsigned i = 0; i < FLOOR_ROUNDS && !error; i++) {
        uint64_t start_us = wp_clock_mono_us();
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block || fdatasync(fd) != 0) {
            error = WP_E_IO;
        }
        wp_histogram_record(times, wp_clock_mono_us() - start_us);
    }
    close(fd);
    unlink(path);
    ret_floor->p50_us = wp_histogram_quantile(times, 0.50);
    ret_floor->p99_us = wp_histogram_quantile(times, 0.99);
    snprintf(
        ret_floor->file_system, sizeof ret_floor->file_system, "%s", file_system_name((long)info.f_type));
    free(times);
    return error;
}
