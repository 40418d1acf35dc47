/* Two small arrays, since both are short: the window bounds the open ones, ten seconds the acknowledged ones.
 *
 *   1. No two open positions share a packet identifier.
 *   2. unsent <= acknowledged_count; the unsent ones are the newest. */
#include "gateway/positions.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

uint16_t wp_position_packet_id(Wp__Lane lane, uint64_t sequence)
{
    WP_ASSERT(lane <= WP__LANE__RECEIPT);
    return (uint16_t)(1u + (uint32_t)lane * WP_PACKET_IDS_PER_LANE +
                      (uint32_t)(sequence % WP_PACKET_IDS_PER_LANE));
}

void wp_positions_fini(struct wp_positions *positions)
{
    free(positions->open);
    free(positions->acknowledged);
    free(positions->skipped);
    memset(positions, 0, sizeof *positions);
}

static int open_room(struct wp_positions *positions)
{
    if (positions->open_end < positions->open_capacity) {
        return WP_OK;
    }
    uint32_t count = positions->open_end - positions->open_first;
    if (positions->open_first > count) {
        memcpy(positions->open, positions->open + positions->open_first, count * sizeof *positions->open);
    } else {
        uint32_t capacity = positions->open_capacity ? positions->open_capacity * 2 : 16;
        struct wp_position *grown = malloc(capacity * sizeof *grown);
        if (!grown) {
            return WP_E_NOMEM;
        }
        if (count > 0) {
            memcpy(grown, positions->open + positions->open_first, count * sizeof *grown);
        }
        free(positions->open);
        positions->open = grown;
        positions->open_capacity = capacity;
    }
    positions->open_first = 0;
    positions->open_end = count;
    return WP_OK;
}

int wp_positions_open(struct wp_positions *positions, Wp__Lane lane, uint64_t sequence)
{
    for (uint32_t i = positions->open_first; i < positions->open_end; i++) {
        const struct wp_position *position = &positions->open[i];
        if (position->lane == (uint32_t)lane && position->sequence == sequence) {
            return WP_E_EXISTS;
        }
        if (position->lane == (uint32_t)lane &&
            position->sequence % WP_PACKET_IDS_PER_LANE == sequence % WP_PACKET_IDS_PER_LANE) {
            return WP_E_BUSY;
        }
    }
    int error = open_room(positions);
    if (error) {
        return error;
    }
    positions->open[positions->open_end++] =
        (struct wp_position){.sequence = sequence, .lane = (uint32_t)lane};
    return WP_OK;
}

uint32_t wp_positions_open_count(const struct wp_positions *positions)
{
    return positions->open_end - positions->open_first;
}

static struct wp_position *acknowledged_at(const struct wp_positions *positions, uint32_t index)
{
    return &positions
                ->acknowledged[(positions->acknowledged_first + index) % positions->acknowledged_capacity];
}

static int acknowledged_grow(struct wp_positions *positions)
{
    uint32_t capacity = positions->acknowledged_capacity ? positions->acknowledged_capacity * 2 : 16;
    struct wp_position *grown = malloc(capacity * sizeof *grown);
    if (!grown) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < positions->acknowledged_count; i++) {
        grown[i] = *acknowledged_at(positions, i);
    }
    free(positions->acknowledged);
    positions->acknowledged = grown;
    positions->acknowledged_first = 0;
    positions->acknowledged_capacity = capacity;
    return WP_OK;
}

static void acknowledged_drop_oldest(struct wp_positions *positions)
{
    positions->acknowledged_first = (positions->acknowledged_first + 1) % positions->acknowledged_capacity;
    positions->acknowledged_count--;
    if (positions->unsent > positions->acknowledged_count) {
        positions->unsent = positions->acknowledged_count;
    }
}

static int acknowledged_push(struct wp_positions *positions, struct wp_position position)
{
    if (positions->acknowledged_count == WP_POSITION_MEMORY_MAX) {
        acknowledged_drop_oldest(positions);
    }
    if (positions->acknowledged_count == positions->acknowledged_capacity &&
        acknowledged_grow(positions) != WP_OK) {
        return WP_E_NOMEM;
    }
    positions->acknowledged_count++;
    *acknowledged_at(positions, positions->acknowledged_count - 1) = position;
    positions->unsent++;
    return WP_OK;
}

static void open_remove(struct wp_positions *positions, uint32_t index)
{
    if (index == positions->open_first) {
        positions->open_first++;
    } else {
        memmove(positions->open + index, positions->open + index + 1,
            (positions->open_end - index - 1) * sizeof *positions->open);
        positions->open_end--;
    }
    if (positions->open_first == positions->open_end) {
        positions->open_first = positions->open_end = 0;
    }
}

int wp_positions_acknowledge(struct wp_positions *positions, uint16_t id, uint64_t now_ms)
{
    for (uint32_t i = positions->open_first; i < positions->open_end; i++) {
        struct wp_position position = positions->open[i];
        if (wp_position_packet_id((Wp__Lane)position.lane, position.sequence) == id) {
            open_remove(positions, i);
            position.at_ms = (uint32_t)now_ms;
            return acknowledged_push(positions, position);
        }
    }
    return WP_E_NOT_FOUND;
}

static int skipped_push(struct wp_positions *positions, struct wp_position position)
{
    if (positions->skipped_count == positions->skipped_capacity) {
        uint32_t capacity = positions->skipped_capacity ? positions->skipped_capacity * 2 : 16;
        struct wp_position *grown = realloc(positions->skipped, capacity * sizeof *grown);
        if (!grown) {
            return WP_E_NOMEM;
        }
        positions->skipped = grown;
        positions->skipped_capacity = capacity;
    }
    positions->skipped[positions->skipped_count++] = position;
    return WP_OK;
}

int wp_positions_skip(struct wp_positions *positions, Wp__Lane lane, uint64_t sequence)
{
    for (uint32_t i = positions->open_first; i < positions->open_end; i++) {
        struct wp_position position = positions->open[i];
        if (position.lane == (uint32_t)lane && position.sequence == sequence) {
            int error = skipped_push(positions, position);
            if (!error) {
                open_remove(positions, i);
            }
            return error;
        }
    }
    return WP_E_NOT_FOUND;
}

bool wp_positions_acknowledged_again(
    struct wp_positions *positions, Wp__Lane lane, uint64_t sequence, uint64_t now_ms)
{
    for (uint32_t i = positions->acknowledged_count; i > 0; i--) {
        struct wp_position position = *acknowledged_at(positions, i - 1);
        if (position.lane != (uint32_t)lane || position.sequence != sequence) {
            continue;
        }
        position.at_ms = (uint32_t)now_ms;
        /* Without memory the repeat stays unanswered, and the router asks again on the next connection. */
        (void)acknowledged_push(positions, position);
        return true;
    }
    return false;
}

void wp_positions_trim(struct wp_positions *positions, uint64_t now_ms)
{
    while (positions->acknowledged_count > positions->unsent &&
           (uint32_t)now_ms - acknowledged_at(positions, 0)->at_ms > WP_POSITION_MEMORY_MS) {
        acknowledged_drop_oldest(positions);
    }
    if (positions->acknowledged_count == 0 && positions->acknowledged) {
        free(positions->acknowledged);
        positions->acknowledged = NULL;
        positions->acknowledged_capacity = positions->acknowledged_first = 0;
    }
    if (positions->skipped_count == 0 && positions->skipped) {
        free(positions->skipped);
        positions->skipped = NULL;
        positions->skipped_capacity = 0;
    }
    if (positions->open_first == positions->open_end && positions->open) {
        free(positions->open);
        positions->open = NULL;
        positions->open_capacity = positions->open_first = positions->open_end = 0;
    }
}

uint32_t wp_positions_open_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = positions->open_first; i < positions->open_end; i++) {
        if (positions->open[i].lane == (uint32_t)lane) {
            out[count++] = positions->open[i].sequence;
        }
    }
    return count;
}

static uint32_t acknowledged_copy(
    const struct wp_positions *positions, Wp__Lane lane, uint32_t from, uint64_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = from; i < positions->acknowledged_count; i++) {
        const struct wp_position *position = acknowledged_at(positions, i);
        if (position->lane == (uint32_t)lane) {
            out[count++] = position->sequence;
        }
    }
    return count;
}

uint32_t wp_positions_acknowledged_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out)
{
    return acknowledged_copy(positions, lane, 0, out);
}

uint32_t wp_positions_unsent_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out)
{
    return acknowledged_copy(positions, lane, positions->acknowledged_count - positions->unsent, out);
}

uint32_t wp_positions_skipped_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < positions->skipped_count; i++) {
        if (positions->skipped[i].lane == (uint32_t)lane) {
            out[count++] = positions->skipped[i].sequence;
        }
    }
    return count;
}

void wp_positions_sent(struct wp_positions *positions)
{
    positions->unsent = 0;
    positions->skipped_count = 0;
}
