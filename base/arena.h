/* A bump allocator that is reset as a whole: memory of one turn. Not thread-safe. */
#ifndef WP_BASE_ARENA_H
#define WP_BASE_ARENA_H

#include <stddef.h>

struct wp_arena {
    struct wp_arena_block *blocks; /* newest first; one is kept over a reset */
    size_t used;                   /* bytes handed out since the last reset, each piece rounded up to 16 */
    size_t limit;                  /* bytes that may be handed out between resets, counted likewise */
};

/* An empty arena that hands out at most `limit` bytes between two resets. Allocates nothing yet. */
void wp_arena_init(struct wp_arena *arena, size_t limit);

/* 16-byte aligned memory, valid until the next reset; NULL when the limit or the memory is used up. */
void *wp_arena_alloc(struct wp_arena *arena, size_t size);

/* Takes everything back, keeps one block (of at most 1 MiB) for reuse. */
void wp_arena_reset(struct wp_arena *arena);

/* Releases all memory. */
void wp_arena_fini(struct wp_arena *arena);

#endif
