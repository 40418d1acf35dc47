wp_unit_test(test_storage_rocks
  SOURCES unit/test_storage_rocks.c unit/test_storage_rocks_help.c unit/test_storage_suite.c
  LINK wp_storage wp_base)
wp_unit_test(test_storage_record SOURCES unit/test_storage_record.c LINK wp_storage wp_base)
wp_unit_test(test_storage_damage
  SOURCES unit/test_storage_damage.c unit/test_storage_rocks_help.c unit/test_storage_suite.c
  LINK wp_storage wp_base dep_rocksdb)
wp_unit_test(test_storage_disk
  SOURCES unit/test_storage_disk.c unit/test_storage_rocks_help.c unit/test_storage_suite.c
  LINK wp_storage wp_base dep_rocksdb)
wp_unit_test(test_storage_commit
  SOURCES unit/test_storage_commit.c unit/test_storage_rocks_help.c unit/test_storage_suite.c
  LINK wp_storage wp_base)
set(WP_STORAGE_SHARD_TEST unit/test_storage_shard.c unit/test_storage_rocks_help.c unit/test_storage_suite.c)
set(WP_STORAGE_SHARD_WRAPS
  -Wl,--wrap=rocksdb_write,--wrap=rocksdb_flush,--wrap=rocksdb_ingest_external_file)
wp_unit_test(test_storage_shard SOURCES ${WP_STORAGE_SHARD_TEST} LINK wp_storage wp_base dep_rocksdb)
target_link_options(test_storage_shard PRIVATE ${WP_STORAGE_SHARD_WRAPS})
wp_unit_test(test_storage_sim SOURCES unit/test_storage_sim.c unit/test_storage_suite.c LINK wp_storage wp_base)

# Seeded bugs (storage/README.md): the same tests against a storage library that has one, and they must fail.
function(wp_storage_bug number test filter)
  if(NOT TARGET wp_storage_bug${number})
    list(TRANSFORM WP_STORAGE_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/storage/ OUTPUT_VARIABLE sources)
    add_library(wp_storage_bug${number} STATIC ${sources})
    target_compile_options(wp_storage_bug${number} PRIVATE -UWP_BUG -DWP_BUG=${number})
    target_link_libraries(wp_storage_bug${number} PUBLIC wp_flags wp_base PRIVATE dep_rocksdb)
  endif()
  set(name ${test}_bug${number})
  wp_unit_test(${name} SOURCES ${ARGN} LINK wp_storage_bug${number} wp_base dep_rocksdb)
  set_tests_properties(${name} PROPERTIES WILL_FAIL TRUE ENVIRONMENT "WP_TEST_FILTER=${filter}")
endfunction()
wp_storage_bug(2 test_storage_disk failed_write_is_never_acknowledged
  unit/test_storage_disk.c unit/test_storage_rocks_help.c unit/test_storage_suite.c)
wp_storage_bug(3 test_storage_damage record_under_a_wrong_key_is_never_served
  unit/test_storage_damage.c unit/test_storage_rocks_help.c unit/test_storage_suite.c)
wp_storage_bug(5 test_storage_shard *crash_at_every_step ${WP_STORAGE_SHARD_TEST})
target_link_options(test_storage_shard_bug5 PRIVATE ${WP_STORAGE_SHARD_WRAPS})
wp_storage_bug(1 test_storage_sim crash_keeps_what_was_acknowledged_and_may_tear_the_rest
  unit/test_storage_sim.c unit/test_storage_suite.c)
wp_storage_bug(2 test_storage_sim failed_sync_acknowledges_nothing
  unit/test_storage_sim.c unit/test_storage_suite.c)
wp_storage_bug(3 test_storage_sim flipped_bits_are_never_served
  unit/test_storage_sim.c unit/test_storage_suite.c)

# The power-cut shim. Without sanitizers, whatever the preset: it is loaded before anything else.
add_library(wp_powercut MODULE shim/powercut.c shim/image.c)
target_compile_definitions(wp_powercut PRIVATE _GNU_SOURCE)
target_compile_options(wp_powercut PRIVATE -O2 -g -U_FORTIFY_SOURCE -Wall -Wextra -Werror)
target_link_libraries(wp_powercut PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(wp_powercut PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

# Its self-test and the store under it; once more with a store that acknowledges before it syncs, and one that ignores
# failed syncs: both must be found.
function(wp_powercut_child name storage)
  add_executable(${name} shim/powercut_child.c)
  target_link_libraries(${name} PRIVATE wp_flags ${storage} wp_base)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endfunction()
function(wp_powercut_test name child filter will_fail)
  add_test(NAME ${name} COMMAND test_storage_powercut WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120 WILL_FAIL ${will_fail} ENVIRONMENT
    "WP_POWERCUT_CHILD=${child};WP_TEST_FILTER=${filter};ASAN_OPTIONS=verify_asan_link_order=0")
endfunction()
wp_powercut_child(powercut_child wp_storage)
wp_powercut_child(powercut_child_bug1 wp_storage_bug1)
wp_powercut_child(powercut_child_bug2 wp_storage_bug2)
add_executable(test_storage_powercut unit/test_storage_powercut.c unit/test_storage_rocks_help.c
  unit/test_storage_suite.c)
target_link_libraries(test_storage_powercut PRIVATE wp_flags wp_storage wp_base dep_cmocka)
set_target_properties(test_storage_powercut PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_dependencies(test_storage_powercut wp_powercut powercut_child powercut_child_bug1 powercut_child_bug2)
wp_powercut_test(test_storage_powercut powercut_child "*" FALSE)
wp_powercut_test(test_storage_powercut_bug1 powercut_child_bug1 acknowledged_entries_survive_every_cut TRUE)
wp_powercut_test(test_storage_powercut_bug2 powercut_child_bug2 failed_syncs_are_never_acknowledged TRUE)
