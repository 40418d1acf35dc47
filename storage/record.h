/* Sealing: every stored value carries a version byte and a checksum of its own, above whatever the file
 * format below adds, so that a value that was damaged in memory, truncated, or found under a key it was not
 * written for is noticed when it is read.
 *
 *     byte 0     version (WP_RECORD_VERSION)
 *     bytes 1-8  XXH3-64, little endian, over family, version, key, meta and body
 *     then       meta (fixed size per family, may be empty), body
 *
 * Pure. The checksum finds accidents, not attackers. */
#ifndef WP_STORAGE_RECORD_H
#define WP_STORAGE_RECORD_H

#include <stdint.h>

#include "base/bytes.h"

#define WP_RECORD_VERSION 1u
#define WP_RECORD_HEADER_SIZE 9u

/* What kind of place a record was written for: part of the sum, so that a record never passes as another
 * kind. The numbers are on disk. */
enum wp_record_family {
    WP_RECORD_STATE = 1,
    WP_RECORD_APPLIED = 2,
    WP_RECORD_ENTRY = 3,
    WP_RECORD_HARD = 4,
    WP_RECORD_FLOOR = 5,
    WP_RECORD_FACT = 6,
    WP_RECORD_WATERMARK = 7,
    WP_RECORD_FRAME = 8, /* one write in the simulated body's log */
    WP_RECORD_MARKER = 9,
};

/* Fills `header` for the record `meta` + `body` under `key`. The caller stores header, meta, body in this
 * order. */
void wp_record_seal(enum wp_record_family family, struct wp_slice key, struct wp_slice meta,
    struct wp_slice body, uint8_t header[WP_RECORD_HEADER_SIZE]);

/* Verifies `record`, whose meta part has `meta_size` bytes; *ret_content = meta and body, pointing into
 * `record`. WP_E_CORRUPT: too short, unknown version, or the sum does not fit. */
int wp_record_open(enum wp_record_family family, struct wp_slice key, struct wp_slice record,
    size_t meta_size, struct wp_slice *ret_content);

#endif
