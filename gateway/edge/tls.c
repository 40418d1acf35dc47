/* OpenSSL behind a BIO of our own: it reads from the bytes at hand and writes into the caller's buffer, so an
 * idle connection holds no buffers (SSL_MODE_RELEASE_BUFFERS frees OpenSSL's, and a memory BIO would keep its
 * high-water mark). */
#include "gateway/edge/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define READ_STEP 16384u /* one TLS record */
#define TICKET_KEYS_SIZE 80u

struct wp_tls_context {
    SSL_CTX *ssl;
};

/* One for the process and never freed: connections outlive the context that they began with. */
static BIO_METHOD *bio_method;

struct wp_tls {
    SSL *ssl;
    struct wp_slice input;    /* what the BIO reads */
    struct wp_buffer *output; /* where the BIO writes; set during a call */
    bool failed;
};

static int bio_write(BIO *bio, const char *data, size_t size, size_t *ret_size)
{
    struct wp_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->output || wp_buffer_append(tls->output, data, size) != WP_OK) {
        return 0;
    }
    *ret_size = size;
    return 1;
}

static int bio_read(BIO *bio, char *data, size_t size, size_t *ret_size)
{
    struct wp_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->input.size == 0) {
        BIO_set_retry_read(bio);
        *ret_size = 0;
        return 0;
    }
    size_t taken = size < tls->input.size ? size : tls->input.size;
    memcpy(data, tls->input.data, taken);
    tls->input = wp_slice(tls->input.data + taken, tls->input.size - taken);
    *ret_size = taken;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int error_text(const char *what, const char *subject, char *ret_text, size_t text_size)
{
    char reason[160];
    unsigned long code = ERR_get_error();
    ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    snprintf(ret_text, text_size, "%s \"%s\"%s%s", what, subject, code ? ": " : "", code ? reason : "");
    return WP_E_CONFIG;
}

static int policy_set(SSL_CTX *ssl)
{
    static const unsigned char session_context[] = "wardpost";
    SSL_CTX_set_mode(
        ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(ssl, 0);
    SSL_CTX_set_num_tickets(ssl, 1);
    /* The cache of OpenSSL would grow with each device; tickets carry the session instead. */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set1_groups_list(ssl, "X25519:P-256") == 1 && SSL_CTX_set_max_early_data(ssl, 0) == 1 &&
           SSL_CTX_set_session_id_context(ssl, session_context, sizeof session_context - 1) == 1;
}

static int tickets_take_over(SSL_CTX *ssl, SSL_CTX *previous)
{
    unsigned char keys[TICKET_KEYS_SIZE];
    return SSL_CTX_get_tlsext_ticket_keys(previous, keys, sizeof keys) == 1 &&
           SSL_CTX_set_tlsext_ticket_keys(ssl, keys, sizeof keys) == 1;
}

static bool bio_method_make(void)
{
    if (!bio_method) {
        bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wardpost edge");
    }
    return bio_method && BIO_meth_set_write_ex(bio_method, bio_write) == 1 &&
           BIO_meth_set_read_ex(bio_method, bio_read) == 1 && BIO_meth_set_ctrl(bio_method, bio_control) == 1;
}

int wp_tls_context_create(const char *certificate, const char *key, const struct wp_tls_context *previous,
    struct wp_tls_context **ret_context, char *ret_text, size_t text_size)
{
    struct wp_tls_context *context = calloc(1, sizeof *context);
    int error = WP_OK;
    ERR_clear_error();
    if (context) {
        context->ssl = SSL_CTX_new(TLS_server_method());
    }
    if (!context || !context->ssl || !bio_method_make()) {
        snprintf(ret_text, text_size, "out of memory for TLS");
        error = WP_E_NOMEM;
    } else if (!policy_set(context->ssl)) {
        error = error_text("this OpenSSL cannot do", "TLS 1.3 with X25519 and P-256", ret_text, text_size);
    } else if (SSL_CTX_use_certificate_chain_file(context->ssl, certificate) != 1) {
        error = error_text("cannot use the certificate chain", certificate, ret_text, text_size);
    } else if (SSL_CTX_use_PrivateKey_file(context->ssl, key, SSL_FILETYPE_PEM) != 1) {
        error = error_text("cannot use the private key", key, ret_text, text_size);
    } else if (SSL_CTX_check_private_key(context->ssl) != 1) {
        error = error_text("the private key does not belong to the certificate:", key, ret_text, text_size);
    } else if (previous && !tickets_take_over(context->ssl, previous->ssl)) {
        error = error_text("cannot take over", "ticket keys", ret_text, text_size);
    }
    if (error) {
        wp_tls_context_destroy(&context);
        return error;
    }
    *ret_context = context;
    return WP_OK;
}

void wp_tls_context_destroy(struct wp_tls_context **context)
{
    if (!*context) {
        return;
    }
    SSL_CTX_free((*context)->ssl);
    free(*context);
    *context = NULL;
}

int wp_tls_create(struct wp_tls_context *context, struct wp_tls **ret_tls)
{
    struct wp_tls *tls = calloc(1, sizeof *tls);
    BIO *bio = tls ? BIO_new(bio_method) : NULL;
    SSL *ssl = bio ? SSL_new(context->ssl) : NULL;
    if (!ssl) {
        BIO_free(bio);
        free(tls);
        ERR_clear_error();
        return WP_E_NOMEM;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    tls->ssl = ssl;
    *ret_tls = tls;
    return WP_OK;
}

void wp_tls_destroy(struct wp_tls **tls)
{
    if (!*tls) {
        return;
    }
    SSL_free((*tls)->ssl);
    free(*tls);
    *tls = NULL;
}

/* Reads what one record gave. 1: go on; 0: more input is needed; else the error. */
static int record_read(struct wp_tls *tls, struct wp_buffer *plain)
{
    uint8_t *space = wp_buffer_reserve(plain, READ_STEP);
    if (!space) {
        return WP_E_NOMEM;
    }
    ERR_clear_error();
    int got = SSL_read(tls->ssl, space, READ_STEP);
    if (got > 0) {
        plain->size += (size_t)got;
        return 1;
    }
    int reason = SSL_get_error(tls->ssl, got);
    ERR_clear_error();
    if (reason == SSL_ERROR_WANT_READ) {
        return 0;
    }
    if (reason == SSL_ERROR_ZERO_RETURN) {
        return WP_E_CLOSED;
    }
    tls->failed = true;
    return WP_E_MALFORMED;
}

int wp_tls_input(struct wp_tls *tls, struct wp_slice wire_in, struct wp_buffer *plain, struct wp_buffer *wire)
{
    if (tls->failed) {
        return WP_E_MALFORMED;
    }
    tls->input = wire_in;
    tls->output = wire;
    int result;
    do {
        result = record_read(tls, plain);
    } while (result == 1);
    tls->input = wp_slice(NULL, 0);
    tls->output = NULL;
    return result;
}

int wp_tls_output(struct wp_tls *tls, struct wp_slice plain, struct wp_buffer *wire)
{
    if (tls->failed || !SSL_is_init_finished(tls->ssl)) {
        return WP_E_CLOSED;
    }
    tls->output = wire;
    int error = WP_OK;
    while (plain.size > 0) {
        size_t written = 0;
        ERR_clear_error();
        if (SSL_write_ex(tls->ssl, plain.data, plain.size, &written) != 1) {
            ERR_clear_error();
            tls->failed = true;
            error = WP_E_CLOSED;
            break;
        }
        plain = wp_slice(plain.data + written, plain.size - written);
    }
    tls->output = NULL;
    return error;
}

void wp_tls_close(struct wp_tls *tls, struct wp_buffer *wire)
{
    if (tls->failed || !SSL_is_init_finished(tls->ssl)) {
        return;
    }
    tls->output = wire;
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl);
    ERR_clear_error();
    tls->output = NULL;
}
