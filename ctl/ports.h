/* Which ports on 127.0.0.1 a playground's processes listen on. They are chosen once and kept: a process comes
 * back where its clients look for it. */
#ifndef WP_CTL_PORTS_H
#define WP_CTL_PORTS_H

#include <stddef.h>

#include "client/playground.h"

#define CTL_PORT_BASE_MIN 1024u
#define CTL_PORT_BASE_MAX 65000u
#define CTL_REACTORS_MAX 16u
#define CTL_REACTORS_DEFAULT 2u /* when there are cores for them */

/* Fixed layout from `base`: router i at base + 20 (i - 1): fabric, one port per reactor, and management at +
 * 19; gateway j at base + 200 + 10 (j - 1): mqtt, mqtts, ws, wss, management. Whether they are free shows at
 * the start. */
void ctl_ports_fix(struct wp_playground *playground, unsigned base);

/* Picks ports that are free now, below the range from which the kernel takes ports of outgoing connections
 * (such a one could take a port while its process is down). WP_E_UNAVAILABLE with a sentence when there are
 * none. */
int ctl_ports_pick(struct wp_playground *playground, char *ret_text, size_t text_size);
/* The same for one more router. */
int ctl_ports_pick_router(
    struct wp_playground_node *node, unsigned reactors, char *ret_text, size_t text_size);

#endif
