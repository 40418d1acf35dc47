/* Three replicas with the wires between them in the test's hand: leadership handed over, the time for which
 * it is certain, and elections before their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cluster/replica.h"
#include "cluster/replica_step.h"

#define ELECTION_MS 500u
#define HEARTBEAT_MS 100u
#define COUNT 3u
#define WIRE_MAX 4096u

struct wire {
    uint64_t from, to;
    struct wp_bytes *bytes;
};

static struct wp_replica *replicas[COUNT + 1]; /* by id */
static struct wire wires[WIRE_MAX];
static uint32_t wire_count;
static bool cut[COUNT + 1];      /* nothing reaches or leaves it */
static bool unsynced[COUNT + 1]; /* its disk does not answer */
static uint64_t now_ms;

static void take(uint64_t from, const struct wp_replica_update *update)
{
    for (uint32_t i = 0; i < update->message_count; i++) {
        const struct wp_replica_message *message = &update->messages[i];
        assert_true(wire_count < WIRE_MAX);
        struct wp_bytes *bytes =
            message->bytes ? wp_bytes_retain(message->bytes) : wp_replica_message_fill(message, NULL, 0);
        wires[wire_count++] = (struct wire){from, message->to, bytes};
    }
    struct wp_replica *replica = replicas[from];
    if (!unsynced[from] && update->write) {
        struct wp_replica_update next;
        assert_int_equal(wp_replica_persisted(replica, now_ms, wp_replica_last_write(replica), &next), WP_OK);
        take(from, &next);
    }
}

static void create(uint64_t id)
{
    struct wp_replica_config config = {.id = id,
        .seed = (uint32_t)id * 77,
        .election_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .inflight_entries = 4};
    assert_int_equal(wp_replica_create(&config, &replicas[id]), WP_OK);
    struct wp_replica_start start = {.fresh = true, .membership = {.count = COUNT}};
    for (uint32_t i = 0; i < COUNT; i++) {
        start.membership.members[i] = (struct wp_member){i + 1, WP_MEMBER_VOTER};
    }
    struct wp_replica_update update;
    assert_int_equal(wp_replica_start(replicas[id], now_ms, &start, &update), WP_OK);
    take(id, &update);
}

static int setup(void **state)
{
    (void)state;
    now_ms = 100; /* the clock of a machine that was just switched on */
    wire_count = 0;
    memset(cut, 0, sizeof cut);
    memset(unsynced, 0, sizeof unsynced);
    for (uint64_t id = 1; id <= COUNT; id++) {
        create(id);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < wire_count; i++) {
        wp_bytes_release(&wires[i].bytes);
    }
    for (uint64_t id = 1; id <= COUNT; id++) {
        wp_replica_destroy(&replicas[id]);
    }
    return 0;
}

static int give(const struct wire *wire)
{
    struct wp_replica_update update;
    int error = wp_replica_receive(
        replicas[wire->to], now_ms, wire->from, wp_slice(wire->bytes->data, wire->bytes->size), &update);
    if (error == WP_OK) {
        take(wire->to, &update);
    }
    return error;
}

/* Everything on its way arrives, and what that causes; what a cut or a silent disk holds up is lost. */
static void deliver(void)
{
    for (uint32_t i = 0; i < wire_count; i++) {
        struct wire wire = wires[i];
        bool parked = wp_replica_parked(replicas[wire.to]);
        if (!cut[wire.from] && !cut[wire.to] && !parked) {
            assert_int_equal(give(&wire), WP_OK);
        }
        wp_bytes_release(&wires[i].bytes);
    }
    wire_count = 0;
}

static void pass(uint64_t ms)
{
    for (uint64_t end = now_ms + ms; now_ms < end;) {
        now_ms += 10;
        for (uint64_t id = 1; id <= COUNT; id++) {
            struct wp_replica_update update;
            if (!wp_replica_parked(replicas[id])) {
                assert_int_equal(wp_replica_tick(replicas[id], now_ms, &update), WP_OK);
                take(id, &update);
            }
        }
        deliver();
    }
}

/* The leader of the highest term; 0 = none. */
static uint64_t leader(void)
{
    uint64_t found = 0;
    for (uint64_t id = 1; id <= COUNT; id++) {
        bool leads = wp_replica_role(replicas[id]) == WP_REPLICA_LEADER;
        if (leads && (!found || wp_replica_term(replicas[id]) > wp_replica_term(replicas[found]))) {
            found = id;
        }
    }
    return found;
}

static uint64_t elect(void)
{
    pass(3 * ELECTION_MS);
    assert_int_not_equal(leader(), 0);
    return leader();
}

static uint64_t other(uint64_t a, uint64_t b)
{
    return 6 - a - b;
}

static int propose(uint64_t id)
{
    struct wp_bytes *data = wp_bytes_copy("x", 1);
    struct wp_replica_update update;
    uint64_t index;
    int error = wp_replica_propose(replicas[id], now_ms, &data, &index, &update);
    wp_bytes_release(&data);
    if (error == WP_OK) {
        take(id, &update);
    }
    return error;
}

static int transfer(uint64_t from, uint64_t to)
{
    struct wp_replica_update update;
    int error = wp_replica_transfer(replicas[from], now_ms, to, &update);
    if (error == WP_OK) {
        take(from, &update);
    }
    return error;
}

static uint32_t wires_of(enum wp_rpc_type type)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < wire_count; i++) {
        struct wp_rpc rpc;
        assert_int_equal(wp_rpc_decode(wp_slice(wires[i].bytes->data, wires[i].bytes->size), &rpc), WP_OK);
        count += rpc.type == type;
    }
    return count;
}

/* --- transfer ---------------------------------------------------------------------------------- */

/* To one that has caught up: no time passes at all. */
static void test_transfer_takes_no_time(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t to = old % COUNT + 1;
    uint64_t term = wp_replica_term(replicas[old]);
    assert_int_equal(transfer(old, to), WP_OK);
    assert_int_equal(wp_replica_transferring(replicas[old]), to);
    assert_false(wp_replica_can_propose(replicas[old]));
    assert_int_equal(propose(old), WP_E_FULL);
    assert_int_equal(transfer(old, other(old, to)), WP_E_UNAVAILABLE);
    deliver();
    assert_int_equal(leader(), to);
    assert_int_equal(wp_replica_term(replicas[to]), term + 1);
    assert_int_equal(wp_replica_role(replicas[old]), WP_REPLICA_FOLLOWER);
    assert_int_equal(wp_replica_transferring(replicas[old]), 0);
    assert_int_equal(propose(to), WP_OK);
    assert_int_equal(transfer(old, to), WP_E_NOT_LEADER);
}

/* To one that is behind: the order leaves only when it holds everything, also what it did not hold when a
 * first answer of it came (the engine would give it with that answer, in vain, and never again). */
static void test_transfer_waits_for_the_log(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t to = old % COUNT + 1;
    cut[to] = true;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(propose(old), WP_OK);
        deliver();
    }
    pass(150);
    cut[to] = false;
    assert_int_equal(transfer(old, to), WP_OK);
    assert_int_equal(wires_of(WP_RPC_TIMEOUT_NOW), 0);
    pass(2 * HEARTBEAT_MS);
    assert_int_equal(leader(), to);
    assert_int_equal(wp_replica_last_index(replicas[to]), wp_replica_last_index(replicas[old]));
}

/* To one that is gone: after an election timeout the leader goes on, in the same term. */
static void test_transfer_to_the_dead_is_given_up(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t to = old % COUNT + 1;
    uint64_t term = wp_replica_term(replicas[old]);
    cut[to] = true;
    assert_int_equal(propose(old), WP_OK);
    deliver();
    assert_int_equal(transfer(old, to), WP_OK);
    pass(ELECTION_MS - 50);
    assert_int_equal(wp_replica_transferring(replicas[old]), to);
    assert_string_equal(wp_replica_transfer_failure(replicas[old]), "");
    pass(100);
    assert_int_equal(wp_replica_transferring(replicas[old]), 0);
    assert_non_null(strstr(wp_replica_transfer_failure(replicas[old]), "whole log"));
    assert_int_equal(leader(), old);
    assert_int_equal(wp_replica_term(replicas[old]), term);
    assert_int_equal(propose(old), WP_OK);
    assert_true(wp_replica_lease_ms(replicas[old]) > now_ms - ELECTION_MS); /* no order ever left */
}

/* The order left and was not obeyed: the leader goes on, with no lease until a later entry is committed; then
 * the order, found on the wire at last, changes nothing. */
static void test_late_order_is_harmless(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t to = old % COUNT + 1;
    assert_true(wp_replica_lease_ms(replicas[old]) > now_ms - ELECTION_MS);
    assert_int_equal(transfer(old, to), WP_OK);
    assert_int_equal(wires_of(WP_RPC_TIMEOUT_NOW), 1);
    struct wire order = wires[wire_count - 1];
    wp_bytes_retain(order.bytes);
    assert_int_equal(wp_replica_lease_ms(replicas[old]), 0);
    cut[to] = true;
    deliver();
    pass(ELECTION_MS - 50);
    assert_int_equal(wp_replica_lease_ms(replicas[old]), 0);
    uint64_t before = wp_replica_last_index(replicas[old]);
    unsynced[old] = true;
    pass(100);
    assert_int_equal(wp_replica_transferring(replicas[old]), 0);
    assert_non_null(strstr(wp_replica_transfer_failure(replicas[old]), "election"));
    assert_int_equal(wp_replica_last_index(replicas[old]), before + 1); /* a barrier outlives the order */
    assert_int_equal(wp_replica_lease_ms(replicas[old]), 0);
    unsynced[old] = false;
    struct wp_replica_update update;
    assert_int_equal(
        wp_replica_persisted(replicas[old], now_ms, wp_replica_last_write(replicas[old]), &update), WP_OK);
    take(old, &update);
    pass(20);
    assert_true(wp_replica_lease_ms(replicas[old]) > now_ms - ELECTION_MS);

    uint64_t term = wp_replica_term(replicas[old]);
    assert_int_equal(give(&order), WP_OK); /* to still ends where the order says, and stands for election */
    cut[to] = false;
    deliver();
    assert_int_equal(wp_replica_role(replicas[to]) == WP_REPLICA_LEADER, false);
    pass(3 * ELECTION_MS);
    assert_int_not_equal(leader(), 0);
    assert_true(wp_replica_term(replicas[leader()]) >= term);
    wp_bytes_release(&order.bytes);
}

static void test_transfer_targets(void **state)
{
    (void)state;
    uint64_t old = elect();
    assert_int_equal(transfer(old, old), WP_E_INVALID);
    assert_int_equal(transfer(old, 9), WP_E_INVALID);
    /* The successor is one that answers, not one that once held as much. */
    uint64_t gone = old % COUNT + 1;
    uint64_t here = other(old, gone);
    cut[gone] = true;
    pass(2 * ELECTION_MS);
    assert_int_equal(wp_replica_successor(replicas[old], NULL, 0), here);
    const uint64_t both[] = {here, gone};
    assert_int_equal(wp_replica_successor(replicas[old], both, 1), gone); /* rather nobody who goes himself */
    assert_int_equal(wp_replica_successor(replicas[old], both, 2), 0);
    cut[gone] = false;
    cut[here] = true;
    pass(2 * ELECTION_MS);
    assert_int_equal(leader(), old);
    assert_int_equal(wp_replica_successor(replicas[old], NULL, 0), gone);
    assert_int_equal(wp_replica_successor(replicas[gone], NULL, 0), 0);
}

/* --- lease ------------------------------------------------------------------------------------- */

/* A majority's answers carry it; without them it stays where it was, whatever arrives late. */
static void test_lease_is_the_time_of_asking(void **state)
{
    (void)state;
    uint64_t id = elect();
    pass(HEARTBEAT_MS);
    uint64_t lease = wp_replica_lease_ms(replicas[id]);
    assert_true(lease > now_ms - 2 * HEARTBEAT_MS);
    assert_int_equal(wp_replica_lease_ms(replicas[id % COUNT + 1]), 0);

    /* The leader stops for a while after its appends left; the answers wait for it. */
    struct wp_replica_update update;
    now_ms += HEARTBEAT_MS;
    uint64_t asked_ms = now_ms;
    assert_int_equal(wp_replica_tick(replicas[id], now_ms, &update), WP_OK);
    take(id, &update);
    uint32_t appends = wire_count;
    assert_int_equal(appends, 2);
    struct wire answers[2];
    for (uint32_t i = 0; i < appends; i++) {
        assert_int_equal(give(&wires[i]), WP_OK);
        answers[i] = wires[appends + i];
    }
    now_ms += 15000;
    for (uint32_t i = 0; i < appends; i++) {
        assert_int_equal(give(&answers[i]), WP_OK);
    }
    assert_int_equal(leader(), id); /* it knows no better yet */
    assert_int_equal(wp_replica_lease_ms(replicas[id]), asked_ms);
}

/* One of two others is enough, none is not; an answer from the future is refused. */
static void test_lease_needs_a_majority(void **state)
{
    (void)state;
    uint64_t id = elect();
    uint64_t one = id % COUNT + 1;
    cut[one] = true;
    pass(ELECTION_MS);
    assert_true(wp_replica_lease_ms(replicas[id]) >= now_ms - 2 * HEARTBEAT_MS);
    cut[other(id, one)] = true;
    uint64_t lease = wp_replica_lease_ms(replicas[id]);
    pass(ELECTION_MS / 2);
    assert_true(wp_replica_lease_ms(replicas[id]) <= lease + HEARTBEAT_MS);
    struct wp_rpc rpc = {.type = WP_RPC_APPEND_RESULT, .term = wp_replica_term(replicas[id])};
    rpc.append_result.stamp_ms = now_ms + 1;
    struct wire wire = {one, id, wp_rpc_encode(&rpc, NULL)};
    assert_int_equal(give(&wire), WP_E_MALFORMED);
    wp_bytes_release(&wire.bytes);
}

/* An answer that waits for the disk returns the stamp of an append, not the time of the sync. */
static void test_answers_after_a_sync_return_stamps(void **state)
{
    (void)state;
    uint64_t id = elect();
    uint64_t to = id % COUNT + 1;
    deliver();
    uint64_t asked_ms = now_ms;
    assert_int_equal(propose(id), WP_OK);
    unsynced[to] = true;
    deliver();
    now_ms += 70;
    unsynced[to] = false;
    struct wp_replica_update update;
    assert_int_equal(
        wp_replica_persisted(replicas[to], now_ms, wp_replica_last_write(replicas[to]), &update), WP_OK);
    assert_int_equal(update.message_count, 1);
    assert_int_equal(update.messages[0].rpc.type, WP_RPC_APPEND_RESULT);
    assert_int_equal(update.messages[0].rpc.append_result.stamp_ms, asked_ms);
}

/* A stale answer returns none. */
static void test_stale_answers_carry_no_stamp(void **state)
{
    (void)state;
    uint64_t id = elect();
    uint64_t to = id % COUNT + 1;
    struct wp_rpc rpc = {.type = WP_RPC_APPEND, .term = 1, .append = {1, 1, 1, 7}};
    struct wire wire = {id, to, wp_rpc_encode(&rpc, NULL)};
    deliver();
    assert_int_equal(give(&wire), WP_OK);
    wp_bytes_release(&wire.bytes);
    assert_int_equal(wire_count, 1);
    assert_int_equal(wp_rpc_decode(wp_slice(wires[0].bytes->data, wires[0].bytes->size), &rpc), WP_OK);
    assert_int_equal(rpc.flags, WP_RPC_STALE);
    assert_int_equal(rpc.append_result.stamp_ms, 0);
}

/* --- early election ---------------------------------------------------------------------------- */

/* Both followers lose their connections when the leader dies: a new one leads long before the timeout. */
static void test_early_election(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        uint64_t old = elect();
        cut[old] = true;
        for (uint64_t id = 1; id <= COUNT; id++) {
            wp_replica_leader_lost(replicas[id], now_ms);
        }
        uint64_t died_ms = now_ms;
        while (leader() == old) {
            pass(10);
        }
        assert_true(now_ms - died_ms < ELECTION_MS - 100);
        cut[old] = false;
        pass(ELECTION_MS);
    }
}

/* The one with less of the log asks first, in vain; the other one is not long behind. */
static void test_early_election_with_unequal_logs(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t behind = old % COUNT + 1;
    cut[behind] = true;
    assert_int_equal(propose(old), WP_OK);
    deliver();
    cut[behind] = false;
    cut[old] = true;
    uint64_t died_ms = now_ms;
    wp_replica_leader_lost(replicas[behind], now_ms);
    pass(110);
    wp_replica_leader_lost(replicas[other(old, behind)], now_ms);
    while (leader() == old) {
        pass(10);
    }
    assert_int_equal(leader(), other(old, behind));
    assert_true(now_ms - died_ms < ELECTION_MS);
}

/* The leader is well: whoever lost a connection asks, nobody grants, and the next append brings it back. */
static void test_false_alarm_changes_nothing(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t term = wp_replica_term(replicas[old]);
    uint64_t id = old % COUNT + 1;
    wp_replica_leader_lost(replicas[id], now_ms);
    pass(2 * ELECTION_MS);
    assert_int_equal(leader(), old);
    assert_int_equal(wp_replica_term(replicas[old]), term);
    assert_int_equal(wp_replica_role(replicas[id]), WP_REPLICA_FOLLOWER);
    wp_replica_leader_lost(replicas[old], now_ms); /* nothing for a leader */
    pass(ELECTION_MS);
    assert_int_equal(leader(), old);
}

/* What is still being written is waited for, not for a whole timeout. */
static void test_early_election_waits_for_the_disk(void **state)
{
    (void)state;
    uint64_t old = elect();
    uint64_t id = old % COUNT + 1;
    assert_int_equal(propose(old), WP_OK);
    unsynced[id] = true;
    deliver();
    cut[old] = true;
    wp_replica_leader_lost(replicas[id], now_ms);
    pass(200);
    assert_int_equal(wp_replica_role(replicas[id]), WP_REPLICA_FOLLOWER);
    unsynced[id] = false;
    struct wp_replica_update update;
    assert_int_equal(
        wp_replica_persisted(replicas[id], now_ms, wp_replica_last_write(replicas[id]), &update), WP_OK);
    take(id, &update);
    pass(20);
    assert_int_equal(wp_replica_role(replicas[id]), WP_REPLICA_CANDIDATE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_transfer_takes_no_time),
        TEST(test_transfer_waits_for_the_log),
        TEST(test_transfer_to_the_dead_is_given_up),
        TEST(test_late_order_is_harmless),
        TEST(test_transfer_targets),
        TEST(test_lease_is_the_time_of_asking),
        TEST(test_lease_needs_a_majority),
        TEST(test_answers_after_a_sync_return_stamps),
        TEST(test_stale_answers_carry_no_stamp),
        TEST(test_early_election),
        TEST(test_early_election_with_unequal_logs),
        TEST(test_false_alarm_changes_nothing),
        TEST(test_early_election_waits_for_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
