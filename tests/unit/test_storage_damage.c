/* What the RocksDB body must notice, name and never serve: damage to its files, directories that were rolled
 * back, and the power cut of a killed process. Each test damages the files between two opens, as a disk
 * would. */
#include "tests/unit/test_storage_rocks.h"

#include <dirent.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/metric.h"
#include "storage/layout.h"
#include "storage/rocks/rocks.h"

static char directory[128];
static char text[1024];

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "%s", rocks_directory_new());
    text[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rocks_directory_remove(directory);
    return 0;
}

/* Opens expecting a refusal; the sentence is in `text`. */
static int open_refused(bool accept_loss)
{
    struct wp_store_config config = rocks_test_config(directory);
    config.accept_loss = accept_loss;
    struct wp_store *store = NULL;
    int error = wp_store_open_rocks(&config, &store, text, sizeof text);
    if (error == WP_OK) {
        wp_store_close(&store);
    }
    return error;
}

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
    char command[512];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static uint8_t *file_load(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    struct stat stats;
    assert_int_equal(fstat(fd, &stats), 0);
    uint8_t *data = malloc((size_t)stats.st_size + 1);
    assert_int_equal(read(fd, data, (size_t)stats.st_size), stats.st_size);
    close(fd);
    *ret_size = (size_t)stats.st_size;
    return data;
}

/* Flips one bit in the middle of the first `needle` in each file PATH/folder/...suffix; how many files had
 * one. */
static int flip_bit(const char *folder, const char *suffix, const char *needle)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, folder);
    DIR *listing = opendir(path);
    assert_non_null(listing);
    int flipped = 0;
    struct dirent *row;
    while ((row = readdir(listing)) != NULL) {
        size_t length = strlen(row->d_name);
        if (length < strlen(suffix) || strcmp(row->d_name + length - strlen(suffix), suffix) != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s/%s", directory, folder, row->d_name);
        size_t size;
        uint8_t *data = file_load(path, &size);
        uint8_t *place = memmem(data, size, needle, strlen(needle));
        if (place != NULL) {
            place[strlen(needle) / 2] ^= 4;
            int fd = open(path, O_WRONLY);
            assert_int_equal(pwrite(fd, place, strlen(needle), place - data), strlen(needle));
            close(fd);
            flipped++;
        }
        free(data);
    }
    closedir(listing);
    return flipped;
}

static int log_load(struct wp_store *store, uint32_t shard, uint64_t after, uint64_t *ret_last)
{
    struct wp_log_hard_state hard;
    uint64_t first;
    struct suite_entries entries = {0};
    int error = wp_log_load(store, shard, after, &hard, suite_collect, &entries, &first, ret_last);
    suite_entries_free(&entries);
    return error;
}

/* A directory with entries 1..100 of shard 1, closed cleanly; all of it is in the WAL. */
static void make_log(void)
{
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(suite_append(store, 1, 1, 100, 2), WP_OK);
    wp_store_close(&store);
}

static void second_open_is_refused_and_names_the_process(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(open_refused(false), WP_E_BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(text, pid));
    assert_non_null(strstr(text, directory));
    pid_t child = fork();
    if (child == 0) {
        _exit(open_refused(false) == WP_E_BUSY ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    wp_store_close(&store);
    store = rocks_open(directory);
    wp_store_close(&store);
}

static void cut_wal_tail_is_forgetting(void **state)
{
    (void)state;
    make_log();
    run("f=$(ls -S %s/log/*.log | head -1) && truncate -s -700 $f", directory);
    run("find %s -type f ! -name 'LOG*' ! -name LOCK -exec sha256sum {} + | sort > %s.before", directory,
        directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "shard 1"));
    assert_non_null(strstr(text, "index 100"));
    assert_non_null(strstr(text, "/watermark"));
    assert_non_null(strstr(text, "--accept-loss 1"));
    /* A refused start changes nothing: the same sentence again, and a repair is still possible. */
    run("find %s -type f ! -name 'LOG*' ! -name LOCK -exec sha256sum {} + | sort | cmp - %s.before",
        directory, directory);
    run("rm %s.before", directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_int_equal(open_refused(true), WP_OK);
    /* Accepted once, it is the truth from then on. */
    struct wp_store *store = rocks_open(directory);
    uint64_t last = 0;
    assert_int_equal(log_load(store, 1, 0, &last), WP_OK);
    assert_true(last < 100);
    assert_int_equal(suite_append(store, 1, last + 1, last + 5, 3), WP_OK);
    wp_store_close(&store);
    store = rocks_open(directory);
    assert_int_equal(log_load(store, 1, 0, &last), WP_OK);
    wp_store_close(&store);
}

static void loss_is_accepted_for_named_shards_only(void **state)
{
    (void)state;
    static bool shards[WP_STORE_SHARDS_MAX];
    memset(shards, 0, sizeof shards);
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(suite_append(store, 1, 1, 50, 2), WP_OK);
    assert_int_equal(suite_append(store, 2, 1, 50, 2), WP_OK);
    wp_store_close(&store);
    run("f=$(ls -S %s/log/*.log | head -1) && truncate -s 200 $f", directory);
    struct wp_store_config config = rocks_test_config(directory);
    config.accept_loss_shards = shards;
    assert_int_equal(wp_store_open_rocks(&config, &store, text, sizeof text), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "--accept-loss 1"));
    shards[1] = true;
    assert_int_equal(wp_store_open_rocks(&config, &store, text, sizeof text), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "--accept-loss 2"));
    shards[2] = true;
    assert_int_equal(wp_store_open_rocks(&config, &store, text, sizeof text), WP_OK);
    wp_store_close(&store);
    store = rocks_open(directory);
    wp_store_close(&store);
}

static void bit_in_the_wal_is_noticed(void **state)
{
    (void)state;
    make_log();
    assert_int_equal(flip_bit("log", ".log", "1/50/2"), 1);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "shard 1"));
    /* Turned back ('0' had become '4'), everything is there: the refusal kept the evidence. */
    assert_int_equal(flip_bit("log", ".log", "1/54/2"), 1);
    assert_int_equal(open_refused(false), WP_OK);
}

static void bit_in_a_log_file_is_noticed(void **state)
{
    (void)state;
    make_log();
    struct wp_store *store = rocks_open(directory); /* recovery moves the WAL into an SST file */
    wp_store_close(&store);
    assert_int_equal(flip_bit("log", ".sst", "1/50/2"), 1);
    struct wp_store_config config = rocks_test_config(directory);
    uint64_t corrupt = wp_metric_get(WP_M_CORRUPT);
    int error = wp_store_open_rocks(&config, &store, text, sizeof text);
    if (error == WP_OK) {
        uint64_t last;
        error = log_load(store, 1, 0, &last);
        wp_store_error_text(store, text, sizeof text);
        wp_store_close(&store);
    }
    assert_int_equal(error, WP_E_CORRUPT);
    assert_non_null(strstr(text, "instance log"));
    assert_true(wp_metric_get(WP_M_CORRUPT) > corrupt);
}

static void bit_in_a_state_file_is_noticed(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(suite_put(store, 1, 1, 1, "patient", "a value that can be found again"), WP_OK);
    wp_store_close(&store);
    assert_int_equal(flip_bit("state", ".sst", "found again"), 1);
    struct wp_store_config config = rocks_test_config(directory);
    int error = wp_store_open_rocks(&config, &store, text, sizeof text);
    if (error == WP_OK) {
        struct wp_buffer out = WP_BUFFER_INIT;
        error = wp_state_get(store, SLICE("patient"), &out);
        assert_int_equal(out.size, 0);
        wp_buffer_free(&out);
        wp_store_error_text(store, text, sizeof text);
        struct wp_state_iter *iter = wp_state_iter_create(store, SLICE("a"), SLICE("z"));
        assert_false(wp_state_iter_valid(iter));
        assert_int_equal(wp_state_iter_error(iter), WP_E_CORRUPT);
        wp_state_iter_destroy(&iter);
        wp_store_close(&store);
    }
    assert_int_equal(error, WP_E_CORRUPT);
    assert_non_null(strstr(text, "instance state"));
}

static void bit_in_the_manifest_is_noticed(void **state)
{
    (void)state;
    make_log();
    run("f=$(ls %s/log/MANIFEST-* | tail -1) && s=$(stat -c %%s $f) && "
        "printf '\\377' | dd of=$f bs=1 seek=$((s / 2)) conv=notrunc status=none",
        directory);
    assert_int_equal(open_refused(false), WP_E_CORRUPT);
    assert_non_null(strstr(text, "instance log"));
    assert_int_equal(open_refused(true), WP_E_CORRUPT); /* nobody can accept what is not known */
}

/* Writes `value_of`'s stored bytes under `key` in PATH/state, as a failing memory or a bug below us could:
 * RocksDB's own checksums are right, only ours are not. With `flip` the value's last bit is turned too. */
static void state_tamper(const char *value_of, const char *key, bool flip)
{
    char path[256];
    snprintf(path, sizeof path, "%s/state", directory);
    rocksdb_options_t *options = rocksdb_options_create();
    char *problem = NULL;
    rocksdb_t *db = rocksdb_open(options, path, &problem);
    assert_null(problem);
    rocksdb_readoptions_t *read_options = rocksdb_readoptions_create();
    rocksdb_writeoptions_t *write_options = rocksdb_writeoptions_create();
    char full[64];
    size_t size;
    full[0] = WP_STATE_USER;
    snprintf(full + 1, sizeof full - 1, "%s", value_of);
    char *value = rocksdb_get(db, read_options, full, strlen(value_of) + 1, &size, &problem);
    assert_null(problem);
    assert_non_null(value);
    value[size - 1] = (char)(value[size - 1] ^ (flip ? 1 : 0));
    snprintf(full + 1, sizeof full - 1, "%s", key);
    rocksdb_put(db, write_options, full, strlen(key) + 1, value, size, &problem);
    assert_null(problem);
    rocksdb_free(value);
    rocksdb_readoptions_destroy(read_options);
    rocksdb_writeoptions_destroy(write_options);
    rocksdb_close(db);
    rocksdb_options_destroy(options);
}

static void record_under_a_wrong_key_is_never_served(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(suite_put(store, 1, 1, 1, "anna", "for anna"), WP_OK);
    assert_int_equal(suite_put(store, 1, 2, 1, "bert", "for bert"), WP_OK);
    assert_int_equal(suite_put(store, 1, 3, 1, "carl", "for carl"), WP_OK);
    wp_store_close(&store);
    state_tamper("anna", "bert", false);
    state_tamper("carl", "carl", true);
    store = rocks_open(directory);
    suite_expect(store, "anna", "for anna");
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_state_get(store, SLICE("bert"), &out), WP_E_CORRUPT);
    wp_store_error_text(store, text, sizeof text);
    assert_non_null(strstr(text, "62657274")); /* bert */
    assert_int_equal(wp_state_get(store, SLICE("carl"), &out), WP_E_CORRUPT);
    assert_int_equal(out.size, 0);
    wp_buffer_free(&out);
    struct wp_state_iter *iter = wp_state_iter_create(store, SLICE("a"), SLICE("z"));
    assert_true(wp_state_iter_valid(iter));
    wp_state_iter_next(iter);
    assert_false(wp_state_iter_valid(iter));
    assert_int_equal(wp_state_iter_error(iter), WP_E_CORRUPT);
    wp_state_iter_destroy(&iter);
    wp_store_close(&store);
}

/* Opens PATH/log as RocksDB sees it. */
static rocksdb_t *raw_log_open(rocksdb_options_t *options, rocksdb_column_family_handle_t *handles[3])
{
    char path[256];
    snprintf(path, sizeof path, "%s/log", directory);
    const char *names[] = {"default", "entries", "hard"};
    const rocksdb_options_t *family_options[] = {options, options, options};
    char *problem = NULL;
    rocksdb_t *db = rocksdb_open_column_families(options, path, 3, names, family_options, handles, &problem);
    assert_null(problem);
    return db;
}

static void raw_log_close(rocksdb_t *db, rocksdb_column_family_handle_t *handles[3])
{
    for (int i = 0; i < 3; i++) {
        rocksdb_column_family_handle_destroy(handles[i]);
    }
    rocksdb_close(db);
}

static void entry_copied_over_another_is_noticed(void **state)
{
    (void)state;
    make_log();
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_column_family_handle_t *handles[3];
    rocksdb_t *db = raw_log_open(options, handles);
    rocksdb_readoptions_t *read_options = rocksdb_readoptions_create();
    rocksdb_writeoptions_t *write_options = rocksdb_writeoptions_create();
    char *problem = NULL;
    uint8_t key[WP_ENTRY_KEY_SIZE];
    wp_entry_key(key, 1, 40);
    size_t size;
    char *value =
        rocksdb_get_cf(db, read_options, handles[1], (const char *)key, sizeof key, &size, &problem);
    assert_non_null(value);
    wp_entry_key(key, 1, 41);
    rocksdb_put_cf(db, write_options, handles[1], (const char *)key, sizeof key, value, size, &problem);
    wp_entry_key(key, 1, 61);
    rocksdb_delete_cf(db, write_options, handles[1], (const char *)key, sizeof key, &problem);
    assert_null(problem);
    rocksdb_free(value);
    rocksdb_readoptions_destroy(read_options);
    rocksdb_writeoptions_destroy(write_options);
    raw_log_close(db, handles);
    rocksdb_options_destroy(options);

    struct wp_store *store = rocks_open(directory);
    uint64_t last;
    uint64_t term;
    struct wp_log_entry entries[4];
    uint32_t count;
    assert_int_equal(log_load(store, 1, 0, &last), WP_E_CORRUPT);
    wp_store_error_text(store, text, sizeof text);
    assert_non_null(strstr(text, "shard 1, index 41"));
    assert_int_equal(wp_log_term(store, 1, 41, &term), WP_E_CORRUPT);
    assert_int_equal(wp_log_term(store, 1, 40, &term), WP_OK);
    assert_int_equal(wp_log_read(store, 1, 39, 4, entries, &count), WP_E_CORRUPT);
    /* The missing entry is a gap, wherever reading begins. */
    assert_int_equal(wp_log_read(store, 1, 60, 3, entries, &count), WP_E_CORRUPT);
    wp_store_close(&store);
}

static void bit_in_watermark_or_fact_is_noticed(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(suite_append(store, 1, 1, 3, 2), WP_OK);
    assert_int_equal(wp_store_fact_set(store, "node-id", SLICE("router-one")), WP_OK);
    wp_store_close(&store);
    assert_int_equal(flip_bit("facts", "node-id", "router-one"), 1);
    store = rocks_open(directory);
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_store_fact_get(store, "node-id", &out), WP_E_CORRUPT);
    wp_store_error_text(store, text, sizeof text);
    assert_non_null(strstr(text, "facts/node-id"));
    assert_int_equal(out.size, 0);
    /* A fact that was renamed is not the other one. */
    assert_int_equal(wp_store_fact_set(store, "node-id", SLICE("router-two")), WP_OK);
    run("cp %s/facts/node-id %s/facts/hash-key", directory, directory);
    assert_int_equal(wp_store_fact_get(store, "hash-key", &out), WP_E_CORRUPT);
    wp_buffer_free(&out);
    wp_store_close(&store);

    assert_int_equal(flip_bit(".", "watermark", "WPWATER1"), 1);
    assert_int_equal(open_refused(false), WP_E_CORRUPT);
    assert_non_null(strstr(text, "/watermark"));
    run("rm %s/watermark", directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "missing"));
    assert_int_equal(open_refused(true), WP_OK);
    assert_int_equal(open_refused(false), WP_OK);
}

static void rolled_back_log_is_noticed(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    assert_int_equal(suite_append(store, 1, 1, 10, 1), WP_OK);
    wp_store_close(&store);
    run("cp -r %s/log %s/log.old && cp %s/watermark %s/watermark.old", directory, directory, directory,
        directory);
    store = rocks_open(directory);
    assert_int_equal(suite_append(store, 1, 11, 20, 1), WP_OK);
    assert_int_equal(suite_put(store, 1, 15, 1, "k", "v"), WP_OK);
    wp_store_close(&store);
    run("rm -r %s/log && cp -r %s/log.old %s/log", directory, directory, directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "index 10"));
    assert_non_null(strstr(text, "index 20"));
    /* The watermark rolled back with it: state still knows better. */
    run("cp %s/watermark.old %s/watermark", directory, directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "holds index 15"));
    assert_int_equal(open_refused(true), WP_OK);
    /* The log goes on after what state holds. */
    store = rocks_open(directory);
    uint64_t last;
    assert_int_equal(log_load(store, 1, 15, &last), WP_OK);
    assert_int_equal(last, 15);
    assert_int_equal(suite_append(store, 1, 11, 11, 2), WP_E_INVALID);
    assert_int_equal(suite_append(store, 1, 16, 16, 2), WP_OK);
    wp_store_close(&store);
}

static void forgotten_vote_is_noticed(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    struct wp_log_hard_state hard = {.term = 4, .voted_for = 1};
    struct wp_log_write write = {.shard = 2, .hard = &hard};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    wp_store_close(&store);
    run("cp -r %s/log %s/log.old", directory, directory);
    store = rocks_open(directory);
    hard.term = 5;
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    wp_store_close(&store);
    run("rm -r %s/log && mv %s/log.old %s/log", directory, directory, directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    assert_non_null(strstr(text, "shard 2"));
    assert_non_null(strstr(text, "term 5"));
    assert_int_equal(open_refused(true), WP_OK);
    /* Not below the term that was known: this voter may have voted in it. */
    store = rocks_open(directory);
    uint64_t first;
    uint64_t last;
    assert_int_equal(wp_log_load(store, 2, 0, &hard, NULL, NULL, &first, &last), WP_OK);
    assert_int_equal(hard.term, 5);
    wp_store_close(&store);
}

/* Runs `work` (by name) in a process of its own that then dies by SIGKILL, without any clean stop. A new
 * program, not only a fork: RocksDB's threads do not follow into a child. */
static void killed_after(const char *work)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test_storage_damage", work, directory, (char *)NULL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void work_state(struct wp_store *store)
{
    suite_append(store, 1, 1, 20, 1);
    rocks_settle(store);
    suite_put(store, 1, 9, 1, "a", "flushed");
    suite_put(store, 1, 10, 1, "b", "flushed");
    wp_state_flush(store);
    suite_put(store, 1, 11, 1, "a", "not flushed");
    suite_put(store, 1, 12, 1, "c", "not flushed");
}

static void killed_process_falls_back_to_a_batch_boundary(void **state)
{
    (void)state;
    killed_after("state");
    struct wp_store *store = rocks_open(directory);
    uint64_t index;
    uint64_t term;
    uint64_t last;
    wp_state_applied(store, 1, &index, &term);
    assert_int_equal(index, 10);
    suite_expect(store, "a", "flushed");
    suite_expect(store, "b", "flushed");
    suite_expect(store, "c", NULL);
    assert_int_equal(log_load(store, 1, index, &last), WP_OK); /* the log has the rest */
    assert_int_equal(last, 20);
    wp_store_close(&store);
}

static void work_truncate(struct wp_store *store)
{
    suite_append(store, 1, 1, 100, 1);
    rocks_settle(store);
    if (wp_watermark_write(&((struct rocks_store *)store)->watermark, true) != WP_OK) {
        _exit(1);
    }
    struct wp_log_write cut = {.shard = 1, .truncate_from = 50};
    wp_log_submit(store, &cut);
    rocks_settle(store);
}

static void truncation_lowers_the_watermark_first(void **state)
{
    (void)state;
    killed_after("truncate");
    struct wp_store *store = rocks_open(directory); /* fails here if the file still said 100 */
    uint64_t last;
    assert_int_equal(log_load(store, 1, 0, &last), WP_OK);
    assert_int_equal(last, 49);
    wp_store_close(&store);
}

static void work_append(struct wp_store *store)
{
    suite_append(store, 1, 1, 100, 1);
    rocks_settle(store);
    if (wp_watermark_write(&((struct rocks_store *)store)->watermark, true) != WP_OK) {
        _exit(1);
    }
}

static void watermark_holds_after_a_kill(void **state)
{
    (void)state;
    killed_after("append");
    run("f=$(ls -S %s/log/*.log | head -1) && cp $f %s.wal && truncate -s 2000 $f", directory, directory);
    assert_int_equal(open_refused(false), WP_E_FORGOTTEN);
    run("f=$(ls -S %s/log/*.log | head -1) && mv %s.wal $f", directory, directory);
    assert_int_equal(open_refused(false), WP_OK);
}

/* The child's side of killed_after. */
static int child_main(const char *work, const char *path)
{
    static const struct {
        const char *name;
        void (*work)(struct wp_store *store);
    } table[] = {{"state", work_state}, {"truncate", work_truncate}, {"append", work_append}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(work, table[i].name) == 0) {
            table[i].work(rocks_open(path));
            kill(getpid(), SIGKILL);
        }
    }
    return 1;
}

/* What is found damaged while the store is in use is known at the next start; a refused open notes
 * nothing. */
static void damage_is_remembered(void **state)
{
    (void)state;
    struct wp_store *store = rocks_open(directory);
    assert_false(wp_store_damaged(directory));
    assert_int_equal(suite_put(store, 1, 1, 1, "a", "value of a"), WP_OK);
    assert_int_equal(suite_put(store, 1, 2, 1, "b", "value of b"), WP_OK);
    wp_store_close(&store);
    state_tamper("a", "b", false);
    store = rocks_open(directory);
    assert_false(wp_store_damaged(directory));
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_state_get(store, SLICE("b"), &out), WP_E_CORRUPT);
    assert_true(wp_store_damaged(directory));
    assert_int_equal(wp_store_fact_get(store, "damaged", &out), WP_OK);
    assert_int_equal(wp_buffer_append(&out, "", 1), WP_OK);
    assert_non_null(strstr((const char *)out.data, "instance state"));
    wp_buffer_free(&out);
    wp_store_close(&store);
    assert_true(wp_store_damaged(directory));
}

/* Out of the way under a name of its own, unless a process holds it; what begins in its place is another
 * one. */
static void directory_is_set_aside(void **state)
{
    (void)state;
    char moved[256];
    char again[256];
    struct wp_store *store = rocks_open(directory);
    uint64_t id = wp_store_directory_id(store);
    assert_int_equal(suite_put(store, 1, 1, 1, "a", "v"), WP_OK);
    assert_int_equal(wp_store_set_aside(directory, moved, sizeof moved, text, sizeof text), WP_E_BUSY);
    assert_non_null(strstr(text, directory));
    wp_store_close(&store);
    assert_int_equal(wp_store_set_aside(directory, moved, sizeof moved, text, sizeof text), WP_OK);
    assert_int_equal(strncmp(moved, directory, strlen(directory)), 0);
    assert_int_equal(strncmp(moved + strlen(directory), ".damaged-20", 11), 0);
    assert_int_equal(wp_store_set_aside(directory, again, sizeof again, text, sizeof text), WP_E_NOT_FOUND);

    store = rocks_open(directory);
    suite_expect(store, "a", NULL);
    assert_true(wp_store_directory_id(store) != id);
    wp_store_close(&store);
    assert_int_equal(wp_store_set_aside(directory, again, sizeof again, text, sizeof text), WP_OK);
    assert_string_not_equal(moved, again);
    store = rocks_open(moved);
    suite_expect(store, "a", "v");
    assert_true(wp_store_directory_id(store) == id);
    wp_store_close(&store);
    rocks_directory_remove(moved);
    rocks_directory_remove(again);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        return child_main(argv[1], argv[2]);
    }
#define STEP(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        STEP(second_open_is_refused_and_names_the_process),
        STEP(cut_wal_tail_is_forgetting),
        STEP(loss_is_accepted_for_named_shards_only),
        STEP(bit_in_the_wal_is_noticed),
        STEP(bit_in_a_log_file_is_noticed),
        STEP(bit_in_a_state_file_is_noticed),
        STEP(bit_in_the_manifest_is_noticed),
        STEP(record_under_a_wrong_key_is_never_served),
        STEP(entry_copied_over_another_is_noticed),
        STEP(bit_in_watermark_or_fact_is_noticed),
        STEP(rolled_back_log_is_noticed),
        STEP(forgotten_vote_is_noticed),
        STEP(killed_process_falls_back_to_a_batch_boundary),
        STEP(truncation_lowers_the_watermark_first),
        STEP(watermark_holds_after_a_kill),
        STEP(damage_is_remembered),
        STEP(directory_is_set_aside),
    };
#undef STEP
    cmocka_set_test_filter(getenv("WP_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
