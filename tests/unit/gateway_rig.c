#include "tests/unit/gateway_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "tests/unit/gateway_certificate.h"

#define PATIENCE_MS 10000u
#define CLUSTER 0x1122334455667788u

uint64_t rig_now_ms(void)
{
    return wp_clock_mono_us() / 1000;
}

/* --- the fake router
 * ---------------------------------------------------------------------------------------- */

static void router_send(struct rig_router *router, enum wp_link_lane lane, enum wp_frame_type type,
    const ProtobufCMessage *message)
{
    if (router->link) {
        assert_int_equal(wp_link_send(router->link, lane, type, message), WP_OK);
    }
}

static void place_fill(Wp__RouterPlace *place, struct rig_router *router)
{
    wp__router_place__init(place);
    place->node = (char *)(uintptr_t)router->name;
    place->endpoint = router->endpoint;
    place->key = router->keys.public_text;
    place->reactors = 1;
}

void rig_map_send(struct rig_router *router)
{
    struct rig *rig = router->rig;
    Wp__ShardMap map = WP__SHARD_MAP__INIT;
    Wp__ShardPlace places[RIG_SHARDS], *rows[RIG_SHARDS];
    Wp__RouterPlace routers[2], *router_rows[2] = {&routers[0], &routers[1]};
    for (uint32_t i = 0; i < RIG_SHARDS; i++) {
        wp__shard_place__init(&places[map.n_places]);
        places[map.n_places].shard = i + 1;
        places[map.n_places].node = (char *)(uintptr_t)router->name;
        places[map.n_places].endpoint = router->endpoint;
        places[map.n_places].term = router->terms[i];
        rows[map.n_places] = &places[map.n_places];
        map.n_places += router->terms[i] > 0;
    }
    map.version = router->roster;
    map.hash_key = (ProtobufCBinaryData){16, rig->router.hash_key};
    map.shard_count = RIG_SHARDS;
    map.places = rows;
    if (router->roster > 0) {
        place_fill(&routers[0], router);
        place_fill(&routers[1], router == &rig->router ? &rig->other : &rig->router);
        map.routers = router_rows;
        map.n_routers = router->lists_other ? 2 : 1;
    }
    router_send(router, WP_LINK_CONTROL, WP_FRAME_SHARD_MAP, &map.base);
}

void rig_lead(struct rig_router *router, uint64_t term)
{
    for (uint32_t i = 0; i < RIG_SHARDS; i++) {
        router->terms[i] = term;
    }
    rig_map_send(router);
}

static void on_up(void *context, struct wp_link *link)
{
    struct rig_router *router = context;
    router->link = link;
    rig_map_send(router);
}

static void on_down(void *context, struct wp_link *link, int error)
{
    struct rig_router *router = context;
    (void)error;
    if (router->link == link) {
        router->link = NULL;
        memset(router->attached, 0, sizeof router->attached);
    }
}

static struct rig_attached *attached_find(struct rig_router *router, const char *user, const char *device)
{
    for (unsigned i = 0; i < 64; i++) {
        struct rig_attached *row = &router->attached[i];
        if (row->used && strcmp(row->user, user) == 0 && (!device || strcmp(row->device, device) == 0)) {
            return row;
        }
    }
    return NULL;
}

static void kick_send(struct rig_router *router, uint64_t session, int error)
{
    Wp__Kick kick = WP__KICK__INIT;
    kick.session = session;
    kick.error = error;
    router_send(router, WP_LINK_CONTROL, WP_FRAME_KICK, &kick.base);
}

static void attach_take(struct rig_router *router, const Wp__Attach *attach)
{
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    reply.session = attach->session;
    reply.error = router->attach_answer;
    router->attach_count++;
    if (attach->resume) {
        router->resume_count++;
        router->resume_in_flight = router->resume_acknowledged = 0;
        for (size_t i = 0; i < attach->resume->n_in_flight; i++) {
            router->resume_in_flight += (uint32_t)attach->resume->in_flight[i]->n_sequence;
        }
        for (size_t i = 0; i < attach->resume->n_acknowledged; i++) {
            router->resume_acknowledged += (uint32_t)attach->resume->acknowledged[i]->n_sequence;
        }
    } else if (attach->secret.len != 6 || memcmp(attach->secret.data, "secret", 6) != 0) {
        reply.error = reply.error ? reply.error : WP_E_AUTH;
    }
    if (reply.error == WP_OK) {
        struct rig_attached *row = attached_find(router, attach->user, attach->device);
        if (row && row->session != attach->session) {
            kick_send(router, row->session, WP_E_STALE_EPOCH);
        }
        for (unsigned i = 0; !row && i < 64; i++) {
            row = router->attached[i].used ? NULL : &router->attached[i];
        }
        assert_non_null(row);
        row->used = true;
        row->session = attach->session;
        row->shard = attach->shard;
        strcpy(row->user, attach->user);
        strcpy(row->device, attach->device);
        row->epoch = attach->resume ? attach->resume->epoch : ++router->next_epoch;
        reply.epoch = row->epoch;
        reply.session_present = row->inbox;
        reply.inbox_subscribed = row->inbox;
    }
    router_send(router, WP_LINK_CONTROL, WP_FRAME_ATTACH_REPLY, &reply.base);
}

static void submit_answer(struct rig_router *router, uint64_t ticket, int error)
{
    Wp__SubmitReply reply = WP__SUBMIT_REPLY__INIT;
    reply.ticket = ticket;
    reply.error = error;
    reply.accepted_ms = 1700000000000u;
    router_send(router, WP_LINK_CONTROL, WP_FRAME_SUBMIT_REPLY, &reply.base);
}

void rig_answer(struct rig_router *router, uint32_t index, int error)
{
    submit_answer(router, router->tickets[index], error);
}

static void submit_take(struct rig_router *router, const Wp__Submit *submit)
{
    Wp__Envelope *envelope = wp__envelope__unpack(NULL, submit->envelope.len, submit->envelope.data);
    assert_non_null(envelope);
    assert_int_equal(wp_envelope_check(envelope), WP_OK);
    assert_int_equal(
        submit->shard, wp_shard_of(router->rig->router.hash_key, RIG_SHARDS, envelope->header->recipient));
    WP_ASSERT(router->submit_count < RIG_LOG_MAX);
    router->tickets[router->submit_count] = submit->ticket;
    struct rig_submit *row = &router->submits[router->submit_count++];
    memset(row, 0, sizeof *row);
    strcpy(row->user, submit->user);
    strcpy(row->device, submit->device);
    strcpy(row->recipient, envelope->header->recipient);
    row->epoch = submit->epoch;
    row->sequence = submit->sequence;
    memcpy(row->id, envelope->header->message_id.data, 16);
    row->lane = envelope->header->lane;
    row->ttl_ms = envelope->header->ttl_ms;
    row->body_size = envelope->body.len;
    row->body_first = envelope->body.len ? envelope->body.data[0] : 0;
    row->gateway_made_id = envelope->header->gateway_made_id;
    if (!router->silent) {
        int error = router->answer                          ? router->answer
                    : strcmp(row->recipient, "nobody") == 0 ? WP_E_UNKNOWN_RECIPIENT
                    : strcmp(row->recipient, "full") == 0   ? WP_E_MAILBOX_FULL
                                                            : WP_OK;
        submit_answer(router, submit->ticket, error);
        if (router->deliver && error == WP_OK) {
            rig_deliver(router->rig, row->recipient, row->lane, (const char *)envelope->body.data,
                envelope->body.len, false);
        }
    }
    wp__envelope__free_unpacked(envelope, NULL);
}

static void lease_take(struct rig_router *router, const Wp__Lease *lease)
{
    Wp__LeaseReply reply = WP__LEASE_REPLY__INIT;
    uint32_t shards[RIG_SHARDS];
    router->lease_count++;
    router->lease_stamp_ms = lease->stamp_ms;
    reply.stamp_ms = lease->stamp_ms;
    reply.shards = shards;
    reply.time_ms = router->leader_ms;
    for (uint32_t i = 0; i < RIG_SHARDS && !router->no_lease; i++) {
        if (router->terms[i] > 0) {
            shards[reply.n_shards++] = i + 1;
        }
    }
    router_send(router, WP_LINK_CONTROL, WP_FRAME_LEASE_REPLY, &reply.base);
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    static const ProtobufCMessageDescriptor *const descriptors[] = {
        [WP_FRAME_ATTACH] = &wp__attach__descriptor,
        [WP_FRAME_DETACH] = &wp__detach__descriptor,
        [WP_FRAME_SUBSCRIBE] = &wp__subscribe__descriptor,
        [WP_FRAME_SUBMIT] = &wp__submit__descriptor,
        [WP_FRAME_ACK] = &wp__ack__descriptor,
        [WP_FRAME_LEASE] = &wp__lease__descriptor};
    struct rig_router *router = context;
    assert_true(type < sizeof descriptors / sizeof descriptors[0] && descriptors[type]);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptors[type], NULL, payload.size, payload.data);
    assert_non_null(message);
    if (type == WP_FRAME_SUBMIT) {
        router->held_credit += payload.size + WP_RECORD_HEAD_SIZE;
        if (!router->hold_credit) {
            wp_link_credit_return(link, router->held_credit);
            router->held_credit = 0;
        }
        submit_take(router, (Wp__Submit *)message);
    } else if (type == WP_FRAME_ATTACH) {
        if (router->hold_attach) {
            router->hold_attach = false;
            router->attach_count++;
            router->held_attach = (Wp__Attach *)message;
            return;
        }
        attach_take(router, (Wp__Attach *)message);
    } else if (type == WP_FRAME_DETACH) {
        const Wp__Detach *detach = (Wp__Detach *)message;
        router->detach_count++;
        for (unsigned i = 0; i < 64; i++) {
            struct rig_attached *row = &router->attached[i];
            row->used = row->used && row->session != detach->session;
        }
    } else if (type == WP_FRAME_SUBSCRIBE) {
        const Wp__Subscribe *subscribe = (Wp__Subscribe *)message;
        Wp__SubscribeReply reply = WP__SUBSCRIBE_REPLY__INIT;
        reply.session = subscribe->session;
        reply.request = subscribe->request;
        router->subscribe_count++;
        for (unsigned i = 0; i < 64; i++) {
            if (router->attached[i].session == subscribe->session) {
                router->attached[i].inbox = subscribe->inbox;
            }
        }
        router_send(router, WP_LINK_CONTROL, WP_FRAME_SUBSCRIBE_REPLY, &reply.base);
    } else if (type == WP_FRAME_LEASE) {
        lease_take(router, (Wp__Lease *)message);
    } else {
        const Wp__Ack *ack = (Wp__Ack *)message;
        for (size_t i = 0; i < ack->n_positions; i++) {
            for (size_t j = 0; j < ack->positions[i]->n_sequence; j++) {
                router->acked[router->acked_count++ % RIG_LOG_MAX] = ack->positions[i]->sequence[j];
            }
        }
        for (size_t i = 0; i < ack->n_skipped; i++) {
            for (size_t j = 0; j < ack->skipped[i]->n_sequence; j++) {
                router->skipped[router->skipped_count++ % RIG_LOG_MAX] = ack->skipped[i]->sequence[j];
            }
        }
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

static void on_nothing(void *context)
{
    (void)context;
}

static void on_writable(void *context, struct wp_link *link)
{
    (void)context;
    (void)link;
}

/* To a session of `user`, from its own device. */
static void deliver_send(
    struct rig_router *router, Wp__Deliver *deliver, const char *user, const char *body, size_t body_size)
{
    uint8_t id[16] = {1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16};
    uint8_t packed[2u * 1024 * 1024];
    Wp__Header header = WP__HEADER__INIT;
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){16, id};
    header.sender = (char *)(uintptr_t) "anna";
    header.sender_device = (char *)(uintptr_t) "phone";
    header.recipient = (char *)(uintptr_t)user;
    header.lane = deliver->lane;
    envelope.header = &header;
    envelope.body = (ProtobufCBinaryData){body_size, (uint8_t *)(uintptr_t)body};
    deliver->accepted_ms = 1700000000000u;
    deliver->expires_ms = router->expires_ms;
    deliver->remaining_ms = router->remaining_ms ? router->remaining_ms : 59500;
    deliver->envelope = (ProtobufCBinaryData){wp__envelope__pack(&envelope, packed), packed};
    router_send(router, (enum wp_link_lane)deliver->lane, WP_FRAME_DELIVER, &deliver->base);
}

uint64_t rig_deliver(
    struct rig *rig, const char *user, Wp__Lane lane, const char *body, size_t body_size, bool dup)
{
    struct rig_attached *row = attached_find(&rig->router, user, NULL);
    if (!row) {
        return 0;
    }
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.session = row->session;
    deliver.lane = lane;
    deliver.sequence = ++rig->router.next_position;
    deliver.dup = dup;
    deliver_send(&rig->router, &deliver, row->user, body, body_size);
    return deliver.sequence;
}

uint64_t rig_deliver_many(struct rig *rig, const char *const *users, size_t count, const char *body)
{
    uint8_t id[16] = {1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16};
    uint8_t packed[4096];
    Wp__Header header = WP__HEADER__INIT;
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){16, id};
    header.sender = (char *)(uintptr_t) "anna";
    header.sender_device = (char *)(uintptr_t) "phone";
    header.recipient = (char *)(uintptr_t) "icu";
    header.to_team = true;
    envelope.header = &header;
    envelope.body = (ProtobufCBinaryData){strlen(body), (uint8_t *)(uintptr_t)body};
    Wp__DeliverTarget targets[8];
    Wp__DeliverTarget *pointers[8];
    Wp__DeliverMany many = WP__DELIVER_MANY__INIT;
    uint64_t position = ++rig->router.next_position;
    for (size_t i = 0; i <= count; i++) {
        struct rig_attached *row = i < count ? attached_find(&rig->router, users[i], NULL) : NULL;
        wp__deliver_target__init(&targets[i]);
        targets[i].session = row ? row->session : 999999;
        targets[i].sequence = position;
        pointers[i] = &targets[i];
    }
    many.targets = pointers;
    many.n_targets = count + 1;
    many.accepted_ms = 1700000000000u;
    many.expires_ms = rig->router.expires_ms;
    many.remaining_ms = 59500;
    many.envelope = (ProtobufCBinaryData){wp__envelope__pack(&envelope, packed), packed};
    router_send(&rig->router, WP_LINK_ROUTINE, WP_FRAME_DELIVER_MANY, &many.base);
    return position;
}

void rig_deliver_receipt(struct rig *rig, const char *user, const char *person)
{
    uint8_t id[16] = {1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16};
    uint8_t packed[256];
    Wp__Receipt receipt = WP__RECEIPT__INIT;
    receipt.message_id = (ProtobufCBinaryData){16, id};
    receipt.person = (char *)(uintptr_t)person;
    receipt.state = WP__RECEIPT_STATE__DELIVERED;
    receipt.time_ms = 1700000000000u;
    Wp__Deliver deliver = WP__DELIVER__INIT;
    struct rig_attached *row = attached_find(&rig->router, user, NULL);
    deliver.session = row ? row->session : 0;
    deliver.lane = WP__LANE__RECEIPT;
    deliver.sequence = ++rig->router.next_position;
    deliver.envelope = (ProtobufCBinaryData){wp__receipt__pack(&receipt, packed), packed};
    router_send(&rig->router, WP_LINK_ROUTINE, WP_FRAME_DELIVER, &deliver.base);
}

void rig_deliver_from(struct rig_router *router, uint64_t session, uint64_t position, const char *body)
{
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.session = session;
    deliver.lane = WP__LANE__STAT;
    deliver.sequence = position;
    deliver_send(router, &deliver, "anna", body, strlen(body));
}

void rig_kick(struct rig *rig, const char *user, int error)
{
    struct rig_attached *row = attached_find(&rig->router, user, NULL);
    assert_non_null(row);
    kick_send(&rig->router, row->session, error);
}

void rig_attach_release(struct rig *rig)
{
    attach_take(&rig->router, rig->router.held_attach);
    wp__attach__free_unpacked(rig->router.held_attach, NULL);
    rig->router.held_attach = NULL;
}

void rig_credit_release(struct rig *rig)
{
    wp_link_credit_return(rig->router.link, rig->router.held_credit);
    rig->router.held_credit = 0;
}

static void router_start(struct rig_router *router)
{
    static uint64_t incarnation;
    struct rig *rig = router->rig;
    const struct wp_fabric_config config = {.loop = &rig->loop,
        .zmq_context = rig->zmq,
        .zap = rig->zap,
        .node = router->name,
        .role = WP__ROLE__ROLE_ROUTER,
        .cluster_id = CLUSTER,
        .incarnation = ++incarnation,
        .keys = &router->keys};
    const struct wp_fabric_callbacks callbacks = {router, on_up, on_down, on_frame, on_nothing, on_writable};
    assert_int_equal(wp_fabric_create(&config, &callbacks, &router->fabric), WP_OK);
    const char *wanted = router->endpoint[0] ? router->endpoint : "tcp://127.0.0.1:*";
    char bound[64];
    uint64_t start = rig_now_ms();
    while (wp_fabric_listen(router->fabric, wanted, bound, sizeof bound) != WP_OK) {
        rig_turn(rig, start, "the router's port", __FILE__,
            __LINE__); /* libzmq closes the old socket on its own thread */
    }
    memcpy(router->endpoint, bound, sizeof bound);
}

static void router_stop(struct rig_router *router)
{
    router->link = NULL;
    memset(router->attached, 0, sizeof router->attached);
    wp_fabric_destroy(&router->fabric);
}

void rig_router_start(struct rig *rig)
{
    router_start(&rig->router);
}

void rig_router_stop(struct rig *rig)
{
    router_stop(&rig->router);
}

void rig_other_start(struct rig *rig)
{
    router_start(&rig->other);
}

void rig_other_stop(struct rig *rig)
{
    router_stop(&rig->other);
}

/* --- the gateway
 * -------------------------------------------------------------------------------------------- */

static void on_wake(uv_timer_t *timer)
{
    (void)timer;
}

static void peer_fill(struct wp_config_peer *peer, struct rig_router *router)
{
    *peer = (struct wp_config_peer){.node = (char *)(uintptr_t)router->name,
        .endpoint = router->endpoint,
        .key = router->keys.public_text};
}

static void keys_make(struct wp_keypair *keys, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "rig-%d-%s.key", (int)getpid(), name);
    (void)unlink(path);
    assert_int_equal(wp_keypair_generate(path, keys), WP_OK);
    (void)unlink(path);
}

static void policy_default(struct wp_session_policy *policy)
{
    policy->receive_maximum = policy->receive_maximum ? policy->receive_maximum : 64;
    policy->window = policy->window ? policy->window : 64;
    policy->body_bytes_max = policy->body_bytes_max ? policy->body_bytes_max : 1024 * 1024;
    policy->packet_bytes_max = policy->body_bytes_max + 64 * 1024;
    policy->connect_timeout_ms = policy->connect_timeout_ms ? policy->connect_timeout_ms : 5000;
}

static void edge_start(struct rig *rig, const struct rig_options *options)
{
    struct wp_edge_config config = {.loop = &rig->loop,
        .listen = {[WP_EDGE_MQTT] = "127.0.0.1:0", [WP_EDGE_WS] = "127.0.0.1:0"},
        .connections_per_address_max = options->connections_per_address_max};
    if (options->tls) {
        snprintf(rig->certificate, sizeof rig->certificate, "rig-%d-certificate.pem", (int)getpid());
        snprintf(rig->key, sizeof rig->key, "rig-%d-key.pem", (int)getpid());
        certificate_make(rig->certificate, rig->key, "first");
        config.certificate = rig->certificate;
        config.key = rig->key;
        config.listen[WP_EDGE_MQTTS] = "127.0.0.1:0";
        config.listen[WP_EDGE_WSS] = "127.0.0.1:0";
    }
    assert_int_equal(wp_edge_create(&config, &rig->edge), WP_OK);
}

struct rig *rig_create(const struct rig_options *options)
{
    struct rig *rig = calloc(1, sizeof *rig);
    char text[256] = "";
    assert_non_null(rig);
    assert_true(sodium_init() >= 0);
    uv_loop_init(&rig->loop);
    uv_timer_init(&rig->loop, &rig->wake);
    uv_timer_start(&rig->wake, on_wake, 5, 5);
    assert_int_equal(wp_fabric_context_create(&rig->zmq), WP_OK);
    assert_int_equal(wp_zap_create(rig->zmq, &rig->zap), WP_OK);
    keys_make(&rig->gateway_keys, "gateway");
    keys_make(&rig->router.keys, "router");
    keys_make(&rig->other.keys, "other");
    rig->router.rig = rig->other.rig = rig;
    rig->router.name = "router-1";
    rig->other.name = "router-2";
    for (uint32_t i = 0; i < RIG_SHARDS; i++) {
        rig->router.terms[i] = 1;
    }
    randombytes_buf(rig->router.hash_key, sizeof rig->router.hash_key);
    assert_int_equal(
        wp_zap_allow(rig->zap, rig->gateway_keys.public_text, "gateway-1", WP__ROLE__ROLE_GATEWAY), WP_OK);
    rig_router_start(rig);
    if (options->two) {
        rig_other_start(rig);
    }
    if (options->no_router) {
        rig_router_stop(rig);
    }
    edge_start(rig, options);
    peer_fill(&rig->peers[0], &rig->router);
    peer_fill(&rig->peers[1], &rig->other);
    struct wp_gateway_setup setup = {.policy = options->policy,
        .routing = {.fabric = {.loop = &rig->loop,
                        .zmq_context = rig->zmq,
                        .node = "gateway-1",
                        .role = WP__ROLE__ROLE_GATEWAY,
                        .cluster_id = CLUSTER,
                        .incarnation = 1,
                        .keys = &rig->gateway_keys},
            .routers = rig->peers,
            .router_count = options->two ? 2 : 1},
        .connections_max = options->connections_max ? options->connections_max : 1000,
        .context = rig->edge,
        .output = wp_edge_output,
        .resume = wp_edge_resume};
    policy_default(&setup.policy);
    assert_int_equal(wp_gateway_create(&setup, &rig->gateway), WP_OK);
    assert_int_equal(wp_edge_start(rig->edge, rig->gateway, text, sizeof text), WP_OK);
    char why[256];
    RIG_UNTIL(rig, options->no_router || wp_routing_ready(wp_gateway_routing(rig->gateway), why, sizeof why));
    return rig;
}

void rig_destroy(struct rig **rig)
{
    struct rig *taken = *rig;
    wp_edge_drop(taken->edge);
    wp_gateway_destroy(&taken->gateway);
    if (taken->router.fabric) {
        wp_fabric_destroy(&taken->router.fabric);
    }
    if (taken->other.fabric) {
        wp_fabric_destroy(&taken->other.fabric);
    }
    uv_close((uv_handle_t *)&taken->wake, NULL);
    while (uv_run(&taken->loop, UV_RUN_DEFAULT)) {
    }
    wp_edge_destroy(&taken->edge);
    assert_int_equal(uv_loop_close(&taken->loop), 0);
    wp_zap_destroy(&taken->zap);
    wp_fabric_context_destroy(&taken->zmq);
    if (taken->certificate[0]) {
        (void)unlink(taken->certificate);
        (void)unlink(taken->key);
    }
    free(taken);
    *rig = NULL;
}

void rig_turn(struct rig *rig, uint64_t start_ms, const char *what, const char *file, int line)
{
    if (rig_now_ms() - start_ms > PATIENCE_MS) {
        print_error("waited too long for: %s\n", what);
        _fail(file, line);
    }
    uv_run(&rig->loop, UV_RUN_ONCE);
}

void rig_pass(struct rig *rig, uint64_t ms)
{
    for (uint64_t start = rig_now_ms(); rig_now_ms() - start < ms;) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
}

/* --- clients
 * ------------------------------------------------------------------------------------------------ */

struct rig_client *rig_client_open(struct rig *rig, enum wp_edge_kind kind, enum wp_mqtt_version version)
{
    struct rig_client *client = calloc(1, sizeof *client);
    const char *address = wp_edge_address(rig->edge, kind);
    struct sockaddr_in to = {.sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    assert_non_null(client);
    client->rig = rig;
    client->version = version;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(client->fd, F_SETFL, O_NONBLOCK), 0);
    return client;
}

void rig_client_close(struct rig_client **client)
{
    (void)close((*client)->fd);
    wp_buffer_free(&(*client)->in);
    free(*client);
    *client = NULL;
}

void rig_client_write(struct rig_client *client, const void *data, size_t size)
{
    const uint8_t *rest = data;
    for (uint64_t start = rig_now_ms(); size > 0;) {
        ssize_t written = send(client->fd, rest, size, MSG_NOSIGNAL);
        if (written < 0 && errno != EAGAIN) {
            client->reset = true; /* the gateway closed: the test sees that when it reads */
            return;
        }
        rest += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
        rig_turn(client->rig, start, "room in a socket", __FILE__, __LINE__);
    }
}

void rig_client_send(struct rig_client *client, const struct wp_mqtt_packet *packet)
{
    struct wp_buffer bytes = WP_BUFFER_INIT;
    enum wp_mqtt_version version =
        packet->type == WP_MQTT_CONNECT ? packet->connect.version : client->version;
    assert_int_equal(wp_mqtt_encode(packet, version, &bytes), WP_OK);
    rig_client_write(client, bytes.data, bytes.size);
    wp_buffer_free(&bytes);
}

void rig_client_read(struct rig_client *client)
{
    uint8_t bytes[65536];
    ssize_t got;
    while ((got = recv(client->fd, bytes, sizeof bytes, 0)) > 0) {
        assert_int_equal(wp_buffer_append(&client->in, bytes, (size_t)got), WP_OK);
    }
    client->closed = client->closed || got == 0 || errno != EAGAIN;
    client->reset = client->reset || (got < 0 && errno != EAGAIN);
}

static bool packet_there(struct rig_client *client, uint32_t *ret_size)
{
    rig_client_read(client);
    return wp_mqtt_frame(wp_slice(client->in.data, client->in.size), UINT32_MAX, ret_size) == 1;
}

struct wp_mqtt_packet rig_client_expect(struct rig_client *client, enum wp_mqtt_type type)
{
    static uint8_t bytes[4u * 1024 * 1024];
    static struct wp_arena arena;
    struct wp_mqtt_packet packet;
    uint32_t size;
    uint8_t code;
    RIG_UNTIL(client->rig, packet_there(client, &size) || client->closed);
    if (!packet_there(client, &size)) {
        print_error("the gateway closed instead of sending a packet of type %d\n", type);
        fail();
    }
    wp_arena_fini(&arena);
    wp_arena_init(&arena, 1024 * 1024);
    assert_true(size <= sizeof bytes);
    memcpy(bytes, client->in.data, size);
    wp_buffer_consume(&client->in, size);
    assert_int_equal(wp_mqtt_decode(wp_slice(bytes, size), client->version, &arena, &packet, &code), WP_OK);
    assert_int_equal(packet.type, type);
    return packet;
}

static bool client_is_closed(struct rig_client *client)
{
    rig_client_read(client);
    return client->closed;
}

void rig_client_expect_closed(struct rig_client *client)
{
    RIG_UNTIL(client->rig, client_is_closed(client));
    assert_int_equal(client->in.size, 0);
}

static struct wp_slice slice_of(const char *text)
{
    return wp_slice(text, strlen(text));
}

struct wp_mqtt_packet rig_connect_packet(
    enum wp_mqtt_version version, const char *username, const char *password)
{
    return (struct wp_mqtt_packet){.type = WP_MQTT_CONNECT,
        .connect = {.version = version,
            .clean_start = true,
            .client_id = slice_of("test"),
            .has_username = true,
            .has_password = true,
            .username = slice_of(username),
            .password = slice_of(password)}};
}

struct wp_mqtt_packet rig_publish_packet(const char *topic, uint16_t id, const char *body)
{
    return (struct wp_mqtt_packet){.type = WP_MQTT_PUBLISH,
        .publish = {.qos = 1, .topic = slice_of(topic), .id = id, .payload = slice_of(body)}};
}

struct wp_mqtt_packet rig_subscribe_packet(uint16_t id, const char *filter, uint8_t qos)
{
    static struct wp_mqtt_subscription item;
    item = (struct wp_mqtt_subscription){.filter = slice_of(filter), .qos = qos};
    return (struct wp_mqtt_packet){
        .type = WP_MQTT_SUBSCRIBE, .subscribe = {.id = id, .items = &item, .count = 1}};
}

struct rig_client *rig_client_attach(struct rig *rig, enum wp_mqtt_version version, const char *username)
{
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, version);
    struct wp_mqtt_packet connect = rig_connect_packet(version, username, "secret");
    rig_client_send(client, &connect);
    struct wp_mqtt_packet answer = rig_client_expect(client, WP_MQTT_CONNACK);
    assert_int_equal(answer.connack.code, 0);
    return client;
}
