/* Where shards are: what routers tell (gateway/places.h), one fabric link per reactor of each router
 * (gateway/routers.h), and the link of each shard's leader.
 *
 * Runs on the loop of its fabric; one thread. */
#ifndef WP_GATEWAY_ROUTING_H
#define WP_GATEWAY_ROUTING_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "node/config.h"
#include "node/fabric.h"

struct wp_routing;

struct wp_routing_config {
    struct wp_fabric_config fabric;
    const struct wp_config_peer *routers; /* borrowed */
    uint32_t router_count;
};

struct wp_routing_callbacks {
    void *context;
    /* The first map came: shards are numbered 1..shard_count for good. WP_OK or an error that makes the map
     * useless. */
    int (*sharded)(void *context, uint32_t shard_count);
    /* Frames to the shard flow from now on / no more; all soft state on the other side is new / gone. A
     * leader that changes is a down and an up, also when every link lives. */
    void (*shard_up)(void *context, uint32_t shard);
    void (*shard_down)(void *context, uint32_t shard);
    /* A frame that is not about the map; payload borrowed. What a frame says of a shard counts only when
     * wp_routing_leads. */
    void (*frame)(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload);
    /* Every frame of this wake-up was handed up. */
    void (*turn)(void *context);
    /* A link takes credit-controlled frames again. */
    void (*writable)(void *context);
};

/* Connects to the configured routers. Errors of wp_fabric_create and wp_fabric_connect. */
int wp_routing_create(const struct wp_routing_config *config, const struct wp_routing_callbacks *callbacks,
    struct wp_routing **ret_routing);
void wp_routing_destroy(struct wp_routing **routing);

/* Shard of `user`; 0 while no map is known. */
uint32_t wp_routing_shard_of(const struct wp_routing *routing, const char *user);
uint32_t wp_routing_shard_count(const struct wp_routing *routing);
bool wp_routing_shard_up(const struct wp_routing *routing, uint32_t shard);

/* Whether frames of `shard` that came on `link` are those of its leader: an old leader may still be talking.
 */
bool wp_routing_leads(const struct wp_routing *routing, const struct wp_link *link, uint32_t shard);

/* The router at the other end of `link` told its leader time (gateway/leader_time.h). */
void wp_routing_time_told(
    struct wp_routing *routing, struct wp_link *link, uint64_t told_ms, uint64_t asked_ms, uint64_t now_ms);
/* The earliest that the time of the leader of `shard` can be now; 0: not known. */
uint64_t wp_routing_leader_ms(const struct wp_routing *routing, uint32_t shard, uint64_t now_ms);

/* Sends to the leader of `shard`. WP_OK, WP_E_CLOSED (no link or not up), or the errors of wp_link_send. */
int wp_routing_send(struct wp_routing *routing, uint32_t shard, enum wp_link_lane lane,
    enum wp_frame_type type, const ProtobufCMessage *message);

/* Sends to every reactor of every router that is up. One that takes nothing now does without. */
void wp_routing_broadcast(
    struct wp_routing *routing, enum wp_frame_type type, const ProtobufCMessage *message);

/* Time passed; call a few times a second. */
void wp_routing_tick(struct wp_routing *routing, uint64_t now_ms);

/* Whether the map is known and every shard has a leader that is connected; otherwise ret_why says what is
 * missing. */
bool wp_routing_ready(const struct wp_routing *routing, char *ret_why, size_t why_size);

/* Calls `each` for every link. `node` is "" before the first hello. */
void wp_routing_links_each(const struct wp_routing *routing,
    void (*each)(void *context, const char *node, const char *endpoint, bool up), void *context);
/* How many shards have a leader that is connected. */
uint32_t wp_routing_shards_up(const struct wp_routing *routing);

/* Sends what is queued now. For clean stop. */
void wp_routing_flush(struct wp_routing *routing);

#endif
