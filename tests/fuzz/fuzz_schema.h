/* What the fuzz targets of the four .proto files share. */
#ifndef WP_TESTS_FUZZ_SCHEMA_H
#define WP_TESTS_FUZZ_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

#include "proto/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Input: one byte that selects the message (low 7 bits, modulo `count`) and with its top bit a tiny arena,
 * then the body. A body that decodes is packed, decoded and packed again: the two packings must be equal. */
int fuzz_schema_run(
    const ProtobufCMessageDescriptor *const *descriptors, size_t count, const uint8_t *data, size_t size);

#endif
