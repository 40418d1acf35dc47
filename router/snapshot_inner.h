/* The inside of a pull, shared by snapshot_pull.c (from the offer to the last chunk) and snapshot_replace.c
 * (from there to the open shard). */
#ifndef WP_ROUTER_SNAPSHOT_INNER_H
#define WP_ROUTER_SNAPSHOT_INNER_H

#include "router/reactor_router.h"

enum pull_phase { PULLING, DRAINING, DRAINED, REPLACING };

struct snapshot_pull {
    enum link_kind kind; /* first: a link_user */
    enum pull_phase phase;
    struct wp_reactor *reactor;
    struct wp_link *link;
    uint32_t group;
    uint64_t replica; /* ours; raft id */
    uint64_t from;    /* of the source */
    uint64_t offer_term;
    uint64_t session;
    uint64_t chunk; /* number of the one that is asked for */
    bool up;
    bool cancelled;
    uint64_t began_ms, asked_ms, progress_ms;
    uint64_t row_count, byte_count;

    bool busy;
    uv_work_t work;
    struct wp_bytes *payload; /* of the chunk at work */
    struct wp_state_install *install;
    bool membership_seen;
    uint64_t index, term, leader_term;
    bool last;
    int error;

    bool log_done; /* atomic: the log has completed the old group's writes */
    struct wp_group *group_closed;
    struct wp_machine *machine; /* loaded by the worker after the installation */
};

/* Ends the pull, with `error` for the operator (WP_OK: it did its work); it is freed, at the latest when its
 * worker is done. */
void wp_snapshot_pull_end(struct snapshot_pull *pull, int error, const char *why);
/* All rows are there: closes the shard. */
void wp_snapshot_replace_begin(struct snapshot_pull *pull);
void wp_snapshot_replace_tick(struct snapshot_pull *pull);

#endif
