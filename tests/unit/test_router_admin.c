/* The operator's requests against running reactors: what each answers, what is refused with which status,
 * many users at once, and what the status says. */
#include "tests/unit/router_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "proto/frame.h"
#include "router/reactor_router.h"

static void assert_refusal(struct router *router, int status, const char *slug, const char *method,
    const char *path, const char *body)
{
    json_t *answer = router_request(router, status, method, path, body);
    assert_string_equal(json_string_value(json_object_get(answer, "error")), slug);
    assert_true(strlen(json_string_value(json_object_get(answer, "message"))) > 10);
    json_decref(answer);
}

static void test_users_and_devices(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    json_t *answer = router_request(&router, 201, "POST", "/v1/users", "{\"user\":\"anna\"}");
    assert_int_equal(json_integer_value(json_object_get(answer, "shard")), router_shard(&router, "anna"));
    json_decref(answer);
    assert_refusal(&router, 409, "exists", "POST", "/v1/users", "{\"user\":\"anna\"}");

    answer = router_request(&router, 201, "POST", "/v1/users/anna/devices", "{\"device\":\"phone\"}");
    assert_string_equal(json_string_value(json_object_get(answer, "username")), "anna/phone");
    assert_int_equal(strlen(json_string_value(json_object_get(answer, "secret"))), 43);
    json_decref(answer);
    assert_refusal(&router, 409, "exists", "POST", "/v1/users/anna/devices", "{\"device\":\"phone\"}");
    assert_refusal(&router, 404, "not-found", "POST", "/v1/users/bob/devices", "{\"device\":\"phone\"}");
    assert_refusal(&router, 404, "not-found", "GET", "/v1/users/bob/devices", NULL);

    answer = router_request(&router, 200, "GET", "/v1/users/anna/devices", NULL);
    const json_t *device = json_array_get(json_object_get(answer, "devices"), 0);
    assert_string_equal(json_string_value(json_object_get(device, "device")), "phone");
    assert_false(json_is_true(json_object_get(device, "attached")));
    assert_false(json_is_true(json_object_get(device, "subscribed")));
    assert_int_equal(json_integer_value(json_object_get(device, "set_aside")), 0);
    assert_int_equal(json_object_size(json_object_get(device, "pending")), 3);
    json_decref(answer);

    json_decref(router_request(&router, 200, "DELETE", "/v1/users/anna/devices/phone", NULL));
    assert_refusal(&router, 404, "not-found", "DELETE", "/v1/users/anna/devices/phone", NULL);
    answer = router_request(&router, 200, "GET", "/v1/users/anna/devices", NULL);
    assert_int_equal(json_array_size(json_object_get(answer, "devices")), 0);
    json_decref(answer);
    router_down(&router);
    router_fini(&router);
}

static void test_a_user_has_so_many_devices_and_no_more(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    json_decref(router_request(&router, 201, "POST", "/v1/users", "{\"user\":\"anna\"}"));
    for (uint32_t i = 0; i <= WP_DEVICES_MAX; i++) {
        char body[64];
        snprintf(body, sizeof(body), "{\"device\":\"d%u\"}", i);
        json_decref(
            router_request(&router, i < WP_DEVICES_MAX ? 201 : 409, "POST", "/v1/users/anna/devices", body));
    }
    router_down(&router);
    router_fini(&router);
}

static void test_bad_requests_say_what_is_wrong(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    static const struct {
        int status;
        const char *method;
        const char *path;
        const char *body;
    } rows[] = {
        {400, "POST", "/v1/users", NULL},
        {400, "POST", "/v1/users", "nonsense"},
        {400, "POST", "/v1/users", "[1]"},
        {400, "POST", "/v1/users", "{\"user\":7}"},
        {400, "POST", "/v1/users", "{\"user\":\"Not A Name\"}"},
        {400, "POST", "/v1/users", "{\"user\":\"\"}"},
        {400, "POST", "/v1/users/UPPER/devices", "{\"device\":\"d\"}"},
        {400, "POST", "/v1/users/anna/devices", "{\"device\":\"a/b\"}"},
        {400, "DELETE", "/v1/users/anna/devices/A", NULL},
        {400, "POST", "/v1/provision", "{\"users\":7}"},
        {400, "POST", "/v1/provision", "{\"users\":[{\"user\":\"x\",\"devices\":[\"y\",\"Z\"]}]}"},
        {404, "GET", "/v1/nothing", NULL},
        {404, "PUT", "/v1/users", "{}"},
        {404, "GET", "/v1/users/anna", NULL},
        {404, "GET", "/v1/users/anna/devices/phone/more/still", NULL},
        {404, "GET", "/", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        json_t *answer = router_request(&router, rows[i].status, rows[i].method, rows[i].path, rows[i].body);
        assert_true(json_is_string(json_object_get(answer, "error")));
        assert_true(json_is_string(json_object_get(answer, "message")));
        json_decref(answer);
    }
    /* A refused batch did nothing. */
    json_t *answer = router_request(&router, 404, "GET", "/v1/users/x/devices", NULL);
    json_decref(answer);
    router_down(&router);
    router_fini(&router);
}

/* {"VERB":["0000...", ...]} with names as long as a name may be */
static char *many_members(const char *verb, uint32_t count)
{
    json_t *names = json_array();
    for (uint32_t i = 0; i < count; i++) {
        char name[WP_NAME_SIZE_MAX + 1];
        snprintf(name, sizeof(name), "%0*u", (int)WP_NAME_SIZE_MAX, i);
        json_array_append_new(names, json_string(name));
    }
    json_t *body = json_pack("{s:o}", verb, names);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    assert_non_null(text);
    return text;
}

/* A list that no entry of the log could hold is refused, and the router goes on. */
static void test_a_list_of_members_has_a_bound(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    json_decref(router_request(&router, 201, "POST", "/v1/teams", "{\"team\":\"icu\"}"));
    static const char *const verbs[] = {"add", "remove"};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
        char *body = many_members(verbs[i], 40000);
        assert_refusal(&router, 400, "too-large", "POST", "/v1/teams/icu/members", body);
        free(body);
        body = many_members(verbs[i], WP_TEAM_MEMBERS_MAX);
        json_decref(router_request(&router, 200, "POST", "/v1/teams/icu/members", body));
        free(body);
    }
    router_down(&router);
    router_fini(&router);
}

/* A command that no entry holds is refused to its proposer only. */
struct large_job {
    struct wp_reactor_job job; /* first */
    uint32_t shard;
    Wp__CommandTeamMemberAdd command;
    struct wp_answer answer;
    int error;
    bool done;
};

static void never_answered(struct wp_answer *answer, uint32_t item, int error)
{
    (void)answer;
    fail_msg("an answer %d to command %u, which was refused", error, item);
}

static void large_run(struct wp_reactor_job *job, struct wp_reactor *reactor)
{
    struct large_job *large = (struct large_job *)job;
    large->error = wp_reactor_propose(
        reactor, large->shard, WP_COMMAND_TEAM_MEMBER_ADD, &large->command.base, &large->answer, 0);
    __atomic_store_n(&large->done, true, __ATOMIC_RELEASE);
}

static void test_a_command_has_to_fit_into_an_entry(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    char *team = malloc(WP_ENTRY_SIZE_MAX + 1);
    assert_non_null(team);
    memset(team, 'a', WP_ENTRY_SIZE_MAX);
    team[WP_ENTRY_SIZE_MAX] = 0;
    struct large_job large = {.job.run = large_run, .shard = 1, .answer.answered = never_answered};
    wp__command_team_member_add__init(&large.command);
    large.command.team = team;
    assert_int_equal(wp_reactor_post(router.reactors[0], &large.job), WP_OK);
    uint64_t end_us = wp_clock_mono_us() + 5000000;
    while (!__atomic_load_n(&large.done, __ATOMIC_ACQUIRE)) {
        assert_true(wp_clock_mono_us() < end_us);
        usleep(1000);
    }
    assert_int_equal(large.error, WP_E_TOO_LARGE);
    json_decref(router_request(&router, 201, "POST", "/v1/users", "{\"user\":\"anna\"}"));
    free(team);
    router_down(&router);
    router_fini(&router);
}

/* A command that waits for a leader elsewhere is proposed here when that is where the leader is now. */
struct own_job {
    struct wp_reactor_job job; /* first */
    struct wp_answer answer;
    uint32_t shard;
    int error;
    bool done;
};

static void own_answered(struct wp_answer *answer, uint32_t item, int error)
{
    struct own_job *own = (struct own_job *)((char *)answer - offsetof(struct own_job, answer));
    own->error = item == 7 ? error : WP_E_INVALID;
    __atomic_store_n(&own->done, true, __ATOMIC_RELEASE);
}

static void own_run(struct wp_reactor_job *job, struct wp_reactor *reactor)
{
    struct own_job *own = (struct own_job *)job;
    Wp__CommandUserAdd command = WP__COMMAND_USER_ADD__INIT;
    char user[] = "anna";
    command.user = user;
    int error = wp_reactor_forward(reactor, own->shard, WP_COMMAND_USER_ADD, &command.base, &own->answer, 7);
    if (error) {
        own_answered(&own->answer, 7, error);
    }
}

static void test_a_forward_to_oneself_is_proposed(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    struct own_job own = {.job.run = own_run, .answer.answered = own_answered};
    own.shard = router_shard(&router, "anna");
    assert_int_equal(
        wp_reactor_post(router.reactors[(own.shard - 1) % router.reactor_count], &own.job), WP_OK);
    uint64_t end_us = wp_clock_mono_us() + 5000000;
    while (!__atomic_load_n(&own.done, __ATOMIC_ACQUIRE)) {
        assert_true(wp_clock_mono_us() < end_us);
        usleep(1000);
    }
    assert_int_equal(own.error, WP_OK);
    assert_refusal(&router, 409, "exists", "POST", "/v1/users", "{\"user\":\"anna\"}");
    router_down(&router);
    router_fini(&router);
}

/* {"users":[{"user":"u0","devices":["d"]}, ...]} */
static char *many_users(uint32_t count)
{
    json_t *users = json_array();
    for (uint32_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "u%u", i);
        json_array_append_new(users, json_pack("{s:s, s:[s]}", "user", name, "devices", "d"));
    }
    json_t *body = json_pack("{s:o}", "users", users);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    assert_non_null(text);
    return text;
}

static void test_ten_thousand_users_in_one_request(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct router router;
    struct gateway gateway;
    router_init(&router);
    router_up(&router);
    char *body = many_users(COUNT);
    uint64_t start_us = wp_clock_mono_us();
    json_t *answer = router_request(&router, 200, "POST", "/v1/provision", body);
    assert_true(wp_clock_mono_us() - start_us < 5000000);
    const json_t *devices = json_object_get(answer, "devices");
    assert_int_equal(json_array_size(devices), COUNT);
    assert_int_equal(json_array_size(json_object_get(answer, "errors")), 0);

    /* A secret from the list opens its device, another's does not. */
    char secret[64];
    char other[64];
    snprintf(secret, sizeof(secret), "%s",
        json_string_value(json_object_get(json_array_get(devices, 4711), "secret")));
    snprintf(other, sizeof(other), "%s",
        json_string_value(json_object_get(json_array_get(devices, 4712), "secret")));
    json_decref(answer);
    gateway_up(&gateway, &router);
    struct attach attach = {.user = "u4711", .device = "d", .secret = other, .session = 1};
    assert_int_equal(gateway_attach(&gateway, &attach)->error, WP_E_AUTH);
    attach.secret = secret;
    assert_int_equal(gateway_attach(&gateway, &attach)->error, WP_OK);
    gateway_down(&gateway);

    /* Once more: the users are fine as they are, the devices are told as errors and keep their secrets. */
    answer = router_request(&router, 200, "POST", "/v1/provision", body);
    assert_int_equal(json_array_size(json_object_get(answer, "devices")), 0);
    const json_t *errors = json_object_get(answer, "errors");
    assert_int_equal(json_array_size(errors), COUNT);
    assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 0), "username")), "u0/d");
    assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 0), "error")), "exists");
    json_decref(answer);
    free(body);
    router_down(&router);
    router_fini(&router);
}

static json_t *digest_of(struct router *router, uint32_t shard)
{
    char path[64];
    snprintf(path, sizeof(path), "/v1/shards/%u/digest", shard);
    return router_request(router, 200, "GET", path, NULL);
}

/* Equal rows give an equal digest, also after a restart; what is written changes it. */
static void test_a_digest_names_the_rows_of_a_shard(void **state)
{
    (void)state;
    struct router router;
    router_init(&router);
    router_up(&router);
    json_decref(router_request(&router, 201, "POST", "/v1/users", "{\"user\":\"anna\"}"));
    uint32_t shard = router_shard(&router, "anna");
    json_t *before = digest_of(&router, shard);
    assert_true(json_integer_value(json_object_get(before, "rows")) > 0);
    router_down(&router);
    router_up(&router);
    json_t *again = digest_of(&router, shard);
    assert_string_equal(json_string_value(json_object_get(again, "digest")),
        json_string_value(json_object_get(before, "digest")));
    json_decref(router_request(&router, 201, "POST", "/v1/users/anna/devices", "{\"device\":\"phone\"}"));
    json_t *after = digest_of(&router, shard);
    assert_true(json_integer_value(json_object_get(after, "applied")) >
                json_integer_value(json_object_get(again, "applied")));
    assert_string_not_equal(json_string_value(json_object_get(after, "digest")),
        json_string_value(json_object_get(again, "digest")));
    json_decref(before);
    json_decref(again);
    json_decref(after);
    assert_refusal(&router, 404, "not-found", "GET", "/v1/shards/99/digest", NULL);
    router_down(&router);
    router_fini(&router);
}

static void test_status_counts_and_survives_a_restart(void **state)
{
    (void)state;
    struct router router;
    struct gateway gateway;
    char secret[64];
    router_init(&router);
    router_up(&router);
    router_device(&router, "anna", "phone", secret);
    gateway_up(&gateway, &router);
    struct attach attach = {.user = "anna", .device = "phone", .secret = secret, .session = 1};
    gateway_join(&gateway, &attach);
    for (int boot = 1; boot <= 2; boot++) {
        json_t *answer = router_request(&router, 200, "GET", "/v1/status", NULL);
        assert_string_equal(json_string_value(json_object_get(answer, "node")), "router-1");
        assert_int_equal(json_integer_value(json_object_get(answer, "boot")), boot);
        assert_true(json_is_true(json_object_get(answer, "ready")));
        const json_t *shards = json_object_get(answer, "shards");
        assert_int_equal(json_array_size(shards), router.shard_count);
        int users = 0;
        for (uint32_t i = 0; i < router.shard_count; i++) {
            const json_t *shard = json_array_get(shards, i);
            assert_int_equal(json_integer_value(json_object_get(shard, "shard")), i + 1);
            assert_string_equal(json_string_value(json_object_get(shard, "role")), "leader");
            assert_true(json_integer_value(json_object_get(shard, "applied")) > 0);
            users += (int)json_integer_value(json_object_get(shard, "users"));
        }
        assert_int_equal(users, 1);
        assert_true(json_integer_value(json_object_get(json_object_get(answer, "disk"), "free_bytes")) > 0);
        const json_t *gateways = json_array_get(json_object_get(answer, "gateways"), 0);
        assert_string_equal(json_string_value(json_object_get(gateways, "node")), "gateway-1");
        assert_int_equal(json_is_true(json_object_get(gateways, "up")), boot == 1);
        json_decref(answer);
        if (boot == 1) {
            answer = router_request(&router, 200, "GET", "/v1/users/anna/devices", NULL);
            const json_t *device = json_array_get(json_object_get(answer, "devices"), 0);
            assert_true(json_is_true(json_object_get(device, "attached")));
            assert_true(json_is_true(json_object_get(device, "subscribed")));
            assert_int_equal(json_integer_value(json_object_get(device, "epoch")), 1);
            json_decref(answer);
            gateway_down(&gateway);
            router_down(&router);
            router_up(&router);
        }
    }
    router_down(&router);
    router_fini(&router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users_and_devices),
        cmocka_unit_test(test_a_user_has_so_many_devices_and_no_more),
        cmocka_unit_test(test_bad_requests_say_what_is_wrong),
        cmocka_unit_test(test_a_list_of_members_has_a_bound),
        cmocka_unit_test(test_a_command_has_to_fit_into_an_entry),
        cmocka_unit_test(test_a_forward_to_oneself_is_proposed),
        cmocka_unit_test(test_ten_thousand_users_in_one_request),
        cmocka_unit_test(test_a_digest_names_the_rows_of_a_shard),
        cmocka_unit_test(test_status_counts_and_survives_a_restart),
    };
    cmocka_set_test_filter(getenv("WP_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
