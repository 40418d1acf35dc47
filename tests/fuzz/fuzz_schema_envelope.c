/* Fuzz target for the messages of proto/envelope.proto. The first byte selects:
 * 0 Envelope, 1 Header, 2 Property, 3 KeyPart. */
#include "tests/fuzz/fuzz_schema.h"

static const ProtobufCMessageDescriptor *const descriptors[] = {
    &wp__envelope__descriptor,
    &wp__header__descriptor,
    &wp__property__descriptor,
    &wp__key_part__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_schema_run(descriptors, sizeof descriptors / sizeof descriptors[0], data, size);
}
