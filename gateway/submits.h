/* Submit streams: what the gateway has to bring to the shards, in order and once, over links that come and
 * go.
 *
 * A stream is (attachment of a sender device, recipient shard). Its submits are numbered 1, 2, 3 ... under
 * the attach epoch; the shard refuses a gap, so pipelined submits never change order. The caller pulls what
 * is to be sent next, reports what the router answered and which shard lost its link; nothing here does I/O
 * or reads a clock.
 *
 * A submit that was answered with WP_E_RESEND, WP_E_NOT_LEADER or WP_E_UNAVAILABLE, or whose link was lost,
 * is sent again with its message id; the device hears nothing of it unless it takes too long. One thread. */
#ifndef WP_GATEWAY_SUBMITS_H
#define WP_GATEWAY_SUBMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/schema.h"

#define WP_SUBMIT_WAIT_MS                                                                                    \
    5000u /* a submit that could not be sent is given up when its shard took nothing so long */
#define WP_SUBMIT_ANSWER_MS 30000u /* a submit on a live link that is never answered is given up after it */
#define WP_SUBMIT_RETRY_MS 100u    /* pause of a shard that has no leader */

struct wp_submits;
struct wp_stream;

/* What to tell the session: the answer to its PUBLISH number `publish`. */
struct wp_submit_answer {
    uint64_t owner;
    uint64_t publish;
    int error;
    uint64_t accepted_ms;
};

/* For shards 1..shard_count. WP_E_NOMEM. */
int wp_submits_create(uint32_t shard_count, struct wp_submits **ret_submits);
/* Streams must be closed before. */
void wp_submits_destroy(struct wp_submits **submits);

/* `user` and `device` are borrowed and must outlive the stream; `owner` comes back in answers. WP_E_NOMEM. */
int wp_stream_open(struct wp_submits *submits, uint32_t shard, uint64_t owner, const char *user,
    const char *device, uint64_t epoch, struct wp_stream **ret_stream);
/* Forgets what is unanswered: the device is gone and will publish again what it got no PUBACK for. */
void wp_stream_close(struct wp_submits *submits, struct wp_stream **stream);

/* Packs the envelope and queues it. WP_E_NOMEM, WP_E_TOO_LARGE (over WP_FRAME_SIZE_MAX). */
int wp_stream_push(struct wp_submits *submits, struct wp_stream *stream, uint64_t publish,
    const Wp__Envelope *envelope, uint64_t now_ms);

/* What `shard` should be sent next: fills *ret_submit (borrowed until the next call on `submits`) and the
 * link lane. False: nothing, or the shard pauses. Lanes are served 8:4:1, devices in turn. `turn` names the
 * batch that is being filled: within one, a stream keeps to one lane, since the link may reorder lanes. */
bool wp_submits_next(struct wp_submits *submits, uint32_t shard, uint64_t turn, uint64_t now_ms,
    Wp__Submit *ret_submit, Wp__Lane *ret_lane);
/* The link took what wp_submits_next gave. */
void wp_submits_sent(struct wp_submits *submits, uint32_t shard);

/* A router answered. True: *ret_answer is for the session. False: handled here (to be sent again, or stale).
 */
bool wp_submits_reply(struct wp_submits *submits, const Wp__SubmitReply *reply, uint64_t now_ms,
    struct wp_submit_answer *ret_answer);

/* Shard of the submit with this ticket; 0: it was answered, or is to be sent again. */
uint32_t wp_submits_shard_of(const struct wp_submits *submits, uint64_t ticket);

/* The link of the shard is gone, or another router leads it: everything unanswered is to be sent again. */
void wp_submits_shard_lost(struct wp_submits *submits, uint32_t shard);
/* The shard can be tried at once, whatever was said before. */
void wp_submits_shard_found(struct wp_submits *submits, uint32_t shard);

/* Gives up one submit of `shard` that waited too long; false when there is none (left). `up`: its link is up.
 * What waits behind others while the shard takes them one by one, as after a fail-over, is not given up. */
bool wp_submits_give_up(struct wp_submits *submits, uint32_t shard, bool up, uint64_t now_ms,
    struct wp_submit_answer *ret_answer);

/* Bytes of `shard` that no link has taken yet. */
uint64_t wp_submits_waiting_bytes(const struct wp_submits *submits, uint32_t shard);
/* Submits without an answer, over all shards. */
uint64_t wp_submits_count(const struct wp_submits *submits);

#endif
