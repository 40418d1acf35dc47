/* Users, teams and their devices: they come and go, send, receive, crash between receiving and acknowledging.
 * Each device is the product's client connection (client/connection.h) on a simulated wire. */
#ifndef WP_SIM_PEOPLE_H
#define WP_SIM_PEOPLE_H

#include <stdbool.h>
#include <stdint.h>

/* Makes them known to the cluster, as an operator would; repeats what a router refuses for now. */
void sim_people_create(uint32_t users, uint32_t teams);
/* Everybody and every team is there, and each device has subscribed once. */
bool sim_people_ready(void);
/* Whether devices send, and go away on their own. */
void sim_people_active(bool active);
/* Nothing of what devices sent is unanswered. */
bool sim_people_quiet(void);
void sim_people_free(void);

#endif
