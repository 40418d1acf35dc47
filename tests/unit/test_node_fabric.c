/* Links over real sockets: who gets in, what arrives in which order, what credit and lanes do, and what
 * happens when a peer goes away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/metric.h"
#include "tests/unit/node_fixture.h"

static void test_hello_brings_both_sides_up(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_string_equal(wp_link_node(gateway->link), "router-1");
    assert_string_equal(wp_link_node(fixture->router->link), "gateway-1");
    assert_int_equal(wp_link_incarnation(gateway->link), 1);
    assert_string_equal(wp_link_endpoint(gateway->link), fixture->endpoint);
    fixture_end_destroy(&gateway);
    FIXTURE_UNTIL(fixture, fixture->router->down_count == 1);
    fixture_destroy(&fixture);
}

static void test_frames_go_both_ways(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_create();
    struct fixture_end *gateway = fixture_gateway(fixture);
    assert_int_equal(fixture_submit(gateway, WP_LINK_ROUTINE, 7, 512), WP_OK);
    assert_int_equal(fixture_deliver(fixture->router, WP_LINK_URGENT, 9, 300), WP_OK);
    FIXTURE_UNTIL(fixture, fixture->router->frame_count == 1 && gateway->frame_count == 1);
    assert_int_equal(fixture->router->frames[0].type, WP_FRAME_SUBMIT);
    assert_int_equal(fixture->router->frames[0].number, 7);
    assert_int_equal(gateway->frames[0].type, WP_FRAME_DELIVER);
    assert_int_equal(gateway->frames[0].number, 9);
    assert_int_equal(fixture->router->turn_count, 1);
    fixture_end_destroy(&gateway);
    fixture_destroy(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_brings_both_sides_up),
        cmocka_unit_test(test_frames_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
