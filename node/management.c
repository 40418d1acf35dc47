/* HTTP for people and scrapers.
 *
 * 1. The TCP address is loopback and serves only reading (health, metrics); commands go through the
 *    unix socket, whose authority is the kernel's word about the peer (SO_PEERCRED): our own user or
 *    root.
 * 2. A body is kept only where a command may come (unix socket, /v1/) and only up to BODY_SIZE_MAX;
 *    more is read and thrown away so that the client gets its answer.
 * 3. Every answer that is not a success is JSON: {"error": slug, "message": sentence}. */
#include "node/management.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/metric.h"
#include "node/management_socket.h"

#define BODY_SIZE_MAX (8u * 1024 * 1024)
#define CONNECTIONS_MAX 64u
#define IDLE_TIMEOUT_S 30u
#define TYPE_JSON "application/json"
#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"

struct wp_management {
    struct wp_management_config config;
    char address[64];
    char socket_path[sizeof((struct sockaddr_un *)0)->sun_path];
    struct MHD_Daemon *tcp;
    struct MHD_Daemon *local;
};

/* One request while its body arrives. */
struct request {
    struct wp_buffer body;
    bool too_large;
    bool no_memory;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
    const char *allow, const void *data, size_t size)
{
    /* MHD_RESPMEM_MUST_COPY only reads what it is given, in spite of its signature. */
    void *bytes = (void *)(uintptr_t)data;
    struct MHD_Response *response = MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_COPY);
    if (!response) {
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (allow) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    }
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_error(
    struct MHD_Connection *connection, unsigned status, int error, const char *message)
{
    json_t *body = json_pack("{s:s, s:s}", "error", wp_error_slug(error), "message", message);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    enum MHD_Result result =
        text ? answer(connection, status, TYPE_JSON,
                   status == MHD_HTTP_METHOD_NOT_ALLOWED ? "GET, HEAD" : NULL, text, strlen(text))
             : MHD_NO;
    free(text);
    json_decref(body);
    return result;
}

static enum MHD_Result live_answer(struct wp_management *management, struct MHD_Connection *connection)
{
    (void)management;
    return answer(connection, MHD_HTTP_OK, TYPE_TEXT, NULL, "alive\n", 6);
}

static enum MHD_Result ready_answer(struct wp_management *management, struct MHD_Connection *connection)
{
    char why[256] = "not ready";
    const struct wp_management_config *config = &management->config;
    if (config->ready && !config->ready(config->context, why, sizeof why)) {
        return answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, WP_E_UNAVAILABLE, why);
    }
    return answer(connection, MHD_HTTP_OK, TYPE_TEXT, NULL, "ready\n", 6);
}

static enum MHD_Result metrics_answer(struct wp_management *management, struct MHD_Connection *connection)
{
    const struct wp_management_config *config = &management->config;
    struct wp_buffer out = WP_BUFFER_INIT;
    if (config->before_metrics) {
        config->before_metrics(config->context);
    }
    int error = wp_metric_render(config->program, &out);
    enum MHD_Result result =
        error ? answer_error(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, error, wp_error_text(error))
              : answer(connection, MHD_HTTP_OK, TYPE_METRICS, NULL, out.data, out.size);
    wp_buffer_free(&out);
    return result;
}

static const struct page {
    const char *path;
    enum MHD_Result (*answer)(struct wp_management *management, struct MHD_Connection *connection);
} pages[] = {{"/livez", live_answer}, {"/readyz", ready_answer}, {"/metrics", metrics_answer}};

/* A request for one of the pages, or for nothing that we have. */
static enum MHD_Result page_answer(
    struct wp_management *management, struct MHD_Connection *connection, const char *path, const char *method)
{
    for (unsigned i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (strcmp(path, pages[i].path) != 0) {
            continue;
        }
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
            return answer_error(
                connection, MHD_HTTP_METHOD_NOT_ALLOWED, WP_E_INVALID, "this page is only read");
        }
        return pages[i].answer(management, connection);
    }
    return answer_error(connection, MHD_HTTP_NOT_FOUND, WP_E_NOT_FOUND, "no such page");
}

static enum MHD_Result command_answer(struct wp_management *management, struct MHD_Connection *connection,
    const char *path, const char *method, const struct request *request)
{
    const struct wp_management_config *config = &management->config;
    if (request->too_large) {
        return answer_error(connection, MHD_HTTP_CONTENT_TOO_LARGE, WP_E_TOO_LARGE, "the body is over 8 MiB");
    }
    if (request->no_memory) {
        return answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, WP_E_NOMEM, wp_error_text(WP_E_NOMEM));
    }
    if (!config->handle) {
        return answer_error(connection, MHD_HTTP_NOT_FOUND, WP_E_NOT_FOUND, "this process takes no commands");
    }
    struct wp_management_request command = {
        method, path, {request->body.data, request->body.size}, connection};
    struct wp_buffer out = WP_BUFFER_INIT;
    int status = config->handle(config->context, &command, &out);
    enum MHD_Result result = answer(connection, (unsigned)status, TYPE_JSON, NULL, out.data, out.size);
    wp_buffer_free(&out);
    return result;
}

/* Whether the process behind a unix connection is of our user or root. */
static bool peer_allowed(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t size = sizeof peer;
    return info && getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void body_take(struct request *request, const char *data, size_t size, bool kept)
{
    if (!kept || request->too_large || request->no_memory) {
        return;
    }
    if (size > BODY_SIZE_MAX - request->body.size) {
        request->too_large = true;
        wp_buffer_free(&request->body);
    } else if (wp_buffer_append(&request->body, data, size) != WP_OK) {
        request->no_memory = true;
        wp_buffer_free(&request->body);
    }
}

/* MHD calls this once at the head of a request, then for each piece of its body, then once at its end. */
static enum MHD_Result request_run(struct wp_management *management, struct MHD_Connection *connection,
    const char *path, const char *method, const char *data, size_t *data_size, void **request_context,
    bool local)
{
    struct request *request = *request_context;
    bool command = local && strncmp(path, "/v1/", 4) == 0;
    if (!request) {
        *request_context = calloc(1, sizeof *request);
        return *request_context ? MHD_YES : MHD_NO;
    }
    if (*data_size > 0) {
        body_take(request, data, *data_size, command);
        *data_size = 0;
        return MHD_YES;
    }
    if (local && !peer_allowed(connection)) {
        return answer_error(connection, MHD_HTTP_FORBIDDEN, WP_E_DENIED,
            "only the user of this process and root may talk to it");
    }
    return command ? command_answer(management, connection, path, method, request)
                   : page_answer(management, connection, path, method);
}

const char *wp_management_argument(const struct wp_management_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->arguments, MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result tcp_run(void *context, struct MHD_Connection *connection, const char *path,
    const char *method, const char *version, const char *data, size_t *data_size, void **request_context)
{
    (void)version;
    return request_run(context, connection, path, method, data, data_size, request_context, false);
}

static enum MHD_Result local_run(void *context, struct MHD_Connection *connection, const char *path,
    const char *method, const char *version, const char *data, size_t *data_size, void **request_context)
{
    (void)version;
    return request_run(context, connection, path, method, data, data_size, request_context, true);
}

static void request_ended(void *context, struct MHD_Connection *connection, void **request_context,
    enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    struct request *request = *request_context;
    if (request) {
        wp_buffer_free(&request->body);
        free(request);
    }
    *request_context = NULL;
}

static int complain(char *ret_text, size_t text_size, int error, const char *what, const char *subject)
{
    snprintf(ret_text, text_size, "management: %s \"%s\"", what, subject);
    return error;
}

static struct MHD_Daemon *daemon_start(
    struct wp_management *management, int fd, MHD_AccessHandlerCallback run)
{
    /* A thread per connection, because a command may wait seconds for the log. */
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL,
        NULL, run, management, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED, request_ended, NULL,
        MHD_OPTION_END);
    if (!daemon) {
        close(fd);
    }
    return daemon;
}

static int management_start(struct wp_management *management, char *ret_text, size_t text_size)
{
    const struct wp_management_config *config = &management->config;
    int fd = -1;
    if (config->address) {
        int error = wp_management_tcp_listen(config->address, &fd, ret_text, text_size);
        if (error) {
            return error;
        }
        wp_management_address_format(fd, management->address, sizeof management->address);
        management->tcp = daemon_start(management, fd, tcp_run);
        if (!management->tcp) {
            return complain(ret_text, text_size, WP_E_NOMEM, "cannot start the server on", config->address);
        }
    }
    if (config->socket_path) {
        int error = wp_management_local_listen(config->socket_path, &fd, ret_text, text_size);
        if (error) {
            return error;
        }
        memcpy(management->socket_path, config->socket_path, strlen(config->socket_path) + 1);
        management->local = daemon_start(management, fd, local_run);
        if (!management->local) {
            return complain(
                ret_text, text_size, WP_E_NOMEM, "cannot start the server on", config->socket_path);
        }
    }
    return WP_OK;
}

int wp_management_create(const struct wp_management_config *config, struct wp_management **ret_management,
    char *ret_text, size_t text_size)
{
    struct wp_management *management = calloc(1, sizeof *management);
    if (!management) {
        return complain(ret_text, text_size, WP_E_NOMEM, "out of memory for", config->program);
    }
    management->config = *config;
    int error = management_start(management, ret_text, text_size);
    if (error) {
        wp_management_destroy(&management);
        return error;
    }
    *ret_management = management;
    return WP_OK;
}

const char *wp_management_address(const struct wp_management *management)
{
    return management->address;
}

void wp_management_destroy(struct wp_management **management)
{
    struct wp_management *taken = *management;
    *management = NULL;
    if (!taken) {
        return;
    }
    if (taken->socket_path[0] != '\0') {
        unlink(taken->socket_path);
    }
    if (taken->tcp) {
        MHD_stop_daemon(taken->tcp);
    }
    if (taken->local) {
        MHD_stop_daemon(taken->local);
    }
    free(taken);
}
