/* Which seeded bug the machine under test has: the product compiles WP_BUG as a number, the model test as this. */
#ifndef WP_TESTS_UNIT_MACHINE_BUG_H
#define WP_TESTS_UNIT_MACHINE_BUG_H

extern int wp_machine_bug;

#endif
