/* What a device is told for an error: one table from WP_E_* to MQTT 5 reason codes. Pure. */
#ifndef WP_GATEWAY_REFUSAL_H
#define WP_GATEWAY_REFUSAL_H

#include <stdint.h>

/* Reason code of a PUBACK for `error` (MQTT 5 section 3.4.2.1; which is used when: docs/protocol.md). 0x00
 * for WP_OK. */
uint8_t wp_refusal_puback(int error);

/* Reason code of a refusing CONNACK (MQTT 5 section 3.2.2.2). */
uint8_t wp_refusal_connack(int error);

/* Return code of a refusing CONNACK of 3.1.1 (section 3.2.2.3). */
uint8_t wp_refusal_connack_311(int error);

/* Reason code of a DISCONNECT that the gateway sends for `error` (MQTT 5 section 3.14.2.1). */
uint8_t wp_refusal_disconnect(int error);

#endif
