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
wp_storage_bug(1 test_storage_sim crash_keeps_what_was_acknowledged_and_may_tear_the_rest
  unit/test_storage_sim.c unit/test_storage_suite.c)
wp_storage_bug(2 test_storage_sim failed_sync_acknowledges_nothing
  unit/test_storage_sim.c unit/test_storage_suite.c)
wp_storage_bug(3 test_storage_sim flipped_bits_are_never_served
  unit/test_storage_sim.c unit/test_storage_suite.c)
