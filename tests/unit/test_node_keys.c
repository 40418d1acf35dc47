/* Key files and the allow-list: what is refused, and in which words. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "base/error.h"
#include "node/fabric.h"
#include "node/keys.h"
#include "node/zap.h"

static char directory[] = "/tmp/wp-keys-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(directory)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/node.key", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static void file_write(const char *content, mode_t mode)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void test_generated_pair_loads_again(void **state)
{
    (void)state;
    struct wp_keypair made, loaded;
    char text[512] = "";
    struct stat info;
    unlink(path);
    assert_int_equal(wp_keypair_generate(path, &made), WP_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_OK);
    assert_memory_equal(&made, &loaded, sizeof made);
    assert_int_equal(wp_keypair_generate(path, &made), WP_E_EXISTS);
    assert_int_equal(wp_keypair_generate("/nonexistent/node.key", &made), WP_E_NOT_FOUND);
}

static void test_missing_file_is_named(void **state)
{
    (void)state;
    struct wp_keypair keys;
    char text[512] = "";
    unlink(path);
    assert_int_equal(wp_keypair_load(path, &keys, text, sizeof text), WP_E_NOT_FOUND);
    assert_non_null(strstr(text, path));
    assert_int_equal(wp_keypair_load(directory, &keys, text, sizeof text), WP_E_CONFIG);
    assert_non_null(strstr(text, "regular file"));
}

static void test_file_that_others_may_read_is_refused(void **state)
{
    (void)state;
    struct wp_keypair keys;
    char text[512] = "";
    unlink(path);
    assert_int_equal(wp_keypair_generate(path, &keys), WP_OK);
    static const mode_t modes[] = {0640, 0604, 0660, 0644};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(wp_keypair_load(path, &keys, text, sizeof text), WP_E_CONFIG);
        assert_non_null(strstr(text, "chmod 600"));
    }
}

static void test_damaged_files_are_refused(void **state)
{
    (void)state;
    struct wp_keypair a, b, loaded;
    char text[512], content[512];
    zmq_curve_keypair(a.public_text, a.secret_text);
    zmq_curve_keypair(b.public_text, b.secret_text);
    file_write("", 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_E_CONFIG);
    snprintf(content, sizeof content, "public: %s\n", a.public_text);
    file_write(content, 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_E_CONFIG);
    snprintf(content, sizeof content, "public: %s\nsecret: %.39s\n", a.public_text, a.secret_text);
    file_write(content, 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_E_CONFIG);
    snprintf(content, sizeof content, "public: %s\nsecret: \"\"\"\"\"%.35s\n", a.public_text, a.secret_text);
    file_write(content, 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_E_CONFIG);
    snprintf(content, sizeof content, "public: %s\nsecret: %s\n", a.public_text, b.secret_text);
    file_write(content, 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_E_CONFIG);
    assert_non_null(strstr(text, "does not belong"));
    snprintf(content, sizeof content, "public: %s\r\nsecret:    %s", a.public_text, a.secret_text);
    file_write(content, 0600);
    assert_int_equal(wp_keypair_load(path, &loaded, text, sizeof text), WP_OK);
    assert_string_equal(loaded.secret_text, a.secret_text);
}

static void test_allow_list_rows(void **state)
{
    (void)state;
    void *zmq;
    struct wp_zap *zap, *second;
    struct wp_keypair a, b;
    zmq_curve_keypair(a.public_text, a.secret_text);
    zmq_curve_keypair(b.public_text, b.secret_text);
    assert_int_equal(wp_fabric_context_create(&zmq), WP_OK);
    assert_int_equal(wp_zap_create(zmq, &zap), WP_OK);
    assert_int_equal(wp_zap_create(zmq, &second), WP_E_BUSY);

    uint64_t generation = wp_zap_generation(zap);
    assert_int_equal(wp_zap_allow(zap, a.public_text, "gateway-1", WP__ROLE__ROLE_GATEWAY), WP_OK);
    assert_true(wp_zap_generation(zap) > generation);
    assert_int_equal(wp_zap_allow(zap, a.public_text, "gateway-1", WP__ROLE__ROLE_GATEWAY), WP_OK);
    assert_int_equal(wp_zap_allow(zap, a.public_text, "gateway-1", WP__ROLE__ROLE_ROUTER), WP_E_EXISTS);
    assert_int_equal(wp_zap_allow(zap, a.public_text, "gateway-2", WP__ROLE__ROLE_GATEWAY), WP_E_EXISTS);
    assert_int_equal(wp_zap_allow(zap, "short", "gateway-2", WP__ROLE__ROLE_GATEWAY), WP_E_INVALID);
    assert_int_equal(wp_zap_allow(zap, b.public_text, "Gateway 2", WP__ROLE__ROLE_GATEWAY), WP_E_INVALID);
    assert_int_equal(wp_zap_allow(zap, b.public_text, "gateway-2", WP__ROLE__ROLE_NONE), WP_E_INVALID);

    Wp__Role role;
    char node[65], user_id[256];
    snprintf(user_id, sizeof user_id, "gateway:gateway-1:%s", a.public_text);
    assert_int_equal(wp_zap_check(zap, user_id, &role, node), WP_OK);
    assert_int_equal(role, WP__ROLE__ROLE_GATEWAY);
    assert_string_equal(node, "gateway-1");
    const char *const wrong[] = {"", "gateway", "gateway:gateway-1",
        "gateway:gateway-1:", "router:gateway-1:%s", "gateway:gateway-2:%s", "gateway:gateway:%s",
        "gate:gateway-1:%s"};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *key = strstr(wrong[i], "%s");
        snprintf(user_id, sizeof user_id, "%.*s%s", key ? (int)(key - wrong[i]) : 100, wrong[i],
            key ? a.public_text : "");
        assert_int_equal(wp_zap_check(zap, user_id, &role, node), WP_E_DENIED);
    }
    wp_zap_revoke(zap, b.public_text); /* not there */
    wp_zap_revoke(zap, a.public_text);
    snprintf(user_id, sizeof user_id, "gateway:gateway-1:%s", a.public_text);
    assert_int_equal(wp_zap_check(zap, user_id, &role, node), WP_E_DENIED);
    wp_zap_destroy(&zap);
    assert_null(zap);
    assert_int_equal(wp_zap_create(zmq, &zap), WP_OK); /* the place is free again */
    wp_zap_destroy(&zap);
    wp_fabric_context_destroy(&zmq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generated_pair_loads_again),
        cmocka_unit_test(test_missing_file_is_named),
        cmocka_unit_test(test_file_that_others_may_read_is_refused),
        cmocka_unit_test(test_damaged_files_are_refused),
        cmocka_unit_test(test_allow_list_rows),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
