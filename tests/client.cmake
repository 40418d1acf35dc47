wp_unit_test(test_client_connection SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/test_client_connection.c
  LINK wp_client wp_mqtt wp_proto)
wp_unit_test(test_client_seen SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/test_client_seen.c LINK wp_client wp_proto)
