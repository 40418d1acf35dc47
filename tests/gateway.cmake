# gateway/: the machines on their own, and a whole gateway with a fake router behind it.
set(gateway_rig unit/gateway_rig.c unit/gateway_certificate.c)
foreach(part IN ITEMS edge flow)
  wp_unit_test(test_gateway_${part} SOURCES unit/test_gateway_${part}.c ${gateway_rig}
    LINK wp_gateway wp_node dep_openssl dep_sodium)
endforeach()
foreach(part IN ITEMS parts session submits)
  wp_unit_test(test_gateway_${part} SOURCES unit/test_gateway_${part}.c LINK wp_gateway_core)
endforeach()
wp_fuzz(fuzz_gateway_session CORPUS tests/fuzz/corpus/gateway_session SOURCES fuzz/fuzz_gateway_session.c LINK wp_gateway_core)
wp_fuzz(fuzz_gateway_upgrade CORPUS tests/fuzz/corpus/gateway_upgrade SOURCES fuzz/fuzz_gateway_upgrade.c LINK wp_gateway)
