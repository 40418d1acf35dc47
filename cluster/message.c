/* Encoding of the RPCs, table-driven: each type is a fixed number of words and a set of flags; only APPEND
 * has a tail.
 *
 * Invariant: decode(encode(x)) == x, and every accepted input is the one encoding of its value. */
#include "cluster/message.h"

#include <stddef.h>

#include "base/assert.h"
#include "base/error.h"
#include "cluster/membership.h"
#include "cluster/replica.h"
#include "proto/frame.h"

#define RPC_VERSION 1
#define RPC_HEAD_SIZE 12u
#define RPC_ENTRY_HEAD_SIZE 13u

static const struct rpc_shape {
    uint8_t words;
    uint8_t flags;
    bool entries;
} rpc_shapes[] = {
    [WP_RPC_APPEND] = {4, 0, true},
    [WP_RPC_APPEND_RESULT] = {3, WP_RPC_STALE, false},
    [WP_RPC_VOTE] = {3, WP_RPC_PRE_VOTE | WP_RPC_DISRUPT_LEADER, false},
    [WP_RPC_VOTE_RESULT] = {0, WP_RPC_PRE_VOTE | WP_RPC_GRANTED, false},
    [WP_RPC_TIMEOUT_NOW] = {2, 0, false},
};
#define RPC_SHAPE_COUNT (sizeof rpc_shapes / sizeof rpc_shapes[0])

struct wp_bytes *wp_rpc_encode(const struct wp_rpc *rpc, const struct wp_log_entry *entries)
{
    const struct rpc_shape *shape = &rpc_shapes[rpc->type];
    size_t size = RPC_HEAD_SIZE + shape->words * 8u + (shape->entries ? 4u : 0u);
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        size += RPC_ENTRY_HEAD_SIZE + entries[i].data->size;
    }
    struct wp_bytes *bytes = wp_bytes_create(size);
    if (!bytes) {
        return NULL;
    }
    uint8_t *cursor = bytes->data;
    *cursor++ = RPC_VERSION;
    *cursor++ = (uint8_t)rpc->type;
    *cursor++ = rpc->flags;
    *cursor++ = 0;
    wp_put_u64le(cursor, rpc->term);
    cursor += 8;
    for (uint32_t i = 0; i < shape->words; i++, cursor += 8) {
        wp_put_u64le(cursor, rpc->words[i]);
    }
    if (shape->entries) {
        wp_put_u32le(cursor, rpc->entry_count);
        cursor += 4;
    }
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        wp_put_u64le(cursor, entries[i].term);
        cursor[8] = entries[i].kind;
        wp_put_u32le(cursor + 9, (uint32_t)entries[i].data->size);
        memcpy(cursor + RPC_ENTRY_HEAD_SIZE, entries[i].data->data, entries[i].data->size);
        cursor += RPC_ENTRY_HEAD_SIZE + entries[i].data->size;
    }
    WP_ASSERT(cursor == bytes->data + size);
    return bytes;
}

bool wp_rpc_entry_next(struct wp_slice *entries, struct wp_rpc_entry *ret_entry)
{
    if (entries->size < RPC_ENTRY_HEAD_SIZE) {
        return false;
    }
    size_t size = wp_get_u32le(entries->data + 9);
    if (size > entries->size - RPC_ENTRY_HEAD_SIZE) {
        return false;
    }
    ret_entry->term = wp_get_u64le(entries->data);
    ret_entry->kind = entries->data[8];
    ret_entry->data = wp_slice(entries->data + RPC_ENTRY_HEAD_SIZE, size);
    *entries =
        wp_slice(entries->data + RPC_ENTRY_HEAD_SIZE + size, entries->size - RPC_ENTRY_HEAD_SIZE - size);
    return true;
}

static int entry_check(const struct wp_rpc_entry *entry)
{
    struct wp_membership membership;
    switch (entry->kind) {
    case WP_ENTRY_COMMAND:
        return entry->data.size <= WP_ENTRY_SIZE_MAX ? WP_OK : WP_E_MALFORMED;
    case WP_ENTRY_BARRIER:
        return entry->data.size == 0 ? WP_OK : WP_E_MALFORMED;
    case WP_ENTRY_CHANGE:
        return wp_membership_decode(entry->data, &membership);
    default:
        return WP_E_MALFORMED;
    }
}

/* Terms never fall along a log and never pass the leader's (Raft, log matching). */
static int append_check(const struct wp_rpc *rpc)
{
    if ((rpc->append.previous_index == 0) != (rpc->append.previous_term == 0) ||
        rpc->append.previous_term > rpc->term || rpc->entry_count > WP_RPC_ENTRIES_MAX) {
        return WP_E_MALFORMED;
    }
    struct wp_slice rest = rpc->entries;
    struct wp_rpc_entry entry;
    uint64_t term = rpc->append.previous_term ? rpc->append.previous_term : 1;
    for (uint32_t i = 0; i < rpc->entry_count; i++) {
        if (!wp_rpc_entry_next(&rest, &entry) || entry.term < term || entry.term > rpc->term) {
            return WP_E_MALFORMED;
        }
        int error = entry_check(&entry);
        if (error) {
            return error;
        }
        term = entry.term;
    }
    return rest.size == 0 ? WP_OK : WP_E_MALFORMED;
}

/* The hint of a rejection lies below what was rejected. Who refuses an older term accepts nobody's stamp. */
static int append_result_check(const struct wp_rpc *rpc)
{
    bool hint_high = rpc->append_result.rejected_index > 0 &&
                     rpc->append_result.last_index >= rpc->append_result.rejected_index;
    bool stamped = (rpc->flags & WP_RPC_STALE) && rpc->append_result.stamp_ms != 0;
    return hint_high || stamped ? WP_E_MALFORMED : WP_OK;
}

static int rpc_check(const struct wp_rpc *rpc, const struct rpc_shape *shape)
{
    if (rpc->term == 0 || rpc->term >= WP_RPC_INDEX_MAX || (rpc->flags & ~shape->flags) != 0) {
        return WP_E_MALFORMED;
    }
    for (uint32_t i = 0; i < shape->words; i++) {
        if (rpc->words[i] >= WP_RPC_INDEX_MAX && !(rpc->type == WP_RPC_VOTE && i == 0)) {
            return WP_E_MALFORMED;
        }
    }
    switch (rpc->type) {
    case WP_RPC_APPEND:
        return append_check(rpc);
    case WP_RPC_APPEND_RESULT:
        return append_result_check(rpc);
    case WP_RPC_VOTE:
        return rpc->vote.candidate == 0 || (rpc->vote.last_index == 0) != (rpc->vote.last_term == 0) ||
                       rpc->vote.last_term > rpc->term
                   ? WP_E_MALFORMED
                   : WP_OK;
    default:
        return WP_OK;
    }
}

int wp_rpc_decode(struct wp_slice bytes, struct wp_rpc *ret_rpc)
{
    if (bytes.size < RPC_HEAD_SIZE) {
        return WP_E_MALFORMED;
    }
    if (bytes.data[0] != RPC_VERSION) {
        return WP_E_VERSION;
    }
    struct wp_rpc rpc = {.flags = bytes.data[2]};
    uint8_t type = bytes.data[1];
    if (type < WP_RPC_APPEND || type >= RPC_SHAPE_COUNT || bytes.data[3] != 0) {
        return WP_E_MALFORMED;
    }
    const struct rpc_shape *shape = &rpc_shapes[type];
    size_t size = RPC_HEAD_SIZE + shape->words * 8u + (shape->entries ? 4u : 0u);
    if (bytes.size < size || (!shape->entries && bytes.size != size)) {
        return WP_E_MALFORMED;
    }
    rpc.type = (enum wp_rpc_type)type;
    rpc.term = wp_get_u64le(bytes.data + 4);
    const uint8_t *cursor = bytes.data + RPC_HEAD_SIZE;
    for (uint32_t i = 0; i < shape->words; i++, cursor += 8) {
        rpc.words[i] = wp_get_u64le(cursor);
    }
    if (shape->entries) {
        rpc.entry_count = wp_get_u32le(cursor);
        rpc.entries = wp_slice(bytes.data + size, bytes.size - size);
    }
    int error = rpc_check(&rpc, shape);
    if (error) {
        return error;
    }
    *ret_rpc = rpc;
    return WP_OK;
}
