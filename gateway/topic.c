/* Wardpost is no general broker: a topic that is not named here does not exist. */
#include "gateway/topic.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/error.h"

#define TOPIC_TO "wp/v1/to/"
#define TOPIC_TEAM "wp/v1/team/"
#define TOPIC_INBOX "wp/v1/inbox/#"
#define TOPIC_RECEIPTS "wp/v1/receipts/#"
#define TTL_DIGITS_MAX 9u

static const char *const lane_names[] = {
    [WP__LANE__ROUTINE] = "routine",
    [WP__LANE__URGENT] = "urgent",
    [WP__LANE__STAT] = "stat",
};

/* Cuts the part before the next '/' off the front of `rest`; 1 when a slash followed it. */
static int part_take(struct wp_slice *rest, struct wp_slice *ret_part)
{
    const uint8_t *slash = rest->size ? memchr(rest->data, '/', rest->size) : NULL;
    size_t size = slash ? (size_t)(slash - rest->data) : rest->size;
    *ret_part = wp_slice(rest->data, size);
    *rest = slash ? wp_slice(slash + 1, rest->size - size - 1) : wp_slice(NULL, 0);
    return slash != NULL;
}

static int ttl_parse(struct wp_slice text, uint64_t *ret_ttl_s)
{
    if (text.size < 1 || text.size > TTL_DIGITS_MAX) {
        return WP_E_INVALID;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return WP_E_INVALID;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (value == 0) {
        return WP_E_INVALID;
    }
    *ret_ttl_s = value;
    return WP_OK;
}

/* Cuts a prefix off; whether it was there. */
static bool prefix_take(struct wp_slice *topic, const char *prefix, size_t size)
{
    if (topic->size <= size || memcmp(topic->data, prefix, size) != 0) {
        return false;
    }
    *topic = wp_slice(topic->data + size, topic->size - size);
    return true;
}

int wp_topic_to_parse(struct wp_slice topic, enum wp_mqtt_version version, struct wp_topic_to *ret_to)
{
    struct wp_slice rest = topic;
    bool team = prefix_take(&rest, TOPIC_TEAM, sizeof TOPIC_TEAM - 1);
    if (!team && !prefix_take(&rest, TOPIC_TO, sizeof TOPIC_TO - 1)) {
        return WP_E_UNKNOWN_RECIPIENT;
    }
    struct wp_slice user;
    int more = part_take(&rest, &user);
    if (!wp_address_valid_n((const char *)user.data, user.size)) {
        return WP_E_UNKNOWN_RECIPIENT;
    }
    struct wp_topic_to to = {.team = team, .lane = WP__LANE__ROUTINE};
    memcpy(to.user, user.data, user.size);
    if (more && version != WP_MQTT_311) {
        return WP_E_UNKNOWN_RECIPIENT;
    }
    if (more) {
        struct wp_slice lane;
        more = part_take(&rest, &lane);
        if (wp_lane_parse(lane, &to.lane) != WP_OK) {
            return WP_E_UNKNOWN_RECIPIENT;
        }
        to.has_lane = true;
    }
    if (more && ttl_parse(rest, &to.ttl_s) != WP_OK) {
        return WP_E_UNKNOWN_RECIPIENT;
    }
    *ret_to = to;
    return WP_OK;
}

bool wp_topic_is_inbox(struct wp_slice filter)
{
    return wp_slice_equal(filter, wp_slice(TOPIC_INBOX, sizeof TOPIC_INBOX - 1));
}

bool wp_topic_is_receipts(struct wp_slice filter)
{
    return wp_slice_equal(filter, wp_slice(TOPIC_RECEIPTS, sizeof TOPIC_RECEIPTS - 1));
}

int wp_lane_parse(struct wp_slice name, Wp__Lane *ret_lane)
{
    for (unsigned lane = WP__LANE__ROUTINE; lane <= WP__LANE__STAT; lane++) {
        if (wp_slice_equal(name, wp_slice(lane_names[lane], strlen(lane_names[lane])))) {
            *ret_lane = (Wp__Lane)lane;
            return WP_OK;
        }
    }
    return WP_E_INVALID;
}

const char *wp_lane_name(Wp__Lane lane)
{
    WP_ASSERT(lane <= WP__LANE__STAT);
    return lane_names[lane];
}

size_t wp_topic_inbox_format(Wp__Lane lane, const char *sender, char out[WP_TOPIC_SIZE_MAX])
{
    int size = snprintf(out, WP_TOPIC_SIZE_MAX, "wp/v1/inbox/%s/%s", wp_lane_name(lane), sender);
    WP_ASSERT(size > 0 && (size_t)size < WP_TOPIC_SIZE_MAX);
    return (size_t)size;
}

const char *wp_receipt_state_name(Wp__ReceiptState state)
{
    static const char *const names[] = {
        [WP__RECEIPT_STATE__DELIVERED] = "delivered",
        [WP__RECEIPT_STATE__EXPIRED] = "expired",
        [WP__RECEIPT_STATE__REFUSED] = "refused",
        [WP__RECEIPT_STATE__IDLE] = "idle",
    };
    const char *name = (size_t)state < sizeof names / sizeof names[0] ? names[state] : NULL;
    return name ? name : "unknown";
}

size_t wp_topic_receipt_format(Wp__ReceiptState state, const char *person, char out[WP_TOPIC_SIZE_MAX])
{
    int size = snprintf(out, WP_TOPIC_SIZE_MAX, "wp/v1/receipts/%s/%s", wp_receipt_state_name(state), person);
    WP_ASSERT(size > 0 && (size_t)size < WP_TOPIC_SIZE_MAX);
    return (size_t)size;
}
