/* Why this file exists: the verbs that look at the cluster as a whole, and wait for it. */
#include "ctl/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

#define POLL_MS 250L
/* More shards than this are not shown one by one when nothing is wrong with them. */
#define SHARDS_SHOWN_MAX 12u

/* --- view
 * --------------------------------------------------------------------------------------------------- */

static size_t down_count(const json_t *alarms)
{
    size_t count = 0, i;
    const json_t *alarm;
    json_array_foreach(alarms, i, alarm)
    {
        const char *word = json_string_value(json_object_get(alarm, "alarm"));
        count += word && strcmp(word, "node-down") == 0;
    }
    return count;
}

const json_t *ctl_view_best(const json_t *answers)
{
    const json_t *best = NULL, *answer;
    json_int_t newest = -1;
    size_t i, least = SIZE_MAX;
    json_array_foreach(answers, i, answer)
    {
        json_int_t version = json_integer_value(json_object_get(answer, "roster_version"));
        size_t count = down_count(json_object_get(answer, "alarms"));
        if (version > newest || (version == newest && count < least)) {
            newest = version;
            least = count;
            best = answer;
        }
    }
    return best;
}

int ctl_view_get(struct ctl_access *access, json_t **ret_view)
{
    json_t *all;
    int status = ctl_call_all(access, "/v1/cluster", &all);
    if (status) {
        return status;
    }
    *ret_view = json_incref((json_t *)(uintptr_t)ctl_view_best(json_object_get(all, "answers")));
    json_decref(all);
    return CTL_OK;
}

void ctl_summary_print(const char *summary, const json_t *alarms)
{
    size_t i;
    const json_t *alarm;
    json_array_foreach(alarms, i, alarm)
    {
        printf("! %s\n", json_string_value(json_object_get(alarm, "text")));
    }
    if (json_array_size(alarms) == 0 && summary) {
        printf("%s\n", summary);
    }
    printf("\n");
}

/* --- status
 * ------------------------------------------------------------------------------------------------- */

static void text_set(json_t *row, const char *key, const char *text)
{
    json_object_set_new(row, key, json_string(text));
}

static json_t *node_row(const json_t *node)
{
    char clock[32] = "-";
    json_t *row = json_deep_copy(node);
    const json_t *offset = json_object_get(node, "offset_ms");
    bool off = json_is_true(json_object_get(node, "clock_off"));
    if (json_is_integer(offset)) {
        snprintf(
            clock, sizeof clock, "%s%+lld ms", off ? "WRONG " : "", (long long)json_integer_value(offset));
    }
    text_set(row, "clock", off || json_is_integer(offset) ? clock : "-");
    text_set(row, "disk", json_is_true(json_object_get(node, "disk_full")) ? "FULL" : "ok");
    if (json_is_true(json_object_get(node, "forgotten"))) {
        text_set(row, "disk", "FORGOT");
    }
    if (!json_is_true(json_object_get(node, "reachable"))) {
        text_set(row, "clock", "-");
        text_set(row, "disk", "-");
        text_set(row, "reachable", "NO");
    }
    return row;
}

/* What is not as it should be with a member, as a mark before its name; marks_print explains them. */
static const char *mark_of(const json_t *member)
{
    const char *role = json_string_value(json_object_get(member, "role"));
    if (!json_is_true(json_object_get(member, "reachable"))) {
        return "!";
    }
    if (!json_is_true(json_object_get(member, "wanted"))) {
        return "-";
    }
    return role && strcmp(role, "learner") == 0 ? "+" : "";
}

/* Names of the members in one cell. */
static void members_text(const json_t *shard, char *text, size_t size)
{
    size_t i, used = 0;
    const json_t *member;
    text[0] = '\0';
    json_array_foreach(json_object_get(shard, "members"), i, member)
    {
        if (used < size) {
            used += (size_t)snprintf(text + used, size - used, "%s%s%s", used ? " " : "", mark_of(member),
                json_string_value(json_object_get(member, "node")));
        }
    }
}

/* The marks that occur. */
static void marks_print(const json_t *rows)
{
    static const char *const marks[][2] = {{"!", "! is down"}, {"+", "+ learns"}, {"-", "- leaves"}};
    const char *gap = "";
    for (size_t m = 0; m < sizeof marks / sizeof marks[0]; m++) {
        bool occurs = false;
        size_t i, k;
        const json_t *row, *member;
        json_array_foreach(rows, i, row)
        {
            json_array_foreach(json_object_get(row, "members"), k, member)
            {
                occurs = occurs || strcmp(mark_of(member), marks[m][0]) == 0;
            }
        }
        if (occurs) {
            printf("%s%s", gap, marks[m][1]);
            gap = "   ";
        }
    }
    printf("%s", gap[0] ? "\n" : "");
}

static json_t *shard_row(const json_t *shard)
{
    char text[512];
    json_t *row = json_deep_copy(shard);
    if (json_integer_value(json_object_get(shard, "shard")) == 0) {
        text_set(row, "shard", "meta");
    }
    snprintf(text, sizeof text, "%d of %d", (int)json_integer_value(json_object_get(shard, "in_step")),
        (int)json_integer_value(json_object_get(shard, "replicas")));
    text_set(row, "step", text);
    members_text(shard, text, sizeof text);
    text_set(row, "replicas", text);
    return row;
}

static bool shard_fine(const json_t *shard)
{
    return json_is_string(json_object_get(shard, "leader")) &&
           !json_is_true(json_object_get(shard, "moving")) &&
           json_equal(json_object_get(shard, "in_step"), json_object_get(shard, "replicas"));
}

void ctl_shards_print(const json_t *shards, bool shorten)
{
    static const struct ctl_column columns[] = {{"shard", "SHARD"}, {"leader", "LEADER"}, {"term", "TERM"},
        {"step", "IN STEP"}, {"lag", "LAG"}, {"replicas", "REPLICAS"}, {NULL, NULL}};
    json_t *rows = json_array(), *shard;
    size_t i, left_out = 0;
    json_array_foreach(shards, i, shard)
    {
        if (shorten && json_array_size(shards) > SHARDS_SHOWN_MAX && shard_fine(shard)) {
            left_out++;
        } else {
            json_array_append_new(rows, shard_row(shard));
        }
    }
    if (json_array_size(rows)) {
        ctl_print_table(rows, columns);
        marks_print(rows);
    }
    if (left_out) {
        printf("%zu shards that are well are left out: wardpostctl shard list has them\n", left_out);
    }
    json_decref(rows);
}

static void nodes_print(const json_t *nodes)
{
    static const struct ctl_column columns[] = {{"node", "NODE"}, {"number", "NO"}, {"state", "STATE"},
        {"reachable", "REACHABLE"}, {"clock", "CLOCK"}, {"disk", "DISK"}, {"replicas", "REPLICAS"},
        {"leads", "LEADS"}, {NULL, NULL}};
    json_t *rows = json_array(), *node;
    size_t i;
    json_array_foreach(nodes, i, node)
    {
        const char *state = json_string_value(json_object_get(node, "state"));
        if (!state || strcmp(state, "removed") != 0) {
            json_array_append_new(rows, node_row(node));
        }
    }
    ctl_print_table(rows, columns);
    json_decref(rows);
}

int ctl_cluster_status(const struct ctl_arguments *arguments)
{
    struct ctl_access *access;
    json_t *view;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_view_get(access, &view);
    if (!status && arguments->json) {
        ctl_print_json(view);
    } else if (!status) {
        ctl_summary_print(
            json_string_value(json_object_get(view, "summary")), json_object_get(view, "alarms"));
        nodes_print(json_object_get(view, "nodes"));
        printf("\n");
        ctl_shards_print(json_object_get(view, "shards"), true);
    }
    if (!status) {
        json_decref(view);
    }
    ctl_access_close(&access);
    return status;
}

/* --- waiting
 * ------------------------------------------------------------------------------------------------ */

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

void ctl_progress(const char *text)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K%.78s", text);
    }
}

static size_t fine_count(const json_t *shards)
{
    size_t count = 0, i;
    const json_t *shard;
    json_array_foreach(shards, i, shard)
    {
        count += shard_fine(shard);
    }
    return count;
}

/* The view once it is safe, or the last one at the end of patience. */
static int safe_wait(struct ctl_access *access, unsigned timeout_s, json_t **ret_view)
{
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)timeout_s * 1000000;
    for (;;) {
        json_t *view = NULL;
        int status = ctl_view_get(access, &view);
        if (status) {
            return status;
        }
        if (json_is_true(json_object_get(view, "safe")) || wp_clock_mono_us() >= end_us) {
            ctl_progress("");
            *ret_view = view;
            return CTL_OK;
        }
        char line[600];
        const json_t *shards = json_object_get(view, "shards");
        snprintf(line, sizeof line, "%zu of %zu shards are safe: %s", fine_count(shards),
            json_array_size(shards), json_string_value(json_object_get(view, "summary")));
        ctl_progress(line);
        json_decref(view);
        pause_ms(POLL_MS);
    }
}

int ctl_cluster_await_safe(const struct ctl_arguments *arguments)
{
    struct ctl_access *access;
    json_t *view;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = safe_wait(access, arguments->timeout_s, &view);
    if (status) {
        ctl_access_close(&access);
        return status;
    }
    const char *summary = json_string_value(json_object_get(view, "summary"));
    bool safe = json_is_true(json_object_get(view, "safe"));
    if (arguments->json) {
        json_t *root = json_pack("{s:b, s:s}", "safe", safe, "summary", summary);
        ctl_print_json(root);
        json_decref(root);
    } else if (safe) {
        printf("%s\n", summary);
    }
    status =
        safe ? CTL_OK : ctl_fail(CTL_TEMPORARY, "not safe after %u s: %s", arguments->timeout_s, summary);
    json_decref(view);
    ctl_access_close(&access);
    return status;
}
