/* Starts, watches and ends the processes of a playground. Single-threaded; waits by polling, at most as long
 * as told. */
#ifndef WP_CTL_LIFECYCLE_H
#define WP_CTL_LIFECYCLE_H

#include <stdbool.h>
#include <stddef.h>

#include "client/operator.h"
#include "client/playground.h"
#include "ctl/command.h"

enum ctl_node_state {
    CTL_NODE_DOWN,
    CTL_NODE_STOPPED,  /* by SIGSTOP */
    CTL_NODE_STARTING, /* runs, and does not say that it is ready */
    CTL_NODE_READY,
};

/* "down", "stopped", "starting", "ready". */
const char *ctl_node_state_name(enum ctl_node_state state);

/* What a node is doing now; the reason why it is not ready in ret_why (empty when there is none to tell). */
enum ctl_node_state ctl_node_state_get(
    struct wp_operator *op, const struct wp_playground_node *node, char *ret_why, size_t why_size);

/* Starts a node that is down, detached: own session, output to its log file, nothing inherited but the
 * environment and arguments->environment. Fills node->process and the file "pid". WP_E_IO with a sentence. */
int ctl_node_spawn(const struct wp_playground *playground, struct wp_playground_node *node,
    const struct ctl_arguments *arguments, char *ret_text, size_t text_size);

/* Waits until the node says that it is ready. WP_E_CLOSED: it ended. WP_E_TIMEOUT. Both with a sentence; the
 * lines that it logged since its start are printed on stderr. */
int ctl_node_ready_wait(const struct wp_playground *playground, struct wp_operator *op,
    const struct wp_playground_node *node, unsigned timeout_s, char *ret_text, size_t text_size);

/* Sends `number` to that very process, never to another that got its pid. WP_E_NOT_FOUND: it is gone.
 * WP_E_DENIED. */
int ctl_process_signal(const struct wp_playground_process *process, int number);

/* Whether the process is gone within `timeout_ms`. */
bool ctl_process_gone_wait(const struct wp_playground_process *process, unsigned timeout_ms);

#endif
