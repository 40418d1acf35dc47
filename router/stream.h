/* Streams of submits and rates of senders, in memory: one stream per sender device that ever submitted to
 * this shard, one rate per sender user who used the STAT lane in the last minute.
 *
 * A stream numbers the submits of one attachment of a sender device to one shard 1, 2, 3 ..., so that
 * pipelined submits never reorder over a failover. One owner thread. The caller stores what changed. */
#ifndef WP_ROUTER_STREAM_H
#define WP_ROUTER_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "router/names.h"

struct wp_stream {
    uint64_t hash; /* of the key; names the sender device in the duplicate window */
    uint64_t epoch;
    uint64_t sequence;      /* last one consumed */
    uint64_t journal_entry; /* last journal row that mentions it; 0 = none does */
    bool dirty;
    uint8_t user_size;
    uint8_t key_size;
    char key[]; /* "user\0device" */
};

enum wp_stream_verdict {
    WP_STREAM_NEXT,  /* the submit goes on and consumes its sequence */
    WP_STREAM_PAST,  /* consumed before: a resend */
    WP_STREAM_GAP,   /* something before it is missing */
    WP_STREAM_STALE, /* of an older attachment */
};

/* What (epoch, sequence) is to the stream; NULL = the sender device is new. *ret_expected: the sequence to go
 * on with. */
enum wp_stream_verdict wp_stream_judge(
    const struct wp_stream *stream, uint64_t epoch, uint64_t sequence, uint64_t *ret_expected);

void wp_streams_init(struct wp_names *streams);
void wp_streams_fini(struct wp_names *streams);
struct wp_stream *wp_streams_find(
    const struct wp_names *streams, struct wp_slice user, struct wp_slice device, uint64_t *ret_hash);
/* A stream at (0, 0) that is not there yet; NULL: out of memory. */
struct wp_stream *wp_streams_add(struct wp_names *streams, struct wp_slice user, struct wp_slice device);

/* Token bucket on leader time, in integers: a token is 60,000 units, so `per_minute` units come back each
 * millisecond. */
#define WP_RATE_TOKEN 60000u
#define WP_RATE_FULL_MS 60000u /* after so long without use it is full again */

struct wp_rate {
    uint64_t tokens;
    uint64_t time_ms;
    uint8_t key_size;
    char key[]; /* user */
};

/* Units left at `now_ms`; NULL = full. */
uint64_t wp_rate_tokens(const struct wp_rate *rate, uint64_t per_minute, uint64_t now_ms);

void wp_rates_init(struct wp_names *rates);
void wp_rates_fini(struct wp_names *rates);
struct wp_rate *wp_rates_find(const struct wp_names *rates, struct wp_slice user);
/* A rate that is not there yet, time and tokens 0; NULL: out of memory. */
struct wp_rate *wp_rates_add(struct wp_names *rates, struct wp_slice user);
/* Forgets a rate and frees it. */
void wp_rates_remove(struct wp_names *rates, struct wp_rate *rate);

#endif
