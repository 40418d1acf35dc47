/* The outgoing lanes of a link.
 *
 * 1. Records leave a lane in the order they came; chunks of one frame stand together in their lane, so
 *    a receiver sees at most one open frame per lane.
 * 2. Deficit round robin (Shreedhar and Varghese 1995) by bytes: a lane that waits alone gets
 *    everything.
 * 3. link->queued_bytes is the sum of what is left in all lanes. */
#include "node/link.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define BATCH_CLOSE_SIZE (128u * 1024) /* head included */
#define LANE_QUANTUM_SIZE 2048u        /* per weight and round */
#define LANE_KEPT_CAPACITY (1024u * 1024)

static const unsigned lane_weights[WP_LINK_LANE_COUNT] = {
    [WP_LINK_ROUTINE] = 1, [WP_LINK_URGENT] = 4, [WP_LINK_STAT] = 8};

static int chunks_append(struct wp_link *link, enum wp_link_lane lane, enum wp_frame_type type, size_t size,
    const ProtobufCMessage *message)
{
    uint8_t *frame = malloc(size);
    if (!frame) {
        return WP_E_NOMEM;
    }
    protobuf_c_message_pack(message, frame);
    struct wp_buffer *records = &link->lanes[lane].records;
    size_t size_before = records->size;
    uint64_t id = link->chunk_count++ * WP_LINK_LANE_COUNT + lane;
    int error = WP_OK;
    for (size_t offset = 0; offset < size && !error; offset += WP_CHUNK_SIZE_MAX) {
        Wp__Chunk chunk = WP__CHUNK__INIT;
        chunk.id = id;
        chunk.type = type;
        chunk.total_bytes = size;
        chunk.offset = offset;
        chunk.data.data = frame + offset;
        chunk.data.len = size - offset < WP_CHUNK_SIZE_MAX ? size - offset : WP_CHUNK_SIZE_MAX;
        error = wp_schema_append(records, WP_FRAME_CHUNK, &chunk.base);
    }
    free(frame);
    if (error) {
        records->size = size_before;
    }
    return error;
}

int wp_link_lanes_append(struct wp_link *link, enum wp_link_lane lane, enum wp_frame_type type, size_t size,
    const ProtobufCMessage *message)
{
    struct wp_lane *into = &link->lanes[lane];
    /* Room that already left is taken back before the buffer would grow; each byte moves at most once per
     * doubling. */
    if (into->offset > LANE_KEPT_CAPACITY && into->offset > into->records.size / 2) {
        wp_buffer_consume(&into->records, into->offset);
        into->offset = 0;
    }
    size_t size_before = into->records.size;
    int error = size <= WP_CHUNK_SIZE_MAX ? wp_schema_append(&into->records, type, message)
                                          : chunks_append(link, lane, type, size, message);
    if (!error) {
        link->queued_bytes += into->records.size - size_before;
    }
    return error;
}

/* Size of the next record of a lane with its head; 0 when the lane is empty. */
static size_t lane_next_size(const struct wp_lane *lane)
{
    if (lane->offset == lane->records.size) {
        return 0;
    }
    return WP_RECORD_HEAD_SIZE + wp_get_u32le(lane->records.data + lane->offset + 1);
}

static bool batch_fits(const struct wp_buffer *batch, size_t size)
{
    return batch->size + size <= BATCH_CLOSE_SIZE;
}

static void record_move(struct wp_link *link, struct wp_lane *lane, size_t size, struct wp_buffer *batch)
{
    WP_ASSERT(batch->capacity - batch->size >= size);
    memcpy(batch->data + batch->size, lane->records.data + lane->offset, size);
    batch->size += size;
    lane->offset += size;
    link->queued_bytes -= size;
    if (lane->offset < lane->records.size) {
        return;
    }
    lane->offset = lane->records.size = 0;
    if (lane->records.capacity > LANE_KEPT_CAPACITY) {
        wp_buffer_free(&lane->records);
    }
}

static void turn_pass(struct wp_link *link)
{
    link->turn_lane = link->turn_lane == WP_LINK_ROUTINE ? WP_LINK_STAT : link->turn_lane - 1;
    struct wp_lane *lane = &link->lanes[link->turn_lane];
    lane->deficit =
        lane_next_size(lane) > 0 ? lane->deficit + LANE_QUANTUM_SIZE * lane_weights[link->turn_lane] : 0;
}

/* An empty link has no turn to go on with: what comes next begins a round with the most urgent lane. */
static void round_begin(struct wp_link *link)
{
    for (unsigned i = 0; i < WP_LINK_LANE_COUNT; i++) {
        link->lanes[i].deficit = 0;
    }
    link->turn_lane = WP_LINK_ROUTINE;
}

unsigned wp_link_lanes_fill(struct wp_link *link, struct wp_buffer *batch)
{
    unsigned count = 0;
    size_t size;
    struct wp_lane *control = &link->lanes[WP_LINK_CONTROL];
    while ((size = lane_next_size(control)) > 0) {
        if (!batch_fits(batch, size)) {
            return count;
        }
        record_move(link, control, size, batch);
        count++;
    }
    while (link->queued_bytes > 0) {
        struct wp_lane *lane = &link->lanes[link->turn_lane];
        size = lane_next_size(lane);
        if (size == 0 || size > lane->deficit) {
            turn_pass(link);
            continue;
        }
        if (!batch_fits(batch, size)) {
            return count;
        }
        record_move(link, lane, size, batch);
        lane->deficit -= size;
        count++;
    }
    round_begin(link);
    return count;
}

size_t wp_link_lanes_bound(const struct wp_link *link)
{
    return link->queued_bytes < BATCH_CLOSE_SIZE ? link->queued_bytes : BATCH_CLOSE_SIZE;
}

void wp_link_lanes_reset(struct wp_link *link)
{
    for (unsigned i = 0; i < WP_LINK_LANE_COUNT; i++) {
        wp_buffer_free(&link->lanes[i].records);
        link->lanes[i].offset = 0;
    }
    link->queued_bytes = 0;
    round_begin(link);
}
