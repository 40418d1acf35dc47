/* Why this file exists: one place decides what is well and what is not, for status, for the operator who
 * waits, and for alarms. */
#include "router/overview.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct wp_overview *wp_overview_create(uint32_t shard_count)
{
    struct wp_overview *overview =
        calloc(1, sizeof(*overview) + ((size_t)shard_count + 1) * sizeof(overview->groups[0]));
    if (overview) {
        overview->shard_count = shard_count;
    }
    return overview;
}

const struct wp_overview_node *wp_overview_node(const struct wp_overview *overview, uint32_t number)
{
    for (uint32_t i = 0; i < overview->node_count; i++) {
        if (overview->nodes[i].number == number) {
            return &overview->nodes[i];
        }
    }
    return NULL;
}

const char *wp_overview_name(const struct wp_overview *overview, uint64_t replica)
{
    const struct wp_overview_node *node = wp_overview_node(overview, wp_raft_id_node(replica));
    return node ? node->name : "?";
}

void wp_overview_count(struct wp_overview *overview)
{
    for (uint32_t i = 0; i < overview->node_count; i++) {
        struct wp_overview_node *node = &overview->nodes[i];
        node->replicas = node->leads = 0;
        for (uint32_t g = 1; g <= overview->shard_count; g++) {
            const struct wp_overview_group *group = &overview->groups[g];
            node->leads += group->leader && wp_raft_id_node(group->leader) == node->number;
            for (uint32_t m = 0; m < group->member_count; m++) {
                node->replicas += wp_raft_id_node(group->members[m].replica) == node->number;
            }
        }
    }
}

/* --- one group
 * ------------------------------------------------------------------------------------------------ */

uint32_t wp_overview_in_step(const struct wp_overview_group *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0; group->leader && i < group->member_count; i++) {
        const struct wp_overview_member *member = &group->members[i];
        count += member->wanted && member->voter && member->reachable && member->has_lag &&
                 member->lag <= WP_OVERVIEW_STEP_LAG_MAX;
    }
    return count;
}

/* Voters in step, wanted or not: so many have what was accepted. */
static uint32_t voters_in_step(const struct wp_overview_group *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0; group->leader && i < group->member_count; i++) {
        const struct wp_overview_member *member = &group->members[i];
        count +=
            member->voter && member->reachable && member->has_lag && member->lag <= WP_OVERVIEW_STEP_LAG_MAX;
    }
    return count;
}

bool wp_overview_moving(const struct wp_overview_group *group)
{
    uint32_t voters = 0, unwanted = 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        voters += group->members[i].wanted && group->members[i].voter;
        unwanted += !group->members[i].wanted;
    }
    uint32_t learners = 0; /* that are to become voters: those of the meta group are wanted as such */
    for (uint32_t i = 0; i < group->member_count; i++) {
        for (uint32_t j = 0; j < group->wanted_count; j++) {
            learners += !group->members[i].voter && group->members[i].replica == group->wanted[j];
        }
    }
    return voters != group->wanted_count || unwanted + learners > 0;
}

bool wp_overview_safe(const struct wp_overview_group *group)
{
    return group->leader && wp_overview_in_step(group) == group->wanted_count;
}

bool wp_overview_lag(const struct wp_overview_group *group, uint64_t *ret_lag)
{
    uint64_t lag = 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct wp_overview_member *member = &group->members[i];
        if (member->wanted && !member->has_lag) {
            return false;
        }
        lag = member->wanted && member->lag > lag ? member->lag : lag;
    }
    *ret_lag = lag;
    return group->leader != 0;
}

/* --- judgement
 * ------------------------------------------------------------------------------------------------ */

static const char *const alarm_words[] = {
#define X(name, word) [name] = word,
    WP_ALARM_TABLE(X)
#undef X
};

const char *wp_alarm_word(enum wp_alarm_kind kind)
{
    return alarm_words[kind];
}

static struct wp_alarm *alarm_add(
    struct wp_judgement *judgement, enum wp_alarm_kind kind, const char *subject)
{
    WP_ASSERT(judgement->alarm_count < sizeof(judgement->alarms) / sizeof(judgement->alarms[0]));
    struct wp_alarm *alarm = &judgement->alarms[judgement->alarm_count++];
    alarm->kind = kind;
    snprintf(alarm->subject, sizeof(alarm->subject), "%s", subject);
    return alarm;
}

/* Shards of which `is` is true, "1-3, 7"; what does not fit ends in "...". Their number. */
static uint32_t shards_text(const struct wp_overview *overview,
    bool (*is)(const struct wp_overview_group *group, uint32_t number), uint32_t number, char text[192])
{
    uint32_t count = 0;
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t g = 1; g <= overview->shard_count; g++) {
        if (!is(&overview->groups[g], number)) {
            continue;
        }
        uint32_t last = g;
        while (last < overview->shard_count && is(&overview->groups[last + 1], number)) {
            last++;
        }
        count += last - g + 1;
        const char *gap = used ? ", " : "";
        if (used > 160) {
            used += used < 180 ? (size_t)snprintf(text + used, 192 - used, "%s...", gap) : 0;
        } else {
            used += (size_t)snprintf(text + used, 192 - used, "%s%u", gap, g);
            used += last > g ? (size_t)snprintf(text + used, 192 - used, "-%u", last) : 0;
        }
        g = last;
    }
    return count;
}

static bool leaderless(const struct wp_overview_group *group, uint32_t number)
{
    (void)number;
    return group->leader == 0;
}

/* Led, with exactly so many of its voters in step while more replicas are wanted. */
static bool short_of(const struct wp_overview_group *group, uint32_t in_step)
{
    return group->leader && in_step < group->wanted_count && voters_in_step(group) == in_step;
}

static bool unsafe(const struct wp_overview_group *group, uint32_t number)
{
    (void)number;
    return !wp_overview_safe(group);
}

static const char *are(uint32_t count)
{
    return count == 1 ? "" : "s";
}

static void nodes_judge(const struct wp_overview *overview, struct wp_judgement *judgement)
{
    for (uint32_t i = 0; i < overview->node_count; i++) {
        const struct wp_overview_node *node = &overview->nodes[i];
        if (node->state == WP_NODE_REMOVED) {
            continue;
        }
        if (!node->reachable) {
            struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_NODE_DOWN, node->name);
            snprintf(alarm->text, sizeof(alarm->text), "%s is down or cannot be reached", node->name);
        }
        if (node->forgotten) {
            struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_FORGOTTEN, node->name);
            snprintf(alarm->text, sizeof(alarm->text),
                "%s lost what it had on disk and is being rebuilt from the others", node->name);
        }
        if (node->clock_off) {
            struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_CLOCK_OFF, node->name);
            snprintf(alarm->text, sizeof(alarm->text),
                "the clock of %s is wrong by %lld ms: it leads no shard until it is set right", node->name,
                (long long)node->offset_ms);
        }
        if (node->disk_full) {
            struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_DISK_FULL, node->name);
            snprintf(alarm->text, sizeof(alarm->text),
                "the disk of %s has reached its reserve: make room on it", node->name);
        }
    }
}

static void groups_judge(const struct wp_overview *overview, struct wp_judgement *judgement)
{
    char shards[192];
    uint32_t count = shards_text(overview, leaderless, 0, shards);
    if (count) {
        struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_NO_LEADER, shards);
        snprintf(alarm->text, sizeof(alarm->text), "shard%s %s ha%s no leader: nothing is accepted there",
            are(count), shards, count == 1 ? "s" : "ve");
    }
    const struct wp_overview_group *meta = &overview->groups[WP_META_GROUP];
    if (meta->known && !meta->leader) {
        struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_NO_LEADER, "meta");
        snprintf(alarm->text, sizeof(alarm->text),
            "the meta group has no leader: nodes, gateways and moves stay as they are");
    }
    for (uint32_t in_step = 0; in_step < WP_REPLICA_MEMBERS_MAX; in_step++) {
        count = shards_text(overview, short_of, in_step, shards);
        if (count) {
            struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_BEHIND, shards);
            snprintf(alarm->text, sizeof(alarm->text), "shard%s %s run%s on %u of %u replicas", are(count),
                shards, count == 1 ? "s" : "", in_step, overview->replication);
        }
    }
    if (meta->known && meta->leader && voters_in_step(meta) < meta->wanted_count) {
        struct wp_alarm *alarm = alarm_add(judgement, WP_ALARM_BEHIND, "meta");
        snprintf(alarm->text, sizeof(alarm->text), "the meta group runs on %u of %u replicas",
            voters_in_step(meta), meta->wanted_count);
    }
}

/* The most important alarms in one sentence: what is wrong with nodes, then what that means for shards. */
static void summary_write(const struct wp_overview *overview, struct wp_judgement *judgement)
{
    char shards[192];
    size_t used = 0;
    if (judgement->safe && judgement->alarm_count == 0) {
        snprintf(judgement->summary, sizeof(judgement->summary),
            "all %u shard%s ha%s %u of %u replica%s in step", overview->shard_count,
            are(overview->shard_count), overview->shard_count == 1 ? "s" : "ve", overview->replication,
            overview->replication, are(overview->replication));
        return;
    }
    judgement->summary[0] = '\0';
    if (judgement->alarm_count == 0) {
        uint32_t count = shards_text(overview, unsafe, 0, shards);
        snprintf(judgement->summary, sizeof(judgement->summary), "%s%s %s moving to other routers",
            count ? count == 1 ? "shard " : "shards " : "the meta group", shards, count > 1 ? "are" : "is");
        return;
    }
    for (uint32_t i = 0; i < judgement->alarm_count && used + 1 < sizeof(judgement->summary); i++) {
        used += (size_t)snprintf(judgement->summary + used, sizeof(judgement->summary) - used, "%s%s",
            used ? "; " : "", judgement->alarms[i].text);
    }
}

void wp_overview_judge(const struct wp_overview *overview, struct wp_judgement *ret_judgement)
{
    char shards[192];
    memset(ret_judgement, 0, sizeof(*ret_judgement));
    nodes_judge(overview, ret_judgement);
    groups_judge(overview, ret_judgement);
    const struct wp_overview_group *meta = &overview->groups[WP_META_GROUP];
    ret_judgement->safe =
        shards_text(overview, unsafe, 0, shards) == 0 && (!meta->known || wp_overview_safe(meta));
    summary_write(overview, ret_judgement);
}
