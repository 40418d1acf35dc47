/* See reactor_form.h for why. */
#include "router/reactor_form.h"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "router/reactor_report.h"

#define FOUNDING_INDEX 1u
#define TELL_MS 10000u

static void fact_name(const struct shard *shard, char name[24])
{
    snprintf(name, 24, "founder-%u", shard->number);
}

static bool roster_names_us(const struct wp_reactor *reactor)
{
    const struct wp_roster_node *self = wp_roster_node(reactor->roster, reactor->config.self);
    return reactor->roster->version > 0 && self && self->directory_id == reactor->config.directory_id;
}

void wp_form_bar(struct shard *shard)
{
    struct wp_reactor *reactor = shard->reactor;
    struct wp_membership founders;
    struct wp_buffer value = WP_BUFFER_INIT;
    char name[24];
    fact_name(shard, name);
    wp_roster_membership(reactor->roster, shard->number, &founders);
    shard->barred = founders.count > 1 && !roster_names_us(reactor) &&
                    wp_store_fact_get(reactor->config.store, name, &value) != WP_OK;
    wp_buffer_free(&value);
    wp_group_bar(shard->group, shard->barred);
}

static void accept_as_founder(struct shard *shard, const char *why)
{
    char name[24];
    fact_name(shard, name);
    int error = wp_store_fact_set(shard->reactor->config.store, name, wp_slice("1", 1));
    if (error) {
        wp_reactor_fail(shard->reactor, error, "noting that a group accepted this data directory");
        return;
    }
    shard->barred = false;
    wp_group_bar(shard->group, false);
    wp_log(WP_LOG_DEBUG, "founder_accepted", "shard=%u because=%s", shard->number, why);
}

/* A member of the group that has not said that it holds nothing; 0 = all have. */
static uint32_t member_holding(const struct shard *shard)
{
    const struct wp_membership *membership = wp_replica_membership(wp_group_replica(shard->group));
    for (uint32_t i = 0; i < membership->count; i++) {
        uint32_t node = wp_raft_id_node(membership->members[i].id);
        const struct group_report *report =
            wp_report_of_group(shard->reactor, node, shard->number, WP_REPORT_FRESH_MS);
        if (node != shard->reactor->config.self && !(report && report->last_index <= FOUNDING_INDEX)) {
            return node;
        }
    }
    return 0;
}

static void waiting_tell(struct wp_reactor *reactor, uint32_t waits_for)
{
    bool first = reactor->form_told_ms == 0;
    if (!first && reactor->mono_ms < reactor->form_told_ms + TELL_MS) {
        return;
    }
    reactor->form_told_ms = reactor->mono_ms;
    const struct wp_roster_node *node = wp_roster_node(reactor->roster, waits_for);
    if (!first) { /* a cluster that forms needs no such line */
        wp_log(WP_LOG_WARN, "forming_waits",
            "for=%s reactor=%u hint=\"a new cluster forms when every router of cluster.routers is there; a "
            "router whose "
            "disk was emptied waits until the others rebuild it\"",
            node ? node->name : "-", reactor->config.index);
    }
}

void wp_form_tick(struct wp_reactor *reactor)
{
    uint32_t waits_for = 0;
    for (struct shard *shard = wp_group_next(reactor, NULL); shard && !reactor->failed;
         shard = wp_group_next(reactor, shard)) {
        uint32_t holds = shard->barred ? member_holding(shard) : 0;
        if (shard->barred && roster_names_us(reactor)) {
            accept_as_founder(shard, "the-roster-names-it");
        } else if (shard->barred && holds == 0) {
            accept_as_founder(shard, "nobody-holds-anything");
        } else {
            waits_for = holds ? holds : waits_for;
        }
    }
    if (waits_for) {
        waiting_tell(reactor, waits_for);
    }
}
