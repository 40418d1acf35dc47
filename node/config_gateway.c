/* The configuration of wardpost-gateway. */
#include <string.h>

#include "base/error.h"
#include "node/config_load.h"
#include "node/config_table.h"

#define GATEWAY struct wp_gateway_config
#define SECTION(name) __typeof__(((GATEWAY *)0)->name)

static const cyaml_schema_field_t routers_fields[] = {
    WP_CONFIG_ROUTERS(WP_CONFIG_FIELD, struct wp_config_peer) CYAML_FIELD_END};
static const cyaml_schema_value_t routers_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct wp_config_peer, routers_fields)};
static const cyaml_schema_field_t listen_fields[] = {
    WP_CONFIG_GATEWAY_LISTEN(WP_CONFIG_FIELD, SECTION(listen)) CYAML_FIELD_END};
static const cyaml_schema_field_t tls_fields[] = {
    WP_CONFIG_GATEWAY_TLS(WP_CONFIG_FIELD, SECTION(tls)) CYAML_FIELD_END};
static const cyaml_schema_field_t management_fields[] = {
    WP_CONFIG_MANAGEMENT(WP_CONFIG_FIELD, SECTION(management)) CYAML_FIELD_END};
static const cyaml_schema_field_t limits_fields[] = {
    WP_CONFIG_GATEWAY_LIMITS(WP_CONFIG_FIELD, SECTION(limits)) CYAML_FIELD_END};
static const cyaml_schema_field_t root_fields[] = {
    WP_CONFIG_GATEWAY_ROOT(WP_CONFIG_FIELD, GATEWAY)
        CYAML_FIELD_SEQUENCE_COUNT("routers", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, GATEWAY, routers,
            router_count, &routers_schema, 0, WP_CONFIG_ITEMS_MAX),
    CYAML_FIELD_MAPPING("listen", CYAML_FLAG_OPTIONAL, GATEWAY, listen, listen_fields),
    CYAML_FIELD_MAPPING("tls", CYAML_FLAG_OPTIONAL, GATEWAY, tls, tls_fields),
    CYAML_FIELD_MAPPING("management", CYAML_FLAG_OPTIONAL, GATEWAY, management, management_fields),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, GATEWAY, limits, limits_fields), CYAML_FIELD_END};
static const cyaml_schema_value_t gateway_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, GATEWAY, root_fields)};

#define ITEM(T, type, name, default_text, min, max, help)                                                    \
    {"", #name, WP_CONFIG_##type, default_text, min, max, help, offsetof(T, name), NULL, 0},
static const struct wp_config_row routers_rows[] = {WP_CONFIG_ROUTERS(ITEM, struct wp_config_peer)};

#define ROOT_ROW(T, type, name, default_text, min, max, help)                                                \
    {"", #name, WP_CONFIG_##type, default_text, min, max, help, offsetof(GATEWAY, name), NULL, 0},
#define ROW(section, type, name, default_text, min, max, help)                                               \
    {#section, #name, WP_CONFIG_##type, default_text, min, max, help, offsetof(GATEWAY, section.name), NULL, \
        0},
static const struct wp_config_row gateway_rows[] = {
    WP_CONFIG_GATEWAY_ROOT(ROOT_ROW, GATEWAY){"", "routers", WP_CONFIG_LIST, NULL, 1, WP_CONFIG_ITEMS_MAX,
        "routers of the cluster", 0, routers_rows, WP_CONFIG_COUNT(routers_rows)},
    WP_CONFIG_GATEWAY_LISTEN(ROW, listen) WP_CONFIG_GATEWAY_TLS(ROW, tls)
        WP_CONFIG_MANAGEMENT(ROW, management) WP_CONFIG_GATEWAY_LIMITS(ROW, limits)};
_Static_assert(WP_CONFIG_COUNT(gateway_rows) <= WP_CONFIG_ROWS_MAX, "the guard keeps a line per row");

static int routers_check(struct wp_config_guard *guard, const GATEWAY *config)
{
    if (config->router_count == 0) {
        return wp_config_guard_fail(
            guard, wp_config_guard_line(guard, "", "routers"), "\"routers\" is empty: name at least one");
    }
    return wp_config_check_routers(guard, "", config->routers, config->router_count);
}

/* One listener: an address, plain ones on loopback only, TLS ones with a certificate. */
static int listener_check(
    struct wp_config_guard *guard, const GATEWAY *config, const char *key, const char *address, bool secure)
{
    char host[64];
    uint32_t port;
    unsigned line = wp_config_guard_line(guard, "listen", key);
    if (address[0] == '\0') {
        return WP_OK;
    }
    if (!wp_config_address_split(address, host, sizeof host, &port)) {
        return wp_config_guard_fail(guard, line, "\"%s\" must be HOST:PORT, not \"%s\"", key, address);
    }
    if (!secure && !wp_config_host_loopback(host)) {
        return wp_config_guard_fail(guard, line,
            "\"%s\" is not encrypted and may listen on loopback only, not on \"%s\": use \"%ss\"", key, host,
            key);
    }
    if (secure && (config->tls.certificate[0] == '\0' || config->tls.key[0] == '\0')) {
        return wp_config_guard_fail(guard, line, "\"%s\" needs tls.certificate and tls.key", key);
    }
    return WP_OK;
}

static int listen_check(struct wp_config_guard *guard, const GATEWAY *config)
{
    const struct {
        const char *key, *address;
        bool secure;
    } listeners[] = {{"mqtt", config->listen.mqtt, false}, {"mqtts", config->listen.mqtts, true},
        {"ws", config->listen.ws, false}, {"wss", config->listen.wss, true}};
    bool any = false;
    for (unsigned i = 0; i < WP_CONFIG_COUNT(listeners); i++) {
        int error =
            listener_check(guard, config, listeners[i].key, listeners[i].address, listeners[i].secure);
        if (error) {
            return error;
        }
        any = any || listeners[i].address[0] != '\0';
    }
    return any ? WP_OK
               : wp_config_guard_fail(
                     guard, 1, "no device could connect: set at least one of listen.mqtts, wss, mqtt, ws");
}

static int gateway_check(struct wp_config_guard *guard, const void *loaded)
{
    const GATEWAY *config = loaded;
    int error = wp_config_check_name(guard, wp_config_guard_line(guard, "", "node"), "node", config->node);
    error = error ? error : wp_config_check_log_level(guard, config->log_level);
    error = error ? error
                  : wp_config_check_cluster(guard, wp_config_guard_line(guard, "", "cluster_id"),
                        "cluster_id", config->cluster_id);
    error = error ? error : routers_check(guard, config);
    error = error ? error : listen_check(guard, config);
    return error ? error : wp_config_check_management(guard, config->management.address);
}

const struct wp_config_kind wp_config_gateway_kind = {
    "wardpost-gateway", gateway_rows, WP_CONFIG_COUNT(gateway_rows), &gateway_schema, gateway_check};

int wp_gateway_config_load(
    const char *path, struct wp_gateway_config **ret_config, char *ret_text, size_t text_size)
{
    void *config;
    int error = wp_config_load(&wp_config_gateway_kind, path, &config, ret_text, text_size);
    if (!error) {
        *ret_config = config;
    }
    return error;
}

int wp_gateway_config_parse(const char *text_in, size_t size, const char *name,
    struct wp_gateway_config **ret_config, char *ret_text, size_t text_size)
{
    void *config;
    int error = wp_config_parse(&wp_config_gateway_kind, text_in, size, name, &config, ret_text, text_size);
    if (!error) {
        *ret_config = config;
    }
    return error;
}

void wp_gateway_config_free(struct wp_gateway_config **config)
{
    void *taken = *config;
    *config = NULL;
    wp_config_free(&wp_config_gateway_kind, &taken);
}
