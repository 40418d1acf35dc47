/* What the fabric tells about links: gateways and routers that connected to us (struct peer), and our own
 * connections to routers (struct router_link). */
#include "base/error.h"
#include "base/log.h"
#include "router/reactor_report.h"

static struct peer *peer_of(struct link_user *user)
{
    return user && user->kind == LINK_PEER ? (struct peer *)user : NULL;
}

static struct router_link *router_of(struct link_user *user)
{
    return user && user->kind == LINK_ROUTER ? (struct router_link *)user : NULL;
}

static struct snapshot_pull *pull_of(struct link_user *user)
{
    return user && user->kind == LINK_SNAPSHOT ? (struct snapshot_pull *)user : NULL;
}

static void peer_up(struct wp_reactor *reactor, struct wp_link *link)
{
    int error = wp_peer_open(reactor, link);
    wp_log(error ? WP_LOG_ERROR : WP_LOG_INFO, "link_up", "peer=%s reactor=%u error=%s", wp_link_node(link),
        reactor->config.index, wp_error_slug(error));
    if (error) {
        return;
    }
    struct peer *peer = peer_of(wp_link_user(link));
    if (wp_link_role(link) == WP__ROLE__ROLE_GATEWAY) {
        wp_map_tell_all(reactor, peer);
        return;
    }
    const struct wp_roster_node *node = wp_roster_node_named(reactor->roster, wp_link_node(link));
    peer->node = node ? node->number : 0;
}

void wp_reactor_link_up(void *context, struct wp_link *link)
{
    struct wp_reactor *reactor = context;
    struct router_link *router = router_of(wp_link_user(link));
    if (router) {
        wp_router_link_up(reactor, router);
    } else if (pull_of(wp_link_user(link))) {
        wp_snapshot_link_up(pull_of(wp_link_user(link)));
    } else {
        peer_up(reactor, link);
    }
}

void wp_reactor_link_down(void *context, struct wp_link *link, int error)
{
    struct wp_reactor *reactor = context;
    struct link_user *user = wp_link_user(link);
    if (router_of(user)) {
        wp_router_link_down(reactor, router_of(user));
        return;
    }
    if (pull_of(user)) {
        wp_snapshot_link_down(pull_of(user));
        return;
    }
    wp_log(WP_LOG_INFO, "link_down", "peer=%s reactor=%u reason=%s", wp_link_node(link),
        reactor->config.index, wp_error_slug(error));
    if (peer_of(user)) {
        if (peer_of(user)->node) {
            wp_report_drop(reactor, peer_of(user)->node);
        }
        wp_peer_close(reactor, peer_of(user));
    }
}

void wp_reactor_link_writable(void *context, struct wp_link *link)
{
    struct wp_reactor *reactor = context;
    struct peer *peer = peer_of(wp_link_user(link));
    if (!peer) {
        return;
    }
    wp_peer_flush(reactor, peer);
    for (struct shard *shard = wp_shard_next(reactor, NULL); shard; shard = wp_shard_next(reactor, shard)) {
        wp_dispatch_link_writable(shard->dispatch, peer->number);
    }
    wp_reactor_settle(reactor);
}

void wp_reactor_link_frame(
    void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    struct wp_reactor *reactor = context;
    struct link_user *user = wp_link_user(link);
    if (!user || reactor->failed) {
        wp_metric_add(WP_M_FABRIC_REFUSED, 1);
        return;
    }
    reactor->turn_worked = true;
    wp_arena_reset(&reactor->frame_arena);
    if (router_of(user)) {
        wp_router_answer(reactor, router_of(user), type, payload);
    } else if (pull_of(user)) {
        wp_snapshot_chunk_take(pull_of(user), type, payload);
    } else if (wp_link_role(link) == WP__ROLE__ROLE_ROUTER) {
        wp_router_frame(reactor, peer_of(user), type, payload);
    } else {
        wp_reactor_frame(reactor, peer_of(user), type, payload);
    }
}
