/* Loading: damaged or missing rows are noticed and nothing is served from them; rows reach their own keys
 * only when they stay quiet, and a machine that uses RocksDB is the same machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "router/journal.h"
#include "router/keys.h"
#include "storage/sim/sim.h"
#include "tests/unit/machine_fixture.h"
#include "tests/unit/test_storage_rocks.h"

/* A team whose members live elsewhere, so that a message to it and the receipts of ann's stay in the outbox.
 */
static void fill_outbox(struct fixture *f, struct sender *ann)
{
    static const char *const users[] = {"ann", "bob", "eve", "far1", "far2", "far3", "far4"};
    static const struct wp_slice nothing[1];
    fixture_begin(f);
    fixture_team_add(f, "icu");
    fixture_members_add(f, "icu", users, 7);
    fixture_transfer(f, 1, 1, nothing, 1);
    fixture_apply(f);
    struct message message = {.recipient = "icu", .to_team = true, .body_size = 50};
    assert_int_equal(fixture_send(f, ann, &message)->error, WP_OK);
    struct wp_machine_totals totals;
    wp_machine_totals(f->machine, &totals);
    assert_true(totals.outbox_items > 0);
}

/* Something of everything, some of it already under its own key. */
static void fill(struct fixture *f)
{
    f->limits.stat_per_minute_max = 100;
    fixture_ring(f, 4);
    fixture_begin(f);
    fixture_limits(f, 1, &f->limits);
    fixture_apply(f);
    uint64_t bob = fixture_user(f, "bob", 2);
    uint64_t eve = fixture_user(f, "eve", 1);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 1};
    fixture_fill(f, &ann, "bob", WP__LANE__ROUTINE, 4);
    fixture_fill(f, &ann, "bob", WP__LANE__STAT, 2);
    fixture_fill(f, &ann, "eve", WP__LANE__URGENT, 3);
    fill_outbox(f, &ann);
    fixture_acknowledge_one(f, bob, 1, WP__LANE__ROUTINE, 2);
    fixture_acknowledge_one(f, eve, 1, WP__LANE__URGENT, 1);
    struct sender zoe = {.user = "zoe", .device = "d1", .epoch = 1};
    fixture_user(f, "noisy", 1);
    for (uint32_t i = 0; i < WP_JOURNAL_ROWS; i++) { /* everything before leaves the journal */
        fixture_fill(f, &zoe, "noisy", WP__LANE__ROUTINE, 1);
        fixture_acknowledge_one(f, 3, 1, WP__LANE__ROUTINE, i + 1);
    }
    fixture_fill(f, &zoe, "noisy", WP__LANE__URGENT, 2);
}

struct keys {
    struct wp_key list[4096];
    uint32_t count;
};

static void keys_of(const struct fixture *f, struct keys *keys)
{
    struct wp_key from, to;
    wp_key_tag(&from, FIXTURE_SHARD, 0);
    wp_key_tag(&to, FIXTURE_SHARD, WP_KEY_END);
    keys->count = 0;
    struct wp_state_iter *iter = wp_state_iter_create(f->store, wp_key_slice(&from), wp_key_slice(&to));
    for (; wp_state_iter_valid(iter); wp_state_iter_next(iter)) {
        struct wp_slice key = wp_state_iter_key(iter);
        assert_true(keys->count < 4096);
        keys->list[keys->count].size = (uint32_t)key.size;
        memcpy(keys->list[keys->count++].data, key.data, key.size);
    }
    wp_state_iter_destroy(&iter);
}

static void test_quiet_rows_leave_the_journal(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fill(&f);
    assert_int_equal(fixture_rows(&f, WP_KEY_JOURNAL), WP_JOURNAL_ROWS);
    /* Of 10 messages kept before the noise, and of the 512 that came and went with it, nothing more than
     * that.
     */
    assert_int_equal(fixture_rows(&f, WP_KEY_INDEX), 10);
    assert_int_equal(fixture_rows(&f, WP_KEY_MESSAGE), 10);
    assert_int_equal(fixture_rows(&f, WP_KEY_BODY), 1);   /* of two copies */
    assert_int_equal(fixture_rows(&f, WP_KEY_STREAM), 1); /* zoe's is still in the journal */
    assert_int_equal(fixture_rows(&f, WP_KEY_MAILBOX), 2);
    uint64_t hash = fixture_hash(&f);
    fixture_restart(&f);
    assert_int_equal(fixture_hash(&f), hash);
    fixture_fini(&f);
}

static void test_flipped_bit_is_noticed_at_a_start(void **state)
{
    (void)state;
    static struct keys keys;
    struct fixture f;
    fixture_init(&f);
    fill(&f);
    wp_machine_destroy(&f.machine);
    assert_int_equal(wp_state_flush(f.store), WP_OK);
    keys_of(&f, &keys);
    uint32_t tags = 0;
    for (uint32_t i = 0; i < keys.count; i++) {
        uint8_t tag = keys.list[i].data[4];
        bool many = tag == WP_KEY_JOURNAL || tag == WP_KEY_SEEN || tag == WP_KEY_ITEM;
        if (tag == WP_KEY_MESSAGE || tag == WP_KEY_BODY || (many && i % 50)) {
            continue; /* bodies are not read; of the many a few */
        }
        tags |= 1u << tag;
        struct wp_store *image = wp_sim_crash(f.store, 1);
        assert_int_equal(wp_sim_flip_state(image, wp_key_slice(&keys.list[i]), i), WP_OK);
        int error = wp_machine_create(image, FIXTURE_SHARD, &f.limits, &f.machine);
        assert_int_equal(error, WP_E_CORRUPT);
        wp_store_close(&image);
    }
    for (uint32_t tag = WP_KEY_MACHINE; tag < WP_KEY_END; tag++) {
        assert_true(tag == WP_KEY_MESSAGE || tag == WP_KEY_BODY || tags >> tag & 1);
    }
    assert_int_equal(wp_machine_create(f.store, FIXTURE_SHARD, &f.limits, &f.machine), WP_OK);
    fixture_fini(&f);
}

static void test_missing_row_is_noticed_at_a_start(void **state)
{
    (void)state;
    static struct keys keys;
    struct fixture f;
    fixture_init(&f);
    fill(&f);
    wp_machine_destroy(&f.machine);
    assert_int_equal(wp_state_flush(f.store), WP_OK);
    keys_of(&f, &keys);
    uint32_t tried = 0;
    for (uint32_t i = 0; i < keys.count; i++) {
        uint8_t tag = keys.list[i].data[4];
        if (tag != WP_KEY_USER && tag != WP_KEY_MAILBOX && tag != WP_KEY_INDEX) {
            continue; /* these are counted somewhere else; of the others any number may be there */
        }
        struct wp_store *image = wp_sim_crash(f.store, 1);
        struct wp_state_batch *batch = wp_state_batch_create(image);
        wp_state_delete(batch, wp_key_slice(&keys.list[i]));
        assert_int_equal(wp_state_commit(image, batch, FIXTURE_SHARD, f.index + 1, 1), WP_OK);
        wp_state_batch_destroy(&batch);
        assert_int_equal(wp_machine_create(image, FIXTURE_SHARD, &f.limits, &f.machine), WP_E_CORRUPT);
        wp_store_close(&image);
        tried++;
    }
    assert_int_equal(tried, 3 + 2 + 10);
    assert_int_equal(wp_machine_create(f.store, FIXTURE_SHARD, &f.limits, &f.machine), WP_OK);
    fixture_fini(&f);
}

static void test_smaller_bounds_do_not_keep_a_shard_from_starting(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fill(&f);
    f.limits.seen_ids_max = 64;
    f.limits.mailbox_messages_max = 1;
    f.limits.ttl_max_ms = 1000;
    fixture_begin(&f);
    fixture_limits(&f, 2, &f.limits);
    fixture_apply(&f);
    fixture_restart(&f);
    struct sender ann = {.user = "ann", .device = "d1", .epoch = 2};
    struct message message = {.recipient = "eve", .ttl_ms = 1000};
    assert_int_equal(fixture_send(&f, &ann, &message)->error, WP_E_SEEN_FULL);
    f.time_ms += 11 * MINUTE_MS;
    struct message next = {.recipient = "eve", .ttl_ms = 1000};
    assert_int_equal(fixture_send(&f, &ann, &next)->error, WP_E_MAILBOX_FULL);
    fixture_acknowledge_one(&f, 2, 1, WP__LANE__URGENT, 2);
    fixture_acknowledge_one(&f, 2, 1, WP__LANE__URGENT, 3);
    fixture_acknowledge_one(&f, 2, 1, WP__LANE__ROUTINE, 1);
    struct message last = {.recipient = "eve", .ttl_ms = 1000};
    assert_int_equal(fixture_send(&f, &ann, &last)->error, WP_OK);
    fixture_restart(&f);
    fixture_fini(&f);
}

static void test_same_machine_on_rocksdb(void **state)
{
    (void)state;
    struct fixture sim, rocks;
    fixture_init(&sim);
    fixture_init(&rocks);
    char path[128];
    snprintf(path, sizeof path, "%s", rocks_directory_new());
    wp_machine_destroy(&rocks.machine);
    wp_store_close(&rocks.store);
    rocks.store = rocks_open(path);
    assert_int_equal(wp_machine_create(rocks.store, FIXTURE_SHARD, &rocks.limits, &rocks.machine), WP_OK);

    fill(&sim);
    fill(&rocks);
    assert_int_equal(fixture_hash(&rocks), fixture_hash(&sim));
    wp_machine_destroy(&rocks.machine);
    wp_store_close(&rocks.store);
    rocks.store = rocks_open(path);
    assert_int_equal(wp_machine_create(rocks.store, FIXTURE_SHARD, &rocks.limits, &rocks.machine), WP_OK);
    assert_int_equal(fixture_hash(&rocks), fixture_hash(&sim));

    sim.time_ms = rocks.time_ms += 8ull * DAY_MS;
    assert_int_equal(fixture_expire_now(&sim, 100)->expire.expired, 11); /* one of twelve was acknowledged */
    assert_int_equal(fixture_expire_now(&rocks, 100)->expire.expired, 11);
    assert_int_equal(fixture_hash(&rocks), fixture_hash(&sim));
    assert_int_equal(fixture_rows(&rocks, WP_KEY_MESSAGE) + fixture_rows(&rocks, WP_KEY_BODY), 0);
    fixture_fini(&sim);
    fixture_fini(&rocks);
    rocks_directory_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet_rows_leave_the_journal),
        cmocka_unit_test(test_flipped_bit_is_noticed_at_a_start),
        cmocka_unit_test(test_missing_row_is_noticed_at_a_start),
        cmocka_unit_test(test_smaller_bounds_do_not_keep_a_shard_from_starting),
        cmocka_unit_test(test_same_machine_on_rocksdb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
