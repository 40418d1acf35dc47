/* Log-linear histogram of unsigned values, constant memory, quantiles to 99.99 % with <= 3.2 % relative error
 * (32 linear steps per power of two). The recording side is one increment. Not thread-safe; merge copies. */
#ifndef WP_BASE_HISTOGRAM_H
#define WP_BASE_HISTOGRAM_H

#include <stdint.h>

#define WP_HISTOGRAM_BUCKETS (32u * 38) /* values up to 2^42: microseconds for 50 days */

struct wp_histogram {
    uint64_t counts[WP_HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t min; /* meaningful when count > 0 */
};

void wp_histogram_init(struct wp_histogram *histogram);

/* Counts `value`; values over the range land in the last bucket, max stays exact. */
void wp_histogram_record(struct wp_histogram *histogram, uint64_t value);

/* Adds all of `from` to `into`. */
void wp_histogram_merge(struct wp_histogram *into, const struct wp_histogram *from);

/* Smallest recorded value v (upper edge of its bucket, never above max) with at least `quantile` (0..1) of all
 * values <= v; 0 when empty. */
uint64_t wp_histogram_quantile(const struct wp_histogram *histogram, double quantile);

#endif
