/* Facts: one sealed file each below PATH/facts. The name is the key that is summed, so a renamed file is
 * noticed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "storage/file.h"
#include "storage/rocks/rocks.h"

static struct wp_slice fact_key(const char *name)
{
    return wp_slice(name, strlen(name));
}

static void fact_directory(const struct rocks_store *store, char directory[ROCKS_PATH_SIZE + 16])
{
    snprintf(directory, ROCKS_PATH_SIZE + 16, "%s/facts", store->path);
}

int rocks_fact_get(struct wp_store *base, const char *name, struct wp_buffer *out)
{
    struct rocks_store *store = (struct rocks_store *)base;
    char directory[ROCKS_PATH_SIZE + 16];
    fact_directory(store, directory);
    struct wp_buffer record = WP_BUFFER_INIT;
    int error = wp_file_read(directory, name, WP_RECORD_HEADER_SIZE + WP_FACT_SIZE_MAX, &record);
    struct wp_slice content;
    if (error == WP_OK) {
        error =
            wp_record_open(WP_RECORD_FACT, fact_key(name), wp_slice(record.data, record.size), 0, &content);
        if (error == WP_OK) {
            error = wp_buffer_append(out, content.data, content.size);
        }
    }
    wp_buffer_free(&record);
    if (error == WP_E_CORRUPT || error == WP_E_TOO_LARGE) {
        return wp_store_note(base, WP_E_CORRUPT, "fact \"%s/%s\" fails its checksum", directory, name);
    }
    if (error == WP_E_IO || error == WP_E_DENIED) {
        wp_store_note(base, error, "cannot read fact \"%s/%s\": %s", directory, name, strerror(errno));
    }
    return error;
}

int rocks_fact_set(struct wp_store *base, const char *name, struct wp_slice value)
{
    struct rocks_store *store = (struct rocks_store *)base;
    char directory[ROCKS_PATH_SIZE + 16];
    fact_directory(store, directory);
    uint8_t record[WP_RECORD_HEADER_SIZE + WP_FACT_SIZE_MAX];
    wp_record_seal(WP_RECORD_FACT, fact_key(name), wp_slice(NULL, 0), value, record);
    if (value.size > 0) {
        memcpy(record + WP_RECORD_HEADER_SIZE, value.data, value.size);
    }
    int error = wp_file_replace(directory, name, wp_slice(record, WP_RECORD_HEADER_SIZE + value.size));
    if (error != WP_OK) {
        wp_store_note(base, error, "cannot replace fact \"%s/%s\": %s", directory, name, strerror(errno));
    }
    return error;
}

int rocks_directory_id_load(struct rocks_store *store)
{
    struct wp_buffer found = WP_BUFFER_INIT;
    int error = rocks_fact_get(&store->base, WP_FACT_DIRECTORY, &found);
    if (error == WP_OK) {
        store->directory_id = found.size == 8 ? wp_get_u64be(found.data) : 0;
        error = store->directory_id != 0 ? WP_OK
                                         : wp_store_note(&store->base, WP_E_CORRUPT,
                                               "fact \"%s\" is no directory id", WP_FACT_DIRECTORY);
    } else if (error == WP_E_NOT_FOUND) {
        uint8_t value[8] = {0};
        while (wp_get_u64be(value) == 0) {
            if (getrandom(value, sizeof value, 0) != (ssize_t)sizeof value) {
                memset(value, 0, sizeof value);
            }
        }
        store->directory_id = wp_get_u64be(value);
        error = rocks_fact_set(&store->base, WP_FACT_DIRECTORY, wp_slice(value, sizeof value));
    }
    wp_buffer_free(&found);
    return error;
}
