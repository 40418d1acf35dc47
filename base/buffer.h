/* wp_buffer: a growable byte string. wp_bytes: an immutable, reference-counted one that crosses threads. */
#ifndef WP_BASE_BUFFER_H
#define WP_BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct wp_buffer {
    uint8_t *data;
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
};

#define WP_BUFFER_INIT {0}

/* Makes room for `extra` more bytes and returns where they go, or NULL when out of memory. Does not change size. */
uint8_t *wp_buffer_reserve(struct wp_buffer *buffer, size_t extra);

/* Appends; WP_OK or WP_E_NOMEM (then nothing is appended). */
int wp_buffer_append(struct wp_buffer *buffer, const void *data, size_t size);

/* Removes the first `size` bytes (at most buffer->size) by moving the rest to the front. */
void wp_buffer_consume(struct wp_buffer *buffer, size_t size);

/* Releases the memory; the buffer is empty and usable again. */
void wp_buffer_free(struct wp_buffer *buffer);

/* Immutable bytes shared between threads. Created with one reference. */
struct wp_bytes {
    uint32_t references; /* atomic */
    uint32_t reserved;
    size_t size;
    uint8_t data[];
};

/* `size` bytes, uninitialised, one reference; NULL when out of memory. Fill before sharing. */
struct wp_bytes *wp_bytes_create(size_t size);

/* A copy of `data`, one reference; NULL when out of memory. */
struct wp_bytes *wp_bytes_copy(const void *data, size_t size);

/* One more reference. Any thread. */
struct wp_bytes *wp_bytes_retain(struct wp_bytes *bytes);

/* Drops one reference and nulls the caller's pointer; NULL is allowed. Any thread. */
void wp_bytes_release(struct wp_bytes **bytes);

#endif
