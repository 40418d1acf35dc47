/* Fuzz target for the messages of proto/record.proto. The first byte selects:
 * the position of the message in record.proto, from 0. */
#include "tests/fuzz/fuzz_schema.h"

static const ProtobufCMessageDescriptor *const descriptors[] = {
    &wp__record_user__descriptor,
    &wp__record_device__descriptor,
    &wp__record_cursor__descriptor,
    &wp__record_message__descriptor,
    &wp__record_index__descriptor,
    &wp__record_stream__descriptor,
    &wp__record_seen__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_schema_run(descriptors, sizeof descriptors / sizeof descriptors[0], data, size);
}
