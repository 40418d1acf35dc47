/* The duplicate window over time: buckets, what is dropped when, and that nothing forgotten is ever taken for
 * new. Then the small parts that the machine stands on: wire, names, expiry heap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"
#include "proto/schema.h"
#include "router/expiry.h"
#include "router/names.h"
#include "router/seen.h"
#include "router/wire.h"

#define START_MS 1700000000000u
#define MINUTE 60000u
#define SENDER 7u

static void id_make(uint64_t made_ms, uint64_t n, uint8_t id[16])
{
    uint8_t random[10] = {0};
    wp_put_u64be(random + 2, n);
    wp_uuid7_make(made_ms, random, id);
}

static uint64_t add(struct wp_seen *seen, uint64_t now_ms, uint64_t n)
{
    uint8_t id[16];
    id_make(now_ms, n, id);
    uint64_t bucket;
    assert_true(wp_seen_has_room(seen, now_ms));
    while (wp_seen_drop_due(seen, now_ms, true, &bucket)) {
    }
    assert_int_equal(wp_seen_insert(seen, SENDER, id, now_ms, &bucket), WP_OK);
    return bucket;
}

static bool has(const struct wp_seen *seen, uint64_t made_ms, uint64_t n)
{
    uint8_t id[16];
    id_make(made_ms, n, id);
    uint64_t accepted_ms = 0;
    bool found = wp_seen_find(seen, SENDER, id, &accepted_ms);
    assert_true(!found || accepted_ms == made_ms);
    return found;
}

static void test_buckets_close_by_time_and_by_count(void **state)
{
    (void)state;
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(64u * 3, &seen), WP_OK);
    assert_int_equal(add(seen, START_MS, 1), 1);
    assert_int_equal(add(seen, START_MS + 10 * MINUTE - 1, 2), 1);
    assert_int_equal(add(seen, START_MS + 10 * MINUTE, 3), 2);
    assert_int_equal(add(seen, START_MS + 10 * MINUTE, 4), 2);
    assert_int_equal(add(seen, START_MS + 10 * MINUTE, 5), 2);
    assert_int_equal(add(seen, START_MS + 10 * MINUTE, 6), 3);
    wp_seen_destroy(&seen);
}

static void test_ids_are_kept_24_hours(void **state)
{
    (void)state;
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(1000, &seen), WP_OK);
    add(seen, START_MS, 1);
    add(seen, START_MS + 5 * MINUTE, 2);
    uint64_t day_ms = START_MS + WP_SEEN_KEEP_MS;
    uint64_t bucket;
    assert_false(wp_seen_drop_due(seen, day_ms + 5 * MINUTE - 1, false, &bucket));
    assert_true(has(seen, START_MS, 1));
    assert_int_equal(wp_seen_oldest_ms(seen, day_ms), START_MS);
    assert_true(wp_seen_drop_due(seen, day_ms + 5 * MINUTE, false, &bucket));
    assert_int_equal(bucket, 1);
    assert_false(has(seen, START_MS, 1));
    assert_false(wp_seen_drop_due(seen, day_ms + 5 * MINUTE, false, &bucket));
    assert_int_equal(wp_seen_floor_ms(seen), START_MS + 5 * MINUTE + 1);
    assert_int_equal(add(seen, day_ms + 5 * MINUTE, 3), 2); /* numbers go on */
    wp_seen_destroy(&seen);
}

static void test_full_window_shrinks_to_ten_minutes(void **state)
{
    (void)state;
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(128, &seen), WP_OK); /* buckets of two */
    for (uint64_t n = 0; n < 128; n++) {
        add(seen, START_MS + n * 1000, n);
    }
    uint64_t now_ms = START_MS + 10 * MINUTE + 1000;
    assert_false(wp_seen_has_room(seen, now_ms + 0)); /* bucket 1 has an id of START + 1000 */
    assert_true(wp_seen_has_room(seen, now_ms + 1));
    add(seen, now_ms + 1, 128);
    assert_int_equal(wp_seen_count(seen), 127);
    assert_false(has(seen, START_MS + 1000, 1));
    assert_true(has(seen, START_MS + 2000, 2));
    assert_int_equal(wp_seen_oldest_ms(seen, now_ms), START_MS + 1001);
    /* An id from ten minutes ahead keeps its bucket, and with it every later one, ten minutes longer. */
    struct wp_seen *ahead;
    assert_int_equal(wp_seen_create(64, &ahead), WP_OK);
    uint8_t id[16];
    uint64_t bucket;
    id_make(START_MS + WP_SEEN_AHEAD_MAX_MS, 1, id);
    assert_int_equal(wp_seen_insert(ahead, SENDER, id, START_MS, &bucket), WP_OK);
    for (uint64_t n = 1; n < 64; n++) {
        add(ahead, START_MS, n + 100);
    }
    assert_false(wp_seen_has_room(ahead, START_MS + 20 * MINUTE));
    assert_true(wp_seen_has_room(ahead, START_MS + 20 * MINUTE + 1));
    wp_seen_destroy(&ahead);
    wp_seen_destroy(&seen);
}

static void test_nothing_forgotten_is_new(void **state)
{
    (void)state;
    /* Many times around the ring, against a plain list; accepted exactly when never accepted before. */
    enum { COUNT = 60000 };
    static uint64_t made[COUNT];
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(5000, &seen), WP_OK);
    struct wp_prng prng;
    wp_prng_init(&prng, 42);
    uint64_t now_ms = START_MS;
    uint64_t refused = 0;
    for (uint64_t n = 0; n < COUNT; n++) {
        now_ms += wp_prng_below(&prng, 400);
        made[n] = now_ms;
        if (wp_seen_has_room(seen, now_ms)) {
            add(seen, now_ms, n);
        } else {
            made[n] = 0;
            refused++;
        }
        uint64_t again = wp_prng_below(&prng, n + 1);
        if (made[again]) {
            bool too_old = made[again] < wp_seen_oldest_ms(seen, now_ms);
            assert_true(too_old || has(seen, made[again], again));
        }
    }
    assert_int_equal(refused, 0);
    assert_true(wp_seen_count(seen) > 4000);
    wp_seen_destroy(&seen);
}

/* Larger and smaller in the middle of the ring: everything within the window is still known. */
static void test_resizing(void **state)
{
    (void)state;
    enum { COUNT = 60000 };
    static const uint64_t sizes[] = {5000, 9000, 64, 30000, 3000, 100000};
    static uint64_t made[COUNT];
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(2000, &seen), WP_OK);
    struct wp_prng prng;
    wp_prng_init(&prng, 43);
    uint64_t now_ms = START_MS;
    uint64_t found = 0;
    for (uint64_t n = 0; n < COUNT; n++) {
        now_ms += wp_prng_below(&prng, 1000);
        if (n % 7001 == 7000) {
            uint64_t count = wp_seen_count(seen), hash = wp_seen_hash(seen);
            assert_int_equal(wp_seen_resize(seen, sizes[n / 7001 % 6]), WP_OK);
            assert_int_equal(wp_seen_count(seen), count); /* nothing leaves by itself */
            assert_int_equal(wp_seen_hash(seen), hash);
        }
        made[n] = wp_seen_has_room(seen, now_ms) ? now_ms : 0;
        if (made[n]) {
            add(seen, now_ms, n);
        }
        uint64_t again = n - wp_prng_below(&prng, n < 3000 ? n + 1 : 3000);
        if (made[again] >= wp_seen_oldest_ms(seen, now_ms)) {
            assert_true(has(seen, made[again], again));
            found++;
        }
    }
    assert_true(found > COUNT / 2);
    wp_seen_destroy(&seen);
}

static void test_sender_is_part_of_the_key(void **state)
{
    (void)state;
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(100, &seen), WP_OK);
    uint8_t id[16];
    id_make(START_MS, 1, id);
    uint64_t bucket, accepted_ms;
    assert_int_equal(wp_seen_insert(seen, 1, id, START_MS, &bucket), WP_OK);
    assert_true(wp_seen_find(seen, 1, id, &accepted_ms));
    assert_false(wp_seen_find(seen, 2, id, &accepted_ms));
    id[15] ^= 1;
    assert_false(wp_seen_find(seen, 1, id, &accepted_ms));
    wp_seen_destroy(&seen);
}

static void test_loading(void **state)
{
    (void)state;
    /* Loaded under a smaller bound than it was filled under, the window still knows everything and then
     * shrinks. */
    struct wp_seen *seen;
    assert_int_equal(wp_seen_create(64, &seen), WP_OK);
    for (uint64_t n = 0; n < 5000; n++) {
        uint8_t id[16];
        id_make(START_MS + n, n, id);
        assert_int_equal(wp_seen_load(seen, 9 + n / 100, SENDER, id, START_MS + n), WP_OK);
    }
    assert_int_equal(wp_seen_load_end(seen, 5, 58), WP_OK);
    for (uint64_t n = 0; n < 5000; n += 37) {
        assert_true(has(seen, START_MS + n, n));
    }
    assert_false(wp_seen_has_room(seen, START_MS + 5 * MINUTE));
    uint64_t later_ms = START_MS + 11 * MINUTE;
    assert_int_equal(add(seen, later_ms, 9999), 59);
    assert_int_equal(wp_seen_count(seen), 1);
    wp_seen_destroy(&seen);

    uint8_t id[16];
    id_make(START_MS, 1, id);
    assert_int_equal(wp_seen_create(64, &seen), WP_OK);
    assert_int_equal(wp_seen_load(seen, 3, SENDER, id, START_MS), WP_OK);
    id[15] ^= 1;
    assert_int_equal(wp_seen_load(seen, 5, SENDER, id, START_MS), WP_E_CORRUPT); /* a gap */
    assert_int_equal(wp_seen_load(seen, 2, SENDER, id, START_MS), WP_E_CORRUPT);
    assert_int_equal(wp_seen_load(seen, 3, SENDER, id, START_MS - 1), WP_E_CORRUPT);
    assert_int_equal(wp_seen_load_end(seen, 0, 4), WP_E_CORRUPT);
    assert_int_equal(wp_seen_load_end(seen, 0, 3), WP_OK);
    wp_seen_destroy(&seen);
    assert_int_equal(wp_seen_create(0, &seen), WP_E_INVALID);
}

static void test_wire_reads_what_protobuf_writes(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, 1ull << 56, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        Wp__RecordStream record = WP__RECORD_STREAM__INIT;
        record.epoch = values[i];
        record.sequence = values[sizeof values / sizeof values[0] - 1 - i];
        uint8_t theirs[64], ours[64];
        size_t size = wp__record_stream__pack(&record, theirs);
        uint8_t *end = wp_wire_put_u64(wp_wire_put_u64(ours, 1, record.epoch), 2, record.sequence);
        assert_int_equal(end - ours, size);
        assert_memory_equal(ours, theirs, size);
        struct wp_slice rest = wp_slice(theirs, size);
        struct wp_wire_field field;
        uint64_t sum[3] = {0};
        while (wp_wire_next(&rest, &field) == 1) {
            assert_int_equal(field.type, WP_WIRE_VARINT);
            sum[field.number] = field.value;
        }
        assert_int_equal(sum[1], record.epoch);
        assert_int_equal(sum[2], record.sequence);
        assert_int_equal(rest.size, 0);
    }
}

static void test_wire_refuses_what_is_none(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[12];
        uint8_t size;
    } bad[] = {
        {{0x08}, 1},         /* tag without a value */
        {{0x08, 0x80}, 2},   /* value cut */
        {{0x00, 0x00}, 2},   /* field 0 */
        {{0x0a, 2, 'x'}, 3}, /* bytes run over the end */
        {{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 11},
        {{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, 11}, /* over 64 bits */
        {{0x0b, 0x0c}, 2},                                                     /* a group */
        {{0x09, 1, 2, 3}, 4},                                                  /* fixed64 cut */
        {{0x0d, 1, 2, 3}, 4},                                                  /* fixed32 cut */
        {{0x0e}, 1},
        {{0x0f}, 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct wp_slice rest = wp_slice(bad[i].bytes, bad[i].size);
        struct wp_wire_field field;
        assert_int_equal(wp_wire_next(&rest, &field), WP_E_MALFORMED);
    }
    static const uint8_t good[] = {0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x1a, 0};
    struct wp_slice rest = wp_slice(good, sizeof good);
    struct wp_wire_field field;
    for (uint32_t number = 1; number <= 3; number++) {
        assert_int_equal(wp_wire_next(&rest, &field), 1);
        assert_int_equal(field.number, number);
    }
    assert_int_equal(wp_wire_next(&rest, &field), 0);
}

struct named {
    uint64_t hash;
    char key[8];
    bool there;
};

static struct wp_slice named_key(const void *object)
{
    const struct named *named = object;
    return wp_slice(named->key, strlen(named->key));
}

static void test_names(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static struct named objects[COUNT];
    struct wp_names names;
    wp_names_init(&names, named_key);
    struct wp_prng prng;
    wp_prng_init(&prng, 9);
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(objects[i].key, sizeof objects[i].key, "n%u", i);
        /* Few different hashes: long probe runs, which is where removal could lose somebody. */
        objects[i].hash = wp_names_hash(named_key(&objects[i])) & 15;
    }
    for (uint32_t step = 0; step < 20000; step++) {
        struct named *object = &objects[wp_prng_below(&prng, COUNT)];
        if (object->there) {
            wp_names_remove(&names, object, object->hash);
        } else {
            assert_int_equal(wp_names_insert(&names, object, object->hash), WP_OK);
        }
        object->there = !object->there;
        const struct named *other = &objects[wp_prng_below(&prng, COUNT)];
        assert_ptr_equal(wp_names_find(&names, named_key(other), other->hash), other->there ? other : NULL);
    }
    uint32_t count;
    void **sorted = wp_names_sorted(&names, &count);
    assert_int_equal(count, names.count);
    for (uint32_t i = 1; i < count; i++) {
        assert_true(strcmp(((struct named *)sorted[i - 1])->key, ((struct named *)sorted[i])->key) < 0);
    }
    free(sorted);
    wp_names_fini(&names);
}

static bool odd(void *context, const struct wp_expiry_entry *entry)
{
    (void)context;
    return entry->sequence_low & 1;
}

static void test_expiry_heap(void **state)
{
    (void)state;
    struct wp_expiry expiry = {0};
    struct wp_prng prng;
    wp_prng_init(&prng, 3);
    assert_null(wp_expiry_first(&expiry));
    for (uint32_t i = 0; i < 1000; i++) {
        struct wp_expiry_entry entry = {.expires_ms = wp_prng_below(&prng, 50),
            .place = (uint32_t)wp_prng_below(&prng, 5),
            .sequence_low = i};
        assert_int_equal(wp_expiry_push(&expiry, &entry), WP_OK);
    }
    wp_expiry_sweep(&expiry, odd, NULL);
    struct wp_expiry_entry last = {0};
    for (uint32_t i = 0; i < 500; i++) {
        struct wp_expiry_entry first = *wp_expiry_first(&expiry);
        assert_true(first.expires_ms >= last.expires_ms);
        if (first.expires_ms == last.expires_ms) {
            assert_true(first.place > last.place ||
                        (first.place == last.place && first.sequence_low > last.sequence_low));
        }
        last = first;
        wp_expiry_pop(&expiry);
    }
    assert_null(wp_expiry_first(&expiry));
    wp_expiry_fini(&expiry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets_close_by_time_and_by_count),
        cmocka_unit_test(test_ids_are_kept_24_hours),
        cmocka_unit_test(test_full_window_shrinks_to_ten_minutes),
        cmocka_unit_test(test_nothing_forgotten_is_new),
        cmocka_unit_test(test_resizing),
        cmocka_unit_test(test_sender_is_part_of_the_key),
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_wire_reads_what_protobuf_writes),
        cmocka_unit_test(test_wire_refuses_what_is_none),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_expiry_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
