/* Logging: one line per event whatever is in it, and quoting that foreign text cannot leave. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"

static void test_quotes_hold_foreign_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *quoted;
    } rows[] = {{"", "\"\""}, {"plain", "\"plain\""}, {"a b=c", "\"a b=c\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""}, {"back\\slash", "\"back\\\\slash\""},
        {"two\nlines\r\t\x1b[0m\x7f", "\"two?lines???[0m?\""},
        {"\xc3\xa9\xe2\x82\xac", "\"\xc3\xa9\xe2\x82\xac\""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[64];
        assert_ptr_equal(wp_log_quote(rows[i].text, out, sizeof out), out);
        assert_string_equal(out, rows[i].quoted);
    }
}

/* Whatever room there is, the result is one closed quoted value inside it. */
static void test_quotes_close_in_any_room(void **state)
{
    (void)state;
    static const char *const texts[] = {"abcdefgh", "\"\"\"\"\"\"\"\"", "\\\\\\\\\\", "a\"b\\c\"d", ""};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (size_t room = 3; room < 24; room++) {
            char *out = malloc(room);
            assert_non_null(out);
            wp_log_quote(texts[i], out, room);
            size_t size = strlen(out);
            assert_in_range(size, 2, room - 1);
            assert_int_equal(out[0], '"');
            size_t at = 1;
            while (at < size && out[at] != '"') {
                at += out[at] == '\\' ? 2 : 1;
            }
            assert_int_equal(at, size - 1);
            free(out);
        }
        char tiny[2];
        assert_string_equal(wp_log_quote(texts[i], tiny, sizeof tiny), "");
    }
}

/* Points stderr at memory and back, and returns what was written meanwhile. */
static int capture_begin(int *ret_saved)
{
    int memory = memfd_create("log", 0);
    assert_true(memory >= 0);
    *ret_saved = dup(STDERR_FILENO);
    assert_int_equal(dup2(memory, STDERR_FILENO), STDERR_FILENO);
    return memory;
}

static size_t capture_end(int memory, int saved, char *out, size_t out_size)
{
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    ssize_t size = pread(memory, out, out_size - 1, 0);
    assert_true(size >= 0);
    out[size] = '\0';
    close(memory);
    close(saved);
    return (size_t)size;
}

static void test_one_line_per_event(void **state)
{
    (void)state;
    char text[4096];
    int saved;
    wp_log_init("router-1", WP_LOG_INFO);
    int memory = capture_begin(&saved);
    wp_log(WP_LOG_DEBUG, "unheard", "a=%d", 1);
    wp_log(WP_LOG_WARN, "link_down", "peer=%s reason=%s", "gateway-1", wp_error_slug(WP_E_CLOSED));
    wp_log(WP_LOG_INFO, "bare", "%s", "");
    capture_end(memory, saved, text, sizeof text);
    unsigned year, month, day, hour, minute, second, millisecond;
    assert_int_equal(sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ", &year, &month, &day, &hour, &minute,
                         &second, &millisecond),
        7);
    assert_in_range(year, 2024, 2200);
    assert_int_equal(text[24], ' ');
    char *second_line = strchr(text, '\n') + 1;
    assert_memory_equal(
        text + 24, " level=warn program=router-1 event=link_down peer=gateway-1 reason=closed\n", 74);
    assert_ptr_equal(text + 24 + 74, second_line);
    assert_non_null(strstr(second_line, "level=info program=router-1 event=bare"));
    assert_ptr_equal(strchr(second_line, '\n') + 1, text + strlen(text));
}

static void test_a_long_line_is_cut_and_still_ends(void **state)
{
    (void)state;
    char *long_text = malloc(10001);
    char text[16384];
    int saved;
    assert_non_null(long_text);
    memset(long_text, 'x', 10000);
    long_text[10000] = '\0';
    int memory = capture_begin(&saved);
    wp_log(WP_LOG_ERROR, "long", "value=%s", long_text);
    wp_log(WP_LOG_ERROR, long_text, "value=%s", "y");
    size_t size = capture_end(memory, saved, text, sizeof text);
    char *end = strchr(text, '\n');
    assert_non_null(end);
    assert_in_range(end - text, 1000, 2048);
    assert_int_equal(end[-1], 'x');
    assert_ptr_equal(strchr(end + 1, '\n'), text + size - 1);
    free(long_text);
}

static void test_levels_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"debug", "info", "warn", "error"};
    enum wp_log_level level;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(wp_log_level_parse(names[i], &level), WP_OK);
        assert_int_equal(level, i);
    }
    level = WP_LOG_WARN;
    assert_int_equal(wp_log_level_parse("INFO", &level), WP_E_INVALID);
    assert_int_equal(wp_log_level_parse("", &level), WP_E_INVALID);
    assert_int_equal(level, WP_LOG_WARN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quotes_hold_foreign_text),
        cmocka_unit_test(test_quotes_close_in_any_room),
        cmocka_unit_test(test_one_line_per_event),
        cmocka_unit_test(test_a_long_line_is_cut_and_still_ends),
        cmocka_unit_test(test_levels_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
