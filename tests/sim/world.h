/* The simulated world: one clock, one queue of events, one source of randomness. Everything that happens in a
 * run happens in an event, in the order of (time, number of the event); nothing reads a real clock, thread,
 * socket or disk. So a seed is a run, byte for byte.
 *
 * A *process* is a router or a gateway between two starts of it. Its events are skipped when it is dead and
 * put off while it is paused. One thread. Running out of memory ends the program. */
#ifndef WP_SIM_WORLD_H
#define WP_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

struct sim_process {
    char name[24];
    uint32_t index; /* unique among all processes, routers first */
    bool alive;
    uint64_t life;            /* grows with each start */
    uint64_t paused_until_us; /* stands still until then (SIGSTOP) */
    int64_t skew_ms;          /* of its wall clock */
    uint64_t effects_left;    /* dies at that effect; 0 = never */
};

/* `fn` runs in `process` (NULL: in the world, e.g. devices and faults) after `delay_us`. */
void sim_after(uint64_t delay_us, struct sim_process *process, void (*fn)(void *context, uint64_t argument),
    void *context, uint64_t argument);
uint64_t sim_now_us(void);
/* Uniform below `bound`. */
uint64_t sim_random(uint64_t bound);
/* True in `per_mille` of 1000 cases. */
bool sim_chance(uint32_t per_mille);
void sim_random_bytes(void *out, uint64_t size);
/* Who runs now; NULL: the world. */
struct sim_process *sim_current(void);

/* Something left the process for good (message, write): the moment at which a crash makes a difference. May
 * end its life: then whatever the process still does in this event has no effect. */
void sim_effect(void);
/* Whether what the present process does still has an effect. */
bool sim_effective(void);
/* Called by sim_effect when the process dies of it. */
extern void (*sim_died)(struct sim_process *process);

void sim_world_init(uint64_t seed);
/* Runs events until `until_us`; false when a breach was found. */
bool sim_run_until(uint64_t until_us);
void sim_world_fini(void);

/* Adds to the hash of the run; with --trace also a line on standard output. */
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_trace_data(const char *what, const void *data, uint64_t size);
uint64_t sim_trace_hash(void);
uint64_t sim_event_count(void);
extern bool sim_trace_on;
extern bool sim_log_on; /* the programs' own log lines */

/* A property does not hold: the first one ends the run. */
void sim_breach(const char *invariant, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *sim_breach_text(void); /* "" when there is none */

#endif
