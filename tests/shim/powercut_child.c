/* The program that is cut off in test_storage_powercut.c: it works below a directory until it is killed.
 *
 *     powercut_child files DIR     known file operations, each case in its own directory DIR/<case>; kills
 * itself powercut_child store DIR N   a store in DIR: appends from index N + 1 on; writes each acknowledged
 * index to stdout */
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "storage/store.h"

#define IN_FLIGHT 32u

static void need(bool condition, const char *what)
{
    if (!condition) {
        perror(what);
        exit(1);
    }
}

static int file_open(const char *name, int flags)
{
    int fd = open(name, flags | O_CREAT, 0600);
    need(fd >= 0, name);
    return fd;
}

static void put(int fd, const char *text)
{
    need(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write");
}

static void sync_here(void)
{
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    need(fd >= 0 && fsync(fd) == 0, "fsync of a directory");
    close(fd);
}

static void durable(const char *name, const char *text)
{
    int fd = file_open(name, O_RDWR | O_TRUNC);
    put(fd, text);
    need(fsync(fd) == 0, "fsync");
    close(fd);
    sync_here();
}

static void synced_bytes_stay(void)
{
    int fd = file_open("f", O_RDWR);
    put(fd, "synced");
    need(fdatasync(fd) == 0, "fdatasync");
    sync_here();
    put(fd, " and not");
}

static void name_without_directory(void)
{
    int fd = file_open("f", O_RDWR);
    put(fd, "synced");
    need(fsync(fd) == 0, "fsync");
}

static void bytes_without_sync(void)
{
    put(file_open("f", O_RDWR), "never synced");
    sync_here();
}

static void replace_half(void)
{
    durable("f", "old");
    int fd = file_open("f.new", O_RDWR);
    put(fd, "new");
    need(fsync(fd) == 0, "fsync");
    need(rename("f.new", "f") == 0, "rename");
}

static void replace_whole(void)
{
    replace_half();
    sync_here();
}

static void remove_half(void)
{
    durable("f", "still here");
    need(unlink("f") == 0, "unlink");
}

static void remove_whole(void)
{
    remove_half();
    sync_here();
}

static void directory_half(void)
{
    need(mkdir("sub", 0700) == 0 && chdir("sub") == 0, "mkdir");
    durable("f", "deep");
}

static void directory_whole(void)
{
    directory_half();
    need(chdir("..") == 0, "chdir");
    sync_here();
}

static void overwrite(void)
{
    durable("f", "aaaaaaaaaa");
    int fd = file_open("f", O_RDWR);
    need(pwrite(fd, "BB", 2, 2) == 2 && fdatasync(fd) == 0, "pwrite");
    need(pwrite(fd, "CC", 2, 6) == 2, "pwrite");
}

static void cut_whole(void)
{
    durable("f", "0123456789");
    int fd = file_open("f", O_RDWR);
    need(ftruncate(fd, 4) == 0 && ftruncate(fd, 6) == 0 && fsync(fd) == 0, "ftruncate");
}

static void cut_half(void)
{
    durable("f", "0123456789");
    need(ftruncate(file_open("f", O_RDWR), 4) == 0, "ftruncate");
}

static void through_another_descriptor(void)
{
    durable("f", "one");
    int fd = file_open("f", O_RDWR | O_APPEND);
    int other = dup(fd);
    int third = file_open("f", O_RDONLY);
    put(other, " two");
    need(fsync(third) == 0, "fsync");
    put(fd, " three");
}

static void range_sync_only(void)
{
    durable("f", "old");
    int fd = file_open("f", O_RDWR);
    put(fd, "new");
    need(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0,
        "sync_file_range");
    sync();
}

static void in_parts(void)
{
    int fd = file_open("f", O_RDWR);
    char one[] = "one ";
    char two[] = "two";
    struct iovec parts[2] = {{one, 4}, {two, 3}};
    need(writev(fd, parts, 2) == 7 && pwritev(fd, parts, 2, 8) == 7 && pwrite(fd, "|", 1, 7) == 1, "writev");
    need(fsync(fd) == 0, "fsync");
    sync_here();
}

static void through_stdio(void)
{
    FILE *file = fopen("f", "w");
    need(file != NULL && fputs("stdio", file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0, "stdio");
    sync_here();
    need(fputs(" more", file) >= 0 && fflush(file) == 0, "stdio");
}

static void through_mapping(void)
{
    durable("f", "0123456789");
    int fd = file_open("f", O_RDWR);
    char *memory = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(memory != MAP_FAILED, "mmap");
    memory[1] = 'M';
    need(fsync(fd) == 0, "fsync");
    memory[2] = 'N';
}

static void each_write_synced(void)
{
    durable("f", "");
    put(file_open("f", O_WRONLY | O_DSYNC), "dsync");
}

static void name_used_again(void)
{
    durable("f", "first life");
    need(unlink("f") == 0, "unlink");
    put(file_open("f", O_RDWR), "second life");
    sync_here();
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"synced", synced_bytes_stay},
    {"nameless", name_without_directory},
    {"empty", bytes_without_sync},
    {"replace-half", replace_half},
    {"replace-whole", replace_whole},
    {"remove-half", remove_half},
    {"remove-whole", remove_whole},
    {"directory-half", directory_half},
    {"directory-whole", directory_whole},
    {"overwrite", overwrite},
    {"cut-whole", cut_whole},
    {"cut-half", cut_half},
    {"descriptors", through_another_descriptor},
    {"range", range_sync_only},
    {"parts", in_parts},
    {"stdio", through_stdio},
    {"mapping", through_mapping},
    {"dsync", each_write_synced},
    {"again", name_used_again},
};

/* The case directories are durable: they are there before this program starts. */
static int files_main(const char *directory)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        need(chdir(directory) == 0 && chdir(cases[i].name) == 0, cases[i].name);
        cases[i].run();
    }
    kill(getpid(), SIGKILL);
    return 1;
}

static sem_t room;

static void acknowledged(void *context, uint64_t tag)
{
    (void)context;
    if (write(STDOUT_FILENO, &tag, sizeof tag) != sizeof tag) {
        _exit(1);
    }
    sem_post(&room);
}

static void failed(void *context, int error, const char *text)
{
    (void)context;
    (void)text;
    _exit(error == WP_E_IO ? 74 : 1);
}

/* The data of an entry follows from its index, so that the reader can check it. */
static struct wp_bytes *entry_data(uint64_t index)
{
    struct wp_bytes *data = wp_bytes_create(8 + index * 37 % 900);
    need(data != NULL, "memory");
    memset(data->data, (int)(index & 0xff), data->size);
    return data;
}

static int store_main(const char *directory, uint64_t last)
{
    struct wp_store_config config = {.path = directory,
        .disk_reserve_bytes = 64ull << 20,
        .log_wal_bytes_max = 1u << 20,
        .write_buffer_bytes = 1u << 20,
        .compaction_bytes_max = 8u << 20};
    struct wp_store *store;
    char text[1024];
    if (wp_store_open_rocks(&config, &store, text, sizeof text) != WP_OK) {
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    wp_store_on_failure(store, failed, NULL);
    sem_init(&room, 0, IN_FLIGHT);
    struct wp_state_batch *batch = wp_state_batch_create(store);
    for (uint64_t index = last + 1;; index++) {
        while (sem_wait(&room) != 0) {
        }
        struct wp_log_entry entry = {index, 1, 1, entry_data(index)};
        struct wp_log_write write = {
            .shard = 1, .entries = &entry, .entry_count = 1, .done = acknowledged, .tag = index};
        if (wp_log_submit(store, &write) != WP_OK) {
            pause(); /* on_failure ends the process */
        }
        wp_bytes_release(&entry.data);
        /* State follows at a distance that is surely synced, and the log is dropped below what is durable. */
        if (index % 16 == 0 && index > 2 * IN_FLIGHT) {
            uint64_t applied = index - 2 * IN_FLIGHT;
            wp_state_put(batch, wp_slice("applied", 7), wp_slice(&applied, sizeof applied));
            need(wp_state_commit(store, batch, 1, applied, 1) == WP_OK, "commit");
        }
        if (index % 2048 == 0) {
            need(wp_state_flush(store) == WP_OK, "flush");
            struct wp_log_write drop = {.shard = 1, .drop_below = wp_state_durable_index(store, 1) + 1};
            need(wp_log_submit(store, &drop) == WP_OK, "drop");
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "files") == 0) {
        return files_main(argv[2]);
    }
    if (argc == 4 && strcmp(argv[1], "store") == 0) {
        return store_main(argv[2], strtoull(argv[3], NULL, 10));
    }
    fputs("usage: powercut_child files DIR | store DIR LAST\n", stderr);
    return 2;
}
