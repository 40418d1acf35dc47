# The operator's access: the playground file and the admin socket. Shared by wardpostctl and wardpost-bench.
wp_library(wp_operator SOURCES playground.c operator.c PUBLIC wp_base dep_jansson LINK dep_curl)
