/* Inside of the configuration: loading a checked file into its struct, for both programs. Only node/ includes
 * this. */
#ifndef WP_NODE_CONFIG_LOAD_H
#define WP_NODE_CONFIG_LOAD_H

#include <cyaml/cyaml.h>

#include "node/config.h"
#include "node/config_guard.h"

/* One kind of configuration file. */
struct wp_config_kind {
    const char *program; /* "wardpost-router" */
    const struct wp_config_row *rows;
    size_t row_count;
    const cyaml_schema_value_t *schema; /* a mapping behind a pointer */
    /* What single values cannot tell: WP_OK or wp_config_guard_fail. */
    int (*check)(struct wp_config_guard *guard, const void *config);
};

extern const struct wp_config_kind wp_config_router_kind;
extern const struct wp_config_kind wp_config_gateway_kind;

int wp_config_parse(const struct wp_config_kind *kind, const char *content, size_t size, const char *name,
    void **ret_config, char *ret_text, size_t text_size);
int wp_config_load(
    const struct wp_config_kind *kind, const char *path, void **ret_config, char *ret_text, size_t text_size);
void wp_config_free(const struct wp_config_kind *kind, void **config);

/* Checks shared by both kinds; the row names the place. */
int wp_config_check_name(struct wp_config_guard *guard, unsigned line, const char *key, const char *value);
int wp_config_check_key(struct wp_config_guard *guard, unsigned line, const char *value);
int wp_config_check_cluster(struct wp_config_guard *guard, unsigned line, const char *key, const char *value);
int wp_config_check_log_level(struct wp_config_guard *guard, const char *value);
int wp_config_check_management(struct wp_config_guard *guard, const char *address);
/* Names, keys and endpoints of a list of routers, each name once. */
int wp_config_check_routers(struct wp_config_guard *guard, const char *section,
    const struct wp_config_peer *routers, uint32_t count);
/* Splits HOST:PORT or [HOST]:PORT and checks the port. */
bool wp_config_address_split(const char *text, char *ret_host, size_t host_size, uint32_t *ret_port);
/* Whether `host` is a numeric loopback address or "localhost". */
bool wp_config_host_loopback(const char *host);

/* From a row of config_table.h to a field of the schema and to a row of the guard. */
#define WP_CONFIG_FIELD(T, type, name, default_text, min, max, help) WP_CONFIG_FIELD_##type(T, name)
#define WP_CONFIG_FIELD_TEXT(T, name)                                                                        \
    CYAML_FIELD_STRING_PTR(#name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, T, name, 0, CYAML_UNLIMITED),
#define WP_CONFIG_FIELD_U32(T, name) CYAML_FIELD_UINT(#name, CYAML_FLAG_OPTIONAL, T, name),
#define WP_CONFIG_FIELD_U64(T, name) CYAML_FIELD_UINT(#name, CYAML_FLAG_OPTIONAL, T, name),
#define WP_CONFIG_FIELD_BOOL(T, name) CYAML_FIELD_BOOL(#name, CYAML_FLAG_OPTIONAL, T, name),

#define WP_CONFIG_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

#endif
