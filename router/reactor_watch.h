/* What nodes show of themselves: a later start on the same data directory, or one that forgot
 * (docs/cluster.md, "Forgetting"). The leader of the meta group watches, and writes it into the roster.
 * Shared by router/reactor*.c only; reactor 0's thread. */
#ifndef WP_ROUTER_REACTOR_WATCH_H
#define WP_ROUTER_REACTOR_WATCH_H

#include "router/roster.h"

struct wp_reactor;
struct shard;

struct wp_watch {
    uint64_t watched_ms;                    /* last look at the nodes */
    uint64_t counted_ms;                    /* when the nodes that forgot were last counted */
    uint64_t asked_ms[WP_ROSTER_NODES_MAX]; /* last proposal about a node, by its place */
};

/* Every tick while the meta group is led here. */
void wp_watch_nodes(struct shard *meta);
/* Every tick: the metric of nodes that are being rebuilt. */
void wp_watch_count(struct wp_reactor *reactor);
/* Whether a node that forgot is not yet a member again of every group in which it is wanted. */
bool wp_watch_rebuilding(struct wp_reactor *reactor, const struct wp_roster_node *node);
/* Whether the process of the node that is connected now (or this one) is the one that the roster knows. */
bool wp_watch_known(const struct wp_reactor *reactor, const struct wp_roster_node *node);

#endif
