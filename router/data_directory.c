/* Why damage is never repaired in place: which records a damaged directory still tells the truth about,
 * nobody knows; the other copies are known to be whole. */
#include "router/data_directory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"

static int directory_make(const char *path, char *ret_text, size_t text_size)
{
    if (mkdir(path, 0700) && errno != EEXIST) {
        snprintf(ret_text, text_size, "cannot make data directory \"%s\": %s", path, strerror(errno));
        return WP_E_DENIED;
    }
    return WP_OK;
}

static int begin_empty(const struct wp_store_config *config, const char *why, struct wp_store **ret_store,
    char *ret_text, size_t text_size)
{
    char aside[1024];
    char quoted[700];
    char why_kept[512];
    snprintf(why_kept, sizeof(why_kept), "%s", why); /* `why` may lie in ret_text */
    int error = wp_store_set_aside(config->path, aside, sizeof(aside), ret_text, text_size);
    if (error) {
        return error;
    }
    wp_metric_set(WP_M_SET_ASIDE_DIRECTORY, 1);
    wp_log(WP_LOG_ERROR, "data_set_aside", "kept_as=\"%s\" why=%s", aside,
        wp_log_quote(why_kept, quoted, sizeof(quoted)));
    error = directory_make(config->path, ret_text, text_size);
    return error ? error : wp_store_open_rocks(config, ret_store, ret_text, text_size);
}

int wp_data_directory_open(const struct wp_store_config *config, bool replicated, struct wp_store **ret_store,
    char *ret_text, size_t text_size)
{
    int error = directory_make(config->path, ret_text, text_size);
    if (error) {
        return error;
    }
    if (replicated && wp_store_damaged(config->path)) {
        return begin_empty(
            config, "a record was found damaged while it was in use", ret_store, ret_text, text_size);
    }
    error = wp_store_open_rocks(config, ret_store, ret_text, text_size);
    if (replicated && (error == WP_E_CORRUPT || error == WP_E_FORGOTTEN)) {
        return begin_empty(config, ret_text, ret_store, ret_text, text_size);
    }
    return error;
}
