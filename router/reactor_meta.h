/* The meta group as reactor 0 has it: its replica is a `struct shard` with the number 0, a machine of its own
 * (router/meta.h) and no dispatch. What it applies becomes the roster of every reactor of this node.
 *
 * The first part is for jobs of reactor 0, the second for router/reactor*.c. */
#ifndef WP_ROUTER_REACTOR_META_H
#define WP_ROUTER_REACTOR_META_H

#include "router/meta.h"
#include "router/plan.h"
#include "router/reactor.h"
#include "router/reactor_watch.h"

/* --- for the operator's requests: jobs of reactor 0
 * -------------------------------------------------------------
 */

/* Proposes a command of the meta group, here or at its leader elsewhere; as wp_reactor_propose. `message` is
 * the one of `command` (router/meta.h), whose refusals come as the answer. After WP_OK the change is applied
 * at the leader; the roster of this node has it a moment later. WP_E_BUSY besides: NODE_STATE removed while
 * members of a group are on the node, or while a group has no known leader. */
int wp_reactor_meta_propose(struct wp_reactor *reactor, uint8_t command, const ProtobufCMessage *message,
    struct wp_answer *answer, uint32_t item);
/* The roster that holds here; borrowed for the job (any reactor). */
const struct wp_roster *wp_reactor_roster(const struct wp_reactor *reactor);
/* What the planner would be told here; for checks before a change (router/plan.h). `groups` has room for
 * shard_count + 1. */
void wp_reactor_plan_view(
    struct wp_reactor *reactor, struct wp_plan_group *groups, struct wp_plan_view *ret_view);

/* --- for router/reactor*.c
 * --------------------------------------------------------------------------------------
 */

struct shard;

#define SIBLINGS_MAX 64u

struct meta_work {
    uint64_t told[SIBLINGS_MAX]; /* version that each reactor was told, by index */
    uint64_t bootstrap_ms;       /* when the first roster was proposed */
    uint64_t planned_ms;         /* last question to the planner */
    struct wp_watch watch;
};

int wp_meta_group_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours);
void wp_meta_group_leading(void *context, bool leading);
int wp_meta_work_create(struct wp_reactor *reactor);
/* A command that nobody waits for; `*ret_asked_ms` becomes the present time when it was taken. */
void wp_meta_command(
    struct shard *shard, uint8_t command, const ProtobufCMessage *message, uint64_t *ret_asked_ms);
/* The newest committed membership of a group that is known here, led here or reported by its leader. */
void wp_meta_group_known(struct wp_reactor *reactor, uint32_t group, struct wp_plan_group *out);
/* Every tick of reactor 0. */
void wp_meta_tick(struct wp_reactor *reactor);
/* At the end of each turn of reactor 0: a new roster goes to every reactor. */
void wp_meta_settle(struct wp_reactor *reactor);

#endif
