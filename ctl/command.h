/* What every verb of wardpostctl gets and answers. Single-threaded. */
#ifndef WP_CTL_COMMAND_H
#define WP_CTL_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "client/operator.h"
#include "client/playground.h"

/* Exit statuses: X(name, number, meaning). Stable; --help prints them. */
#define CTL_EXIT_TABLE(X)                                                                                    \
    X(CTL_OK, 0, "done")                                                                                     \
    X(CTL_USAGE, 64, "the command line is wrong")                                                            \
    X(CTL_REFUSED, 65, "refused, or in conflict with what is there")                                         \
    X(CTL_NOT_FOUND, 66, "no such playground, node, user or device")                                         \
    X(CTL_UNAVAILABLE, 69, "a process is down, did not start, or does not answer")                           \
    X(CTL_IO, 74, "a file could not be read or written")                                                     \
    X(CTL_TEMPORARY, 75, "not possible now, try again")

enum ctl_exit {
#define X(name, number, meaning) name = number,
    CTL_EXIT_TABLE(X)
#undef X
};

#define CTL_ENVIRONMENT_MAX 16u
#define CTL_WORDS_MAX 3u

struct ctl_arguments {
    const char *dir;
    const char *socket; /* of a router outside of a playground; NULL = the playground's */
    bool json;          /* else a table for people */
    unsigned routers;
    unsigned gateways; /* 0 = not given */
    unsigned shards;
    unsigned reactors;  /* 0 = not given */
    unsigned port_base; /* 0 = free ports */
    unsigned timeout_s;
    bool allow_volatile;
    bool no_start;
    bool no_save;
    bool wait;
    const char *node;
    const char *endpoint;
    const char *key;
    const char *by;
    int signal;
    const char *environment[CTL_ENVIRONMENT_MAX]; /* NAME=VALUE */
    unsigned environment_count;
    const char *words[CTL_WORDS_MAX]; /* that follow the verb */
    const char *name;                 /* the first of them, or NULL */
    char *const *all_words;           /* of a verb that takes any number of them */
    unsigned word_count;
    const char *from; /* now, oldest; NULL = as the policy says */
};

/* One function per verb; returns an exit status and has printed what there is to say. */
int ctl_playground_up(const struct ctl_arguments *arguments);
int ctl_playground_down(const struct ctl_arguments *arguments);
int ctl_playground_status(const struct ctl_arguments *arguments);
int ctl_playground_kill(const struct ctl_arguments *arguments);
int ctl_playground_router_add(const struct ctl_arguments *arguments);
int ctl_playground_start(const struct ctl_arguments *arguments);
int ctl_user_add(const struct ctl_arguments *arguments);
int ctl_user_list(const struct ctl_arguments *arguments);
int ctl_device_add(const struct ctl_arguments *arguments);
int ctl_device_list(const struct ctl_arguments *arguments);
int ctl_device_remove(const struct ctl_arguments *arguments);
int ctl_team_add(const struct ctl_arguments *arguments);
int ctl_team_list(const struct ctl_arguments *arguments);
int ctl_team_remove(const struct ctl_arguments *arguments);
int ctl_team_member_add(const struct ctl_arguments *arguments);
int ctl_team_member_list(const struct ctl_arguments *arguments);
int ctl_team_member_remove(const struct ctl_arguments *arguments);
int ctl_status(const struct ctl_arguments *arguments);
int ctl_cluster_status(const struct ctl_arguments *arguments);
int ctl_cluster_await_safe(const struct ctl_arguments *arguments);
int ctl_cluster_upgrade(const struct ctl_arguments *arguments);
int ctl_node_add(const struct ctl_arguments *arguments);
int ctl_node_list(const struct ctl_arguments *arguments);
int ctl_node_drain(const struct ctl_arguments *arguments);
int ctl_node_revive(const struct ctl_arguments *arguments);
int ctl_node_remove(const struct ctl_arguments *arguments);
int ctl_node_replace(const struct ctl_arguments *arguments);
int ctl_gateway_add(const struct ctl_arguments *arguments);
int ctl_gateway_list(const struct ctl_arguments *arguments);
int ctl_gateway_revoke(const struct ctl_arguments *arguments);
int ctl_policy_list(const struct ctl_arguments *arguments);
int ctl_policy_set(const struct ctl_arguments *arguments);
int ctl_shard_move(const struct ctl_arguments *arguments);
int ctl_shard_list(const struct ctl_arguments *arguments);
int ctl_shard_transfer(const struct ctl_arguments *arguments);
int ctl_keygen_id(const struct ctl_arguments *arguments);
int ctl_keygen_cluster(const struct ctl_arguments *arguments);
int ctl_keygen_curve(const struct ctl_arguments *arguments);

/* One column of a table: the key in each row's object and its heading. The last row of an array has key NULL.
 */
struct ctl_column {
    const char *key;
    const char *heading;
};

/* Prints `value` as JSON on stdout. */
void ctl_print_json(const json_t *value);
/* Prints an array of objects as an aligned table; "-" for null or a missing key. Arrays are listed with
 * spaces. */
void ctl_print_table(const json_t *rows, const struct ctl_column *columns);
/* A new array of the same objects, by the text at `key`. */
json_t *ctl_sorted(const json_t *rows, const char *key);
/* Prints "wardpostctl: ..." on stderr and returns `status`. */
int ctl_fail(enum ctl_exit status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The exit status that a WP_E_* code leads to. */
enum ctl_exit ctl_exit_of(int error);

#endif
