#include "base/histogram.h"

#include <string.h>

#define SUB_BITS 6
#define SUB_COUNT (1u << SUB_BITS)

static unsigned bucket_index(uint64_t value)
{
    if (value < SUB_COUNT) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - (SUB_BITS - 1);
    /* The top SUB_BITS bits of the value lie in [SUB_COUNT / 2, SUB_COUNT). */
    unsigned index = shift * (SUB_COUNT / 2) + (unsigned)(value >> shift);
    return index < WP_HISTOGRAM_BUCKETS ? index : WP_HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_upper(unsigned index)
{
    if (index < SUB_COUNT) {
        return index;
    }
    unsigned shift = (index - SUB_COUNT / 2) / (SUB_COUNT / 2);
    uint64_t top = index - shift * (SUB_COUNT / 2);
    return ((top + 1) << shift) - 1;
}

void wp_histogram_init(struct wp_histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
    histogram->min = UINT64_MAX;
}

void wp_histogram_record(struct wp_histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_index(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max) {
        histogram->max = value;
    }
    if (value < histogram->min) {
        histogram->min = value;
    }
}

void wp_histogram_merge(struct wp_histogram *into, const struct wp_histogram *from)
{
    for (unsigned i = 0; i < WP_HISTOGRAM_BUCKETS; i++) {
        into->counts[i] += from->counts[i];
    }
    into->count += from->count;
    into->sum += from->sum;
    into->max = from->max > into->max ? from->max : into->max;
    into->min = from->min < into->min ? from->min : into->min;
}

uint64_t wp_histogram_quantile(const struct wp_histogram *histogram, double quantile)
{
    if (histogram->count == 0) {
        return 0;
    }
    uint64_t rank = (uint64_t)(quantile * (double)histogram->count + 0.999999);
    rank = rank < 1 ? 1 : rank > histogram->count ? histogram->count : rank;
    uint64_t seen = 0;
    for (unsigned i = 0; i < WP_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank && i + 1 < WP_HISTOGRAM_BUCKETS) {
            uint64_t upper = bucket_upper(i);
            return upper < histogram->max ? upper : histogram->max;
        }
    }
    return histogram->max; /* the last bucket also holds what is over the range */
}
