/* What gateways are told about where shards are led (docs/cluster.md, "Leaders"): everything this reactor
 * knows when a gateway connects, and each shard again when this router begins to lead it. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "router/reactor_state.h"

struct map_text {
    char node[WP_NAME_SIZE_MAX + 1];
    char endpoint[WP_ENDPOINT_SIZE_MAX];
};

/* The leader of a shard as far as it is known here. A leader counts once it takes proposals. */
static bool place_fill(const struct shard *shard, struct map_text *text, Wp__ShardPlace *place)
{
    const struct wp_reactor *reactor = shard->reactor;
    uint64_t leader = wp_group_leader(shard->group);
    if (leader == 0 || (leader == shard->replica && !wp_group_leading(shard->group))) {
        return false;
    }
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, wp_raft_id_node(leader));
    if (!node || wp_roster_endpoint(node, shard->number, text->endpoint)) {
        return false;
    }
    memcpy(text->node, node->name, sizeof(text->node));
    wp__shard_place__init(place);
    place->shard = shard->number;
    place->node = text->node;
    place->endpoint = text->endpoint;
    place->term = wp_group_term(shard->group);
    return true;
}

static int map_send(
    struct wp_reactor *reactor, struct peer *peer, Wp__ShardPlace **places, size_t count, bool with_routers)
{
    const struct wp_roster *roster = reactor->roster;
    struct wp_roster_node nodes[WP_ROSTER_NODES_MAX];
    Wp__RouterPlace rows[WP_ROSTER_NODES_MAX];
    Wp__RouterPlace *routers[WP_ROSTER_NODES_MAX];
    Wp__ShardMap map = WP__SHARD_MAP__INIT;
    map.version = roster->version;
    map.hash_key = (ProtobufCBinaryData){sizeof(reactor->config.hash_key), reactor->config.hash_key};
    map.shard_count = reactor->config.shard_count;
    map.places = places;
    map.n_places = count;
    for (uint32_t i = 0; with_routers && i < roster->node_count; i++) {
        if (roster->nodes[i].state == WP_NODE_REMOVED) {
            continue;
        }
        size_t at = map.n_routers++;
        nodes[at] = roster->nodes[i];
        wp__router_place__init(&rows[at]);
        rows[at].node = nodes[at].name;
        rows[at].endpoint = nodes[at].endpoint;
        rows[at].key = nodes[at].key;
        rows[at].reactors = nodes[at].reactors;
        routers[at] = &rows[at];
    }
    map.routers = routers;
    return wp_link_send(peer->link, WP_LINK_CONTROL, WP_FRAME_SHARD_MAP, &map.base);
}

void wp_map_tell_all(struct wp_reactor *reactor, struct peer *peer)
{
    struct map_text *texts = calloc(reactor->shard_count, sizeof(*texts));
    Wp__ShardPlace *places = calloc(reactor->shard_count, sizeof(*places));
    Wp__ShardPlace **rows = calloc(reactor->shard_count, sizeof(*rows));
    int error = texts && places && rows ? WP_OK : WP_E_NOMEM;
    size_t count = 0;
    for (struct shard *shard = wp_shard_next(reactor, NULL); !error && shard;
         shard = wp_shard_next(reactor, shard)) {
        if (place_fill(shard, &texts[count], &places[count])) {
            rows[count] = &places[count];
            count++;
        }
    }
    error = error ? error : map_send(reactor, peer, rows, count, true);
    peer->map_due = error && error != WP_E_CLOSED; /* the next tick tries again */
    free(texts);
    free(places);
    free(rows);
}

void wp_map_tell_shard(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    struct map_text text;
    Wp__ShardPlace place;
    Wp__ShardPlace *row = &place;
    if (!place_fill(shard, &text, &place)) {
        return;
    }
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        struct peer *peer = reactor->peers[slot];
        if (!peer || wp_link_role(peer->link) != WP__ROLE__ROLE_GATEWAY) {
            continue;
        }
        int error = map_send(reactor, peer, &row, 1, false);
        peer->map_due = peer->map_due || (error && error != WP_E_CLOSED);
    }
}

void wp_map_tell_routers(struct wp_reactor *reactor)
{
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        if (reactor->peers[slot] && wp_link_role(reactor->peers[slot]->link) == WP__ROLE__ROLE_GATEWAY) {
            wp_map_tell_all(reactor, reactor->peers[slot]);
        }
    }
}
