/* The common suite on the RocksDB body. */
#include "tests/unit/test_storage_rocks.h"

#include <stdio.h>

static char directory[128];

static struct wp_store *body_open_new(void)
{
    snprintf(directory, sizeof directory, "%s", rocks_directory_new());
    return rocks_open(directory);
}

static struct wp_store *body_reopen(struct wp_store **store)
{
    wp_store_close(store);
    return rocks_open(directory);
}

static void body_finish(struct wp_store **store)
{
    wp_store_close(store);
    rocks_directory_remove(directory);
}

int main(void)
{
    static const struct suite_body body = {body_open_new, body_reopen, rocks_settle, body_finish};
    return suite_run(&body, "storage suite, RocksDB body");
}
