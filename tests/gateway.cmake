# gateway/: the machines on their own, and a whole gateway with a fake router behind it.
set(gateway_rig unit/gateway_rig.c unit/gateway_certificate.c)
foreach(part IN ITEMS edge flow cluster)
  wp_unit_test(test_gateway_${part} SOURCES unit/test_gateway_${part}.c ${gateway_rig}
    LINK wp_gateway wp_node dep_openssl dep_sodium)
endforeach()
target_link_options(test_gateway_cluster PRIVATE -Wl,--wrap=wp_clock_boot_ms)
foreach(part IN ITEMS parts session submits places lease time)
  wp_unit_test(test_gateway_${part} SOURCES unit/test_gateway_${part}.c LINK wp_gateway_core)
endforeach()
# Test the tester: bug 40 of gateway/lease.c must be found.
add_executable(test_gateway_lease_bug unit/test_gateway_lease.c ${CMAKE_SOURCE_DIR}/gateway/lease.c)
target_compile_options(test_gateway_lease_bug PRIVATE -UWP_BUG -DWP_BUG=40)
target_link_libraries(test_gateway_lease_bug PRIVATE wp_flags wp_base dep_cmocka)
set_target_properties(test_gateway_lease_bug PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME test_gateway_lease_bug COMMAND test_gateway_lease_bug)
set_tests_properties(test_gateway_lease_bug PROPERTIES LABELS "unit;bug" TIMEOUT 60 WILL_FAIL TRUE)
wp_fuzz(fuzz_gateway_session CORPUS tests/fuzz/corpus/gateway_session SOURCES fuzz/fuzz_gateway_session.c LINK wp_gateway_core)
wp_fuzz(fuzz_gateway_upgrade CORPUS tests/fuzz/corpus/gateway_upgrade SOURCES fuzz/fuzz_gateway_upgrade.c LINK wp_gateway)
