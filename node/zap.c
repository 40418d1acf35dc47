/* The ZAP handler of a process. It is a thread of its own because libzmq's I/O threads wait for its
 * answers while our loops may be busy.
 *
 * 1. A key that is not in the table is refused with 400; there is no default.
 * 2. The User-Id names role, node and key, so that a batch can be attributed without a field in it.
 * 3. `generation` grows after the table changed, under the lock: who reads a generation and then
 *    checks can only be too careful. */
#include "node/zap.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "proto/address.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define KEY_SIZE 32
#define PART_SIZE_MAX 256
#define DENIAL_LOG_INTERVAL_US 1000000u

struct zap_row {
    uint8_t key[KEY_SIZE];
    char key_text[WP_KEY_TEXT_SIZE];
    char node[WP_NAME_SIZE_MAX + 1];
    Wp__Role role;
    char user_id[WP_NAME_SIZE_MAX + WP_KEY_TEXT_SIZE + 16]; /* "gateway:NODE:KEY" */
};

struct wp_zap {
    void *responder;     /* REP, the handler's thread only after create */
    void *stop_sender;   /* PAIR, the owner's thread */
    void *stop_receiver; /* PAIR, the handler's thread */
    pthread_t thread;
    pthread_mutex_t lock; /* rows */
    struct zap_row *rows;
    size_t row_count;
    uint64_t generation; /* atomic */
    uint64_t denial_logged_us;
};

struct zap_request {
    char version[8];
    char id[PART_SIZE_MAX];
    size_t id_size;
    char address[PART_SIZE_MAX];
    char mechanism[PART_SIZE_MAX];
    uint8_t credential[PART_SIZE_MAX];
    size_t credential_size;
};

static const char *role_name(Wp__Role role)
{
    return role == WP__ROLE__ROLE_ROUTER ? "router" : "gateway";
}

/* Receives one part cut at size - 1 and ended with NUL; false at the end of the request. */
static bool part_receive(void *socket, void *ret_data, size_t size, size_t *ret_size, bool *more)
{
    if (!*more) {
        return false;
    }
    int count = zmq_recv(socket, ret_data, size - 1, 0);
    if (count < 0) {
        *more = false;
        return false;
    }
    size_t kept = (size_t)count < size - 1 ? (size_t)count : size - 1;
    ((char *)ret_data)[kept] = '\0';
    if (ret_size) {
        *ret_size = kept;
    }
    int flag = 0;
    size_t flag_size = sizeof flag;
    *more = zmq_getsockopt(socket, ZMQ_RCVMORE, &flag, &flag_size) == 0 && flag;
    return true;
}

static bool request_receive(void *socket, struct zap_request *ret_request)
{
    bool more = true;
    char skipped[PART_SIZE_MAX];
    struct zap_request *r = ret_request;
    memset(r, 0, sizeof *r);
    bool whole = part_receive(socket, r->version, sizeof r->version, NULL, &more) &&
                 part_receive(socket, r->id, sizeof r->id, &r->id_size, &more) &&
                 part_receive(socket, skipped, sizeof skipped, NULL, &more) && /* domain */
                 part_receive(socket, r->address, sizeof r->address, NULL, &more) &&
                 part_receive(socket, skipped, sizeof skipped, NULL, &more) && /* routing id */
                 part_receive(socket, r->mechanism, sizeof r->mechanism, NULL, &more) &&
                 part_receive(socket, r->credential, sizeof r->credential, &r->credential_size, &more);
    while (part_receive(socket, skipped, sizeof skipped, NULL, &more)) {
        continue;
    }
    return whole;
}

static void denial_log(struct wp_zap *zap, const struct zap_request *request)
{
    wp_metric_add(WP_M_FABRIC_REFUSED, 1);
    uint64_t now_us = wp_clock_mono_us();
    if (zap->denial_logged_us != 0 && now_us - zap->denial_logged_us < DENIAL_LOG_INTERVAL_US) {
        return;
    }
    zap->denial_logged_us = now_us;
    char address[PART_SIZE_MAX + 2], key[WP_KEY_TEXT_SIZE] = "";
    if (request->credential_size == KEY_SIZE) {
        zmq_z85_encode(key, request->credential, KEY_SIZE);
    }
    char key_quoted[2 * WP_KEY_TEXT_SIZE + 3];
    wp_log(WP_LOG_WARN, "fabric_key_denied", "address=%s key=%s",
        wp_log_quote(request->address, address, sizeof address),
        wp_log_quote(key, key_quoted, sizeof key_quoted));
}

static void request_answer(struct wp_zap *zap, const struct zap_request *request, bool whole)
{
    char user_id[PART_SIZE_MAX] = "";
    if (whole && strcmp(request->version, "1.0") == 0 && strcmp(request->mechanism, "CURVE") == 0 &&
        request->credential_size == KEY_SIZE) {
        pthread_mutex_lock(&zap->lock);
        for (size_t i = 0; i < zap->row_count; i++) {
            const struct zap_row *row = &zap->rows[i];
            if (memcmp(row->key, request->credential, KEY_SIZE) == 0) {
                snprintf(user_id, sizeof user_id, "%s", row->user_id);
                break;
            }
        }
        pthread_mutex_unlock(&zap->lock);
    }
    bool allowed = user_id[0] != '\0';
    if (!allowed) {
        denial_log(zap, request);
    }
    const char *status = allowed ? "200" : "400", *text = allowed ? "OK" : "key not allowed";
    zmq_send(zap->responder, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(zap->responder, request->id, request->id_size, ZMQ_SNDMORE);
    zmq_send(zap->responder, status, 3, ZMQ_SNDMORE);
    zmq_send(zap->responder, text, strlen(text), ZMQ_SNDMORE);
    zmq_send(zap->responder, user_id, strlen(user_id), ZMQ_SNDMORE);
    zmq_send(zap->responder, "", 0, 0);
}

static void *zap_run(void *argument)
{
    struct wp_zap *zap = argument;
    zmq_pollitem_t items[] = {{zap->responder, 0, ZMQ_POLLIN, 0}, {zap->stop_receiver, 0, ZMQ_POLLIN, 0}};
    for (;;) {
        int count = zmq_poll(items, 2, -1);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0 || items[1].revents) {
            break;
        }
        if (items[0].revents) {
            struct zap_request request;
            bool whole = request_receive(zap->responder, &request);
            request_answer(zap, &request, whole);
        }
    }
    /* zmq_close frees the name some time later, on libzmq's own thread; unbinding frees it now. */
    zmq_unbind(zap->responder, ZAP_ENDPOINT);
    zmq_close(zap->responder);
    zmq_close(zap->stop_receiver);
    return NULL;
}

static void zap_free(struct wp_zap *zap)
{
    free(zap->rows);
    pthread_mutex_destroy(&zap->lock);
    free(zap);
}

static int zap_open(struct wp_zap *zap, void *zmq_context)
{
    zap->responder = zmq_socket(zmq_context, ZMQ_REP);
    zap->stop_sender = zmq_socket(zmq_context, ZMQ_PAIR);
    zap->stop_receiver = zmq_socket(zmq_context, ZMQ_PAIR);
    if (!zap->responder || !zap->stop_sender || !zap->stop_receiver) {
        return WP_E_NOMEM;
    }
    int linger = 0;
    zmq_setsockopt(zap->responder, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(zap->stop_sender, ZMQ_LINGER, &linger, sizeof linger);
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://wp-zap-stop-%p", (void *)zap);
    if (zmq_bind(zap->responder, ZAP_ENDPOINT) != 0) {
        return errno == EADDRINUSE ? WP_E_BUSY : WP_E_IO;
    }
    if (zmq_bind(zap->stop_receiver, endpoint) != 0 || zmq_connect(zap->stop_sender, endpoint) != 0) {
        return WP_E_IO;
    }
    return pthread_create(&zap->thread, NULL, zap_run, zap) == 0 ? WP_OK : WP_E_NOMEM;
}

int wp_zap_create(void *zmq_context, struct wp_zap **ret_zap)
{
    struct wp_zap *zap = calloc(1, sizeof *zap);
    if (!zap) {
        return WP_E_NOMEM;
    }
    pthread_mutex_init(&zap->lock, NULL);
    int error = zap_open(zap, zmq_context);
    if (error) {
        void *sockets[] = {zap->responder, zap->stop_sender, zap->stop_receiver};
        for (unsigned i = 0; i < 3; i++) {
            if (sockets[i]) {
                zmq_close(sockets[i]);
            }
        }
        zap_free(zap);
        return error;
    }
    *ret_zap = zap;
    return WP_OK;
}

void wp_zap_destroy(struct wp_zap **zap)
{
    struct wp_zap *taken = *zap;
    *zap = NULL;
    if (!taken) {
        return;
    }
    zmq_send(taken->stop_sender, "", 0, 0);
    pthread_join(taken->thread, NULL);
    zmq_close(taken->stop_sender);
    zap_free(taken);
}

/* The row of `key_text`, NULL when there is none. Under the lock. */
static struct zap_row *row_find(struct wp_zap *zap, const char *key_text)
{
    for (size_t i = 0; i < zap->row_count; i++) {
        if (strcmp(zap->rows[i].key_text, key_text) == 0) {
            return &zap->rows[i];
        }
    }
    return NULL;
}

static int row_add(struct wp_zap *zap, const struct zap_row *new_row)
{
    struct zap_row *row = row_find(zap, new_row->key_text);
    if (row) {
        return strcmp(row->node, new_row->node) == 0 && row->role == new_row->role ? WP_OK : WP_E_EXISTS;
    }
    struct zap_row *rows = realloc(zap->rows, (zap->row_count + 1) * sizeof *rows);
    if (!rows) {
        return WP_E_NOMEM;
    }
    zap->rows = rows;
    rows[zap->row_count++] = *new_row;
    __atomic_add_fetch(&zap->generation, 1, __ATOMIC_RELEASE);
    return WP_OK;
}

int wp_zap_allow(struct wp_zap *zap, const char *public_key, const char *node, Wp__Role role)
{
    struct zap_row row = {.role = role};
    if (strlen(public_key) != WP_KEY_TEXT_SIZE - 1 || !zmq_z85_decode(row.key, public_key) ||
        !wp_address_valid(node) || (role != WP__ROLE__ROLE_ROUTER && role != WP__ROLE__ROLE_GATEWAY)) {
        return WP_E_INVALID;
    }
    memcpy(row.key_text, public_key, sizeof row.key_text);
    memcpy(row.node, node, strlen(node) + 1);
    snprintf(row.user_id, sizeof row.user_id, "%s:%s:%s", role_name(role), row.node, row.key_text);
    pthread_mutex_lock(&zap->lock);
    int error = row_add(zap, &row);
    pthread_mutex_unlock(&zap->lock);
    return error;
}

void wp_zap_revoke(struct wp_zap *zap, const char *public_key)
{
    pthread_mutex_lock(&zap->lock);
    struct zap_row *row = row_find(zap, public_key);
    if (row) {
        *row = zap->rows[--zap->row_count];
        __atomic_add_fetch(&zap->generation, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&zap->lock);
}

int wp_zap_check(struct wp_zap *zap, const char *user_id, Wp__Role *ret_role, char node[65])
{
    _Static_assert(WP_NAME_SIZE_MAX == 64, "the node parameter is sized for names");
    int error = WP_E_DENIED;
    pthread_mutex_lock(&zap->lock);
    for (size_t i = 0; i < zap->row_count && error; i++) {
        const struct zap_row *row = &zap->rows[i];
        if (strcmp(row->user_id, user_id) == 0) {
            *ret_role = row->role;
            memcpy(node, row->node, sizeof row->node);
            error = WP_OK;
        }
    }
    pthread_mutex_unlock(&zap->lock);
    return error;
}

uint64_t wp_zap_generation(struct wp_zap *zap)
{
    return __atomic_load_n(&zap->generation, __ATOMIC_ACQUIRE);
}
