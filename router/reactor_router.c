/* Why routers have links of their own in both directions: what a node sends leaves on connections that it
 * made, so a frame's sender is known from the link alone and a lost connection concerns one direction.
 *
 * Invariants
 *   1. A frame is taken only from a node of the roster whose data directory is the one that the roster knows,
 * but for what tells us that our roster is old (roster_is_behind).
 *   2. Raft frames are dropped rather than queued when the link is over its byte cap: Raft repeats them. */
#include "router/reactor_lead.h"
#include "router/reactor_outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cluster/message.h"
#include "proto/frame.h"

/* --- links
 * --------------------------------------------------------------------------------------------------
 */

static struct router_link *router_find(const struct wp_reactor *reactor, uint32_t node, uint32_t index)
{
    for (uint32_t i = 0; i < reactor->router_count; i++) {
        if (reactor->routers[i]->node == node && reactor->routers[i]->index == index) {
            return reactor->routers[i];
        }
    }
    return NULL;
}

static struct router_link *router_of(const struct wp_reactor *reactor, uint32_t node, uint32_t group)
{
    const struct wp_roster_node *found = wp_roster_node(reactor->roster, node);
    return found ? router_find(reactor, node, wp_reactor_of(group, found->reactors)) : NULL;
}

static bool router_fits(const struct wp_reactor *reactor, const struct router_link *router)
{
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, router->node);
    char endpoint[WP_ENDPOINT_SIZE_MAX];
    return node && node->state != WP_NODE_REMOVED && router->index < node->reactors &&
           strcmp(router->key, node->key) == 0 &&
           wp_roster_endpoint(node, router->index + 1, endpoint) == WP_OK &&
           strcmp(endpoint, router->endpoint) == 0;
}

static int router_open(struct wp_reactor *reactor, const struct wp_roster_node *node, uint32_t index)
{
    struct router_link *router = calloc(1, sizeof(*router));
    if (!router) {
        return WP_E_NOMEM;
    }
    router->kind = LINK_ROUTER;
    router->node = node->number;
    router->index = index;
    memcpy(router->key, node->key, sizeof(router->key));
    int error = wp_roster_endpoint(node, index + 1, router->endpoint);
    error = error ? error : wp_fabric_connect(reactor->fabric, router->endpoint, router->key, &router->link);
    if (error) {
        wp_log(WP_LOG_ERROR, "router_unreachable", "node=%s endpoint=%s reason=%s", node->name,
            node->endpoint, wp_error_slug(error));
        free(router);
        return error == WP_E_NOMEM ? error : WP_OK;
    }
    wp_link_set_user(router->link, router);
    reactor->routers[reactor->router_count++] = router;
    return WP_OK;
}

static void routers_close_unfit(struct wp_reactor *reactor)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < reactor->router_count; i++) {
        struct router_link *router = reactor->routers[i];
        if (router_fits(reactor, router)) {
            reactor->routers[kept++] = router;
            continue;
        }
        wp_link_set_user(router->link, NULL);
        wp_fabric_disconnect(reactor->fabric, &router->link);
        free(router);
    }
    reactor->router_count = kept;
}

int wp_routers_update(struct wp_reactor *reactor)
{
    const struct wp_roster *roster = reactor->roster;
    routers_close_unfit(reactor);
    for (uint32_t i = 0; i < roster->node_count; i++) {
        const struct wp_roster_node *node = &roster->nodes[i];
        if (node->number == reactor->config.self || node->state == WP_NODE_REMOVED) {
            continue;
        }
        for (uint32_t index = 0; index < node->reactors; index++) {
            if (router_find(reactor, node->number, index) || reactor->router_count == ROUTER_LINKS_MAX) {
                continue;
            }
            int error = router_open(reactor, node, index);
            if (error) {
                return error;
            }
        }
    }
    return WP_OK;
}

void wp_routers_free(struct wp_reactor *reactor)
{
    for (uint32_t i = 0; i < reactor->router_count; i++) {
        free(reactor->routers[i]); /* the fabric owns the link */
    }
    reactor->router_count = 0;
}

void wp_router_link_up(struct wp_reactor *reactor, struct router_link *router)
{
    router->up = true;
    wp_log(WP_LOG_INFO, "router_up", "peer=%s endpoint=%s reactor=%u", wp_link_node(router->link),
        router->endpoint, reactor->config.index);
    wp_report_send(reactor, router);
}

void wp_router_link_down(struct wp_reactor *reactor, struct router_link *router)
{
    if (router->up) {
        wp_log(WP_LOG_WARN, "router_down", "peer=%s endpoint=%s reactor=%u", wp_link_node(router->link),
            router->endpoint, reactor->config.index);
        wp_leads_lost(reactor, router);
    }
    router->up = false;
    wp_forwards_lost(reactor, router->node);
}

/* --- sending
 * ------------------------------------------------------------------------------------------------
 */

bool wp_router_up(const struct wp_reactor *reactor, uint32_t node, uint32_t group)
{
    const struct router_link *router = router_of(reactor, node, group);
    return router && router->up;
}

int wp_router_send(struct wp_reactor *reactor, uint32_t node, uint32_t group, enum wp_frame_type type,
    const ProtobufCMessage *message)
{
    struct router_link *router = router_of(reactor, node, group);
    int error =
        router && router->up ? wp_link_send(router->link, WP_LINK_CONTROL, type, message) : WP_E_CLOSED;
    if (error) {
        wp_metric_add(WP_M_PEER_DROPPED, 1);
    }
    return error;
}

void wp_shard_send(void *context, uint64_t to, struct wp_bytes *message)
{
    struct shard *shard = context;
    Wp__Raft raft = WP__RAFT__INIT;
    raft.group = shard->number;
    raft.from = shard->replica;
    raft.to = to;
    raft.rpc = (ProtobufCBinaryData){message->size, message->data};
    (void)wp_router_send(shard->reactor, wp_raft_id_node(to), shard->number, WP_FRAME_RAFT, &raft.base);
}

/* --- receiving
 * ----------------------------------------------------------------------------------------------
 */

static void frame_refuse(struct wp_reactor *reactor, struct peer *peer, const char *why)
{
    wp_metric_add(WP_M_PEER_REFUSED, 1);
    if (!peer->refusal_logged) {
        peer->refusal_logged = true;
        wp_log(WP_LOG_WARN, "peer_frame_refused", "peer=%s reactor=%u reason=%s", wp_link_node(peer->link),
            reactor->config.index, why);
    }
}

static void take_raft(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message)
{
    const Wp__Raft *raft = (const Wp__Raft *)message;
    struct shard *shard = wp_reactor_group_of(reactor, raft->group);
    if (wp_raft_id_node(raft->from) != peer->node) {
        frame_refuse(reactor, peer, "raft-id-of-another-node");
        return;
    }
    if (!wp_roster_counts(reactor->roster, raft->from)) {
        frame_refuse(reactor, peer, "replica-of-a-forgotten-disk");
        return;
    }
    if (!shard || raft->to != shard->replica) {
        wp_replica_called(reactor, raft->group, raft->to);
        frame_refuse(reactor, peer, "not-our-replica");
        return;
    }
    /* A lease counts from readings that were taken after what they are for had come: a reactor that was
     * stopped reads old frames first. */
    wp_reactor_clock(reactor);
    int error =
        wp_group_receive(shard->group, reactor->mono_ms, raft->from, wp_slice(raft->rpc.data, raft->rpc.len));
    if (error && wp_error_class(error) == WP_CLASS_PEER) {
        frame_refuse(reactor, peer, wp_error_slug(error));
    } else if (error) {
        wp_reactor_fail(reactor, error, "receiving from a peer");
    }
}

struct router_row {
    const ProtobufCMessageDescriptor *descriptor;
    void (*take)(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);
};

static const struct router_row router_rows[] = {
    [WP_FRAME_RAFT] = {&wp__raft__descriptor, take_raft},
    [WP_FRAME_NODE_STATE] = {&wp__node_state__descriptor, wp_report_take},
    [WP_FRAME_PROPOSE] = {&wp__propose__descriptor, wp_propose_take},
    [WP_FRAME_TRANSFER] = {&wp__transfer__descriptor, wp_transfer_take},
    [WP_FRAME_SNAPSHOT_OFFER] = {&wp__snapshot_offer__descriptor, wp_snapshot_offer_take},
    [WP_FRAME_SNAPSHOT_PULL] = {&wp__snapshot_pull__descriptor, wp_snapshot_pull_take},
};

/* Whether our roster is the one that is behind: who speaks under a raft id above the one that we know was
 * given it when the others noticed that its node forgot. From a leader of the meta group under such an id we
 * learn of it, else a router that was away meanwhile would stay deaf to it for ever. Nothing else is taken:
 * it may have forgotten again, and its votes and answers must not count before we can tell. */
static bool roster_is_behind(const struct wp_reactor *reactor, const struct peer *peer,
    enum wp_frame_type type, const ProtobufCMessage *message)
{
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, peer->node);
    uint64_t from = 0;
    if (type == WP_FRAME_SNAPSHOT_OFFER) {
        const Wp__SnapshotOffer *offer = (const Wp__SnapshotOffer *)message;
        from = offer->group == WP_META_GROUP ? offer->from : 0;
    } else if (type == WP_FRAME_RAFT) {
        const Wp__Raft *raft = (const Wp__Raft *)message;
        struct wp_rpc rpc;
        bool append = raft->group == WP_META_GROUP &&
                      wp_rpc_decode(wp_slice(raft->rpc.data, raft->rpc.len), &rpc) == WP_OK &&
                      rpc.type == WP_RPC_APPEND;
        from = append ? raft->from : 0;
    }
    return node && wp_raft_id_node(from) == peer->node && from > node->meta_replica;
}

static bool peer_forgot(const struct wp_reactor *reactor, const struct peer *peer)
{
    return wp_meta_node_check(reactor->roster, peer->node, wp_link_directory_id(peer->link),
               wp_link_incarnation(peer->link), wp_link_start_id(peer->link)) == WP_META_SEEN_FORGOTTEN;
}

/* The node may have been added, removed or rebuilt since the link came up. */
static bool peer_accepted(struct wp_reactor *reactor, struct peer *peer)
{
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, peer->node);
    if (!node || node->state == WP_NODE_REMOVED) {
        frame_refuse(reactor, peer, "no-node-of-the-roster");
        return false;
    }
    if (wp_link_level_max(peer->link) < reactor->roster->feature_level) {
        frame_refuse(reactor, peer, "feature-level-too-old");
        return false;
    }
    return true;
}

void wp_router_frame(
    struct wp_reactor *reactor, struct peer *peer, enum wp_frame_type type, struct wp_slice payload)
{
    ProtobufCMessage *message;
    peer->heard_ms = reactor->mono_ms;
    if (!peer_accepted(reactor, peer)) {
        return;
    }
    if ((size_t)type >= sizeof(router_rows) / sizeof(*router_rows) || !router_rows[type].take) {
        frame_refuse(reactor, peer, "unexpected-type");
        return;
    }
    int error = wp_schema_decode(router_rows[type].descriptor, payload, &reactor->frame_arena, &message);
    if (error) {
        frame_refuse(reactor, peer, wp_error_slug(error));
        return;
    }
    if (peer_forgot(reactor, peer) && !roster_is_behind(reactor, peer, type, message)) {
        frame_refuse(reactor, peer, "forgotten-directory");
        return;
    }
    router_rows[type].take(reactor, peer, message);
}

struct answer_row {
    const ProtobufCMessageDescriptor *descriptor;
    void (*take)(struct wp_reactor *reactor, const ProtobufCMessage *message);
};

static const struct answer_row answer_rows[] = {
    [WP_FRAME_PROPOSE_REPLY] = {&wp__propose_reply__descriptor, wp_forward_answered},
    [WP_FRAME_TRANSFER_REPLY] = {&wp__transfer_reply__descriptor, wp_transfer_replied},
};

void wp_router_answer(
    struct wp_reactor *reactor, struct router_link *router, enum wp_frame_type type, struct wp_slice payload)
{
    ProtobufCMessage *message;
    if ((size_t)type < sizeof(answer_rows) / sizeof(*answer_rows) && answer_rows[type].take &&
        wp_schema_decode(answer_rows[type].descriptor, payload, &reactor->frame_arena, &message) == WP_OK) {
        answer_rows[type].take(reactor, message);
        return;
    }
    wp_metric_add(WP_M_PEER_REFUSED, 1);
    wp_log(WP_LOG_WARN, "peer_answer_refused", "peer=%s reactor=%u type=%d", wp_link_node(router->link),
        reactor->config.index, (int)type);
}
