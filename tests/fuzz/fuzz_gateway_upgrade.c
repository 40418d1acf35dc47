/* Fuzz target for the WebSocket side of the edge: the upgrade request, then frames, as bytes of one
 * connection cut in two. What comes out does not depend on the cut as far as the request goes, and never
 * exceeds what went in. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "gateway/edge/upgrade.h"
#include "gateway/edge/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A block of exactly `size` bytes, so that a sanitizer sees each byte read behind it. */
static uint8_t *exact_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    WP_ASSERT(copy);
    memcpy(copy, data, size);
    return copy;
}

static void request_check(const uint8_t *data, size_t size)
{
    struct wp_upgrade upgrade;
    size_t request_size = 0;
    uint8_t *copy = exact_copy(data, size);
    int result = wp_upgrade_parse(wp_slice(copy, size), &upgrade, &request_size);
    WP_ASSERT(result == 0 || result == 1 || (result >= 400 && result < 500));
    if (result == 1) {
        size_t again = 0;
        WP_ASSERT(request_size > 0 && request_size <= size && request_size <= WP_UPGRADE_SIZE_MAX);
        WP_ASSERT(strlen(upgrade.key) == WP_UPGRADE_KEY_SIZE);
        /* The request alone says the same; without its last byte it is not whole. */
        WP_ASSERT(
            wp_upgrade_parse(wp_slice(copy, request_size), &upgrade, &again) == 1 && again == request_size);
        WP_ASSERT(wp_upgrade_parse(wp_slice(copy, request_size - 1), &upgrade, &again) == 0);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t cut = ((size_t)data[0] << 8 | data[1]) % (size - 1);
    data += 2;
    size -= 2;
    cut = cut > size ? size : cut;
    request_check(data, size);
    struct wp_websocket *websocket;
    struct wp_buffer mqtt = WP_BUFFER_INIT, wire = WP_BUFFER_INIT;
    WP_ASSERT(wp_websocket_create(&websocket) == WP_OK);
    uint8_t *first = exact_copy(data, cut), *second = exact_copy(data + cut, size - cut);
    int error = wp_websocket_input(websocket, wp_slice(first, cut), &mqtt, &wire);
    if (!error) {
        error = wp_websocket_input(websocket, wp_slice(second, size - cut), &mqtt, &wire);
    }
    WP_ASSERT(mqtt.size <= size);
    if (!error) {
        int answer = wp_websocket_output(websocket, wp_slice("\xd0\x00", 2), &wire);
        WP_ASSERT(answer == WP_OK || answer == WP_E_CLOSED);
    }
    wp_websocket_close(websocket, WP_WEBSOCKET_NORMAL, &wire);
    free(first);
    free(second);
    wp_websocket_destroy(&websocket);
    wp_buffer_free(&mqtt);
    wp_buffer_free(&wire);
    return 0;
}
