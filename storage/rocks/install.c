/* Rows of a shard from elsewhere: SST files beside the instance, sealed as every other write, then taken over
 * whole. The order of the last steps and what a crash between them leaves: shard.c.
 *
 * The applied position lies apart from the rows in key order and is written last, so it has a file of its
 * own. All files are ingested in one call, which is one edit of RocksDB's manifest. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "storage/file.h"
#include "storage/rocks/rocks.h"

#define FILES_MAX 4096u
#define SPREAD_BYTES (1u << 20)

struct rocks_install {
    struct wp_state_install base;
    rocksdb_envoptions_t *env_options;
    rocksdb_sstfilewriter_t *writer; /* NULL between files */
    int file;                        /* of the writer, to have it written back meanwhile; -1 = none */
    uint64_t file_bytes;
    uint64_t spread_bytes; /* of file_bytes whose write-back was begun */
    uint32_t file_count;
    bool marked;            /* the next open needs the files */
    struct wp_buffer value; /* header and value of one row */
};

static void folder(const struct rocks_store *store, char path[ROCKS_PATH_SIZE + 16])
{
    snprintf(path, ROCKS_PATH_SIZE + 16, "%s/install", store->path);
}

static void file_path(
    const struct rocks_store *store, uint32_t shard, uint32_t number, char path[ROCKS_PATH_SIZE + 64])
{
    snprintf(path, ROCKS_PATH_SIZE + 64, "%s/install/%u-%u.sst", store->path, shard, number);
}

int rocks_install_clean(struct rocks_store *store)
{
    char path[ROCKS_PATH_SIZE + 16];
    folder(store, path);
    int error = wp_directory_make(path);
    DIR *directory = error == WP_OK ? opendir(path) : NULL;
    if (directory == NULL) {
        return wp_store_note(
            &store->base, WP_E_IO, "cannot open directory \"%s\": %s", path, strerror(errno));
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] != '.') {
            unlinkat(dirfd(directory), entry->d_name, 0);
        }
    }
    closedir(directory);
    return WP_OK;
}

/* The files' names must be as durable as the marker that speaks of them. */
static int install_folder_sync(struct rocks_store *store)
{
    char path[ROCKS_PATH_SIZE + 16];
    folder(store, path);
    int error = wp_directory_sync(path);
    if (error != WP_OK) {
        wp_store_note(&store->base, error, "cannot sync directory \"%s\": %s", path, strerror(errno));
    }
    return error;
}

int rocks_install_create(struct wp_store *base, uint32_t shard, struct wp_state_install **ret_install)
{
    struct rocks_install *install = calloc(1, sizeof *install);
    if (install == NULL) {
        return WP_E_NOMEM;
    }
    install->base.store = base;
    install->base.shard = shard;
    install->env_options = rocksdb_envoptions_create();
    install->file = -1;
    *ret_install = &install->base;
    return WP_OK;
}

/* The disk is shared with syncs that somebody waits for: a file is written back while it grows, a piece at a
 * time, and the next rows wait for the piece before. Only an attempt; the sync at the end is what counts. */
static void file_spread(struct rocks_install *install)
{
    if (install->file >= 0 && install->file_bytes - install->spread_bytes >= SPREAD_BYTES) {
        install->spread_bytes = install->file_bytes;
        (void)sync_file_range(install->file, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
    }
}

static void file_forget(struct rocks_install *install)
{
    if (install->file >= 0) {
        close(install->file);
        install->file = -1;
    }
}

static int file_finish(struct rocks_install *install)
{
    struct rocks_store *store = (struct rocks_store *)install->base.store;
    char *text = NULL;
    if (install->writer == NULL) {
        return WP_OK;
    }
    file_forget(install);
    rocksdb_sstfilewriter_finish(install->writer, &text); /* syncs the file */
    rocksdb_sstfilewriter_destroy(install->writer);
    install->writer = NULL;
    return text != NULL ? rocks_error(store, "file of an installation, end", &text) : WP_OK;
}

static int file_begin(struct rocks_install *install)
{
    struct rocks_store *store = (struct rocks_store *)install->base.store;
    char path[ROCKS_PATH_SIZE + 64];
    char *text = NULL;
    if (install->file_count == FILES_MAX) {
        return WP_E_TOO_LARGE;
    }
    file_path(store, install->base.shard, install->file_count, path);
    install->writer = rocksdb_sstfilewriter_create(install->env_options, store->state_options);
    install->file_count++;
    install->file_bytes = install->spread_bytes = 0;
    rocksdb_sstfilewriter_open(install->writer, path, &text);
    install->file = text == NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    return text != NULL ? rocks_error(store, "file of an installation, open", &text) : WP_OK;
}

static int row_put(struct rocks_install *install, const char *key, size_t key_size, struct wp_slice record)
{
    struct rocks_store *store = (struct rocks_store *)install->base.store;
    int error = install->writer == NULL ? file_begin(install) : WP_OK;
    if (error != WP_OK) {
        return error;
    }
    char *text = NULL;
    rocksdb_sstfilewriter_put(install->writer, key, key_size, (const char *)record.data, record.size, &text);
    install->file_bytes += key_size + record.size;
    file_spread(install);
    return text != NULL ? rocks_error(store, "file of an installation, write", &text) : WP_OK;
}

int rocks_install_add(struct wp_state_install *base, struct wp_slice key, struct wp_slice value)
{
    struct rocks_install *install = (struct rocks_install *)base;
    char full[1 + WP_STATE_KEY_SIZE_MAX] = {WP_STATE_USER};
    uint8_t header[WP_RECORD_HEADER_SIZE];
    memcpy(full + 1, key.data, key.size);
    wp_record_seal(WP_RECORD_STATE, key, wp_slice(NULL, 0), value, header);
    install->value.size = 0;
    if (wp_buffer_append(&install->value, header, sizeof header) != WP_OK ||
        wp_buffer_append(&install->value, value.data, value.size) != WP_OK) {
        return WP_E_NOMEM;
    }
    int error = row_put(install, full, 1 + key.size, wp_slice(install->value.data, install->value.size));
    const struct rocks_store *store = (const struct rocks_store *)base->store;
    if (error == WP_OK && install->file_bytes >= store->sizes.write_buffer_bytes) {
        error = file_finish(install);
    }
    return error;
}

/* The last file: the applied position alone. */
static int applied_put(struct rocks_install *install, uint64_t index, uint64_t term)
{
    uint8_t key[WP_APPLIED_KEY_SIZE];
    uint8_t record[WP_APPLIED_RECORD_SIZE];
    int error = file_finish(install);
    if (error != WP_OK) {
        return error;
    }
    wp_applied_key(key, install->base.shard);
    wp_pair_seal(WP_RECORD_APPLIED, wp_slice(key, sizeof key), index, term, record);
    error = row_put(install, (const char *)key, sizeof key, wp_slice(record, sizeof record));
    return error != WP_OK ? error : file_finish(install);
}

int rocks_install_ingest(struct rocks_store *store, uint32_t shard, uint32_t file_count)
{
    char(*paths)[ROCKS_PATH_SIZE + 64] = calloc(file_count, sizeof *paths);
    const char **names = calloc(file_count, sizeof *names);
    char *text = NULL;
    if (paths == NULL || names == NULL) {
        free(paths);
        free(names);
        return wp_store_note(&store->base, WP_E_NOMEM, "out of memory while shard %u is installed", shard);
    }
    for (uint32_t i = 0; i < file_count; i++) {
        file_path(store, shard, i, paths[i]);
        names[i] = paths[i];
    }
    rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(options, 1);
    rocksdb_ingest_external_file(store->state, names, file_count, options, &text);
    rocksdb_ingestexternalfileoptions_destroy(options);
    free(paths);
    free(names);
    return text != NULL ? rocks_error(store, "instance state, taking over of files", &text) : WP_OK;
}

/* Everything that can still be refused: files whole and named on the disk, hard state as it will be. */
static int commit_prepare(
    struct rocks_install *install, struct wp_marker *marker, struct wp_log_hard_state *ret_after)
{
    struct rocks_store *store = (struct rocks_store *)install->base.store;
    struct wp_log_hard_state before;
    struct wp_log_position floor;
    int error = applied_put(install, marker->index, marker->term);
    if (error == WP_OK) {
        error = install_folder_sync(store);
    }
    if (error == WP_OK) {
        error = rocks_log_hard(store, install->base.shard, &before, &floor);
    }
    if (error != WP_OK) {
        return error;
    }
    marker->file_count = install->file_count;
    pthread_mutex_lock(&store->queue_guard);
    uint64_t last = store->positions[install->base.shard].last;
    pthread_mutex_unlock(&store->queue_guard);
    return wp_hard_after_install(&before, last, marker, ret_after);
}

int rocks_install_commit(struct wp_state_install *base, uint64_t index, uint64_t term, uint64_t leader_term)
{
    struct rocks_install *install = (struct rocks_install *)base;
    struct rocks_store *store = (struct rocks_store *)base->store;
    struct wp_marker marker = {WP_MARKER_INSTALL, index, term, leader_term, 0};
    struct wp_log_hard_state after;
    int error = commit_prepare(install, &marker, &after);
    if (error != WP_OK) {
        return error; /* nothing has changed */
    }
    install->marked = true;
    error = rocks_log_reset(store, &(struct rocks_reset){.shard = base->shard, .marker = &marker});
    if (error == WP_OK) {
        error = rocks_state_drop(store, base->shard);
    }
    if (error != WP_OK) {
        return error;
    }
    error = rocks_install_ingest(store, base->shard, install->file_count);
    if (error != WP_OK) {
        char note[sizeof store->base.error_text];
        wp_store_error_text(&store->base, note, sizeof note);
        return wp_store_fail(&store->base, error, "%s", note);
    }
    rocks_state_set_applied(store, base->shard, index, term);
    error = rocks_log_reset(store,
        &(struct rocks_reset){.shard = base->shard, .floor = index + 1, .term = after.term, .hard = &after});
    install->marked = error != WP_OK;
    return error;
}

void rocks_install_destroy(struct wp_state_install *base)
{
    struct rocks_install *install = (struct rocks_install *)base;
    if (install->writer != NULL) {
        rocksdb_sstfilewriter_destroy(install->writer);
    }
    file_forget(install);
    for (uint32_t i = 0; i < install->file_count && !install->marked; i++) {
        char path[ROCKS_PATH_SIZE + 64];
        file_path((struct rocks_store *)base->store, base->shard, i, path);
        unlink(path);
    }
    rocksdb_envoptions_destroy(install->env_options);
    wp_buffer_free(&install->value);
    free(install);
}
