#include "gateway/edge/upgrade.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define STATUS_BAD 400
#define STATUS_NOT_FOUND 404
#define STATUS_METHOD 405
#define STATUS_VERSION 426
#define STATUS_TOO_LARGE 431

/* Headers that matter; each may come once, but the lists. */
enum header {
    HEADER_HOST,
    HEADER_UPGRADE,
    HEADER_CONNECTION,
    HEADER_KEY,
    HEADER_VERSION,
    HEADER_PROTOCOL,
    HEADER_BODY, /* announces one: refused */
    HEADER_COUNT,
};

static const struct header_row {
    const char *name;
    enum header header;
    bool list; /* may be repeated: RFC 9110 section 5.3 */
} header_rows[] = {
    {"host", HEADER_HOST, false},
    {"upgrade", HEADER_UPGRADE, true},
    {"connection", HEADER_CONNECTION, true},
    {"sec-websocket-key", HEADER_KEY, false},
    {"sec-websocket-version", HEADER_VERSION, false},
    {"sec-websocket-protocol", HEADER_PROTOCOL, true},
    {"content-length", HEADER_BODY, true},
    {"transfer-encoding", HEADER_BODY, true},
};

struct request {
    bool seen[HEADER_COUNT];
    bool upgrade_websocket;
    bool connection_upgrade;
    bool protocol_mqtt;
    bool version_13;
    struct wp_slice key;
};

static bool slice_is(struct wp_slice text, const char *word)
{
    return wp_slice_equal(text, wp_slice(word, strlen(word)));
}

static bool slice_is_folded(struct wp_slice text, const char *word)
{
    return text.size == strlen(word) && strncasecmp((const char *)text.data, word, text.size) == 0;
}

/* Token characters of RFC 9110 section 5.6.2. */
static bool is_token_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static struct wp_slice trim(struct wp_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = wp_slice(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Whether the comma-separated list has `word`. */
static bool list_has(struct wp_slice list, const char *word, bool folded)
{
    while (list.size > 0) {
        const uint8_t *comma = memchr(list.data, ',', list.size);
        size_t size = comma ? (size_t)(comma - list.data) : list.size;
        struct wp_slice item = trim(wp_slice(list.data, size));
        if (folded ? slice_is_folded(item, word) : slice_is(item, word)) {
            return true;
        }
        list = comma ? wp_slice(comma + 1, list.size - size - 1) : wp_slice(NULL, 0);
    }
    return false;
}

/* Cuts a line off the front: 1, or 0 when its end is not there; 400 for a control character. */
static int line_take(struct wp_slice *rest, struct wp_slice *ret_line)
{
    for (size_t i = 0; i < rest->size; i++) {
        uint8_t c = rest->data[i];
        if (c == '\r') {
            if (i + 1 == rest->size) {
                return 0;
            }
            if (rest->data[i + 1] != '\n') {
                return STATUS_BAD;
            }
            *ret_line = wp_slice(rest->data, i);
            *rest = wp_slice(rest->data + i + 2, rest->size - i - 2);
            return 1;
        }
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return STATUS_BAD;
        }
    }
    return 0;
}

static int request_line_check(struct wp_slice line)
{
    const uint8_t *first = memchr(line.data, ' ', line.size);
    if (!first) {
        return STATUS_BAD;
    }
    struct wp_slice method = wp_slice(line.data, (size_t)(first - line.data));
    struct wp_slice rest = wp_slice(first + 1, line.size - method.size - 1);
    const uint8_t *second = rest.size ? memchr(rest.data, ' ', rest.size) : NULL;
    if (!second) {
        return STATUS_BAD;
    }
    struct wp_slice path = wp_slice(rest.data, (size_t)(second - rest.data));
    struct wp_slice version = wp_slice(second + 1, rest.size - path.size - 1);
    if (!slice_is(version, "HTTP/1.1")) {
        return STATUS_BAD;
    }
    if (!slice_is(method, "GET")) {
        return STATUS_METHOD;
    }
    return slice_is(path, "/mqtt") || slice_is(path, "/") ? 1 : STATUS_NOT_FOUND;
}

static void header_value_take(struct request *request, enum header header, struct wp_slice value)
{
    switch (header) {
    case HEADER_UPGRADE:
        request->upgrade_websocket |= list_has(value, "websocket", true);
        return;
    case HEADER_CONNECTION:
        request->connection_upgrade |= list_has(value, "upgrade", true);
        return;
    case HEADER_PROTOCOL:
        request->protocol_mqtt |= list_has(value, "mqtt", false);
        return;
    case HEADER_VERSION:
        request->version_13 = slice_is(value, "13");
        return;
    case HEADER_KEY:
        request->key = value;
        return;
    default:
        return;
    }
}

static int header_take(struct request *request, struct wp_slice line)
{
    size_t name_size = 0;
    while (name_size < line.size && is_token_char(line.data[name_size])) {
        name_size++;
    }
    if (name_size == 0 || name_size == line.size || line.data[name_size] != ':') {
        return STATUS_BAD;
    }
    struct wp_slice name = wp_slice(line.data, name_size);
    struct wp_slice value = trim(wp_slice(line.data + name_size + 1, line.size - name_size - 1));
    for (size_t i = 0; i < sizeof header_rows / sizeof header_rows[0]; i++) {
        const struct header_row *row = &header_rows[i];
        if (!slice_is_folded(name, row->name)) {
            continue;
        }
        if (request->seen[row->header] && !row->list) {
            return STATUS_BAD;
        }
        request->seen[row->header] = true;
        header_value_take(request, row->header, value);
    }
    return 1;
}

/* 16 bytes in base64: 22 characters of the alphabet and "==". */
static bool key_valid(struct wp_slice key)
{
    if (key.size != WP_UPGRADE_KEY_SIZE || key.data[22] != '=' || key.data[23] != '=') {
        return false;
    }
    for (size_t i = 0; i < 22; i++) {
        uint8_t c = key.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' ||
                c == '/')) {
            return false;
        }
    }
    return true;
}

static int request_check(const struct request *request)
{
    if (!request->seen[HEADER_HOST] || request->seen[HEADER_BODY] || !request->upgrade_websocket ||
        !request->connection_upgrade) {
        return STATUS_BAD;
    }
    if (!request->version_13) {
        return STATUS_VERSION;
    }
    return key_valid(request->key) && request->protocol_mqtt ? 1 : STATUS_BAD;
}

int wp_upgrade_parse(struct wp_slice input, struct wp_upgrade *ret_upgrade, size_t *ret_size)
{
    int over = input.size > WP_UPGRADE_SIZE_MAX;
    struct wp_slice rest = wp_slice(input.data, over ? WP_UPGRADE_SIZE_MAX : input.size);
    struct wp_slice line;
    struct request request = {0};
    int result = line_take(&rest, &line);
    if (result != 1) {
        return result == 0 && over ? STATUS_TOO_LARGE : result;
    }
    result = request_line_check(line);
    while (result == 1) {
        result = line_take(&rest, &line);
        if (result == 0 && over) {
            return STATUS_TOO_LARGE;
        }
        if (result != 1) {
            return result;
        }
        if (line.size == 0) {
            break;
        }
        result = header_take(&request, line);
    }
    result = result == 1 ? request_check(&request) : result;
    if (result == 1) {
        memcpy(ret_upgrade->key, request.key.data, WP_UPGRADE_KEY_SIZE);
        ret_upgrade->key[WP_UPGRADE_KEY_SIZE] = '\0';
        *ret_size = (size_t)(rest.data - input.data);
    }
    return result;
}

int wp_upgrade_accept(const struct wp_upgrade *upgrade, struct wp_buffer *out)
{
    char text[WP_UPGRADE_KEY_SIZE + sizeof ACCEPT_GUID];
    unsigned char hash[SHA_DIGEST_LENGTH];
    unsigned char accept[32];
    int size = snprintf(text, sizeof text, "%s%s", upgrade->key, ACCEPT_GUID);
    if (EVP_Digest(text, (size_t)size, hash, NULL, EVP_sha1(), NULL) != 1) {
        return WP_E_NOMEM;
    }
    EVP_EncodeBlock(accept, hash, sizeof hash);
    char answer[256];
    size = snprintf(answer, sizeof answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        (const char *)accept);
    return wp_buffer_append(out, answer, (size_t)size);
}

int wp_upgrade_refuse(int status, struct wp_buffer *out)
{
    const char *reason = status == STATUS_NOT_FOUND   ? "Not Found"
                         : status == STATUS_METHOD    ? "Method Not Allowed"
                         : status == STATUS_VERSION   ? "Upgrade Required"
                         : status == STATUS_TOO_LARGE ? "Request Header Fields Too Large"
                                                      : "Bad Request";
    const char *extra = status == STATUS_VERSION  ? "Sec-WebSocket-Version: 13\r\n"
                        : status == STATUS_METHOD ? "Allow: GET\r\n"
                                                  : "";
    char answer[256];
    int size = snprintf(answer, sizeof answer,
        "HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n", status, reason, extra);
    return wp_buffer_append(out, answer, (size_t)size);
}
