/* Why: the same connection code for `wardpost`, the bench and later the library's shells.
 *
 * Invariants:
 *   1. `closed` is called exactly once, from the close callback of the TCP handle, never from inside a call of ours.
 *   2. Plain bytes reach TLS only in wp_stream_write and in order; while the handshake runs they wait in `early`. */
#include "client/stream.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define READ_SIZE (64u * 1024)
#define WHY_SIZE 200u

struct wp_tls_client {
    SSL_CTX *context;
};

struct wp_stream {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_getaddrinfo_t lookup;
    struct wp_stream_callbacks callbacks;
    SSL *ssl;
    BIO *from_network;
    BIO *to_network;
    struct wp_buffer early; /* plain bytes written before the handshake was done */
    size_t unwritten;
    int ready;
    int closing;            /* 1: when everything is written; 2: uv_close was called; 3: closed, lookup open */
    int looking_up;         /* the name lookup has not come back: the stream must outlive it */
    char why[WHY_SIZE];
};

/* Between read_alloc and read_done nothing else runs on the loop, so that all streams of a thread share it. */
static _Thread_local uint8_t read_buffer[READ_SIZE];

struct write_job {
    uv_write_t request;
    struct wp_stream *stream;
    size_t size;
    uint8_t *data;
};

int wp_tls_client_create(const char *ca_path, struct wp_tls_client **ret_tls, char *ret_text, size_t text_size)
{
    struct wp_tls_client *tls = calloc(1, sizeof *tls);
    if (!tls) {
        return WP_E_NOMEM;
    }
    tls->context = SSL_CTX_new(TLS_client_method());
    int loaded = tls->context &&
        (ca_path ? SSL_CTX_load_verify_locations(tls->context, ca_path, NULL) : SSL_CTX_set_default_verify_paths(tls->context));
    if (!loaded) {
        snprintf(ret_text, text_size, "cannot load the trusted certificate \"%s\"", ca_path ? ca_path : "of the system");
        wp_tls_client_destroy(&tls);
        return WP_E_CONFIG;
    }
    SSL_CTX_set_min_proto_version(tls->context, TLS1_3_VERSION);
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    *ret_tls = tls;
    return WP_OK;
}

void wp_tls_client_destroy(struct wp_tls_client **tls)
{
    struct wp_tls_client *taken = *tls;
    *tls = NULL;
    if (taken) {
        SSL_CTX_free(taken->context);
        free(taken);
    }
}

static void stream_free(struct wp_stream *stream)
{
    stream->callbacks.closed(stream->callbacks.context, stream->why);
    SSL_free(stream->ssl);
    wp_buffer_free(&stream->early);
    free(stream);
}

static void tcp_closed(uv_handle_t *handle)
{
    struct wp_stream *stream = handle->data;
    if (stream->looking_up) {
        stream->closing = 3; /* lookup_done frees it */
        return;
    }
    stream_free(stream);
}

static void stream_end(struct wp_stream *stream, const char *why)
{
    if (stream->closing >= 2) {
        return;
    }
    if (stream->why[0] == '\0') {
        snprintf(stream->why, sizeof stream->why, "%s", why);
    }
    stream->closing = 2;
    uv_close((uv_handle_t *)&stream->tcp, tcp_closed);
}

static void write_done(uv_write_t *request, int status)
{
    struct write_job *job = request->data;
    struct wp_stream *stream = job->stream;
    stream->unwritten -= job->size;
    free(job->data);
    free(job);
    if (status < 0) {
        stream_end(stream, uv_strerror(status));
    } else if (stream->closing == 1 && stream->unwritten == 0) {
        stream_end(stream, "closed");
    }
}

/* Takes `data`. Tries at once; what the kernel does not take now goes in a request. */
static int raw_write(struct wp_stream *stream, uint8_t *data, size_t size)
{
    size_t done = 0;
    if (stream->unwritten == 0) {
        uv_buf_t now = uv_buf_init((char *)data, (unsigned)size);
        int count = uv_try_write((uv_stream_t *)&stream->tcp, &now, 1);
        done = count > 0 ? (size_t)count : 0;
    }
    if (done == size) {
        free(data);
        return WP_OK;
    }
    struct write_job *job = malloc(sizeof *job);
    if (!job) {
        free(data);
        return WP_E_NOMEM;
    }
    *job = (struct write_job){.stream = stream, .size = size - done, .data = data};
    job->request.data = job;
    uv_buf_t rest = uv_buf_init((char *)data + done, (unsigned)(size - done));
    int status = uv_write(&job->request, (uv_stream_t *)&stream->tcp, &rest, 1, write_done);
    if (status < 0) {
        free(data);
        free(job);
        stream_end(stream, uv_strerror(status));
        return WP_E_CLOSED;
    }
    stream->unwritten += size - done;
    return WP_OK;
}

static int tls_flush(struct wp_stream *stream)
{
    size_t size = BIO_ctrl_pending(stream->to_network);
    if (size == 0) {
        return WP_OK;
    }
    uint8_t *data = malloc(size);
    if (!data) {
        return WP_E_NOMEM;
    }
    BIO_read(stream->to_network, data, (int)size);
    return raw_write(stream, data, size);
}

static void tls_fail(struct wp_stream *stream)
{
    long verified = SSL_get_verify_result(stream->ssl);
    char text[WHY_SIZE];
    if (verified != X509_V_OK) {
        snprintf(text, sizeof text, "the gateway's certificate is not trusted: %s", X509_verify_cert_error_string(verified));
    } else {
        char reason[120];
        ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
        snprintf(text, sizeof text, "TLS failed: %s", reason);
    }
    ERR_clear_error();
    stream_end(stream, text);
}

static int tls_write(struct wp_stream *stream, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        size_t count = 0;
        if (SSL_write_ex(stream->ssl, data + done, size - done, &count) != 1) {
            tls_fail(stream);
            return WP_E_CLOSED;
        }
        done += count;
    }
    return tls_flush(stream);
}

static void stream_ready(struct wp_stream *stream)
{
    stream->ready = 1;
    stream->callbacks.ready(stream->callbacks.context);
    if (stream->early.size > 0 && stream->closing < 2) {
        tls_write(stream, stream->early.data, stream->early.size);
    }
    wp_buffer_free(&stream->early);
}

static void tls_advance(struct wp_stream *stream)
{
    if (!SSL_is_init_finished(stream->ssl)) {
        int result = SSL_do_handshake(stream->ssl);
        int reason = SSL_get_error(stream->ssl, result);
        if (result != 1 && reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) {
            tls_flush(stream);
            tls_fail(stream);
            return;
        }
        tls_flush(stream);
        if (result != 1) {
            return;
        }
        stream_ready(stream);
    }
    while (stream->closing < 2) {
        uint8_t plain[16384];
        size_t count = 0;
        if (SSL_read_ex(stream->ssl, plain, sizeof plain, &count) == 1) {
            stream->callbacks.data(stream->callbacks.context, wp_slice(plain, count));
            continue;
        }
        int reason = SSL_get_error(stream->ssl, 0);
        if (reason == SSL_ERROR_ZERO_RETURN) {
            stream_end(stream, "closed by the gateway");
        } else if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) {
            tls_fail(stream);
        }
        break;
    }
    if (stream->closing < 2) {
        tls_flush(stream);
    }
}

static void read_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init((char *)read_buffer, sizeof read_buffer);
}

static void read_done(uv_stream_t *handle, ssize_t count, const uv_buf_t *buffer)
{
    struct wp_stream *stream = handle->data;
    if (count < 0) {
        stream_end(stream, count == UV_EOF ? "closed by the gateway" : uv_strerror((int)count));
    } else if (count > 0 && stream->ssl) {
        BIO_write(stream->from_network, buffer->base, (int)count);
        tls_advance(stream);
    } else if (count > 0) {
        stream->callbacks.data(stream->callbacks.context, wp_slice(buffer->base, (size_t)count));
    }
}

static void connect_done(uv_connect_t *request, int status)
{
    struct wp_stream *stream = request->data;
    if (status < 0) {
        stream_end(stream, uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&stream->tcp, 1);
    uv_read_start((uv_stream_t *)&stream->tcp, read_alloc, read_done);
    if (stream->ssl) {
        tls_advance(stream);
    } else {
        stream_ready(stream);
    }
}

static void lookup_done(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct wp_stream *stream = request->data;
    stream->looking_up = 0;
    if (stream->closing >= 2) {
        uv_freeaddrinfo(found);
        if (stream->closing == 3) {
            stream_free(stream);
        }
        return;
    }
    if (status == 0) {
        stream->connect.data = stream;
        status = uv_tcp_connect(&stream->connect, &stream->tcp, found->ai_addr, connect_done);
    }
    uv_freeaddrinfo(found);
    if (status < 0) {
        stream_end(stream, uv_strerror(status));
    }
}

static int tls_prepare(struct wp_stream *stream, struct wp_tls_client *tls, const char *host)
{
    stream->ssl = SSL_new(tls->context);
    stream->from_network = BIO_new(BIO_s_mem());
    stream->to_network = BIO_new(BIO_s_mem());
    if (!stream->ssl || !stream->from_network || !stream->to_network) {
        BIO_free(stream->from_network);
        BIO_free(stream->to_network);
        return WP_E_NOMEM;
    }
    SSL_set_bio(stream->ssl, stream->from_network, stream->to_network);
    SSL_set_connect_state(stream->ssl);
    X509_VERIFY_PARAM *rules = SSL_get0_param(stream->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, host) != 1) {
        ERR_clear_error();
        SSL_set_tlsext_host_name(stream->ssl, host);
        if (SSL_set1_host(stream->ssl, host) != 1) {
            return WP_E_NOMEM;
        }
    }
    return WP_OK;
}

int wp_stream_connect(uv_loop_t *loop, const char *host, const char *port, struct wp_tls_client *tls,
    const struct wp_stream_callbacks *callbacks, struct wp_stream **ret_stream)
{
    struct wp_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return WP_E_NOMEM;
    }
    stream->callbacks = *callbacks;
    stream->tcp.data = stream;
    stream->lookup.data = stream;
    if (tls && tls_prepare(stream, tls, host) != WP_OK) {
        SSL_free(stream->ssl);
        free(stream);
        return WP_E_NOMEM;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    if (uv_tcp_init(loop, &stream->tcp) < 0 || uv_getaddrinfo(loop, &stream->lookup, lookup_done, host, port, &hints) < 0) {
        SSL_free(stream->ssl);
        free(stream);
        return WP_E_INVALID;
    }
    stream->looking_up = 1;
    *ret_stream = stream;
    return WP_OK;
}

int wp_stream_write(struct wp_stream *stream, struct wp_buffer *buffer)
{
    if (stream->closing) {
        return WP_E_CLOSED;
    }
    int error = WP_OK;
    if (stream->ssl && !stream->ready) {
        error = wp_buffer_append(&stream->early, buffer->data, buffer->size);
        buffer->size = 0;
        return error;
    }
    if (buffer->size == 0) {
        return WP_OK;
    }
    if (stream->ssl) {
        error = tls_write(stream, buffer->data, buffer->size);
        buffer->size = 0;
        return error;
    }
    if (stream->unwritten == 0) {
        uv_buf_t now = uv_buf_init((char *)buffer->data, (unsigned)buffer->size);
        int count = uv_try_write((uv_stream_t *)&stream->tcp, &now, 1);
        if (count > 0) {
            wp_buffer_consume(buffer, (size_t)count);
        }
    }
    if (buffer->size > 0) {
        uint8_t *data = malloc(buffer->size);
        if (!data) {
            return WP_E_NOMEM;
        }
        memcpy(data, buffer->data, buffer->size);
        error = raw_write(stream, data, buffer->size);
        buffer->size = 0;
    }
    return error;
}

size_t wp_stream_unwritten(const struct wp_stream *stream)
{
    return stream->unwritten;
}

void wp_stream_close(struct wp_stream *stream)
{
    if (stream->closing) {
        return;
    }
    if (stream->ssl && stream->ready) {
        SSL_shutdown(stream->ssl);
        tls_flush(stream);
    }
    stream->closing = 1;
    if (stream->unwritten == 0) {
        stream_end(stream, "closed");
    }
}
