/* Why this file exists: a cluster of several machines is formed by hand, and its keys must be made by
 * something that knows their format and their modes. */
#include "ctl/keygen.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/error.h"
#include "ctl/command.h"
#include "ctl/file.h"

#define TEXT_SIZE 1024

void ctl_cluster_id_make(char ret_id[CTL_CLUSTER_ID_SIZE])
{
    unsigned char id[(CTL_CLUSTER_ID_SIZE - 1) / 2];
    randombytes_buf(id, sizeof id);
    sodium_bin2hex(ret_id, CTL_CLUSTER_ID_SIZE, id, sizeof id);
}

int ctl_cluster_key_make(const char *path, char *ret_text, size_t text_size)
{
    unsigned char key[32];
    char text[sizeof key * 2 + 2];
    randombytes_buf(key, sizeof key);
    sodium_bin2hex(text, sizeof text, key, sizeof key);
    strcat(text, "\n");
    int error = ctl_file_create(path, 0600, text, strlen(text), ret_text, text_size);
    sodium_memzero(key, sizeof key);
    sodium_memzero(text, sizeof text);
    return error;
}

int ctl_curve_key_make(const char *path, char ret_public[CTL_KEY_TEXT_SIZE], char *ret_text, size_t text_size)
{
    char secret_text[CTL_KEY_TEXT_SIZE], text[128];
    if (zmq_curve_keypair(ret_public, secret_text) != 0) {
        snprintf(ret_text, text_size, "this libzmq is built without CURVE");
        return WP_E_IO;
    }
    snprintf(text, sizeof text, "public: %s\nsecret: %s\n", ret_public, secret_text);
    int error = ctl_file_create(path, 0600, text, strlen(text), ret_text, text_size);
    sodium_memzero(secret_text, sizeof secret_text);
    sodium_memzero(text, sizeof text);
    return error;
}

int ctl_curve_key_read(const char *path, char ret_public[CTL_KEY_TEXT_SIZE], char *ret_text, size_t text_size)
{
    FILE *file = fopen(path, "re");
    bool good =
        file && fscanf(file, "public: %40s", ret_public) == 1 && strlen(ret_public) == CTL_KEY_TEXT_SIZE - 1;
    if (!good) {
        snprintf(ret_text, text_size, "\"%s\" holds no key: %s", path,
            file ? "no line \"public:\"" : strerror(errno));
    }
    if (file) {
        fclose(file);
    }
    return good ? WP_OK : WP_E_IO;
}

/* -- verbs
 * ------------------------------------------------------------------------------------------------------- */

/* One value under `key`, or alone on a line. */
static void value_print(const struct ctl_arguments *arguments, const char *key, const char *value)
{
    if (!arguments->json) {
        printf("%s\n", value);
        return;
    }
    json_t *root = json_pack("{s:s}", key, value);
    ctl_print_json(root);
    json_decref(root);
}

int ctl_keygen_id(const struct ctl_arguments *arguments)
{
    char id[CTL_CLUSTER_ID_SIZE];
    ctl_cluster_id_make(id);
    value_print(arguments, "id", id);
    return CTL_OK;
}

int ctl_keygen_cluster(const struct ctl_arguments *arguments)
{
    char text[TEXT_SIZE];
    int error = ctl_cluster_key_make(arguments->name, text, sizeof text);
    if (error) {
        return ctl_fail(ctl_exit_of(error), "%s", text);
    }
    value_print(arguments, "file", arguments->name);
    return CTL_OK;
}

int ctl_keygen_curve(const struct ctl_arguments *arguments)
{
    char text[TEXT_SIZE], public_text[CTL_KEY_TEXT_SIZE];
    int error = ctl_curve_key_make(arguments->name, public_text, text, sizeof text);
    if (error) {
        return ctl_fail(ctl_exit_of(error), "%s", text);
    }
    value_print(arguments, "public", public_text);
    return CTL_OK;
}
