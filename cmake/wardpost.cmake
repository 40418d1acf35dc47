# wp_library(NAME SOURCES ... LINK ...): one static library per folder.
function(wp_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PUBLIC" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC wp_flags ${ARG_PUBLIC} PRIVATE ${ARG_LINK})
endfunction()

# wp_program(NAME SOURCES ... LINK ...): an executable in build/<preset>/bin.
function(wp_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE wp_flags ${ARG_LINK})
endfunction()

# wp_unit_test(NAME SOURCES ... LINK ...): a cmocka program, registered with ctest under the label "unit".
function(wp_unit_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE wp_flags ${ARG_LINK} dep_cmocka)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

# wp_fuzz(NAME CORPUS DIR SOURCES ... LINK ...): a fuzz target. Every build replays its corpus as a test through
# tests/fuzz/replay.c; the fuzz preset links libFuzzer instead, for fresh fuzzing.
function(wp_fuzz name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;LINK" ${ARGN})
  if(WP_FUZZ)
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE wp_flags ${ARG_LINK})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    file(WRITE ${CMAKE_BINARY_DIR}/fuzz/${name}.corpus "${CMAKE_SOURCE_DIR}/${ARG_CORPUS}\n") # for tools/fuzz
  else()
    add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    target_link_libraries(${name} PRIVATE wp_flags ${ARG_LINK})
    add_test(NAME ${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/${ARG_CORPUS})
    set_tests_properties(${name} PROPERTIES LABELS "unit;fuzz" TIMEOUT 120)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
endfunction()
