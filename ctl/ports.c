/* Why this file exists: several playgrounds run beside each other on one machine (tests do it all the time),
 * so ports are picked at random among the free ones and probed by binding them. */
#include "ctl/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

#define PICK_LOWEST 10240u
#define PICK_TRIES 200u
#define ROUTER_STRIDE 20u
#define ROUTER_MANAGEMENT 19u
#define GATEWAYS_AT 200u
#define GATEWAY_STRIDE 10u

void ctl_ports_fix(struct wp_playground *playground, unsigned base)
{
    unsigned routers = 0, gateways = 0;
    for (unsigned i = 0; i < playground->node_count; i++) {
        struct wp_playground_node *node = &playground->nodes[i];
        if (node->kind == WP_PLAYGROUND_ROUTER) {
            unsigned first = base + ROUTER_STRIDE * routers++;
            node->ports[WP_PLAYGROUND_FABRIC] = (uint16_t)first;
            node->ports[WP_PLAYGROUND_MANAGEMENT] = (uint16_t)(first + ROUTER_MANAGEMENT);
            continue;
        }
        unsigned next = base + GATEWAYS_AT + GATEWAY_STRIDE * gateways++;
        for (unsigned port = WP_PLAYGROUND_MQTT; port < WP_PLAYGROUND_PORT_COUNT; port++) {
            node->ports[port] = (uint16_t)next++;
        }
    }
}

static bool port_free(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    /* As the servers do: connections of a process that just ended must not count as "in use". */
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool good = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
    close(fd);
    return good;
}

static unsigned outgoing_lowest(void)
{
    unsigned lowest = 32768;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (file) {
        if (fscanf(file, "%u", &lowest) != 1 || lowest < PICK_LOWEST + 2048u) {
            lowest = 32768;
        }
        fclose(file);
    }
    return lowest;
}

/* Hands out consecutive ports from `next` on. */
static void ports_give(struct wp_playground *playground, unsigned next)
{
    for (unsigned i = 0; i < playground->node_count; i++) {
        struct wp_playground_node *node = &playground->nodes[i];
        if (node->kind == WP_PLAYGROUND_ROUTER) {
            node->ports[WP_PLAYGROUND_FABRIC] = (uint16_t)next;
            next += playground->reactors;
            node->ports[WP_PLAYGROUND_MANAGEMENT] = (uint16_t)next++;
            continue;
        }
        for (unsigned port = WP_PLAYGROUND_MQTT; port < WP_PLAYGROUND_PORT_COUNT; port++) {
            node->ports[port] = (uint16_t)next++;
        }
    }
}

/* The first of `need` ports in a row that are free; 0 when there are none, with a sentence. */
static unsigned row_find(unsigned need, char *ret_text, size_t text_size)
{
    unsigned range = outgoing_lowest() - PICK_LOWEST - need;
    for (unsigned try = 0; try < PICK_TRIES; try++) {
        unsigned first = PICK_LOWEST + randombytes_uniform(range), count = 0;
        while (count < need && port_free(first + count)) {
            count++;
        }
        if (count == need) {
            return first;
        }
    }
    snprintf(ret_text, text_size, "no %u free ports in a row on 127.0.0.1; give --port-base", need);
    return 0;
}

int ctl_ports_pick(struct wp_playground *playground, char *ret_text, size_t text_size)
{
    unsigned need = 0;
    for (unsigned i = 0; i < playground->node_count; i++) {
        need += playground->nodes[i].kind == WP_PLAYGROUND_ROUTER ? playground->reactors + 1u : 5u;
    }
    unsigned first = row_find(need, ret_text, text_size);
    if (first == 0) {
        return WP_E_UNAVAILABLE;
    }
    ports_give(playground, first);
    return WP_OK;
}

int ctl_ports_pick_router(
    struct wp_playground_node *node, unsigned reactors, char *ret_text, size_t text_size)
{
    unsigned first = row_find(reactors + 1, ret_text, text_size);
    if (first == 0) {
        return WP_E_UNAVAILABLE;
    }
    node->ports[WP_PLAYGROUND_FABRIC] = (uint16_t)first;
    node->ports[WP_PLAYGROUND_MANAGEMENT] = (uint16_t)(first + reactors);
    return WP_OK;
}
