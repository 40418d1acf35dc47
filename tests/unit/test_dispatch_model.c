/* Random lives of devices against a plain model of what each connection was sent: attach, detach, resume,
 * acknowledge, time, expiry, links that refuse or vanish, reads that are answered late. Seeds are fixed; a
 * failure prints its seed.
 *
 * Held at every step: no position twice on one connection, window kept, order per lane kept (but for what a
 * refusal puts back), no delivery of what the device acknowledged, is not its own, or is expired. At the end
 * every device gets everything. */
#include "tests/unit/dispatch_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/prng.h"

#define STEPS 3000u
#define SEEDS 150u
#define LINKS 2u
#define READS_MAX 4u
#define HOUR_MS UINT64_C(3600000)

/* One connection of a device, as its gateway sees it. */
struct connection {
    bool attached;
    uint32_t link;
    uint64_t session;
    uint32_t window;
    uint64_t last[WP_LANE_COUNT];                   /* order */
    uint8_t state[WP_LANE_COUNT][FIX_MESSAGES + 1]; /* 0 not sent, 1 open, 2 acknowledged */
    uint32_t open;
};

struct model {
    struct fix *fix;
    struct wp_prng prng;
    uint64_t seed;
    struct connection connections[FIX_MAILBOXES][FIX_DEVICES];
    uint64_t epoch[FIX_MAILBOXES][FIX_DEVICES];
    uint64_t session_last;
    bool link_blocked[LINKS + 1];
    struct wp_read_request reads[READS_MAX];
    struct wp_read_shared shared[READS_MAX][64];
    uint64_t copies; /* queued of team messages; gives their bodies numbers */
    uint32_t read_count;
    uint64_t deliveries;
    uint64_t kicks;
    uint64_t drained;
};

#define MUST(model, condition)                                                                               \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fail_msg("seed %llu: %s", (unsigned long long)(model)->seed, #condition);                        \
        }                                                                                                    \
    } while (0)

static struct connection *session_of(
    struct model *m, uint32_t link, uint64_t session, uint64_t *ret_box, uint32_t *ret_device)
{
    for (uint64_t box = 0; box < FIX_MAILBOXES; box++) {
        for (uint32_t device = 0; device < FIX_DEVICES; device++) {
            struct connection *c = &m->connections[box][device];
            if (c->attached && c->link == link && c->session == session) {
                *ret_box = box;
                *ret_device = device;
                return c;
            }
        }
    }
    return NULL;
}

static void delivery_take(struct model *m, const struct wp_effect *effect)
{
    uint64_t box = 0;
    uint32_t device = 0;
    struct connection *c = session_of(m, effect->link, effect->session, &box, &device);
    MUST(m, c);
    Wp__Lane lane = effect->deliver.lane;
    uint64_t sequence = effect->deliver.sequence;
    const struct fix_message *message = fix_find(m->fix, box, lane, sequence);
    MUST(m, message);
    MUST(m, !message->gone && message->expires_ms > m->fix->leader_ms);
    MUST(m, !(message->acknowledged & (1u << device)));
    MUST(m, message->size == effect->deliver.body.envelope.size);
    MUST(m, c->state[lane][sequence] == 0);
    MUST(m, sequence > c->last[lane]);
    MUST(m, c->open < c->window);
    if (m->link_blocked[effect->link]) {
        wp_dispatch_refused(m->fix->dispatch, effect);
        return;
    }
    c->state[lane][sequence] = 1;
    c->last[lane] = sequence;
    c->open++;
    m->deliveries++;
    m->drained += effect->deliver.drained;
}

/* Answered later, when the list of shared bodies is no longer dispatch's. */
static void read_note(struct model *m, const struct wp_read_request *read)
{
    uint32_t at = m->read_count++;
    m->reads[at] = *read;
    MUST(m, read->shared_count <= 64);
    memcpy(m->shared[at], read->shared, read->shared_count * sizeof *read->shared);
}

static void effects_take(struct model *m)
{
    struct wp_effect effect;
    while (wp_dispatch_next(m->fix->dispatch, &effect)) {
        if (effect.type == WP_EFFECT_READ) {
            MUST(m, m->read_count < READS_MAX);
            read_note(m, &effect.read);
        } else if (effect.type == WP_EFFECT_KICK) {
            uint64_t box = 0;
            uint32_t device = 0;
            struct connection *c = session_of(m, effect.link, effect.session, &box, &device);
            m->kicks++;
            if (c) {
                MUST(m, effect.error == WP_E_TIMEOUT);
                c->attached = false;
            } else {
                MUST(m, effect.error == WP_E_STALE_EPOCH);
            }
        } else {
            delivery_take(m, &effect);
        }
    }
}

static void read_answer(struct model *m)
{
    if (m->read_count > 0) {
        uint32_t at = (uint32_t)wp_prng_below(&m->prng, m->read_count);
        struct wp_read_request request = m->reads[at];
        struct wp_read_shared shared[64];
        memcpy(shared, m->shared[at], sizeof shared);
        request.shared = shared;
        m->reads[at] = m->reads[--m->read_count];
        memcpy(m->shared[at], m->shared[m->read_count], sizeof shared);
        MUST(m, fix_read(m->fix, &request) == WP_OK);
    }
}

static void message_new(struct model *m)
{
    uint64_t box = wp_prng_below(&m->prng, FIX_MAILBOXES);
    if (m->fix->mailboxes[box].count >= FIX_MESSAGES - 1) {
        return;
    }
    struct wp_effect effects[WP_DEVICES_MAX];
    uint64_t ttl_ms = wp_prng_below(&m->prng, 8) == 0 ? 1 + wp_prng_below(&m->prng, 5000) : HOUR_MS;
    uint32_t count = fix_message(m->fix, box, (Wp__Lane)wp_prng_below(&m->prng, WP_LANE_COUNT),
        (uint32_t)(1 + wp_prng_below(&m->prng, 2000)), ttl_ms, effects);
    for (uint32_t i = 0; i < count; i++) {
        delivery_take(m, &effects[i]);
    }
}

/* A message to a team of some of the mailboxes. */
static void copies_new(struct model *m)
{
    Wp__Lane lane = (Wp__Lane)wp_prng_below(&m->prng, WP_LANE_COUNT);
    uint32_t size = (uint32_t)(1 + wp_prng_below(&m->prng, 2000));
    uint64_t body = ++m->copies;
    for (uint64_t box = 0; box < FIX_MAILBOXES; box++) {
        if (m->fix->mailboxes[box].count >= FIX_MESSAGES - 1 || wp_prng_below(&m->prng, 2) == 0) {
            continue;
        }
        fix_copies(m->fix, box, 1, lane, size, body);
        const struct fix_mailbox *mailbox = &m->fix->mailboxes[box];
        const struct fix_message *copy = &mailbox->messages[mailbox->count - 1];
        const struct wp_body shared = {
            m->fix->leader_ms, copy->expires_ms, wp_slice(m->fix->body, size), body};
        struct wp_effect effects[WP_DEVICES_MAX];
        uint32_t count = wp_dispatch_message(m->fix->dispatch, box, lane, copy->sequence, &shared, effects);
        for (uint32_t i = 0; i < count; i++) {
            delivery_take(m, &effects[i]);
        }
    }
}

static struct connection *pick(struct model *m, uint64_t *ret_box, uint32_t *ret_device)
{
    *ret_box = wp_prng_below(&m->prng, FIX_MAILBOXES);
    *ret_device = (uint32_t)wp_prng_below(&m->prng, FIX_DEVICES);
    return &m->connections[*ret_box][*ret_device];
}

static void attach_new(struct model *m)
{
    uint64_t box = 0;
    uint32_t device = 0;
    struct connection *c = pick(m, &box, &device);
    while (fix_cursors(m->fix)) { /* the entry with the attach carries them first */
    }
    *c = (struct connection){.attached = true,
        .link = 1 + (uint32_t)wp_prng_below(&m->prng, LINKS),
        .session = ++m->session_last,
        .window = 1 + (uint32_t)wp_prng_below(&m->prng, 12)};
    MUST(m, fix_attach(m->fix, c->link, c->session, box, device, ++m->epoch[box][device], c->window, NULL) ==
                WP_OK);
}

static void acknowledge_some(struct model *m)
{
    uint64_t box = 0;
    uint32_t device = 0;
    struct connection *c = pick(m, &box, &device);
    if (!c->attached) {
        return;
    }
    for (int lane = 0; lane < (int)WP_LANE_COUNT; lane++) {
        for (uint64_t s = 1; s <= m->fix->mailboxes[box].tail[lane]; s++) {
            uint32_t known;
            if (c->state[lane][s] == 1 && wp_prng_below(&m->prng, 3) > 0) {
                MUST(m, fix_acknowledge(m->fix, c->link, c->session, (Wp__Lane)lane, s, &known) == WP_OK &&
                            known == 1);
                c->state[lane][s] = 2;
                c->open--;
            }
        }
    }
}

/* The link to the router breaks and comes back; the gateway tells what it knows of each connection. */
static void connection_resume(struct model *m, struct connection *c, uint64_t box, uint32_t device)
{
    static uint64_t open[WP_LANE_COUNT][FIX_MESSAGES];
    static uint64_t done[WP_LANE_COUNT][FIX_MESSAGES];
    Wp__Positions lists[2 * WP_LANE_COUNT];
    Wp__Positions *open_lists[WP_LANE_COUNT];
    Wp__Positions *done_lists[WP_LANE_COUNT];
    for (int lane = 0; lane < (int)WP_LANE_COUNT; lane++) {
        Wp__Positions *in = &lists[lane];
        Wp__Positions *out = &lists[(int)WP_LANE_COUNT + lane];
        wp__positions__init(in);
        wp__positions__init(out);
        in->lane = out->lane = (Wp__Lane)lane;
        in->sequence = open[lane];
        out->sequence = done[lane];
        for (uint64_t s = 1; s <= m->fix->mailboxes[box].tail[lane]; s++) {
            if (c->state[lane][s] == 1) {
                open[lane][in->n_sequence++] = s;
            } else if (c->state[lane][s] == 2) {
                done[lane][out->n_sequence++] = s;
            }
        }
        open_lists[lane] = in;
        done_lists[lane] = out;
        /* A message that was refused for lack of credit may lie below what was sent. */
        c->last[lane] = 0;
    }
    Wp__Resume resume = WP__RESUME__INIT;
    resume.epoch = m->epoch[box][device];
    resume.n_in_flight = resume.n_acknowledged = WP_LANE_COUNT;
    resume.in_flight = open_lists;
    resume.acknowledged = done_lists;
    c->session = ++m->session_last;
    MUST(m, fix_attach(m->fix, c->link, c->session, box, device, resume.epoch, c->window, &resume) == WP_OK);
}

static void link_break(struct model *m)
{
    uint32_t link = 1 + (uint32_t)wp_prng_below(&m->prng, LINKS);
    wp_dispatch_link_down(m->fix->dispatch, link);
    m->link_blocked[link] = false;
    for (uint64_t box = 0; box < FIX_MAILBOXES; box++) {
        for (uint32_t device = 0; device < FIX_DEVICES; device++) {
            struct connection *c = &m->connections[box][device];
            if (!c->attached || c->link != link) {
                continue;
            }
            if (wp_prng_below(&m->prng, 4) > 0) {
                connection_resume(m, c, box, device);
            } else {
                c->attached = false; /* the device left while the link was down */
            }
        }
    }
}

static void detach_one(struct model *m)
{
    uint64_t box = 0;
    uint32_t device = 0;
    struct connection *c = pick(m, &box, &device);
    if (c->attached) {
        MUST(m, wp_dispatch_detached(m->fix->dispatch, c->link, c->session) == WP_OK);
        c->attached = false;
    }
}

static void link_toggle(struct model *m)
{
    uint32_t link = 1 + (uint32_t)wp_prng_below(&m->prng, LINKS);
    m->link_blocked[link] = !m->link_blocked[link];
    if (!m->link_blocked[link]) {
        wp_dispatch_link_writable(m->fix->dispatch, link);
    }
}

static void expire_due(struct model *m)
{
    for (uint64_t box = 0; box < FIX_MAILBOXES; box++) {
        struct fix_mailbox *mailbox = &m->fix->mailboxes[box];
        for (uint32_t i = 0; i < mailbox->count; i++) {
            struct fix_message *message = &mailbox->messages[i];
            if (!message->gone && message->expires_ms <= m->fix->leader_ms) {
                message->gone = true;
                wp_dispatch_expired(m->fix->dispatch, box, message->lane, message->sequence);
            }
        }
    }
}

static void step(struct model *m)
{
    uint64_t dice = wp_prng_below(&m->prng, 100);
    if (dice < 5) {
        copies_new(m);
    } else if (dice < 35) {
        message_new(m);
    } else if (dice < 60) {
        acknowledge_some(m);
    } else if (dice < 72) {
        read_answer(m);
    } else if (dice < 80) {
        fix_pass(m->fix, wp_prng_below(&m->prng, wp_prng_below(&m->prng, 20) == 0 ? 31000 : 300));
        expire_due(m);
        effects_take(m); /* the gateway knows at once whom a timeout ended */
    } else if (dice < 86) {
        attach_new(m);
    } else if (dice < 89) {
        detach_one(m);
    } else if (dice < 93) {
        link_toggle(m);
    } else if (dice < 95) {
        link_break(m);
    } else {
        (void)fix_cursors(m->fix);
    }
    if (wp_prng_below(&m->prng, 4) > 0) {
        effects_take(m);
    }
}

/* Everybody attaches, acknowledges all, and in the end has all. */
static void drain(struct model *m)
{
    for (uint32_t link = 1; link <= LINKS; link++) {
        m->link_blocked[link] = false;
        wp_dispatch_link_writable(m->fix->dispatch, link);
    }
    for (uint64_t box = 0; box < FIX_MAILBOXES; box++) {
        for (uint32_t device = 0; device < FIX_DEVICES; device++) {
            struct connection *c = &m->connections[box][device];
            while (fix_cursors(m->fix)) {
            }
            *c = (struct connection){.attached = true, .link = 1, .session = ++m->session_last, .window = 5};
            MUST(
                m, fix_attach(m->fix, 1, c->session, box, device, ++m->epoch[box][device], 5, NULL) == WP_OK);
        }
    }
    for (uint32_t idle = 0; idle < 300; idle++) {
        uint64_t before = m->deliveries;
        effects_take(m);
        while (m->read_count > 0) {
            read_answer(m);
        }
        effects_take(m);
        for (int i = 0; i < 40; i++) {
            acknowledge_some(m);
        }
        idle = m->deliveries == before ? idle : 0;
    }
    while (fix_cursors(m->fix)) {
    }
    for (uint64_t box = 0; box < FIX_MAILBOXES; box++) {
        const struct fix_mailbox *mailbox = &m->fix->mailboxes[box];
        for (uint32_t i = 0; i < mailbox->count; i++) {
            MUST(m, mailbox->messages[i].gone || mailbox->messages[i].expires_ms <= m->fix->leader_ms ||
                        mailbox->messages[i].acknowledged == (1u << FIX_DEVICES) - 1);
        }
    }
}

static void test_random_lives_of_devices(void **state)
{
    (void)state;
    uint64_t deliveries = 0;
    uint64_t kicks = 0;
    uint64_t drained = 0;
    struct model *m = malloc(sizeof(*m));
    assert_non_null(m);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        memset(m, 0, sizeof(*m));
        m->seed = seed;
        wp_prng_init(&m->prng, seed);
        const struct wp_dispatch_config config = {.shard = 1,
            .delivery_timeout_ms = 30000,
            .flight_bytes_max = 1000 + wp_prng_below(&m->prng, 20000),
            .read_bytes_max = 1 + wp_prng_below(&m->prng, 20000),
            .reads_max = 1 + (uint32_t)wp_prng_below(&m->prng, READS_MAX)};
        m->fix = fix_create(&config, wp_prng_below(&m->prng, 30000));
        for (uint32_t i = 0; i < STEPS; i++) {
            step(m);
            if (i % 64 == 0) {
                wp_dispatch_assert(m->fix->dispatch);
            }
        }
        effects_take(m);
        drain(m);
        deliveries += m->deliveries;
        kicks += m->kicks;
        drained += m->drained;
        fix_destroy(&m->fix);
    }
    free(m);
    /* The runs did what they are meant to. */
    assert_true(deliveries > 50000);
    assert_true(kicks > 500);
    assert_true(drained > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_lives_of_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
