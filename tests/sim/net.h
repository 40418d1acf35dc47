/* The simulated network: connections that deliver in order, between processes that may be cut from each other
 * in one direction or both, be slow, or vanish. node/port.h is implemented on it (net.c), so everything above
 * a ZeroMQ socket is the product's own code: handshake outcome, hello, credit, lanes, heartbeats.
 *
 * As with TCP, bytes of a living connection are neither lost nor reordered; they are late, without bound
 * while the direction is cut. A process that is killed has its connections closed (the others hear of it
 * unless cut off); one that loses power is silent. */
#ifndef WP_SIM_NET_H
#define WP_SIM_NET_H

#include "node/zloop.h"
#include "tests/sim/world.h"

#define SIM_PROCESSES_MAX 24u

struct sim_socket;

/* Bytes from process `from` to process `to` (indexes) stand still from now on, or flow again. */
void sim_net_cut(uint32_t from, uint32_t to, bool cut);
bool sim_net_is_cut(uint32_t from, uint32_t to);
/* Extra delay of each message in that direction. */
void sim_net_slow(uint32_t from, uint32_t to, uint64_t extra_us);
/* Every connection between the two breaks (RST). */
void sim_net_break(uint32_t a, uint32_t b);
/* The process ended; `silent`: nobody is told. Its sockets are closed. */
void sim_net_gone(struct sim_process *process, bool silent);
/* One message's way from `from` to `to`, in microseconds. */
uint64_t sim_net_delay(uint32_t from, uint32_t to);
void sim_net_free(void);

/* --- for zloop.c --- */
bool sim_socket_waiting(const struct sim_socket *socket);
void sim_zsocket_ready(struct wp_zsocket *zsocket);

#endif
