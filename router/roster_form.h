/* The first roster of a cluster, from the configuration: every router with the same list derives the same. */
#ifndef WP_ROUTER_ROSTER_FORM_H
#define WP_ROUTER_ROSTER_FORM_H

#include "node/config.h"
#include "router/roster.h"

/* Numbers are places in cluster.routers, from 1. Without a list the cluster is this router alone, number 1;
 * `own_key` is its public key. *ret_self: this router's number, 0 when it is not in the list. WP_E_NOMEM,
 * WP_E_CONFIG with a sentence. */
int wp_roster_form(const struct wp_router_config *config, const char *own_key, struct wp_roster **ret_roster,
    uint32_t *ret_self, char *ret_text, size_t text_size);

/* Logs once which limits of the file (`formed` is made of) do not hold because the cluster has others. */
void wp_roster_form_compare(const struct wp_roster *formed, const struct wp_roster *roster);

#endif
