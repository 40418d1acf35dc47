# cluster/: the codec, one replica, a group on a store whose syncs the test controls, and a seeded simulation.
wp_unit_test(test_cluster_group SOURCES unit/test_cluster_group.c unit/cluster_disk.c LINK wp_cluster)
wp_unit_test(test_cluster_sim SOURCES unit/test_cluster_sim.c unit/cluster_sim.c unit/cluster_disk.c LINK wp_cluster)
