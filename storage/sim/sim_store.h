/* The simulated body, inside. Private to storage/sim. */
#ifndef WP_STORAGE_SIM_SIM_STORE_H
#define WP_STORAGE_SIM_SIM_STORE_H

#include "storage/body.h"
#include "storage/layout.h"
#include "storage/sim/map.h"
#include "storage/sim/sim.h"

struct sim_pending {
    size_t frame_size; /* bytes in the WAL */
    void (*done)(void *context, uint64_t tag);
    void *context;
    uint64_t tag;
    bool completed; /* only with the seeded bug 1 */
};

/* Keys of the log map: family byte, then the key of layout.h. */
enum sim_log_family { SIM_ENTRIES = 'e', SIM_HARD = 'h' };
#define SIM_LOG_KEY_SIZE (1 + WP_ENTRY_KEY_SIZE)

/* State after one batch. */
struct sim_boundary {
    struct sim_node *state;
};

struct sim_store {
    struct wp_store base;
    uint64_t boot;
    uint64_t directory_id;
    struct wp_store_disk disk;

    struct sim_node *log;              /* what is synced */
    struct wp_buffer wal;              /* frames submitted and not synced */
    struct wp_buffer pending;          /* struct sim_pending[], one per frame */
    struct wp_log_position *positions; /* as queued */
    int sync_error;                    /* of the next sync */
    uint32_t step_countdown;           /* to the step that fails; 0 = none */

    struct sim_node *state;      /* as readers see it */
    struct sim_node *flushed;    /* what a crash leaves at least */
    struct wp_buffer boundaries; /* struct sim_boundary[]: since the flush */
    uint64_t unflushed_bytes;
    uint64_t flush_bytes;

    struct sim_node *facts;
    struct sim_node *files; /* of installations: shard(4), then the key with its tag; durable at once */
};

/* sim.c */
struct sim_store *sim_store_create(void);
/* Bytes that must not fail to be had. */
struct wp_bytes *sim_bytes_create(size_t size);
void *sim_memory(void *memory); /* ends the process when NULL */

/* log.c */
int sim_log_submit(struct wp_store *store, const struct wp_log_write *write);
int sim_log_load(struct wp_store *store, uint32_t shard, uint64_t after, struct wp_log_hard_state *ret_hard,
    int (*each)(void *context, const struct wp_log_entry *entry), void *context, uint64_t *ret_first,
    uint64_t *ret_last);
int sim_log_read(struct wp_store *store, uint32_t shard, uint64_t first, uint32_t count,
    struct wp_log_entry *ret_entries, uint32_t *ret_count);
int sim_log_term(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t *ret_term);
/* Applies the whole frames at the front of `wal` to `log` until one is torn; the bytes taken. */
size_t sim_log_replay(struct sim_node **log, struct wp_slice wal);
/* Fills `positions` from the log. */
void sim_log_positions(struct sim_store *store);

/* Zeros when it was never written. WP_E_CORRUPT. */
int sim_log_hard(struct sim_store *store, uint32_t shard, struct wp_log_hard_state *ret_hard);
/* Removes entries and floor of a shard; sets hard state and, unless 0, the floor. */
void sim_log_reset(struct sim_node **log, uint32_t shard, const struct wp_log_hard_state *hard,
    uint64_t floor, uint64_t floor_term);
void sim_log_put_marker(struct sim_node **log, uint32_t shard, const struct wp_marker *marker);
/* False when there is none. */
bool sim_log_marker(const struct sim_node *log, uint32_t shard, struct wp_marker *ret_marker);
void sim_log_put_hard(struct sim_node **log, uint32_t shard, const struct wp_log_hard_state *hard);

/* shard.c */
int sim_shard_wipe(struct wp_store *store, uint32_t shard, const struct wp_log_hard_state *hard);
/* At an open: finishes what a crash interrupted, for each shard that carries a marker. */
void sim_finish_marked(struct sim_store *store);
int sim_install_create(struct wp_store *store, uint32_t shard, struct wp_state_install **ret_install);
int sim_install_add(struct wp_state_install *install, struct wp_slice key, struct wp_slice value);
int sim_install_commit(struct wp_state_install *install, uint64_t index, uint64_t term, uint64_t leader_term);
void sim_install_destroy(struct wp_state_install *install);

/* state.c */
struct wp_bytes *sim_tagged(enum wp_state_tag tag, struct wp_slice key);
struct wp_bytes *sim_sealed(struct wp_slice key, struct wp_slice value);
void sim_state_put_applied(struct sim_node **state, uint32_t shard, uint64_t index, uint64_t term);
/* Remembers the present state as one that a crash may fall back to. */
void sim_state_boundary(struct sim_store *store);
struct wp_state_iter *sim_view_create(struct wp_store *store, struct wp_slice from, struct wp_slice to,
    uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
struct wp_state_batch *sim_batch_create(struct wp_store *store);
void sim_batch_destroy(struct wp_state_batch *batch);
void sim_batch_clear(struct wp_state_batch *batch);
void sim_batch_put(struct wp_state_batch *batch, struct wp_slice key, struct wp_slice value);
void sim_batch_delete(struct wp_state_batch *batch, struct wp_slice key);
void sim_batch_delete_range(struct wp_state_batch *batch, struct wp_slice from, struct wp_slice to);
int sim_state_commit(struct wp_store *store, struct wp_state_batch *batch, uint32_t shard,
    uint64_t applied_index, uint64_t applied_term);
int sim_state_get(struct wp_store *store, struct wp_slice key, struct wp_buffer *out);
void sim_state_applied(struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term);
uint64_t sim_state_durable_index(struct wp_store *store, uint32_t shard);
void sim_state_flush_if_due(struct wp_store *store);
void sim_state_flush_soon(struct wp_store *store);
int sim_state_flush(struct wp_store *store);
struct wp_state_iter *sim_iter_create(struct wp_store *store, struct wp_slice from, struct wp_slice to);
bool sim_iter_valid(struct wp_state_iter *iter);
void sim_iter_next(struct wp_state_iter *iter);
struct wp_slice sim_iter_key(struct wp_state_iter *iter);
struct wp_slice sim_iter_value(struct wp_state_iter *iter);
int sim_iter_error(struct wp_state_iter *iter);
void sim_iter_destroy(struct wp_state_iter *iter);

#endif
