wp_unit_test(test_node_fabric SOURCES unit/test_node_fabric.c unit/node_fixture.c LINK wp_node dep_zmq)
wp_unit_test(test_node_peer SOURCES unit/test_node_peer.c unit/node_fixture.c LINK wp_node dep_zmq)
wp_unit_test(test_node_kill SOURCES unit/test_node_kill.c unit/node_fixture.c LINK wp_node dep_zmq)
wp_unit_test(test_node_keys SOURCES unit/test_node_keys.c LINK wp_node dep_zmq)
wp_unit_test(test_node_management SOURCES unit/test_node_management.c LINK wp_node)
wp_unit_test(test_node_program SOURCES unit/test_node_program.c LINK wp_node)
wp_unit_test(test_node_config SOURCES unit/test_node_config.c LINK wp_node)
target_compile_definitions(test_node_config PRIVATE WP_DOC_CONFIGURATION="${CMAKE_SOURCE_DIR}/docs/configuration.md")

# The generated pages say what the tables say: run the program named here into the file when this fails.
foreach(page config-doc:configuration.md metrics-doc:metrics.md)
  string(REPLACE ":" ";" pair ${page})
  list(GET pair 0 program)
  list(GET pair 1 file)
  add_test(NAME docs_${file} COMMAND sh -c "$<TARGET_FILE:wp-${program}> | diff -u ${CMAKE_SOURCE_DIR}/docs/${file} -")
  set_tests_properties(docs_${file} PROPERTIES LABELS unit TIMEOUT 20)
endforeach()

wp_fuzz(fuzz_config CORPUS tests/fuzz/corpus/config SOURCES fuzz/fuzz_config.c LINK wp_node)
