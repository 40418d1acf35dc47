/* The playground file: which processes make up a cluster on this machine and where they listen. One reader
 * for wardpostctl, wardpost-bench and tests; wardpostctl alone writes it. DIR/playground.json, version 1.
 * Plain data, no I/O but the file. Any thread. */
#ifndef WP_CLIENT_PLAYGROUND_H
#define WP_CLIENT_PLAYGROUND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WP_PLAYGROUND_ROUTERS_MAX 9u
#define WP_PLAYGROUND_GATEWAYS_MAX 16u
#define WP_PLAYGROUND_NODES_MAX (WP_PLAYGROUND_ROUTERS_MAX + WP_PLAYGROUND_GATEWAYS_MAX)
#define WP_PLAYGROUND_PATH_SIZE 512u /* longest absolute path kept, with its end mark */

enum wp_playground_kind { WP_PLAYGROUND_ROUTER, WP_PLAYGROUND_GATEWAY };

/* Ports on 127.0.0.1, in the order of the JSON keys. A router uses fabric (the first of `reactors` in a row)
 * and management, a gateway the rest and management. */
enum wp_playground_port {
    WP_PLAYGROUND_FABRIC,
    WP_PLAYGROUND_MQTT,
    WP_PLAYGROUND_MQTTS,
    WP_PLAYGROUND_WS,
    WP_PLAYGROUND_WSS,
    WP_PLAYGROUND_MANAGEMENT,
    WP_PLAYGROUND_PORT_COUNT
};

/* Who a process is. A number alone may have been given to another process since: it is the same one only when
 * boot and start time agree. */
struct wp_playground_process {
    pid_t pid;            /* 0 = not started, or taken down */
    uint64_t start_ticks; /* field 22 of /proc/PID/stat */
    char boot[40];        /* /proc/sys/kernel/random/boot_id */
};

struct wp_playground_node {
    enum wp_playground_kind kind;
    char id[65];  /* "router-1" */
    bool joined;  /* a router that was added to a cluster that was there */
    bool removed; /* a router that is no part of the cluster any more: not started, not asked */
    uint16_t ports[WP_PLAYGROUND_PORT_COUNT];
    struct wp_playground_process process;
};

struct wp_playground {
    char dir[WP_PLAYGROUND_PATH_SIZE]; /* absolute */
    char cluster_id[17];               /* 16 hex digits */
    char file_system[32];
    unsigned shards;
    unsigned reactors;
    bool allow_volatile;
    unsigned node_count; /* routers first */
    struct wp_playground_node nodes[WP_PLAYGROUND_NODES_MAX];
};

/* Reads DIR/playground.json. WP_E_NOT_FOUND: no playground there. WP_E_CONFIG: not readable as one. WP_E_IO.
 * A sentence in ret_text. `ret_playground` is large: keep it off small stacks. */
int wp_playground_load(
    const char *dir, struct wp_playground *ret_playground, char *ret_text, size_t text_size);

/* Writes the file whole or not at all (temporary file, fsync, rename). WP_E_IO with a sentence. */
int wp_playground_save(const struct wp_playground *playground, char *ret_text, size_t text_size);

/* The JSON object that `playground up` prints and the file holds: routers[] {id,pid,fabric,management,...},
 * gateways[] {id,pid,mqtt,mqtts,ws,wss,management,...}, ca. New reference, NULL when out of memory. pid is
 * null when down. */
json_t *wp_playground_json(const struct wp_playground *playground);

/* The node called `id`, or NULL. */
struct wp_playground_node *wp_playground_find(struct wp_playground *playground, const char *id);

/* "127.0.0.1:PORT" into `ret_text`. */
void wp_playground_endpoint(
    const struct wp_playground_node *node, enum wp_playground_port port, char ret_text[32]);

/* Path of `name` in the node's folder (NULL: the folder itself); WP_E_TOO_LARGE when it does not fit. */
int wp_playground_path(const struct wp_playground *playground, const struct wp_playground_node *node,
    const char *name, char *ret_path, size_t path_size);

/* Reads who runs under `pid` now. WP_E_NOT_FOUND: nobody, or a process that has ended and only waits to be
 * collected. */
int wp_playground_process_read(pid_t pid, struct wp_playground_process *ret_process);

/* Whether the process that was started is still there. */
bool wp_playground_process_alive(const struct wp_playground_process *process);

#endif
