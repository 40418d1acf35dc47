/* One row per error that can reach a device. An error without a row is ours, not the device's: it may try
 * again. */
#include "gateway/refusal.h"

#include "base/error.h"
#include "proto/mqtt/mqtt.h"

struct refusal_row {
    int error;
    uint8_t puback;
    uint8_t connack;
    uint8_t connack_311;
    uint8_t disconnect;
};

#define CONNACK_311_UNAVAILABLE 3
#define CONNACK_311_CREDENTIALS 4
#define CONNACK_311_NOT_AUTHORIZED 5

static const struct refusal_row refusal_rows[] = {
    /* error                    PUBACK  CONNACK  3.1.1  DISCONNECT */
    {WP_E_UNKNOWN_RECIPIENT, WP_MQTT_RC_TOPIC_INVALID, WP_MQTT_RC_UNSPECIFIED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_IMPLEMENTATION},
    {WP_E_NOT_FOUND, WP_MQTT_RC_TOPIC_INVALID, WP_MQTT_RC_NOT_AUTHORIZED, CONNACK_311_NOT_AUTHORIZED,
        WP_MQTT_RC_NOT_AUTHORIZED},
    {WP_E_DENIED, WP_MQTT_RC_NOT_AUTHORIZED, WP_MQTT_RC_NOT_AUTHORIZED, CONNACK_311_NOT_AUTHORIZED,
        WP_MQTT_RC_NOT_AUTHORIZED},
    {WP_E_AUTH, WP_MQTT_RC_NOT_AUTHORIZED, WP_MQTT_RC_BAD_CREDENTIALS, CONNACK_311_CREDENTIALS,
        WP_MQTT_RC_NOT_AUTHORIZED},
    {WP_E_MAILBOX_FULL, WP_MQTT_RC_QUOTA_EXCEEDED, WP_MQTT_RC_QUOTA_EXCEEDED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_QUOTA_EXCEEDED},
    {WP_E_RATE, WP_MQTT_RC_QUOTA_EXCEEDED, WP_MQTT_RC_QUOTA_EXCEEDED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_RATE_TOO_HIGH},
    {WP_E_DISK_RESERVE, WP_MQTT_RC_QUOTA_EXCEEDED, WP_MQTT_RC_QUOTA_EXCEEDED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_QUOTA_EXCEEDED},
    {WP_E_SEEN_FULL, WP_MQTT_RC_QUOTA_EXCEEDED, WP_MQTT_RC_QUOTA_EXCEEDED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_QUOTA_EXCEEDED},
    {WP_E_FULL, WP_MQTT_RC_QUOTA_EXCEEDED, WP_MQTT_RC_QUOTA_EXCEEDED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_QUOTA_EXCEEDED},
    {WP_E_BODY_TOO_LARGE, WP_MQTT_RC_PAYLOAD_INVALID, WP_MQTT_RC_UNSPECIFIED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_PACKET_TOO_LARGE},
    {WP_E_TOO_LARGE, WP_MQTT_RC_PAYLOAD_INVALID, WP_MQTT_RC_PACKET_TOO_LARGE, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_PACKET_TOO_LARGE},
    {WP_E_INVALID, WP_MQTT_RC_PAYLOAD_INVALID, WP_MQTT_RC_UNSPECIFIED, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_PROTOCOL_ERROR},
    {WP_E_STALE_EPOCH, WP_MQTT_RC_IMPLEMENTATION, WP_MQTT_RC_SERVER_BUSY, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_TAKEN_OVER},
    {WP_E_TIMEOUT, WP_MQTT_RC_IMPLEMENTATION, WP_MQTT_RC_SERVER_UNAVAILABLE, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_IMPLEMENTATION},
    {WP_E_BUSY, WP_MQTT_RC_IMPLEMENTATION, WP_MQTT_RC_SERVER_BUSY, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_SERVER_BUSY},
    {WP_E_CLOSED, WP_MQTT_RC_IMPLEMENTATION, WP_MQTT_RC_SERVER_UNAVAILABLE, CONNACK_311_UNAVAILABLE,
        WP_MQTT_RC_SERVER_SHUTTING_DOWN},
};

static const struct refusal_row refusal_other = {0, WP_MQTT_RC_IMPLEMENTATION, WP_MQTT_RC_SERVER_UNAVAILABLE,
    CONNACK_311_UNAVAILABLE, WP_MQTT_RC_SERVER_BUSY};

static const struct refusal_row *row_get(int error)
{
    for (unsigned i = 0; i < sizeof refusal_rows / sizeof refusal_rows[0]; i++) {
        if (refusal_rows[i].error == error) {
            return &refusal_rows[i];
        }
    }
    return &refusal_other;
}

uint8_t wp_refusal_puback(int error)
{
    return error == WP_OK ? WP_MQTT_RC_SUCCESS : row_get(error)->puback;
}

uint8_t wp_refusal_connack(int error)
{
    return row_get(error)->connack;
}

uint8_t wp_refusal_connack_311(int error)
{
    return row_get(error)->connack_311;
}

uint8_t wp_refusal_disconnect(int error)
{
    return row_get(error)->disconnect;
}
