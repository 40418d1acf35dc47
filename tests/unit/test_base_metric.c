/* The metrics table and its Prometheus text (exposition format 0.0.4). */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/metric.h"

static const struct {
    const char *kind, *program, *name;
} rows[] = {
#define X(id, kind, program, name, help) {#kind, program, name},
    WP_METRIC_TABLE(X)
#undef X
#define X(id, program, name, help) {"histogram", program, name},
        WP_METRIC_HISTOGRAM_TABLE(X)
#undef X
};
#define ROW_COUNT (sizeof rows / sizeof rows[0])

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void test_names_follow_the_convention(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        assert_memory_equal(rows[i].name, "wardpost_", 9);
        for (const char *p = rows[i].name; *p; p++) {
            assert_true(islower((unsigned char)*p) || *p == '_' || isdigit((unsigned char)*p));
        }
        assert_int_equal(ends_with(rows[i].name, "_total"), strcmp(rows[i].kind, "counter") == 0);
        assert_true(strcmp(rows[i].kind, "histogram") != 0 || ends_with(rows[i].name, "_seconds"));
        assert_true(strcmp(rows[i].program, "all") == 0 || strcmp(rows[i].program, "router") == 0 ||
                    strcmp(rows[i].program, "gateway") == 0);
        for (size_t other = 0; other < i; other++) {
            assert_string_not_equal(rows[i].name, rows[other].name);
        }
    }
}

static char *render(const char *program)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_metric_render(program, &out), WP_OK);
    assert_int_equal(wp_buffer_append(&out, "", 1), WP_OK);
    return (char *)out.data;
}

/* The value of the line that starts with `series` and a blank; fails when there is none. */
static double value_of(const char *text, const char *series)
{
    char line[256];
    snprintf(line, sizeof line, "\n%s ", series);
    const char *found = strstr(text, line);
    if (!found) {
        fail_msg("no series %s", series);
    }
    return strtod(found + strlen(line), NULL);
}

static void test_a_program_shows_its_own_metrics_only(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const char *program = i ? "gateway" : "router";
        char *text = render(program);
        for (size_t row = 0; row < ROW_COUNT; row++) {
            char head[256];
            snprintf(head, sizeof head, "# TYPE %s %s\n", rows[row].name, rows[row].kind);
            bool shown = strcmp(rows[row].program, "all") == 0 || strcmp(rows[row].program, program) == 0;
            assert_int_equal(strstr(text, head) != NULL, shown);
        }
        assert_true(ends_with(text, "\n"));
        free(text);
    }
}

static void test_values_and_latencies(void **state)
{
    (void)state;
    wp_metric_set(WP_M_UP, 1);
    wp_metric_add(WP_M_SUBMITS, 5);
    wp_metric_add(WP_M_SUBMITS, 2);
    assert_int_equal(wp_metric_get(WP_M_SUBMITS), 7);
    static const uint64_t latencies_us[] = {1, 100, 101, 700, 2000000, 60000000};
    for (unsigned i = 0; i < 6; i++) {
        wp_metric_observe_us((enum wp_metric_histogram)0, latencies_us[i]);
    }
    static const char *const names[] = {
#define X(id, program, name, help) name,
        WP_METRIC_HISTOGRAM_TABLE(X)
#undef X
    };
    static const char *const programs[] = {
#define X(id, program, name, help) program,
        WP_METRIC_HISTOGRAM_TABLE(X)
#undef X
    };
    char *text = render("router");
    assert_true(value_of(text, "wardpost_up") == 1);
    assert_true(value_of(text, "wardpost_router_submits_total") == 7);
    free(text);
    text = render(strcmp(programs[0], "all") == 0 ? "router" : programs[0]);
    static const struct {
        const char *edge;
        unsigned count;
    } edges[] = {{"0.0001", 2}, {"0.0002", 3}, {"0.0005", 3}, {"0.001", 4}, {"1", 4}, {"2", 5}, {"10", 5},
        {"+Inf", 6}};
    char series[256];
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        snprintf(series, sizeof series, "%s_bucket{le=\"%s\"}", names[0], edges[i].edge);
        assert_true(value_of(text, series) == edges[i].count);
    }
    snprintf(series, sizeof series, "%s_count", names[0]);
    assert_true(value_of(text, series) == 6);
    snprintf(series, sizeof series, "%s_sum", names[0]);
    double sum = value_of(text, series);
    assert_true(sum > 62.0009 && sum < 62.00091);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_follow_the_convention),
        cmocka_unit_test(test_a_program_shows_its_own_metrics_only),
        cmocka_unit_test(test_values_and_latencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
