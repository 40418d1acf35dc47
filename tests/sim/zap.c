#include "tests/sim/zap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define ROWS_MAX 64u

struct row {
    char key[WP_KEY_TEXT_SIZE];
    char node[65];
    Wp__Role role;
    char user_id[128];
};

struct wp_zap {
    char own_key[WP_KEY_TEXT_SIZE];
    struct row rows[ROWS_MAX];
    size_t count;
    uint64_t generation;
};

struct wp_zap *sim_zap_create(const char *own_key)
{
    struct wp_zap *zap = calloc(1, sizeof *zap);
    WP_ASSERT(zap);
    memcpy(zap->own_key, own_key, sizeof zap->own_key);
    return zap;
}

const char *sim_zap_own_key(const struct wp_zap *zap)
{
    return zap->own_key;
}

void wp_zap_destroy(struct wp_zap **zap)
{
    free(*zap);
    *zap = NULL;
}

static struct row *row_find(struct wp_zap *zap, const char *key)
{
    for (size_t i = 0; i < zap->count; i++) {
        if (strcmp(zap->rows[i].key, key) == 0) {
            return &zap->rows[i];
        }
    }
    return NULL;
}

int wp_zap_allow(struct wp_zap *zap, const char *public_key, const char *node, Wp__Role role)
{
    const struct row *found = row_find(zap, public_key);
    if (found) {
        return strcmp(found->node, node) == 0 && found->role == role ? WP_OK : WP_E_EXISTS;
    }
    WP_ASSERT(zap->count < ROWS_MAX);
    struct row *row = &zap->rows[zap->count++];
    row->role = role;
    snprintf(row->key, sizeof row->key, "%s", public_key);
    snprintf(row->node, sizeof row->node, "%s", node);
    snprintf(row->user_id, sizeof row->user_id, "%d:%s:%s", (int)role, node, public_key);
    zap->generation++;
    return WP_OK;
}

void wp_zap_revoke(struct wp_zap *zap, const char *public_key)
{
    struct row *row = row_find(zap, public_key);
    if (row) {
        *row = zap->rows[--zap->count];
        zap->generation++;
    }
}

int wp_zap_check(struct wp_zap *zap, const char *user_id, Wp__Role *ret_role, char node[65])
{
    for (size_t i = 0; i < zap->count; i++) {
        if (strcmp(zap->rows[i].user_id, user_id) == 0) {
            *ret_role = zap->rows[i].role;
            memcpy(node, zap->rows[i].node, 65);
            return WP_OK;
        }
    }
    return WP_E_DENIED;
}

uint64_t wp_zap_generation(struct wp_zap *zap)
{
    return zap->generation;
}

bool sim_zap_user(struct wp_zap *zap, const char *public_key, char *ret_user_id, size_t size)
{
    const struct row *row = row_find(zap, public_key);
    if (row) {
        snprintf(ret_user_id, size, "%s", row->user_id);
    }
    return row != NULL;
}
