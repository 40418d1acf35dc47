# Delivery as a machine of its own, and the router as gateways and the operator see it.
wp_unit_test(test_dispatch_wire SOURCES unit/test_dispatch_wire.c LINK wp_dispatch)
foreach(name core model)
  wp_unit_test(test_dispatch_${name} SOURCES unit/test_dispatch_${name}.c unit/dispatch_fixture.c LINK wp_dispatch)
endforeach()
foreach(name reactor admin peer)
  wp_unit_test(test_router_${name} SOURCES unit/test_router_${name}.c unit/router_fixture.c
    LINK wp_router dep_sodium dep_jansson)
endforeach()
wp_unit_test(test_router_identity SOURCES unit/test_router_identity.c LINK wp_router dep_sodium)
wp_unit_test(test_router_overview SOURCES unit/test_router_overview.c LINK wp_router)
wp_unit_test(test_router_handover SOURCES unit/test_router_handover.c LINK wp_router)
wp_unit_test(test_router_route SOURCES unit/test_router_route.c LINK wp_router)
wp_unit_test(test_router_waiters SOURCES unit/test_router_waiters.c LINK wp_router)
