/* Why this file exists: see goal.h. */
#include "ctl/goal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"

#define POLL_MS 250L

const json_t *ctl_row_of(const json_t *rows, const char *key, const json_t *value)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (json_equal(json_object_get(row, key), value)) {
            return row;
        }
    }
    return NULL;
}

unsigned ctl_moving_count(const json_t *view)
{
    unsigned count = 0;
    size_t i;
    const json_t *shard;
    json_array_foreach(json_object_get(view, "shards"), i, shard)
    {
        count += json_is_true(json_object_get(shard, "moving"));
    }
    return count;
}

bool ctl_text_is(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && strcmp(value, text) == 0;
}

bool ctl_goal_even(const struct ctl_goal *goal, const json_t *view, char *ret_line, size_t line_size)
{
    json_int_t least = INT64_MAX, most = 0;
    bool listed = false;
    size_t i;
    const json_t *node;
    json_array_foreach(json_object_get(view, "nodes"), i, node)
    {
        json_int_t replicas = json_integer_value(json_object_get(node, "replicas"));
        if (ctl_text_is(node, "state", "active")) {
            listed = listed || ctl_text_is(node, "node", goal->node);
            least = replicas < least ? replicas : least;
            most = replicas > most ? replicas : most;
        }
    }
    snprintf(ret_line, line_size, "%s: routers hold %lld to %lld replicas, %u shard%s moving", goal->node,
        (long long)least, (long long)most, ctl_moving_count(view),
        ctl_moving_count(view) == 1 ? " is" : "s are");
    return listed && most - least <= 1 && ctl_moving_count(view) == 0 &&
           json_is_true(json_object_get(view, "safe"));
}

/* The answer as JSON, or `done` as a sentence. */
static void answer_print(const struct ctl_arguments *arguments, const json_t *answer, const char *done)
{
    if (arguments->json) {
        ctl_print_json(answer);
    } else {
        printf("%s\n", done);
    }
}

int ctl_goal_wait(
    struct ctl_access *access, const struct ctl_arguments *arguments, const struct ctl_goal *goal)
{
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)arguments->timeout_s * 1000000;
    int status = CTL_OK;
    bool reached = !arguments->wait;
    while (!reached && !status) {
        char line[256] = "";
        json_t *view;
        status = ctl_view_get(access, &view);
        if (status) {
            break;
        }
        reached = goal->reached(goal, view, line, sizeof line);
        json_decref(view);
        if (!reached && wp_clock_mono_us() >= end_us) {
            ctl_progress("");
            status = ctl_fail(
                CTL_TEMPORARY, "not done after %u s, it goes on by itself: %s", arguments->timeout_s, line);
        } else if (!reached) {
            ctl_progress(line);
            nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
        }
    }
    ctl_progress("");
    return status;
}

int ctl_change(const struct ctl_arguments *arguments, const char *path, json_t *body,
    const struct ctl_goal *goal, const char *done)
{
    struct ctl_access *access;
    json_t *answer = NULL;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        json_decref(body);
        return status;
    }
    status = ctl_call(access, "POST", path, body, &answer);
    if (!status && goal) {
        status = ctl_goal_wait(access, arguments, goal);
    }
    if (!status) {
        answer_print(arguments, answer, done);
    }
    json_decref(answer);
    ctl_access_close(&access);
    return status;
}
