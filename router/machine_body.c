/* Bodies that the rows of several mailboxes share: the copies of a message to a team.
 *
 * 1. The record of a body is in the store exactly as long as something holds it: a row that names it, or the
 * fan-out under way in the entry.
 * 2. A number is given out once: a body is never written twice.
 * 3. Holders are counted from the rows, in memory alone. */
#include "router/machine_inner.h"

#include "base/error.h"

int wp_machine_body_put(struct wp_machine *machine, uint64_t accepted_ms, uint64_t expires_ms,
    struct wp_slice envelope, uint64_t *ret_number)
{
    uint64_t number = machine->body_last + 1;
    struct wp_key key;
    wp_key_mailbox(&key, machine->shard, WP_KEY_BODY, number);
    int error = wp_machine_body_hold(machine, number);
    error = error ? error : wp_machine_put_record(machine, &key, accepted_ms, expires_ms, envelope);
    machine->body_last = number;
    *ret_number = number;
    return error;
}

int wp_machine_body_hold(struct wp_machine *machine, uint64_t number)
{
    return wp_bodies_hold(&machine->bodies, number);
}

void wp_machine_body_release(struct wp_machine *machine, uint64_t number)
{
    /* 47: the body goes with the first row; 48: it stays for ever */
    if ((wp_bodies_release(&machine->bodies, number) || WP_BUG == 47) && WP_BUG != 48) {
        struct wp_key key;
        wp_key_mailbox(&key, machine->shard, WP_KEY_BODY, number);
        wp_state_delete(machine->batch, wp_key_slice(&key));
    }
}

int wp_machine_body_key(uint32_t shard, uint64_t body, struct wp_buffer *ret_key)
{
    struct wp_key key;
    wp_key_mailbox(&key, shard, WP_KEY_BODY, body);
    ret_key->size = 0;
    return wp_buffer_append(ret_key, key.data, key.size);
}
