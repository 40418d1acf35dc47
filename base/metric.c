/* Invariant: rendering reads each value once with a relaxed load; sums of one scrape need not agree to the unit. */
#include "base/metric.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

uint64_t wp_metric_values[WP_METRIC_COUNT];

static const uint64_t edges_us[] = {100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000,
    1000000, 2000000, 5000000, 10000000};
#define EDGE_COUNT (sizeof edges_us / sizeof edges_us[0])

struct latency {
    uint64_t counts[EDGE_COUNT + 1];
    uint64_t sum_us;
};
static struct latency latencies[WP_METRIC_HISTOGRAM_COUNT];

struct metric_row {
    const char *kind, *program, *name, *help;
};
static const struct metric_row metric_rows[] = {
#define X(id, kind, program, name, help) {#kind, program, name, help},
    WP_METRIC_TABLE(X)
#undef X
};
static const struct metric_row histogram_rows[] = {
#define X(id, program, name, help) {"histogram", program, name, help},
    WP_METRIC_HISTOGRAM_TABLE(X)
#undef X
};

void wp_metric_observe_us(enum wp_metric_histogram histogram, uint64_t value_us)
{
    unsigned i = 0;
    while (i < EDGE_COUNT && value_us > edges_us[i]) {
        i++;
    }
    __atomic_add_fetch(&latencies[histogram].counts[i], 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&latencies[histogram].sum_us, value_us, __ATOMIC_RELAXED);
}

static int row_applies(const struct metric_row *row, const char *program)
{
    return strcmp(row->program, "all") == 0 || strcmp(row->program, program) == 0;
}

static int head_render(const struct metric_row *row, struct wp_buffer *out)
{
    char text[512];
    int size = snprintf(text, sizeof text, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name, row->kind);
    return wp_buffer_append(out, text, (size_t)size);
}

static int latency_render(const struct metric_row *row, const struct latency *latency, struct wp_buffer *out)
{
    char text[256];
    uint64_t count = 0;
    int error = head_render(row, out);
    for (unsigned i = 0; i <= EDGE_COUNT && !error; i++) {
        count += __atomic_load_n(&latency->counts[i], __ATOMIC_RELAXED);
        int size = i < EDGE_COUNT
            ? snprintf(text, sizeof text, "%s_bucket{le=\"%g\"} %llu\n", row->name, (double)edges_us[i] / 1e6,
                  (unsigned long long)count)
            : snprintf(text, sizeof text, "%s_bucket{le=\"+Inf\"} %llu\n", row->name, (unsigned long long)count);
        error = wp_buffer_append(out, text, (size_t)size);
    }
    if (!error) {
        int size = snprintf(text, sizeof text, "%s_sum %.6f\n%s_count %llu\n", row->name,
            (double)__atomic_load_n(&latency->sum_us, __ATOMIC_RELAXED) / 1e6, row->name, (unsigned long long)count);
        error = wp_buffer_append(out, text, (size_t)size);
    }
    return error;
}

int wp_metric_render(const char *program, struct wp_buffer *out)
{
    int error = WP_OK;
    for (unsigned i = 0; i < WP_METRIC_COUNT && !error; i++) {
        if (!row_applies(&metric_rows[i], program)) {
            continue;
        }
        char text[256];
        error = head_render(&metric_rows[i], out);
        int size = snprintf(text, sizeof text, "%s %llu\n", metric_rows[i].name,
            (unsigned long long)wp_metric_get((enum wp_metric)i));
        error = error ? error : wp_buffer_append(out, text, (size_t)size);
    }
    for (unsigned i = 0; i < WP_METRIC_HISTOGRAM_COUNT && !error; i++) {
        if (row_applies(&histogram_rows[i], program)) {
            error = latency_render(&histogram_rows[i], &latencies[i], out);
        }
    }
    return error;
}

static int markdown_row(const struct metric_row *row, struct wp_buffer *out)
{
    char text[512];
    int size = snprintf(text, sizeof text, "| `%s` | %s | %s | %s |\n", row->name, row->kind, row->program, row->help);
    return wp_buffer_append(out, text, (size_t)size);
}

int wp_metric_render_markdown(struct wp_buffer *out)
{
    static const char head[] = "# Metrics\n\nGenerated from `base/metric_table.h` by `build/release/bin/wp-metrics-doc`; "
                               "a test compares them.\nEvery process serves its own at `/metrics` of its management "
                               "address (Prometheus text).\n\n| name | type | program | meaning |\n|---|---|---|---|\n";
    int error = wp_buffer_append(out, head, sizeof head - 1);
    for (unsigned i = 0; i < WP_METRIC_COUNT && !error; i++) {
        error = markdown_row(&metric_rows[i], out);
    }
    for (unsigned i = 0; i < WP_METRIC_HISTOGRAM_COUNT && !error; i++) {
        error = markdown_row(&histogram_rows[i], out);
    }
    return error;
}
