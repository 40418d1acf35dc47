/* The users and devices of a run in a playground: made when missing, their secrets kept in
 * DIR/bench/secrets.json (mode 0600), so that a second run finds them. */
#ifndef WP_BENCH_POPULATION_H
#define WP_BENCH_POPULATION_H

#include <stddef.h>
#include <stdint.h>

#include "bench/load.h"
#include "client/playground.h"

/* `count` identities PREFIX-0000/d ... in a new array for the caller (free). WP_OK or an error with a
 * sentence. */
int wp_population_prepare(const struct wp_playground *playground, const char *prefix, uint32_t count,
    struct wp_bench_identity **ret_identities, char *ret_text, size_t text_size);

/* Makes `team` anew with the users of both lists as its members. */
int wp_population_team(const struct wp_playground *playground, const char *team,
    const struct wp_bench_identity *const members[2], const uint32_t counts[2], char *ret_text,
    size_t text_size);

#endif
