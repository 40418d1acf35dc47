/* Why this file exists: the verbs about single shards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "ctl/goal.h"
#include "proto/address.h"

#define TRANSFER_TIMEOUT_MS 5000u

static int shard_parse(const char *text, unsigned *ret_shard)
{
    char *end;
    unsigned long shard = strtoul(text, &end, 10);
    if (*end || text[0] < '0' || text[0] > '9' || shard < 1 || shard > 1024) {
        return ctl_fail(CTL_USAGE, "\"%s\" is no number of a shard", text);
    }
    *ret_shard = (unsigned)shard;
    return CTL_OK;
}

static int node_check(const char *name)
{
    return wp_address_valid(name) ? CTL_OK : ctl_fail(CTL_USAGE, "\"%s\" is no name of a router", name);
}

int ctl_shard_list(const struct ctl_arguments *arguments)
{
    struct ctl_access *access;
    json_t *view;
    int status = ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    status = ctl_view_get(access, &view);
    if (!status && arguments->json) {
        json_t *root = json_pack("{s:O}", "shards", json_object_get(view, "shards"));
        ctl_print_json(root);
        json_decref(root);
    } else if (!status) {
        ctl_shards_print(json_object_get(view, "shards"), false);
    }
    if (!status) {
        json_decref(view);
    }
    ctl_access_close(&access);
    return status;
}

/* --- leadership
 * --- */

/* Who leads the shard according to `view`; "" = nobody. */
static const char *leader_of(const json_t *view, unsigned shard)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(view, "shards"), i, row)
    {
        const char *leader = json_string_value(json_object_get(row, "leader"));
        if (json_integer_value(json_object_get(row, "shard")) == (json_int_t)shard) {
            return leader ? leader : "";
        }
    }
    return "";
}

static int transfer_wait(struct ctl_access *access, unsigned shard, const char *node)
{
    uint64_t end_us = wp_clock_mono_us() + (uint64_t)TRANSFER_TIMEOUT_MS * 1000;
    int status = CTL_OK;
    bool there = false;
    while (!status && !there && wp_clock_mono_us() < end_us) {
        json_t *view;
        status = ctl_view_get(access, &view);
        if (!status) {
            there = strcmp(leader_of(view, shard), node) == 0;
            json_decref(view);
        }
        if (!status && !there) {
            nanosleep(&(struct timespec){.tv_nsec = 50000000L}, NULL);
        }
    }
    return status || there
               ? status
               : ctl_fail(CTL_TEMPORARY,
                     "shard %u was not taken over by %s: it did not have the whole log in time", shard, node);
}

int ctl_shard_transfer(const struct ctl_arguments *arguments)
{
    char path[64];
    const char *node = arguments->words[1];
    struct ctl_access *access;
    unsigned shard = 0;
    int status = shard_parse(arguments->name, &shard);
    status = status ? status : ctl_access_open(arguments, &access);
    if (status) {
        return status;
    }
    snprintf(path, sizeof path, "/v1/shards/%u/transfer", shard);
    status = ctl_call(access, "POST", path, json_pack("{s:s}", "to", node), NULL);
    status = status ? status : transfer_wait(access, shard, node);
    if (!status && arguments->json) {
        json_t *root = json_pack("{s:i, s:s}", "shard", (int)shard, "leader", node);
        ctl_print_json(root);
        json_decref(root);
    } else if (!status) {
        printf("shard %u is led by %s\n", shard, node);
    }
    ctl_access_close(&access);
    return status;
}

/* --- replicas
 * --- */

static bool moved_reached(const struct ctl_goal *goal, const json_t *view, char *ret_line, size_t line_size)
{
    json_t *number = json_integer(goal->shard);
    const json_t *shard = ctl_row_of(json_object_get(view, "shards"), "shard", number);
    json_decref(number);
    snprintf(ret_line, line_size, "shard %u is moving to %s", goal->shard, goal->node);
    if (!shard || json_is_true(json_object_get(shard, "moving"))) {
        return false;
    }
    /* A view from before the move does not want it there. */
    size_t i;
    const json_t *node;
    json_array_foreach(json_object_get(shard, "wanted"), i, node)
    {
        if (strcmp(json_string_value(node), goal->node) == 0) {
            return true;
        }
    }
    return false;
}

int ctl_shard_move(const struct ctl_arguments *arguments)
{
    char path[64], done[256];
    const char *from = arguments->words[1], *to = arguments->words[2];
    unsigned shard = 0;
    int status = shard_parse(arguments->name, &shard);
    status = status ? status : node_check(from);
    status = status ? status : node_check(to);
    if (status) {
        return status;
    }
    const struct ctl_goal goal = {moved_reached, to, shard};
    snprintf(path, sizeof path, "/v1/shards/%u/move", shard);
    snprintf(done, sizeof done, "a replica of shard %u %s from %s to %s", shard,
        arguments->wait ? "moved" : "moves", from, to);
    return ctl_change(arguments, path, json_pack("{s:s, s:s}", "from", from, "to", to), &goal, done);
}
