#include "base/prng.h"

void wp_prng_init(struct wp_prng *prng, uint64_t seed)
{
    prng->state = seed;
}

uint64_t wp_prng_next(struct wp_prng *prng)
{
    uint64_t z = (prng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t wp_prng_below(struct wp_prng *prng, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)wp_prng_next(prng) * bound) >> 64);
}
