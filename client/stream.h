/* A byte stream to a gateway on a libuv loop: TCP, or TLS 1.3 over it. The loop's thread only. */
#ifndef WP_CLIENT_STREAM_H
#define WP_CLIENT_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct wp_stream;
struct wp_tls_client; /* shared TLS settings: trusted roots, session cache */

/* Trusts the PEM file `ca_path`, or the system's roots when NULL. TLS 1.3 only. WP_E_CONFIG with a sentence. */
int wp_tls_client_create(const char *ca_path, struct wp_tls_client **ret_tls, char *ret_text, size_t text_size);
void wp_tls_client_destroy(struct wp_tls_client **tls);

struct wp_stream_callbacks {
    void *context;
    void (*ready)(void *context);                       /* connected, handshake done */
    void (*data)(void *context, struct wp_slice bytes); /* borrowed for the call */
    void (*closed)(void *context, const char *why);     /* failed or ended; the stream is gone after the call */
};

/* Starts to connect to an IP address or name. `tls` NULL = plain. `closed` comes for every stream exactly once,
 * also after wp_stream_close. WP_OK, WP_E_NOMEM, WP_E_INVALID (address). */
int wp_stream_connect(uv_loop_t *loop, const char *host, const char *port, struct wp_tls_client *tls,
    const struct wp_stream_callbacks *callbacks, struct wp_stream **ret_stream);

/* Takes the bytes of `buffer` (it is empty afterwards) and writes them. WP_OK, WP_E_NOMEM, WP_E_CLOSED. */
int wp_stream_write(struct wp_stream *stream, struct wp_buffer *buffer);

/* Bytes taken by wp_stream_write and not yet taken by the kernel. */
size_t wp_stream_unwritten(const struct wp_stream *stream);

/* Closes after what was written has left (TLS: with close_notify). */
void wp_stream_close(struct wp_stream *stream);

#endif
