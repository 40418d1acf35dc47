/* Acknowledgements on their way to the shards.
 *
 * A router that is told of each acknowledgement at once wakes for each, and a message to a thousand devices
 * comes back as a thousand of them while most deliveries are still to be written. Nobody waits for them: the
 * router itself writes cursors down only after 100 ms. So when many come they gather here for a few
 * milliseconds, unless the device could run out of window. The first few leave at once: a device that
 * acknowledges and goes to another gateway at the same moment is not sent again what it has.
 *
 *   1. A client is in the list exactly while `acks_listed`; the timer runs while somebody is in it.
 *   2. Acknowledgements leave only while attached; those gathered meanwhile travel in the Resume. */
#include "gateway/gateway_internal.h"

#include "base/error.h"

#define GATHER_MS 10u
#define AT_ONCE_MAX 8u       /* in so much time */
#define GATHER_COUNT_MAX 64u /* and at most a quarter of the window */

int wp_positions_pack(struct wp_arena *arena, const struct wp_positions *positions, wp_positions_list list,
    uint32_t count_max, Wp__Positions ***ret_rows)
{
    Wp__Positions **rows = wp_arena_alloc(arena, WP_HOLDBACK_LANES * sizeof *rows);
    if (!rows) {
        return WP_E_NOMEM;
    }
    int count = 0;
    for (int lane = WP__LANE__ROUTINE; count_max > 0 && lane <= WP__LANE__RECEIPT; lane++) {
        uint64_t *sequences = wp_arena_alloc(arena, count_max * sizeof *sequences);
        Wp__Positions *row = wp_arena_alloc(arena, sizeof *row);
        if (!sequences || !row) {
            return WP_E_NOMEM;
        }
        wp__positions__init(row);
        row->lane = (Wp__Lane)lane;
        row->sequence = sequences;
        row->n_sequence = list(positions, (Wp__Lane)lane, sequences);
        if (row->n_sequence > 0) {
            rows[count++] = row;
        }
    }
    *ret_rows = rows;
    return count;
}

void wp_client_acks_forget(struct wp_client *client)
{
    if (client->acks_listed) {
        client->acks_listed = false;
        TAILQ_REMOVE(&client->gateway->acks, client, acks_next);
    }
}

void wp_client_acks_send(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    struct wp_positions *positions = &client->session.positions;
    wp_client_acks_forget(client);
    if ((positions->unsent == 0 && positions->skipped_count == 0) || client->attach != WP_CLIENT_ATTACHED) {
        return;
    }
    Wp__Ack ack = WP__ACK__INIT;
    ack.session = client->number;
    ack.shard = client->shard;
    wp_arena_reset(&gateway->arena);
    int count = wp_positions_pack(
        &gateway->arena, positions, wp_positions_unsent_list, positions->unsent, &ack.positions);
    int skipped = wp_positions_pack(
        &gateway->arena, positions, wp_positions_skipped_list, positions->skipped_count, &ack.skipped);
    if (count < 0 || skipped < 0) {
        return;
    }
    ack.n_positions = (size_t)count;
    ack.n_skipped = (size_t)skipped;
    if (wp_routing_send(gateway->routing, client->shard, WP_LINK_CONTROL, WP_FRAME_ACK, &ack.base) == WP_OK) {
        wp_positions_sent(positions);
    }
}

static void acks_due(uv_timer_t *timer)
{
    struct wp_gateway *gateway = timer->data;
    struct wp_client *client;
    while ((client = TAILQ_FIRST(&gateway->acks))) {
        wp_client_acks_send(client);
    }
}

/* Whether one more may go at once. */
static bool few_lately(struct wp_gateway *gateway)
{
    uint64_t now_ms = wp_gateway_now_ms();
    if (now_ms >= gateway->acks_since_ms + GATHER_MS) {
        gateway->acks_since_ms = now_ms;
        gateway->acks_at_once = 0;
    }
    return gateway->acks_at_once++ < AT_ONCE_MAX;
}

void wp_client_acks_gather(struct wp_client *client)
{
    struct wp_gateway *gateway = client->gateway;
    const struct wp_positions *positions = &client->session.positions;
    uint32_t gathered = positions->unsent + positions->skipped_count;
    uint32_t quarter = client->session.window / 4;
    if (gathered == 0) {
        return;
    }
    if (gathered >= GATHER_COUNT_MAX || gathered >= quarter || few_lately(gateway)) {
        wp_client_acks_send(client);
        return;
    }
    if (client->acks_listed) {
        return;
    }
    if (TAILQ_EMPTY(&gateway->acks)) {
        uv_timer_start(gateway->acks_timer, acks_due, GATHER_MS, 0);
    }
    client->acks_listed = true;
    TAILQ_INSERT_TAIL(&gateway->acks, client, acks_next);
}
