/* The committer and the state instance at work: group commit, many threads at once, and bounded files on
 * disk. */
#include "tests/unit/test_storage_rocks.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/metric.h"
#include "base/prng.h"

#define MIB (1024ull * 1024ull)

static char directory[128];
static struct wp_store *store;

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "%s", rocks_directory_new());
    store = rocks_open(directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wp_store_close(&store);
    rocks_directory_remove(directory);
    return 0;
}

static sem_t held;
static sem_t release;

static void hold_committer(void *context, uint64_t tag)
{
    (void)context;
    (void)tag;
    sem_post(&held);
    sem_wait(&release);
}

static void what_arrives_during_a_sync_goes_in_the_next_one(void **state)
{
    (void)state;
    sem_init(&held, 0, 0);
    sem_init(&release, 0, 0);
    struct wp_log_hard_state hard = {.term = 1, .voted_for = 1};
    struct wp_log_write write = {.shard = 1, .hard = &hard, .done = hold_committer};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    sem_wait(&held); /* the committer is busy; everything from here on queues up */
    uint64_t syncs = wp_metric_get(WP_M_LOG_SYNCS);
    uint64_t entries = wp_metric_get(WP_M_LOG_ENTRIES);
    for (uint64_t index = 1; index <= 100; index++) {
        for (uint32_t shard = 1; shard <= 8; shard++) {
            assert_int_equal(suite_append(store, shard, index, index, 1), WP_OK);
        }
    }
    sem_post(&release);
    rocks_settle(store);
    /* One for the 800 writes; at most one more when the settling write came after it had begun. */
    assert_in_range(wp_metric_get(WP_M_LOG_SYNCS) - syncs, 1, 2);
    assert_int_equal(wp_metric_get(WP_M_LOG_ENTRIES) - entries, 800);
}

static void a_drop_alone_needs_no_sync(void **state)
{
    (void)state;
    assert_int_equal(suite_append(store, 1, 1, 10, 1), WP_OK);
    rocks_settle(store);
    sem_init(&held, 0, 0);
    sem_init(&release, 0, 1);
    uint64_t syncs = wp_metric_get(WP_M_LOG_SYNCS);
    struct wp_log_write write = {.shard = 1, .drop_below = 5, .done = hold_committer};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    sem_wait(&held);
    assert_int_equal(wp_metric_get(WP_M_LOG_SYNCS), syncs);
}

struct worker {
    pthread_t thread;
    uint32_t shard;
    uint64_t last;      /* of the log, in the end */
    uint64_t completed; /* highest tag, by the committer */
    bool out_of_order;
};

static void worker_done(void *context, uint64_t tag)
{
    struct worker *worker = context;
    worker->out_of_order = worker->out_of_order || tag != worker->completed + 1;
    worker->completed = tag;
}

/* Appends, sometimes truncates and goes on in a higher term, now and then drops the oldest half. */
static void *log_work(void *context)
{
    struct worker *worker = context;
    struct wp_prng prng;
    wp_prng_init(&prng, worker->shard);
    uint64_t term = 1;
    uint64_t floor = 1;
    for (uint64_t tag = 1; tag <= 1500; tag++) {
        struct wp_log_write write = {
            .shard = worker->shard, .done = worker_done, .context = worker, .tag = tag};
        if (wp_prng_below(&prng, 20) == 0 && worker->last > floor + 4) {
            write.truncate_from = worker->last - wp_prng_below(&prng, 4);
            worker->last = write.truncate_from - 1;
            term++;
        }
        if (wp_prng_below(&prng, 50) == 0 && worker->last > floor) {
            floor += (worker->last - floor) / 2;
            write.drop_below = floor;
        }
        char text[64];
        uint64_t index = ++worker->last;
        snprintf(text, sizeof text, "%u/%llu/%llu", worker->shard, (unsigned long long)index,
            (unsigned long long)term);
        struct wp_log_entry entry = {index, term, 1, wp_bytes_copy(text, strlen(text))};
        write.entries = &entry;
        write.entry_count = 1;
        if (wp_log_submit(store, &write) != WP_OK) {
            worker->last = 0;
        }
        wp_bytes_release(&entry.data);
    }
    return NULL;
}

/* Commits batches of two keys that must always agree. */
static void *state_work(void *context)
{
    struct worker *worker = context;
    struct wp_state_batch *batch = wp_state_batch_create(store);
    for (uint64_t index = 1; index <= 1500; index++) {
        uint8_t key[2] = {(uint8_t)worker->shard, 'a'};
        uint8_t value[8];
        wp_put_u64be(value, index);
        wp_state_put(batch, wp_slice(key, 2), wp_slice(value, 8));
        key[1] = 'b';
        wp_state_put(batch, wp_slice(key, 2), wp_slice(value, 8));
        if (wp_state_commit(store, batch, worker->shard, index, 1) != WP_OK) {
            break;
        }
        struct wp_state_iter *iter = wp_state_iter_create(store, wp_slice(key, 1), SLICE("\xff"));
        uint8_t seen[8];
        memcpy(seen, wp_state_iter_value(iter).data, 8);
        wp_state_iter_next(iter);
        worker->out_of_order = worker->out_of_order || memcmp(seen, wp_state_iter_value(iter).data, 8) != 0;
        wp_state_iter_destroy(&iter);
        worker->last = index;
        if (index % 500 == 0) {
            wp_state_flush(store);
        }
    }
    wp_state_batch_destroy(&batch);
    return NULL;
}

static int entry_check(void *context, const struct wp_log_entry *entry)
{
    const struct worker *worker = context;
    char text[64];
    snprintf(text, sizeof text, "%u/%llu/%llu", worker->shard, (unsigned long long)entry->index,
        (unsigned long long)entry->term);
    assert_int_equal(entry->data->size, strlen(text));
    assert_memory_equal(entry->data->data, text, strlen(text));
    return WP_OK;
}

static void many_threads_do_not_mix(void **state)
{
    (void)state;
    struct worker workers[6] = {0};
    for (uint32_t i = 0; i < 6; i++) {
        workers[i].shard = i + 1;
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, i < 4 ? log_work : state_work, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < 6; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (int round = 0; round < 2; round++) {
        rocks_settle(store);
        for (uint32_t i = 0; i < 4; i++) {
            struct wp_log_hard_state hard;
            uint64_t first;
            uint64_t last;
            assert_int_equal(
                wp_log_load(store, workers[i].shard, workers[i].last, &hard, NULL, NULL, &first, &last),
                WP_OK);
            assert_int_equal(last, workers[i].last);
            assert_int_equal(wp_log_load(store, workers[i].shard, first - 1, &hard, entry_check, &workers[i],
                                 &first, &last),
                WP_OK);
            assert_int_equal(workers[i].completed, 1500);
            assert_false(workers[i].out_of_order);
        }
        for (uint32_t i = 4; i < 6; i++) {
            uint64_t index;
            uint64_t term;
            wp_state_applied(store, workers[i].shard, &index, &term);
            assert_int_equal(index, 1500);
            assert_int_equal(workers[i].last, 1500);
            assert_false(workers[i].out_of_order);
        }
        wp_store_close(&store);
        store = rocks_open(directory);
    }
}

/* Bytes of the files in PATH/folder whose name ends in suffix. */
static uint64_t files_size(const char *folder, const char *suffix)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, folder);
    DIR *listing = opendir(path);
    assert_non_null(listing);
    uint64_t total = 0;
    struct dirent *row;
    while ((row = readdir(listing)) != NULL) {
        struct stat stats;
        size_t length = strlen(row->d_name);
        snprintf(path, sizeof path, "%s/%s/%s", directory, folder, row->d_name);
        if (length > strlen(suffix) && strcmp(row->d_name + length - strlen(suffix), suffix) == 0 &&
            stat(path, &stats) == 0) {
            total += (uint64_t)stats.st_size;
        }
    }
    closedir(listing);
    return total;
}

static void wal_and_dropped_entries_give_their_space_back(void **state)
{
    (void)state;
    /* A hard state at the very beginning: its family is flushed rarely and must not pin the WAL. */
    struct wp_log_hard_state hard = {.term = 1, .voted_for = 1};
    struct wp_log_write write = {.shard = 2, .hard = &hard};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    struct wp_bytes *data = wp_bytes_create(32 * 1024);
    struct wp_prng prng;
    wp_prng_init(&prng, 1);
    for (size_t i = 0; i + 8 <= data->size; i += 8) {
        wp_put_u64le(data->data + i, wp_prng_next(&prng));
    }
    uint64_t wal_size_max = 0;
    uint64_t table_size_max = 0;
    for (uint64_t index = 1; index <= 2048; index++) { /* 64 MiB */
        struct wp_log_entry entry = {index, 1, 1, data};
        write = (struct wp_log_write){.shard = 1, .entries = &entry, .entry_count = 1};
        write.drop_below = index % 16 == 0 && index > 64 ? index - 32 : 0;
        assert_int_equal(wp_log_submit(store, &write), WP_OK);
        if (index % 64 == 0) {
            rocks_settle(store);
            uint64_t wal_size = files_size("log", ".log");
            uint64_t table_size = files_size("log", ".sst");
            wal_size_max = wal_size > wal_size_max ? wal_size : wal_size_max;
            table_size_max = table_size > table_size_max ? table_size : table_size_max;
        }
    }
    wp_bytes_release(&data);
    print_message("at most %llu MiB of WAL, %llu MiB of tables\n", (unsigned long long)(wal_size_max / MIB),
        (unsigned long long)(table_size_max / MIB));
    assert_true(
        wal_size_max <= 4 * MIB + 2 * 2 * MIB + 4 * MIB); /* the cap, two memtables, two rounds of 64 */
    assert_true(table_size_max <= 24 * MIB);
    struct wp_log_entry found;
    uint32_t count;
    assert_int_equal(wp_log_read(store, 1, 2040, 1, &found, &count), WP_OK);
    wp_bytes_release(&found.data);
}

static void commits_flush_by_themselves_when_due(void **state)
{
    (void)state;
    /* 2 MiB memtable: after 3 MiB the flusher must have moved the durable index without anybody waiting for
     * it. */
    struct wp_state_batch *batch = wp_state_batch_create(store);
    static uint8_t value[16 * 1024];
    uint64_t index = 0;
    while (wp_state_durable_index(store, 1) == 0 && index < 100000) {
        uint8_t key[8];
        wp_put_u64be(key, index);
        wp_state_put(batch, wp_slice(key, sizeof key), wp_slice(value, sizeof value));
        assert_int_equal(wp_state_commit(store, batch, 1, ++index, 1), WP_OK);
        wp_state_flush_if_due(store);
    }
    wp_state_batch_destroy(&batch);
    assert_in_range(wp_state_durable_index(store, 1), 1, index);
}

int main(void)
{
#define STEP(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        STEP(what_arrives_during_a_sync_goes_in_the_next_one),
        STEP(a_drop_alone_needs_no_sync),
        STEP(many_threads_do_not_mix),
        STEP(wal_and_dropped_entries_give_their_space_back),
        STEP(commits_flush_by_themselves_when_due),
    };
#undef STEP
    return cmocka_run_group_tests(tests, NULL, NULL);
}
