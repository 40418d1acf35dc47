/* The one place that knows how ZMQ_FD and libuv fit together.
 *
 * 1. A loop never blocks while a touched socket has POLLIN: prepare asks, and an idle handle keeps
 *    poll from blocking.
 * 2. `turn` runs at most once per loop iteration, so timers and other handles get their share.
 * 3. Handles outlive destroy until libuv has closed them; they share one allocation with a count. */
#include "node/zloop.h"

#include <stdlib.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/error.h"

#define HANDLE_COUNT 5

struct wp_zsocket {
    uv_poll_t poll;
    struct wp_zloop *zloop;
    struct wp_zsocket *next;
    void *socket;
    bool ready;
    bool touched;
};

struct wp_zloop {
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t tick_timer;
    uv_timer_t later_timer;
    struct wp_zloop_callbacks callbacks;
    struct wp_zsocket *sockets;
    bool due;
    unsigned open_handles;
};

static void idle_run(uv_idle_t *handle)
{
    (void)handle; /* its being active is what keeps poll from blocking */
}

static void prepare_run(uv_prepare_t *handle)
{
    struct wp_zloop *zloop = handle->data;
    for (struct wp_zsocket *s = zloop->sockets; s; s = s->next) {
        if (!s->touched) {
            continue;
        }
        s->touched = false;
        int events = 0;
        size_t size = sizeof events;
        if (zmq_getsockopt(s->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN)) {
            s->ready = true;
            wp_zloop_wake(zloop);
        }
    }
}

static void check_run(uv_check_t *handle)
{
    struct wp_zloop *zloop = handle->data;
    if (!zloop->due) {
        return;
    }
    zloop->due = false;
    uv_idle_stop(&zloop->idle);
    zloop->callbacks.turn(zloop->callbacks.context);
}

static void tick_run(uv_timer_t *handle)
{
    const struct wp_zloop_callbacks *callbacks = &((struct wp_zloop *)handle->data)->callbacks;
    callbacks->tick(callbacks->context);
}

static void later_run(uv_timer_t *handle)
{
    wp_zloop_wake(handle->data);
}

static void handle_closed(uv_handle_t *handle)
{
    struct wp_zloop *zloop = handle->data;
    if (--zloop->open_handles == 0) {
        free(zloop);
    }
}

int wp_zloop_create(uv_loop_t *loop, const struct wp_zloop_callbacks *callbacks, uint64_t tick_ms,
    struct wp_zloop **ret_zloop)
{
    struct wp_zloop *zloop = calloc(1, sizeof *zloop);
    if (!zloop) {
        return WP_E_NOMEM;
    }
    zloop->callbacks = *callbacks;
    zloop->open_handles = HANDLE_COUNT;
    uv_prepare_init(loop, &zloop->prepare);
    uv_check_init(loop, &zloop->check);
    uv_idle_init(loop, &zloop->idle);
    uv_timer_init(loop, &zloop->tick_timer);
    uv_timer_init(loop, &zloop->later_timer);
    zloop->prepare.data = zloop->check.data = zloop->idle.data = zloop->tick_timer.data =
        zloop->later_timer.data = zloop;
    uv_prepare_start(&zloop->prepare, prepare_run);
    uv_check_start(&zloop->check, check_run);
    uv_timer_start(&zloop->tick_timer, tick_run, tick_ms, tick_ms);
    *ret_zloop = zloop;
    return WP_OK;
}

void wp_zloop_destroy(struct wp_zloop **zloop)
{
    struct wp_zloop *taken = *zloop;
    *zloop = NULL;
    if (!taken) {
        return;
    }
    WP_ASSERT(!taken->sockets);
    uv_close((uv_handle_t *)&taken->prepare, handle_closed);
    uv_close((uv_handle_t *)&taken->check, handle_closed);
    uv_close((uv_handle_t *)&taken->idle, handle_closed);
    uv_close((uv_handle_t *)&taken->tick_timer, handle_closed);
    uv_close((uv_handle_t *)&taken->later_timer, handle_closed);
}

void wp_zloop_wake(struct wp_zloop *zloop)
{
    if (!zloop->due) {
        zloop->due = true;
        uv_idle_start(&zloop->idle, idle_run);
    }
}

void wp_zloop_wake_later(struct wp_zloop *zloop, uint64_t delay_ms)
{
    if (!uv_is_active((uv_handle_t *)&zloop->later_timer)) {
        uv_timer_start(&zloop->later_timer, later_run, delay_ms, 0);
    }
}

static void poll_run(uv_poll_t *handle, int status, int events)
{
    (void)status, (void)events;
    struct wp_zsocket *zsocket = handle->data;
    zsocket->ready = true;
    wp_zloop_wake(zsocket->zloop);
}

int wp_zsocket_watch(struct wp_zloop *zloop, void *zmq_socket, struct wp_zsocket **ret_zsocket)
{
    int fd = -1;
    size_t size = sizeof fd;
    struct wp_zsocket *zsocket = calloc(1, sizeof *zsocket);
    if (!zsocket) {
        return WP_E_NOMEM;
    }
    if (zmq_getsockopt(zmq_socket, ZMQ_FD, &fd, &size) != 0 ||
        uv_poll_init(zloop->prepare.loop, &zsocket->poll, fd) != 0) {
        free(zsocket);
        return WP_E_IO;
    }
    zsocket->poll.data = zsocket;
    zsocket->zloop = zloop;
    zsocket->socket = zmq_socket;
    zsocket->ready = true;
    uv_poll_start(&zsocket->poll, UV_READABLE, poll_run);
    zsocket->next = zloop->sockets;
    zloop->sockets = zsocket;
    wp_zloop_wake(zloop);
    *ret_zsocket = zsocket;
    return WP_OK;
}

static void poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void wp_zsocket_unwatch(struct wp_zsocket **zsocket)
{
    struct wp_zsocket *taken = *zsocket;
    *zsocket = NULL;
    if (!taken) {
        return;
    }
    struct wp_zsocket **at = &taken->zloop->sockets;
    while (*at != taken) {
        at = &(*at)->next;
    }
    *at = taken->next;
    uv_close((uv_handle_t *)&taken->poll, poll_closed);
}

bool wp_zsocket_take_ready(struct wp_zsocket *zsocket)
{
    bool ready = zsocket->ready;
    zsocket->ready = false;
    return ready;
}

void wp_zsocket_touch(struct wp_zsocket *zsocket)
{
    zsocket->touched = true;
}
