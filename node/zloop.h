/* ZeroMQ sockets on a libuv loop.
 *
 * ZMQ_FD is edge-triggered in spirit: it tells that commands wait in the socket's mailbox, and any call on
 * the socket may consume them. So the owner's `turn` runs in the check phase after every wake-up, and before
 * the loop blocks again each socket that was touched is asked for ZMQ_EVENTS. Loop's thread only. */
#ifndef WP_NODE_ZLOOP_H
#define WP_NODE_ZLOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct wp_zloop;
struct wp_zsocket;

struct wp_zloop_callbacks {
    void *context;
    void (*turn)(void *context); /* a socket is ready or wp_zloop_wake was called */
    void (*tick)(void *context); /* every tick_ms */
};

/* WP_E_NOMEM. */
int wp_zloop_create(uv_loop_t *loop, const struct wp_zloop_callbacks *callbacks, uint64_t tick_ms,
    struct wp_zloop **ret_zloop);
/* After the last unwatch. The memory goes when the loop next runs. */
void wp_zloop_destroy(struct wp_zloop **zloop);

/* `turn` runs once more before the loop blocks. */
void wp_zloop_wake(struct wp_zloop *zloop);
/* `turn` runs within about `delay_ms`, for what no descriptor announces (a ROUTER peer with a full pipe). */
void wp_zloop_wake_later(struct wp_zloop *zloop, uint64_t delay_ms);

/* WP_E_NOMEM or WP_E_IO. A new socket counts as ready. */
int wp_zsocket_watch(struct wp_zloop *zloop, void *zmq_socket, struct wp_zsocket **ret_zsocket);
/* Before zmq_close. */
void wp_zsocket_unwatch(struct wp_zsocket **zsocket);
/* Whether messages may wait; the caller then receives until EAGAIN or calls wp_zsocket_touch. */
bool wp_zsocket_take_ready(struct wp_zsocket *zsocket);
/* Something was sent, or receiving stopped before EAGAIN: ask for ZMQ_EVENTS before blocking. */
void wp_zsocket_touch(struct wp_zsocket *zsocket);

#endif
