/* The inside of the operator's requests, shared by router/admin*.c only. */
#ifndef WP_ROUTER_ADMIN_STATE_H
#define WP_ROUTER_ADMIN_STATE_H

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>

#include "proto/address.h"
#include "router/admin.h"
#include "router/overview.h"

struct wp_admin {
    struct wp_admin_config config;
    uint64_t started_ms; /* CLOCK_BOOTTIME */
};

/* Work handed to some reactors. Held by the HTTP thread and by each of its jobs; the last one frees it. */
struct admin_task {
    pthread_mutex_t guard;
    pthread_cond_t finished;
    uint32_t references;
    uint32_t pending; /* jobs that are not finished */
    struct wp_admin *admin;
    /* On the reactor's thread; calls admin_job_finish once, now or later. */
    void (*run)(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index);
    void (*free_data)(struct admin_task *task);
    void *data;
};

struct admin_task *admin_task_create(struct wp_admin *admin,
    void (*run)(struct admin_task *task, struct wp_reactor *reactor, uint32_t reactor_index),
    void (*free_data)(struct admin_task *task), void *data);
/* Hands the task to every reactor whose bit is set and waits for all of them. WP_OK: what they wrote may be
 * read. WP_E_TIMEOUT, WP_E_UNAVAILABLE: it may not, they may still write. */
int admin_task_perform(struct admin_task *task, uint64_t reactor_bits);
void admin_task_release(struct admin_task *task);
void admin_job_finish(struct admin_task *task);

static inline uint32_t admin_reactor_of(const struct wp_admin *admin, uint32_t shard)
{
    return (shard - 1) % admin->config.reactor_count;
}

/* The answer to a request: an HTTP status and a body that is taken over. */
struct admin_answer {
    int status;
    json_t *body;
};
struct admin_answer admin_ok(int status, json_t *body);
/* {"error", "message"} with the status that belongs to the error. */
struct admin_answer admin_refusal(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For a task that did not finish. */
struct admin_answer admin_task_refusal(int error);
static inline uint64_t admin_every_reactor(const struct wp_admin *admin)
{
    return admin->config.reactor_count >= 64 ? UINT64_MAX : (UINT64_C(1) << admin->config.reactor_count) - 1;
}

/* admin_read.c: `any` takes what replicas here hold, also where this router does not lead */
struct admin_answer admin_users(struct wp_admin *admin, const char *after, uint32_t limit, bool any);
struct admin_answer admin_devices(struct wp_admin *admin, const char *user, bool any);
json_t *admin_lanes_pack(const uint64_t counts[WP_LANE_COUNT]);

/* admin_status.c */
struct admin_answer admin_status(struct wp_admin *admin);
struct admin_answer admin_gateway_list(struct wp_admin *admin);

/* admin_nodes.c: `name` and `verb` of the path, NULL without */
struct admin_answer admin_nodes(
    struct wp_admin *admin, const char *method, const char *name, const char *verb, const json_t *body);
struct admin_answer admin_gateways(
    struct wp_admin *admin, const char *method, const char *name, const char *verb, const json_t *body);
struct admin_answer admin_shard_move(struct wp_admin *admin, uint32_t shard, const json_t *body);
struct admin_answer admin_upgrade(struct wp_admin *admin);

/* admin_digest.c: one number for the rows that this router holds of a shard. Two replicas with the same
 * applied index and another digest differ. Reads every row, on the thread of the request. */
struct admin_answer admin_shard_digest(struct wp_admin *admin, uint32_t shard);

/* admin_policy.c: `name` of the path, NULL without */
struct admin_answer admin_policies(
    struct wp_admin *admin, const char *method, const char *name, const json_t *body);

/* admin_cluster.c */
struct admin_answer admin_cluster(struct wp_admin *admin);
struct admin_answer admin_shard_transfer(struct wp_admin *admin, uint32_t shard, const char *name);
/* Asks every reactor; the caller frees it. Errors of admin_task_perform. */
int admin_overview(struct wp_admin *admin, struct wp_overview **ret_overview);
/* 421 with {"shard", "leader"}: who leads it instead. */
struct admin_answer admin_not_leader(struct wp_admin *admin, uint32_t shard);
json_t *admin_alarms_pack(const struct wp_judgement *judgement);

/* admin_team.c: everything below /v1/teams */
struct admin_answer admin_route_team(struct wp_admin *admin, const struct wp_management_request *request,
    const char *const *parts, size_t count, const json_t *body, bool any);

/* Where a device begins that is not the first one of its user. */
enum device_from { DEVICE_FROM_POLICY, DEVICE_FROM_NOW, DEVICE_FROM_OLDEST };

/* admin_write.c */
struct admin_answer admin_user_add(struct wp_admin *admin, const char *user);
struct admin_answer admin_device_add(
    struct wp_admin *admin, const char *user, const char *device, enum device_from from);
struct admin_answer admin_device_remove(struct wp_admin *admin, const char *user, const char *device);
struct admin_answer admin_provision(struct wp_admin *admin, const json_t *users);

#endif
