/* Growable buffers and shared bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/prng.h"

/* Under AddressSanitizer: an impossible size is refused like by any other allocator instead of ending the
 * program. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void test_append_and_consume_behave_like_a_queue(void **state)
{
    (void)state;
    struct wp_buffer buffer = WP_BUFFER_INIT;
    struct wp_prng prng;
    uint8_t next_in = 0;
    uint8_t next_out = 0;
    wp_prng_init(&prng, 1);
    for (unsigned round = 0; round < 5000; round++) {
        uint8_t piece[300];
        size_t size = wp_prng_below(&prng, sizeof piece);
        for (size_t i = 0; i < size; i++) {
            piece[i] = next_in++;
        }
        assert_int_equal(wp_buffer_append(&buffer, piece, size), WP_OK);
        size_t taken = wp_prng_below(&prng, buffer.size + 1);
        for (size_t i = 0; i < taken; i++) {
            assert_int_equal(buffer.data[i], next_out++);
        }
        wp_buffer_consume(&buffer, taken);
        assert_true(buffer.size <= buffer.capacity);
    }
    wp_buffer_free(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.size, 0);
}

static void test_reserve_makes_room_without_changing_the_size(void **state)
{
    (void)state;
    struct wp_buffer buffer = WP_BUFFER_INIT;
    uint8_t *place = wp_buffer_reserve(&buffer, 1000);
    assert_non_null(place);
    assert_ptr_equal(place, buffer.data);
    assert_int_equal(buffer.size, 0);
    assert_true(buffer.capacity >= 1000);
    memset(place, 7, 1000);
    buffer.size = 1000;
    place = wp_buffer_reserve(&buffer, 100000);
    assert_non_null(place);
    assert_ptr_equal(place, buffer.data + 1000);
    assert_int_equal(buffer.data[999], 7);
    wp_buffer_free(&buffer);
}

static void test_a_size_that_no_memory_has_is_refused_whole(void **state)
{
    (void)state;
    struct wp_buffer buffer = WP_BUFFER_INIT;
    assert_int_equal(wp_buffer_append(&buffer, "abc", 3), WP_OK);
    assert_null(wp_buffer_reserve(&buffer, SIZE_MAX));
    assert_null(wp_buffer_reserve(&buffer, SIZE_MAX / 2));
    assert_int_equal(wp_buffer_append(&buffer, "x", SIZE_MAX - 1), WP_E_NOMEM);
    assert_int_equal(buffer.size, 3);
    assert_memory_equal(buffer.data, "abc", 3);
    wp_buffer_free(&buffer);
    assert_null(wp_bytes_create(SIZE_MAX));
}

static void test_nothing_is_appended_from_null(void **state)
{
    (void)state;
    struct wp_buffer buffer = WP_BUFFER_INIT;
    assert_int_equal(wp_buffer_append(&buffer, NULL, 0), WP_OK);
    wp_buffer_consume(&buffer, 0);
    assert_int_equal(buffer.size, 0);
    wp_buffer_free(&buffer);
}

static void *references_churn(void *argument)
{
    struct wp_bytes *bytes = argument;
    for (unsigned i = 0; i < 20000; i++) {
        struct wp_bytes *mine = wp_bytes_retain(bytes);
        wp_bytes_release(&mine);
    }
    wp_bytes_release(&bytes);
    return NULL;
}

static void test_shared_bytes_count_references_across_threads(void **state)
{
    (void)state;
    struct wp_bytes *bytes = wp_bytes_copy("shared", 6);
    pthread_t threads[3];
    assert_non_null(bytes);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, references_churn, wp_bytes_retain(bytes)), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(bytes->references, 1);
    assert_int_equal(bytes->size, 6);
    assert_memory_equal(bytes->data, "shared", 6);
    wp_bytes_release(&bytes);
    assert_null(bytes);
    wp_bytes_release(&bytes);
}

static void test_integers_in_byte_strings(void **state)
{
    (void)state;
    uint8_t p[8];
    wp_put_u16be(p, 0x0102);
    assert_memory_equal(p, "\1\2", 2);
    assert_int_equal(wp_get_u16be(p), 0x0102);
    wp_put_u32be(p, 0x01020304);
    assert_memory_equal(p, "\1\2\3\4", 4);
    assert_int_equal(wp_get_u32be(p), 0x01020304);
    wp_put_u64be(p, 0x0102030405060708);
    assert_memory_equal(p, "\1\2\3\4\5\6\7\x08", 8);
    assert_int_equal(wp_get_u64be(p), 0x0102030405060708);
    wp_put_u32le(p, 0x01020304);
    assert_memory_equal(p, "\4\3\2\1", 4);
    assert_int_equal(wp_get_u32le(p), 0x01020304);
    wp_put_u64le(p, 0x0102030405060708);
    assert_memory_equal(p, "\x08\7\6\5\4\3\2\1", 8);
    assert_int_equal(wp_get_u64le(p), 0x0102030405060708);
    assert_true(wp_slice_equal(wp_slice(NULL, 0), wp_slice("", 0)));
    assert_true(wp_slice_equal(wp_slice("ab", 2), wp_slice("abc", 2)));
    assert_false(wp_slice_equal(wp_slice("ab", 2), wp_slice("ab", 1)));
    assert_false(wp_slice_equal(wp_slice("ab", 2), wp_slice("ac", 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_consume_behave_like_a_queue),
        cmocka_unit_test(test_reserve_makes_room_without_changing_the_size),
        cmocka_unit_test(test_a_size_that_no_memory_has_is_refused_whole),
        cmocka_unit_test(test_nothing_is_appended_from_null),
        cmocka_unit_test(test_shared_bytes_count_references_across_threads),
        cmocka_unit_test(test_integers_in_byte_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
