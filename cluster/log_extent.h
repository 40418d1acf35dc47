/* Roughly where the bytes of a shard's log lie, so that compaction can keep the last so many bytes: marks at
 * even distances in a fixed ring. Bytes written before the start of the process and not loaded count as
 * nothing. */
#ifndef WP_CLUSTER_LOG_EXTENT_H
#define WP_CLUSTER_LOG_EXTENT_H

#include <stdint.h>

#define WP_LOG_EXTENT_MARKS 256u

struct wp_log_extent {
    struct {
        uint64_t index; /* an entry, and the bytes of all entries before it */
        uint64_t bytes_before;
    } marks[WP_LOG_EXTENT_MARKS];
    uint32_t front;
    uint32_t count;
    uint64_t bytes; /* of all entries ever added */
    uint64_t keep_bytes;
};

void wp_log_extent_init(struct wp_log_extent *extent, uint64_t first_index, uint64_t keep_bytes);
/* An entry was appended; an index at or below an earlier one means that the log was truncated before it. */
void wp_log_extent_add(struct wp_log_extent *extent, uint64_t index, uint64_t size);
/* A first index from which on the entries are at most `keep_bytes`, give or take a hundredth of them and an
 * entry; 1 when the log holds less. */
uint64_t wp_log_extent_first(const struct wp_log_extent *extent);

#endif
