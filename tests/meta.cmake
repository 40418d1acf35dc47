# The meta group: its state machine, the planner and the step that follows from what is wanted.
wp_unit_test(test_meta_machine SOURCES unit/test_meta_machine.c unit/meta_fixture.c LINK wp_meta wp_storage wp_proto)
wp_unit_test(test_meta_plan SOURCES unit/test_meta_plan.c unit/meta_fixture.c LINK wp_meta wp_storage wp_proto)
wp_unit_test(test_meta_reconcile SOURCES unit/test_meta_reconcile.c LINK wp_meta wp_proto)
wp_unit_test(test_router_policy SOURCES unit/test_router_policy.c LINK wp_meta)
wp_unit_test(test_router_allow SOURCES unit/test_router_allow.c LINK wp_router)
