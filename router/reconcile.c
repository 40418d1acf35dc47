/* Why one function per rule, asked in order: each answers "the first step of mine", and the order is the
 * safety argument of the header. */
#include "router/reconcile.h"

#include <stddef.h>

#include "base/assert.h"

static bool listed(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static const struct wp_step_peer *peer_of(const struct wp_step_view *view, uint64_t id)
{
    for (uint32_t i = 0; i < view->peer_count; i++) {
        if (view->peers[i].id == id) {
            return &view->peers[i];
        }
    }
    return NULL;
}

static bool reachable(const struct wp_step_view *view, uint64_t id)
{
    const struct wp_step_peer *peer = peer_of(view, id);
    return id == view->self || (peer && peer->reachable);
}

static bool caught_up(const struct wp_step_view *view, uint64_t id)
{
    const struct wp_step_peer *peer = peer_of(view, id);
    return id == view->self || (peer && peer->reachable && peer->caught_up);
}

static bool wants_voter(const struct wp_step_view *view, uint64_t id)
{
    return listed(view->voters, view->voter_count, id);
}

static bool wants_learner(const struct wp_step_view *view, uint64_t id)
{
    return listed(view->learners, view->learner_count, id);
}

static bool newer_wanted(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] > id && ids[i] >> 16 == id >> 16) {
            return true;
        }
    }
    return false;
}

static bool is_gone(const struct wp_step_view *view, uint64_t id)
{
    return id != view->self &&
           (listed(view->gone, view->gone_count, id) || newer_wanted(view->voters, view->voter_count, id) ||
               newer_wanted(view->learners, view->learner_count, id));
}

static bool majority_reachable(const struct wp_step_view *view, const struct wp_membership *membership)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < membership->count; i++) {
        const struct wp_member *member = &membership->members[i];
        count += member->role == WP_MEMBER_VOTER && reachable(view, member->id);
    }
    return count > wp_membership_voter_count(membership) / 2;
}

/* --- changes
 * ---------------------------------------------------------------------------------------------------- */

static bool take(const struct wp_step_view *view, struct wp_step *step, const struct wp_membership *next,
    uint64_t id, const char *what)
{
    if (wp_membership_check(next) || !majority_reachable(view, next)) {
        return false;
    }
    *step = (struct wp_step){.kind = WP_STEP_CHANGE, .next = *next, .id = id, .what = what};
    return true;
}

static bool step_remove(const struct wp_step_view *view, struct wp_step *step, uint64_t id)
{
    struct wp_membership next = {0};
    for (uint32_t i = 0; i < view->membership->count; i++) {
        if (view->membership->members[i].id != id) {
            next.members[next.count++] = view->membership->members[i];
        }
    }
    return take(view, step, &next, id, "remove");
}

static bool step_add(const struct wp_step_view *view, struct wp_step *step, uint64_t id)
{
    struct wp_membership next = *view->membership;
    if (next.count == WP_REPLICA_MEMBERS_MAX || !reachable(view, id)) {
        return false;
    }
    uint32_t place = next.count++;
    for (; place > 0 && next.members[place - 1].id > id; place--) {
        next.members[place] = next.members[place - 1];
    }
    next.members[place] = (struct wp_member){id, WP_MEMBER_LEARNER};
    return take(view, step, &next, id, "add");
}

static bool step_role(
    const struct wp_step_view *view, struct wp_step *step, uint64_t id, enum wp_member_role role)
{
    struct wp_membership next = *view->membership;
    for (uint32_t i = 0; i < next.count; i++) {
        if (next.members[i].id == id) {
            next.members[i].role = role;
        }
    }
    return take(view, step, &next, id, role == WP_MEMBER_VOTER ? "promote" : "demote");
}

/* --- rules
 * ---------------------------------------------------------------------------------------------------------
 */

static bool rule_gone(const struct wp_step_view *view, struct wp_step *step)
{
    for (uint32_t i = 0; i < view->membership->count; i++) {
        uint64_t id = view->membership->members[i].id;
        if (is_gone(view, id) && step_remove(view, step, id)) {
            return true;
        }
    }
    return false;
}

static bool rule_stray_learners(const struct wp_step_view *view, struct wp_step *step)
{
    for (uint32_t i = 0; i < view->membership->count; i++) {
        const struct wp_member *member = &view->membership->members[i];
        if (member->role == WP_MEMBER_LEARNER && !wants_voter(view, member->id) &&
            !wants_learner(view, member->id) && step_remove(view, step, member->id)) {
            return true;
        }
    }
    return false;
}

static bool rule_missing(const struct wp_step_view *view, struct wp_step *step)
{
    const uint64_t *const lists[] = {view->voters, view->learners};
    const uint32_t counts[] = {view->voter_count, view->learner_count};
    for (int list = 0; list < 2; list++) {
        for (uint32_t i = 0; i < counts[list]; i++) {
            uint64_t id = lists[list][i];
            if (!wp_membership_find(view->membership, id) && step_add(view, step, id)) {
                return true;
            }
        }
    }
    return false;
}

/* A voter becomes what it is wanted as: a learner, or nobody. */
static bool step_unvote(const struct wp_step_view *view, struct wp_step *step, uint64_t id)
{
    return wants_learner(view, id) ? step_role(view, step, id, WP_MEMBER_LEARNER)
                                   : step_remove(view, step, id);
}

/* Those who vote now must carry the promotion by themselves (cluster/replica.h): of three voters, one of them
 * dead, two cannot make it four. The dead one goes first; it is missed by nobody. */
static bool rule_dead(const struct wp_step_view *view, struct wp_step *step)
{
    bool waiting = false;
    for (uint32_t i = 0; i < view->membership->count; i++) {
        const struct wp_member *member = &view->membership->members[i];
        waiting = waiting || (member->role == WP_MEMBER_LEARNER && wants_voter(view, member->id) &&
                                 caught_up(view, member->id));
    }
    for (uint32_t i = 0; waiting && i < view->membership->count; i++) {
        const struct wp_member *member = &view->membership->members[i];
        if (member->role == WP_MEMBER_VOTER && !wants_voter(view, member->id) &&
            !reachable(view, member->id) && step_unvote(view, step, member->id)) {
            return true;
        }
    }
    return false;
}

static bool rule_promote(const struct wp_step_view *view, struct wp_step *step)
{
    for (uint32_t i = 0; i < view->membership->count; i++) {
        const struct wp_member *member = &view->membership->members[i];
        if (member->role == WP_MEMBER_LEARNER && wants_voter(view, member->id) &&
            caught_up(view, member->id) && step_role(view, step, member->id, WP_MEMBER_VOTER)) {
            return true;
        }
    }
    return false;
}

static bool wanted_all_vote(const struct wp_step_view *view)
{
    for (uint32_t i = 0; i < view->voter_count; i++) {
        const struct wp_member *member = wp_membership_find(view->membership, view->voters[i]);
        if (!member || member->role != WP_MEMBER_VOTER) {
            return false;
        }
    }
    return view->voter_count > 0;
}

static bool rule_unwanted(const struct wp_step_view *view, struct wp_step *step)
{
    if (!wanted_all_vote(view)) {
        return false;
    }
    for (uint32_t i = 0; i < view->membership->count; i++) {
        const struct wp_member *member = &view->membership->members[i];
        if (member->role != WP_MEMBER_VOTER || wants_voter(view, member->id) || member->id == view->self) {
            continue;
        }
        if (step_unvote(view, step, member->id)) {
            return true;
        }
    }
    return false;
}

/* The leader is not wanted as a voter: somebody who is takes over, and then removes this one. */
static bool rule_hand_over(const struct wp_step_view *view, struct wp_step *step)
{
    if (!wanted_all_vote(view) || wants_voter(view, view->self)) {
        return false;
    }
    for (uint32_t i = 0; i < view->voter_count; i++) {
        if (caught_up(view, view->voters[i])) {
            *step = (struct wp_step){.kind = WP_STEP_TRANSFER, .id = view->voters[i], .what = "transfer"};
            return true;
        }
    }
    return false;
}

void wp_reconcile(const struct wp_step_view *view, struct wp_step *ret_step)
{
    static bool (*const rules[])(const struct wp_step_view *, struct wp_step *) = {
        rule_gone, rule_stray_learners, rule_missing, rule_dead, rule_promote, rule_unwanted, rule_hand_over};
    *ret_step = (struct wp_step){.kind = WP_STEP_NOTHING, .what = ""};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i](view, ret_step)) {
            return;
        }
    }
}

bool wp_reconciled(const struct wp_step_view *view)
{
    for (uint32_t i = 0; i < view->membership->count; i++) {
        const struct wp_member *member = &view->membership->members[i];
        bool fits =
            member->role == WP_MEMBER_VOTER ? wants_voter(view, member->id) : wants_learner(view, member->id);
        if (!fits) {
            return false;
        }
    }
    return view->membership->count == view->voter_count + view->learner_count;
}
