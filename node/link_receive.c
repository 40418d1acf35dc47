/* Records of live links on their way up.
 *
 * 1. A frame goes up only when its type is allowed to the peer's authenticated role.
 * 2. At most one frame per lane is being put together from chunks, of at most WP_FRAME_SIZE_MAX, and
 *    its bytes come in order; anything else ends the link.
 * 3. A peer that sends more than its window plus one frame ends the link: its memory is bounded by us,
 *    not by it. */
#include "node/link.h"

#include <stdio.h>

#include "base/error.h"

static void type_refuse(struct wp_link *link, unsigned type)
{
    char why[64];
    snprintf(why, sizeof why, "type=%u not allowed to its role", type);
    if (!link->logged_frame) {
        link->logged_frame = true;
        wp_fabric_refuse(link->fabric, "fabric_frame_refused", link->node, WP_E_DENIED, why);
    } else {
        wp_fabric_refuse(link->fabric, NULL, link->node, WP_E_DENIED, why);
    }
}

static int frame_hand_up(struct wp_link *link, unsigned type, struct wp_slice payload)
{
    struct wp_fabric *fabric = link->fabric;
    if (!wp_link_type_allowed(link->role, fabric->config.role, type)) {
        type_refuse(link, type);
        return WP_OK;
    }
    if (wp_link_type_controlled(link->role, (enum wp_frame_type)type)) {
        link->taken_bytes += payload.size + WP_RECORD_HEAD_SIZE;
        if (link->taken_bytes > fabric->config.window_bytes + WP_FRAME_SIZE_MAX + WP_RECORD_HEAD_SIZE) {
            return WP_E_FULL;
        }
    }
    fabric->handed_up = true;
    fabric->callbacks.frame(fabric->callbacks.context, link, (enum wp_frame_type)type, payload);
    return WP_OK;
}

static int hello_receive(struct wp_link *link, struct wp_slice payload)
{
    Wp__Hello *hello;
    int error = wp_hello_check(link->fabric, payload, link->role, link->node, &hello);
    if (!error && hello->nonce != link->nonce) {
        return WP_E_CLOSED; /* the peer knows nothing of this link */
    }
    return error;
}

static int credit_receive(struct wp_link *link, struct wp_slice payload)
{
    Wp__Credit *credit;
    wp_arena_reset(&link->fabric->arena);
    int error = wp_schema_decode(
        &wp__credit__descriptor, payload, &link->fabric->arena, (ProtobufCMessage **)&credit);
    if (error) {
        return error;
    }
    uint64_t open = (uint64_t)((int64_t)link->peer_window - link->credit);
    if (credit->bytes > open) {
        return WP_E_MALFORMED;
    }
    link->credit += (int64_t)credit->bytes;
    link->credit_came = true;
    return WP_OK;
}

static bool chunk_opens(const Wp__Chunk *chunk)
{
    bool own_type =
        chunk->type == WP_FRAME_HELLO || chunk->type == WP_FRAME_CREDIT || chunk->type == WP_FRAME_CHUNK;
    return chunk->offset == 0 && !own_type && chunk->total_bytes > 0 &&
           chunk->total_bytes <= WP_FRAME_SIZE_MAX;
}

static bool chunk_continues(const Wp__Chunk *chunk, const struct wp_assembly *assembly)
{
    return assembly->open && chunk->id == assembly->id && chunk->type == assembly->type &&
           chunk->total_bytes == assembly->total && chunk->offset == assembly->frame.size &&
           chunk->data.len > 0 && chunk->data.len <= assembly->total - assembly->frame.size;
}

static int chunk_receive(struct wp_link *link, struct wp_slice payload)
{
    Wp__Chunk *chunk;
    wp_arena_reset(&link->fabric->arena);
    int error =
        wp_schema_decode(&wp__chunk__descriptor, payload, &link->fabric->arena, (ProtobufCMessage **)&chunk);
    if (error) {
        return error;
    }
    struct wp_assembly *assembly = &link->assemblies[chunk->id % WP_LINK_LANE_COUNT];
    if (!assembly->open && chunk_opens(chunk)) {
        assembly->open = true;
        assembly->id = chunk->id;
        assembly->type = (enum wp_frame_type)chunk->type;
        assembly->total = chunk->total_bytes;
    }
    if (!chunk_continues(chunk, assembly)) {
        return WP_E_MALFORMED;
    }
    error = wp_buffer_append(&assembly->frame, chunk->data.data, chunk->data.len);
    if (error || assembly->frame.size < assembly->total) {
        return error;
    }
    /* The callback may take the link down, which empties its assemblies: the frame is ours until it returns.
     */
    struct wp_buffer frame = assembly->frame;
    assembly->frame = (struct wp_buffer)WP_BUFFER_INIT;
    assembly->open = false;
    error = frame_hand_up(link, assembly->type, wp_slice(frame.data, frame.size));
    wp_buffer_free(&frame);
    return error;
}

static int record_receive(struct wp_link *link, unsigned type, struct wp_slice payload)
{
    switch (type) {
    case WP_FRAME_HELLO:
        return hello_receive(link, payload);
    case WP_FRAME_CREDIT:
        return credit_receive(link, payload);
    case WP_FRAME_CHUNK:
        return chunk_receive(link, payload);
    default:
        return frame_hand_up(link, type, payload);
    }
}

int wp_link_records_receive(struct wp_link *link, struct wp_record_reader *reader)
{
    uint8_t type;
    struct wp_slice payload;
    int found;
    while (link->state == WP_LINK_STATE_UP && (found = wp_record_next(reader, &type, &payload)) != 0) {
        int error = found < 0 ? found : record_receive(link, type, payload);
        if (error) {
            return error;
        }
    }
    return WP_OK;
}

int wp_link_head_check(const struct wp_link *link, const struct wp_fabric_head *head)
{
    const struct wp_fabric_config *config = &link->fabric->config;
    if (head->cluster_id != config->cluster_id) {
        return WP_E_DENIED;
    }
    /* Batches of an earlier life of either side. */
    return head->source == link->incarnation && head->destination == config->incarnation ? WP_OK
                                                                                         : WP_E_CLOSED;
}

void wp_link_input_reset(struct wp_link *link)
{
    for (unsigned i = 0; i < WP_LINK_LANE_COUNT; i++) {
        wp_buffer_free(&link->assemblies[i].frame);
        link->assemblies[i].open = false;
    }
    link->taken_bytes = 0;
}
