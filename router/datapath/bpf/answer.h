/* Answers that come from the wrong one of an instance's own addresses.
 *
 * A UDP server that is bound to no address answers from the one that routing
 * prefers, its caller address, though its client called another. TCP and echo
 * answer from the address that was called.
 */
#ifndef MARGAY_ANSWER_H
#define MARGAY_ANSWER_H

#include "endpoint.h"
#include "flow.h"

/* Finds the flow that a packet which missed is an answer in; its `delivered`
 * says what the client expects.
 */
static __always_inline struct slot *answer_lookup(const struct packet *packet,
						  const struct endpoint *endpoint, __u32 ifindex)
{
	int ipv6 = packet->is_ipv6;
	struct flow_key called = packet->key;
	struct slot *slot;

	if (called.protocol != IPPROTO_UDP)
		return NULL;
	if (!address_equal(&called.source, &endpoint->addresses[ipv6 ? CALLER_IPV6 : CALLER_IPV4]))
		return NULL;
	called.source = endpoint->addresses[ipv6 ? CALLED_IPV6 : CALLED_IPV4];
	slot = flow_lookup(&called);
	if (!slot || slot->flags & SLOT_FORWARD || slot->ingress != ifindex)
		return NULL;
	return slot;
}

#endif
