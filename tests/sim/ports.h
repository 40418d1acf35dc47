/* Time and randomness of the simulated machine. */
#ifndef WP_SIM_PORTS_H
#define WP_SIM_PORTS_H

#include <stdint.h>

/* The wall clock that is right. */
uint64_t sim_wall_ms(void);
/* Before sodium_init. */
void sim_entropy_install(void);

#endif
