/* Names of users and devices, the place of a user, and message ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/prng.h"
#include "proto/address.h"
#include "proto/uuid.h"

#define NAME_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_each_character_of_a_name(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char name[] = {'a', (char)c, 'b'};
        bool allowed = c != 0 && strchr("abcdefghijklmnopqrstuvwxyz0123456789._-", (int)c);
        assert_int_equal(wp_address_valid_n(name, 3), allowed);
        assert_int_equal(wp_address_valid_n(name + 1, 1), allowed);
    }
}

static void test_length_of_a_name(void **state)
{
    (void)state;
    assert_true(wp_address_valid("a"));
    assert_true(wp_address_valid(NAME_64));
    assert_false(wp_address_valid(NAME_64 "x"));
    assert_false(wp_address_valid(""));
    assert_false(wp_address_valid_n("a", 0));
    assert_false(wp_address_valid("anna/phone"));
    assert_false(wp_address_valid("Anna"));
    assert_false(wp_address_valid("ann\xc3\xa4"));
}

static void test_splitting_user_and_device(void **state)
{
    (void)state;
    char user[WP_NAME_SIZE_MAX + 1];
    char device[WP_NAME_SIZE_MAX + 1];
    assert_int_equal(wp_address_split("anna/phoneX", 10, user, device), WP_OK);
    assert_string_equal(user, "anna");
    assert_string_equal(device, "phone");
    assert_int_equal(wp_address_split(NAME_64 "/" NAME_64, 129, user, device), WP_OK);
    assert_string_equal(user, NAME_64);
    assert_string_equal(device, NAME_64);
    static const char *const bad[] = {"", "/", "anna", "anna/", "/phone", "anna/phone/2", "anna//phone",
        "Anna/phone", "anna/pho ne", NAME_64 "x/phone", "anna/" NAME_64 "x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        strcpy(user, "kept");
        assert_int_equal(wp_address_split(bad[i], strlen(bad[i]), user, device), WP_E_INVALID);
        assert_string_equal(user, "kept");
    }
    assert_int_equal(wp_address_split("an\0a/phone", 10, user, device), WP_E_INVALID);
}

static void test_the_place_of_a_user_never_moves(void **state)
{
    (void)state;
    uint8_t key[16];
    for (unsigned i = 0; i < 16; i++) {
        key[i] = (uint8_t)i;
    }
    /* SipHash-2-4 of the empty string under this key is 0x726fdb47dd0e0e31 (Aumasson and Bernstein, vectors).
     */
    assert_int_equal(wp_shard_of(key, 1, ""), 1);
    assert_int_equal(wp_shard_of(key, 8, ""), 1 + 1);
    assert_int_equal(wp_shard_of(key, 256, ""), 1 + 0x31);
    assert_int_equal(wp_shard_of(key, 1u << 16, ""), 1 + 0x0e31);
}

static void test_users_spread_over_the_shards(void **state)
{
    (void)state;
    static const uint8_t key[16] = "spread spread sp";
    unsigned counts[9] = {0};
    for (unsigned i = 0; i < 16000; i++) {
        char user[32];
        snprintf(user, sizeof user, "user-%u", i);
        uint32_t shard = wp_shard_of(key, 8, user);
        assert_in_range(shard, 1, 8);
        assert_int_equal(wp_shard_of(key, 8, user), shard);
        /* A shard splits in two without moving users to any third one. */
        assert_int_equal((wp_shard_of(key, 16, user) - 1) % 8 + 1, shard);
        counts[shard]++;
    }
    for (unsigned shard = 1; shard <= 8; shard++) {
        assert_in_range(counts[shard], 1800, 2200);
    }
}

static void test_message_ids(void **state)
{
    (void)state;
    /* The example of RFC 9562 appendix A.6. */
    static const char text[] = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    static const uint8_t random[10] = {0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f};
    uint8_t id[WP_UUID_SIZE];
    uint8_t parsed[WP_UUID_SIZE];
    char formatted[WP_UUID_TEXT_SIZE];
    wp_uuid7_make(0x017f22e279b0, random, id);
    wp_uuid_format(id, formatted);
    assert_string_equal(formatted, text);
    assert_true(wp_uuid7_valid(id));
    assert_true(wp_uuid7_time_ms(id) == 0x017f22e279b0);
    assert_int_equal(wp_uuid_parse(wp_slice("017F22E2-79B0-7cc3-98C4-DC0C0C07398F", 36), parsed), WP_OK);
    assert_memory_equal(parsed, id, WP_UUID_SIZE);
}

static void test_ids_survive_their_text(void **state)
{
    (void)state;
    struct wp_prng prng;
    wp_prng_init(&prng, 9);
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t random[10];
        uint8_t id[WP_UUID_SIZE];
        uint8_t parsed[WP_UUID_SIZE];
        char text[WP_UUID_TEXT_SIZE];
        uint64_t time_ms = wp_prng_next(&prng) >> 16;
        for (unsigned k = 0; k < sizeof random; k++) {
            random[k] = (uint8_t)wp_prng_next(&prng);
        }
        wp_uuid7_make(time_ms, random, id);
        wp_uuid_format(id, text);
        assert_int_equal(strlen(text), 36);
        assert_int_equal(wp_uuid_parse(wp_slice(text, 36), parsed), WP_OK);
        assert_memory_equal(parsed, id, WP_UUID_SIZE);
        assert_true(wp_uuid7_valid(id) && wp_uuid7_time_ms(id) == time_ms);
    }
}

static void test_text_that_is_no_id(void **state)
{
    (void)state;
    static const char good[] = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    uint8_t id[WP_UUID_SIZE];
    memset(id, 0xee, sizeof id);
    for (unsigned place = 0; place < 36; place++) {
        static const char wrong[] = {'g', '/', ':', '@', '`', 'G', ' ', '\0', (char)0xe1, '-', '0'};
        for (size_t i = 0; i < sizeof wrong; i++) {
            char text[37];
            memcpy(text, good, sizeof text);
            bool fits = good[place] == '-' ? wrong[i] == '-' : wrong[i] == '0';
            text[place] = wrong[i];
            if (!fits) {
                assert_int_equal(wp_uuid_parse(wp_slice(text, 36), id), WP_E_INVALID);
            }
        }
    }
    assert_int_equal(wp_uuid_parse(wp_slice(good, 35), id), WP_E_INVALID);
    assert_int_equal(wp_uuid_parse(wp_slice(good, 37), id), WP_E_INVALID);
    assert_int_equal(wp_uuid_parse(wp_slice(good, 0), id), WP_E_INVALID);
    for (unsigned i = 0; i < WP_UUID_SIZE; i++) {
        assert_int_equal(id[i], 0xee);
    }
    uint8_t other[WP_UUID_SIZE];
    assert_int_equal(wp_uuid_parse(wp_slice("017f22e2-79b0-4cc3-98c4-dc0c0c07398f", 36), other), WP_OK);
    assert_false(wp_uuid7_valid(other)); /* version 4 */
    assert_int_equal(wp_uuid_parse(wp_slice("017f22e2-79b0-7cc3-d8c4-dc0c0c07398f", 36), other), WP_OK);
    assert_false(wp_uuid7_valid(other)); /* another variant */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_character_of_a_name),
        cmocka_unit_test(test_length_of_a_name),
        cmocka_unit_test(test_splitting_user_and_device),
        cmocka_unit_test(test_the_place_of_a_user_never_moves),
        cmocka_unit_test(test_users_spread_over_the_shards),
        cmocka_unit_test(test_message_ids),
        cmocka_unit_test(test_ids_survive_their_text),
        cmocka_unit_test(test_text_that_is_no_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
