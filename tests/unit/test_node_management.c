/* The management endpoint through raw sockets: what a scraper, an operator and a stranger get. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/metric.h"
#include "node/management.h"

#define ANSWER_SIZE_MAX (64 * 1024)

static char directory[] = "/tmp/wp-management-XXXXXX";
static char socket_path[64];

struct state {
    bool ready;
    unsigned refresh_count;
    char method[16], path[64], argument[64];
    size_t body_size;
    uint8_t body_last;
};

static bool on_ready(void *context, char *ret_why, size_t why_size)
{
    struct state *state = context;
    snprintf(ret_why, why_size, "shard 3 has no \"leader\"");
    return state->ready;
}

static void on_metrics(void *context)
{
    struct state *state = context;
    state->refresh_count++;
    wp_metric_set(WP_M_QUEUED, 41);
}

static int on_request(void *context, const struct wp_management_request *request, struct wp_buffer *out)
{
    struct state *state = context;
    snprintf(state->method, sizeof state->method, "%s", request->method);
    snprintf(state->path, sizeof state->path, "%s", request->path);
    const char *argument = wp_management_argument(request, "after");
    snprintf(state->argument, sizeof state->argument, "%s", argument ? argument : "(none)");
    state->body_size = request->body.size;
    state->body_last = request->body.size > 0 ? request->body.data[request->body.size - 1] : 0;
    wp_buffer_append(out, "{\"ok\":true}", 11);
    return 201;
}

static struct wp_management *management_start(struct state *state)
{
    struct wp_management_config config = {.program = "router",
        .address = "127.0.0.1:0",
        .socket_path = socket_path,
        .context = state,
        .ready = on_ready,
        .handle = on_request,
        .before_metrics = on_metrics};
    struct wp_management *management = NULL;
    char text[256] = "";
    assert_int_equal(wp_management_create(&config, &management, text, sizeof text), WP_OK);
    return management;
}

static int tcp_connect(const struct wp_management *management)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *bound = wp_management_address(management);
    assert_memory_equal(bound, "127.0.0.1:", 10);
    address.sin_port = htons((uint16_t)atoi(bound + 10));
    assert_int_not_equal(address.sin_port, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int local_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t count = send(fd, data, size, MSG_NOSIGNAL);
        assert_true(count > 0);
        data += count;
        size -= (size_t)count;
    }
}

/* Sends a request head (with Connection: close), `body_size` bytes of 'x', and returns the whole answer. */
static const char *exchange(int fd, const char *method, const char *path, size_t body_size)
{
    static char answer[ANSWER_SIZE_MAX];
    char head[256];
    struct timeval patience = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    snprintf(head, sizeof head,
        "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", method, path,
        body_size);
    send_all(fd, head, strlen(head));
    char *body = malloc(body_size + 1);
    memset(body, 'x', body_size);
    send_all(fd, body, body_size);
    free(body);
    size_t used = 0;
    ssize_t count;
    while (used < sizeof answer - 1 && (count = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0) {
        used += (size_t)count;
    }
    answer[used] = '\0';
    close(fd);
    return answer;
}

static void assert_status(const char *answer, int status)
{
    char begin[32];
    snprintf(begin, sizeof begin, "HTTP/1.1 %d ", status);
    if (strncmp(answer, begin, strlen(begin)) != 0) {
        fail_msg("expected status %d, got \"%.200s\"", status, answer);
    }
}

static void assert_has(const char *answer, const char *piece)
{
    if (!strstr(answer, piece)) {
        fail_msg("no \"%s\" in \"%.2000s\"", piece, answer);
    }
}

static void test_health_pages(void **unused)
{
    (void)unused;
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    const char *answer = exchange(tcp_connect(management), "GET", "/livez", 0);
    assert_status(answer, 200);
    assert_has(answer, "\r\n\r\nalive\n");
    answer = exchange(tcp_connect(management), "GET", "/readyz", 0);
    assert_status(answer, 503);
    assert_has(answer, "Content-Type: application/json");
    assert_has(answer, "{\"error\":\"unavailable\",\"message\":\"shard 3 has no \\\"leader\\\"\"}");
    state.ready = true;
    assert_status(exchange(tcp_connect(management), "GET", "/readyz", 0), 200);
    assert_status(exchange(local_connect(), "GET", "/readyz", 0), 200);
    answer = exchange(tcp_connect(management), "HEAD", "/livez", 0);
    assert_status(answer, 200);
    assert_null(strstr(answer, "alive"));
    wp_management_destroy(&management);
    assert_null(management);
}

static void test_metrics_are_refreshed_and_only_ours(void **unused)
{
    (void)unused;
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    const char *answer = exchange(tcp_connect(management), "GET", "/metrics", 0);
    assert_status(answer, 200);
    assert_has(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8");
    assert_has(answer, "\nwardpost_router_queued_messages 41\n");
    assert_has(answer, "# TYPE wardpost_router_log_sync_seconds histogram");
    assert_has(answer, "wardpost_up ");
    assert_null(strstr(answer, "wardpost_gateway_"));
    assert_int_equal(state.refresh_count, 1);
    wp_management_destroy(&management);
}

static void test_unknown_pages_and_methods(void **unused)
{
    (void)unused;
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    const char *answer = exchange(tcp_connect(management), "GET", "/nothing", 0);
    assert_status(answer, 404);
    assert_has(answer, "{\"error\":\"not-found\",\"message\":\"no such page\"}");
    assert_status(exchange(tcp_connect(management), "GET", "/livez/", 0), 404);
    answer = exchange(tcp_connect(management), "POST", "/metrics", 100);
    assert_status(answer, 405);
    assert_has(answer, "Allow: GET, HEAD");
    assert_status(exchange(tcp_connect(management), "DELETE", "/livez", 0), 405);
    wp_management_destroy(&management);
}

static void test_commands_only_on_the_unix_socket(void **unused)
{
    (void)unused;
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    assert_status(exchange(tcp_connect(management), "POST", "/v1/users", 10), 404);
    assert_string_equal(state.path, "");

    const char *answer = exchange(local_connect(), "POST", "/v1/users", 10);
    assert_status(answer, 201);
    assert_has(answer, "Content-Type: application/json");
    assert_has(answer, "\r\n\r\n{\"ok\":true}");
    assert_string_equal(state.method, "POST");
    assert_string_equal(state.path, "/v1/users");
    assert_int_equal(state.body_size, 10);
    assert_string_equal(state.argument, "(none)");
    assert_status(exchange(local_connect(), "GET", "/v1/users?limit=5&after=al%69ce%2F1", 0), 201);
    assert_string_equal(state.path, "/v1/users");
    assert_string_equal(state.argument, "alice/1");
    assert_status(exchange(local_connect(), "DELETE", "/v1/users/alice", 0), 201);
    assert_string_equal(state.method, "DELETE");
    wp_management_destroy(&management);
}

static void test_process_without_commands(void **unused)
{
    (void)unused;
    struct wp_management_config config = {.program = "gateway", .socket_path = socket_path};
    struct wp_management *management = NULL;
    char text[256] = "";
    assert_int_equal(wp_management_create(&config, &management, text, sizeof text), WP_OK);
    assert_string_equal(wp_management_address(management), "");
    assert_status(exchange(local_connect(), "GET", "/v1/users", 0), 404);
    assert_status(exchange(local_connect(), "GET", "/readyz", 0), 200); /* without a callback: ready */
    wp_management_destroy(&management);
    assert_int_equal(access(socket_path, F_OK), -1); /* the file goes with the server */
}

static void test_body_limit(void **unused)
{
    (void)unused;
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    size_t limit = 8u * 1024 * 1024;
    assert_status(exchange(local_connect(), "POST", "/v1/a", limit), 201);
    assert_int_equal(state.body_size, limit);
    assert_int_equal(state.body_last, 'x');
    state.body_size = 0;
    const char *answer = exchange(local_connect(), "POST", "/v1/a", limit + 1);
    assert_status(answer, 413);
    assert_has(answer, "\"error\":\"too-large\"");
    assert_int_equal(state.body_size, 0);
    wp_management_destroy(&management);
}

static void test_socket_is_private(void **unused)
{
    (void)unused;
    struct state state = {0};
    mode_t before = umask(0);
    struct wp_management *management = management_start(&state);
    umask(before);
    struct stat info;
    assert_int_equal(stat(socket_path, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0600);
    wp_management_destroy(&management);
}

/* Runs only as root: opens the file to everybody and asks as nobody. */
static void test_other_user_is_denied_by_the_server_too(void **unused)
{
    (void)unused;
    if (geteuid() != 0) {
        skip();
    }
    struct state state = {.ready = true};
    struct wp_management *management = management_start(&state);
    assert_int_equal(chmod(socket_path, 0666), 0);
    assert_int_equal(chmod(directory, 0755), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(2);
        }
        const char *answer = exchange(local_connect(), "GET", "/v1/users", 0);
        _exit(strncmp(answer, "HTTP/1.1 403 ", 13) == 0 && strstr(answer, "\"denied\"") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_string_equal(state.path, "");
    wp_management_destroy(&management);
}

static void test_garbage_does_no_harm(void **unused)
{
    (void)unused;
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    static const char *const noise[] = {"\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x01\x01",
        "POST /v1/a HTTP/1.1\r\nContent-Length: 99"};
    for (unsigned i = 0; i < 4; i++) {
        int fd = i % 2 ? tcp_connect(management) : local_connect();
        send_all(fd, noise[i], strlen(noise[i]));
        close(fd);
    }
    assert_status(exchange(tcp_connect(management), "GET", "/livez", 0), 200);
    assert_status(exchange(local_connect(), "GET", "/livez", 0), 200);
    wp_management_destroy(&management);
}

static int create_at(const char *address, const char *path, char *text, size_t text_size)
{
    struct wp_management_config config = {.program = "router", .address = address, .socket_path = path};
    struct wp_management *management = NULL;
    text[0] = '\0';
    int error = wp_management_create(&config, &management, text, text_size);
    if (!error) {
        wp_management_destroy(&management);
    }
    assert_null(management);
    return error;
}

static void test_addresses_that_are_refused(void **unused)
{
    (void)unused;
    static const char *const wrong[] = {"0.0.0.0:0", "10.0.0.1:80", "localhost:80", "127.0.0.1",
        "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1:1x", ":80", "[::]:80", "[::1]",
        "::1:80", ""};
    char text[256];
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(create_at(wrong[i], NULL, text, sizeof text), WP_E_CONFIG);
        assert_has(text, wrong[i]);
    }
    assert_int_equal(create_at("127.0.0.2:0", NULL, text, sizeof text), WP_OK);
    char long_path[200];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(create_at(NULL, long_path, text, sizeof text), WP_E_CONFIG);
    assert_int_equal(create_at(NULL, "/nonexistent/a.sock", text, sizeof text), WP_E_CONFIG);
}

static void test_addresses_in_use(void **unused)
{
    (void)unused;
    struct state state = {0};
    char text[256];
    struct wp_management *management = management_start(&state);
    assert_int_equal(create_at(wp_management_address(management), NULL, text, sizeof text), WP_E_BUSY);
    assert_has(text, wp_management_address(management));
    assert_int_equal(create_at(NULL, socket_path, text, sizeof text), WP_E_BUSY);
    assert_status(exchange(local_connect(), "GET", "/livez", 0), 200); /* still ours */
    wp_management_destroy(&management);
}

static void test_socket_of_a_dead_process_is_replaced(void **unused)
{
    (void)unused;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd); /* as a kill does: the file stays */
    assert_int_equal(access(socket_path, F_OK), 0);
    struct state state = {0};
    struct wp_management *management = management_start(&state);
    assert_status(exchange(local_connect(), "GET", "/livez", 0), 200);
    wp_management_destroy(&management);

    char text[256];
    fd = open(socket_path, O_WRONLY | O_CREAT, 0600); /* a file that is no socket is not ours to remove */
    close(fd);
    assert_int_equal(create_at(NULL, socket_path, text, sizeof text), WP_E_BUSY);
    assert_int_equal(unlink(socket_path), 0);
}

static int setup(void **unused)
{
    (void)unused;
    if (!mkdtemp(directory)) {
        return -1;
    }
    snprintf(socket_path, sizeof socket_path, "%s/m.sock", directory);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    unlink(socket_path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health_pages),
        cmocka_unit_test(test_metrics_are_refreshed_and_only_ours),
        cmocka_unit_test(test_unknown_pages_and_methods),
        cmocka_unit_test(test_commands_only_on_the_unix_socket),
        cmocka_unit_test(test_process_without_commands),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_socket_is_private),
        cmocka_unit_test(test_other_user_is_denied_by_the_server_too),
        cmocka_unit_test(test_garbage_does_no_harm),
        cmocka_unit_test(test_addresses_that_are_refused),
        cmocka_unit_test(test_addresses_in_use),
        cmocka_unit_test(test_socket_of_a_dead_process_is_replaced),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
