/* Leases: for how long this gateway may write deliveries of each shard to devices (docs/cluster.md). Pure.
 *
 * A gateway that is cut off, or was stopped for a while, must not go on delivering: what it holds may be
 * overtaken by now. So it asks each second; a grant counts WP_LEASE_MS from the moment the request was
 * *sent*, on a clock that also runs while the machine sleeps (CLOCK_BOOTTIME). Counted from the answer, or on
 * a clock that can be set, a grant that was long on its way would be fresh for ever. */
#ifndef WP_GATEWAY_LEASE_H
#define WP_GATEWAY_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#define WP_LEASE_MS 5000u
#define WP_LEASE_EVERY_MS 1000u  /* a request */
#define WP_LEASE_GAP_MS 200u     /* a loop that stood still for longer asks at once */
#define WP_LEASE_ABSENT_MS 5000u /* so long without a lease, and the devices are sent elsewhere */

struct wp_leases;

/* Shards 1..shard_count, none held. `now_ms` is of the boot clock, here and below. WP_E_NOMEM. */
int wp_leases_create(uint32_t shard_count, uint64_t now_ms, struct wp_leases **ret_leases);
void wp_leases_destroy(struct wp_leases **leases);

/* The loop turned. Whether a request is to be sent to every router now, stamped with now_ms. */
bool wp_leases_turn(struct wp_leases *leases, uint64_t now_ms);
/* A leader is new: the next turn asks. */
void wp_leases_hurry(struct wp_leases *leases);

/* The leader of `shard` granted the request stamped `stamp_ms`. Ignored: a stamp that was never sent, or that
 * is over. Whether the shard had no lease and has one now. */
bool wp_leases_granted(struct wp_leases *leases, uint32_t shard, uint64_t stamp_ms, uint64_t now_ms);

bool wp_lease_held(const struct wp_leases *leases, uint32_t shard, uint64_t now_ms);
/* For how long there has been none; 0 while one is held. */
uint64_t wp_lease_absent_ms(const struct wp_leases *leases, uint32_t shard, uint64_t now_ms);
uint32_t wp_leases_count(const struct wp_leases *leases, uint64_t now_ms);

#endif
