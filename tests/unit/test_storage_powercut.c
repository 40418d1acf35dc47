/* Power cuts: a program runs under wp_powercut.so, is killed, and what it finds at its next start is the
 * image of what its syncs had covered. First the shim is tested itself, case by case; then the store: every
 * acknowledged index is there after each of several cuts. Against a store that acknowledges before its sync
 * (WP_BUG=1) this test must fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/prng.h"
#include "storage/store.h"
#include "tests/unit/test_storage_rocks.h"

#define CUTS 5

static char root[200];
static char shim[600];
static char child_program[600];

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
    char command[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    (void)state;
    char here[400];
    assert_non_null(getcwd(here, sizeof here));
    const char *child = getenv("WP_POWERCUT_CHILD");
    snprintf(shim, sizeof shim, "%s/wp_powercut.so", here);
    snprintf(child_program, sizeof child_program, "%s/%s", here, child != NULL ? child : "powercut_child");
    snprintf(root, sizeof root, "%s", rocks_directory_new());
    run("mkdir %s %s/work", root, root);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rocks_directory_remove(root);
    return 0;
}

/* Starts the child under the shim; *ret_output reads what it writes. `work` and `image` are below the root.
 */
static pid_t child_start(
    const char *mode, const char *work, const char *image, const char *sub, const char *last, int *ret_output)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        char path[PATH_MAX];
        dup2(pipes[1], STDOUT_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        snprintf(path, sizeof path, "%s/%s", root, work);
        char *directory = realpath(path, NULL);
        setenv("WP_POWERCUT_DIR", directory, 1);
        snprintf(path, sizeof path, "%s/%s", root, image);
        setenv("WP_POWERCUT_IMAGE", path, 1);
        setenv("LD_PRELOAD", shim, 1);
        snprintf(path, sizeof path, "%s%s", directory, sub);
        execl(child_program, child_program, mode, path, last, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    *ret_output = pipes[0];
    return child;
}

static void expect_file(const char *name, const char *content)
{
    char path[1000];
    char found[64] = "";
    snprintf(path, sizeof path, "%s/image/tree/%s", root, name);
    int fd = open(path, O_RDONLY);
    if (content == NULL) {
        if (fd >= 0) {
            fail_msg("%s should not be there", name);
        }
        return;
    }
    if (fd < 0) {
        fail_msg("%s is not there", name);
    }
    ssize_t count = read(fd, found, sizeof found - 1);
    close(fd);
    if (count != (ssize_t)strlen(content) || strcmp(found, content) != 0) {
        fail_msg("%s holds \"%s\" instead of \"%s\"", name, found, content);
    }
}

static void only_synced_bytes_and_names_survive(void **state)
{
    (void)state;
    static const struct {
        const char *directory;
        const char *file;
        const char *content; /* NULL: not there */
    } expected[] = {
        {"synced", "f", "synced"},
        {"nameless", "f", NULL},
        {"empty", "f", ""},
        {"replace-half", "f", "old"},
        {"replace-half", "f.new", NULL},
        {"replace-whole", "f", "new"},
        {"replace-whole", "f.new", NULL},
        {"remove-half", "f", "still here"},
        {"remove-whole", "f", NULL},
        {"directory-half", "sub/f", NULL},
        {"directory-whole", "sub/f", "deep"},
        {"overwrite", "f", "aaBBaaaaaa"},
        {"cut-half", "f", "0123456789"},
        {"descriptors", "f", "one two"},
        {"range", "f", "old"},
        {"parts", "f", "one two|one two"},
        {"stdio", "f", "stdio"},
        {"mapping", "f", "0M23456789"},
        {"dsync", "f", "dsync"},
        {"again", "f", ""},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        run("mkdir -p %s/work/%s", root, expected[i].directory);
    }
    run("mkdir -p %s/work/cut-whole %s/work/before && echo -n before > %s/work/before/f", root, root, root);
    int output;
    pid_t child = child_start("files", "work", "image", "", NULL, &output);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(output);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/%s", expected[i].directory, expected[i].file);
        expect_file(name, expected[i].content);
    }
    expect_file("before/f", "before");
    run("test \"$(od -An -c %s/image/tree/cut-whole/f | tr -d ' ')\" = '0123\\0\\0'", root);
}

/* What one life of the store child acknowledged, up to its end. */
struct life {
    uint64_t acknowledged;
    uint64_t count;
    int status;
};

/* Reads acknowledgements for `run_us`, kills, reads the rest. */
static struct life life_watch(pid_t child, int output, uint64_t run_us)
{
    struct life life = {0};
    uint64_t end_us = 0; /* counted from the first acknowledgement: a start may take its time */
    bool killed = false;
    for (;;) {
        struct pollfd ready = {output, POLLIN, 0};
        uint64_t now_us = wp_clock_mono_us();
        if (!killed && end_us != 0 && now_us >= end_us) {
            kill(child, SIGKILL);
            killed = true;
        }
        int wait_ms = killed || end_us == 0 ? 10000 : (int)((end_us - now_us) / 1000);
        if (poll(&ready, 1, wait_ms) == 0) {
            continue;
        }
        uint64_t index;
        if (read(output, &index, sizeof index) != sizeof index) {
            break;
        }
        end_us = end_us == 0 ? wp_clock_mono_us() + run_us : end_us;
        life.acknowledged = index;
        life.count++;
    }
    close(output);
    assert_int_equal(waitpid(child, &life.status, 0), child);
    return life;
}

static int entry_check(void *context, const struct wp_log_entry *entry)
{
    (void)context;
    assert_int_equal(entry->data->size, 8 + entry->index * 37 % 900);
    for (size_t i = 0; i < entry->data->size; i++) {
        assert_int_equal(entry->data->data[i], entry->index & 0xff);
    }
    return WP_OK;
}

/* Opens the image without the shim; the last index that is there. State must be whole and not ahead of the
 * log. */
static uint64_t image_read(const char *path)
{
    struct wp_store *store = rocks_open(path);
    uint64_t index;
    uint64_t term;
    wp_state_applied(store, 1, &index, &term);
    struct wp_buffer value = WP_BUFFER_INIT;
    int error = wp_state_get(store, SLICE("applied"), &value);
    if (index == 0) {
        assert_int_equal(error, WP_E_NOT_FOUND);
    } else {
        assert_int_equal(error, WP_OK);
        assert_int_equal(value.size, 8);
        assert_int_equal(wp_get_u64le(value.data), index);
    }
    wp_buffer_free(&value);
    struct wp_log_hard_state hard;
    uint64_t first;
    uint64_t last;
    error = wp_log_load(store, 1, index, &hard, entry_check, NULL, &first, &last);
    if (error != WP_OK) {
        char text[512];
        wp_store_error_text(store, text, sizeof text);
        fail_msg("load: %s", text);
    }
    wp_store_close(&store);
    return last > index ? last : index;
}

static void acknowledged_entries_survive_every_cut(void **state)
{
    (void)state;
    struct wp_prng prng;
    wp_prng_init(&prng, 20);
    uint64_t last = 0;
    char work[32] = "work";
    for (int cut = 0; cut < CUTS; cut++) {
        char image[32];
        char number[32];
        char path[600];
        int output;
        snprintf(image, sizeof image, "image%d", cut);
        snprintf(number, sizeof number, "%llu", (unsigned long long)last);
        pid_t child = child_start("store", work, image, "/data", number, &output);
        struct life life = life_watch(child, output, 50000 + wp_prng_below(&prng, 250000));
        assert_true(WIFSIGNALED(life.status) && WTERMSIG(life.status) == SIGKILL);
        assert_true(life.count > 0);
        /* The next life starts on what the disk held. */
        snprintf(work, sizeof work, "work%d", cut);
        run("cp -rL %s/%s/tree %s/%s", root, image, root, work);
        snprintf(path, sizeof path, "%s/%s/data", root, work);
        uint64_t found = image_read(path);
        print_message("cut %d: %llu acknowledged, up to %llu; the image ends at %llu\n", cut,
            (unsigned long long)life.count, (unsigned long long)life.acknowledged, (unsigned long long)found);
        if (found < life.acknowledged) {
            fail_msg("entries %llu to %llu were acknowledged and are lost", (unsigned long long)found + 1,
                (unsigned long long)life.acknowledged);
        }
        last = found;
    }
}

static void failed_syncs_are_never_acknowledged(void **state)
{
    (void)state;
    int output;
    setenv("WP_POWERCUT_FAIL_SYNC", "25", 1);
    pid_t child = child_start("store", "work", "image", "/data", "0", &output);
    unsetenv("WP_POWERCUT_FAIL_SYNC");
    struct life life = life_watch(child, output, 3000000);
    /* on_failure ended it with exit code 74, not our signal. */
    assert_true(WIFEXITED(life.status));
    assert_int_equal(WEXITSTATUS(life.status), 74);
    assert_true(life.count > 0);
    char path[600];
    snprintf(path, sizeof path, "%s/image/tree/data", root);
    assert_true(image_read(path) >= life.acknowledged);
}

int main(void)
{
#define STEP(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        STEP(only_synced_bytes_and_names_survive),
        STEP(acknowledged_entries_survive_every_cut),
        STEP(failed_syncs_are_never_acknowledged),
    };
#undef STEP
    cmocka_set_test_filter(getenv("WP_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
