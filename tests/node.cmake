wp_unit_test(test_node_fabric SOURCES unit/test_node_fabric.c unit/node_fixture.c LINK wp_node dep_zmq)
