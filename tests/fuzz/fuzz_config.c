/* Any bytes as a configuration file: never a crash, a leak or a value outside its range; and what the guard
 * lets pass, libcyaml loads. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "node/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void refusal_check(int error, const char *text)
{
    WP_ASSERT(error == WP_E_CONFIG || error == WP_E_NOMEM);
    WP_ASSERT(error == WP_E_NOMEM || strncmp(text, "fuzz:", 5) == 0);
    WP_ASSERT(strncmp(text, "fuzz:1: cannot be loaded", 24) != 0);
}

static void router_check(const struct wp_router_config *config)
{
    WP_ASSERT(
        config->node && config->log_level && config->data && config->cluster.id && config->cluster.key_file);
    WP_ASSERT(config->fabric.host && config->fabric.key_file && config->management.address &&
              config->management.socket);
    WP_ASSERT(config->cluster.shards >= 1 && config->cluster.shards <= 4096);
    WP_ASSERT(config->reactors >= 1 && config->reactors <= 64 && config->fabric.port <= 65535);
    WP_ASSERT(config->limits.ttl_default_s <= config->limits.ttl_max_s);
    for (uint32_t i = 0; i < config->fabric.allow_count; i++) {
        const struct wp_config_peer *peer = &config->fabric.allow[i];
        WP_ASSERT(peer->node && peer->role && peer->key && strlen(peer->key) == 40);
    }
}

static void gateway_check(const struct wp_gateway_config *config)
{
    WP_ASSERT(config->node && config->log_level && config->cluster_id && config->fabric_key_file);
    WP_ASSERT(config->listen.mqtt && config->listen.mqtts && config->listen.ws && config->listen.wss);
    WP_ASSERT(config->tls.certificate && config->tls.key && config->router_count >= 1);
    WP_ASSERT(config->limits.window >= 1 && config->limits.window <= 1024);
    for (uint32_t i = 0; i < config->router_count; i++) {
        const struct wp_config_peer *peer = &config->routers[i];
        WP_ASSERT(peer->node && peer->endpoint && peer->key && strlen(peer->key) == 40);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wp_router_config *router = NULL;
    struct wp_gateway_config *gateway = NULL;
    char text[256] = "";
    int error = wp_router_config_parse((const char *)data, size, "fuzz", &router, text, sizeof text);
    if (error) {
        refusal_check(error, text);
    } else {
        router_check(router);
        wp_router_config_free(&router);
    }
    error = wp_gateway_config_parse((const char *)data, size, "fuzz", &gateway, text, sizeof text);
    if (error) {
        refusal_check(error, text);
    } else {
        gateway_check(gateway);
        wp_gateway_config_free(&gateway);
    }
    return 0;
}
