#include "router/route.h"

#include <stdbool.h>

#define WAIT_MS 25u
#define WAIT_DOUBLINGS 2u

/* Longer with each refusal in a row. */
static uint32_t wait_ms(struct wp_route *route)
{
    uint32_t doublings = route->refusals < WAIT_DOUBLINGS ? route->refusals : WAIT_DOUBLINGS;
    route->refusals += route->refusals < UINT32_MAX;
    return WAIT_MS << doublings;
}

uint32_t wp_route_node(const struct wp_route *route, uint32_t guess)
{
    return route->node ? route->node : guess;
}

void wp_route_taken(struct wp_route *route)
{
    route->refusals = 0;
}

uint32_t wp_route_refused(struct wp_route *route, uint32_t leader)
{
    bool at_once = leader && route->refusals == 0;
    uint32_t ms = wait_ms(route);
    route->node = leader;
    return at_once ? 0 : ms;
}

uint32_t wp_route_lost(struct wp_route *route, uint32_t self)
{
    route->node = route->node == self ? 0 : self;
    return wait_ms(route);
}
