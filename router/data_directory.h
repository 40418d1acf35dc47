/* Opens the data directory of a router. Where others have copies of everything, a directory that is damaged
 * or forgot what was synced is moved aside and the router begins with an empty one: it is noticed by its new
 * directory id and rebuilt (docs/cluster.md, "Forgetting"). */
#ifndef WP_ROUTER_DATA_DIRECTORY_H
#define WP_ROUTER_DATA_DIRECTORY_H

#include "storage/store.h"

/* `replicated`: every shard has copies on other routers. Makes the directory when it is missing. Errors of
 * wp_store_open_rocks and wp_store_set_aside, with a sentence. */
int wp_data_directory_open(const struct wp_store_config *config, bool replicated, struct wp_store **ret_store,
    char *ret_text, size_t text_size);

#endif
