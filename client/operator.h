/* The operator's access to a cluster: JSON over HTTP on a router's admin socket, and the read-only pages
 * (/readyz, /metrics) on a process's loopback address. Blocking; one thread per wp_operator. Answers are at
 * most 64 MiB. */
#ifndef WP_CLIENT_OPERATOR_H
#define WP_CLIENT_OPERATOR_H

#include <jansson.h>
#include <stddef.h>

#include "base/buffer.h"
#include "client/playground.h"

struct wp_operator;

/* For the routers of `playground` (copied) that are part of the cluster. WP_E_NOMEM. */
int wp_operator_create(const struct wp_playground *playground, struct wp_operator **ret_operator);
/* For the one router whose admin socket is `path` (copied), outside of a playground. WP_E_NOMEM,
 * WP_E_TOO_LARGE. */
int wp_operator_create_at(const char *path, struct wp_operator **ret_operator);
void wp_operator_destroy(struct wp_operator **op);

/* Sends `method` `path` with the JSON `body` (borrowed; NULL = none) to a router that can answer it: the
 * first that takes the connection, and from there to the one that it names as leader. While there is no
 * leader, for at most 5 s, again. What only reads (GET) goes on to the next router also when one does not
 * answer in 8 s.
 *
 * WP_OK: status 2xx, the answer in ret_answer (new reference; JSON null when the body is empty). ret_answer
 * may be NULL. Refusals by status: WP_E_INVALID (400), WP_E_NOT_FOUND (404), WP_E_EXISTS (409),
 * WP_E_NOT_LEADER (421; the leader is none of the routers known here), WP_E_UNAVAILABLE (503), WP_E_DENIED
 * (any other). WP_E_CLOSED: no router takes the connection. WP_E_TIMEOUT. WP_E_MALFORMED: not JSON. A
 * sentence in ret_text, the router's own where it gave one. */
int wp_operator_call(struct wp_operator *op, const char *method, const char *path, const json_t *body,
    json_t **ret_answer, char *ret_text, size_t text_size);

unsigned wp_operator_router_count(const struct wp_operator *op);
/* "router-1"; "" for the one of wp_operator_create_at. */
const char *wp_operator_router_name(const struct wp_operator *op, unsigned router);
/* wp_operator_call to this router and no other, once, within `timeout_ms` (0 = as patient as
 * wp_operator_call). */
int wp_operator_call_router(struct wp_operator *op, unsigned router, long timeout_ms, const char *method,
    const char *path, const json_t *body, json_t **ret_answer, char *ret_text, size_t text_size);

/* GET http://ADDRESS PATH (a node's management address) within `timeout_ms`. The body is appended to `out`.
 * WP_OK with the HTTP status in ret_status, whatever it is; WP_E_CLOSED, WP_E_TIMEOUT, WP_E_UNAVAILABLE (cut
 * off). */
int wp_operator_page(struct wp_operator *op, const char *address, const char *path, long timeout_ms,
    struct wp_buffer *out, long *ret_status);

#endif
