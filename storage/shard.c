/* The facade for what concerns a whole shard, and the rules that both bodies follow: rows come in order, and
 * a replica that forgets what it acknowledged says so in its hard state. */
#include <string.h>

#include "base/error.h"
#include "storage/body.h"
#include "storage/layout.h"

struct wp_state_iter *wp_state_view_create(
    struct wp_store *store, uint32_t shard, uint64_t *ret_index, uint64_t *ret_term)
{
    uint8_t from[WP_STATE_SHARD_SIZE];
    uint8_t to[WP_STATE_SHARD_SIZE];
    wp_put_u32be(from, shard);
    wp_put_u32be(to, shard + 1);
    if (WP_BUG == 4) { /* a snapshot without the group's own row: its membership */
        uint8_t after[WP_STATE_SHARD_SIZE + 1];
        wp_put_u32be(after, shard);
        after[4] = 1;
        return store->body->view_create(
            store, wp_slice(after, sizeof after), wp_slice(to, sizeof to), shard, ret_index, ret_term);
    }
    return store->body->view_create(
        store, wp_slice(from, sizeof from), wp_slice(to, sizeof to), shard, ret_index, ret_term);
}

/* What the log holds up to `last` is gone. */
static void forget(struct wp_log_hard_state *hard, uint64_t last)
{
    hard->lost_index = last > hard->lost_index ? last : hard->lost_index;
    hard->lost_term = hard->lost_index > 0 ? hard->term : 0;
}

int wp_hard_after_wipe(const struct wp_log_hard_state *before, uint64_t last,
    const struct wp_log_hard_state *wanted, struct wp_log_hard_state *ret_after, struct wp_marker *ret_marker)
{
    bool same = before->replica == 0 || before->replica == wanted->replica;
    bool revotes =
        wanted->term == before->term && before->voted_for != 0 && wanted->voted_for != before->voted_for;
    if (same && (wanted->term < before->term || revotes)) {
        return WP_E_INVALID;
    }
    struct wp_log_hard_state after = {
        .term = wanted->term, .voted_for = wanted->voted_for, .replica = wanted->replica};
    if (same) {
        after.lost_index = before->lost_index;
        forget(&after, last);
    }
    *ret_after = after;
    *ret_marker = (struct wp_marker){.kind = same ? WP_MARKER_WIPE_SAME : WP_MARKER_WIPE_NEW};
    return WP_OK;
}

int wp_hard_after_install(const struct wp_log_hard_state *before, uint64_t last,
    const struct wp_marker *marker, struct wp_log_hard_state *ret_after)
{
    if (marker->index < last) {
        return WP_E_INVALID;
    }
    struct wp_log_hard_state after = *before;
    if (marker->index >= after.lost_index || marker->term > after.lost_term) {
        after.lost_index = 0;
        after.lost_term = 0;
    }
    if (marker->leader_term > after.term) {
        after.term = marker->leader_term;
        after.voted_for = 0;
    }
    *ret_after = after;
    return WP_OK;
}

void wp_hard_after_crash(const struct wp_log_hard_state *before, uint64_t last,
    const struct wp_marker *marker, bool installed, struct wp_log_hard_state *ret_after)
{
    if (installed && wp_hard_after_install(before, last, marker, ret_after) == WP_OK) {
        return;
    }
    *ret_after = *before;
    if (marker->kind != WP_MARKER_WIPE_NEW) {
        forget(ret_after, last);
    }
}

int wp_store_shard_wipe(struct wp_store *store, uint32_t shard, const struct wp_log_hard_state *hard)
{
    return shard < WP_STORE_SHARDS_MAX ? store->body->shard_wipe(store, shard, hard) : WP_E_INVALID;
}

int wp_state_install_begin(struct wp_store *store, uint32_t shard, struct wp_state_install **ret_install)
{
    if (shard >= WP_STORE_SHARDS_MAX) {
        return WP_E_INVALID;
    }
    struct wp_store_disk disk;
    store->body->disk(store, &disk);
    if (disk.full) {
        return WP_E_NO_SPACE;
    }
    struct wp_state_install *install;
    int error = store->body->install_create(store, shard, &install);
    if (error == WP_OK) {
        install->store = store;
        install->shard = shard;
        *ret_install = install;
    }
    return error;
}

static bool key_follows(const struct wp_state_install *install, struct wp_slice key)
{
    if (key.size < WP_STATE_SHARD_SIZE || key.size > WP_STATE_KEY_SIZE_MAX ||
        wp_get_u32be(key.data) != install->shard) {
        return false;
    }
    size_t size = key.size < install->last_size ? key.size : install->last_size;
    int order = memcmp(install->last_key, key.data, size);
    return order < 0 || (order == 0 && install->last_size < key.size);
}

int wp_state_install_add(struct wp_state_install *install, struct wp_slice key, struct wp_slice value)
{
    if (!key_follows(install, key)) {
        return WP_E_INVALID;
    }
    int error = install->store->body->install_add(install, key, value);
    if (error == WP_OK) {
        memcpy(install->last_key, key.data, key.size);
        install->last_size = key.size;
    }
    return error;
}

int wp_state_install_commit(
    struct wp_state_install **install, uint64_t index, uint64_t term, uint64_t leader_term)
{
    struct wp_state_install *taken = *install;
    *install = NULL;
    uint64_t applied_index;
    uint64_t applied_term;
    wp_state_applied(taken->store, taken->shard, &applied_index, &applied_term);
    bool forward = index > applied_index && term > 0 && term <= leader_term && index < UINT64_MAX - 1;
    int error = forward ? taken->store->body->install_commit(taken, index, term, leader_term) : WP_E_INVALID;
    taken->store->body->install_destroy(taken);
    return error;
}

void wp_state_install_abort(struct wp_state_install **install)
{
    if (*install != NULL) {
        (*install)->store->body->install_destroy(*install);
        *install = NULL;
    }
}
