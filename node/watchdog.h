/* The service manager's watchdog (sd_watchdog_enabled(3)): "WATCHDOG=1" goes out at half of WATCHDOG_USEC,
 * but only when every watched loop has turned since the last time. So a process of which one thread hangs is
 * ended and started again, instead of holding on to what it leads. Main thread only; does nothing without a
 * service manager that asks for it. */
#ifndef WP_NODE_WATCHDOG_H
#define WP_NODE_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define WP_WATCHDOG_LOOPS_MAX 64u

struct wp_watchdog;

struct wp_watchdog_config {
    uv_loop_t *loop;     /* whose turning is proven by the timer itself */
    uint32_t loop_count; /* others; at most WP_WATCHDOG_LOOPS_MAX */
    void *context;
    /* A number that is another one after each turn of the loop `index`. Turns come at least every 100 ms.
     * NULL when loop_count is 0. */
    uint64_t (*turns)(void *context, uint32_t index);
};

/* WP_OK: *ret_watchdog is NULL when nobody asks for pings, WATCHDOG_USEC is no number or WATCHDOG_PID is
 * another process. WP_E_NOMEM. The timer does not keep the loop alive. */
int wp_watchdog_create(const struct wp_watchdog_config *config, struct wp_watchdog **ret_watchdog);
/* Takes NULL. The loop must turn once more to free it. */
void wp_watchdog_destroy(struct wp_watchdog **watchdog);

/* What the timer does: true when a ping was sent. A loop that stands still is logged when it begins to. */
bool wp_watchdog_ping(struct wp_watchdog *watchdog);
/* Time between two pings. */
uint64_t wp_watchdog_interval_ms(const struct wp_watchdog *watchdog);

#endif
