/* A router that dies or stands still, in a process of its own: SIGKILL is noticed at once, a standstill after
 * five seconds of silence, and both are healed by themselves. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "tests/unit/node_fixture.h"

/* The keys of both sides are known to parent and child before the fork. */
struct child_setup {
    struct wp_keypair router, gateway;
    char endpoint[64];
};

static void ignore_link(void *context, struct wp_link *link)
{
    (void)context;
    (void)link;
}

static void ignore_down(void *context, struct wp_link *link, int error)
{
    (void)context;
    (void)link;
    (void)error;
}

static void child_frame(void *context, struct wp_link *link, enum wp_frame_type type, struct wp_slice payload)
{
    (void)context;
    (void)type;
    wp_link_credit_return(link, payload.size + WP_RECORD_HEAD_SIZE);
}

static void ignore_turn(void *context)
{
    (void)context;
}

/* Runs a router until it is killed; tells its endpoint through `fd`. */
static _Noreturn void child_run(const struct child_setup *setup, uint64_t incarnation, int fd)
{
    uv_loop_t loop;
    void *zmq;
    struct wp_zap *zap;
    struct wp_fabric *fabric;
    uv_loop_init(&loop);
    if (wp_fabric_context_create(&zmq) != WP_OK || wp_zap_create(zmq, &zap) != WP_OK ||
        wp_zap_allow(zap, setup->gateway.public_text, "gateway-1", WP__ROLE__ROLE_GATEWAY) != WP_OK) {
        _exit(1);
    }
    struct wp_fabric_config config = {.loop = &loop,
        .zmq_context = zmq,
        .zap = zap,
        .node = "router-1",
        .role = WP__ROLE__ROLE_ROUTER,
        .cluster_id = FIXTURE_CLUSTER,
        .incarnation = incarnation,
        .keys = &setup->router};
    struct wp_fabric_callbacks callbacks = {
        NULL, ignore_link, ignore_down, child_frame, ignore_turn, ignore_link};
    char endpoint[64] = "";
    if (wp_fabric_create(&config, &callbacks, &fabric) != WP_OK ||
        wp_fabric_listen(fabric, setup->endpoint, endpoint, sizeof endpoint) != WP_OK ||
        write(fd, endpoint, sizeof endpoint) != sizeof endpoint) {
        _exit(1);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
}

static pid_t child_start(struct child_setup *setup, uint64_t incarnation)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pipe_fds[0]);
        child_run(setup, incarnation, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], setup->endpoint, sizeof setup->endpoint), sizeof setup->endpoint);
    close(pipe_fds[0]);
    return pid;
}

static void child_kill(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static struct child_setup setup_make(void)
{
    struct child_setup setup = {.endpoint = "tcp://127.0.0.1:*"};
    assert_int_equal(zmq_curve_keypair(setup.router.public_text, setup.router.secret_text), 0);
    assert_int_equal(zmq_curve_keypair(setup.gateway.public_text, setup.gateway.secret_text), 0);
    return setup;
}

static struct fixture_end *gateway_connect(struct fixture *fixture, const struct child_setup *setup)
{
    struct fixture_end *gateway = fixture_end_create(
        fixture, &(struct fixture_options){
                     .node = "gateway-1", .role = WP__ROLE__ROLE_GATEWAY, .keys = &setup->gateway});
    assert_int_equal(
        wp_fabric_connect(gateway->fabric, setup->endpoint, setup->router.public_text, &gateway->link),
        WP_OK);
    return gateway;
}

static void test_killed_router_is_down_at_once_and_up_after_its_start(void **state)
{
    (void)state;
    struct child_setup setup = setup_make();
    pid_t pid = child_start(&setup, 1);
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = gateway_connect(fixture, &setup);
    FIXTURE_UNTIL(fixture, gateway->up_count == 1);
    for (uint64_t life = 2; life <= 4; life++) {
        uint64_t killed_ms = wp_clock_boot_ms();
        child_kill(pid);
        FIXTURE_UNTIL(fixture, gateway->down_count == life - 1);
        assert_in_range(wp_clock_boot_ms() - killed_ms, 0, 1000);
        assert_int_equal(gateway->down_error, WP_E_CLOSED);

        pid = child_start(&setup, life);
        uint64_t started_ms = wp_clock_boot_ms();
        FIXTURE_UNTIL(fixture, gateway->up_count == life);
        print_message("up %llu ms after the start\n", (unsigned long long)(wp_clock_boot_ms() - started_ms));
        assert_in_range(wp_clock_boot_ms() - started_ms, 0, 1000);
        assert_int_equal(wp_link_incarnation(gateway->link), life);
    }
    child_kill(pid);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

static void test_paused_router_is_down_after_silence_and_comes_back(void **state)
{
    (void)state;
    struct child_setup setup = setup_make();
    pid_t pid = child_start(&setup, 1);
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = gateway_connect(fixture, &setup);
    FIXTURE_UNTIL(fixture, gateway->up_count == 1);
    kill(pid, SIGSTOP);
    uint64_t paused_ms = wp_clock_boot_ms();
    FIXTURE_UNTIL(fixture, gateway->down_count == 1);
    assert_in_range(wp_clock_boot_ms() - paused_ms, 3500, 7500);
    kill(pid, SIGCONT);
    FIXTURE_UNTIL(fixture, gateway->up_count == 2);
    assert_int_equal(wp_link_incarnation(gateway->link), 1);
    assert_int_equal(fixture_submit(gateway, WP_LINK_STAT, 1, 10), WP_OK);
    child_kill(pid);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

int main(void)
{
    wp_log_init("test", WP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_router_is_down_at_once_and_up_after_its_start),
        cmocka_unit_test(test_paused_router_is_down_after_silence_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
