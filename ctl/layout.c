/* Why this file exists: see layout.h.
 *
 * Invariants
 * 1. Secrets (cluster.key, ca.key, curve.key, tls.key) are readable by the owner only, from their first byte
 * on.
 * 2. Nothing is made on a file system that forgets at power-off, unless the user says that he knows. */
#include "ctl/layout.h"

#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "ctl/certificate.h"
#include "ctl/file.h"
#include "ctl/keygen.h"
#include "ctl/ports.h"
#include "ctl/settings.h"

#define XFS_MAGIC 0x58465342
#define ZFS_MAGIC 0x2fc12fc1

static const struct file_system {
    long magic;
    const char *name;
    bool is_volatile;
} file_systems[] = {
    {EXT4_SUPER_MAGIC, "ext4", false},
    {XFS_MAGIC, "xfs", false},
    {BTRFS_SUPER_MAGIC, "btrfs", false},
    {OVERLAYFS_SUPER_MAGIC, "overlay", false},
    {ZFS_MAGIC, "zfs", false},
    {NFS_SUPER_MAGIC, "nfs", false},
    {TMPFS_MAGIC, "tmpfs", true},
    {RAMFS_MAGIC, "ramfs", true},
};

static int file_system_check(struct wp_playground *playground, char *ret_text, size_t text_size)
{
    struct statfs info;
    if (statfs(playground->dir, &info) != 0) {
        snprintf(ret_text, text_size, "cannot look at \"%s\": %s", playground->dir, strerror(errno));
        return CTL_IO;
    }
    snprintf(playground->file_system, sizeof playground->file_system, "0x%lx", (unsigned long)info.f_type);
    for (size_t i = 0; i < sizeof file_systems / sizeof file_systems[0]; i++) {
        if (file_systems[i].magic != (long)info.f_type) {
            continue;
        }
        snprintf(playground->file_system, sizeof playground->file_system, "%s", file_systems[i].name);
        if (file_systems[i].is_volatile && !playground->allow_volatile) {
            snprintf(ret_text, text_size,
                "\"%s\" is on %s, which forgets everything at power-off: choose a folder on a disk, or give "
                "--allow-volatile",
                playground->dir, file_systems[i].name);
            return CTL_REFUSED;
        }
    }
    return CTL_OK;
}

/* The folder may hold the lock and a lost+found; anything else is somebody's. */
static int emptiness_check(const char *dir, char *ret_text, size_t text_size)
{
    DIR *folder = opendir(dir);
    if (!folder) {
        snprintf(ret_text, text_size, "cannot open \"%s\": %s", dir, strerror(errno));
        return CTL_IO;
    }
    int status = CTL_OK;
    for (const struct dirent *entry = readdir(folder); entry && status == CTL_OK; entry = readdir(folder)) {
        static const char *const known[] = {".", "..", ".lock", "lost+found"};
        bool fine = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            fine = fine || strcmp(entry->d_name, known[i]) == 0;
        }
        if (!fine) {
            snprintf(ret_text, text_size,
                "\"%s\" is not empty (\"%s\") and holds no playground: choose another folder", dir,
                entry->d_name);
            status = CTL_REFUSED;
        }
    }
    closedir(folder);
    return status;
}

static void nodes_name(struct wp_playground *playground, unsigned routers, unsigned gateways)
{
    for (unsigned i = 0; i < routers + gateways; i++) {
        struct wp_playground_node *node = &playground->nodes[i];
        node->kind = i < routers ? WP_PLAYGROUND_ROUTER : WP_PLAYGROUND_GATEWAY;
        snprintf(node->id, sizeof node->id, "%s-%u", i < routers ? "router" : "gateway",
            i < routers ? i + 1 : i - routers + 1);
    }
    playground->node_count = routers + gateways;
}

/* Folder, keys and certificate of one node. */
static int node_make(const struct wp_playground *playground, unsigned index, struct ctl_keys *keys,
    char *ret_text, size_t text_size)
{
    const struct wp_playground_node *node = &playground->nodes[index];
    char folder[WP_PLAYGROUND_PATH_SIZE];
    int error = wp_playground_path(playground, node, NULL, folder, sizeof folder);
    error = error ? error : ctl_folder_make(folder, ret_text, text_size);
    if (!error) {
        char path[WP_PLAYGROUND_PATH_SIZE + 16];
        snprintf(path, sizeof path, "%s/curve.key", folder);
        error = ctl_curve_key_make(path, keys->public_text[index], ret_text, text_size);
    }
    if (!error && node->kind == WP_PLAYGROUND_GATEWAY) {
        error = ctl_certificate_make(playground->dir, folder, node->id, ret_text, text_size);
    }
    return error;
}

static int everything_make(const struct wp_playground *playground, char *ret_text, size_t text_size)
{
    struct ctl_keys keys;
    char path[WP_PLAYGROUND_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/cluster.key", playground->dir);
    int error = ctl_cluster_key_make(path, ret_text, text_size);
    error = error ? error : ctl_ca_make(playground->dir, ret_text, text_size);
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        error = node_make(playground, i, &keys, ret_text, text_size);
    }
    for (unsigned i = 0; i < playground->node_count && !error; i++) {
        error = ctl_settings_write(playground, i, &keys, ret_text, text_size);
    }
    return error ? error : wp_playground_save(playground, ret_text, text_size);
}

/* One for each core that a router has. All routers of a playground share this machine: with fewer than two
 * cores for each, a second reactor would only make smaller batches and more wake-ups. */
static unsigned reactors_choose(unsigned routers)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores >= (long)(routers * CTL_REACTORS_DEFAULT) ? CTL_REACTORS_DEFAULT : 1;
}

int ctl_layout_make(const char *dir, const struct ctl_arguments *arguments,
    struct wp_playground *ret_playground, char *ret_text, size_t text_size)
{
    static const char longest[] = "/router-9/admin.sock";
    if (strlen(dir) + sizeof longest > sizeof((struct sockaddr_un *)0)->sun_path) {
        snprintf(ret_text, text_size,
            "\"%s\" is too long for the unix sockets in it: choose a folder whose full path has at most %zu "
            "bytes",
            dir, sizeof((struct sockaddr_un *)0)->sun_path - sizeof longest);
        return CTL_REFUSED;
    }
    struct wp_playground *playground = ret_playground;
    *playground = (struct wp_playground){.shards = arguments->shards,
        .reactors = arguments->reactors ? arguments->reactors : reactors_choose(arguments->routers),
        .allow_volatile = arguments->allow_volatile};
    snprintf(playground->dir, sizeof playground->dir, "%s", dir);
    ctl_cluster_id_make(playground->cluster_id);
    nodes_name(playground, arguments->routers, arguments->gateways ? arguments->gateways : 1);
    int status = file_system_check(playground, ret_text, text_size);
    status = status ? status : emptiness_check(dir, ret_text, text_size);
    if (status) {
        return status;
    }
    if (arguments->port_base) {
        ctl_ports_fix(playground, arguments->port_base);
    } else if (ctl_ports_pick(playground, ret_text, text_size) != WP_OK) {
        return CTL_TEMPORARY;
    }
    return (int)ctl_exit_of(everything_make(playground, ret_text, text_size));
}
