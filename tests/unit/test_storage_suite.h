/* What every body of the store port must do: one suite, run by test_storage_rocks.c and test_storage_sim.c.
 */
#ifndef WP_TESTS_STORAGE_SUITE_H
#define WP_TESTS_STORAGE_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "storage/store.h"

/* How the suite gets at a body. */
struct suite_body {
    struct wp_store *(*open_new)(void);                  /* an empty store */
    struct wp_store *(*reopen)(struct wp_store **store); /* clean stop and start of the same data */
    void (*settle)(struct wp_store *store);              /* every submitted write is synced and completed */
    void (*finish)(struct wp_store **store);             /* closes and removes the data */
};

/* Runs all tests of the suite; the number that failed. */
int suite_run(const struct suite_body *body, const char *name);

/* Helpers for the bodies' own tests. */
#define SLICE(text) wp_slice((text), sizeof(text) - 1)

struct suite_entries { /* what wp_log_load gave */
    uint32_t count;
    uint64_t indexes[512];
    uint64_t terms[512];
    struct wp_bytes *data[512];
};
int suite_collect(void *context, const struct wp_log_entry *entry);
void suite_entries_free(struct suite_entries *entries);

/* Submits entries first..last of `term`, each with the text "shard/index/term"; the result of wp_log_submit.
 */
int suite_append(struct wp_store *store, uint32_t shard, uint64_t first, uint64_t last, uint64_t term);
/* One put, committed at (index, term). */
int suite_put(struct wp_store *store, uint32_t shard, uint64_t index, uint64_t term, const char *key,
    const char *value);
/* Asserts that `key` reads `value`, or is not found when value is NULL. */
void suite_expect(struct wp_store *store, const char *key, const char *value);

#endif
