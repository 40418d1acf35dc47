/* The only place where the program reads time. Tests skew it with WARDPOST_CLOCK_SKEW_MS (wall clock only). */
#ifndef WP_BASE_CLOCK_H
#define WP_BASE_CLOCK_H

#include <stdint.h>

/* Wall clock, milliseconds since the Unix epoch (CLOCK_REALTIME plus the test skew). */
uint64_t wp_clock_wall_ms(void);

/* Monotonic, microseconds (CLOCK_MONOTONIC). For intervals and latency. */
uint64_t wp_clock_mono_us(void);

/* Milliseconds since boot including suspend (CLOCK_BOOTTIME). For leases. */
uint64_t wp_clock_boot_ms(void);

#endif
