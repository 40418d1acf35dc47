/* Replicas compared from outside: state is a function of the log, so equal positions must have equal rows. */
#include <stdio.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "router/admin_state.h"
#include "storage/store.h"

struct digest {
    uint64_t rows, bytes, sum;
};

static void part_add(XXH3_state_t *state, struct wp_slice part)
{
    uint8_t size[8];
    wp_put_u64le(size, part.size);
    XXH3_64bits_update(state, size, sizeof(size));
    XXH3_64bits_update(state, part.data, part.size);
}

static int rows_digest(struct wp_state_iter *view, struct digest *digest)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        return WP_E_NOMEM;
    }
    XXH3_64bits_reset(state);
    for (; wp_state_iter_valid(view); wp_state_iter_next(view)) {
        part_add(state, wp_state_iter_key(view));
        part_add(state, wp_state_iter_value(view));
        digest->rows++;
        digest->bytes += wp_state_iter_key(view).size + wp_state_iter_value(view).size;
    }
    digest->sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return wp_state_iter_error(view);
}

struct admin_answer admin_shard_digest(struct wp_admin *admin, uint32_t shard)
{
    struct digest digest = {0};
    uint64_t index = 0, term = 0;
    char text[17];
    struct wp_state_iter *view = wp_state_view_create(admin->config.store, shard, &index, &term);
    int error = view ? rows_digest(view, &digest) : WP_E_NOMEM;
    wp_state_iter_destroy(&view);
    if (error) {
        return admin_refusal(error, "cannot read the rows of shard %u: %s", shard, wp_error_text(error));
    }
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)digest.sum);
    return admin_ok(200, json_pack("{s:i, s:I, s:I, s:I, s:I, s:s}", "shard", (int)shard, "applied",
                             (json_int_t)index, "term", (json_int_t)term, "rows", (json_int_t)digest.rows,
                             "bytes", (json_int_t)digest.bytes, "digest", text));
}
