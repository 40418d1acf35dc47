#include "router/intern.h"

#include <stdlib.h>

#include "base/assert.h"

#define CAPACITY_MIN 64u

struct wp_interned {
    uint32_t number;
    uint8_t size;
    char name[]; /* NUL-terminated */
};

static struct wp_slice interned_key(const void *object)
{
    const struct wp_interned *item = object;
    return wp_slice(item->name, item->size);
}

void wp_intern_init(struct wp_intern *intern)
{
    *intern = (struct wp_intern){0};
    wp_names_init(&intern->names, interned_key);
}

void wp_intern_fini(struct wp_intern *intern)
{
    for (uint32_t i = 0; i < intern->count; i++) {
        free(intern->items[i]);
    }
    free(intern->items);
    wp_names_fini(&intern->names);
    wp_intern_init(intern);
}

static struct wp_interned *item_add(struct wp_intern *intern, struct wp_slice name, uint64_t hash)
{
    if (intern->count == intern->capacity) {
        uint32_t capacity = intern->capacity ? intern->capacity * 2 : CAPACITY_MIN;
        struct wp_interned **items = realloc(intern->items, capacity * sizeof(struct wp_interned *));
        if (!items) {
            return NULL;
        }
        intern->items = items;
        intern->capacity = capacity;
    }
    struct wp_interned *item = calloc(1, sizeof *item + name.size + 1);
    if (!item) {
        return NULL;
    }
    memcpy(item->name, name.data, name.size);
    item->size = (uint8_t)name.size;
    item->number = intern->count + 1;
    if (wp_names_insert(&intern->names, item, hash)) {
        free(item);
        return NULL;
    }
    intern->items[intern->count++] = item;
    return item;
}

uint32_t wp_intern_get(struct wp_intern *intern, struct wp_slice name)
{
    WP_ASSERT(name.size > 0 && name.size <= UINT8_MAX);
    uint64_t hash = wp_names_hash(name);
    const struct wp_interned *item = wp_names_find(&intern->names, name, hash);
    item = item ? item : item_add(intern, name, hash);
    return item ? item->number : 0;
}

struct wp_slice wp_intern_name(const struct wp_intern *intern, uint32_t number)
{
    WP_ASSERT(number <= intern->count);
    return number ? interned_key(intern->items[number - 1]) : wp_slice("", 0);
}
