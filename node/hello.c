/* The first record of each connection, both ways: who speaks, in which cluster and life. */
#include "node/link.h"

#include <string.h>

#include "base/error.h"

#define PROTOCOL 1

int wp_hello_append(struct wp_fabric *fabric, uint64_t nonce, struct wp_buffer *out)
{
    Wp__Hello hello = WP__HELLO__INIT;
    char node[WP_NAME_SIZE_MAX + 1] = "", software[] = "wardpost " WP_VERSION;
    strncpy(node, fabric->config.node, WP_NAME_SIZE_MAX);
    hello.protocol = PROTOCOL;
    hello.cluster_id = fabric->config.cluster_id;
    hello.node = node;
    hello.role = fabric->config.role;
    hello.incarnation = fabric->config.incarnation;
    hello.nonce = nonce;
    hello.window_bytes = fabric->config.window_bytes;
    hello.software = software;
    hello.directory_id = fabric->config.directory_id;
    hello.start_id = fabric->config.start_id;
    hello.level_min = WP_FEATURE_LEVEL_MIN;
    hello.level_max = WP_FEATURE_LEVEL_MAX;
    return wp_schema_append(out, WP_FRAME_HELLO, &hello.base);
}

int wp_hello_check(
    struct wp_fabric *fabric, struct wp_slice payload, Wp__Role role, const char *node, Wp__Hello **ret_hello)
{
    Wp__Hello *hello;
    wp_arena_reset(&fabric->arena);
    int error =
        wp_schema_decode(&wp__hello__descriptor, payload, &fabric->arena, (ProtobufCMessage **)&hello);
    if (error) {
        return error;
    }
    if (hello->protocol != PROTOCOL || hello->level_min > WP_FEATURE_LEVEL_MAX ||
        hello->level_max < WP_FEATURE_LEVEL_MIN) {
        return WP_E_VERSION; /* no level at which both work */
    }
    if (hello->cluster_id != fabric->config.cluster_id || hello->role != role) {
        return WP_E_DENIED;
    }
    if (!wp_address_valid(hello->node) || (node && strcmp(hello->node, node) != 0)) {
        return WP_E_AUTH;
    }
    if (hello->window_bytes == 0) {
        return WP_E_MALFORMED;
    }
    *ret_hello = hello;
    return WP_OK;
}
