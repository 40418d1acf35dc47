/* The pure parts of storage: sealing, keys, the reserve formula, hysteresis, and the small files.
 * A record is damaged in every single bit, since "noticed" must not mean "often noticed". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "storage/body.h"
#include "storage/disk.h"
#include "storage/file.h"
#include "storage/layout.h"

#define SLICE(text) wp_slice((text), sizeof(text) - 1)

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    uint8_t record[WP_RECORD_HEADER_SIZE + 24] = {0};
    memcpy(record + WP_RECORD_HEADER_SIZE, "metametathe body of it..", 24);
    struct wp_slice meta = {record + WP_RECORD_HEADER_SIZE, 8};
    struct wp_slice body = {record + WP_RECORD_HEADER_SIZE + 8, 16};
    wp_record_seal(WP_RECORD_STATE, SLICE("key"), meta, body, record);
    struct wp_slice content;
    struct wp_slice whole = wp_slice(record, sizeof record);
    assert_int_equal(wp_record_open(WP_RECORD_STATE, SLICE("key"), whole, 8, &content), WP_OK);
    assert_int_equal(content.size, 24);
    assert_ptr_equal(content.data, meta.data);
    for (size_t bit = 0; bit < sizeof record * 8; bit++) {
        record[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(wp_record_open(WP_RECORD_STATE, SLICE("key"), whole, 8, &content), WP_E_CORRUPT);
        record[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t size = 0; size < sizeof record; size++) {
        assert_int_equal(
            wp_record_open(WP_RECORD_STATE, SLICE("key"), wp_slice(record, size), 8, &content), WP_E_CORRUPT);
    }
}

static void a_record_belongs_to_its_key_and_family(void **state)
{
    (void)state;
    uint8_t record[WP_RECORD_HEADER_SIZE + 4];
    memcpy(record + WP_RECORD_HEADER_SIZE, "body", 4);
    wp_record_seal(WP_RECORD_STATE, SLICE("key a"), wp_slice(NULL, 0),
        wp_slice(record + WP_RECORD_HEADER_SIZE, 4), record);
    struct wp_slice whole = wp_slice(record, sizeof record);
    struct wp_slice content;
    assert_int_equal(wp_record_open(WP_RECORD_STATE, SLICE("key a"), whole, 0, &content), WP_OK);
    assert_int_equal(wp_record_open(WP_RECORD_STATE, SLICE("key b"), whole, 0, &content), WP_E_CORRUPT);
    assert_int_equal(wp_record_open(WP_RECORD_STATE, SLICE("key "), whole, 0, &content), WP_E_CORRUPT);
    assert_int_equal(wp_record_open(WP_RECORD_FACT, SLICE("key a"), whole, 0, &content), WP_E_CORRUPT);
    /* The border between meta and body is summed too. */
    assert_int_equal(wp_record_open(WP_RECORD_STATE, SLICE("key a"), whole, 2, &content), WP_E_CORRUPT);
}

static void entry_keys_sort_by_shard_then_index(void **state)
{
    (void)state;
    const struct {
        uint32_t shard;
        uint64_t index;
    } order[] = {{0, 1}, {0, 255}, {0, 256}, {0, UINT64_MAX}, {1, 0}, {255, 7}, {256, 0}, {256, 1ull << 40}};
    uint8_t before[WP_ENTRY_KEY_SIZE];
    wp_entry_key(before, 0, 0);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        uint8_t key[WP_ENTRY_KEY_SIZE];
        wp_entry_key(key, order[i].shard, order[i].index);
        assert_true(memcmp(before, key, sizeof key) < 0);
        memcpy(before, key, sizeof key);
    }
}

static void an_entry_under_a_neighbours_key_is_noticed(void **state)
{
    (void)state;
    uint8_t key[WP_ENTRY_KEY_SIZE];
    uint8_t record[WP_ENTRY_HEAD_SIZE + 5];
    struct wp_bytes *data = wp_bytes_copy("hello", 5);
    struct wp_log_entry entry = {7, 3, 2, data};
    wp_entry_key(key, 1, 7);
    wp_entry_seal(&entry, key, record);
    memcpy(record + WP_ENTRY_HEAD_SIZE, "hello", 5);
    wp_bytes_release(&data);
    struct wp_log_entry found = {0};
    struct wp_slice content;
    struct wp_slice whole = wp_slice(record, sizeof record);
    assert_int_equal(wp_entry_record_open(wp_slice(key, sizeof key), whole, &found, &content), WP_OK);
    assert_int_equal(found.index, 7);
    assert_int_equal(found.term, 3);
    assert_int_equal(found.kind, 2);
    assert_true(wp_slice_equal(content, SLICE("hello")));
    wp_entry_key(key, 1, 8);
    assert_int_equal(wp_entry_record_open(wp_slice(key, sizeof key), whole, &found, &content), WP_E_CORRUPT);
    assert_int_equal(wp_entry_record_open(wp_slice(key, 5), whole, &found, &content), WP_E_CORRUPT);
}

static void the_playground_fits_its_reserve(void **state)
{
    (void)state;
    const uint64_t mib = 1u << 20;
    struct wp_store_config config = {.disk_reserve_bytes = 256 * mib,
        .log_wal_bytes_max = 48 * mib,
        .write_buffer_bytes = 16 * mib,
        .compaction_bytes_max = 64 * mib};
    struct wp_store_sizes sizes;
    wp_store_sizes(&config, &sizes);
    assert_int_equal(sizes.memtable_bytes, (4 * 16 + 2) * mib);
    assert_int_equal(sizes.reserve_bytes_min, (2 * 66 + 48 + 64) * mib);
    assert_int_equal(wp_store_reserve_bytes_min(&config), sizes.reserve_bytes_min);
    assert_true(sizes.reserve_bytes >= sizes.reserve_bytes_min);
    /* The default is 2 GiB, or the formula where that is larger. */
    struct wp_store_config plain = {0};
    wp_store_sizes(&plain, &sizes);
    assert_int_equal(sizes.reserve_bytes, 2048 * mib);
    plain.write_buffer_bytes = 512 * mib;
    wp_store_sizes(&plain, &sizes);
    assert_int_equal(sizes.reserve_bytes, sizes.reserve_bytes_min);
    assert_true(sizes.reserve_bytes > 2048 * mib);
}

static void full_clears_at_one_and_a_half_times_the_reserve(void **state)
{
    (void)state;
    struct wp_store_disk disk = {.reserve_bytes = 1000};
    wp_disk_observe(&disk, 1000);
    assert_false(disk.full);
    wp_disk_observe(&disk, 999);
    assert_true(disk.full);
    wp_disk_observe(&disk, 1000);
    assert_true(disk.full);
    wp_disk_observe(&disk, 1499);
    assert_true(disk.full);
    wp_disk_observe(&disk, 1500);
    assert_false(disk.full);
    wp_disk_observe(&disk, 1000);
    assert_false(disk.full);
    assert_int_equal(disk.free_bytes, 1000);
}

static void the_file_system_has_a_name(void **state)
{
    (void)state;
    char name[16];
    bool in_memory = true;
    assert_int_equal(wp_disk_file_system(".", name, &in_memory), WP_OK);
    assert_true(strlen(name) > 0);
    assert_int_equal(wp_disk_file_system("/proc", name, &in_memory), WP_OK);
    assert_string_equal(name, "0x9fa0"); /* not in the table: the number */
    assert_int_equal(wp_disk_file_system("/no/such/place", name, &in_memory), WP_E_IO);
}

static void files_are_replaced_as_a_whole(void **state)
{
    (void)state;
    char directory[64];
    snprintf(directory, sizeof directory, "file-%ld/deep/er", (long)getpid());
    assert_int_equal(wp_directory_make(directory), WP_OK);
    assert_int_equal(wp_directory_make(directory), WP_OK);
    assert_int_equal(wp_file_replace(directory, "name", SLICE("one")), WP_OK);
    assert_int_equal(wp_file_replace(directory, "name", SLICE("second")), WP_OK);
    struct wp_buffer out = WP_BUFFER_INIT;
    assert_int_equal(wp_file_read(directory, "name", 100, &out), WP_OK);
    assert_true(wp_slice_equal(wp_slice(out.data, out.size), SLICE("second")));
    out.size = 0;
    assert_int_equal(wp_file_read(directory, "name", 5, &out), WP_E_TOO_LARGE);
    assert_int_equal(wp_file_read(directory, "other", 5, &out), WP_E_NOT_FOUND);
    wp_buffer_free(&out);
    /* A file in the way of a directory, and a directory that is not there. */
    char path[128];
    snprintf(path, sizeof path, "%s/name", directory);
    assert_int_equal(wp_directory_make(path), WP_E_IO);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(wp_file_replace("no-such-directory", "name", SLICE("x")), WP_E_IO);
    unlink(path);
    while (rmdir(directory) == 0 && strrchr(directory, '/') != NULL) {
        *strrchr(directory, '/') = '\0';
    }
}

static void positions_follow_the_writes(void **state)
{
    (void)state;
    struct wp_log_position position = {0};
    struct wp_log_entry entries[3] = {{5, 2, 1, NULL}, {6, 2, 1, NULL}, {7, 3, 1, NULL}};
    struct wp_log_write write = {.entries = entries, .entry_count = 3};
    assert_int_equal(wp_log_position_after(&position, &write, &position), WP_OK);
    assert_int_equal(position.last, 7);
    assert_int_equal(position.term, 3);
    struct wp_log_hard_state hard = {.term = 9, .voted_for = 0};
    struct wp_log_write vote = {.hard = &hard};
    assert_int_equal(wp_log_position_after(&position, &vote, &position), WP_OK);
    assert_int_equal(position.term, 9);
    struct wp_log_write cut = {.truncate_from = 6};
    assert_int_equal(wp_log_position_after(&position, &cut, &position), WP_OK);
    assert_int_equal(position.last, 5);
    assert_int_equal(position.term, 9);
    cut.truncate_from = 100; /* beyond the end: nothing */
    assert_int_equal(wp_log_position_after(&position, &cut, &position), WP_OK);
    assert_int_equal(position.last, 5);
    entries[0].index = 0;
    struct wp_log_position empty = {0};
    assert_int_equal(wp_log_position_after(&empty, &write, &empty), WP_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_record_belongs_to_its_key_and_family),
        cmocka_unit_test(entry_keys_sort_by_shard_then_index),
        cmocka_unit_test(an_entry_under_a_neighbours_key_is_noticed),
        cmocka_unit_test(the_playground_fits_its_reserve),
        cmocka_unit_test(full_clears_at_one_and_a_half_times_the_reserve),
        cmocka_unit_test(the_file_system_has_a_name),
        cmocka_unit_test(files_are_replaced_as_a_whole),
        cmocka_unit_test(positions_follow_the_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
