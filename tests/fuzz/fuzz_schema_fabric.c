/* Fuzz target for the messages of proto/fabric.proto. The first byte selects:
 * the frame type minus one (proto/frame.h). */
#include "tests/fuzz/fuzz_schema.h"

#include "proto/frame.h"

static const ProtobufCMessageDescriptor *const descriptors[] = {
#define X(name, number, message, up, down, peer) [number - 1] = &wp__##message##__descriptor,
    WP_FRAME_TABLE(X)
#undef X
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_schema_run(descriptors, sizeof descriptors / sizeof descriptors[0], data, size);
}
