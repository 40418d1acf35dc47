/* The topics that exist (docs/protocol.md). Pure. */
#ifndef WP_GATEWAY_TOPIC_H
#define WP_GATEWAY_TOPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "proto/address.h"
#include "proto/envelope.pb-c.h"
#include "proto/mqtt/mqtt.h"

#define WP_TOPIC_SIZE_MAX 96u /* longest topic that a delivery can have, with the end mark */

/* Where a PUBLISH goes. */
struct wp_topic_to {
    char user[WP_NAME_SIZE_MAX + 1]; /* or team */
    bool team;
    bool has_lane; /* the 3.1.1 form named a lane */
    Wp__Lane lane;
    uint64_t ttl_s; /* 0: not named */
};

/* Reads `wp/v1/to/{user}` or `wp/v1/team/{team}`; with `version` 3.1.1 also `/{lane}` and `/{lane}/{ttl_s}`.
 * WP_OK, or WP_E_UNKNOWN_RECIPIENT: no such topic. */
int wp_topic_to_parse(struct wp_slice topic, enum wp_mqtt_version version, struct wp_topic_to *ret_to);

/* Whether `filter` is the inbox, `wp/v1/inbox/#`, or the receipts, `wp/v1/receipts/#`. */
bool wp_topic_is_inbox(struct wp_slice filter);
bool wp_topic_is_receipts(struct wp_slice filter);

/* Lane by name ("stat", "urgent", "routine"). WP_OK or WP_E_INVALID. */
int wp_lane_parse(struct wp_slice name, Wp__Lane *ret_lane);
const char *wp_lane_name(Wp__Lane lane);

/* Writes `wp/v1/inbox/{lane}/{sender}`; returns its size in bytes. `sender` is a valid name. */
size_t wp_topic_inbox_format(Wp__Lane lane, const char *sender, char out[WP_TOPIC_SIZE_MAX]);

/* Word for how a message ended ("delivered"); "unknown" for a number that this version does not know. */
const char *wp_receipt_state_name(Wp__ReceiptState state);
/* Writes `wp/v1/receipts/{state}/{person}`; returns its size in bytes. `person` is a valid name. */
size_t wp_topic_receipt_format(Wp__ReceiptState state, const char *person, char out[WP_TOPIC_SIZE_MAX]);

#endif
