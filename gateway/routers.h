/* The routers that are known and one fabric link to each of their reactors.
 *
 * At first those of the configuration, by their first reactor; then those that the cluster tells: added ones
 * are connected with the key told, removed ones disconnected, nothing is started again. When every link is
 * lost, those of the configuration are tried again beside the ones known last. One thread. */
#ifndef WP_GATEWAY_ROUTERS_H
#define WP_GATEWAY_ROUTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/leader_time.h"
#include "node/config.h"
#include "node/fabric.h"
#include "proto/address.h"

#define WP_ROUTER_LINKS_MAX 256u /* 9 routers of 16 reactors, and more while some are replaced */
#define WP_ROUTER_REACTORS_MAX 64u
#define WP_ROUTER_ENDPOINT_SIZE_MAX 128u
#define WP_ROUTER_NONE UINT32_MAX

struct wp_routers;

struct wp_router_link {
    struct wp_link *link; /* NULL: this number is free */
    char endpoint[WP_ROUTER_ENDPOINT_SIZE_MAX];
    char key[WP_KEY_TEXT_SIZE];
    char node[WP_NAME_SIZE_MAX + 1]; /* as told; as authenticated once it was up */
    bool up;
    bool wanted;                /* used while a list is compared */
    struct wp_leader_time time; /* of the reactor; outlives lost connections, since its clock does */
};

struct wp_routers_config {
    struct wp_fabric *fabric;             /* borrowed */
    const struct wp_config_peer *routers; /* borrowed */
    uint32_t router_count;
    void *context;
    /* The link of this number is about to be disconnected for good. */
    void (*gone)(void *context, uint32_t number);
};

/* Connects to the configured ones. WP_E_NOMEM, WP_E_FULL, errors of wp_fabric_connect. */
int wp_routers_create(const struct wp_routers_config *config, struct wp_routers **ret_routers);
/* Leaves the links to the fabric. */
void wp_routers_destroy(struct wp_routers **routers);

/* The list of the cluster as of roster `version`; an older one than the last is ignored. WP_OK, or
 * WP_E_MALFORMED: nothing was changed; WP_E_FULL, WP_E_NOMEM: some are not connected. */
int wp_routers_take(
    struct wp_routers *routers, uint64_t version, Wp__RouterPlace *const *places, size_t count);
/* No link is up: the configured ones are tried too, and any list is taken. */
void wp_routers_lost(struct wp_routers *routers);

/* Number of the link to `endpoint`, connected if need be when a key of `node` is known; WP_ROUTER_NONE. */
uint32_t wp_routers_reach(struct wp_routers *routers, const char *node, const char *endpoint);

/* Link of a number below WP_ROUTER_LINKS_MAX. */
struct wp_router_link *wp_routers_at(struct wp_routers *routers, uint32_t number);
/* Number of a link of the fabric; WP_ROUTER_NONE: not, or no more, one of ours. */
uint32_t wp_routers_number(struct wp_routers *routers, struct wp_link *link);
uint32_t wp_routers_up_count(const struct wp_routers *routers);

#endif
