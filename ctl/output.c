/* Why this file exists: all verbs print alike, as one JSON value for programs or as an aligned table for
 * people. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "ctl/command.h"

#define COLUMNS_MAX 12u

void ctl_print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

/* Members of a small object, "0/1/27". */
static const char *members_text(const json_t *object, char *room, size_t room_size)
{
    size_t used = 0;
    const char *key;
    json_t *member;
    room[0] = '\0';
    json_object_foreach((json_t *)(uintptr_t)object, key, member)
    {
        if (used < room_size) {
            used += (size_t)snprintf(room + used, room_size - used, "%s%" JSON_INTEGER_FORMAT,
                used ? "/" : "", json_integer_value(member));
        }
    }
    return room;
}

static const char *time_text(json_int_t wall_ms, char *room, size_t room_size)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(room, room_size, "%Y-%m-%d %H:%M:%SZ", &parts);
    return room;
}

/* Text of the value at `key`, in `room` when it is no string. A key in "_ms" of an integer is a time of day.
 */
static const char *cell_text(const json_t *row, const char *key, char *room, size_t room_size)
{
    const json_t *value = json_object_get(row, key);
    size_t size = strlen(key);
    if (json_is_integer(value) && size > 3 && strcmp(key + size - 3, "_ms") == 0) {
        return time_text(json_integer_value(value), room, room_size);
    }
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_STRING:
        return json_string_value(value);
    case JSON_INTEGER:
        snprintf(room, room_size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return room;
    case JSON_REAL:
        snprintf(room, room_size, "%.3f", json_real_value(value));
        return room;
    case JSON_OBJECT:
        return members_text(value, room, room_size);
    case JSON_TRUE:
        return "yes";
    case JSON_FALSE:
        return "no";
    default:
        return "-";
    }
}

static void row_print(const json_t *row, const struct ctl_column *columns, const size_t *widths)
{
    char room[64];
    for (unsigned c = 0; columns[c].key; c++) {
        const char *text = row ? cell_text(row, columns[c].key, room, sizeof room) : columns[c].heading;
        bool last = !columns[c + 1].key;
        printf("%-*s%s", last ? 0 : (int)widths[c], text, last ? "\n" : "  ");
    }
}

void ctl_print_table(const json_t *rows, const struct ctl_column *columns)
{
    size_t widths[COLUMNS_MAX] = {0}, i;
    char room[64];
    json_t *row;
    for (unsigned c = 0; columns[c].key && c < COLUMNS_MAX; c++) {
        widths[c] = strlen(columns[c].heading);
        json_array_foreach(rows, i, row)
        {
            size_t width = strlen(cell_text(row, columns[c].key, room, sizeof room));
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    row_print(NULL, columns, widths);
    json_array_foreach(rows, i, row)
    {
        row_print(row, columns, widths);
    }
}

static const char *sort_key; /* qsort gives its callback no context */

static int row_compare(const void *a, const void *b)
{
    const char *left = json_string_value(json_object_get(*(json_t *const *)a, sort_key));
    const char *right = json_string_value(json_object_get(*(json_t *const *)b, sort_key));
    return strcmp(left ? left : "", right ? right : "");
}

json_t *ctl_sorted(const json_t *rows, const char *key)
{
    size_t count = json_array_size(rows);
    json_t **pointers = calloc(count + 1, sizeof *pointers), *sorted = json_array();
    for (size_t i = 0; pointers && i < count; i++) {
        pointers[i] = json_array_get(rows, i);
    }
    sort_key = key;
    qsort(pointers, pointers ? count : 0, sizeof *pointers, row_compare);
    for (size_t i = 0; pointers && i < count; i++) {
        json_array_append(sorted, pointers[i]);
    }
    free(pointers);
    return sorted;
}

int ctl_fail(enum ctl_exit status, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    fputs("wardpostctl: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    return (int)status;
}

enum ctl_exit ctl_exit_of(int error)
{
    switch (error) {
    case WP_OK:
        return CTL_OK;
    case WP_E_NOT_FOUND:
        return CTL_NOT_FOUND;
    case WP_E_INVALID:
    case WP_E_EXISTS:
    case WP_E_DENIED:
    case WP_E_TOO_LARGE:
        return CTL_REFUSED;
    case WP_E_UNAVAILABLE:
    case WP_E_TIMEOUT:
    case WP_E_NOMEM:
    case WP_E_BUSY:
    case WP_E_NOT_LEADER:
        return CTL_TEMPORARY;
    case WP_E_IO:
    case WP_E_CONFIG:
    case WP_E_NO_SPACE:
        return CTL_IO;
    default:
        return CTL_UNAVAILABLE;
    }
}
