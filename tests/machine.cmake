# The replicated state machine of a shard.
set(machine_fixture unit/machine_fixture.c)
foreach(name core submit holding)
  wp_unit_test(test_machine_${name} SOURCES unit/test_machine_${name}.c ${machine_fixture} LINK wp_machine wp_storage wp_proto)
endforeach()
wp_unit_test(test_machine_seen SOURCES unit/test_machine_seen.c LINK wp_machine wp_storage wp_proto)

# The model test runs on a machine whose journal is so short that rows leave it all the time.
get_directory_property(machine_sources DIRECTORY ${CMAKE_SOURCE_DIR}/router DEFINITION WP_MACHINE_SOURCES)
list(TRANSFORM machine_sources PREPEND ${CMAKE_SOURCE_DIR}/router/)
wp_library(wp_machine_tiny SOURCES ${machine_sources} PUBLIC wp_base wp_proto LINK dep_sodium wp_storage)
target_compile_definitions(wp_machine_tiny PUBLIC WP_JOURNAL_ROWS=5)
wp_unit_test(test_machine_model SOURCES unit/test_machine_model.c unit/machine_model.c ${machine_fixture}
  LINK wp_machine_tiny wp_storage wp_proto)
