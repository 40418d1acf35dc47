/* The cached map and the links behind it.
 *
 *   1. A shard's `up` is told to the owner exactly when its link is up and the map names it; every up is
 * followed by a down before the next up.
 *   2. A map replaces the cached one if it is not older, or if nothing of the cached one is reachable (a
 * cluster that was set up anew starts counting anew).
 *   3. Shard count and hash key never change once known: another cluster is not followed. */
#include "gateway/routing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/address.h"

#define LINKS_MAX 64u
#define ENDPOINT_SIZE_MAX 128u
#define SHARDS_MAX 4096u

struct router_link {
    struct wp_link *link;
    char endpoint[ENDPOINT_SIZE_MAX];
    char node[WP_NAME_SIZE_MAX + 1];
    bool up;
};

struct shard_place {
    struct router_link *at; /* NULL: the map names nobody */
    bool told_up;
};

struct wp_routing {
    struct wp_fabric *fabric;
    struct wp_routing_callbacks callbacks;
    const struct wp_config_peer *routers;
    uint32_t router_count;
    struct router_link links[LINKS_MAX];
    uint32_t link_count;
    struct shard_place *places; /* [shard - 1] */
    uint32_t shard_count;
    uint64_t map_version;
    uint8_t hash_key[16];
    struct wp_arena arena;
};

static struct router_link *link_find(struct wp_routing *routing, const char *endpoint)
{
    for (uint32_t i = 0; i < routing->link_count; i++) {
        if (strcmp(routing->links[i].endpoint, endpoint) == 0) {
            return &routing->links[i];
        }
    }
    return NULL;
}

static const char *key_find(const struct wp_routing *routing, const char *node)
{
    for (uint32_t i = 0; i < routing->router_count; i++) {
        if (strcmp(routing->routers[i].node, node) == 0) {
            return routing->routers[i].key;
        }
    }
    return NULL;
}

static int link_open(struct wp_routing *routing, const char *endpoint, const char *node, const char *key,
    struct router_link **ret_link)
{
    if (routing->link_count == LINKS_MAX || strlen(endpoint) >= ENDPOINT_SIZE_MAX ||
        strlen(node) > WP_NAME_SIZE_MAX) {
        return WP_E_FULL;
    }
    struct router_link *link = &routing->links[routing->link_count];
    int error = wp_fabric_connect(routing->fabric, endpoint, key, &link->link);
    if (error) {
        return error;
    }
    memcpy(link->endpoint, endpoint, strlen(endpoint) + 1);
    memcpy(link->node, node, strlen(node) + 1);
    link->up = false;
    wp_link_set_user(link->link, link);
    routing->link_count++;
    *ret_link = link;
    return WP_OK;
}

/* Brings what the owner knows of each shard in line with the links. */
static void places_tell(struct wp_routing *routing)
{
    for (uint32_t i = 0; i < routing->shard_count; i++) {
        struct shard_place *place = &routing->places[i];
        bool up = place->at && place->at->up;
        if (up == place->told_up) {
            continue;
        }
        place->told_up = up;
        (up ? routing->callbacks.shard_up : routing->callbacks.shard_down)(routing->callbacks.context, i + 1);
    }
}

static void place_set(struct wp_routing *routing, uint32_t shard, struct router_link *at)
{
    struct shard_place *place = &routing->places[shard - 1];
    if (place->at == at) {
        return;
    }
    if (place->told_up) {
        place->told_up = false;
        routing->callbacks.shard_down(routing->callbacks.context, shard);
    }
    place->at = at;
}

static bool any_up(const struct wp_routing *routing)
{
    for (uint32_t i = 0; i < routing->shard_count; i++) {
        if (routing->places[i].told_up) {
            return true;
        }
    }
    return false;
}

/* Takes the numbers that are fixed for the life of a cluster. WP_OK or the reason not to follow this map. */
static int map_adopt(struct wp_routing *routing, const Wp__ShardMap *map)
{
    if (map->hash_key.len != sizeof routing->hash_key || map->shard_count == 0 ||
        map->shard_count > SHARDS_MAX || (map->shard_count & (map->shard_count - 1)) != 0) {
        return WP_E_MALFORMED;
    }
    if (routing->shard_count > 0) {
        bool same = routing->shard_count == map->shard_count &&
                    memcmp(routing->hash_key, map->hash_key.data, sizeof routing->hash_key) == 0;
        return same ? WP_OK : WP_E_INVALID;
    }
    struct shard_place *places = calloc(map->shard_count, sizeof *places);
    if (!places) {
        return WP_E_NOMEM;
    }
    int error = routing->callbacks.sharded(routing->callbacks.context, map->shard_count);
    if (error) {
        free(places);
        return error;
    }
    routing->places = places;
    routing->shard_count = map->shard_count;
    memcpy(routing->hash_key, map->hash_key.data, sizeof routing->hash_key);
    return WP_OK;
}

static void map_place(struct wp_routing *routing, const Wp__ShardPlace *place)
{
    if (place->shard < 1 || place->shard > routing->shard_count) {
        return;
    }
    struct router_link *link = link_find(routing, place->endpoint);
    if (!link) {
        const char *key = key_find(routing, place->node);
        int error = key ? link_open(routing, place->endpoint, place->node, key, &link) : WP_E_NOT_FOUND;
        if (error) {
            char quoted[160];
            wp_log(WP_LOG_ERROR, "router_unreachable", "node=%s reason=%s",
                wp_log_quote(place->node, quoted, sizeof quoted),
                error == WP_E_NOT_FOUND ? "no-key-in-configuration" : wp_error_slug(error));
            return;
        }
    }
    place_set(routing, place->shard, link);
}

/* Connects every reactor of a router that the map names. */
static void map_router(struct wp_routing *routing, const Wp__RouterPlace *router)
{
    const char *colon = strrchr(router->endpoint, ':');
    unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;
    for (uint32_t i = 0; i < router->reactors && i < LINKS_MAX && port > 0; i++) {
        char endpoint[ENDPOINT_SIZE_MAX];
        struct router_link *link;
        snprintf(endpoint, sizeof endpoint, "%.*s:%lu", (int)(colon - router->endpoint), router->endpoint,
            port + i);
        if (link_find(routing, endpoint)) {
            continue;
        }
        int error = link_open(routing, endpoint, router->node, router->key, &link);
        if (error) {
            wp_log(WP_LOG_ERROR, "router_unreachable", "endpoint=%s reason=%s", endpoint,
                wp_error_slug(error));
        }
    }
}

static void map_take(struct wp_routing *routing, struct wp_slice payload)
{
    Wp__ShardMap *map;
    wp_arena_reset(&routing->arena);
    int error =
        wp_schema_decode(&wp__shard_map__descriptor, payload, &routing->arena, (ProtobufCMessage **)&map);
    error = error ? error : map_adopt(routing, map);
    if (error) {
        wp_log(WP_LOG_ERROR, "shard_map_refused", "reason=%s", wp_error_slug(error));
        return;
    }
    if (map->version < routing->map_version && any_up(routing)) {
        return;
    }
    routing->map_version = map->version;
    for (size_t i = 0; i < map->n_routers; i++) {
        map_router(routing, map->routers[i]);
    }
    for (size_t i = 0; i < map->n_places; i++) {
        map_place(routing, map->places[i]);
    }
    places_tell(routing);
}

static void on_up(void *context, struct wp_link *link)
{
    struct wp_routing *routing = context;
    struct router_link *router = wp_link_user(link);
    if (!router) {
        return; /* before link_open returned: a link is never up at once */
    }
    router->up = true;
    snprintf(router->node, sizeof router->node, "%s", wp_link_node(link));
    wp_log(WP_LOG_INFO, "router_up", "peer=%s endpoint=%s", router->node, router->endpoint);
    places_tell(routing);
}

static void on_down(void *context, struct wp_link *link, int error)
{
    struct wp_routing *routing = context;
    struct router_link *router = wp_link_user(link);
    if (!router || !router->up) {
        return;
    }
    router->up = false;
    wp_log(WP_LOG_WARN, "router_down", "peer=%s endpoint=%s reason=%s", router->node, router->endpoint,
        wp_error_slug(error));
    places_tell(routing);
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    struct wp_routing *routing = context;
    if (type == WP_FRAME_SHARD_MAP) {
        map_take(routing, payload);
        return;
    }
    routing->callbacks.frame(routing->callbacks.context, link, type, payload);
}

static void on_turn(void *context)
{
    struct wp_routing *routing = context;
    routing->callbacks.turn(routing->callbacks.context);
}

static void on_writable(void *context, struct wp_link *link)
{
    struct wp_routing *routing = context;
    (void)link;
    routing->callbacks.writable(routing->callbacks.context);
}

int wp_routing_create(const struct wp_routing_config *config, const struct wp_routing_callbacks *callbacks,
    struct wp_routing **ret_routing)
{
    struct wp_routing *routing = calloc(1, sizeof *routing);
    if (!routing) {
        return WP_E_NOMEM;
    }
    routing->callbacks = *callbacks;
    routing->routers = config->routers;
    routing->router_count = config->router_count;
    wp_arena_init(&routing->arena, (size_t)4 * WP_FRAME_SIZE_MAX);
    const struct wp_fabric_callbacks fabric = {.context = routing,
        .up = on_up,
        .down = on_down,
        .frame = on_frame,
        .turn = on_turn,
        .writable = on_writable};
    int error = wp_fabric_create(&config->fabric, &fabric, &routing->fabric);
    for (uint32_t i = 0; !error && i < config->router_count; i++) {
        struct router_link *link;
        error = link_open(
            routing, config->routers[i].endpoint, config->routers[i].node, config->routers[i].key, &link);
    }
    if (error) {
        wp_routing_destroy(&routing);
        return error;
    }
    *ret_routing = routing;
    return WP_OK;
}

void wp_routing_destroy(struct wp_routing **routing)
{
    if (!*routing) {
        return;
    }
    if ((*routing)->fabric) {
        wp_fabric_destroy(&(*routing)->fabric);
    }
    wp_arena_fini(&(*routing)->arena);
    free((*routing)->places);
    free(*routing);
    *routing = NULL;
}

uint32_t wp_routing_shard_of(const struct wp_routing *routing, const char *user)
{
    return routing->shard_count ? wp_shard_of(routing->hash_key, routing->shard_count, user) : 0;
}

uint32_t wp_routing_shard_count(const struct wp_routing *routing)
{
    return routing->shard_count;
}

bool wp_routing_shard_up(const struct wp_routing *routing, uint32_t shard)
{
    return shard >= 1 && shard <= routing->shard_count && routing->places[shard - 1].told_up;
}

int wp_routing_send(struct wp_routing *routing, uint32_t shard, enum wp_link_lane lane,
    enum wp_frame_type type, const ProtobufCMessage *message)
{
    if (!wp_routing_shard_up(routing, shard)) {
        return WP_E_CLOSED;
    }
    return wp_link_send(routing->places[shard - 1].at->link, lane, type, message);
}

bool wp_routing_ready(const struct wp_routing *routing, char *ret_why, size_t why_size)
{
    if (routing->shard_count == 0) {
        snprintf(ret_why, why_size, "no router has sent a shard map yet");
        return false;
    }
    for (uint32_t i = 0; i < routing->shard_count; i++) {
        if (!routing->places[i].told_up) {
            const struct router_link *at = routing->places[i].at;
            snprintf(ret_why, why_size, "no link to the leader of shard %u (%s)", i + 1,
                at ? at->endpoint : "unknown");
            return false;
        }
    }
    return true;
}

void wp_routing_links_each(const struct wp_routing *routing,
    void (*each)(void *context, const char *node, const char *endpoint, bool up), void *context)
{
    for (uint32_t i = 0; i < routing->link_count; i++) {
        const struct router_link *link = &routing->links[i];
        each(context, link->node, link->endpoint, link->up);
    }
}

void wp_routing_flush(struct wp_routing *routing)
{
    wp_fabric_flush(routing->fabric);
}
