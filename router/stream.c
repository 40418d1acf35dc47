#include "router/stream.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/address.h"

#define STREAM_KEY_SIZE_MAX (2u * WP_NAME_SIZE_MAX + 1u)

enum wp_stream_verdict wp_stream_judge(
    const struct wp_stream *stream, uint64_t epoch, uint64_t sequence, uint64_t *ret_expected)
{
    uint64_t known_epoch = stream ? stream->epoch : 0;
    uint64_t last = stream ? stream->sequence : 0;
    if (epoch < known_epoch && WP_BUG != 34) { /* 34: an older attachment still submits */
        return WP_STREAM_STALE;
    }
    *ret_expected = epoch > known_epoch ? 1 : last + 1;
    if (sequence == *ret_expected) {
        return WP_STREAM_NEXT;
    }
    return sequence < *ret_expected && epoch == known_epoch ? WP_STREAM_PAST : WP_STREAM_GAP;
}

static struct wp_slice stream_key(const void *object)
{
    const struct wp_stream *stream = object;
    return wp_slice(stream->key, stream->key_size);
}

void wp_streams_init(struct wp_names *streams)
{
    wp_names_init(streams, stream_key);
}

static void objects_free(struct wp_names *names)
{
    for (uint32_t i = 0; i < names->capacity; i++) {
        free(names->slots[i].object);
    }
    wp_names_fini(names);
}

void wp_streams_fini(struct wp_names *streams)
{
    objects_free(streams);
}

static struct wp_slice key_make(
    uint8_t key[STREAM_KEY_SIZE_MAX], struct wp_slice user, struct wp_slice device)
{
    WP_ASSERT(user.size <= WP_NAME_SIZE_MAX && device.size <= WP_NAME_SIZE_MAX);
    memcpy(key, user.data, user.size);
    key[user.size] = 0;
    memcpy(key + user.size + 1, device.data, device.size);
    return wp_slice(key, user.size + 1 + device.size);
}

struct wp_stream *wp_streams_find(
    const struct wp_names *streams, struct wp_slice user, struct wp_slice device, uint64_t *ret_hash)
{
    uint8_t bytes[STREAM_KEY_SIZE_MAX];
    struct wp_slice key = key_make(bytes, user, device);
    *ret_hash = wp_names_hash(key);
    return wp_names_find(streams, key, *ret_hash);
}

struct wp_stream *wp_streams_add(struct wp_names *streams, struct wp_slice user, struct wp_slice device)
{
    uint8_t bytes[STREAM_KEY_SIZE_MAX];
    struct wp_slice key = key_make(bytes, user, device);
    struct wp_stream *stream = calloc(1, sizeof *stream + key.size);
    if (!stream) {
        return NULL;
    }
    stream->hash = wp_names_hash(key);
    stream->user_size = (uint8_t)user.size;
    stream->key_size = (uint8_t)key.size;
    memcpy(stream->key, key.data, key.size);
    if (wp_names_insert(streams, stream, stream->hash)) {
        free(stream);
        return NULL;
    }
    return stream;
}

uint64_t wp_rate_tokens(const struct wp_rate *rate, uint64_t per_minute, uint64_t now_ms)
{
    uint64_t full = per_minute * WP_RATE_TOKEN;
    if (!rate || now_ms - rate->time_ms >= WP_RATE_FULL_MS) {
        return full;
    }
    uint64_t tokens = rate->tokens + (now_ms - rate->time_ms) * per_minute;
    return tokens < full ? tokens : full;
}

static struct wp_slice rate_key(const void *object)
{
    const struct wp_rate *rate = object;
    return wp_slice(rate->key, rate->key_size);
}

void wp_rates_init(struct wp_names *rates)
{
    wp_names_init(rates, rate_key);
}

void wp_rates_fini(struct wp_names *rates)
{
    objects_free(rates);
}

struct wp_rate *wp_rates_find(const struct wp_names *rates, struct wp_slice user)
{
    return wp_names_find(rates, user, wp_names_hash(user));
}

struct wp_rate *wp_rates_add(struct wp_names *rates, struct wp_slice user)
{
    WP_ASSERT(user.size <= WP_NAME_SIZE_MAX);
    struct wp_rate *rate = calloc(1, sizeof *rate + user.size);
    if (!rate) {
        return NULL;
    }
    rate->key_size = (uint8_t)user.size;
    memcpy(rate->key, user.data, user.size);
    if (wp_names_insert(rates, rate, wp_names_hash(user))) {
        free(rate);
        return NULL;
    }
    return rate;
}

void wp_rates_remove(struct wp_names *rates, struct wp_rate *rate)
{
    wp_names_remove(rates, rate, wp_names_hash(rate_key(rate)));
    free(rate);
}
