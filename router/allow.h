/* Who may connect, by the roster: routers that are not removed and gateways that are not revoked. What the
 * configuration allows beside them holds too, but for keys that the roster revoked. */
#ifndef WP_ROUTER_ALLOW_H
#define WP_ROUTER_ALLOW_H

#include "node/zap.h"
#include "router/roster.h"

/* Brings the allow-list from `before` (NULL: the configuration's only) to `after`. `self` is this node's
 * number. A key that cannot be let in is logged and left out. Any thread. */
void wp_allow_roster(
    struct wp_zap *zap, const struct wp_roster *before, const struct wp_roster *after, uint32_t self);

#endif
