/* Ids stand in a ring of chunks in the order of acceptance, so a bucket is a run of the ring and dropping the
 * oldest frees from its front; a hash table of 32-bit ring places finds them. Chunks and table grow with use,
 * so an idle shard costs little and a busy one no more than seen_ids_max says.
 *
 * 1. buckets ascend in number and in acceptance time; only the last takes ids.
 * 2. the ring holds exactly the ids of the buckets; its count <= ids_max.
 * 3. every id dropped carries a time < floor_ms. */
#include "router/seen.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"

#define CHUNK_IDS 1024u
#define TABLE_CAPACITY_MIN 256u

struct seen_id {
    uint8_t id[WP_UUID_SIZE];
    uint64_t sender;
    uint32_t accepted_offset_ms; /* from the opening of its bucket */
    uint32_t bucket_low;
};

struct seen_bucket {
    uint64_t number;
    uint64_t opened_ms;
    uint64_t last_ms;   /* acceptance of its last id */
    uint64_t newest_ms; /* latest time carried by an id */
    uint64_t count;
};

struct wp_seen {
    uint64_t ids_max;
    uint64_t bucket_ids_max;
    uint64_t floor_ms;
    uint64_t next_bucket;
    struct seen_bucket *buckets; /* ring */
    uint32_t bucket_first;
    uint32_t bucket_count;
    uint32_t bucket_capacity;
    struct seen_id **chunks; /* ring of chunk_count places, allocated when entered */
    uint32_t chunk_count;
    uint64_t first; /* ordinal of the oldest id */
    uint64_t count;
    uint32_t *table; /* ring place + 1; 0 = free */
    uint32_t table_capacity;
};

/* One is being filled, and one being emptied. */
static uint32_t chunks_for(uint64_t ids)
{
    return (uint32_t)(ids / CHUNK_IDS) + 2;
}

static void ids_max_set(struct wp_seen *seen, uint64_t ids_max)
{
    seen->ids_max = ids_max;
    seen->bucket_ids_max = ids_max >= WP_SEEN_BUCKETS ? ids_max / WP_SEEN_BUCKETS : 1;
}

int wp_seen_create(uint64_t ids_max, struct wp_seen **ret_seen)
{
    if (ids_max == 0 || ids_max > WP_SEEN_IDS_MAX) {
        return WP_E_INVALID;
    }
    struct wp_seen *seen = calloc(1, sizeof *seen);
    if (!seen) {
        return WP_E_NOMEM;
    }
    ids_max_set(seen, ids_max);
    seen->next_bucket = 1;
    seen->chunk_count = chunks_for(ids_max);
    seen->bucket_capacity = 64;
    seen->table_capacity = TABLE_CAPACITY_MIN;
    seen->chunks = calloc(seen->chunk_count, sizeof *seen->chunks);
    seen->buckets = malloc(seen->bucket_capacity * sizeof *seen->buckets);
    seen->table = calloc(seen->table_capacity, sizeof *seen->table);
    if (!seen->chunks || !seen->buckets || !seen->table) {
        wp_seen_destroy(&seen);
        return WP_E_NOMEM;
    }
    *ret_seen = seen;
    return WP_OK;
}

void wp_seen_destroy(struct wp_seen **seen)
{
    struct wp_seen *taken = *seen;
    *seen = NULL;
    if (!taken) {
        return;
    }
    for (uint32_t i = 0; taken->chunks && i < taken->chunk_count; i++) {
        free(taken->chunks[i]);
    }
    free(taken->chunks);
    free(taken->buckets);
    free(taken->table);
    free(taken);
}

static struct seen_bucket *bucket_at(const struct wp_seen *seen, uint32_t index)
{
    return &seen->buckets[(seen->bucket_first + index) % seen->bucket_capacity];
}

/* Place of an ordinal in the ring. */
static uint32_t ring_place(const struct wp_seen *seen, uint64_t ordinal)
{
    return (uint32_t)(ordinal % ((uint64_t)seen->chunk_count * CHUNK_IDS));
}

static struct seen_id *ring_id(const struct wp_seen *seen, uint32_t place)
{
    return &seen->chunks[place / CHUNK_IDS][place % CHUNK_IDS];
}

static uint32_t id_hash(uint64_t sender, const uint8_t id[WP_UUID_SIZE])
{
    return (uint32_t)XXH3_64bits_withSeed(id, WP_UUID_SIZE, sender);
}

/* Slot of the id, or the free slot where it would go. The whole key is compared: a hash never decides alone.
 */
static uint32_t table_slot(const struct wp_seen *seen, uint64_t sender, const uint8_t id[WP_UUID_SIZE])
{
    uint32_t mask = seen->table_capacity - 1;
    uint32_t slot = id_hash(sender, id) & mask;
    for (; seen->table[slot]; slot = (slot + 1) & mask) {
        const struct seen_id *other = ring_id(seen, seen->table[slot] - 1);
        if (other->sender == sender && memcmp(other->id, id, WP_UUID_SIZE) == 0) {
            break;
        }
    }
    return slot;
}

static const struct seen_bucket *bucket_of(const struct wp_seen *seen, const struct seen_id *id)
{
    uint32_t index = id->bucket_low - (uint32_t)bucket_at(seen, 0)->number;
    WP_ASSERT(index < seen->bucket_count);
    return bucket_at(seen, index);
}

bool wp_seen_find(
    const struct wp_seen *seen, uint64_t sender, const uint8_t id[WP_UUID_SIZE], uint64_t *ret_accepted_ms)
{
    uint32_t slot = table_slot(seen, sender, id);
    if (!seen->table[slot]) {
        return false;
    }
    const struct seen_id *found = ring_id(seen, seen->table[slot] - 1);
    *ret_accepted_ms = bucket_of(seen, found)->opened_ms + found->accepted_offset_ms;
    return true;
}

uint64_t wp_seen_oldest_ms(const struct wp_seen *seen, uint64_t now_ms)
{
    uint64_t kept = now_ms > WP_SEEN_KEEP_MS ? now_ms - WP_SEEN_KEEP_MS : 0;
    return kept > seen->floor_ms ? kept : seen->floor_ms;
}

static uint64_t floor_after(const struct wp_seen *seen, const struct seen_bucket *bucket)
{
    return bucket->newest_ms + 1 > seen->floor_ms ? bucket->newest_ms + 1 : seen->floor_ms;
}

static bool bucket_open(const struct wp_seen *seen, const struct seen_bucket *bucket, uint64_t now_ms)
{
    return bucket->count < seen->bucket_ids_max && now_ms - bucket->opened_ms < WP_SEEN_BUCKET_MS;
}

/* The oldest bucket may go before its time when what is left still covers the shortest window. */
static bool oldest_may_shrink(const struct wp_seen *seen, uint64_t now_ms)
{
    return floor_after(seen, bucket_at(seen, 0)) + WP_SEEN_WINDOW_MIN_MS <= now_ms;
}

bool wp_seen_has_room(const struct wp_seen *seen, uint64_t now_ms)
{
    uint64_t count = seen->count;
    uint64_t floor_ms = seen->floor_ms;
    for (uint32_t i = 0; count >= seen->ids_max; i++) {
        const struct seen_bucket *bucket = bucket_at(seen, i);
        floor_ms = bucket->newest_ms + 1 > floor_ms ? bucket->newest_ms + 1 : floor_ms;
        if (floor_ms + WP_SEEN_WINDOW_MIN_MS > now_ms) {
            return false;
        }
        count -= bucket->count;
    }
    return true;
}

static void table_place(struct wp_seen *seen, uint32_t place)
{
    const struct seen_id *id = ring_id(seen, place);
    seen->table[table_slot(seen, id->sender, id->id)] = place + 1;
}

static int table_reserve(struct wp_seen *seen)
{
    if ((seen->count + 1) * 4 <= (uint64_t)seen->table_capacity * 3) {
        return WP_OK;
    }
    uint32_t *table = calloc((size_t)seen->table_capacity * 2, sizeof *table);
    if (!table) {
        return WP_E_NOMEM;
    }
    free(seen->table);
    seen->table = table;
    seen->table_capacity *= 2;
    for (uint64_t i = 0; i < seen->count; i++) {
        table_place(seen, ring_place(seen, seen->first + i));
    }
    return WP_OK;
}

static int buckets_reserve(struct wp_seen *seen)
{
    if (seen->bucket_count < seen->bucket_capacity) {
        return WP_OK;
    }
    struct seen_bucket *buckets = malloc((size_t)seen->bucket_capacity * 2 * sizeof *buckets);
    if (!buckets) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < seen->bucket_count; i++) {
        buckets[i] = *bucket_at(seen, i);
    }
    free(seen->buckets);
    seen->buckets = buckets;
    seen->bucket_first = 0;
    seen->bucket_capacity *= 2;
    return WP_OK;
}

static int bucket_append(struct wp_seen *seen, uint64_t number, uint64_t opened_ms)
{
    int error = buckets_reserve(seen);
    if (error) {
        return error;
    }
    seen->bucket_count++;
    *bucket_at(seen, seen->bucket_count - 1) = (struct seen_bucket){.number = number, .opened_ms = opened_ms};
    seen->next_bucket = number + 1;
    return WP_OK;
}

/* Adds to the last bucket. */
static int id_append(
    struct wp_seen *seen, uint64_t sender, const uint8_t id[WP_UUID_SIZE], uint64_t accepted_ms)
{
    int error = table_reserve(seen);
    if (error) {
        return error;
    }
    uint32_t place = ring_place(seen, seen->first + seen->count);
    struct seen_id **chunk = &seen->chunks[place / CHUNK_IDS];
    if (!*chunk && !(*chunk = malloc(CHUNK_IDS * sizeof **chunk))) {
        return WP_E_NOMEM;
    }
    struct seen_bucket *bucket = bucket_at(seen, seen->bucket_count - 1);
    struct seen_id *added = ring_id(seen, place);
    memcpy(added->id, id, WP_UUID_SIZE);
    added->sender = sender;
    added->accepted_offset_ms = (uint32_t)(accepted_ms - bucket->opened_ms);
    added->bucket_low = (uint32_t)bucket->number;
    table_place(seen, place);
    seen->count++;
    uint64_t made_ms = wp_uuid7_time_ms(id);
    bucket->newest_ms = made_ms > bucket->newest_ms ? made_ms : bucket->newest_ms;
    bucket->last_ms = accepted_ms;
    bucket->count++;
    return WP_OK;
}

/* Places change with the size of the ring: its chunks move to the front in their order, and each id is found
 * anew. */
int wp_seen_resize(struct wp_seen *seen, uint64_t ids_max)
{
    uint32_t count = chunks_for(ids_max);
    if (count > seen->chunk_count) {
        struct seen_id **chunks = calloc(count, sizeof *chunks);
        if (!chunks) {
            return WP_E_NOMEM;
        }
        for (uint32_t i = 0; i < seen->chunk_count; i++) {
            chunks[i] = seen->chunks[(seen->first / CHUNK_IDS + i) % seen->chunk_count];
        }
        free(seen->chunks);
        seen->chunks = chunks;
        seen->chunk_count = count;
        seen->first %= CHUNK_IDS;
        memset(seen->table, 0, (size_t)seen->table_capacity * sizeof *seen->table);
        for (uint64_t i = 0; i < seen->count; i++) {
            table_place(seen, ring_place(seen, seen->first + i));
        }
    }
    ids_max_set(seen, ids_max);
    return WP_OK;
}

int wp_seen_insert(struct wp_seen *seen, uint64_t sender, const uint8_t id[WP_UUID_SIZE], uint64_t now_ms,
    uint64_t *ret_bucket)
{
    WP_ASSERT(seen->count < seen->ids_max);
    if (seen->bucket_count == 0 || !bucket_open(seen, bucket_at(seen, seen->bucket_count - 1), now_ms)) {
        int error = bucket_append(seen, seen->next_bucket, now_ms);
        if (error) {
            return error;
        }
    }
    int error = id_append(seen, sender, id, now_ms);
    if (!error) {
        *ret_bucket = bucket_at(seen, seen->bucket_count - 1)->number;
    }
    return error;
}

/* A smaller ids_max than the window was filled under must not keep the shard from starting: ids beyond it are
 * taken in and the window shrinks at the next inserts. */
static int chunks_reserve(struct wp_seen *seen)
{
    WP_ASSERT(seen->first == 0);
    if (seen->count < seen->ids_max) {
        return WP_OK;
    }
    uint32_t needed = chunks_for(seen->count);
    if (needed <= seen->chunk_count) {
        return WP_OK;
    }
    struct seen_id **chunks = realloc(seen->chunks, needed * sizeof *chunks);
    if (!chunks) {
        return WP_E_NOMEM;
    }
    memset(chunks + seen->chunk_count, 0, (needed - seen->chunk_count) * sizeof *chunks);
    seen->chunks = chunks;
    seen->chunk_count = needed;
    return WP_OK;
}

int wp_seen_load(struct wp_seen *seen, uint64_t bucket, uint64_t sender, const uint8_t id[WP_UUID_SIZE],
    uint64_t accepted_ms)
{
    int error = chunks_reserve(seen);
    if (error) {
        return error;
    }
    const struct seen_bucket *last = seen->bucket_count ? bucket_at(seen, seen->bucket_count - 1) : NULL;
    if (!last || bucket != last->number) {
        if (last && bucket != last->number + 1) {
            return WP_E_CORRUPT;
        }
        error = bucket_append(seen, bucket, accepted_ms);
        if (error) {
            return error;
        }
        last = bucket_at(seen, seen->bucket_count - 1);
    }
    if (accepted_ms < last->last_ms || accepted_ms - last->opened_ms > UINT32_MAX) {
        return WP_E_CORRUPT;
    }
    return id_append(seen, sender, id, accepted_ms);
}

int wp_seen_load_end(struct wp_seen *seen, uint64_t floor_ms, uint64_t last_bucket)
{
    if (seen->bucket_count > 0 && last_bucket != seen->next_bucket - 1) {
        return WP_E_CORRUPT;
    }
    seen->floor_ms = floor_ms;
    seen->next_bucket = last_bucket + 1;
    return WP_OK;
}

/* Frees a slot and moves later ids of its probe run back. */
static void table_remove(struct wp_seen *seen, const struct seen_id *id)
{
    uint32_t mask = seen->table_capacity - 1;
    uint32_t hole = table_slot(seen, id->sender, id->id);
    WP_ASSERT(seen->table[hole]);
    for (uint32_t i = (hole + 1) & mask; seen->table[i]; i = (i + 1) & mask) {
        const struct seen_id *other = ring_id(seen, seen->table[i] - 1);
        uint32_t home = id_hash(other->sender, other->id) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            seen->table[hole] = seen->table[i];
            hole = i;
        }
    }
    seen->table[hole] = 0;
}

static void bucket_drop_first(struct wp_seen *seen)
{
    struct seen_bucket *bucket = bucket_at(seen, 0);
    seen->floor_ms = floor_after(seen, bucket);
    for (uint64_t i = 0; i < bucket->count; i++) {
        uint32_t place = ring_place(seen, seen->first);
        table_remove(seen, ring_id(seen, place));
        seen->first++;
        seen->count--;
        if (place % CHUNK_IDS == CHUNK_IDS - 1) {
            free(seen->chunks[place / CHUNK_IDS]);
            seen->chunks[place / CHUNK_IDS] = NULL;
        }
    }
    seen->bucket_first = (seen->bucket_first + 1) % seen->bucket_capacity;
    seen->bucket_count--;
}

bool wp_seen_drop_due(struct wp_seen *seen, uint64_t now_ms, bool want_room, uint64_t *ret_bucket)
{
    if (seen->bucket_count == 0) {
        return false;
    }
    const struct seen_bucket *oldest = bucket_at(seen, 0);
    bool over =
        now_ms - oldest->opened_ms >= WP_SEEN_BUCKET_MS && now_ms - oldest->last_ms >= WP_SEEN_KEEP_MS;
    bool shrink = want_room && seen->count >= seen->ids_max && oldest_may_shrink(seen, now_ms);
    if (!over && !shrink) {
        return false;
    }
    *ret_bucket = oldest->number;
    bucket_drop_first(seen);
    return true;
}

uint64_t wp_seen_floor_ms(const struct wp_seen *seen)
{
    return seen->floor_ms;
}

uint64_t wp_seen_last_bucket(const struct wp_seen *seen)
{
    return seen->next_bucket - 1;
}

uint64_t wp_seen_count(const struct wp_seen *seen)
{
    return seen->count;
}

uint64_t wp_seen_hash(const struct wp_seen *seen)
{
    uint64_t sum = seen->floor_ms;
    for (uint64_t i = 0; i < seen->count; i++) {
        const struct seen_id *id = ring_id(seen, ring_place(seen, seen->first + i));
        const struct seen_bucket *bucket = bucket_of(seen, id);
        uint8_t bytes[WP_UUID_SIZE + 24];
        memcpy(bytes, id->id, WP_UUID_SIZE);
        wp_put_u64le(bytes + WP_UUID_SIZE, id->sender);
        wp_put_u64le(bytes + WP_UUID_SIZE + 8, bucket->number);
        wp_put_u64le(bytes + WP_UUID_SIZE + 16, bucket->opened_ms + id->accepted_offset_ms);
        sum += XXH3_64bits(bytes, sizeof bytes);
    }
    return sum;
}
