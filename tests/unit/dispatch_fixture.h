/* A dispatch over mailboxes that the test keeps itself: what is queued, who has what. The index port reads
 * them, reads are answered from them, and cursors taken from dispatch are applied to them as the machine
 * would. */
#ifndef WP_TESTS_DISPATCH_FIXTURE_H
#define WP_TESTS_DISPATCH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>

#include "router/dispatch.h"

#define FIX_MAILBOXES 6u
#define FIX_DEVICES 3u
#define FIX_MESSAGES 4000u

struct fix_message {
    Wp__Lane lane;
    uint64_t sequence;
    uint64_t expires_ms;
    uint32_t size;
    uint64_t body; /* number of the body that it shares; 0 = none */
    bool gone;
    uint8_t acknowledged; /* bit per device */
};

struct fix_mailbox {
    struct fix_message messages[FIX_MESSAGES];
    uint32_t count;
    uint64_t tail[WP_SEQUENCE_COUNT]; /* last position given */
    uint64_t sent[FIX_DEVICES][WP_SEQUENCE_COUNT];
    uint64_t set_aside[FIX_DEVICES];
};

struct fix {
    struct wp_dispatch *dispatch;
    struct wp_body_cache *cache;
    struct fix_mailbox mailboxes[FIX_MAILBOXES];
    uint64_t mono_ms;
    uint64_t leader_ms;
    uint8_t body[8192];
};

#define FIX_EPOCH_MS UINT64_C(1700000000000)

struct fix *fix_create(const struct wp_dispatch_config *config, uint64_t cache_bytes);
void fix_destroy(struct fix **fix);
void fix_pass(struct fix *fix, uint64_t ms);

/* Queues without telling dispatch; returns the position. */
uint64_t fix_queue(struct fix *fix, uint64_t mailbox, Wp__Lane lane, uint32_t size, uint64_t ttl_ms);
/* Queues a copy of a team message for each of `count` mailboxes from `first` on, without telling dispatch. */
void fix_copies(struct fix *fix, uint64_t first, uint64_t count, Wp__Lane lane, uint32_t size, uint64_t body);
/* Queues and tells dispatch, as apply does. Effects as of wp_dispatch_message; returns their count. */
uint32_t fix_message(struct fix *fix, uint64_t mailbox, Wp__Lane lane, uint32_t size, uint64_t ttl_ms,
    struct wp_effect effects[WP_DEVICES_MAX]);
int fix_attach(struct fix *fix, uint32_t link, uint64_t session, uint64_t mailbox, uint32_t device,
    uint64_t epoch, uint32_t window, const Wp__Resume *resume);
/* Next effect that is no read; reads are answered at once. False when there is nothing. */
bool fix_next(struct fix *fix, struct wp_effect *ret_effect);
/* Answers a read from the mailboxes. */
int fix_read(struct fix *fix, const struct wp_read_request *request);
/* Of all deliveries to `session` until nothing is left, in order: lane letter (e: a receipt) and position,
 * "+" for DUP,
 * "!" for drained. */
const char *fix_deliveries(struct fix *fix, uint64_t session);
int fix_acknowledge(
    struct fix *fix, uint32_t link, uint64_t session, Wp__Lane lane, uint64_t sequence, uint32_t *ret_known);
/* Takes one record of cursors and applies it; false when there was none. */
bool fix_cursors(struct fix *fix);
struct fix_message *fix_find(struct fix *fix, uint64_t mailbox, Wp__Lane lane, uint64_t sequence);

#endif
