/* Group commit. Submitters build the next round's WriteBatch while the committer syncs the one before:
 * records are sealed outside the lock, copied once under it, and nothing is retained.
 *
 * Invariants:
 *   1. One writer: only the committer thread writes the log instance, one round at a time, in the order of
 * submission.
 *   2. A completion runs only after the synced write that holds its records has returned without error.
 *   3. After a failed write no completion runs any more.
 *   4. Before a round with a truncation is written, the watermark file is at or below the truncation; before
 * one that resets a shard, it knows nothing of that shard. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/metric.h"
#include "storage/rocks/rocks.h"

#define SEALED_ON_STACK 64u
#define BATCH_KEEP_BYTES (4ull * 1024 * 1024)

struct sealed_entry {
    uint8_t key[WP_ENTRY_KEY_SIZE];
    uint8_t head[WP_ENTRY_HEAD_SIZE];
};

static void round_put_entry(struct rocks_store *store, rocksdb_writebatch_t *batch,
    const struct sealed_entry *sealed, const struct wp_log_entry *entry)
{
    const char *key = (const char *)sealed->key;
    size_t key_size = sizeof sealed->key;
    const char *parts[2] = {(const char *)sealed->head, NULL};
    size_t sizes[2] = {sizeof sealed->head, 0};
    int part_count = 1;
    if (entry->data != NULL && entry->data->size > 0) {
        parts[1] = (const char *)entry->data->data;
        sizes[1] = entry->data->size;
        part_count = 2;
    }
    rocksdb_writebatch_putv_cf(batch, store->entries, 1, &key, &key_size, part_count, parts, sizes);
}

static void round_delete_entries(
    struct rocks_store *store, rocksdb_writebatch_t *batch, uint32_t shard, uint64_t from, uint64_t to)
{
    uint8_t first[WP_ENTRY_KEY_SIZE];
    uint8_t end[WP_ENTRY_KEY_SIZE];
    wp_entry_key(first, shard, from);
    wp_entry_key(end, shard, to);
    rocksdb_writebatch_delete_range_cf(
        batch, store->entries, (const char *)first, sizeof first, (const char *)end, sizeof end);
}

static void round_put_hard(struct rocks_store *store, rocksdb_writebatch_t *batch, uint32_t shard,
    const struct wp_log_hard_state *hard)
{
    uint8_t key[WP_HARD_KEY_SIZE];
    uint8_t record[WP_HARD_RECORD_SIZE];
    wp_hard_key(key, shard, WP_HARD_STATE);
    wp_hard_seal(wp_slice(key, sizeof key), hard, record);
    rocksdb_writebatch_put_cf(
        batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
}

static void round_put_floor(struct rocks_store *store, rocksdb_writebatch_t *batch, uint32_t shard,
    const struct wp_log_position *after)
{
    uint8_t key[WP_HARD_KEY_SIZE];
    uint8_t record[WP_FLOOR_RECORD_SIZE];
    wp_hard_key(key, shard, WP_HARD_FLOOR);
    wp_pair_seal(WP_RECORD_FLOOR, wp_slice(key, sizeof key), after->floor, after->term, record);
    rocksdb_writebatch_put_cf(
        batch, store->hard, (const char *)key, sizeof key, (const char *)record, sizeof record);
}

/* Puts `write` into the batch, in the order that the contract gives: truncate, entries, hard state, drop. */
static void round_build(struct rocks_store *store, struct rocks_round *round,
    const struct wp_log_write *write, const struct sealed_entry *sealed, const struct wp_log_position *before,
    const struct rocks_move *move)
{
    if (move->lowers) {
        round_delete_entries(store, round->batch, write->shard, write->truncate_from, before->last + 1);
    }
    for (uint32_t i = 0; i < write->entry_count; i++) {
        round_put_entry(store, round->batch, &sealed[i], &write->entries[i]);
    }
    if (write->hard != NULL) {
        round_put_hard(store, round->batch, write->shard, write->hard);
    }
    if (move->after.floor != before->floor) {
        round_delete_entries(store, round->batch, write->shard, before->floor, move->after.floor);
        round_put_floor(store, round->batch, write->shard, &move->after);
    }
    round->entry_count += write->entry_count;
    /* A drop alone may be lost: the entries are dropped again later. Not so when it moves the end of the log.
     */
    round->sync = round->sync || move->lowers || write->entry_count > 0 || write->hard != NULL ||
                  move->after.last != before->last;
}

/* Appends the row for a later wp_watermark_put; consecutive writes of one shard share a row. */
static int round_add_move(struct rocks_round *round, const struct rocks_move *move)
{
    struct rocks_move *last = NULL;
    if (round->moves.size > 0) {
        last = (struct rocks_move *)(void *)(round->moves.data + round->moves.size - sizeof *last);
    }
    if (last != NULL && last->shard == move->shard) {
        last->lowest =
            move->lowers && (!last->lowers || move->lowest < last->lowest) ? move->lowest : last->lowest;
        last->lowers = last->lowers || move->lowers;
        last->resets = last->resets || move->resets;
        last->after = move->after;
        return WP_OK;
    }
    return wp_buffer_append(&round->moves, move, sizeof *move);
}

static int submit_locked(
    struct rocks_store *store, const struct wp_log_write *write, const struct sealed_entry *sealed)
{
    struct wp_log_position before = store->positions[write->shard];
    struct rocks_move move = {.shard = write->shard};
    int error = wp_log_position_after(&before, write, &move.after);
    if (error != WP_OK) {
        return error;
    }
    move.lowers = write->truncate_from != 0 && write->truncate_from <= before.last;
    move.lowest = move.lowers ? write->truncate_from - 1 : 0;
    struct rocks_round *round = store->pending;
    struct rocks_done done = {write->done, write->context, write->tag};
    if (write->done != NULL && wp_buffer_append(&round->dones, &done, sizeof done) != WP_OK) {
        return WP_E_NOMEM;
    }
    if (round_add_move(round, &move) != WP_OK) {
        round->dones.size -= write->done != NULL ? sizeof done : 0;
        return WP_E_NOMEM;
    }
    round_build(store, round, write, sealed, &before, &move);
    store->positions[write->shard] = move.after;
    return WP_OK;
}

int rocks_log_submit(struct wp_store *base, const struct wp_log_write *write)
{
    struct rocks_store *store = (struct rocks_store *)base;
    int error = wp_store_failure(base);
    if (error != WP_OK) {
        return error;
    }
    struct sealed_entry on_stack[SEALED_ON_STACK];
    struct sealed_entry *sealed = on_stack;
    if (write->entry_count > SEALED_ON_STACK) {
        sealed = malloc(write->entry_count * sizeof *sealed);
        if (sealed == NULL) {
            return WP_E_NOMEM;
        }
    }
    for (uint32_t i = 0; i < write->entry_count; i++) {
        wp_entry_key(sealed[i].key, write->shard, write->entries[i].index);
        wp_entry_seal(&write->entries[i], sealed[i].key, sealed[i].head);
    }
    pthread_mutex_lock(&store->queue_guard);
    error = submit_locked(store, write, sealed);
    bool wake = error == WP_OK && store->committer_waits;
    store->committer_waits = store->committer_waits && !wake;
    pthread_mutex_unlock(&store->queue_guard);
    if (wake) {
        pthread_cond_signal(&store->queue_filled);
    }
    if (sealed != on_stack) {
        free(sealed);
    }
    return error;
}

static void reset_complete(void *context, uint64_t tag)
{
    struct rocks_store *store = context;
    pthread_mutex_lock(&store->queue_guard);
    store->resets_done = tag;
    pthread_cond_broadcast(&store->reset_done);
    pthread_mutex_unlock(&store->queue_guard);
}

/* Caller holds queue_guard. */
static int reset_queue(struct rocks_store *store, const struct rocks_reset *reset)
{
    struct wp_log_position after = store->positions[reset->shard];
    if (reset->marker == NULL) {
        uint64_t term = reset->hard != NULL ? reset->hard->term : after.term;
        after =
            (struct wp_log_position){.floor = reset->floor, .term = reset->term > term ? reset->term : term};
        after.last = reset->floor > 0 ? reset->floor - 1 : 0;
    }
    struct rocks_move move = {.shard = reset->shard, .resets = reset->marker == NULL, .after = after};
    struct rocks_round *round = store->pending;
    struct rocks_done done = {reset_complete, store, store->resets_queued + 1};
    if (wp_buffer_append(&round->dones, &done, sizeof done) != WP_OK) {
        return WP_E_NOMEM;
    }
    if (round_add_move(round, &move) != WP_OK) {
        round->dones.size -= sizeof done;
        return WP_E_NOMEM;
    }
    rocks_reset_build(store, round->batch, reset);
    round->sync = true;
    store->positions[reset->shard] = after;
    store->resets_queued++;
    return WP_OK;
}

int rocks_log_reset(struct rocks_store *store, const struct rocks_reset *reset)
{
    pthread_mutex_lock(&store->queue_guard);
    int error = wp_store_failure(&store->base);
    if (error == WP_OK) {
        error = reset_queue(store, reset);
    }
    uint64_t number = store->resets_queued;
    pthread_cond_signal(&store->queue_filled);
    while (error == WP_OK && store->resets_done < number) {
        rocks_wait_ms(&store->reset_done, &store->queue_guard, 50);
        error = store->resets_done < number ? wp_store_failure(&store->base) : WP_OK;
    }
    pthread_mutex_unlock(&store->queue_guard);
    return error == WP_E_NOMEM ? wp_store_fail(&store->base, error, "out of memory while a shard is reset")
                               : error;
}

static void round_complete(struct rocks_round *round)
{
    const struct rocks_done *dones = (const struct rocks_done *)(const void *)round->dones.data;
    size_t count = round->dones.size / sizeof *dones;
    for (size_t i = 0; i < count; i++) {
        dones[i].done(dones[i].context, dones[i].tag);
    }
    round->dones.size = 0;
}

static int round_lower_watermark(struct rocks_store *store, const struct rocks_round *round)
{
    const struct rocks_move *moves = (const struct rocks_move *)(const void *)round->moves.data;
    size_t count = round->moves.size / sizeof *moves;
    for (size_t i = 0; i < count; i++) {
        if (!moves[i].lowers && !moves[i].resets) {
            continue;
        }
        int error = moves[i].resets ? wp_watermark_reset(&store->watermark, moves[i].shard)
                                    : wp_watermark_lower(&store->watermark, moves[i].shard, moves[i].lowest);
        if (error != WP_OK) {
            return wp_store_fail(&store->base, error, "cannot lower \"%s/%s\" before a truncation: %s",
                store->path, WP_WATERMARK_FILE, strerror(errno));
        }
    }
    return WP_OK;
}

static void round_raise_watermark(struct rocks_store *store, const struct rocks_round *round)
{
    const struct rocks_move *moves = (const struct rocks_move *)(const void *)round->moves.data;
    size_t count = round->moves.size / sizeof *moves;
    for (size_t i = 0; i < count; i++) {
        wp_watermark_put(&store->watermark, moves[i].shard, moves[i].after.term, moves[i].after.last);
    }
}

/* The one write. */
static int round_write(struct rocks_store *store, struct rocks_round *round)
{
    size_t bytes = 0;
    rocksdb_writebatch_data(round->batch, &bytes);
    uint64_t started_us = wp_clock_mono_us();
    char *text = NULL;
    rocksdb_write(store->log, round->sync ? store->write_synced : store->write_lazy, round->batch, &text);
#if WP_BUG == 2
    if (text != NULL) {
        rocksdb_free(text);
        text = NULL;
    }
#endif
    if (text != NULL) {
        char note[sizeof store->base.error_text];
        int error = rocks_error(store, "instance log, write", &text);
        wp_store_error_text(&store->base, note, sizeof note);
        return wp_store_fail(&store->base, error, "%s", note);
    }
    if (round->sync) {
        wp_metric_observe_us(WP_H_LOG_SYNC, wp_clock_mono_us() - started_us);
        wp_metric_add(WP_M_LOG_SYNCS, 1);
    }
    wp_metric_add(WP_M_LOG_BYTES, bytes);
    wp_metric_add(WP_M_LOG_ENTRIES, round->entry_count);
    return WP_OK;
}

static void round_reset(struct rocks_round *round)
{
    size_t bytes = 0;
    rocksdb_writebatch_data(round->batch, &bytes);
    if (bytes > BATCH_KEEP_BYTES) {
        rocksdb_writebatch_destroy(round->batch);
        round->batch = rocksdb_writebatch_create();
    } else {
        rocksdb_writebatch_clear(round->batch);
    }
    round->dones.size = 0;
    round->moves.size = 0;
    round->entry_count = 0;
    round->sync = false;
}

static void round_commit(struct rocks_store *store, struct rocks_round *round)
{
    if (wp_store_failure(&store->base) != WP_OK) {
        return;
    }
#if WP_BUG == 1
    round_complete(round);
#endif
    if (round_lower_watermark(store, round) != WP_OK || round_write(store, round) != WP_OK) {
        return;
    }
    round_raise_watermark(store, round);
    round_complete(round);
}

/* The round to write next; NULL when the queue is empty and the store closes. */
static struct rocks_round *round_take(struct rocks_store *store)
{
    pthread_mutex_lock(&store->queue_guard);
    while (store->pending->moves.size == 0 && !store->committer_stop) {
        store->committer_waits = true;
        pthread_cond_wait(&store->queue_filled, &store->queue_guard);
    }
    store->committer_waits = false;
    struct rocks_round *round = NULL;
    if (store->pending->moves.size > 0) {
        round = store->pending;
        store->pending = round == &store->rounds[0] ? &store->rounds[1] : &store->rounds[0];
    }
    pthread_mutex_unlock(&store->queue_guard);
    return round;
}

void *rocks_committer_run(void *context)
{
    struct rocks_store *store = context;
    struct rocks_round *round;
    rocks_count_nothing();
    while ((round = round_take(store)) != NULL) {
        round_commit(store, round);
        round_reset(round);
    }
    return NULL;
}
