#include "proto/frame.h"

#include "base/assert.h"
#include "base/error.h"

int wp_fabric_head_encode(const struct wp_fabric_head *head, struct wp_buffer *out)
{
    WP_ASSERT(out->size == 0);
    uint8_t *p = wp_buffer_reserve(out, WP_FABRIC_HEAD_SIZE);
    if (!p) {
        return WP_E_NOMEM;
    }
    memcpy(p, (const uint8_t[4]){'W', 'P', WP_FABRIC_VERSION, 0}, 4);
    wp_put_u64le(p + 4, head->cluster_id);
    wp_put_u64le(p + 12, head->source);
    wp_put_u64le(p + 20, head->destination);
    out->size = WP_FABRIC_HEAD_SIZE;
    return WP_OK;
}

int wp_entry_head_encode(uint64_t time_ms, struct wp_buffer *out)
{
    WP_ASSERT(out->size == 0);
    uint8_t *p = wp_buffer_reserve(out, WP_ENTRY_HEAD_SIZE);
    if (!p) {
        return WP_E_NOMEM;
    }
    memcpy(p, (const uint8_t[4]){WP_ENTRY_VERSION, 0, 0, 0}, 4);
    wp_put_u64le(p + 4, time_ms);
    out->size = WP_ENTRY_HEAD_SIZE;
    return WP_OK;
}

void wp_entry_head_set_time(struct wp_buffer *entry, uint64_t time_ms)
{
    WP_ASSERT(entry->size >= WP_ENTRY_HEAD_SIZE);
    wp_put_u64le(entry->data + 4, time_ms);
}

uint8_t *wp_record_append_space(struct wp_buffer *out, uint8_t type, size_t size)
{
    WP_ASSERT(size <= UINT32_MAX);
    uint8_t *p = wp_buffer_reserve(out, WP_RECORD_HEAD_SIZE + size);
    if (!p) {
        return NULL;
    }
    p[0] = type;
    wp_put_u32le(p + 1, (uint32_t)size);
    out->size += WP_RECORD_HEAD_SIZE + size;
    return p + WP_RECORD_HEAD_SIZE;
}

int wp_record_append(struct wp_buffer *out, uint8_t type, struct wp_slice payload)
{
    uint8_t *p = wp_record_append_space(out, type, payload.size);
    if (!p) {
        return WP_E_NOMEM;
    }
    if (payload.size > 0) {
        memcpy(p, payload.data, payload.size);
    }
    return WP_OK;
}

int wp_fabric_batch_open(struct wp_slice batch, struct wp_fabric_head *ret_head, struct wp_record_reader *ret_reader)
{
    if (batch.size < WP_FABRIC_HEAD_SIZE) {
        return WP_E_TRUNCATED;
    }
    if (batch.data[0] != 'W' || batch.data[1] != 'P' || batch.data[3] != 0) {
        return WP_E_MALFORMED;
    }
    if (batch.data[2] != WP_FABRIC_VERSION) {
        return WP_E_VERSION;
    }
    ret_head->cluster_id = wp_get_u64le(batch.data + 4);
    ret_head->source = wp_get_u64le(batch.data + 12);
    ret_head->destination = wp_get_u64le(batch.data + 20);
    ret_reader->rest = wp_slice(batch.data + WP_FABRIC_HEAD_SIZE, batch.size - WP_FABRIC_HEAD_SIZE);
    return WP_OK;
}

int wp_entry_open(struct wp_slice entry, uint64_t *ret_time_ms, struct wp_record_reader *ret_reader)
{
    if (entry.size < WP_ENTRY_HEAD_SIZE) {
        return WP_E_TRUNCATED;
    }
    if (entry.data[0] != WP_ENTRY_VERSION) {
        return WP_E_VERSION;
    }
    if (entry.data[1] != 0 || entry.data[2] != 0 || entry.data[3] != 0) {
        return WP_E_MALFORMED;
    }
    *ret_time_ms = wp_get_u64le(entry.data + 4);
    ret_reader->rest = wp_slice(entry.data + WP_ENTRY_HEAD_SIZE, entry.size - WP_ENTRY_HEAD_SIZE);
    return WP_OK;
}

int wp_record_next(struct wp_record_reader *reader, uint8_t *ret_type, struct wp_slice *ret_payload)
{
    struct wp_slice *rest = &reader->rest;
    if (rest->size == 0) {
        return 0;
    }
    if (rest->size < WP_RECORD_HEAD_SIZE) {
        return WP_E_TRUNCATED;
    }
    uint32_t size = wp_get_u32le(rest->data + 1);
    if (size > rest->size - WP_RECORD_HEAD_SIZE) {
        return WP_E_TRUNCATED;
    }
    *ret_type = rest->data[0];
    *ret_payload = wp_slice(rest->data + WP_RECORD_HEAD_SIZE, size);
    *rest = wp_slice(ret_payload->data + size, rest->size - WP_RECORD_HEAD_SIZE - size);
    return 1;
}
