/* The watermark: what the log is known to have synced, kept outside RocksDB so that a log that forgot (lost
 * WAL tail, flipped bit, rolled-back directory) is noticed at the next start.
 *
 *     file PATH/watermark = record header | magic(8) boot(8) count(4) | count x { shard(4) term(8) index(8) }
 *
 * `term` is the shard's current term (a forgotten vote is forgetting too), `index` the last synced index. The
 * file may lag behind the log, never the other way round: a position gets in only after its sync, and before
 * a truncation reaches the log the file is lowered and synced. Any thread. */
#ifndef WP_STORAGE_ROCKS_WATERMARK_H
#define WP_STORAGE_ROCKS_WATERMARK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define WP_WATERMARK_FILE "watermark"

struct wp_watermark_position {
    uint64_t term;
    uint64_t index;
};

struct wp_watermark {
    pthread_mutex_t file_guard; /* of the file and `filed`; taken before `guard` */
    pthread_mutex_t guard;      /* of `synced` and `moved`; held for moments only */
    char directory[1024];
    uint64_t boot;
    uint32_t shards_max;
    uint32_t shard_count; /* highest shard with a position + 1 */
    struct wp_watermark_position *synced;
    struct wp_watermark_position *filed; /* as in the file on disk */
    bool moved;                          /* synced differs from filed */
};

/* WP_OK, WP_E_NOMEM. `directory` holds the file. */
int wp_watermark_init(struct wp_watermark *watermark, const char *directory, uint32_t shards_max);
void wp_watermark_fini(struct wp_watermark *watermark);

/* Reads the file into `filed`, `synced` and `boot`. WP_E_NOT_FOUND, WP_E_CORRUPT, WP_E_IO, WP_E_NOMEM. */
int wp_watermark_load(struct wp_watermark *watermark);

/* Takes what the log holds, synced, as the position of `shard`. Memory only. */
void wp_watermark_put(struct wp_watermark *watermark, uint32_t shard, uint64_t term, uint64_t index);

/* Before a truncation: from here on `index` at most; writes the file when it holds more. WP_OK,
 * WP_E_NO_SPACE, WP_E_IO. */
int wp_watermark_lower(struct wp_watermark *watermark, uint32_t shard, uint64_t index);

/* Before a shard begins anew: nothing is known of it from here on; writes the file when it holds more. */
int wp_watermark_reset(struct wp_watermark *watermark, uint32_t shard);

/* Writes the file when a position moved since the last time, or always with `force`. */
int wp_watermark_write(struct wp_watermark *watermark, bool force);

#endif
