/* The edge: listeners for MQTT over TCP, TLS, WebSocket and secure WebSocket, and their connections.
 *
 * One loop thread. It accepts, reads, decrypts and unwraps into wp_client_input, and writes what stands in
 * client->out. It stops reading from a connection whose client is blocked. Plain listeners are refused off
 * loopback. */
#ifndef WP_GATEWAY_EDGE_EDGE_H
#define WP_GATEWAY_EDGE_EDGE_H

#include <stdint.h>
#include <uv.h>

#include "gateway/gateway.h"

enum wp_edge_kind { WP_EDGE_MQTT, WP_EDGE_MQTTS, WP_EDGE_WS, WP_EDGE_WSS, WP_EDGE_KIND_COUNT };

struct wp_edge;

struct wp_edge_config {
    uv_loop_t *loop;
    const char *listen[WP_EDGE_KIND_COUNT]; /* "HOST:PORT", NULL or "" = off; port 0 picks one */
    const char *certificate, *key;          /* PEM files, for mqtts and wss */
    uint32_t connections_per_address_max;   /* 0 = no limit */
};

/* Listens after wp_edge_start. `config` is copied, its strings are borrowed. WP_E_NOMEM. */
int wp_edge_create(const struct wp_edge_config *config, struct wp_edge **ret_edge);
/* Loads certificates and listens. WP_E_CONFIG, WP_E_BUSY (address in use) with a sentence in ret_text. */
int wp_edge_start(struct wp_edge *edge, struct wp_gateway *gateway, char *ret_text, size_t text_size);

/* Address really bound ("127.0.0.1:41234"); "" for a listener that is off. */
const char *wp_edge_address(const struct wp_edge *edge, enum wp_edge_kind kind);
const char *wp_edge_kind_name(enum wp_edge_kind kind);
uint32_t wp_edge_connections(const struct wp_edge *edge);

/* Reads certificate and key again, for connections from now on; a pair that does not work leaves the old one.
 * Errors of wp_tls_context_create. */
int wp_edge_reload(struct wp_edge *edge, char *ret_text, size_t text_size);

/* Accepts nothing more. */
void wp_edge_stop(struct wp_edge *edge);
/* Ends every connection now, written or not; the handles are closed when the loop next runs. */
void wp_edge_drop(struct wp_edge *edge);
/* After the loop has closed every handle. */
void wp_edge_destroy(struct wp_edge **edge);

/* The two callbacks of struct wp_gateway_setup; context is the edge. */
void wp_edge_output(void *context, struct wp_client *client);
void wp_edge_resume(void *context, struct wp_client *client);

#endif
