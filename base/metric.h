/* Metrics of one process: one table gives the counters and gauges, their Prometheus text and docs/metrics.md.
 *
 * Values are process-wide atomics: any thread adds. No labels that grow with devices or users. */
#ifndef WP_BASE_METRIC_H
#define WP_BASE_METRIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/metric_table.h"

enum wp_metric {
#define X(id, kind, program, name, help) WP_M_##id,
    WP_METRIC_TABLE(X)
#undef X
    WP_METRIC_COUNT
};

/* Latency metrics: histograms with fixed bucket edges from 100 us to 10 s, exported in seconds. */
enum wp_metric_histogram {
#define X(id, program, name, help) WP_H_##id,
    WP_METRIC_HISTOGRAM_TABLE(X)
#undef X
    WP_METRIC_HISTOGRAM_COUNT
};

extern uint64_t wp_metric_values[WP_METRIC_COUNT];

static inline void wp_metric_add(enum wp_metric metric, uint64_t amount)
{
    __atomic_add_fetch(&wp_metric_values[metric], amount, __ATOMIC_RELAXED);
}
static inline void wp_metric_set(enum wp_metric metric, uint64_t value)
{
    __atomic_store_n(&wp_metric_values[metric], value, __ATOMIC_RELAXED);
}
static inline uint64_t wp_metric_get(enum wp_metric metric)
{
    return __atomic_load_n(&wp_metric_values[metric], __ATOMIC_RELAXED);
}

/* Records one latency. Any thread. */
void wp_metric_observe_us(enum wp_metric_histogram histogram, uint64_t value_us);

/* Appends the Prometheus text (version 0.0.4) of all metrics of `program` ("router" or "gateway", plus "all") to
 * `out`; WP_OK or WP_E_NOMEM. */
int wp_metric_render(const char *program, struct wp_buffer *out);

/* Appends docs/metrics.md to `out`; WP_OK or WP_E_NOMEM. */
int wp_metric_render_markdown(struct wp_buffer *out);

#endif
