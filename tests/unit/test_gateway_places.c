/* Who leads which shard, as links come and go and routers contradict each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/error.h"
#include "gateway/places.h"

enum { A, B, C, LINKS };

static struct wp_places *make(void)
{
    struct wp_places *places;
    assert_int_equal(wp_places_create(4, LINKS, &places), WP_OK);
    for (uint32_t i = 0; i < LINKS; i++) {
        wp_places_link_up(places, i);
    }
    return places;
}

static void told(struct wp_places *places, uint32_t link, uint64_t term, uint32_t at)
{
    assert_int_equal(wp_places_told(places, link, 1, term, at), WP_OK);
}

static uint32_t leader(const struct wp_places *places)
{
    return wp_places_get(places, 1).link;
}

static void test_the_highest_term_leads(void **state)
{
    (void)state;
    struct wp_places *places = make();
    assert_int_equal(leader(places), WP_PLACE_NONE);
    told(places, A, 1, A);
    assert_int_equal(leader(places), A);
    told(places, B, 2, B);
    assert_int_equal(leader(places), B);
    assert_int_equal(wp_places_get(places, 1).term, 2);
    /* The old leader speaks again, and another still believes it. */
    told(places, A, 1, A);
    told(places, C, 1, A);
    assert_int_equal(leader(places), B);
    /* The same term from the leader itself is the same place. */
    told(places, B, 2, B);
    assert_int_equal(leader(places), B);
    assert_int_equal(wp_places_get(places, 2).link, WP_PLACE_NONE); /* of other shards nothing was said */
    wp_places_destroy(&places);
}

/* Others may know first; but frames go only to who says so itself. */
static void test_hearsay_ends_a_place_and_makes_none(void **state)
{
    (void)state;
    struct wp_places *places = make();
    told(places, A, 1, A);
    told(places, C, 2, B);
    assert_int_equal(leader(places), WP_PLACE_NONE);
    assert_int_equal(wp_places_named(places, 1), B);
    told(places, B, 2, B);
    assert_int_equal(leader(places), B);
    told(places, C, 3, WP_PLACE_NONE); /* nobody yet, in a new term */
    assert_int_equal(leader(places), WP_PLACE_NONE);
    told(places, A, 3, A);
    assert_int_equal(leader(places), A);
    told(places, A, 4, B); /* it steps down and knows its successor */
    assert_int_equal(leader(places), WP_PLACE_NONE);
    wp_places_destroy(&places);
}

static void test_a_lost_leader_keeps_its_term(void **state)
{
    (void)state;
    struct wp_places *places = make();
    told(places, A, 1, A);
    told(places, B, 2, B);
    wp_places_link_down(places, B);
    assert_int_equal(leader(places), WP_PLACE_NONE);
    told(places, A, 1, A);
    assert_int_equal(leader(places), WP_PLACE_NONE);
    wp_places_link_up(places, B); /* a restarted router that does not lead is not asked */
    assert_int_equal(leader(places), WP_PLACE_NONE);
    told(places, B, 2, B);
    assert_int_equal(leader(places), B);
    wp_places_link_gone(places, B);
    assert_int_equal(leader(places), WP_PLACE_NONE);
    assert_int_equal(wp_places_named(places, 1), WP_PLACE_NONE);
    told(places, A, 3, A);
    assert_int_equal(leader(places), A);
    wp_places_destroy(&places);
}

static void test_a_cluster_set_up_anew_counts_anew(void **state)
{
    (void)state;
    struct wp_places *places = make();
    told(places, A, 7, A);
    for (uint32_t i = 0; i < LINKS; i++) {
        wp_places_link_down(places, i);
    }
    wp_places_link_up(places, B);
    told(places, B, 1, B);
    assert_int_equal(leader(places), B);
    wp_places_destroy(&places);
}

/* A single replica that lost its directory begins with term 1 while the other routers are up. */
static void test_a_lower_term_is_taken_after_a_long_silence(void **state)
{
    (void)state;
    struct wp_places *places = make();
    told(places, A, 7, A);
    wp_places_tick(places, 1000);
    wp_places_link_down(places, A);
    wp_places_tick(places, 2000);
    wp_places_link_up(places, A);
    told(places, A, 1, A);
    told(places, B, 2, A); /* hearsay is no claim */
    wp_places_tick(places, 2000 + WP_PLACE_FORGET_MS - 1);
    assert_int_equal(leader(places), WP_PLACE_NONE);
    wp_places_tick(places, 2000 + WP_PLACE_FORGET_MS);
    assert_int_equal(leader(places), A);
    assert_int_equal(wp_places_get(places, 1).term, 1);
    /* The silence is counted anew: a leader in between ended it. */
    told(places, B, 5, B);
    wp_places_tick(places, 20000);
    wp_places_link_down(places, B);
    wp_places_tick(places, 21000);
    wp_places_tick(places, 30000);
    assert_int_equal(leader(places), WP_PLACE_NONE);
    wp_places_destroy(&places);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_highest_term_leads),
        cmocka_unit_test(test_hearsay_ends_a_place_and_makes_none),
        cmocka_unit_test(test_a_lost_leader_keeps_its_term),
        cmocka_unit_test(test_a_cluster_set_up_anew_counts_anew),
        cmocka_unit_test(test_a_lower_term_is_taken_after_a_long_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
