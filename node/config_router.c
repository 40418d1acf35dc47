/* The configuration of wardpost-router. */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "node/config_load.h"
#include "node/config_table.h"

#define ROUTER struct wp_router_config
#define SECTION(name) __typeof__(((ROUTER *)0)->name)

static const cyaml_schema_field_t routers_fields[] = {
    WP_CONFIG_CLUSTER_ROUTERS(WP_CONFIG_FIELD, struct wp_config_peer) CYAML_FIELD_END};
static const cyaml_schema_value_t routers_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct wp_config_peer, routers_fields)};
static const cyaml_schema_field_t cluster_fields[] = {
    WP_CONFIG_ROUTER_CLUSTER(WP_CONFIG_FIELD, SECTION(cluster))
        CYAML_FIELD_SEQUENCE_COUNT("routers", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, SECTION(cluster),
            routers, router_count, &routers_schema, 0, WP_CONFIG_ITEMS_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_field_t allow_fields[] = {
    WP_CONFIG_ALLOW(WP_CONFIG_FIELD, struct wp_config_peer) CYAML_FIELD_END};
static const cyaml_schema_value_t allow_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct wp_config_peer, allow_fields)};
static const cyaml_schema_field_t fabric_fields[] = {
    WP_CONFIG_ROUTER_FABRIC(WP_CONFIG_FIELD, SECTION(fabric))
        CYAML_FIELD_SEQUENCE("allow", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, SECTION(fabric), allow,
            &allow_schema, 0, WP_CONFIG_ITEMS_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_field_t management_fields[] = {
    WP_CONFIG_MANAGEMENT(WP_CONFIG_FIELD, SECTION(management)) CYAML_FIELD_END};
static const cyaml_schema_field_t storage_fields[] = {
    WP_CONFIG_ROUTER_STORAGE(WP_CONFIG_FIELD, SECTION(storage)) CYAML_FIELD_END};
static const cyaml_schema_field_t limits_fields[] = {
    WP_CONFIG_ROUTER_LIMITS(WP_CONFIG_FIELD, SECTION(limits)) CYAML_FIELD_END};
static const cyaml_schema_field_t root_fields[] = {
    WP_CONFIG_ROUTER_ROOT(WP_CONFIG_FIELD, ROUTER)
        CYAML_FIELD_MAPPING("cluster", CYAML_FLAG_OPTIONAL, ROUTER, cluster, cluster_fields),
    CYAML_FIELD_MAPPING("fabric", CYAML_FLAG_OPTIONAL, ROUTER, fabric, fabric_fields),
    CYAML_FIELD_MAPPING("management", CYAML_FLAG_OPTIONAL, ROUTER, management, management_fields),
    CYAML_FIELD_MAPPING("storage", CYAML_FLAG_OPTIONAL, ROUTER, storage, storage_fields),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, ROUTER, limits, limits_fields), CYAML_FIELD_END};
static const cyaml_schema_value_t router_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, ROUTER, root_fields)};

#define ITEM(T, type, name, default_text, min, max, help)                                                    \
    {"", #name, WP_CONFIG_##type, default_text, min, max, help, offsetof(T, name), NULL, 0},
static const struct wp_config_row allow_rows[] = {WP_CONFIG_ALLOW(ITEM, struct wp_config_peer)};
static const struct wp_config_row routers_rows[] = {WP_CONFIG_CLUSTER_ROUTERS(ITEM, struct wp_config_peer)};

#define ROOT_ROW(T, type, name, default_text, min, max, help)                                                \
    {"", #name, WP_CONFIG_##type, default_text, min, max, help, offsetof(ROUTER, name), NULL, 0},
#define ROW(section, type, name, default_text, min, max, help)                                               \
    {#section, #name, WP_CONFIG_##type, default_text, min, max, help, offsetof(ROUTER, section.name), NULL,  \
        0},
static const struct wp_config_row router_rows[] = {
    WP_CONFIG_ROUTER_ROOT(ROOT_ROW, ROUTER) WP_CONFIG_ROUTER_CLUSTER(ROW, cluster){"cluster", "routers",
        WP_CONFIG_LIST, "", 0, WP_CONFIG_ROUTERS_MAX,
        "routers that the cluster begins with, the same list in the same order on each; empty: this one "
        "alone",
        0, routers_rows, WP_CONFIG_COUNT(routers_rows)},
    WP_CONFIG_ROUTER_FABRIC(ROW, fabric){"fabric", "allow", WP_CONFIG_LIST, "", 0, WP_CONFIG_ITEMS_MAX,
        "peers that may connect", 0, allow_rows, WP_CONFIG_COUNT(allow_rows)},
    WP_CONFIG_MANAGEMENT(ROW, management) WP_CONFIG_ROUTER_STORAGE(ROW, storage)
        WP_CONFIG_ROUTER_LIMITS(ROW, limits)};
_Static_assert(WP_CONFIG_COUNT(router_rows) <= WP_CONFIG_ROWS_MAX, "the guard keeps a line per row");

static int allow_check(struct wp_config_guard *guard, const ROUTER *config)
{
    for (uint32_t i = 0; i < config->fabric.allow_count; i++) {
        const struct wp_config_peer *peer = &config->fabric.allow[i];
        unsigned line = wp_config_guard_item_line(guard, "fabric", "allow", i);
        int error = wp_config_check_name(guard, line, "node", peer->node);
        error = error ? error : wp_config_check_key(guard, line, peer->key);
        if (error) {
            return error;
        }
        if (strcmp(peer->role, "gateway") != 0 && strcmp(peer->role, "router") != 0) {
            return wp_config_guard_fail(
                guard, line, "\"role\" must be gateway or router, not \"%s\"", peer->role);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(config->fabric.allow[j].key, peer->key) == 0) {
                return wp_config_guard_fail(guard, line,
                    "the key of \"%s\" is also that of \"%s\" in line %u: each node has its own", peer->node,
                    config->fabric.allow[j].node, wp_config_guard_item_line(guard, "fabric", "allow", j));
            }
        }
    }
    return WP_OK;
}

static int fabric_check(struct wp_config_guard *guard, const ROUTER *config)
{
    struct in_addr address;
    if (inet_pton(AF_INET, config->fabric.host, &address) != 1) {
        return wp_config_guard_fail(guard, wp_config_guard_line(guard, "fabric", "host"),
            "\"host\" must be an IPv4 address of this machine, not \"%s\"", config->fabric.host);
    }
    if (config->fabric.port + config->reactors - 1 > 65535) {
        return wp_config_guard_fail(guard, wp_config_guard_line(guard, "fabric", "port"),
            "\"port\" %u leaves no room for %u reactors, each with its own port", config->fabric.port,
            config->reactors);
    }
    return allow_check(guard, config);
}

static bool router_listed(const ROUTER *config)
{
    for (uint32_t i = 0; i < config->cluster.router_count; i++) {
        if (strcmp(config->cluster.routers[i].node, config->node) == 0) {
            return true;
        }
    }
    return config->cluster.router_count == 0;
}

static int cluster_check(struct wp_config_guard *guard, const ROUTER *config)
{
    uint32_t shards = config->cluster.shards;
    uint32_t routers = config->cluster.router_count;
    uint32_t replication = config->cluster.replication;
    int error = wp_config_check_cluster(
        guard, wp_config_guard_line(guard, "cluster", "id"), "id", config->cluster.id);
    error = error ? error : wp_config_check_routers(guard, "cluster", config->cluster.routers, routers);
    if (error) {
        return error;
    }
    if ((shards & (shards - 1)) != 0) {
        return wp_config_guard_fail(guard, wp_config_guard_line(guard, "cluster", "shards"),
            "\"shards\" must be a power of two (1, 2, 4 ... 4096), not %u", shards);
    }
    if (routers > WP_CONFIG_ROUTERS_MAX) {
        return wp_config_guard_fail(guard, wp_config_guard_line(guard, "cluster", "routers"),
            "\"routers\" names %u routers; a cluster has at most %u", routers, WP_CONFIG_ROUTERS_MAX);
    }
    if (replication == 2 || replication == 4 || replication > (routers ? routers : 1)) {
        return wp_config_guard_fail(guard, wp_config_guard_line(guard, "cluster", "replication"),
            "\"replication\" must be 1, 3 or 5 and at most the number of routers (%u), not %u",
            routers ? routers : 1, replication);
    }
    if (router_listed(config) == config->cluster.join) {
        return wp_config_guard_fail(guard, wp_config_guard_line(guard, "cluster", "routers"),
            config->cluster.join ? "\"%s\" is in \"routers\", so it does not join: take \"join\" out"
                                 : "\"routers\" does not name this router (\"%s\"): add it, or set \"join: "
                                   "true\" if it comes later",
            config->node);
    }
    return WP_OK;
}

static int router_check(struct wp_config_guard *guard, const void *loaded)
{
    const ROUTER *config = loaded;
    int error = wp_config_check_name(guard, wp_config_guard_line(guard, "", "node"), "node", config->node);
    error = error ? error : wp_config_check_log_level(guard, config->log_level);
    error = error ? error : cluster_check(guard, config);
    error = error ? error : fabric_check(guard, config);
    error = error ? error : wp_config_check_management(guard, config->management.address);
    if (!error && config->limits.ttl_default_s > config->limits.ttl_max_s) {
        error = wp_config_guard_fail(guard, wp_config_guard_line(guard, "limits", "ttl_default_s"),
            "\"ttl_default_s\" is %llu, over \"ttl_max_s\" (%llu)",
            (unsigned long long)config->limits.ttl_default_s, (unsigned long long)config->limits.ttl_max_s);
    }
    if (!error && config->limits.mailbox_bytes_max < config->limits.body_bytes_max) {
        error = wp_config_guard_fail(guard, wp_config_guard_line(guard, "limits", "mailbox_bytes_max"),
            "\"mailbox_bytes_max\" is %llu, less than one body of \"body_bytes_max\" (%llu)",
            (unsigned long long)config->limits.mailbox_bytes_max,
            (unsigned long long)config->limits.body_bytes_max);
    }
    return error;
}

const struct wp_config_kind wp_config_router_kind = {
    "wardpost-router", router_rows, WP_CONFIG_COUNT(router_rows), &router_schema, router_check};

int wp_router_config_load(
    const char *path, struct wp_router_config **ret_config, char *ret_text, size_t text_size)
{
    void *config;
    int error = wp_config_load(&wp_config_router_kind, path, &config, ret_text, text_size);
    if (!error) {
        *ret_config = config;
    }
    return error;
}

int wp_router_config_parse(const char *text_in, size_t size, const char *name,
    struct wp_router_config **ret_config, char *ret_text, size_t text_size)
{
    void *config;
    int error = wp_config_parse(&wp_config_router_kind, text_in, size, name, &config, ret_text, text_size);
    if (!error) {
        *ret_config = config;
    }
    return error;
}

void wp_router_config_free(struct wp_router_config **config)
{
    void *taken = *config;
    *config = NULL;
    wp_config_free(&wp_config_router_kind, &taken);
}
