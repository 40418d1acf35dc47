#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void wp_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "level=fatal event=assertion_failed condition=\"%s\" file=%s line=%d\n", condition, file, line);
    abort();
}
