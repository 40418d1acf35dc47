/* Why this file exists: TLS must be tried on the first day, without reading an OpenSSL manual. */
#include "ctl/certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "ctl/file.h"

#define DAY_S (24L * 60 * 60)
#define LIFE_DAYS 3650L

/* What goes into a certificate; `issuer` NULL = signed by itself. */
struct request {
    const char *name;
    EVP_PKEY *key;
    X509 *issuer;
    EVP_PKEY *issuer_key;
};

struct extension {
    int nid;
    const char *value;
};

static const struct extension authority_extensions[] = {
    {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    {NID_key_usage, "critical,keyCertSign,cRLSign"},
    {NID_subject_key_identifier, "hash"},
    {NID_undef, NULL},
};

static const struct extension server_extensions[] = {
    {NID_basic_constraints, "critical,CA:FALSE"},
    {NID_key_usage, "critical,digitalSignature"},
    {NID_ext_key_usage, "serverAuth"},
    {NID_subject_key_identifier, "hash"},
    {NID_authority_key_identifier, "keyid"},
    {NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1"},
    {NID_undef, NULL},
};

static bool serial_set(X509 *certificate)
{
    BIGNUM *number = BN_new();
    bool good = number && BN_rand(number, 126, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return good;
}

static bool extensions_add(X509 *certificate, X509 *issuer, const struct extension *extensions)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    for (; extensions->value; extensions++) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, extensions->nid, extensions->value);
        bool good = extension && X509_add_ext(certificate, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        if (!good) {
            return false;
        }
    }
    return true;
}

/* A signed certificate, or NULL with the reason in OpenSSL's error queue. */
static X509 *certificate_sign(const struct request *request)
{
    X509 *certificate = X509_new();
    X509 *issuer = request->issuer ? request->issuer : certificate;
    X509_NAME *name = certificate ? X509_get_subject_name(certificate) : NULL;
    bool good =
        certificate && X509_set_version(certificate, X509_VERSION_3) == 1 && serial_set(certificate) &&
        X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_S) &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), LIFE_DAYS * DAY_S) &&
        X509_NAME_add_entry_by_txt(
            name, "CN", MBSTRING_UTF8, (const unsigned char *)request->name, -1, -1, 0) == 1 &&
        X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
        X509_set_pubkey(certificate, request->key) == 1 &&
        extensions_add(certificate, issuer, request->issuer ? server_extensions : authority_extensions) &&
        X509_sign(certificate, request->issuer_key, EVP_sha256()) > 0;
    if (!good) {
        X509_free(certificate);
        return NULL;
    }
    return certificate;
}

static int bio_save(BIO *bio, const char *path, mode_t mode, char *ret_text, size_t text_size)
{
    char *data;
    long size = BIO_get_mem_data(bio, &data);
    return ctl_file_write(path, mode, data, (size_t)size, ret_text, text_size);
}

/* Writes FOLDER/BASE.pem (with the issuer's certificate behind it) and FOLDER/BASE.key. */
static int pair_save(const struct request *request, X509 *certificate, const char *folder, const char *base,
    char *ret_text, size_t text_size)
{
    char path[4096];
    BIO *chain = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_secmem());
    int error = WP_E_NOMEM;
    snprintf(ret_text, text_size, "cannot encode the certificate of \"%s\"", request->name);
    if (chain && key && PEM_write_bio_X509(chain, certificate) == 1 &&
        (!request->issuer || PEM_write_bio_X509(chain, request->issuer) == 1) &&
        PEM_write_bio_PKCS8PrivateKey(key, request->key, NULL, NULL, 0, NULL, NULL) == 1) {
        snprintf(path, sizeof path, "%s/%s.key", folder, base);
        error = bio_save(key, path, 0600, ret_text, text_size);
        snprintf(path, sizeof path, "%s/%s.pem", folder, base);
        error = error ? error : bio_save(chain, path, 0644, ret_text, text_size);
    }
    BIO_free(chain);
    BIO_free(key);
    return error;
}

static int openssl_fail(const char *what, char *ret_text, size_t text_size)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    snprintf(ret_text, text_size, "%s: %s", what, reason);
    return WP_E_NOMEM;
}

int ctl_ca_make(const char *dir, char *ret_text, size_t text_size)
{
    struct request request = {.name = "Wardpost playground"};
    request.key = EVP_EC_gen("P-256");
    request.issuer_key = request.key;
    X509 *certificate = request.key ? certificate_sign(&request) : NULL;
    int error = certificate ? pair_save(&request, certificate, dir, "ca", ret_text, text_size)
                            : openssl_fail("cannot make the certificate authority", ret_text, text_size);
    X509_free(certificate);
    EVP_PKEY_free(request.key);
    return error;
}

static void authority_load(const char *dir, struct request *request)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/ca.pem", dir);
    BIO *bio = BIO_new_file(path, "r");
    request->issuer = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    snprintf(path, sizeof path, "%s/ca.key", dir);
    bio = BIO_new_file(path, "r");
    request->issuer_key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
}

int ctl_certificate_make(
    const char *dir, const char *folder, const char *name, char *ret_text, size_t text_size)
{
    struct request request = {.name = name};
    authority_load(dir, &request);
    request.key = EVP_EC_gen("P-256");
    X509 *certificate =
        request.issuer && request.issuer_key && request.key ? certificate_sign(&request) : NULL;
    int error = certificate ? pair_save(&request, certificate, folder, "tls", ret_text, text_size)
                            : openssl_fail("cannot make a certificate", ret_text, text_size);
    X509_free(certificate);
    X509_free(request.issuer);
    EVP_PKEY_free(request.issuer_key);
    EVP_PKEY_free(request.key);
    return error;
}
