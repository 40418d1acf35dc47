/* Self-signed certificates for tests, made on the spot. */
#ifndef WP_TESTS_GATEWAY_CERTIFICATE_H
#define WP_TESTS_GATEWAY_CERTIFICATE_H

/* Writes a P-256 certificate with `common_name`, valid for a day, and its key as PEM. */
void certificate_make(const char *certificate_path, const char *key_path, const char *common_name);

#endif
