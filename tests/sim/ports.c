/* What the programs ask of the machine, answered by the world: time, log, randomness. These functions stand
 * in the place of base/clock.c and base/log.c, and of libc's and libsodium's sources of randomness. */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "tests/sim/ports.h"
#include "tests/sim/world.h"

#define WALL_START_MS UINT64_C(1700000000000)

uint64_t sim_wall_ms(void)
{
    return WALL_START_MS + sim_now_us() / 1000;
}

uint64_t wp_clock_wall_ms(void)
{
    const struct sim_process *process = sim_current();
    return sim_wall_ms() + (uint64_t)(process ? process->skew_ms : 0);
}

uint64_t wp_clock_mono_us(void)
{
    return sim_now_us();
}

uint64_t wp_clock_boot_ms(void)
{
    return sim_now_us() / 1000;
}

void wp_log_init(const char *program, enum wp_log_level lowest)
{
    (void)program;
    (void)lowest;
}

int wp_log_level_parse(const char *name, enum wp_log_level *ret_level)
{
    (void)name;
    *ret_level = WP_LOG_INFO;
    return WP_OK;
}

void wp_log(enum wp_log_level level, const char *event, const char *format, ...)
{
    char text[1024] = "";
    if (!sim_log_on || level == WP_LOG_DEBUG) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct sim_process *process = sim_current();
    printf("%10.3f %-10s # event=%s %s\n", (double)sim_now_us() / 1000.0, process ? process->name : "-",
        event, text);
}

const char *wp_log_quote(const char *text, char *out, size_t out_size)
{
    snprintf(out, out_size, "\"%s\"", text);
    return out;
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    (void)flags;
    sim_random_bytes(buffer, length);
    return (ssize_t)length;
}

static const char *entropy_name(void)
{
    return "simulated";
}

static uint32_t entropy_word(void)
{
    return (uint32_t)sim_random(UINT64_C(1) << 32);
}

static void entropy_bytes(void *buffer, size_t size)
{
    sim_random_bytes(buffer, size);
}

void sim_entropy_install(void)
{
    static struct randombytes_implementation implementation = {
        .implementation_name = entropy_name, .random = entropy_word, .buf = entropy_bytes};
    randombytes_set_implementation(&implementation);
}
