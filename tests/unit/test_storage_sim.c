/* The simulated body: the common suite, then what a power cut may and may not do to it. The crash tests draw
 * many seeds; each seed must keep the promises, and over all of them every kind of loss must have occurred.
 */
#include "tests/unit/test_storage_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "storage/layout.h"
#include "storage/sim/frame.h"
#include "storage/sim/map.h"
#include "storage/sim/sim.h"

static struct wp_store *body_reopen(struct wp_store **store)
{
    wp_sim_restart(store);
    struct wp_store *next = *store;
    *store = NULL;
    return next;
}

static void body_settle(struct wp_store *store)
{
    while (wp_sim_pending(store) > 0) {
        assert_int_equal(wp_sim_sync(store, 0), WP_OK);
    }
}

static uint64_t acknowledged;

static void acknowledge(void *context, uint64_t tag)
{
    (void)context;
    assert_int_equal(tag, acknowledged + 1);
    acknowledged = tag;
}

static void append_one(struct wp_store *store, uint64_t index)
{
    char text[32];
    snprintf(text, sizeof text, "entry %llu", (unsigned long long)index);
    struct wp_bytes *data = wp_bytes_copy(text, strlen(text));
    struct wp_log_entry entry = {index, 1, 1, data};
    struct wp_log_write write = {
        .shard = 1, .entries = &entry, .entry_count = 1, .done = acknowledge, .tag = index};
    assert_int_equal(wp_log_submit(store, &write), WP_OK);
    wp_bytes_release(&data);
}

static uint64_t last_of(struct wp_store *store)
{
    struct wp_log_hard_state hard;
    uint64_t first;
    uint64_t last;
    struct suite_entries entries = {0};
    assert_int_equal(wp_log_load(store, 1, 0, &hard, suite_collect, &entries, &first, &last), WP_OK);
    for (uint32_t i = 0; i < entries.count; i++) {
        char text[32];
        snprintf(text, sizeof text, "entry %u", i + 1);
        assert_int_equal(entries.data[i]->size, strlen(text));
        assert_memory_equal(entries.data[i]->data, text, strlen(text));
    }
    suite_entries_free(&entries);
    return last;
}

static void nothing_is_seen_or_acknowledged_before_its_sync(void **state)
{
    (void)state;
    struct wp_store *store = wp_sim_create();
    acknowledged = 0;
    for (uint64_t index = 1; index <= 5; index++) {
        append_one(store, index);
    }
    assert_int_equal(wp_sim_pending(store), 5);
    assert_int_equal(acknowledged, 0);
    assert_int_equal(last_of(store), 0);
    assert_int_equal(wp_sim_sync(store, 2), WP_OK);
    assert_int_equal(acknowledged, 2);
    assert_int_equal(last_of(store), 2);
    assert_int_equal(wp_sim_sync(store, 0), WP_OK);
    assert_int_equal(acknowledged, 5);
    assert_int_equal(wp_sim_sync(store, 0), WP_OK); /* nothing pending */
    wp_store_close(&store);
}

static void crash_keeps_what_was_acknowledged_and_may_tear_the_rest(void **state)
{
    (void)state;
    uint32_t kept_none = 0;
    uint32_t kept_some = 0;
    uint32_t kept_all = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct wp_store *store = wp_sim_create();
        acknowledged = 0;
        for (uint64_t index = 1; index <= 20; index++) {
            append_one(store, index);
            if (index % 6 == 0) {
                assert_int_equal(wp_sim_sync(store, 4), WP_OK);
            }
        }
        struct wp_store *image = wp_sim_crash(store, seed);
        uint64_t last = last_of(image); /* fails on a gap or a torn record */
        assert_true(last >= acknowledged);
        assert_true(last <= 20);
        assert_int_equal(wp_store_boot(image), 2);
        kept_none += last == acknowledged;
        kept_some += last > acknowledged && last < 20;
        kept_all += last == 20;
        /* The same seed gives the same image; the image goes on where it ends. */
        struct wp_store *again = wp_sim_crash(store, seed);
        assert_int_equal(last_of(again), last);
        acknowledged = last;
        append_one(image, last + 1);
        assert_int_equal(wp_sim_sync(image, 0), WP_OK);
        wp_store_close(&again);
        wp_store_close(&image);
        wp_store_close(&store);
    }
    assert_true(kept_none > 0 && kept_some > 0 && kept_all > 0);
}

static void state_falls_back_to_a_whole_batch(void **state)
{
    (void)state;
    bool found[21] = {false};
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct wp_store *store = wp_sim_create();
        struct wp_state_batch *batch = wp_state_batch_create(store);
        for (uint64_t index = 1; index <= 20; index++) {
            char value[16];
            snprintf(value, sizeof value, "%llu", (unsigned long long)index);
            wp_state_put(batch, SLICE("first"), wp_slice(value, strlen(value)));
            wp_state_put(batch, SLICE("second"), wp_slice(value, strlen(value)));
            assert_int_equal(wp_state_commit(store, batch, 1, index, 1), WP_OK);
            if (index == 8) {
                assert_int_equal(wp_state_flush(store), WP_OK);
            }
        }
        wp_state_batch_destroy(&batch);
        struct wp_store *image = wp_sim_crash(store, seed);
        uint64_t index;
        uint64_t term;
        wp_state_applied(image, 1, &index, &term);
        assert_true(index >= wp_state_durable_index(store, 1));
        assert_true(index >= 8 && index <= 20);
        found[index] = true;
        char value[16];
        snprintf(value, sizeof value, "%llu", (unsigned long long)index);
        suite_expect(image, "first", value);
        suite_expect(image, "second", value);
        assert_int_equal(wp_state_durable_index(image, 1), index);
        wp_store_close(&image);
        wp_store_close(&store);
    }
    for (int index = 8; index <= 20; index++) {
        assert_true(found[index]);
    }
}

static uint32_t failures;

static void on_failure(void *context, int error, const char *text)
{
    (void)context;
    assert_int_equal(error, WP_E_IO);
    assert_non_null(strstr(text, "instance log"));
    failures++;
}

static void failed_sync_acknowledges_nothing(void **state)
{
    (void)state;
    struct wp_store *store = wp_sim_create();
    acknowledged = 0;
    failures = 0;
    wp_store_on_failure(store, on_failure, NULL);
    append_one(store, 1);
    assert_int_equal(wp_sim_sync(store, 0), WP_OK);
    append_one(store, 2);
    wp_sim_fail_sync(store, WP_E_IO);
    assert_int_equal(wp_sim_sync(store, 0), WP_E_IO);
    assert_int_equal(wp_sim_sync(store, 0), WP_E_IO);
    assert_int_equal(acknowledged, 1);
    assert_int_equal(failures, 1);
    assert_int_equal(suite_append(store, 1, 3, 3, 1), WP_E_IO);
    assert_int_equal(suite_put(store, 1, 1, 1, "k", "v"), WP_E_IO);
    struct wp_store *image = wp_sim_crash(store, 3);
    assert_true(last_of(image) >= 1);
    wp_store_close(&image);
    wp_store_close(&store);
}

static void flipped_bits_are_never_served(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct wp_store *store = wp_sim_create();
        assert_int_equal(suite_put(store, 1, 1, 1, "key", "value"), WP_OK);
        assert_int_equal(suite_append(store, 1, 1, 3, 1), WP_OK);
        body_settle(store);
        assert_int_equal(wp_sim_flip_state(store, SLICE("key"), seed), WP_OK);
        assert_int_equal(wp_sim_flip_state(store, SLICE("other"), seed), WP_E_NOT_FOUND);
        assert_int_equal(wp_sim_flip_entry(store, 1, 2, seed), WP_OK);
        struct wp_buffer out = WP_BUFFER_INIT;
        assert_int_equal(wp_state_get(store, SLICE("key"), &out), WP_E_CORRUPT);
        wp_buffer_free(&out);
        struct wp_state_iter *iter = wp_state_iter_create(store, SLICE("a"), SLICE("z"));
        assert_false(wp_state_iter_valid(iter));
        assert_int_equal(wp_state_iter_error(iter), WP_E_CORRUPT);
        wp_state_iter_destroy(&iter);
        uint64_t term;
        assert_int_equal(wp_log_term(store, 1, 2, &term), WP_E_CORRUPT);
        struct wp_log_hard_state hard;
        uint64_t first;
        uint64_t last;
        struct suite_entries entries = {0};
        assert_int_equal(
            wp_log_load(store, 1, 0, &hard, suite_collect, &entries, &first, &last), WP_E_CORRUPT);
        suite_entries_free(&entries);
        wp_store_close(&store);
    }
}

static void disk_is_what_the_driver_says(void **state)
{
    (void)state;
    struct wp_store *store = wp_sim_create();
    struct wp_store_disk disk;
    wp_store_disk(store, &disk);
    assert_false(disk.full);
    wp_sim_disk_set(store, disk.reserve_bytes - 1);
    wp_store_disk(store, &disk);
    assert_true(disk.full);
    wp_sim_disk_set(store, disk.reserve_bytes * 3 / 2);
    wp_store_disk(store, &disk);
    assert_false(disk.full);
    wp_store_close(&store);
}

static void flush_comes_by_bytes(void **state)
{
    (void)state;
    struct wp_store *store = wp_sim_create();
    wp_sim_flush_bytes_set(store, 200);
    assert_int_equal(suite_put(store, 1, 1, 1, "key", "small"), WP_OK);
    wp_state_flush_if_due(store);
    assert_int_equal(wp_state_durable_index(store, 1), 0);
    char value[300];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    assert_int_equal(suite_put(store, 1, 2, 1, "key", value), WP_OK);
    wp_state_flush_if_due(store);
    assert_int_equal(wp_state_durable_index(store, 1), 2);
    assert_int_equal(suite_put(store, 1, 3, 1, "key", "small"), WP_OK);
    wp_state_flush_soon(store);
    assert_int_equal(wp_state_durable_index(store, 1), 3);
    wp_store_close(&store);
}

/* The map against a plain array, with versions kept along the way. */
static void map_agrees_with_an_array_in_every_version(void **state)
{
    (void)state;
    enum { KEYS = 64, VERSIONS = 16 };
    struct sim_node *root = NULL;
    uint32_t array[KEYS] = {0}; /* value + 1; 0 = absent */
    struct sim_node *kept[VERSIONS];
    uint32_t kept_arrays[VERSIONS][KEYS];
    struct wp_prng prng;
    wp_prng_init(&prng, 7);
    for (uint32_t step = 0; step < VERSIONS * 100; step++) {
        uint8_t key = (uint8_t)wp_prng_below(&prng, KEYS);
        uint8_t end = (uint8_t)wp_prng_below(&prng, KEYS);
        switch (wp_prng_below(&prng, 8)) {
        case 0:
            sim_map_delete(&root, wp_slice(&key, 1));
            array[key] = 0;
            break;
        case 1:
            sim_map_delete_range(&root, wp_slice(&key, 1), wp_slice(&end, 1));
            for (uint8_t k = key; k < end; k++) {
                array[k] = 0;
            }
            break;
        default: {
            struct wp_bytes *value = wp_bytes_copy(&step, sizeof step);
            sim_map_put(&root, wp_slice(&key, 1), value);
            wp_bytes_release(&value);
            array[key] = step + 1;
            break;
        }
        }
        if (step % 100 == 99) {
            kept[step / 100] = sim_map_retain(root);
            memcpy(kept_arrays[step / 100], array, sizeof array);
        }
    }
    sim_map_release(&root);
    for (uint32_t version = 0; version < VERSIONS; version++) {
        const struct sim_node *node = sim_map_first_from(kept[version], wp_slice(NULL, 0));
        for (uint8_t key = 0; key < KEYS; key++) {
            const struct sim_node *found = sim_map_find(kept[version], wp_slice(&key, 1));
            if (kept_arrays[version][key] == 0) {
                assert_null(found);
                continue;
            }
            assert_ptr_equal(found, node);
            uint32_t value;
            memcpy(&value, found->value->data, sizeof value);
            assert_int_equal(value + 1, kept_arrays[version][key]);
            node = sim_map_first_after(kept[version], sim_node_key(node));
        }
        assert_null(node);
        sim_map_release(&kept[version]);
    }
}

static void torn_frames_are_told_from_whole_ones(void **state)
{
    (void)state;
    struct wp_bytes *data = wp_bytes_copy("payload", 7);
    struct wp_log_entry entries[2] = {{4, 2, 1, data}, {5, 2, 3, NULL}};
    struct sim_frame frame = {.shard = 9,
        .cut_from = 4,
        .cut_to = 8,
        .floor = 2,
        .floor_term = 1,
        .has_hard = true,
        .hard = {2, 6},
        .entry_count = 2};
    struct wp_buffer wal = WP_BUFFER_INIT;
    assert_int_equal(sim_frame_encode(&frame, entries, &wal), WP_OK);
    wp_bytes_release(&data);
    for (size_t size = 0; size < wal.size; size++) {
        struct wp_slice input = wp_slice(wal.data, size);
        struct sim_frame found;
        assert_int_not_equal(sim_frame_decode(&input, &found), WP_OK);
    }
    struct wp_slice input = wp_slice(wal.data, wal.size);
    struct sim_frame found;
    assert_int_equal(sim_frame_decode(&input, &found), WP_OK);
    assert_int_equal(input.size, 0);
    assert_int_equal(found.shard, 9);
    assert_int_equal(found.cut_from, 4);
    assert_int_equal(found.cut_to, 8);
    assert_int_equal(found.floor, 2);
    assert_int_equal(found.hard.voted_for, 6);
    struct wp_log_entry entry;
    assert_int_equal(sim_frame_next_entry(&found, &entry), WP_OK);
    assert_int_equal(entry.index, 4);
    assert_memory_equal(entry.data->data, "payload", 7);
    wp_bytes_release(&entry.data);
    assert_int_equal(sim_frame_next_entry(&found, &entry), WP_OK);
    assert_int_equal(entry.kind, 3);
    wp_bytes_release(&entry.data);
    assert_int_equal(sim_frame_next_entry(&found, &entry), WP_E_CORRUPT);
    wp_buffer_free(&wal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_seen_or_acknowledged_before_its_sync),
        cmocka_unit_test(crash_keeps_what_was_acknowledged_and_may_tear_the_rest),
        cmocka_unit_test(state_falls_back_to_a_whole_batch),
        cmocka_unit_test(failed_sync_acknowledges_nothing),
        cmocka_unit_test(flipped_bits_are_never_served),
        cmocka_unit_test(disk_is_what_the_driver_says),
        cmocka_unit_test(flush_comes_by_bytes),
        cmocka_unit_test(map_agrees_with_an_array_in_every_version),
        cmocka_unit_test(torn_frames_are_told_from_whole_ones),
    };
    const char *filter = getenv("WP_TEST_FILTER");
    cmocka_set_test_filter(filter);
    int failed = cmocka_run_group_tests_name("simulated body", tests, NULL, NULL);
    static const struct suite_body body = {wp_sim_create, body_reopen, body_settle, wp_store_close};
    return failed + (filter == NULL ? suite_run(&body, "storage suite, simulated body") : 0);
}
