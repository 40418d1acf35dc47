/* The part of libuv that the programs use, on the world's queue of events: the simulator defines uv_* itself.
 */
#ifndef WP_SIM_UV_H
#define WP_SIM_UV_H

#include <uv.h>

#include "tests/sim/world.h"

/* Whose loop it is: the process that ran when uv_loop_init was called. */
struct sim_process *sim_loop_process(const uv_loop_t *loop);
/* The prepare handles run: something woke the loop, and it is about to sleep again. */
void sim_loop_turned(uv_loop_t *loop);
/* What is left of handles; at the end of a run. */
void sim_uv_free(void);

#endif
