#include "router/expiry.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

static bool entry_before(const struct wp_expiry_entry *a, const struct wp_expiry_entry *b)
{
    if (a->expires_ms != b->expires_ms) {
        return a->expires_ms < b->expires_ms;
    }
    return a->place != b->place ? a->place < b->place : a->sequence_low < b->sequence_low;
}

static void sift_up(struct wp_expiry *expiry, uint32_t index)
{
    struct wp_expiry_entry moved = expiry->entries[index];
    while (index > 0 && entry_before(&moved, &expiry->entries[(index - 1) / 2])) {
        expiry->entries[index] = expiry->entries[(index - 1) / 2];
        index = (index - 1) / 2;
    }
    expiry->entries[index] = moved;
}

static void sift_down(struct wp_expiry *expiry, uint32_t index)
{
    struct wp_expiry_entry moved = expiry->entries[index];
    for (uint32_t child = 2 * index + 1; child < expiry->count; child = 2 * index + 1) {
        if (child + 1 < expiry->count && entry_before(&expiry->entries[child + 1], &expiry->entries[child])) {
            child++;
        }
        if (!entry_before(&expiry->entries[child], &moved)) {
            break;
        }
        expiry->entries[index] = expiry->entries[child];
        index = child;
    }
    expiry->entries[index] = moved;
}

int wp_expiry_push(struct wp_expiry *expiry, const struct wp_expiry_entry *entry)
{
    if (expiry->count == expiry->capacity) {
        uint32_t capacity = expiry->capacity ? expiry->capacity + expiry->capacity / 2 : 64;
        struct wp_expiry_entry *entries = realloc(expiry->entries, (size_t)capacity * sizeof *entries);
        if (!entries) {
            return WP_E_NOMEM;
        }
        expiry->entries = entries;
        expiry->capacity = capacity;
    }
    expiry->entries[expiry->count] = *entry;
    sift_up(expiry, expiry->count++);
    return WP_OK;
}

const struct wp_expiry_entry *wp_expiry_first(const struct wp_expiry *expiry)
{
    return expiry->count ? &expiry->entries[0] : NULL;
}

void wp_expiry_pop(struct wp_expiry *expiry)
{
    WP_ASSERT(expiry->count > 0);
    expiry->entries[0] = expiry->entries[--expiry->count];
    if (expiry->count > 0) {
        sift_down(expiry, 0);
    }
}

void wp_expiry_sweep(
    struct wp_expiry *expiry, bool (*live)(void *context, const struct wp_expiry_entry *entry), void *context)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < expiry->count; i++) {
        if (live(context, &expiry->entries[i])) {
            expiry->entries[kept++] = expiry->entries[i];
        }
    }
    expiry->count = kept;
    for (uint32_t i = kept / 2; i > 0; i--) {
        sift_down(expiry, i - 1);
    }
}

void wp_expiry_fini(struct wp_expiry *expiry)
{
    free(expiry->entries);
    *expiry = (struct wp_expiry){0};
}
