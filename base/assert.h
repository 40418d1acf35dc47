/* Assertions that stay on in release builds, for what this code controls. Never assert on what a peer, a disk,
 * the kernel or the allocator can do: those are errors. */
#ifndef WP_BASE_ASSERT_H
#define WP_BASE_ASSERT_H

/* Prints the failed condition and its place to stderr and aborts. */
_Noreturn void wp_assert_failed(const char *condition, const char *file, int line);

#define WP_ASSERT(condition)                                                                                 \
    do {                                                                                                     \
        if (__builtin_expect(!(condition), 0)) {                                                             \
            wp_assert_failed(#condition, __FILE__, __LINE__);                                                \
        }                                                                                                    \
    } while (0)

#endif
