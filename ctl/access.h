/* The way of a verb to the cluster: the routers of a playground, or the one whose socket was given.
 * Single-threaded. */
#ifndef WP_CTL_ACCESS_H
#define WP_CTL_ACCESS_H

#include "ctl/command.h"

struct ctl_access {
    struct wp_playground playground; /* of --dir; empty with --socket */
    struct wp_operator *op;
    char text[1024]; /* of the last error */
};

/* CTL_OK, or an exit status; what is wrong is printed. */
int ctl_access_open(const struct ctl_arguments *arguments, struct ctl_access **ret_access);
void ctl_access_close(struct ctl_access **access);

/* One request to whichever router can answer it (wp_operator_call); a refusal is printed. `body` is taken. */
int ctl_call(
    struct ctl_access *access, const char *method, const char *path, json_t *body, json_t **ret_answer);

/* Asks every router for `path`: {"answers": [each answer], "silent": [{"node", "reason"}]}. New reference.
 * CTL_UNAVAILABLE when none answers, which is printed. */
int ctl_call_all(struct ctl_access *access, const char *path, json_t **ret_all);

#endif
