/* See reactor_form.h for why. */
#include "router/reactor_form.h"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "router/reactor_report.h"

#define TELL_MS 10000u
#define FACTS_MAX 64u

/* One fact for each reactor, since each writes its own. */
static void fact_name(uint32_t index, char name[24])
{
    snprintf(name, 24, "founder-%u", index);
}

static bool roster_names_us(const struct wp_reactor *reactor)
{
    const struct wp_roster_node *self = wp_roster_node(reactor->roster, reactor->config.self);
    return reactor->roster->version > 0 && self && self->directory_id == reactor->config.directory_id;
}

void wp_form_begin(struct wp_reactor *reactor)
{
    struct wp_buffer value = WP_BUFFER_INIT;
    reactor->accepted = roster_names_us(reactor);
    for (uint32_t i = 0; i < FACTS_MAX && !reactor->accepted; i++) {
        char name[24];
        fact_name(i, name);
        reactor->accepted = wp_store_fact_get(reactor->config.store, name, &value) == WP_OK;
    }
    wp_buffer_free(&value);
}

void wp_form_bar(struct shard *shard)
{
    struct wp_membership founders;
    wp_roster_membership(shard->reactor->roster, shard->number, &founders);
    shard->barred = !shard->reactor->accepted && founders.count > 1;
    wp_group_bar(shard->group, shard->barred);
}

/* A member of the group that has not said that it is new; 0 = all have. */
static uint32_t not_new(const struct shard *shard)
{
    const struct wp_membership *membership = wp_replica_membership(wp_group_replica(shard->group));
    for (uint32_t i = 0; i < membership->count; i++) {
        uint32_t node = wp_raft_id_node(membership->members[i].id);
        const struct node_report *report = wp_report_of(shard->reactor, node);
        if (node != shard->reactor->config.self && !(report && report->forming)) {
            return node;
        }
    }
    return 0;
}

static void directory_accept(struct wp_reactor *reactor, const char *why)
{
    char name[24];
    fact_name(reactor->config.index, name);
    int error = wp_store_fact_set(reactor->config.store, name, wp_slice("1", 1));
    if (error) {
        wp_reactor_fail(reactor, error, "noting that the cluster accepted this data directory");
        return;
    }
    reactor->accepted = true;
    wp_log(WP_LOG_INFO, "directory_accepted", "reactor=%u because=%s", reactor->config.index, why);
    for (struct shard *shard = wp_group_next(reactor, NULL); shard; shard = wp_group_next(reactor, shard)) {
        shard->barred = false;
        wp_group_bar(shard->group, false);
    }
}

void wp_form_tick(struct wp_reactor *reactor)
{
    uint32_t waits_for = 0;
    bool barred = false;
    if (reactor->accepted) {
        return;
    }
    if (roster_names_us(reactor)) {
        directory_accept(reactor, "the-roster-names-it");
        return;
    }
    for (struct shard *shard = wp_group_next(reactor, NULL); shard; shard = wp_group_next(reactor, shard)) {
        if (shard->barred) {
            uint32_t node = reactor->roster->version == 0 ? not_new(shard) : reactor->config.self;
            if (node == 0) {
                directory_accept(reactor, "all-members-are-new");
                return;
            }
            barred = true;
            waits_for = node;
        }
    }
    if (barred && reactor->mono_ms >= reactor->form_told_ms + TELL_MS) {
        bool first = reactor->form_told_ms == 0;
        reactor->form_told_ms = reactor->mono_ms;
        const struct wp_roster_node *node = wp_roster_node(reactor->roster, waits_for);
        if (!first) { /* a cluster that forms needs no such line */
            wp_log(WP_LOG_WARN, "forming_waits",
                "for=%s reactor=%u hint=\"a new cluster forms when every router of cluster.routers is there; "
                "a router whose "
                "disk was emptied waits until the others rebuild it\"",
                node ? node->name : "-", reactor->config.index);
        }
    }
}
