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
    struct wp_read_shared *shared; /* of the request */
    struct wp_arena arena;
    struct wp_read_row *rows;
    uint32_t row_count;
    int error;
};

static void row_fill(struct wp_read_row *row, const Wp__RecordMessage *record, uint64_t shared)
{
    row->body = (struct wp_body){.accepted_ms = record->accepted_ms,
        .expires_ms = record->expires_ms,
        .envelope = wp_slice(record->envelope.data, record->envelope.len),
        .shared = shared};
}

/* WP_E_NOT_FOUND: its last message left after the read was asked for. */
static int shared_read(struct read_job *job, const struct wp_read_shared *shared, struct wp_read_row *ret_row)
{
    struct wp_buffer key = WP_BUFFER_INIT;
    struct wp_buffer value = WP_BUFFER_INIT;
    Wp__RecordMessage *record;
    int error = wp_machine_body_key(job->shard->number, shared->body, &key);
    error =
        error ? error : wp_state_get(job->shard->reactor->config.store, wp_slice(key.data, key.size), &value);
    if (!error) {
        error = wp_schema_decode(&wp__record_message__descriptor, wp_slice(value.data, value.size),
            &job->arena, (ProtobufCMessage **)&record);
        error = error ? WP_E_CORRUPT : WP_OK;
    }
    if (!error) {
        ret_row->sequence = shared->sequence;
        row_fill(ret_row, record, shared->body);
    }
    wp_buffer_free(&key);
    wp_buffer_free(&value);
    return error;
}

/* The record where the iterator stands; false at the end. */
static int own_read(struct read_job *job, struct wp_state_iter *iter, struct wp_read_row *ret_row)
{
    Wp__RecordMessage *record;
    if (!wp_state_iter_valid(iter)) {
        return wp_state_iter_error(iter) ? wp_state_iter_error(iter) : WP_E_NOT_FOUND;
    }
    int error = wp_machine_message_decode(
        wp_state_iter_key(iter), wp_state_iter_value(iter), &job->arena, &ret_row->sequence, &record);
    if (!error) {
        row_fill(ret_row, record, 0);
        wp_state_iter_next(iter);
    }
    return error;
}

/* Records of the lane and shared bodies, merged by position. */
static int rows_read(struct read_job *job, struct wp_state_iter *iter)
{
    uint64_t bytes = 0;
    uint32_t shared = 0;
    struct wp_read_row own;
    int more = own_read(job, iter, &own);
    while (job->row_count < job->request.count_max && bytes < job->request.bytes_max) {
        struct wp_read_row *row = &job->rows[job->row_count];
        int error = WP_OK;
        if (shared < job->request.shared_count && (more || job->shared[shared].sequence < own.sequence)) {
            error = shared_read(job, &job->shared[shared++], row);
        } else if (!more) {
            *row = own;
            more = own_read(job, iter, &own);
        } else {
            break;
        }
        if (error && error != WP_E_NOT_FOUND) {
            return error;
        }
        job->row_count += !error;
        bytes += error ? 0 : row->body.envelope.size;
    }
    return more == WP_E_NOT_FOUND ? WP_OK : more;
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
    free(job->shared);
    free(job);
    reactor->turn_worked = true;
    wp_reactor_settle(reactor);
}

int wp_shard_read(struct shard *shard, const struct wp_read_request *request)
{
    struct read_job *job = calloc(1, sizeof(*job));
    size_t shared_size = request->shared_count * sizeof(*request->shared);
    struct wp_read_shared *shared = malloc(shared_size + 1);
    if (!job || !shared) {
        free(job);
        free(shared);
        return WP_E_NOMEM;
    }
    job->work.data = job;
    job->shard = shard;
    job->request = *request;
    memcpy(shared, request->shared, shared_size);
    job->request.shared = job->shared = shared;
    wp_arena_init(&job->arena, READ_ARENA_BYTES);
    if (uv_queue_work(&shard->reactor->loop, &job->work, read_work, read_after)) {
        free(job);
        free(shared);
        return WP_E_NOMEM;
    }
    shard->reads++;
    return WP_OK;
}
