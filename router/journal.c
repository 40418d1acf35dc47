#include "router/journal.h"

#include "base/assert.h"
#include "base/error.h"
#include "router/wire.h"

#define KEEP_CAPACITY (64u * 1024) /* a larger buffer of a popped row is given back */

static uint32_t field_size(size_t size)
{
    uint8_t head[WP_WIRE_FIELD_SIZE_MAX];
    return (uint32_t)((size_t)(wp_wire_put_varint(head, size) - head) + 1 + size);
}

static uint8_t *bytes_put(uint8_t *p, uint32_t field, struct wp_slice bytes)
{
    p = wp_wire_put_bytes_head(p, field, bytes.size);
    if (bytes.size > 0) {
        memcpy(p, bytes.data, bytes.size);
    }
    return p + bytes.size;
}

int wp_journal_append(struct wp_buffer *row, const struct wp_journal_record *record)
{
    size_t inner = field_size(record->key.size) + (record->gone ? 2 : field_size(record->value.size));
    uint8_t *p = wp_buffer_reserve(row, WP_WIRE_FIELD_SIZE_MAX + inner);
    if (!p) {
        return WP_E_NOMEM;
    }
    p = wp_wire_put_bytes_head(p, 1, inner);
    p = bytes_put(p, 1, record->key);
    p = record->gone ? wp_wire_put_u64(p, 3, 1) : bytes_put(p, 2, record->value);
    row->size = (size_t)(p - row->data);
    return WP_OK;
}

int wp_journal_next(struct wp_slice *rest, struct wp_journal_record *ret_record)
{
    struct wp_wire_field outer, field;
    int more = wp_wire_next(rest, &outer);
    if (more != 1) {
        return more ? WP_E_CORRUPT : 0;
    }
    struct wp_journal_record record = {.gone = false};
    struct wp_slice inner = outer.bytes;
    while ((more = wp_wire_next(&inner, &field)) == 1) {
        if (field.number == 1) {
            record.key = field.bytes;
        } else if (field.number == 2) {
            record.value = field.bytes;
        } else {
            record.gone = field.value != 0;
        }
    }
    if (more || outer.number != 1 || outer.type != WP_WIRE_BYTES || record.key.size == 0) {
        return WP_E_CORRUPT;
    }
    *ret_record = record;
    return 1;
}

const struct wp_journal_row *wp_journal_row_at(const struct wp_journal *journal, uint32_t index)
{
    WP_ASSERT(index < journal->count);
    return &journal->rows[(journal->first + index) % (WP_JOURNAL_ROWS + 1)];
}

int wp_journal_push(struct wp_journal *journal, uint64_t entry, struct wp_slice bytes)
{
    WP_ASSERT(journal->count <= WP_JOURNAL_ROWS);
    struct wp_journal_row *row = &journal->rows[(journal->first + journal->count) % (WP_JOURNAL_ROWS + 1)];
    row->entry = entry;
    row->bytes.size = 0;
    int error = wp_buffer_append(&row->bytes, bytes.data, bytes.size);
    if (!error) {
        journal->count++;
        journal->bytes += bytes.size;
    }
    return error;
}

bool wp_journal_overdue(const struct wp_journal *journal)
{
    return journal->count > WP_JOURNAL_ROWS || (journal->count > 1 && journal->bytes > WP_JOURNAL_BYTES_MAX);
}

void wp_journal_pop(struct wp_journal *journal)
{
    WP_ASSERT(journal->count > 0);
    struct wp_journal_row *row = &journal->rows[journal->first];
    journal->bytes -= row->bytes.size;
    row->bytes.size = 0;
    if (row->bytes.capacity > KEEP_CAPACITY) {
        wp_buffer_free(&row->bytes);
    }
    journal->first = (journal->first + 1) % (WP_JOURNAL_ROWS + 1);
    journal->count--;
}

void wp_journal_fini(struct wp_journal *journal)
{
    for (uint32_t i = 0; i <= WP_JOURNAL_ROWS; i++) {
        wp_buffer_free(&journal->rows[i].bytes);
    }
}
