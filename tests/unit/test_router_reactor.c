/* The router as gateways see it: real reactors on real storage, frames over loopback. Attach, submit,
 * deliver, acknowledge; restart and resume; takeover; bad input. */
#include "tests/unit/router_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/metric.h"

static void body_check(const struct arrival *deliver, const void *body, size_t size)
{
    Wp__Envelope *envelope = wp__envelope__unpack(NULL, deliver->envelope.size, deliver->envelope.data);
    assert_non_null(envelope);
    assert_int_equal(envelope->body.len, size);
    assert_memory_equal(envelope->body.data, body, size);
    wp__envelope__free_unpacked(envelope, NULL);
}

static void test_message_travels(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);

    struct attach bad = {.user = "bob", .device = "phone", .secret = "no", .session = 1};
    assert_int_equal(gateway_attach(&gateway, &bad)->error, WP_E_AUTH);
    bad = (struct attach){.user = "nobody", .device = "phone", .secret = bob, .session = 1};
    assert_int_equal(gateway_attach(&gateway, &bad)->error, WP_E_AUTH);

    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 10};
    const struct arrival *reply = gateway_attach(&gateway, &to_bob);
    assert_int_equal(reply->error, WP_OK);
    assert_int_equal(reply->epoch, 1);
    assert_false(reply->session_present);
    assert_false(reply->inbox_subscribed);
    assert_int_equal(gateway_subscribe(&gateway, "bob", 10, 1, true)->error, WP_OK);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 11};
    uint64_t epoch = gateway_join(&gateway, &to_anna);

    struct submit submit = {
        "anna", "pager", epoch, 1, "bob", WP__LANE__URGENT, 0, "hello", 5, 0, NULL, 0, false};
    uint64_t ticket = gateway_submit(&gateway, &submit);
    reply = gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY);
    assert_int_equal(reply->number, ticket);
    assert_int_equal(reply->error, WP_OK);
    assert_false(reply->duplicate);
    const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
    assert_int_equal(deliver->session, 10);
    assert_int_equal(deliver->lane, WP__LANE__URGENT);
    assert_int_equal(deliver->number, 1);
    assert_false(deliver->dup);
    assert_in_range(deliver->remaining_ms, 86400000 - 60000, 86400000);
    body_check(deliver, "hello", 5);
    assert_int_equal(router_pending(&router, "bob", "phone", 1), 1);
    gateway_acknowledge(&gateway, "bob", 10, WP__LANE__URGENT, 1, 1);
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);

    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void submit_many(
    struct gateway *gateway, uint64_t epoch, uint64_t *sequence, const char *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct submit submit = {
            "anna", "pager", epoch, ++*sequence, to, WP__LANE__ROUTINE, 0, "x", 1, 0, NULL, 0, false};
        gateway_submit(gateway, &submit);
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(gateway_next(gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_OK);
    }
}

static void test_backlog_survives_a_restart_and_comes_in_order(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    uint64_t sequence = 0;
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t epoch = gateway_join(&gateway, &to_anna);
    submit_many(&gateway, epoch, &sequence, "bob", 300);
    gateway_down(&gateway);
    router_down(&router);

    router_up(&router);
    gateway_up(&gateway, &router);
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 2, .window = 7};
    gateway_join(&gateway, &to_bob);
    for (uint64_t i = 1; i <= 300; i++) {
        const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
        assert_int_equal(deliver->number, i);
        assert_false(deliver->dup);
        assert_int_equal(deliver->drained, i == 300);
        if (i % 7 == 0) {
            gateway_quiet(&gateway, WP_FRAME_DELIVER, 1);
            gateway_acknowledge(&gateway, "bob", 2, WP__LANE__ROUTINE, i - 6, i);
        }
    }
    gateway_acknowledge(&gateway, "bob", 2, WP__LANE__ROUTINE, 295, 300);
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);
    gateway_down(&gateway);
    router_down(&router);

    /* The cursor survived: nothing comes again. The stream of the sender did, too: a gap is refused. */
    router_up(&router);
    gateway_up(&gateway, &router);
    const struct arrival *reply = gateway_attach(&gateway, &to_bob);
    assert_true(reply->session_present && reply->inbox_subscribed);
    gateway_quiet(&gateway, WP_FRAME_DELIVER, 50);
    struct submit gap = {"anna", "pager", epoch, 305, "bob", WP__LANE__ROUTINE, 0, "x", 1, 0, NULL, 0, false};
    gateway_submit(&gateway, &gap);
    reply = gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY);
    assert_int_equal(reply->error, WP_E_RESEND);
    assert_int_equal(reply->resend_from, 301);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

/* Copies of team messages and direct messages to a member, mixed in the same entries, come in the order of
 * their positions. */
static void test_team_and_direct_messages_come_in_order(void **state)
{
    (void)state;
    enum { PAIRS = 100 };
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64], name[16], path[64], body[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    uint32_t number = 0;
    do {
        snprintf(name, sizeof(name), "team%u", number++);
    } while (router_shard(&router, name) != router_shard(&router, "bob"));
    snprintf(body, sizeof(body), "{\"team\":\"%s\"}", name);
    json_decref(router_request(&router, 201, "POST", "/v1/teams", body));
    snprintf(path, sizeof(path), "/v1/teams/%s/members", name);
    json_decref(router_request(&router, 200, "POST", path, "{\"add\":[\"anna\",\"bob\"]}"));
    gateway_up(&gateway, &router);
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 1, .window = 1024};
    gateway_join(&gateway, &to_bob);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 2};
    struct submit submit = {.user = "anna", .device = "pager", .lane = WP__LANE__URGENT};
    submit.epoch = gateway_join(&gateway, &to_anna);
    submit.body = "x";
    submit.body_size = 1;
    for (uint32_t i = 0; i < 2 * PAIRS; i++) {
        submit.to_team = i % 2 == 0;
        submit.to = submit.to_team ? name : "bob";
        submit.sequence++;
        gateway_submit(&gateway, &submit);
    }
    for (uint64_t i = 1; i <= 2 * PAIRS; i++) {
        const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
        assert_int_equal(deliver->number, i);
        assert_false(deliver->dup);
    }
    gateway_quiet(&gateway, WP_FRAME_DELIVER, 20);
    gateway_acknowledge(&gateway, "bob", 1, WP__LANE__URGENT, 1, 2 * PAIRS);
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_link_renewed_resumes_without_repeats(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    uint64_t sequence = 0;
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 2, .window = 4};
    uint64_t anna_epoch = gateway_join(&gateway, &to_anna);
    uint64_t epoch = gateway_join(&gateway, &to_bob);
    submit_many(&gateway, anna_epoch, &sequence, "bob", 6);
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(gateway_next(&gateway, WP_FRAME_DELIVER)->number, i);
    }
    gateway_down(&gateway);

    gateway_up(&gateway, &router);
    uint64_t open[] = {1, 4};
    uint64_t done[] = {2, 3};
    Wp__Positions in_flight = WP__POSITIONS__INIT;
    Wp__Positions acknowledged = WP__POSITIONS__INIT;
    Wp__Positions *in_flight_list = &in_flight;
    Wp__Positions *acknowledged_list = &acknowledged;
    in_flight.sequence = open;
    in_flight.n_sequence = 2;
    acknowledged.sequence = done;
    acknowledged.n_sequence = 2;
    Wp__Resume resume = WP__RESUME__INIT;
    resume.epoch = epoch;
    resume.n_in_flight = resume.n_acknowledged = 1;
    resume.in_flight = &in_flight_list;
    resume.acknowledged = &acknowledged_list;
    struct attach renewed = {.user = "bob", .device = "phone", .session = 9, .window = 4, .resume = &resume};
    const struct arrival *reply = gateway_attach(&gateway, &renewed);
    assert_int_equal(reply->error, WP_OK);
    assert_int_equal(reply->epoch, epoch);
    assert_true(reply->inbox_subscribed);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_DELIVER)->number, 5);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_DELIVER)->number, 6);
    gateway_quiet(&gateway, WP_FRAME_DELIVER, 20);
    assert_int_equal(router_pending(&router, "bob", "phone", 4), 4);
    gateway_acknowledge(&gateway, "bob", 9, WP__LANE__ROUTINE, 1, 6);
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);

    /* A newer attachment wins over a resume of an older epoch. */
    struct attach newer = {.user = "bob", .device = "phone", .secret = bob, .session = 10};
    assert_int_equal(gateway_attach(&gateway, &newer)->epoch, epoch + 1);
    const struct arrival *kick = gateway_next(&gateway, WP_FRAME_KICK);
    assert_int_equal(kick->session, 9);
    assert_int_equal(kick->error, WP_E_STALE_EPOCH);
    renewed.session = 11;
    assert_int_equal(gateway_attach(&gateway, &renewed)->error, WP_E_STALE_EPOCH);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_unacknowledged_delivery_ends_the_session(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    uint64_t sequence = 0;
    router_init(&router);
    router.delivery_timeout_ms = 400;
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t anna_epoch = gateway_join(&gateway, &to_anna);
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 2};
    gateway_join(&gateway, &to_bob);
    submit_many(&gateway, anna_epoch, &sequence, "bob", 1);
    for (uint64_t session = 2; session < 2 + WP_SET_ASIDE_ATTEMPTS; session++) {
        const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
        assert_int_equal(deliver->session, session);
        assert_int_equal(deliver->dup, session > 2);
        const struct arrival *kick = gateway_next(&gateway, WP_FRAME_KICK);
        assert_int_equal(kick->session, session);
        assert_int_equal(kick->error, WP_E_TIMEOUT);
        to_bob.session = session + 1;
        assert_int_equal(gateway_attach(&gateway, &to_bob)->error, WP_OK);
    }
    /* Set aside: this connection lives and gets what is new. */
    submit_many(&gateway, anna_epoch, &sequence, "bob", 1);
    const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
    assert_int_equal(deliver->number, 2);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_KICK)->error, WP_E_TIMEOUT);
    /* It ended without progress with a message set aside: held back. */
    to_bob.session = 50;
    const struct arrival *reply = gateway_attach(&gateway, &to_bob);
    assert_int_equal(reply->error, WP_E_RATE);
    assert_in_range(reply->retry_after_ms, 1, 1000);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_large_bodies_and_a_gateway_out_of_credit(void **state)
{
    (void)state;
    enum { BODY = 1 << 20, COUNT = 20 };
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t epoch = gateway_join(&gateway, &to_anna);
    uint8_t *body = malloc(BODY);
    assert_non_null(body);
    for (uint32_t i = 0; i < COUNT; i++) {
        memset(body, (int)i + 1, BODY);
        struct submit submit = {
            "anna", "pager", epoch, i + 1, "bob", WP__LANE__ROUTINE, 0, body, BODY, 0, NULL, 0, false};
        gateway_submit(&gateway, &submit);
        assert_int_equal(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_OK);
    }
    /* One byte more than a body may have is refused by apply: the stream's number is used. */
    uint8_t *over = calloc(1, BODY + 1);
    assert_non_null(over);
    struct submit large = {
        "anna", "pager", epoch, COUNT + 1, "bob", WP__LANE__ROUTINE, 0, over, BODY + 1, 0, NULL, 0, false};
    gateway_submit(&gateway, &large);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_E_BODY_TOO_LARGE);
    free(over);

    /* Nothing is acknowledged and no credit comes back: three fit into the 4 MiB that a session may have
     * open. */
    gateway.keep_credit = true;
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 2};
    gateway_join(&gateway, &to_bob);
    uint32_t got = 0;
    for (; got < 3; got++) {
        assert_int_equal(gateway_next(&gateway, WP_FRAME_DELIVER)->number, got + 1);
    }
    gateway_quiet(&gateway, 0, 50);
    /* The session has room again, but the link's window (8 MiB, a quarter kept for urgent lanes) ends first.
     */
    gateway_acknowledge(&gateway, "bob", 2, WP__LANE__ROUTINE, 1, 3);
    for (; got < 5; got++) {
        assert_int_equal(gateway_next(&gateway, WP_FRAME_DELIVER)->number, got + 1);
    }
    gateway_quiet(&gateway, 0, 50);
    gateway.keep_credit = false;
    wp_link_credit_return(gateway.links[(router_shard(&router, "bob") - 1) % 2], gateway.kept);
    gateway_acknowledge(&gateway, "bob", 2, WP__LANE__ROUTINE, 4, got);
    for (; got < COUNT; got++) {
        const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
        assert_int_equal(deliver->number, got + 1);
        memset(body, (int)got + 1, BODY);
        body_check(deliver, body, BODY);
        gateway_acknowledge(&gateway, "bob", 2, WP__LANE__ROUTINE, got + 1, got + 1);
    }
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);
    free(body);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_each_device_gets_its_own_key_part(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], first[64], second[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "d0", first);
    router_device(&router, "bob", "d1", second);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t epoch = gateway_join(&gateway, &to_anna);
    struct attach devices[] = {{.user = "bob", .device = "d0", .secret = first, .session = 20},
        {.user = "bob", .device = "d1", .secret = second, .session = 21}};
    gateway_join(&gateway, &devices[0]);
    gateway_join(&gateway, &devices[1]);
    struct submit submit = {
        "anna", "pager", epoch, 1, "bob", WP__LANE__STAT, 0, "sealed", 6, 3, NULL, 0, false};
    gateway_submit(&gateway, &submit);
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        const struct arrival *deliver = gateway_next(&gateway, WP_FRAME_DELIVER);
        Wp__Envelope *envelope = wp__envelope__unpack(NULL, deliver->envelope.size, deliver->envelope.data);
        assert_non_null(envelope);
        assert_int_equal(envelope->n_key_parts, 1);
        assert_string_equal(envelope->key_parts[0]->device, deliver->session == 20 ? "d0" : "d1");
        seen[deliver->session - 20] = true;
        wp__envelope__free_unpacked(envelope, NULL);
    }
    assert_true(seen[0] && seen[1]);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_refusals_have_an_answer(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t epoch = gateway_join(&gateway, &to_anna);
    uint64_t credit = wp_link_credit(gateway.links[0]) + wp_link_credit(gateway.links[1]);

    struct submit submit = {
        "anna", "pager", epoch, 1, "nobody", WP__LANE__ROUTINE, 0, "x", 1, 0, NULL, 0, false};
    gateway_submit(&gateway, &submit);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_E_UNKNOWN_RECIPIENT);
    submit.to = "bob";
    submit.shard = router.shard_count + router_shard(&router, "bob"); /* no such shard */
    gateway_submit(&gateway, &submit);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_E_NOT_LEADER);
    submit.shard = 0;

    /* The same id again is accepted once. */
    uint8_t id[WP_UUID_SIZE];
    uint8_t random[10] = {1, 2, 3};
    wp_uuid7_make(wp_clock_wall_ms(), random, id);
    submit.id = id;
    uint64_t first = router_shard(&router, "nobody") == router_shard(&router, "bob") ? 2 : 1;
    submit.sequence = first;
    gateway_submit(&gateway, &submit);
    assert_false(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->duplicate);
    submit.sequence = first + 1;
    gateway_submit(&gateway, &submit);
    const struct arrival *reply = gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY);
    assert_int_equal(reply->error, WP_OK);
    assert_true(reply->duplicate);

    /* A subscription needs the epoch of its session. */
    assert_int_equal(gateway_subscribe(&gateway, "anna", 1, epoch + 1, true)->error, WP_E_STALE_EPOCH);
    assert_int_equal(gateway_subscribe(&gateway, "anna", 99, epoch, true)->error, WP_E_STALE_EPOCH);

    /* An acknowledgement of nothing is counted, not obeyed. */
    uint64_t ignored = wp_metric_get(WP_M_ACKS_IGNORED);
    gateway_acknowledge(&gateway, "bob", 99, WP__LANE__ROUTINE, 1, 1);
    assert_int_equal(router_pending(&router, "bob", "phone", 1), 1);
    for (int i = 0; i < 1000 && wp_metric_get(WP_M_ACKS_IGNORED) == ignored; i++) {
        gateway_quiet(&gateway, 0, 1);
    }
    assert_int_equal(wp_metric_get(WP_M_ACKS_IGNORED), ignored + 1);

    /* Every answered submit gave its credit back. */
    for (int i = 0; i < 1000 && wp_link_credit(gateway.links[0]) + wp_link_credit(gateway.links[1]) != credit;
         i++) {
        gateway_quiet(&gateway, 0, 1);
    }
    assert_int_equal(wp_link_credit(gateway.links[0]) + wp_link_credit(gateway.links[1]), credit);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_a_lease_names_what_is_led_and_tells_the_time(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    router_init(&router);
    router_up(&router);
    gateway_up(&gateway, &router);
    uint32_t vouched = 0;
    for (uint32_t i = 0; i < router.reactor_count; i++) {
        Wp__Lease lease = WP__LEASE__INIT;
        lease.stamp_ms = 4711 + i;
        uint64_t asked_ms = wp_clock_wall_ms();
        assert_int_equal(wp_link_send(gateway.links[i], WP_LINK_CONTROL, WP_FRAME_LEASE, &lease.base), WP_OK);
        struct arrival *reply = gateway_next(&gateway, WP_FRAME_LEASE_REPLY);
        assert_int_equal(reply->number, 4711 + i);
        assert_in_range(reply->leader_ms, asked_ms, wp_clock_wall_ms());
        vouched += reply->shard_count;
    }
    assert_int_equal(vouched, router.shard_count);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_removed_device_is_cut_off(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char bob[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 3};
    gateway_join(&gateway, &to_bob);
    json_decref(router_request(&router, 200, "DELETE", "/v1/users/bob/devices/phone", NULL));
    const struct arrival *kick = gateway_next(&gateway, WP_FRAME_KICK);
    assert_int_equal(kick->session, 3);
    assert_int_equal(kick->error, WP_E_NOT_FOUND);
    assert_int_equal(gateway_attach(&gateway, &to_bob)->error, WP_E_AUTH);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_message_expires_at_its_time(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t epoch = gateway_join(&gateway, &to_anna);
    struct submit submit = {
        "anna", "pager", epoch, 1, "bob", WP__LANE__ROUTINE, 300, "x", 1, 0, NULL, 0, false};
    gateway_submit(&gateway, &submit);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_OK);
    assert_int_equal(router_pending(&router, "bob", "phone", 1), 1);
    uint64_t expired = wp_metric_get(WP_M_EXPIRED);
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);
    for (int i = 0; i < 1000 && wp_metric_get(WP_M_EXPIRED) == expired; i++) {
        gateway_quiet(&gateway, 0, 1);
    }
    assert_int_equal(wp_metric_get(WP_M_EXPIRED), expired + 1);
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 2};
    gateway_join(&gateway, &to_bob);
    gateway_quiet(&gateway, WP_FRAME_DELIVER, 30);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

static void test_disk_reserve_refuses_submits_only(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char anna[64], bob[64];
    uint64_t sequence = 0;
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "pager", anna);
    router_device(&router, "bob", "phone", bob);
    gateway_up(&gateway, &router);
    struct attach to_anna = {.user = "anna", .device = "pager", .secret = anna, .session = 1};
    uint64_t epoch = gateway_join(&gateway, &to_anna);
    submit_many(&gateway, epoch, &sequence, "bob", 3);
    gateway_down(&gateway);
    router_down(&router);

    router.disk_reserve_bytes = UINT64_C(1) << 60; /* more than any disk has free */
    router_up(&router);
    gateway_up(&gateway, &router);
    gateway_quiet(&gateway, 0, 300); /* the store looks at the disk every 200 ms */
    struct submit submit = {"anna", "pager", epoch, 4, "bob", WP__LANE__STAT, 0, "x", 1, 0, NULL, 0, false};
    gateway_submit(&gateway, &submit);
    assert_int_equal(gateway_next(&gateway, WP_FRAME_SUBMIT_REPLY)->error, WP_E_DISK_RESERVE);
    json_decref(router_request(&router, 503, "POST", "/v1/users", "{\"user\":\"late\"}"));
    struct attach to_bob = {.user = "bob", .device = "phone", .secret = bob, .session = 2};
    gateway_join(&gateway, &to_bob);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(gateway_next(&gateway, WP_FRAME_DELIVER)->number, i);
    }
    gateway_acknowledge(&gateway, "bob", 2, WP__LANE__ROUTINE, 1, 3);
    assert_int_equal(router_pending(&router, "bob", "phone", 0), 0);
    gateway_down(&gateway);
    router_down(&router);

    /* The refused number was not used. */
    router.disk_reserve_bytes = 0;
    router_up(&router);
    gateway_up(&gateway, &router);
    sequence = 3;
    submit_many(&gateway, epoch, &sequence, "bob", 1);
    gateway_down(&gateway);
    router_down(&router);
    router_fini(&router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_travels),
        cmocka_unit_test(test_backlog_survives_a_restart_and_comes_in_order),
        cmocka_unit_test(test_team_and_direct_messages_come_in_order),
        cmocka_unit_test(test_link_renewed_resumes_without_repeats),
        cmocka_unit_test(test_unacknowledged_delivery_ends_the_session),
        cmocka_unit_test(test_large_bodies_and_a_gateway_out_of_credit),
        cmocka_unit_test(test_each_device_gets_its_own_key_part),
        cmocka_unit_test(test_refusals_have_an_answer),
        cmocka_unit_test(test_a_lease_names_what_is_led_and_tells_the_time),
        cmocka_unit_test(test_removed_device_is_cut_off),
        cmocka_unit_test(test_message_expires_at_its_time),
        cmocka_unit_test(test_disk_reserve_refuses_submits_only),
    };
    cmocka_set_test_filter(getenv("WP_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
