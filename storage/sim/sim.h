/* The simulated body of the store port: everything in memory, one thread, deterministic, with the crash
 * semantics that a disk has.
 *
 *   log     a submitted write stays in a simulated WAL until the driver syncs it (wp_sim_sync); only then it
 * can be read and its completion runs. In a crash unsynced writes survive as a prefix at most, torn at any
 * byte or with a sector missing. state   each batch boundary since the last flush is remembered; in a crash
 * state falls back to any of them. facts   durable at once.
 *
 * Single-threaded: all calls from one thread; completions run inside wp_sim_sync and may submit. Running out
 * of memory ends the process: a simulation has no use for it. */
#ifndef WP_STORAGE_SIM_SIM_H
#define WP_STORAGE_SIM_SIM_H

#include <stdint.h>

#include "storage/store.h"

/* An empty store, boot 1. */
struct wp_store *wp_sim_create(void);

/* Writes submitted and not yet synced. */
uint32_t wp_sim_pending(struct wp_store *store);

/* Syncs the first `count` pending writes (0 = all that are pending now) and runs their completions in order.
 * WP_OK, or the injected error: then on_failure was called and nothing completes any more. */
int wp_sim_sync(struct wp_store *store, uint32_t count);

/* What the disk holds when the power fails now; which of the possible outcomes is drawn from `seed`. The
 * image is a store of its own, as found at the next start (boot is one more). `store` is unchanged and still
 * needs its close. */
struct wp_store *wp_sim_crash(struct wp_store *store, uint64_t seed);

/* Clean stop and start: everything synced and flushed, completions run; *store is the next boot's. */
void wp_sim_restart(struct wp_store **store);

/* The next sync fails with `error` (WP_E_IO or WP_E_NO_SPACE); what it covered may or may not be on disk. */
void wp_sim_fail_sync(struct wp_store *store, int error);

/* The `count`-th step from now of a wipe or an installation (marker, rows gone, flushed, rows taken over, log
 * switched) does not happen any more: the store fails with WP_E_IO, as when the power fails there. 0 = never.
 */
void wp_sim_fail_step(struct wp_store *store, uint32_t count);

/* Free space that wp_store_disk judges from now on (reserve 1 GiB; unlimited at first). */
void wp_sim_disk_set(struct wp_store *store, uint64_t free_bytes);

/* Bytes of batches after which wp_state_flush_if_due flushes; 64 KiB at first. */
void wp_sim_flush_bytes_set(struct wp_store *store, uint64_t bytes);

/* Turns one bit of a stored record. WP_E_NOT_FOUND when there is none. */
int wp_sim_flip_state(struct wp_store *store, struct wp_slice key, uint64_t seed);
int wp_sim_flip_entry(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t seed);

#endif
