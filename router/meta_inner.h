/* The inside of the meta group's machine, shared by router/meta*.c only. */
#ifndef WP_ROUTER_META_INNER_H
#define WP_ROUTER_META_INNER_H

#include "router/meta.h"

/* Each command changes `next`, a copy that becomes the roster once the entry is written. */
struct wp_meta {
    struct wp_store *store;
    uint32_t shard_count;
    uint64_t applied_index;
    int failed;
    struct wp_roster *roster; /* NULL = none yet */
    struct wp_roster *next;   /* while an entry is applied; version 0 = none yet */
    struct wp_arena arena;    /* of one command */
    struct wp_state_batch *batch;
    struct wp_buffer scratch;
};

/* meta_apply.c: WP_OK, a refusal in result->error, or a failure. */
int wp_meta_command_apply(
    struct wp_meta *meta, uint8_t type, struct wp_slice payload, struct wp_meta_result *result);

/* meta_store.c */
int wp_meta_load(struct wp_meta *meta);
/* Puts what differs between `before` (NULL = nothing was there) and `after` into the batch. */
int wp_meta_put(struct wp_meta *meta, const struct wp_roster *before, const struct wp_roster *after);

#endif
