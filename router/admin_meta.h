/* Changes of the cluster's roster, for router/admin*.c only. */
#ifndef WP_ROUTER_ADMIN_META_H
#define WP_ROUTER_ADMIN_META_H

#include "router/admin_state.h"
#include "router/meta.h"

/* What is asked for; each command uses some of it. Names are those of nodes or gateways. */
struct admin_change {
    char name[WP_NAME_SIZE_MAX + 1]; /* WANTED_SET: where the replica is */
    char to[WP_NAME_SIZE_MAX + 1];   /* WANTED_SET: where it goes; NODE_REPLACE: by whom, "" = anybody */
    char endpoint[WP_ENDPOINT_SIZE_MAX];
    char key[WP_KEY_TEXT_SIZE];
    uint32_t reactors;
    enum wp_node_state state; /* NODE_STATE */
    char value[WP_POLICY_VALUE_SIZE]; /* POLICY */
    uint32_t shard;
    uint32_t level;
};

/* Proposes it and waits for the outcome. WP_OK: it holds. Else the refusal in ret_refusal. */
int admin_change_perform(struct wp_admin *admin, uint8_t command, const struct admin_change *asked,
    struct admin_answer *ret_refusal);

#endif
