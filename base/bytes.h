/* Fixed-width integers in byte strings, unaligned. Big endian where byte order is key order; little endian in
 * frame headers. Pure. */
#ifndef WP_BASE_BYTES_H
#define WP_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes; never owned by the holder. */
struct wp_slice {
    const uint8_t *data;
    size_t size;
};

static inline struct wp_slice wp_slice(const void *data, size_t size)
{
    return (struct wp_slice){(const uint8_t *)data, size};
}

static inline int wp_slice_equal(struct wp_slice a, struct wp_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline void wp_put_u16be(uint8_t *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, 2);
}
static inline void wp_put_u32be(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}
static inline void wp_put_u64be(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}
static inline uint16_t wp_get_u16be(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}
static inline uint32_t wp_get_u32be(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline uint64_t wp_get_u64be(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline void wp_put_u32le(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void wp_put_u64le(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, 8);
}
static inline uint32_t wp_get_u32le(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t wp_get_u64le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "this code is written for little-endian machines");

#endif
