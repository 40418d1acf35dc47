/* node/zloop.h on the world's queue: a socket that is ready is an event. */
#include "node/zloop.h"

#include <stdlib.h>

#include "base/assert.h"
#include "tests/sim/net.h"
#include "tests/sim/uv.h"

struct wp_zsocket {
    struct wp_zloop *zloop;
    struct sim_socket *socket;
    bool ready;
};

struct wp_zloop {
    struct wp_zloop_callbacks callbacks;
    uv_loop_t *loop;
    uint64_t tick_ms;
    uint32_t events; /* that refer to it */
    bool waking;
    bool waking_later;
    bool gone;
};

static void release(struct wp_zloop *zloop)
{
    if (zloop->gone && zloop->events == 0) {
        free(zloop);
    }
}

static void turn_fire(void *context, uint64_t argument)
{
    struct wp_zloop *zloop = context;
    zloop->events--;
    zloop->waking = argument ? zloop->waking : false;
    zloop->waking_later = argument ? false : zloop->waking_later;
    if (!zloop->gone) {
        zloop->callbacks.turn(zloop->callbacks.context);
        sim_loop_turned(zloop->loop);
    }
    release(zloop);
}

static void tick_fire(void *context, uint64_t argument)
{
    struct wp_zloop *zloop = context;
    (void)argument;
    zloop->events--;
    if (!zloop->gone) {
        zloop->events++;
        sim_after(
            zloop->tick_ms * 1000 + sim_random(500), sim_loop_process(zloop->loop), tick_fire, zloop, 0);
        zloop->callbacks.tick(zloop->callbacks.context);
        wp_zloop_wake(zloop);
    }
    release(zloop);
}

int wp_zloop_create(uv_loop_t *loop, const struct wp_zloop_callbacks *callbacks, uint64_t tick_ms,
    struct wp_zloop **ret_zloop)
{
    struct wp_zloop *zloop = calloc(1, sizeof *zloop);
    WP_ASSERT(zloop);
    zloop->callbacks = *callbacks;
    zloop->loop = loop;
    zloop->tick_ms = tick_ms;
    zloop->events = 1;
    sim_after(tick_ms * 1000 + sim_random(500), sim_loop_process(loop), tick_fire, zloop, 0);
    *ret_zloop = zloop;
    return 0;
}

/* Events of a process that died are never run, so they hold nothing. */
void wp_zloop_destroy(struct wp_zloop **zloop)
{
    struct wp_zloop *taken = *zloop;
    *zloop = NULL;
    if (taken) {
        taken->gone = true;
        taken->events = sim_loop_process(taken->loop)->alive ? taken->events : 0;
        release(taken);
    }
}

void wp_zloop_wake(struct wp_zloop *zloop)
{
    if (!zloop->waking) {
        zloop->waking = true;
        zloop->events++;
        sim_after(1 + sim_random(30), sim_loop_process(zloop->loop), turn_fire, zloop, 0);
    }
}

void wp_zloop_wake_later(struct wp_zloop *zloop, uint64_t delay_ms)
{
    if (!zloop->waking_later) {
        zloop->waking_later = true;
        zloop->events++;
        sim_after(delay_ms * 1000 + 1 + sim_random(200), sim_loop_process(zloop->loop), turn_fire, zloop, 1);
    }
}

int wp_zsocket_watch(struct wp_zloop *zloop, void *zmq_socket, struct wp_zsocket **ret_zsocket)
{
    struct wp_zsocket *zsocket = calloc(1, sizeof *zsocket);
    WP_ASSERT(zsocket);
    *zsocket = (struct wp_zsocket){zloop, zmq_socket, true};
    *ret_zsocket = zsocket;
    wp_zloop_wake(zloop);
    return 0;
}

void wp_zsocket_unwatch(struct wp_zsocket **zsocket)
{
    free(*zsocket);
    *zsocket = NULL;
}

bool wp_zsocket_take_ready(struct wp_zsocket *zsocket)
{
    bool ready = zsocket->ready;
    zsocket->ready = false;
    return ready;
}

void wp_zsocket_touch(struct wp_zsocket *zsocket)
{
    if (sim_socket_waiting(zsocket->socket)) {
        sim_zsocket_ready(zsocket);
    }
}

void sim_zsocket_ready(struct wp_zsocket *zsocket)
{
    zsocket->ready = true;
    wp_zloop_wake(zsocket->zloop);
}
