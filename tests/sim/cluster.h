/* The processes of a simulated cluster: routers on simulated disks, gateways. What router/main.c and
 * gateway/main.c do around the cores is done here in the same order; the cores are the product's own. */
#ifndef WP_SIM_CLUSTER_H
#define WP_SIM_CLUSTER_H

#include "gateway/gateway.h"
#include "node/keys.h"
#include "router/reactor.h"
#include "tests/sim/world.h"

#define SIM_ROUTERS_MAX 5u
#define SIM_GATEWAYS_MAX 3u
#define SIM_REACTORS 2u
#define SIM_SHARDS 4u

/* What a crash leaves of the disk. */
enum sim_disk { SIM_DISK_CRASHED, SIM_DISK_EMPTIED, SIM_DISK_ROLLED_BACK };

struct sim_router {
    struct sim_process process;
    struct wp_keypair keys;
    struct wp_store *store;
    struct wp_store *image;   /* what the next start finds; NULL: nothing */
    struct wp_store *earlier; /* what a stop long ago left, for a roll-back */
    struct wp_zap *zap;
    struct wp_roster *roster;
    uint32_t self;
    struct wp_reactor *reactors[SIM_REACTORS];
    char listen[SIM_REACTORS][64];
    bool built; /* there is something to take apart */
    bool sync_scheduled;
    bool disk_fault;       /* a failure of the disk was injected: a fatal end is expected */
    uint64_t disk_slow_us; /* more for each sync */
    uint64_t starts;
};

struct sim_gateway {
    struct sim_process process;
    struct wp_keypair keys;
    uv_loop_t loop;
    struct wp_gateway *gateway;
    bool built;
};

struct sim_cluster {
    uint32_t router_count, gateway_count;
    struct sim_router routers[SIM_ROUTERS_MAX];
    struct sim_gateway gateways[SIM_GATEWAYS_MAX];
    uint8_t hash_key[16], secret_key[32];
};
extern struct sim_cluster sim_cluster;

void sim_cluster_create(uint32_t routers, uint32_t gateways);
void sim_cluster_destroy(void);

/* Starts a dead process, now. A router that cannot start with what its disk has begins with an empty one. */
void sim_router_start(struct sim_router *router);
void sim_gateway_start(struct sim_gateway *gateway);
/* Ends a process at once. `silent`: without closing its connections, as when the power fails. */
void sim_process_kill(struct sim_process *process, bool silent);
/* Before the next start: what happened to the disk of a dead router. */
void sim_router_disk(struct sim_router *router, enum sim_disk what);

struct sim_router *sim_router_of(const struct sim_process *process); /* NULL: it is none */
struct sim_gateway *sim_gateway_of(const struct sim_process *process);

/* devices.c: a session's bytes for the device; the session may be read again; the gateway's process ended. */
void sim_edge_output(void *context, struct wp_client *client);
void sim_edge_resume(void *context, struct wp_client *client);
void sim_edge_gone(struct sim_gateway *gateway);

#endif
