/* Between our types and those of C-Raft: the only place, with replica.c, that knows the library's structures.
 * Pure. Private to cluster/replica.c. */
#ifndef WP_CLUSTER_ENGINE_H
#define WP_CLUSTER_ENGINE_H

#include <raft.h>

#include "cluster/message.h"
#include "cluster/replica.h"

/* Who owns the memory that goes into raft_step changes after this version. */
_Static_assert(RAFT_VERSION_NUMBER == 2201, "cluster/ is written for the memory ownership of C-Raft 0.22.1");

/* A server's address in the engine is its id in decimal; the real one is the shell's business. */
#define WP_ENGINE_ADDRESS_SIZE 24
void wp_engine_address(uint64_t id, char out[WP_ENGINE_ADDRESS_SIZE]);

/* The engine's error as ours. Each is the end of the process: the engine may have stopped half way. */
int wp_engine_error(int error);

/* In the engine's memory; the engine takes it or raft_configuration_close frees it. WP_OK or WP_E_NOMEM. */
int wp_engine_configuration(
    const struct wp_membership *membership, struct raft_configuration *ret_configuration);
/* The encoding that the engine expects in the buffer of a RAFT_CHANGE; raft_free it. WP_OK or WP_E_NOMEM. */
int wp_engine_configuration_encode(const struct wp_membership *membership, struct raft_buffer *ret_buffer);

/* Index and term of the last entry the engine knows, read from its trail (the library exports no accessor).
 */
uint64_t wp_engine_last_index(const struct raft *raft);
uint64_t wp_engine_last_term(const struct raft *raft);
/* Who is in the engine's configuration. False when it holds what could not have come from us. */
bool wp_engine_membership(
    const struct raft_configuration *configuration, struct wp_membership *ret_membership);

/* From a message of the engine; entries stay the caller's business. False for a type that is never sent: an
 * InstallSnapshot. `stale`: this step received a request of an older term, whose answer the engine leaves
 * partly uninitialised (raft.md, rule 7). */
bool wp_engine_message_out(const struct raft_message *message, bool stale, struct wp_rpc *ret_rpc);
/* To a message of the engine; for APPEND without entries. `address` is borrowed by the message. */
void wp_engine_message_in(
    const struct wp_rpc *rpc, uint64_t from, const char *address, struct raft_message *ret_message);

#endif
