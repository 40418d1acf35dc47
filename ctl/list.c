/* Why this file exists: the users and teams of a shard are listed by the router that leads it; a whole list
 * is put together from all of them.
 *
 * Invariants
 * 1. Every row comes from a router that led the row's shard, and each shard from one router only.
 * 2. A list that lacks shards says so and is no success. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "ctl/access.h"
#include "ctl/command.h"
#include "proto/address.h"

#define PAGE_COUNT 1000u
#define SHARDS_MAX 1024u
#define COMPLETE_TIMEOUT_MS 5000u /* as long as an election may take, several times */

struct kind {
    const char *path;
    const char *rows; /* the answer's member that has them, and what they are called */
    const char *name; /* of a row */
    struct ctl_column columns[7];
};

static const struct kind users = {"/v1/users", "users", "user",
    {{"user", "USER"}, {"devices", "DEVICES"}, {"queued", "WAITING (STAT/URGENT/ROUTINE)"},
        {"bytes", "BYTES"}, {"shard", "SHARD"}, {"created_ms", "CREATED"}, {NULL, NULL}}};
static const struct kind teams = {"/v1/teams", "teams", "team",
    {{"team", "TEAM"}, {"members", "MEMBERS"}, {"epoch", "EPOCH"}, {"shard", "SHARD"},
        {"created_ms", "CREATED"}, {NULL, NULL}}};

struct listing {
    const struct kind *kind;
    json_t *rows;
    unsigned shards; /* of the cluster; 0 = unknown (one router by its socket) */
    bool covered[SHARDS_MAX + 1];
};

/* --- one router
 * ------------------------------------------------------------------------------------------------ */

/* One page of a router after the name `last`: rows to `rows`, its shards to ret_shards, `last` is then empty
 * when no other page follows. */
static int page_get(struct ctl_access *access, unsigned router, const struct kind *kind, const char *options,
    char last[WP_NAME_SIZE_MAX + 1], json_t *rows, json_t **ret_shards)
{
    char path[256];
    json_t *answer;
    snprintf(path, sizeof path, "%s?after=%s&limit=%u%s", kind->path, last, PAGE_COUNT, options);
    int error = wp_operator_call_router(
        access->op, router, 0, "GET", path, NULL, &answer, access->text, sizeof access->text);
    if (error) {
        return error;
    }
    json_t *page = json_object_get(answer, kind->rows);
    json_array_extend(rows, page);
    const char *name =
        json_string_value(json_object_get(json_array_get(page, json_array_size(page) - 1), kind->name));
    bool more = json_is_true(json_object_get(answer, "more")) && name;
    snprintf(last, WP_NAME_SIZE_MAX + 1, "%s", more ? name : "");
    *ret_shards = json_incref(json_object_get(answer, "shards"));
    json_decref(answer);
    return WP_OK;
}

/* All pages. WP_E_NOT_LEADER: what it leads changed meanwhile. */
static int pages_get(struct ctl_access *access, unsigned router, const struct kind *kind, const char *options,
    json_t *rows, json_t **ret_shards)
{
    char last[WP_NAME_SIZE_MAX + 1] = "";
    json_t *first = NULL;
    int error = WP_OK;
    do {
        json_t *shards = NULL;
        error = page_get(access, router, kind, options, last, rows, &shards);
        if (!error && first && !json_equal(first, shards)) {
            error = WP_E_NOT_LEADER;
        }
        first = first ? first : json_incref(shards);
        json_decref(shards);
    } while (!error && last[0]);
    if (error) {
        json_decref(first);
        return error;
    }
    *ret_shards = first;
    return WP_OK;
}

/* Takes those rows whose shard nobody listed before. */
static void rows_take(struct listing *listing, const json_t *rows, const json_t *shards)
{
    bool fresh[SHARDS_MAX + 1] = {false};
    size_t i;
    json_t *value;
    json_array_foreach(shards, i, value)
    {
        json_int_t shard = json_integer_value(value);
        if (shard >= 1 && shard <= (json_int_t)SHARDS_MAX && !listing->covered[shard]) {
            fresh[shard] = listing->covered[shard] = true;
        }
    }
    json_array_foreach(rows, i, value)
    {
        json_int_t shard = json_integer_value(json_object_get(value, "shard"));
        if (shard >= 1 && shard <= (json_int_t)SHARDS_MAX && fresh[shard]) {
            json_array_append(listing->rows, value);
        }
    }
}

/* --- all routers
 * ----------------------------------------------------------------------------------------------- */

static bool complete(const struct listing *listing)
{
    for (unsigned shard = 1; shard <= listing->shards; shard++) {
        if (!listing->covered[shard]) {
            return false;
        }
    }
    return true;
}

/* Asks every router once. The last error, when no router answered at all. */
static int round_do(struct ctl_access *access, struct listing *listing, const char *options)
{
    int last = WP_E_CLOSED;
    bool answered = false;
    for (unsigned i = 0; i < wp_operator_router_count(access->op) && !(listing->shards && complete(listing));
         i++) {
        json_t *rows = json_array(), *shards = NULL;
        int error = pages_get(access, i, listing->kind, options, rows, &shards);
        if (!error) {
            rows_take(listing, rows, shards);
        }
        answered = answered || !error || error == WP_E_NOT_LEADER;
        last = error ? error : last;
        json_decref(shards);
        json_decref(rows);
    }
    return answered ? WP_OK : last;
}

static int missing_fail(const struct listing *listing)
{
    char text[256] = "";
    size_t used = 0;
    for (unsigned shard = 1; shard <= listing->shards && used < 240; shard++) {
        if (!listing->covered[shard]) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%u", used ? ", " : "", shard);
        }
    }
    return ctl_fail(CTL_UNAVAILABLE,
        "the list lacks the %s of shard%s %s: no router that answers leads it; see wardpostctl cluster "
        "status",
        listing->kind->rows, strchr(text, ',') ? "s" : "", text);
}

static void list_print(const struct ctl_arguments *arguments, const struct kind *kind, json_t *rows)
{
    if (arguments->json) {
        json_t *root = json_pack("{s:O}", kind->rows, rows);
        ctl_print_json(root);
        json_decref(root);
    } else {
        ctl_print_table(rows, kind->columns);
    }
}

static int list(const struct ctl_arguments *arguments, const struct kind *kind)
{
    struct ctl_access *access;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    struct listing listing = {.kind = kind, .rows = json_array(), .shards = access->playground.shards};
    /* One router alone lists what its replicas hold: there is nobody else to ask. */
    const char *options = listing.shards ? "" : "&replica=any";
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)COMPLETE_TIMEOUT_MS * 1000;
    int error = round_do(access, &listing, options);
    while (!error && !complete(&listing) && wp_clock_mono_us() < end_us) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000L}, NULL);
        error = round_do(access, &listing, options);
    }
    if (error) {
        status = ctl_fail(ctl_exit_of(error), "%s", access->text);
    } else {
        json_t *rows = ctl_sorted(listing.rows, kind->name);
        list_print(arguments, kind, rows);
        json_decref(rows);
        status = complete(&listing) ? CTL_OK : missing_fail(&listing);
    }
    json_decref(listing.rows);
    ctl_access_close(&access);
    return status;
}

int ctl_user_list(const struct ctl_arguments *arguments)
{
    return list(arguments, &users);
}

int ctl_team_list(const struct ctl_arguments *arguments)
{
    return list(arguments, &teams);
}
