/* Truncation leaves `bytes` too high for a while, never too low: compaction then keeps less than it might,
 * which costs nothing but a snapshot for a peer that is far behind. */
#include "cluster/log_extent.h"

/* So many marks within the bytes to keep; the ring holds twice as many. */
#define EXTENT_MARKS_KEPT (WP_LOG_EXTENT_MARKS / 2)

void wp_log_extent_init(struct wp_log_extent *extent, uint64_t first_index, uint64_t keep_bytes)
{
    *extent = (struct wp_log_extent){.count = 1, .keep_bytes = keep_bytes};
    extent->marks[0].index = first_index;
}

static uint32_t mark_position(const struct wp_log_extent *extent, uint32_t i)
{
    return (extent->front + i) % WP_LOG_EXTENT_MARKS;
}

void wp_log_extent_add(struct wp_log_extent *extent, uint64_t index, uint64_t size)
{
    while (extent->count > 1 && extent->marks[mark_position(extent, extent->count - 1)].index >= index) {
        extent->count--;
    }
    uint32_t last = mark_position(extent, extent->count - 1);
    if (extent->bytes - extent->marks[last].bytes_before >= extent->keep_bytes / EXTENT_MARKS_KEPT) {
        if (extent->count == WP_LOG_EXTENT_MARKS) {
            extent->front = mark_position(extent, 1);
            extent->count--;
        }
        uint32_t next = mark_position(extent, extent->count++);
        extent->marks[next].index = index;
        extent->marks[next].bytes_before = extent->bytes;
    }
    extent->bytes += size;
}

uint64_t wp_log_extent_first(const struct wp_log_extent *extent)
{
    if (extent->bytes <= extent->keep_bytes) {
        return 1;
    }
    /* The earliest mark whose tail fits; the newest one when none does. */
    uint64_t skip = extent->bytes - extent->keep_bytes;
    for (uint32_t i = 0; i < extent->count; i++) {
        uint32_t mark = mark_position(extent, i);
        if (extent->marks[mark].bytes_before >= skip) {
            return extent->marks[mark].index;
        }
    }
    return extent->marks[mark_position(extent, extent->count - 1)].index;
}
