/* The load: senders and receivers as real device connections on one libuv loop, open or closed loop.
 *
 * Open loop (`rate`): message k is due at start + k / rate, whatever happened before; latency counts from the
 * due time, so that a stalled server cannot hide its stalls (coordinated omission). Closed loop (`window`):
 * so many messages are in flight, latency counts from the publish.
 *
 * While it runs, SIGUSR1 begins a new lap (laps.h), SIGTERM and SIGINT end the measured time at once. */
#ifndef WP_BENCH_LOAD_H
#define WP_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "bench/laps.h"
#include "client/profile.h"
#include "proto/envelope.pb-c.h"

#define WP_BENCH_ERRORS_MAX 16u

struct wp_bench_identity {
    char username[160];
    char secret[64];
};

struct wp_load_config {
    const struct wp_profile *gateways; /* gateways, tls and ca; user fields unused */
    const struct wp_bench_identity *senders;
    uint32_t sender_count;
    const struct wp_bench_identity *receivers; /* recipients are their users */
    uint32_t receiver_count;
    bool receivers_online;
    const char *team;    /* every message goes to it and is delivered when each receiver has it; NULL */
    uint32_t body_bytes; /* at least WP_LOAD_STAMP_SIZE */
    uint32_t ttl_s;
    Wp__Lane lane;
    double rate_per_s; /* 0 = closed loop */
    uint32_t window;
    double warmup_s;
    double seconds;
    uint64_t messages; /* the measured time ends when so many were published; 0 = only by time */
    uint64_t seed;
    /* Called once when measuring starts and once when it ends, to read usage. */
    void (*mark)(void *context, bool start);
    void *context;
};

#define WP_LOAD_STAMP_SIZE 24u

struct wp_load_error {
    char slug[48];
    uint64_t count;
};

struct wp_load_result {
    double seconds;    /* measured */
    uint64_t accepted; /* in the measured time */
    uint64_t delivered;
    uint64_t refused;
    uint64_t repeated;    /* deliveries of a message that was delivered before */
    uint64_t unanswered;  /* published and without answer at the end of the grace time */
    uint64_t undelivered; /* online: accepted and not delivered at the end of the grace time */
    uint64_t reconnects;  /* connections that were lost and made again, most likely to another gateway */
    uint64_t late_max_us; /* open loop: how far behind schedule the generator itself was at worst */
    struct wp_histogram ack_us;
    struct wp_histogram end_to_end_us; /* to a team: until its last member has it */
    struct wp_load_error errors[WP_BENCH_ERRORS_MAX];
    uint32_t error_count;
    struct wp_bench_laps laps;
};

/* Runs to the end. WP_OK; WP_E_UNAVAILABLE with a sentence when the connections do not come up; WP_E_NOMEM.
 * The result is large: allocate it. */
int wp_load_run(
    const struct wp_load_config *config, struct wp_load_result *ret_result, char *ret_text, size_t text_size);

#endif
