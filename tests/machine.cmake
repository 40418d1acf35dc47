# The replicated state machine of a shard.
set(machine_fixture unit/machine_fixture.c)
foreach(name core submit holding fanout limits)
  wp_unit_test(test_machine_${name} SOURCES unit/test_machine_${name}.c ${machine_fixture} LINK wp_machine wp_storage wp_proto)
endforeach()
wp_unit_test(test_machine_bodies SOURCES unit/test_machine_bodies.c LINK wp_machine wp_storage wp_proto)
wp_unit_test(test_machine_seen SOURCES unit/test_machine_seen.c LINK wp_machine wp_storage wp_proto)
wp_unit_test(test_machine_load SOURCES unit/test_machine_load.c ${machine_fixture} unit/test_storage_rocks_help.c
  LINK wp_machine wp_storage wp_proto)

# The model test runs on a machine whose journal is so short that rows leave it all the time, and whose seeded bugs
# (router/README.md) are chosen at run time.
get_directory_property(machine_sources DIRECTORY ${CMAKE_SOURCE_DIR}/router DEFINITION WP_MACHINE_SOURCES)
list(TRANSFORM machine_sources PREPEND ${CMAKE_SOURCE_DIR}/router/)
wp_library(wp_machine_tiny SOURCES ${machine_sources} PUBLIC wp_base wp_proto LINK dep_sodium wp_storage)
target_compile_definitions(wp_machine_tiny PUBLIC WP_JOURNAL_ROWS=5 WP_RECEIPTS_MAX=12)
target_compile_options(wp_machine_tiny PRIVATE -UWP_BUG -DWP_BUG=wp_machine_bug
  -include ${CMAKE_CURRENT_SOURCE_DIR}/unit/machine_bug.h)
wp_unit_test(test_machine_model SOURCES unit/test_machine_model.c unit/machine_model.c ${machine_fixture}
  LINK wp_machine_tiny wp_storage wp_proto)

# Test the tester: every seeded bug must be found.
foreach(bug 30 31 32 33 34 35 36 37 38 39 41 42 43 44 45 46 47 48 49)
  add_test(NAME test_machine_bug_${bug} COMMAND test_machine_model WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set_tests_properties(test_machine_bug_${bug} PROPERTIES LABELS unit TIMEOUT 120 WILL_FAIL TRUE
    ENVIRONMENT "WP_MACHINE_BUG=${bug}")
endforeach()
