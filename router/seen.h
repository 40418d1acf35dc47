/* The duplicate window of a shard: which message ids of which sender devices were accepted in the last 24
 * hours of leader time (architecture.md, "Duplicates").
 *
 * Ids live in buckets that close after 10 minutes or seen_ids_max/64 ids; whole buckets are dropped, the
 * oldest first. `floor_ms` moves above every id dropped with them: an id made before it may have been
 * accepted and forgotten, so the caller refuses it. 32 bytes an id and 4 to 11 bytes of hash table.
 *
 * One owner thread. The caller stores what is inserted (WP_KEY_SEEN) and removes the rows of dropped buckets.
 */
#ifndef WP_ROUTER_SEEN_H
#define WP_ROUTER_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/uuid.h"

#define WP_SEEN_KEEP_MS (24u * 3600u * 1000u)
#define WP_SEEN_BUCKET_MS (10u * 60u * 1000u)
#define WP_SEEN_WINDOW_MIN_MS (10u * 60u * 1000u) /* never shrinks below */
#define WP_SEEN_AHEAD_MAX_MS (10u * 60u * 1000u)  /* an id from further ahead is refused */
#define WP_SEEN_BUCKETS 64u                       /* buckets that seen_ids_max ids fill */
#define WP_SEEN_IDS_MAX (UINT32_MAX / 4)

struct wp_seen;

/* An empty window for 1 to WP_SEEN_IDS_MAX ids. WP_OK, WP_E_INVALID or WP_E_NOMEM. */
int wp_seen_create(uint64_t ids_max, struct wp_seen **ret_seen);
void wp_seen_destroy(struct wp_seen **seen);

/* From now on the window is for so many ids (as at create). What is beyond a smaller number leaves with the
 * next inserts. WP_OK or WP_E_NOMEM. */
int wp_seen_resize(struct wp_seen *seen, uint64_t ids_max);

/* Whether the id of this sender is in the window; then when it was accepted. */
bool wp_seen_find(
    const struct wp_seen *seen, uint64_t sender, const uint8_t id[WP_UUID_SIZE], uint64_t *ret_accepted_ms);

/* Earliest time an id may carry at `now_ms`; what is made before is older than the window. */
uint64_t wp_seen_oldest_ms(const struct wp_seen *seen, uint64_t now_ms);

/* Whether one more id can be taken at `now_ms`, if need be by dropping buckets without shrinking the window
 * below WP_SEEN_WINDOW_MIN_MS. */
bool wp_seen_has_room(const struct wp_seen *seen, uint64_t now_ms);

/* Adds an id that is not in the window; wp_seen_has_room was true. *ret_bucket: the bucket it went into.
 * Times never run backwards. WP_OK or WP_E_NOMEM. */
int wp_seen_insert(struct wp_seen *seen, uint64_t sender, const uint8_t id[WP_UUID_SIZE], uint64_t now_ms,
    uint64_t *ret_bucket);

/* Adds an id read back from the store; buckets ascend without a gap. WP_OK, WP_E_NOMEM or WP_E_CORRUPT. */
int wp_seen_load(struct wp_seen *seen, uint64_t bucket, uint64_t sender, const uint8_t id[WP_UUID_SIZE],
    uint64_t accepted_ms);
/* After the last id: the floor and the highest bucket number given out. WP_OK or WP_E_CORRUPT. */
int wp_seen_load_end(struct wp_seen *seen, uint64_t floor_ms, uint64_t last_bucket);

/* Drops the oldest bucket when the window must shrink to take an id, or when the bucket's time is over. True
 * with the number of the dropped bucket; call until false. */
bool wp_seen_drop_due(struct wp_seen *seen, uint64_t now_ms, bool want_room, uint64_t *ret_bucket);

uint64_t wp_seen_floor_ms(const struct wp_seen *seen);
uint64_t wp_seen_last_bucket(const struct wp_seen *seen);
uint64_t wp_seen_count(const struct wp_seen *seen);

/* A number that depends on the ids, their buckets and times but not on their order in memory. Reads
 * everything. */
uint64_t wp_seen_hash(const struct wp_seen *seen);

#endif
