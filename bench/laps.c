#include "bench/laps.h"

#include <stddef.h>

struct wp_bench_lap *wp_bench_laps_now(struct wp_bench_laps *laps)
{
    return laps->count > 0 ? &laps->rows[laps->count - 1] : NULL;
}

void wp_bench_laps_end(struct wp_bench_laps *laps, uint64_t now_us)
{
    struct wp_bench_lap *lap = wp_bench_laps_now(laps);
    if (lap) {
        lap->end_us = now_us;
    }
}

void wp_bench_laps_next(struct wp_bench_laps *laps, uint64_t now_us)
{
    if (laps->count == WP_BENCH_LAPS_MAX) {
        return;
    }
    wp_bench_laps_end(laps, now_us);
    struct wp_bench_lap *lap = &laps->rows[laps->count++];
    *lap = (struct wp_bench_lap){.start_us = now_us, .end_us = now_us};
    wp_histogram_init(&lap->ack_us);
    wp_histogram_init(&lap->end_to_end_us);
}
