/* Why this file exists: one HTTP client for the operator's commands, so that libcurl is spoken to in one
 * place. */
#include "client/operator.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define ANSWER_SIZE_MAX ((size_t)64 << 20)
#define CONNECT_TIMEOUT_MS 2000L
#define CALL_TIMEOUT_MS 60000L

struct wp_operator {
    CURL *curl;
    unsigned socket_count;
    char sockets[WP_PLAYGROUND_ROUTERS_MAX][WP_PLAYGROUND_PATH_SIZE];
};

static int operator_create(struct wp_operator **ret_operator)
{
    struct wp_operator *op = calloc(1, sizeof *op);
    if (!op || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(op);
        return WP_E_NOMEM;
    }
    op->curl = curl_easy_init();
    if (!op->curl) {
        wp_operator_destroy(&op);
        return WP_E_NOMEM;
    }
    *ret_operator = op;
    return WP_OK;
}

int wp_operator_create_at(const char *path, struct wp_operator **ret_operator)
{
    struct wp_operator *op;
    if (strlen(path) >= sizeof op->sockets[0]) {
        return WP_E_TOO_LARGE;
    }
    int error = operator_create(&op);
    if (!error) {
        memcpy(op->sockets[op->socket_count++], path, strlen(path) + 1);
        *ret_operator = op;
    }
    return error;
}

int wp_operator_create(const struct wp_playground *playground, struct wp_operator **ret_operator)
{
    struct wp_operator *op;
    int error = operator_create(&op);
    if (error) {
        return error;
    }
    for (unsigned i = 0; i < playground->node_count; i++) {
        const struct wp_playground_node *node = &playground->nodes[i];
        if (node->kind == WP_PLAYGROUND_ROUTER &&
            wp_playground_path(playground, node, "admin.sock", op->sockets[op->socket_count],
                sizeof op->sockets[0]) == WP_OK) {
            op->socket_count++;
        }
    }
    *ret_operator = op;
    return WP_OK;
}

void wp_operator_destroy(struct wp_operator **op)
{
    if (!*op) {
        return;
    }
    if ((*op)->curl) {
        curl_easy_cleanup((*op)->curl);
    }
    curl_global_cleanup();
    free(*op);
    *op = NULL;
}

static size_t take(char *data, size_t unit, size_t count, void *context)
{
    struct wp_buffer *out = context;
    size_t size = unit * count;
    if (out->size + size > ANSWER_SIZE_MAX || wp_buffer_append(out, data, size) != WP_OK) {
        return 0;
    }
    return size;
}

/* Options that every request shares. Proxies are for the world outside; everything here is on this machine.
 */
static void prepare(CURL *curl, long timeout_ms, struct wp_buffer *out)
{
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(
        curl, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
}

static int perform(CURL *curl, long *ret_status)
{
    switch (curl_easy_perform(curl)) {
    case CURLE_OK:
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
        return WP_OK;
    case CURLE_OPERATION_TIMEDOUT:
        return WP_E_TIMEOUT;
    case CURLE_WRITE_ERROR:
        return WP_E_TOO_LARGE;
    case CURLE_OUT_OF_MEMORY:
        return WP_E_NOMEM;
    case CURLE_COULDNT_CONNECT:
        return WP_E_CLOSED;
    default: /* cut off after the connection stood: the request may have been carried out */
        return WP_E_UNAVAILABLE;
    }
}

static const char *perform_text(int error)
{
    switch (error) {
    case WP_E_CLOSED:
        return "no router answers: see wardpostctl playground status, or systemctl status wardpost-router";
    case WP_E_TIMEOUT:
        return "the router did not answer in time: whether the change was made is unknown";
    case WP_E_UNAVAILABLE:
        return "the router went away before it answered: whether the change was made is unknown";
    default:
        return wp_error_text(error);
    }
}

int wp_operator_page(struct wp_operator *op, const char *address, const char *path, long timeout_ms,
    struct wp_buffer *out, long *ret_status)
{
    char url[512];
    if ((size_t)snprintf(url, sizeof url, "http://%s%s", address, path) >= sizeof url) {
        return WP_E_TOO_LARGE;
    }
    prepare(op->curl, timeout_ms, out);
    curl_easy_setopt(op->curl, CURLOPT_URL, url);
    return perform(op->curl, ret_status);
}

static int status_error(long status)
{
    switch (status) {
    case 400:
        return WP_E_INVALID;
    case 404:
        return WP_E_NOT_FOUND;
    case 409:
        return WP_E_EXISTS;
    case 503:
        return WP_E_UNAVAILABLE;
    default:
        return WP_E_DENIED;
    }
}

/* Turns status and body of an answer into what wp_operator_call says. */
static int answer_judge(
    long status, const struct wp_buffer *body, json_t **ret_answer, char *ret_text, size_t text_size)
{
    json_error_t where;
    json_t *answer = body->size ? json_loadb((const char *)body->data, body->size, 0, &where) : json_null();
    if (status < 200 || status > 299) {
        const char *message = json_string_value(json_object_get(answer, "message"));
        if (message) {
            snprintf(ret_text, text_size, "%s", message);
        } else {
            snprintf(ret_text, text_size, "the router answered with status %ld", status);
        }
        json_decref(answer);
        return status_error(status);
    }
    if (!answer) {
        snprintf(ret_text, text_size, "the router's answer is not JSON: %s", where.text);
        return WP_E_MALFORMED;
    }
    if (ret_answer) {
        *ret_answer = answer;
    } else {
        json_decref(answer);
    }
    return WP_OK;
}

/* One request to one router; only WP_E_CLOSED lets the caller try the next. */
static int call_one(struct wp_operator *op, const char *socket_path, const char *method, const char *url,
    const char *body, struct wp_buffer *out, long *ret_status)
{
    prepare(op->curl, CALL_TIMEOUT_MS, out);
    curl_easy_setopt(op->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(op->curl, CURLOPT_URL, url);
    curl_easy_setopt(op->curl, CURLOPT_CUSTOMREQUEST, method);
    struct curl_slist *headers = NULL;
    if (body) {
        headers = curl_slist_append(headers, "Content-Type: application/json");
        headers = curl_slist_append(headers, "Expect:"); /* no round trip for large bodies */
        curl_easy_setopt(op->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(op->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(op->curl, CURLOPT_HTTPHEADER, headers);
    }
    int error = perform(op->curl, ret_status);
    curl_slist_free_all(headers);
    return error;
}

int wp_operator_call(struct wp_operator *op, const char *method, const char *path, const json_t *body,
    json_t **ret_answer, char *ret_text, size_t text_size)
{
    char url[1024];
    if ((size_t)snprintf(url, sizeof url, "http://router%s", path) >= sizeof url) {
        snprintf(ret_text, text_size, "the request is too long");
        return WP_E_INVALID;
    }
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (body && !text) {
        snprintf(ret_text, text_size, "out of memory");
        return WP_E_NOMEM;
    }
    struct wp_buffer out = WP_BUFFER_INIT;
    long status = 0;
    int error = WP_E_CLOSED;
    for (unsigned i = 0; i < op->socket_count && error == WP_E_CLOSED; i++) {
        error = call_one(op, op->sockets[i], method, url, text, &out, &status);
    }
    free(text);
    if (error == WP_OK) {
        error = answer_judge(status, &out, ret_answer, ret_text, text_size);
    } else {
        snprintf(ret_text, text_size, "%s", perform_text(error));
    }
    wp_buffer_free(&out);
    return error;
}
