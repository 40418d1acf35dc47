/* Delivery by example: what a device gets, in which order, how much at once, and what ends its session. */
#include "tests/unit/dispatch_fixture.h"

#include <string.h>

#include "base/error.h"

#define HOUR_MS UINT64_C(3600000)

static void test_message_goes_out_at_once_to_a_waiting_device(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 4, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_int_equal(fix_message(fix, 0, WP__LANE__STAT, 100, HOUR_MS, effects), 1);
    assert_int_equal(effects[0].type, WP_EFFECT_DELIVER);
    assert_int_equal(effects[0].link, 1);
    assert_int_equal(effects[0].session, 10);
    assert_int_equal(effects[0].deliver.sequence, 1);
    assert_string_equal(effects[0].deliver.device_name, "phone");
    assert_false(effects[0].deliver.dup || effects[0].deliver.drained);
    assert_ptr_equal(effects[0].deliver.body.envelope.data, fix->body); /* not copied */
    assert_int_equal(wp_body_cache_bytes(fix->cache), 0);
    assert_string_equal(fix_deliveries(fix, 10), ""); /* and not again */
    /* Nobody of another mailbox gets it. */
    assert_int_equal(fix_message(fix, 1, WP__LANE__STAT, 100, HOUR_MS, effects), 0);
    fix_destroy(&fix);
}

static void test_window_holds_over_all_lanes(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 3, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    uint32_t at_once = 0;
    for (int i = 0; i < 4; i++) {
        at_once += fix_message(fix, 0, (Wp__Lane)(i % 3), 100, HOUR_MS, effects);
    }
    assert_int_equal(at_once, 3);
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_int_equal(wp_body_cache_bytes(fix->cache), 100); /* the one that waits */
    uint32_t known;
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__URGENT, 1, &known), WP_OK);
    assert_int_equal(known, 1);
    assert_string_equal(fix_deliveries(fix, 10), "r2");
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__URGENT, 1, &known), WP_OK);
    assert_int_equal(known, 0); /* twice counts once */
    assert_int_equal(fix_acknowledge(fix, 2, 10, WP__LANE__STAT, 1, &known), WP_E_NOT_FOUND);
    fix_destroy(&fix);
}

static void test_lanes_are_served_8_4_1(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    for (int i = 0; i < 20; i++) {
        fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
        fix_queue(fix, 0, WP__LANE__URGENT, 10, HOUR_MS);
        fix_queue(fix, 0, WP__LANE__STAT, 10, HOUR_MS);
    }
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 26, NULL), WP_OK);
    char order[4096];
    strcpy(order, fix_deliveries(fix, 10));
    uint32_t counts[WP_LANE_COUNT] = {0};
    for (const char *p = strtok(order, " "); p; p = strtok(NULL, " ")) {
        counts[p[0] == 's' ? WP__LANE__STAT : p[0] == 'u' ? WP__LANE__URGENT : WP__LANE__ROUTINE]++;
    }
    assert_int_equal(counts[WP__LANE__STAT], 16);
    assert_int_equal(counts[WP__LANE__URGENT], 8);
    assert_int_equal(counts[WP__LANE__ROUTINE], 2);
    fix_destroy(&fix);
}

static void test_catch_up_ends_with_drained(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__STAT, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 16, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "s1 r1 r2!");
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS, effects), 1);
    assert_false(effects[0].deliver.drained);
    fix_destroy(&fix);
}

static void test_catch_up_of_nothing_is_over_at_once(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 16, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS, effects), 1);
    assert_false(effects[0].deliver.drained);
    fix_destroy(&fix);
}

static void test_reads_are_bounded_and_a_lane_does_not_hold_up_the_others(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect read[3];
    struct wp_effect effect;
    struct wp_effect direct[WP_DEVICES_MAX];
    for (uint64_t box = 0; box < 3; box++) {
        fix_queue(fix, box, WP__LANE__ROUTINE, 10, HOUR_MS);
        assert_int_equal(fix_attach(fix, 1, 10 + box, box, 0, 1, 8, NULL), WP_OK);
    }
    assert_true(wp_dispatch_next(fix->dispatch, &read[0]));
    assert_true(wp_dispatch_next(fix->dispatch, &read[1]));
    assert_int_equal(read[0].type, WP_EFFECT_READ);
    assert_int_equal(read[1].type, WP_EFFECT_READ);
    assert_false(wp_dispatch_next(fix->dispatch, &effect)); /* two at most: the third waits */
    assert_int_equal(fix_message(fix, 0, WP__LANE__STAT, 10, HOUR_MS, direct), 1);
    assert_int_equal(fix_read(fix, &read[0].read), WP_OK);
    assert_true(wp_dispatch_next(fix->dispatch, &effect));
    assert_int_equal(effect.type, WP_EFFECT_DELIVER);
    assert_int_equal(effect.session, 10);
    assert_true(wp_dispatch_next(fix->dispatch, &read[2]));
    assert_int_equal(read[2].type, WP_EFFECT_READ);
    assert_int_equal(read[2].session, 12);
    assert_int_equal(fix_read(fix, &read[1].read), WP_OK);
    assert_int_equal(fix_read(fix, &read[2].read), WP_OK);
    assert_true(wp_dispatch_next(fix->dispatch, &effect) && wp_dispatch_next(fix->dispatch, &effect));
    assert_false(wp_dispatch_next(fix->dispatch, &effect));
    fix_destroy(&fix);
}

/* Members of a team that come back: the first one's read serves them all; a copy that is mixed with messages
 * of the member's own comes in its place. */
static void test_shared_body_is_read_once(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_copies(fix, 0, 3, WP__LANE__ROUTINE, 300, 77);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_copies(fix, 0, 3, WP__LANE__ROUTINE, 300, 78);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_true(wp_dispatch_next(fix->dispatch, &effect));
    assert_int_equal(effect.type, WP_EFFECT_READ);
    assert_int_equal(effect.read.shared_count, 2);
    assert_int_equal(effect.read.shared[0].sequence, 2);
    assert_int_equal(effect.read.shared[0].body, 77);
    assert_int_equal(effect.read.shared[1].sequence, 4);
    assert_int_equal(fix_read(fix, &effect.read), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r1 r2 r3 r4!");
    for (uint64_t box = 1; box < 3; box++) {
        assert_int_equal(fix_attach(fix, 1, 10 + box, box, 0, 1, 8, NULL), WP_OK);
        for (uint64_t sequence = 1; sequence <= 2; sequence++) {
            assert_true(wp_dispatch_next(fix->dispatch, &effect));
            assert_int_equal(effect.type, WP_EFFECT_DELIVER); /* not a read */
            assert_int_equal(effect.deliver.sequence, sequence);
            assert_int_equal(effect.deliver.body.envelope.size, 300);
        }
    }
    assert_int_equal(wp_body_cache_bytes(fix->cache), 2 * 300 + 2 * 10);
    fix_destroy(&fix);
}

/* A body that is gone although a message is still pending is a loss like a record that is gone. */
static void test_shared_body_that_the_store_lost_is_noticed(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_copies(fix, 0, 1, WP__LANE__STAT, 300, 5);
    fix_queue(fix, 0, WP__LANE__STAT, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_true(wp_dispatch_next(fix->dispatch, &effect));
    struct wp_read_request request = effect.read;
    request.shared_count = 0;
    assert_int_equal(fix_read(fix, &request), WP_E_CORRUPT);
    fix_destroy(&fix);
}

static void test_message_that_the_store_lost_is_noticed(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_true(wp_dispatch_next(fix->dispatch, &effect));
    assert_int_equal(wp_dispatch_read_done(fix->dispatch, &effect.read, WP_OK, NULL, 0), WP_E_CORRUPT);
    fix_destroy(&fix);
}

static void test_message_gone_during_its_read_is_no_loss(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_true(wp_dispatch_next(fix->dispatch, &effect));
    fix_find(fix, 0, WP__LANE__ROUTINE, 1)->gone = true;
    wp_dispatch_expired(fix->dispatch, 0, WP__LANE__ROUTINE, 1);
    assert_int_equal(fix_read(fix, &effect.read), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r2!");
    fix_destroy(&fix);
}

static void test_cache_too_small_reads_again_but_gets_on(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 150); /* one body of 100 */
    for (int i = 0; i < 30; i++) {
        fix_queue(fix, 0, WP__LANE__ROUTINE, 100, HOUR_MS);
    }
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 100, NULL), WP_OK);
    const char *all = fix_deliveries(fix, 10);
    assert_memory_equal(all, "r1 r2 r3 r4 ", 12);
    assert_non_null(strstr(all, "r30!"));
    fix_destroy(&fix);
}

static void test_refused_delivery_waits_for_the_link(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    struct wp_effect effect;
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_int_equal(fix_attach(fix, 2, 10, 1, 0, 1, 8, NULL), WP_OK); /* same number on another link */
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 100, HOUR_MS, effects), 1);
    wp_dispatch_refused(fix->dispatch, &effects[0]);
    assert_int_equal(fix_message(fix, 0, WP__LANE__STAT, 100, HOUR_MS, effects), 0);
    assert_int_equal(fix_message(fix, 1, WP__LANE__STAT, 100, HOUR_MS, effects), 1);
    assert_false(fix_next(fix, &effect));
    wp_dispatch_link_writable(fix->dispatch, 1);
    assert_true(fix_next(fix, &effect));
    assert_int_equal(effect.deliver.lane, WP__LANE__STAT);
    wp_dispatch_refused(fix->dispatch, &effect);
    assert_false(fix_next(fix, &effect));
    wp_dispatch_link_writable(fix->dispatch, 1);
    assert_string_equal(fix_deliveries(fix, 10), "s1 r1");
    fix_destroy(&fix);
}

static void test_drained_is_not_lost_with_a_refusal(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_true(fix_next(fix, &effect));
    assert_true(effect.deliver.drained);
    wp_dispatch_refused(fix->dispatch, &effect);
    wp_dispatch_link_writable(fix->dispatch, 1);
    assert_string_equal(fix_deliveries(fix, 10), "r1!");
    fix_destroy(&fix);
}

static void test_bytes_open_towards_a_session_are_bounded(void **state)
{
    (void)state;
    const struct wp_dispatch_config config = {.shard = 1,
        .delivery_timeout_ms = 30000,
        .flight_bytes_max = 1000,
        .read_bytes_max = 65536,
        .reads_max = 1};
    struct fix *fix = fix_create(&config, 1u << 20);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 5000, HOUR_MS); /* over the bound: goes alone */
    fix_queue(fix, 0, WP__LANE__ROUTINE, 600, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 400, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 1, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r1");
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 1, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r2 r3");
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 3, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r4!");
    fix_destroy(&fix);
}

static void test_silence_ends_the_session_and_is_delivered_again_with_dup(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r1 r2!");
    fix_pass(fix, 29000);
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 1, NULL), WP_OK);
    assert_false(fix_next(fix, &effect));
    fix_pass(fix, 1000);
    assert_true(fix_next(fix, &effect));
    assert_int_equal(effect.type, WP_EFFECT_KICK);
    assert_int_equal(effect.session, 10);
    assert_int_equal(effect.error, WP_E_TIMEOUT);
    assert_false(wp_dispatch_device_attached(fix->dispatch, 0, 0));
    assert_true(fix_cursors(fix));
    assert_int_equal(fix_attach(fix, 1, 11, 0, 0, 2, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 11), "r2+!");
    fix_destroy(&fix);
}

static void test_newer_attachment_takes_over(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r1 r2!");
    /* Acknowledged, not replicated yet: still not sent to the new session. */
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 1, NULL), WP_OK);
    assert_int_equal(fix_attach(fix, 2, 20, 0, 0, 2, 8, NULL), WP_OK);
    assert_true(fix_next(fix, &effect));
    assert_int_equal(effect.type, WP_EFFECT_KICK);
    assert_int_equal(effect.link, 1);
    assert_int_equal(effect.session, 10);
    assert_int_equal(effect.error, WP_E_STALE_EPOCH);
    assert_string_equal(fix_deliveries(fix, 20), "r2!");
    assert_int_equal(wp_dispatch_attached_count(fix->dispatch), 1);
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 2, NULL), WP_E_NOT_FOUND);
    /* A session number can stand for one device only. */
    assert_int_equal(fix_attach(fix, 2, 20, 1, 0, 1, 8, NULL), WP_E_EXISTS);
    fix_destroy(&fix);
}

static void test_resume_sends_neither_open_nor_acknowledged_again(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    for (int i = 0; i < 6; i++) {
        fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    }
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 4, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r1 r2 r3 r4");
    wp_dispatch_link_down(fix->dispatch, 1);
    assert_int_equal(wp_dispatch_attached_count(fix->dispatch), 0);

    uint64_t open_sequences[] = {4, 1};
    uint64_t done_sequences[] = {3, 2};
    Wp__Positions open = WP__POSITIONS__INIT;
    Wp__Positions done = WP__POSITIONS__INIT;
    Wp__Positions *open_list = &open;
    Wp__Positions *done_list = &done;
    open.sequence = open_sequences;
    done.sequence = done_sequences;
    open.n_sequence = done.n_sequence = 2;
    Wp__Resume resume = WP__RESUME__INIT;
    resume.epoch = 1;
    resume.in_flight = &open_list;
    resume.acknowledged = &done_list;
    resume.n_in_flight = resume.n_acknowledged = 1;
    assert_int_equal(fix_attach(fix, 2, 33, 0, 0, 1, 4, &resume), WP_OK);
    assert_string_equal(fix_deliveries(fix, 33), "r5 r6!");
    assert_true(fix_cursors(fix));
    assert_int_equal(fix_find(fix, 0, WP__LANE__ROUTINE, 2)->acknowledged, 1);
    assert_int_equal(fix_find(fix, 0, WP__LANE__ROUTINE, 3)->acknowledged, 1);
    uint32_t known;
    assert_int_equal(fix_acknowledge(fix, 2, 33, WP__LANE__ROUTINE, 4, &known), WP_OK);
    assert_int_equal(known, 1);
    fix_destroy(&fix);
}

/* What a gateway brings along as open was sent, whether or not the leader before came to replicate that. */
static void test_open_after_a_resume_is_delivered_again_with_dup(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    uint64_t sequences[] = {1, 2};
    Wp__Positions open = WP__POSITIONS__INIT;
    Wp__Positions *list = &open;
    open.sequence = sequences;
    open.n_sequence = 2;
    Wp__Resume resume = WP__RESUME__INIT;
    resume.epoch = 1;
    resume.in_flight = &list;
    resume.n_in_flight = 1;
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 2, &resume), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_true(fix_cursors(fix));
    wp_dispatch_link_down(fix->dispatch, 1);
    assert_int_equal(fix_attach(fix, 2, 11, 0, 0, 2, 2, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 11), "r1+ r2+!");
    fix_destroy(&fix);
}

static void test_unsubscribed_device_gets_nothing_until_it_subscribes(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    const struct wp_dispatch_attach attach = {
        .link = 1, .session = 10, .mailbox = 0, .device = 0, .device_name = "phone", .epoch = 1, .window = 8};
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(wp_dispatch_attached(fix->dispatch, &attach), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_int_equal(fix_message(fix, 0, WP__LANE__STAT, 10, HOUR_MS, effects), 0);
    wp_dispatch_subscribed(fix->dispatch, 0, 0, true, false);
    assert_string_equal(fix_deliveries(fix, 10), "s1 r1!");
    wp_dispatch_subscribed(fix->dispatch, 0, 0, false, false);
    assert_int_equal(fix_message(fix, 0, WP__LANE__STAT, 10, HOUR_MS, effects), 0);
    assert_string_equal(fix_deliveries(fix, 10), "");
    fix_destroy(&fix);
}

static void test_receipts_come_last_and_only_to_those_who_want_them(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    fix_queue(fix, 0, WP__LANE__RECEIPT, 0, HOUR_MS);
    wp_dispatch_receipt(fix->dispatch, 0);
    assert_string_equal(fix_deliveries(fix, 10), "");
    wp_dispatch_subscribed(fix->dispatch, 0, 0, true, true);
    struct wp_effect effect;
    assert_true(fix_next(fix, &effect));
    assert_int_equal(effect.deliver.lane, WP__LANE__RECEIPT);
    assert_false(effect.deliver.drained);
    Wp__Receipt *packed =
        wp__receipt__unpack(NULL, effect.deliver.body.envelope.size, effect.deliver.body.envelope.data);
    assert_non_null(packed);
    assert_string_equal(packed->person, "bob");
    assert_int_equal(packed->state, WP__RECEIPT_STATE__DELIVERED);
    assert_int_equal(packed->time_ms, FIX_EPOCH_MS + 1);
    wp__receipt__free_unpacked(packed, NULL);
    wp_dispatch_refused(fix->dispatch, &effect); /* the link is full: the same one comes again */
    wp_dispatch_link_writable(fix->dispatch, 1);
    assert_string_equal(fix_deliveries(fix, 10), "e1");
    fix_queue(fix, 0, WP__LANE__RECEIPT, 0, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    fix_queue(fix, 0, WP__LANE__STAT, 10, HOUR_MS);
    wp_dispatch_kick(fix->dispatch, 0, 0, WP_E_STALE_EPOCH);
    while (wp_dispatch_next(fix->dispatch, &effect)) {
    }
    const struct wp_dispatch_attach both = {.link = 1,
        .session = 11,
        .mailbox = 0,
        .device = 0,
        .device_name = "phone",
        .epoch = 2,
        .window = 8,
        .subscribed = true,
        .receipts = true};
    assert_int_equal(wp_dispatch_attached(fix->dispatch, &both), WP_OK);
    fix_find(fix, 0, WP__LANE__RECEIPT, 1)->gone = true;
    assert_string_equal(fix_deliveries(fix, 11), "s1 r1! e2");
    uint32_t known;
    assert_int_equal(fix_acknowledge(fix, 1, 11, WP__LANE__RECEIPT, 2, &known), WP_OK);
    assert_int_equal(known, 1);
    assert_true(fix_cursors(fix));
    assert_int_equal(fix_find(fix, 0, WP__LANE__RECEIPT, 2)->acknowledged, 1);
    fix_destroy(&fix);
}

static void test_cursors_are_due_after_200_ms(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    assert_int_equal(wp_dispatch_cursors_due_ms(fix->dispatch), UINT64_MAX);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    uint64_t sent_ms = fix->mono_ms;
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS, effects), 1);
    assert_int_equal(wp_dispatch_cursors_due_ms(fix->dispatch), sent_ms + 200);
    fix_pass(fix, 50);
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 1, NULL), WP_OK);
    assert_int_equal(wp_dispatch_cursors_due_ms(fix->dispatch), sent_ms + 200);
    assert_true(fix_cursors(fix));
    assert_int_equal(fix->mailboxes[0].sent[0][WP__LANE__ROUTINE], 1);
    assert_int_equal(fix_find(fix, 0, WP__LANE__ROUTINE, 1)->acknowledged, 1);
    assert_false(fix_cursors(fix));
    assert_int_equal(wp_dispatch_cursors_due_ms(fix->dispatch), UINT64_MAX);
    /* What was acknowledged leaves also after the device did. */
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS, effects), 1);
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 2, NULL), WP_OK);
    assert_int_equal(wp_dispatch_detached(fix->dispatch, 1, 10), WP_OK);
    assert_int_equal(wp_dispatch_detached(fix->dispatch, 1, 10), WP_E_NOT_FOUND);
    assert_true(fix_cursors(fix));
    assert_int_equal(fix_find(fix, 0, WP__LANE__ROUTINE, 2)->acknowledged, 1);
    fix_destroy(&fix);
}

static void test_silent_device_shows_life_every_six_hours(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    fix_pass(fix, 5 * HOUR_MS);
    assert_false(fix_cursors(fix));
    fix_pass(fix, HOUR_MS);
    assert_true(fix_cursors(fix));
    assert_false(fix_cursors(fix));
    fix_destroy(&fix);
}

static void test_back_off_after_setting_aside_grows_and_ends_with_progress(void **state)
{
    (void)state;
    static const uint64_t expected_ms[] = {1000, 5000, 30000, 120000, 120000};
    struct fix *fix = fix_create(NULL, 1u << 20);
    fix->mailboxes[0].set_aside[0] = 1;
    fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(wp_dispatch_retry_after_ms(fix->dispatch, 0, 0), 0);
        assert_int_equal(fix_attach(fix, 1, 10 + i, 0, 0, i + 1, 8, NULL), WP_OK);
        (void)fix_deliveries(fix, 10 + i);
        struct wp_effect effect;
        fix_pass(fix, 30000);
        assert_true(fix_next(fix, &effect));
        assert_int_equal(effect.error, WP_E_TIMEOUT);
        assert_int_equal(wp_dispatch_retry_after_ms(fix->dispatch, 0, 0), expected_ms[i]);
        fix_pass(fix, expected_ms[i]);
    }
    /* A connection that merely breaks holds nobody back. */
    assert_int_equal(fix_attach(fix, 1, 19, 0, 0, 8, 8, NULL), WP_OK);
    (void)fix_deliveries(fix, 19);
    assert_int_equal(wp_dispatch_detached(fix->dispatch, 1, 19), WP_OK);
    assert_int_equal(wp_dispatch_retry_after_ms(fix->dispatch, 0, 0), 0);
    assert_int_equal(fix_attach(fix, 1, 20, 0, 0, 9, 8, NULL), WP_OK);
    (void)fix_deliveries(fix, 20);
    assert_int_equal(fix_acknowledge(fix, 1, 20, WP__LANE__ROUTINE, 1, NULL), WP_OK);
    assert_int_equal(wp_dispatch_detached(fix->dispatch, 1, 20), WP_OK);
    assert_int_equal(wp_dispatch_retry_after_ms(fix->dispatch, 0, 0), 0);
    /* A device with nothing set aside is never held back. */
    fix_queue(fix, 1, WP__LANE__ROUTINE, 10, HOUR_MS);
    assert_int_equal(fix_attach(fix, 1, 30, 1, 0, 1, 8, NULL), WP_OK);
    (void)fix_deliveries(fix, 30);
    assert_int_equal(wp_dispatch_detached(fix->dispatch, 1, 30), WP_OK);
    assert_int_equal(wp_dispatch_retry_after_ms(fix->dispatch, 1, 0), 0);
    fix_destroy(&fix);
}

static void test_expired_message_is_not_delivered(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effects[WP_DEVICES_MAX];
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 1, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "");
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS, effects), 1);
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, 500, effects), 0);
    assert_int_equal(fix_message(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS, effects), 0);
    fix_pass(fix, 500);
    assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, 1, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r3");
    fix_destroy(&fix);
}

/* What a gateway did not send frees its place: the others go on, nothing times out, the next connection gets
 * it. */
static void test_skipped_delivery_frees_its_place(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    for (int i = 0; i < 4; i++) {
        fix_queue(fix, 0, WP__LANE__ROUTINE, 10, HOUR_MS);
    }
    assert_int_equal(fix_attach(fix, 1, 10, 0, 0, 1, 2, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 10), "r1 r2");
    Wp__Positions skipped = WP__POSITIONS__INIT;
    uint64_t sequences[] = {1, 77};
    Wp__Positions *list[] = {&skipped};
    skipped.lane = WP__LANE__ROUTINE;
    skipped.sequence = sequences;
    skipped.n_sequence = 2;
    wp_dispatch_skipped(fix->dispatch, 1, 99, list, 1); /* no such session */
    assert_string_equal(fix_deliveries(fix, 10), "");
    wp_dispatch_skipped(fix->dispatch, 1, 10, list, 1);
    wp_dispatch_skipped(fix->dispatch, 1, 10, list, 1); /* told twice */
    wp_dispatch_assert(fix->dispatch);
    assert_string_equal(fix_deliveries(fix, 10), "r3");
    for (uint64_t sequence = 2; sequence <= 4; sequence++) {
        assert_int_equal(fix_acknowledge(fix, 1, 10, WP__LANE__ROUTINE, sequence, NULL), WP_OK);
        assert_string_equal(fix_deliveries(fix, 10), sequence == 2 ? "r4!" : "");
    }
    fix_pass(fix, 60000);
    assert_false(fix_next(fix, &effect)); /* the connection lives */
    assert_true(fix_cursors(fix));
    assert_false(fix_find(fix, 0, WP__LANE__ROUTINE, 1)->acknowledged & 1);
    assert_int_equal(wp_dispatch_detached(fix->dispatch, 1, 10), WP_OK);
    assert_int_equal(fix_attach(fix, 1, 11, 0, 0, 2, 8, NULL), WP_OK);
    assert_string_equal(fix_deliveries(fix, 11), "r1+!");
    fix_destroy(&fix);
}

static void test_kick_all_ends_every_session(void **state)
{
    (void)state;
    struct fix *fix = fix_create(NULL, 1u << 20);
    struct wp_effect effect;
    for (uint64_t box = 0; box < 4; box++) {
        assert_int_equal(fix_attach(fix, (uint32_t)(1 + box % 2), 10 + box, box, 0, 1, 8, NULL), WP_OK);
    }
    wp_dispatch_kick_all(fix->dispatch, WP_E_NOT_LEADER);
    wp_dispatch_link_down(fix->dispatch, 2); /* its kicks go nowhere */
    uint32_t kicks = 0;
    while (fix_next(fix, &effect)) {
        assert_int_equal(effect.type, WP_EFFECT_KICK);
        assert_int_equal(effect.link, 1);
        kicks++;
    }
    assert_int_equal(kicks, 2);
    assert_int_equal(wp_dispatch_attached_count(fix->dispatch), 0);
    fix_destroy(&fix);
}

static void test_cache_keeps_the_newest_within_its_bytes(void **state)
{
    (void)state;
    struct wp_body_cache *cache = wp_body_cache_create(250);
    uint8_t bytes[300] = {0};
    for (uint64_t i = 1; i <= 5; i++) {
        const struct wp_body body = {1, 2, wp_slice(bytes, 100), 0};
        const struct wp_body_key key = {1, WP__LANE__STAT, 7, i};
        assert_int_equal(wp_body_cache_put(cache, &key, &body), WP_OK);
        assert_int_equal(wp_body_cache_put(cache, &key, &body), WP_OK); /* twice is once */
    }
    const struct wp_body_key old = {1, WP__LANE__STAT, 7, 3};
    const struct wp_body_key kept = {1, WP__LANE__STAT, 7, 4};
    const struct wp_body_key other = {2, WP__LANE__STAT, 7, 4};
    assert_null(wp_body_cache_find(cache, &old));
    assert_non_null(wp_body_cache_find(cache, &kept));
    assert_null(wp_body_cache_find(cache, &other));
    assert_int_equal(wp_body_cache_bytes(cache), 200);
    wp_body_cache_drop(cache, &kept);
    assert_null(wp_body_cache_find(cache, &kept));
    const struct wp_body large = {1, 2, wp_slice(bytes, 300), 0};
    assert_int_equal(wp_body_cache_put(cache, &old, &large), WP_OK); /* one always fits */
    assert_int_equal(wp_body_cache_find(cache, &old)->envelope.size, 300);
    wp_body_cache_destroy(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_goes_out_at_once_to_a_waiting_device),
        cmocka_unit_test(test_window_holds_over_all_lanes),
        cmocka_unit_test(test_lanes_are_served_8_4_1),
        cmocka_unit_test(test_catch_up_ends_with_drained),
        cmocka_unit_test(test_catch_up_of_nothing_is_over_at_once),
        cmocka_unit_test(test_reads_are_bounded_and_a_lane_does_not_hold_up_the_others),
        cmocka_unit_test(test_shared_body_is_read_once),
        cmocka_unit_test(test_shared_body_that_the_store_lost_is_noticed),
        cmocka_unit_test(test_message_that_the_store_lost_is_noticed),
        cmocka_unit_test(test_message_gone_during_its_read_is_no_loss),
        cmocka_unit_test(test_cache_too_small_reads_again_but_gets_on),
        cmocka_unit_test(test_refused_delivery_waits_for_the_link),
        cmocka_unit_test(test_drained_is_not_lost_with_a_refusal),
        cmocka_unit_test(test_bytes_open_towards_a_session_are_bounded),
        cmocka_unit_test(test_silence_ends_the_session_and_is_delivered_again_with_dup),
        cmocka_unit_test(test_newer_attachment_takes_over),
        cmocka_unit_test(test_resume_sends_neither_open_nor_acknowledged_again),
        cmocka_unit_test(test_open_after_a_resume_is_delivered_again_with_dup),
        cmocka_unit_test(test_unsubscribed_device_gets_nothing_until_it_subscribes),
        cmocka_unit_test(test_receipts_come_last_and_only_to_those_who_want_them),
        cmocka_unit_test(test_cursors_are_due_after_200_ms),
        cmocka_unit_test(test_silent_device_shows_life_every_six_hours),
        cmocka_unit_test(test_back_off_after_setting_aside_grows_and_ends_with_progress),
        cmocka_unit_test(test_expired_message_is_not_delivered),
        cmocka_unit_test(test_skipped_delivery_frees_its_place),
        cmocka_unit_test(test_kick_all_ends_every_session),
        cmocka_unit_test(test_cache_keeps_the_newest_within_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
