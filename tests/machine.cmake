# The replicated state machine of a shard.
set(machine_fixture unit/machine_fixture.c unit/machine_store.c)
foreach(name core)
  wp_unit_test(test_machine_${name} SOURCES unit/test_machine_${name}.c ${machine_fixture} LINK wp_machine wp_proto)
endforeach()
