#include "client/profile.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "proto/address.h"

int wp_profile_gateway_add(struct wp_profile *profile, const char *text)
{
    if (profile->gateway_count == WP_PROFILE_GATEWAYS_MAX) {
        return WP_E_FULL;
    }
    struct wp_profile_gateway *gateway = &profile->gateways[profile->gateway_count];
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || colon[1] == '\0' || strlen(colon + 1) >= sizeof gateway->port) {
        return WP_E_INVALID;
    }
    const char *host = text;
    size_t host_size = (size_t)(colon - text);
    if (host[0] == '[' && host[host_size - 1] == ']') {
        host++;
        host_size -= 2;
    }
    if (host_size == 0 || host_size >= sizeof gateway->host) {
        return WP_E_INVALID;
    }
    memcpy(gateway->host, host, host_size);
    gateway->host[host_size] = '\0';
    snprintf(gateway->port, sizeof gateway->port, "%s", colon + 1);
    profile->gateway_count++;
    return WP_OK;
}

int wp_profile_secret_load(const char *path, struct wp_profile *profile, char *ret_text, size_t text_size)
{
    struct stat info;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &info) != 0) {
        snprintf(ret_text, text_size, "cannot read the secret file \"%s\": %s", path, strerror(errno));
        if (file) {
            fclose(file);
        }
        return WP_E_NOT_FOUND;
    }
    int error = WP_OK;
    if (info.st_mode & 077) {
        snprintf(ret_text, text_size, "the secret file \"%s\" may be read by others: run chmod 600 on it", path);
        error = WP_E_CONFIG;
    } else if (!fgets(profile->secret, sizeof profile->secret, file)) {
        snprintf(ret_text, text_size, "the secret file \"%s\" is empty", path);
        error = WP_E_CONFIG;
    }
    profile->secret[strcspn(profile->secret, "\r\n")] = '\0';
    fclose(file);
    return error;
}

static int gateways_load(const char *path, bool tls, struct wp_profile *profile, char *ret_text, size_t text_size)
{
    json_error_t where;
    json_t *root = json_load_file(path, 0, &where);
    if (!root) {
        snprintf(ret_text, text_size, "no playground at \"%s\": start one with \"wardpostctl playground up\"", path);
        return WP_E_NOT_FOUND;
    }
    size_t i;
    json_t *gateway;
    json_array_foreach(json_object_get(root, "gateways"), i, gateway) {
        const char *address = json_string_value(json_object_get(gateway, tls ? "mqtts" : "mqtt"));
        if (address && wp_profile_gateway_add(profile, address) != WP_OK) {
            break;
        }
    }
    const char *ca = json_string_value(json_object_get(root, "ca"));
    snprintf(profile->ca_path, sizeof profile->ca_path, "%s", ca ? ca : "");
    json_decref(root);
    if (profile->gateway_count == 0) {
        snprintf(ret_text, text_size, "the playground at \"%s\" has no gateway", path);
        return WP_E_CONFIG;
    }
    return WP_OK;
}

int wp_profile_from_playground(const char *dir, const char *username, bool tls, struct wp_profile *ret_profile, char *ret_text,
    size_t text_size)
{
    char user[WP_NAME_SIZE_MAX + 1], device[WP_NAME_SIZE_MAX + 1], path[1024];
    struct wp_profile profile = {.tls = tls};
    if (wp_address_split(username, strlen(username), user, device) != WP_OK) {
        snprintf(ret_text, text_size, "\"%s\" is no USER/DEVICE (letters a-z, digits, \".\", \"_\", \"-\")", username);
        return WP_E_INVALID;
    }
    snprintf(profile.username, sizeof profile.username, "%s", username);
    snprintf(path, sizeof path, "%s/playground.json", dir);
    int error = gateways_load(path, tls, &profile, ret_text, text_size);
    if (error) {
        return error;
    }
    snprintf(profile.seen_path, sizeof profile.seen_path, "%s/devices/%s/%s.seen", dir, user, device);
    snprintf(path, sizeof path, "%s/devices/%s/%s", dir, user, device);
    error = wp_profile_secret_load(path, &profile, ret_text, text_size);
    if (error == WP_E_NOT_FOUND) {
        snprintf(ret_text, text_size, "no secret stored for \"%s\": run \"wardpostctl --dir %s device add %s\"", username, dir,
            username);
    }
    if (!error) {
        *ret_profile = profile;
    }
    return error;
}
