#include "router/dispatch_cache.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/error.h"
#include "router/dispatch_map.h"

struct cached {
    struct wp_map_node node;
    TAILQ_ENTRY(cached) age;
    struct wp_body_key key;
    struct wp_body body;
    uint8_t bytes[];
};

struct wp_body_cache {
    struct wp_map map;
    TAILQ_HEAD(, cached) oldest_first;
    uint64_t bytes;
    uint64_t bytes_max;
};

struct wp_body_cache *wp_body_cache_create(uint64_t bytes_max)
{
    struct wp_body_cache *cache = calloc(1, sizeof(*cache));
    if (cache) {
        TAILQ_INIT(&cache->oldest_first);
        cache->bytes_max = bytes_max;
    }
    return cache;
}

static void cache_evict(struct wp_body_cache *cache, struct cached *cached)
{
    wp_map_remove(&cache->map, &cached->node);
    TAILQ_REMOVE(&cache->oldest_first, cached, age);
    cache->bytes -= cached->body.envelope.size;
    free(cached);
}

void wp_body_cache_destroy(struct wp_body_cache **cache)
{
    if (!*cache) {
        return;
    }
    for (struct cached *cached; (cached = TAILQ_FIRST(&(*cache)->oldest_first));) {
        cache_evict(*cache, cached);
    }
    wp_map_fini(&(*cache)->map);
    free(*cache);
    *cache = NULL;
}

static uint64_t key_hash(const struct wp_body_key *key)
{
    return wp_map_hash(key->mailbox, key->sequence, ((uint64_t)key->shard << 8) | (uint64_t)key->lane);
}

static struct cached *cache_lookup(const struct wp_body_cache *cache, const struct wp_body_key *key)
{
    struct wp_map_node *node = wp_map_find(&cache->map, key_hash(key));
    for (; node; node = wp_map_find_next(node)) {
        struct cached *cached = WP_MAP_OBJECT(node, struct cached, node);
        if (cached->key.sequence == key->sequence && cached->key.mailbox == key->mailbox &&
            cached->key.shard == key->shard && cached->key.lane == key->lane) {
            return cached;
        }
    }
    return NULL;
}

int wp_body_cache_put(struct wp_body_cache *cache, const struct wp_body_key *key, const struct wp_body *body)
{
    if (cache_lookup(cache, key)) {
        return WP_OK;
    }
    size_t size = body->envelope.size;
    for (struct cached *old;
         cache->bytes + size > cache->bytes_max && (old = TAILQ_FIRST(&cache->oldest_first));) {
        cache_evict(cache, old);
    }
    struct cached *cached = malloc(sizeof(*cached) + size);
    if (!cached) {
        return WP_E_NOMEM;
    }
    if (wp_map_insert(&cache->map, &cached->node, key_hash(key))) {
        free(cached);
        return WP_E_NOMEM;
    }
    if (size > 0) {
        memcpy(cached->bytes, body->envelope.data, size);
    }
    cached->key = *key;
    cached->body = *body;
    cached->body.envelope = wp_slice(cached->bytes, size);
    TAILQ_INSERT_TAIL(&cache->oldest_first, cached, age);
    cache->bytes += size;
    return WP_OK;
}

const struct wp_body *wp_body_cache_find(const struct wp_body_cache *cache, const struct wp_body_key *key)
{
    struct cached *cached = cache_lookup(cache, key);
    return cached ? &cached->body : NULL;
}

void wp_body_cache_drop(struct wp_body_cache *cache, const struct wp_body_key *key)
{
    struct cached *cached = cache_lookup(cache, key);
    if (cached) {
        cache_evict(cache, cached);
    }
}

uint64_t wp_body_cache_bytes(const struct wp_body_cache *cache)
{
    return cache->bytes;
}
