/* A ping says more than "the main thread lives", which would say nothing about the threads that do the work.
 *
 * 1. No ping while any watched loop has not turned since the last look; the first turn after that brings it
 * back.
 * 2. A look takes no lock of a watched loop: it must not hang with it. */
#include "node/watchdog.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "node/program.h"

struct wp_watchdog {
    struct wp_watchdog_config config;
    uint64_t interval_ms;
    uv_timer_t timer;
    uint64_t seen[WP_WATCHDOG_LOOPS_MAX];
    bool stalled[WP_WATCHDOG_LOOPS_MAX];
};

static bool number_read(const char *name, uint64_t *ret_number)
{
    const char *text = getenv(name);
    if (!text || text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *end;
    *ret_number = strtoull(text, &end, 10);
    return *end == '\0';
}

/* 0: nobody asks. */
static uint64_t interval_read(void)
{
    uint64_t interval_us, pid;
    if (!number_read("WATCHDOG_USEC", &interval_us) || interval_us == 0) {
        return 0;
    }
    if (getenv("WATCHDOG_PID") && (!number_read("WATCHDOG_PID", &pid) || pid != (uint64_t)getpid())) {
        return 0;
    }
    return interval_us / 2000 ? interval_us / 2000 : 1;
}

static void on_timer(uv_timer_t *timer)
{
    (void)wp_watchdog_ping(timer->data);
}

int wp_watchdog_create(const struct wp_watchdog_config *config, struct wp_watchdog **ret_watchdog)
{
    WP_ASSERT(config->loop_count <= WP_WATCHDOG_LOOPS_MAX);
    uint64_t interval_ms = interval_read();
    if (interval_ms == 0) {
        *ret_watchdog = NULL;
        return WP_OK;
    }
    struct wp_watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (!watchdog) {
        return WP_E_NOMEM;
    }
    watchdog->config = *config;
    watchdog->interval_ms = interval_ms;
    for (uint32_t i = 0; i < config->loop_count; i++) {
        watchdog->seen[i] = config->turns(config->context, i);
    }
    uv_timer_init(config->loop, &watchdog->timer);
    watchdog->timer.data = watchdog;
    uv_timer_start(&watchdog->timer, on_timer, interval_ms, interval_ms);
    uv_unref((uv_handle_t *)&watchdog->timer);
    *ret_watchdog = watchdog;
    return WP_OK;
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void wp_watchdog_destroy(struct wp_watchdog **watchdog)
{
    struct wp_watchdog *taken = *watchdog;
    *watchdog = NULL;
    if (taken) {
        uv_close((uv_handle_t *)&taken->timer, timer_closed);
    }
}

/* Whether the loop has turned since the last look. */
static bool loop_look(struct wp_watchdog *watchdog, uint32_t index)
{
    uint64_t turns = watchdog->config.turns(watchdog->config.context, index);
    bool moved = turns != watchdog->seen[index];
    if (!moved && !watchdog->stalled[index]) {
        wp_log(WP_LOG_ERROR, "loop_stalled", "loop=%u turns=%" PRIu64 " for_ms=%" PRIu64, index, turns,
            watchdog->interval_ms);
    } else if (moved && watchdog->stalled[index]) {
        wp_log(WP_LOG_INFO, "loop_turns_again", "loop=%u turns=%" PRIu64, index, turns);
    }
    watchdog->stalled[index] = !moved;
    watchdog->seen[index] = turns;
    return moved;
}

bool wp_watchdog_ping(struct wp_watchdog *watchdog)
{
    bool alive = true;
    for (uint32_t i = 0; i < watchdog->config.loop_count; i++) {
        alive = loop_look(watchdog, i) && alive;
    }
    return alive && wp_notify("WATCHDOG=1") == WP_OK;
}

uint64_t wp_watchdog_interval_ms(const struct wp_watchdog *watchdog)
{
    return watchdog->interval_ms;
}
