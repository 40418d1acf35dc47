/* Numbering, sending again and giving up.
 *
 *   1. The entries of a stream stand in the order of its PUBLISHes, and so they are sent.
 *   2. The unsent entries of a stream are a suffix (stream->unsent is its first).
 *   3. Sequences ascend along a stream; an entry that was never sent, or must get another number, has
 * sequence 0, and nothing behind it has one.
 *   4. Each sending has a ticket of its own, so the answer to an earlier sending is recognised as stale. What
 * the earlier one did is found out by the duplicate window of the shard, since the message id stays.
 *   5. A stream is in a ready list of its shard exactly while it has unsent entries: that of the lane of the
 * first. */
#include "gateway/submits.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "proto/frame.h"

#define LANE_COUNT 3u

struct entry {
    struct wp_stream *stream;
    struct entry *next, *previous; /* of the stream */
    struct entry *younger, *older; /* of the shard */
    uint64_t publish;
    uint64_t sequence;
    uint64_t ticket; /* 0: not sent */
    uint64_t pushed_ms;
    uint32_t slot;
    Wp__Lane lane;
    uint32_t attempts; /* times sent */
    size_t size;
    uint8_t envelope[];
};

struct wp_stream {
    struct wp_stream *ready_next, *ready_previous;
    struct entry *first, *last, *unsent;
    const char *user, *device;
    uint64_t owner;
    uint64_t epoch;
    uint64_t next_sequence;
    uint64_t refused_sequence; /* lowest number that a refusal gave back; 0 = none */
    uint64_t turn;
    uint32_t shard;
    Wp__Lane turn_lane;
    int8_t ready_lane; /* -1: in no list */
};

struct ready_list {
    struct wp_stream *first, *last;
};

struct shard {
    struct ready_list ready[LANE_COUNT];
    uint32_t budget[LANE_COUNT]; /* what is left of 8:4:1 */
    struct entry *oldest, *youngest;
    struct wp_stream *offered; /* what wp_submits_next gave */
    uint64_t waiting_bytes;
    uint64_t retry_ms;
    uint64_t answered_ms; /* when it last answered one for good */
};

struct slot {
    struct entry *entry;
    uint32_t generation;
    uint32_t next_free;
};

struct wp_submits {
    uint32_t shard_count;
    struct shard *shards; /* [shard - 1] */
    struct slot *slots;
    uint32_t slot_count;
    uint32_t slot_free; /* UINT32_MAX: none */
    uint64_t count;
};

static const uint32_t lane_weights[LANE_COUNT] = {
    [WP__LANE__ROUTINE] = 1, [WP__LANE__URGENT] = 4, [WP__LANE__STAT] = 8};

static struct shard *shard_get(const struct wp_submits *submits, uint32_t shard)
{
    WP_ASSERT(shard >= 1 && shard <= submits->shard_count);
    return &submits->shards[shard - 1];
}

int wp_submits_create(uint32_t shard_count, struct wp_submits **ret_submits)
{
    struct wp_submits *submits = calloc(1, sizeof *submits);
    struct shard *shards = calloc(shard_count, sizeof *shards);
    if (!submits || !shards) {
        free(submits);
        free(shards);
        return WP_E_NOMEM;
    }
    submits->shard_count = shard_count;
    submits->shards = shards;
    submits->slot_free = UINT32_MAX;
    *ret_submits = submits;
    return WP_OK;
}

void wp_submits_destroy(struct wp_submits **submits)
{
    if (!*submits) {
        return;
    }
    WP_ASSERT((*submits)->count == 0);
    free((*submits)->shards);
    free((*submits)->slots);
    free(*submits);
    *submits = NULL;
}

static int slots_grow(struct wp_submits *submits)
{
    uint32_t count = submits->slot_count ? submits->slot_count * 2 : 64;
    struct slot *grown = realloc(submits->slots, count * sizeof *grown);
    if (!grown) {
        return WP_E_NOMEM;
    }
    for (uint32_t i = submits->slot_count; i < count; i++) {
        grown[i] = (struct slot){.next_free = i + 1 < count ? i + 1 : UINT32_MAX};
    }
    submits->slot_free = submits->slot_count;
    submits->slots = grown;
    submits->slot_count = count;
    return WP_OK;
}

static void ready_remove(struct shard *shard, struct wp_stream *stream)
{
    if (stream->ready_lane < 0) {
        return;
    }
    struct ready_list *list = &shard->ready[stream->ready_lane];
    *(stream->ready_previous ? &stream->ready_previous->ready_next : &list->first) = stream->ready_next;
    *(stream->ready_next ? &stream->ready_next->ready_previous : &list->last) = stream->ready_previous;
    stream->ready_next = stream->ready_previous = NULL;
    stream->ready_lane = -1;
}

/* Puts the stream where its first unsent entry belongs, at the end; takes it out when there is none. */
static void ready_update(struct shard *shard, struct wp_stream *stream)
{
    if (stream->unsent && stream->ready_lane == (int8_t)stream->unsent->lane) {
        return;
    }
    ready_remove(shard, stream);
    if (!stream->unsent) {
        return;
    }
    stream->ready_lane = (int8_t)stream->unsent->lane;
    struct ready_list *list = &shard->ready[stream->ready_lane];
    stream->ready_previous = list->last;
    *(list->last ? &list->last->ready_next : &list->first) = stream;
    list->last = stream;
}

static void entry_remove(struct wp_submits *submits, struct entry *entry)
{
    struct wp_stream *stream = entry->stream;
    struct shard *shard = shard_get(submits, stream->shard);
    if (entry->ticket == 0) {
        shard->waiting_bytes -= entry->size;
    }
    if (stream->unsent == entry) {
        stream->unsent = entry->next;
    }
    if (entry->previous) {
        entry->previous->next = entry->next;
    } else {
        stream->first = entry->next;
    }
    if (entry->next) {
        entry->next->previous = entry->previous;
    } else {
        stream->last = entry->previous;
    }
    if (entry->older) {
        entry->older->younger = entry->younger;
    } else {
        shard->oldest = entry->younger;
    }
    if (entry->younger) {
        entry->younger->older = entry->older;
    } else {
        shard->youngest = entry->older;
    }
    ready_update(shard, stream);
    struct slot *slot = &submits->slots[entry->slot];
    slot->entry = NULL;
    slot->next_free = submits->slot_free;
    submits->slot_free = entry->slot;
    submits->count--;
    free(entry);
    /* Nothing numbered is under way any more: the number that a refusal gave back is the next one. */
    if (stream->refused_sequence && (!stream->first || stream->first->sequence == 0)) {
        stream->next_sequence = stream->refused_sequence;
        stream->refused_sequence = 0;
    }
}

int wp_stream_open(struct wp_submits *submits, uint32_t shard, uint64_t owner, const char *user,
    const char *device, uint64_t epoch, struct wp_stream **ret_stream)
{
    (void)shard_get(submits, shard);
    struct wp_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        return WP_E_NOMEM;
    }
    stream->shard = shard;
    stream->owner = owner;
    stream->user = user;
    stream->device = device;
    stream->epoch = epoch;
    stream->next_sequence = 1;
    stream->ready_lane = -1;
    *ret_stream = stream;
    return WP_OK;
}

void wp_stream_close(struct wp_submits *submits, struct wp_stream **stream)
{
    if (!*stream) {
        return;
    }
    while ((*stream)->first) {
        entry_remove(submits, (*stream)->first);
    }
    struct shard *shard = shard_get(submits, (*stream)->shard);
    if (shard->offered == *stream) {
        shard->offered = NULL;
    }
    free(*stream);
    *stream = NULL;
}

int wp_stream_push(struct wp_submits *submits, struct wp_stream *stream, uint64_t publish,
    const Wp__Envelope *envelope, uint64_t now_ms)
{
    size_t size = wp__envelope__get_packed_size(envelope);
    if (size > WP_FRAME_SIZE_MAX - 1024) {
        return WP_E_TOO_LARGE;
    }
    if (submits->slot_free == UINT32_MAX && slots_grow(submits) != WP_OK) {
        return WP_E_NOMEM;
    }
    struct entry *entry = malloc(sizeof *entry + size);
    if (!entry) {
        return WP_E_NOMEM;
    }
    struct shard *shard = shard_get(submits, stream->shard);
    *entry = (struct entry){.stream = stream,
        .previous = stream->last,
        .older = shard->youngest,
        .publish = publish,
        .pushed_ms = now_ms,
        .slot = submits->slot_free,
        .lane = envelope->header->lane <= WP__LANE__STAT ? envelope->header->lane : WP__LANE__ROUTINE,
        .size = size};
    wp__envelope__pack(envelope, entry->envelope);
    submits->slot_free = submits->slots[entry->slot].next_free;
    submits->slots[entry->slot].entry = entry;
    *(stream->last ? &stream->last->next : &stream->first) = entry;
    stream->last = entry;
    *(shard->youngest ? &shard->youngest->younger : &shard->oldest) = entry;
    shard->youngest = entry;
    if (!stream->unsent) {
        stream->unsent = entry;
    }
    shard->waiting_bytes += size;
    submits->count++;
    ready_update(shard, stream);
    return WP_OK;
}

static struct wp_stream *ready_choose(struct shard *shard)
{
    for (int round = 0; round < 2; round++) {
        for (int lane = WP__LANE__STAT; lane >= WP__LANE__ROUTINE; lane--) {
            if (shard->ready[lane].first && shard->budget[lane] > 0) {
                return shard->ready[lane].first;
            }
        }
        memcpy(shard->budget, lane_weights, sizeof lane_weights);
    }
    return NULL;
}

bool wp_submits_next(struct wp_submits *submits, uint32_t shard_number, uint64_t turn, uint64_t now_ms,
    Wp__Submit *ret_submit, Wp__Lane *ret_lane)
{
    struct shard *shard = shard_get(submits, shard_number);
    if (now_ms < shard->retry_ms) {
        return false;
    }
    struct wp_stream *stream = ready_choose(shard);
    shard->offered = stream;
    if (!stream) {
        return false;
    }
    struct entry *entry = stream->unsent;
    if (stream->turn != turn) {
        stream->turn = turn;
        stream->turn_lane = entry->lane;
    }
    uint32_t generation = submits->slots[entry->slot].generation + 1;
    wp__submit__init(ret_submit);
    ret_submit->ticket = (uint64_t)(generation ? generation : 1) << 32 | entry->slot;
    ret_submit->shard = shard_number;
    ret_submit->user = (char *)(uintptr_t)stream->user;
    ret_submit->device = (char *)(uintptr_t)stream->device;
    ret_submit->epoch = stream->epoch;
    ret_submit->sequence = entry->sequence ? entry->sequence : stream->next_sequence;
    ret_submit->envelope = (ProtobufCBinaryData){entry->size, entry->envelope};
    *ret_lane = stream->turn_lane;
    return true;
}

void wp_submits_sent(struct wp_submits *submits, uint32_t shard_number)
{
    struct shard *shard = shard_get(submits, shard_number);
    struct wp_stream *stream = shard->offered;
    WP_ASSERT(stream && stream->unsent);
    struct entry *entry = stream->unsent;
    struct slot *slot = &submits->slots[entry->slot];
    slot->generation = slot->generation + 1 ? slot->generation + 1 : 1;
    entry->ticket = (uint64_t)slot->generation << 32 | entry->slot;
    entry->attempts++;
    if (entry->sequence == 0) {
        entry->sequence = stream->next_sequence++;
    }
    shard->waiting_bytes -= entry->size;
    shard->budget[stream->ready_lane] -= shard->budget[stream->ready_lane] > 0;
    stream->unsent = entry->next;
    shard->offered = NULL;
    /* To the end of its list, also when the lane stays: devices take turns. */
    ready_remove(shard, stream);
    ready_update(shard, stream);
}

/* Everything from `entry` on is to be sent again, with its number or (renumber) with a new one. */
static void unsend_from(struct wp_submits *submits, struct entry *entry, bool renumber)
{
    struct wp_stream *stream = entry->stream;
    struct shard *shard = shard_get(submits, stream->shard);
    stream->unsent = entry;
    for (; entry; entry = entry->next) {
        if (entry->ticket != 0) {
            shard->waiting_bytes += entry->size;
            entry->ticket = 0;
        }
        if (renumber) {
            entry->sequence = 0;
        }
    }
    ready_update(shard, stream);
}

/* The shard expects `from` next. What stands at or behind it, and all from the refused entry on, gets new
 * numbers. */
static void renumber_from(struct wp_submits *submits, struct entry *refused, uint64_t from)
{
    struct wp_stream *stream = refused->stream;
    struct entry *entry = stream->first;
    while (entry != refused && entry->sequence < from) {
        entry = entry->next;
    }
    unsend_from(submits, entry, true);
    stream->next_sequence = from;
    stream->refused_sequence = 0;
}

static struct entry *ticket_find(const struct wp_submits *submits, uint64_t ticket)
{
    uint32_t slot = (uint32_t)ticket;
    struct entry *entry = slot < submits->slot_count ? submits->slots[slot].entry : NULL;
    return entry && entry->ticket != 0 && entry->ticket == ticket ? entry : NULL;
}

uint32_t wp_submits_shard_of(const struct wp_submits *submits, uint64_t ticket)
{
    const struct entry *entry = ticket_find(submits, ticket);
    return entry ? entry->stream->shard : 0;
}

bool wp_submits_reply(struct wp_submits *submits, const Wp__SubmitReply *reply, uint64_t now_ms,
    struct wp_submit_answer *ret_answer)
{
    struct entry *entry = ticket_find(submits, reply->ticket);
    if (!entry) {
        return false;
    }
    struct wp_stream *stream = entry->stream;
    switch (reply->error) {
    case WP_E_RESEND:
        if (reply->resend_from > 0) {
            renumber_from(submits, entry, reply->resend_from);
            return false;
        }
        /* A number that makes no sense: tried again later. */
        __attribute__((fallthrough));
    case WP_E_NOT_LEADER:
    case WP_E_UNAVAILABLE:
        unsend_from(submits, entry, false);
        shard_get(submits, stream->shard)->retry_ms = now_ms + WP_SUBMIT_RETRY_MS;
        return false;
    case WP_E_DISK_RESERVE:
        /* It never reached the log, so its number is free again; unless an earlier sending did, which nobody
         * knows. */
        if (entry->attempts == 1 &&
            (stream->refused_sequence == 0 || entry->sequence < stream->refused_sequence)) {
            stream->refused_sequence = entry->sequence;
        }
        break;
    default:
        break;
    }
    shard_get(submits, stream->shard)->answered_ms = now_ms;
    *ret_answer = (struct wp_submit_answer){stream->owner, entry->publish, reply->error, reply->accepted_ms};
    entry_remove(submits, entry);
    return true;
}

void wp_submits_shard_lost(struct wp_submits *submits, uint32_t shard_number)
{
    struct shard *shard = shard_get(submits, shard_number);
    for (struct entry *entry = shard->oldest; entry; entry = entry->younger) {
        if (entry->stream->unsent != entry->stream->first) {
            unsend_from(submits, entry->stream->first, false);
        }
    }
}

void wp_submits_shard_found(struct wp_submits *submits, uint32_t shard_number)
{
    shard_get(submits, shard_number)->retry_ms = 0;
}

bool wp_submits_give_up(struct wp_submits *submits, uint32_t shard_number, bool up, uint64_t now_ms,
    struct wp_submit_answer *ret_answer)
{
    struct shard *shard = shard_get(submits, shard_number);
    for (struct entry *entry = shard->oldest; entry; entry = entry->younger) {
        uint64_t age_ms = now_ms - entry->pushed_ms;
        if (age_ms < WP_SUBMIT_WAIT_MS) {
            return false;
        }
        bool waits = (entry->ticket == 0 || !up) && now_ms - shard->answered_ms >= WP_SUBMIT_WAIT_MS;
        if (waits || age_ms >= WP_SUBMIT_ANSWER_MS) {
            *ret_answer = (struct wp_submit_answer){
                entry->stream->owner, entry->publish, waits ? WP_E_UNAVAILABLE : WP_E_TIMEOUT, 0};
            entry_remove(submits, entry);
            return true;
        }
    }
    return false;
}

uint64_t wp_submits_waiting_bytes(const struct wp_submits *submits, uint32_t shard)
{
    return shard_get(submits, shard)->waiting_bytes;
}

uint64_t wp_submits_count(const struct wp_submits *submits)
{
    return submits->count;
}
