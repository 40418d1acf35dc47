/* Messages through a whole gateway over loopback: devices on real sockets, a fake router on a real fabric
 * link, links that are lost and renewed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/gateway_internal.h"
#include "tests/unit/gateway_rig.h"

static const enum wp_mqtt_version versions[] = {WP_MQTT_311, WP_MQTT_5};

static void test_publish_is_submitted_and_acknowledged(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    for (unsigned i = 0; i < 2; i++) {
        struct rig_client *client = rig_client_attach(rig, versions[i], "anna/phone");
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 7, "hello");
        uint32_t before = rig->router.submit_count;
        rig_client_send(client, &publish);
        struct wp_mqtt_packet ack = rig_client_expect(client, WP_MQTT_PUBACK);
        assert_int_equal(ack.ack.id, 7);
        assert_int_equal(ack.ack.code, 0);
        assert_int_equal(rig->router.submit_count, before + 1);
        const struct rig_submit *submit = &rig->router.submits[before];
        assert_string_equal(submit->user, "anna");
        assert_string_equal(submit->device, "phone");
        assert_string_equal(submit->recipient, "berta");
        assert_int_equal(submit->sequence, 1);
        assert_int_equal(submit->body_size, 5);
        assert_true(submit->gateway_made_id);
        rig_client_close(&client);
        RIG_UNTIL(rig, rig->router.detach_count == i + 1);
    }
    rig_destroy(&rig);
}

static void test_delivery_is_sent_and_its_ack_returned(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    rig->router.deliver = true;
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    struct rig_client *berta = rig_client_attach(rig, WP_MQTT_311, "berta/tablet");
    struct wp_mqtt_packet subscribe = rig_subscribe_packet(3, "wp/v1/inbox/#", 1);
    rig_client_send(berta, &subscribe);
    struct wp_mqtt_packet suback = rig_client_expect(berta, WP_MQTT_SUBACK);
    assert_int_equal(suback.suback.codes[0], 1);
    struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 9, "come to bed 4");
    rig_client_send(anna, &publish);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBACK).ack.id, 9);
    struct wp_mqtt_packet delivery = rig_client_expect(berta, WP_MQTT_PUBLISH);
    assert_memory_equal(delivery.publish.topic.data, "wp/v1/inbox/routine/anna", delivery.publish.topic.size);
    assert_int_equal(delivery.publish.qos, 1);
    assert_int_equal(delivery.publish.id, 2); /* 1 + lane 0 + position 1 */
    assert_memory_equal(delivery.publish.payload.data, "come to bed 4", 13);
    rig_client_send(
        berta, &(struct wp_mqtt_packet){.type = WP_MQTT_PUBACK, .ack = {.id = delivery.publish.id}});
    RIG_UNTIL(rig, rig->router.acked_count == 1);
    assert_int_equal(rig->router.acked[0], 1);
    rig_client_close(&anna);
    rig_client_close(&berta);
    rig_destroy(&rig);
}

static void test_one_frame_for_many_and_a_receipt(void **state)
{
    (void)state;
    static const char *const users[] = {"anna", "berta"};
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *clients[2] = {
        rig_client_attach(rig, WP_MQTT_5, "anna/phone"), rig_client_attach(rig, WP_MQTT_311, "berta/tablet")};
    uint64_t position = rig_deliver_many(rig, users, 2, "to all");
    for (unsigned i = 0; i < 2; i++) {
        struct wp_mqtt_packet delivery = rig_client_expect(clients[i], WP_MQTT_PUBLISH);
        assert_int_equal(delivery.publish.id, 1 + position);
        assert_memory_equal(delivery.publish.payload.data, "to all", 6);
        rig_client_send(
            clients[i], &(struct wp_mqtt_packet){.type = WP_MQTT_PUBACK, .ack = {.id = delivery.publish.id}});
    }
    RIG_UNTIL(rig, rig->router.acked_count == 2);
    rig_deliver_receipt(rig, "berta", "cyd");
    struct wp_mqtt_packet receipt = rig_client_expect(clients[1], WP_MQTT_PUBLISH);
    assert_memory_equal(
        receipt.publish.topic.data, "wp/v1/receipts/delivered/cyd", receipt.publish.topic.size);
    assert_int_equal(receipt.publish.id, 1 + 3 * 16383 + position + 1);
    rig_client_send(
        clients[1], &(struct wp_mqtt_packet){.type = WP_MQTT_PUBACK, .ack = {.id = receipt.publish.id}});
    RIG_UNTIL(rig, rig->router.acked_count == 3);
    rig_client_close(&clients[0]);
    rig_client_close(&clients[1]);
    rig_destroy(&rig);
}

static bool takeover_seen(struct rig *rig)
{
    return wp_metric_get(WP_M_TAKEOVERS) > 0 && rig->router.attach_count >= 2;
}

static void test_takeover(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    for (unsigned i = 0; i < 2; i++) {
        struct rig_client *first = rig_client_attach(rig, versions[i], "anna/phone");
        struct rig_client *second = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
        if (versions[i] == WP_MQTT_5) {
            assert_int_equal(rig_client_expect(first, WP_MQTT_DISCONNECT).disconnect.code, 0x8E);
        }
        rig_client_expect_closed(first);
        RIG_UNTIL(rig, takeover_seen(rig));
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 1, "mine now");
        rig_client_send(second, &publish);
        assert_int_equal(rig_client_expect(second, WP_MQTT_PUBACK).ack.code, 0);
        rig_client_close(&first);
        rig_client_close(&second);
    }
    rig_destroy(&rig);
}

static void test_wrong_secret(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    for (unsigned i = 0; i < 2; i++) {
        struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, versions[i]);
        struct wp_mqtt_packet connect = rig_connect_packet(versions[i], "anna/phone", "Secret");
        rig_client_send(client, &connect);
        assert_int_equal(
            rig_client_expect(client, WP_MQTT_CONNACK).connack.code, versions[i] == WP_MQTT_5 ? 0x86 : 4);
        rig_client_expect_closed(client);
        rig_client_close(&client);
    }
    rig_destroy(&rig);
}

/* The router goes away under open publishes and comes back without any soft state: sessions resume, submits
 * are repeated with the same numbers and ids, deliveries that are open are not sent again. */
static void test_router_restart_under_traffic(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig->router.silent = true;
    for (uint16_t id = 1; id <= 5; id++) {
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", id, "over a restart");
        rig_client_send(anna, &publish);
    }
    uint64_t open = rig_deliver(rig, "anna", WP__LANE__STAT, "open", 4, false);
    uint64_t done = rig_deliver(rig, "anna", WP__LANE__STAT, "done", 4, false);
    (void)rig_client_expect(anna, WP_MQTT_PUBLISH);
    uint16_t done_id = rig_client_expect(anna, WP_MQTT_PUBLISH).publish.id;
    rig_client_send(anna, &(struct wp_mqtt_packet){.type = WP_MQTT_PUBACK, .ack = {.id = done_id}});
    RIG_UNTIL(rig, rig->router.submit_count == 5 && rig->router.acked_count == 1);
    assert_int_equal(rig->router.acked[0], done);
    rig_router_stop(rig);
    char why[256];
    RIG_UNTIL(rig, !wp_routing_ready(wp_gateway_routing(rig->gateway), why, sizeof why));
    assert_non_null(strstr(why, "no link"));
    rig->router.silent = false;
    rig_router_start(rig);
    for (uint16_t id = 1; id <= 5; id++) {
        struct wp_mqtt_packet ack = rig_client_expect(anna, WP_MQTT_PUBACK);
        assert_int_equal(ack.ack.id, id);
        assert_int_equal(ack.ack.code, 0);
    }
    assert_int_equal(rig->router.submit_count, 10);
    for (unsigned i = 0; i < 5; i++) {
        const struct rig_submit *before = &rig->router.submits[i], *after = &rig->router.submits[5 + i];
        assert_int_equal(after->sequence, before->sequence);
        assert_int_equal(after->epoch, before->epoch);
        assert_memory_equal(after->id, before->id, 16);
    }
    assert_int_equal(rig->router.resume_count, 1);
    assert_int_equal(rig->router.resume_in_flight, 1);
    assert_int_equal(rig->router.resume_acknowledged, 1);
    /* The router had lost the acknowledgement and asks with another delivery: answered, not sent. */
    rig->router.next_position = done - 1;
    rig->router.acked_count = 0;
    assert_int_equal(rig_deliver(rig, "anna", WP__LANE__STAT, "done", 4, true), done);
    rig->router.next_position = open - 1;
    assert_int_equal(rig_deliver(rig, "anna", WP__LANE__STAT, "open", 4, true), open);
    RIG_UNTIL(rig, rig->router.acked_count == 1);
    assert_int_equal(rig->router.acked[0], done);
    rig_pass(rig, 30);
    rig_client_read(anna);
    assert_int_equal(anna->in.size, 0);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

static void test_publishes_wait_for_a_router_and_are_given_up(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *clients[2];
    for (unsigned i = 0; i < 2; i++) {
        clients[i] = rig_client_attach(rig, versions[i], i ? "anna/a" : "anna/b");
    }
    rig_router_stop(rig);
    char why[256];
    RIG_UNTIL(rig, !wp_routing_ready(wp_gateway_routing(rig->gateway), why, sizeof why));
    uint64_t start = rig_now_ms();
    for (unsigned i = 0; i < 2; i++) {
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 1, "nobody there");
        rig_client_send(clients[i], &publish);
    }
    rig_client_expect_closed(clients[0]); /* 3.1.1 */
    assert_int_equal(rig_client_expect(clients[1], WP_MQTT_PUBACK).ack.code, 0x83);
    assert_in_range(rig_now_ms() - start, 4900, 7000);
    /* The MQTT 5 connection lives and goes on when the router is back. */
    rig_router_start(rig);
    struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 2, "again");
    rig_client_send(clients[1], &publish);
    assert_int_equal(rig_client_expect(clients[1], WP_MQTT_PUBACK).ack.code, 0);
    rig_client_close(&clients[0]);
    rig_client_close(&clients[1]);
    rig_destroy(&rig);
}

static void test_connect_without_a_router(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.no_router = true, .policy.connect_timeout_ms = 300});
    char why[256];
    assert_false(wp_routing_ready(wp_gateway_routing(rig->gateway), why, sizeof why));
    for (unsigned i = 0; i < 2; i++) {
        struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, versions[i]);
        struct wp_mqtt_packet connect = rig_connect_packet(versions[i], "anna/phone", "secret");
        rig_client_send(client, &connect);
        assert_int_equal(
            rig_client_expect(client, WP_MQTT_CONNACK).connack.code, versions[i] == WP_MQTT_5 ? 0x88 : 3);
        rig_client_expect_closed(client);
        rig_client_close(&client);
    }
    /* One that waits while the router comes gets in. */
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    rig_router_start(rig);
    RIG_UNTIL(rig, rig->router.link);
    rig_client_send(client, &connect);
    assert_int_equal(rig_client_expect(client, WP_MQTT_CONNACK).connack.code, 0);
    rig_client_close(&client);
    rig_destroy(&rig);
}

/* A client that ran out of time while its Attach was on the way leaves nothing attached behind. */
static void test_client_gone_before_the_attach_reply(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.policy.connect_timeout_ms = 200});
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    rig->router.hold_attach = true;
    rig_client_send(client, &connect);
    assert_int_equal(rig_client_expect(client, WP_MQTT_CONNACK).connack.code, 0x88);
    rig_client_close(&client);
    RIG_UNTIL(rig, wp_edge_connections(rig->edge) == 0);
    assert_int_equal(rig->router.attach_count, 1);
    rig_attach_release(rig);
    RIG_UNTIL(rig, rig->router.detach_count == 1);
    assert_false(rig->router.attached[0].used);
    rig_destroy(&rig);
}

static void test_slow_reader_is_written_little_ahead_and_stat_passes(void **state)
{
    (void)state;
    static char body[30000];
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    int small = 65536;
    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    rig_client_send(client, &connect);
    (void)rig_client_expect(client, WP_MQTT_CONNACK);
    for (unsigned i = 0; i < 40; i++) {
        assert_true(rig_deliver(rig, "anna", WP__LANE__ROUTINE, body, sizeof body, false) > 0);
        rig_pass(rig, 2);
    }
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "now", 3, false) > 0);
    rig_pass(rig, 20);
    unsigned before_stat = 0;
    bool stat = false;
    for (unsigned i = 0; i < 41; i++) {
        struct wp_mqtt_packet packet = rig_client_expect(client, WP_MQTT_PUBLISH);
        bool is_stat = packet.publish.payload.size == 3;
        assert_true(!is_stat || !stat);
        stat = stat || is_stat;
        before_stat += !stat;
    }
    assert_true(stat);
    /* What had been written before the STAT message came: bounded bytes ahead plus what the kernels hold. */
    assert_in_range(before_stat, 1, 25);
    rig_client_close(&client);
    rig_destroy(&rig);
}

/* In each batch anew, not only when the link's round happens to stand there. */
static void test_stat_leaves_first(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    for (unsigned round = 0; round < 5; round++) {
        static const Wp__Lane sent[] = {
            WP__LANE__ROUTINE, WP__LANE__ROUTINE, WP__LANE__STAT, WP__LANE__URGENT};
        static const char *const got[] = {"wp/v1/inbox/stat/anna", "wp/v1/inbox/urgent/anna",
            "wp/v1/inbox/routine/anna", "wp/v1/inbox/routine/anna"};
        for (unsigned i = 0; i < 4; i++) {
            assert_true(rig_deliver(rig, "anna", sent[i], "x", 1, false) > 0);
        }
        for (unsigned i = 0; i < 4; i++) {
            struct wp_mqtt_packet packet = rig_client_expect(client, WP_MQTT_PUBLISH);
            assert_int_equal(packet.publish.topic.size, strlen(got[i]));
            assert_memory_equal(packet.publish.topic.data, got[i], packet.publish.topic.size);
            rig_client_send(
                client, &(struct wp_mqtt_packet){.type = WP_MQTT_PUBACK, .ack = {.id = packet.publish.id}});
        }
    }
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_kick_and_clean_stop(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    struct rig_client *berta = rig_client_attach(rig, WP_MQTT_5, "berta/phone");
    rig_kick(rig, "anna", WP_E_TIMEOUT);
    struct wp_mqtt_packet end = rig_client_expect(anna, WP_MQTT_DISCONNECT);
    assert_int_equal(end.disconnect.code, 0x83);
    rig_client_expect_closed(anna);
    /* A shard that moves is no reason to end a connection: the session attaches again. */
    rig_kick(rig, "berta", WP_E_NOT_LEADER);
    RIG_UNTIL(rig, rig->router.resume_count == 1);
    wp_gateway_stop(rig->gateway);
    assert_int_equal(rig_client_expect(berta, WP_MQTT_DISCONNECT).disconnect.code, 0x8B);
    rig_client_expect_closed(berta);
    rig_client_close(&anna);
    rig_client_close(&berta);
    rig_destroy(&rig);
}

static void test_repeated_refusals_are_slowed_down(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    uint64_t took[4];
    for (unsigned i = 0; i < 4; i++) {
        uint64_t start = rig_now_ms();
        struct rig_client *client = rig_client_attach(rig, WP_MQTT_311, "anna/pump");
        took[i] = rig_now_ms() - start;
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/nobody", 1, "x");
        rig_client_send(client, &publish);
        rig_client_expect_closed(client);
        rig_client_close(&client);
    }
    assert_true(took[1] < 200);
    assert_in_range(took[2], 250, 1000);
    assert_in_range(took[3], 500, 1500);
    uint64_t start = rig_now_ms();
    struct rig_client *other = rig_client_attach(rig, WP_MQTT_311, "anna/phone");
    assert_true(rig_now_ms() - start < 200); /* others are not */
    rig_client_close(&other);
    rig_destroy(&rig);
}

static void test_large_body(void **state)
{
    (void)state;
    static char body[1024 * 1024];
    struct rig *rig = rig_create(&(struct rig_options){0});
    rig->router.deliver = true;
    struct rig_client *client = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    memset(body, 'b', sizeof body);
    struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/anna", 7, "");
    publish.publish.payload = wp_slice(body, sizeof body);
    rig_client_send(client, &publish);
    bool acked = false, delivered = false;
    while (!acked || !delivered) {
        uint32_t size;
        RIG_UNTIL(rig, (rig_client_read(client), wp_mqtt_frame(wp_slice(client->in.data, client->in.size),
                                                     UINT32_MAX, &size) == 1));
        if (client->in.data[0] == 0x40) {
            assert_int_equal(rig_client_expect(client, WP_MQTT_PUBACK).ack.code, 0);
            acked = true;
        } else {
            struct wp_mqtt_packet packet = rig_client_expect(client, WP_MQTT_PUBLISH);
            assert_int_equal(packet.publish.payload.size, sizeof body);
            assert_memory_equal(packet.publish.payload.data, body, sizeof body);
            delivered = true;
        }
    }
    rig_client_close(&client);
    rig_destroy(&rig);
}

enum { PRESS_CLIENTS = 10, PRESS_EACH = 20 };

/* A client with everything it wants to send. */
struct press {
    struct rig_client *client;
    struct wp_buffer bytes;
    size_t written;
};

static struct press *press_create(struct rig *rig)
{
    static char body[200000];
    struct press *press = calloc(PRESS_CLIENTS, sizeof *press);
    for (unsigned i = 0; i < PRESS_CLIENTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "anna/d%u", i);
        press[i].client = rig_client_attach(rig, WP_MQTT_5, name);
        for (unsigned round = 0; round < PRESS_EACH; round++) {
            struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", (uint16_t)(round + 1), "");
            body[0] = (char)round;
            publish.publish.payload = wp_slice(body, sizeof body);
            assert_int_equal(wp_mqtt_encode(&publish, WP_MQTT_5, &press[i].bytes), WP_OK);
        }
    }
    return press;
}

/* Writes what the sockets take now; whether everything is written. */
static bool press_write(struct press *press)
{
    bool all = true;
    for (unsigned i = 0; i < PRESS_CLIENTS; i++) {
        size_t left = press[i].bytes.size - press[i].written;
        ssize_t got =
            left ? send(press[i].client->fd, press[i].bytes.data + press[i].written, left, MSG_NOSIGNAL) : 0;
        press[i].written += got > 0 ? (size_t)got : 0;
        all = all && press[i].written == press[i].bytes.size;
    }
    return all;
}

/* More than the link has credit for: reading stops, what waits is bounded, nothing is lost, order stays. */
static void test_backpressure(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    uint64_t paused = wp_metric_get(WP_M_BACKPRESSURE);
    struct press *press = press_create(rig);
    uint32_t shard = wp_routing_shard_of(wp_gateway_routing(rig->gateway), "berta");
    rig->router.hold_credit = true;
    RIG_UNTIL(rig, (press_write(press), wp_metric_get(WP_M_BACKPRESSURE) > paused));
    for (uint64_t start = rig_now_ms(); rig_now_ms() - start < 150;) {
        (void)press_write(press);
        rig_turn(rig, start, "nothing", __FILE__, __LINE__);
    }
    /* One message each may pass the mark before its sender is paused. */
    assert_in_range(wp_submits_waiting_bytes(rig->gateway->submits, shard), WP_SHARD_WAITING_MAX,
        WP_SHARD_WAITING_MAX + PRESS_CLIENTS * 210000);
    rig->router.hold_credit = false;
    rig_credit_release(rig);
    RIG_UNTIL(rig, press_write(press));
    for (unsigned i = 0; i < PRESS_CLIENTS; i++) {
        for (unsigned round = 0; round < PRESS_EACH; round++) {
            assert_int_equal(rig_client_expect(press[i].client, WP_MQTT_PUBACK).ack.id, round + 1);
        }
    }
    assert_int_equal(rig->router.submit_count, PRESS_CLIENTS * PRESS_EACH);
    uint64_t last[PRESS_CLIENTS] = {0};
    for (unsigned i = 0; i < PRESS_CLIENTS * PRESS_EACH; i++) {
        const struct rig_submit *submit = &rig->router.submits[i];
        unsigned client = (unsigned)(submit->device[1] - '0');
        assert_int_equal(submit->sequence, ++last[client]);
        assert_int_equal(submit->body_first, last[client] - 1);
    }
    for (unsigned i = 0; i < PRESS_CLIENTS; i++) {
        rig_client_close(&press[i].client);
        wp_buffer_free(&press[i].bytes);
    }
    free(press);
    rig_destroy(&rig);
}

int main(void)
{
    wp_log_init("test", WP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish_is_submitted_and_acknowledged),
        cmocka_unit_test(test_delivery_is_sent_and_its_ack_returned),
        cmocka_unit_test(test_one_frame_for_many_and_a_receipt),
        cmocka_unit_test(test_takeover),
        cmocka_unit_test(test_wrong_secret),
        cmocka_unit_test(test_router_restart_under_traffic),
        cmocka_unit_test(test_publishes_wait_for_a_router_and_are_given_up),
        cmocka_unit_test(test_connect_without_a_router),
        cmocka_unit_test(test_client_gone_before_the_attach_reply),
        cmocka_unit_test(test_slow_reader_is_written_little_ahead_and_stat_passes),
        cmocka_unit_test(test_stat_leaves_first),
        cmocka_unit_test(test_kick_and_clean_stop),
        cmocka_unit_test(test_repeated_refusals_are_slowed_down),
        cmocka_unit_test(test_large_body),
        cmocka_unit_test(test_backpressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
