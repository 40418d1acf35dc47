# cluster/: the codec, one replica, a group on the simulated store, and a seeded simulation of whole groups.
wp_unit_test(test_cluster_message SOURCES unit/test_cluster_message.c LINK wp_cluster)
wp_unit_test(test_cluster_replica SOURCES unit/test_cluster_replica.c LINK wp_cluster dep_raft)
wp_unit_test(test_cluster_lead SOURCES unit/test_cluster_lead.c LINK wp_cluster dep_raft)
wp_unit_test(test_cluster_group SOURCES unit/test_cluster_group.c unit/cluster_disk.c LINK wp_cluster)
wp_unit_test(test_cluster_sim SOURCES unit/test_cluster_sim.c unit/cluster_sim.c unit/cluster_disk.c LINK wp_cluster)
target_link_options(test_cluster_sim PRIVATE -Wl,--wrap=wp_log_submit)
set_tests_properties(test_cluster_sim PROPERTIES TIMEOUT 300) # some ten seconds, much more under sanitizers

# Test the tester: the simulation must find each seeded bug (table in cluster/README.md). The sources that carry bugs
# are compiled once more with the bug and linked in front of the library.
function(wp_cluster_bug number)
  set(name test_cluster_bug_${number})
  add_executable(${name} unit/test_cluster_sim.c unit/cluster_sim.c unit/cluster_disk.c
    ${CMAKE_SOURCE_DIR}/cluster/replica.c ${CMAKE_SOURCE_DIR}/cluster/replica_start.c
    ${CMAKE_SOURCE_DIR}/cluster/replica_receive.c ${CMAKE_SOURCE_DIR}/cluster/replica_step.c
    ${CMAKE_SOURCE_DIR}/cluster/replica_lead.c ${CMAKE_SOURCE_DIR}/storage/shard.c
    ${CMAKE_SOURCE_DIR}/cluster/group_update.c)
  target_link_options(${name} PRIVATE -Wl,--wrap=wp_log_submit)
  target_compile_options(${name} PRIVATE -UWP_BUG -DWP_BUG=${number})
  target_link_libraries(${name} PRIVATE wp_flags wp_cluster dep_raft)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} --expect-breach)
  set_tests_properties(${name} PROPERTIES LABELS "unit;bug" TIMEOUT 120)
endfunction()
foreach(number IN ITEMS 4 10 11 12 13 14 15 16 17 18 19 20 21)
  wp_cluster_bug(${number})
endforeach()

wp_fuzz(fuzz_raft CORPUS tests/fuzz/corpus/raft SOURCES fuzz/fuzz_raft.c LINK wp_cluster)
