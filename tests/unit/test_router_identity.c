/* A data directory belongs to one cluster for ever: id, number of shards and key are recorded at the first
 * start and refused when they differ. Key files are refused when they are not what they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "router/identity.h"

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define ID_A "0123456789abcdef"

static char dir[64];

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void key_write(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path_of(name), mode), 0);
}

static int load(const char *id, uint32_t shards, const char *key_name, struct wp_identity *ret_identity)
{
    char text[512] = "";
    int error = wp_identity_load(id, shards, path_of(key_name), ret_identity, text, sizeof(text));
    assert_true(!error || strlen(text) > 10);
    return error;
}

static void test_keys_derive_as_documented(void **state)
{
    (void)state;
    struct wp_identity identity;
    key_write("a.key", KEY_A "\n", 0600);
    assert_int_equal(load(ID_A, 8, "a.key", &identity), WP_OK);
    assert_int_equal(identity.cluster_id, 0x0123456789abcdefu);
    assert_int_equal(identity.shard_count, 8);
    uint8_t master[32];
    uint8_t derived[32];
    for (uint8_t i = 0; i < 32; i++) {
        master[i] = i;
    }
    crypto_kdf_derive_from_key(derived, 16, 1, "wpshards", master);
    assert_memory_equal(derived, identity.hash_key, 16);
    crypto_kdf_derive_from_key(derived, 32, 2, "wpsecret", master);
    assert_memory_equal(derived, identity.secret_key, 32);
}

static void test_bad_configuration_is_refused(void **state)
{
    (void)state;
    struct wp_identity identity;
    key_write("good.key", KEY_A, 0600);
    key_write("open.key", KEY_A, 0640);
    key_write("short.key", "0011", 0600);
    key_write("long.key", KEY_A "00", 0600);
    key_write("text.key", "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 0600);
    assert_int_equal(load(ID_A, 8, "good.key", &identity), WP_OK);
    assert_int_equal(load(ID_A, 8, "open.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 8, "short.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 8, "long.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 8, "text.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 8, "none.key", &identity), WP_E_CONFIG);
    assert_int_equal(load("0123", 8, "good.key", &identity), WP_E_CONFIG);
    assert_int_equal(load("0123456789abcdeg", 8, "good.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 0, "good.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 12, "good.key", &identity), WP_E_CONFIG);
    assert_int_equal(load(ID_A, 4096, "good.key", &identity), WP_E_CONFIG);
}

static int claim(const struct wp_identity *identity, char *ret_text, size_t text_size)
{
    char data[128];
    snprintf(data, sizeof(data), "%s/data", dir);
    const struct wp_store_config config = {.path = data,
        .disk_reserve_bytes = 256u << 20,
        .log_wal_bytes_max = 48u << 20,
        .write_buffer_bytes = 16u << 20,
        .compaction_bytes_max = 64u << 20,
        .allow_volatile = true};
    struct wp_store *store = NULL;
    assert_int_equal(wp_store_open_rocks(&config, &store, ret_text, text_size), WP_OK);
    int error = wp_identity_claim(store, identity, ret_text, text_size);
    wp_store_close(&store);
    return error;
}

static void test_data_directory_stays_with_its_cluster(void **state)
{
    (void)state;
    char text[512] = "";
    struct wp_identity own;
    struct wp_identity other;
    key_write("a.key", KEY_A, 0600);
    key_write("b.key", KEY_B, 0600);
    assert_int_equal(load(ID_A, 8, "a.key", &own), WP_OK);
    assert_int_equal(claim(&own, text, sizeof(text)), WP_OK);
    assert_int_equal(claim(&own, text, sizeof(text)), WP_OK); /* the second start */

    assert_int_equal(load("fedcba9876543210", 8, "a.key", &other), WP_OK);
    assert_int_equal(claim(&other, text, sizeof(text)), WP_E_CONFIG);
    assert_non_null(strstr(text, "cluster id"));
    assert_int_equal(load(ID_A, 16, "a.key", &other), WP_OK);
    assert_int_equal(claim(&other, text, sizeof(text)), WP_E_CONFIG);
    assert_non_null(strstr(text, "number of shards"));
    assert_int_equal(load(ID_A, 8, "b.key", &other), WP_OK);
    assert_int_equal(claim(&other, text, sizeof(text)), WP_E_CONFIG);
    assert_non_null(strstr(text, "cluster key"));
    assert_int_equal(claim(&own, text, sizeof(text)), WP_OK);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/wp-identity-XXXXXX");
    return mkdtemp(dir) && sodium_init() >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keys_derive_as_documented, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_configuration_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_data_directory_stays_with_its_cluster, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
