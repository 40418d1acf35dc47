/* Seeded pseudo-random numbers (SplitMix64, Steele et al. 2014) for jitter, load and simulation. Never for keys. */
#ifndef WP_BASE_PRNG_H
#define WP_BASE_PRNG_H

#include <stdint.h>

struct wp_prng {
    uint64_t state;
};

void wp_prng_init(struct wp_prng *prng, uint64_t seed);
uint64_t wp_prng_next(struct wp_prng *prng);

/* Uniform in [0, bound); bound > 0. The bias of the multiply-shift reduction is below 2^-32 for bounds < 2^32. */
uint64_t wp_prng_below(struct wp_prng *prng, uint64_t bound);

#endif
