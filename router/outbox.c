#include "router/outbox.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

#define CAPACITY_MIN 8u

int wp_outbox_init(struct wp_outbox *outbox, uint32_t shard_count)
{
    *outbox = (struct wp_outbox){.peer_count = shard_count};
    outbox->peers = calloc(shard_count + 1u, sizeof *outbox->peers);
    return outbox->peers ? WP_OK : WP_E_NOMEM;
}

void wp_outbox_fini(struct wp_outbox *outbox)
{
    for (uint32_t i = 0; outbox->peers && i < outbox->peer_count; i++) {
        while (wp_outbox_first(&outbox->peers[i])) {
            wp_outbox_pop(outbox, &outbox->peers[i]);
        }
        free(outbox->peers[i].items);
    }
    free(outbox->peers);
    *outbox = (struct wp_outbox){0};
}

struct wp_outbox_peer *wp_outbox_peer(const struct wp_outbox *outbox, uint64_t shard)
{
    return shard >= 1 && shard <= outbox->peer_count ? &outbox->peers[shard - 1] : NULL;
}

static int peer_reserve(struct wp_outbox_peer *peer)
{
    if (peer->start + peer->count < peer->capacity) {
        return WP_OK;
    }
    if (peer->start > peer->capacity / 2) {
        memmove(peer->items, peer->items + peer->start, peer->count * sizeof *peer->items);
        peer->start = 0;
        return WP_OK;
    }
    uint32_t capacity = peer->capacity ? peer->capacity * 2 : CAPACITY_MIN;
    struct wp_outbox_item *items = realloc(peer->items, capacity * sizeof *items);
    if (!items) {
        return WP_E_NOMEM;
    }
    peer->items = items;
    peer->capacity = capacity;
    return WP_OK;
}

int wp_outbox_push(struct wp_outbox *outbox, struct wp_outbox_peer *peer, uint64_t sequence,
    struct wp_slice packed, uint32_t receipts, struct wp_outbox_item **ret_item)
{
    WP_ASSERT(peer->count == 0 || sequence > peer->items[peer->start + peer->count - 1].sequence);
    return wp_outbox_insert(outbox, peer, sequence, packed, receipts, ret_item);
}

int wp_outbox_insert(struct wp_outbox *outbox, struct wp_outbox_peer *peer, uint64_t sequence,
    struct wp_slice packed, uint32_t receipts, struct wp_outbox_item **ret_item)
{
    struct wp_bytes *data = wp_bytes_copy(packed.data, packed.size);
    if (!data || peer_reserve(peer)) {
        wp_bytes_release(&data);
        return WP_E_NOMEM;
    }
    uint32_t place = peer->start + peer->count++;
    for (; place > peer->start && peer->items[place - 1].sequence > sequence; place--) {
        peer->items[place] = peer->items[place - 1];
    }
    struct wp_outbox_item *item = &peer->items[place];
    *item = (struct wp_outbox_item){.sequence = sequence, .receipts = receipts, .data = data};
    peer->bytes += packed.size;
    peer->receipts += receipts;
    peer->teams += receipts == 0;
    outbox->bytes += packed.size;
    outbox->items++;
    *ret_item = item;
    return WP_OK;
}

struct wp_outbox_item *wp_outbox_find(const struct wp_outbox_peer *peer, uint64_t sequence)
{
    const struct wp_outbox_item *first = wp_outbox_first(peer);
    /* Sequences of pending items have no gaps. */
    if (!first || sequence < first->sequence || sequence - first->sequence >= peer->count) {
        return NULL;
    }
    return &peer->items[peer->start + (uint32_t)(sequence - first->sequence)];
}

struct wp_outbox_item *wp_outbox_first(const struct wp_outbox_peer *peer)
{
    return peer->count > 0 ? &peer->items[peer->start] : NULL;
}

void wp_outbox_pop(struct wp_outbox *outbox, struct wp_outbox_peer *peer)
{
    struct wp_outbox_item *item = wp_outbox_first(peer);
    WP_ASSERT(item);
    uint64_t size = item->data->size;
    peer->bytes -= size;
    peer->receipts -= item->receipts;
    peer->teams -= item->receipts == 0;
    outbox->bytes -= size;
    outbox->items--;
    wp_bytes_release(&item->data);
    peer->start++;
    if (--peer->count == 0) {
        peer->start = 0;
    }
}
