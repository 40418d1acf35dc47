/* Acknowledgements and sent positions on their way into the log. They are gathered per device and leave with
 * the next entry that is old enough to be worth it, at latest after WP_CURSORS_DELAY_MS: losing them only
 * repeats a delivery. */
#include <stdlib.h>

#include "base/error.h"
#include "proto/frame.h"
#include "proto/schema.h"
#include "router/dispatch_state.h"

#define TAKE_POSITIONS_MAX 12000u /* about 64 KiB as varints */
#define TAKE_DEVICES_MAX 1024u

int wp_positions_push(struct positions *positions, uint64_t sequence)
{
    if (positions->count == positions->capacity) {
        uint32_t capacity = positions->capacity ? 2 * positions->capacity : 8;
        uint64_t *items = realloc(positions->items, capacity * sizeof(*items));
        if (!items) {
            return WP_E_NOMEM;
        }
        positions->items = items;
        positions->capacity = capacity;
    }
    positions->items[positions->count++] = sequence;
    return WP_OK;
}

static int position_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Ascending and each once: a resume repeats what was acknowledged before the link broke. */
void wp_positions_sort(struct positions *positions)
{
    bool ascending = true;
    for (uint32_t i = 1; i < positions->count && ascending; i++) {
        ascending = positions->items[i - 1] < positions->items[i];
    }
    if (ascending) {
        return;
    }
    qsort(positions->items, positions->count, sizeof(*positions->items), position_compare);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < positions->count; i++) {
        if (positions->items[i] != positions->items[kept - 1]) {
            positions->items[kept++] = positions->items[i];
        }
    }
    positions->count = kept;
}

bool wp_positions_have(const struct positions *sorted, uint64_t sequence)
{
    return sorted->count > 0 &&
           bsearch(&sequence, sorted->items, sorted->count, sizeof(*sorted->items), position_compare) != NULL;
}

void wp_dispatch_positions_fini(struct positions *positions)
{
    free(positions->items);
    *positions = (struct positions){0};
}

void wp_dispatch_gather(struct wp_dispatch *dispatch, struct device *device)
{
    if (!device->is_dirty) {
        device->is_dirty = true;
        device->dirty_since_ms = dispatch->mono_ms;
        TAILQ_INSERT_TAIL(&dispatch->dirty_devices, device, dirty);
    }
}

void wp_dispatch_sent(struct wp_dispatch *dispatch, struct device *device, uint32_t lane, uint64_t sequence)
{
    if (sequence > device->lanes[lane].sent) {
        device->lanes[lane].sent = sequence;
    }
    device->lanes[lane].sent_changed = true;
    wp_dispatch_gather(dispatch, device);
}

void wp_dispatch_device_settle(struct wp_dispatch *dispatch, struct device *device)
{
    if (device->attachment || device->is_dirty || device->admit_at_ms) {
        return;
    }
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        wp_dispatch_positions_fini(&device->lanes[lane].acknowledged);
    }
    wp_map_remove(&dispatch->devices, &device->node);
    free(device);
}

uint64_t wp_dispatch_cursors_due_ms(const struct wp_dispatch *dispatch)
{
    const struct device *oldest = TAILQ_FIRST(&dispatch->dirty_devices);
    return oldest ? oldest->dirty_since_ms + WP_CURSORS_DELAY_MS : UINT64_MAX;
}

/* The messages that describe one device; they borrow its positions. */
struct advance {
    Wp__CursorAdvance message;
    Wp__Positions positions[WP_SEQUENCE_COUNT];
    Wp__Positions *position_pointers[WP_SEQUENCE_COUNT];
    Wp__SentUpTo sent[WP_SEQUENCE_COUNT];
    Wp__SentUpTo *sent_pointers[WP_SEQUENCE_COUNT];
};

static uint32_t advance_fill(struct advance *advance, struct device *device)
{
    uint32_t positions = 0;
    wp__cursor_advance__init(&advance->message);
    advance->message.mailbox = device->mailbox;
    advance->message.device = device->number;
    advance->message.acknowledged = advance->position_pointers;
    advance->message.sent = advance->sent_pointers;
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        struct positions *known = &device->lanes[lane].acknowledged;
        if (known->count > 0) {
            wp_positions_sort(known);
            Wp__Positions *message = &advance->positions[lane];
            wp__positions__init(message);
            message->lane = (Wp__Lane)lane;
            message->sequence = known->items;
            message->n_sequence = known->count;
            advance->position_pointers[advance->message.n_acknowledged++] = message;
            positions += known->count;
        }
        if (device->lanes[lane].sent_changed || device->lanes[lane].overdue) {
            Wp__SentUpTo *message = &advance->sent[lane];
            wp__sent_up_to__init(message);
            message->lane = (Wp__Lane)lane;
            message->sequence = device->lanes[lane].sent;
            message->overdue = device->lanes[lane].overdue;
            advance->sent_pointers[advance->message.n_sent++] = message;
        }
    }
    return positions;
}

static void device_clean(struct wp_dispatch *dispatch, struct device *device)
{
    for (int lane = 0; lane < (int)WP_SEQUENCE_COUNT; lane++) {
        device->lanes[lane].acknowledged.count = 0;
        device->lanes[lane].sent_changed = false;
        device->lanes[lane].overdue = false;
    }
    TAILQ_REMOVE(&dispatch->dirty_devices, device, dirty);
    device->is_dirty = false;
    wp_dispatch_device_settle(dispatch, device);
}

int wp_dispatch_cursors_take(struct wp_dispatch *dispatch, struct wp_buffer *entry, bool *ret_added)
{
    uint32_t room = 0;
    struct device *device;
    TAILQ_FOREACH(device, &dispatch->dirty_devices, dirty)
    {
        room += room < TAKE_DEVICES_MAX;
    }
    if (room == 0) {
        *ret_added = false;
        return WP_OK;
    }
    struct advance *advances = malloc(room * sizeof(*advances));
    Wp__CursorAdvance **pointers = malloc(room * sizeof(*pointers));
    int error = WP_E_NOMEM;
    if (!advances || !pointers) {
        goto out;
    }
    uint32_t count = 0;
    uint32_t positions = 0;
    for (device = TAILQ_FIRST(&dispatch->dirty_devices);
         device && count < room && positions < TAKE_POSITIONS_MAX; device = TAILQ_NEXT(device, dirty)) {
        positions += advance_fill(&advances[count], device);
        pointers[count] = &advances[count].message;
        count++;
    }
    Wp__CommandCursors message = WP__COMMAND_CURSORS__INIT;
    message.advances = pointers;
    message.n_advances = count;
    error = wp_schema_append(entry, WP_COMMAND_CURSORS, &message.base);
    for (uint32_t i = 0; i < count && !error; i++) {
        device_clean(dispatch, TAILQ_FIRST(&dispatch->dirty_devices));
    }
    *ret_added = !error;
out:
    free(advances);
    free(pointers);
    return error;
}
