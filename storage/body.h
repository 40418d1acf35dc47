/* What a body of the store port (store.h) implements, and what both bodies share. Private to storage/.
 *
 * A body embeds struct wp_store, wp_state_batch and wp_state_iter as first members of its own structs. */
#ifndef WP_STORAGE_BODY_H
#define WP_STORAGE_BODY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/layout.h"
#include "storage/store.h"

struct wp_store_body {
    void (*close)(struct wp_store *store); /* frees the store too */

    struct wp_state_batch *(*batch_create)(struct wp_store *store);
    void (*batch_destroy)(struct wp_state_batch *batch);
    void (*batch_clear)(struct wp_state_batch *batch);
    void (*batch_put)(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value);
    void (*batch_delete)(struct wp_state_batch *batch, struct wp_slice key);
    void (*batch_delete_range)(struct wp_state_batch *batch, struct wp_slice from, struct wp_slice to);

    int (*state_commit)(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
        uint64_t applied_index, uint64_t applied_term);
    int (*state_get)(struct wp_store *store, struct wp_slice key, struct wp_buffer *out);
    void (*state_applied)(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
    uint64_t (*state_durable_index)(struct wp_store *store, uint32_t shard);
    void (*state_flush_if_due)(struct wp_store *store);
    void (*state_flush_soon)(struct wp_store *store);
    int (*state_flush)(struct wp_store *store);

    struct wp_state_iter *(*view_create)(struct wp_store *store, struct wp_slice from, struct wp_slice to,
        uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
    struct wp_state_iter *(*iter_create)(struct wp_store *store, struct wp_slice from, struct wp_slice to);
    bool (*iter_valid)(struct wp_state_iter *iter);
    void (*iter_next)(struct wp_state_iter *iter);
    struct wp_slice (*iter_key)(struct wp_state_iter *iter);
    struct wp_slice (*iter_value)(struct wp_state_iter *iter);
    int (*iter_error)(struct wp_state_iter *iter);
    void (*iter_destroy)(struct wp_state_iter *iter);

    int (*log_submit)(struct wp_store *store, const struct wp_log_write *write);
    int (*log_load)(struct wp_store *store, uint32_t shard, uint64_t after,
        struct wp_log_hard_state *ret_hard, int (*each)(void *context, const struct wp_log_entry *entry),
        void *context, uint64_t *ret_first, uint64_t *ret_last);
    int (*log_read)(struct wp_store *store, uint32_t shard, uint64_t first, uint32_t count,
        struct wp_log_entry *ret_entries, uint32_t *ret_count);
    int (*log_term)(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t *ret_term);

    int (*shard_wipe)(struct wp_store *store, uint32_t shard, const struct wp_log_hard_state *hard);
    int (*install_create)(struct wp_store *store, uint32_t shard, struct wp_state_install **ret_install);
    int (*install_add)(struct wp_state_install *install, struct wp_slice key, struct wp_slice value);
    int (*install_commit)(
        struct wp_state_install *install, uint64_t index, uint64_t term, uint64_t leader_term);
    void (*install_destroy)(struct wp_state_install *install); /* with its files; after a commit too */

    int (*fact_get)(struct wp_store *store, const char *name, struct wp_buffer *out);
    int (*fact_set)(struct wp_store *store, const char *name, struct wp_slice value);
    void (*disk)(struct wp_store *store, struct wp_store_disk *ret_disk);
    uint64_t (*boot)(struct wp_store *store);
    uint64_t (*directory_id)(struct wp_store *store);
};

struct wp_store {
    const struct wp_store_body *body;
    pthread_mutex_t guard; /* of everything below */
    char error_text[512];
    int failure; /* first failure for good; WP_OK while the store works */
    char failure_text[512];
    bool running; /* set by the body when its open is done: from here on damage is noted as a fact */
    bool damage_noted;
    bool failure_told;
    void (*on_failure)(void *context, int error, const char *text);
    void *failure_context;
};

struct wp_state_batch {
    struct wp_store *store;
};

struct wp_state_iter {
    struct wp_store *store;
};

struct wp_state_install {
    struct wp_store *store;
    uint32_t shard;
    size_t last_size; /* of the last key added */
    uint8_t last_key[WP_STATE_KEY_SIZE_MAX];
};

/* Where the log of one shard stands, as queued. The same rules of continuity for both bodies. */
struct wp_log_position {
    uint64_t floor; /* entries below were dropped; 0 = never */
    uint64_t last;  /* highest index; floor - 1 when nothing is retained; 0 = empty */
    uint64_t term;  /* current: highest of hard state and entries */
};

void wp_store_init(struct wp_store *store, const struct wp_store_body *body);
void wp_store_fini(struct wp_store *store);

/* Keeps the text for wp_store_error_text; returns `error`. Counts WP_E_CORRUPT. Any thread. */
int wp_store_note(struct wp_store *store, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The store failed for good: keeps the first error and tells on_failure once. Returns `error`. Any thread. */
int wp_store_fail(struct wp_store *store, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* First failure, or WP_OK. Any thread. */
int wp_store_failure(struct wp_store *store);

/* Checks that `write` continues `position` and gives the position after it. WP_E_INVALID: a gap, a shard or
 * index out of range, a truncation below the floor. Pure. */
int wp_log_position_after(const struct wp_log_position *position, const struct wp_log_write *write,
    struct wp_log_position *ret_after);

/* Walks what is retained of one shard in order: the part of wp_log_load that both bodies share. */
struct wp_log_loader {
    uint32_t shard;
    uint64_t after;
    uint64_t floor;
    int (*each)(void *context, const struct wp_log_entry *entry);
    void *context;
    uint64_t first; /* of the retained range, 0 = none so far */
    uint64_t last;
};
/* Takes the next record. WP_E_CORRUPT for a bad record or a gap (noted in `store`), WP_E_NOMEM, or what
 * `each` said. */
int wp_log_loader_take(
    struct wp_store *store, struct wp_log_loader *loader, struct wp_slice key, struct wp_slice record);
/* After the last record: what `after` and the floor promise must have been there. WP_OK or WP_E_CORRUPT. */
int wp_log_loader_finish(struct wp_store *store, const struct wp_log_loader *loader);

/* The hard state with which a shard goes on after its log, which ended at `last`, was cleared, and what the
 * marker says until then. WP_E_INVALID: the same replica would forget its term or vote; the installed state
 * lies below the log's end. Pure. */
int wp_hard_after_wipe(const struct wp_log_hard_state *before, uint64_t last,
    const struct wp_log_hard_state *wanted, struct wp_log_hard_state *ret_after,
    struct wp_marker *ret_marker);
int wp_hard_after_install(const struct wp_log_hard_state *before, uint64_t last,
    const struct wp_marker *marker, struct wp_log_hard_state *ret_after);
/* The same for a shard that an open finds with `marker`. `installed`: its new rows are there; else it is
 * wiped. */
void wp_hard_after_crash(const struct wp_log_hard_state *before, uint64_t last,
    const struct wp_marker *marker, bool installed, struct wp_log_hard_state *ret_after);

/* Facts of the store itself. */
#define WP_FACT_DAMAGED "damaged"
#define WP_FACT_DIRECTORY "directory"

/* Names of facts: [a-z0-9._-]{1,64}, not starting with a dot. */
bool wp_fact_name_check(const char *name);

#endif
