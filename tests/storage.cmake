wp_unit_test(test_storage_rocks
  SOURCES unit/test_storage_rocks.c unit/test_storage_rocks_help.c unit/test_storage_suite.c
  LINK wp_storage wp_base)
