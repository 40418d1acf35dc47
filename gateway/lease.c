/* Grants and their ends.
 *
 *   1. until_ms of a shard never goes back.
 *   2. until_ms <= the stamp of a request that was sent + WP_LEASE_MS. */
#include "gateway/lease.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

struct wp_leases {
    uint32_t shard_count;
    bool hurry;
    uint64_t turned_ms;
    uint64_t asked_ms;   /* stamp of the newest request; 0 = none yet */
    uint64_t until_ms[]; /* [shard - 1]: held below it */
};

int wp_leases_create(uint32_t shard_count, uint64_t now_ms, struct wp_leases **ret_leases)
{
    struct wp_leases *leases = calloc(1, sizeof *leases + shard_count * sizeof *leases->until_ms);
    if (!leases) {
        return WP_E_NOMEM;
    }
    leases->shard_count = shard_count;
    leases->turned_ms = now_ms;
    for (uint32_t i = 0; i < shard_count; i++) {
        leases->until_ms[i] = now_ms; /* none, and absent only from now on */
    }
    *ret_leases = leases;
    return WP_OK;
}

void wp_leases_destroy(struct wp_leases **leases)
{
    free(*leases);
    *leases = NULL;
}

bool wp_leases_turn(struct wp_leases *leases, uint64_t now_ms)
{
    bool gap = now_ms - leases->turned_ms > WP_LEASE_GAP_MS;
    leases->turned_ms = now_ms;
    if (!gap && !leases->hurry && leases->asked_ms != 0 && now_ms - leases->asked_ms < WP_LEASE_EVERY_MS) {
        return false;
    }
    leases->hurry = false;
    leases->asked_ms = now_ms;
    return true;
}

void wp_leases_hurry(struct wp_leases *leases)
{
    leases->hurry = true;
}

bool wp_leases_granted(struct wp_leases *leases, uint32_t shard, uint64_t stamp_ms, uint64_t now_ms)
{
    if (shard < 1 || shard > leases->shard_count || stamp_ms > leases->asked_ms) {
        return false;
    }
    /* 40: counted from the answer, so that one which was long on its way is taken for fresh */
    uint64_t until_ms = (WP_BUG == 40 ? now_ms : stamp_ms) + WP_LEASE_MS;
    uint64_t *held_until_ms = &leases->until_ms[shard - 1];
    bool held = now_ms < *held_until_ms;
    if (until_ms > *held_until_ms) {
        *held_until_ms = until_ms;
    }
    return !held && now_ms < *held_until_ms;
}

bool wp_lease_held(const struct wp_leases *leases, uint32_t shard, uint64_t now_ms)
{
    WP_ASSERT(shard >= 1 && shard <= leases->shard_count);
    return now_ms < leases->until_ms[shard - 1];
}

uint64_t wp_lease_absent_ms(const struct wp_leases *leases, uint32_t shard, uint64_t now_ms)
{
    WP_ASSERT(shard >= 1 && shard <= leases->shard_count);
    uint64_t until_ms = leases->until_ms[shard - 1];
    return now_ms < until_ms ? 0 : now_ms - until_ms;
}

uint32_t wp_leases_count(const struct wp_leases *leases, uint64_t now_ms)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < leases->shard_count; i++) {
        count += now_ms < leases->until_ms[i];
    }
    return count;
}
