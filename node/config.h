/* Configuration files of the servers: YAML with a typed schema (libcyaml). An unknown key, a wrong type or a
 * value out of range is an error that names file, line and the nearest valid name. Keys, defaults, ranges and
 * help stand in one table per program (node/config_table.h), which also generates docs/configuration.md. */
#ifndef WP_NODE_CONFIG_H
#define WP_NODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wp_config_peer { /* one row of `allow` or `routers` */
    char *node;         /* "gateway-1" */
    char *role;         /* "gateway" or "router"; only in allow */
    char *endpoint;     /* "tcp://127.0.0.1:7401"; only in routers: its first reactor */
    char *key;          /* public CURVE key, Z85 */
    uint32_t reactors;  /* only in cluster.routers */
};

struct wp_router_config {
    char *node;
    char *log_level;
    struct {
        char *id;        /* 16 hex digits */
        uint32_t shards; /* power of two, fixed for ever */
        char *key_file;  /* 32-byte cluster key as 64 hex digits, mode 0600: shard hash and device-secret hash
                            derive from it */
        uint32_t replication; /* 1, 3, 5; 0 = by the number of routers */
        bool join;
        struct wp_config_peer *routers; /* what the cluster begins with; none: this router alone */
        uint32_t router_count;
    } cluster;
    char *data;        /* directory */
    uint32_t reactors; /* threads that own shards; reactor i listens on fabric.port + i */
    struct {
        char *host; /* "127.0.0.1" */
        uint32_t port;
        char *key_file;
        struct wp_config_peer *allow;
        uint32_t allow_count;
    } fabric;
    struct {
        char *address; /* loopback */
        char *socket;
    } management;
    struct {
        uint64_t disk_reserve_bytes; /* 0 = formula */
        uint64_t wal_bytes_max;
        uint64_t log_keep_bytes;
        uint64_t write_buffer_bytes;
        uint64_t compaction_bytes_max;
        bool allow_volatile;
    } storage;
    struct {
        uint64_t mailbox_messages_max; /* 10,000 */
        uint64_t mailbox_bytes_max;    /* 64 MiB */
        uint64_t body_bytes_max;       /* 1 MiB */
        uint64_t ttl_default_s;        /* 7 days */
        uint64_t ttl_max_s;            /* 30 days */
        uint64_t seen_ids_max;         /* per shard, 1,000,000 */
        uint64_t stat_per_minute_max;  /* per sender user, 60; 0 = no limit */
        uint64_t delivery_timeout_ms;  /* 30,000 */
        uint64_t body_cache_bytes;     /* per reactor, 64 MiB */
    } limits;
};

struct wp_gateway_config {
    char *node;
    char *log_level;
    char *cluster_id;
    struct wp_config_peer *routers;
    uint32_t router_count;
    char *fabric_key_file;
    struct {
        char *mqtt; /* "127.0.0.1:1883"; empty = off; plain listeners are refused off loopback */
        char *mqtts;
        char *ws;
        char *wss;
    } listen;
    struct {
        char *certificate; /* PEM chain */
        char *key;         /* PEM */
    } tls;
    struct {
        char *address;
        char *socket;
    } management;
    struct {
        uint32_t connections_max;             /* 20,000 */
        uint32_t connections_per_address_max; /* 0 = no limit */
        uint32_t connect_timeout_ms;          /* whole of TLS + CONNECT: 5,000 */
        uint32_t receive_maximum;             /* publishes a device may have open towards us: 64 */
        uint32_t window;                      /* deliveries open towards a device: 64 */
        uint32_t body_bytes_max;              /* 1 MiB: announces Maximum Packet Size = this + 64 KiB */
        uint32_t keep_alive_max_s;            /* 0 = the client's own */
        uint32_t publish_per_second_max;      /* per device, 0 = no limit */
    } limits;
};

/* Loads and checks. WP_E_CONFIG (or WP_E_NOT_FOUND) with "FILE:LINE: what is wrong, nearest name, what to do"
 * in ret_text. On success free with wp_*_config_free. */
int wp_router_config_load(
    const char *path, struct wp_router_config **ret_config, char *ret_text, size_t text_size);
int wp_router_config_parse(const char *text_in, size_t size, const char *name,
    struct wp_router_config **ret_config, char *ret_text, size_t text_size);
void wp_router_config_free(struct wp_router_config **config);
int wp_gateway_config_load(
    const char *path, struct wp_gateway_config **ret_config, char *ret_text, size_t text_size);
int wp_gateway_config_parse(const char *text_in, size_t size, const char *name,
    struct wp_gateway_config **ret_config, char *ret_text, size_t text_size);
void wp_gateway_config_free(struct wp_gateway_config **config);

#endif
