/* Mailbox positions of one connection: sent and not acknowledged yet, and acknowledged lately. Pure.
 *
 * The packet identifier of a delivery is a fixed function of lane and position, so a message that is sent
 * again on a later connection carries its original identifier (MQTT 5 section 4.4) and nobody has to remember
 * it. */
#ifndef WP_GATEWAY_POSITIONS_H
#define WP_GATEWAY_POSITIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/envelope.pb-c.h"

#define WP_PACKET_IDS_PER_LANE 16383u
#define WP_POSITION_MEMORY_MS 10000u /* how long an acknowledgement is repeated to a renewed link */
#define WP_POSITION_MEMORY_MAX 4096u /* of them; past it the oldest go, which only repeats a delivery */

struct wp_position {
    uint64_t sequence;
    uint32_t lane;
    uint32_t at_ms; /* low 32 bits of the time of the acknowledgement; 0 while open */
};

struct wp_positions {
    struct wp_position *open; /* in order of sending, from open_first on */
    uint32_t open_first, open_end, open_capacity;
    struct wp_position *acknowledged; /* ring, oldest first */
    uint32_t acknowledged_first, acknowledged_count, acknowledged_capacity;
    uint32_t unsent;             /* of the newest acknowledgements, how many no Ack frame has carried */
    struct wp_position *skipped; /* that no Ack frame has carried */
    uint32_t skipped_count, skipped_capacity;
};

/* 1 + lane * 16383 + sequence % 16383: 1..65532, the receipts highest. */
uint16_t wp_position_packet_id(Wp__Lane lane, uint64_t sequence);

void wp_positions_fini(struct wp_positions *positions);

/* Records a delivery. WP_OK; WP_E_EXISTS: that position is open already; WP_E_BUSY: another open position has
 * the same packet identifier; WP_E_NOMEM. */
int wp_positions_open(struct wp_positions *positions, Wp__Lane lane, uint64_t sequence);
uint32_t wp_positions_open_count(const struct wp_positions *positions);

/* The device acknowledged packet `id`: WP_OK, or WP_E_NOT_FOUND. WP_E_NOMEM: the position is closed, but the
 * acknowledgement could not be kept (the delivery will be repeated on the next connection). */
int wp_positions_acknowledge(struct wp_positions *positions, uint16_t id, uint64_t now_ms);

/* An open position was not sent and will not be on this connection: it is closed, and the next Ack frame
 * gives its place in the window back. WP_E_NOT_FOUND; WP_E_NOMEM: it stays open, until the router ends the
 * connection. */
int wp_positions_skip(struct wp_positions *positions, Wp__Lane lane, uint64_t sequence);

/* Whether the position was acknowledged lately. If so it counts as unsent again: the other side did not know.
 */
bool wp_positions_acknowledged_again(
    struct wp_positions *positions, Wp__Lane lane, uint64_t sequence, uint64_t now_ms);

/* Forgets acknowledgements older than WP_POSITION_MEMORY_MS and releases memory that is not in use. */
void wp_positions_trim(struct wp_positions *positions, uint64_t now_ms);

/* Copies the sequences of `lane` into `out` (room for open_count / acknowledged_count / unsent /
 * skipped_count); returns how many. */
uint32_t wp_positions_open_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out);
uint32_t wp_positions_acknowledged_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out);
uint32_t wp_positions_unsent_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out);
uint32_t wp_positions_skipped_list(const struct wp_positions *positions, Wp__Lane lane, uint64_t *out);

/* An Ack frame or a Resume carried all of them. */
void wp_positions_sent(struct wp_positions *positions);

#endif
