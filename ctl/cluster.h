/* What the verbs about the cluster as a whole share: its view and the words for it. Single-threaded. */
#ifndef WP_CTL_CLUSTER_H
#define WP_CTL_CLUSTER_H

#include "ctl/access.h"

/* Of the answers of several routers the one that reaches most of the others: a router that is cut off sees
 * the rest as down. Borrowed; NULL without any. */
const json_t *ctl_view_best(const json_t *answers, const char *alarms_key);
/* GET /v1/cluster, the best view; printed when there is none. New reference. */
int ctl_view_get(struct ctl_access *access, json_t **ret_view);
/* The summary as the first lines of what a verb prints: each alarm in a line of its own. */
void ctl_summary_print(const char *summary, const json_t *alarms);

#endif
