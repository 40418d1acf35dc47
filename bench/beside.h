/* Other traffic beside a measurement: a second load in a process of its own, so that neither waits for the
 * other. Its figures are those of the measured time alone.
 *
 *     start -> (it measures) -> ready -> lap when the measured time begins, end when it ends -> result */
#ifndef WP_BENCH_BESIDE_H
#define WP_BENCH_BESIDE_H

#include <stddef.h>

#include "bench/load.h"

struct wp_beside; /* the process */

struct wp_beside_result {
    double seconds;
    double offered_per_s;
    uint64_t accepted;
    uint64_t refused;
    struct wp_histogram ack_us;
};

/* Forks: no thread or loop may run yet. `config` is what it does, borrowed until the result; its marks and
 * times are not used. Returns when its load is on, after at most a minute. WP_OK or an error with a sentence.
 */
int wp_beside_start(
    const struct wp_load_config *config, struct wp_beside **ret_beside, char *ret_text, size_t text_size);
int wp_beside_pid(const struct wp_beside *beside);
/* The measured time begins, and ends. */
void wp_beside_mark(struct wp_beside *beside, bool start);
/* Waits for the process and takes what it says; *beside is NULL afterwards. WP_OK or an error with a
 * sentence. */
int wp_beside_finish(
    struct wp_beside **beside, struct wp_beside_result *ret_result, char *ret_text, size_t text_size);

#endif
