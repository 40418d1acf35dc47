/* See layout.h: one place that knows the bytes, so that both bodies write and verify the same records. */
#include "storage/layout.h"

#include <stdbool.h>

#include "base/error.h"

void wp_entry_seal(
    const struct wp_log_entry *entry, const uint8_t key[WP_ENTRY_KEY_SIZE], uint8_t head[WP_ENTRY_HEAD_SIZE])
{
    uint8_t *meta = head + WP_RECORD_HEADER_SIZE;
    meta[0] = entry->kind;
    wp_put_u64be(meta + 1, entry->term);
    struct wp_slice body = {0};
    if (entry->data != NULL) {
        body = wp_slice(entry->data->data, entry->data->size);
    }
    wp_record_seal(
        WP_RECORD_ENTRY, wp_slice(key, WP_ENTRY_KEY_SIZE), wp_slice(meta, WP_ENTRY_META_SIZE), body, head);
}

int wp_entry_record_open(
    struct wp_slice key, struct wp_slice record, struct wp_log_entry *ret_entry, struct wp_slice *ret_data)
{
    struct wp_slice content;
    if (key.size != WP_ENTRY_KEY_SIZE ||
        wp_record_open(WP_RECORD_ENTRY, key, record, WP_ENTRY_META_SIZE, &content) != WP_OK) {
        return WP_E_CORRUPT;
    }
    ret_entry->index = wp_get_u64be(key.data + 4);
    ret_entry->kind = content.data[0];
    ret_entry->term = wp_get_u64be(content.data + 1);
    *ret_data = wp_slice(content.data + WP_ENTRY_META_SIZE, content.size - WP_ENTRY_META_SIZE);
    return WP_OK;
}

void wp_hard_seal(
    struct wp_slice key, const struct wp_log_hard_state *hard, uint8_t record[WP_HARD_RECORD_SIZE])
{
    uint8_t *body = record + WP_RECORD_HEADER_SIZE;
    wp_put_u64be(body, hard->term);
    wp_put_u64be(body + 8, hard->voted_for);
    wp_put_u64be(body + 16, hard->replica);
    wp_put_u64be(body + 24, hard->lost_index);
    wp_put_u64be(body + 32, hard->lost_term);
    wp_record_seal(WP_RECORD_HARD, key, wp_slice(NULL, 0), wp_slice(body, 40), record);
}

int wp_hard_open(struct wp_slice key, struct wp_slice record, struct wp_log_hard_state *ret_hard)
{
    struct wp_slice content;
    if (wp_record_open(WP_RECORD_HARD, key, record, 0, &content) != WP_OK || content.size != 40) {
        return WP_E_CORRUPT;
    }
    *ret_hard = (struct wp_log_hard_state){
        .term = wp_get_u64be(content.data),
        .voted_for = wp_get_u64be(content.data + 8),
        .replica = wp_get_u64be(content.data + 16),
        .lost_index = wp_get_u64be(content.data + 24),
        .lost_term = wp_get_u64be(content.data + 32),
    };
    return WP_OK;
}

void wp_marker_seal(
    struct wp_slice key, const struct wp_marker *marker, uint8_t record[WP_MARKER_RECORD_SIZE])
{
    uint8_t *body = record + WP_RECORD_HEADER_SIZE;
    wp_put_u64be(body, marker->kind);
    wp_put_u64be(body + 8, marker->index);
    wp_put_u64be(body + 16, marker->term);
    wp_put_u64be(body + 24, marker->leader_term);
    wp_put_u64be(body + 32, marker->file_count);
    wp_record_seal(WP_RECORD_MARKER, key, wp_slice(NULL, 0), wp_slice(body, 40), record);
}

int wp_marker_open(struct wp_slice key, struct wp_slice record, struct wp_marker *ret_marker)
{
    struct wp_slice content;
    if (wp_record_open(WP_RECORD_MARKER, key, record, 0, &content) != WP_OK || content.size != 40) {
        return WP_E_CORRUPT;
    }
    *ret_marker = (struct wp_marker){
        .kind = wp_get_u64be(content.data),
        .index = wp_get_u64be(content.data + 8),
        .term = wp_get_u64be(content.data + 16),
        .leader_term = wp_get_u64be(content.data + 24),
        .file_count = wp_get_u64be(content.data + 32),
    };
    bool known = ret_marker->kind >= WP_MARKER_WIPE_SAME && ret_marker->kind <= WP_MARKER_INSTALL;
    return known ? WP_OK : WP_E_CORRUPT;
}

void wp_pair_seal(enum wp_record_family family, struct wp_slice key, uint64_t first, uint64_t second,
    uint8_t record[WP_RECORD_HEADER_SIZE + 16])
{
    uint8_t *body = record + WP_RECORD_HEADER_SIZE;
    wp_put_u64be(body, first);
    wp_put_u64be(body + 8, second);
    wp_record_seal(family, key, wp_slice(NULL, 0), wp_slice(body, 16), record);
}

int wp_pair_open(enum wp_record_family family, struct wp_slice key, struct wp_slice record,
    uint64_t *ret_first, uint64_t *ret_second)
{
    struct wp_slice content;
    if (wp_record_open(family, key, record, 0, &content) != WP_OK || content.size != 16) {
        return WP_E_CORRUPT;
    }
    *ret_first = wp_get_u64be(content.data);
    *ret_second = wp_get_u64be(content.data + 8);
    return WP_OK;
}
