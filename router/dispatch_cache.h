/* Bodies of recent messages in memory, so that devices that are attached but momentarily behind get them
 * without a disk read. Bounded by bytes; the oldest goes first. One cache serves all shards of a reactor, on
 * its thread. */
#ifndef WP_ROUTER_DISPATCH_CACHE_H
#define WP_ROUTER_DISPATCH_CACHE_H

#include <stdint.h>

#include "base/bytes.h"
#include "proto/envelope.pb-c.h"

struct wp_body_cache;

struct wp_body_key {
    uint32_t shard;
    Wp__Lane lane;
    uint64_t mailbox;
    uint64_t sequence;
};

struct wp_body {
    uint64_t accepted_ms;
    uint64_t expires_ms;
    struct wp_slice envelope;
    uint64_t shared; /* number of the shared body; 0: of one message */
};

/* A message's own body, or the one that it shares: cached once for all mailboxes. Receipts have none, so
 * their lane is free for these. */
static inline struct wp_body_key wp_body_key(
    uint32_t shard, uint64_t mailbox, Wp__Lane lane, uint64_t sequence, uint64_t shared)
{
    return shared ? (struct wp_body_key){.shard = shard, .lane = WP__LANE__RECEIPT, .sequence = shared}
                  : (struct wp_body_key){shard, lane, mailbox, sequence};
}

/* Holds at most `bytes_max` of envelopes (at least one whatever its size). NULL: out of memory. */
struct wp_body_cache *wp_body_cache_create(uint64_t bytes_max);
void wp_body_cache_destroy(struct wp_body_cache **cache);

/* Copies the body in; one that is there already stays. WP_OK or WP_E_NOMEM. */
int wp_body_cache_put(struct wp_body_cache *cache, const struct wp_body_key *key, const struct wp_body *body);
/* NULL when it is not there. Borrowed until the next put or drop. */
const struct wp_body *wp_body_cache_find(const struct wp_body_cache *cache, const struct wp_body_key *key);
void wp_body_cache_drop(struct wp_body_cache *cache, const struct wp_body_key *key);
uint64_t wp_body_cache_bytes(const struct wp_body_cache *cache);

#endif
