/* Message ids: UUID version 7 (RFC 9562 section 5.7). Pure. */
#ifndef WP_PROTO_UUID_H
#define WP_PROTO_UUID_H

#include <stdint.h>

#include "base/bytes.h"

#define WP_UUID_SIZE 16u
#define WP_UUID_TEXT_SIZE 37u /* with the end mark */

/* Makes an id for `time_ms` (Unix epoch) from 10 random bytes. */
void wp_uuid7_make(uint64_t time_ms, const uint8_t random[10], uint8_t ret_id[WP_UUID_SIZE]);

/* Whether the version is 7 and the variant is the one of RFC 9562. */
int wp_uuid7_valid(const uint8_t id[WP_UUID_SIZE]);

/* Milliseconds since the Unix epoch that the id carries. */
uint64_t wp_uuid7_time_ms(const uint8_t id[WP_UUID_SIZE]);

/* Canonical text, lower case with dashes. */
void wp_uuid_format(const uint8_t id[WP_UUID_SIZE], char ret_text[WP_UUID_TEXT_SIZE]);

/* Reads the 36-character form, either case. WP_OK or WP_E_INVALID. */
int wp_uuid_parse(struct wp_slice text, uint8_t ret_id[WP_UUID_SIZE]);

#endif
