/* A device at work on a libuv loop: connection + stream + reconnect with jittered back-off over several gateways.
 * The loop's thread only. */
#ifndef WP_CLIENT_DEVICE_H
#define WP_CLIENT_DEVICE_H

#include <uv.h>

#include "client/connection.h"
#include "client/profile.h"
#include "client/stream.h"

struct wp_device;

struct wp_device_callbacks {
    void *context;
    /* Any event of the connection. REFUSED ends the device unless the refusal is one that may pass (busy, unavailable). */
    void (*event)(void *context, const struct wp_connection_event *event);
    /* No stream at the moment; tried again by itself. `why` is one sentence. */
    void (*offline)(void *context, const char *why);
    /* The device ended: after wp_device_stop, or refused for good. It is gone after the call. */
    void (*ended)(void *context);
};

/* WP_OK, WP_E_NOMEM, WP_E_INVALID, WP_E_CONFIG (with a sentence). Starts to connect at once. */
int wp_device_start(uv_loop_t *loop, const struct wp_profile *profile, const struct wp_device_callbacks *callbacks,
    struct wp_device **ret_device, char *ret_text, size_t text_size);

/* The connection, for publish, subscribe and acknowledge; call wp_device_flush afterwards. */
struct wp_connection *wp_device_connection(struct wp_device *device);
void wp_device_flush(struct wp_device *device);

/* Whether a refused CONNECT with this reason code is tried again by itself (the service is busy or away) instead of ending the
 * device. The next `offline` then tells the refusal. Pure. */
bool wp_device_refusal_passes(uint8_t code);

/* Says DISCONNECT when connected, closes, then calls `ended`. */
void wp_device_stop(struct wp_device *device);

#endif
