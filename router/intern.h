/* Names that many rows refer to, each kept once: who sent the messages that are queued, who is in a team,
 * which device a receipt tells of.
 *
 * A number is a handle in memory, given out in the order of first use: it is never stored, and nothing
 * replicated may depend on it. Names stay until fini, so the table is as long as the list of users who ever
 * wrote to the shard, and of devices that were idle. One owner thread. */
#ifndef WP_ROUTER_INTERN_H
#define WP_ROUTER_INTERN_H

#include <stdint.h>

#include "base/bytes.h"
#include "router/names.h"

struct wp_interned;

struct wp_intern {
    struct wp_names names;
    struct wp_interned **items; /* number - 1 */
    uint32_t count;
    uint32_t capacity;
};

void wp_intern_init(struct wp_intern *intern);
void wp_intern_fini(struct wp_intern *intern);

/* Number of a name of at most 255 bytes, 1 or above; 0: out of memory. */
uint32_t wp_intern_get(struct wp_intern *intern, struct wp_slice name);
/* The name of a number that was given out; empty for 0. NUL-terminated behind its size; lives until fini. */
struct wp_slice wp_intern_name(const struct wp_intern *intern, uint32_t number);

#endif
