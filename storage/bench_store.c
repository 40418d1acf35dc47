/* wp-bench-store: what the storage of this machine gives, beside the floor that its disk sets.
 *
 *   floor    fdatasync of 4 KiB appends, one after the other
 *   log      small log writes of several shards through the committer, a bounded number in flight
 *   state    commits of 16 records while another thread keeps the committer syncing
 *
 * wp-bench-store [--dir DIR] [--seconds S] [--size BYTES] [--window N] */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/metric.h"
#include "storage/store.h"

#define SHARDS 8u

struct bench {
    const char *directory;
    uint64_t run_us;
    uint32_t size;
    uint32_t window;
    struct wp_store *store;
    sem_t room; /* posted when `completed` reaches `awaited` */
    uint64_t submitted;
    uint64_t completed; /* atomic */
    uint64_t awaited;   /* atomic */
    uint64_t next_index[SHARDS];
    bool stop; /* atomic */
};

static void fail(const char *what, int error)
{
    fprintf(
        stderr, "wp-bench-store: %s: %s\n", what, error == WP_E_IO ? strerror(errno) : wp_error_text(error));
    exit(1);
}

static void bench_floor(const struct bench *bench)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/floor", bench->directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail(path, WP_E_IO);
    }
    static const uint8_t block[4096] = {1};
    static struct wp_histogram histogram;
    wp_histogram_init(&histogram);
    uint64_t end_us = wp_clock_mono_us() + bench->run_us / 2;
    while (wp_clock_mono_us() < end_us) {
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block) {
            fail(path, WP_E_IO);
        }
        uint64_t started_us = wp_clock_mono_us();
        if (fdatasync(fd) != 0) {
            fail(path, WP_E_IO);
        }
        wp_histogram_record(&histogram, wp_clock_mono_us() - started_us);
    }
    close(fd);
    unlink(path);
    printf("floor  fdatasync of 4 KiB: p50 %llu us, p99 %llu us, max %llu us (%llu syncs)\n",
        (unsigned long long)wp_histogram_quantile(&histogram, 0.5),
        (unsigned long long)wp_histogram_quantile(&histogram, 0.99), (unsigned long long)histogram.max,
        (unsigned long long)histogram.count);
}

static void write_done(void *context, uint64_t tag)
{
    struct bench *bench = context;
    (void)tag;
    if (__atomic_add_fetch(&bench->completed, 1, __ATOMIC_SEQ_CST) ==
        __atomic_load_n(&bench->awaited, __ATOMIC_SEQ_CST)) {
        sem_post(&bench->room);
    }
}

/* Waits until at most `window` writes are in flight. One wake-up for half a window, as a reactor has it: a
 * wake-up per write would measure the scheduler. */
static void room_wait(struct bench *bench, uint64_t window)
{
    if (bench->submitted - __atomic_load_n(&bench->completed, __ATOMIC_SEQ_CST) < window) {
        return;
    }
    uint64_t awaited = bench->submitted - window / 2;
    __atomic_store_n(&bench->awaited, awaited, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&bench->completed, __ATOMIC_SEQ_CST) < awaited) {
        sem_wait(&bench->room);
    }
}

static void log_submit(struct bench *bench, uint32_t shard, struct wp_bytes *data)
{
    struct wp_log_entry entry = {++bench->next_index[shard], 1, 1, data};
    struct wp_log_write write = {
        .shard = shard, .entries = &entry, .entry_count = 1, .done = write_done, .context = bench};
    /* As a router would: the log keeps the last thousands of entries only. */
    if (entry.index % 4096 == 0) {
        write.drop_below = entry.index - 2048;
    }
    room_wait(bench, bench->window);
    bench->submitted++;
    int error = wp_log_submit(bench->store, &write);
    if (error != WP_OK) {
        fail("log submit", error);
    }
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static void bench_log(struct bench *bench)
{
    struct wp_bytes *data = wp_bytes_create(bench->size);
    if (data == NULL) {
        fail("log data", WP_E_NOMEM);
    }
    memset(data->data, 'x', data->size);
    uint64_t syncs = wp_metric_get(WP_M_LOG_SYNCS);
    double cpu = cpu_seconds();
    uint64_t started_us = wp_clock_mono_us();
    for (uint32_t i = 0; i % 64 != 0 || wp_clock_mono_us() - started_us < bench->run_us; i++) {
        log_submit(bench, i % SHARDS, data);
    }
    uint64_t completed = __atomic_load_n(&bench->completed, __ATOMIC_RELAXED);
    double seconds = (double)(wp_clock_mono_us() - started_us) / 1e6;
    syncs = wp_metric_get(WP_M_LOG_SYNCS) - syncs;
    wp_bytes_release(&data);
    printf("log    %u-byte entries, %u in flight, %u shards: %.0f writes/s, %.0f syncs/s, %.2f us CPU per "
           "write\n",
        bench->size, bench->window, SHARDS, (double)completed / seconds, (double)syncs / seconds,
        (cpu_seconds() - cpu) * 1e6 / (double)(completed ? completed : 1));
}

static void *log_keep_syncing(void *context)
{
    struct bench *bench = context;
    struct wp_bytes *data = wp_bytes_create(bench->size);
    if (data == NULL) {
        fail("log data", WP_E_NOMEM);
    }
    memset(data->data, 'x', data->size);
    /* One in flight after the other: the committer syncs all the time. */
    while (!__atomic_load_n(&bench->stop, __ATOMIC_RELAXED)) {
        log_submit(bench, 0, data);
        room_wait(bench, 1);
    }
    wp_bytes_release(&data);
    return NULL;
}

static void bench_state(struct bench *bench)
{
    static struct wp_histogram histogram;
    wp_histogram_init(&histogram);
    pthread_t syncer;
    if (pthread_create(&syncer, NULL, log_keep_syncing, bench) != 0) {
        fail("thread", WP_E_NOMEM);
    }
    struct wp_state_batch *batch = wp_state_batch_create(bench->store);
    uint8_t *value = calloc(1, bench->size + 1);
    if (batch == NULL || value == NULL) {
        fail("state batch", WP_E_NOMEM);
    }
    uint64_t started_us = wp_clock_mono_us();
    uint64_t count = 0;
    while (wp_clock_mono_us() - started_us < bench->run_us) {
        for (uint64_t i = 0; i < 16; i++) {
            uint8_t key[16];
            wp_put_u64be(key, (count * 16 + i) % 1000);
            wp_put_u64be(key + 8, count);
            wp_state_put(batch, wp_slice(key, sizeof key), wp_slice(value, bench->size));
        }
        uint64_t commit_us = wp_clock_mono_us();
        int error = wp_state_commit(bench->store, batch, 1, ++count, 1);
        wp_histogram_record(&histogram, wp_clock_mono_us() - commit_us);
        if (error != WP_OK) {
            fail("state commit", error);
        }
        wp_state_flush_if_due(bench->store);
        usleep(200);
    }
    __atomic_store_n(&bench->stop, true, __ATOMIC_RELAXED);
    pthread_join(syncer, NULL);
    wp_state_batch_destroy(&batch);
    free(value);
    printf(
        "state  commits of 16 x %u bytes beside a syncing committer: p50 %llu us, p99 %llu us, max %llu us "
        "(%llu commits)\n",
        bench->size, (unsigned long long)wp_histogram_quantile(&histogram, 0.5),
        (unsigned long long)wp_histogram_quantile(&histogram, 0.99), (unsigned long long)histogram.max,
        (unsigned long long)count);
}

static void options_parse(int argc, char **argv, struct bench *bench)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 's'}, {"size", required_argument, NULL, 'b'},
        {"window", required_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            bench->directory = optarg;
            break;
        case 's':
            bench->run_us = strtoull(optarg, NULL, 10) * 1000000;
            break;
        case 'b':
            bench->size = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            bench->window = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        default:
            fprintf(stderr, "usage: wp-bench-store [--dir DIR] [--seconds S] [--size BYTES] [--window N]\n"
                            "example: wp-bench-store --dir /var/tmp/bench --seconds 5 --size 512\n");
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct bench bench = {.directory = "bench-store", .run_us = 3000000, .size = 100, .window = 4096};
    options_parse(argc, argv, &bench);
    if (bench.run_us == 0 || bench.window == 0) {
        fprintf(stderr, "wp-bench-store: --seconds and --window must be at least 1\n");
        return 2;
    }
    struct wp_store_config config = {.path = bench.directory,
        .disk_reserve_bytes = 256u << 20,
        .log_wal_bytes_max = 48u << 20,
        .write_buffer_bytes = 16u << 20,
        .compaction_bytes_max = 64u << 20};
    char text[1024];
    int error = wp_store_open_rocks(&config, &bench.store, text, sizeof text);
    if (error != WP_OK) {
        fprintf(stderr, "wp-bench-store: %s\n", text);
        return 1;
    }
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct wp_log_hard_state hard;
        uint64_t first;
        error = wp_log_load(
            bench.store, shard, UINT64_MAX - 1, &hard, NULL, NULL, &first, &bench.next_index[shard]);
        if (error != WP_OK) {
            fail("log load", error);
        }
    }
    struct wp_store_disk disk;
    wp_store_disk(bench.store, &disk);
    printf("store  \"%s\" on %s, sizes of the playground\n", bench.directory, disk.file_system);
    sem_init(&bench.room, 0, 0);
    bench_floor(&bench);
    bench_log(&bench);
    bench_state(&bench);
    wp_store_close(&bench.store);
    sem_destroy(&bench.room);
    return 0;
}
