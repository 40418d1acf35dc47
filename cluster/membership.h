/* Who belongs to a Raft group, and how that is written in a CHANGE entry and in `state`.
 *
 * Pure. A membership is valid when it has 1 to WP_REPLICA_MEMBERS_MAX members in ascending order of id, ids
 * above 0, and at least one voter. Only valid memberships are encoded or come out of decode. */
#ifndef WP_CLUSTER_MEMBERSHIP_H
#define WP_CLUSTER_MEMBERSHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

#define WP_REPLICA_MEMBERS_MAX 9
enum wp_member_role { WP_MEMBER_VOTER, WP_MEMBER_LEARNER };
struct wp_member {
    uint64_t id; /* raft id, > 0, never reused */
    enum wp_member_role role;
};
struct wp_membership {
    uint32_t count;
    struct wp_member members[WP_REPLICA_MEMBERS_MAX];
};

/* WP_OK or WP_E_INVALID. */
int wp_membership_check(const struct wp_membership *membership);

/* NULL when `id` is no member. */
const struct wp_member *wp_membership_find(const struct wp_membership *membership, uint64_t id);
uint32_t wp_membership_voter_count(const struct wp_membership *membership);

/* True when `to` differs from `from` by one member added, removed or given another role: then any majority of
 * the one meets any majority of the other (Ongaro 2014, section 4.1). */
bool wp_membership_one_step(const struct wp_membership *from, const struct wp_membership *to);

/* version u8 | count u8 | count x (id u64le | role u8). NULL: out of memory. `membership` is valid. */
struct wp_bytes *wp_membership_encode(const struct wp_membership *membership);
/* WP_OK, WP_E_VERSION or WP_E_MALFORMED. */
int wp_membership_decode(struct wp_slice bytes, struct wp_membership *ret_membership);

#endif
