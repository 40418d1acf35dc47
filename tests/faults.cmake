# A router that acknowledges before the sync (storage/README.md, seeded bug 1): test_powercut.py must find it. The storage
# library with the bug stands in front of the good one.
add_executable(wardpost-router-bug1 ${CMAKE_SOURCE_DIR}/router/main.c)
target_link_libraries(wardpost-router-bug1 PRIVATE wp_flags wp_storage_bug1 wp_router dep_sodium)
# The program itself does not name it: without this the committer would come from the good library behind.
target_link_options(wardpost-router-bug1 PRIVATE -Wl,-u,wp_store_open_rocks)
set_target_properties(wardpost-router-bug1 PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
