/* The error table: numbers are for ever, slugs and texts tell codes apart. Also the seeded random numbers. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/prng.h"

static const struct {
    const char *name;
    int number;
    enum wp_error_class class;
    const char *slug;
    const char *text;
} rows[] = {
#define X(name, number, class, slug, text) {#name, number, class, slug, text},
    WP_ERROR_TABLE(X)
#undef X
};
#define ROW_COUNT (sizeof rows / sizeof rows[0])

static void test_rows_are_unique_and_dense(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        assert_int_equal(rows[i].number, -1 - (int)i); /* appended at the end, never renumbered */
        for (size_t other = 0; other < i; other++) {
            assert_string_not_equal(rows[i].slug, rows[other].slug);
            assert_string_not_equal(rows[i].text, rows[other].text);
        }
    }
}

static void test_words_have_their_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        for (const char *p = rows[i].slug; *p; p++) {
            assert_true(islower((unsigned char)*p) || *p == '-');
        }
        size_t size = strlen(rows[i].text);
        assert_true(size > 0 && rows[i].text[size - 1] != '.' && !isupper((unsigned char)rows[i].text[0]));
    }
}

static void test_numbers_on_the_wire_have_not_moved(void **state)
{
    (void)state;
    assert_int_equal(WP_E_NOMEM, -1);
    assert_int_equal(WP_E_MALFORMED, -5);
    assert_int_equal(WP_E_NOT_LEADER, -12);
    assert_int_equal(WP_E_AUTH, -15);
    assert_int_equal(WP_E_UNKNOWN_RECIPIENT, -17);
    assert_int_equal(WP_E_MAILBOX_FULL, -18);
    assert_int_equal(WP_E_RESEND, -23);
    assert_int_equal(WP_E_STALE_EPOCH, -24);
    assert_int_equal(WP_E_DISK_RESERVE, -25);
    assert_int_equal(WP_E_EXPIRY_TOO_LONG, -33);
}

static void test_lookups(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        assert_string_equal(wp_error_text(rows[i].number), rows[i].text);
        assert_string_equal(wp_error_slug(rows[i].number), rows[i].slug);
        assert_int_equal(wp_error_class(rows[i].number), rows[i].class);
    }
    assert_string_equal(wp_error_text(WP_OK), "ok");
    assert_string_equal(wp_error_slug(WP_OK), "ok");
    const int unknown[] = {1, -1 - (int)ROW_COUNT, -2147483647 - 1, 2147483647};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(wp_error_text(unknown[i]), "unknown error");
        assert_string_equal(wp_error_slug(unknown[i]), "unknown");
        assert_int_equal(wp_error_class(unknown[i]), WP_CLASS_FATAL);
    }
}

static void test_random_numbers_are_those_of_splitmix64(void **state)
{
    (void)state;
    struct wp_prng prng;
    wp_prng_init(&prng, 1234567);
    /* Reference output of Vigna's splitmix64.c for this seed. */
    assert_true(wp_prng_next(&prng) == 6457827717110365317u);
    assert_true(wp_prng_next(&prng) == 3203168211198807973u);
    assert_true(wp_prng_next(&prng) == 9817491932198370423u);
    unsigned counts[7] = {0};
    for (unsigned i = 0; i < 70000; i++) {
        uint64_t value = wp_prng_below(&prng, 7);
        assert_in_range(value, 0, 6);
        counts[value]++;
    }
    for (unsigned i = 0; i < 7; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    assert_int_equal(wp_prng_below(&prng, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_unique_and_dense),
        cmocka_unit_test(test_words_have_their_form),
        cmocka_unit_test(test_numbers_on_the_wire_have_not_moved),
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_random_numbers_are_those_of_splitmix64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
