#include "base/error.h"

struct error_row {
    int number;
    enum wp_error_class class;
    const char *slug;
    const char *text;
};

static const struct error_row error_rows[] = {
#define X(name, number, class, slug, text) {number, class, slug, text},
    WP_ERROR_TABLE(X)
#undef X
};

static const struct error_row *row_find(int error)
{
    for (unsigned i = 0; i < sizeof error_rows / sizeof error_rows[0]; i++) {
        if (error_rows[i].number == error) {
            return &error_rows[i];
        }
    }
    return 0;
}

const char *wp_error_text(int error)
{
    const struct error_row *row = row_find(error);
    return error == WP_OK ? "ok" : row ? row->text : "unknown error";
}

const char *wp_error_slug(int error)
{
    const struct error_row *row = row_find(error);
    return error == WP_OK ? "ok" : row ? row->slug : "unknown";
}

enum wp_error_class wp_error_class(int error)
{
    const struct error_row *row = row_find(error);
    return row ? row->class : WP_CLASS_FATAL;
}
