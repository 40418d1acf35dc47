/* A shard as a whole, in both bodies: copied out, wiped, put in, and what a crash at each step leaves. The
 * simulated body's crashes are drawn from seeds. RocksDB's happen in a child process, which is killed just
 * before or just after its n-th write, flush or ingestion (those calls are linked to wrappers here). */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "base/error.h"
#include "base/log.h"
#include "storage/rocks/rocks.h"
#include "storage/sim/sim.h"
#include "tests/unit/test_storage_rocks.h"
#include "tests/unit/test_storage_suite.h"

extern char **environ;

#define SHARD 7u
#define OTHER 8u
#define OLD_ROWS 40u
#define NEW_ROWS 60u
#define OLD_APPLIED 20u
#define OLD_LAST 30u
#define NEW_APPLIED 31u

/* --- calls at which the child dies ------------------------------------------------------------- */

static int dies_at; /* before the n-th call; 0 = never */
static int call_count;

static void call_begins(void)
{
    if (dies_at != 0 && ++call_count == dies_at) {
        raise(SIGKILL);
    }
}

void __real_rocksdb_write(
    rocksdb_t *db, const rocksdb_writeoptions_t *options, rocksdb_writebatch_t *batch, char **text);
void __wrap_rocksdb_write(
    rocksdb_t *db, const rocksdb_writeoptions_t *options, rocksdb_writebatch_t *batch, char **text);
void __wrap_rocksdb_write(
    rocksdb_t *db, const rocksdb_writeoptions_t *options, rocksdb_writebatch_t *batch, char **text)
{
    call_begins();
    __real_rocksdb_write(db, options, batch, text);
}

void __real_rocksdb_flush(rocksdb_t *db, const rocksdb_flushoptions_t *options, char **text);
void __wrap_rocksdb_flush(rocksdb_t *db, const rocksdb_flushoptions_t *options, char **text);
void __wrap_rocksdb_flush(rocksdb_t *db, const rocksdb_flushoptions_t *options, char **text)
{
    call_begins();
    __real_rocksdb_flush(db, options, text);
}

void __real_rocksdb_ingest_external_file(rocksdb_t *db, const char *const *names, const size_t count,
    const rocksdb_ingestexternalfileoptions_t *options, char **text);
void __wrap_rocksdb_ingest_external_file(rocksdb_t *db, const char *const *names, const size_t count,
    const rocksdb_ingestexternalfileoptions_t *options, char **text);
void __wrap_rocksdb_ingest_external_file(rocksdb_t *db, const char *const *names, const size_t count,
    const rocksdb_ingestexternalfileoptions_t *options, char **text)
{
    call_begins();
    __real_rocksdb_ingest_external_file(db, names, count, options, text);
}

/* --- a shard with a history -------------------------------------------------------------------- */

struct key {
    uint8_t bytes[8];
};

static struct wp_slice key_of(struct key *key, uint32_t shard, uint32_t number)
{
    wp_put_u32be(key->bytes, shard);
    wp_put_u32be(key->bytes + 4, number);
    return wp_slice(key->bytes, sizeof key->bytes);
}

static void text_of(char text[64], const char *kind, uint32_t number)
{
    snprintf(text, 64, "%s %u", kind, number);
}

/* Rows 0, step, 2 * step ... of `kind`, committed as one batch at (index, term). */
static void rows_put(struct wp_store *store, uint32_t shard, const char *kind, uint32_t count, uint32_t step,
    uint64_t index, uint64_t term)
{
    struct wp_state_batch *batch = wp_state_batch_create(store);
    for (uint32_t i = 0; i < count; i++) {
        struct key key;
        char text[64];
        text_of(text, kind, i * step);
        wp_state_put(batch, key_of(&key, shard, i * step), wp_slice(text, strlen(text)));
    }
    assert_int_equal(wp_state_commit(store, batch, shard, index, term), WP_OK);
    wp_state_batch_destroy(&batch);
}

/* The shard holds exactly rows_put(kind, count, step). */
static bool rows_are(struct wp_store *store, uint32_t shard, const char *kind, uint32_t count, uint32_t step)
{
    uint64_t index;
    uint64_t term;
    struct wp_state_iter *view = wp_state_view_create(store, shard, &index, &term);
    uint32_t found = 0;
    bool same = true;
    for (; wp_state_iter_valid(view); wp_state_iter_next(view)) {
        struct key key;
        char text[64];
        text_of(text, kind, found * step);
        same = same && wp_slice_equal(wp_state_iter_key(view), key_of(&key, shard, found * step)) &&
               wp_slice_equal(wp_state_iter_value(view), wp_slice(text, strlen(text)));
        found++;
    }
    assert_int_equal(wp_state_iter_error(view), WP_OK);
    wp_state_iter_destroy(&view);
    return same && found == count;
}

static struct wp_log_hard_state hard_of(
    struct wp_store *store, uint32_t shard, uint64_t *ret_first, uint64_t *ret_last)
{
    struct wp_log_hard_state hard;
    uint64_t index;
    uint64_t term;
    struct suite_entries entries = {0};
    wp_state_applied(store, shard, &index, &term);
    assert_int_equal(
        wp_log_load(store, shard, index, &hard, suite_collect, &entries, ret_first, ret_last), WP_OK);
    suite_entries_free(&entries);
    return hard;
}

static void hard_put(struct wp_store *store, uint32_t shard, struct wp_log_hard_state hard)
{
    struct wp_log_write write = {.shard = shard, .hard = &hard};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
}

/* Two shards of the same history: log 1..30 in term 3, rows flushed, hard state of replica 9. */
static void history(struct wp_store *store, void (*settle)(struct wp_store *))
{
    for (uint32_t shard = SHARD; shard <= OTHER; shard++) {
        assert_int_equal(suite_append(store, shard, 1, OLD_LAST, 3), WP_OK);
        hard_put(store, shard, (struct wp_log_hard_state){.term = 4, .voted_for = 2, .replica = 9});
        rows_put(store, shard, "old", OLD_ROWS, 2, OLD_APPLIED, 3);
    }
    settle(store);
    assert_int_equal(wp_state_flush(store), WP_OK);
}

static void expect_untouched(struct wp_store *store, uint32_t shard)
{
    uint64_t first;
    uint64_t last;
    uint64_t index;
    uint64_t term;
    struct wp_log_hard_state hard = hard_of(store, shard, &first, &last);
    assert_int_equal(first, 1);
    assert_int_equal(last, OLD_LAST);
    assert_int_equal(hard.replica, 9);
    assert_int_equal(hard.lost_index, 0);
    wp_state_applied(store, shard, &index, &term);
    assert_int_equal(index, OLD_APPLIED);
    assert_true(rows_are(store, shard, "old", OLD_ROWS, 2));
}

/* Nothing but hard state: rows, position, entries and floor are gone. */
static void expect_wiped(struct wp_store *store, struct wp_log_hard_state expected)
{
    uint64_t first;
    uint64_t last;
    uint64_t index;
    uint64_t term;
    struct wp_log_hard_state hard = hard_of(store, SHARD, &first, &last);
    assert_int_equal(first, 0);
    assert_int_equal(last, 0);
    assert_memory_equal(&hard, &expected, sizeof hard);
    wp_state_applied(store, SHARD, &index, &term);
    assert_int_equal(index, 0);
    assert_int_equal(term, 0);
    assert_int_equal(wp_state_durable_index(store, SHARD), 0);
    assert_true(rows_are(store, SHARD, "none", 0, 1));
}

static void expect_installed(struct wp_store *store)
{
    uint64_t first;
    uint64_t last;
    uint64_t index;
    uint64_t term;
    struct wp_log_hard_state hard = hard_of(store, SHARD, &first, &last);
    assert_int_equal(first, NEW_APPLIED + 1);
    assert_int_equal(last, NEW_APPLIED);
    assert_int_equal(hard.term, 6);
    assert_int_equal(hard.voted_for, 0);
    assert_int_equal(hard.replica, 9);
    assert_int_equal(hard.lost_index, 0);
    wp_state_applied(store, SHARD, &index, &term);
    assert_int_equal(index, NEW_APPLIED);
    assert_int_equal(term, 4);
    assert_int_equal(wp_state_durable_index(store, SHARD), NEW_APPLIED);
    assert_true(rows_are(store, SHARD, "new", NEW_ROWS, 3));
    assert_int_equal(suite_append(store, SHARD, NEW_APPLIED + 2, NEW_APPLIED + 2, 6), WP_E_INVALID);
}

static struct wp_state_install *install_rows(struct wp_store *store)
{
    struct wp_state_install *install = NULL;
    assert_int_equal(wp_state_install_begin(store, SHARD, &install), WP_OK);
    for (uint32_t i = 0; i < NEW_ROWS; i++) {
        struct key key;
        char text[64];
        text_of(text, "new", i * 3);
        assert_int_equal(
            wp_state_install_add(install, key_of(&key, SHARD, i * 3), wp_slice(text, strlen(text))), WP_OK);
    }
    return install;
}

/* Replica 9 goes on; its log up to 30, acknowledged in terms up to 4, is forgotten. */
static const struct wp_log_hard_state wiped_kept = {4, 2, 9, OLD_LAST, 4};
static const struct wp_log_hard_state wiped_new = {4, 0, 65545, 0, 0};

/* --- bodies ------------------------------------------------------------------------------------ */

static const char *rocks_path;

static struct wp_store *rocks_new(void)
{
    rocks_path = rocks_directory_new();
    return rocks_open(rocks_path);
}

static struct wp_store *rocks_reopen(struct wp_store **store)
{
    wp_store_close(store);
    return rocks_open(rocks_path);
}

static void rocks_finish(struct wp_store **store)
{
    wp_store_close(store);
    rocks_directory_remove(rocks_path);
}

static struct wp_store *sim_reopen(struct wp_store **store)
{
    wp_sim_restart(store);
    struct wp_store *next = *store;
    *store = NULL;
    return next;
}

static void sim_settle(struct wp_store *store)
{
    while (wp_sim_pending(store) > 0) {
        assert_int_equal(wp_sim_sync(store, 0), WP_OK);
    }
}

static struct suite_body bodies[] = {
    {rocks_new, rocks_reopen, rocks_settle, rocks_finish},
    {wp_sim_create, sim_reopen, sim_settle, wp_store_close},
};

/* --- both bodies ------------------------------------------------------------------------------- */

static void hard_state_keeps_all_its_numbers(void **context)
{
    const struct suite_body *body = *context;
    struct wp_store *store = body->open_new();
    const struct wp_log_hard_state hard = {5, 6, 7, 8, 9};
    hard_put(store, SHARD, hard);
    body->settle(store);
    for (int i = 0; i < 2; i++) {
        uint64_t first;
        uint64_t last;
        struct wp_log_hard_state found = hard_of(store, SHARD, &first, &last);
        assert_memory_equal(&found, &hard, sizeof hard);
        store = body->reopen(&store);
    }
    body->finish(&store);
}

/* Rows and position of one moment, whatever is committed afterwards; nothing of the neighbours. */
static void view_is_of_one_moment(void **context)
{
    const struct suite_body *body = *context;
    struct wp_store *store = body->open_new();
    uint64_t index;
    uint64_t term;
    history(store, body->settle);
    rows_put(store, SHARD - 1, "before", 10, 1, 1, 1);
    struct wp_state_iter *view = wp_state_view_create(store, SHARD, &index, &term);
    assert_int_equal(index, OLD_APPLIED);
    assert_int_equal(term, 3);
    rows_put(store, SHARD, "later", 500, 1, OLD_APPLIED + 1, 3);
    assert_int_equal(wp_state_flush(store), WP_OK);
    uint32_t rows = 0;
    for (; wp_state_iter_valid(view); wp_state_iter_next(view)) {
        struct key key;
        assert_true(wp_slice_equal(wp_state_iter_key(view), key_of(&key, SHARD, rows * 2)));
        assert_memory_equal(wp_state_iter_value(view).data, "old", 3);
        rows++;
    }
    assert_int_equal(wp_state_iter_error(view), WP_OK);
    assert_int_equal(rows, OLD_ROWS);
    wp_state_iter_destroy(&view);
    view = wp_state_view_create(store, SHARD + 100, &index, &term);
    assert_int_equal(index, 0);
    assert_false(wp_state_iter_valid(view));
    wp_state_iter_destroy(&view);
    body->finish(&store);
}

static uint64_t snapshots_open(struct wp_store *store)
{
    uint64_t count = UINT64_MAX;
    rocksdb_property_int(((struct rocks_store *)store)->state, "rocksdb.num-snapshots", &count);
    return count;
}

/* RocksDB looks at the snapshot again when a view reaches a file with range deletions: it lives as long as
 * the view. */
static void view_holds_its_snapshot(void **context)
{
    (void)context;
    const struct suite_body *body = &bodies[0];
    struct wp_store *store = body->open_new();
    uint64_t index;
    uint64_t term;
    history(store, body->settle);
    struct wp_state_iter *view = wp_state_view_create(store, SHARD, &index, &term);
    assert_int_equal(snapshots_open(store), 1);
    while (wp_state_iter_valid(view)) {
        wp_state_iter_next(view);
    }
    assert_int_equal(snapshots_open(store), 1);
    wp_state_iter_destroy(&view);
    assert_int_equal(snapshots_open(store), 0);
    body->finish(&store);
}

static void wipe_leaves_nothing_but_the_hard_state(void **context)
{
    const struct suite_body *body = *context;
    for (int renamed = 0; renamed < 2; renamed++) {
        struct wp_store *store = body->open_new();
        const struct wp_log_hard_state wanted =
            renamed ? wiped_new : (struct wp_log_hard_state){4, 2, 9, 0, 0};
        history(store, body->settle);
        assert_int_equal(wp_store_shard_wipe(store, SHARD, &wanted), WP_OK);
        for (int i = 0; i < 3; i++) {
            expect_wiped(store, renamed ? wiped_new : wiped_kept);
            expect_untouched(store, OTHER);
            store = body->reopen(&store);
        }
        /* It begins like a new one, at any index. */
        assert_int_equal(suite_append(store, SHARD, 1, 3, 4), WP_OK);
        body->settle(store);
        rows_put(store, SHARD, "again", 5, 1, 2, 4);
        store = body->reopen(&store);
        assert_true(rows_are(store, SHARD, "again", 5, 1));
        body->finish(&store);
    }
}

/* The same replica may not forget its term or its vote; another one has given none. */
static void wipe_keeps_promises(void **context)
{
    const struct suite_body *body = *context;
    struct wp_store *store = body->open_new();
    history(store, body->settle);
    const struct wp_log_hard_state older = {3, 0, 9, 0, 0};
    const struct wp_log_hard_state other_vote = {4, 3, 9, 0, 0};
    assert_int_equal(wp_store_shard_wipe(store, SHARD, &older), WP_E_INVALID);
    assert_int_equal(wp_store_shard_wipe(store, SHARD, &other_vote), WP_E_INVALID);
    assert_int_equal(wp_store_shard_wipe(store, WP_STORE_SHARDS_MAX, &older), WP_E_INVALID);
    expect_untouched(store, SHARD);
    const struct wp_log_hard_state reborn = {0, 0, 65545, 0, 0};
    assert_int_equal(wp_store_shard_wipe(store, SHARD, &reborn), WP_OK);
    store = body->reopen(&store); /* the watermark forgot its term too */
    expect_wiped(store, reborn);
    /* Wiped twice, before it caught up: still what it lost first. */
    assert_int_equal(suite_append(store, OTHER, OLD_LAST + 1, OLD_LAST + 1, 3), WP_OK);
    body->settle(store);
    const struct wp_log_hard_state same = {4, 2, 9, 0, 0};
    assert_int_equal(wp_store_shard_wipe(store, OTHER, &same), WP_OK);
    assert_int_equal(suite_append(store, OTHER, 1, 3, 4), WP_OK);
    body->settle(store);
    const struct wp_log_hard_state later = {6, 0, 9, 0, 0};
    assert_int_equal(wp_store_shard_wipe(store, OTHER, &later), WP_OK);
    uint64_t first;
    uint64_t last;
    struct wp_log_hard_state hard = hard_of(store, OTHER, &first, &last);
    assert_int_equal(hard.lost_index, OLD_LAST + 1);
    assert_int_equal(hard.lost_term, 6);
    body->finish(&store);
}

static void install_replaces_the_shard(void **context)
{
    const struct suite_body *body = *context;
    struct wp_store *store = body->open_new();
    history(store, body->settle);
    struct wp_state_install *install = install_rows(store);
    assert_int_equal(wp_state_install_commit(&install, NEW_APPLIED, 4, 6), WP_OK);
    assert_null(install);
    for (int i = 0; i < 3; i++) {
        expect_installed(store);
        expect_untouched(store, OTHER);
        store = body->reopen(&store);
    }
    assert_int_equal(suite_append(store, SHARD, NEW_APPLIED + 1, NEW_APPLIED + 9, 6), WP_OK);
    body->settle(store);
    rows_put(store, SHARD, "more", 5, 1, NEW_APPLIED + 5, 6);
    store = body->reopen(&store);
    uint64_t first;
    uint64_t last;
    hard_of(store, SHARD, &first, &last);
    assert_int_equal(first, NEW_APPLIED + 1);
    assert_int_equal(last, NEW_APPLIED + 9);
    body->finish(&store);
}

/* What has all that was acknowledged before a wipe, or an entry of a later term, has lost nothing. */
static void install_makes_whole(void **context)
{
    const struct suite_body *body = *context;
    static const struct {
        uint64_t index, term, lost_index;
    } positions[] = {{OLD_LAST, 4, 0}, {OLD_LAST - 1, 5, 0}, {OLD_LAST - 1, 4, OLD_LAST}};
    for (int i = 0; i < 3; i++) {
        struct wp_store *store = body->open_new();
        history(store, body->settle);
        const struct wp_log_hard_state same = {4, 2, 9, 0, 0};
        assert_int_equal(wp_store_shard_wipe(store, SHARD, &same), WP_OK);
        struct wp_state_install *install = install_rows(store);
        assert_int_equal(wp_state_install_commit(&install, positions[i].index, positions[i].term, 6), WP_OK);
        uint64_t first;
        uint64_t last;
        struct wp_log_hard_state hard = hard_of(store, SHARD, &first, &last);
        assert_int_equal(hard.lost_index, positions[i].lost_index);
        assert_int_equal(hard.lost_term, positions[i].lost_index ? 4 : 0);
        assert_int_equal(hard.term, 6);
        body->finish(&store);
    }
}

static void install_refuses_and_aborts(void **context)
{
    const struct suite_body *body = *context;
    struct wp_store *store = body->open_new();
    struct key key;
    history(store, body->settle);
    struct wp_state_install *install = install_rows(store);
    assert_int_equal(
        wp_state_install_add(install, key_of(&key, SHARD, (NEW_ROWS - 1) * 3), SLICE("twice")), WP_E_INVALID);
    assert_int_equal(wp_state_install_add(install, key_of(&key, SHARD, 0), SLICE("back")), WP_E_INVALID);
    assert_int_equal(wp_state_install_add(install, key_of(&key, OTHER, 1000), SLICE("there")), WP_E_INVALID);
    assert_int_equal(wp_state_install_add(install, SLICE("ab"), SLICE("short")), WP_E_INVALID);
    wp_state_install_abort(&install);
    expect_untouched(store, SHARD);
    install = install_rows(store);
    assert_int_equal(
        wp_state_install_commit(&install, OLD_APPLIED, 4, 6), WP_E_INVALID); /* no step forward */
    assert_null(install);
    install = install_rows(store);
    assert_int_equal(
        wp_state_install_commit(&install, NEW_APPLIED, 7, 6), WP_E_INVALID); /* newer than its leader */
    install = install_rows(store);
    assert_int_equal(
        wp_state_install_commit(&install, OLD_LAST - 1, 4, 6), WP_E_INVALID); /* below the log's end */
    expect_untouched(store, SHARD);
    store = body->reopen(&store);
    expect_untouched(store, SHARD);
    assert_int_equal(wp_state_install_begin(store, WP_STORE_SHARDS_MAX, &install), WP_E_INVALID);
    body->finish(&store);
}

/* Several files, and into a shard that was never there. */
static void install_of_many_rows(void **context)
{
    const struct suite_body *body = *context;
    struct wp_store *store = body->open_new();
    struct wp_state_install *install;
    static char large[64 * 1024];
    assert_int_equal(wp_state_install_begin(store, SHARD, &install), WP_OK);
    for (uint32_t i = 0; i < 100; i++) {
        struct key key;
        memset(large, (int)i, sizeof large);
        assert_int_equal(
            wp_state_install_add(install, key_of(&key, SHARD, i), wp_slice(large, sizeof large)), WP_OK);
    }
    assert_int_equal(wp_state_install_commit(&install, 77, 2, 2), WP_OK);
    store = body->reopen(&store);
    for (uint32_t i = 0; i < 100; i++) {
        struct key key;
        struct wp_buffer value = WP_BUFFER_INIT;
        memset(large, (int)i, sizeof large);
        assert_int_equal(wp_state_get(store, key_of(&key, SHARD, i), &value), WP_OK);
        assert_int_equal(value.size, sizeof large);
        assert_memory_equal(value.data, large, sizeof large);
        wp_buffer_free(&value);
    }
    body->finish(&store);
}

/* --- crashes ----------------------------------------------------------------------------------- */

enum outcome { AS_BEFORE, WIPED, DONE, OUTCOME_COUNT };

/* Which of the three states the shard is in; anything else fails. */
static enum outcome outcome_of(struct wp_store *store, bool install, bool renamed)
{
    uint64_t first;
    uint64_t last;
    uint64_t index;
    uint64_t term;
    hard_of(store, SHARD, &first, &last);
    wp_state_applied(store, SHARD, &index, &term);
    expect_untouched(store, OTHER);
    if (last == OLD_LAST) {
        expect_untouched(store, SHARD);
        return AS_BEFORE;
    }
    if (index == NEW_APPLIED) {
        assert_true(install);
        expect_installed(store);
        return DONE;
    }
    assert_false(install);
    expect_wiped(store, renamed ? wiped_new : wiped_kept);
    return WIPED;
}

static void step_through(struct wp_store *store, bool install, bool renamed)
{
    if (install) {
        struct wp_state_install *rows = install_rows(store);
        wp_state_install_commit(&rows, NEW_APPLIED, 4, 6);
    } else {
        const struct wp_log_hard_state same = {4, 2, 9, 0, 0};
        wp_store_shard_wipe(store, SHARD, renamed ? &wiped_new : &same);
    }
}

static void sim_crash_at_every_step(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        uint32_t outcomes[OUTCOME_COUNT] = {0};
        for (uint64_t seed = 0; seed < 20 * 7; seed++) {
            struct wp_store *store = wp_sim_create();
            history(store, sim_settle);
            wp_sim_fail_step(store, (uint32_t)(seed % 7));
            step_through(store, kind == 0, kind == 1);
            struct wp_store *image = wp_sim_crash(store, seed);
            enum outcome outcome = outcome_of(image, kind == 0, kind == 1);
            outcomes[outcome]++;
            struct wp_store *again = wp_sim_crash(image, seed); /* the wipe at the open is durable */
            assert_int_equal(outcome_of(again, kind == 0, kind == 1), outcome);
            wp_store_close(&again);
            wp_store_close(&image);
            wp_store_close(&store);
        }
        assert_true(outcomes[AS_BEFORE] > 0 && outcomes[kind == 0 ? DONE : WIPED] > 0);
    }
}

static int child(const char *path, int kind, int at)
{
    struct wp_store *store = rocks_open(path);
    dies_at = at;
    step_through(store, kind == 0, kind == 1);
    dies_at = 0;
    raise(SIGKILL);
    return 1;
}

static void run_child(const char *path, int kind, int at)
{
    char name[] = "child";
    char path_text[128];
    char kind_text[16];
    char at_text[16];
    snprintf(path_text, sizeof path_text, "%s", path);
    snprintf(kind_text, sizeof kind_text, "%d", kind);
    snprintf(at_text, sizeof at_text, "%d", at);
    char *const arguments[] = {name, path_text, kind_text, at_text, NULL};
    pid_t pid;
    int status;
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void rocks_kill_at_every_call(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        uint32_t outcomes[OUTCOME_COUNT] = {0};
        for (int at = 0; at <= 6; at++) {
            const char *path = rocks_directory_new();
            struct wp_store *store = rocks_open(path);
            history(store, rocks_settle);
            wp_store_close(&store);
            run_child(path, kind, at);
            store = rocks_open(path);
            enum outcome outcome = outcome_of(store, kind == 0, kind == 1);
            outcomes[outcome]++;
            wp_store_close(&store);
            store = rocks_open(path);
            assert_int_equal(outcome_of(store, kind == 0, kind == 1), outcome);
            wp_store_close(&store);
            rocks_directory_remove(path);
        }
        assert_true(outcomes[AS_BEFORE] > 0 && outcomes[kind == 0 ? DONE : WIPED] > 0);
    }
}

/* Killed after the old rows went, and then the files of the new ones are damaged too: wiped, and it knows
 * what it lost. */
static void rocks_install_without_its_files(void **state)
{
    (void)state;
    char path[128];
    char file[256];
    snprintf(path, sizeof path, "%s", rocks_directory_new());
    struct wp_store *store = rocks_open(path);
    history(store, rocks_settle);
    wp_store_close(&store);
    run_child(path, 0, 4); /* before the ingestion */
    snprintf(file, sizeof file, "%s/install/%u-0.sst", path, SHARD);
    assert_int_equal(truncate(file, 100), 0);
    store = rocks_open(path);
    expect_wiped(store, wiped_kept);
    expect_untouched(store, OTHER);
    assert_int_not_equal(access(file, F_OK), 0);
    struct wp_state_install *install = install_rows(store);
    assert_int_equal(wp_state_install_commit(&install, NEW_APPLIED, 4, 6), WP_OK);
    expect_installed(store);
    wp_store_close(&store);
    rocks_directory_remove(path);
}

#define BOTH(name)                                                                                           \
    {#name "_rocks", name, NULL, NULL, &bodies[0]},                                                          \
    {                                                                                                        \
#name "_sim", name, NULL, NULL, &bodies[1]                                                           \
    }

int main(int argc, char **argv)
{
    wp_log_init("test", WP_LOG_ERROR);
    if (argc == 4) {
        return child(argv[1], atoi(argv[2]), atoi(argv[3]));
    }
    const char *filter = getenv("WP_TEST_FILTER");
    if (filter != NULL) {
        cmocka_set_test_filter(filter);
    }
    const struct CMUnitTest tests[] = {
        BOTH(hard_state_keeps_all_its_numbers),
        BOTH(view_is_of_one_moment),
        cmocka_unit_test(view_holds_its_snapshot),
        BOTH(wipe_leaves_nothing_but_the_hard_state),
        BOTH(wipe_keeps_promises),
        BOTH(install_replaces_the_shard),
        BOTH(install_makes_whole),
        BOTH(install_refuses_and_aborts),
        BOTH(install_of_many_rows),
        cmocka_unit_test(sim_crash_at_every_step),
        cmocka_unit_test(rocks_kill_at_every_call),
        cmocka_unit_test(rocks_install_without_its_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
