/* The small parts of the gateway: topics, positions, deliveries held back, and the slowing down of repeated
 * refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/prng.h"
#include "gateway/holdback.h"
#include "gateway/penalty.h"
#include "gateway/positions.h"
#include "gateway/refusal.h"
#include "gateway/topic.h"

static struct wp_slice slice_of(const char *text)
{
    return wp_slice(text, strlen(text));
}

static void test_topics_of_311(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        int error;
        Wp__Lane lane;
        uint64_t ttl_s;
    } rows[] = {
        {"wp/v1/to/b", WP_OK, WP__LANE__ROUTINE, 0},
        {"wp/v1/to/b/stat", WP_OK, WP__LANE__STAT, 0},
        {"wp/v1/to/b.c_d-e/urgent/999999999", WP_OK, WP__LANE__URGENT, 999999999},
        {"wp/v1/to/b/", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to/b/STAT", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to/b/stat/", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to/b/stat/0", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to/b/stat/-1", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to/b/stat/1000000000", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to/b/stat/1/2", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to//stat", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"/wp/v1/to/b", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/team/icu", WP_OK, WP__LANE__ROUTINE, 0},
        {"wp/v1/team/icu/stat/60", WP_OK, WP__LANE__STAT, 60},
        {"wp/v1/team/", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/teams/icu", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/receipts/x", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"wp/v1/to", WP_E_UNKNOWN_RECIPIENT, 0, 0},
        {"", WP_E_UNKNOWN_RECIPIENT, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct wp_topic_to to;
        int error = wp_topic_to_parse(slice_of(rows[i].topic), WP_MQTT_311, &to);
        assert_int_equal(error, rows[i].error);
        if (!error) {
            assert_int_equal(to.lane, rows[i].lane);
            assert_int_equal(to.ttl_s, rows[i].ttl_s);
            assert_int_equal(to.team, rows[i].topic[7] == 'e');
        }
    }
    /* The longest name fits and one byte more does not. */
    char topic[128] = "wp/v1/to/";
    struct wp_topic_to to;
    memset(topic + 9, 'x', WP_NAME_SIZE_MAX);
    assert_int_equal(wp_topic_to_parse(wp_slice(topic, 9 + WP_NAME_SIZE_MAX), WP_MQTT_5, &to), WP_OK);
    assert_int_equal(strlen(to.user), WP_NAME_SIZE_MAX);
    topic[9 + WP_NAME_SIZE_MAX] = 'x';
    assert_int_equal(
        wp_topic_to_parse(wp_slice(topic, 10 + WP_NAME_SIZE_MAX), WP_MQTT_5, &to), WP_E_UNKNOWN_RECIPIENT);
    char inbox[WP_TOPIC_SIZE_MAX];
    assert_int_equal(wp_topic_inbox_format(WP__LANE__ROUTINE, "x", inbox), strlen("wp/v1/inbox/routine/x"));
}

static void test_every_refusal_is_a_legal_code(void **state)
{
    (void)state;
#define X(name, number, class, slug, text)                                                                   \
    assert_true(wp_mqtt_reason_legal(WP_MQTT_PUBACK, wp_refusal_puback(name)));                              \
    assert_true(wp_refusal_puback(name) >= 0x80);                                                            \
    assert_true(wp_mqtt_reason_legal(WP_MQTT_CONNACK, wp_refusal_connack(name)));                            \
    assert_true(wp_refusal_connack(name) >= 0x80);                                                           \
    assert_in_range(wp_refusal_connack_311(name), 1, 5);                                                     \
    assert_true(wp_mqtt_reason_legal(WP_MQTT_DISCONNECT, wp_refusal_disconnect(name)));                      \
    assert_true(wp_refusal_disconnect(name) >= 0x80);
    WP_ERROR_TABLE(X)
#undef X
    assert_int_equal(wp_refusal_puback(WP_OK), 0);
}

static void test_packet_identifiers(void **state)
{
    (void)state;
    assert_int_equal(wp_position_packet_id(WP__LANE__ROUTINE, 0), 1);
    assert_int_equal(wp_position_packet_id(WP__LANE__ROUTINE, 16382), 16383);
    assert_int_equal(wp_position_packet_id(WP__LANE__URGENT, 16383), 16384);
    assert_int_equal(wp_position_packet_id(WP__LANE__STAT, UINT64_MAX), 1 + 2 * 16383 + UINT64_MAX % 16383);
    assert_int_equal(wp_position_packet_id(WP__LANE__STAT, 16382), 49149);
}

/* Against a plain model: a window of open positions, acknowledged in any order. */
static void test_positions_against_a_model(void **state)
{
    (void)state;
    enum { WINDOW = 40 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct wp_prng prng;
        struct wp_positions positions = {0};
        uint64_t open[WINDOW], next = 16380, now_ms = 0xffffff00u,
                               list[WP_POSITION_MEMORY_MAX]; /* both wrap soon */
        uint32_t open_count = 0, unsent = 0;
        wp_prng_init(&prng, seed);
        for (unsigned i = 0; i < 3000; i++) {
            now_ms += wp_prng_below(&prng, 3);
            if (open_count < WINDOW && wp_prng_below(&prng, 2)) {
                assert_int_equal(wp_positions_open(&positions, WP__LANE__URGENT, next), WP_OK);
                assert_int_equal(wp_positions_open(&positions, WP__LANE__URGENT, next), WP_E_EXISTS);
                assert_int_equal(wp_positions_open(&positions, WP__LANE__URGENT, next + 16383), WP_E_BUSY);
                open[open_count++] = next++;
            } else if (open_count > 0) {
                uint32_t at = wp_prng_below(&prng, 3) ? 0 : (uint32_t)wp_prng_below(&prng, open_count);
                uint16_t id = wp_position_packet_id(WP__LANE__URGENT, open[at]);
                assert_int_equal(wp_positions_acknowledge(&positions, id, now_ms), WP_OK);
                assert_int_equal(wp_positions_acknowledge(&positions, id, now_ms), WP_E_NOT_FOUND);
                memmove(open + at, open + at + 1, (open_count - at - 1) * sizeof *open);
                open_count--;
                unsent++;
            }
            if (wp_prng_below(&prng, 10) == 0) {
                assert_int_equal(wp_positions_unsent_list(&positions, WP__LANE__URGENT, list), unsent);
                wp_positions_sent(&positions);
                unsent = 0;
            }
            assert_int_equal(wp_positions_open_count(&positions), open_count);
        }
        assert_int_equal(wp_positions_open_list(&positions, WP__LANE__URGENT, list), open_count);
        assert_memory_equal(list, open, open_count * sizeof *open);
        wp_positions_sent(&positions);
        wp_positions_trim(&positions, now_ms + WP_POSITION_MEMORY_MS + 1);
        assert_int_equal(positions.acknowledged_count, 0);
        assert_null(positions.acknowledged);
        wp_positions_fini(&positions);
    }
}

static void test_skipped_positions_are_told_and_acknowledged_by_nobody(void **state)
{
    (void)state;
    struct wp_positions positions = {0};
    uint64_t list[64];
    for (uint64_t sequence = 1; sequence <= 40; sequence++) {
        assert_int_equal(wp_positions_open(&positions, WP__LANE__URGENT, sequence), WP_OK);
    }
    assert_int_equal(wp_positions_skip(&positions, WP__LANE__STAT, 1), WP_E_NOT_FOUND);
    for (uint64_t sequence = 1; sequence <= 40; sequence += 2) {
        assert_int_equal(wp_positions_skip(&positions, WP__LANE__URGENT, sequence), WP_OK);
        assert_int_equal(wp_positions_skip(&positions, WP__LANE__URGENT, sequence), WP_E_NOT_FOUND);
        uint16_t id = wp_position_packet_id(WP__LANE__URGENT, sequence);
        assert_int_equal(wp_positions_acknowledge(&positions, id, 5), WP_E_NOT_FOUND);
    }
    assert_int_equal(wp_positions_open_count(&positions), 20);
    assert_int_equal(wp_positions_skipped_list(&positions, WP__LANE__STAT, list), 0);
    assert_int_equal(wp_positions_skipped_list(&positions, WP__LANE__URGENT, list), 20);
    assert_int_equal(list[0], 1);
    assert_int_equal(list[19], 39);
    wp_positions_trim(&positions, 1000000); /* what nobody was told is kept */
    assert_int_equal(positions.skipped_count, 20);
    wp_positions_sent(&positions);
    assert_int_equal(wp_positions_skipped_list(&positions, WP__LANE__URGENT, list), 0);
    wp_positions_trim(&positions, 1000000);
    assert_null(positions.skipped);
    assert_int_equal(wp_positions_open(&positions, WP__LANE__URGENT, 1), WP_OK); /* on a later attempt */
    wp_positions_fini(&positions);
}

static void test_memory_of_acknowledgements_is_bounded(void **state)
{
    (void)state;
    struct wp_positions positions = {0};
    for (uint64_t sequence = 1; sequence <= 3 * WP_POSITION_MEMORY_MAX; sequence++) {
        assert_int_equal(wp_positions_open(&positions, WP__LANE__STAT, sequence), WP_OK);
        assert_int_equal(
            wp_positions_acknowledge(&positions, wp_position_packet_id(WP__LANE__STAT, sequence), 5), WP_OK);
    }
    assert_int_equal(positions.acknowledged_count, WP_POSITION_MEMORY_MAX);
    assert_int_equal(positions.unsent, WP_POSITION_MEMORY_MAX);
    assert_true(wp_positions_acknowledged_again(&positions, WP__LANE__STAT, 3 * WP_POSITION_MEMORY_MAX, 6));
    assert_false(wp_positions_acknowledged_again(&positions, WP__LANE__STAT, 1, 6));
    wp_positions_trim(&positions, 1000000); /* what nobody was told is kept */
    assert_int_equal(positions.acknowledged_count, WP_POSITION_MEMORY_MAX);
    wp_positions_fini(&positions);
}

static void test_held_lanes_are_weighted_and_in_order(void **state)
{
    (void)state;
    struct wp_holdback holdback = {0};
    unsigned seen[3] = {0}, next[3] = {0};
    for (uint8_t i = 0; i < 200; i++) {
        for (int lane = 0; lane < 3; lane++) {
            uint8_t bytes[2] = {(uint8_t)lane, i};
            assert_int_equal(wp_holdback_push(&holdback, (Wp__Lane)lane, wp_slice(bytes, 2), i), WP_OK);
        }
    }
    assert_int_equal(holdback.bytes, 1200);
    for (unsigned i = 0; i < 130; i++) {
        struct wp_held *held = wp_holdback_take(&holdback);
        assert_int_equal(held->deliver[1], next[held->deliver[0]]++);
        seen[held->deliver[0]]++;
        free(held);
    }
    assert_int_equal(seen[WP__LANE__STAT], 80);
    assert_int_equal(seen[WP__LANE__URGENT], 40);
    assert_int_equal(seen[WP__LANE__ROUTINE], 10);
    assert_true(wp_holdback_has(&holdback, WP__LANE__STAT));
    wp_holdback_clear(&holdback);
    assert_int_equal(holdback.bytes, 0);
    assert_null(wp_holdback_take(&holdback));
}

static void test_penalties_grow_and_are_forgotten(void **state)
{
    (void)state;
    static struct wp_penalties penalties;
    static const uint64_t delays[] = {0, 250, 500, 1000, 2000, 4000, 4000, 4000};
    for (unsigned i = 0; i < 8; i++) {
        wp_penalty_add(&penalties, "anna", "pump", 1000 + i);
        assert_int_equal(wp_penalty_delay_ms(&penalties, "anna", "pump", 1000 + i), delays[i]);
        assert_int_equal(wp_penalty_delay_ms(&penalties, "anna", "phone", 1000 + i), 0);
    }
    assert_int_equal(wp_penalty_delay_ms(&penalties, "anna", "pump", 1008 + WP_PENALTY_FORGET_MS), 0);
    wp_penalty_add(&penalties, "anna", "pump", 1009 + WP_PENALTY_FORGET_MS);
    assert_int_equal(wp_penalty_delay_ms(&penalties, "anna", "pump", 1010 + WP_PENALTY_FORGET_MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics_of_311),
        cmocka_unit_test(test_every_refusal_is_a_legal_code),
        cmocka_unit_test(test_packet_identifiers),
        cmocka_unit_test(test_positions_against_a_model),
        cmocka_unit_test(test_skipped_positions_are_told_and_acknowledged_by_nobody),
        cmocka_unit_test(test_memory_of_acknowledgements_is_bounded),
        cmocka_unit_test(test_held_lanes_are_weighted_and_in_order),
        cmocka_unit_test(test_penalties_grow_and_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
