/* Numbers of a reactor for metrics, gathered once a second and read by any thread. */
#include "router/overview.h"
#include "router/reactor_state.h"

void wp_reactor_gauges_refresh(struct wp_reactor *reactor)
{
    struct wp_reactor_gauges sum = {.seen_window_min_s = UINT64_MAX};
    for (struct shard *shard = wp_shard_next(reactor, NULL); shard; shard = wp_shard_next(reactor, shard)) {
        struct wp_machine_totals totals;
        wp_machine_totals(shard->machine, &totals);
        sum.messages += totals.messages;
        sum.bytes += totals.bytes;
        sum.outbox_bytes += totals.outbox_bytes;
        sum.receipts += totals.receipts;
        sum.attached += wp_dispatch_attached_count(shard->dispatch);
        uint64_t window_s = wp_machine_seen_window_ms(shard->machine, reactor->leader_ms) / 1000;
        sum.seen_window_min_s = window_s < sum.seen_window_min_s ? window_s : sum.seen_window_min_s;
        sum.leaderless += wp_group_leader(shard->group) == 0;
        if (wp_group_leading(shard->group)) {
            struct wp_overview_group group;
            wp_reactor_overview_group(reactor, shard->number, &group);
            sum.leads++;
            sum.behind += group.wanted_count - wp_overview_in_step(&group);
        }
    }
    __atomic_store_n(&reactor->gauges.messages, sum.messages, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.bytes, sum.bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.attached, sum.attached, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.outbox_bytes, sum.outbox_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.receipts, sum.receipts, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.seen_window_min_s, sum.seen_window_min_s, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.leads, sum.leads, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.leaderless, sum.leaderless, __ATOMIC_RELAXED);
    __atomic_store_n(&reactor->gauges.behind, sum.behind, __ATOMIC_RELAXED);
    reactor->gauges_ms = reactor->mono_ms;
}

void wp_reactor_gauges(const struct wp_reactor *reactor, struct wp_reactor_gauges *ret_gauges)
{
    ret_gauges->messages = __atomic_load_n(&reactor->gauges.messages, __ATOMIC_RELAXED);
    ret_gauges->bytes = __atomic_load_n(&reactor->gauges.bytes, __ATOMIC_RELAXED);
    ret_gauges->attached = __atomic_load_n(&reactor->gauges.attached, __ATOMIC_RELAXED);
    ret_gauges->leads = __atomic_load_n(&reactor->gauges.leads, __ATOMIC_RELAXED);
    ret_gauges->leaderless = __atomic_load_n(&reactor->gauges.leaderless, __ATOMIC_RELAXED);
    ret_gauges->behind = __atomic_load_n(&reactor->gauges.behind, __ATOMIC_RELAXED);
    ret_gauges->outbox_bytes = __atomic_load_n(&reactor->gauges.outbox_bytes, __ATOMIC_RELAXED);
    ret_gauges->receipts = __atomic_load_n(&reactor->gauges.receipts, __ATOMIC_RELAXED);
    ret_gauges->seen_window_min_s = __atomic_load_n(&reactor->gauges.seen_window_min_s, __ATOMIC_RELAXED);
}
