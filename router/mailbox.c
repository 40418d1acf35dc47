/* Why the holes are listed and not what is acknowledged: a message that a device never acknowledges would
 * make a list of acknowledged positions grow with all later traffic, until it expires. Holes are bounded by
 * what was in flight.
 *
 * 1. rows of a lane ascend; the last is <= tail.
 * 2. holes of a cursor ascend, are <= passed, and each is a row of the lane.
 * 3. pending = rows above passed + holes; pending_bytes their sizes. */
#include "router/mailbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define LANE_CAPACITY_MIN 2u
#define LANE_KEEP_ROWS 64u /* an empty lane gives larger memory back */

uint32_t wp_lane_lower_bound(const struct wp_lane *lane, uint64_t sequence)
{
    if (lane->count == 0 || sequence <= wp_lane_row(lane, 0)->sequence) {
        return 0;
    }
    /* Without gaps a row stands at its distance from the first one; gaps only move it towards the front. */
    uint64_t guess = sequence - wp_lane_row(lane, 0)->sequence;
    uint32_t low = 0;
    uint32_t high = guess < lane->count ? (uint32_t)guess : lane->count;
    if (high < lane->count && wp_lane_row(lane, high)->sequence == sequence) {
        return high;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (wp_lane_row(lane, middle)->sequence < sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t wp_lane_find(const struct wp_lane *lane, uint64_t sequence)
{
    uint32_t index = wp_lane_lower_bound(lane, sequence);
    return index < lane->count && wp_lane_row(lane, index)->sequence == sequence ? index : WP_ROW_NONE;
}

static int lane_reserve(struct wp_lane *lane)
{
    if (lane->start + lane->count < lane->capacity) {
        return WP_OK;
    }
    if (lane->start > lane->capacity / 2) {
        memmove(lane->rows, lane->rows + lane->start, lane->count * sizeof *lane->rows);
        lane->start = 0;
        return WP_OK;
    }
    uint32_t capacity = lane->capacity ? lane->capacity + lane->capacity / 2 : LANE_CAPACITY_MIN;
    struct wp_row *rows = realloc(lane->rows, capacity * sizeof *rows);
    if (!rows) {
        return WP_E_NOMEM;
    }
    lane->rows = rows;
    lane->capacity = capacity;
    return WP_OK;
}

int wp_lane_append(struct wp_lane *lane, const struct wp_row *row)
{
    int error = lane_reserve(lane);
    if (error) {
        return error;
    }
    lane->rows[lane->start + lane->count++] = *row;
    return WP_OK;
}

int wp_lane_insert(struct wp_lane *lane, const struct wp_row *row)
{
    uint32_t index = wp_lane_lower_bound(lane, row->sequence);
    int error = wp_lane_append(lane, row);
    if (error) {
        return error;
    }
    struct wp_row *place = wp_lane_row(lane, index);
    memmove(place + 1, place, (lane->count - 1 - index) * sizeof *place);
    *place = *row;
    return WP_OK;
}

void wp_lane_erase(struct wp_lane *lane, uint32_t index)
{
    WP_ASSERT(index < lane->count);
    struct wp_row *row = wp_lane_row(lane, index);
    if (index < lane->count / 2) {
        memmove(wp_lane_row(lane, 1), wp_lane_row(lane, 0), index * sizeof *row);
        lane->start++;
    } else {
        memmove(row, row + 1, (lane->count - index - 1) * sizeof *row);
        lane->start += lane->count == 1;
    }
    if (--lane->count > 0) {
        return;
    }
    lane->start = 0;
    if (lane->capacity > LANE_KEEP_ROWS) {
        free(lane->rows);
        lane->rows = NULL;
        lane->capacity = 0;
    }
}

void wp_lane_fini(struct wp_lane *lane)
{
    free(lane->rows);
    *lane = (struct wp_lane){0};
}

uint32_t wp_cursor_lower_bound(const struct wp_cursor *cursor, uint64_t sequence)
{
    uint32_t low = 0;
    uint32_t high = cursor->owed_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cursor->owed[middle].sequence < sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Hole of `sequence`, NULL when there is none. */
static struct wp_owed *owed_find(const struct wp_cursor *cursor, uint64_t sequence)
{
    uint32_t index = wp_cursor_lower_bound(cursor, sequence);
    if (index == cursor->owed_count || cursor->owed[index].sequence != sequence) {
        return NULL;
    }
    return &cursor->owed[index];
}

enum wp_owing wp_cursor_owing(const struct wp_cursor *cursor, uint64_t sequence)
{
    if (sequence > cursor->passed) {
        return WP_OWED;
    }
    const struct wp_owed *owed = owed_find(cursor, sequence);
    if (!owed) {
        return WP_SETTLED;
    }
    return owed->set_aside ? WP_OWED_SET_ASIDE : WP_OWED;
}

static int owed_insert(struct wp_cursor *cursor, uint32_t index, const struct wp_owed *owed)
{
    if (cursor->owed_count == cursor->owed_capacity) {
        uint32_t capacity = cursor->owed_capacity ? cursor->owed_capacity * 2 : 4;
        struct wp_owed *list = realloc(cursor->owed, capacity * sizeof *list);
        if (!list) {
            return WP_E_NOMEM;
        }
        cursor->owed = list;
        cursor->owed_capacity = capacity;
    }
    struct wp_owed *place = &cursor->owed[index];
    memmove(place + 1, place, (cursor->owed_count - index) * sizeof *place);
    *place = *owed;
    cursor->owed_count++;
    return WP_OK;
}

int wp_cursor_push(struct wp_cursor *cursor, const struct wp_owed *owed)
{
    return owed_insert(cursor, cursor->owed_count, owed);
}

static void owed_erase(struct wp_cursor *cursor, struct wp_owed *owed)
{
    size_t index = (size_t)(owed - cursor->owed);
    cursor->owed_count--;
    memmove(owed, owed + 1, (cursor->owed_count - index) * sizeof *owed);
    if (cursor->owed_count == 0) {
        free(cursor->owed);
        cursor->owed = NULL;
        cursor->owed_capacity = 0;
    }
}

void wp_cursor_appended(struct wp_cursor *cursor, const struct wp_row *row)
{
    cursor->pending++;
    cursor->pending_bytes += row->size;
}

/* Moves `passed` up to `sequence`; rows left behind become holes. */
static int cursor_pass(struct wp_cursor *cursor, const struct wp_lane *lane, uint64_t sequence)
{
    if (sequence <= cursor->passed) {
        return WP_OK;
    }
    uint32_t index = wp_lane_lower_bound(lane, cursor->passed + 1);
    for (; index < lane->count && wp_lane_row(lane, index)->sequence <= sequence; index++) {
        struct wp_owed owed = {.sequence = wp_lane_row(lane, index)->sequence};
        int error = wp_cursor_push(cursor, &owed);
        if (error) {
            return error;
        }
    }
    cursor->passed = sequence;
    return WP_OK;
}

static void cursor_settle(struct wp_cursor *cursor, const struct wp_row *row)
{
    WP_ASSERT(cursor->pending > 0 && cursor->pending_bytes >= row->size);
    cursor->pending--;
    cursor->pending_bytes -= row->size;
}

int wp_cursor_acknowledge(
    struct wp_cursor *cursor, const struct wp_lane *lane, uint64_t sequence, bool *ret_settled)
{
    *ret_settled = false;
    uint32_t index = wp_lane_find(lane, sequence);
    const struct wp_row *row = index == WP_ROW_NONE ? NULL : wp_lane_row(lane, index);
    if (sequence > cursor->sent) {
        cursor->sent = sequence;
    }
    if (sequence > cursor->passed || WP_BUG == 32) { /* 32: a late acknowledgement moves the cursor back */
        int error = cursor_pass(cursor, lane, sequence - 1);
        if (error) {
            return error;
        }
        cursor->passed = sequence;
    } else {
        struct wp_owed *owed = owed_find(cursor, sequence);
        if (!owed) {
            return WP_OK;
        }
        owed_erase(cursor, owed);
    }
    if (row) {
        cursor_settle(cursor, row);
        *ret_settled = true;
    }
    return WP_OK;
}

void wp_cursor_forget(struct wp_cursor *cursor, const struct wp_row *row)
{
    if (row->sequence > cursor->passed) {
        cursor_settle(cursor, row);
        return;
    }
    struct wp_owed *owed = owed_find(cursor, row->sequence);
    if (owed) {
        owed_erase(cursor, owed);
        cursor_settle(cursor, row);
    }
}

int wp_cursor_owe(struct wp_cursor *cursor, const struct wp_row *row)
{
    WP_ASSERT(wp_cursor_owing(cursor, row->sequence) == WP_SETTLED);
    struct wp_owed owed = {.sequence = row->sequence};
    int error = owed_insert(cursor, wp_cursor_lower_bound(cursor, row->sequence), &owed);
    if (!error) {
        wp_cursor_appended(cursor, row);
    }
    return error;
}

int wp_cursor_attach(
    struct wp_cursor *cursor, const struct wp_lane *lane, uint32_t attempts_max, uint32_t *ret_set_aside)
{
    int error = cursor_pass(cursor, lane, cursor->overdue);
    if (error) {
        return error;
    }
    uint32_t set_aside = 0;
    for (uint32_t i = 0; i < cursor->owed_count; i++) {
        struct wp_owed *owed = &cursor->owed[i];
        if (owed->set_aside) {
            owed->set_aside = false;
        } else if (owed->sequence <=
                   (WP_BUG == 35 ? cursor->sent : cursor->overdue)) { /* 35: never sent counts too */
            owed->attempts += owed->attempts < UINT32_MAX;
            owed->set_aside = owed->attempts >= attempts_max;
        }
        set_aside += owed->set_aside;
    }
    cursor->overdue = 0;
    *ret_set_aside = set_aside;
    return WP_OK;
}

void wp_cursor_recount(struct wp_cursor *cursor, const struct wp_lane *lane)
{
    cursor->pending = 0;
    cursor->pending_bytes = 0;
    for (uint32_t i = 0; i < cursor->owed_count; i++) {
        uint32_t index = wp_lane_find(lane, cursor->owed[i].sequence);
        if (index != WP_ROW_NONE) {
            wp_cursor_appended(cursor, wp_lane_row(lane, index));
        }
    }
    for (uint32_t i = wp_lane_lower_bound(lane, cursor->passed + 1); i < lane->count; i++) {
        wp_cursor_appended(cursor, wp_lane_row(lane, i));
    }
}

void wp_cursor_fini(struct wp_cursor *cursor)
{
    free(cursor->owed);
    *cursor = (struct wp_cursor){0};
}
