/* Why this file exists: one table says which policies there are, and what each reader asks is a number. */
#include "router/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define NUMBER_SIZE_MAX 19u /* digits that surely fit into 64 bits */

static const struct {
    const char *name;
    const char *words; /* of a choice; NULL of a number */
    const char *meaning;
    const char *number; /* the default */
    uint64_t min;
    uint64_t max;
} rows[WP_POLICY_COUNT] = {
#define X(symbol, name, words, meaning) [WP_POLICY_##symbol] = {name, words, meaning, NULL, 0, 0},
    WP_POLICY_TABLE(X)
#undef X
#define X(T, type, name, number, min, max, help) [WP_POLICY_##name] = {#name, NULL, help, number, min, max},
        WP_CONFIG_CLUSTER_LIMITS(X, )
#undef X
};

const char *wp_policy_name(enum wp_policy policy)
{
    return rows[policy].name;
}

const char *wp_policy_meaning(enum wp_policy policy)
{
    return rows[policy].meaning;
}

void wp_policy_values(enum wp_policy policy, char ret_text[WP_POLICY_VALUE_SIZE])
{
    if (rows[policy].words) {
        snprintf(ret_text, WP_POLICY_VALUE_SIZE, "%s", rows[policy].words);
    } else {
        snprintf(ret_text, WP_POLICY_VALUE_SIZE, "%llu to %llu", (unsigned long long)rows[policy].min,
            (unsigned long long)rows[policy].max);
    }
}

/* --- words and numbers
 * ------------------------------------------------------------------------------------------
 */

/* Moves *at to the next word; its size, 0 at the end. */
static size_t word_next(const char **at)
{
    *at += strspn(*at, " ");
    return strcspn(*at, " ");
}

static int place_find(enum wp_policy policy, const char *value, uint32_t *ret_place)
{
    const char *at = rows[policy].words;
    uint32_t place = 0;
    for (size_t size = word_next(&at); size > 0; at += size, size = word_next(&at), place++) {
        if (strlen(value) == size && memcmp(at, value, size) == 0) {
            *ret_place = place;
            return WP_OK;
        }
    }
    return WP_E_INVALID;
}

static int number_read(enum wp_policy policy, const char *value, uint64_t *ret_number)
{
    size_t size = strlen(value);
    if (size < 1 || size > NUMBER_SIZE_MAX || strspn(value, "0123456789") != size) {
        return WP_E_INVALID;
    }
    uint64_t number = strtoull(value, NULL, 10);
    if (number < rows[policy].min || number > rows[policy].max) {
        return WP_E_INVALID;
    }
    *ret_number = number;
    return WP_OK;
}

static int value_check(enum wp_policy policy, const char *value)
{
    uint32_t place;
    uint64_t number;
    return rows[policy].words ? place_find(policy, value, &place) : number_read(policy, value, &number);
}

int wp_policy_check(const char *name, const char *value, enum wp_policy *ret_policy)
{
    for (int policy = 0; policy < WP_POLICY_COUNT; policy++) {
        if (strcmp(rows[policy].name, name) == 0) {
            *ret_policy = (enum wp_policy)policy;
            return value_check((enum wp_policy)policy, value);
        }
    }
    return WP_E_NOT_FOUND;
}

/* --- what holds
 * -------------------------------------------------------------------------------------------------
 */

void wp_policy_text(
    const struct wp_roster *roster, enum wp_policy policy, char ret_text[WP_POLICY_VALUE_SIZE])
{
    const char *value = roster ? wp_roster_policy(roster, rows[policy].name) : NULL;
    const char *otherwise = rows[policy].words ? rows[policy].words : rows[policy].number;
    if (value && value_check(policy, value) == WP_OK) {
        snprintf(ret_text, WP_POLICY_VALUE_SIZE, "%s", value);
    } else {
        size_t size = word_next(&otherwise);
        snprintf(ret_text, WP_POLICY_VALUE_SIZE, "%.*s", (int)size, otherwise);
    }
}

uint32_t wp_policy_get(const struct wp_roster *roster, enum wp_policy policy)
{
    const char *value = wp_roster_policy(roster, rows[policy].name);
    uint32_t place = 0;
    return value && place_find(policy, value, &place) == WP_OK ? place : 0;
}

void wp_policy_put(struct wp_roster *roster, enum wp_policy policy, const char *value)
{
    struct wp_roster_policy *row = NULL;
    for (uint32_t i = 0; i < roster->policy_count; i++) {
        row = strcmp(roster->policies[i].key, rows[policy].name) == 0 ? &roster->policies[i] : row;
    }
    row = row ? row : &roster->policies[roster->policy_count++];
    *row = (struct wp_roster_policy){0};
    snprintf(row->key, sizeof(row->key), "%s", rows[policy].name);
    snprintf(row->value, sizeof(row->value), "%s", value);
}

/* --- limits
 * ------------------------------------------------------------------------------------------------------
 */

static uint64_t number_get(const struct wp_roster *roster, enum wp_policy policy)
{
    char text[WP_POLICY_VALUE_SIZE];
    wp_policy_text(roster, policy, text);
    return strtoull(text, NULL, 10);
}

void wp_policy_limits(const struct wp_roster *roster, struct wp_machine_limits *ret_limits)
{
    ret_limits->mailbox_messages_max = number_get(roster, WP_POLICY_mailbox_messages_max);
    ret_limits->mailbox_bytes_max = number_get(roster, WP_POLICY_mailbox_bytes_max);
    ret_limits->body_bytes_max = number_get(roster, WP_POLICY_body_bytes_max);
    ret_limits->ttl_default_ms = number_get(roster, WP_POLICY_ttl_default_s) * 1000;
    ret_limits->ttl_max_ms = number_get(roster, WP_POLICY_ttl_max_s) * 1000;
    ret_limits->seen_ids_max = number_get(roster, WP_POLICY_seen_ids_max);
    ret_limits->stat_per_minute_max = number_get(roster, WP_POLICY_stat_per_minute_max);
}

const char *wp_policy_clash(const struct wp_roster *roster, enum wp_policy policy, const char *value)
{
    static const struct {
        enum wp_policy less, more;
        const char *sentence;
    } pairs[] = {
        {WP_POLICY_ttl_default_s, WP_POLICY_ttl_max_s, "ttl_default_s may not be over ttl_max_s"},
        {WP_POLICY_body_bytes_max, WP_POLICY_mailbox_bytes_max,
            "mailbox_bytes_max may not be less than one body of body_bytes_max"},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        uint64_t less = number_get(roster, pairs[i].less);
        uint64_t more = number_get(roster, pairs[i].more);
        less = policy == pairs[i].less ? strtoull(value, NULL, 10) : less;
        more = policy == pairs[i].more ? strtoull(value, NULL, 10) : more;
        if ((policy == pairs[i].less || policy == pairs[i].more) && less > more) {
            return pairs[i].sentence;
        }
    }
    return NULL;
}
