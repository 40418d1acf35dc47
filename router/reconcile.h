/* The next membership change of a group on its way to the wanted replicas (docs/cluster.md, "Moving
 * replicas"). Pure: the group's leader asks with each tick while no change is under way; nothing is
 * remembered, so a new leader goes on where the old one stopped.
 *
 *   1. what can never come back is removed: voters whose node has a newer replica wanted, or is removed;
 *   2. learners that nobody wants go;
 *   3. what is missing is added as learner;
 *   4. once a wanted voter has caught up, voters that are not wanted and not reachable go: with them the
 *      promotion could not be carried;
 *   5. wanted voters that have caught up are promoted;
 *   6. only then what is not wanted is removed (or made a learner), the leader itself last, after it handed
 *      over.
 *
 * A step is taken only when a majority of the voters after it is reachable. */
#ifndef WP_ROUTER_RECONCILE_H
#define WP_ROUTER_RECONCILE_H

#include "cluster/membership.h"

enum wp_step_kind { WP_STEP_NOTHING, WP_STEP_CHANGE, WP_STEP_TRANSFER };

/* What the leader knows of one raft id, member or wanted. What is not listed is not reachable. */
struct wp_step_peer {
    uint64_t id;
    bool reachable;
    bool caught_up; /* holds the log but for the last entries */
};

struct wp_step_view {
    const struct wp_membership *membership; /* in force, and committed */
    uint64_t self;                          /* the leader */
    const uint64_t *voters;                 /* wanted as voters */
    uint32_t voter_count;
    const uint64_t *learners; /* wanted as learners */
    uint32_t learner_count;
    const struct wp_step_peer *peers; /* `self` need not be among them */
    uint32_t peer_count;
    const uint64_t *gone; /* members that never come back, beside those with a newer replica wanted */
    uint32_t gone_count;
};

struct wp_step {
    enum wp_step_kind kind;
    struct wp_membership next; /* CHANGE */
    uint64_t id;               /* whom the step is about; TRANSFER: who shall lead */
    const char *what;          /* "add", "promote", "demote", "remove", "transfer"; for the log */
};

void wp_reconcile(const struct wp_step_view *view, struct wp_step *ret_step);

/* Whether the members are what is wanted. */
bool wp_reconciled(const struct wp_step_view *view);

#endif
