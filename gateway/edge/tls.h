/* TLS 1.3 of device connections: bytes in, bytes out; the sockets are the edge's.
 *
 * X25519 and P-256, no early data, session tickets on, compression and renegotiation do not exist in 1.3.
 * Certificates can be replaced while connections live: a connection keeps the context it began with. One
 * thread. */
#ifndef WP_GATEWAY_EDGE_TLS_H
#define WP_GATEWAY_EDGE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct wp_tls_context; /* certificate and policy */
struct wp_tls;         /* one connection */

/* Loads a PEM chain and its key. `previous` (NULL allowed) gives its ticket keys, so that clients still
 * resume. WP_E_CONFIG with a sentence in ret_text: a file that cannot be read, or a key that does not belong
 * to the certificate. */
int wp_tls_context_create(const char *certificate, const char *key, const struct wp_tls_context *previous,
    struct wp_tls_context **ret_context, char *ret_text, size_t text_size);
void wp_tls_context_destroy(struct wp_tls_context **context);

/* The server side of a new connection. WP_E_NOMEM. */
int wp_tls_create(struct wp_tls_context *context, struct wp_tls **ret_tls);
void wp_tls_destroy(struct wp_tls **tls);

/* Takes all of `wire_in`; plaintext is appended to `plain`, what has to be sent to `wire`. WP_OK;
 * WP_E_CLOSED: the peer closed the TLS connection; WP_E_MALFORMED: it failed (an alert stands in `wire`);
 * WP_E_NOMEM. */
int wp_tls_input(
    struct wp_tls *tls, struct wp_slice wire_in, struct wp_buffer *plain, struct wp_buffer *wire);

/* Encrypts `plain`. WP_OK, WP_E_NOMEM, WP_E_CLOSED (no handshake yet, or over). */
int wp_tls_output(struct wp_tls *tls, struct wp_slice plain, struct wp_buffer *wire);

/* Appends a close_notify. */
void wp_tls_close(struct wp_tls *tls, struct wp_buffer *wire);

#endif
