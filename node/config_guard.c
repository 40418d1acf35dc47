/* Why a guard stands in front of libcyaml: its errors name the mapping that holds a mistake, not the
 * line of the mistake, and it takes numbers in octal, aliases and any depth. The guard reads libyaml's
 * events, needs no recursion beyond the three levels that exist, and stops at the first event that
 * does not belong there.
 *
 * 1. What passes the guard is loaded by libcyaml without an error, except for memory.
 * 2. A message names the first mistake in the file; missing keys come after all others. */
#include "node/config_guard.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/error.h"

#define NAME_SIZE_MAX 64u

struct walk {
    struct wp_config_guard *guard;
    const char *content;
    size_t size;
    yaml_parser_t parser;
    yaml_event_t event;
    bool event_held;
};

static void event_drop(struct walk *walk)
{
    if (walk->event_held) {
        yaml_event_delete(&walk->event);
        walk->event_held = false;
    }
}

static bool event_decorated(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor || event->data.scalar.tag;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor || event->data.mapping_start.tag;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor || event->data.sequence_start.tag;
    default:
        return event->type == YAML_ALIAS_EVENT;
    }
}

/* libyaml gives a byte offset for bytes that are no UTF-8, and a line for everything else. */
static unsigned problem_line(const struct walk *walk)
{
    if (walk->parser.error != YAML_READER_ERROR) {
        return (unsigned)walk->parser.problem_mark.line + 1;
    }
    unsigned line = 1;
    for (size_t i = 0; i < walk->parser.problem_offset && i < walk->size; i++) {
        line += walk->content[i] == '\n';
    }
    return line;
}

static int event_next(struct walk *walk)
{
    event_drop(walk);
    struct wp_config_guard *guard = walk->guard;
    if (!yaml_parser_parse(&walk->parser, &walk->event)) {
        if (walk->parser.error == YAML_MEMORY_ERROR) {
            return WP_E_NOMEM;
        }
        unsigned line = problem_line(walk);
        return wp_config_guard_fail(
            guard, line, "not valid YAML: %s", walk->parser.problem ? walk->parser.problem : "unreadable");
    }
    walk->event_held = true;
    guard->line = (unsigned)walk->event.start_mark.line + 1;
    if (event_decorated(&walk->event)) {
        return wp_config_guard_fail(
            guard, guard->line, "anchors, aliases and tags are not used here; write the value itself");
    }
    return WP_OK;
}

/* A scalar as NUL-terminated text without control characters. */
static int scalar_text(struct walk *walk, const char **ret_text)
{
    const char *text = (const char *)walk->event.data.scalar.value;
    for (size_t i = 0; i < walk->event.data.scalar.length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return wp_config_guard_fail(
                walk->guard, walk->guard->line, "control characters are not allowed in a value");
        }
    }
    *ret_text = text;
    return WP_OK;
}

static int scalar_value(struct walk *walk, const struct wp_config_row *row)
{
    const char *value = "";
    int error = event_next(walk);
    if (error) {
        return error;
    }
    if (walk->event.type != YAML_SCALAR_EVENT) {
        return wp_config_guard_fail(
            walk->guard, walk->guard->line, "\"%s\" must be a single value", row->name);
    }
    error = scalar_text(walk, &value);
    return error ? error : wp_config_value_check(walk->guard, row, value);
}

static const struct wp_config_row *row_find(
    const struct wp_config_row *rows, size_t row_count, const char *section, const char *name)
{
    for (size_t i = 0; i < row_count; i++) {
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

/* Next key of a mapping. *ret_key is NULL at its end, and else valid until the next event. */
static int key_next(struct walk *walk, const char **ret_key)
{
    int error = event_next(walk);
    *ret_key = NULL;
    if (error || walk->event.type == YAML_MAPPING_END_EVENT) {
        return error;
    }
    if (walk->event.type != YAML_SCALAR_EVENT) {
        return wp_config_guard_fail(walk->guard, walk->guard->line, "a key must be a single word");
    }
    return scalar_text(walk, ret_key);
}

static int item_walk(struct walk *walk, const struct wp_config_row *list)
{
    struct wp_config_guard *guard = walk->guard;
    bool seen[WP_CONFIG_ROWS_MAX] = {0};
    unsigned first_line = guard->line;
    const char *key;
    int error;
    while ((error = key_next(walk, &key)) == WP_OK && key) {
        const struct wp_config_row *row = row_find(list->items, list->item_count, "", key);
        if (!row) {
            return wp_config_key_fail(guard, list->items, list->item_count, "", list->name, key);
        }
        if (seen[row - list->items]) {
            return wp_config_guard_fail(
                guard, guard->line, "\"%s\" stands twice in one item of \"%s\"", row->name, list->name);
        }
        seen[row - list->items] = true;
        error = scalar_value(walk, row);
        if (error) {
            return error;
        }
    }
    for (size_t i = 0; i < list->item_count && !error; i++) {
        if (!seen[i] && !list->items[i].default_text) {
            return wp_config_guard_fail(guard, first_line, "key \"%s\" is missing in this item of \"%s\": %s",
                list->items[i].name, list->name, list->items[i].help);
        }
    }
    return error;
}

static int list_walk(struct walk *walk, const struct wp_config_row *row)
{
    struct wp_config_guard *guard = walk->guard;
    int error = event_next(walk);
    if (error) {
        return error;
    }
    if (walk->event.type != YAML_SEQUENCE_START_EVENT) {
        return wp_config_guard_fail(
            guard, guard->line, "\"%s\" must be a list: lines that begin with \"- \"", row->name);
    }
    guard->list_first[row - guard->rows] = guard->item_count;
    while ((error = event_next(walk)) == WP_OK && walk->event.type != YAML_SEQUENCE_END_EVENT) {
        if (walk->event.type != YAML_MAPPING_START_EVENT) {
            return wp_config_guard_fail(
                guard, guard->line, "an item of \"%s\" must be keys with values", row->name);
        }
        if (guard->item_count == WP_CONFIG_ITEMS_MAX) {
            return wp_config_guard_fail(
                guard, guard->line, "more than %u items in the lists of this file", WP_CONFIG_ITEMS_MAX);
        }
        guard->item_lines[guard->item_count++] = guard->line;
        error = item_walk(walk, row);
        if (error) {
            return error;
        }
    }
    return error;
}

static bool section_known(const struct wp_config_guard *guard, const char *name)
{
    for (size_t i = 0; i < guard->row_count; i++) {
        if (name[0] != '\0' && strcmp(guard->rows[i].section, name) == 0) {
            return true;
        }
    }
    return false;
}

static int row_walk(struct walk *walk, const struct wp_config_row *row)
{
    struct wp_config_guard *guard = walk->guard;
    unsigned *line = &guard->lines[row - guard->rows];
    if (*line > 0) {
        return wp_config_guard_fail(
            guard, guard->line, "\"%s\" stands twice; first in line %u", row->name, *line);
    }
    *line = guard->line;
    return row->type == WP_CONFIG_LIST ? list_walk(walk, row) : scalar_value(walk, row);
}

/* The keys of one section, up to its end. */
static int section_walk(struct walk *walk, const char *section)
{
    struct wp_config_guard *guard = walk->guard;
    const char *key;
    int error;
    while ((error = key_next(walk, &key)) == WP_OK && key) {
        const struct wp_config_row *row = row_find(guard->rows, guard->row_count, section, key);
        if (!row) {
            return wp_config_key_fail(guard, guard->rows, guard->row_count, section, section, key);
        }
        error = row_walk(walk, row);
        if (error) {
            return error;
        }
    }
    return error;
}

static int section_enter(struct walk *walk, const char *key, uint64_t *sections_seen)
{
    struct wp_config_guard *guard = walk->guard;
    char section[NAME_SIZE_MAX];
    snprintf(section, sizeof section, "%s", key);
    for (size_t i = 0; i < guard->row_count; i++) {
        if (strcmp(guard->rows[i].section, section) != 0) {
            continue;
        }
        if (*sections_seen & (1ull << i)) {
            return wp_config_guard_fail(guard, guard->line, "\"%s\" stands twice", section);
        }
        *sections_seen |= 1ull << i;
    }
    int error = event_next(walk);
    if (error) {
        return error;
    }
    if (walk->event.type != YAML_MAPPING_START_EVENT) {
        return wp_config_guard_fail(
            guard, guard->line, "\"%s\" must be a section: indented keys with values", section);
    }
    return section_walk(walk, section);
}

static int top_walk(struct walk *walk)
{
    struct wp_config_guard *guard = walk->guard;
    uint64_t sections_seen = 0;
    const char *key;
    int error;
    while ((error = key_next(walk, &key)) == WP_OK && key) {
        const struct wp_config_row *row = row_find(guard->rows, guard->row_count, "", key);
        if (row) {
            error = row_walk(walk, row);
        } else if (section_known(guard, key)) {
            error = section_enter(walk, key, &sections_seen);
        } else {
            error = wp_config_key_fail(guard, guard->rows, guard->row_count, "", "", key);
        }
        if (error) {
            return error;
        }
    }
    return error;
}

static int required_check(struct wp_config_guard *guard)
{
    for (size_t i = 0; i < guard->row_count; i++) {
        const struct wp_config_row *row = &guard->rows[i];
        if (!row->default_text && guard->lines[i] == 0) {
            bool top = row->section[0] == '\0';
            return wp_config_guard_fail(guard, 1, "key \"%s%s%s\" is missing: %s", row->section,
                top ? "" : ".", row->name, row->help);
        }
    }
    return WP_OK;
}

static int document_walk(struct walk *walk)
{
    struct wp_config_guard *guard = walk->guard;
    int error = event_next(walk); /* the stream begins */
    error = error ? error : event_next(walk);
    if (!error && walk->event.type == YAML_STREAM_END_EVENT) {
        return wp_config_guard_fail(guard, 1, "the file is empty");
    }
    error = error ? error : event_next(walk); /* inside the document */
    if (!error && walk->event.type != YAML_MAPPING_START_EVENT) {
        return wp_config_guard_fail(guard, guard->line, "the file must consist of keys with values");
    }
    error = error ? error : top_walk(walk);
    error = error ? error : event_next(walk); /* the document ends */
    error = error ? error : event_next(walk);
    if (!error && walk->event.type != YAML_STREAM_END_EVENT) {
        return wp_config_guard_fail(guard, guard->line, "a second document begins here; one is enough");
    }
    return error ? error : required_check(guard);
}

int wp_config_guard_run(struct wp_config_guard *guard, const char *content, size_t size)
{
    struct walk walk = {.guard = guard, .content = content, .size = size};
    guard->line = 1;
    if (size > WP_CONFIG_SIZE_MAX) {
        return wp_config_guard_fail(guard, 1, "the file is larger than %u KiB", WP_CONFIG_SIZE_MAX / 1024);
    }
    if (!yaml_parser_initialize(&walk.parser)) {
        return WP_E_NOMEM;
    }
    yaml_parser_set_encoding(&walk.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&walk.parser, (const unsigned char *)content, size);
    int error = document_walk(&walk);
    event_drop(&walk);
    yaml_parser_delete(&walk.parser);
    return error;
}
