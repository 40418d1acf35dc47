/* What the verbs about the cluster as a whole share: its view and the words for it. Single-threaded. */
#ifndef WP_CTL_CLUSTER_H
#define WP_CTL_CLUSTER_H

#include "ctl/access.h"

/* Of the answers of several routers the one that knows the newest roster, and of those the one that reaches
 * most of the others: a router that is cut off sees the rest as down. Borrowed; NULL without any. */
const json_t *ctl_view_best(const json_t *answers);
/* GET /v1/cluster, the best view; printed when there is none. New reference. */
int ctl_view_get(struct ctl_access *access, json_t **ret_view);
/* The summary as the first lines of what a verb prints: each alarm in a line of its own. */
void ctl_summary_print(const char *summary, const json_t *alarms);

/* Shards of a view as a table; with `shorten` only those that are not well, when there are many. */
void ctl_shards_print(const json_t *shards, bool shorten);
/* One line on a terminal's stderr that the next one writes over; "" clears it. Nothing elsewhere. */
void ctl_progress(const char *text);

#endif
