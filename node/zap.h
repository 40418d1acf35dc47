/* The ZAP handler (ZeroMQ RFC 27): answers CURVE handshakes from an allow-list, on its own thread, bound to
 * inproc://zeromq.zap.01 before any other socket of the context exists. Without it libzmq lets every key in.
 */
#ifndef WP_NODE_ZAP_H
#define WP_NODE_ZAP_H

#include <stdint.h>

#include "node/keys.h"
#include "proto/schema.h"

struct wp_zap;

/* Starts the handler. WP_E_BUSY: the context has one already. */
int wp_zap_create(void *zmq_context, struct wp_zap **ret_zap);
/* Ends the thread; call before the context is terminated. */
void wp_zap_destroy(struct wp_zap **zap);

/* Lets the holder of `public_key` (Z85) in as `node` with `role`. Any thread. WP_E_INVALID: no key.
 * WP_E_EXISTS: other node has it. */
int wp_zap_allow(struct wp_zap *zap, const char *public_key, const char *node, Wp__Role role);
/* New handshakes are refused and frames of live links are dropped (the fabric asks wp_zap_check per message).
 */
void wp_zap_revoke(struct wp_zap *zap, const char *public_key);

/* Splits the User-Id set by the handler ("gateway:gateway-1:KEY", the key in Z85) and checks that this very
 * key is still allowed, so a node whose key was replaced loses its old connections. WP_OK or WP_E_DENIED. Any
 * thread. */
int wp_zap_check(struct wp_zap *zap, const char *user_id, Wp__Role *ret_role, char node[65]);

/* Grows with every allow and revoke: an answer of wp_zap_check holds until it changes. Any thread. */
uint64_t wp_zap_generation(struct wp_zap *zap);

#endif
