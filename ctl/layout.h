/* The folder of a playground: keys, certificates, configuration, one folder per node. Made once, before
 * anything starts. */
#ifndef WP_CTL_LAYOUT_H
#define WP_CTL_LAYOUT_H

#include <stddef.h>

#include "client/playground.h"
#include "ctl/command.h"

/* Makes everything in `dir` (absolute, existing, empty but for the lock) and fills ret_playground;
 * playground.json is written last, so a folder that has one is complete. CTL_OK, or an exit status with a
 * sentence in ret_text. */
int ctl_layout_make(const char *dir, const struct ctl_arguments *arguments,
    struct wp_playground *ret_playground, char *ret_text, size_t text_size);

#endif
