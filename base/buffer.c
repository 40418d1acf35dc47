#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

uint8_t *wp_buffer_reserve(struct wp_buffer *buffer, size_t extra)
{
    size_t needed = buffer->size + extra;
    if (needed < extra) {
        return NULL;
    }
    if (needed > buffer->capacity || !buffer->data) { /* room for nothing is a place too, not NULL */
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity < needed) {
            capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
        }
        uint8_t *data = realloc(buffer->data, capacity);
        if (!data) {
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

int wp_buffer_append(struct wp_buffer *buffer, const void *data, size_t size)
{
    if (size == 0) {
        return WP_OK; /* an empty buffer has no memory, and needs none for this */
    }
    uint8_t *end = wp_buffer_reserve(buffer, size);
    if (!end) {
        return WP_E_NOMEM;
    }
    memcpy(end, data, size);
    buffer->size += size;
    return WP_OK;
}

void wp_buffer_consume(struct wp_buffer *buffer, size_t size)
{
    WP_ASSERT(size <= buffer->size);
    buffer->size -= size;
    if (buffer->size > 0 && size > 0) {
        memmove(buffer->data, buffer->data + size, buffer->size);
    }
}

void wp_buffer_free(struct wp_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct wp_buffer)WP_BUFFER_INIT;
}

struct wp_bytes *wp_bytes_create(size_t size)
{
    if (size > SIZE_MAX - sizeof(struct wp_bytes)) {
        return NULL;
    }
    struct wp_bytes *bytes = malloc(sizeof *bytes + size);
    if (bytes) {
        bytes->references = 1;
        bytes->reserved = 0;
        bytes->size = size;
    }
    return bytes;
}

struct wp_bytes *wp_bytes_copy(const void *data, size_t size)
{
    struct wp_bytes *bytes = wp_bytes_create(size);
    if (bytes && size > 0) {
        memcpy(bytes->data, data, size);
    }
    return bytes;
}

struct wp_bytes *wp_bytes_retain(struct wp_bytes *bytes)
{
    __atomic_add_fetch(&bytes->references, 1, __ATOMIC_RELAXED);
    return bytes;
}

void wp_bytes_release(struct wp_bytes **bytes)
{
    struct wp_bytes *taken = *bytes;
    *bytes = NULL;
    if (taken && __atomic_sub_fetch(&taken->references, 1, __ATOMIC_ACQ_REL) == 0) {
        free(taken);
    }
}
