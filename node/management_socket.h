/* Listening sockets of the management endpoint: loopback only, or a file that only its owner may open. */
#ifndef WP_NODE_MANAGEMENT_SOCKET_H
#define WP_NODE_MANAGEMENT_SOCKET_H

#include <stddef.h>

/* Listens on "127.x.y.z:PORT" or "[::1]:PORT". WP_E_CONFIG (bad or not loopback), WP_E_BUSY, WP_E_IO; the
 * text names the address. The caller owns the descriptor. */
int wp_management_tcp_listen(const char *address, int *ret_fd, char *ret_text, size_t text_size);

/* Writes what a listening TCP socket is really bound to. */
void wp_management_address_format(int fd, char *out, size_t size);

/* Listens on a unix socket of mode 0600. A file that a dead process left is replaced; WP_E_BUSY when it is
 * answered, or is no socket. WP_E_CONFIG: the path cannot be used. */
int wp_management_local_listen(const char *path, int *ret_fd, char *ret_text, size_t text_size);

#endif
