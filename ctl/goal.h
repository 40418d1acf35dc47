/* A change that the cluster carries out on its own: one request, and with --wait the patience until it is
 * done. Single-threaded. */
#ifndef WP_CTL_GOAL_H
#define WP_CTL_GOAL_H

#include "ctl/cluster.h"

/* What is waited for: true when it is reached; else how far it is, in words. */
struct ctl_goal {
    bool (*reached)(const struct ctl_goal *goal, const json_t *view, char *ret_line, size_t line_size);
    const char *node;
    unsigned shard;
};

/* With --wait: until the goal is reached, at most --timeout. An exit status. */
int ctl_goal_wait(
    struct ctl_access *access, const struct ctl_arguments *arguments, const struct ctl_goal *goal);
/* Active routers hold as many replicas as each other, but for one, `node` among them, and nothing moves. */
bool ctl_goal_even(const struct ctl_goal *goal, const json_t *view, char *ret_line, size_t line_size);

/* POST `path` with `body` (taken; NULL = none), then with --wait until `goal` (NULL = none) is reached, at
 * most --timeout; then the answer as JSON, or `done` as a sentence. An exit status. */
int ctl_change(const struct ctl_arguments *arguments, const char *path, json_t *body,
    const struct ctl_goal *goal, const char *done);

/* The object of `rows` whose `key` is `value`; NULL without one. */
const json_t *ctl_row_of(const json_t *rows, const char *key, const json_t *value);
bool ctl_text_is(const json_t *object, const char *key, const char *text);
/* Shards of a view whose replicas are not those that are wanted. */
unsigned ctl_moving_count(const json_t *view);

#endif
