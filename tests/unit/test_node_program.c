/* What both mains share: arguments with their exit codes, signals on the loop, readiness. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "node/program.h"

struct taken {
    unsigned count;
    int check_error;
    char value[16], checked[64];
};

static int take_shard(void *context, const char *value)
{
    struct taken *taken = context;
    taken->count++;
    snprintf(taken->value, sizeof taken->value, "%s", value);
    return value[0] >= '0' && value[0] <= '9' ? WP_OK : WP_E_INVALID;
}

static int check_config(void *context, const char *path, char *ret_text, size_t text_size)
{
    struct taken *taken = context;
    snprintf(taken->checked, sizeof taken->checked, "%s", path);
    snprintf(ret_text, text_size, "%s:3: wrong", path);
    return taken->check_error;
}

/* Parses up to four arguments; what it prints is kept in `printed`. */
static int parse(struct taken *taken, struct wp_program_arguments *arguments, char *printed,
    size_t printed_size, const char *a, const char *b, const char *c, const char *d)
{
    const struct wp_program_option option = {
        "--accept-loss", "SHARD", "start although the shard forgot", take_shard};
    const struct wp_program program = {.name = "wardpost-test",
        .purpose = "is tested",
        .example = "wardpost-test --config /etc/t.yaml",
        .options = &option,
        .option_count = 1,
        .context = taken,
        .check = check_config};
    const char *const texts[] = {"wardpost-test", a, b, c, d};
    char copies[5][64], *argv[6] = {NULL};
    int argc = 0;
    for (; argc < 5 && texts[argc]; argc++) {
        snprintf(copies[argc], sizeof copies[argc], "%s", texts[argc]);
        argv[argc] = copies[argc];
    }
    FILE *file = tmpfile();
    fflush(stdout);
    fflush(stderr);
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    int code = wp_program_parse(&program, argc, argv, arguments);
    fflush(stdout);
    fflush(stderr);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    rewind(file);
    printed[fread(printed, 1, printed_size - 1, file)] = '\0';
    fclose(file);
    return code;
}

static void test_arguments_to_go_on_with(void **state)
{
    (void)state;
    struct taken taken = {0};
    struct wp_program_arguments arguments = {0};
    char printed[4096];
    assert_int_equal(
        parse(&taken, &arguments, printed, sizeof printed, "--config", "a.yaml", NULL, NULL), -1);
    assert_string_equal(arguments.config_path, "a.yaml");
    assert_string_equal(printed, "");
    assert_int_equal(
        parse(&taken, &arguments, printed, sizeof printed, "--accept-loss", "3", "--config", "b.yaml"), -1);
    assert_int_equal(taken.count, 1);
    assert_string_equal(taken.value, "3");
}

static void test_answers_that_end_the_program(void **state)
{
    (void)state;
    struct taken taken = {0};
    struct wp_program_arguments arguments = {0};
    char printed[4096];
    assert_int_equal(
        parse(&taken, &arguments, printed, sizeof printed, "--help", NULL, NULL, NULL), WP_EXIT_OK);
    assert_non_null(strstr(printed, "--accept-loss SHARD"));
    assert_non_null(strstr(printed, "Example:\n  wardpost-test --config /etc/t.yaml\n"));
    assert_int_equal(
        parse(&taken, &arguments, printed, sizeof printed, "--version", NULL, NULL, NULL), WP_EXIT_OK);
    assert_string_equal(printed, "wardpost-test " WP_VERSION "\n");
    assert_int_equal(
        parse(&taken, &arguments, printed, sizeof printed, "--check-config", "--config", "a.yaml", NULL),
        WP_EXIT_OK);
    assert_string_equal(printed, "wardpost-test: configuration \"a.yaml\" is good\n");
    assert_string_equal(taken.checked, "a.yaml");
    taken.check_error = WP_E_CONFIG;
    assert_int_equal(
        parse(&taken, &arguments, printed, sizeof printed, "--config", "a.yaml", "--check-config", NULL),
        WP_EXIT_CONFIG);
    assert_string_equal(printed, "a.yaml:3: wrong\n");
    assert_null(arguments.config_path);
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *said;
    } wrong[] = {{NULL, NULL, "no configuration given"}, {"--config", NULL, "no value after \"--config\""},
        {"--confg", "a", "unknown argument \"--confg\""}, {"a.yaml", NULL, "unknown argument \"a.yaml\""},
        {"--accept-loss", "x", "wrong value \"x\""}, {"--accept-loss", NULL, "no value after"},
        {"--check-config", NULL, "no configuration"}};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct taken taken = {0};
        struct wp_program_arguments arguments = {0};
        char printed[4096];
        assert_int_equal(
            parse(&taken, &arguments, printed, sizeof printed, wrong[i].a, wrong[i].b, NULL, NULL),
            WP_EXIT_USAGE);
        assert_non_null(strstr(printed, wrong[i].said));
        assert_non_null(strstr(printed, "--help"));
    }
}

struct signalled {
    unsigned stops, reloads;
    int number;
};

static void on_stop(void *context, int number)
{
    struct signalled *signalled = context;
    signalled->stops++;
    signalled->number = number;
}

static void on_reload(void *context)
{
    struct signalled *signalled = context;
    signalled->reloads++;
}

static void test_signals_reach_the_loop(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct wp_signals *signals;
    struct signalled signalled = {0};
    uv_async_t alive; /* libuv polls only while something keeps the loop alive */
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_async_init(&loop, &alive, NULL), 0);
    assert_int_equal(
        wp_signals_create(&loop, &(struct wp_signals_callbacks){&signalled, on_stop, on_reload}, &signals),
        WP_OK);
    raise(SIGHUP);
    raise(SIGPIPE); /* does not end us */
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(signalled.reloads, 1);
    assert_int_equal(signalled.stops, 0);
    raise(SIGTERM);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(signalled.number, SIGTERM);
    raise(SIGINT);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(signalled.stops, 2);
    assert_int_equal(signalled.number, SIGINT);
    uv_close((uv_handle_t *)&alive, NULL);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* they do not keep the loop alive */
    wp_signals_destroy(&signals);
    assert_null(signals);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_readiness_is_told(void **state)
{
    (void)state;
    char directory[] = "/tmp/wp-notify-XXXXXX", path[64], got[64] = "";
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(wp_notify("READY=1"), WP_OK);
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/n", directory);
    setenv("NOTIFY_SOCKET", path, 1);
    assert_int_equal(wp_notify("READY=1"), WP_E_IO); /* nobody there */

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(wp_notify("READY=1"), WP_OK);
    assert_int_equal(recv(fd, got, sizeof got - 1, MSG_DONTWAIT), 7);
    assert_string_equal(got, "READY=1");
    close(fd);
    unlink(path);
    rmdir(directory);

    snprintf(path, sizeof path, "@wp-notify-%d", getpid());
    setenv("NOTIFY_SOCKET", path, 1);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path + 1, path + 1, strlen(path) - 1);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))),
        0);
    assert_int_equal(wp_notify("STOPPING=1"), WP_OK);
    assert_int_equal(recv(fd, got, sizeof got - 1, MSG_DONTWAIT), 10);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

static void test_descriptor_limit_is_raised(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t hard = limit.rlim_max;
    limit.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(wp_descriptors_raise(), hard);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, hard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_to_go_on_with),
        cmocka_unit_test(test_answers_that_end_the_program),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_signals_reach_the_loop),
        cmocka_unit_test(test_readiness_is_told),
        cmocka_unit_test(test_descriptor_limit_is_raised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
