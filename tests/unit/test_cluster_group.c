/* A group with one voter: from the first start through proposals, crashes at every point, restarts and
 * compaction. The simulated store syncs only when a test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cluster/group.h"
#include "proto/frame.h"
#include "tests/unit/cluster_disk.h"

#define SELF 7u
#define SHARD 3u

/* A machine that counts: its state is the number of commands applied, kept in the same batch as the applied
 * index. */
struct node {
    struct wp_store *disk;
    struct wp_group *group;
    struct wp_state_batch *batch;
    struct wp_group_config config;
    uint64_t now_ms;
    uint64_t woken_tag;
    uint64_t applied_index; /* of the last command seen by this process */
    uint32_t commands;      /* in state */
    uint32_t calls;         /* of apply in this process */
    uint32_t ours;
    int led; /* leading(true) minus leading(false) */
    char last[64];
};

static const uint8_t count_key[] = {0, 0, 0, SHARD, 9, 'c'};

static int node_apply(void *context, uint64_t index, uint64_t term, struct wp_slice entry, bool ours)
{
    struct node *node = context;
    assert_true(index > node->applied_index);
    assert_int_equal(disk_log_term(node->disk, SHARD, index), term); /* never ahead of what is synced here */
    node->applied_index = index;
    node->commands++;
    node->calls++;
    node->ours += ours;
    snprintf(node->last, sizeof node->last, "%.*s", (int)(entry.size < 60 ? entry.size : 60),
        (const char *)entry.data);
    uint8_t value[4];
    wp_put_u32le(value, node->commands);
    wp_state_put(node->batch, wp_slice(count_key, sizeof count_key), wp_slice(value, sizeof value));
    return wp_state_commit(node->disk, node->batch, SHARD, index, term);
}

static void node_leading(void *context, bool leading)
{
    struct node *node = context;
    node->led += leading ? 1 : -1;
    assert_true(node->led == 0 || node->led == 1);
}

static void node_wake(void *context, uint32_t shard, uint64_t tag)
{
    struct node *node = context;
    assert_int_equal(shard, SHARD);
    node->woken_tag = tag;
}

static void node_send(void *context, uint64_t to, struct wp_bytes *message)
{
    (void)context;
    (void)to;
    (void)message;
    fail_msg("a sole voter sends nothing");
}

static int node_try_open(struct node *node)
{
    struct wp_group_callbacks callbacks = {node, node_apply, node_leading, node_wake, node_send, NULL};
    struct wp_buffer count = WP_BUFFER_INIT;
    node->batch = wp_state_batch_create(node->disk);
    node->commands = 0;
    if (wp_state_get(node->disk, wp_slice(count_key, sizeof count_key), &count) == WP_OK) {
        node->commands = wp_get_u32le(count.data);
    }
    wp_buffer_free(&count);
    node->applied_index = 0;
    node->calls = 0;
    node->led = 0;
    node->woken_tag = 0;
    return wp_group_create(node->disk, &node->config, &callbacks, &node->group);
}

static void node_open(struct node *node)
{
    assert_int_equal(node_try_open(node), WP_OK);
    assert_int_equal(wp_group_start(node->group, ++node->now_ms), WP_OK);
}

static void node_init(struct node *node)
{
    *node = (struct node){.disk = wp_sim_create()};
    node->config =
        (struct wp_group_config){.shard = SHARD, .replica_id = SELF, .seed = 1, .log_keep_entries = 10};
    node->config.bootstrap = (struct wp_membership){1, {{SELF, WP_MEMBER_VOTER}}};
}

static void node_fini(struct node *node)
{
    wp_group_destroy(&node->group);
    wp_state_batch_destroy(&node->batch);
    wp_store_close(&node->disk);
}

/* Of what was handed over and not synced a prefix survives, by the seed; state falls back to any of its
 * batches since the last flush. */
static void node_crash(struct node *node, uint64_t seed)
{
    wp_state_batch_destroy(&node->batch);
    disk_crash(&node->disk, seed);
    wp_group_destroy(&node->group);
}

/* Syncs everything handed over and reports it. */
static void node_settle(struct node *node)
{
    while (wp_sim_pending(node->disk) > 0) {
        assert_int_equal(wp_sim_sync(node->disk, 0), WP_OK);
        assert_int_equal(wp_group_persisted(node->group, ++node->now_ms, node->woken_tag), WP_OK);
    }
}

static int node_propose(struct node *node, const char *text)
{
    struct wp_bytes *entry = wp_bytes_copy(text, strlen(text));
    uint64_t index;
    int error = wp_group_propose(node->group, ++node->now_ms, &entry, &index);
    assert_true(entry == NULL ||
                error != WP_OK); /* taken on success; an error that ends the process may take it too */
    assert_true(entry != NULL || error == WP_OK || wp_error_class(error) == WP_CLASS_FATAL);
    wp_bytes_release(&entry);
    return error;
}

static void node_write(struct node *node, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, "command %u", i);
        assert_int_equal(node_propose(node, text), WP_OK);
        node_settle(node);
    }
}

/* The first start writes membership, hard state and barrier in one write; the group leads as soon as it is
 * synced. */
static void test_first_start_leads_after_one_sync(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    assert_int_equal(wp_sim_pending(node.disk), 1);
    assert_false(wp_group_leading(node.group));
    assert_int_equal(node_propose(&node, "too early"), WP_E_NOT_LEADER);
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK); /* parked: nothing happens */

    node_settle(&node);
    assert_true(wp_group_leading(node.group));
    assert_int_equal(node.led, 1);
    assert_int_equal(node.calls, 0); /* membership and barrier are the group's own business */
    assert_int_equal(wp_group_applied_index(node.group), 2);
    assert_int_equal(disk_hard(node.disk, SHARD).term, 2);
    assert_int_equal(disk_hard(node.disk, SHARD).voted_for, SELF);
    assert_int_equal(wp_group_leader(node.group), SELF);
    node_fini(&node);
}

/* Nothing is applied before the sync of its write; then it is, as ours. */
static void test_apply_waits_for_the_sync(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node_propose(&node, "one"), WP_OK);
    assert_int_equal(node_propose(&node, "two"), WP_OK);
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    assert_int_equal(node.calls, 0);

    assert_int_equal(wp_sim_sync(node.disk, 1), WP_OK);
    assert_int_equal(wp_group_persisted(node.group, ++node.now_ms, node.woken_tag), WP_OK);
    assert_int_equal(node.calls, 1);
    assert_string_equal(node.last, "one");
    node_settle(&node);
    assert_int_equal(node.calls, 2);
    assert_int_equal(node.ours, 2);
    assert_string_equal(node.last, "two");
    node_fini(&node);
}

/* Completions that come twice or out of order change nothing; a tag never handed out is refused. */
static void test_completions_twice_and_unknown(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node_propose(&node, "one"), WP_OK);
    node_settle(&node);
    uint64_t tag = node.woken_tag;
    assert_int_equal(wp_group_persisted(node.group, ++node.now_ms, tag), WP_OK);
    assert_int_equal(wp_group_persisted(node.group, ++node.now_ms, tag - 1), WP_OK);
    assert_int_equal(node.calls, 1);
    assert_int_equal(wp_group_persisted(node.group, ++node.now_ms, tag + 1), WP_E_INVALID);
    node_fini(&node);
}

/* At most eight entries wait for their sync; the next sync makes room. */
static void test_inflight_limit(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    for (int i = 0; i < 8; i++) {
        assert_true(wp_group_can_propose(node.group));
        assert_int_equal(node_propose(&node, "x"), WP_OK);
    }
    assert_false(wp_group_can_propose(node.group));
    assert_int_equal(node_propose(&node, "x"), WP_E_FULL);
    assert_int_equal(wp_sim_sync(node.disk, 1), WP_OK);
    assert_int_equal(wp_group_persisted(node.group, ++node.now_ms, node.woken_tag), WP_OK);
    assert_int_equal(node_propose(&node, "x"), WP_OK);
    assert_int_equal(node_propose(&node, "x"), WP_E_FULL);
    node_settle(&node);
    assert_int_equal(node.calls, 9);
    node_fini(&node);
}

/* The largest entry goes through; one byte more is refused and stays with the caller. */
static void test_entry_sizes(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    uint64_t index;
    struct wp_bytes *entry = wp_bytes_create(WP_ENTRY_SIZE_MAX);
    memset(entry->data, 'z', entry->size);
    assert_int_equal(wp_group_propose(node.group, ++node.now_ms, &entry, &index), WP_OK);
    assert_null(entry);
    assert_int_equal(index, 3);
    node_settle(&node);
    assert_int_equal(node.calls, 1);

    entry = wp_bytes_create(WP_ENTRY_SIZE_MAX + 1);
    memset(entry->data, 'z', entry->size);
    assert_int_equal(wp_group_propose(node.group, ++node.now_ms, &entry, &index), WP_E_TOO_LARGE);
    assert_non_null(entry);
    wp_bytes_release(&entry);
    struct wp_log_entry stored = disk_log_entry(node.disk, SHARD, 3);
    assert_int_equal(stored.data->size, WP_ENTRY_SIZE_MAX);
    wp_bytes_release(&stored.data);
    node_fini(&node);
}

/* One history: `synced` of the writes synced, reported or not, state flushed after `flushed` of them; crash;
 * restart. */
static void check_crash_point(uint32_t writes, uint32_t synced, uint32_t flushed, bool reported)
{
    struct node node;
    node_init(&node);
    node.config.inflight_entries = 64;
    node_open(&node);
    node_settle(&node);
    for (uint32_t i = 0; i < writes; i++) {
        assert_int_equal(node_propose(&node, "x"), WP_OK);
    }
    for (uint32_t i = 0; i < synced; i++) {
        assert_int_equal(wp_sim_sync(node.disk, 1), WP_OK);
        if (reported) {
            assert_int_equal(wp_group_persisted(node.group, ++node.now_ms, node.woken_tag), WP_OK);
        }
        if (i + 1 == flushed) {
            assert_int_equal(wp_state_flush(node.disk), WP_OK);
        }
    }
    uint64_t term = wp_group_term(node.group);
    assert_int_equal(node.commands, reported ? synced : 0);
    node_crash(&node, writes * 1000 + synced * 50 + flushed * 2 + reported);

    node_open(&node);
    assert_true(node.commands >= (reported ? flushed : 0));
    node_settle(&node);
    assert_in_range(node.commands, synced, writes);     /* all that was synced; of the rest a prefix */
    assert_int_equal(node.ours, reported ? synced : 0); /* what is applied again is nobody's wait any more */
    assert_int_equal(wp_group_term(node.group), term + 1);
    assert_true(wp_group_leading(node.group));
    uint32_t commands = node.commands;
    assert_int_equal(node_propose(&node, "after"), WP_OK);
    node_settle(&node);
    assert_int_equal(node.commands, commands + 1);
    assert_string_equal(node.last, "after");
    node_fini(&node);
}

/* Whatever was acknowledged before a crash is there after it, in the same order. */
static void test_restart_from_every_crash_point(void **state)
{
    (void)state;
    const uint32_t writes = 12;
    for (uint32_t synced = 0; synced <= writes; synced++) {
        for (uint32_t flushed = 0; flushed <= synced; flushed++) {
            check_crash_point(writes, synced, flushed, false);
            check_crash_point(writes, synced, flushed, true);
        }
    }
}

/* A crash before the first write is reported: nothing of it survives, and the next start is a first start
 * again, or all of it, and the group goes on from there. */
static void test_crash_before_the_first_sync(void **state)
{
    (void)state;
    uint32_t lost = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct node node;
        node_init(&node);
        node_open(&node);
        node_crash(&node, seed);
        uint64_t last = disk_log_last(node.disk, SHARD);
        assert_true(last == 0 || last == 2);
        lost += last == 0;
        node_open(&node);
        node_settle(&node);
        node_write(&node, 3);
        assert_int_equal(node.commands, 3);
        node_fini(&node);
    }
    assert_in_range(lost, 1, 99);
}

/* Crashing again and again during the start costs terms, nothing else. */
static void test_crash_during_start(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    node_write(&node, 5);
    for (uint64_t i = 0; i < 20; i++) {
        node_crash(&node, i);
        node_open(&node);
        if (i % 2) {
            assert_int_equal(wp_sim_sync(node.disk, 0), WP_OK); /* synced, but nobody was told */
        }
    }
    node_crash(&node, 99);
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node.commands, 5);
    assert_true(wp_group_leading(node.group));
    node_fini(&node);
}

/* An entry handed out, lost in a crash and replaced at its index has another term: no two contents under one
 * name. */
static void test_lost_entry_is_replaced_under_a_new_term(void **state)
{
    (void)state;
    uint32_t lost = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct node node;
        node_init(&node);
        node_open(&node);
        node_settle(&node);
        assert_int_equal(node_propose(&node, "first"), WP_OK);
        uint64_t term = wp_group_term(node.group);
        node_crash(&node, seed);
        bool survived = disk_log_last(node.disk, SHARD) == 3;
        lost += !survived;
        node_open(&node);
        node_settle(&node);
        assert_int_equal(node_propose(&node, "second"), WP_OK);
        node_settle(&node);
        assert_int_equal(node.commands, survived ? 2 : 1);
        assert_string_equal(node.last, "second");
        assert_true((disk_log_term(node.disk, SHARD, 3) == term) == survived);
        node_fini(&node);
    }
    assert_in_range(lost, 1, 99);
}

/* A sync that fails completes nothing: what waited for it is never applied. */
static void test_failed_sync_acknowledges_nothing(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node_propose(&node, "x"), WP_OK);
    uint64_t tag = node.woken_tag;
    wp_sim_fail_sync(node.disk, WP_E_IO);
    assert_int_equal(wp_sim_sync(node.disk, 0), WP_E_IO);
    assert_int_equal(node.woken_tag, tag);
    assert_int_equal(node.calls, 0);
    assert_int_equal(node_propose(&node, "y"), WP_E_IO); /* the process must stop */
    node_fini(&node);
}

/* The log is cut below the durable applied index, keeps what it was told to keep, and a restart works from
 * there. */
static void test_compaction_and_restart(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    node_write(&node, 200);
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    node_settle(&node);
    assert_int_equal(disk_log_first(node.disk, SHARD), 1); /* nothing of the state is durable yet */

    assert_int_equal(wp_state_flush(node.disk), WP_OK);
    node_write(&node, 5);
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    assert_int_equal(wp_sim_sync(node.disk, 0), WP_OK);
    assert_int_equal(disk_log_first(node.disk, SHARD), 202 - 10 + 1);
    assert_int_equal(disk_log_last(node.disk, SHARD), 207);

    node_crash(&node, 5); /* state falls back to the flush at 200 commands or some batch after it */
    node_open(&node);
    assert_in_range(node.commands, 200, 204);
    uint32_t found = node.commands;
    node_settle(&node);
    assert_int_equal(node.commands, 205);
    assert_int_equal(node.calls, 205 - found);
    node_write(&node, 100);
    assert_int_equal(wp_state_flush(node.disk), WP_OK);
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    assert_int_equal(wp_sim_sync(node.disk, 0), WP_OK);
    assert_int_equal(disk_log_first(node.disk, SHARD), wp_group_applied_index(node.group) - 10 + 1);
    node_crash(&node, 1);
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node.commands, 305);
    assert_int_equal(node.calls, 0);
    node_fini(&node);
}

/* Large entries are kept by bytes rather than by count. */
static void test_compaction_by_bytes(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node.config.log_keep_entries = 1000;
    node.config.log_keep_bytes = 8u << 20;
    node_open(&node);
    node_settle(&node);
    for (int i = 0; i < 160; i++) {
        uint64_t index;
        struct wp_bytes *entry = wp_bytes_create(256 * 1024);
        memset(entry->data, i, entry->size);
        assert_int_equal(wp_group_propose(node.group, ++node.now_ms, &entry, &index), WP_OK);
        node_settle(&node);
    }
    assert_int_equal(wp_state_flush(node.disk), WP_OK);
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    assert_int_equal(wp_sim_sync(node.disk, 0), WP_OK);
    uint64_t kept = disk_log_last(node.disk, SHARD) - disk_log_first(node.disk, SHARD) + 1;
    assert_in_range(kept, 31, 33); /* 8 MiB of 256 KiB entries */
    node_fini(&node);
}

/* --- a learner that falls behind ---------------------------------------------------------------- */

#define LEARNER 9u

/* What the leader sent and said of its only peer, a learner that the test plays. */
static struct {
    struct wp_rpc last; /* last append */
    uint32_t snapshots;
    uint64_t snapshot_term, snapshot_index;
} learner;

static void learner_send(void *context, uint64_t to, struct wp_bytes *message)
{
    (void)context;
    assert_int_equal(to, LEARNER);
    assert_int_equal(wp_rpc_decode(wp_slice(message->data, message->size), &learner.last), WP_OK);
    learner.last.entries = (struct wp_slice){0};
}

static void learner_needs_snapshot(void *context, uint64_t peer, uint64_t term, uint64_t index)
{
    (void)context;
    assert_int_equal(peer, LEARNER);
    learner.snapshots++;
    learner.snapshot_term = term;
    learner.snapshot_index = index;
}

static void learner_answer(struct node *node, uint64_t rejected, uint64_t last)
{
    struct wp_rpc rpc = {.type = WP_RPC_APPEND_RESULT, .term = wp_group_term(node->group)};
    rpc.append_result.rejected_index = rejected;
    rpc.append_result.last_index = last;
    struct wp_bytes *bytes = wp_rpc_encode(&rpc, NULL);
    assert_int_equal(
        wp_group_receive(node->group, ++node->now_ms, LEARNER, wp_slice(bytes->data, bytes->size)), WP_OK);
    wp_bytes_release(&bytes);
}

static void leader_with_learner_open(struct node *node)
{
    struct wp_group_callbacks callbacks = {
        node, node_apply, node_leading, node_wake, learner_send, learner_needs_snapshot};
    memset(&learner, 0, sizeof learner);
    node_init(node);
    node->config.bootstrap =
        (struct wp_membership){2, {{SELF, WP_MEMBER_VOTER}, {LEARNER, WP_MEMBER_LEARNER}}};
    node->config.log_near_entries = 50;
    node->batch = wp_state_batch_create(node->disk);
    assert_int_equal(wp_group_create(node->disk, &node->config, &callbacks, &node->group), WP_OK);
    assert_int_equal(wp_group_start(node->group, ++node->now_ms), WP_OK);
    node_settle(node);
}

/* So many commands, all durable, and a tick that compacts. */
static void compact_after(struct node *node, uint32_t commands)
{
    node_write(node, commands);
    assert_int_equal(wp_state_flush(node->disk), WP_OK);
    assert_int_equal(wp_group_tick(node->group, ++node->now_ms), WP_OK);
    node_settle(node);
}

/* Who is nearly there is waited for, who is not gets a snapshot and is told so; the log does not wait. */
static void test_the_log_waits_for_who_is_near(void **state)
{
    (void)state;
    struct node node;
    leader_with_learner_open(&node);
    node_write(&node, 60);
    learner_answer(&node, 0, 30);
    compact_after(&node, 15);
    uint64_t applied = wp_group_applied_index(node.group);
    assert_true(disk_log_first(node.disk, SHARD) <= 31); /* it lacks 47 */
    compact_after(&node, 200);
    applied = wp_group_applied_index(node.group);
    assert_int_equal(disk_log_first(node.disk, SHARD), applied - 10 + 1);
    assert_int_equal(learner.snapshots, 0);
    learner_answer(&node, 31, 30);
    node.now_ms += 200;
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    learner_answer(&node, learner.last.append.previous_index, 30);
    assert_true(learner.snapshots > 0);
    assert_int_equal(learner.snapshot_term, wp_group_term(node.group));
    assert_true(learner.snapshot_index <= applied);
    /* It comes back with a state that reaches a little further, and goes on from there. */
    learner_answer(&node, 0, applied - 5);
    node.now_ms += 200;
    assert_int_equal(wp_group_tick(node.group, ++node.now_ms), WP_OK);
    node_write(&node, 1);
    assert_int_equal(wp_replica_match_index(wp_group_replica(node.group), 0), applied - 5);
    node_fini(&node);
}

/* The log is held for a snapshot that is on its way, so long as it is asked to be. */
static void test_the_log_is_held_for_a_snapshot(void **state)
{
    (void)state;
    struct node node;
    leader_with_learner_open(&node);
    compact_after(&node, 100);
    uint64_t index = wp_group_applied_index(node.group);
    wp_group_log_hold(node.group, LEARNER, index, node.now_ms + 100000);
    compact_after(&node, 300);
    assert_true(disk_log_first(node.disk, SHARD) <= index + 1);
    assert_int_equal(disk_log_term(node.disk, SHARD, index + 1), wp_group_term(node.group));
    wp_group_log_hold(node.group, LEARNER, index + 150, node.now_ms + 1000); /* a later one replaces it */
    compact_after(&node, 1);
    assert_int_equal(disk_log_first(node.disk, SHARD), index + 150);
    node.now_ms += 1001;
    compact_after(&node, 70);
    assert_int_equal(disk_log_first(node.disk, SHARD), wp_group_applied_index(node.group) - 10 + 1);
    node_fini(&node);
}

/* What is stored belongs to one raft id; another one begins with a wipe, and founds no group. */
static void test_another_raft_id_is_refused(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    assert_int_equal(disk_hard(node.disk, SHARD).replica, SELF);
    node_crash(&node, 1);
    node.config.replica_id = SELF + 65536;
    assert_int_equal(node_try_open(&node), WP_E_INVALID);
    wp_state_batch_destroy(&node.batch);
    const struct wp_log_hard_state hard = {.replica = SELF + 65536};
    assert_int_equal(wp_store_shard_wipe(node.disk, SHARD, &hard), WP_OK);
    node_open(&node);
    node_settle(&node);
    assert_false(wp_group_leading(node.group));
    assert_int_equal(wp_replica_membership(wp_group_replica(node.group))->count, 0);
    assert_int_equal(wp_group_tick(node.group, node.now_ms += 10000), WP_OK);
    assert_int_equal(wp_replica_role(wp_group_replica(node.group)), WP_REPLICA_FOLLOWER);
    node_fini(&node);
}

/* A log that ends below what state holds is refused, unless the loss is accepted: then it goes on above. */
static void test_log_shorter_than_state(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    node_write(&node, 20);
    uint64_t applied = wp_group_applied_index(node.group) + 5;
    assert_int_equal(
        wp_state_commit(node.disk, node.batch, SHARD, applied, wp_group_term(node.group)), WP_OK);
    assert_int_equal(wp_state_flush(node.disk), WP_OK);
    node_crash(&node, 1);
    assert_int_equal(node_try_open(&node), WP_E_FORGOTTEN);
    wp_state_batch_destroy(&node.batch);

    node.config.accept_loss = true;
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node.commands, 20);
    assert_true(disk_log_first(node.disk, SHARD) == applied + 1);
    node_write(&node, 3);
    node_crash(&node, 2);
    node.config.accept_loss = false;
    node_open(&node);
    node_settle(&node);
    assert_int_equal(node.commands, 23);
    node_fini(&node);
}

/* A gap between state and log, a damaged entry and damaged membership are refused at the start, not met
 * later. */
static void test_damaged_starts(void **state)
{
    (void)state;
    uint8_t key[WP_GROUP_KEY_SIZE];
    wp_group_membership_key(SHARD, key);
    for (int damage = 0; damage < 3; damage++) {
        struct node node;
        node_init(&node);
        node_open(&node);
        node_settle(&node);
        node_write(&node, 5);
        assert_int_equal(wp_state_flush(node.disk), WP_OK);
        node_write(&node, 5);
        uint64_t last = disk_log_last(node.disk, SHARD);
        struct wp_log_write drop = {.shard = SHARD, .drop_below = last};
        if (damage == 0) {
            /* Only a state that fell behind the drop shows it. */
            struct wp_store *image = wp_sim_crash(node.disk, 3);
            wp_group_destroy(&node.group);
            wp_state_batch_destroy(&node.batch);
            wp_store_close(&node.disk);
            node.disk = image;
            assert_int_equal(wp_log_submit(node.disk, &drop), WP_OK);
            assert_int_equal(wp_sim_sync(node.disk, 0), WP_OK);
            uint64_t index;
            uint64_t term;
            wp_state_applied(node.disk, SHARD, &index, &term);
            assert_true(index + 1 < last);
        } else {
            node_crash(&node, 3);
            int error = damage == 1 ? wp_sim_flip_entry(node.disk, SHARD, last, 1)
                                    : wp_sim_flip_state(node.disk, wp_slice(key, sizeof key), 1);
            assert_int_equal(error, WP_OK);
        }
        assert_int_equal(node_try_open(&node), WP_E_CORRUPT);
        node_fini(&node);
    }
}

/* A state whose index exists in the log under another term does not belong to this log. */
static void test_term_of_the_applied_entry_must_match(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    node_write(&node, 3);
    uint64_t index = wp_group_applied_index(node.group);
    assert_int_equal(
        wp_state_commit(node.disk, node.batch, SHARD, index, wp_group_term(node.group) - 1), WP_OK);
    assert_int_equal(wp_state_flush(node.disk), WP_OK);
    node_crash(&node, 1);
    assert_int_equal(node_try_open(&node), WP_E_CORRUPT);
    node_fini(&node);
}

/* Without a bootstrap membership a fresh replica waits to be added; it neither leads nor writes. */
static void test_a_replica_without_membership_waits(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node.config.bootstrap.count = 0;
    node_open(&node);
    for (int i = 0; i < 100; i++) {
        node.now_ms += 100;
        assert_int_equal(wp_group_tick(node.group, node.now_ms), WP_OK);
    }
    assert_int_equal(wp_sim_pending(node.disk), 0);
    assert_false(wp_group_leading(node.group));
    assert_int_equal(wp_group_applied_index(node.group), 0);
    node_fini(&node);
}

/* The leader of one goes on leading through hours without work, and through a clock that steps back. */
static void test_sole_voter_keeps_leading(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    uint64_t term = wp_group_term(node.group);
    for (int i = 0; i < 10000; i++) {
        node.now_ms += 1000;
        assert_int_equal(wp_group_tick(node.group, i % 7 == 0 ? node.now_ms - 5000 : node.now_ms), WP_OK);
    }
    assert_true(wp_group_leading(node.group));
    assert_int_equal(wp_group_term(node.group), term);
    assert_int_equal(wp_sim_pending(node.disk), 0);
    node_fini(&node);
}

/* A membership more than one step away, no step away, or not valid is refused. */
static void test_membership_steps_are_checked(void **state)
{
    (void)state;
    struct node node;
    node_init(&node);
    node_open(&node);
    node_settle(&node);
    struct wp_membership two = {2, {{SELF, WP_MEMBER_VOTER}, {8, WP_MEMBER_VOTER}}};
    struct wp_membership three = {
        3, {{SELF, WP_MEMBER_VOTER}, {8, WP_MEMBER_LEARNER}, {9, WP_MEMBER_LEARNER}}};
    uint64_t index;
    assert_int_equal(wp_group_propose_change(node.group, ++node.now_ms, &three, &index), WP_E_INVALID);
    assert_int_equal(
        wp_group_propose_change(node.group, ++node.now_ms, &node.config.bootstrap, &index), WP_E_INVALID);
    two.members[0].id = 0;
    assert_int_equal(wp_group_propose_change(node.group, ++node.now_ms, &two, &index), WP_E_INVALID);
    node_fini(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_start_leads_after_one_sync),
        cmocka_unit_test(test_apply_waits_for_the_sync),
        cmocka_unit_test(test_completions_twice_and_unknown),
        cmocka_unit_test(test_inflight_limit),
        cmocka_unit_test(test_entry_sizes),
        cmocka_unit_test(test_restart_from_every_crash_point),
        cmocka_unit_test(test_crash_before_the_first_sync),
        cmocka_unit_test(test_crash_during_start),
        cmocka_unit_test(test_lost_entry_is_replaced_under_a_new_term),
        cmocka_unit_test(test_compaction_and_restart),
        cmocka_unit_test(test_compaction_by_bytes),
        cmocka_unit_test(test_failed_sync_acknowledges_nothing),
        cmocka_unit_test(test_log_shorter_than_state),
        cmocka_unit_test(test_the_log_waits_for_who_is_near),
        cmocka_unit_test(test_the_log_is_held_for_a_snapshot),
        cmocka_unit_test(test_another_raft_id_is_refused),
        cmocka_unit_test(test_damaged_starts),
        cmocka_unit_test(test_term_of_the_applied_entry_must_match),
        cmocka_unit_test(test_a_replica_without_membership_waits),
        cmocka_unit_test(test_sole_voter_keeps_leading),
        cmocka_unit_test(test_membership_steps_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
