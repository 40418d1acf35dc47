/* Opening and closing a data directory: lock, file system, reserve, watermark, the two instances, the
 * threads.
 *
 * Invariants:
 *   1. Up to the point where the log was measured against the watermark, an open changes nothing but LOCK and
 *      directories: a refused start can be repeated or repaired.
 *   2. A directory's name is synced before anything below it is relied on.
 *   3. Close destroys column family handles before their instance (raft.md, rule 20). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "storage/file.h"
#include "storage/rocks/rocks.h"

static void rocks_close(struct wp_store *base);

static uint64_t rocks_boot(struct wp_store *base)
{
    return ((struct rocks_store *)base)->boot;
}

static uint64_t rocks_directory_id(struct wp_store *base)
{
    return ((struct rocks_store *)base)->directory_id;
}

static const struct wp_store_body rocks_body = {
    .close = rocks_close,
    .batch_create = rocks_batch_create,
    .batch_destroy = rocks_batch_destroy,
    .batch_clear = rocks_batch_clear,
    .batch_put = rocks_batch_put,
    .batch_delete = rocks_batch_delete,
    .batch_delete_range = rocks_batch_delete_range,
    .state_commit = rocks_state_commit,
    .state_get = rocks_state_get,
    .state_applied = rocks_state_applied,
    .state_durable_index = rocks_state_durable_index,
    .state_flush_if_due = rocks_state_flush_if_due,
    .state_flush_soon = rocks_state_flush_soon,
    .state_flush = rocks_state_flush,
    .view_create = rocks_view_create,
    .iter_create = rocks_iter_create,
    .iter_valid = rocks_iter_valid,
    .iter_next = rocks_iter_next,
    .iter_key = rocks_iter_key,
    .iter_value = rocks_iter_value,
    .iter_error = rocks_iter_error,
    .iter_destroy = rocks_iter_destroy,
    .log_submit = rocks_log_submit,
    .log_load = rocks_log_load,
    .log_read = rocks_log_read,
    .log_term = rocks_log_term,
    .shard_wipe = rocks_shard_wipe,
    .install_create = rocks_install_create,
    .install_add = rocks_install_add,
    .install_commit = rocks_install_commit,
    .install_destroy = rocks_install_destroy,
    .fact_get = rocks_fact_get,
    .fact_set = rocks_fact_set,
    .disk = rocks_disk,
    .boot = rocks_boot,
    .directory_id = rocks_directory_id,
};

/* The sentence for the one who starts the router, with the reason of the system when there is one. */
static int refuse(int error, char *text, size_t text_size, const char *problem, const char *path)
{
    snprintf(
        text, text_size, "%s \"%s\": %s", problem, path, errno != 0 ? strerror(errno) : wp_error_text(error));
    return error;
}

static int directory_lock(struct rocks_store *store, char *text, size_t text_size)
{
    char path[ROCKS_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/LOCK", store->path);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0) {
        int error = wp_file_error(errno);
        return refuse(error == WP_E_NOT_FOUND ? WP_E_IO : error, text, text_size, "cannot open", path);
    }
    char pid[32] = "";
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t count = read(store->lock_fd, pid, sizeof pid - 1);
        pid[count > 0 ? count : 0] = '\0';
        pid[strspn(pid, "0123456789")] = '\0';
        snprintf(text, text_size,
            "data directory \"%s\" is in use by process %s: stop it, or give this router a "
            "directory of its own",
            store->path, pid[0] != '\0' ? pid : "unknown");
        return WP_E_BUSY;
    }
    /* The pid is for the sentence above only; a full disk must not keep a router from starting. */
    int count = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(store->lock_fd, 0) != 0 || pwrite(store->lock_fd, pid, (size_t)count, 0) != count) {
        wp_log(WP_LOG_WARN, "lock_pid_unwritten", "path=\"%s\"", path);
    }
    return WP_OK;
}

static int disk_check(struct rocks_store *store, bool allow_volatile, char *text, size_t text_size)
{
    bool in_memory;
    errno = 0;
    if (wp_disk_file_system(store->path, store->disk.file_system, &in_memory) != WP_OK) {
        return refuse(WP_E_IO, text, text_size, "cannot examine the file system of", store->path);
    }
    if (in_memory && !allow_volatile) {
        snprintf(text, text_size,
            "data directory \"%s\" is on %s, which forgets everything at a power cut: choose a "
            "directory on a disk (or --allow-volatile for a test)",
            store->path, store->disk.file_system);
        return WP_E_CONFIG;
    }
    if (store->sizes.reserve_bytes < store->sizes.reserve_bytes_min) {
        snprintf(text, text_size,
            "disk_reserve_bytes is %llu, below the %llu that these write buffers, this log and "
            "this compaction size may need: raise it or lower them",
            (unsigned long long)store->sizes.reserve_bytes,
            (unsigned long long)store->sizes.reserve_bytes_min);
        return WP_E_CONFIG;
    }
    store->disk.reserve_bytes = store->sizes.reserve_bytes;
    errno = 0;
    if (rocks_disk_refresh(store) != WP_OK) {
        return refuse(WP_E_IO, text, text_size, "cannot read the free space of", store->path);
    }
    return WP_OK;
}

static int directories_make(struct rocks_store *store, char *text, size_t text_size)
{
    static const char *const names[] = {"log", "state", "facts"};
    for (int i = 0; i < 3; i++) {
        char path[ROCKS_PATH_SIZE + 16];
        snprintf(path, sizeof path, "%s/%s", store->path, names[i]);
        errno = 0;
        int error = wp_directory_make(path);
        if (error != WP_OK) {
            return refuse(error, text, text_size, "cannot make directory", path);
        }
    }
    return WP_OK;
}

static bool log_there(const struct rocks_store *store)
{
    char path[ROCKS_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/log/CURRENT", store->path);
    return access(path, F_OK) == 0;
}

/* Reads the watermark; a new directory has none, a directory with a log must have one. */
static int watermark_read(struct rocks_store *store, bool accept_loss, char *text, size_t text_size)
{
    errno = 0;
    int error = wp_watermark_load(&store->watermark);
    if (error == WP_OK || (error == WP_E_NOT_FOUND && !log_there(store))) {
        return WP_OK;
    }
    if (error != WP_E_NOT_FOUND && error != WP_E_CORRUPT) {
        return refuse(error, text, text_size, "cannot read the watermark in", store->path);
    }
    const char *problem = error == WP_E_CORRUPT ? "fails its checksum" : "is missing beside a log";
    if (accept_loss) {
        wp_log(WP_LOG_WARN, "audit_loss_accepted", "file=\"%s/%s\" problem=\"%s\"", store->path,
            WP_WATERMARK_FILE, problem);
        return WP_OK;
    }
    snprintf(text, text_size,
        "\"%s/%s\" %s, so it cannot be known whether the log is whole: restore it from a good "
        "copy, or start once with --accept-loss all",
        store->path, WP_WATERMARK_FILE, problem);
    return error == WP_E_CORRUPT ? WP_E_CORRUPT : WP_E_FORGOTTEN;
}

/* The next boot, on disk before the router says it to anybody. */
static int boot_begin(struct rocks_store *store, char *text, size_t text_size)
{
    for (uint32_t shard = 0; shard < WP_STORE_SHARDS_MAX; shard++) {
        const struct wp_log_position *found = &store->positions[shard];
        if (found->last > 0 || found->term > 0 || shard < store->watermark.shard_count) {
            wp_watermark_put(&store->watermark, shard, found->term, found->last);
        }
    }
    store->boot = ++store->watermark.boot;
    errno = 0;
    int error = wp_watermark_write(&store->watermark, true);
    return error == WP_OK ? WP_OK
                          : refuse(error, text, text_size, "cannot write the watermark in", store->path);
}

static int instances_open(struct rocks_store *store, char *text, size_t text_size)
{
    char path[ROCKS_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/log", store->path);
    const char *names[] = {"default", "entries", "hard"};
    const rocksdb_options_t *options[] = {store->hard_options, store->log_options, store->hard_options};
    rocksdb_column_family_handle_t *handles[3];
    char *problem = NULL;
    store->log = rocksdb_open_column_families(store->log_options, path, 3, names, options, handles, &problem);
    if (problem == NULL) {
        store->log_default = handles[0];
        store->entries = handles[1];
        store->hard = handles[2];
        snprintf(path, sizeof path, "%s/state", store->path);
        store->state = rocksdb_open(store->state_options, path, &problem);
    }
    if (problem != NULL) {
        int error =
            rocks_error(store, store->log == NULL ? "instance log, open" : "instance state, open", &problem);
        wp_store_error_text(&store->base, text, text_size);
        return error;
    }
    int error = rocks_state_load_applied(store);
    if (error == WP_OK) {
        error = rocks_finish_marked(store);
    }
    if (error == WP_OK) {
        error = rocks_install_clean(store);
    }
    if (error != WP_OK) {
        wp_store_error_text(&store->base, text, text_size);
    }
    return error;
}

static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static int threads_start(struct rocks_store *store, char *text, size_t text_size)
{
    pthread_t *const threads[] = {&store->committer, &store->keeper, &store->flusher};
    void *(*const runs[])(void *) = {rocks_committer_run, rocks_keeper_run, rocks_flusher_run};
    static const char *const names[] = {"wp-committer", "wp-keeper", "wp-flusher"};
    for (unsigned i = 0; i < 3; i++) {
        errno = pthread_create(threads[i], NULL, runs[i], store);
        if (errno != 0) {
            return refuse(WP_E_NOMEM, text, text_size, "cannot start a thread for", store->path);
        }
        pthread_setname_np(*threads[i], names[i]);
        store->threads_started = i + 1;
    }
    return WP_OK;
}

/* The committer first, when its queue is empty; then those that work for it. */
static void threads_stop(struct rocks_store *store)
{
    if (store->threads_started > 0) {
        pthread_mutex_lock(&store->queue_guard);
        store->committer_stop = true;
        pthread_cond_signal(&store->queue_filled);
        pthread_mutex_unlock(&store->queue_guard);
        pthread_join(store->committer, NULL);
    }
    if (store->threads_started > 1) {
        pthread_mutex_lock(&store->keeper_guard);
        store->keeper_stop = true;
        pthread_cond_signal(&store->keeper_wake);
        pthread_mutex_unlock(&store->keeper_guard);
        pthread_join(store->keeper, NULL);
    }
    if (store->threads_started > 2) {
        pthread_mutex_lock(&store->state_guard);
        store->flusher_stop = true;
        pthread_cond_signal(&store->flusher_wake);
        pthread_mutex_unlock(&store->state_guard);
        pthread_join(store->flusher, NULL);
    }
    store->threads_started = 0;
}

static void instances_close(struct rocks_store *store)
{
    if (store->log != NULL) {
        rocksdb_column_family_handle_destroy(store->log_default);
        rocksdb_column_family_handle_destroy(store->entries);
        rocksdb_column_family_handle_destroy(store->hard);
        rocksdb_close(store->log);
    }
    if (store->state != NULL) {
        rocksdb_close(store->state);
    }
}

/* Releases everything, whatever part of it an open had reached. */
static void store_free(struct rocks_store *store)
{
    threads_stop(store);
    instances_close(store);
    if (store->log_options != NULL) {
        rocks_options_destroy(store);
    }
    for (int i = 0; i < 2; i++) {
        if (store->rounds[i].batch != NULL) {
            rocksdb_writebatch_destroy(store->rounds[i].batch);
        }
        wp_buffer_free(&store->rounds[i].dones);
        wp_buffer_free(&store->rounds[i].moves);
    }
    wp_watermark_fini(&store->watermark);
    pthread_mutex_destroy(&store->queue_guard);
    pthread_cond_destroy(&store->queue_filled);
    pthread_cond_destroy(&store->reset_done);
    pthread_mutex_destroy(&store->state_guard);
    pthread_cond_destroy(&store->flusher_wake);
    pthread_mutex_destroy(&store->keeper_guard);
    pthread_cond_destroy(&store->keeper_wake);
    free(store->positions);
    free(store->markers);
    free(store->shards);
    if (store->lock_fd >= 0) {
        close(store->lock_fd);
    }
    wp_store_fini(&store->base);
    free(store);
}

static void rocks_close(struct wp_store *base)
{
    struct rocks_store *store = (struct rocks_store *)base;
    threads_stop(store);
    if (wp_store_failure(base) == WP_OK) {
        rocks_state_flush(base);
        int error = wp_watermark_write(&store->watermark, true);
        if (error != WP_OK) {
            wp_store_fail(
                base, error, "cannot replace \"%s/%s\": %s", store->path, WP_WATERMARK_FILE, strerror(errno));
        }
    }
    store_free(store);
}

static struct rocks_store *store_create(const struct wp_store_config *config)
{
    struct rocks_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return NULL;
    }
    wp_store_init(&store->base, &rocks_body);
    store->lock_fd = -1;
    store->disk_readable = true;
    wp_store_sizes(config, &store->sizes);
    pthread_mutex_init(&store->queue_guard, NULL);
    pthread_mutex_init(&store->state_guard, NULL);
    pthread_mutex_init(&store->keeper_guard, NULL);
    condition_init(&store->queue_filled);
    condition_init(&store->reset_done);
    condition_init(&store->flusher_wake);
    condition_init(&store->keeper_wake);
    store->positions = calloc(WP_STORE_SHARDS_MAX, sizeof *store->positions);
    store->markers = calloc(WP_STORE_SHARDS_MAX, sizeof *store->markers);
    store->shards = calloc(WP_STORE_SHARDS_MAX, sizeof *store->shards);
    store->pending = &store->rounds[0];
    snprintf(store->path, sizeof store->path, "%s", config->path);
    if (store->positions == NULL || store->markers == NULL || store->shards == NULL ||
        wp_watermark_init(&store->watermark, store->path, WP_STORE_SHARDS_MAX) != WP_OK) {
        store_free(store);
        return NULL;
    }
    store->rounds[0].batch = rocksdb_writebatch_create();
    store->rounds[1].batch = rocksdb_writebatch_create();
    return store;
}

static int store_open(
    struct rocks_store *store, const struct wp_store_config *config, char *text, size_t text_size)
{
    errno = 0;
    int error = wp_directory_make(store->path);
    if (error != WP_OK) {
        return refuse(error, text, text_size, "cannot make data directory", store->path);
    }
    error = directory_lock(store, text, text_size);
    if (error == WP_OK) {
        error = disk_check(store, config->allow_volatile, text, text_size);
    }
    if (error == WP_OK) {
        error = watermark_read(store, config->accept_loss, text, text_size);
    }
    if (error == WP_OK) {
        rocks_options_create(store);
        error = rocks_check_log(store, config, text, text_size);
    }
    return error;
}

int wp_store_open_rocks(
    const struct wp_store_config *config, struct wp_store **ret_store, char *ret_text, size_t text_size)
{
    if (strlen(config->path) == 0 || strlen(config->path) >= ROCKS_PATH_SIZE) {
        snprintf(ret_text, text_size, "the path of the data directory must have 1 to %u bytes",
            ROCKS_PATH_SIZE - 1);
        return WP_E_CONFIG;
    }
    struct rocks_store *store = store_create(config);
    if (store == NULL) {
        snprintf(ret_text, text_size, "out of memory");
        return WP_E_NOMEM;
    }
    int error = store_open(store, config, ret_text, text_size);
    if (error == WP_OK) {
        error = directories_make(store, ret_text, text_size);
    }
    if (error == WP_OK) {
        error = boot_begin(store, ret_text, text_size);
    }
    if (error == WP_OK) {
        error = instances_open(store, ret_text, text_size);
    }
    if (error == WP_OK) {
        error = rocks_check_applied(store, config, ret_text, text_size);
    }
    if (error == WP_OK && (error = rocks_directory_id_load(store)) != WP_OK) {
        wp_store_error_text(&store->base, ret_text, text_size);
    }
    if (error == WP_OK) {
        error = threads_start(store, ret_text, text_size);
    }
    if (error != WP_OK) {
        store_free(store);
        return error;
    }
    store->base.running = true;
    *ret_store = &store->base;
    return WP_OK;
}
