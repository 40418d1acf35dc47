#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>

#define ARENA_BLOCK_SIZE (64u * 1024)
#define ARENA_KEEP_SIZE (1024u * 1024) /* larger blocks are given back on reset */

struct wp_arena_block {
    struct wp_arena_block *next;
    size_t capacity;
    size_t used;
    size_t reserved; /* keeps data 16-byte aligned */
    uint8_t data[];
};

void wp_arena_init(struct wp_arena *arena, size_t limit)
{
    *arena = (struct wp_arena){.blocks = NULL, .used = 0, .limit = limit};
}

void *wp_arena_alloc(struct wp_arena *arena, size_t size)
{
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size || rounded > arena->limit - arena->used) {
        return NULL;
    }
    struct wp_arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < rounded) {
        size_t capacity = rounded > ARENA_BLOCK_SIZE ? rounded : ARENA_BLOCK_SIZE;
        block = capacity <= SIZE_MAX - sizeof *block ? malloc(sizeof *block + capacity) : NULL;
        if (!block) {
            return NULL;
        }
        block->next = arena->blocks;
        block->capacity = capacity;
        block->used = 0;
        arena->blocks = block;
    }
    void *memory = block->data + block->used;
    block->used += rounded;
    arena->used += rounded;
    return memory;
}

void wp_arena_reset(struct wp_arena *arena)
{
    struct wp_arena_block *kept = NULL;
    for (struct wp_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        if (!kept && block->capacity <= ARENA_KEEP_SIZE) {
            kept = block;
        } else {
            free(block);
        }
    }
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    arena->blocks = kept;
    arena->used = 0;
}

void wp_arena_fini(struct wp_arena *arena)
{
    for (struct wp_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    arena->blocks = NULL;
    arena->used = 0;
}
