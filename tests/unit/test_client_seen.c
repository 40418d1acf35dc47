/* The file of shown message ids: nothing noted is forgotten over a reopen, a torn tail costs one id, the size
 * is bounded, and two programs do not share it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/prng.h"
#include "client/seen.h"

static char path[64];

static int path_setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/wp-seen-test-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int path_teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void id_make(uint64_t number, uint8_t id[WP_UUID_SIZE])
{
    struct wp_prng prng;
    wp_prng_init(&prng, number);
    wp_put_u64le(id, wp_prng_next(&prng));
    wp_put_u64le(id + 8, wp_prng_next(&prng));
}

static void ids_survive_a_reopen_and_a_torn_tail_is_dropped(void **state)
{
    (void)state;
    struct wp_seen *seen;
    uint8_t id[WP_UUID_SIZE];
    assert_int_equal(wp_seen_open(path, &seen), WP_OK);
    for (unsigned i = 0; i < 100; i++) {
        id_make(i, id);
        assert_false(wp_seen_has(seen, id));
        assert_int_equal(wp_seen_add(seen, id), WP_OK);
        assert_true(wp_seen_has(seen, id));
    }
    assert_int_equal(wp_seen_sync(seen), WP_OK);
    wp_seen_close(&seen);
    assert_int_equal(truncate(path, 99 * 16 + 7), 0);
    assert_int_equal(wp_seen_open(path, &seen), WP_OK);
    for (unsigned i = 0; i < 100; i++) {
        id_make(i, id);
        assert_int_equal(wp_seen_has(seen, id), i < 99);
    }
    wp_seen_close(&seen);
}

static void size_is_bounded_and_the_newest_stay(void **state)
{
    (void)state;
    struct wp_seen *seen;
    uint8_t id[WP_UUID_SIZE];
    const unsigned total = 3 * WP_SEEN_IDS_MAX;
    assert_int_equal(wp_seen_open(path, &seen), WP_OK);
    for (unsigned i = 0; i < total; i++) {
        id_make(i, id);
        assert_int_equal(wp_seen_add(seen, id), WP_OK);
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = total - WP_SEEN_IDS_MAX; i < total; i++) {
            id_make(i, id);
            assert_true(wp_seen_has(seen, id));
        }
        wp_seen_close(&seen);
        assert_int_equal(wp_seen_open(path, &seen), WP_OK);
    }
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size <= 2 * 16 * (off_t)WP_SEEN_IDS_MAX);
    wp_seen_close(&seen);
}

static void second_user_is_refused(void **state)
{
    (void)state;
    struct wp_seen *seen, *other;
    assert_int_equal(wp_seen_open(path, &seen), WP_OK);
    assert_int_equal(wp_seen_open(path, &other), WP_E_BUSY);
    wp_seen_close(&seen);
    assert_int_equal(wp_seen_open(path, &seen), WP_OK);
    wp_seen_close(&seen);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, path_setup, path_teardown)
    const struct CMUnitTest tests[] = {
        T(ids_survive_a_reopen_and_a_torn_tail_is_dropped),
        T(size_is_bounded_and_the_newest_stay),
        T(second_user_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
