/* Fuzz target for the framing of fabric batches and log entries. Input: one byte (even: batch, odd: entry),
 * then the bytes. What opens and reads to its clean end must come out the same when written again. */
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int head_copy(
    struct wp_slice bytes, bool is_entry, struct wp_record_reader *ret_reader, struct wp_buffer *copy)
{
    struct wp_fabric_head head;
    uint64_t time_ms;
    int error = is_entry ? wp_entry_open(bytes, &time_ms, ret_reader)
                         : wp_fabric_batch_open(bytes, &head, ret_reader);
    if (error) {
        return error;
    }
    if (is_entry) {
        WP_ASSERT(wp_entry_head_encode(0, copy) == WP_OK);
        wp_entry_head_set_time(copy, time_ms);
    } else {
        WP_ASSERT(wp_fabric_head_encode(&head, copy) == WP_OK);
    }
    return WP_OK;
}

static void bytes_run(struct wp_slice bytes, bool is_entry)
{
    struct wp_record_reader reader;
    struct wp_buffer copy = WP_BUFFER_INIT;
    if (head_copy(bytes, is_entry, &reader, &copy) != WP_OK) {
        return;
    }
    uint8_t type;
    struct wp_slice payload;
    int more;
    while ((more = wp_record_next(&reader, &type, &payload)) == 1) {
        WP_ASSERT(payload.data >= bytes.data && payload.data + payload.size <= bytes.data + bytes.size);
        WP_ASSERT(wp_record_append(&copy, type, payload) == WP_OK);
    }
    WP_ASSERT(more == 0 || more == WP_E_TRUNCATED);
    WP_ASSERT(copy.size <= bytes.size && memcmp(copy.data, bytes.data, copy.size) == 0);
    WP_ASSERT(more != 0 || copy.size == bytes.size);
    wp_buffer_free(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        bytes_run(wp_slice(data + 1, size - 1), data[0] & 1);
    }
    return 0;
}
