/* Steps through the contract of storage/store.h from the caller's side. Nothing here knows which body
 * answers; what only one body promises stands in that body's own test. */
#include "tests/unit/test_storage_suite.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const struct suite_body *suite;
static struct wp_store *store;

int suite_collect(void *context, const struct wp_log_entry *entry)
{
    struct suite_entries *entries = context;
    assert_true(entries->count < 512);
    entries->indexes[entries->count] = entry->index;
    entries->terms[entries->count] = entry->term;
    entries->data[entries->count] = wp_bytes_retain(entry->data);
    entries->count++;
    return WP_OK;
}

void suite_entries_free(struct suite_entries *entries)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        wp_bytes_release(&entries->data[i]);
    }
    entries->count = 0;
}

static void entry_text(char text[64], uint32_t shard, uint64_t index, uint64_t term)
{
    snprintf(text, 64, "%u/%llu/%llu", shard, (unsigned long long)index, (unsigned long long)term);
}

int suite_append(struct wp_store *into, uint32_t shard, uint64_t first, uint64_t last, uint64_t term)
{
    struct wp_log_entry entries[512];
    uint32_t count = (uint32_t)(last - first + 1);
    assert_true(count <= 512);
    for (uint32_t i = 0; i < count; i++) {
        char text[64];
        entry_text(text, shard, first + i, term);
        entries[i] = (struct wp_log_entry){first + i, term, 1, wp_bytes_copy(text, strlen(text))};
    }
    struct wp_log_write write = {.shard = shard, .entries = entries, .entry_count = count};
    int error = wp_log_submit(into, &write);
    for (uint32_t i = 0; i < count; i++) {
        wp_bytes_release(&entries[i].data);
    }
    return error;
}

int suite_put(
    struct wp_store *into, uint32_t shard, uint64_t index, uint64_t term, const char *key, const char *value)
{
    struct wp_state_batch *batch = wp_state_batch_create(into);
    assert_non_null(batch);
    wp_state_put(batch, wp_slice(key, strlen(key)), wp_slice(value, strlen(value)));
    int error = wp_state_commit(into, batch, shard, index, term);
    wp_state_batch_destroy(&batch);
    assert_null(batch);
    return error;
}

void suite_expect(struct wp_store *from, const char *key, const char *value)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    int error = wp_state_get(from, wp_slice(key, strlen(key)), &out);
    if (value == NULL) {
        assert_int_equal(error, WP_E_NOT_FOUND);
    } else {
        assert_int_equal(error, WP_OK);
        assert_int_equal(out.size, strlen(value));
        assert_memory_equal(out.data, value, out.size);
    }
    wp_buffer_free(&out);
}

static int setup(void **state)
{
    (void)state;
    store = suite->open_new();
    return store == NULL;
}

static int teardown(void **state)
{
    (void)state;
    suite->finish(&store);
    return 0;
}

/* Loads the whole log of a shard and checks that it is first..last with the texts of suite_append. */
static void expect_log(uint32_t shard, uint64_t after, uint64_t first, uint64_t last)
{
    struct suite_entries entries = {0};
    struct wp_log_hard_state hard;
    uint64_t found_first = 99;
    uint64_t found_last = 99;
    assert_int_equal(
        wp_log_load(store, shard, after, &hard, suite_collect, &entries, &found_first, &found_last), WP_OK);
    assert_int_equal(found_first, first);
    assert_int_equal(found_last, last);
    uint64_t from = after + 1 > first ? after + 1 : first;
    assert_int_equal(entries.count, last >= from && last > 0 ? last - from + 1 : 0);
    for (uint32_t i = 0; i < entries.count; i++) {
        char text[64];
        assert_int_equal(entries.indexes[i], from + i);
        entry_text(text, shard, entries.indexes[i], entries.terms[i]);
        assert_int_equal(entries.data[i]->size, strlen(text));
        assert_memory_equal(entries.data[i]->data, text, strlen(text));
    }
    suite_entries_free(&entries);
}

static void state_reads_what_was_committed(void **context)
{
    (void)context;
    suite_expect(store, "a", NULL);
    assert_int_equal(suite_put(store, 1, 5, 2, "a", "one"), WP_OK);
    assert_int_equal(suite_put(store, 1, 6, 2, "b", ""), WP_OK);
    suite_expect(store, "a", "one");
    suite_expect(store, "b", "");
    suite_expect(store, "ab", NULL);
    assert_int_equal(suite_put(store, 1, 7, 2, "a", "two"), WP_OK);
    suite_expect(store, "a", "two");
}

static void state_batch_is_one_and_is_cleared(void **context)
{
    (void)context;
    struct wp_state_batch *batch = wp_state_batch_create(store);
    wp_state_put(batch, SLICE("x"), SLICE("1"));
    /* Nothing is visible before the commit. */
    suite_expect(store, "x", NULL);
    wp_state_batch_clear(batch);
    wp_state_put(batch, SLICE("y"), SLICE("2"));
    wp_state_put(batch, SLICE("z"), SLICE("3"));
    wp_state_delete(batch, SLICE("y"));
    assert_int_equal(wp_state_commit(store, batch, 0, 1, 1), WP_OK);
    suite_expect(store, "x", NULL);
    suite_expect(store, "y", NULL);
    suite_expect(store, "z", "3");
    /* The batch is empty again: committing it moves the applied position only. */
    wp_state_put(batch, SLICE("w"), SLICE("4"));
    assert_int_equal(wp_state_commit(store, batch, 0, 2, 1), WP_OK);
    assert_int_equal(suite_put(store, 0, 3, 1, "w", "5"), WP_OK);
    assert_int_equal(wp_state_commit(store, batch, 0, 4, 1), WP_OK);
    suite_expect(store, "w", "5");
    wp_state_batch_destroy(&batch);
}

static void state_delete_range_takes_from_and_leaves_to(void **context)
{
    (void)context;
    const char *keys[] = {"a", "b", "b1", "c", "d"};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(suite_put(store, 0, (uint64_t)i + 1, 1, keys[i], "v"), WP_OK);
    }
    struct wp_state_batch *batch = wp_state_batch_create(store);
    wp_state_delete_range(batch, SLICE("b"), SLICE("c"));
    wp_state_delete_range(batch, SLICE("d"), SLICE("d")); /* empty range */
    wp_state_delete_range(batch, SLICE("d"), SLICE("a")); /* upside down: nothing */
    wp_state_put(batch, SLICE("b2"), SLICE("new"));       /* after the range in the same batch: stays */
    assert_int_equal(wp_state_commit(store, batch, 0, 6, 1), WP_OK);
    wp_state_batch_destroy(&batch);
    suite_expect(store, "a", "v");
    suite_expect(store, "b", NULL);
    suite_expect(store, "b1", NULL);
    suite_expect(store, "b2", "new");
    suite_expect(store, "c", "v");
    suite_expect(store, "d", "v");
}

static void iterator_is_ordered_bounded_and_a_snapshot(void **context)
{
    (void)context;
    const char *keys[] = {"m", "c", "a", "z", "f", "b"};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(suite_put(store, 0, (uint64_t)i + 1, 1, keys[i], keys[i]), WP_OK);
    }
    struct wp_state_iter *iter = wp_state_iter_create(store, SLICE("b"), SLICE("z"));
    assert_non_null(iter);
    /* Changes after its creation are not seen. */
    assert_int_equal(suite_put(store, 0, 7, 1, "d", "late"), WP_OK);
    assert_int_equal(suite_put(store, 0, 8, 1, "f", "changed"), WP_OK);
    const char *expected[] = {"b", "c", "f", "m"};
    for (int i = 0; i < 4; i++) {
        assert_true(wp_state_iter_valid(iter));
        assert_true(wp_slice_equal(wp_state_iter_key(iter), wp_slice(expected[i], 1)));
        assert_true(wp_slice_equal(wp_state_iter_value(iter), wp_slice(expected[i], 1)));
        wp_state_iter_next(iter);
    }
    assert_false(wp_state_iter_valid(iter));
    assert_int_equal(wp_state_iter_error(iter), WP_OK);
    wp_state_iter_destroy(&iter);
    assert_null(iter);
    /* An empty range is an iterator that is at its end. */
    iter = wp_state_iter_create(store, SLICE("n"), SLICE("o"));
    assert_false(wp_state_iter_valid(iter));
    assert_int_equal(wp_state_iter_error(iter), WP_OK);
    wp_state_iter_destroy(&iter);
}

static void applied_position_is_per_shard_and_kept(void **context)
{
    (void)context;
    uint64_t index;
    uint64_t term;
    wp_state_applied(store, 3, &index, &term);
    assert_int_equal(index, 0);
    assert_int_equal(term, 0);
    assert_int_equal(suite_put(store, 3, 41, 7, "k", "v"), WP_OK);
    assert_int_equal(suite_put(store, 0, 9, 2, "l", "w"), WP_OK);
    wp_state_applied(store, 3, &index, &term);
    assert_int_equal(index, 41);
    assert_int_equal(term, 7);
    assert_int_equal(wp_state_durable_index(store, 3), 0);
    assert_int_equal(wp_state_flush(store), WP_OK);
    assert_int_equal(wp_state_durable_index(store, 3), 41);
    assert_int_equal(wp_state_durable_index(store, 0), 9);
    assert_int_equal(suite_put(store, 3, 42, 7, "k", "v2"), WP_OK);
    assert_int_equal(wp_state_durable_index(store, 3), 41);
    store = suite->reopen(&store);
    wp_state_applied(store, 3, &index, &term);
    assert_int_equal(index, 42);
    assert_int_equal(term, 7);
    assert_int_equal(wp_state_durable_index(store, 3), 42);
    suite_expect(store, "k", "v2");
    assert_int_equal(wp_state_commit(store, NULL, WP_STORE_SHARDS_MAX, 1, 1), WP_E_INVALID);
}

static void applied_keys_do_not_show_among_the_machines_keys(void **context)
{
    (void)context;
    assert_int_equal(suite_put(store, 0, 1, 1, "", "empty key"), WP_OK);
    uint8_t zero[5] = {0};
    struct wp_state_iter *iter =
        wp_state_iter_create(store, wp_slice(zero, 0), SLICE("\xff\xff\xff\xff\xff\xff"));
    assert_true(wp_state_iter_valid(iter));
    assert_int_equal(wp_state_iter_key(iter).size, 0);
    wp_state_iter_next(iter);
    assert_false(wp_state_iter_valid(iter));
    wp_state_iter_destroy(&iter);
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_state_get(store, wp_slice(zero, 5), &out), WP_E_NOT_FOUND);
    wp_buffer_free(&out);
}

static void log_keeps_entries_and_hard_state(void **context)
{
    (void)context;
    expect_log(2, 0, 0, 0);
    assert_int_equal(suite_append(store, 2, 1, 20, 3), WP_OK);
    assert_int_equal(suite_append(store, 3, 1, 2, 1), WP_OK);
    struct wp_log_hard_state hard = {.term = 3, .voted_for = 77};
    struct wp_log_write write = {.shard = 2, .hard = &hard};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    suite->settle(store);
    for (int round = 0; round < 2; round++) {
        expect_log(2, 0, 1, 20);
        expect_log(2, 15, 1, 20);
        expect_log(2, 20, 1, 20);
        expect_log(3, 0, 1, 2);
        expect_log(1, 0, 0, 0);
        struct wp_log_hard_state found;
        uint64_t first;
        uint64_t last;
        assert_int_equal(wp_log_load(store, 2, 0, &found, NULL, NULL, &first, &last), WP_OK);
        assert_int_equal(found.term, 3);
        assert_int_equal(found.voted_for, 77);
        assert_int_equal(wp_log_load(store, 3, 0, &found, NULL, NULL, &first, &last), WP_OK);
        assert_int_equal(found.term, 0);
        store = suite->reopen(&store);
    }
}

static void log_keeps_kind_and_empty_data(void **context)
{
    (void)context;
    struct wp_bytes *empty = wp_bytes_create(0);
    struct wp_log_entry entries[2] = {{1, 1, 2, NULL}, {2, 1, 3, empty}};
    struct wp_log_write write = {.shard = 0, .entries = entries, .entry_count = 2};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    wp_bytes_release(&empty);
    suite->settle(store);
    struct wp_log_entry found[2];
    uint32_t count;
    assert_int_equal(wp_log_read(store, 0, 1, 2, found, &count), WP_OK);
    assert_int_equal(count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(found[i].kind, 2 + i);
        assert_int_equal(found[i].data->size, 0);
        wp_bytes_release(&found[i].data);
    }
}

static void log_reads_ranges_and_terms(void **context)
{
    (void)context;
    assert_int_equal(suite_append(store, 1, 1, 10, 4), WP_OK);
    suite->settle(store);
    struct wp_log_entry found[16];
    uint32_t count = 0;
    assert_int_equal(wp_log_read(store, 1, 4, 3, found, &count), WP_OK);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(found[i].index, 4 + i);
        assert_int_equal(found[i].term, 4);
        wp_bytes_release(&found[i].data);
    }
    assert_int_equal(wp_log_read(store, 1, 8, 16, found, &count), WP_OK);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        wp_bytes_release(&found[i].data);
    }
    assert_int_equal(wp_log_read(store, 1, 11, 1, found, &count), WP_E_NOT_FOUND);
    assert_int_equal(wp_log_read(store, 2, 1, 1, found, &count), WP_E_NOT_FOUND);
    uint64_t term = 0;
    assert_int_equal(wp_log_term(store, 1, 10, &term), WP_OK);
    assert_int_equal(term, 4);
    assert_int_equal(wp_log_term(store, 1, 11, &term), WP_E_NOT_FOUND);
    assert_int_equal(wp_log_term(store, WP_STORE_SHARDS_MAX, 1, &term), WP_E_INVALID);
}

static void truncation_replaces_the_tail(void **context)
{
    (void)context;
    assert_int_equal(suite_append(store, 1, 1, 10, 1), WP_OK);
    suite->settle(store);
    struct wp_bytes *data = wp_bytes_copy("1/6/2", 5);
    struct wp_log_entry entry = {6, 2, 1, data};
    struct wp_log_hard_state hard = {.term = 2, .voted_for = 1};
    struct wp_log_write write = {
        .shard = 1, .truncate_from = 6, .entries = &entry, .entry_count = 1, .hard = &hard};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    wp_bytes_release(&data);
    suite->settle(store);
    for (int round = 0; round < 2; round++) {
        expect_log(1, 0, 1, 6);
        uint64_t term;
        assert_int_equal(wp_log_term(store, 1, 5, &term), WP_OK);
        assert_int_equal(term, 1);
        assert_int_equal(wp_log_term(store, 1, 6, &term), WP_OK);
        assert_int_equal(term, 2);
        assert_int_equal(wp_log_term(store, 1, 7, &term), WP_E_NOT_FOUND);
        store = suite->reopen(&store);
    }
    /* Appended and truncated before the first sync: FIFO decides. */
    assert_int_equal(suite_append(store, 1, 7, 9, 2), WP_OK);
    struct wp_log_write cut = {.shard = 1, .truncate_from = 8};
    assert_int_equal(wp_log_submit(store, &cut), WP_OK);
    assert_int_equal(suite_append(store, 1, 8, 8, 3), WP_OK);
    suite->settle(store);
    expect_log(1, 0, 1, 8);
    store = suite->reopen(&store);
    expect_log(1, 0, 1, 8);
}

static void drop_compacts_and_remembers_its_floor(void **context)
{
    (void)context;
    assert_int_equal(suite_append(store, 1, 1, 10, 1), WP_OK);
    struct wp_log_write write = {.shard = 1, .drop_below = 5};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    assert_int_equal(wp_log_submit(store, &write), WP_OK); /* again: nothing to do */
    write.drop_below = 3;
    assert_int_equal(wp_log_submit(store, &write), WP_OK); /* lower: nothing to do */
    suite->settle(store);
    for (int round = 0; round < 2; round++) {
        expect_log(1, 4, 5, 10);
        expect_log(1, 7, 5, 10);
        struct wp_log_entry found;
        uint32_t count;
        assert_int_equal(wp_log_read(store, 1, 4, 1, &found, &count), WP_E_NOT_FOUND);
        /* State that ends before the retained range cannot be brought up to date. */
        struct wp_log_hard_state hard;
        uint64_t first;
        uint64_t last;
        struct suite_entries entries = {0};
        assert_int_equal(
            wp_log_load(store, 1, 3, &hard, suite_collect, &entries, &first, &last), WP_E_CORRUPT);
        suite_entries_free(&entries);
        char text[256];
        wp_store_error_text(store, text, sizeof text);
        assert_non_null(strstr(text, "shard 1"));
        store = suite->reopen(&store);
    }
    struct wp_log_write cut = {.shard = 1, .truncate_from = 4};
    assert_int_equal(wp_log_submit(store, &cut), WP_E_INVALID); /* below what was dropped */
}

static void drop_of_everything_goes_on_at_the_floor(void **context)
{
    (void)context;
    assert_int_equal(suite_append(store, 1, 1, 10, 1), WP_OK);
    struct wp_log_write write = {.shard = 1, .drop_below = 11};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    suite->settle(store);
    store = suite->reopen(&store);
    expect_log(1, 10, 11, 10);
    assert_int_equal(suite_append(store, 1, 12, 12, 1), WP_E_INVALID);
    assert_int_equal(suite_append(store, 1, 11, 12, 1), WP_OK);
    /* A snapshot that was installed: the log goes on far above its end. */
    write.drop_below = 101;
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    suite->settle(store);
    store = suite->reopen(&store);
    expect_log(1, 100, 101, 100);
    assert_int_equal(suite_append(store, 1, 13, 13, 1), WP_E_INVALID);
    assert_int_equal(suite_append(store, 1, 101, 102, 1), WP_OK);
    suite->settle(store);
    expect_log(1, 100, 101, 102);
}

static void log_refuses_gaps(void **context)
{
    (void)context;
    assert_int_equal(suite_append(store, 1, 40, 42, 1), WP_OK); /* an empty log may start anywhere */
    assert_int_equal(suite_append(store, 1, 44, 44, 1), WP_E_INVALID);
    assert_int_equal(suite_append(store, 1, 42, 42, 1), WP_E_INVALID);
    struct wp_log_entry entries[2] = {{43, 1, 1, NULL}, {45, 1, 1, NULL}};
    struct wp_log_write write = {.shard = 1, .entries = entries, .entry_count = 2};
    assert_int_equal(wp_log_submit(store, &write), WP_E_INVALID);
    write.shard = WP_STORE_SHARDS_MAX;
    assert_int_equal(wp_log_submit(store, &write), WP_E_INVALID);
    suite->settle(store);
    expect_log(1, 39, 40, 42); /* nothing of the refused writes is there */
    assert_int_equal(suite_append(store, 1, 43, 43, 1), WP_OK);
}

static uint64_t tags_seen[256];
static uint32_t tag_count;

static void tag_take(void *context, uint64_t tag)
{
    assert_ptr_equal(context, &tag_count);
    tags_seen[tag_count++] = tag;
}

static void completions_come_once_and_in_order(void **context)
{
    (void)context;
    tag_count = 0;
    for (uint32_t i = 0; i < 200; i++) {
        struct wp_log_entry entry = {i / 4 + 1, 1, 1, NULL};
        struct wp_log_write write = {.shard = i % 4,
            .entries = &entry,
            .entry_count = 1,
            .done = tag_take,
            .context = &tag_count,
            .tag = 1000 + i};
        assert_int_equal(wp_log_submit(store, &write), WP_OK);
    }
    suite->settle(store);
    assert_int_equal(tag_count, 200);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(tags_seen[i], 1000 + i);
    }
}

static int refuse_second(void *context, const struct wp_log_entry *entry)
{
    (void)context;
    return entry->index == 2 ? WP_E_FULL : WP_OK;
}

static void load_ends_when_the_caller_says_so(void **context)
{
    (void)context;
    assert_int_equal(suite_append(store, 1, 1, 5, 1), WP_OK);
    suite->settle(store);
    struct wp_log_hard_state hard;
    uint64_t first;
    uint64_t last;
    assert_int_equal(wp_log_load(store, 1, 0, &hard, refuse_second, NULL, &first, &last), WP_E_FULL);
}

static void facts_are_replaced_and_kept(void **context)
{
    (void)context;
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_store_fact_get(store, "cluster-id", &out), WP_E_NOT_FOUND);
    assert_int_equal(wp_store_fact_set(store, "cluster-id", SLICE("first")), WP_OK);
    assert_int_equal(wp_store_fact_set(store, "cluster-id", SLICE("second value")), WP_OK);
    assert_int_equal(wp_store_fact_set(store, "empty", SLICE("")), WP_OK);
    store = suite->reopen(&store);
    assert_int_equal(wp_store_fact_get(store, "cluster-id", &out), WP_OK);
    assert_true(wp_slice_equal(wp_slice(out.data, out.size), SLICE("second value")));
    assert_int_equal(wp_store_fact_get(store, "empty", &out), WP_OK);
    assert_int_equal(out.size, 12);
    wp_buffer_free(&out);
    static const char *const bad[] = {"", ".hidden", "a/b", "Upper", "..",
        "a23456789012345678901234567890123456789012345678901234567890123456"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(wp_store_fact_set(store, bad[i], SLICE("x")), WP_E_INVALID);
        assert_int_equal(wp_store_fact_get(store, bad[i], &out), WP_E_INVALID);
    }
    static uint8_t large[WP_FACT_SIZE_MAX + 1];
    assert_int_equal(wp_store_fact_set(store, "large", wp_slice(large, sizeof large)), WP_E_INVALID);
    assert_int_equal(wp_store_fact_set(store, "large", wp_slice(large, sizeof large - 1)), WP_OK);
    assert_int_equal(wp_store_fact_get(store, "large", &out), WP_OK);
    assert_int_equal(out.size, sizeof large - 1);
    wp_buffer_free(&out);
}

static void directory_id_stays(void **context)
{
    (void)context;
    uint64_t id = wp_store_directory_id(store);
    assert_int_not_equal(id, 0);
    store = suite->reopen(&store);
    assert_true(wp_store_directory_id(store) == id);
    suite->finish(&store);
    store = suite->open_new();
    assert_true(wp_store_directory_id(store) != id);
}

static void boot_counts_starts(void **context)
{
    (void)context;
    assert_int_equal(wp_store_boot(store), 1);
    store = suite->reopen(&store);
    assert_int_equal(wp_store_boot(store), 2);
    store = suite->reopen(&store);
    assert_int_equal(wp_store_boot(store), 3);
}

static void many_keys_survive_flush_and_reopen(void **context)
{
    (void)context;
    struct wp_state_batch *batch = wp_state_batch_create(store);
    char key[32];
    char value[64];
    for (uint32_t i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "key/%05u", (i * 7919) % 2000);
        snprintf(value, sizeof value, "value of %s", key);
        wp_state_put(batch, wp_slice(key, strlen(key)), wp_slice(value, strlen(value)));
        if (i % 16 == 15) {
            assert_int_equal(wp_state_commit(store, batch, i % 8, i + 1, 1), WP_OK);
        }
        if (i == 1000) {
            assert_int_equal(wp_state_flush(store), WP_OK);
        }
        wp_state_flush_if_due(store);
    }
    wp_state_batch_destroy(&batch);
    store = suite->reopen(&store);
    struct wp_state_iter *iter = wp_state_iter_create(store, SLICE("key/"), SLICE("key0"));
    uint32_t count = 0;
    for (; wp_state_iter_valid(iter); wp_state_iter_next(iter)) {
        snprintf(key, sizeof key, "key/%05u", count);
        snprintf(value, sizeof value, "value of %s", key);
        assert_true(wp_slice_equal(wp_state_iter_key(iter), wp_slice(key, strlen(key))));
        assert_true(wp_slice_equal(wp_state_iter_value(iter), wp_slice(value, strlen(value))));
        count++;
    }
    assert_int_equal(wp_state_iter_error(iter), WP_OK);
    assert_int_equal(count, 2000);
    wp_state_iter_destroy(&iter);
}

int suite_run(const struct suite_body *body, const char *name)
{
    suite = body;
#define STEP(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        STEP(state_reads_what_was_committed),
        STEP(state_batch_is_one_and_is_cleared),
        STEP(state_delete_range_takes_from_and_leaves_to),
        STEP(iterator_is_ordered_bounded_and_a_snapshot),
        STEP(applied_position_is_per_shard_and_kept),
        STEP(applied_keys_do_not_show_among_the_machines_keys),
        STEP(log_keeps_entries_and_hard_state),
        STEP(log_keeps_kind_and_empty_data),
        STEP(log_reads_ranges_and_terms),
        STEP(truncation_replaces_the_tail),
        STEP(drop_compacts_and_remembers_its_floor),
        STEP(drop_of_everything_goes_on_at_the_floor),
        STEP(log_refuses_gaps),
        STEP(completions_come_once_and_in_order),
        STEP(load_ends_when_the_caller_says_so),
        STEP(facts_are_replaced_and_kept),
        STEP(directory_id_stays),
        STEP(boot_counts_starts),
        STEP(many_keys_survive_flush_and_reopen),
    };
#undef STEP
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
