/* Another router on the fabric: what it may send, and what is not taken from it. The router under test
 * belongs to a cluster of three; the test plays router-2 and never votes, so nothing is led here. */
#include "tests/unit/router_fixture.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/metric.h"
#include "cluster/message.h"
#include "proto/frame.h"

#define WAIT_US 5000000u
#define SHARD 1u

struct other {
    uv_loop_t loop;
    struct wp_fabric *fabric;
    struct wp_link *link;
    bool up;
};

static void on_up(void *context, struct wp_link *link)
{
    (void)link;
    ((struct other *)context)->up = true;
}

static void on_down(void *context, struct wp_link *link, int error)
{
    (void)link;
    (void)error;
    ((struct other *)context)->up = false;
}

static void on_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    (void)context;
    (void)link;
    (void)payload;
    fail_msg("an answer of type %d", (int)type);
}

static void on_turn(void *context)
{
    (void)context;
}

static void on_writable(void *context, struct wp_link *link)
{
    (void)context;
    (void)link;
}

static void other_up(struct other *other, struct router *router, uint64_t directory_id)
{
    *other = (struct other){0};
    assert_int_equal(uv_loop_init(&other->loop), 0);
    const struct wp_fabric_config config = {
        .loop = &other->loop,
        .zmq_context = router->zmq_context,
        .node = "router-2",
        .role = WP__ROLE__ROLE_ROUTER,
        .cluster_id = CLUSTER_ID,
        .incarnation = 1,
        .directory_id = directory_id,
        .keys = &router->peer_keys[0],
    };
    const struct wp_fabric_callbacks callbacks = {other, on_up, on_down, on_frame, on_turn, on_writable};
    assert_int_equal(wp_fabric_create(&config, &callbacks, &other->fabric), WP_OK);
    assert_int_equal(wp_fabric_connect(other->fabric, wp_reactor_endpoint(router->reactors[0]),
                         router->keys.public_text, &other->link),
        WP_OK);
    uint64_t end_us = wp_clock_mono_us() + WAIT_US;
    while (!other->up) {
        assert_true(wp_clock_mono_us() < end_us);
        uv_run(&other->loop, UV_RUN_NOWAIT);
        usleep(500);
    }
}

static void other_down(struct other *other)
{
    wp_fabric_destroy(&other->fabric);
    uv_run(&other->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&other->loop), 0);
}

static void send_rpc(struct other *other, uint32_t group, uint64_t from, uint64_t to, struct wp_slice rpc)
{
    Wp__Raft raft = WP__RAFT__INIT;
    uint8_t copy[256];
    assert_true(rpc.size <= sizeof(copy));
    memcpy(copy, rpc.data, rpc.size);
    raft.group = group;
    raft.from = from;
    raft.to = to;
    raft.rpc = (ProtobufCBinaryData){rpc.size, copy};
    assert_int_equal(wp_link_send(other->link, WP_LINK_CONTROL, WP_FRAME_RAFT, &raft.base), WP_OK);
}

/* Sends one RPC and waits until the router counted it as refused; what was sent before it was not. */
static void send_refused_by(
    struct other *other, uint32_t group, uint64_t from, uint64_t to, struct wp_slice rpc)
{
    uint64_t before = wp_metric_get(WP_M_PEER_REFUSED);
    uint64_t end_us = wp_clock_mono_us() + WAIT_US;
    send_rpc(other, group, from, to, rpc);
    while (wp_metric_get(WP_M_PEER_REFUSED) == before) {
        assert_true(wp_clock_mono_us() < end_us);
        uv_run(&other->loop, UV_RUN_NOWAIT);
        usleep(500);
    }
    assert_int_equal(wp_metric_get(WP_M_PEER_REFUSED), before + 1);
}

static void send_refused(struct other *other, uint64_t from, uint64_t to, struct wp_slice rpc)
{
    send_refused_by(other, SHARD, from, to, rpc);
}

static struct wp_bytes *append_make(void)
{
    const struct wp_rpc rpc = {
        .type = WP_RPC_APPEND, .term = 1, .append = {.previous_index = 1, .previous_term = 1}};
    struct wp_bytes *bytes = wp_rpc_encode(&rpc, NULL);
    assert_non_null(bytes);
    return bytes;
}

static void start(struct router *router, uint64_t known_directory_id)
{
    router_init(router);
    router->node_count = 3;
    router->peer_directory_id = known_directory_id;
    router_up(router);
}

static void stop(struct router *router)
{
    router_down(router);
    router_fini(router);
}

static void test_raft_frames_of_others_are_not_taken(void **state)
{
    (void)state;
    struct router router;
    struct other other;
    start(&router, 0);
    other_up(&other, &router, 7);
    struct wp_bytes *append = append_make();
    struct wp_slice rpc = wp_slice(append->data, append->size);
    uint64_t self = WP_RAFT_ID(1, 0);
    send_refused(&other, WP_RAFT_ID(3, 0), self, rpc);             /* in the name of router-3 */
    send_refused(&other, WP_RAFT_ID(2, 0), WP_RAFT_ID(1, 9), rpc); /* to a replica that is not here */
    send_refused(&other, WP_RAFT_ID(2, 0), WP_RAFT_ID(3, 0), rpc); /* to another node */
    send_refused(&other, WP_RAFT_ID(2, 0), self, wp_slice("junk", 4));
    send_refused(&other, WP_RAFT_ID(2, 0), self, wp_slice(append->data, append->size - 1));
    wp_bytes_release(&append);
    other_down(&other);
    stop(&router);
}

static void test_a_node_that_forgot_is_not_heard(void **state)
{
    (void)state;
    struct router router;
    struct other other;
    start(&router, 7); /* the roster knows router-2 with this data directory */
    other_up(&other, &router, 8);
    struct wp_bytes *append = append_make();
    send_refused(&other, WP_RAFT_ID(2, 0), WP_RAFT_ID(1, 0), wp_slice(append->data, append->size));
    wp_bytes_release(&append);
    other_down(&other);
    stop(&router);
}

/* A router that was away while another was rebuilt: from the rebuilt one as leader of the meta group it hears
 * of it, and takes nothing else from it before. */
static void test_a_rebuilt_node_is_heard_as_leader_of_the_meta_group(void **state)
{
    (void)state;
    struct router router;
    struct other other;
    start(&router, 7);
    other_up(&other, &router, 8);
    struct wp_bytes *append = append_make();
    const struct wp_rpc ask = {.type = WP_RPC_VOTE, .flags = WP_RPC_PRE_VOTE, .term = 9};
    struct wp_bytes *vote = wp_rpc_encode(&ask, NULL);
    assert_non_null(vote);
    struct wp_slice rpc = wp_slice(append->data, append->size);
    uint64_t self = WP_RAFT_ID(1, 0), old = WP_RAFT_ID(2, 0), rebuilt = WP_RAFT_ID(2, 1);
    send_rpc(&other, WP_META_GROUP, rebuilt, self, rpc);
    send_refused_by(&other, WP_META_GROUP, old, self, rpc);
    send_refused_by(&other, WP_META_GROUP, rebuilt, self, wp_slice(vote->data, vote->size));
    send_refused_by(&other, WP_META_GROUP, WP_RAFT_ID(3, 1), self, rpc);
    send_refused_by(&other, SHARD, rebuilt, self, rpc);
    wp_bytes_release(&append);
    wp_bytes_release(&vote);
    other_down(&other);
    stop(&router);
}

/* Known to have forgotten: what it founded anew from its configuration, under the old id, must not vote. */
static void test_an_old_replica_of_a_node_that_forgot_is_not_heard(void **state)
{
    (void)state;
    struct router router;
    struct other other;
    router_init(&router);
    router.node_count = 3;
    router.peer_counts_from = 1;
    router_up(&router);
    other_up(&other, &router, 7);
    const struct wp_rpc vote = {
        .type = WP_RPC_VOTE_RESULT, .flags = WP_RPC_GRANTED | WP_RPC_PRE_VOTE, .term = 2};
    struct wp_bytes *bytes = wp_rpc_encode(&vote, NULL);
    assert_non_null(bytes);
    send_refused(&other, WP_RAFT_ID(2, 0), WP_RAFT_ID(1, 0), wp_slice(bytes->data, bytes->size));
    wp_bytes_release(&bytes);
    other_down(&other);
    stop(&router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_frames_of_others_are_not_taken),
        cmocka_unit_test(test_a_node_that_forgot_is_not_heard),
        cmocka_unit_test(test_a_rebuilt_node_is_heard_as_leader_of_the_meta_group),
        cmocka_unit_test(test_an_old_replica_of_a_node_that_forgot_is_not_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
