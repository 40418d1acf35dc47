/* Invariants:
 *   1. filed[s].index <= last index that the log on disk holds for shard s, at every moment.
 *   2. wp_watermark_lower returns only when invariant 1 holds for the log after the truncation.
 * Lowering takes file_guard first: an older, higher copy that is just being written must reach the disk
 * before the lower one does, not after it. */
#include "storage/rocks/watermark.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/error.h"
#include "storage/file.h"
#include "storage/record.h"

#define WATERMARK_MAGIC 0x5750574154455231ull /* "WPWATER1" */
#define WATERMARK_HEAD_SIZE 20u
#define WATERMARK_ROW_SIZE 20u

static const uint8_t watermark_key[] = WP_WATERMARK_FILE;

int wp_watermark_init(struct wp_watermark *watermark, const char *directory, uint32_t shards_max)
{
    memset(watermark, 0, sizeof *watermark);
    watermark->synced = calloc(shards_max, sizeof *watermark->synced);
    watermark->filed = calloc(shards_max, sizeof *watermark->filed);
    if (watermark->synced == NULL || watermark->filed == NULL) {
        free(watermark->synced);
        free(watermark->filed);
        watermark->synced = NULL;
        watermark->filed = NULL;
        return WP_E_NOMEM;
    }
    snprintf(watermark->directory, sizeof watermark->directory, "%s", directory);
    watermark->shards_max = shards_max;
    pthread_mutex_init(&watermark->file_guard, NULL);
    pthread_mutex_init(&watermark->guard, NULL);
    return WP_OK;
}

void wp_watermark_fini(struct wp_watermark *watermark)
{
    if (watermark->synced == NULL) {
        return;
    }
    free(watermark->synced);
    free(watermark->filed);
    watermark->synced = NULL;
    pthread_mutex_destroy(&watermark->file_guard);
    pthread_mutex_destroy(&watermark->guard);
}

static int watermark_decode(struct wp_watermark *watermark, struct wp_slice content)
{
    if (content.size < WATERMARK_HEAD_SIZE || wp_get_u64be(content.data) != WATERMARK_MAGIC) {
        return WP_E_CORRUPT;
    }
    uint32_t count = wp_get_u32be(content.data + 16);
    if (content.size != WATERMARK_HEAD_SIZE + (size_t)count * WATERMARK_ROW_SIZE) {
        return WP_E_CORRUPT;
    }
    watermark->boot = wp_get_u64be(content.data + 8);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = content.data + WATERMARK_HEAD_SIZE + (size_t)i * WATERMARK_ROW_SIZE;
        uint32_t shard = wp_get_u32be(row);
        if (shard >= watermark->shards_max) {
            return WP_E_CORRUPT;
        }
        struct wp_watermark_position position = {wp_get_u64be(row + 4), wp_get_u64be(row + 12)};
        watermark->filed[shard] = position;
        watermark->synced[shard] = position;
        if (shard >= watermark->shard_count) {
            watermark->shard_count = shard + 1;
        }
    }
    return WP_OK;
}

int wp_watermark_load(struct wp_watermark *watermark)
{
    struct wp_buffer buffer = WP_BUFFER_INIT;
    size_t size_max =
        WP_RECORD_HEADER_SIZE + WATERMARK_HEAD_SIZE + (size_t)watermark->shards_max * WATERMARK_ROW_SIZE;
    int error = wp_file_read(watermark->directory, WP_WATERMARK_FILE, size_max, &buffer);
    struct wp_slice content;
    if (error == WP_OK) {
        error = wp_record_open(WP_RECORD_WATERMARK, wp_slice(watermark_key, sizeof watermark_key),
            wp_slice(buffer.data, buffer.size), 0, &content);
    }
    if (error == WP_OK) {
        error = watermark_decode(watermark, content);
    }
    wp_buffer_free(&buffer);
    return error == WP_E_TOO_LARGE ? WP_E_CORRUPT : error;
}

/* Caller holds `guard`. */
static void watermark_put(struct wp_watermark *watermark, uint32_t shard, uint64_t term, uint64_t index)
{
    WP_ASSERT(shard < watermark->shards_max);
    watermark->synced[shard] = (struct wp_watermark_position){term, index};
    watermark->moved = true;
    if (shard >= watermark->shard_count) {
        watermark->shard_count = shard + 1;
    }
}

void wp_watermark_put(struct wp_watermark *watermark, uint32_t shard, uint64_t term, uint64_t index)
{
    pthread_mutex_lock(&watermark->guard);
    watermark_put(watermark, shard, term, index);
    pthread_mutex_unlock(&watermark->guard);
}

/* Caller holds file_guard. */
static int watermark_write(struct wp_watermark *watermark)
{
    size_t size =
        WP_RECORD_HEADER_SIZE + WATERMARK_HEAD_SIZE + (size_t)watermark->shards_max * WATERMARK_ROW_SIZE;
    struct wp_watermark_position *copy = malloc((size_t)watermark->shards_max * sizeof *copy);
    uint8_t *record = malloc(size);
    if (copy == NULL || record == NULL) {
        free(copy);
        free(record);
        return WP_E_NOMEM;
    }
    pthread_mutex_lock(&watermark->guard);
    uint32_t shard_count = watermark->shard_count;
    memcpy(copy, watermark->synced, shard_count * sizeof *copy);
    watermark->moved = false;
    pthread_mutex_unlock(&watermark->guard);

    uint8_t *content = record + WP_RECORD_HEADER_SIZE;
    uint8_t *row = content + WATERMARK_HEAD_SIZE;
    uint32_t count = 0;
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        if (copy[shard].term == 0 && copy[shard].index == 0) {
            continue;
        }
        wp_put_u32be(row, shard);
        wp_put_u64be(row + 4, copy[shard].term);
        wp_put_u64be(row + 12, copy[shard].index);
        row += WATERMARK_ROW_SIZE;
        count++;
    }
    wp_put_u64be(content, WATERMARK_MAGIC);
    wp_put_u64be(content + 8, watermark->boot);
    wp_put_u32be(content + 16, count);
    struct wp_slice body = {content, (size_t)(row - content)};
    wp_record_seal(
        WP_RECORD_WATERMARK, wp_slice(watermark_key, sizeof watermark_key), wp_slice(NULL, 0), body, record);
    int error = wp_file_replace(
        watermark->directory, WP_WATERMARK_FILE, wp_slice(record, WP_RECORD_HEADER_SIZE + body.size));
    if (error == WP_OK) {
        memcpy(watermark->filed, copy, shard_count * sizeof *copy);
    } else {
        pthread_mutex_lock(&watermark->guard);
        watermark->moved = true;
        pthread_mutex_unlock(&watermark->guard);
    }
    free(copy);
    free(record);
    return error;
}

int wp_watermark_lower(struct wp_watermark *watermark, uint32_t shard, uint64_t index)
{
    WP_ASSERT(shard < watermark->shards_max);
    pthread_mutex_lock(&watermark->file_guard);
    pthread_mutex_lock(&watermark->guard);
    if (watermark->synced[shard].index > index) {
        watermark_put(watermark, shard, watermark->synced[shard].term, index);
    }
    pthread_mutex_unlock(&watermark->guard);
    int error = WP_OK;
    if (watermark->filed[shard].index > index) {
        error = watermark_write(watermark);
    }
    pthread_mutex_unlock(&watermark->file_guard);
    return error;
}

int wp_watermark_reset(struct wp_watermark *watermark, uint32_t shard)
{
    WP_ASSERT(shard < watermark->shards_max);
    pthread_mutex_lock(&watermark->file_guard);
    wp_watermark_put(watermark, shard, 0, 0);
    int error = WP_OK;
    if (watermark->filed[shard].index > 0 || watermark->filed[shard].term > 0) {
        error = watermark_write(watermark);
    }
    pthread_mutex_unlock(&watermark->file_guard);
    return error;
}

int wp_watermark_write(struct wp_watermark *watermark, bool force)
{
    pthread_mutex_lock(&watermark->file_guard);
    pthread_mutex_lock(&watermark->guard);
    bool needed = force || watermark->moved;
    pthread_mutex_unlock(&watermark->guard);
    int error = needed ? watermark_write(watermark) : WP_OK;
    pthread_mutex_unlock(&watermark->file_guard);
    return error;
}
