/* Why this file exists: one HTTP client for the operator's commands, so that libcurl is spoken to in one
 * place. */
#include "client/operator.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"

#define ANSWER_SIZE_MAX ((size_t)64 << 20)
#define CONNECT_TIMEOUT_MS 2000L
#define CALL_TIMEOUT_MS 60000L
#define READ_TIMEOUT_MS 8000L /* a router answers within 5 s, if it answers at all */
#define LEADER_TIMEOUT_MS 5000u
#define LEADER_PAUSE_MS 100u

struct way {
    char name[65];
    char socket[WP_PLAYGROUND_PATH_SIZE];
};

struct wp_operator {
    CURL *curl;
    unsigned way_count;
    struct way ways[WP_PLAYGROUND_ROUTERS_MAX];
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
    if (strlen(path) >= sizeof op->ways[0].socket) {
        return WP_E_TOO_LARGE;
    }
    int error = operator_create(&op);
    if (!error) {
        memcpy(op->ways[op->way_count++].socket, path, strlen(path) + 1);
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
        struct way *way = &op->ways[op->way_count];
        if (node->kind == WP_PLAYGROUND_ROUTER && !node->removed &&
            wp_playground_path(playground, node, "admin.sock", way->socket, sizeof way->socket) == WP_OK) {
            memcpy(way->name, node->id, sizeof way->name);
            op->way_count++;
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
    case 421:
        return WP_E_NOT_LEADER;
    case 503:
        return WP_E_UNAVAILABLE;
    default:
        return WP_E_DENIED;
    }
}

/* One exchange with a router: what was asked, and what came of it. */
struct exchange {
    const char *method;
    bool reads; /* may be sent to another when one does not answer */
    long timeout_ms;
    char url[1024];
    char *body; /* NULL = none */
    char *text; /* the caller's, for a sentence */
    size_t text_size;
    json_t *answer;  /* whatever came, also with a refusal; NULL = none */
    char leader[65]; /* of WP_E_NOT_LEADER: who leads; "" = nobody now */
};

static int exchange_init(struct exchange *exchange, const char *method, const char *path, const json_t *body,
    char *text, size_t size)
{
    bool reads = strcmp(method, "GET") == 0;
    *exchange = (struct exchange){.method = method,
        .reads = reads,
        .timeout_ms = reads ? READ_TIMEOUT_MS : CALL_TIMEOUT_MS,
        .text = text,
        .text_size = size};
    if ((size_t)snprintf(exchange->url, sizeof exchange->url, "http://router%s", path) >=
        sizeof exchange->url) {
        snprintf(text, size, "the request is too long");
        return WP_E_INVALID;
    }
    exchange->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (body && !exchange->body) {
        snprintf(text, size, "out of memory");
        return WP_E_NOMEM;
    }
    return WP_OK;
}

static void exchange_fini(struct exchange *exchange)
{
    free(exchange->body);
    json_decref(exchange->answer);
}

/* Turns status and body of an answer into what wp_operator_call says. */
static int answer_judge(struct exchange *exchange, long status, const struct wp_buffer *body)
{
    json_error_t where;
    json_t *answer = body->size ? json_loadb((const char *)body->data, body->size, 0, &where) : json_null();
    json_decref(exchange->answer);
    exchange->answer = answer;
    if (status < 200 || status > 299) {
        const char *message = json_string_value(json_object_get(answer, "message"));
        const char *leader = json_string_value(json_object_get(answer, "leader"));
        if (message) {
            snprintf(exchange->text, exchange->text_size, "%s", message);
        } else {
            snprintf(exchange->text, exchange->text_size, "the router answered with status %ld", status);
        }
        snprintf(exchange->leader, sizeof exchange->leader, "%s", leader ? leader : "");
        return status_error(status);
    }
    if (!answer) {
        snprintf(exchange->text, exchange->text_size, "the router's answer is not JSON: %s", where.text);
        return WP_E_MALFORMED;
    }
    return WP_OK;
}

static int request_perform(struct wp_operator *op, const struct way *way, const struct exchange *exchange,
    struct wp_buffer *out, long *ret_status)
{
    prepare(op->curl, exchange->timeout_ms, out);
    curl_easy_setopt(op->curl, CURLOPT_UNIX_SOCKET_PATH, way->socket);
    curl_easy_setopt(op->curl, CURLOPT_URL, exchange->url);
    curl_easy_setopt(op->curl, CURLOPT_CUSTOMREQUEST, exchange->method);
    struct curl_slist *headers = NULL;
    if (exchange->body) {
        headers = curl_slist_append(headers, "Content-Type: application/json");
        headers = curl_slist_append(headers, "Expect:"); /* no round trip for large bodies */
        curl_easy_setopt(op->curl, CURLOPT_POSTFIELDS, exchange->body);
        curl_easy_setopt(op->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(exchange->body));
        curl_easy_setopt(op->curl, CURLOPT_HTTPHEADER, headers);
    }
    int error = perform(op->curl, ret_status);
    curl_slist_free_all(headers);
    return error;
}

/* One request to one router, and its answer. */
static int call_one(struct wp_operator *op, const struct way *way, struct exchange *exchange)
{
    struct wp_buffer out = WP_BUFFER_INIT;
    long status = 0;
    int error = request_perform(op, way, exchange, &out, &status);
    if (error) {
        snprintf(exchange->text, exchange->text_size, "%s", perform_text(error));
    } else {
        error = answer_judge(exchange, status, &out);
    }
    wp_buffer_free(&out);
    return error;
}

/* The answer to the caller who wants it. */
static int answer_give(struct exchange *exchange, int error, json_t **ret_answer)
{
    if (!error && ret_answer) {
        *ret_answer = exchange->answer;
        exchange->answer = NULL;
    }
    return error;
}

int wp_operator_call_router(struct wp_operator *op, unsigned router, long timeout_ms, const char *method,
    const char *path, const json_t *body, json_t **ret_answer, char *ret_text, size_t text_size)
{
    struct exchange exchange;
    int error = exchange_init(&exchange, method, path, body, ret_text, text_size);
    exchange.timeout_ms = timeout_ms ? timeout_ms : exchange.timeout_ms;
    error = error ? error : call_one(op, &op->ways[router], &exchange);
    error = answer_give(&exchange, error, ret_answer);
    exchange_fini(&exchange);
    return error;
}

unsigned wp_operator_router_count(const struct wp_operator *op)
{
    return op->way_count;
}

const char *wp_operator_router_name(const struct wp_operator *op, unsigned router)
{
    return op->ways[router].name;
}

/* To the first router that takes it. */
static int call_first(struct wp_operator *op, struct exchange *exchange)
{
    int error = WP_E_CLOSED;
    for (unsigned i = 0; i < op->way_count; i++) {
        error = call_one(op, &op->ways[i], exchange);
        bool next =
            error == WP_E_CLOSED || (exchange->reads && (error == WP_E_TIMEOUT || error == WP_E_UNAVAILABLE));
        if (!next) {
            break;
        }
    }
    return error;
}

static const struct way *way_find(const struct wp_operator *op, const char *name)
{
    for (unsigned i = 0; i < op->way_count; i++) {
        if (name[0] && strcmp(op->ways[i].name, name) == 0) {
            return &op->ways[i];
        }
    }
    return NULL;
}

int wp_operator_call(struct wp_operator *op, const char *method, const char *path, const json_t *body,
    json_t **ret_answer, char *ret_text, size_t text_size)
{
    struct exchange exchange;
    int error = exchange_init(&exchange, method, path, body, ret_text, text_size);
    error = error ? error : call_first(op, &exchange);
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)LEADER_TIMEOUT_MS * 1000;
    /* A leader that is unknown here, or that just went, is found by asking again. */
    while (error == WP_E_NOT_LEADER && wp_clock_mono_us() < end_us) {
        const struct way *leader = way_find(op, exchange.leader);
        if (exchange.leader[0] && !leader) {
            break;
        }
        error = leader ? call_one(op, leader, &exchange) : WP_E_NOT_LEADER;
        if (error == WP_E_NOT_LEADER || error == WP_E_CLOSED) {
            nanosleep(&(struct timespec){.tv_nsec = LEADER_PAUSE_MS * 1000000L}, NULL);
            error = call_first(op, &exchange);
        }
    }
    error = answer_give(&exchange, error, ret_answer);
    exchange_fini(&exchange);
    return error;
}
