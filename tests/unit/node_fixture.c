#include "tests/unit/node_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/error.h"

#define PATIENCE_MS 10000

static void on_up(void *context, struct wp_link *link)
{
    struct fixture_end *end = context;
    end->up_count++;
    end->link = link;
}

static void on_down(void *context, struct wp_link *link, int error)
{
    struct fixture_end *end = context;
    end->down_count++;
    end->down_error = error;
    if (end->link == link && wp_link_endpoint(link)[0] == '\0') {
        end->link = NULL;
    }
}

static void number_read(struct fixture_frame *frame, struct wp_slice payload)
{
    if (frame->type == WP_FRAME_SUBMIT) {
        Wp__Submit *submit = wp__submit__unpack(NULL, payload.size, payload.data);
        assert_non_null(submit);
        frame->number = submit->ticket;
        wp__submit__free_unpacked(submit, NULL);
    } else if (frame->type == WP_FRAME_DELIVER) {
        Wp__Deliver *deliver = wp__deliver__unpack(NULL, payload.size, payload.data);
        assert_non_null(deliver);
        frame->number = deliver->sequence;
        frame->lane = deliver->lane;
        wp__deliver__free_unpacked(deliver, NULL);
    }
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    struct fixture_end *end = context;
    assert_true(end->frame_count < FIXTURE_FRAMES_MAX);
    struct fixture_frame *frame = &end->frames[end->frame_count++];
    *frame = (struct fixture_frame){.type = type, .size = payload.size};
    number_read(frame, payload);
    if (end->return_credit && (type == WP_FRAME_SUBMIT || type == WP_FRAME_DELIVER)) {
        wp_link_credit_return(link, payload.size + WP_RECORD_HEAD_SIZE);
    }
}

static void on_turn(void *context)
{
    struct fixture_end *end = context;
    end->turn_count++;
}

static void on_writable(void *context, struct wp_link *link)
{
    struct fixture_end *end = context;
    assert_true(wp_link_up(link));
    end->writable_count++;
}

struct fixture_end *fixture_end_create(struct fixture *fixture, const struct fixture_options *options)
{
    struct fixture_end *end = calloc(1, sizeof *end);
    assert_non_null(end);
    end->fixture = fixture;
    snprintf(end->node, sizeof end->node, "%s", options->node);
    if (options->keys) {
        end->keys = *options->keys;
    } else {
        assert_int_equal(zmq_curve_keypair(end->keys.public_text, end->keys.secret_text), 0);
    }
    if (!options->denied) {
        assert_int_equal(wp_zap_allow(fixture->zap, end->keys.public_text, end->node, options->role), WP_OK);
    }
    struct wp_fabric_config config = {.loop = &fixture->loop,
        .zmq_context = fixture->zmq,
        .zap = fixture->zap,
        .node = end->node,
        .role = options->role,
        .cluster_id = options->cluster_id ? options->cluster_id : FIXTURE_CLUSTER,
        .incarnation = options->incarnation ? options->incarnation : 1,
        .keys = &end->keys,
        .window_bytes = options->window_bytes};
    struct wp_fabric_callbacks callbacks = {end, on_up, on_down, on_frame, on_turn, on_writable};
    assert_int_equal(wp_fabric_create(&config, &callbacks, &end->fabric), WP_OK);
    return end;
}

void fixture_end_connect(struct fixture_end *end)
{
    struct fixture *fixture = end->fixture;
    assert_int_equal(
        wp_fabric_connect(end->fabric, fixture->endpoint, fixture->router->keys.public_text, &end->link),
        WP_OK);
    assert_non_null(end->link);
}

void fixture_end_destroy(struct fixture_end **end)
{
    struct fixture_end *taken = *end;
    *end = NULL;
    wp_fabric_destroy(&taken->fabric);
    uv_run(&taken->fixture->loop, UV_RUN_NOWAIT);
    free(taken);
}

struct fixture_end *fixture_gateway(struct fixture *fixture)
{
    unsigned up_before = fixture->router->up_count;
    struct fixture_end *gateway = fixture_end_create(
        fixture, &(struct fixture_options){.node = "gateway-1", .role = WP__ROLE__ROLE_GATEWAY});
    fixture_end_connect(gateway);
    FIXTURE_UNTIL(fixture, wp_link_up(gateway->link) && fixture->router->up_count > up_before);
    return gateway;
}

void fixture_router_start(struct fixture *fixture, uint64_t incarnation, uint64_t window_bytes)
{
    struct wp_keypair keys = fixture->router->keys;
    struct fixture_end *old = fixture->router;
    fixture->router = fixture_end_create(fixture, &(struct fixture_options){.node = "router-1",
                                                      .role = WP__ROLE__ROLE_ROUTER,
                                                      .incarnation = incarnation,
                                                      .window_bytes = window_bytes,
                                                      .keys = &keys});
    free(old);
    fixture_begin(fixture);
    while (wp_fabric_listen(fixture->router->fabric, fixture->endpoint, NULL, 0) != WP_OK) {
        fixture_step(fixture); /* libzmq closes the old socket on its own thread */
    }
}

void fixture_router_stop(struct fixture *fixture)
{
    wp_fabric_destroy(&fixture->router->fabric);
}

struct fixture *fixture_create(void)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    uv_timer_init(&fixture->loop, &fixture->guard);
    assert_int_equal(wp_fabric_context_create(&fixture->zmq), WP_OK);
    assert_int_equal(wp_zap_create(fixture->zmq, &fixture->zap), WP_OK);
    fixture->router = fixture_end_create(
        fixture, &(struct fixture_options){.node = "router-1", .role = WP__ROLE__ROLE_ROUTER});
    assert_int_equal(wp_fabric_listen(fixture->router->fabric, "tcp://127.0.0.1:*", fixture->endpoint,
                         sizeof fixture->endpoint),
        WP_OK);
    return fixture;
}

void fixture_destroy(struct fixture **fixture)
{
    struct fixture *taken = *fixture;
    *fixture = NULL;
    fixture_end_destroy(&taken->router);
    uv_close((uv_handle_t *)&taken->guard, NULL);
    assert_int_equal(uv_run(&taken->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&taken->loop), 0);
    wp_zap_destroy(&taken->zap);
    wp_fabric_context_destroy(&taken->zmq);
    free(taken);
}

int fixture_submit(struct fixture_end *gateway, enum wp_link_lane lane, uint64_t ticket, size_t size)
{
    static uint8_t body[WP_FRAME_SIZE_MAX + 1];
    char user[] = "alice", device[] = "phone";
    Wp__Submit submit = WP__SUBMIT__INIT;
    submit.ticket = ticket;
    submit.user = user;
    submit.device = device;
    submit.envelope.data = body;
    submit.envelope.len = size;
    return wp_link_send(gateway->link, lane, WP_FRAME_SUBMIT, &submit.base);
}

int fixture_deliver(struct fixture_end *router, enum wp_link_lane lane, uint64_t sequence, size_t size)
{
    static uint8_t body[WP_FRAME_SIZE_MAX + 1];
    Wp__Deliver deliver = WP__DELIVER__INIT;
    deliver.sequence = sequence;
    deliver.lane = (Wp__Lane)lane;
    deliver.envelope.data = body;
    deliver.envelope.len = size;
    return wp_link_send(router->link, lane, WP_FRAME_DELIVER, &deliver.base);
}

static void guard_run(uv_timer_t *timer)
{
    (void)timer;
}

void fixture_begin(struct fixture *fixture)
{
    fixture->deadline_ms = wp_clock_boot_ms() + PATIENCE_MS;
    uv_timer_start(&fixture->guard, guard_run, 20, 20);
}

void fixture_step(struct fixture *fixture)
{
    uv_run(&fixture->loop, UV_RUN_ONCE);
    if (wp_clock_boot_ms() > fixture->deadline_ms) {
        fail_msg("the condition did not come true within %d ms", PATIENCE_MS);
    }
}

#define RAW_INCARNATION 5

struct raw_peer *raw_peer_create(struct fixture *fixture)
{
    struct raw_peer *peer = calloc(1, sizeof *peer);
    assert_non_null(peer);
    peer->fixture = fixture;
    peer->nonce = 77;
    assert_int_equal(zmq_curve_keypair(peer->keys.public_text, peer->keys.secret_text), 0);
    assert_int_equal(
        wp_zap_allow(fixture->zap, peer->keys.public_text, "gateway-9", WP__ROLE__ROLE_GATEWAY), WP_OK);
    peer->socket = zmq_socket(fixture->zmq, ZMQ_DEALER);
    int linger = 0;
    zmq_setsockopt(peer->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(peer->socket, ZMQ_CURVE_SECRETKEY, peer->keys.secret_text, WP_KEY_TEXT_SIZE);
    zmq_setsockopt(peer->socket, ZMQ_CURVE_PUBLICKEY, peer->keys.public_text, WP_KEY_TEXT_SIZE);
    zmq_setsockopt(peer->socket, ZMQ_CURVE_SERVERKEY, fixture->router->keys.public_text, WP_KEY_TEXT_SIZE);
    assert_int_equal(zmq_connect(peer->socket, fixture->endpoint), 0);
    return peer;
}

void raw_peer_destroy(struct raw_peer **peer)
{
    zmq_close((*peer)->socket);
    wp_buffer_free(&(*peer)->batch);
    free(*peer);
    *peer = NULL;
}

void raw_begin_as(struct raw_peer *peer, uint64_t cluster_id, uint64_t source, uint64_t destination)
{
    peer->batch.size = 0;
    struct wp_fabric_head head = {cluster_id, source, destination};
    assert_int_equal(wp_fabric_head_encode(&head, &peer->batch), WP_OK);
}

void raw_begin(struct raw_peer *peer)
{
    raw_begin_as(peer, FIXTURE_CLUSTER, RAW_INCARNATION, 1);
}

void raw_record(struct raw_peer *peer, unsigned type, const ProtobufCMessage *message)
{
    assert_int_equal(wp_schema_append(&peer->batch, (uint8_t)type, message), WP_OK);
}

void raw_hello(struct raw_peer *peer, const char *node, Wp__Role role)
{
    char name[80];
    snprintf(name, sizeof name, "%s", node);
    Wp__Hello hello = WP__HELLO__INIT;
    hello.protocol = 1;
    hello.cluster_id = FIXTURE_CLUSTER;
    hello.node = name;
    hello.role = role;
    hello.incarnation = RAW_INCARNATION;
    hello.nonce = peer->nonce;
    hello.window_bytes = 1 << 20;
    hello.level_min = WP_FEATURE_LEVEL_MIN;
    hello.level_max = WP_FEATURE_LEVEL_MAX;
    raw_record(peer, WP_FRAME_HELLO, &hello.base);
}

void raw_chunk(
    struct raw_peer *peer, uint64_t id, unsigned type, uint64_t total, uint64_t offset, size_t size)
{
    static uint8_t data[WP_CHUNK_SIZE_MAX];
    assert_true(size <= sizeof data);
    Wp__Chunk chunk = WP__CHUNK__INIT;
    chunk.id = id;
    chunk.type = type;
    chunk.total_bytes = total;
    chunk.offset = offset;
    chunk.data.data = data;
    chunk.data.len = size;
    raw_record(peer, WP_FRAME_CHUNK, &chunk.base);
}

void raw_send(struct raw_peer *peer)
{
    assert_int_equal(zmq_send(peer->socket, peer->batch.data, peer->batch.size, 0), peer->batch.size);
}

void raw_greet(struct raw_peer *peer)
{
    raw_begin(peer);
    raw_hello(peer, "gateway-9", WP__ROLE__ROLE_GATEWAY);
    raw_send(peer);
    FIXTURE_UNTIL(peer->fixture, raw_poll(peer) > 0 && peer->fixture->router->link);
}

unsigned raw_poll(struct raw_peer *peer)
{
    static uint8_t data[WP_BATCH_SIZE_MAX];
    int size;
    while ((size = zmq_recv(peer->socket, data, sizeof data, ZMQ_DONTWAIT)) >= 0) {
        struct wp_fabric_head head;
        struct wp_record_reader reader;
        uint8_t type;
        struct wp_slice payload;
        assert_int_equal(wp_fabric_batch_open(wp_slice(data, (size_t)size), &head, &reader), WP_OK);
        while (wp_record_next(&reader, &type, &payload) == 1) {
            peer->received_count += type == WP_FRAME_HELLO;
            peer->credit_came = peer->credit_came || type == WP_FRAME_CREDIT;
            peer->frame_came = peer->frame_came || (type != WP_FRAME_HELLO && type != WP_FRAME_CREDIT);
        }
    }
    return peer->received_count;
}
