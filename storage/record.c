/* The sum is chained: XXH3 of the key seeds that of the meta part, which seeds that of the body. One-shot
 * calls on contiguous pieces cost a fraction of the streaming interface, and a body is hashed where it lies.
 */
#include "storage/record.h"

#include <xxhash.h>

#include "base/error.h"

static uint64_t record_sum(
    enum wp_record_family family, struct wp_slice key, struct wp_slice meta, struct wp_slice body)
{
    uint64_t sum = XXH3_64bits_withSeed(key.data, key.size, ((uint64_t)family << 8) | WP_RECORD_VERSION);
    if (meta.size > 0) {
        sum = XXH3_64bits_withSeed(meta.data, meta.size, sum);
    }
    return XXH3_64bits_withSeed(body.data, body.size, sum);
}

void wp_record_seal(enum wp_record_family family, struct wp_slice key, struct wp_slice meta,
    struct wp_slice body, uint8_t header[WP_RECORD_HEADER_SIZE])
{
    header[0] = WP_RECORD_VERSION;
    wp_put_u64le(header + 1, record_sum(family, key, meta, body));
}

int wp_record_open(enum wp_record_family family, struct wp_slice key, struct wp_slice record,
    size_t meta_size, struct wp_slice *ret_content)
{
    if (record.size < WP_RECORD_HEADER_SIZE + meta_size) {
        return WP_E_CORRUPT;
    }
    struct wp_slice content = {record.data + WP_RECORD_HEADER_SIZE, record.size - WP_RECORD_HEADER_SIZE};
    uint64_t sum = record_sum(family, key, wp_slice(content.data, meta_size),
        wp_slice(content.data + meta_size, content.size - meta_size));
    if (WP_BUG != 3 && (record.data[0] != WP_RECORD_VERSION || sum != wp_get_u64le(record.data + 1))) {
        return WP_E_CORRUPT;
    }
    *ret_content = content;
    return WP_OK;
}
