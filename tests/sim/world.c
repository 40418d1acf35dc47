/* Why one queue for everything: the order of events is all that a run consists of. */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"

struct event {
    uint64_t at_us;
    uint64_t number;
    struct sim_process *process;
    uint64_t life;
    void (*fn)(void *context, uint64_t argument);
    void *context;
    uint64_t argument;
};

bool sim_trace_on;
bool sim_log_on;
void (*sim_died)(struct sim_process *process);

static struct {
    struct event *heap;
    size_t count, capacity;
    uint64_t now_us;
    uint64_t numbers;
    uint64_t executed;
    uint64_t hash;
    struct wp_prng prng;
    struct sim_process *current;
    bool void_effects; /* the present process died in this event */
    char breach[512];
} world;

void sim_world_init(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.hash = 0xcbf29ce484222325u;
    world.now_us = 1000000;
    wp_prng_init(&world.prng, seed * UINT64_C(0x9e3779b97f4a7c15) + 1);
}

void sim_world_fini(void)
{
    free(world.heap);
    world.heap = NULL;
}

/* --- the queue --- */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static void heap_push(struct event event)
{
    if (world.count == world.capacity) {
        world.capacity = world.capacity ? 2 * world.capacity : 4096;
        world.heap = realloc(world.heap, world.capacity * sizeof *world.heap);
        if (!world.heap) {
            abort();
        }
    }
    size_t at = world.count++;
    while (at > 0 && earlier(&event, &world.heap[(at - 1) / 2])) {
        world.heap[at] = world.heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world.heap[at] = event;
}

static struct event heap_pop(void)
{
    struct event first = world.heap[0];
    struct event last = world.heap[--world.count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < world.count; at = child) {
        child += child + 1 < world.count && earlier(&world.heap[child + 1], &world.heap[child]);
        if (!earlier(&world.heap[child], &last)) {
            break;
        }
        world.heap[at] = world.heap[child];
    }
    world.heap[at] = last;
    return first;
}

void sim_after(uint64_t delay_us, struct sim_process *process, void (*fn)(void *context, uint64_t argument),
    void *context, uint64_t argument)
{
    heap_push((struct event){.at_us = world.now_us + delay_us,
        .number = world.numbers++,
        .process = process,
        .life = process ? process->life : 0,
        .fn = fn,
        .context = context,
        .argument = argument});
}

bool sim_run_until(uint64_t until_us)
{
    while (world.count > 0 && world.heap[0].at_us <= until_us && !world.breach[0]) {
        struct event event = heap_pop();
        struct sim_process *process = event.process;
        world.now_us = event.at_us;
        if (process && (!process->alive || process->life != event.life)) {
            continue;
        }
        if (process && process->paused_until_us > world.now_us) {
            event.at_us = process->paused_until_us; /* keeps its number, so the order */
            heap_push(event);
            continue;
        }
        world.current = process;
        world.void_effects = false;
        world.executed++;
        event.fn(event.context, event.argument);
        world.current = NULL;
    }
    if (!world.breach[0] && world.now_us < until_us) {
        world.now_us = until_us;
    }
    return !world.breach[0];
}

uint64_t sim_now_us(void)
{
    return world.now_us;
}

uint64_t sim_event_count(void)
{
    return world.executed;
}

struct sim_process *sim_current(void)
{
    return world.current;
}

/* --- effects --- */

void sim_effect(void)
{
    struct sim_process *process = world.current;
    if (!process || !sim_effective() || process->effects_left == 0) {
        return;
    }
    if (--process->effects_left == 0) {
        world.void_effects = true;
        sim_died(process);
    }
}

bool sim_effective(void)
{
    return !world.void_effects && (!world.current || world.current->alive);
}

/* --- randomness --- */

uint64_t sim_random(uint64_t bound)
{
    return wp_prng_below(&world.prng, bound);
}

bool sim_chance(uint32_t per_mille)
{
    return sim_random(1000) < per_mille;
}

void sim_random_bytes(void *out, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        ((uint8_t *)out)[i] = (uint8_t)wp_prng_next(&world.prng);
    }
}

/* --- trace --- */

static void hash_add(const void *data, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        world.hash = (world.hash ^ ((const uint8_t *)data)[i]) * UINT64_C(0x100000001b3);
    }
}

static const char *current_name(void)
{
    return world.current ? world.current->name : "-";
}

void sim_trace(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    hash_add(&world.now_us, sizeof world.now_us);
    hash_add(line, (uint64_t)size < sizeof line ? (uint64_t)size : sizeof line - 1);
    if (sim_trace_on) {
        printf("%10.3f %-10s %s\n", (double)world.now_us / 1000.0, current_name(), line);
    }
}

void sim_trace_data(const char *what, const void *data, uint64_t size)
{
    uint64_t before = world.hash;
    hash_add(&world.now_us, sizeof world.now_us);
    hash_add(data, size);
    if (sim_trace_on) {
        printf("%10.3f %-10s %s size=%llu hash=%016llx\n", (double)world.now_us / 1000.0, current_name(),
            what, (unsigned long long)size, (unsigned long long)(world.hash ^ before));
    }
}

uint64_t sim_trace_hash(void)
{
    return world.hash;
}

void sim_breach(const char *invariant, const char *format, ...)
{
    if (world.breach[0]) {
        return;
    }
    int used =
        snprintf(world.breach, sizeof world.breach, "%s at %.3f s: ", invariant, (double)world.now_us / 1e6);
    va_list args;
    va_start(args, format);
    vsnprintf(world.breach + used, sizeof world.breach - (size_t)used, format, args);
    va_end(args);
}

const char *sim_breach_text(void)
{
    return world.breach;
}
