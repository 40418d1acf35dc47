/* Logging: one logfmt line per event on stderr. Never bodies, never secrets. Any thread.
 *
 *     wp_log(WP_LOG_WARN, "link_down", "peer=%s reason=%s", peer, wp_error_slug(error));
 *     -> 2026-01-02T03:04:05.678Z level=warn program=router-1 event=link_down peer=gateway-1 reason=closed
 *
 * Values that may hold spaces or foreign text go through wp_log_quote. */
#ifndef WP_BASE_LOG_H
#define WP_BASE_LOG_H

#include <stddef.h>

enum wp_log_level { WP_LOG_DEBUG, WP_LOG_INFO, WP_LOG_WARN, WP_LOG_ERROR };

/* Sets what `program=` says (kept by pointer) and the lowest level printed. Call before threads start. */
void wp_log_init(const char *program, enum wp_log_level lowest);

/* Level by name ("debug", "info", "warn", "error"); WP_E_INVALID otherwise. */
int wp_log_level_parse(const char *name, enum wp_log_level *ret_level);

/* Writes one line; `format` gives the logfmt fields and may be empty. */
void wp_log(enum wp_log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes `text` as a quoted logfmt value into `out` (cut to fit out_size; quotes and backslashes are escaped, controls
 * become "?"); returns out, or "" when out_size is under 3. */
const char *wp_log_quote(const char *text, char *out, size_t out_size);

#endif
