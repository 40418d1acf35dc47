#include "proto/uuid.h"

#include "base/error.h"

void wp_uuid7_make(uint64_t time_ms, const uint8_t random[10], uint8_t ret_id[WP_UUID_SIZE])
{
    for (unsigned i = 0; i < 6; i++) {
        ret_id[i] = (uint8_t)(time_ms >> (40 - 8 * i));
    }
    memcpy(ret_id + 6, random, 10);
    ret_id[6] = (uint8_t)(0x70 | (ret_id[6] & 0x0f));
    ret_id[8] = (uint8_t)(0x80 | (ret_id[8] & 0x3f));
}

int wp_uuid7_valid(const uint8_t id[WP_UUID_SIZE])
{
    return (id[6] >> 4) == 7 && (id[8] >> 6) == 2;
}

uint64_t wp_uuid7_time_ms(const uint8_t id[WP_UUID_SIZE])
{
    uint64_t time_ms = 0;
    for (unsigned i = 0; i < 6; i++) {
        time_ms = time_ms << 8 | id[i];
    }
    return time_ms;
}

static int is_dash_place(unsigned place)
{
    return place == 8 || place == 13 || place == 18 || place == 23;
}

void wp_uuid_format(const uint8_t id[WP_UUID_SIZE], char ret_text[WP_UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *out = ret_text;
    for (unsigned i = 0; i < WP_UUID_SIZE; i++) {
        if (is_dash_place((unsigned)(out - ret_text))) {
            *out++ = '-';
        }
        *out++ = digits[id[i] >> 4];
        *out++ = digits[id[i] & 15];
    }
    *out = '\0';
}

static int digit_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int wp_uuid_parse(struct wp_slice text, uint8_t ret_id[WP_UUID_SIZE])
{
    uint8_t id[WP_UUID_SIZE];
    unsigned nibbles = 0;
    if (text.size != WP_UUID_TEXT_SIZE - 1) {
        return WP_E_INVALID;
    }
    for (unsigned i = 0; i < text.size; i++) {
        if (is_dash_place(i)) {
            if (text.data[i] != '-') {
                return WP_E_INVALID;
            }
            continue;
        }
        int value = digit_value(text.data[i]);
        if (value < 0) {
            return WP_E_INVALID;
        }
        id[nibbles / 2] = (uint8_t)(nibbles % 2 ? id[nibbles / 2] << 4 | value : value);
        nibbles++;
    }
    memcpy(ret_id, id, WP_UUID_SIZE);
    return WP_OK;
}
