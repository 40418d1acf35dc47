/* Configuration files: what loads, and what each mistake is told, with its line. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "node/config.h"
#include "node/config_guard.h"

#define KEY "'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID'"
#define KEY_2 "'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7'"
#define CLUSTER "cluster:\n  id: 00c0ffee00c0ffee\n  key_file: c.key\n"
#define ROUTER "node: router-1\ndata: d\n" CLUSTER "fabric:\n  key_file: r.key\n"
#define ROUTERS "routers:\n  - node: router-1\n    endpoint: tcp://127.0.0.1:7401\n    key: " KEY "\n"
#define GATEWAY_HEAD "node: gateway-1\ncluster_id: 00c0ffee00c0ffee\nfabric_key_file: g.key\n"
#define GATEWAY GATEWAY_HEAD ROUTERS

static int router_parse(
    const char *content, struct wp_router_config **ret_config, char *text, size_t text_size)
{
    return wp_router_config_parse(content, strlen(content), "r.yaml", ret_config, text, text_size);
}

static int gateway_parse(
    const char *content, struct wp_gateway_config **ret_config, char *text, size_t text_size)
{
    return wp_gateway_config_parse(content, strlen(content), "g.yaml", ret_config, text, text_size);
}

static void test_router_defaults(void **state)
{
    (void)state;
    struct wp_router_config *config = NULL;
    char text[512] = "";
    assert_int_equal(router_parse(ROUTER, &config, text, sizeof text), WP_OK);
    assert_string_equal(config->node, "router-1");
    assert_string_equal(config->log_level, "info");
    assert_int_equal(config->cluster.shards, 64);
    assert_int_equal(config->reactors, 1);
    assert_string_equal(config->fabric.host, "127.0.0.1");
    assert_int_equal(config->fabric.port, 7401);
    assert_int_equal(config->fabric.allow_count, 0);
    assert_string_equal(config->management.address, "");
    assert_int_equal(config->storage.disk_reserve_bytes, 0);
    assert_false(config->storage.allow_volatile);
    assert_int_equal(config->limits.mailbox_messages_max, 10000);
    assert_int_equal(config->limits.mailbox_bytes_max, 64 << 20);
    assert_int_equal(config->limits.body_bytes_max, 1 << 20);
    assert_int_equal(config->limits.ttl_default_s, 7 * 86400);
    assert_int_equal(config->limits.ttl_max_s, 30 * 86400);
    assert_int_equal(config->limits.delivery_timeout_ms, 30000);
    wp_router_config_free(&config);
    assert_null(config);
    wp_router_config_free(&config); /* allowed */
}

static void test_router_everything_set(void **state)
{
    (void)state;
    struct wp_router_config *config = NULL;
    char text[512] = "";
    const char *content =
        "%YAML 1.1\n---\n# a comment\n" ROUTER "  host: 0.0.0.0\n  port: 65530\n  allow:\n"
        "    - {node: gateway-1, role: gateway, key: " KEY "}\n"
        "    - node: \"router-2\"\n      role: router\n      key: " KEY_2 "\n"
        "reactors: 4\nlog_level: debug\nmanagement:\n  address: '[::1]:0'\n  socket: /run/r.sock\n"
        "storage:\n  allow_volatile: true\n  disk_reserve_bytes: 268435456\nlimits: {ttl_max_s: 604800}\n";
    assert_int_equal(router_parse(content, &config, text, sizeof text), WP_OK);
    assert_int_equal(config->fabric.allow_count, 2);
    assert_string_equal(config->fabric.allow[0].node, "gateway-1");
    assert_string_equal(config->fabric.allow[1].role, "router");
    assert_string_equal(config->fabric.allow[1].key, "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7");
    assert_int_equal(config->reactors, 4);
    assert_true(config->storage.allow_volatile);
    assert_int_equal(config->storage.disk_reserve_bytes, 268435456);
    assert_string_equal(config->management.socket, "/run/r.sock");
    wp_router_config_free(&config);
}

static void test_gateway_loads(void **state)
{
    (void)state;
    struct wp_gateway_config *config = NULL;
    char text[512] = "";
    assert_int_equal(
        gateway_parse(GATEWAY "listen:\n  mqtt: localhost:1883\n  mqtts: '[::]:8883'\n  wss: 0.0.0.0:8443\n"
                              "tls:\n  certificate: a.pem\n  key: b.pem\nlimits:\n  window: 7\n",
            &config, text, sizeof text),
        WP_OK);
    assert_int_equal(config->router_count, 1);
    assert_string_equal(config->routers[0].endpoint, "tcp://127.0.0.1:7401");
    assert_string_equal(config->listen.mqtts, "[::]:8883");
    assert_string_equal(config->listen.ws, "");
    assert_int_equal(config->limits.window, 7);
    assert_int_equal(config->limits.receive_maximum, 64);
    assert_int_equal(config->limits.connections_max, 20000);
    wp_gateway_config_free(&config);
}

struct mistake {
    const char *content;
    const char *said; /* how the message begins */
};

static void test_mistakes_of_a_router(void **state)
{
    (void)state;
    static const struct mistake mistakes[] = {
        {"", "r.yaml:1: the file is empty"},
        {"# only a comment\n", "r.yaml:1: the file is empty"},
        {"- a\n- b\n", "r.yaml:1: the file must consist of keys with values"},
        {"hello", "r.yaml:1: the file must consist of keys with values"},
        {"node: [\n", "r.yaml:1: \"node\" must be a single value"},
        {ROUTER "nodes: x\n", "r.yaml:8: unknown key \"nodes\"; did you mean \"node\"?"},
        {ROUTER "  prot: 1\n", "r.yaml:8: unknown key \"prot\" in \"fabric\"; did you mean \"port\"?"},
        {ROUTER "fabirc:\n  port: 1\n", "r.yaml:8: unknown key \"fabirc\"; did you mean \"fabric\"?"},
        {ROUTER "port: 1\n", "r.yaml:8: unknown key \"port\"; it belongs under \"fabric\""},
        {ROUTER "  log_level: info\n",
            "r.yaml:8: unknown key \"log_level\" in \"fabric\"; it belongs at the top of the file"},
        {ROUTER "management:\n  colour: red\n",
            "r.yaml:9: unknown key \"colour\" in \"management\"; known keys: address, socket"},
        {ROUTER "zzzzzzzzzzzz: 1\n", "r.yaml:8: unknown key \"zzzzzzzzzzzz\"; known keys: node, log_level, "
                                     "data, reactors, cluster, fabric, management, "
                                     "storage, limits"},
        {ROUTER "  port: 70000\n", "r.yaml:8: \"port\" must be a number from 1 to 65535, not \"70000\""},
        {ROUTER "  port: 0\n", "r.yaml:8: \"port\" must be a number from 1 to 65535, not \"0\""},
        {ROUTER "  port: -1\n", "r.yaml:8: \"port\" must be a number from 1 to 65535, not \"-1\""},
        {ROUTER "  port: 0x10\n", "r.yaml:8: \"port\" must be a number"},
        {ROUTER "  port: 0755\n", "r.yaml:8: \"port\" must be a number"},
        {ROUTER "  port: 18446744073709551617\n", "r.yaml:8: \"port\" must be a number"},
        {ROUTER "  port: many\n", "r.yaml:8: \"port\" must be a number"},
        {ROUTER "  port:\n", "r.yaml:8: \"port\" must be a number from 1 to 65535, not \"\""},
        {ROUTER "  port: [1]\n", "r.yaml:8: \"port\" must be a single value"},
        {ROUTER "  port: 1\n  port: 2\n", "r.yaml:9: \"port\" stands twice; first in line 8"},
        {ROUTER "cluster:\n  shards: 8\n", "r.yaml:8: \"cluster\" stands twice"},
        {ROUTER "  host: example.org\n",
            "r.yaml:8: \"host\" must be an IPv4 address of this machine, not \"example.org\""},
        {ROUTER "  port: 65535\nreactors: 2\n", "r.yaml:8: \"port\" 65535 leaves no room for 2 reactors"},
        {ROUTER "  allow: gateway-1\n", "r.yaml:8: \"allow\" must be a list"},
        {ROUTER "  allow:\n    - gateway-1\n", "r.yaml:9: an item of \"allow\" must be keys with values"},
        {ROUTER "  allow:\n    - node: gateway-1\n      role: gateway\n",
            "r.yaml:9: key \"key\" is missing in this item of \"allow\": its public CURVE key"},
        {ROUTER "  allow:\n    - node: gateway-1\n      rolle: gateway\n",
            "r.yaml:10: unknown key \"rolle\" in \"allow\"; did you mean \"role\"?"},
        {ROUTER "  allow:\n    - {node: a, node: b}\n",
            "r.yaml:9: \"node\" stands twice in one item of \"allow\""},
        {ROUTER "  allow:\n    - {node: g, role: boss, key: " KEY "}\n",
            "r.yaml:9: \"role\" must be gateway or router, not \"boss\""},
        {ROUTER "  allow:\n    - {node: G, role: gateway, key: " KEY "}\n",
            "r.yaml:9: \"node\" may hold a to z"},
        {ROUTER "  allow:\n    - {node: g, role: gateway, key: abc}\n",
            "r.yaml:9: \"key\" must be 40 characters long, not 3"},
        {ROUTER "  allow:\n    - {node: g, role: gateway, key: "
                "'\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"'}\n",
            "r.yaml:9: \"key\" is no public CURVE key"},
        {ROUTER "  allow:\n    - {node: g, role: gateway, key: " KEY
                "}\n    - {node: h, role: gateway, key: " KEY "}\n",
            "r.yaml:10: the key of \"h\" is also that of \"g\" in line 9"},
        {ROUTER "log_level: verbose\n", "r.yaml:8: \"log_level\" must be 1 to 5 characters long, not 7"},
        {ROUTER "log_level: loud\n",
            "r.yaml:8: \"log_level\" must be debug, info, warn or error, not \"loud\""},
        {ROUTER "storage:\n  allow_volatile: maybe\n",
            "r.yaml:9: \"allow_volatile\" must be true or false, not \"maybe\""},
        {ROUTER "storage:\n  allow_volatile: yes\n",
            "r.yaml:9: \"allow_volatile\" must be true or false, not \"yes\""},
        {ROUTER "storage: 1\n", "r.yaml:8: \"storage\" must be a section"},
        {ROUTER "management:\n  address: 0.0.0.0:80\n",
            "r.yaml:9: \"address\" must be 127.x.y.z:PORT or [::1]:PORT, not \"0.0.0.0:80\""},
        {ROUTER "management:\n  address: '127.0.0.1'\n", "r.yaml:9: \"address\" must be"},
        {ROUTER "limits:\n  ttl_default_s: 100\n  ttl_max_s: 99\n",
            "r.yaml:9: \"ttl_default_s\" is 100, over \"ttl_max_s\" (99)"},
        {ROUTER "limits:\n  mailbox_bytes_max: 65536\n",
            "r.yaml:9: \"mailbox_bytes_max\" is 65536, less than one body"},
        {"node: a\ndata: d\nfabric:\n  key_file: r.key\n",
            "r.yaml:1: key \"cluster.id\" is missing: identifier of the cluster"},
        {"data: d\n" CLUSTER, "r.yaml:1: key \"node\" is missing: name of this router"},
        {"node: ''\n", "r.yaml:1: \"node\" is empty: name of this router"},
        {"node: \"a\\tb\"\n", "r.yaml:1: control characters are not allowed in a value"},
        {"node: \"a\\0b\"\n", "r.yaml:1: control characters are not allowed in a value"},
        {"node: A b\ndata: d\n" CLUSTER "fabric:\n  key_file: r\n", "r.yaml:1: \"node\" may hold a to z"},
        {"node: a\ncluster:\n  id: 00C0FFEE00C0FFEE\n  key_file: k\nfabric:\n  key_file: r\ndata: d\n",
            "r.yaml:3: \"id\" must be 16 hex digits in lower case, not \"00C0FFEE00C0FFEE\""},
        {"node: a\ncluster:\n  id: 12\n", "r.yaml:3: \"id\" must be 16 characters long, not 2"},
        {"node: a\ncluster:\n  id: 00c0ffee00c0ffee\n  shards: 12\n  key_file: k\nfabric:\n  key_file: "
         "r\ndata: d\n",
            "r.yaml:4: \"shards\" must be a power of two (1, 2, 4 ... 4096), not 12"},
        {"node: &name a\n", "r.yaml:1: anchors, aliases and tags are not used here"},
        {"node: !!str a\n", "r.yaml:1: anchors, aliases and tags are not used here"},
        {"node: *name\n", "r.yaml:1: anchors, aliases and tags are not used here"},
        {"? [a]\n: b\n", "r.yaml:1: a key must be a single word"},
        {"node: a\n\tdata: b\n", "r.yaml:2: not valid YAML: "},
        {"node: 'a\ndata: b\n", "r.yaml:3: not valid YAML: "},
        {"node: a\ndata: \xff\n", "r.yaml:2: not valid YAML: "},
        {ROUTER "---\nnode: b\n", "r.yaml:8: a second document begins here; one is enough"},
        {"node: a\nnode: b\n", "r.yaml:2: \"node\" stands twice; first in line 1"},
    };
    for (unsigned i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct wp_router_config *config = NULL;
        char text[512] = "";
        assert_int_equal(router_parse(mistakes[i].content, &config, text, sizeof text), WP_E_CONFIG);
        assert_null(config);
        if (strncmp(text, mistakes[i].said, strlen(mistakes[i].said)) != 0) {
            fail_msg("mistake %u: said \"%s\" instead of \"%s\"", i, text, mistakes[i].said);
        }
    }
}

static void test_mistakes_of_a_gateway(void **state)
{
    (void)state;
    static const struct mistake mistakes[] = {
        {GATEWAY, "g.yaml:1: no device could connect: set at least one of listen.mqtts, wss, mqtt, ws"},
        {GATEWAY_HEAD, "g.yaml:1: key \"routers\" is missing: routers of the cluster"},
        {GATEWAY_HEAD "routers: []\n", "g.yaml:4: \"routers\" is empty: name at least one"},
        {GATEWAY_HEAD "routers:\n  - {node: r, endpoint: 'udp://a:1', key: " KEY "}\n",
            "g.yaml:5: \"endpoint\" must be tcp://HOST:PORT, not \"udp://a:1\""},
        {GATEWAY_HEAD "routers:\n  - {node: r, endpoint: 'tcp://a:0', key: " KEY "}\n",
            "g.yaml:5: \"endpoint\" must be"},
        {GATEWAY_HEAD "routers:\n  - {node: r, endpoint: 'tcp://:1', key: " KEY "}\n",
            "g.yaml:5: \"endpoint\" must be"},
        {GATEWAY_HEAD "routers:\n  - {node: r, endpoint: 'tcp://a:1', key: " KEY
                      "}\n  - {node: r, endpoint: 'tcp://b:1', key: " KEY_2 "}\n",
            "g.yaml:6: router \"r\" stands twice; first in line 5"},
        {GATEWAY "listen:\n  mqtt: 0.0.0.0:1883\n", "g.yaml:9: \"mqtt\" is not encrypted and may listen on "
                                                    "loopback only, not on \"0.0.0.0\": use \"mqtts\""},
        {GATEWAY "listen:\n  ws: '[::]:80'\n", "g.yaml:9: \"ws\" is not encrypted"},
        {GATEWAY "listen:\n  ws: '::1:80'\n", "g.yaml:9: \"ws\" must be HOST:PORT, not \"::1:80\""},
        {GATEWAY "listen:\n  mqtt: '1883'\n", "g.yaml:9: \"mqtt\" must be HOST:PORT, not \"1883\""},
        {GATEWAY "listen:\n  mqtt: 127.0.0.1:99999\n", "g.yaml:9: \"mqtt\" must be HOST:PORT"},
        {GATEWAY "listen:\n  mqtts: 0.0.0.0:8883\n", "g.yaml:9: \"mqtts\" needs tls.certificate and tls.key"},
        {GATEWAY "listen:\n  wss: 0.0.0.0:8883\ntls:\n  key: k\n",
            "g.yaml:9: \"wss\" needs tls.certificate and tls.key"},
        {GATEWAY "listen:\n  mqqt: 1\n",
            "g.yaml:9: unknown key \"mqqt\" in \"listen\"; did you mean \"mqtt\"?"},
        {GATEWAY "limits:\n  window: 1025\n",
            "g.yaml:9: \"window\" must be a number from 1 to 1024, not \"1025\""},
    };
    for (unsigned i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct wp_gateway_config *config = NULL;
        char text[512] = "";
        assert_int_equal(gateway_parse(mistakes[i].content, &config, text, sizeof text), WP_E_CONFIG);
        assert_null(config);
        if (strncmp(text, mistakes[i].said, strlen(mistakes[i].said)) != 0) {
            fail_msg("mistake %u: said \"%s\" instead of \"%s\"", i, text, mistakes[i].said);
        }
    }
}

static void test_bounds_of_the_file(void **state)
{
    (void)state;
    struct wp_router_config *config = NULL;
    char text[512] = "", small[16] = "";
    size_t size = WP_CONFIG_SIZE_MAX + 1;
    char *large = malloc(size);
    memset(large, '#', size);
    assert_int_equal(wp_router_config_parse(large, size, "r.yaml", &config, text, sizeof text), WP_E_CONFIG);
    assert_string_equal(text, "r.yaml:1: the file is larger than 256 KiB");

    memset(large, '[', size);
    assert_int_equal(
        wp_router_config_parse(large, size - 1, "r.yaml", &config, text, sizeof text), WP_E_CONFIG);
    assert_string_equal(text, "r.yaml:1: the file must consist of keys with values");
    free(large);

    assert_int_equal(
        router_parse("nodes: 1\n", &config, small, sizeof small), WP_E_CONFIG); /* cut, never overrun */
    assert_string_equal(small, "r.yaml:1: unkno");
}

static void test_load_names_the_file(void **state)
{
    (void)state;
    struct wp_router_config *router = NULL;
    struct wp_gateway_config *gateway = NULL;
    char text[512] = "", path[] = "/tmp/wp-config-XXXXXX";
    assert_int_equal(
        wp_router_config_load("/nonexistent/r.yaml", &router, text, sizeof text), WP_E_NOT_FOUND);
    assert_string_equal(text, "cannot read configuration \"/nonexistent/r.yaml\": No such file or directory");
    assert_int_equal(wp_gateway_config_load("/", &gateway, text, sizeof text), WP_E_NOT_FOUND);
    assert_string_equal(text, "cannot read configuration \"/\": Is a directory");

    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, ROUTER, sizeof ROUTER - 1), sizeof ROUTER - 1);
    close(fd);
    assert_int_equal(wp_router_config_load(path, &router, text, sizeof text), WP_OK);
    wp_router_config_free(&router);
    assert_int_equal(wp_gateway_config_load(path, &gateway, text, sizeof text), WP_E_CONFIG);
    assert_memory_equal(text, path, strlen(path));
    unlink(path);
}

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(wp_config_distance("port", "port"), 0);
    assert_int_equal(wp_config_distance("prot", "port"), 1); /* swapped neighbours */
    assert_int_equal(wp_config_distance("", "port"), 4);
    assert_int_equal(wp_config_distance("kitten", "sitting"), 3);
    assert_int_equal(wp_config_distance("shard", "shards"), 1);
    assert_int_equal(wp_config_distance("ca", "abc"), 3);
}

/* The examples in the documentation are configurations that load. */
static void test_documented_examples_load(void **state)
{
    (void)state;
    FILE *file = fopen(WP_DOC_CONFIGURATION, "r");
    assert_non_null(file);
    static char page[128 * 1024];
    size_t size = fread(page, 1, sizeof page - 1, file);
    fclose(file);
    assert_true(size > 1000);
    unsigned count = 0;
    for (char *at = strstr(page, "```yaml\n"); at; at = strstr(at, "```yaml\n")) {
        char *begin = at + 8, *end = strstr(begin, "```"), text[512] = "";
        struct wp_router_config *router = NULL;
        struct wp_gateway_config *gateway = NULL;
        assert_non_null(end);
        int error = count == 0 ? wp_router_config_parse(
                                     begin, (size_t)(end - begin), "example", &router, text, sizeof text)
                               : wp_gateway_config_parse(
                                     begin, (size_t)(end - begin), "example", &gateway, text, sizeof text);
        assert_int_equal(error, WP_OK);
        wp_router_config_free(&router);
        wp_gateway_config_free(&gateway);
        at = end + 3;
        count++;
    }
    assert_int_equal(count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_router_defaults),
        cmocka_unit_test(test_router_everything_set),
        cmocka_unit_test(test_gateway_loads),
        cmocka_unit_test(test_mistakes_of_a_router),
        cmocka_unit_test(test_mistakes_of_a_gateway),
        cmocka_unit_test(test_bounds_of_the_file),
        cmocka_unit_test(test_load_names_the_file),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_documented_examples_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
