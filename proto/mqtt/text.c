/* What strings may hold: UTF-8 (MQTT 5 section 1.5.4), topic names and topic filters (section 4.7). The rules
 * are those of 3.1.1 sections 1.5.3 and 4.7 too. */
#include "proto/mqtt/codec.h"

/* Whether eight bytes hold neither NUL nor anything above ASCII. Topics and identifiers are almost always
 * such. */
static bool plain_eight(const uint8_t *p)
{
    uint64_t word = wp_get_u64le(p);
    uint64_t below_one =
        (word - 0x0101010101010101u) & ~word; /* high bit of each zero byte (and of some above) */
    return ((word | below_one) & 0x8080808080808080u) == 0;
}

/* Bytes of the well-formed sequence at `p` (Unicode 15, table 3-7), 0 for any other. U+0000 is refused here.
 */
static size_t sequence_size(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    if (lead < 0x80) {
        return lead != 0;
    }
    size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || left < size) {
        return 0;
    }
    /* The second byte's range shuts out overlong forms, surrogates and what is above U+10FFFF. */
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

bool wp_mqtt_utf8_valid(struct wp_slice text)
{
    if (text.size > WP_MQTT_STRING_SIZE_MAX) {
        return false;
    }
    for (size_t at = 0; at < text.size;) {
        if (text.size - at >= 8 && plain_eight(text.data + at)) {
            at += 8;
            continue;
        }
        size_t size = sequence_size(text.data + at, text.size - at);
        if (size == 0) {
            return false;
        }
        at += size;
    }
    return true;
}

bool wp_mqtt_topic_valid(struct wp_slice topic)
{
    return topic.size > 0 && !memchr(topic.data, '+', topic.size) && !memchr(topic.data, '#', topic.size) &&
           wp_mqtt_utf8_valid(topic);
}

bool wp_mqtt_filter_valid(struct wp_slice filter)
{
    if (filter.size == 0 || !wp_mqtt_utf8_valid(filter)) {
        return false;
    }
    for (size_t i = 0; i < filter.size; i++) {
        uint8_t c = filter.data[i];
        if (c != '+' && c != '#') {
            continue;
        }
        bool starts_level = i == 0 || filter.data[i - 1] == '/';
        bool ends_filter = i + 1 == filter.size;
        bool ends_level = ends_filter || (c == '+' && filter.data[i + 1] == '/');
        if (!starts_level || !ends_level) {
            return false; /* MQTT-4.7.1-1, MQTT-4.7.1-2 */
        }
    }
    return true;
}
