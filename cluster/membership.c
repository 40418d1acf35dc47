/* The engine has an encoding of its own for this, which trusts its input and names members by address;
 * entries come from peers and disks, so they carry this checked form and cluster/engine.c translates. */
#include "cluster/membership.h"

#include "base/assert.h"
#include "base/error.h"

#define MEMBERSHIP_VERSION 1
#define MEMBERSHIP_HEAD_SIZE 2u
#define MEMBER_SIZE 9u

int wp_membership_check(const struct wp_membership *membership)
{
    if (membership->count == 0 || membership->count > WP_REPLICA_MEMBERS_MAX) {
        return WP_E_INVALID;
    }
    uint64_t previous = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        if (member->id <= previous ||
            (member->role != WP_MEMBER_VOTER && member->role != WP_MEMBER_LEARNER)) {
            return WP_E_INVALID;
        }
        previous = member->id;
    }
    return wp_membership_voter_count(membership) > 0 ? WP_OK : WP_E_INVALID;
}

const struct wp_member *wp_membership_find(const struct wp_membership *membership, uint64_t id)
{
    for (uint32_t i = 0; i < membership->count; i++) {
        if (membership->members[i].id == id) {
            return &membership->members[i];
        }
    }
    return NULL;
}

uint32_t wp_membership_voter_count(const struct wp_membership *membership)
{
    uint32_t voters = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        voters += membership->members[i].role == WP_MEMBER_VOTER;
    }
    return voters;
}

bool wp_membership_one_step(const struct wp_membership *from, const struct wp_membership *to)
{
    uint32_t steps = 0;
    for (uint32_t i = 0; i < from->count; i++) {
        const struct wp_member *other = wp_membership_find(to, from->members[i].id);
        steps += !other || other->role != from->members[i].role;
    }
    for (uint32_t i = 0; i < to->count; i++) {
        steps += wp_membership_find(from, to->members[i].id) == NULL;
    }
    return steps == 1;
}

struct wp_bytes *wp_membership_encode(const struct wp_membership *membership)
{
    WP_ASSERT(wp_membership_check(membership) == WP_OK);
    struct wp_bytes *bytes = wp_bytes_create(MEMBERSHIP_HEAD_SIZE + membership->count * MEMBER_SIZE);
    if (!bytes) {
        return NULL;
    }
    bytes->data[0] = MEMBERSHIP_VERSION;
    bytes->data[1] = (uint8_t)membership->count;
    uint8_t *cursor = bytes->data + MEMBERSHIP_HEAD_SIZE;
    for (uint32_t i = 0; i < membership->count; i++, cursor += MEMBER_SIZE) {
        wp_put_u64le(cursor, membership->members[i].id);
        cursor[8] = (uint8_t)membership->members[i].role;
    }
    return bytes;
}

int wp_membership_decode(struct wp_slice bytes, struct wp_membership *ret_membership)
{
    if (bytes.size < MEMBERSHIP_HEAD_SIZE) {
        return WP_E_MALFORMED;
    }
    if (bytes.data[0] != MEMBERSHIP_VERSION) {
        return WP_E_VERSION;
    }
    struct wp_membership membership = {.count = bytes.data[1]};
    if (membership.count > WP_REPLICA_MEMBERS_MAX ||
        bytes.size != MEMBERSHIP_HEAD_SIZE + membership.count * MEMBER_SIZE) {
        return WP_E_MALFORMED;
    }
    const uint8_t *cursor = bytes.data + MEMBERSHIP_HEAD_SIZE;
    for (uint32_t i = 0; i < membership.count; i++, cursor += MEMBER_SIZE) {
        membership.members[i].id = wp_get_u64le(cursor);
        membership.members[i].role = (enum wp_member_role)cursor[8];
    }
    if (wp_membership_check(&membership) != WP_OK) {
        return WP_E_MALFORMED;
    }
    *ret_membership = membership;
    return WP_OK;
}
