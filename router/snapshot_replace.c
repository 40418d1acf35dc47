/* A shard whose rows are replaced: closed, installed on a worker thread, opened again as after a restart.
 *
 * Invariant: from the close on nobody else finds group, machine or dispatch of the shard here; the old group
 * is freed only when the log has completed its writes, the machine when no read of it is under way. */
#include "base/error.h"
#include "base/log.h"
#include "router/snapshot_inner.h"

static struct shard *slot_of(const struct snapshot_pull *pull)
{
    struct wp_reactor *reactor = pull->reactor;
    uint32_t at = pull->group == WP_META_GROUP ? reactor->shard_count
                                               : (pull->group - 1) / reactor->config.reactor_count;
    return &reactor->shards[at];
}

/* On the committer's thread. */
static void log_drained(void *context, uint64_t tag)
{
    struct snapshot_pull *pull = context;
    (void)tag;
    __atomic_store_n(&pull->log_done, true, __ATOMIC_RELEASE); /* the next tick sees it */
}

/* From here on nobody finds the shard here. */
void wp_snapshot_replace_begin(struct snapshot_pull *pull)
{
    struct wp_reactor *reactor = pull->reactor;
    struct shard *shard = wp_reactor_group_of(reactor, pull->group);
    if (!shard || shard->replica != pull->replica || wp_group_leading(shard->group) || reactor->stopping) {
        wp_snapshot_pull_end(pull, WP_E_CLOSED, "the replica is another one by now");
        return;
    }
    wp_shard_refuse_all(shard, WP_E_NOT_LEADER);
    if (shard->dispatch) {
        wp_dispatch_kick_all(shard->dispatch, WP_E_NOT_LEADER);
        while (wp_shard_pump(shard)) {
        }
    }
    pull->phase = DRAINING;
    pull->group_closed = shard->group;
    shard->group = NULL;
    shard->replacing = true;
    const struct wp_log_write write = {.shard = pull->group, .done = log_drained, .context = pull};
    int error = wp_log_submit(reactor->config.store, &write);
    if (error) {
        wp_reactor_fail(reactor, error, "closing a shard for a snapshot");
    }
}

static void replace_work(uv_work_t *work)
{
    struct snapshot_pull *pull = work->data;
    pull->error = wp_state_install_commit(&pull->install, pull->index, pull->term, pull->leader_term);
    if (pull->group == WP_META_GROUP) {
        return;
    }
    struct wp_machine_limits limits = wp_shard_limits(pull->reactor);
    int error = wp_machine_create(pull->reactor->config.store, pull->group, &limits, &pull->machine);
    if (error) {
        pull->error = error;
        pull->cancelled = true; /* what is there cannot be read */
    }
}

static void replace_after(uv_work_t *work, int status)
{
    struct snapshot_pull *pull = work->data;
    struct wp_reactor *reactor = pull->reactor;
    struct shard *shard = slot_of(pull);
    pull->busy = false;
    if (status || reactor->closing || reactor->failed) {
        wp_snapshot_pull_end(pull, WP_E_CLOSED, "stopping");
        return;
    }
    int error = pull->cancelled ? pull->error : WP_OK;
    pull->cancelled = false;
    shard->replacing = false;
    if (!error) {
        shard->machine = pull->machine;
        pull->machine = NULL;
        error = wp_shard_open(shard, pull->replica, NULL);
    }
    if (!error) {
        wp_reactor_clock(reactor);
        error = wp_group_start(shard->group, reactor->mono_ms);
    }
    if (error) {
        wp_reactor_fail(reactor, error, "opening a shard after a snapshot");
        return;
    }
    if (!pull->error) {
        shard->installed_ms = reactor->mono_ms;
        wp_metric_add(WP_M_SNAPSHOTS_INSTALLED, 1);
        wp_log(WP_LOG_INFO, "snapshot_installed", "shard=%u index=%llu rows=%llu bytes=%llu duration_ms=%llu",
            pull->group, (unsigned long long)pull->index, (unsigned long long)pull->row_count,
            (unsigned long long)pull->byte_count, (unsigned long long)(reactor->mono_ms - pull->began_ms));
    }
    wp_snapshot_pull_end(pull, pull->error, "installing");
    wp_reactor_settle(reactor);
}

static void shard_replace(struct snapshot_pull *pull)
{
    struct shard *shard = slot_of(pull);
    wp_group_destroy(&pull->group_closed);
    wp_shard_shut(shard);
    pull->phase = REPLACING;
    pull->work.data = pull;
    pull->busy = true;
    if (uv_queue_work(&pull->reactor->loop, &pull->work, replace_work, replace_after)) {
        wp_reactor_fail(pull->reactor, WP_E_NOMEM, "installing a snapshot");
    }
}

void wp_snapshot_replace_tick(struct snapshot_pull *pull)
{
    /* Between two ticks the loop takes the completions that came before the last one: none of them must meet
     * the next group. */
    if (pull->phase == DRAINING && __atomic_load_n(&pull->log_done, __ATOMIC_ACQUIRE)) {
        pull->phase = DRAINED;
    } else if (pull->phase == DRAINED && slot_of(pull)->reads == 0) {
        shard_replace(pull);
    }
}
