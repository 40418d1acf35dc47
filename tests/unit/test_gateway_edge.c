/* The edge over loopback: TLS 1.3, WebSocket upgrades good and bad, clients that drip, lie or go away, and
 * bounded memory over thousands of dropped connections. */
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "gateway/edge/upgrade.h"
#include "tests/unit/gateway_certificate.h"
#include "tests/unit/gateway_rig.h"

/* --- TLS clients
 * ------------------------------------------------------------------------------------------------ */

/* A TLS connection over the socket of a rig_client: `raw` carries the records, `plain` what was decrypted. */
struct tls_client {
    struct rig_client *raw;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    struct wp_buffer plain;
    bool failed;
};

static void tls_pump(struct tls_client *tls)
{
    char bytes[16384];
    int got;
    rig_client_read(tls->raw);
    if (tls->raw->in.size > 0) {
        assert_int_equal(
            BIO_write(tls->in, tls->raw->in.data, (int)tls->raw->in.size), (int)tls->raw->in.size);
        tls->raw->in.size = 0;
    }
    if (!SSL_is_init_finished(tls->ssl)) {
        int result = SSL_do_handshake(tls->ssl);
        tls->failed = tls->failed || (result != 1 && SSL_get_error(tls->ssl, result) != SSL_ERROR_WANT_READ);
    }
    while ((got = SSL_read(tls->ssl, bytes, sizeof bytes)) > 0) {
        assert_int_equal(wp_buffer_append(&tls->plain, bytes, (size_t)got), WP_OK);
    }
    while ((got = BIO_read(tls->out, bytes, sizeof bytes)) > 0) {
        rig_client_write(tls->raw, bytes, (size_t)got);
    }
    ERR_clear_error();
}

static bool tls_settled(struct tls_client *tls)
{
    tls_pump(tls);
    return SSL_is_init_finished(tls->ssl) || tls->failed || tls->raw->closed;
}

static struct tls_client *tls_open(struct rig *rig, enum wp_edge_kind kind, int version, SSL_SESSION *resume)
{
    struct tls_client *tls = calloc(1, sizeof *tls);
    tls->raw = rig_client_open(rig, kind, WP_MQTT_5);
    tls->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(tls->context, version);
    SSL_CTX_set_max_proto_version(tls->context, version);
    tls->ssl = SSL_new(tls->context);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
    if (resume) {
        assert_int_equal(SSL_set_session(tls->ssl, resume), 1);
    }
    RIG_UNTIL(rig, tls_settled(tls));
    return tls;
}

static void tls_close(struct tls_client **tls)
{
    SSL_set_shutdown((*tls)->ssl, SSL_SENT_SHUTDOWN); /* or OpenSSL would call its session not resumable */
    SSL_free((*tls)->ssl);
    SSL_CTX_free((*tls)->context);
    rig_client_close(&(*tls)->raw);
    wp_buffer_free(&(*tls)->plain);
    free(*tls);
    *tls = NULL;
}

static void tls_send(struct tls_client *tls, const void *data, size_t size)
{
    assert_int_equal(SSL_write(tls->ssl, data, (int)size), (int)size);
    tls_pump(tls);
}

static bool tls_has(struct tls_client *tls, size_t size)
{
    tls_pump(tls);
    return tls->plain.size >= size || tls->raw->closed;
}

static void packet_bytes(const struct wp_mqtt_packet *packet, struct wp_buffer *out)
{
    out->size = 0;
    assert_int_equal(wp_mqtt_encode(packet, WP_MQTT_5, out), WP_OK);
}

static void tls_attach(struct tls_client *tls, const char *username)
{
    struct wp_buffer bytes = WP_BUFFER_INIT;
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, username, "secret");
    packet_bytes(&connect, &bytes);
    tls_send(tls, bytes.data, bytes.size);
    RIG_UNTIL(tls->raw->rig, tls_has(tls, 5));
    assert_int_equal(tls->plain.data[0], 0x20);
    assert_int_equal(tls->plain.data[3], 0);
    tls->plain.size = 0;
    wp_buffer_free(&bytes);
}

static void certificate_name(const struct tls_client *tls, char *out, int size)
{
    X509 *certificate = SSL_get1_peer_certificate(tls->ssl);
    assert_non_null(certificate);
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, out, size);
    X509_free(certificate);
}

static void test_tls_publish(void **state)
{
    (void)state;
    static char body[300000];
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    struct tls_client *tls = tls_open(rig, WP_EDGE_MQTTS, TLS1_3_VERSION, NULL);
    assert_false(tls->failed);
    assert_string_equal(SSL_get_version(tls->ssl), "TLSv1.3");
    tls_attach(tls, "anna/phone");
    struct wp_buffer bytes = WP_BUFFER_INIT;
    struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 7, "");
    memset(body, 'x', sizeof body);
    publish.publish.payload = wp_slice(body, sizeof body); /* over many records and reads */
    packet_bytes(&publish, &bytes);
    tls_send(tls, bytes.data, bytes.size);
    RIG_UNTIL(rig, tls_has(tls, 4));
    assert_int_equal(tls->plain.data[0], 0x40);
    assert_int_equal(rig->router.submits[0].body_size, sizeof body);
    wp_buffer_free(&bytes);
    tls_close(&tls);
    rig_destroy(&rig);
}

static void test_tls_12_is_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    struct tls_client *tls = tls_open(rig, WP_EDGE_MQTTS, TLS1_2_VERSION, NULL);
    assert_true(tls->failed);
    rig_client_expect_closed(tls->raw);
    tls_close(&tls);
    rig_destroy(&rig);
}

static void test_tls_needs_x25519_or_p256(void **state)
{
    (void)state;
    static const struct {
        const char *groups;
        bool works;
    } rows[] = {{"X25519", true}, {"P-256", true}, {"P-521", false}};
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    for (unsigned i = 0; i < 3; i++) {
        struct tls_client tls = {.raw = rig_client_open(rig, WP_EDGE_MQTTS, WP_MQTT_5),
            .context = SSL_CTX_new(TLS_client_method())};
        struct tls_client *client = calloc(1, sizeof *client);
        *client = tls;
        client->ssl = SSL_new(client->context);
        assert_int_equal(SSL_set1_groups_list(client->ssl, rows[i].groups), 1);
        client->in = BIO_new(BIO_s_mem());
        client->out = BIO_new(BIO_s_mem());
        SSL_set_bio(client->ssl, client->in, client->out);
        SSL_set_connect_state(client->ssl);
        RIG_UNTIL(rig, tls_settled(client));
        assert_int_equal(SSL_is_init_finished(client->ssl), rows[i].works);
        tls_close(&client);
    }
    rig_destroy(&rig);
}

static void test_ticket_resumes_also_after_a_reload(void **state)
{
    (void)state;
    char text[256];
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    struct tls_client *tls = tls_open(rig, WP_EDGE_MQTTS, TLS1_3_VERSION, NULL);
    tls_attach(tls, "anna/phone"); /* the ticket came with the first bytes */
    SSL_SESSION *ticket = SSL_get1_session(tls->ssl);
    assert_true(SSL_SESSION_is_resumable(ticket));
    assert_int_equal(SSL_SESSION_get_max_early_data(ticket), 0);
    tls_close(&tls);
    for (unsigned i = 0; i < 2; i++) {
        tls = tls_open(rig, WP_EDGE_MQTTS, TLS1_3_VERSION, ticket);
        assert_true(SSL_session_reused(tls->ssl));
        tls_attach(tls, "anna/phone");
        SSL_SESSION_free(ticket);
        ticket = SSL_get1_session(tls->ssl);
        tls_close(&tls);
        assert_int_equal(wp_edge_reload(rig->edge, text, sizeof text), WP_OK);
    }
    SSL_SESSION_free(ticket);
    rig_destroy(&rig);
}

static void test_certificate_reload_keeps_connections(void **state)
{
    (void)state;
    char name[64], text[256] = "";
    static const uint8_t pingreq[] = {0xc0, 0};
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    struct tls_client *old = tls_open(rig, WP_EDGE_MQTTS, TLS1_3_VERSION, NULL);
    tls_attach(old, "anna/phone");
    certificate_name(old, name, sizeof name);
    assert_string_equal(name, "first");
    certificate_make(rig->certificate, rig->key, "second");
    assert_int_equal(wp_edge_reload(rig->edge, text, sizeof text), WP_OK);
    struct tls_client *fresh = tls_open(rig, WP_EDGE_MQTTS, TLS1_3_VERSION, NULL);
    certificate_name(fresh, name, sizeof name);
    assert_string_equal(name, "second");
    tls_send(old, pingreq, 2);
    RIG_UNTIL(rig, tls_has(old, 2));
    assert_int_equal(old->plain.data[0], 0xd0);
    tls_close(&fresh);
    /* A pair that does not work leaves the working one. */
    certificate_make(rig->certificate, "rig-other-key.pem", "third");
    assert_int_equal(wp_edge_reload(rig->edge, text, sizeof text), WP_E_CONFIG);
    assert_non_null(strstr(text, rig->key));
    (void)unlink("rig-other-key.pem");
    fresh = tls_open(rig, WP_EDGE_MQTTS, TLS1_3_VERSION, NULL);
    certificate_name(fresh, name, sizeof name);
    assert_string_equal(name, "second");
    tls_close(&fresh);
    tls_close(&old);
    rig_destroy(&rig);
}

static void test_no_tls_on_a_tls_port(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTTS, WP_MQTT_5);
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    rig_client_send(client, &connect);
    RIG_UNTIL(rig, (rig_client_read(client), client->closed));
    assert_int_equal(rig->router.attach_count, 0);
    rig_client_close(&client);
    rig_destroy(&rig);
}

/* --- WebSocket
 * --------------------------------------------------------------------------------------------------- */

#define UPGRADE_HEAD "GET /mqtt HTTP/1.1\r\nHost: ward.example\r\n"
#define UPGRADE_REST                                                                                         \
    "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: "                           \
    "dGhlIHNhbXBsZSBub25jZQ==\r\n"                                                                           \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\r\n"

static void test_upgrade_requests(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int result;
    } rows[] = {
        {UPGRADE_HEAD UPGRADE_REST, 1},
        {"GET / HTTP/1.1\r\nhost: a\r\nUPGRADE: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: "
         "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            1},
        {"", 0},
        {"GET /mq", 0},
        {UPGRADE_HEAD, 0},
        {UPGRADE_HEAD "Upgrade: websocket\r", 0},
        {"POST /mqtt HTTP/1.1\r\n", 405},
        {"GET /other HTTP/1.1\r\n", 404},
        {"GET /mqtt/../x HTTP/1.1\r\n", 404},
        {"GET /mqtt HTTP/1.0\r\n", 400},
        {"GET  /mqtt HTTP/1.1\r\n", 400},
        {"GET /mqtt HTTP/1.1\n", 400},
        {"\x16\x03\x01\x02", 400},
        {"GET /mqtt HTTP/1.1\r\n" UPGRADE_REST, 400}, /* no host */
        {UPGRADE_HEAD "Host: b\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD " folded: x\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD "bad name: x\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD "no-colon\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD "x: \x01\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD "Content-Length: 0\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD "Transfer-Encoding: chunked\r\n" UPGRADE_REST, 400},
        {UPGRADE_HEAD "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            400},
        {UPGRADE_HEAD
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            426},
        {UPGRADE_HEAD "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: c2hvcnQ=\r\n"
                      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            400},
        {UPGRADE_HEAD
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1\r\n\r\n",
            400},
        {UPGRADE_HEAD
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n",
            400},
    };
    struct wp_upgrade upgrade;
    size_t size;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int result = wp_upgrade_parse(wp_slice(rows[i].request, strlen(rows[i].request)), &upgrade, &size);
        if (result != rows[i].result) {
            print_error("request %zu: %d instead of %d\n", i, result, rows[i].result);
        }
        assert_int_equal(result, rows[i].result);
    }
    /* Each cut of the good one asks for more; bytes behind it are left. */
    const char good[] = UPGRADE_HEAD UPGRADE_REST "\x82";
    for (size_t cut = 0; cut + 2 < sizeof good; cut++) {
        assert_int_equal(wp_upgrade_parse(wp_slice(good, cut), &upgrade, &size), 0);
    }
    assert_int_equal(wp_upgrade_parse(wp_slice(good, sizeof good - 1), &upgrade, &size), 1);
    assert_int_equal(size, sizeof good - 2);
    /* A head without an end. */
    static char endless[WP_UPGRADE_SIZE_MAX + 10];
    memset(endless, 'a', sizeof endless);
    memcpy(endless, UPGRADE_HEAD, sizeof UPGRADE_HEAD - 1);
    assert_int_equal(wp_upgrade_parse(wp_slice(endless, WP_UPGRADE_SIZE_MAX), &upgrade, &size), 0);
    assert_int_equal(wp_upgrade_parse(wp_slice(endless, sizeof endless), &upgrade, &size), 431);
}

/* A masked client frame. */
static void frame_send(struct rig_client *client, uint8_t first, const void *data, size_t size)
{
    uint8_t frame[1024];
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    size_t head = 0;
    frame[head++] = first;
    if (size < 126) {
        frame[head++] = (uint8_t)(0x80 | size);
    } else {
        frame[head++] = 0x80 | 126;
        frame[head++] = (uint8_t)(size >> 8);
        frame[head++] = (uint8_t)size;
    }
    memcpy(frame + head, mask, 4);
    head += 4;
    for (size_t i = 0; i < size; i++) {
        frame[head + i] = ((const uint8_t *)data)[i] ^ mask[i % 4];
    }
    rig_client_write(client, frame, head + size);
}

static bool has(struct rig_client *client, size_t size)
{
    rig_client_read(client);
    return client->in.size >= size || client->closed;
}

static struct rig_client *websocket_open(struct rig *rig)
{
    static const char accept[] =
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"; /* RFC 6455 section 1.3 */
    struct rig_client *client = rig_client_open(rig, WP_EDGE_WS, WP_MQTT_5);
    rig_client_write(client, UPGRADE_HEAD UPGRADE_REST, sizeof(UPGRADE_HEAD UPGRADE_REST) - 1);
    RIG_UNTIL(rig, has(client, 150) && memmem(client->in.data, client->in.size, "\r\n\r\n", 4));
    assert_memory_equal(client->in.data, "HTTP/1.1 101 ", 13);
    assert_non_null(memmem(client->in.data, client->in.size, accept, sizeof accept - 1));
    assert_non_null(memmem(client->in.data, client->in.size, "Sec-WebSocket-Protocol: mqtt\r\n", 30));
    client->in.size = 0;
    return client;
}

static void websocket_attach(struct rig_client *client)
{
    struct wp_buffer bytes = WP_BUFFER_INIT;
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    packet_bytes(&connect, &bytes);
    /* A packet over three frames: fragments of a message and one of its own. */
    frame_send(client, 0x02, bytes.data, 5);
    frame_send(client, 0x80, bytes.data + 5, 5);
    frame_send(client, 0x82, bytes.data + 10, bytes.size - 10);
    RIG_UNTIL(client->rig, has(client, 7));
    assert_int_equal(client->in.data[0], 0x82); /* a binary frame */
    assert_int_equal(client->in.data[2], 0x20); /* with the CONNACK */
    client->in.size = 0;
    wp_buffer_free(&bytes);
}

static void test_websocket_carries_mqtt(void **state)
{
    (void)state;
    static const uint8_t pings[] = {0xc0, 0, 0xc0, 0};
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = websocket_open(rig);
    websocket_attach(client);
    frame_send(client, 0x82, pings, sizeof pings); /* two packets in a frame */
    RIG_UNTIL(rig, has(client, 6));
    assert_memory_equal(client->in.data, ((uint8_t[]){0x82, 4, 0xd0, 0, 0xd0, 0}), 6);
    client->in.size = 0;
    frame_send(client, 0x89, "hi", 2); /* a ping of the WebSocket itself */
    RIG_UNTIL(rig, has(client, 4));
    assert_memory_equal(client->in.data, ((uint8_t[]){0x8a, 2, 'h', 'i'}), 4);
    client->in.size = 0;
    frame_send(client, 0x88, ((uint8_t[]){0x03, 0xe8}), 2);
    RIG_UNTIL(rig, has(client, 4));
    assert_memory_equal(client->in.data, ((uint8_t[]){0x88, 2, 0x03, 0xe8}), 4);
    client->in.size = 0;
    rig_client_expect_closed(client);
    RIG_UNTIL(rig, rig->router.detach_count == 1);
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_websocket_errors_get_close_codes(void **state)
{
    (void)state;
    static const struct {
        uint8_t first;
        bool masked;
        uint16_t code;
    } rows[] = {{0x81, true, 1003}, /* text */
        {0x83, true, 1002},         /* reserved opcode */
        {0x82, false, 1002},        /* not masked */
        {0xc2, true, 1002}};        /* reserved bit */
    struct rig *rig = rig_create(&(struct rig_options){0});
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig_client *client = websocket_open(rig);
        websocket_attach(client);
        if (rows[i].masked) {
            frame_send(client, rows[i].first, "hello", 5);
        } else {
            rig_client_write(client, "\x82\x02hi", 4);
        }
        RIG_UNTIL(rig, (rig_client_read(client), client->closed));
        assert_true(client->in.size >= 4);
        assert_int_equal(client->in.data[0], 0x88);
        assert_int_equal(client->in.data[2] << 8 | client->in.data[3], rows[i].code);
        rig_client_close(&client);
    }
    /* The session's own end closes the WebSocket properly too. */
    struct rig_client *client = websocket_open(rig);
    websocket_attach(client);
    frame_send(client, 0x82, "\xe0\x00", 2);
    RIG_UNTIL(rig, (rig_client_read(client), client->closed));
    assert_memory_equal(client->in.data, ((uint8_t[]){0x88, 2, 0x03, 0xe8}), 4);
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_bad_upgrade_gets_an_answer(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = rig_client_open(rig, WP_EDGE_WS, WP_MQTT_5);
    rig_client_write(client, "GET /chat HTTP/1.1\r\n", 20);
    RIG_UNTIL(rig, (rig_client_read(client), client->closed));
    assert_memory_equal(client->in.data, "HTTP/1.1 404 ", 13);
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_secure_websocket(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.tls = true});
    struct tls_client *tls = tls_open(rig, WP_EDGE_WSS, TLS1_3_VERSION, NULL);
    tls_send(tls, UPGRADE_HEAD UPGRADE_REST, sizeof(UPGRADE_HEAD UPGRADE_REST) - 1);
    RIG_UNTIL(rig, tls_has(tls, 100));
    assert_memory_equal(tls->plain.data, "HTTP/1.1 101 ", 13);
    tls->plain.size = 0;
    /* An unmasked-zero frame: mask 0 leaves the bytes as they are. */
    struct wp_buffer bytes = WP_BUFFER_INIT;
    struct wp_mqtt_packet connect = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    packet_bytes(&connect, &bytes);
    uint8_t head[6] = {0x82, (uint8_t)(0x80 | bytes.size), 0, 0, 0, 0};
    assert_true(bytes.size < 126);
    tls_send(tls, head, sizeof head);
    tls_send(tls, bytes.data, bytes.size);
    RIG_UNTIL(rig, tls_has(tls, 7));
    assert_int_equal(tls->plain.data[2], 0x20);
    wp_buffer_free(&bytes);
    tls_close(&tls);
    rig_destroy(&rig);
}

/* --- clients that do not behave
 * ------------------------------------------------------------------------------------ */

static void test_slow_loris(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.tls = true, .policy.connect_timeout_ms = 300});
    static const enum wp_edge_kind kinds[] = {WP_EDGE_MQTT, WP_EDGE_WS, WP_EDGE_MQTTS, WP_EDGE_WSS};
    struct rig_client *clients[4];
    uint64_t start = rig_now_ms();
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = rig_client_open(rig, kinds[i], WP_MQTT_5);
    }
    bool all_closed = false;
    while (!all_closed) {
        /* A byte now and then keeps nobody alive. */
        for (unsigned i = 0; i < 4; i++) {
            static const uint8_t first_bytes[] = {0x10, 'G', 0x16, 0x16};
            if (rig_now_ms() - start < 20) {
                rig_client_write(clients[i], &first_bytes[i], 1);
            }
            rig_client_read(clients[i]);
        }
        all_closed = clients[0]->closed && clients[1]->closed && clients[2]->closed && clients[3]->closed;
        rig_turn(rig, start, "four slow clients to be closed", __FILE__, __LINE__);
    }
    assert_true(rig_now_ms() - start >= 300);
    assert_true(rig_now_ms() - start < 2000);
    for (unsigned i = 0; i < 4; i++) {
        rig_client_close(&clients[i]);
    }
    rig_destroy(&rig);
}

static void test_packets_one_byte_at_a_time(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    struct wp_buffer bytes = WP_BUFFER_INIT;
    struct wp_mqtt_packet packet = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    packet_bytes(&packet, &bytes);
    for (size_t i = 0; i < bytes.size; i++) {
        rig_client_write(client, bytes.data + i, 1);
    }
    assert_int_equal(rig_client_expect(client, WP_MQTT_CONNACK).connack.code, 0);
    packet = rig_publish_packet("wp/v1/to/berta", 5, "slowly");
    packet_bytes(&packet, &bytes);
    for (size_t i = 0; i < bytes.size; i++) {
        rig_client_write(client, bytes.data + i, 1);
    }
    assert_int_equal(rig_client_expect(client, WP_MQTT_PUBACK).ack.id, 5);
    wp_buffer_free(&bytes);
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_everything_in_one_write(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    struct wp_buffer bytes = WP_BUFFER_INIT;
    struct wp_mqtt_packet packet = rig_connect_packet(WP_MQTT_5, "anna/phone", "secret");
    assert_int_equal(wp_mqtt_encode(&packet, WP_MQTT_5, &bytes), WP_OK);
    for (uint16_t id = 1; id <= 20; id++) {
        packet = rig_publish_packet("wp/v1/to/berta", id, "before the CONNACK");
        assert_int_equal(wp_mqtt_encode(&packet, WP_MQTT_5, &bytes), WP_OK);
    }
    rig_client_write(client, bytes.data, bytes.size);
    assert_int_equal(rig_client_expect(client, WP_MQTT_CONNACK).connack.code, 0);
    for (uint16_t id = 1; id <= 20; id++) {
        assert_int_equal(rig_client_expect(client, WP_MQTT_PUBACK).ack.id, id);
    }
    wp_buffer_free(&bytes);
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_last_words_arrive(void **state)
{
    (void)state;
    /* A packet over the maximum with much of it behind: unread when the end is decided. A close at once would
     * answer that with a reset, which may eat the answer. */
    static uint8_t bytes[200000] = {0x32, 0xff, 0xff, 0xff, 0x7f};
    struct rig *rig = rig_create(&(struct rig_options){0});
    struct rig_client *client = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig_client_write(client, bytes, sizeof bytes);
    assert_int_equal(rig_client_expect(client, WP_MQTT_DISCONNECT).disconnect.code, 0x95);
    rig_client_expect_closed(client);
    assert_false(client->reset);
    rig_client_close(&client);
    rig_destroy(&rig);
}

static void test_limits_of_connections(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){.connections_max = 3});
    struct rig_client *clients[4];
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = rig_client_attach(rig, WP_MQTT_5, i == 0 ? "anna/a" : i == 1 ? "anna/b" : "anna/c");
    }
    clients[3] = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    rig_client_expect_closed(clients[3]);
    rig_client_close(&clients[0]);
    rig_client_close(&clients[3]);
    RIG_UNTIL(rig, wp_edge_connections(rig->edge) == 2);
    clients[0] = rig_client_attach(rig, WP_MQTT_5, "anna/a");
    for (unsigned i = 0; i < 3; i++) {
        rig_client_close(&clients[i]);
    }
    rig_destroy(&rig);
    rig = rig_create(&(struct rig_options){.connections_per_address_max = 2});
    for (unsigned i = 0; i < 2; i++) {
        clients[i] = rig_client_attach(rig, WP_MQTT_5, i == 0 ? "anna/a" : "anna/b");
    }
    clients[2] = rig_client_open(rig, WP_EDGE_MQTT, WP_MQTT_5);
    rig_client_expect_closed(clients[2]);
    for (unsigned i = 0; i < 3; i++) {
        rig_client_close(&clients[i]);
    }
    rig_destroy(&rig);
}

/* Bytes in use by the allocator. */
static size_t heap_bytes(void)
{
    return mallinfo2().uordblks;
}

static void drop_round(struct rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct rig_client *client = rig_client_open(rig, i % 2 ? WP_EDGE_MQTT : WP_EDGE_WS, WP_MQTT_5);
        if (i % 5 == 0) {
            rig_client_write(client, "\x10", 1);
        } else if (i % 5 == 1) {
            rig_client_write(client, "GET /mqtt HTTP/1.1\r\nHost", 24);
        } else if (i % 5 == 2) {
            /* Gone with a reset. */
            struct linger linger = {.l_onoff = 1};
            setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        }
        rig_client_close(&client);
        if (i % 50 == 0) {
            uv_run(&rig->loop, UV_RUN_NOWAIT);
        }
    }
    RIG_UNTIL(rig, wp_edge_connections(rig->edge) == 0);
}

static void test_thousands_of_dropped_connections(void **state)
{
    (void)state;
    struct rig *rig = rig_create(&(struct rig_options){0});
    drop_round(rig, 500); /* fills what is kept on purpose */
    size_t before = heap_bytes();
    uint64_t total = wp_metric_get(WP_M_CONNECTIONS_TOTAL);
    drop_round(rig, 2500);
    assert_true(wp_metric_get(WP_M_CONNECTIONS_TOTAL) - total >=
                2000); /* a reset one may vanish before it is accepted */
    assert_true(heap_bytes() < before + 64 * 1024);
    struct rig_client *client = rig_client_attach(rig, WP_MQTT_5, "anna/phone");
    rig_client_close(&client);
    rig_destroy(&rig);
}

enum { IDLE_COUNT = 50 };

static void idle_round(struct rig *rig, struct rig_client **clients)
{
    for (unsigned i = 0; i < IDLE_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "anna/d%u", i);
        clients[i] = rig_client_attach(rig, WP_MQTT_5, name);
        struct wp_mqtt_packet publish = rig_publish_packet("wp/v1/to/berta", 5, "hello");
        rig_client_send(clients[i], &publish);
        (void)rig_client_expect(clients[i], WP_MQTT_PUBACK);
        wp_buffer_free(&clients[i]->in);
    }
    rig_pass(rig, 450); /* two ticks: memory that is not in use goes back */
}

static void idle_end(struct rig *rig, struct rig_client **clients)
{
    for (unsigned i = 0; i < IDLE_COUNT; i++) {
        rig_client_close(&clients[i]);
    }
    RIG_UNTIL(rig, wp_edge_connections(rig->edge) == 0);
}

static void test_idle_connections_are_small(void **state)
{
    (void)state;
    static struct rig_client *clients[IDLE_COUNT];
    struct rig *rig = rig_create(&(struct rig_options){0});
    idle_round(rig, clients); /* fills what belongs to the process */
    idle_end(rig, clients);
    size_t before = heap_bytes();
    idle_round(rig, clients);
    size_t per_client = (heap_bytes() - before) / IDLE_COUNT;
    assert_true(per_client <= 3072); /* with the test's own end of it; sanitizers count nothing here */
    idle_end(rig, clients);
    rig_destroy(&rig);
}

static void test_plain_listeners_stay_on_loopback(void **state)
{
    (void)state;
    static const struct {
        enum wp_edge_kind kind;
        const char *address;
    } rows[] = {{WP_EDGE_MQTT, "0.0.0.0:0"}, {WP_EDGE_WS, "[::]:0"}, {WP_EDGE_MQTT, "nonsense"},
        {WP_EDGE_MQTT, "127.0.0.1:99999"}};
    uv_loop_t loop;
    uv_loop_init(&loop);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wp_edge_config config = {.loop = &loop};
        struct wp_edge *edge;
        char text[256] = "";
        config.listen[rows[i].kind] = rows[i].address;
        assert_int_equal(wp_edge_create(&config, &edge), WP_OK);
        assert_int_equal(wp_edge_start(edge, NULL, text, sizeof text), WP_E_CONFIG);
        assert_non_null(strstr(text, rows[i].address));
        wp_edge_drop(edge);
        uv_run(&loop, UV_RUN_DEFAULT);
        wp_edge_destroy(&edge);
    }
    uv_loop_close(&loop);
}

int main(void)
{
    wp_log_init("test", WP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_publish),
        cmocka_unit_test(test_tls_12_is_refused),
        cmocka_unit_test(test_tls_needs_x25519_or_p256),
        cmocka_unit_test(test_ticket_resumes_also_after_a_reload),
        cmocka_unit_test(test_certificate_reload_keeps_connections),
        cmocka_unit_test(test_no_tls_on_a_tls_port),
        cmocka_unit_test(test_upgrade_requests),
        cmocka_unit_test(test_websocket_carries_mqtt),
        cmocka_unit_test(test_websocket_errors_get_close_codes),
        cmocka_unit_test(test_bad_upgrade_gets_an_answer),
        cmocka_unit_test(test_secure_websocket),
        cmocka_unit_test(test_slow_loris),
        cmocka_unit_test(test_packets_one_byte_at_a_time),
        cmocka_unit_test(test_everything_in_one_write),
        cmocka_unit_test(test_last_words_arrive),
        cmocka_unit_test(test_limits_of_connections),
        cmocka_unit_test(test_thousands_of_dropped_connections),
        cmocka_unit_test(test_idle_connections_are_small),
        cmocka_unit_test(test_plain_listeners_stay_on_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
