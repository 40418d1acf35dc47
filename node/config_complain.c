/* What the guard says, and the values it accepts. Messages: the problem first, the subject in quotes, then
 * what to do. */
#include "node/config_guard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define NAME_SIZE_MAX 64u

int wp_config_guard_fail(struct wp_config_guard *guard, unsigned line, const char *format, ...)
{
    int used = snprintf(guard->text, guard->text_size, "%s:%u: ", guard->name, line);
    if (used >= 0 && (size_t)used < guard->text_size) {
        va_list args;
        va_start(args, format);
        vsnprintf(guard->text + used, guard->text_size - (size_t)used, format, args);
        va_end(args);
    }
    return WP_E_CONFIG;
}

unsigned wp_config_guard_line(const struct wp_config_guard *guard, const char *section, const char *name)
{
    for (size_t i = 0; i < guard->row_count; i++) {
        if (strcmp(guard->rows[i].section, section) == 0 && strcmp(guard->rows[i].name, name) == 0 &&
            guard->lines[i] > 0) {
            return guard->lines[i];
        }
    }
    return 1;
}

unsigned wp_config_guard_item_line(
    const struct wp_config_guard *guard, const char *section, const char *name, unsigned index)
{
    for (size_t i = 0; i < guard->row_count; i++) {
        unsigned item = guard->list_first[i] + index;
        if (strcmp(guard->rows[i].section, section) == 0 && strcmp(guard->rows[i].name, name) == 0 &&
            item < guard->item_count) {
            return guard->item_lines[item];
        }
    }
    return 1;
}

bool wp_config_number_parse(const char *text, uint64_t *ret_value)
{
    size_t size = strlen(text);
    if (size == 0 || size > 20 || strspn(text, "0123456789") != size || (text[0] == '0' && size > 1)) {
        return false;
    }
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool wp_config_bool_parse(const char *text, bool *ret_value)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) {
        return false;
    }
    *ret_value = yes;
    return true;
}

static unsigned min_of(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned wp_config_distance(const char *a, const char *b)
{
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size > NAME_SIZE_MAX || b_size > NAME_SIZE_MAX) {
        return NAME_SIZE_MAX;
    }
    unsigned rows[3][NAME_SIZE_MAX + 1];
    for (size_t j = 0; j <= b_size; j++) {
        rows[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        unsigned *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned changed = last[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = min_of(changed, min_of(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                now[j] = min_of(now[j], before[j - 2] + 1);
            }
        }
    }
    return rows[a_size % 3][b_size];
}

/* Appends to guard->text. */
static void text_add(struct wp_config_guard *guard, const char *format, const char *value)
{
    size_t used = strlen(guard->text);
    char piece[2 * NAME_SIZE_MAX];
    snprintf(piece, sizeof piece, "%s%s", format, value);
    if (used + 1 < guard->text_size) {
        snprintf(guard->text + used, guard->text_size - used, "%s", piece);
    }
}

/* Calls `use` for every name that may stand in `section`: its rows, and at the top the sections, each once.
 */
static void names_visit(const struct wp_config_row *rows, size_t row_count, const char *section,
    void (*use)(void *context, const char *name), void *context)
{
    const char *last_section = "";
    for (size_t i = 0; i < row_count; i++) {
        bool top = section[0] == '\0';
        if (strcmp(rows[i].section, section) == 0) {
            use(context, rows[i].name);
        } else if (top && strcmp(rows[i].section, last_section) != 0) {
            last_section = rows[i].section;
            use(context, last_section);
        }
    }
}

struct nearest {
    const char *wanted;
    const char *name;
    unsigned distance;
    struct wp_config_guard *guard;
};

static void nearest_use(void *context, const char *name)
{
    struct nearest *nearest = context;
    unsigned distance = wp_config_distance(nearest->wanted, name);
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->name = name;
    }
}

static void names_list(void *context, const char *name)
{
    struct nearest *nearest = context;
    text_add(nearest->guard, nearest->name ? ", " : "", name);
    nearest->name = name;
}

/* "unknown key ...": says where the key belongs, what was meant, or what there is. */
int wp_config_key_fail(struct wp_config_guard *guard, const struct wp_config_row *rows, size_t row_count,
    const char *section, const char *where, const char *key)
{
    char shown[NAME_SIZE_MAX + 1];
    snprintf(shown, sizeof shown, "%s", key);
    wp_config_guard_fail(guard, guard->line, "unknown key \"%s\"%s%s%s; ", shown, where[0] ? " in \"" : "",
        where, where[0] ? "\"" : "");
    struct nearest nearest = {.wanted = key, .distance = 2 + (unsigned)strlen(shown) / 4};
    names_visit(rows, row_count, section, nearest_use, &nearest);
    if (nearest.name) {
        text_add(guard, "did you mean \"", nearest.name);
        text_add(guard, "\"?", "");
        return WP_E_CONFIG;
    }
    for (size_t i = 0; i < guard->row_count; i++) {
        if (strcmp(guard->rows[i].name, key) == 0) {
            bool top = guard->rows[i].section[0] == '\0';
            text_add(guard, top ? "it belongs at the top of the file" : "it belongs under \"",
                guard->rows[i].section);
            text_add(guard, top ? "" : "\"", "");
            return WP_E_CONFIG;
        }
    }
    text_add(guard, "known keys: ", "");
    struct nearest list = {.guard = guard};
    names_visit(rows, row_count, section, names_list, &list);
    return WP_E_CONFIG;
}

static int text_check(struct wp_config_guard *guard, const struct wp_config_row *row, const char *value)
{
    size_t size = strlen(value);
    if (size >= row->min && size <= row->max) {
        return WP_OK;
    }
    if (size == 0) {
        return wp_config_guard_fail(guard, guard->line, "\"%s\" is empty: %s", row->name, row->help);
    }
    if (row->min == row->max) {
        return wp_config_guard_fail(guard, guard->line, "\"%s\" must be %llu characters long, not %zu: %s",
            row->name, (unsigned long long)row->min, size, row->help);
    }
    return wp_config_guard_fail(guard, guard->line, "\"%s\" must be %llu to %llu characters long, not %zu",
        row->name, (unsigned long long)row->min, (unsigned long long)row->max, size);
}

int wp_config_value_check(struct wp_config_guard *guard, const struct wp_config_row *row, const char *value)
{
    uint64_t number;
    bool flag;
    switch (row->type) {
    case WP_CONFIG_TEXT:
        return text_check(guard, row, value);
    case WP_CONFIG_U32:
    case WP_CONFIG_U64:
        if (wp_config_number_parse(value, &number) && number >= row->min && number <= row->max) {
            return WP_OK;
        }
        return wp_config_guard_fail(guard, guard->line,
            "\"%s\" must be a number from %llu to %llu, not \"%.64s\"", row->name,
            (unsigned long long)row->min, (unsigned long long)row->max, value);
    case WP_CONFIG_BOOL:
        return wp_config_bool_parse(value, &flag)
                   ? WP_OK
                   : wp_config_guard_fail(
                         guard, guard->line, "\"%s\" must be true or false, not \"%.64s\"", row->name, value);
    default:
        return WP_E_CONFIG;
    }
}
