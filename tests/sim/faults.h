/* What goes wrong in a run, drawn from its seed: crashes at any effect, power loss, pauses, cut and slow
 * links, slow and failing disks, emptied and rolled-back ones, skewed clocks. Never so much at once that a
 * promise would not hold: a majority keeps its disks. */
#ifndef WP_SIM_FAULTS_H
#define WP_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

enum sim_fault {
    SIM_FAULT_KILL = 1,     /* a process dies between or within events, and comes back */
    SIM_FAULT_KILL_ALL = 2, /* all routers at once */
    SIM_FAULT_PAUSE = 4,
    SIM_FAULT_CUT = 8,   /* partitions: isolated, one-way, pairs, flapping */
    SIM_FAULT_SLOW = 16, /* slow links and disks */
    SIM_FAULT_DISK = 32, /* failing syncs, emptied and rolled-back disks */
    SIM_FAULT_CLOCK = 64,
    SIM_FAULT_TRANSFER = 128, /* the operator hands leaderships over */
    SIM_FAULT_EVERY = 255,
    SIM_FAULT_ROLL_BACK = 256, /* a disk as it was: noticed only by those who know better (docs/limits.md) */
};

/* Begins; `kinds` is a set of enum sim_fault. */
void sim_faults_begin(uint32_t kinds);
/* Everything is healed, at once; what is dead starts. */
void sim_faults_end(void);
uint64_t sim_faults_count(void);

#endif
