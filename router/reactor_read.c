/* Catch-up reads: on libuv's worker threads, through an iterator bounded to the positions wanted. They touch
 * neither the machine nor dispatch; the rows come back to the reactor's thread. */
#include <stdlib.h>

#include "base/error.h"
#include "proto/frame.h"
#include "router/reactor_state.h"

#define READ_ARENA_BYTES (16u * 1024 * 1024)

struct read_job {
    uv_work_t work;
    struct shard *shard;
    struct wp_read_request request;
    struct wp_arena arena;
    struct wp_read_row *rows;
    uint32_t row_count;
    int error;
};

static int rows_read(struct read_job *job, struct wp_state_iter *iter)
{
    uint64_t bytes = 0;
    while (wp_state_iter_valid(iter) && job->row_count < job->request.count_max &&
           bytes < job->request.bytes_max) {
        struct wp_read_row *row = &job->rows[job->row_count];
        Wp__RecordMessage *record;
        int error = wp_machine_message_decode(
            wp_state_iter_key(iter), wp_state_iter_value(iter), &job->arena, &row->sequence, &record);
        if (error) {
            return error;
        }
        row->body.accepted_ms = record->accepted_ms;
        row->body.expires_ms = record->expires_ms;
        row->body.envelope = wp_slice(record->envelope.data, record->envelope.len);
        bytes += record->envelope.len;
        job->row_count++;
        wp_state_iter_next(iter);
    }
    return wp_state_iter_valid(iter) ? WP_OK : wp_state_iter_error(iter);
}

static void read_work(uv_work_t *work)
{
    struct read_job *job = work->data;
    struct wp_buffer from = WP_BUFFER_INIT;
    struct wp_buffer to = WP_BUFFER_INIT;
    struct wp_state_iter *iter = NULL;
    const struct wp_read_request *request = &job->request;
    job->error = wp_machine_message_range(
        job->shard->number, request->mailbox, request->lane, request->from, UINT64_MAX - 1, &from, &to);
    if (!job->error) {
        iter = wp_state_iter_create(
            job->shard->reactor->config.store, wp_slice(from.data, from.size), wp_slice(to.data, to.size));
        job->rows = calloc(request->count_max, sizeof(*job->rows));
        job->error = iter && job->rows ? rows_read(job, iter) : WP_E_NOMEM;
    }
    if (iter) {
        wp_state_iter_destroy(&iter);
    }
    wp_buffer_free(&from);
    wp_buffer_free(&to);
}

static void read_after(uv_work_t *work, int status)
{
    struct read_job *job = work->data;
    struct wp_reactor *reactor = job->shard->reactor;
    job->shard->reads--;
    int error = status ? WP_E_CLOSED : job->error;
    error = wp_dispatch_read_done(
        job->shard->dispatch, &job->request, error, job->rows, error ? 0 : job->row_count);
    if (error) {
        wp_reactor_fail(reactor, error, "reading messages");
    }
    wp_metric_add(WP_M_CATCH_UP_READS, 1);
    wp_arena_fini(&job->arena);
    free(job->rows);
    free(job);
    reactor->turn_worked = true;
    wp_reactor_settle(reactor);
}

int wp_shard_read(struct shard *shard, const struct wp_read_request *request)
{
    struct read_job *job = calloc(1, sizeof(*job));
    if (!job) {
        return WP_E_NOMEM;
    }
    job->work.data = job;
    job->shard = shard;
    job->request = *request;
    wp_arena_init(&job->arena, READ_ARENA_BYTES);
    if (uv_queue_work(&shard->reactor->loop, &job->work, read_work, read_after)) {
        free(job);
        return WP_E_NOMEM;
    }
    shard->reads++;
    return WP_OK;
}
