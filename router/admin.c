/* Which request is what, and the form of every answer. */
#include "router/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "router/admin_state.h"

#define WAIT_S_MAX 5
#define USERS_LIMIT_DEFAULT 1000u
#define USERS_LIMIT_MAX 10000u

int wp_admin_create(const struct wp_admin_config *config, struct wp_admin **ret_admin)
{
    struct wp_admin *admin = calloc(1, sizeof(*admin));
    if (!admin) {
        return WP_E_NOMEM;
    }
    admin->config = *config;
    admin->started_ms = wp_clock_boot_ms();
    *ret_admin = admin;
    return WP_OK;
}

void wp_admin_destroy(struct wp_admin **admin)
{
    free(*admin);
    *admin = NULL;
}

/* --- tasks -------------------------------------------------------------------------------------------------
 */

struct admin_task *admin_task_create(struct wp_admin *admin,
    void (*run)(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index),
    void (*free_data)(struct admin_task *task), void *data)
{
    struct admin_task *task = calloc(1, sizeof(*task));
    if (!task) {
        return NULL;
    }
    pthread_mutex_init(&task->guard, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&task->finished, &monotonic);
    pthread_condattr_destroy(&monotonic);
    task->references = 1;
    task->admin = admin;
    task->run = run;
    task->free_data = free_data;
    task->data = data;
    return task;
}

void admin_task_release(struct admin_task *task)
{
    pthread_mutex_lock(&task->guard);
    bool last = --task->references == 0;
    pthread_mutex_unlock(&task->guard);
    if (last) {
        task->free_data(task);
        pthread_mutex_destroy(&task->guard);
        pthread_cond_destroy(&task->finished);
        free(task);
    }
}

void admin_job_finish(struct admin_task *task)
{
    pthread_mutex_lock(&task->guard);
    if (--task->pending == 0) {
        pthread_cond_signal(&task->finished);
    }
    pthread_mutex_unlock(&task->guard);
    admin_task_release(task);
}

struct task_job {
    struct wp_reactor_job job;
    struct admin_task *task;
    uint32_t reactor_index;
};

static void task_job_run(struct wp_reactor_job *base, struct wp_reactor *reactor)
{
    struct task_job *job = (struct task_job *)base;
    job->task->run(job->task, reactor, job->reactor_index);
    free(job);
}

static int task_post(struct admin_task *task, uint32_t reactor_index)
{
    struct task_job *job = calloc(1, sizeof(*job));
    if (!job) {
        return WP_E_NOMEM;
    }
    job->job.run = task_job_run;
    job->task = task;
    job->reactor_index = reactor_index;
    pthread_mutex_lock(&task->guard);
    task->references++;
    task->pending++;
    pthread_mutex_unlock(&task->guard);
    int error = wp_reactor_post(task->admin->config.reactors[reactor_index], &job->job);
    if (error) {
        free(job);
        admin_job_finish(task);
    }
    return error;
}

int admin_task_perform(struct admin_task *task, uint64_t reactor_bits)
{
    int error = WP_OK;
    for (uint32_t i = 0; i < task->admin->config.reactor_count && !error; i++) {
        error = reactor_bits & (UINT64_C(1) << i) ? task_post(task, i) : WP_OK;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S_MAX;
    pthread_mutex_lock(&task->guard);
    int waited = 0;
    while (task->pending > 0 && waited == 0) {
        waited = pthread_cond_timedwait(&task->finished, &task->guard, &until);
    }
    bool finished = task->pending == 0;
    pthread_mutex_unlock(&task->guard);
    return error ? WP_E_UNAVAILABLE : finished ? WP_OK : WP_E_TIMEOUT;
}

/* --- answers -----------------------------------------------------------------------------------------------
 */

struct admin_answer admin_ok(int status, json_t *body)
{
    return body ? (struct admin_answer){status, body} : admin_refusal(WP_E_NOMEM, "out of memory");
}

static int status_of(int error)
{
    static const struct {
        int error;
        int status;
    } rows[] = {{WP_E_INVALID, 400}, {WP_E_MALFORMED, 400}, {WP_E_NOT_FOUND, 404},
        {WP_E_UNKNOWN_RECIPIENT, 404}, {WP_E_EXISTS, 409}, {WP_E_FULL, 409}, {WP_E_TOO_LARGE, 400},
        {WP_E_NOT_LEADER, 421}, {WP_E_DENIED, 409}, {WP_E_BUSY, 409}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (rows[i].error == error) {
            return rows[i].status;
        }
    }
    return 503;
}

struct admin_answer admin_refusal(int error, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    json_t *body = json_pack("{s:s, s:s}", "error", wp_error_slug(error), "message", message);
    return (struct admin_answer){status_of(error), body};
}

struct admin_answer admin_task_refusal(int error)
{
    return error == WP_E_TIMEOUT
               ? admin_refusal(error, "the router did not answer within 5 seconds; it may still do it")
               : admin_refusal(error, "the router takes no requests now, try again");
}

/* --- routes ------------------------------------------------------------------------------------------------
 */

enum { PARTS_MAX = 6 };

/* "/v1/users/u/devices" -> {"v1", "users", "u", "devices"}; 0 when it is no path of ours. */
static size_t path_split(const char *path, char *copy, size_t copy_size, const char *parts[PARTS_MAX])
{
    size_t size = strlen(path);
    size_t count = 0;
    if (size >= copy_size || path[0] != '/') {
        return 0;
    }
    memcpy(copy, path, size + 1);
    char *save = NULL;
    for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (count == PARTS_MAX) {
            return 0;
        }
        parts[count++] = part;
    }
    return count;
}

static struct admin_answer name_refusal(const char *what, const char *name)
{
    return admin_refusal(
        WP_E_INVALID, "\"%.80s\" is no name of a %s: use 1 to 64 of a-z 0-9 . _ -", name, what);
}

/* A member of the request's body that must be a valid name; NULL when it is not. */
static const char *body_name(const json_t *body, const char *member)
{
    const char *name = json_string_value(json_object_get(body, member));
    return name && wp_address_valid(name) ? name : NULL;
}

/* ?replica=any: what this router holds will do. */
static bool any_replica(const struct wp_management_request *request)
{
    const char *replica = wp_management_argument(request, "replica");
    return replica && !strcmp(replica, "any");
}

static struct admin_answer users_get(struct wp_admin *admin, const struct wp_management_request *request)
{
    const char *after = wp_management_argument(request, "after");
    const char *limit = wp_management_argument(request, "limit");
    unsigned long count = USERS_LIMIT_DEFAULT;
    if (limit) {
        char *end;
        count = strtoul(limit, &end, 10);
        if (*end || count < 1 || count > USERS_LIMIT_MAX) {
            return admin_refusal(WP_E_INVALID, "\"limit\" must be a number from 1 to %u", USERS_LIMIT_MAX);
        }
    }
    if (after && after[0] && !wp_address_valid(after)) {
        return name_refusal("user", after);
    }
    return admin_users(admin, after ? after : "", (uint32_t)count, any_replica(request));
}

static struct admin_answer route_user(struct wp_admin *admin, const struct wp_management_request *request,
    const char *const *parts, size_t count, const json_t *body)
{
    const char *user = parts[2];
    if (!wp_address_valid(user)) {
        return name_refusal("user", user);
    }
    if (count == 4 && !strcmp(parts[3], "devices") && !strcmp(request->method, "GET")) {
        return admin_devices(admin, user, any_replica(request));
    }
    if (count == 4 && !strcmp(parts[3], "devices") && !strcmp(request->method, "POST")) {
        const char *device = body_name(body, "device");
        const json_t *oldest = json_object_get(body, "from_oldest");
        enum device_from from = !json_is_boolean(oldest) ? DEVICE_FROM_POLICY
                                : json_is_true(oldest)   ? DEVICE_FROM_OLDEST
                                                         : DEVICE_FROM_NOW;
        return device ? admin_device_add(admin, user, device, from)
                      : admin_refusal(WP_E_INVALID, "the body must be {\"device\": NAME} with a valid name");
    }
    if (count == 5 && !strcmp(parts[3], "devices") && !strcmp(request->method, "DELETE")) {
        return wp_address_valid(parts[4]) ? admin_device_remove(admin, user, parts[4])
                                          : name_refusal("device", parts[4]);
    }
    return admin_refusal(WP_E_NOT_FOUND, "there is no request %s %.200s", request->method, request->path);
}

static struct admin_answer route_shard(struct wp_admin *admin, const struct wp_management_request *request,
    const char *const *parts, const json_t *body)
{
    char *end;
    unsigned long shard = strtoul(parts[2], &end, 10);
    if (*end || shard < 1 || shard > admin->config.shard_count) {
        return admin_refusal(WP_E_NOT_FOUND, "there is no shard \"%.20s\": they are 1 to %u", parts[2],
            admin->config.shard_count);
    }
    bool post = !strcmp(request->method, "POST");
    if (!strcmp(request->method, "GET") && !strcmp(parts[3], "digest")) {
        return admin_shard_digest(admin, (uint32_t)shard);
    }
    if (post && !strcmp(parts[3], "move")) {
        return admin_shard_move(admin, (uint32_t)shard, body);
    }
    if (!post || strcmp(parts[3], "transfer")) {
        return admin_refusal(WP_E_NOT_FOUND, "there is no request %s %.200s", request->method, request->path);
    }
    const char *to = body_name(body, "to");
    return to ? admin_shard_transfer(admin, (uint32_t)shard, to)
              : admin_refusal(WP_E_INVALID, "the body must be {\"to\": NODE} with the name of a node");
}

static struct admin_answer route(
    struct wp_admin *admin, const struct wp_management_request *request, const json_t *body)
{
    char copy[512];
    const char *parts[PARTS_MAX];
    size_t count = path_split(request->path, copy, sizeof(copy), parts);
    bool get = !strcmp(request->method, "GET");
    bool post = !strcmp(request->method, "POST");
    if (count == 2 && get && !strcmp(parts[1], "status")) {
        return admin_status(admin);
    }
    if (count == 2 && get && !strcmp(parts[1], "cluster")) {
        return admin_cluster(admin);
    }
    if (count == 3 && post && !strcmp(parts[1], "cluster") && !strcmp(parts[2], "upgrade")) {
        return admin_upgrade(admin);
    }
    if (count == 4 && !strcmp(parts[1], "shards")) {
        return route_shard(admin, request, parts, body);
    }
    if ((count == 2 || count == 4) && (!strcmp(parts[1], "nodes") || !strcmp(parts[1], "gateways"))) {
        const char *name = count == 4 ? parts[2] : NULL;
        const char *verb = count == 4 ? parts[3] : NULL;
        return (parts[1][0] == 'n' ? admin_nodes : admin_gateways)(admin, request->method, name, verb, body);
    }
    if ((count == 2 || count == 3) && !strcmp(parts[1], "policies")) {
        return admin_policies(admin, request->method, count == 3 ? parts[2] : NULL, body);
    }
    if (count == 2 && get && !strcmp(parts[1], "users")) {
        return users_get(admin, request);
    }
    if (count == 2 && post && !strcmp(parts[1], "users")) {
        const char *user = body_name(body, "user");
        return user ? admin_user_add(admin, user)
                    : admin_refusal(WP_E_INVALID, "the body must be {\"user\": NAME} with a valid name");
    }
    if (count == 2 && post && !strcmp(parts[1], "provision")) {
        const json_t *users = json_object_get(body, "users");
        return json_is_array(users) ? admin_provision(admin, users)
                                    : admin_refusal(WP_E_INVALID, "the body must be {\"users\": [...]}");
    }
    if (count >= 2 && !strcmp(parts[1], "teams")) {
        return admin_route_team(admin, request, parts, count, body, any_replica(request));
    }
    if (count >= 4 && !strcmp(parts[1], "users")) {
        return route_user(admin, request, parts, count, body);
    }
    return admin_refusal(WP_E_NOT_FOUND, "there is no request %s %.200s", request->method, request->path);
}

static int body_append(const char *data, size_t size, void *context)
{
    return wp_buffer_append(context, data, size);
}

int wp_admin_handle(void *context, const struct wp_management_request *request, struct wp_buffer *out)
{
    json_error_t problem;
    json_t *body = NULL;
    struct admin_answer answer;
    if (request->body.size > 0) {
        body = json_loadb((const char *)request->body.data, request->body.size, 0, &problem);
    }
    if (request->body.size > 0 && !json_is_object(body)) {
        answer = admin_refusal(
            WP_E_INVALID, "the body is no JSON object (line %d: %.200s)", problem.line, problem.text);
    } else {
        answer = route(context, request, body);
    }
    json_decref(body);
    if (!answer.body || json_dump_callback(answer.body, body_append, out, JSON_COMPACT)) {
        answer.status = 503;
    }
    json_decref(answer.body);
    return answer.status;
}
