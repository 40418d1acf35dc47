#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

static uint64_t clock_read_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t wp_clock_wall_ms(void)
{
    static int64_t skew_ms = INT64_MIN;
    int64_t skew = __atomic_load_n(&skew_ms, __ATOMIC_RELAXED);
    if (skew == INT64_MIN) {
        const char *text = getenv("WARDPOST_CLOCK_SKEW_MS");
        skew = text ? strtoll(text, NULL, 10) : 0;
        __atomic_store_n(&skew_ms, skew, __ATOMIC_RELAXED);
    }
    return (uint64_t)((int64_t)(clock_read_us(CLOCK_REALTIME) / 1000u) + skew);
}

uint64_t wp_clock_mono_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

uint64_t wp_clock_boot_ms(void)
{
    return clock_read_us(CLOCK_BOOTTIME) / 1000u;
}
