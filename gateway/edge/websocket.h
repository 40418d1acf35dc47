/* MQTT over WebSocket (MQTT 5 section 6, RFC 6455): the upgrade, then binary frames; bytes in, bytes out. One
 * thread.
 *
 * MQTT packets and frames have nothing to do with each other: a packet may span frames and a frame may hold
 * several. Pings are answered, a close is answered, a text frame ends the connection. */
#ifndef WP_GATEWAY_EDGE_WEBSOCKET_H
#define WP_GATEWAY_EDGE_WEBSOCKET_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

#define WP_WEBSOCKET_NORMAL 1000
#define WP_WEBSOCKET_GOING_AWAY 1001
#define WP_WEBSOCKET_PROTOCOL 1002
#define WP_WEBSOCKET_UNSUPPORTED 1003

struct wp_websocket;

/* WP_E_NOMEM. */
int wp_websocket_create(struct wp_websocket **ret_websocket);
void wp_websocket_destroy(struct wp_websocket **websocket);

/* Takes all of `wire_in`; MQTT bytes are appended to `mqtt`, answers (101, pong, close) to `wire`. WP_OK;
 * WP_E_CLOSED: a close frame came, its answer stands in `wire`; WP_E_MALFORMED: refused upgrade or broken
 * frames, the answer stands in `wire`; WP_E_NOMEM. After anything but WP_OK the connection is over. */
int wp_websocket_input(
    struct wp_websocket *websocket, struct wp_slice wire_in, struct wp_buffer *mqtt, struct wp_buffer *wire);

/* Wraps MQTT bytes into one binary frame. WP_OK, WP_E_NOMEM, WP_E_CLOSED (not open). */
int wp_websocket_output(struct wp_websocket *websocket, struct wp_slice mqtt, struct wp_buffer *wire);

/* Appends a close frame with `code`, unless one was sent or the upgrade never happened. */
void wp_websocket_close(struct wp_websocket *websocket, uint16_t code, struct wp_buffer *wire);

#endif
