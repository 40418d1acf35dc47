/* 1. A configuration that is handed out has every text set (never NULL) and every number inside its
 *    range.
 * 2. All its memory came from malloc: libcyaml's default allocator and our defaults agree, and
 *    libcyaml frees both. */
#include "node/config_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "node/keys.h"
#include "proto/address.h"

static const cyaml_config_t cyaml_settings = {
    .log_fn = NULL, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR};

/* Writes the default of a row into its member. */
static int default_set(const struct wp_config_row *row, void *config)
{
    void *member = (char *)config + row->offset;
    uint64_t number = 0;
    switch (row->type) {
    case WP_CONFIG_TEXT: {
        char *text = strdup(row->default_text);
        memcpy(member, &text, sizeof text);
        return text ? WP_OK : WP_E_NOMEM;
    }
    case WP_CONFIG_U32:
        wp_config_number_parse(row->default_text, &number);
        memcpy(member, &(uint32_t){(uint32_t)number}, sizeof(uint32_t));
        return WP_OK;
    case WP_CONFIG_U64:
        wp_config_number_parse(row->default_text, &number);
        memcpy(member, &number, sizeof number);
        return WP_OK;
    case WP_CONFIG_BOOL:
        return wp_config_bool_parse(row->default_text, member) ? WP_OK : WP_E_CONFIG;
    default:
        return WP_OK; /* an absent list is empty */
    }
}

static int defaults_set(const struct wp_config_kind *kind, const struct wp_config_guard *guard, void *config)
{
    int error = WP_OK;
    for (size_t i = 0; i < kind->row_count && !error; i++) {
        if (guard->lines[i] == 0) {
            error = default_set(&kind->rows[i], config);
        }
    }
    return error;
}

int wp_config_parse(const struct wp_config_kind *kind, const char *content, size_t size, const char *name,
    void **ret_config, char *ret_text, size_t text_size)
{
    struct wp_config_guard guard = {.name = name,
        .rows = kind->rows,
        .row_count = kind->row_count,
        .text = ret_text,
        .text_size = text_size};
    int error = wp_config_guard_run(&guard, content, size);
    if (error) {
        return error;
    }
    void *config = NULL;
    cyaml_err_t refusal =
        cyaml_load_data((const uint8_t *)content, size, &cyaml_settings, kind->schema, &config, NULL);
    if (refusal != CYAML_OK || !config) {
        wp_config_guard_fail(&guard, 1, "cannot be loaded: %s", cyaml_strerror(refusal));
        return refusal == CYAML_ERR_OOM ? WP_E_NOMEM : WP_E_CONFIG;
    }
    error = defaults_set(kind, &guard, config);
    error = error ? error : kind->check(&guard, config);
    if (error) {
        wp_config_free(kind, &config);
        return error;
    }
    *ret_config = config;
    return WP_OK;
}

static int file_read(const char *path, struct wp_buffer *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return WP_E_NOT_FOUND;
    }
    int error = WP_OK;
    for (;;) {
        uint8_t *to = wp_buffer_reserve(out, 4096);
        ssize_t count = to ? read(fd, to, 4096) : -1;
        if (count < 0 && errno == EINTR && to) {
            continue;
        }
        if (count < 0) {
            error = to ? WP_E_NOT_FOUND : WP_E_NOMEM;
        }
        if (count <= 0 || out->size > WP_CONFIG_SIZE_MAX) {
            break;
        }
        out->size += (size_t)count;
    }
    int reason = errno;
    close(fd);
    errno = reason;
    return error;
}

int wp_config_load(
    const struct wp_config_kind *kind, const char *path, void **ret_config, char *ret_text, size_t text_size)
{
    struct wp_buffer content = WP_BUFFER_INIT;
    int error = file_read(path, &content);
    if (error) {
        snprintf(ret_text, text_size, "cannot read configuration \"%s\": %s", path,
            error == WP_E_NOMEM ? wp_error_text(error) : strerror(errno));
    } else {
        error = wp_config_parse(kind, content.data ? (const char *)content.data : "", content.size, path,
            ret_config, ret_text, text_size);
    }
    wp_buffer_free(&content);
    return error;
}

void wp_config_free(const struct wp_config_kind *kind, void **config)
{
    void *taken = *config;
    *config = NULL;
    if (taken) {
        cyaml_free(&cyaml_settings, kind->schema, taken, 0);
    }
}

int wp_config_check_name(struct wp_config_guard *guard, unsigned line, const char *key, const char *value)
{
    return wp_address_valid(value)
               ? WP_OK
               : wp_config_guard_fail(guard, line,
                     "\"%s\" may hold a to z, 0 to 9, dot, dash and underscore, not \"%s\"", key, value);
}

int wp_config_check_key(struct wp_config_guard *guard, unsigned line, const char *value)
{
    uint8_t raw[32];
    /* zmq_z85_decode prints nothing and reads exactly the 40 characters that the guard made sure of. */
    return strlen(value) == WP_KEY_TEXT_SIZE - 1 && zmq_z85_decode(raw, value)
               ? WP_OK
               : wp_config_guard_fail(guard, line,
                     "\"key\" is no public CURVE key: take the \"public:\" line of the peer's key file");
}

int wp_config_check_cluster(struct wp_config_guard *guard, unsigned line, const char *key, const char *value)
{
    return strlen(value) == 16 && strspn(value, "0123456789abcdef") == 16
               ? WP_OK
               : wp_config_guard_fail(
                     guard, line, "\"%s\" must be 16 hex digits in lower case, not \"%s\"", key, value);
}

int wp_config_check_log_level(struct wp_config_guard *guard, const char *value)
{
    enum wp_log_level level;
    return wp_log_level_parse(value, &level) == WP_OK
               ? WP_OK
               : wp_config_guard_fail(guard, wp_config_guard_line(guard, "", "log_level"),
                     "\"log_level\" must be debug, info, warn or error, not \"%s\"", value);
}

int wp_config_check_routers(
    struct wp_config_guard *guard, const char *section, const struct wp_config_peer *routers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct wp_config_peer *router = &routers[i];
        unsigned line = wp_config_guard_item_line(guard, section, "routers", i);
        char host[64];
        uint32_t port;
        int error = wp_config_check_name(guard, line, "node", router->node);
        error = error ? error : wp_config_check_key(guard, line, router->key);
        if (error) {
            return error;
        }
        if (strncmp(router->endpoint, "tcp://", 6) != 0 ||
            !wp_config_address_split(router->endpoint + 6, host, sizeof host, &port) || port == 0) {
            return wp_config_guard_fail(
                guard, line, "\"endpoint\" must be tcp://HOST:PORT, not \"%s\"", router->endpoint);
        }
        for (uint32_t j = 0; j < i; j++) {
            unsigned first = wp_config_guard_item_line(guard, section, "routers", j);
            if (strcmp(routers[j].node, router->node) == 0) {
                return wp_config_guard_fail(
                    guard, line, "router \"%s\" stands twice; first in line %u", router->node, first);
            }
            if (strcmp(routers[j].key, router->key) == 0) {
                return wp_config_guard_fail(guard, line,
                    "the key of \"%s\" is also that of \"%s\" in line %u: each node has its own",
                    router->node, routers[j].node, first);
            }
        }
    }
    return WP_OK;
}

bool wp_config_address_split(const char *text, char *ret_host, size_t host_size, uint32_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || colon == text || !wp_config_number_parse(colon + 1, &port) || port > 65535) {
        return false;
    }
    size_t size = (size_t)(colon - text);
    if (text[0] == '[' && size > 2 && text[size - 1] == ']') {
        text++;
        size -= 2;
    } else if (memchr(text, ':', size)) {
        return false; /* IPv6 without brackets */
    }
    if (size >= host_size) {
        return false;
    }
    memcpy(ret_host, text, size);
    ret_host[size] = '\0';
    *ret_port = (uint32_t)port;
    return true;
}

bool wp_config_host_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return strcmp(host, "localhost") == 0 ||
           (inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6));
}

int wp_config_check_management(struct wp_config_guard *guard, const char *address)
{
    char host[64];
    uint32_t port;
    if (address[0] == '\0' || (wp_config_address_split(address, host, sizeof host, &port) &&
                                  strcmp(host, "localhost") != 0 && wp_config_host_loopback(host))) {
        return WP_OK;
    }
    return wp_config_guard_fail(guard, wp_config_guard_line(guard, "management", "address"),
        "\"address\" must be 127.x.y.z:PORT or [::1]:PORT, not \"%s\": management is served on this machine "
        "only",
        address);
}
