/* Shared by gateway.c, client.c and attach.c; nobody else includes it. */
#ifndef WP_GATEWAY_GATEWAY_INTERNAL_H
#define WP_GATEWAY_GATEWAY_INTERNAL_H

#include "base/arena.h"
#include "gateway/gateway.h"
#include "gateway/lease.h"
#include "gateway/penalty.h"

#define WP_TICK_MS 20u
#define WP_TICK_PHASES 10u /* each client is looked at every WP_TICK_MS * WP_TICK_PHASES */
#define WP_RETRY_MS 100u

struct wp_client_slot {
    struct wp_client *client;
    uint32_t generation;
    uint32_t next_free;
};

/* A Detach that the link had no room for. */
struct wp_pending_detach {
    uint64_t session;
    uint64_t epoch;
    uint32_t shard;
};

/* A client that left while its first Attach was unanswered: the answer is followed by a Detach. */
struct wp_orphan {
    uint64_t session;
    uint32_t shard;
};

struct wp_gateway {
    struct wp_gateway_setup config;
    struct wp_routing *routing;
    struct wp_submits *submits; /* NULL before the first shard map */
    struct wp_leases *leases;   /* likewise */
    uint8_t *choked;            /* [shard - 1]: its senders are not read */
    struct wp_client_slot *slots;
    uint32_t slot_count, slot_free;
    uint32_t client_count;
    struct wp_client *waiting_first, *waiting_last; /* clients whose Attach is to be sent */
    bool waiting_due;                               /* look at them at the end of the turn */
    struct wp_client *dirty_first, *dirty_last;
    bool choke_ended;
    struct wp_pending_detach *detaches;
    uint32_t detach_count, detach_capacity;
    struct wp_orphan *orphans;
    uint32_t orphan_count, orphan_capacity;
    uint64_t held_bytes;
    uint64_t lane_turn;
    uint32_t phase;
    struct wp_penalties penalties;
    struct wp_arena arena;       /* of one step */
    struct wp_arena frame_arena; /* of one frame, around the steps that it causes */
    uint8_t random[1024];
    uint32_t random_used;
    uv_timer_t *timer;
    uv_prepare_t *prepare;
};

uint64_t wp_gateway_now_ms(void);

/* Fills in what a step of this client may use. */
void wp_client_turn_begin(struct wp_client *client, struct wp_session_turn *turn);
/* Looks after the step: output, end, unblocking. */
void wp_client_turn_end(struct wp_client *client, struct wp_session_turn *turn);
struct wp_client *wp_gateway_client_find(struct wp_gateway *gateway, uint64_t number);
void wp_client_mark(struct wp_client *client);
/* Sends what the streams have for `shard` while its link takes it. */
void wp_gateway_pump(struct wp_gateway *gateway, uint32_t shard);
/* Brings the answer of one submit to its session. */
void wp_gateway_answer(struct wp_gateway *gateway, const struct wp_submit_answer *answer);

/* attach.c */
void wp_client_attach_start(struct wp_client *client, const struct wp_session_effect *effect);
void wp_client_attach_again(struct wp_client *client, uint64_t at_ms);
void wp_client_subscribe_try(struct wp_client *client);
void wp_client_acks_send(struct wp_client *client);
void wp_client_detach(struct wp_client *client);
void wp_gateway_waiting_walk(struct wp_gateway *gateway);
void wp_gateway_detaches_flush(struct wp_gateway *gateway);
/* The link of the shard is gone, and with it the sessions there. */
void wp_gateway_detaches_forget(struct wp_gateway *gateway, uint32_t shard);
/* The shard of a session that an Attach was sent for; 0: unknown. */
uint32_t wp_gateway_session_shard(struct wp_gateway *gateway, uint64_t session);
/* The shard has a leader: whoever waits because it had none is tried now. */
void wp_gateway_waiting_hurry(struct wp_gateway *gateway, uint32_t shard);
void wp_gateway_on_attach_reply(struct wp_gateway *gateway, const Wp__AttachReply *reply);
void wp_gateway_on_subscribe_reply(struct wp_gateway *gateway, const Wp__SubscribeReply *reply);

/* deliver.c */
void wp_gateway_on_deliver(struct wp_gateway *gateway, const Wp__Deliver *deliver, struct wp_slice payload);
void wp_gateway_on_deliver_many(
    struct wp_gateway *gateway, const struct wp_link *link, const Wp__DeliverMany *many);
void wp_client_held_drain(struct wp_client *client);
void wp_gateway_on_lease_reply(struct wp_gateway *gateway, struct wp_link *link, const Wp__LeaseReply *reply);
/* Asks for leases when it is time. */
void wp_gateway_lease_turn(struct wp_gateway *gateway);
/* Ends the connection of a device whose shard has had no lease for too long. */
void wp_client_lease_check(struct wp_client *client);

#endif
