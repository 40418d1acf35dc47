/* Loops without a thread: a handle that is due is an event of the process that owns the loop. */
#include "tests/sim/uv.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define WORK_US_MAX 3000u /* a worker thread takes so long before it begins, and to be heard of */

struct sim_handle {
    struct sim_handle *next; /* of all */
    uv_handle_t *handle;     /* NULL: closed */
    struct sim_loop *loop;
    bool pending;     /* async: an event is on its way */
    uint64_t version; /* timer: events of an earlier start do nothing */
    uint64_t repeat_ms;
};

struct sim_work {
    struct sim_work *next;
    uv_loop_t *loop;
    uv_work_t *request;
    uv_work_cb work;
    uv_after_work_cb after;
    bool worked;
};

struct sim_loop {
    struct sim_loop *next;
    struct sim_process *process;
    struct sim_work *works;
    struct sim_handle *closing[64];
    unsigned closing_count;
};

static struct sim_handle *handles;
static struct sim_loop *loops;

static struct sim_loop *loop_of(const uv_loop_t *loop)
{
    return loop->internal_fields;
}

static struct sim_handle *of(const uv_handle_t *handle)
{
    return handle->u.reserved[0];
}

struct sim_process *sim_loop_process(const uv_loop_t *loop)
{
    return loop_of(loop)->process;
}

int uv_loop_init(uv_loop_t *loop)
{
    struct sim_loop *inner = calloc(1, sizeof *inner);
    WP_ASSERT(inner && sim_current());
    memset(loop, 0, sizeof *loop);
    inner->process = sim_current();
    inner->next = loops;
    loops = inner;
    loop->internal_fields = inner;
    return 0;
}

int uv_loop_configure(uv_loop_t *loop, uv_loop_option option, ...)
{
    (void)loop;
    (void)option;
    return 0;
}

int uv_loop_close(uv_loop_t *loop)
{
    (void)loop;
    return 0;
}

uint64_t uv_metrics_idle_time(uv_loop_t *loop)
{
    (void)loop;
    return 0;
}

static void handle_init(uv_loop_t *loop, uv_handle_t *handle, uv_handle_type type)
{
    struct sim_handle *inner = calloc(1, sizeof *inner);
    WP_ASSERT(inner);
    void *data = handle->data;
    handle->loop = loop;
    handle->type = type;
    handle->data = data;
    inner->handle = handle;
    inner->loop = loop_of(loop);
    inner->next = handles;
    handles = inner;
    handle->u.reserved[0] = inner;
}

/* --- prepare --- */

int uv_prepare_init(uv_loop_t *loop, uv_prepare_t *prepare)
{
    handle_init(loop, (uv_handle_t *)prepare, UV_PREPARE);
    return 0;
}

int uv_prepare_start(uv_prepare_t *prepare, uv_prepare_cb callback)
{
    prepare->prepare_cb = callback;
    of((uv_handle_t *)prepare)->pending = true;
    return 0;
}

void sim_loop_turned(uv_loop_t *loop)
{
    for (struct sim_handle *inner = handles; inner; inner = inner->next) {
        if (inner->handle && inner->pending && inner->loop == loop_of(loop) &&
            inner->handle->type == UV_PREPARE) {
            uv_prepare_t *prepare = (uv_prepare_t *)inner->handle;
            prepare->prepare_cb(prepare);
        }
    }
}

/* --- async --- */

int uv_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb callback)
{
    handle_init(loop, (uv_handle_t *)async, UV_ASYNC);
    async->async_cb = callback;
    return 0;
}

static void async_fire(void *context, uint64_t argument)
{
    struct sim_handle *inner = context;
    (void)argument;
    inner->pending = false;
    if (inner->handle) {
        uv_async_t *async = (uv_async_t *)inner->handle;
        async->async_cb(async);
        sim_loop_turned(async->loop);
    }
}

int uv_async_send(uv_async_t *async)
{
    struct sim_handle *inner = of((uv_handle_t *)async);
    if (!inner->pending) {
        inner->pending = true;
        sim_after(1 + sim_random(30), inner->loop->process, async_fire, inner, 0);
    }
    return 0;
}

/* --- timers --- */

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    handle_init(loop, (uv_handle_t *)timer, UV_TIMER);
    return 0;
}

static void timer_fire(void *context, uint64_t version)
{
    struct sim_handle *inner = context;
    if (!inner->handle || inner->version != version) {
        return;
    }
    uv_timer_t *timer = (uv_timer_t *)inner->handle;
    if (inner->repeat_ms) {
        sim_after(
            inner->repeat_ms * 1000 + sim_random(500), inner->loop->process, timer_fire, inner, version);
    }
    timer->timer_cb(timer);
    sim_loop_turned(timer->loop);
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb callback, uint64_t timeout, uint64_t repeat)
{
    struct sim_handle *inner = of((uv_handle_t *)timer);
    timer->timer_cb = callback;
    inner->repeat_ms = repeat;
    inner->version++;
    sim_after(timeout * 1000 + sim_random(500), inner->loop->process, timer_fire, inner, inner->version);
    return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
    of((uv_handle_t *)timer)->version++;
    return 0;
}

/* --- work of other threads --- */

static void work_remove(struct sim_work *work)
{
    struct sim_work **at = &loop_of(work->loop)->works;
    while (*at != work) {
        at = &(*at)->next;
    }
    *at = work->next;
    free(work);
}

static void work_after(void *context, uint64_t argument)
{
    struct sim_work *work = context;
    uv_loop_t *loop = work->loop;
    uv_work_t *request = work->request;
    uv_after_work_cb after = work->after;
    (void)argument;
    work_remove(work);
    after(request, 0);
    sim_loop_turned(loop);
}

static void work_run(void *context, uint64_t argument)
{
    struct sim_work *work = context;
    (void)argument;
    work->worked = true;
    work->work(work->request);
    if (sim_effective()) {
        sim_after(1 + sim_random(WORK_US_MAX), loop_of(work->loop)->process, work_after, work, 0);
    }
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *request, uv_work_cb work, uv_after_work_cb after)
{
    struct sim_work *made = calloc(1, sizeof *made);
    WP_ASSERT(made);
    *made = (struct sim_work){
        .next = loop_of(loop)->works, .loop = loop, .request = request, .work = work, .after = after};
    loop_of(loop)->works = made;
    sim_after(1 + sim_random(WORK_US_MAX), loop_of(loop)->process, work_run, made, 0);
    return 0;
}

/* --- ends --- */

static void closings_run(uv_loop_t *loop)
{
    struct sim_loop *inner = loop_of(loop);
    while (inner->closing_count > 0) {
        struct sim_handle *closed = inner->closing[--inner->closing_count];
        uv_handle_t *handle = closed->handle;
        closed->handle = NULL;
        if (handle->close_cb) {
            handle->close_cb(handle);
        }
    }
}

static void closing_fire(void *context, uint64_t argument)
{
    (void)argument;
    closings_run(context);
}

int uv_is_closing(const uv_handle_t *handle)
{
    return handle->u.reserved[1] != NULL;
}

void uv_close(uv_handle_t *handle, uv_close_cb callback)
{
    struct sim_loop *loop = of(handle)->loop;
    WP_ASSERT(loop->closing_count < 64);
    handle->close_cb = callback;
    handle->u.reserved[1] = handle;
    of(handle)->version++;
    of(handle)->pending = false;
    loop->closing[loop->closing_count++] = of(handle);
    if (loop->process->alive) {
        sim_after(1, loop->process, closing_fire, handle->loop, 0);
    }
}

void uv_walk(uv_loop_t *loop, uv_walk_cb callback, void *context)
{
    for (struct sim_handle *inner = handles; inner; inner = inner->next) {
        if (inner->handle && inner->loop == loop_of(loop)) {
            callback(inner->handle, context);
        }
    }
}

/* Only where a process is taken apart: what other threads began ends, then handles are gone. */
int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
    struct sim_loop *inner = loop_of(loop);
    (void)mode;
    while (inner->works) {
        struct sim_work *work = inner->works;
        if (!work->worked) {
            work->work(work->request);
        }
        work_after(work, 0);
    }
    closings_run(loop);
    return 0;
}

void sim_uv_free(void)
{
    while (handles) {
        struct sim_handle *next = handles->next;
        free(handles);
        handles = next;
    }
    while (loops) {
        struct sim_loop *next = loops->next;
        free(loops);
        loops = next;
    }
}
