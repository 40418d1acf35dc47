#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

static const char *log_program = "wardpost";
static enum wp_log_level log_lowest = WP_LOG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void wp_log_init(const char *program, enum wp_log_level lowest)
{
    log_program = program;
    log_lowest = lowest;
}

int wp_log_level_parse(const char *name, enum wp_log_level *ret_level)
{
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum wp_log_level)i;
            return WP_OK;
        }
    }
    return WP_E_INVALID;
}

void wp_log(enum wp_log_level level, const char *event, const char *format, ...)
{
    if (level < log_lowest) {
        return;
    }
    char line[2048];
    uint64_t now_ms = wp_clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03uZ level=%s program=%s event=%s",
        (unsigned)(now_ms % 1000), level_names[level], log_program, event);
    if (format[0] != '\0' && used < sizeof line - 2) {
        line[used++] = ' ';
        va_list args;
        va_start(args, format);
        int count = vsnprintf(line + used, sizeof line - used, format, args);
        va_end(args);
        used += count > 0 ? (size_t)count : 0;
    }
    if (used > sizeof line - 2) {
        used = sizeof line - 2;
    }
    line[used++] = '\n';
    /* One write keeps lines of several threads apart; a log that cannot be written has nowhere to complain. */
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}

const char *wp_log_quote(const char *text, char *out, size_t out_size)
{
    size_t used = 0;
    if (out_size < 3) {
        return "";
    }
    out[used++] = '"';
    for (const char *p = text; *p && used + 3 < out_size; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            out[used++] = '\\';
            out[used++] = (char)c;
        } else {
            out[used++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
        }
    }
    out[used++] = '"';
    out[used] = '\0';
    return out;
}
