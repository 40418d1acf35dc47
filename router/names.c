/* Invariant: between an object's home slot (hash & mask) and its place no slot is free, so a search ends at
 * the first free slot. Removal shifts later objects back instead of leaving marks. */
#include "router/names.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/error.h"

#define CAPACITY_MIN 16u
#define HASH_SEED 0x77617264706f7374u

uint64_t wp_names_hash(struct wp_slice key)
{
    return XXH3_64bits_withSeed(key.data, key.size, HASH_SEED);
}

void wp_names_init(struct wp_names *names, struct wp_slice (*key)(const void *object))
{
    *names = (struct wp_names){.key = key};
}

void wp_names_fini(struct wp_names *names)
{
    free(names->slots);
    *names = (struct wp_names){.key = names->key};
}

void *wp_names_find(const struct wp_names *names, struct wp_slice key, uint64_t hash)
{
    if (names->capacity == 0) {
        return NULL;
    }
    uint32_t mask = names->capacity - 1;
    for (uint32_t i = (uint32_t)hash & mask; names->slots[i].object; i = (i + 1) & mask) {
        if (names->slots[i].hash == hash && wp_slice_equal(names->key(names->slots[i].object), key)) {
            return names->slots[i].object;
        }
    }
    return NULL;
}

static void slot_place(struct wp_names_slot *slots, uint32_t mask, struct wp_names_slot taken)
{
    uint32_t i = (uint32_t)taken.hash & mask;
    while (slots[i].object) {
        i = (i + 1) & mask;
    }
    slots[i] = taken;
}

static int names_grow(struct wp_names *names)
{
    uint32_t capacity = names->capacity ? names->capacity * 2 : CAPACITY_MIN;
    struct wp_names_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = 0; i < names->capacity; i++) {
        if (names->slots[i].object) {
            slot_place(slots, capacity - 1, names->slots[i]);
        }
    }
    free(names->slots);
    names->slots = slots;
    names->capacity = capacity;
    return WP_OK;
}

int wp_names_insert(struct wp_names *names, void *object, uint64_t hash)
{
    if ((names->count + 1) > names->capacity / 4 * 3) {
        int error = names_grow(names);
        if (error) {
            return error;
        }
    }
    slot_place(names->slots, names->capacity - 1, (struct wp_names_slot){.hash = hash, .object = object});
    names->count++;
    return WP_OK;
}

void wp_names_remove(struct wp_names *names, const void *object, uint64_t hash)
{
    WP_ASSERT(names->count > 0);
    uint32_t mask = names->capacity - 1;
    uint32_t hole = (uint32_t)hash & mask;
    while (names->slots[hole].object != object) {
        WP_ASSERT(names->slots[hole].object);
        hole = (hole + 1) & mask;
    }
    for (uint32_t i = (hole + 1) & mask; names->slots[i].object; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)names->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            names->slots[hole] = names->slots[i];
            hole = i;
        }
    }
    names->slots[hole].object = NULL;
    names->count--;
}

struct sorted {
    void *object;
    struct wp_slice key;
};

static int sorted_compare(const void *a, const void *b)
{
    struct wp_slice x = ((const struct sorted *)a)->key;
    struct wp_slice y = ((const struct sorted *)b)->key;
    int order = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    return order ? order : (x.size > y.size) - (x.size < y.size);
}

void **wp_names_sorted(const struct wp_names *names, uint32_t *ret_count)
{
    *ret_count = 0;
    if (names->count == 0) {
        return NULL;
    }
    struct sorted *rows = malloc(names->count * sizeof *rows);
    void **objects = malloc(names->count * sizeof *objects);
    if (!rows || !objects) {
        free(rows);
        free(objects);
        return NULL;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < names->capacity; i++) {
        void *object = names->slots[i].object;
        if (object) {
            rows[count++] = (struct sorted){.object = object, .key = names->key(object)};
        }
    }
    qsort(rows, count, sizeof *rows, sorted_compare);
    for (uint32_t i = 0; i < count; i++) {
        objects[i] = rows[i].object;
    }
    free(rows);
    *ret_count = count;
    return objects;
}
