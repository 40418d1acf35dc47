/* Links over real sockets: who gets in, what arrives in which order, what credit and lanes do, and what
 * happens when a peer goes away. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "tests/unit/node_fixture.h"

static void test_hello_brings_both_sides_up(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_string_equal(wp_link_node(gateway->link), "router-1");
    assert_string_equal(wp_link_node(fixture->router->link), "gateway-1");
    assert_int_equal(wp_link_incarnation(gateway->link), 1);
    assert_string_equal(wp_link_endpoint(gateway->link), fixture->endpoint);
    wp_link_set_user(gateway->link, fixture);
    assert_ptr_equal(wp_link_user(gateway->link), fixture);

    fixture_end_destroy(&gateway);
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    assert_null(fixture->router->link);
    fixture_destroy(&fixture);
}

static void test_listen_needs_allow_list_and_free_address(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *other = fixture_end_create(
        fixture, &(struct fixture_options){.node = "router-2", .role = WP__ROLE__ROLE_ROUTER});
    assert_int_equal(wp_fabric_listen(other->fabric, fixture->endpoint, NULL, 0), WP_E_BUSY);
    assert_int_equal(wp_fabric_listen(other->fabric, "carrier-pigeon://1", NULL, 0), WP_E_INVALID);

    struct wp_fabric *open_door;
    struct wp_fabric_config config = {.loop = &fixture->loop,
        .zmq_context = fixture->zmq,
        .node = "router-3",
        .role = WP__ROLE__ROLE_ROUTER,
        .keys = &other->keys};
    struct wp_fabric_callbacks callbacks = {0};
    assert_int_equal(wp_fabric_create(&config, &callbacks, &open_door), WP_OK);
    assert_int_equal(wp_fabric_listen(open_door, "tcp://127.0.0.1:*", NULL, 0), WP_E_INVALID);
    struct wp_link *link;
    assert_int_equal(wp_fabric_connect(open_door, fixture->endpoint, "too short", &link), WP_E_INVALID);
    wp_fabric_destroy(&open_door);
    fixture_end_destroy(&other);
    fixture_destroy(&fixture);
}

static void test_frames_go_both_ways(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 7, 512), WP_OK);
    assert_int_equal(fixture_deliver(fixture->router, WP_LINK_URGENT, 9, 300), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1 && gateway->frame_count == 1);
    assert_int_equal(fixture->router->frames[0].type, WP_FRAME_SUBMIT);
    assert_int_equal(fixture->router->frames[0].number, 7);
    assert_int_equal(gateway->frames[0].type, WP_FRAME_DELIVER);
    assert_int_equal(gateway->frames[0].number, 9);
    assert_int_equal(fixture->router->turn_count, 1);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_key_off_the_list_is_denied_until_allowed(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_end_create(fixture,
        &(struct fixture_options){.node = "gateway-1", .role = WP__ROLE__ROLE_GATEWAY, .denied = true});
    uint64_t refused = wp_metric_get(WP_M_FABRIC_REFUSED);
    fixture_end_connect(gateway);
    FIXTURE_UNTIL(
        fixture, wp_metric_get(WP_M_FABRIC_REFUSED) >= refused + 2); /* handler and gateway saw it */
    assert_int_equal(gateway->up_count, 0);
    assert_int_equal(fixture->router->up_count, 0);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 1, 10), WP_E_CLOSED);

    assert_int_equal(
        wp_zap_allow(fixture->zap, gateway->keys.public_text, "gateway-1", WP__ROLE__ROLE_GATEWAY), WP_OK);
    FIXTURE_UNTIL(fixture, gateway->up_count == 1); /* it kept trying */
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_revoked_key_ends_the_live_link(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    struct wp_link *router_link = fixture->router->link;
    wp_zap_revoke(fixture->zap, gateway->keys.public_text);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 1, 10), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    assert_int_equal(fixture->router->down_error, WP_E_DENIED);
    assert_int_equal(fixture->router->frame_count, 0);
    assert_ptr_not_equal(router_link, fixture->router->link);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_other_cluster_is_refused_on_both_sides(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_end_create(
        fixture, &(struct fixture_options){
                     .node = "gateway-1", .role = WP__ROLE__ROLE_GATEWAY, .cluster_id = FIXTURE_CLUSTER + 1});
    uint64_t refused = wp_metric_get(WP_M_FABRIC_REFUSED);
    fixture_end_connect(gateway);
    /* The router refuses the hello and the batch it came in, the gateway the router's answer. */
    FIXTURE_UNTIL(fixture, wp_metric_get(WP_M_FABRIC_REFUSED) >= refused + 3);
    assert_int_equal(fixture->router->up_count, 0);
    assert_int_equal(gateway->up_count, 0);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_batches_are_packed(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    uint64_t messages = wp_metric_get(WP_M_FABRIC_MESSAGES), frames = wp_metric_get(WP_M_FABRIC_FRAMES);
    for (unsigned i = 1; i <= 200; i++) {
        assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, i, 200), WP_OK);
    }
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 200);
    assert_int_equal(wp_metric_get(WP_M_FABRIC_FRAMES) - frames, 200);
    assert_int_equal(wp_metric_get(WP_M_FABRIC_MESSAGES) - messages, 1); /* 200 x 230 bytes fit in 128 KiB */
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(fixture->router->frames[i].number, i + 1);
    }
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_credit_runs_out_and_comes_back(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    fixture_router_stop(fixture);
    fixture_router_start(fixture, 2, 64 * 1024);
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(wp_link_credit(gateway->link), 48 * 1024); /* the last quarter is for urgent and stat */
    unsigned sent = 0;
    while (fixture_submit(gateway, WP_LINK_ROUTINE, sent + 1, 1000) == WP_OK) {
        sent++;
        assert_true(sent < 100);
    }
    assert_in_range(sent, 44, 48);
    assert_int_equal(fixture_submit(gateway, WP_LINK_URGENT, 100, 1000), WP_OK);
    assert_int_equal(fixture_submit(gateway, WP_LINK_URGENT, 101, 9000), WP_E_FULL);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 102, 9000), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == sent + 2);
    assert_int_equal(gateway->writable_count, 0);

    wp_link_credit_return(fixture->router->link, 5000);
    FIXTURE_UNTIL(fixture, gateway->writable_count == 1);
    wp_link_credit_return(fixture->router->link, 1 << 20); /* more than is open: cut to what is */
    FIXTURE_UNTIL(fixture, wp_link_credit(gateway->link) == 48 * 1024);
    assert_int_equal(gateway->down_count, 0);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_frame_larger_than_the_window_goes_alone(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    fixture_router_stop(fixture);
    fixture_router_start(fixture, 2, 64 * 1024);
    fixture->router->return_credit = true;
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 1, 1024 * 1024), WP_OK);
    assert_int_equal(wp_link_credit(gateway->link), 0);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 2, 10), WP_E_FULL);
    FIXTURE_UNTIL(fixture, gateway->writable_count == 1);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 2, 10), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 2);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_stat_overtakes_a_chunked_frame(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 1, 1024 * 1024), WP_OK);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 2, 300), WP_OK);
    assert_int_equal(
        fixture_submit(gateway, WP_LINK_URGENT, 3, 100 * 1024), WP_OK); /* chunked at the same time */
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 3);
    const struct fixture_frame *frames = fixture->router->frames;
    assert_int_equal(frames[0].number, 2);
    assert_int_equal(frames[1].number, 3);
    assert_int_equal(frames[2].number, 1);
    assert_in_range(frames[2].size, 1024 * 1024, 1024 * 1024 + 64);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

/* The whole routine credit waits to be sent; a STAT frame sent then passes all but what is on its way
 * already. */
static void test_stat_passes_a_saturated_link(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    unsigned sent = 0;
    while (fixture_submit(gateway, WP_LINK_ROUTINE, sent + 1, 1000) == WP_OK) {
        sent++;
    }
    assert_in_range(sent, 5500, 6291); /* three quarters of 8 MiB */
    fixture_begin(fixture);
    for (unsigned i = 0; i < 3; i++) {
        fixture_step(fixture);
    }
    unsigned arrived = fixture->router->frame_count;
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 1000000, 100), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == sent + 1);
    unsigned at = 0;
    while (fixture->router->frames[at].number != 1000000) {
        at++;
    }
    assert_in_range(at - arrived, 0, 2000);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_frame_over_the_limit_is_refused(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 1, WP_FRAME_SIZE_MAX), WP_E_TOO_LARGE);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 2, WP_FRAME_SIZE_MAX - 64), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_lanes_are_weighted(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    for (unsigned i = 0; i < 600; i++) {
        for (unsigned lane = 0; lane < 3; lane++) {
            assert_int_equal(fixture_deliver(fixture->router, (enum wp_link_lane)lane, i + 1, 500), WP_OK);
        }
    }
    FIXTURE_UNTIL(fixture, gateway->frame_count == 1800);
    unsigned counts[3] = {0}, next[3] = {0};
    for (unsigned i = 0; i < 1800; i++) {
        const struct fixture_frame *frame = &gateway->frames[i];
        assert_int_equal(frame->number, ++next[frame->lane]); /* each lane in its order */
        if (i < 650) { /* all three lanes wait all the time: STAT has 600 */
            counts[frame->lane]++;
        }
    }
    assert_in_range(counts[WP__LANE__STAT], 380, 420);   /* 8/13 of 650 = 400 */
    assert_in_range(counts[WP__LANE__URGENT], 185, 215); /* 4/13 = 200 */
    assert_in_range(counts[WP__LANE__ROUTINE], 40, 60);  /* 1/13 = 50 */
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_control_leaves_first(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    Wp__Detach detach = WP__DETACH__INIT;
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 1, 500), WP_OK);
    assert_int_equal(wp_link_send(gateway->link, WP_LINK_CONTROL, WP_FRAME_DETACH, &detach.base), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 2);
    assert_int_equal(fixture->router->frames[0].type, WP_FRAME_DETACH);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_byte_cap_refuses_and_recovers(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    static uint8_t secret[60000];
    Wp__Attach attach = WP__ATTACH__INIT;
    attach.secret.data = secret;
    attach.secret.len = sizeof secret;
    unsigned sent = 0;
    int error;
    while ((error = wp_link_send(gateway->link, WP_LINK_CONTROL, WP_FRAME_ATTACH, &attach.base)) == WP_OK) {
        assert_true(++sent < 2000);
    }
    assert_int_equal(error, WP_E_FULL);
    assert_in_range(sent, 600, 800); /* 32 MiB and the window of 8 MiB */
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == sent && gateway->writable_count == 1);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_router_restart_means_down_and_up_with_new_incarnation(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 1, 4000000 / 4), WP_OK);
    fixture_router_stop(fixture);
    uint64_t stopped_ms = wp_clock_boot_ms();
    FIXTURE_UNTIL(fixture, gateway->down_count == 1);
    assert_in_range(wp_clock_boot_ms() - stopped_ms, 0, 1000); /* not after five seconds of silence */
    assert_int_equal(gateway->down_error, WP_E_CLOSED);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 2, 100), WP_E_CLOSED);
    assert_int_equal(wp_link_credit(gateway->link), 0);

    fixture_router_start(fixture, 2, 0);
    uint64_t started_ms = wp_clock_boot_ms();
    FIXTURE_UNTIL(fixture, gateway->up_count == 2 && fixture->router->up_count == 1);
    assert_in_range(wp_clock_boot_ms() - started_ms, 0, 1000);
    assert_int_equal(wp_link_incarnation(gateway->link), 2);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 3, 100), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1);
    assert_int_equal(fixture->router->frames[0].number, 3); /* nothing of before */
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_gateway_restart_replaces_its_link(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *old = fixture_gateway(fixture);
    /* A second life with a higher incarnation, while the first one's connection still stands. */
    struct fixture_end *young = fixture_end_create(fixture,
        &(struct fixture_options){
            .node = "gateway-1", .role = WP__ROLE__ROLE_GATEWAY, .incarnation = 2, .keys = &old->keys});
    fixture_end_connect(young);
    FIXTURE_UNTIL(fixture, young->up_count == 1);
    assert_int_equal(fixture->router->up_count, 2);
    assert_int_equal(fixture->router->down_count, 1);
    assert_int_equal(wp_link_incarnation(fixture->router->link), 2);
    /* The first life may not come back. */
    assert_int_equal(fixture_submit(old, WP_LINK_ROUTINE, 1, 10), WP_OK);
    FIXTURE_UNTIL(fixture, old->down_count == 1);
    assert_int_equal(fixture->router->frame_count, 0);
    fixture_end_destroy(&old);
    fixture_end_destroy(&young);
    fixture_destroy(&fixture);
}

static void test_flush_empties_the_lanes_before_destroy(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    for (unsigned i = 1; i <= 400; i++) {
        assert_int_equal(
            fixture_submit(gateway, WP_LINK_ROUTINE, i, 1000), WP_OK); /* more than two messages */
    }
    wp_fabric_flush(gateway->fabric);
    wp_fabric_destroy(&gateway->fabric);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 400);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_disconnect_drops_the_link_for_both(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 1, 100), WP_OK);
    wp_fabric_disconnect(gateway->fabric, &gateway->link);
    assert_null(gateway->link);
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    assert_int_equal(fixture->router->frame_count, 1); /* what was sent before lingers long enough */
    assert_int_equal(gateway->down_count, 0);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

int main(void)
{
    wp_log_init("test", WP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_brings_both_sides_up),
        cmocka_unit_test(test_listen_needs_allow_list_and_free_address),
        cmocka_unit_test(test_frames_go_both_ways),
        cmocka_unit_test(test_key_off_the_list_is_denied_until_allowed),
        cmocka_unit_test(test_revoked_key_ends_the_live_link),
        cmocka_unit_test(test_other_cluster_is_refused_on_both_sides),
        cmocka_unit_test(test_batches_are_packed),
        cmocka_unit_test(test_credit_runs_out_and_comes_back),
        cmocka_unit_test(test_frame_larger_than_the_window_goes_alone),
        cmocka_unit_test(test_stat_overtakes_a_chunked_frame),
        cmocka_unit_test(test_stat_passes_a_saturated_link),
        cmocka_unit_test(test_frame_over_the_limit_is_refused),
        cmocka_unit_test(test_lanes_are_weighted),
        cmocka_unit_test(test_control_leaves_first),
        cmocka_unit_test(test_byte_cap_refuses_and_recovers),
        cmocka_unit_test(test_router_restart_means_down_and_up_with_new_incarnation),
        cmocka_unit_test(test_gateway_restart_replaces_its_link),
        cmocka_unit_test(test_flush_empties_the_lanes_before_destroy),
        cmocka_unit_test(test_disconnect_drops_the_link_for_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
