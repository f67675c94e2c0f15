/* Packets to the outside, which the host's own routing carries. */
#ifndef MARGAY_LEAVE_H
#define MARGAY_LEAVE_H

#include "endpoint.h"

/* Whether a packet that its sender owns is one for the host's routing: from an
 * instance that may reach the outside, by its caller address, to no address of
 * the pool. Link-local ones stay in, for what answers there (a cloud's
 * credentials) is the host's alone.
 */
static __always_inline int may_leave(const struct endpoint *endpoint, const struct packet *packet)
{
	const union address *destination = &packet->key.destination;

	if (likely(!endpoint->pool_mask) || packet->is_ipv6)
		return 0;
	if (!address_equal(&packet->key.source, &endpoint->addresses[CALLER_IPV4]))
		return 0;
	if ((destination->words[3] & endpoint->pool_mask) == endpoint->pool)
		return 0;
	return destination->bytes[12] != 169 || destination->bytes[13] != 254;
}

#endif
