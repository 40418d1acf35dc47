/* The operator's requests: /v1/... on the management socket, JSON in and out.
 *
 * A request runs on a thread of the HTTP server, is handed to the reactors that own what it is about and
 * waits for them at most 5 s (then 503; it may still take effect). Nothing here touches a shard from another
 * thread. */
#ifndef WP_ROUTER_ADMIN_H
#define WP_ROUTER_ADMIN_H

#include "base/buffer.h"
#include "node/management.h"
#include "router/reactor.h"

struct wp_admin;

struct wp_admin_config {
    const char *node;
    const char *cluster_id;
    struct wp_store *store;
    uint8_t hash_key[16];
    uint8_t secret_key[32];
    uint32_t shard_count;
    struct wp_reactor *const *reactors; /* by index; running */
    uint32_t reactor_count;
    const char *const *gateways; /* names on the allow-list */
    uint32_t gateway_count;
};

/* `config` and what it points to stay with the caller and must outlive the admin. WP_E_NOMEM. */
int wp_admin_create(const struct wp_admin_config *config, struct wp_admin **ret_admin);
/* After the management server and the reactors ended. */
void wp_admin_destroy(struct wp_admin **admin);

/* For wp_management_config.handle; `context` is the admin. Answers an HTTP status, appends a JSON object. */
int wp_admin_handle(void *context, const struct wp_management_request *request, struct wp_buffer *out);

#endif
