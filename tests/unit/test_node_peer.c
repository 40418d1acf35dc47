/* Peers that are let in by their key and then misbehave: every breach is counted, none is handed up, and none
 * takes more memory than we granted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "tests/unit/node_fixture.h"

static void submit_record(struct raw_peer *peer, size_t size)
{
    static uint8_t body[WP_CHUNK_SIZE_MAX];
    Wp__Submit submit = WP__SUBMIT__INIT;
    submit.ticket = 1;
    submit.envelope.data = body;
    submit.envelope.len = size;
    raw_record(peer, WP_FRAME_SUBMIT, &submit.base);
}

static uint64_t refused(void)
{
    return wp_metric_get(WP_M_FABRIC_REFUSED);
}

static void test_good_raw_peer_is_served(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    raw_begin(peer);
    submit_record(peer, 100);
    submit_record(peer, 100);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 2);
    assert_int_equal(fixture->router->turn_count, 1);
    wp_link_credit_return(fixture->router->link, 50);
    FIXTURE_UNTIL(fixture, raw_poll(peer) == 1 && peer->credit_came);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_name_other_than_the_keys_is_refused(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    static const struct {
        const char *node;
        Wp__Role role;
    } wrong[] = {{"gateway-1", WP__ROLE__ROLE_GATEWAY}, {"gateway-9", WP__ROLE__ROLE_ROUTER},
        {"", WP__ROLE__ROLE_GATEWAY}, {"gateway-9", WP__ROLE__ROLE_NONE},
        {"../../etc", WP__ROLE__ROLE_GATEWAY}};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint64_t before = refused();
        raw_begin(peer);
        raw_hello(peer, wrong[i].node, wrong[i].role);
        raw_send(peer);
        FIXTURE_UNTIL(fixture, refused() > before);
        assert_int_equal(fixture->router->up_count, 0);
    }
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_frame_type_of_the_other_role_is_dropped(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    uint64_t before = refused();
    Wp__Deliver deliver = WP__DELIVER__INIT;
    raw_begin(peer);
    raw_record(peer, WP_FRAME_DELIVER, &deliver.base); /* only routers deliver */
    raw_record(peer, WP_FRAME_SHARD_MAP, &deliver.base);
    raw_record(peer, 200, &deliver.base);
    raw_record(peer, 0, &deliver.base);
    submit_record(peer, 10);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1);
    assert_int_equal(fixture->router->frames[0].type, WP_FRAME_SUBMIT);
    assert_int_equal(refused() - before, 4);
    assert_int_equal(fixture->router->down_count, 0);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_batches_of_other_lives_are_dropped(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    const uint64_t heads[][3] = {
        {FIXTURE_CLUSTER, 5, 2},     /* meant for another life of the router */
        {FIXTURE_CLUSTER, 5, 0},     /* for nobody */
        {FIXTURE_CLUSTER, 4, 1},     /* from another life of the peer */
        {FIXTURE_CLUSTER + 1, 5, 1}, /* from another cluster */
    };
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = refused();
        raw_begin_as(peer, heads[i][0], heads[i][1], heads[i][2]);
        submit_record(peer, 10);
        raw_send(peer);
        FIXTURE_UNTIL(fixture, refused() > before);
    }
    assert_int_equal(fixture->router->frame_count, 0);
    assert_int_equal(fixture->router->down_count, 0);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_no_batch_at_all_is_dropped(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    static const char *const noise[] = {
        "", "W", "GET / HTTP/1.1\r\n\r\n______________________________", "WP\2\0aaaaaaaabbbbbbbbcccccccc"};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = refused();
        size_t size = i == 3 ? 28 : strlen(noise[i]);
        zmq_send(peer->socket, noise[i], size, 0);
        FIXTURE_UNTIL(fixture, refused() > before);
    }
    /* Two parts where one belongs are skipped; the good batch behind them is read. */
    zmq_send(peer->socket, "a", 1, ZMQ_SNDMORE);
    zmq_send(peer->socket, "b", 1, 0);
    raw_greet(peer);
    assert_int_equal(fixture->router->up_count, 1);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_stranger_without_hello_is_told_to_begin_again(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_begin(peer);
    submit_record(peer, 10);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, raw_poll(peer) == 1);
    assert_int_equal(fixture->router->frame_count, 0);
    assert_int_equal(fixture->router->up_count, 0);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_new_nonce_means_down_then_up(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    raw_begin(peer);
    raw_hello(peer, "gateway-9", WP__ROLE__ROLE_GATEWAY); /* the same hello again says nothing new */
    submit_record(peer, 10);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1);
    assert_int_equal(fixture->router->down_count, 0);

    peer->nonce++;
    raw_begin(peer);
    raw_hello(peer, "gateway-9", WP__ROLE__ROLE_GATEWAY);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, fixture->router->up_count == 2 && raw_poll(peer) == 2);
    assert_int_equal(fixture->router->down_count, 1);
    assert_non_null(fixture->router->link);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

/* Sends one batch made by the caller and waits until it cost the peer its link. */
static void expect_down(struct raw_peer *peer, int error)
{
    struct fixture_end *router = peer->fixture->router;
    unsigned before = router->down_count;
    raw_send(peer);
    FIXTURE_UNTIL(peer->fixture, router->down_count > before);
    assert_int_equal(router->down_error, error);
    assert_int_equal(router->frame_count, 0);
    peer->nonce++;
    peer->received_count = 0;
}

static void test_chunks_out_of_order_end_the_link(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    const uint64_t kib = 1024;
    const struct {
        uint64_t id, total, offset;
        size_t size;
        unsigned type;
    } steps[][2] = {
        {{8, 100 * kib, 1, 1, WP_FRAME_SUBMIT}, {0}},                                      /* begins late */
        {{8, 100 * kib, 0, 10, WP_FRAME_SUBMIT}, {8, 100 * kib, 11, 10, WP_FRAME_SUBMIT}}, /* a hole */
        {{8, 100 * kib, 0, 10, WP_FRAME_SUBMIT}, {8, 100 * kib, 0, 10, WP_FRAME_SUBMIT}},  /* again */
        {{8, 100 * kib, 0, 10, WP_FRAME_SUBMIT},
            {12, 100 * kib, 0, 10, WP_FRAME_SUBMIT}}, /* two open in one lane */
        {{8, 100 * kib, 0, 10, WP_FRAME_SUBMIT}, {8, 101 * kib, 10, 10, WP_FRAME_SUBMIT}}, /* grows */
        {{8, 100 * kib, 0, 10, WP_FRAME_SUBMIT},
            {8, 100 * kib, 10, 10, WP_FRAME_ATTACH}},                        /* changes its type */
        {{8, 12, 0, 10, WP_FRAME_SUBMIT}, {8, 12, 10, 10, WP_FRAME_SUBMIT}}, /* runs over its end */
        {{8, WP_FRAME_SIZE_MAX + 1, 0, 10, WP_FRAME_SUBMIT}, {0}},           /* too large */
        {{8, UINT64_MAX, 0, 10, WP_FRAME_SUBMIT}, {0}},                      /* much too large */
        {{8, 0, 0, 10, WP_FRAME_SUBMIT}, {0}},                               /* empty */
        {{8, 10, 0, 0, WP_FRAME_SUBMIT}, {0}},                               /* no bytes */
        {{8, 10, 0, 10, WP_FRAME_CHUNK}, {0}},                               /* nested */
        {{8, 10, 0, 10, WP_FRAME_HELLO}, {0}},
    };
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        raw_greet(peer);
        raw_begin(peer);
        for (unsigned j = 0; j < 2 && (j == 0 || steps[i][j].type != 0); j++) {
            raw_chunk(peer, steps[i][j].id, steps[i][j].type, steps[i][j].total, steps[i][j].offset,
                steps[i][j].size);
        }
        expect_down(peer, WP_E_MALFORMED);
    }
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_chunked_frame_of_the_other_role_is_dropped(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    uint64_t before = refused();
    raw_begin(peer);
    raw_chunk(peer, 8, WP_FRAME_DELIVER, 20, 0, 10);
    raw_chunk(peer, 8, WP_FRAME_DELIVER, 20, 10, 10);
    submit_record(peer, 10);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1);
    assert_int_equal(fixture->router->frames[0].type, WP_FRAME_SUBMIT);
    assert_int_equal(refused() - before, 1);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_malformed_records_end_the_link(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    static const uint8_t truncated[] = {WP_FRAME_DETACH, 100, 0, 0, 0, 1},
                         bad_credit[] = {WP_FRAME_CREDIT, 2, 0, 0, 0, 0xff, 0xff},
                         bad_chunk[] = {WP_FRAME_CHUNK, 1, 0, 0, 0, 0x07},
                         short_head[] = {WP_FRAME_DETACH, 0};
    const struct {
        const uint8_t *data;
        size_t size;
        int error;
    } records[] = {{truncated, sizeof truncated, WP_E_TRUNCATED},
        {bad_credit, sizeof bad_credit, WP_E_MALFORMED}, {bad_chunk, sizeof bad_chunk, WP_E_MALFORMED},
        {short_head, sizeof short_head, WP_E_TRUNCATED}};
    for (unsigned i = 0; i < sizeof records / sizeof records[0]; i++) {
        raw_greet(peer);
        raw_begin(peer);
        assert_int_equal(wp_buffer_append(&peer->batch, records[i].data, records[i].size), WP_OK);
        expect_down(peer, records[i].error);
    }
    Wp__Credit credit = WP__CREDIT__INIT;
    credit.bytes = 1; /* nothing is open */
    raw_greet(peer);
    raw_begin(peer);
    raw_record(peer, WP_FRAME_CREDIT, &credit.base);
    expect_down(peer, WP_E_MALFORMED);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_peer_over_its_credit_loses_the_link(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    fixture_router_stop(fixture);
    fixture_router_start(fixture, 1, 64 * 1024);
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    fixture->router->down_count = 0;
    unsigned sent = 0;
    fixture_begin(fixture);
    while (fixture->router->down_count == 0 && sent < 100) {
        raw_begin(peer);
        submit_record(peer, 60000);
        raw_send(peer);
        sent++;
        fixture_step(fixture);
    }
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    assert_int_equal(fixture->router->down_error, WP_E_FULL);
    assert_in_range(
        fixture->router->frame_count, 30, 36); /* 64 KiB and one frame of 2 MiB, in pieces of 60,000 */
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_message_over_the_limit_never_arrives(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    static uint8_t large[WP_BATCH_SIZE_MAX + 1024];
    zmq_send(peer->socket, large, sizeof large, 0); /* libzmq cuts the connection for it */
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    assert_int_equal(fixture->router->frame_count, 0);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

static void test_old_key_of_a_node_is_dropped_after_replacement(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct raw_peer *peer = raw_peer_create(fixture);
    raw_greet(peer);
    struct wp_keypair fresh;
    assert_int_equal(zmq_curve_keypair(fresh.public_text, fresh.secret_text), 0);
    wp_zap_revoke(fixture->zap, peer->keys.public_text);
    assert_int_equal(
        wp_zap_allow(fixture->zap, fresh.public_text, "gateway-9", WP__ROLE__ROLE_GATEWAY), WP_OK);
    raw_begin(peer);
    submit_record(peer, 10);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    uint64_t before = refused();
    raw_begin(peer);
    raw_hello(peer, "gateway-9", WP__ROLE__ROLE_GATEWAY);
    raw_send(peer);
    FIXTURE_UNTIL(fixture, refused() > before);
    assert_int_equal(fixture->router->frame_count, 0);
    assert_int_equal(fixture->router->up_count, 1);
    raw_peer_destroy(&peer);
    fixture_destroy(&fixture);
}

int main(void)
{
    wp_log_init("test", WP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_raw_peer_is_served),
        cmocka_unit_test(test_name_other_than_the_keys_is_refused),
        cmocka_unit_test(test_frame_type_of_the_other_role_is_dropped),
        cmocka_unit_test(test_batches_of_other_lives_are_dropped),
        cmocka_unit_test(test_no_batch_at_all_is_dropped),
        cmocka_unit_test(test_stranger_without_hello_is_told_to_begin_again),
        cmocka_unit_test(test_new_nonce_means_down_then_up),
        cmocka_unit_test(test_chunks_out_of_order_end_the_link),
        cmocka_unit_test(test_chunked_frame_of_the_other_role_is_dropped),
        cmocka_unit_test(test_malformed_records_end_the_link),
        cmocka_unit_test(test_peer_over_its_credit_loses_the_link),
        cmocka_unit_test(test_message_over_the_limit_never_arrives),
        cmocka_unit_test(test_old_key_of_a_node_is_dropped_after_replacement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
