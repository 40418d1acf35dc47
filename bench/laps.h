/* Parts of one measurement that somebody else tells apart while it runs (SIGUSR1): each has figures of its
 * own. What comes belongs to the lap in which it comes. One thread, no I/O. */
#ifndef WP_BENCH_LAPS_H
#define WP_BENCH_LAPS_H

#include <stdint.h>

#include "base/histogram.h"

#define WP_BENCH_LAPS_MAX 64u

struct wp_bench_lap {
    uint64_t start_us, end_us;
    uint64_t accepted, refused, delivered;
    struct wp_histogram ack_us;
    struct wp_histogram end_to_end_us;
};

struct wp_bench_laps {
    uint32_t count; /* 0 before measuring */
    struct wp_bench_lap rows[WP_BENCH_LAPS_MAX];
};

/* Ends the present lap and begins the next one. When there are WP_BENCH_LAPS_MAX the last one goes on. */
void wp_bench_laps_next(struct wp_bench_laps *laps, uint64_t now_us);
void wp_bench_laps_end(struct wp_bench_laps *laps, uint64_t now_us);
/* The present one, NULL before measuring. */
struct wp_bench_lap *wp_bench_laps_now(struct wp_bench_laps *laps);

#endif
