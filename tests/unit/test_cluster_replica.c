/* One replica, driven by hand-made messages: the rules of Raft and the defects of the engine, each as a short
 * story. The peers are the test itself; replica 1 is the one under test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cluster/replica.h"
#include "cluster/replica_step.h"
#include "proto/frame.h"

#define ELECTION_MS 500u

static const struct wp_membership solo = {1, {{1, WP_MEMBER_VOTER}}};
static const struct wp_membership three = {
    3, {{1, WP_MEMBER_VOTER}, {2, WP_MEMBER_VOTER}, {3, WP_MEMBER_VOTER}}};
static const struct wp_membership four = {
    4, {{1, WP_MEMBER_VOTER}, {2, WP_MEMBER_VOTER}, {3, WP_MEMBER_VOTER}, {4, WP_MEMBER_LEARNER}}};
static const struct wp_membership five = {
    5, {{1, WP_MEMBER_VOTER}, {2, WP_MEMBER_VOTER}, {3, WP_MEMBER_VOTER}, {4, WP_MEMBER_VOTER},
           {5, WP_MEMBER_VOTER}}};

static struct wp_replica *replica;
static struct wp_replica_update update;
static uint64_t now_ms;

/* --- the replica under test -------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    struct wp_replica_config config = {
        .id = 1, .seed = 7, .election_ms = ELECTION_MS, .heartbeat_ms = 100, .inflight_entries = 4};
    now_ms = 1000;
    update = (struct wp_replica_update){0};
    return wp_replica_create(&config, &replica);
}

static int teardown(void **state)
{
    (void)state;
    wp_replica_destroy(&replica);
    return 0;
}

static void persist(void)
{
    assert_int_equal(wp_replica_persisted(replica, now_ms, wp_replica_last_write(replica), &update), WP_OK);
}

/* Found on disk: entry 1 is the membership (term 1), then commands of the given terms. */
static int start_with(
    const struct wp_membership *membership, const uint64_t *terms, uint32_t count, uint64_t hard_term)
{
    struct wp_log_entry entries[16] = {{.index = 1, .term = 1, .kind = WP_ENTRY_CHANGE}};
    entries[0].data = wp_membership_encode(membership);
    for (uint32_t i = 0; i < count; i++) {
        entries[i + 1] = (struct wp_log_entry){.index = i + 2, .term = terms[i], .kind = WP_ENTRY_COMMAND};
        entries[i + 1].data = wp_bytes_copy("found", 5);
    }
    struct wp_replica_start start = {
        .hard = {.term = hard_term}, .entries = entries, .entry_count = count + 1};
    int error = wp_replica_start(replica, now_ms, &start, &update);
    for (uint32_t i = 0; i <= count; i++) {
        wp_bytes_release(&entries[i].data);
    }
    return error;
}

static void start_follower(const struct wp_membership *membership)
{
    assert_int_equal(start_with(membership, NULL, 0, 1), WP_OK);
    assert_false(update.hard_changed);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
}

static int receive(uint64_t from, const struct wp_rpc *rpc, const struct wp_log_entry *entries)
{
    struct wp_bytes *bytes = wp_rpc_encode(rpc, entries);
    int error = wp_replica_receive(replica, now_ms, from, wp_slice(bytes->data, bytes->size), &update);
    wp_bytes_release(&bytes);
    return error;
}

/* An append of entries given as kinds 'c' (command), 'b' (barrier), 'm' (membership `four`), all of the
 * sender's term. */
static int append(uint64_t from, uint64_t term, uint64_t previous_index, uint64_t previous_term,
    uint64_t commit, const char *kinds)
{
    struct wp_log_entry entries[8];
    struct wp_rpc rpc = {
        .type = WP_RPC_APPEND, .term = term, .append = {previous_index, previous_term, commit}};
    for (; kinds[rpc.entry_count]; rpc.entry_count++) {
        struct wp_log_entry *entry = &entries[rpc.entry_count];
        char kind = kinds[rpc.entry_count];
        *entry = (struct wp_log_entry){.term = term};
        entry->kind = kind == 'c' ? WP_ENTRY_COMMAND : kind == 'b' ? WP_ENTRY_BARRIER : WP_ENTRY_CHANGE;
        entry->data = kind == 'c'   ? wp_bytes_copy("data", 4)
                      : kind == 'b' ? wp_bytes_create(0)
                                    : wp_membership_encode(&four);
    }
    int error = receive(from, &rpc, entries);
    for (uint32_t i = 0; i < rpc.entry_count; i++) {
        wp_bytes_release(&entries[i].data);
    }
    return error;
}

static void result(uint64_t from, uint64_t term, uint64_t rejected, uint64_t last)
{
    struct wp_rpc rpc = {.type = WP_RPC_APPEND_RESULT, .term = term, .append_result = {rejected, last}};
    assert_int_equal(receive(from, &rpc, NULL), WP_OK);
}

static void grant(uint64_t from, uint64_t term, bool pre_vote)
{
    struct wp_rpc rpc = {.type = WP_RPC_VOTE_RESULT, .term = term};
    rpc.flags = (uint8_t)(WP_RPC_GRANTED | (pre_vote ? WP_RPC_PRE_VOTE : 0));
    assert_int_equal(receive(from, &rpc, NULL), WP_OK);
}

/* The first message of `type` in the last update; fails when there is none. */
static struct wp_rpc sent(enum wp_rpc_type type, uint64_t to)
{
    for (uint32_t i = 0; i < update.message_count; i++) {
        if (update.messages[i].to == to && update.messages[i].rpc.type == type) {
            return update.messages[i].rpc;
        }
    }
    fail_msg("no message of type %d to %d", (int)type, (int)to);
    return (struct wp_rpc){0};
}

/* Through a pre-vote and an election into leadership, with the barrier synced. */
static void become_leader(uint64_t voter_a, uint64_t voter_b)
{
    now_ms += 2 * ELECTION_MS;
    assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_CANDIDATE);
    assert_false(update.hard_changed); /* a pre-vote binds nobody */
    uint64_t term = wp_replica_term(replica) + 1;
    grant(voter_a, term, true);
    if (voter_b) {
        grant(voter_b, term, true);
    }
    assert_int_equal(wp_replica_term(replica), term);
    assert_true(update.hard_changed);
    assert_int_equal(update.hard.voted_for, 1);
    assert_true(wp_replica_parked(replica));
    persist();
    grant(voter_a, term, false);
    if (voter_b) {
        grant(voter_b, term, false);
    }
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_LEADER);
    assert_true(update.role_changed);
    assert_int_equal(update.entry_count, 1);
    assert_int_equal(update.entries[0].kind, WP_ENTRY_BARRIER);
    assert_int_equal(update.entries[0].term, term);
    persist();
}

static uint64_t propose(void)
{
    struct wp_bytes *data = wp_bytes_copy("mine", 4);
    uint64_t index = 0;
    assert_int_equal(wp_replica_propose(replica, now_ms, &data, &index, &update), WP_OK);
    assert_null(data);
    return index;
}

/* --- starts ------------------------------------------------------------------------------------ */

/* A sole voter leads when start returns: new term and own vote, barrier in the same write; ready after its
 * sync. */
static void test_sole_voter_leads_at_once(void **state)
{
    (void)state;
    struct wp_replica_start start = {.fresh = true, .membership = solo};
    assert_int_equal(wp_replica_start(replica, now_ms, &start, &update), WP_OK);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_LEADER);
    assert_true(update.hard_changed);
    assert_int_equal(update.hard.term, 2);
    assert_int_equal(update.entry_count, 2);
    assert_int_equal(update.entries[0].kind, WP_ENTRY_CHANGE);
    assert_int_equal(update.entries[0].term, 1);
    assert_int_equal(update.entries[1].kind, WP_ENTRY_BARRIER);
    assert_int_equal(update.message_count, 0);
    assert_true(wp_replica_parked(replica));
    assert_false(wp_replica_can_propose(replica));
    persist();
    assert_int_equal(wp_replica_commit_index(replica), 2);
    assert_true(wp_replica_can_propose(replica));
    assert_int_equal(propose(), 3);
    assert_int_equal(wp_replica_commit_index(replica), 2);
    persist();
    assert_int_equal(wp_replica_commit_index(replica), 3);
}

/* A synthetic snapshot with the log above it: commit starts at the snapshot, entries below it serve only
 * peers. */
static void test_start_from_a_snapshot(void **state)
{
    (void)state;
    struct wp_log_entry entries[3] = {
        {.index = 9, .term = 2, .kind = WP_ENTRY_COMMAND},
        {.index = 10, .term = 3, .kind = WP_ENTRY_COMMAND},
        {.index = 11, .term = 3, .kind = WP_ENTRY_COMMAND, .data = wp_bytes_copy("x", 1)},
    };
    struct wp_replica_start start = {.hard = {.term = 3, .voted_for = 2},
        .snapshot_index = 10,
        .snapshot_term = 3,
        .membership = three,
        .membership_index = 1,
        .entries = entries,
        .entry_count = 3};
    assert_int_equal(wp_replica_start(replica, now_ms, &start, &update), WP_OK);
    wp_bytes_release(&entries[2].data);
    assert_int_equal(wp_replica_commit_index(replica), 10);
    assert_int_equal(wp_replica_last_index(replica), 11);
    assert_null(wp_replica_entry(replica, 10));
    assert_int_equal(wp_replica_entry(replica, 11)->term, 3);
    assert_int_equal(wp_replica_membership(replica)->count, 3);
    become_leader(2, 0);
    /* A follower that ends at 9: its predecessor is known, the entries are named and must be read from the
     * log. */
    result(2, 4, 11, 9);
    assert_int_equal(sent(WP_RPC_APPEND, 2).append.previous_index, 9);
    result(2, 4, 0, 9);
    struct wp_rpc rpc = sent(WP_RPC_APPEND, 2);
    assert_int_equal(rpc.append.previous_index, 9);
    assert_int_equal(rpc.append.previous_term, 2);
    assert_int_equal(rpc.entry_count, 3);
    assert_null(update.messages[0].bytes);
    struct wp_bytes *bytes = wp_replica_message_fill(&update.messages[0], NULL, 0);
    assert_int_equal(wp_rpc_decode(wp_slice(bytes->data, bytes->size), &rpc), WP_OK);
    assert_int_equal(rpc.entry_count, 0);
    wp_bytes_release(&bytes);
}

static void test_starts_that_contradict_themselves(void **state)
{
    (void)state;
    struct wp_bytes *data = wp_bytes_copy("x", 1);
    struct wp_bytes *change = wp_membership_encode(&three);
    const struct wp_log_entry ok = {.index = 1, .term = 1, .kind = WP_ENTRY_CHANGE, .data = change};
    const struct wp_log_entry command = {.index = 1, .term = 1, .kind = WP_ENTRY_COMMAND, .data = data};
    const struct wp_log_entry bad_change = {.index = 1, .term = 1, .kind = WP_ENTRY_CHANGE, .data = data};
    const struct wp_log_entry gap[] = {ok, {.index = 3, .term = 1, .kind = WP_ENTRY_COMMAND, .data = data}};
    const struct wp_log_entry falling[] = {{.index = 5, .term = 2, .kind = WP_ENTRY_COMMAND, .data = data},
        {.index = 6, .term = 1, .kind = WP_ENTRY_COMMAND, .data = data}};
    const struct wp_log_entry empty = {.index = 5, .term = 2, .kind = WP_ENTRY_COMMAND};
    const struct wp_replica_start starts[] = {
        {.fresh = true, .membership = three, .hard = {.term = 1, .voted_for = 0}}, /* fresh, yet a term */
        {.fresh = true},                                                           /* fresh without members */
        {.hard = {.term = 1, .voted_for = 0},
            .entries = &command,
            .entry_count = 1}, /* entry 1 is no membership */
        {.hard = {.term = 1, .voted_for = 0},
            .entries = &bad_change,
            .entry_count = 1}, /* entry 1 does not decode */
        {.hard = {.term = 0, .voted_for = 0},
            .entries = &ok,
            .entry_count = 1}, /* an entry of a later term */
        {.hard = {.term = 1, .voted_for = 0}, .entries = gap, .entry_count = 2},
        {.hard = {.term = 9, .voted_for = 0},
            .snapshot_index = 4,
            .snapshot_term = 1,
            .membership = three,
            .membership_index = 1,
            .entries = falling,
            .entry_count = 2},
        {.hard = {.term = 9, .voted_for = 0},
            .snapshot_index = 4,
            .snapshot_term = 1,
            .membership = three,
            .membership_index = 1,
            .entries = &empty,
            .entry_count = 1},
        {.hard = {.term = 9, .voted_for = 0},
            .snapshot_index = 3,
            .snapshot_term = 1,
            .membership = three,
            .membership_index = 1,
            .entries = falling,
            .entry_count = 1}, /* a gap above the snapshot */
        {.hard = {.term = 9, .voted_for = 0},
            .snapshot_index = 5,
            .snapshot_term = 1,
            .membership = three,
            .membership_index = 1,
            .entries = falling,
            .entry_count = 1}, /* another term there */
        {.hard = {.term = 9, .voted_for = 0},
            .snapshot_index = 5,
            .snapshot_term = 2,
            .membership = three,
            .membership_index = 6},
        {.hard = {.term = 9, .voted_for = 0},
            .snapshot_index = 5,
            .snapshot_term = 2,
            .membership_index = 1}, /* no members */
        {.hard = {.term = 1, .voted_for = 0},
            .snapshot_index = 5,
            .snapshot_term = 2,
            .membership = three,
            .membership_index = 1},
    };
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        assert_int_equal(wp_replica_start(replica, now_ms, &starts[i], &update), WP_E_CORRUPT);
    }
    wp_bytes_release(&data);
    wp_bytes_release(&change);
}

/* --- durability -------------------------------------------------------------------------------- */

/* A vote is not sent before it is synced, and a second one in the same term is refused. */
static void test_a_vote_parks_the_replica(void **state)
{
    (void)state;
    start_follower(&three);
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .term = 2, .vote = {2, 1, 1}};
    now_ms += ELECTION_MS;
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_true(update.hard_changed);
    assert_int_equal(update.hard.term, 2);
    assert_int_equal(update.hard.voted_for, 2);
    assert_true(sent(WP_RPC_VOTE_RESULT, 2).flags & WP_RPC_GRANTED);
    assert_true(wp_replica_parked(replica));
    persist();
    assert_false(wp_replica_parked(replica));
    vote.vote.candidate = 3;
    assert_int_equal(receive(3, &vote, NULL), WP_OK);
    assert_false(update.hard_changed);
    assert_false(sent(WP_RPC_VOTE_RESULT, 3).flags & WP_RPC_GRANTED);
    vote.vote.candidate = 2; /* asked again by the one it voted for: granted again, nothing to write */
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_false(update.hard_changed);
    assert_true(sent(WP_RPC_VOTE_RESULT, 2).flags & WP_RPC_GRANTED);
}

/* A voter that was just started may have answered a leader a moment before: it gives no vote for one election
 * timeout, unless that leader asks for the election itself. */
static void test_no_vote_just_after_a_restart(void **state)
{
    (void)state;
    start_follower(&three);
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .term = 2, .vote = {2, 1, 1}};
    now_ms += ELECTION_MS - 1;
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_int_equal(update.message_count, 0);
    assert_false(update.hard_changed);
    vote.flags = WP_RPC_PRE_VOTE;
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_int_equal(update.message_count, 0);
    vote.flags = WP_RPC_DISRUPT_LEADER;
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_true(sent(WP_RPC_VOTE_RESULT, 2).flags & WP_RPC_GRANTED);
}

/* Entries are acknowledged when their write is reported, once, and not by the report of an earlier write. */
static void test_acknowledged_when_synced(void **state)
{
    (void)state;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 1, ""), WP_OK);
    persist();
    assert_int_equal(append(2, 2, 1, 1, 3, "cc"), WP_OK);
    uint64_t first = update.write;
    assert_int_equal(update.message_count, 0);
    assert_int_equal(append(2, 2, 3, 2, 4, "c"), WP_OK);
    uint64_t second = update.write;
    assert_int_equal(second, first + 1);
    assert_int_equal(wp_replica_commit_index(replica), 1); /* committed by others, but not durable here */

    assert_int_equal(wp_replica_persisted(replica, now_ms, first, &update), WP_OK);
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 2).append_result.last_index, 3);
    assert_int_equal(wp_replica_commit_index(replica), 3);
    assert_true(update.commit_advanced);
    assert_int_equal(wp_replica_persisted(replica, now_ms, first, &update), WP_OK);
    assert_int_equal(update.message_count, 0);
    assert_int_equal(wp_replica_persisted(replica, now_ms, second, &update), WP_OK);
    assert_int_equal(wp_replica_durable_index(replica), 4);
    assert_int_equal(wp_replica_persisted(replica, now_ms, second + 1, &update), WP_E_INVALID);
}

/* A new leader truncates what is still being written: the late report of the old write acknowledges nothing.
 */
static void test_report_of_truncated_entries(void **state)
{
    (void)state;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 1, ""), WP_OK);
    persist();
    assert_int_equal(append(2, 2, 1, 1, 1, "ccc"), WP_OK);
    uint64_t old_write = update.write;
    assert_int_equal(append(3, 3, 1, 1, 1, "c"), WP_OK);
    assert_int_equal(update.truncate_from, 2);
    assert_int_equal(update.entry_count, 1);
    assert_true(update.hard_changed);
    uint64_t new_write = update.write;

    assert_int_equal(wp_replica_persisted(replica, now_ms, old_write, &update), WP_OK);
    assert_int_equal(wp_replica_durable_index(replica), 1);
    assert_true(wp_replica_parked(replica));
    assert_int_equal(update.message_count, 0);
    assert_int_equal(wp_replica_persisted(replica, now_ms, new_write, &update), WP_OK);
    assert_int_equal(wp_replica_durable_index(replica), 2);
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 3).append_result.last_index, 2);
    assert_int_equal(wp_replica_last_index(replica), 2);
}

/* --- defects of the engine --------------------------------------------------------------------- */

/* Raft.md rule 7: an append that ends before the commit index takes the engine's commit index back. Ours
 * stays. */
static void test_commit_index_does_not_fall(void **state)
{
    (void)state;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 5, "cccc"), WP_OK);
    persist();
    assert_int_equal(wp_replica_commit_index(replica), 5);
    assert_int_equal(append(2, 2, 2, 2, 9, ""), WP_OK);
    assert_int_equal(
        raft_commit_index(&replica->raft), 2); /* the defect; when this fails the library was mended */
    assert_int_equal(wp_replica_commit_index(replica), 5);
    assert_false(update.commit_advanced);
}

/* Rule 7: a membership change that is not the first new entry of its message. Tracked at its own index,
 * committed when that index is, not when the message's first entry is. */
static void test_membership_change_behind_other_entries(void **state)
{
    (void)state;
    uint64_t index;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 3, "ccmc"), WP_OK);
    assert_int_equal(update.entry_count, 4);
    assert_int_equal(update.entries[2].kind, WP_ENTRY_CHANGE);
    persist();
    assert_int_equal(replica->raft.configuration_uncommitted_index, 4);
    assert_int_equal(wp_replica_membership(replica)->count, 4);
    wp_replica_committed_membership(replica, &index);
    assert_int_equal(index, 1);
    assert_int_equal(append(2, 2, 5, 2, 4, ""), WP_OK);
    assert_int_equal(wp_replica_committed_membership(replica, &index)->count, 4);
    assert_int_equal(index, 4);
}

/* The same, truncated by the next leader before it commits: the old membership is back. */
static void test_membership_change_rolled_back(void **state)
{
    (void)state;
    uint64_t index;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 3, "ccmc"), WP_OK);
    persist();
    assert_int_equal(append(3, 3, 3, 2, 3, "b"), WP_OK);
    assert_int_equal(update.truncate_from, 4);
    assert_int_equal(wp_replica_membership(replica)->count, 3);
    assert_int_equal(replica->raft.configuration_uncommitted_index, 0);
    wp_replica_committed_membership(replica, &index);
    assert_int_equal(index, 1);
}

/* Rule 7: the answer to an older term leaves the engine with fields that were never set. It goes out marked
 * and zeroed; who leads the newer term by now takes nothing from it, who leads the older one steps down. */
static void test_answer_to_an_older_term(void **state)
{
    (void)state;
    start_follower(&three);
    assert_int_equal(append(2, 5, 1, 1, 1, ""), WP_OK);
    persist();
    assert_int_equal(append(3, 4, 1, 1, 1, "c"), WP_OK);
    struct wp_rpc rpc = sent(WP_RPC_APPEND_RESULT, 3);
    assert_int_equal(rpc.flags, WP_RPC_STALE);
    assert_int_equal(rpc.term, 5);
    assert_int_equal(rpc.append_result.last_index, 0);
    assert_int_equal(wp_replica_last_index(replica), 1);

    become_leader(2, 0); /* of term 6 */
    result(2, 6, 0, 1);
    uint64_t match;
    raft_index engine_match;
    assert_int_equal(raft_match_index(&replica->raft, 2, &engine_match), 0);
    match = engine_match;
    struct wp_rpc stale = {
        .type = WP_RPC_APPEND_RESULT, .flags = WP_RPC_STALE, .term = 6, .append_result = {2, 0}};
    assert_int_equal(receive(2, &stale, NULL), WP_OK);
    assert_int_equal(update.message_count, 0);
    assert_int_equal(raft_match_index(&replica->raft, 2, &engine_match), 0);
    assert_int_equal(engine_match, match);
    stale.term = 9;
    assert_int_equal(receive(2, &stale, NULL), WP_OK);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
    assert_int_equal(wp_replica_term(replica), 9);
    assert_true(update.hard_changed);
}

/* Two who stand still in an old term learn of the later one when their pre-vote is refused (the engine would
 * answer with the term that was asked for, and neither side would ever lead). */
static void test_refused_pre_vote_tells_the_term(void **state)
{
    (void)state;
    assert_int_equal(start_with(&three, NULL, 0, 7), WP_OK);
    now_ms += ELECTION_MS;
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .flags = WP_RPC_PRE_VOTE, .term = 4, .vote = {2, 9, 3}};
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    struct wp_rpc answer = sent(WP_RPC_VOTE_RESULT, 2);
    assert_int_equal(answer.flags, WP_RPC_PRE_VOTE);
    assert_int_equal(answer.term, 7);
    now_ms += 2 * ELECTION_MS;
    assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_CANDIDATE);
    answer.term = 12;
    assert_int_equal(receive(3, &answer, NULL), WP_OK);
    assert_int_equal(wp_replica_term(replica), 12);
    assert_true(update.hard_changed);
}

/* A replica whose log begins above a snapshot is asked to match, or given, entries below it: all of that is
 * committed. It answers from the snapshot on; the engine would refuse for ever, or append them at its end. */
static void start_at_snapshot(uint64_t index, uint64_t hard_term, uint64_t lost_index, uint64_t lost_term)
{
    struct wp_replica_start start = {
        .hard = {.term = hard_term, .lost_index = lost_index, .lost_term = lost_term},
        .snapshot_index = index,
        .snapshot_term = 2,
        .membership = three,
        .membership_index = 1};
    assert_int_equal(wp_replica_start(replica, now_ms, &start, &update), WP_OK);
}

static void test_appends_from_below_a_snapshot(void **state)
{
    (void)state;
    start_at_snapshot(10, 2, 0, 0);
    assert_int_equal(append(2, 2, 7, 2, 9, ""), WP_OK); /* anchored below */
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 2).append_result.rejected_index, 0);
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 2).append_result.last_index, 10);
    assert_int_equal(append(2, 2, 0, 0, 9, "cccc"), WP_OK); /* from the very first entry on */
    assert_int_equal(update.entry_count, 0);
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 2).append_result.last_index, 10);
    assert_int_equal(append(2, 2, 8, 2, 12, "cccc"), WP_OK); /* across it */
    assert_int_equal(update.entry_count, 2);
    assert_int_equal(update.entries[0].index, 11);
    persist();
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 2).append_result.last_index, 12);
    assert_int_equal(wp_replica_commit_index(replica), 12);
    assert_int_equal(append(3, 1, 7, 1, 9, "cccc"), WP_OK); /* of an older term: nothing of it */
    assert_int_equal(sent(WP_RPC_APPEND_RESULT, 3).flags, WP_RPC_STALE);
}

/* Entries that would be older than the snapshot before them come from nobody. */
static void test_entries_older_than_the_snapshot(void **state)
{
    (void)state;
    struct wp_log_entry entries[4];
    struct wp_rpc rpc = {.type = WP_RPC_APPEND, .term = 5, .append = {8, 1, 9}, .entry_count = 4};
    start_at_snapshot(10, 2, 0, 0);
    for (int i = 0; i < 4; i++) {
        entries[i] =
            (struct wp_log_entry){.term = 1, .kind = WP_ENTRY_COMMAND, .data = wp_bytes_copy("x", 1)};
    }
    assert_int_equal(receive(2, &rpc, entries), WP_E_MALFORMED);
    assert_int_equal(wp_replica_last_index(replica), 10);
    for (int i = 0; i < 4; i++) {
        wp_bytes_release(&entries[i].data);
    }
}

/* A refusal comes with what is committed here, so that a leader in its snapshot state, which does not listen
 * to refusals, goes on from there. */
static void test_refusal_tells_what_is_committed(void **state)
{
    (void)state;
    start_at_snapshot(10, 2, 0, 0);
    assert_int_equal(append(2, 2, 30, 2, 30, "cc"), WP_OK);
    assert_int_equal(update.message_count, 2);
    assert_int_equal(update.messages[0].rpc.append_result.rejected_index, 0);
    assert_int_equal(update.messages[0].rpc.append_result.last_index, 10);
    assert_int_equal(update.messages[1].rpc.append_result.rejected_index, 30);
    assert_int_equal(update.messages[1].rpc.append_result.last_index, 10);
    assert_int_equal(append(3, 1, 30, 1, 30, ""), WP_OK); /* nothing to a leader of an older term */
    assert_int_equal(update.message_count, 1);
}

/* Who acknowledged entries up to 20 in terms up to 2 and holds 10 of them neither votes nor stands for
 * election... */
static void test_who_forgot_does_not_vote(void **state)
{
    (void)state;
    start_at_snapshot(10, 2, 20, 2);
    now_ms += ELECTION_MS;
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .term = 3, .vote = {2, 15, 2}};
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_int_equal(update.message_count, 0);
    vote.flags = WP_RPC_DISRUPT_LEADER;
    assert_int_equal(receive(2, &vote, NULL), WP_OK);
    assert_int_equal(update.message_count, 0);
    wp_replica_leader_lost(replica, now_ms);
    for (int i = 0; i < 30; i++) {
        now_ms += 100;
        assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    }
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
    /* ... until its log is as long again. */
    for (uint64_t last = 10; last < 20; last += 2) {
        assert_int_equal(append(2, 2, last, 2, last, "cc"), WP_OK);
        struct wp_rpc order = {.type = WP_RPC_TIMEOUT_NOW, .term = 2, .timeout_now = {last + 2, 2}};
        persist();
        if (last < 18) {
            assert_int_equal(receive(2, &order, NULL), WP_OK);
            assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
        }
    }
    now_ms += 2 * ELECTION_MS;
    assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_CANDIDATE);
}

/* ... or holds an entry of a later leader: that one has all that was committed. The next hard state says so.
 */
static void test_a_later_leaders_entry_makes_whole(void **state)
{
    (void)state;
    start_at_snapshot(10, 2, 20, 2);
    assert_int_equal(append(2, 3, 10, 2, 10, ""), WP_OK);
    assert_true(update.hard_changed);
    assert_int_equal(update.hard.lost_index, 20);
    persist();
    assert_int_equal(append(2, 3, 10, 2, 10, "b"), WP_OK);
    persist();
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .flags = WP_RPC_DISRUPT_LEADER, .term = 4, .vote = {3, 15, 3}};
    assert_int_equal(receive(3, &vote, NULL), WP_OK);
    assert_true(sent(WP_RPC_VOTE_RESULT, 3).flags & WP_RPC_GRANTED);
    assert_int_equal(update.hard.lost_index, 0);
    assert_int_equal(update.hard.lost_term, 0);
    assert_int_equal(update.hard.replica, 1);
}

/* A refusal that its success overtook on the way must not stop replication to that peer. */
static void test_overtaken_refusal(void **state)
{
    (void)state;
    const uint64_t terms[] = {1, 1, 1};
    assert_int_equal(start_with(&three, terms, 3, 1), WP_OK);
    become_leader(2, 0); /* entry 5 is the barrier */
    result(2, 2, 0, 3);  /* replica 2 holds 3 */
    result(2, 2, 5, 3);  /* but lost what followed: back to probing from 3 */
    struct wp_rpc late = {.type = WP_RPC_APPEND_RESULT, .term = 2, .append_result = {3, 2}};
    assert_int_equal(receive(2, &late, NULL), WP_OK);
    now_ms += 150;
    assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    struct wp_rpc rpc = sent(WP_RPC_APPEND, 2);
    assert_int_equal(rpc.append.previous_index, 3);
    assert_int_equal(rpc.entry_count, 2);
    result(2, 2, 0, 5);
    assert_int_equal(wp_replica_match_index(replica, 0), 0); /* replica 3 was never heard of */
    assert_int_equal(wp_replica_commit_index(replica), 5);
}

/* --- the rules --------------------------------------------------------------------------------- */

/* Figure 8: an entry of an older term on a majority is not committed; it is with the first of the leader's
 * own. */
static void test_figure_8(void **state)
{
    (void)state;
    const uint64_t terms[] = {2, 2};
    assert_int_equal(start_with(&five, terms, 2, 3), WP_OK);
    become_leader(2, 3); /* term 4, barrier at 4 */
    result(2, 4, 0, 3);
    result(3, 4, 0, 3);
    assert_true(wp_replica_commit_index(replica) < 3);
    result(4, 4, 0, 3);
    assert_true(wp_replica_commit_index(replica) < 3);
    result(2, 4, 0, 4);
    assert_true(wp_replica_commit_index(replica) < 3);
    result(3, 4, 0, 4);
    assert_int_equal(wp_replica_commit_index(replica), 4);
}

/* A leader counts itself only when its own copy is synced. */
static void test_commit_without_the_leaders_disk(void **state)
{
    (void)state;
    start_follower(&three);
    become_leader(2, 0);
    uint64_t index = propose();
    uint64_t write = update.write;
    result(2, 2, 0, index);
    assert_true(wp_replica_commit_index(replica) < index); /* one of three */
    result(3, 2, 0, index);
    assert_true(raft_commit_index(&replica->raft) == index); /* two of three: committed */
    assert_true(wp_replica_commit_index(replica) < index);   /* but not durable here: not to be applied */
    assert_int_equal(wp_replica_persisted(replica, now_ms, write, &update), WP_OK);
    assert_int_equal(wp_replica_commit_index(replica), index);
}

static void test_inflight_and_roles(void **state)
{
    (void)state;
    struct wp_bytes *data = wp_bytes_copy("x", 1);
    uint64_t index;
    start_follower(&three);
    assert_int_equal(wp_replica_propose(replica, now_ms, &data, &index, &update), WP_E_NOT_LEADER);
    become_leader(2, 0);
    result(2, 2, 0, 2);
    for (int i = 0; i < 4; i++) {
        propose();
    }
    assert_int_equal(wp_replica_propose(replica, now_ms, &data, &index, &update), WP_E_FULL);
    persist();
    assert_int_equal(
        wp_replica_propose(replica, now_ms, &data, &index, &update), WP_E_FULL); /* not committed yet */
    result(2, 2, 0, 4);
    assert_int_equal(wp_replica_propose(replica, now_ms, &data, &index, &update), WP_OK);
    assert_null(data);
    assert_int_equal(index, 7);

    /* A higher term ends it; what was proposed is not forgotten, only no longer ours to promise. */
    assert_int_equal(append(3, 9, 1, 1, 1, ""), WP_OK);
    assert_true(update.role_changed);
    assert_int_equal(wp_replica_leader(replica), 3);
    data = wp_bytes_copy("x", 1);
    persist();
    assert_int_equal(wp_replica_propose(replica, now_ms, &data, &index, &update), WP_E_NOT_LEADER);
    assert_non_null(data);
    wp_bytes_release(&data);
    assert_int_equal(wp_replica_last_index(replica), 7);
}

/* What no correct peer sends is refused before the engine sees it. */
static void test_messages_that_cannot_be(void **state)
{
    (void)state;
    start_follower(&three);
    become_leader(2, 0);
    uint64_t term = wp_replica_term(replica);
    assert_int_equal(append(3, term, 1, 1, 1, ""), WP_E_MALFORMED);     /* a second leader of our own term */
    assert_int_equal(append(1, term + 1, 1, 1, 1, ""), WP_E_MALFORMED); /* from ourselves */
    assert_int_equal(append(0, term + 1, 1, 1, 1, ""), WP_E_MALFORMED);
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .term = term + 1, .vote = {2, 9, 1}};
    assert_int_equal(receive(3, &vote, NULL), WP_E_MALFORMED); /* on behalf of another */
    assert_int_equal(
        wp_replica_receive(replica, now_ms, 2, wp_slice("\x01\x01", 2), &update), WP_E_MALFORMED);
    assert_int_equal(
        wp_replica_receive(replica, now_ms, 2, wp_slice("\x02\x01\0\0\0\0\0\0\0\0\0\0\0", 13), &update),
        WP_E_VERSION);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_LEADER);
    assert_int_equal(wp_replica_term(replica), term);
}

/* Messages in states that the engine does not expect them in are dropped, and change nothing. */
static void test_late_vote_results(void **state)
{
    (void)state;
    start_follower(&three);
    grant(2, 2, true); /* never asked */
    assert_int_equal(wp_replica_term(replica), 1);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
    become_leader(2, 0);
    grant(3, 2, true);
    grant(3, 2, false);
    grant(3, 3, true); /* a wish for a term that nobody reached */
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_LEADER);
    assert_int_equal(wp_replica_term(replica), 2);
}

/* A leader that hears from nobody for an election timeout steps down. */
static void test_leader_without_majority_steps_down(void **state)
{
    (void)state;
    start_follower(&three);
    become_leader(2, 0);
    for (int i = 0; i < 12; i++) {
        now_ms += 100;
        assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    }
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
    assert_int_equal(wp_replica_term(replica), 2);
}

/* A pre-vote while a leader is heard of is refused and does not raise the term. */
static void test_pre_vote_does_not_disturb(void **state)
{
    (void)state;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 1, ""), WP_OK);
    persist();
    struct wp_rpc vote = {.type = WP_RPC_VOTE, .flags = WP_RPC_PRE_VOTE, .term = 9, .vote = {3, 9, 8}};
    now_ms += ELECTION_MS;
    assert_int_equal(receive(3, &vote, NULL), WP_OK);
    assert_false(sent(WP_RPC_VOTE_RESULT, 3).flags & WP_RPC_GRANTED);
    assert_false(update.hard_changed);
    assert_int_equal(wp_replica_term(replica), 2);
}

/* A peer that contradicts what is committed here: the engine stops, and says so. */
static void test_contradiction_of_the_committed(void **state)
{
    (void)state;
    start_follower(&three);
    assert_int_equal(append(2, 2, 1, 1, 3, "cc"), WP_OK);
    persist();
    assert_int_equal(append(3, 3, 1, 1, 3, "cc"), WP_E_ENGINE);
    assert_string_not_equal(wp_replica_breach(replica), "none");
}

/* One change at a time, only when those who stay voters have caught up; on commit it is in force for good. */
static void test_membership_change_by_the_leader(void **state)
{
    (void)state;
    uint64_t index;
    start_follower(&three);
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &four, &index, &update), WP_E_NOT_LEADER);
    become_leader(2, 0);
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &four, &index, &update), WP_E_UNAVAILABLE);
    result(2, 2, 0, 2);
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &five, &index, &update), WP_E_INVALID);
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &four, &index, &update), WP_OK);
    assert_int_equal(index, 3);
    assert_int_equal(wp_replica_membership(replica)->count, 4);
    persist();
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &three, &index, &update), WP_E_UNAVAILABLE);
    result(2, 2, 0, 3);
    assert_int_equal(wp_replica_committed_membership(replica, &index)->count, 4);
    assert_int_equal(index, 3);
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &three, &index, &update), WP_OK);
}

/* A leader that removes itself leads until the change commits. */
static void test_leader_removes_itself(void **state)
{
    (void)state;
    const struct wp_membership rest = {2, {{2, WP_MEMBER_VOTER}, {3, WP_MEMBER_VOTER}}};
    uint64_t index;
    start_follower(&three);
    become_leader(2, 0);
    result(2, 2, 0, 2);
    result(3, 2, 0, 2);
    assert_int_equal(wp_replica_propose_change(replica, now_ms, &rest, &index, &update), WP_OK);
    persist();
    result(2, 2, 0, index);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_LEADER); /* one of the two that count */
    result(3, 2, 0, index);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER);
    assert_true(update.role_changed);
    now_ms += 10 * ELECTION_MS;
    assert_int_equal(wp_replica_tick(replica, now_ms, &update), WP_OK);
    assert_int_equal(wp_replica_role(replica), WP_REPLICA_FOLLOWER); /* and never asks for a vote again */
}

/* After compaction a peer behind the log is named, not sent what is no longer there. */
static void test_peer_behind_the_log(void **state)
{
    (void)state;
    start_follower(&three);
    become_leader(2, 0);
    result(2, 2, 0, 2);
    for (int i = 0; i < 6; i++) {
        uint64_t index = propose();
        persist();
        result(2, 2, 0, index);
    }
    assert_int_equal(wp_replica_commit_index(replica), 8);
    wp_replica_trim(replica, 9);
    assert_int_equal(wp_replica_retained_bytes(replica), 0);
    assert_int_equal(
        wp_replica_compacted(replica, now_ms, 9, 5, &update), WP_E_INVALID); /* above the commit index */
    assert_int_equal(wp_replica_compacted(replica, now_ms, 8, 10, &update), WP_E_INVALID); /* a gap */
    assert_int_equal(wp_replica_compacted(replica, now_ms, 8, 7, &update), WP_OK);
    /* Replica 3 answers for the first time and ends at 1; entries 2 to 6 are gone. */
    result(3, 2, 1, 0);
    assert_int_equal(update.snapshot_count, 1);
    assert_int_equal(update.snapshot_to[0], 3);
    assert_int_equal(update.snapshot_index, 8);
    assert_int_equal(update.message_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sole_voter_leads_at_once),
        TEST(test_start_from_a_snapshot),
        TEST(test_starts_that_contradict_themselves),
        TEST(test_a_vote_parks_the_replica),
        TEST(test_no_vote_just_after_a_restart),
        TEST(test_acknowledged_when_synced),
        TEST(test_report_of_truncated_entries),
        TEST(test_commit_index_does_not_fall),
        TEST(test_membership_change_behind_other_entries),
        TEST(test_membership_change_rolled_back),
        TEST(test_answer_to_an_older_term),
        TEST(test_refused_pre_vote_tells_the_term),
        TEST(test_appends_from_below_a_snapshot),
        TEST(test_entries_older_than_the_snapshot),
        TEST(test_refusal_tells_what_is_committed),
        TEST(test_who_forgot_does_not_vote),
        TEST(test_a_later_leaders_entry_makes_whole),
        TEST(test_overtaken_refusal),
        TEST(test_figure_8),
        TEST(test_commit_without_the_leaders_disk),
        TEST(test_inflight_and_roles),
        TEST(test_messages_that_cannot_be),
        TEST(test_late_vote_results),
        TEST(test_leader_without_majority_steps_down),
        TEST(test_pre_vote_does_not_disturb),
        TEST(test_contradiction_of_the_committed),
        TEST(test_membership_change_by_the_leader),
        TEST(test_leader_removes_itself),
        TEST(test_peer_behind_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
