# The simulator (tests/sim/README.md): the cores of every program once more, with seeded bugs that are chosen at run time,
# on a simulated machine. tests/sim defines what the cores ask of libuv, of ZeroMQ sockets, of clocks and of randomness.
file(GLOB sim_cores CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/base/*.c ${CMAKE_SOURCE_DIR}/storage/*.c
  ${CMAKE_SOURCE_DIR}/storage/sim/*.c ${CMAKE_SOURCE_DIR}/cluster/*.c ${CMAKE_SOURCE_DIR}/router/*.c ${CMAKE_SOURCE_DIR}/gateway/*.c)
list(FILTER sim_cores EXCLUDE REGEX
  "/(main|bench_[a-z]+|admin[a-z_]*|identity|data_directory|directory|base/clock|base/log)\\.c$")
foreach(name fabric link link_send link_receive lane hello connect listen)
  list(APPEND sim_cores ${CMAKE_SOURCE_DIR}/node/${name}.c)
endforeach()
list(APPEND sim_cores ${CMAKE_SOURCE_DIR}/client/connection.c)
add_library(wp_sim_cores OBJECT ${sim_cores})
target_link_libraries(wp_sim_cores PUBLIC wp_flags wp_schema dep_uv dep_raft dep_sodium dep_zmq dep_xxhash dep_jansson)
target_compile_options(wp_sim_cores PRIVATE -UWP_BUG -DWP_BUG=wp_sim_bug -include ${CMAKE_CURRENT_SOURCE_DIR}/sim/bug.h)

file(GLOB sim_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/sim/*.c)
execute_process(COMMAND git rev-parse --short HEAD WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE sim_commit
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
add_executable(wardpost-sim ${sim_sources} $<TARGET_OBJECTS:wp_sim_cores>)
target_compile_definitions(wardpost-sim PRIVATE WP_SIM_COMMIT="${sim_commit}")
target_link_libraries(wardpost-sim PRIVATE wp_flags wp_proto wp_mqtt dep_xxhash dep_uv dep_raft dep_sodium dep_zmq)
target_link_options(wardpost-sim PRIVATE -Wl,--wrap=wp_log_submit -Wl,--wrap=wp_state_commit -Wl,--wrap=wp_shard_apply
  -Wl,--wrap=wp_meta_group_apply)
set_target_properties(wardpost-sim PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

# Each commit: a hundred seeds, fewer under sanitizers.
set(sim_seeds 100)
if(WP_ASAN)
  set(sim_seeds 25)
endif()
add_test(NAME test_sim COMMAND wardpost-sim --seed 1 --count ${sim_seeds} WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
set_tests_properties(test_sim PROPERTIES LABELS unit TIMEOUT 150)
# Test the tester: what the simulator finds within a few seeds it must go on finding.
foreach(bug 11 30 33 37 42 45)
  add_test(NAME test_sim_bug_${bug} COMMAND wardpost-sim --seed 1 --count 10 WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set_tests_properties(test_sim_bug_${bug} PROPERTIES LABELS "unit;bug" TIMEOUT 120 WILL_FAIL TRUE ENVIRONMENT "WP_BUG=${bug}")
endforeach()
