/* Why the leader of the meta group watches: what a node has confirmed counts only while its disk still has
 * it, and one place must decide that it has not, once. */
#include "router/reactor_watch.h"

#include "base/error.h"
#include "base/log.h"
#include "proto/frame.h"
#include "router/reactor_meta.h"
#include "router/reactor_report.h"

#define WATCH_MS 200u
#define COUNT_MS 1000u
#define ASK_AGAIN_MS 2000u /* about one node */
#define FORGOT_MS 3000u    /* a node must show a directory that forgot for so long */
#define HEARD_MS_MAX 1500u /* and be heard so lately */

/* A start of a node's process. */
struct start {
    uint64_t directory_id;
    uint64_t boot;
    uint64_t id;
};

static void seen_propose(struct shard *meta, uint32_t number, struct start start, uint64_t *asked_ms)
{
    Wp__MetaNodeSeen command = WP__META_NODE_SEEN__INIT;
    command.number = number;
    command.directory_id = start.directory_id;
    command.boot = start.boot;
    command.start_id = start.id;
    wp_meta_command(meta, WP_META_NODE_SEEN, &command.base, asked_ms);
}

static void forgot_propose(struct shard *meta, const struct wp_roster_node *node, struct start start,
    const char *how, uint64_t *asked_ms)
{
    Wp__MetaNodeForgot command = WP__META_NODE_FORGOT__INIT;
    command.number = node->number;
    command.old_directory_id = node->directory_id;
    command.old_boot = node->boot;
    command.old_start_id = node->start_id;
    command.directory_id = start.directory_id;
    command.boot = start.boot;
    command.start_id = start.id;
    wp_log(WP_LOG_ERROR, "node_forgot",
        "node=%s how=%s directory=%016llx boot=%llu known=%016llx known_boot=%llu", node->name, how,
        (unsigned long long)start.directory_id, (unsigned long long)start.boot,
        (unsigned long long)node->directory_id, (unsigned long long)node->boot);
    wp_meta_command(meta, WP_META_NODE_FORGOT, &command.base, asked_ms);
}

static bool rebuilding_other(struct wp_reactor *reactor, const struct wp_roster_node *node)
{
    for (uint32_t i = 0; i < reactor->roster->node_count; i++) {
        const struct wp_roster_node *other = &reactor->roster->nodes[i];
        if (other->number != node->number && wp_watch_rebuilding(reactor, other)) {
            return true;
        }
    }
    return false;
}

/* Whether the leader of a group says that a replica of the node, of those that count, holds less than it
 * acknowledged. One node at a time: where several do, a new leader forgets what they acknowledged and sends
 * it to them again, which is better than a group in which nobody may vote. */
static bool holds_less(struct wp_reactor *reactor, const struct wp_roster_node *node)
{
    for (uint32_t group = 0; group <= reactor->config.shard_count; group++) {
        const struct shard *shard = wp_reactor_group_of(reactor, group);
        uint64_t id = shard && wp_group_leading(shard->group) ? wp_report_forgot(shard) : 0;
        for (uint32_t i = 0; i < reactor->report_count && id == 0; i++) {
            const struct group_report *report =
                wp_report_of_group(reactor, reactor->reports[i].node, group, WP_REPORT_FRESH_MS);
            id = report ? report->forgot : 0;
        }
        if (id && wp_raft_id_node(id) == node->number && wp_roster_counts(reactor->roster, id)) {
            return !rebuilding_other(reactor, node);
        }
    }
    return false;
}

static bool may_ask(const struct wp_reactor *reactor, uint64_t asked_ms)
{
    return reactor->mono_ms >= asked_ms + ASK_AGAIN_MS;
}

/* A start that the roster does not know yet is written into it; one that forgot is told by its
 * acknowledgements. */
static void start_watch(struct shard *meta, const struct wp_roster_node *node, struct start start,
    enum wp_meta_seen seen, uint64_t *asked_ms)
{
    if (!may_ask(meta->reactor, *asked_ms)) {
        return;
    }
    if (seen != WP_META_SEEN_SAME) {
        seen_propose(meta, node->number, start, asked_ms);
    } else if (holds_less(meta->reactor, node)) {
        forgot_propose(meta, node, start, "holds-less-than-it-acknowledged", asked_ms);
    }
}

/* What a connected node shows. That it forgot must be shown by a process that is at work, for a while: a
 * connection of its earlier life may still stand. */
static void peer_watch(struct shard *meta, struct peer *peer)
{
    struct wp_reactor *reactor = meta->reactor;
    const struct wp_roster *roster = wp_meta_roster(meta->meta);
    const struct wp_roster_node *node = wp_roster_node(roster, peer->node);
    struct start start = {
        wp_link_directory_id(peer->link), wp_link_incarnation(peer->link), wp_link_start_id(peer->link)};
    if (!node || node->state == WP_NODE_REMOVED || start.directory_id == 0) {
        return;
    }
    uint64_t *asked_ms = &reactor->meta_work->watch.asked_ms[node - roster->nodes];
    enum wp_meta_seen seen = wp_meta_node_check(roster, peer->node, start.directory_id, start.boot, start.id);
    if (seen != WP_META_SEEN_FORGOTTEN) {
        peer->forgot_ms = 0;
        start_watch(meta, node, start, seen, asked_ms);
        return;
    }
    peer->forgot_ms = peer->forgot_ms ? peer->forgot_ms : reactor->mono_ms;
    if (may_ask(reactor, *asked_ms) && reactor->mono_ms - peer->forgot_ms >= FORGOT_MS &&
        reactor->mono_ms - peer->heard_ms < HEARD_MS_MAX) {
        forgot_propose(meta, node, start, "shows-an-earlier-disk", asked_ms);
    }
}

void wp_watch_nodes(struct shard *meta)
{
    struct wp_reactor *reactor = meta->reactor;
    const struct wp_reactor_config *config = &reactor->config;
    const struct wp_roster *roster = wp_meta_roster(meta->meta);
    const struct wp_roster_node *self = wp_roster_node(roster, config->self);
    struct wp_watch *watch = &reactor->meta_work->watch;
    if (reactor->mono_ms < watch->watched_ms + WATCH_MS) {
        return;
    }
    watch->watched_ms = reactor->mono_ms;
    for (uint32_t slot = 0; slot < PEERS_MAX; slot++) {
        if (reactor->peers[slot] && reactor->peers[slot]->node) {
            peer_watch(meta, reactor->peers[slot]);
        }
    }
    struct start start = {config->directory_id, config->incarnation, config->start_id};
    enum wp_meta_seen seen =
        wp_meta_node_check(roster, config->self, start.directory_id, start.boot, start.id);
    if (self && start.directory_id && seen != WP_META_SEEN_FORGOTTEN) {
        start_watch(meta, self, start, seen, &watch->asked_ms[self - roster->nodes]);
    }
}

bool wp_watch_rebuilding(struct wp_reactor *reactor, const struct wp_roster_node *node)
{
    for (uint32_t group = 0; node->forgotten > 0 && group <= reactor->roster->shard_count; group++) {
        struct wp_plan_group known;
        uint64_t id = wp_roster_replica(reactor->roster, group, node->number);
        if (id) {
            wp_meta_group_known(reactor, group, &known);
        }
        if (id && known.known && !wp_membership_find(&known.membership, id)) {
            return true;
        }
    }
    return false;
}

void wp_watch_count(struct wp_reactor *reactor)
{
    const struct wp_roster *roster = reactor->roster;
    struct wp_watch *watch = &reactor->meta_work->watch;
    uint64_t count = 0;
    if (reactor->mono_ms < watch->counted_ms + COUNT_MS) {
        return;
    }
    watch->counted_ms = reactor->mono_ms;
    for (uint32_t i = 0; i < roster->node_count; i++) {
        count += roster->nodes[i].state != WP_NODE_REMOVED && wp_watch_rebuilding(reactor, &roster->nodes[i]);
    }
    wp_metric_set(WP_M_NODE_FORGOTTEN, count);
}

bool wp_watch_known(const struct wp_reactor *reactor, const struct wp_roster_node *node)
{
    const struct wp_reactor_config *config = &reactor->config;
    if (node->number == config->self) {
        return node->start_id == config->start_id;
    }
    for (uint32_t i = 0; i < reactor->router_count; i++) {
        const struct router_link *router = reactor->routers[i];
        if (router->node == node->number && router->up && wp_link_start_id(router->link) == node->start_id) {
            return true;
        }
    }
    return false;
}
