/* Seeded bugs of the simulator's build are chosen at run time: WP_BUG is this variable (tests/sim.cmake). */
extern int wp_sim_bug;
