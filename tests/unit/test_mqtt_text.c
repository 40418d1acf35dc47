/* UTF-8 strings (MQTT 5 section 1.5.4), topic names and topic filters (section 4.7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "proto/mqtt/mqtt.h"

struct row {
    const char *text;
    size_t size;
};

#define ROW(text)                                                                                            \
    {                                                                                                        \
        (text), sizeof(text) - 1                                                                             \
    }
#define ROWS_RUN(rows, valid, expected)                                                                      \
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {                                              \
        if (valid(wp_slice(rows[i].text, rows[i].size)) != (expected)) {                                     \
            fail_msg("row %zu of " #rows, i);                                                                \
        }                                                                                                    \
    }

static void test_well_formed_text(void **state)
{
    (void)state;
    /* First and last of each length, the neighbours of the surrogates, and what is merely discouraged:
     * controls, non-characters, the byte order mark. */
    static const struct row good[] = {ROW(""), ROW("a"), ROW("\1"), ROW("\x7f"), ROW("\xc2\x80"),
        ROW("\xdf\xbf"), ROW("\xe0\xa0\x80"), ROW("\xed\x9f\xbf"), ROW("\xee\x80\x80"), ROW("\xef\xbf\xbf"),
        ROW("\xf0\x90\x80\x80"), ROW("\xf4\x8f\xbf\xbf"), ROW("\xef\xbb\xbf"), ROW("12345678"),
        ROW("1234567\xc3\xa9"),
        ROW("12345678\xe2\x82\xac"
            "12345678")};
    ROWS_RUN(good, wp_mqtt_utf8_valid, true)
}

static void test_ill_formed_text(void **state)
{
    (void)state;
    /* NUL; lone continuation; cut sequences; overlong forms; surrogates; over U+10FFFF; bytes that never
     * occur. */
    static const struct row bad[] = {ROW("\0"), ROW("1234567\0"), ROW("12345678\0"), ROW("\x80"), ROW("\xbf"),
        ROW("\xc2"), ROW("\xe2\x82"), ROW("\xf0\x90\x80"), ROW("\xc0\x80"), ROW("\xc1\xbf"),
        ROW("\xe0\x80\x80"), ROW("\xe0\x9f\xbf"), ROW("\xf0\x8f\xbf\xbf"), ROW("\xed\xa0\x80"),
        ROW("\xed\xbf\xbf"), ROW("\xf4\x90\x80\x80"), ROW("\xf5\x80\x80\x80"), ROW("\xfe"), ROW("\xff"),
        ROW("\xc3("), ROW("\xe2(\x82"), ROW("\xe2\x82("), ROW("\xf0\x90\x80("), ROW("\xf0\x90(\x80"),
        ROW("1234567\xc3")};
    ROWS_RUN(bad, wp_mqtt_utf8_valid, false)
}

/* Decodes one scalar the slow way: by value, from the definition of UTF-8 (RFC 3629 section 3). */
static bool reference_valid(const uint8_t *p, size_t size)
{
    static const uint32_t lowest[] = {0, 1, 0x80, 0x800, 0x10000};
    for (size_t at = 0; at < size;) {
        unsigned lead = p[at];
        unsigned length = lead < 0x80         ? 1
                          : (lead >> 5) == 6  ? 2
                          : (lead >> 4) == 14 ? 3
                          : (lead >> 3) == 30 ? 4
                                              : 0;
        if (length == 0 || length > size - at) {
            return false;
        }
        uint32_t value = length == 1 ? lead : lead & (0x7fu >> length);
        for (unsigned i = 1; i < length; i++) {
            if ((p[at + i] >> 6) != 2) {
                return false;
            }
            value = value << 6 | (p[at + i] & 0x3f);
        }
        if (value < lowest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
            return false;
        }
        at += length;
    }
    return true;
}

static void test_every_short_string_against_a_reference(void **state)
{
    (void)state;
    uint8_t *exact = malloc(3);
    assert_non_null(exact);
    for (uint32_t value = 0; value < 1u << 24; value += value < 0xc00000 ? 61 : 1) {
        exact[0] = (uint8_t)(value >> 16);
        exact[1] = (uint8_t)(value >> 8);
        exact[2] = (uint8_t)value;
        if (wp_mqtt_utf8_valid(wp_slice(exact, 3)) != reference_valid(exact, 3)) {
            fail_msg("%06x", value);
        }
    }
    free(exact);
}

static void test_random_strings_against_a_reference(void **state)
{
    (void)state;
    static const uint8_t likely[] = {
        'a', 'b', 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x90, 0x80, 0x80, 0xed, 0xf4, 0x8f, 1, 0};
    struct wp_prng prng;
    wp_prng_init(&prng, 3);
    unsigned valid_count = 0;
    for (unsigned round = 0; round < 300000; round++) {
        uint8_t bytes[24];
        size_t size = wp_prng_below(&prng, sizeof bytes + 1);
        uint32_t bound = round % 2 ? 16 : 4;
        for (size_t i = 0; i < size; i++) {
            bytes[i] = likely[wp_prng_below(&prng, bound)];
        }
        bool valid = reference_valid(bytes, size);
        assert_int_equal(wp_mqtt_utf8_valid(wp_slice(bytes, size)), valid);
        valid_count += valid;
    }
    assert_in_range(valid_count, 10000, 290000);
}

static void test_a_string_has_at_most_65535_bytes(void **state)
{
    (void)state;
    char *text = malloc(65536);
    assert_non_null(text);
    memset(text, 'a', 65536);
    assert_true(wp_mqtt_utf8_valid(wp_slice(text, 65535)));
    assert_false(wp_mqtt_utf8_valid(wp_slice(text, 65536)));
    assert_true(wp_mqtt_topic_valid(wp_slice(text, 65535)));
    assert_false(wp_mqtt_topic_valid(wp_slice(text, 65536)));
    assert_false(wp_mqtt_filter_valid(wp_slice(text, 65536)));
    free(text);
}

static void test_topic_names(void **state)
{
    (void)state;
    static const struct row good[] = {ROW("a"), ROW("/"), ROW("//"), ROW("wp/v1/to/anna"), ROW("$SYS/x"),
        ROW(" a b "), ROW("\xe2\x82\xac")};
    static const struct row bad[] = {
        ROW(""), ROW("+"), ROW("#"), ROW("a/+/b"), ROW("a/#"), ROW("a+"), ROW("a\0"), ROW("\xff")};
    ROWS_RUN(good, wp_mqtt_topic_valid, true)
    ROWS_RUN(bad, wp_mqtt_topic_valid, false)
}

static void test_topic_filters(void **state)
{
    (void)state;
    static const struct row good[] = {ROW("a"), ROW("/"), ROW("#"), ROW("+"), ROW("/#"), ROW("/+"), ROW("+/"),
        ROW("a/#"), ROW("a/+/#"), ROW("+/+/+"), ROW("+//#"), ROW("sport/tennis/+"), ROW("$share/g/a")};
    static const struct row bad[] = {ROW(""), ROW("a#"), ROW("#/"), ROW("a/#/b"), ROW("##"), ROW("a+"),
        ROW("+a"), ROW("a/+b/c"), ROW("a/b+/c"), ROW("++"), ROW("+#"), ROW("#+"), ROW("a/\0"), ROW("a/\xc3")};
    ROWS_RUN(good, wp_mqtt_filter_valid, true)
    ROWS_RUN(bad, wp_mqtt_filter_valid, false)
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed_text),
        cmocka_unit_test(test_ill_formed_text),
        cmocka_unit_test(test_every_short_string_against_a_reference),
        cmocka_unit_test(test_random_strings_against_a_reference),
        cmocka_unit_test(test_a_string_has_at_most_65535_bytes),
        cmocka_unit_test(test_topic_names),
        cmocka_unit_test(test_topic_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
