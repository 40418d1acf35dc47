/* TLS certificates of a playground: its own certificate authority and one certificate per gateway, valid for
 * localhost, 127.0.0.1 and ::1. EC P-256, 10 years. For one machine only; a deployment brings its own. */
#ifndef WP_CTL_CERTIFICATE_H
#define WP_CTL_CERTIFICATE_H

#include <stddef.h>

/* Writes DIR/ca.pem (0644) and DIR/ca.key (0600). WP_E_IO, WP_E_NOMEM with a sentence. */
int ctl_ca_make(const char *dir, char *ret_text, size_t text_size);

/* Writes FOLDER/tls.pem (0644: certificate, then the authority's) and FOLDER/tls.key (0600), signed by
 * DIR/ca.key. Errors as above. */
int ctl_certificate_make(
    const char *dir, const char *folder, const char *name, char *ret_text, size_t text_size);

#endif
