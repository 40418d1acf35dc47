/* The list and the links.
 *
 *   1. A number is of one link from connect to disconnect; the fabric's link points back to it.
 *   2. No two links lead to the same endpoint. */
#include "gateway/routers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "proto/address.h"

struct wp_routers {
    struct wp_routers_config config;
    uint64_t version; /* of the list taken last */
    struct wp_router_link links[WP_ROUTER_LINKS_MAX];
};

static uint32_t number_find(const struct wp_routers *routers, const char *endpoint)
{
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        if (routers->links[i].link && strcmp(routers->links[i].endpoint, endpoint) == 0) {
            return i;
        }
    }
    return WP_ROUTER_NONE;
}

static int link_open(
    struct wp_routers *routers, const char *endpoint, const char *node, const char *key, uint32_t *ret_number)
{
    uint32_t number = 0;
    while (number < WP_ROUTER_LINKS_MAX && routers->links[number].link) {
        number++;
    }
    if (number == WP_ROUTER_LINKS_MAX) {
        return WP_E_FULL;
    }
    struct wp_router_link *row = &routers->links[number];
    if (strlen(endpoint) >= sizeof row->endpoint || strlen(node) >= sizeof row->node ||
        strlen(key) >= sizeof row->key) {
        return WP_E_MALFORMED;
    }
    int error = wp_fabric_connect(routers->config.fabric, endpoint, key, &row->link);
    if (error) {
        row->link = NULL;
        return error;
    }
    memcpy(row->endpoint, endpoint, strlen(endpoint) + 1);
    memcpy(row->node, node, strlen(node) + 1);
    memcpy(row->key, key, strlen(key) + 1);
    row->up = false;
    wp_link_set_user(row->link, row);
    *ret_number = number;
    return WP_OK;
}

static void link_close(struct wp_routers *routers, uint32_t number)
{
    struct wp_router_link *row = &routers->links[number];
    routers->config.gone(routers->config.context, number);
    wp_link_set_user(row->link, NULL);
    wp_fabric_disconnect(routers->config.fabric, &row->link);
    memset(row, 0, sizeof *row);
}

static int configured_open(struct wp_routers *routers)
{
    int error = WP_OK;
    for (uint32_t i = 0; !error && i < routers->config.router_count; i++) {
        const struct wp_config_peer *peer = &routers->config.routers[i];
        uint32_t number;
        if (number_find(routers, peer->endpoint) == WP_ROUTER_NONE) {
            error = link_open(routers, peer->endpoint, peer->node, peer->key, &number);
        }
    }
    return error;
}

int wp_routers_create(const struct wp_routers_config *config, struct wp_routers **ret_routers)
{
    struct wp_routers *routers = calloc(1, sizeof *routers);
    if (!routers) {
        return WP_E_NOMEM;
    }
    routers->config = *config;
    int error = configured_open(routers);
    if (error) {
        free(routers);
        return error;
    }
    *ret_routers = routers;
    return WP_OK;
}

void wp_routers_destroy(struct wp_routers **routers)
{
    free(*routers);
    *routers = NULL;
}

/* Endpoint of reactor `index`: the port of the first one + index. WP_E_MALFORMED. */
static int endpoint_of(const char *first, uint32_t index, char ret_endpoint[WP_ROUTER_ENDPOINT_SIZE_MAX])
{
    const char *colon = strrchr(first, ':');
    if (!colon || strncmp(first, "tcp://", 6) != 0 || colon - first < 7) {
        return WP_E_MALFORMED;
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port < 1 || port + index > 65535) {
        return WP_E_MALFORMED;
    }
    int size = snprintf(
        ret_endpoint, WP_ROUTER_ENDPOINT_SIZE_MAX, "%.*s:%lu", (int)(colon - first), first, port + index);
    return size > 0 && size < (int)WP_ROUTER_ENDPOINT_SIZE_MAX ? WP_OK : WP_E_MALFORMED;
}

static int place_check(const Wp__RouterPlace *place)
{
    char endpoint[WP_ROUTER_ENDPOINT_SIZE_MAX];
    if (!wp_address_valid(place->node) || strlen(place->key) != WP_KEY_TEXT_SIZE - 1 || place->reactors < 1 ||
        place->reactors > WP_ROUTER_REACTORS_MAX) {
        return WP_E_MALFORMED;
    }
    return endpoint_of(place->endpoint, place->reactors - 1, endpoint);
}

/* Marks the links that stay and closes the others. */
static void links_sort_out(struct wp_routers *routers, Wp__RouterPlace *const *places, size_t count)
{
    char endpoint[WP_ROUTER_ENDPOINT_SIZE_MAX];
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        routers->links[i].wanted = false;
    }
    for (size_t i = 0; i < count; i++) {
        for (uint32_t reactor = 0; reactor < places[i]->reactors; reactor++) {
            (void)endpoint_of(places[i]->endpoint, reactor, endpoint); /* checked before */
            uint32_t number = number_find(routers, endpoint);
            if (number != WP_ROUTER_NONE) {
                routers->links[number].wanted = strcmp(routers->links[number].key, places[i]->key) == 0;
            }
        }
    }
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        struct wp_router_link *row = &routers->links[i];
        if (row->link && !row->wanted) {
            wp_log(WP_LOG_INFO, "router_left", "peer=%s endpoint=%s", row->node, row->endpoint);
            link_close(routers, i);
        }
    }
}

int wp_routers_take(
    struct wp_routers *routers, uint64_t version, Wp__RouterPlace *const *places, size_t count)
{
    char endpoint[WP_ROUTER_ENDPOINT_SIZE_MAX];
    if (version < routers->version) {
        return WP_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (place_check(places[i])) {
            return WP_E_MALFORMED;
        }
    }
    routers->version = version;
    links_sort_out(routers, places, count);
    int error = WP_OK;
    for (size_t i = 0; !error && i < count; i++) {
        for (uint32_t reactor = 0; !error && reactor < places[i]->reactors; reactor++) {
            uint32_t number;
            (void)endpoint_of(places[i]->endpoint, reactor, endpoint);
            if (number_find(routers, endpoint) == WP_ROUTER_NONE) {
                error = link_open(routers, endpoint, places[i]->node, places[i]->key, &number);
            }
        }
    }
    return error;
}

void wp_routers_lost(struct wp_routers *routers)
{
    routers->version = 0;
    int error = configured_open(routers);
    if (error) {
        wp_log(WP_LOG_ERROR, "router_unreachable", "reason=%s", wp_error_slug(error));
    }
}

static const char *key_of(const struct wp_routers *routers, const char *node)
{
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        if (routers->links[i].link && strcmp(routers->links[i].node, node) == 0) {
            return routers->links[i].key;
        }
    }
    return NULL;
}

uint32_t wp_routers_reach(struct wp_routers *routers, const char *node, const char *endpoint)
{
    uint32_t number = number_find(routers, endpoint);
    if (number != WP_ROUTER_NONE) {
        return number;
    }
    const char *key = key_of(routers, node);
    int error = key ? link_open(routers, endpoint, node, key, &number) : WP_E_NOT_FOUND;
    if (error) {
        char quoted[160];
        wp_log(WP_LOG_ERROR, "router_unreachable", "node=%s reason=%s",
            wp_log_quote(node, quoted, sizeof quoted),
            error == WP_E_NOT_FOUND ? "no-key-known" : wp_error_slug(error));
        return WP_ROUTER_NONE;
    }
    return number;
}

struct wp_router_link *wp_routers_at(struct wp_routers *routers, uint32_t number)
{
    return &routers->links[number];
}

uint32_t wp_routers_number(struct wp_routers *routers, struct wp_link *link)
{
    struct wp_router_link *row = wp_link_user(link);
    return row ? (uint32_t)(row - routers->links) : WP_ROUTER_NONE;
}

uint32_t wp_routers_up_count(const struct wp_routers *routers)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        count += routers->links[i].link && routers->links[i].up;
    }
    return count;
}
