/* Why: every interactive program wants "stay connected"; the connection machine itself knows no sockets.
 *
 * Invariant: at most one of {stream, reconnect timer armed} is active while not stopping. */
#include "client/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/prng.h"
#include "proto/mqtt/mqtt.h"

#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 10000u
#define TICK_MS 1000u

struct wp_device {
    uv_loop_t *loop;
    struct wp_profile profile;
    struct wp_device_callbacks callbacks;
    struct wp_connection *connection;
    struct wp_tls_client *tls;
    struct wp_stream *stream;
    uv_timer_t reconnect;
    uv_timer_t tick;
    struct wp_prng prng;
    unsigned next_gateway;
    uint64_t connect_ms; /* the present stream was begun */
    unsigned backoff_ms;
    int stopping;
    const char *refusal; /* of the CONNECT just refused; NULL when there is none to tell */
    int handles; /* uv handles that are not closed yet */
};

static uint64_t device_now_ms(void)
{
    return wp_clock_mono_us() / 1000;
}

static void handle_closed(uv_handle_t *handle)
{
    struct wp_device *device = handle->data;
    if (--device->handles > 0) {
        return;
    }
    device->callbacks.ended(device->callbacks.context);
    wp_connection_destroy(&device->connection);
    wp_tls_client_destroy(&device->tls);
    explicit_bzero(device->profile.secret, sizeof device->profile.secret);
    free(device);
}

static void device_finish(struct wp_device *device)
{
    uv_close((uv_handle_t *)&device->reconnect, handle_closed);
    uv_close((uv_handle_t *)&device->tick, handle_closed);
}

static void device_connect(struct wp_device *device);

static void reconnect_due(uv_timer_t *timer)
{
    device_connect(timer->data);
}

/* Full jitter: anywhere between the floor and the doubled back-off, so that many devices do not come back at once. */
static void reconnect_arm(struct wp_device *device)
{
    uint64_t delay_ms = BACKOFF_MIN_MS + wp_prng_below(&device->prng, device->backoff_ms);
    device->backoff_ms = device->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : device->backoff_ms * 2;
    uv_timer_start(&device->reconnect, reconnect_due, delay_ms, 0);
}

bool wp_device_refusal_passes(uint8_t code)
{
    return code == WP_MQTT_RC_SERVER_UNAVAILABLE || code == WP_MQTT_RC_SERVER_BUSY || code == WP_MQTT_RC_RATE_TOO_HIGH ||
        code == WP_MQTT_RC_QUOTA_EXCEEDED || code == WP_MQTT_RC_SERVER_SHUTTING_DOWN;
}

static void events_drain(struct wp_device *device)
{
    struct wp_connection_event event;
    while (wp_connection_event(device->connection, &event)) {
        if (event.kind == WP_CONNECTION_UP) {
            device->backoff_ms = BACKOFF_MIN_MS;
        }
        if (event.kind == WP_CONNECTION_REFUSED && !wp_device_refusal_passes(event.code)) {
            device->stopping = 1;
        }
        device->refusal = event.kind == WP_CONNECTION_REFUSED ? wp_mqtt_reason_text(event.code) : device->refusal;
        device->callbacks.event(device->callbacks.context, &event);
        if ((event.kind == WP_CONNECTION_REFUSED || event.kind == WP_CONNECTION_DOWN) && device->stream) {
            wp_stream_close(device->stream);
        }
    }
    wp_device_flush(device);
}

static void stream_ready(void *context)
{
    struct wp_device *device = context;
    if (wp_connection_open(device->connection, device_now_ms()) != WP_OK) {
        wp_stream_close(device->stream);
        return;
    }
    wp_device_flush(device);
}

static void stream_data(void *context, struct wp_slice bytes)
{
    struct wp_device *device = context;
    if (wp_connection_receive(device->connection, bytes, device_now_ms()) != WP_OK) {
        wp_stream_close(device->stream);
        return;
    }
    events_drain(device);
}

static void stream_closed(void *context, const char *why)
{
    struct wp_device *device = context;
    device->stream = NULL;
    wp_connection_lost(device->connection);
    if (device->stopping) {
        device_finish(device);
        return;
    }
    const char *refusal = device->refusal;
    device->refusal = NULL;
    device->callbacks.offline(device->callbacks.context, refusal ? refusal : why);
    if (device->stopping) {
        device_finish(device);
        return;
    }
    reconnect_arm(device);
}

static void device_connect(struct wp_device *device)
{
    const struct wp_profile_gateway *gateway = &device->profile.gateways[device->next_gateway];
    device->next_gateway = (device->next_gateway + 1) % device->profile.gateway_count;
    struct wp_stream_callbacks callbacks = {device, stream_ready, stream_data, stream_closed};
    device->connect_ms = device_now_ms();
    if (wp_stream_connect(device->loop, gateway->host, gateway->port, device->tls, &callbacks, &device->stream) != WP_OK) {
        device->callbacks.offline(device->callbacks.context, "the gateway's address is not usable");
        reconnect_arm(device);
    }
}

static void tick_due(uv_timer_t *timer)
{
    struct wp_device *device = timer->data;
    uint64_t now_ms = device_now_ms();
    wp_connection_tick(device->connection, now_ms);
    events_drain(device);
    /* A host that swallows packets, or a gateway that accepts and goes no further: another one may serve. */
    bool stuck = device->stream && !wp_connection_is_up(device->connection) &&
                 now_ms - device->connect_ms > WP_CONNECTION_CONNECT_MS + TICK_MS;
    if (stuck && !device->stopping) {
        wp_stream_close(device->stream);
    }
}

int wp_device_start(uv_loop_t *loop, const struct wp_profile *profile, const struct wp_device_callbacks *callbacks,
    struct wp_device **ret_device, char *ret_text, size_t text_size)
{
    struct wp_device *device = calloc(1, sizeof *device);
    if (!device) {
        return WP_E_NOMEM;
    }
    device->loop = loop;
    device->profile = *profile;
    device->callbacks = *callbacks;
    device->backoff_ms = BACKOFF_MIN_MS;
    wp_prng_init(&device->prng, wp_clock_mono_us() ^ (uint64_t)(uintptr_t)device);
    struct wp_connection_config config = {.username = profile->username, .secret = profile->secret, .keep_alive_s = 30};
    int error = wp_connection_create(&config, &device->connection);
    if (!error && profile->tls) {
        error = wp_tls_client_create(profile->ca_path[0] ? profile->ca_path : NULL, &device->tls, ret_text, text_size);
    }
    if (error) {
        wp_connection_destroy(&device->connection);
        free(device);
        return error;
    }
    uv_timer_init(loop, &device->reconnect);
    uv_timer_init(loop, &device->tick);
    device->reconnect.data = device;
    device->tick.data = device;
    device->handles = 2;
    device->next_gateway = (unsigned)wp_prng_below(&device->prng, profile->gateway_count ? profile->gateway_count : 1);
    uv_timer_start(&device->tick, tick_due, TICK_MS, TICK_MS);
    device_connect(device);
    *ret_device = device;
    return WP_OK;
}

struct wp_connection *wp_device_connection(struct wp_device *device)
{
    return device->connection;
}

void wp_device_flush(struct wp_device *device)
{
    struct wp_buffer *output = wp_connection_output(device->connection);
    if (device->stream && output->size > 0) {
        wp_stream_write(device->stream, output);
    }
}

void wp_device_stop(struct wp_device *device)
{
    if (device->stopping) {
        return;
    }
    device->stopping = 1;
    uv_timer_stop(&device->reconnect);
    if (!device->stream) {
        device_finish(device);
        return;
    }
    wp_connection_close(device->connection);
    wp_device_flush(device);
    wp_stream_close(device->stream);
}
