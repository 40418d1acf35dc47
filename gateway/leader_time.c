/* One sample a link.
 *
 *   1. received_ms >= asked_ms.
 *   2. The sample agrees with the newest answer, within the drift of its age. */
#include "gateway/leader_time.h"

#include <stdbool.h>

static uint64_t drift_ms(const struct wp_leader_time *time, uint64_t now_ms)
{
    return (now_ms - time->received_ms) / WP_LEADER_TIME_DRIFT;
}

/* Whether an answer that says `told_ms` fits in with what the sample says of now. */
static bool agrees(const struct wp_leader_time *time, uint64_t told_ms, uint64_t asked_ms, uint64_t now_ms)
{
    uint64_t slack_ms = WP_LEADER_TIME_SLACK_MS + drift_ms(time, now_ms);
    uint64_t earliest_ms = time->told_ms + (now_ms - time->received_ms);
    uint64_t latest_ms = time->told_ms + (now_ms - time->asked_ms);
    return told_ms <= latest_ms + slack_ms && earliest_ms <= told_ms + (now_ms - asked_ms) + slack_ms;
}

void wp_leader_time_told(struct wp_leader_time *time, uint64_t told_ms, uint64_t asked_ms, uint64_t now_ms)
{
    if (told_ms == 0 || asked_ms > now_ms) {
        return;
    }
    uint64_t round_ms = time->received_ms - time->asked_ms;
    if (time->told_ms == 0 || now_ms - asked_ms <= round_ms + drift_ms(time, now_ms) ||
        !agrees(time, told_ms, asked_ms, now_ms)) {
        *time = (struct wp_leader_time){.told_ms = told_ms, .asked_ms = asked_ms, .received_ms = now_ms};
    }
}

uint64_t wp_leader_time_earliest_ms(const struct wp_leader_time *time, uint64_t now_ms)
{
    return time->told_ms == 0 ? 0 : time->told_ms + (now_ms - time->received_ms);
}

static uint64_t minus(uint64_t from_ms, uint64_t ms)
{
    return from_ms > ms ? from_ms - ms : 0;
}

uint64_t wp_leader_time_left_ms(const Wp__Deliver *deliver, uint64_t held_ms, uint64_t leader_ms)
{
    uint64_t left_ms = minus(deliver->remaining_ms, held_ms);
    uint64_t known_ms = leader_ms == 0 ? left_ms : minus(deliver->expires_ms, leader_ms);
    return known_ms < left_ms ? known_ms : left_ms;
}
