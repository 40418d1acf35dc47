/* Why this file exists: one table says which policies there are, and what each reader asks is a number. */
#include "router/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const struct {
    const char *name;
    const char *values;
    const char *meaning;
} rows[WP_POLICY_COUNT] = {
#define X(symbol, name, values, meaning) [WP_POLICY_##symbol] = {name, values, meaning},
    WP_POLICY_TABLE(X)
#undef X
};

const char *wp_policy_name(enum wp_policy policy)
{
    return rows[policy].name;
}

const char *wp_policy_values(enum wp_policy policy)
{
    return rows[policy].values;
}

const char *wp_policy_meaning(enum wp_policy policy)
{
    return rows[policy].meaning;
}

/* Moves *at to the next word; its size, 0 at the end. */
static size_t word_next(const char **at)
{
    *at += strspn(*at, " ");
    return strcspn(*at, " ");
}

static int place_find(enum wp_policy policy, const char *value, uint32_t *ret_place)
{
    const char *at = rows[policy].values;
    uint32_t place = 0;
    for (size_t size = word_next(&at); size > 0; at += size, size = word_next(&at), place++) {
        if (strlen(value) == size && memcmp(at, value, size) == 0) {
            *ret_place = place;
            return WP_OK;
        }
    }
    return WP_E_INVALID;
}

int wp_policy_check(const char *name, const char *value, enum wp_policy *ret_policy)
{
    for (int policy = 0; policy < WP_POLICY_COUNT; policy++) {
        uint32_t place;
        if (strcmp(rows[policy].name, name) == 0) {
            *ret_policy = (enum wp_policy)policy;
            return place_find((enum wp_policy)policy, value, &place);
        }
    }
    return WP_E_NOT_FOUND;
}

uint32_t wp_policy_get(const struct wp_roster *roster, enum wp_policy policy)
{
    const char *value = wp_roster_policy(roster, rows[policy].name);
    uint32_t place = 0;
    return value && place_find(policy, value, &place) == WP_OK ? place : 0;
}

void wp_policy_word(enum wp_policy policy, uint32_t place, char ret_text[WP_POLICY_VALUE_SIZE])
{
    const char *at = rows[policy].values;
    size_t size = word_next(&at);
    while (size > 0 && place-- > 0) {
        at += size;
        size = word_next(&at);
    }
    snprintf(ret_text, WP_POLICY_VALUE_SIZE, "%.*s", (int)size, at);
}
