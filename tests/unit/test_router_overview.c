/* What is thought of a cluster: which shards are safe, which alarms there are, in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "router/overview.h"

/* Three nodes, each with a replica of each shard in step; node (s - 1) % 3 + 1 leads shard s. */
static struct wp_overview *healthy(uint32_t shard_count)
{
    struct wp_overview *overview = wp_overview_create(shard_count);
    assert_non_null(overview);
    overview->replication = overview->node_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        overview->nodes[i].number = i + 1;
        overview->nodes[i].reachable = true;
        strcpy(overview->nodes[i].name, (const char *[]){"router-1", "router-2", "router-3"}[i]);
    }
    for (uint32_t g = 1; g <= shard_count; g++) {
        struct wp_overview_group *group = &overview->groups[g];
        group->known = true;
        group->leader = WP_RAFT_ID((g - 1) % 3 + 1, 1);
        group->wanted_count = group->member_count = 3;
        for (uint32_t i = 0; i < 3; i++) {
            group->wanted[i] = WP_RAFT_ID(i + 1, 1);
            group->members[i] = (struct wp_overview_member){.replica = WP_RAFT_ID(i + 1, 1),
                .voter = true,
                .wanted = true,
                .reachable = true,
                .has_lag = true};
        }
    }
    return overview;
}

static void assert_summary(const struct wp_overview *overview, bool safe, const char *summary)
{
    struct wp_judgement judgement;
    wp_overview_judge(overview, &judgement);
    assert_string_equal(judgement.summary, summary);
    assert_int_equal(judgement.safe, safe);
}

static void test_all_is_well(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(8);
    assert_summary(overview, true, "all 8 shards have 3 of 3 replicas in step");
    wp_overview_count(overview);
    assert_int_equal(overview->nodes[0].replicas, 8);
    assert_int_equal(overview->nodes[0].leads, 3);
    assert_int_equal(overview->nodes[2].leads, 2);
    free(overview);
}

static void test_a_node_that_is_down(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(4);
    overview->nodes[1].reachable = false;
    for (uint32_t g = 1; g <= 4; g++) {
        overview->groups[g].members[1].reachable = false;
    }
    assert_summary(
        overview, false, "router-2 is down or cannot be reached; shards 1-4 run on 2 of 3 replicas");
    free(overview);
}

static void test_shards_without_a_leader_are_named_in_ranges(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(8);
    overview->groups[2].leader = overview->groups[3].leader = overview->groups[8].leader = 0;
    assert_summary(overview, false, "shards 2-3, 8 have no leader: nothing is accepted there");
    overview->groups[2].leader = overview->groups[3].leader = WP_RAFT_ID(1, 1);
    assert_summary(overview, false, "shard 8 has no leader: nothing is accepted there");
    free(overview);
}

static void test_many_shards_do_not_overrun_the_sentence(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(1024);
    for (uint32_t g = 1; g <= 1024; g += 2) {
        overview->groups[g].leader = 0;
    }
    struct wp_judgement judgement;
    wp_overview_judge(overview, &judgement);
    assert_int_equal(judgement.alarm_count, 1);
    assert_int_equal(judgement.alarms[0].kind, WP_ALARM_NO_LEADER);
    assert_non_null(strstr(judgement.alarms[0].text, "..."));
    assert_true(strlen(judgement.alarms[0].subject) < 192);
    free(overview);
}

static void test_a_replica_is_in_step_up_to_a_bound(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(1);
    struct wp_overview_group *group = &overview->groups[1];
    uint64_t lag = 0;
    group->members[2].lag = WP_OVERVIEW_STEP_LAG_MAX;
    assert_true(wp_overview_safe(group));
    assert_true(wp_overview_lag(group, &lag));
    assert_int_equal(lag, WP_OVERVIEW_STEP_LAG_MAX);
    group->members[2].lag++;
    assert_false(wp_overview_safe(group));
    assert_summary(overview, false, "shard 1 runs on 2 of 3 replicas");
    group->members[2].has_lag = false;
    assert_false(wp_overview_lag(group, &lag));
    free(overview);
}

/* A learner that is wanted as a voter, and a voter that is to go: neither is what is wanted. */
static void test_a_shard_that_moves(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(1);
    struct wp_overview_group *group = &overview->groups[1];
    assert_false(wp_overview_moving(group));
    group->members[2].voter = false;
    assert_true(wp_overview_moving(group));
    assert_int_equal(wp_overview_in_step(group), 2);
    assert_summary(overview, false, "shard 1 runs on 2 of 3 replicas");
    /* One that is not wanted any more votes until the wanted one does: no reason for an alarm. */
    group->members[3] = group->members[1];
    group->members[3].replica = WP_RAFT_ID(4, 1);
    group->members[3].wanted = false;
    group->member_count = 4;
    assert_summary(overview, false, "shard 1 is moving to other routers");
    group->members[2].voter = true;
    assert_true(wp_overview_moving(group));
    assert_true(wp_overview_safe(group));
    free(overview);
}

static void test_the_meta_group_counts_too(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(2);
    overview->groups[WP_META_GROUP] = overview->groups[1];
    assert_summary(overview, true, "all 2 shards have 3 of 3 replicas in step");
    overview->groups[WP_META_GROUP].members[1].reachable = false;
    assert_summary(overview, false, "the meta group runs on 2 of 3 replicas");
    overview->groups[WP_META_GROUP].leader = 0;
    assert_summary(
        overview, false, "the meta group has no leader: nodes, gateways and moves stay as they are");
    free(overview);
}

/* Members of the meta group that are wanted as learners are no sign of a move. */
static void test_learners_of_the_meta_group_stay(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(1);
    struct wp_overview_group *meta = &overview->groups[WP_META_GROUP];
    *meta = overview->groups[1];
    meta->members[3] = (struct wp_overview_member){
        .replica = WP_RAFT_ID(4, 1), .wanted = true, .reachable = true, .has_lag = true};
    meta->member_count = 4;
    assert_false(wp_overview_moving(meta));
    assert_int_equal(wp_overview_in_step(meta), 3);
    free(overview);
}

static void test_alarms_of_nodes(void **state)
{
    (void)state;
    struct wp_overview *overview = healthy(2);
    overview->nodes[0].disk_full = true;
    overview->nodes[1].clock_off = true;
    overview->nodes[1].offset_ms = -3600000;
    overview->nodes[2].forgotten = true;
    struct wp_judgement judgement;
    wp_overview_judge(overview, &judgement);
    assert_true(judgement.safe);
    assert_int_equal(judgement.alarm_count, 3);
    assert_string_equal(wp_alarm_word(judgement.alarms[0].kind), "disk-full");
    assert_string_equal(judgement.alarms[0].subject, "router-1");
    assert_string_equal(judgement.alarms[1].text,
        "the clock of router-2 is wrong by -3600000 ms: it leads no shard until it is set right");
    assert_string_equal(wp_alarm_word(judgement.alarms[2].kind), "forgotten");
    /* One that was removed is nobody's business any more. */
    overview->nodes[2].state = WP_NODE_REMOVED;
    overview->nodes[2].reachable = false;
    wp_overview_judge(overview, &judgement);
    assert_int_equal(judgement.alarm_count, 2);
    free(overview);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_well),
        cmocka_unit_test(test_a_node_that_is_down),
        cmocka_unit_test(test_shards_without_a_leader_are_named_in_ranges),
        cmocka_unit_test(test_many_shards_do_not_overrun_the_sentence),
        cmocka_unit_test(test_a_replica_is_in_step_up_to_a_bound),
        cmocka_unit_test(test_a_shard_that_moves),
        cmocka_unit_test(test_the_meta_group_counts_too),
        cmocka_unit_test(test_learners_of_the_meta_group_stay),
        cmocka_unit_test(test_alarms_of_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
