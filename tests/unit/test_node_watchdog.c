/* Pings to the service manager: sent while every watched loop turns, withheld while one stands still. The
 * service manager is a socket of the test, the loops are numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "node/watchdog.h"

struct rig {
    uv_loop_t loop;
    uint64_t turns[3];
    int socket;
    struct wp_watchdog *watchdog;
};

static uint64_t turns_of(void *context, uint32_t index)
{
    return ((struct rig *)context)->turns[index];
}

static int rig_open(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    int size = snprintf(name, sizeof name, "@wp-watchdog-%d", getpid());
    memcpy(address.sun_path + 1, name + 1, (size_t)size - 1);
    rig->socket = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(rig->socket, (struct sockaddr *)&address,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)size)),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
    setenv("WATCHDOG_USEC", "30000000", 1);
    unsetenv("WATCHDOG_PID");
    uv_loop_init(&rig->loop);
    *state = rig;
    return 0;
}

static int rig_close(void **state)
{
    struct rig *rig = *state;
    wp_watchdog_destroy(&rig->watchdog);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    close(rig->socket);
    free(rig);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

static void start(struct rig *rig, uint32_t loop_count)
{
    const struct wp_watchdog_config config = {
        .loop = &rig->loop, .loop_count = loop_count, .context = rig, .turns = turns_of};
    assert_int_equal(wp_watchdog_create(&config, &rig->watchdog), WP_OK);
}

static unsigned pings_take(const struct rig *rig)
{
    char got[32];
    unsigned count = 0;
    for (ssize_t size; (size = recv(rig->socket, got, sizeof got, MSG_DONTWAIT)) > 0; count++) {
        assert_int_equal(size, 10);
        assert_memory_equal(got, "WATCHDOG=1", 10);
    }
    return count;
}

static void test_pings_while_every_loop_turns(void **state)
{
    struct rig *rig = *state;
    start(rig, 3);
    assert_int_equal(wp_watchdog_interval_ms(rig->watchdog), 15000);
    for (unsigned look = 0; look < 3; look++) {
        rig->turns[0]++, rig->turns[1] += 1000, rig->turns[2]++;
        assert_true(wp_watchdog_ping(rig->watchdog));
    }
    assert_int_equal(pings_take(rig), 3);
}

static void test_one_loop_that_stands_still_stops_them(void **state)
{
    struct rig *rig = *state;
    start(rig, 3);
    for (uint32_t still = 0; still < 3; still++) {
        for (unsigned look = 0; look < 2; look++) {
            for (uint32_t i = 0; i < 3; i++) {
                rig->turns[i] += i != still;
            }
            assert_false(wp_watchdog_ping(rig->watchdog));
        }
        assert_int_equal(pings_take(rig), 0);
        rig->turns[0]++, rig->turns[1]++, rig->turns[2]++;
        assert_true(wp_watchdog_ping(rig->watchdog)); /* it turns again */
        assert_int_equal(pings_take(rig), 1);
    }
}

static void test_a_loop_that_never_turned_gets_none(void **state)
{
    struct rig *rig = *state;
    start(rig, 1);
    assert_false(wp_watchdog_ping(rig->watchdog));
    assert_int_equal(pings_take(rig), 0);
}

static void test_the_timer_pings_by_itself(void **state)
{
    struct rig *rig = *state;
    setenv("WATCHDOG_USEC", "2000", 1); /* every millisecond */
    start(rig, 0);
    assert_int_equal(uv_run(&rig->loop, UV_RUN_NOWAIT), 0); /* it keeps no loop alive */
    uv_async_t alive;
    uv_async_init(&rig->loop, &alive, NULL);
    unsigned pings = 0;
    while (pings < 3) {
        uv_run(&rig->loop, UV_RUN_ONCE);
        pings += pings_take(rig);
    }
    uv_close((uv_handle_t *)&alive, NULL);
    uv_run(&rig->loop, UV_RUN_NOWAIT);
}

static void test_nobody_asks(void **state)
{
    struct rig *rig = *state;
    static const char *const intervals[] = {"", "0", "-5", "10s", "x"};
    for (unsigned i = 0; i < sizeof intervals / sizeof intervals[0]; i++) {
        setenv("WATCHDOG_USEC", intervals[i], 1);
        start(rig, 3);
        assert_null(rig->watchdog);
    }
    unsetenv("WATCHDOG_USEC");
    start(rig, 3);
    assert_null(rig->watchdog);
    wp_watchdog_destroy(&rig->watchdog);
}

static void test_only_the_process_that_is_asked(void **state)
{
    struct rig *rig = *state;
    char own[32];
    setenv("WATCHDOG_PID", "1", 1);
    start(rig, 0);
    assert_null(rig->watchdog);
    snprintf(own, sizeof own, "%d", getpid());
    setenv("WATCHDOG_PID", own, 1);
    start(rig, 0);
    assert_non_null(rig->watchdog);
}

static void test_a_manager_that_went_away_is_no_ping(void **state)
{
    struct rig *rig = *state;
    start(rig, 0);
    setenv("NOTIFY_SOCKET", "@wp-watchdog-nobody", 1);
    assert_false(wp_watchdog_ping(rig->watchdog));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pings_while_every_loop_turns, rig_open, rig_close),
        cmocka_unit_test_setup_teardown(test_one_loop_that_stands_still_stops_them, rig_open, rig_close),
        cmocka_unit_test_setup_teardown(test_a_loop_that_never_turned_gets_none, rig_open, rig_close),
        cmocka_unit_test_setup_teardown(test_the_timer_pings_by_itself, rig_open, rig_close),
        cmocka_unit_test_setup_teardown(test_nobody_asks, rig_open, rig_close),
        cmocka_unit_test_setup_teardown(test_only_the_process_that_is_asked, rig_open, rig_close),
        cmocka_unit_test_setup_teardown(test_a_manager_that_went_away_is_no_ping, rig_open, rig_close),
    };
    wp_log_init("watchdog", WP_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
