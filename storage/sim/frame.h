/* One write of the log as it stands in the simulated WAL: size, sealed content. What a crash tears is told
 * from what is whole by the same checksum that guards every record.
 *
 *     size(4, of all that follows) | record header | shard(4) cut_from(8) cut_to(8) floor(8) floor_term(8)
 *     has_hard(1) term(8) vote(8) replica(8) lost_index(8) lost_term(8) entry_count(4) | entries: index(8)
 * kind(1) term(8) size(4) bytes
 *
 * Pure. */
#ifndef WP_STORAGE_SIM_FRAME_H
#define WP_STORAGE_SIM_FRAME_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "storage/store.h"

struct sim_frame {
    uint32_t shard;
    uint64_t cut_from; /* entries [cut_from, cut_to) go first; 0, 0 = none */
    uint64_t cut_to;
    uint64_t floor; /* then, after the entries: everything below goes; 0 = none */
    uint64_t floor_term;
    bool has_hard;
    struct wp_log_hard_state hard;
    uint32_t entry_count;
    struct wp_slice entries; /* encoded */
};

/* Appends the frame with these entries (frame->entries is not used). WP_OK, WP_E_NOMEM. */
int sim_frame_encode(
    const struct sim_frame *frame, const struct wp_log_entry *entries, struct wp_buffer *out);

/* Takes one frame off `input`; it points into it. WP_E_TRUNCATED at the end (also a torn one), WP_E_CORRUPT.
 */
int sim_frame_decode(struct wp_slice *input, struct sim_frame *ret_frame);

/* Takes one entry off frame->entries; its data is a new reference. WP_E_CORRUPT, WP_E_NOMEM. */
int sim_frame_next_entry(struct sim_frame *frame, struct wp_log_entry *ret_entry);

#endif
