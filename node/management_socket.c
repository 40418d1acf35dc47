#include "node/management_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

#define LISTEN_BACKLOG 64

/* Splits "HOST:PORT" or "[HOST]:PORT" into a socket address on loopback; its size, 0 when it is none. */
static socklen_t address_parse(const char *text, struct sockaddr_storage *ret_address)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t host_size = colon ? (size_t)(colon - text) : 0;
    char *end;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > 65535 ||
        host_size >= sizeof host) {
        return 0;
    }
    memcpy(host, text, host_size);
    host[host_size] = '\0';
    memset(ret_address, 0, sizeof *ret_address);
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127 ? sizeof *v4 : 0;
    }
    if (host_size > 2 && host[0] == '[' && host[host_size - 1] == ']') {
        host[host_size - 1] = '\0';
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)
                   ? sizeof *v6
                   : 0;
    }
    return 0;
}

void wp_management_address_format(int fd, char *out, size_t size)
{
    struct sockaddr_storage address;
    socklen_t address_size = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, (struct sockaddr *)&address, &address_size) != 0) {
        return;
    }
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
    if (address.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
}

static int complain(char *ret_text, size_t text_size, int error, const char *what, const char *subject)
{
    snprintf(ret_text, text_size, "management: %s \"%s\"", what, subject);
    return error;
}

int wp_management_tcp_listen(const char *text, int *ret_fd, char *ret_text, size_t text_size)
{
    struct sockaddr_storage address;
    socklen_t address_size = address_parse(text, &address);
    if (address_size == 0) {
        return complain(
            ret_text, text_size, WP_E_CONFIG, "the address must be 127.x.y.z:PORT or [::1]:PORT, not", text);
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return complain(ret_text, text_size, WP_E_IO, "cannot open a socket for", text);
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, address_size) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        bool busy = errno == EADDRINUSE;
        close(fd);
        return complain(ret_text, text_size, busy ? WP_E_BUSY : WP_E_CONFIG,
            busy ? "another process listens on" : "cannot listen on", text);
    }
    *ret_fd = fd;
    return WP_OK;
}

/* Whether a process answers on the socket file. */
static bool local_alive(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                                (errno != ECONNREFUSED && errno != ENOENT));
    if (fd >= 0) {
        close(fd);
    }
    return alive;
}

static int local_bind(int fd, const struct sockaddr_un *address)
{
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) == 0) {
        return WP_OK;
    }
    struct stat info;
    if (errno != EADDRINUSE) {
        return WP_E_CONFIG;
    }
    if (lstat(address->sun_path, &info) != 0 || !S_ISSOCK(info.st_mode) || local_alive(address)) {
        return WP_E_BUSY;
    }
    unlink(address->sun_path);
    return bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? WP_OK : WP_E_BUSY;
}

int wp_management_local_listen(const char *path, int *ret_fd, char *ret_text, size_t text_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return complain(ret_text, text_size, WP_E_CONFIG, "the socket path is over 107 bytes long:", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return complain(ret_text, text_size, WP_E_IO, "cannot open a socket for", path);
    }
    /* Before bind, so that the file never exists with a wider mode. */
    int error = fchmod(fd, 0600) != 0 ? WP_E_IO : local_bind(fd, &address);
    if (!error && listen(fd, LISTEN_BACKLOG) != 0) {
        error = WP_E_IO;
    }
    if (error) {
        close(fd);
        return complain(ret_text, text_size, error,
            error == WP_E_BUSY ? "another process listens on" : "cannot listen on", path);
    }
    *ret_fd = fd;
    return WP_OK;
}
