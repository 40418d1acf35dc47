# The replicated state machine of a shard.
set(machine_fixture unit/machine_fixture.c unit/machine_store.c)
foreach(name core submit holding)
  wp_unit_test(test_machine_${name} SOURCES unit/test_machine_${name}.c ${machine_fixture} LINK wp_machine wp_proto)
endforeach()
wp_unit_test(test_machine_model SOURCES unit/test_machine_model.c unit/machine_model.c ${machine_fixture}
  LINK wp_machine wp_proto)
wp_unit_test(test_machine_seen SOURCES unit/test_machine_seen.c LINK wp_machine wp_proto)
