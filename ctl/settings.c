/* Why this file exists: the values that make a playground differ from a deployment stand together here: a
 * small disk reserve with storage bounds that it covers, plain listeners on loopback, no limit per client
 * address. */
#include "ctl/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "ctl/file.h"

#define MIB ((uint64_t)1 << 20)
/* The reserve must cover 2 x memtables (2 buffers each of log and state) + WAL cap + largest compaction; the
 * router refuses less. Compactions this large write a message about half as often as ones of 64 MiB. */
#define DISK_RESERVE_BYTES (640 * MIB)
#define WAL_BYTES_MAX (48 * MIB)
#define LOG_KEEP_BYTES (8 * MIB)
#define WRITE_BUFFER_BYTES (16 * MIB)
#define COMPACTION_BYTES_MAX (384 * MIB)

const char *ctl_settings_name(const struct wp_playground_node *node)
{
    return node->kind == WP_PLAYGROUND_ROUTER ? "router.yaml" : "gateway.yaml";
}

/* "KEY: 'TEXT'" with quotes doubled, as YAML wants it in single-quoted text. */
static void text_put(FILE *out, const char *key, const char *text)
{
    fprintf(out, "%s: '", key);
    for (; *text; text++) {
        fputs(*text == '\'' ? "''" : (const char[2]){*text, '\0'}, out);
    }
    fputs("'\n", out);
}

static void path_put(
    FILE *out, const char *key, const struct wp_playground *playground, const char *folder, const char *name)
{
    char path[WP_PLAYGROUND_PATH_SIZE + 160];
    snprintf(path, sizeof path, "%s/%s%s%s", playground->dir, folder, *folder ? "/" : "", name);
    text_put(out, key, path);
}

static void endpoint_put(
    FILE *out, const char *key, const struct wp_playground_node *node, enum wp_playground_port port)
{
    char text[32];
    wp_playground_endpoint(node, port, text);
    text_put(out, key, text);
}

/* One item of a list of routers; nothing for a gateway. */
static void router_row_put(FILE *out, const struct wp_playground_node *node, const char *key)
{
    if (node->kind != WP_PLAYGROUND_ROUTER) {
        return;
    }
    char endpoint[40] = "tcp://";
    wp_playground_endpoint(node, WP_PLAYGROUND_FABRIC, endpoint + strlen("tcp://"));
    text_put(out, "  - node", node->id);
    text_put(out, "    endpoint", endpoint);
    text_put(out, "    key", key);
}

static void router_put(
    FILE *out, const struct wp_playground *playground, unsigned index, const struct ctl_keys *keys)
{
    const struct wp_playground_node *node = &playground->nodes[index];
    fprintf(out, "cluster:\n");
    text_put(out, "  id", playground->cluster_id);
    fprintf(out, "  shards: %u\n", playground->shards);
    path_put(out, "  key_file", playground, "", "cluster.key");
    if (node->joined) {
        fprintf(out, "  join: true\n");
    }
    fprintf(out, "  routers:\n");
    for (unsigned i = 0; i < playground->node_count; i++) {
        if (!playground->nodes[i].joined) { /* what the cluster began with */
            router_row_put(out, &playground->nodes[i], keys->public_text[i]);
        }
    }
    path_put(out, "data", playground, node->id, "data");
    fprintf(out, "reactors: %u\nfabric:\n  host: '127.0.0.1'\n  port: %u\n", playground->reactors,
        (unsigned)node->ports[WP_PLAYGROUND_FABRIC]);
    path_put(out, "  key_file", playground, node->id, "curve.key");
    fprintf(out, "  allow:\n");
    for (unsigned i = 0; i < playground->node_count; i++) {
        if (playground->nodes[i].kind == WP_PLAYGROUND_GATEWAY) {
            text_put(out, "    - node", playground->nodes[i].id);
            text_put(out, "      role", "gateway");
            text_put(out, "      key", keys->public_text[i]);
        }
    }
    fprintf(out, "management:\n");
    endpoint_put(out, "  address", node, WP_PLAYGROUND_MANAGEMENT);
    path_put(out, "  socket", playground, node->id, "admin.sock");
    fprintf(out,
        "storage:\n  disk_reserve_bytes: %" PRIu64 "\n  wal_bytes_max: %" PRIu64
        "\n  log_keep_bytes: %" PRIu64 "\n  write_buffer_bytes: %" PRIu64 "\n  compaction_bytes_max: %" PRIu64
        "\n  allow_volatile: %s\n",
        DISK_RESERVE_BYTES, WAL_BYTES_MAX, LOG_KEEP_BYTES, WRITE_BUFFER_BYTES, COMPACTION_BYTES_MAX,
        playground->allow_volatile ? "true" : "false");
}

static void gateway_put(
    FILE *out, const struct wp_playground *playground, unsigned index, const struct ctl_keys *keys)
{
    const struct wp_playground_node *node = &playground->nodes[index];
    text_put(out, "cluster_id", playground->cluster_id);
    fprintf(out, "routers:\n");
    for (unsigned i = 0; i < playground->node_count; i++) {
        router_row_put(out, &playground->nodes[i], keys->public_text[i]);
    }
    path_put(out, "fabric_key_file", playground, node->id, "curve.key");
    fprintf(out, "listen:\n");
    endpoint_put(out, "  mqtt", node, WP_PLAYGROUND_MQTT);
    endpoint_put(out, "  mqtts", node, WP_PLAYGROUND_MQTTS);
    endpoint_put(out, "  ws", node, WP_PLAYGROUND_WS);
    endpoint_put(out, "  wss", node, WP_PLAYGROUND_WSS);
    fprintf(out, "tls:\n");
    path_put(out, "  certificate", playground, node->id, "tls.pem");
    path_put(out, "  key", playground, node->id, "tls.key");
    fprintf(out, "management:\n");
    endpoint_put(out, "  address", node, WP_PLAYGROUND_MANAGEMENT);
    fprintf(out, "limits:\n  connections_per_address_max: 0\n");
}

int ctl_settings_write(const struct wp_playground *playground, unsigned index, const struct ctl_keys *keys,
    char *ret_text, size_t text_size)
{
    const struct wp_playground_node *node = &playground->nodes[index];
    char path[WP_PLAYGROUND_PATH_SIZE], *text = NULL;
    size_t size = 0;
    int error = wp_playground_path(playground, node, ctl_settings_name(node), path, sizeof path);
    FILE *out = error ? NULL : open_memstream(&text, &size);
    if (!out) {
        snprintf(ret_text, text_size, "the configuration of \"%s\": %s", node->id,
            wp_error_text(error ? error : WP_E_NOMEM));
        return error ? error : WP_E_NOMEM;
    }
    fprintf(out, "# Written by wardpostctl playground up; yours to change (then kill and start the node).\n");
    text_put(out, "node", node->id);
    text_put(out, "log_level", "info");
    (node->kind == WP_PLAYGROUND_ROUTER ? router_put : gateway_put)(out, playground, index, keys);
    bool good = fclose(out) == 0;
    error = good ? ctl_file_write(path, 0600, text, size, ret_text, text_size) : WP_E_NOMEM;
    free(text);
    return error;
}
