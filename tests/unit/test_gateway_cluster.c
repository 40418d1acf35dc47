/* A gateway between two routers: leaders that change with and without a lost link, old leaders that go on
 * talking, routers that are added and removed, and leases. The boot clock is moved by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/gateway_internal.h"
#include "tests/unit/gateway_rig.h"

static uint64_t boot_ahead_ms;
uint64_t __real_wp_clock_boot_ms(void);
uint64_t __wrap_wp_clock_boot_ms(void);
uint64_t __wrap_wp_clock_boot_ms(void)
{
    return __real_wp_clock_boot_ms() + boot_ahead_ms;
}

static struct rig *two_create(void)
{
    struct rig *rig = rig_create(&(struct rig_options){.two = true});
    RIG_UNTIL(rig, rig->other.link);
    rig->other.next_epoch = 100;
    return rig;
}

static bool ready(struct rig *rig)
{
    char why[256];
    return wp_routing_ready(wp_gateway_routing(rig->gateway), why, sizeof why);
}

static uint64_t session_of(const struct rig_router *router)
{
    return router->attached[0].session;
}

static void publishes(struct rig_client *client, uint16_t first, uint16_t last)
{
    for (uint16_t id = first; id <= last; id++) {
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", id, "over a fail-over");
        rig_client_send(client, &publish);
    }
}

static void expect_nothing(struct rig_client *client)
{
    rig_pass(client->rig, 30);
    rig_client_read(client);
    assert_int_equal(client->in.size, 0);
    assert_false(client->closed);
}

/* Both links live all the time. What the old leader says meanwhile counts no more. */
static void test_leader_changes_while_the_old_one_lives(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig->router.silent = rig->other.silent = true;
    publishes(anna, 1, 10);
    RIG_UNTIL(rig, rig->router.submit_count == 10);
    uint64_t session = session_of(&rig->router), stale = wp_metric_get(WP_M_STALE_FRAMES);
    rig_lead(&rig->other, 2);
    RIG_UNTIL(rig, rig->other.submit_count == 10);
    assert_int_equal(rig->other.resume_count, 1);
    for (unsigned i = 0; i < 10; i++) {
        const struct rig_submit *before = &rig->router.submits[i], *after = &rig->other.submits[i];
        assert_int_equal(before->sequence, i + 1);
        assert_int_equal(after->sequence, i + 1);
        assert_int_equal(after->epoch, before->epoch);
        assert_memory_equal(after->id, before->id, 16);
    }
    for (unsigned i = 0; i < 10; i++) {
        rig_answer(&rig->router, i, i % 2 ? WP_OK : WP_E_MAILBOX_FULL);
    }
    rig_deliver_from(&rig->router, session, 1, "old");
    Wp__Kick kick = WP__KICK__INIT;
    kick.session = session;
    kick.error = WP_E_STALE_EPOCH;
    assert_int_equal(wp_link_send(rig->router.link, WP_LINK_CONTROL, WP_FRAME_KICK, &kick.base), WP_OK);
    RIG_UNTIL(rig, wp_metric_get(WP_M_STALE_FRAMES) == stale + 2);
    expect_nothing(anna);
    assert_int_equal(rig->router.acked_count, 0);
    rig_deliver_from(&rig->other, session, 1, "new");
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBLISH).publish.payload.size, 3);
    /* A refusal in the middle stays in the middle. */
    for (unsigned i = 0; i < 10; i++) {
        rig_answer(&rig->other, i, i == 4 ? WP_E_MAILBOX_FULL : WP_OK);
    }
    for (uint16_t id = 1; id <= 10; id++) {
        struct wp_mqtt_packet ack = rig_client_expect(anna, WP_MQTT_PUBACK);
        assert_int_equal(ack.ack.id, id);
        assert_int_equal(ack.ack.code, id == 5 ? 0x97 : 0);
    }
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* Its claim is older, so it takes nothing away; and when the new one dies it still does not lead. */
static void test_old_leader_takes_nothing_back(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig_lead(&rig->other, 2);
    RIG_UNTIL(rig, rig->other.resume_count == 1);
    rig_map_send(&rig->router);
    publishes(anna, 1, 1);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBACK).ack.code, 0);
    assert_int_equal(rig->router.submit_count, 0);
    rig_other_stop(rig);
    RIG_UNTIL(rig, !ready(rig));
    rig_map_send(&rig->router);
    publishes(anna, 2, 2);
    rig_pass(rig, 50);
    assert_int_equal(rig->router.submit_count, 0);
    rig_lead(&rig->router, 3); /* elected again */
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBACK).ack.id, 2);
    assert_int_equal(rig->router.submit_count, 1);
    assert_int_equal(rig->router.submits[0].sequence, 2);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* not-leader on the way: what was refused waits for the notice of the new leader, not for the full pause. */
static void test_refused_attach_goes_on_at_the_notice(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    rig->router.attach_answer = WP_E_NOT_LEADER;
    struct rig_client *anna = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    rig_client_send(anna, &connect);
    RIG_UNTIL(rig, rig->router.attach_count == 1);
    rig_pass(rig, 10);
    uint64_t start = rig_now_ms();
    rig_lead(&rig->other, 2);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_CONNACK).connack.code, 0);
    assert_true(rig_now_ms() - start < 60);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* A connection that is renewed in the middle: a new epoch, numbers from 1, the same message id. */
static void test_device_reconnects_during_a_fail_over(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig->router.silent = true;
    struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 1, "once");
    struct wp_mqtt_user_property id = {
        wp_slice("wp-id", 5), wp_slice("01890a5d-ac96-774b-bcce-b302099a8057", 36)};
    publish.properties.present = 1u << WP_MQTT_P_USER_PROPERTY;
    publish.properties.user = &id;
    publish.properties.user_count = 1;
    rig_client_send(anna, &publish);
    RIG_UNTIL(rig, rig->router.submit_count == 1);
    rig_client_close(&anna);
    rig_lead(&rig->other, 2);
    RIG_UNTIL(rig, ready(rig) && rig->router.detach_count + rig->other.detach_count > 0);
    anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    publish.publish.dup = true;
    rig_client_send(anna, &publish);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBACK).ack.code, 0);
    uint32_t last = rig->other.submit_count - 1;
    assert_memory_equal(rig->other.submits[last].id, rig->router.submits[0].id, 16);
    assert_int_equal(rig->other.submits[last].sequence, 1);
    assert_true(rig->other.submits[last].epoch > rig->router.submits[0].epoch);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* Only one is configured; the list of the cluster brings the other, and later takes the first away. */
static void test_routers_are_added_and_removed_while_running(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    rig_other_start(rig);
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig->router.roster = 2;
    rig->router.lists_other = true;
    rig_map_send(&rig->router);
    RIG_UNTIL(rig, rig->other.link);
    rig_lead(&rig->other, 2);
    RIG_UNTIL(rig, rig->other.resume_count == 1);
    rig->other.roster = 1; /* an older list is not followed */
    rig->other.lists_other = false;
    rig_map_send(&rig->other);
    rig_pass(rig, 50);
    assert_non_null(rig->router.link);
    rig->other.roster = 3;
    rig_map_send(&rig->other);
    RIG_UNTIL(rig, !rig->router.link);
    publishes(anna, 1, 1);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBACK).ack.code, 0);
    rig_pass(rig, 700); /* and it is not connected again */
    assert_null(rig->router.link);
    /* When nobody is left, the configured one is tried again, whatever list it has. */
    rig_other_stop(rig);
    rig->router.roster = 1;
    RIG_UNTIL(rig, rig->router.link && ready(rig));
    publishes(anna, 2, 2);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBACK).ack.code, 0);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

static void test_without_a_lease_deliveries_wait(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    RIG_UNTIL(rig, rig->router.lease_count > 0);
    rig_pass(rig, 20);
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "one", 3, false) > 0);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBLISH).publish.payload.size, 3);
    /* The process stood still: what comes out of the sockets now may be overtaken long since. */
    rig->router.no_lease = true;
    uint64_t held = wp_metric_get(WP_M_DELIVERIES_HELD);
    boot_ahead_ms += WP_LEASE_MS;
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "second", 6, false) > 0);
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "third", 5, false) > 0);
    RIG_UNTIL(rig, wp_metric_get(WP_M_DELIVERIES_HELD) == held + 2);
    expect_nothing(anna);
    rig->router.no_lease = false;
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBLISH).publish.payload.size, 6);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBLISH).publish.payload.size, 5);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* What expires while it is held is not sent, and the router hears that its place is free. */
static void test_what_expires_while_it_is_held_is_skipped(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    RIG_UNTIL(rig, rig->router.lease_count > 0);
    rig_pass(rig, 20);
    rig->router.no_lease = true;
    boot_ahead_ms += WP_LEASE_MS;
    uint64_t held = wp_metric_get(WP_M_DELIVERIES_HELD);
    rig->router.remaining_ms = 1;
    uint64_t late = rig_deliver(rig, "anna", WP__LANE__STAT, "late", 4, false);
    rig->router.remaining_ms = 0;
    uint64_t good = rig_deliver(rig, "anna", WP__LANE__STAT, "good one", 8, false);
    RIG_UNTIL(rig, wp_metric_get(WP_M_DELIVERIES_HELD) == held + 2);
    rig_pass(rig, 5);
    assert_int_equal(rig->router.skipped_count, 0);
    rig->router.no_lease = false;
    struct wp_mqtt_packet publish = rig_client_expect(anna, WP_MQTT_PUBLISH);
    assert_int_equal(publish.publish.payload.size, 8);
    RIG_UNTIL(rig, rig->router.skipped_count == 1);
    assert_int_equal(rig->router.skipped[0], late);
    struct wp_mqtt_packet puback = {.type = WP_MQTT_PUBACK, .ack = {.id = publish.publish.id}};
    rig_client_send(anna, &puback);
    RIG_UNTIL(rig, rig->router.acked_count == 1);
    assert_int_equal(rig->router.acked[0], good);
    assert_int_equal(rig->router.skipped_count, 1); /* told once */
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* Frames that stood in a network which was cut: by what they say themselves they have most of a minute left,
 * and no time was lost here. The gateway knows what time it is for the leader. */
static void test_what_expired_on_its_way_is_skipped(void **state)
{
    (void)state;
    static const char *const anna_only[] = {"anna"};
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    struct wp_routing *routing = wp_gateway_routing(rig->gateway);
    rig->router.leader_ms = 1700000000000u;
    RIG_UNTIL(rig, wp_routing_leader_ms(routing, 1, wp_clock_boot_ms()) > 0);
    rig->router.leader_ms = 0; /* the answers of the next minute are still on their way */
    boot_ahead_ms += 4000;
    rig->router.expires_ms = 1700000003000u;
    uint64_t one = rig_deliver(rig, "anna", WP__LANE__STAT, "late", 4, false);
    RIG_UNTIL(rig, rig->router.skipped_count == 1);
    uint64_t many = rig_deliver_many(rig, anna_only, 1, "late");
    RIG_UNTIL(rig, rig->router.skipped_count == 2);
    rig->router.expires_ms = 1700000030000u;
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "good one", 8, false) > many);
    struct wp_mqtt_packet publish = rig_client_expect(anna, WP_MQTT_PUBLISH);
    assert_int_equal(publish.publish.payload.size, 8);
    assert_in_range(publish.properties.message_expiry, 10, 26); /* not what was left at sending */
    assert_int_equal(rig->router.skipped[0], one);
    assert_int_equal(rig->router.skipped[1], many);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* What is held when the leader changes is in flight for the new one, and written once it knows the session.
 */
static void test_held_over_a_leader_change(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    RIG_UNTIL(rig, rig->router.lease_count > 0);
    rig_pass(rig, 20);
    rig->router.no_lease = true;
    boot_ahead_ms += WP_LEASE_MS;
    uint64_t held = wp_metric_get(WP_M_DELIVERIES_HELD);
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "held", 4, false) > 0);
    RIG_UNTIL(rig, wp_metric_get(WP_M_DELIVERIES_HELD) == held + 1);
    rig->other.hold_attach = true;
    rig_lead(&rig->other, 2);
    RIG_UNTIL(rig, rig->other.held_attach);
    assert_int_equal(rig->other.held_attach->resume->n_in_flight, 1);
    uint32_t asked = rig->other.lease_count;
    RIG_UNTIL(rig, rig->other.lease_count > asked); /* the new leader grants; it does not know the session */
    expect_nothing(anna);
    Wp__AttachReply reply = WP__ATTACH_REPLY__INIT;
    reply.session = rig->other.held_attach->session;
    reply.epoch = rig->other.held_attach->resume->epoch;
    wp__attach__free_unpacked(rig->other.held_attach, NULL);
    rig->other.held_attach = NULL;
    assert_int_equal(
        wp_link_send(rig->other.link, WP_LINK_CONTROL, WP_FRAME_ATTACH_REPLY, &reply.base), WP_OK);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_PUBLISH).publish.payload.size, 4);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

/* Taken over while this gateway was cut off: what it holds is not written, though it has a lease again. */
static void test_held_for_a_session_that_moved(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    RIG_UNTIL(rig, rig->router.lease_count > 0);
    rig_pass(rig, 20);
    rig->router.no_lease = true;
    boot_ahead_ms += WP_LEASE_MS;
    uint64_t held = wp_metric_get(WP_M_DELIVERIES_HELD);
    assert_true(rig_deliver(rig, "anna", WP__LANE__STAT, "old", 3, false) > 0);
    RIG_UNTIL(rig, wp_metric_get(WP_M_DELIVERIES_HELD) == held + 1);
    rig->other.attach_answer = WP_E_STALE_EPOCH;
    rig_lead(&rig->other, 2);
    assert_int_equal(rig_client_expect(anna, WP_MQTT_DISCONNECT).disconnect.code, 0x8E);
    rig_client_expect_closed(anna);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

static void test_devices_without_a_lease_are_sent_elsewhere(void **state)
{
    (void)state;
    struct rig *rig = two_create();
    struct rig_client *anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    RIG_UNTIL(rig, rig->router.lease_count > 0);
    rig_pass(rig, 20);
    rig->router.no_lease = true;
    uint64_t away = wp_metric_get(WP_M_SENT_AWAY);
    boot_ahead_ms += WP_LEASE_MS + WP_LEASE_ABSENT_MS - 1000;
    rig_pass(rig, 300);
    expect_nothing(anna);
    boot_ahead_ms += 1000;
    struct wp_mqtt_packet end = rig_client_expect(anna, WP_MQTT_DISCONNECT);
    assert_int_equal(end.disconnect.code, 0x8B);
    rig_client_expect_closed(anna);
    assert_int_equal(wp_metric_get(WP_M_SENT_AWAY), away + 1);
    rig_client_close(&anna);
    /* A new one has its own time to see whether a lease comes. */
    anna = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig_pass(rig, 300);
    expect_nothing(anna);
    rig_client_close(&anna);
    rig_destroy(&rig);
}

int main(void)
{
    wp_log_init("test", WP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leader_changes_while_the_old_one_lives),
        cmocka_unit_test(test_old_leader_takes_nothing_back),
        cmocka_unit_test(test_refused_attach_goes_on_at_the_notice),
        cmocka_unit_test(test_device_reconnects_during_a_fail_over),
        cmocka_unit_test(test_routers_are_added_and_removed_while_running),
        cmocka_unit_test(test_without_a_lease_deliveries_wait),
        cmocka_unit_test(test_what_expires_while_it_is_held_is_skipped),
        cmocka_unit_test(test_what_expired_on_its_way_is_skipped),
        cmocka_unit_test(test_held_over_a_leader_change),
        cmocka_unit_test(test_held_for_a_session_that_moved),
        cmocka_unit_test(test_devices_without_a_lease_are_sent_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
