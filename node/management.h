/* The management endpoint: HTTP on a loopback address (/livez, /readyz, /metrics) and, for the operator's
 * commands, the same server on a unix socket (mode 0600). Requests run on the server's own threads. */
#ifndef WP_NODE_MANAGEMENT_H
#define WP_NODE_MANAGEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct wp_management;

struct wp_management_request {
    const char *method;   /* "GET", "POST", "DELETE" */
    const char *path;     /* "/v1/users" */
    struct wp_slice body; /* at most 8 MiB */
    void *arguments;      /* for wp_management_argument */
};

/* Value of a query argument ("?after=NAME"), percent-decoded; NULL without it. Lives as long as the request.
 */
const char *wp_management_argument(const struct wp_management_request *request, const char *name);

struct wp_management_config {
    const char *program;     /* "router" or "gateway": which metrics to render */
    const char *address;     /* "127.0.0.1:7402"; NULL = none */
    const char *socket_path; /* NULL = none; an old socket file of a dead process is replaced */
    void *context;
    bool (*ready)(void *context, char *ret_why, size_t why_size); /* /readyz: 200 or 503 with the reason */
    /* Anything under /v1/, unix socket only. Answers an HTTP status and a JSON body appended to `out`. Called
     * on a server thread; may block up to a few seconds. NULL = 404. */
    int (*handle)(void *context, const struct wp_management_request *request, struct wp_buffer *out);
    void (*before_metrics)(void *context); /* refresh gauges; NULL allowed */
};

/* WP_E_BUSY: address in use; WP_E_CONFIG: bad or non-loopback address; text names it. */
int wp_management_create(const struct wp_management_config *config, struct wp_management **ret_management,
    char *ret_text, size_t text_size);
/* "127.0.0.1:PORT" really bound (port 0 in the config picks one). */
const char *wp_management_address(const struct wp_management *management);
void wp_management_destroy(struct wp_management **management);

#endif
