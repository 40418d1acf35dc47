/* Messages through a whole gateway over loopback: devices on real sockets, a fake router on a real fabric
 * link, links that are lost and renewed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish_is_submitted_and_acknowledged),
        cmocka_unit_test(test_delivery_is_sent_and_its_ack_returned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
