/* What nodes tell each other once a second (frame NodeState): clock, disk, and where their replicas stand.
 * Shared by router/reactor*.c only; the reactor's thread. Soft: an old report is as good as none. */
#ifndef WP_ROUTER_REACTOR_REPORT_H
#define WP_ROUTER_REACTOR_REPORT_H

#include "router/reactor_router.h"

#define WP_REPORT_MS 1000u
#define WP_REPORT_FRESH_MS 3500u
#define WP_CLOCK_AHEAD_MS_MAX                                                                                \
    500u /* leader time beyond the median of the clocks; further off is an alarm                             \
          */

/* One replica as its node last told. */
struct group_report {
    uint64_t replica; /* raft id; 0 = never told */
    uint64_t term;
    uint64_t last_index;
    uint64_t applied_index;
    uint64_t at_ms;  /* when it came */
    uint64_t behind; /* entries behind us, when it came and we led; else WP_LAG_UNKNOWN */
    bool leading;
    struct wp_membership membership;       /* of a leader, committed; else count 0 */
    uint64_t lags[WP_REPLICA_MEMBERS_MAX]; /* of a leader: entries that each member is behind it */
    uint64_t forgot;     /* of a leader: raft id of a member that holds less than it acknowledged; 0 = none */
    uint32_t less_count; /* reports in a row that told of less than this replica acknowledged to us */
};

struct node_report {
    uint32_t node;
    uint64_t at_ms; /* 0 = none yet */
    uint64_t wall_ms;
    bool disk_full;
    bool yields; /* nothing is to be given to it */
    bool has_offset;
    int64_t offset_ms;           /* its wall clock less ours */
    struct group_report *groups; /* [group], 0..shard_count */
};

/* To every router link that is up, when a second has passed. */
void wp_reports_tick(struct wp_reactor *reactor);
void wp_report_send(struct wp_reactor *reactor, const struct router_link *router);
void wp_report_take(struct wp_reactor *reactor, struct peer *peer, const ProtobufCMessage *message);
/* The node went away: what it told may not hold when it comes back. */
void wp_report_drop(struct wp_reactor *reactor, uint32_t node);
void wp_reports_free(struct wp_reactor *reactor);

/* NULL when the node told nothing in the last WP_REPORT_FRESH_MS. */
const struct node_report *wp_report_of(const struct wp_reactor *reactor, uint32_t node);
/* Whether the node said last that it gives everything away. It holds until its next process says otherwise:
 * while a node stops, its connections go one after the other. */
bool wp_report_yields(const struct wp_reactor *reactor, uint32_t node);
/* A replica that its node told of as long ago as `fresh_ms` at most; NULL when there is none. */
const struct group_report *wp_report_of_group(
    const struct wp_reactor *reactor, uint32_t node, uint32_t group, uint64_t fresh_ms);

#define WP_LAG_UNKNOWN UINT64_MAX
/* Entries that a member of a shard led here is behind, by its last report; WP_LAG_UNKNOWN without one. */
uint64_t wp_report_lag(const struct shard *shard, uint64_t replica);

/* Raft id of a member of a shard led here that holds less than it acknowledged to us: its disk was rolled
 * back, or lost what was synced. Its node told so twice in a row, for a report may be older than an answer
 * that overtook it on another connection. 0: none. */
uint64_t wp_report_forgot(const struct shard *shard);

/* How far the median of all known clocks (ours included) is ahead of ours. */
int64_t wp_clock_median_ms(const struct wp_reactor *reactor);
/* Whether so many voters of the shard have reached their disk reserve that what is accepted could only be
 * kept by one of them. */
bool wp_shard_disk_full(const struct shard *shard);

#endif
