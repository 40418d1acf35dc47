/* Why a file of its own: the list is one for all reactors of the process, and a key that left the roster must
 * leave it in the moment in which the roster is taken over. */
#include "router/allow.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"

static bool node_allowed(const struct wp_roster_node *node, uint32_t self)
{
    return node->state != WP_NODE_REMOVED && node->number != self;
}

/* Whether the roster lets `key` in as `name`. */
static bool allowed(const struct wp_roster *roster, uint32_t self, const char *key, const char *name)
{
    for (uint32_t i = 0; i < roster->node_count; i++) {
        const struct wp_roster_node *node = &roster->nodes[i];
        if (node_allowed(node, self) && !strcmp(node->key, key) && !strcmp(node->name, name)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < roster->gateway_count; i++) {
        const struct wp_roster_gateway *gateway = &roster->gateways[i];
        if (!gateway->revoked && !strcmp(gateway->key, key) && !strcmp(gateway->name, name)) {
            return true;
        }
    }
    return false;
}

static void let_in(struct wp_zap *zap, const char *key, const char *name, Wp__Role role)
{
    int error = wp_zap_allow(zap, key, name, role);
    if (error) {
        wp_log(WP_LOG_ERROR, "key_not_allowed", "peer=%s reason=%s", name, wp_error_slug(error));
    }
}

static void gone_revoke(
    struct wp_zap *zap, const struct wp_roster *before, const struct wp_roster *after, uint32_t self)
{
    for (uint32_t i = 0; i < before->node_count; i++) {
        const struct wp_roster_node *node = &before->nodes[i];
        if (node_allowed(node, self) && !allowed(after, self, node->key, node->name)) {
            wp_zap_revoke(zap, node->key);
        }
    }
    for (uint32_t i = 0; i < before->gateway_count; i++) {
        const struct wp_roster_gateway *gateway = &before->gateways[i];
        if (!gateway->revoked && !allowed(after, self, gateway->key, gateway->name)) {
            wp_zap_revoke(zap, gateway->key);
        }
    }
}

void wp_allow_roster(
    struct wp_zap *zap, const struct wp_roster *before, const struct wp_roster *after, uint32_t self)
{
    if (before) {
        gone_revoke(zap, before, after, self);
    }
    for (uint32_t i = 0; i < after->gateway_count; i++) {
        if (after->gateways[i].revoked) {
            wp_zap_revoke(zap, after->gateways[i].key);
        }
    }
    for (uint32_t i = 0; i < after->node_count; i++) {
        const struct wp_roster_node *node = &after->nodes[i];
        if (node_allowed(node, self)) {
            let_in(zap, node->key, node->name, WP__ROLE__ROLE_ROUTER);
        } else if (node->number != self) {
            wp_zap_revoke(zap, node->key);
        }
    }
    for (uint32_t i = 0; i < after->gateway_count; i++) {
        const struct wp_roster_gateway *gateway = &after->gateways[i];
        if (!gateway->revoked) {
            let_in(zap, gateway->key, gateway->name, WP__ROLE__ROLE_GATEWAY);
        }
    }
}
