/* Links, places, and telling the owner.
 *
 *   1. A shard's `up` is told exactly when its place has a link; every up is followed by a down before the
 * next up, also when only the term changes.
 *   2. Frames to a shard go where the owner was told that it is.
 *   3. Shard count and hash key never change once known: another cluster is not followed. */
#include "gateway/routing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "gateway/places.h"
#include "gateway/routers.h"
#include "proto/address.h"

#define SHARDS_MAX 4096u

struct wp_routing {
    struct wp_fabric *fabric;
    struct wp_routing_callbacks callbacks;
    struct wp_routers *routers;
    struct wp_places *places; /* NULL before the first map */
    struct wp_place *told;    /* [shard - 1]: what the owner knows */
    uint32_t shard_count;
    uint32_t up_count; /* shards told up */
    uint8_t hash_key[16];
    struct wp_arena arena;
};

static void shard_tell(struct wp_routing *routing, uint32_t shard, struct wp_place place)
{
    struct wp_place *told = &routing->told[shard - 1];
    bool same = told->link == place.link && (place.link == WP_PLACE_NONE || told->term == place.term);
    if (same) {
        return;
    }
    if (told->link != WP_PLACE_NONE) {
        told->link = WP_PLACE_NONE;
        routing->up_count--;
        routing->callbacks.shard_down(routing->callbacks.context, shard);
    }
    if (place.link != WP_PLACE_NONE) {
        *told = place;
        routing->up_count++;
        routing->callbacks.shard_up(routing->callbacks.context, shard);
    }
}

/* Brings what the owner knows of each shard in line. */
static void places_tell(struct wp_routing *routing)
{
    for (uint32_t shard = 1; shard <= routing->shard_count; shard++) {
        shard_tell(routing, shard, wp_places_get(routing->places, shard));
    }
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
    struct wp_place *told = calloc(map->shard_count, sizeof *told);
    struct wp_places *places = NULL;
    int error = told ? wp_places_create(map->shard_count, WP_ROUTER_LINKS_MAX, &places) : WP_E_NOMEM;
    error = error ? error : routing->callbacks.sharded(routing->callbacks.context, map->shard_count);
    if (error) {
        wp_places_destroy(&places);
        free(told);
        return error;
    }
    for (uint32_t i = 0; i < map->shard_count; i++) {
        told[i].link = WP_PLACE_NONE;
    }
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        if (wp_routers_at(routing->routers, i)->up) {
            wp_places_link_up(places, i);
        }
    }
    routing->told = told;
    routing->places = places;
    routing->shard_count = map->shard_count;
    memcpy(routing->hash_key, map->hash_key.data, sizeof routing->hash_key);
    return WP_OK;
}

/* The places of a map that came on the link `number`. */
static int map_places(struct wp_routing *routing, const Wp__ShardMap *map, uint32_t number)
{
    int error = WP_OK;
    for (size_t i = 0; !error && i < map->n_places; i++) {
        const Wp__ShardPlace *place = map->places[i];
        if (place->shard < 1 || place->shard > routing->shard_count) {
            continue;
        }
        uint32_t at = place->node[0] ? wp_routers_reach(routing->routers, place->node, place->endpoint)
                                     : WP_ROUTER_NONE;
        error = wp_places_told(
            routing->places, number, place->shard, place->term, at == WP_ROUTER_NONE ? WP_PLACE_NONE : at);
    }
    return error;
}

static void map_take(struct wp_routing *routing, struct wp_link *link, struct wp_slice payload)
{
    Wp__ShardMap *map;
    wp_arena_reset(&routing->arena);
    int error =
        wp_schema_decode(&wp__shard_map__descriptor, payload, &routing->arena, (ProtobufCMessage **)&map);
    error = error ? error : map_adopt(routing, map);
    if (!error && map->n_routers > 0) {
        error = wp_routers_take(routing->routers, map->version, map->routers, map->n_routers);
    }
    /* The list may have ended the very link that it came on. */
    uint32_t number = wp_routers_number(routing->routers, link);
    if (!error && number != WP_ROUTER_NONE) {
        error = map_places(routing, map, number);
    }
    if (error) {
        wp_log(WP_LOG_ERROR, "shard_map_refused", "reason=%s", wp_error_slug(error));
    }
    if (routing->places) {
        places_tell(routing);
    }
}

static void on_up(void *context, struct wp_link *link)
{
    struct wp_routing *routing = context;
    uint32_t number = wp_routers_number(routing->routers, link);
    if (number == WP_ROUTER_NONE) {
        return;
    }
    struct wp_router_link *router = wp_routers_at(routing->routers, number);
    router->up = true;
    snprintf(router->node, sizeof router->node, "%s", wp_link_node(link));
    wp_log(WP_LOG_INFO, "router_up", "peer=%s endpoint=%s", router->node, router->endpoint);
    if (routing->places) {
        wp_places_link_up(routing->places, number);
    }
}

static void on_down(void *context, struct wp_link *link, int error)
{
    struct wp_routing *routing = context;
    uint32_t number = wp_routers_number(routing->routers, link);
    if (number == WP_ROUTER_NONE || !wp_routers_at(routing->routers, number)->up) {
        return;
    }
    struct wp_router_link *router = wp_routers_at(routing->routers, number);
    router->up = false;
    wp_log(WP_LOG_WARN, "router_down", "peer=%s endpoint=%s reason=%s", router->node, router->endpoint,
        wp_error_slug(error));
    if (routing->places) {
        wp_places_link_down(routing->places, number);
        places_tell(routing);
    }
    if (wp_routers_up_count(routing->routers) == 0) {
        wp_routers_lost(routing->routers);
    }
}

/* The list of the cluster has this one no more. */
static void on_gone(void *context, uint32_t number)
{
    struct wp_routing *routing = context;
    wp_routers_at(routing->routers, number)->up = false;
    if (routing->places) {
        wp_places_link_gone(routing->places, number);
        places_tell(routing);
    }
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    struct wp_routing *routing = context;
    if (wp_routers_number(routing->routers, link) == WP_ROUTER_NONE) {
        return; /* left behind by a link that is disconnected */
    }
    if (type == WP_FRAME_SHARD_MAP) {
        map_take(routing, link, payload);
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
    wp_arena_init(&routing->arena, (size_t)4 * WP_FRAME_SIZE_MAX);
    const struct wp_fabric_callbacks fabric = {.context = routing,
        .up = on_up,
        .down = on_down,
        .frame = on_frame,
        .turn = on_turn,
        .writable = on_writable};
    int error = wp_fabric_create(&config->fabric, &fabric, &routing->fabric);
    const struct wp_routers_config routers = {.fabric = routing->fabric,
        .routers = config->routers,
        .router_count = config->router_count,
        .context = routing,
        .gone = on_gone};
    error = error ? error : wp_routers_create(&routers, &routing->routers);
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
    wp_routers_destroy(&(*routing)->routers);
    wp_places_destroy(&(*routing)->places);
    wp_arena_fini(&(*routing)->arena);
    free((*routing)->told);
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

/* NULL: none is connected. */
static const struct wp_router_link *leader_of(const struct wp_routing *routing, uint32_t shard)
{
    if (shard < 1 || shard > routing->shard_count || routing->told[shard - 1].link == WP_PLACE_NONE) {
        return NULL;
    }
    return wp_routers_at(routing->routers, routing->told[shard - 1].link);
}

static struct wp_link *leader_link(const struct wp_routing *routing, uint32_t shard)
{
    const struct wp_router_link *leader = leader_of(routing, shard);
    return leader ? leader->link : NULL;
}

bool wp_routing_shard_up(const struct wp_routing *routing, uint32_t shard)
{
    return leader_link(routing, shard) != NULL;
}

bool wp_routing_leads(const struct wp_routing *routing, const struct wp_link *link, uint32_t shard)
{
    return link && leader_link(routing, shard) == link;
}

void wp_routing_time_told(
    struct wp_routing *routing, struct wp_link *link, uint64_t told_ms, uint64_t asked_ms, uint64_t now_ms)
{
    uint32_t number = wp_routers_number(routing->routers, link);
    if (number != WP_ROUTER_NONE) {
        wp_leader_time_told(&wp_routers_at(routing->routers, number)->time, told_ms, asked_ms, now_ms);
    }
}

uint64_t wp_routing_leader_ms(const struct wp_routing *routing, uint32_t shard, uint64_t now_ms)
{
    const struct wp_router_link *leader = leader_of(routing, shard);
    return leader ? wp_leader_time_earliest_ms(&leader->time, now_ms) : 0;
}

int wp_routing_send(struct wp_routing *routing, uint32_t shard, enum wp_link_lane lane,
    enum wp_frame_type type, const ProtobufCMessage *message)
{
    struct wp_link *link = leader_link(routing, shard);
    return link ? wp_link_send(link, lane, type, message) : WP_E_CLOSED;
}

void wp_routing_broadcast(
    struct wp_routing *routing, enum wp_frame_type type, const ProtobufCMessage *message)
{
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        struct wp_router_link *router = wp_routers_at(routing->routers, i);
        if (router->link && router->up) {
            (void)wp_link_send(router->link, WP_LINK_CONTROL, type, message);
        }
    }
}

void wp_routing_tick(struct wp_routing *routing, uint64_t now_ms)
{
    if (routing->places) {
        wp_places_tick(routing->places, now_ms);
        places_tell(routing);
    }
}

bool wp_routing_ready(const struct wp_routing *routing, char *ret_why, size_t why_size)
{
    if (routing->shard_count == 0) {
        snprintf(ret_why, why_size, "no router has sent a shard map yet");
        return false;
    }
    for (uint32_t shard = 1; shard <= routing->shard_count; shard++) {
        if (routing->told[shard - 1].link != WP_PLACE_NONE) {
            continue;
        }
        uint32_t named = wp_places_named(routing->places, shard);
        const struct wp_router_link *router =
            named == WP_PLACE_NONE ? NULL : wp_routers_at(routing->routers, named);
        snprintf(ret_why, why_size, "no link to the leader of shard %u (%s); %u of %u shards have theirs",
            shard,
            !router      ? "unknown"
            : router->up ? "not chosen yet"
                         : router->endpoint,
            routing->up_count, routing->shard_count);
        return false;
    }
    return true;
}

uint32_t wp_routing_shards_up(const struct wp_routing *routing)
{
    return routing->up_count;
}

void wp_routing_links_each(const struct wp_routing *routing,
    void (*each)(void *context, const char *node, const char *endpoint, bool up), void *context)
{
    for (uint32_t i = 0; i < WP_ROUTER_LINKS_MAX; i++) {
        const struct wp_router_link *router = wp_routers_at(routing->routers, i);
        if (router->link) {
            each(context, router->node, router->endpoint, router->up);
        }
    }
}

void wp_routing_flush(struct wp_routing *routing)
{
    wp_fabric_flush(routing->fabric);
}
