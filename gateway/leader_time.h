/* What time it is for a router, as far as a gateway can know: how long a delivery has left. Pure.
 *
 * A delivery expires by the leader's time, and its frame may have stood in the network for seconds. So each
 * answer to a lease request carries the router's time. It was taken somewhere between the request and the
 * answer, so that now it lies in [told + now - received, told + now - asked]. The sample with the shortest
 * round trip is kept, as NTP does. The lower end is what counts: nothing is taken for late that is not, and
 * what is late is taken for good by at most that round trip. */
#ifndef WP_GATEWAY_LEADER_TIME_H
#define WP_GATEWAY_LEADER_TIME_H

#include <stdint.h>

#include "proto/schema.h"

/* Clocks drift, so a sample is worth as much as a new one with a round trip longer by a hundredth of its age.
 */
#define WP_LEADER_TIME_DRIFT 100u
/* Samples that differ by less agree. */
#define WP_LEADER_TIME_SLACK_MS 10u

/* All zero: no sample yet. */
struct wp_leader_time {
    uint64_t told_ms;     /* leader time; 0 = no sample */
    uint64_t asked_ms;    /* boot clock, here and below */
    uint64_t received_ms; /* >= asked_ms */
};

/* The answer to a request that left at `asked_ms` came now. A leader time of 0 (a router that tells none) and
 * a request of the future are ignored. One that the kept sample cannot explain takes its place, whatever its
 * round trip: the leader's clock was set, or stands until others have caught up. */
void wp_leader_time_told(struct wp_leader_time *time, uint64_t told_ms, uint64_t asked_ms, uint64_t now_ms);

/* The earliest that leader time can be now; 0 = not known. */
uint64_t wp_leader_time_earliest_ms(const struct wp_leader_time *time, uint64_t now_ms);

/* What `deliver` has left `held_ms` after it arrived, when leader time is at least `leader_ms` (0 = not
 * known). 0: it is past its time. The frame is a sample as well: at its arrival it had no more left than when
 * it was sent. */
uint64_t wp_leader_time_left_ms(const Wp__Deliver *deliver, uint64_t held_ms, uint64_t leader_ms);

#endif
