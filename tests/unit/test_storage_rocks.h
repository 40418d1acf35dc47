/* Data directories for tests of the RocksDB body. */
#ifndef WP_TESTS_STORAGE_ROCKS_H
#define WP_TESTS_STORAGE_ROCKS_H

#include "tests/unit/test_storage_suite.h"

/* A new directory name below the working directory (a real disk); static memory. */
const char *rocks_directory_new(void);
void rocks_directory_remove(const char *path);
/* Small buffers, so that tests are fast and the reserve is small. */
struct wp_store_config rocks_test_config(const char *path);
/* Opens or fails the test with the sentence. */
struct wp_store *rocks_open(const char *path);
/* Waits until every submitted write has completed. */
void rocks_settle(struct wp_store *store);

#endif
