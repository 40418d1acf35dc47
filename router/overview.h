/* The whole cluster as one router sees it, and what to think of it: the answer to GET /v1/cluster.
 *
 * Plain data. The reactors fill it (wp_reactor_overview), each the groups that are its own by number; reactor
 * 0 also the nodes. The judgement is pure: same overview, same sentences. */
#ifndef WP_ROUTER_OVERVIEW_H
#define WP_ROUTER_OVERVIEW_H

#include "router/roster.h"

/* A replica that is at most so many entries behind its leader is in step. Those entries are on their way. */
#define WP_OVERVIEW_STEP_LAG_MAX 1000u

struct wp_overview_node {
    uint32_t number;
    enum wp_node_state state;
    char name[WP_NAME_SIZE_MAX + 1];
    char endpoint[WP_ENDPOINT_SIZE_MAX];
    bool self;
    bool reachable; /* we are connected to it and it reported in the last seconds */
    bool disk_full;
    bool clock_off;
    bool forgotten;     /* what it has on disk is not what it once confirmed; it is being rebuilt */
    bool has_offset;    /* else the next is unknown */
    int64_t offset_ms;  /* of its clock from the median of all; positive: ahead */
    uint32_t level_max; /* highest feature level of its build; 0 = unknown */
    uint32_t replicas;  /* from here on: wp_overview_count */
    uint32_t leads;
};

struct wp_overview_member {
    uint64_t replica; /* raft id */
    bool voter;
    bool wanted;
    bool reachable;
    bool has_lag; /* else the next is unknown */
    uint64_t lag; /* entries behind the leader's log */
};

struct wp_overview_group {
    bool known;      /* somebody told of it */
    uint64_t leader; /* raft id; 0 = none that is known here */
    uint64_t term;
    uint32_t wanted_count;
    uint64_t wanted[WP_REPLICA_MEMBERS_MAX];
    /* As its leader last told; without one those that are wanted, with nothing known about them. */
    uint32_t member_count;
    struct wp_overview_member members[WP_REPLICA_MEMBERS_MAX];
};

struct wp_overview {
    uint64_t roster_version;
    uint32_t feature_level;
    uint32_t replication;
    uint32_t shard_count;
    uint32_t node_count;
    struct wp_overview_node nodes[WP_ROSTER_NODES_MAX];
    uint32_t gateway_count; /* of the roster */
    struct wp_roster_gateway gateways[WP_ROSTER_GATEWAYS_MAX];
    struct wp_overview_group groups[]; /* [group], 0..shard_count */
};

/* An empty one. NULL: out of memory. free() it. */
struct wp_overview *wp_overview_create(uint32_t shard_count);
const struct wp_overview_node *wp_overview_node(const struct wp_overview *overview, uint32_t number);
/* Name of the node of a raft id; "?" when there is no such node. */
const char *wp_overview_name(const struct wp_overview *overview, uint64_t replica);
/* Fills `replicas` and `leads` of the nodes. */
void wp_overview_count(struct wp_overview *overview);

/* Wanted voters that vote, are reachable and are in step. */
uint32_t wp_overview_in_step(const struct wp_overview_group *group);
/* Its members are not those that are wanted. */
bool wp_overview_moving(const struct wp_overview_group *group);
/* It has a leader and every wanted replica is a voter in step. */
bool wp_overview_safe(const struct wp_overview_group *group);
/* Lag of the slowest member that is wanted; false when that of one is unknown. */
bool wp_overview_lag(const struct wp_overview_group *group, uint64_t *ret_lag);

/* --- what to think of it --- */

/* Stable words of JSON, with their names as enum. */
#define WP_ALARM_TABLE(X)                                                                                    \
    X(WP_ALARM_NODE_DOWN, "node-down")                                                                       \
    X(WP_ALARM_NO_LEADER, "no-leader")                                                                       \
    X(WP_ALARM_BEHIND, "replicas-behind")                                                                    \
    X(WP_ALARM_CLOCK_OFF, "clock-off")                                                                       \
    X(WP_ALARM_DISK_FULL, "disk-full")                                                                       \
    X(WP_ALARM_FORGOTTEN, "forgotten")

enum wp_alarm_kind {
#define X(name, word) name,
    WP_ALARM_TABLE(X)
#undef X
};
const char *wp_alarm_word(enum wp_alarm_kind kind);

struct wp_alarm {
    enum wp_alarm_kind kind;
    char subject[256]; /* node, or shards "1-3, 7" */
    char text[512];    /* a sentence */
};

struct wp_judgement {
    bool safe;         /* every group is */
    char summary[512]; /* one sentence */
    uint32_t alarm_count;
    struct wp_alarm alarms[4 * WP_ROSTER_NODES_MAX + 16];
};

void wp_overview_judge(const struct wp_overview *overview, struct wp_judgement *ret_judgement);

#endif
