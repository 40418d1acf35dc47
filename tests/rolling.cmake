# Servers of the next release, as far as it can be told apart: a build that speaks one feature level more. test_rolling.py
# puts them in the place of the present ones, node by node. Only the greeting names the level.
add_library(wp_level_next STATIC ${CMAKE_SOURCE_DIR}/node/hello.c)
target_link_libraries(wp_level_next PUBLIC wp_flags wp_base wp_proto dep_uv dep_zmq)
target_compile_options(wp_level_next PRIVATE -UWP_FEATURE_LEVEL_MAX -DWP_FEATURE_LEVEL_MAX=2u)
foreach(name router gateway)
  add_executable(wardpost-${name}-next ${CMAKE_SOURCE_DIR}/${name}/main.c)
  target_link_libraries(wardpost-${name}-next PRIVATE wp_flags wp_level_next wp_${name} wp_node dep_jansson dep_sodium
    dep_uv)
  set_target_properties(wardpost-${name}-next PROPERTIES OUTPUT_NAME wardpost-${name}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/next)
endforeach()
