/* A playground that is being worked on by one command: its description, the lock on its folder, a way to its
 * routers. Single-threaded. Errors are printed here; what is answered is an exit status. */
#ifndef WP_CTL_WORK_H
#define WP_CTL_WORK_H

#include "ctl/command.h"

struct ctl_work {
    struct wp_playground playground;
    struct wp_operator *op;
    int lock; /* -1 = not held */
    char text[1024];
};

/* Not open yet. NULL: out of memory. */
struct ctl_work *ctl_work_create(void);
void ctl_work_close(struct ctl_work **work);
/* Takes the lock of folder `dir`; waits for another command at most 90 s. */
int ctl_work_lock(struct ctl_work *work, const char *dir);
/* Reads the playground, under the lock when `lock` says so. Nothing is made where none is. */
int ctl_work_open(const struct ctl_arguments *arguments, bool lock, struct ctl_work **ret_work);
int ctl_work_save(struct ctl_work *work);
/* Starts what is down (NULL), or this node, and waits until it is ready. What was started here is ended again
 * when one of them does not come up. */
int ctl_work_start(
    struct ctl_work *work, const struct ctl_arguments *arguments, struct wp_playground_node *only);

/* Notes that the router `id` is no part of the cluster any more, or is again. One that the playground does
 * not have is fine. */
int ctl_work_mark(const struct ctl_arguments *arguments, const char *id, bool removed);

#endif
