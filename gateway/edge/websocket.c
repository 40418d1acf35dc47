/* wslay does the framing; its callbacks read from the bytes at hand and write into the caller's buffers.
 * Payload is not gathered by wslay: each piece goes on as MQTT bytes when it is there, so no frame size needs
 * a bound. */
#include "gateway/edge/websocket.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "base/error.h"
#include "gateway/edge/upgrade.h"

struct wp_websocket {
    wslay_event_context_ptr wslay;
    struct wp_buffer head; /* of the upgrade request, until it is whole */
    struct wp_slice input;
    struct wp_buffer *mqtt, *wire; /* set during a call */
    bool open;                     /* the upgrade was accepted */
    bool out_of_memory;
    bool carries; /* the frame that is being read has MQTT bytes */
    bool text;    /* a frame with something else than bytes came */
};

static ssize_t on_receive(wslay_event_context_ptr wslay, uint8_t *data, size_t size, int flags, void *user)
{
    struct wp_websocket *websocket = user;
    (void)flags;
    if (websocket->input.size == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t taken = size < websocket->input.size ? size : websocket->input.size;
    memcpy(data, websocket->input.data, taken);
    websocket->input = wp_slice(websocket->input.data + taken, websocket->input.size - taken);
    return (ssize_t)taken;
}

static ssize_t on_send(wslay_event_context_ptr wslay, const uint8_t *data, size_t size, int flags, void *user)
{
    struct wp_websocket *websocket = user;
    (void)flags;
    if (wp_buffer_append(websocket->wire, data, size) != WP_OK) {
        websocket->out_of_memory = true;
        wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)size;
}

static void on_frame_start(
    wslay_event_context_ptr wslay, const struct wslay_event_on_frame_recv_start_arg *arg, void *user)
{
    struct wp_websocket *websocket = user;
    (void)wslay;
    websocket->text = websocket->text || arg->opcode == WSLAY_TEXT_FRAME;
    /* Control frames pass here too; their payload is no MQTT. */
    websocket->carries = arg->opcode == WSLAY_BINARY_FRAME || arg->opcode == WSLAY_CONTINUATION_FRAME;
}

static void on_frame_chunk(
    wslay_event_context_ptr wslay, const struct wslay_event_on_frame_recv_chunk_arg *arg, void *user)
{
    struct wp_websocket *websocket = user;
    (void)wslay;
    if (websocket->text || !websocket->carries) {
        return;
    }
    if (wp_buffer_append(websocket->mqtt, arg->data, arg->data_length) != WP_OK) {
        websocket->out_of_memory = true;
    }
}

int wp_websocket_create(struct wp_websocket **ret_websocket)
{
    struct wp_websocket *websocket = calloc(1, sizeof *websocket);
    if (!websocket) {
        return WP_E_NOMEM;
    }
    *ret_websocket = websocket;
    return WP_OK;
}

void wp_websocket_destroy(struct wp_websocket **websocket)
{
    if (!*websocket) {
        return;
    }
    if ((*websocket)->wslay) {
        wslay_event_context_free((*websocket)->wslay);
    }
    wp_buffer_free(&(*websocket)->head);
    free(*websocket);
    *websocket = NULL;
}

/* Reads the request; on success the rest of the bytes is left in websocket->input. */
static int upgrade_take(struct wp_websocket *websocket)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = on_receive,
        .send_callback = on_send,
        .on_frame_recv_start_callback = on_frame_start,
        .on_frame_recv_chunk_callback = on_frame_chunk};
    size_t before = websocket->head.size;
    if (wp_buffer_append(&websocket->head, websocket->input.data, websocket->input.size) != WP_OK) {
        return WP_E_NOMEM;
    }
    struct wp_upgrade upgrade;
    size_t size;
    int result = wp_upgrade_parse(wp_slice(websocket->head.data, websocket->head.size), &upgrade, &size);
    if (result == 0) {
        websocket->input = wp_slice(NULL, 0);
        return WP_OK;
    }
    if (result != 1) {
        return wp_upgrade_refuse(result, websocket->wire) == WP_OK ? WP_E_MALFORMED : WP_E_NOMEM;
    }
    if (wslay_event_context_server_init(&websocket->wslay, &callbacks, websocket) != 0) {
        websocket->wslay = NULL;
        return WP_E_NOMEM;
    }
    wslay_event_config_set_no_buffering(websocket->wslay, 1);
    websocket->input =
        wp_slice(websocket->input.data + (size - before), websocket->input.size - (size - before));
    wp_buffer_free(&websocket->head);
    websocket->open = true;
    return wp_upgrade_accept(&upgrade, websocket->wire);
}

static int frames_take(struct wp_websocket *websocket)
{
    int failed = wslay_event_recv(websocket->wslay);
    if (websocket->text) {
        (void)wslay_event_queue_close(websocket->wslay, WP_WEBSOCKET_UNSUPPORTED, NULL, 0);
    }
    failed |= wslay_event_send(websocket->wslay);
    if (websocket->out_of_memory) {
        return WP_E_NOMEM;
    }
    if (failed || websocket->text) {
        return WP_E_MALFORMED;
    }
    /* A protocol error makes wslay send a close and stop reading by itself. */
    return wslay_event_get_close_received(websocket->wslay) || wslay_event_get_close_sent(websocket->wslay) ||
                   !wslay_event_want_read(websocket->wslay)
               ? WP_E_CLOSED
               : WP_OK;
}

int wp_websocket_input(
    struct wp_websocket *websocket, struct wp_slice wire_in, struct wp_buffer *mqtt, struct wp_buffer *wire)
{
    websocket->input = wire_in;
    websocket->mqtt = mqtt;
    websocket->wire = wire;
    int error = WP_OK;
    if (!websocket->open) {
        error = upgrade_take(websocket);
    }
    if (!error && websocket->open && websocket->input.size > 0) {
        error = frames_take(websocket);
    }
    websocket->input = wp_slice(NULL, 0);
    websocket->mqtt = websocket->wire = NULL;
    return error;
}

int wp_websocket_output(struct wp_websocket *websocket, struct wp_slice mqtt, struct wp_buffer *wire)
{
    if (!websocket->open || wslay_event_get_close_sent(websocket->wslay)) {
        return WP_E_CLOSED;
    }
    const struct wslay_event_msg message = {
        .opcode = WSLAY_BINARY_FRAME, .msg = mqtt.data, .msg_length = mqtt.size};
    websocket->wire = wire;
    int failed = wslay_event_queue_msg(websocket->wslay, &message);
    failed |= wslay_event_send(websocket->wslay);
    websocket->wire = NULL;
    return failed ? WP_E_NOMEM : WP_OK;
}

void wp_websocket_close(struct wp_websocket *websocket, uint16_t code, struct wp_buffer *wire)
{
    if (!websocket->open || wslay_event_get_close_sent(websocket->wslay)) {
        return;
    }
    websocket->wire = wire;
    (void)wslay_event_queue_close(websocket->wslay, code, NULL, 0);
    (void)wslay_event_send(websocket->wslay);
    websocket->wire = NULL;
}
