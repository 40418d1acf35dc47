/* Founding a cluster, and not taking an emptied disk for a founder (docs/cluster.md, "Forming").
 *
 * A replica that begins with the configuration's list may be the first ever, or one whose disk was emptied:
 * of what it had voted for and acknowledged it would know nothing. So it follows, but neither votes nor
 * stands for election until one of these holds:
 *   - the roster names this data directory as the one of this node: the cluster knows it as it is;
 *   - no other member of its group holds more than the founding entry, as each of them reports: then nobody
 * ever led it, and there is nothing to forget. Either is noted on the disk before the replica votes, so it
 * holds for this directory for ever. Shared by router/reactor*.c only; the reactor's thread. */
#ifndef WP_ROUTER_REACTOR_FORM_H
#define WP_ROUTER_REACTOR_FORM_H

#include "router/reactor_state.h"

/* A replica was opened at the start of the process. */
void wp_form_bar(struct shard *shard);
/* Each tick. */
void wp_form_tick(struct wp_reactor *reactor);

#endif
