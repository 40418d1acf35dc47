/* The arena: aligned and disjoint pieces, a limit that holds, memory kept over a reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/prng.h"

static void test_pieces_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    struct wp_arena arena;
    struct wp_prng prng;
    static uint8_t *pieces[400];
    static size_t sizes[400];
    wp_arena_init(&arena, 64u << 20);
    wp_prng_init(&prng, 5);
    for (unsigned i = 0; i < 400; i++) {
        sizes[i] = wp_prng_below(&prng, i % 50 == 0 ? 200000 : 500);
        pieces[i] = wp_arena_alloc(&arena, sizes[i]);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xff), sizes[i]);
    }
    for (unsigned i = 0; i < 400; i++) {
        for (size_t at = 0; at < sizes[i]; at++) {
            assert_int_equal(pieces[i][at], i & 0xff);
        }
    }
    wp_arena_fini(&arena);
}

static void test_the_limit_counts_what_pieces_really_take(void **state)
{
    (void)state;
    struct wp_arena arena;
    wp_arena_init(&arena, 1024);
    unsigned count = 0;
    while (wp_arena_alloc(&arena, 1)) {
        count++;
    }
    assert_int_equal(count, 1024 / 16);
    assert_true(arena.used <= arena.limit);
    wp_arena_reset(&arena);
    assert_null(wp_arena_alloc(&arena, 1025));
    assert_non_null(wp_arena_alloc(&arena, 1024));
    assert_null(wp_arena_alloc(&arena, 1));
    wp_arena_fini(&arena);
}

static void test_sizes_that_wrap_are_refused(void **state)
{
    (void)state;
    struct wp_arena arena;
    wp_arena_init(&arena, SIZE_MAX);
    assert_null(wp_arena_alloc(&arena, SIZE_MAX));
    assert_null(wp_arena_alloc(&arena, SIZE_MAX - 15));
    assert_null(wp_arena_alloc(&arena, SIZE_MAX - 40));
    assert_non_null(wp_arena_alloc(&arena, 1));
    wp_arena_fini(&arena);
}

static void test_a_reset_keeps_one_modest_block(void **state)
{
    (void)state;
    struct wp_arena arena;
    wp_arena_init(&arena, 64u << 20);
    void *first = wp_arena_alloc(&arena, 100);
    assert_non_null(first);
    wp_arena_reset(&arena);
    assert_ptr_equal(wp_arena_alloc(&arena, 100), first);
    /* A block of several MiB is given back, so that one large message does not stay paid for. */
    assert_non_null(wp_arena_alloc(&arena, 8u << 20));
    wp_arena_reset(&arena);
    assert_int_equal(arena.used, 0);
    assert_ptr_equal(wp_arena_alloc(&arena, 100), first);
    wp_arena_fini(&arena);
    assert_null(arena.blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(test_the_limit_counts_what_pieces_really_take),
        cmocka_unit_test(test_sizes_that_wrap_are_refused),
        cmocka_unit_test(test_a_reset_keeps_one_modest_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
