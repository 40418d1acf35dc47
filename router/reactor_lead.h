/* Who should lead: hand-over before a planned stop or with a wrong clock, and an even spread of leaderships.
 * Shared by router/reactor*.c only; the reactor's thread. */
#ifndef WP_ROUTER_REACTOR_LEAD_H
#define WP_ROUTER_REACTOR_LEAD_H

#include "router/reactor_report.h"

/* Every tick. */
void wp_leads_tick(struct wp_reactor *reactor);
/* Whether nothing is led here that another node could lead: what a clean stop waits for. */
bool wp_leads_handed_over(struct wp_reactor *reactor);
/* The connection to `node` broke: elections of the shards that it led begin at once. */
void wp_leads_lost(struct wp_reactor *reactor, const struct router_link *router);

#endif
