# A router that acknowledges before the sync (storage/README.md, seeded bug 1): test_powercut.py must find it. The storage
# library with the bug stands in front of the good one.
add_executable(wardpost-router-bug1 ${CMAKE_SOURCE_DIR}/router/main.c)
target_link_libraries(wardpost-router-bug1 PRIVATE wp_flags wp_storage_bug1 wp_router dep_sodium)
set_target_properties(wardpost-router-bug1 PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
