/* See frame.h. */
#include "storage/sim/frame.h"

#include <string.h>

#include "base/error.h"
#include "storage/record.h"

#define FRAME_FIXED_SIZE 81u
#define ENTRY_FIXED_SIZE 21u

static const uint8_t frame_key[] = "frame";

static void frame_fixed(const struct sim_frame *frame, uint8_t *to)
{
    wp_put_u32be(to, frame->shard);
    wp_put_u64be(to + 4, frame->cut_from);
    wp_put_u64be(to + 12, frame->cut_to);
    wp_put_u64be(to + 20, frame->floor);
    wp_put_u64be(to + 28, frame->floor_term);
    to[36] = frame->has_hard;
    wp_put_u64be(to + 37, frame->hard.term);
    wp_put_u64be(to + 45, frame->hard.voted_for);
    wp_put_u64be(to + 53, frame->hard.replica);
    wp_put_u64be(to + 61, frame->hard.lost_index);
    wp_put_u64be(to + 69, frame->hard.lost_term);
    wp_put_u32be(to + 77, frame->entry_count);
}

static size_t entry_size(const struct wp_log_entry *entry)
{
    return entry->data != NULL ? entry->data->size : 0;
}

int sim_frame_encode(const struct sim_frame *frame, const struct wp_log_entry *entries, struct wp_buffer *out)
{
    size_t size = FRAME_FIXED_SIZE;
    for (uint32_t i = 0; i < frame->entry_count; i++) {
        size += ENTRY_FIXED_SIZE + entry_size(&entries[i]);
    }
    size_t total = 4 + WP_RECORD_HEADER_SIZE + size;
    uint8_t *start = wp_buffer_reserve(out, total);
    if (start == NULL) {
        return WP_E_NOMEM;
    }
    uint8_t *content = start + 4 + WP_RECORD_HEADER_SIZE;
    frame_fixed(frame, content);
    uint8_t *to = content + FRAME_FIXED_SIZE;
    for (uint32_t i = 0; i < frame->entry_count; i++) {
        size_t bytes = entry_size(&entries[i]);
        wp_put_u64be(to, entries[i].index);
        to[8] = entries[i].kind;
        wp_put_u64be(to + 9, entries[i].term);
        wp_put_u32be(to + 17, (uint32_t)bytes);
        if (bytes > 0) {
            memcpy(to + ENTRY_FIXED_SIZE, entries[i].data->data, bytes);
        }
        to += ENTRY_FIXED_SIZE + bytes;
    }
    wp_put_u32be(start, (uint32_t)(total - 4));
    wp_record_seal(WP_RECORD_FRAME, wp_slice(frame_key, sizeof frame_key), wp_slice(NULL, 0),
        wp_slice(content, size), start + 4);
    out->size += total;
    return WP_OK;
}

int sim_frame_decode(struct wp_slice *input, struct sim_frame *ret_frame)
{
    if (input->size < 4) {
        return WP_E_TRUNCATED;
    }
    uint32_t size = wp_get_u32be(input->data);
    if (size > input->size - 4) {
        return WP_E_TRUNCATED;
    }
    struct wp_slice content;
    if (wp_record_open(WP_RECORD_FRAME, wp_slice(frame_key, sizeof frame_key),
            wp_slice(input->data + 4, size), 0, &content) != WP_OK ||
        content.size < FRAME_FIXED_SIZE) {
        return WP_E_CORRUPT;
    }
    const uint8_t *from = content.data;
    *ret_frame = (struct sim_frame){
        .shard = wp_get_u32be(from),
        .cut_from = wp_get_u64be(from + 4),
        .cut_to = wp_get_u64be(from + 12),
        .floor = wp_get_u64be(from + 20),
        .floor_term = wp_get_u64be(from + 28),
        .has_hard = from[36] != 0,
        .hard = {wp_get_u64be(from + 37), wp_get_u64be(from + 45), wp_get_u64be(from + 53),
            wp_get_u64be(from + 61), wp_get_u64be(from + 69)},
        .entry_count = wp_get_u32be(from + 77),
        .entries = wp_slice(from + FRAME_FIXED_SIZE, content.size - FRAME_FIXED_SIZE),
    };
    input->data += 4 + size;
    input->size -= 4 + size;
    return WP_OK;
}

int sim_frame_next_entry(struct sim_frame *frame, struct wp_log_entry *ret_entry)
{
    struct wp_slice *from = &frame->entries;
    if (from->size < ENTRY_FIXED_SIZE || wp_get_u32be(from->data + 17) > from->size - ENTRY_FIXED_SIZE) {
        return WP_E_CORRUPT;
    }
    uint32_t size = wp_get_u32be(from->data + 17);
    struct wp_bytes *data = wp_bytes_copy(from->data + ENTRY_FIXED_SIZE, size);
    if (data == NULL) {
        return WP_E_NOMEM;
    }
    *ret_entry = (struct wp_log_entry){
        .index = wp_get_u64be(from->data),
        .kind = from->data[8],
        .term = wp_get_u64be(from->data + 9),
        .data = data,
    };
    from->data += ENTRY_FIXED_SIZE + size;
    from->size -= ENTRY_FIXED_SIZE + size;
    return WP_OK;
}
