/* How often a leader tries to give a shard away: a hand-over that was not taken holds up proposals for an
 * election timeout, so each one that failed doubles the time until the next. Pure; zero with each new
 * leadership. */
#ifndef WP_ROUTER_HANDOVER_H
#define WP_ROUTER_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#define WP_HANDOVER_WAIT_MS 4000u /* after the first that failed */
#define WP_HANDOVER_WAIT_MS_MAX 60000u

struct wp_handover {
    uint64_t to;            /* raft id that leadership goes to; 0 = none is under way */
    uint64_t not_before_ms; /* of the next */
    uint32_t wait_ms;       /* after the one that failed last; 0 = none did */
    bool placed; /* the operator put the leadership here: it is not given away for an even spread */
};

static inline bool wp_handover_may(const struct wp_handover *handover, uint64_t now_ms)
{
    return handover->to == 0 && now_ms >= handover->not_before_ms;
}

/* The one under way was given up. True for the first one of this leadership: it is worth telling. */
static inline bool wp_handover_failed(struct wp_handover *handover, uint64_t now_ms)
{
    bool first = handover->wait_ms == 0;
    uint32_t wait_ms = first ? WP_HANDOVER_WAIT_MS : 2 * handover->wait_ms;
    handover->wait_ms = wait_ms < WP_HANDOVER_WAIT_MS_MAX ? wait_ms : WP_HANDOVER_WAIT_MS_MAX;
    handover->not_before_ms = now_ms + handover->wait_ms;
    handover->to = 0;
    return first;
}

#endif
