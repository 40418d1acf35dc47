/* Every key of both configuration files: the schema, the checks, the defaults and docs/configuration.md come
 * from here.
 *
 * X(T, type, name, default, min, max, help): T is the type of the struct that holds the member `name`.
 * Default NULL: the key is required. min and max are of the value, for TEXT of its length in bytes. Sizes are
 * in bytes and times in the unit that the name ends with. */
#ifndef WP_NODE_CONFIG_TABLE_H
#define WP_NODE_CONFIG_TABLE_H

/* --- wardpost-router --- */

#define WP_CONFIG_ROUTER_ROOT(X, T)                                                                          \
    X(T, TEXT, node, NULL, 1, 64, "name of this router")                                                     \
    X(T, TEXT, log_level, "info", 1, 5, "lowest level logged: debug, info, warn, error")                     \
    X(T, TEXT, data, NULL, 1, 4000, "directory of the log and the state")                                    \
    X(T, U32, reactors, "1", 1, 64, "threads that own shards; reactor i listens on fabric.port + i")

#define WP_CONFIG_ROUTER_CLUSTER(X, T)                                                                       \
    X(T, TEXT, id, NULL, 16, 16, "identifier of the cluster: 16 hex digits, the same on every node")         \
    X(T, U32, shards, "64", 1, 4096, "number of shards, a power of two; fixed when the cluster is created")  \
    X(T, TEXT, key_file, NULL, 1, 4000,                                                                      \
        "cluster key: 64 hex digits in a file of mode 0600, the same on every router")                       \
    X(T, U32, replication, "0", 0, 5,                                                                        \
        "copies of each shard: 1, 3 or 5; 0 = 3 when the cluster begins with three routers or more, else 1") \
    X(T, BOOL, join, "false", 0, 1,                                                                          \
        "this router is none of those that the cluster began with: it waits until it is added")

/* Of cluster.routers: what the cluster begins with, in the same order on every router. */
#define WP_CONFIG_CLUSTER_ROUTERS(X, T)                                                                      \
    X(T, TEXT, node, NULL, 1, 64, "name of the router")                                                      \
    X(T, TEXT, endpoint, NULL, 1, 127, "tcp://HOST:PORT of its first reactor")                               \
    X(T, TEXT, key, NULL, 40, 40, "its public CURVE key (Z85)")                                              \
    X(T, U32, reactors, "0", 0, 64, "its reactors; 0 = as many as this router has")

#define WP_CONFIG_ROUTER_FABRIC(X, T)                                                                        \
    X(T, TEXT, host, "127.0.0.1", 1, 64, "IPv4 address that the fabric listens on")                          \
    X(T, U32, port, "7401", 1, 65535, "port of the first reactor")                                           \
    X(T, TEXT, key_file, NULL, 1, 4000, "CURVE key pair of this router, mode 0600")

#define WP_CONFIG_MANAGEMENT(X, T)                                                                           \
    X(T, TEXT, address, "", 0, 64, "HOST:PORT of /livez, /readyz and /metrics; loopback only; empty = off")  \
    X(T, TEXT, socket, "", 0, 107, "unix socket for the operator's commands; empty = off")

#define WP_CONFIG_ROUTER_STORAGE(X, T)                                                                       \
    X(T, U64, disk_reserve_bytes, "0", 0, 1ull << 50,                                                        \
        "below so much free space submits are refused; 0 = the larger "                                      \
        "of 2 GiB and what memtables, log and compactions may need")                                         \
    X(T, U64, wal_bytes_max, "268435456", 1 << 20, 1ull << 40,                                               \
        "size of the write-ahead log at which it is recycled")                                               \
    X(T, U64, log_keep_bytes, "67108864", 0, 1ull << 40,                                                     \
        "log kept for routers that were away for a moment, all shards together; who lacks more gets a "      \
        "snapshot")                                                                                          \
    X(T, U64, write_buffer_bytes, "67108864", 1 << 20, 1ull << 34, "one memtable")                           \
    X(T, U64, compaction_bytes_max, "1073741824", 1 << 20, 1ull << 40, "largest compaction")                 \
    X(T, BOOL, allow_volatile, "false", 0, 1,                                                                \
        "accept a data directory in memory (tmpfs), which a power cut empties")

/* What replicas decide by. A new cluster takes them from the file of its first meta leader; from then on the
 * cluster has them (router/policy.h) and the files count for nothing. */
#define WP_CONFIG_CLUSTER_LIMITS(X, T)                                                                       \
    X(T, U64, mailbox_messages_max, "10000", 1, 10000000, "messages that wait for a user")                   \
    X(T, U64, mailbox_bytes_max, "67108864", 1 << 16, 1ull << 40, "bytes that wait for a user")              \
    X(T, U64, body_bytes_max, "1048576", 1, 1572864, "body of one message")                                  \
    X(T, U64, ttl_default_s, "604800", 1, 31536000, "time to live of a message that names none")             \
    X(T, U64, ttl_max_s, "2592000", 1, 31536000, "longest time to live that a sender may ask for")           \
    X(T, U64, seen_ids_max, "1000000", 1000, 100000000, "message ids kept per shard to recognise repeats")   \
    X(T, U64, stat_per_minute_max, "60", 0, 1000000, "STAT messages a user may send per minute; 0 = no limit")

#define WP_CONFIG_ROUTER_LIMITS(X, T)                                                                        \
    WP_CONFIG_CLUSTER_LIMITS(X, T)                                                                           \
    X(T, U64, delivery_timeout_ms, "30000", 100, 3600000,                                                    \
        "a delivery unacknowledged for so long ends the connection")                                         \
    X(T, U64, body_cache_bytes, "67108864", 0, 1ull << 40, "recent bodies kept in memory, per reactor")

#define WP_CONFIG_ALLOW(X, T)                                                                                \
    X(T, TEXT, node, NULL, 1, 64, "name of the peer")                                                        \
    X(T, TEXT, role, NULL, 1, 16, "gateway or router")                                                       \
    X(T, TEXT, key, NULL, 40, 40, "its public CURVE key (Z85)")

/* --- wardpost-gateway --- */

#define WP_CONFIG_GATEWAY_ROOT(X, T)                                                                         \
    X(T, TEXT, node, NULL, 1, 64, "name of this gateway, as in the routers' allow-list")                     \
    X(T, TEXT, log_level, "info", 1, 5, "lowest level logged: debug, info, warn, error")                     \
    X(T, TEXT, cluster_id, NULL, 16, 16, "identifier of the cluster: 16 hex digits")                         \
    X(T, TEXT, fabric_key_file, NULL, 1, 4000, "CURVE key pair of this gateway, mode 0600")

#define WP_CONFIG_GATEWAY_LISTEN(X, T)                                                                       \
    X(T, TEXT, mqtt, "", 0, 64, "HOST:PORT of MQTT without TLS; loopback only; empty = off")                 \
    X(T, TEXT, mqtts, "", 0, 64, "HOST:PORT of MQTT over TLS 1.3; empty = off")                              \
    X(T, TEXT, ws, "", 0, 64, "HOST:PORT of MQTT over WebSocket without TLS; loopback only; empty = off")    \
    X(T, TEXT, wss, "", 0, 64, "HOST:PORT of MQTT over WebSocket and TLS 1.3; empty = off")

#define WP_CONFIG_GATEWAY_TLS(X, T)                                                                          \
    X(T, TEXT, certificate, "", 0, 4000, "certificate chain (PEM), needed by mqtts and wss")                 \
    X(T, TEXT, key, "", 0, 4000, "private key (PEM), needed by mqtts and wss")

#define WP_CONFIG_GATEWAY_LIMITS(X, T)                                                                       \
    X(T, U32, connections_max, "20000", 1, 1000000, "open device connections")                               \
    X(T, U32, connections_per_address_max, "0", 0, 1000000,                                                  \
        "open connections from one address; 0 = no limit")                                                   \
    X(T, U32, connect_timeout_ms, "5000", 100, 600000, "for TLS, WebSocket and CONNECT together")            \
    X(T, U32, receive_maximum, "64", 1, 65535, "publishes that a device may have unanswered")                \
    X(T, U32, window, "64", 1, 1024, "deliveries that a device may leave unacknowledged")                    \
    X(T, U32, body_bytes_max, "1048576", 1, 1572864,                                                         \
        "body of one message; the announced Maximum Packet Size is 64 KiB more")                             \
    X(T, U32, keep_alive_max_s, "0", 0, 65535, "longest keep-alive; 0 = what the device asks for")           \
    X(T, U32, publish_per_second_max, "0", 0, 1000000, "publishes of one device per second; 0 = no limit")

#define WP_CONFIG_ROUTERS(X, T)                                                                              \
    X(T, TEXT, node, NULL, 1, 64, "name of the router")                                                      \
    X(T, TEXT, endpoint, NULL, 1, 128, "tcp://HOST:PORT of its first reactor")                               \
    X(T, TEXT, key, NULL, 40, 40, "its public CURVE key (Z85)")

#endif
