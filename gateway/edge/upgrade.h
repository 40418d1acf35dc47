/* The HTTP/1.1 request that opens a WebSocket (RFC 6455 section 4.2.1), and nothing else of HTTP. Pure.
 *
 * Strict: one GET of "/mqtt" or "/", CRLF lines, no folding, no body, no header twice that matters. The
 * subprotocol `mqtt` must be offered (MQTT 5 section 6). */
#ifndef WP_GATEWAY_EDGE_UPGRADE_H
#define WP_GATEWAY_EDGE_UPGRADE_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/bytes.h"

#define WP_UPGRADE_SIZE_MAX 8192u
#define WP_UPGRADE_KEY_SIZE 24u /* base64 of 16 bytes */

struct wp_upgrade {
    char key[WP_UPGRADE_KEY_SIZE + 1];
};

/* Reads the request at the start of `input`. 1: whole and good, *ret_size bytes long; 0: more is needed;
 * otherwise an HTTP status (400, 404, 405, 426, 431) to answer with. */
int wp_upgrade_parse(struct wp_slice input, struct wp_upgrade *ret_upgrade, size_t *ret_size);

/* Appends the 101 answer. WP_OK or WP_E_NOMEM. */
int wp_upgrade_accept(const struct wp_upgrade *upgrade, struct wp_buffer *out);

/* Appends a refusal with `status`. WP_OK or WP_E_NOMEM. */
int wp_upgrade_refuse(int status, struct wp_buffer *out);

#endif
