/* Inside of the configuration: rows of the table and the guard that walks a YAML file against them before
 * libcyaml sees it. Only node/ includes this. */
#ifndef WP_NODE_CONFIG_GUARD_H
#define WP_NODE_CONFIG_GUARD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WP_CONFIG_SIZE_MAX (256u * 1024)
#define WP_CONFIG_ROWS_MAX 64u
#define WP_CONFIG_ITEMS_MAX 1024u
#define WP_CONFIG_ROUTERS_MAX 9u /* each is a member of one Raft group */

enum wp_config_type { WP_CONFIG_TEXT, WP_CONFIG_U32, WP_CONFIG_U64, WP_CONFIG_BOOL, WP_CONFIG_LIST };

struct wp_config_row {
    const char *section; /* "" at the top */
    const char *name;
    enum wp_config_type type;
    const char *default_text; /* NULL: required */
    uint64_t min, max;
    const char *help;
    size_t offset;                     /* of the member in the configuration; in an item for rows of items */
    const struct wp_config_row *items; /* of a LIST */
    size_t item_count;
};

struct wp_config_guard {
    const char *name; /* of the file */
    const struct wp_config_row *rows;
    size_t row_count;
    unsigned lines[WP_CONFIG_ROWS_MAX];       /* where each row stands in the file; 0: nowhere */
    unsigned list_first[WP_CONFIG_ROWS_MAX];  /* of a LIST: its first item in item_lines */
    unsigned item_lines[WP_CONFIG_ITEMS_MAX]; /* where each item of all lists begins */
    unsigned item_count;
    unsigned line; /* of the event that is looked at */
    char *text;
    size_t text_size;
};

/* Walks the file. WP_OK: every key is known, stands once, has a value of its type and range, required keys
 * are there; no aliases, anchors, tags or further documents. WP_E_CONFIG with a sentence in guard->text,
 * WP_E_NOMEM. */
int wp_config_guard_run(struct wp_config_guard *guard, const char *content, size_t size);

/* Writes "FILE:LINE: ..." into guard->text; returns WP_E_CONFIG. */
int wp_config_guard_fail(struct wp_config_guard *guard, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Says that `key` is unknown in `section` (shown as `where`), and where it belongs, what was meant, or what
 * there is. */
int wp_config_key_fail(struct wp_config_guard *guard, const struct wp_config_row *rows, size_t row_count,
    const char *section, const char *where, const char *key);
/* Checks type and range of one value. */
int wp_config_value_check(struct wp_config_guard *guard, const struct wp_config_row *row, const char *value);
/* The line of a row; of the file's first line when it is not there. */
unsigned wp_config_guard_line(const struct wp_config_guard *guard, const char *section, const char *name);

/* The line where item `index` of a list begins. */
unsigned wp_config_guard_item_line(
    const struct wp_config_guard *guard, const char *section, const char *name, unsigned index);

/* Parses a decimal number or true/false. */
bool wp_config_number_parse(const char *text, uint64_t *ret_value);
bool wp_config_bool_parse(const char *text, bool *ret_value);

/* Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string
 * alignment). */
unsigned wp_config_distance(const char *a, const char *b);

#endif
