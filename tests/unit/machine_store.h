/* The state half of the store port in memory, for tests of the state machine: a sorted array, no crashes, no
 * threads. */
#ifndef WP_TESTS_UNIT_MACHINE_STORE_H
#define WP_TESTS_UNIT_MACHINE_STORE_H

#include "storage/store.h"

struct wp_store *machine_store_open(void);
void machine_store_close(struct wp_store **store);

/* The next commit fails with `error`. */
void machine_store_fail_next(struct wp_store *store, int error);

#endif
