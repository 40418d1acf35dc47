/* Submit streams against a fake shard that refuses gaps as the real one does, loses its link, its answers and
 * the unsynced tail of its log, and is at times full or without a leader. Whatever happens: order per stream,
 * each message in the log at most once, and every one that was answered "accepted" is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/prng.h"
#include "gateway/submits.h"

#define STREAMS 3u
#define PUBLISHES_MAX 400u
#define QUEUE_MAX 4096u

struct sent {
    uint64_t ticket, epoch, sequence, publish;
    unsigned stream;
    Wp__Lane lane;
};

struct queue {
    struct sent items[QUEUE_MAX];
    unsigned first, end;
};

struct answer {
    uint64_t ticket, resend_from;
    int error;
};

/* One shard, three sender devices. */
struct model {
    struct wp_submits *submits;
    struct wp_stream *streams[STREAMS];
    struct wp_prng prng;
    uint64_t now_ms, turn;
    struct queue wire;     /* sent, not seen by the router */
    struct queue proposed; /* in the router's log, not applied */
    struct answer answers[QUEUE_MAX];
    unsigned answer_first, answer_end;
    bool disk_full, leaderless, link_up;
    bool leaders_change; /* while links live, instead of links that are lost */
    /* The shard's replicated state. */
    uint64_t last[STREAMS];
    bool accepted[STREAMS][PUBLISHES_MAX + 1];
    uint64_t log[STREAMS][PUBLISHES_MAX + 1];
    unsigned log_count[STREAMS];
    /* What the devices were told. */
    uint64_t pushed[STREAMS];
    int told[STREAMS][PUBLISHES_MAX + 1]; /* 1 = nothing yet */
    unsigned resends;
};

static void queue_push(struct queue *queue, const struct sent *item)
{
    assert_true(queue->end < QUEUE_MAX);
    queue->items[queue->end++] = *item;
}

static Wp__Lane lane_of(uint64_t publish)
{
    return (Wp__Lane)(publish % 3);
}

static int push(struct model *model, unsigned stream)
{
    uint8_t id[16] = {0}, body[3] = {'a', 'b', 'c'};
    Wp__Header header = WP__HEADER__INIT;
    Wp__Envelope envelope = WP__ENVELOPE__INIT;
    uint64_t publish = ++model->pushed[stream];
    wp_put_u64be(id, publish);
    header.version = 1;
    header.message_id = (ProtobufCBinaryData){16, id};
    header.sender = header.sender_device = header.recipient = (char *)(uintptr_t) "x";
    header.lane = lane_of(publish);
    envelope.header = &header;
    envelope.body = (ProtobufCBinaryData){sizeof body, body};
    model->told[stream][publish] = 1;
    return wp_stream_push(model->submits, model->streams[stream], publish, &envelope, model->now_ms);
}

static void model_open(struct model *model, uint64_t seed)
{
    static const char *const names[STREAMS] = {"anna", "berta", "carla"};
    memset(model, 0, sizeof *model);
    wp_prng_init(&model->prng, seed);
    model->now_ms = 1000;
    model->link_up = true;
    assert_int_equal(wp_submits_create(1, &model->submits), WP_OK);
    for (unsigned i = 0; i < STREAMS; i++) {
        assert_int_equal(
            wp_stream_open(model->submits, 1, i, names[i], "phone", 7, &model->streams[i]), WP_OK);
    }
}

static void model_close(struct model *model)
{
    for (unsigned i = 0; i < STREAMS; i++) {
        wp_stream_close(model->submits, &model->streams[i]);
    }
    wp_submits_destroy(&model->submits);
}

static bool send_one(struct model *model)
{
    Wp__Submit submit;
    Wp__Lane lane;
    if (!model->link_up || !wp_submits_next(model->submits, 1, model->turn, model->now_ms, &submit, &lane)) {
        return false;
    }
    Wp__Envelope *envelope = wp__envelope__unpack(NULL, submit.envelope.len, submit.envelope.data);
    assert_non_null(envelope);
    struct sent sent = {submit.ticket, submit.epoch, submit.sequence,
        wp_get_u64be(envelope->header->message_id.data),
        submit.user[0] == 'a'   ? 0
        : submit.user[0] == 'b' ? 1
                                : 2,
        lane};
    wp__envelope__free_unpacked(envelope, NULL);
    wp_submits_sent(model->submits, 1);
    queue_push(&model->wire, &sent);
    return true;
}

static void answer_push(struct model *model, uint64_t ticket, int error, uint64_t resend_from)
{
    assert_true(model->answer_end < QUEUE_MAX);
    model->answers[model->answer_end++] = (struct answer){ticket, resend_from, error};
}

/* The router takes one submit: refuses it before the log, or proposes it. */
static void router_take(struct model *model)
{
    if (model->wire.first == model->wire.end) {
        return;
    }
    const struct sent *sent = &model->wire.items[model->wire.first++];
    if (model->leaderless) {
        answer_push(model, sent->ticket, WP_E_NOT_LEADER, 0);
    } else if (model->disk_full) {
        answer_push(model, sent->ticket, WP_E_DISK_RESERVE, 0);
    } else {
        queue_push(&model->proposed, sent);
    }
}

static bool refused_by_apply(const struct sent *sent)
{
    return sent->publish % 17 == 5; /* a full mailbox, say */
}

/* One entry is synced and applied: the rules of router/stream.h. */
static void apply(struct model *model)
{
    if (model->proposed.first == model->proposed.end) {
        return;
    }
    const struct sent *sent = &model->proposed.items[model->proposed.first++];
    uint64_t *last = &model->last[sent->stream];
    if (sent->sequence <= *last && model->accepted[sent->stream][sent->publish]) {
        answer_push(model, sent->ticket, WP_OK, 0); /* a duplicate */
        return;
    }
    if (sent->sequence <= *last) {
        answer_push(model, sent->ticket, WP_E_TIMEOUT, 0); /* a refusal that nobody heard */
        return;
    }
    if (sent->sequence != *last + 1) {
        model->resends++;
        answer_push(model, sent->ticket, WP_E_RESEND, *last + 1);
        return;
    }
    (*last)++;
    if (refused_by_apply(sent)) {
        answer_push(model, sent->ticket, WP_E_MAILBOX_FULL, 0);
        return;
    }
    if (!model->accepted[sent->stream][sent->publish]) {
        model->accepted[sent->stream][sent->publish] = true;
        model->log[sent->stream][model->log_count[sent->stream]++] = sent->publish;
    }
    answer_push(model, sent->ticket, WP_OK, 0);
}

static void told(struct model *model, const struct wp_submit_answer *answer)
{
    assert_true(answer->owner < STREAMS);
    assert_int_equal(model->told[answer->owner][answer->publish], 1); /* once */
    model->told[answer->owner][answer->publish] = answer->error;
}

static void hear(struct model *model)
{
    if (model->answer_first == model->answer_end) {
        return;
    }
    const struct answer *answer = &model->answers[model->answer_first++];
    Wp__SubmitReply reply = WP__SUBMIT_REPLY__INIT;
    struct wp_submit_answer out;
    reply.ticket = answer->ticket;
    reply.error = answer->error;
    reply.resend_from = answer->resend_from;
    if (wp_submits_reply(model->submits, &reply, model->now_ms, &out)) {
        told(model, &out);
    }
}

/* The link is lost: what was on it is gone; of the log's unsynced tail some survives and is applied, unheard.
 */
static void link_lose(struct model *model)
{
    model->wire.first = model->wire.end = 0;
    uint64_t kept = wp_prng_below(&model->prng, model->proposed.end - model->proposed.first + 1);
    model->proposed.end = model->proposed.first + (unsigned)kept;
    while (model->proposed.first < model->proposed.end) {
        apply(model);
    }
    model->proposed.first = model->proposed.end = 0;
    model->answer_first = model->answer_end = 0;
    wp_submits_shard_lost(model->submits, 1);
    model->link_up = false;
}

/* Another router leads, and the old one goes on talking: of what it had proposed some survives and is
 * applied, the rest and what was still on its way to it is refused; its answers come late, all of them. */
static void leader_change(struct model *model)
{
    unsigned kept = (unsigned)wp_prng_below(&model->prng, model->proposed.end - model->proposed.first + 1);
    for (unsigned i = 0; i < kept; i++) {
        apply(model);
    }
    while (model->proposed.first < model->proposed.end) {
        answer_push(model, model->proposed.items[model->proposed.first++].ticket, WP_E_UNAVAILABLE, 0);
    }
    while (model->wire.first < model->wire.end) {
        answer_push(model, model->wire.items[model->wire.first++].ticket, WP_E_NOT_LEADER, 0);
    }
    wp_submits_shard_lost(model->submits, 1);
    wp_submits_shard_found(model->submits, 1);
}

static void queues_compact(struct model *model)
{
    struct queue *queues[] = {&model->wire, &model->proposed};
    for (unsigned i = 0; i < 2; i++) {
        struct queue *queue = queues[i];
        memmove(
            queue->items, queue->items + queue->first, (queue->end - queue->first) * sizeof queue->items[0]);
        queue->end -= queue->first;
        queue->first = 0;
    }
    memmove(model->answers, model->answers + model->answer_first,
        (model->answer_end - model->answer_first) * sizeof model->answers[0]);
    model->answer_end -= model->answer_first;
    model->answer_first = 0;
}

static void step(struct model *model, bool faults)
{
    unsigned choice = (unsigned)wp_prng_below(&model->prng, 1000);
    unsigned stream = (unsigned)wp_prng_below(&model->prng, STREAMS);
    model->turn += wp_prng_below(&model->prng, 4) == 0;
    if (choice < 250 && model->pushed[stream] < PUBLISHES_MAX) {
        assert_int_equal(push(model, stream), WP_OK);
    } else if (choice < 500) {
        (void)send_one(model);
    } else if (choice < 650) {
        router_take(model);
    } else if (choice < 780) {
        apply(model);
    } else if (choice < 950) {
        hear(model);
    } else if (choice < 970) {
        model->now_ms += 60;
    } else if (faults && choice < 975) {
        model->disk_full = !model->disk_full;
    } else if (faults && choice < 980) {
        model->leaderless = !model->leaderless;
    } else if (faults && choice < 986) {
        (model->leaders_change ? leader_change : link_lose)(model);
    } else if (!model->link_up) {
        model->link_up = true;
        wp_submits_shard_found(model->submits, 1);
    }
    queues_compact(model);
}

/* Lets everything come through without faults. */
static void drain(struct model *model)
{
    model->disk_full = model->leaderless = false;
    model->link_up = true;
    wp_submits_shard_found(model->submits, 1);
    for (unsigned i = 0; wp_submits_count(model->submits) > 0; i++) {
        assert_true(i < 100000);
        (void)send_one(model);
        router_take(model);
        apply(model);
        hear(model);
        model->now_ms += 1;
        queues_compact(model);
    }
}

/* Order, once, nothing invented, nothing lost. */
static void check(const struct model *model)
{
    for (unsigned stream = 0; stream < STREAMS; stream++) {
        for (unsigned i = 1; i < model->log_count[stream]; i++) {
            assert_true(model->log[stream][i - 1] < model->log[stream][i]);
        }
        for (uint64_t publish = 1; publish <= model->pushed[stream]; publish++) {
            int answer = model->told[stream][publish];
            assert_true(answer != 1); /* everyone heard something */
            assert_true(answer != WP_OK || model->accepted[stream][publish]);
            assert_true(answer != WP_E_MAILBOX_FULL || !model->accepted[stream][publish]);
        }
    }
}

static void test_without_faults_nothing_is_sent_twice(void **state)
{
    static struct model model;
    (void)state;
    model_open(&model, 1);
    for (unsigned i = 0; i < 3000; i++) {
        step(&model, false);
    }
    drain(&model);
    check(&model);
    assert_int_equal(model.resends, 0);
    model_close(&model);
}

static void faults_run(bool leaders_change)
{
    static struct model model;
    unsigned resends = 0, losses = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        model_open(&model, seed);
        model.leaders_change = leaders_change;
        for (unsigned i = 0; i < 4000; i++) {
            struct wp_prng before = model.prng;
            unsigned choice = (unsigned)wp_prng_below(&before, 1000);
            losses += choice >= 980 && choice < 986;
            step(&model, true);
        }
        drain(&model);
        check(&model);
        resends += model.resends;
        model_close(&model);
    }
    assert_true(resends > 100); /* the faults did happen */
    assert_true(losses > 100);
}

static void test_order_and_once_over_faults(void **state)
{
    (void)state;
    faults_run(false);
}

static void test_order_and_once_over_leader_changes(void **state)
{
    (void)state;
    faults_run(true);
}

static void test_early_refusal_gives_its_number_back(void **state)
{
    static struct model model;
    (void)state;
    model_open(&model, 1);
    assert_int_equal(push(&model, 0), WP_OK);
    assert_true(send_one(&model));
    model.disk_full = true;
    router_take(&model);
    hear(&model);
    assert_int_equal(model.told[0][1], WP_E_DISK_RESERVE);
    model.disk_full = false;
    assert_int_equal(push(&model, 0), WP_OK);
    assert_true(send_one(&model));
    assert_int_equal(model.wire.items[model.wire.end - 1].sequence, 1);
    drain(&model);
    assert_int_equal(model.resends, 0);
    model_close(&model);
}

static void test_lost_link_repeats_the_same_numbers_and_ids(void **state)
{
    static struct model model;
    (void)state;
    model_open(&model, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(push(&model, 0), WP_OK);
        assert_true(send_one(&model));
    }
    uint64_t first_ticket = model.wire.items[0].ticket;
    link_lose(&model);
    model.link_up = true;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(send_one(&model));
        assert_int_equal(model.wire.items[i].sequence, i + 1);
        assert_int_equal(model.wire.items[i].publish, i + 1);
    }
    assert_true(model.wire.items[0].ticket != first_ticket);
    /* An answer to the first sending means nothing any more. */
    answer_push(&model, first_ticket, WP_E_MAILBOX_FULL, 0);
    hear(&model);
    assert_int_equal(model.told[0][1], 1);
    drain(&model);
    model_close(&model);
}

/* A failover with the link alive can swallow a submit whose successor is then refused: both go again, in
 * order. */
static void test_swallowed_submit_goes_again_with_its_successor(void **state)
{
    static struct model model;
    (void)state;
    model_open(&model, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(push(&model, 0), WP_OK);
        assert_true(send_one(&model));
    }
    router_take(&model);
    apply(&model);
    hear(&model);
    model.wire.first++; /* the second one is swallowed */
    router_take(&model);
    apply(&model);
    hear(&model);
    assert_int_equal(model.resends, 1);
    model.wire.first = model.wire.end = 0;
    for (uint64_t publish = 2; publish <= 3; publish++) {
        assert_true(send_one(&model));
        assert_int_equal(model.wire.items[model.wire.end - 1].publish, publish);
        assert_int_equal(model.wire.items[model.wire.end - 1].sequence, publish);
    }
    drain(&model);
    check(&model);
    model_close(&model);
}

static void test_shard_without_leader_pauses_and_goes_on(void **state)
{
    static struct model model;
    (void)state;
    model_open(&model, 1);
    assert_int_equal(push(&model, 0), WP_OK);
    assert_int_equal(push(&model, 0), WP_OK);
    assert_true(send_one(&model));
    assert_true(send_one(&model));
    model.leaderless = true;
    router_take(&model);
    hear(&model);
    assert_false(send_one(&model)); /* the pause */
    model.leaderless = false;
    model.wire.first = model.wire.end = 0;
    model.now_ms += WP_SUBMIT_RETRY_MS;
    assert_true(send_one(&model));
    assert_int_equal(model.wire.items[0].publish, 1);
    drain(&model);
    assert_int_equal(model.told[0][2], WP_OK);
    model_close(&model);
}

static void test_what_waits_too_long_is_given_up(void **state)
{
    static struct model model;
    struct wp_submit_answer answer;
    (void)state;
    model_open(&model, 1);
    assert_int_equal(push(&model, 0), WP_OK);
    assert_true(send_one(&model));
    assert_int_equal(push(&model, 0), WP_OK);
    assert_true(wp_submits_waiting_bytes(model.submits, 1) > 0);
    assert_false(wp_submits_give_up(model.submits, 1, false, model.now_ms + WP_SUBMIT_WAIT_MS - 1, &answer));
    /* On a live link only what could not be sent is given up; what was sent has an answer to come. */
    assert_true(wp_submits_give_up(model.submits, 1, true, model.now_ms + WP_SUBMIT_WAIT_MS, &answer));
    assert_int_equal(answer.publish, 2);
    assert_int_equal(answer.error, WP_E_UNAVAILABLE);
    assert_int_equal(wp_submits_waiting_bytes(model.submits, 1), 0);
    assert_false(wp_submits_give_up(model.submits, 1, true, model.now_ms + WP_SUBMIT_WAIT_MS, &answer));
    assert_true(wp_submits_give_up(model.submits, 1, true, model.now_ms + WP_SUBMIT_ANSWER_MS, &answer));
    assert_int_equal(answer.publish, 1);
    assert_int_equal(answer.error, WP_E_TIMEOUT);
    assert_int_equal(wp_submits_count(model.submits), 0);
    model_close(&model);
}

/* A fail-over of 4 s with a queue behind it: what could not be sent yet waits while the shard takes the rest.
 */
static void test_what_waits_behind_a_fail_over_is_not_given_up(void **state)
{
    static struct model model;
    struct wp_submit_answer answer;
    (void)state;
    model_open(&model, 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(push(&model, 0), WP_OK);
    }
    wp_submits_shard_lost(model.submits, 1);
    model.now_ms += 4000;
    wp_submits_shard_found(model.submits, 1);
    assert_true(send_one(&model));
    router_take(&model);
    apply(&model);
    hear(&model);
    assert_int_equal(model.told[0][1], WP_OK);
    model.now_ms += WP_SUBMIT_WAIT_MS - 1;
    assert_false(wp_submits_give_up(model.submits, 1, true, model.now_ms, &answer));
    model.now_ms += 1; /* and now it took nothing for so long */
    for (uint64_t publish = 2; publish <= 4; publish++) {
        assert_true(wp_submits_give_up(model.submits, 1, true, model.now_ms, &answer));
        assert_int_equal(answer.publish, publish);
    }
    model_close(&model);
}

static void test_lanes_and_devices_take_turns(void **state)
{
    static struct model model;
    unsigned stat_count = 0;
    (void)state;
    model_open(&model, 1);
    /* anna sends only routine (3, 6, 9 ...), berta only stat (2, 5, 8 ...): made by pushing the lanes in
     * between away. */
    for (unsigned i = 0; i < 90; i++) {
        assert_int_equal(push(&model, i % 2), WP_OK);
    }
    /* Within one turn a stream keeps its lane, whatever its later messages ask for. */
    Wp__Lane lanes[STREAMS] = {0};
    bool seen[STREAMS] = {false};
    for (unsigned i = 0; i < 40; i++) {
        assert_true(send_one(&model));
        const struct sent *sent = &model.wire.items[model.wire.end - 1];
        if (!seen[sent->stream]) {
            seen[sent->stream] = true;
            lanes[sent->stream] = sent->lane;
        }
        assert_int_equal(sent->lane, lanes[sent->stream]);
        stat_count += sent->stream == 1;
    }
    assert_true(stat_count >= 10 && stat_count <= 30);
    model.turn++;
    drain(&model);
    check(&model);
    model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_faults_nothing_is_sent_twice),
        cmocka_unit_test(test_order_and_once_over_faults),
        cmocka_unit_test(test_order_and_once_over_leader_changes),
        cmocka_unit_test(test_early_refusal_gives_its_number_back),
        cmocka_unit_test(test_lost_link_repeats_the_same_numbers_and_ids),
        cmocka_unit_test(test_swallowed_submit_goes_again_with_its_successor),
        cmocka_unit_test(test_shard_without_leader_pauses_and_goes_on),
        cmocka_unit_test(test_what_waits_too_long_is_given_up),
        cmocka_unit_test(test_what_waits_behind_a_fail_over_is_not_given_up),
        cmocka_unit_test(test_lanes_and_devices_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
