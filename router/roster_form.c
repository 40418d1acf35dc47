/* Why a file of its own: the roster is pure, this reads the configuration. */
#include "router/roster_form.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/policy.h"

/* Three copies where there are three routers; an even number of routers gains nothing by an even one. */
static uint32_t replication_default(uint32_t routers)
{
    return routers >= 3 ? 3 : 1;
}

static void node_alone(const struct wp_router_config *config, const char *key, struct wp_roster_node *node)
{
    node->number = 1;
    snprintf(node->name, sizeof(node->name), "%s", config->node);
    snprintf(node->endpoint, sizeof(node->endpoint), "tcp://%s:%u", config->fabric.host, config->fabric.port);
    snprintf(node->key, sizeof(node->key), "%s", key);
    node->reactors = config->reactors;
}

static int nodes_fill(
    const struct wp_router_config *config, struct wp_roster *roster, char *ret_text, size_t text_size)
{
    for (uint32_t i = 0; i < config->cluster.router_count; i++) {
        const struct wp_config_peer *row = &config->cluster.routers[i];
        struct wp_roster_node *node = &roster->nodes[i];
        char endpoint[WP_ENDPOINT_SIZE_MAX];
        node->number = i + 1;
        snprintf(node->name, sizeof(node->name), "%s", row->node);
        snprintf(node->endpoint, sizeof(node->endpoint), "%s", row->endpoint);
        snprintf(node->key, sizeof(node->key), "%s", row->key);
        node->reactors = row->reactors ? row->reactors : config->reactors;
        if (wp_roster_endpoint(node, WP_META_GROUP, endpoint)) {
            snprintf(ret_text, text_size,
                "cluster.routers: \"%s\" of \"%s\" is no endpoint: use tcp://ADDRESS:PORT", row->endpoint,
                row->node);
            return WP_E_CONFIG;
        }
    }
    roster->node_count = config->cluster.router_count;
    return WP_OK;
}

/* Gateways of the first allow-list are known to the roster, so that they can be listed and revoked. */
static void gateways_fill(const struct wp_router_config *config, struct wp_roster *roster)
{
    for (uint32_t i = 0; i < config->fabric.allow_count && roster->gateway_count < WP_ROSTER_GATEWAYS_MAX;
         i++) {
        const struct wp_config_peer *row = &config->fabric.allow[i];
        struct wp_roster_gateway *gateway = &roster->gateways[roster->gateway_count];
        if (!row->role || strcmp(row->role, "gateway") != 0) {
            continue;
        }
        snprintf(gateway->name, sizeof(gateway->name), "%s", row->node);
        snprintf(gateway->key, sizeof(gateway->key), "%s", row->key);
        roster->gateway_count++;
    }
}

/* The limits of the file are those of a new cluster. */
static void limits_fill(const struct wp_router_config *config, struct wp_roster *roster)
{
    char value[WP_POLICY_VALUE_SIZE];
#define X(T, type, name, default_text, min, max, help)                                                       \
    snprintf(value, sizeof(value), "%llu", (unsigned long long)config->limits.name);                         \
    wp_policy_put(roster, WP_POLICY_##name, value);
    WP_CONFIG_CLUSTER_LIMITS(X, )
#undef X
}

static int self_check(const struct wp_router_config *config, const char *own_key,
    const struct wp_roster_node *self, char *ret_text, size_t text_size)
{
    if (strcmp(self->key, own_key) != 0) {
        snprintf(ret_text, text_size,
            "cluster.routers: the key of \"%s\" is not the public key in fabric.key_file (%s)", self->name,
            own_key);
        return WP_E_CONFIG;
    }
    if (self->reactors != config->reactors) {
        snprintf(ret_text, text_size,
            "cluster.routers: \"%s\" has %u reactors there and %u in \"reactors\"; make them the same",
            self->name, self->reactors, config->reactors);
        return WP_E_CONFIG;
    }
    return WP_OK;
}

int wp_roster_form(const struct wp_router_config *config, const char *own_key, struct wp_roster **ret_roster,
    uint32_t *ret_self, char *ret_text, size_t text_size)
{
    struct wp_roster *roster = wp_roster_create(config->cluster.shards);
    if (!roster) {
        snprintf(ret_text, text_size, "out of memory");
        return WP_E_NOMEM;
    }
    int error = WP_OK;
    if (config->cluster.router_count == 0) {
        node_alone(config, own_key, &roster->nodes[0]);
        roster->node_count = 1;
    } else {
        error = nodes_fill(config, roster, ret_text, text_size);
    }
    const struct wp_roster_node *self = error ? NULL : wp_roster_node_named(roster, config->node);
    error = self ? self_check(config, own_key, self, ret_text, text_size) : error;
    if (error) {
        wp_roster_release(&roster);
        return error;
    }
    roster->replication =
        config->cluster.replication ? config->cluster.replication : replication_default(roster->node_count);
    gateways_fill(config, roster);
    limits_fill(config, roster);
    roster->feature_level = WP_FEATURE_LEVEL_MIN;
    roster->last_node = roster->node_count;
    wp_roster_place_first(roster);
    *ret_self = self ? self->number : 0;
    *ret_roster = roster;
    return WP_OK;
}

void wp_roster_form_compare(const struct wp_roster *formed, const struct wp_roster *roster)
{
    char list[512] = "";
    size_t size = 0;
    for (int i = 0; i < WP_POLICY_COUNT; i++) {
        enum wp_policy policy = (enum wp_policy)i;
        char here[WP_POLICY_VALUE_SIZE], there[WP_POLICY_VALUE_SIZE];
        wp_policy_text(formed, policy, here);
        wp_policy_text(roster, policy, there);
        bool told = wp_roster_policy(formed, wp_policy_name(policy)) != NULL; /* the file has it */
        if (told && strcmp(here, there) != 0 && size < sizeof(list)) {
            size += (size_t)snprintf(list + size, sizeof(list) - size, "%s%s=%s,cluster=%s", size ? ";" : "",
                wp_policy_name(policy), here, there);
        }
    }
    if (list[0]) {
        wp_log(WP_LOG_WARN, "limits_ignored", "file=%s hint=\"wardpostctl policy set\"", list);
    }
}
