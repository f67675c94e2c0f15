/* What all decisions share that user space leaves for first packets. */
#ifndef MARGAY_DECISION_H
#define MARGAY_DECISION_H

#include "maps.h"
#include "parse.h"

/* Whether an epoch is still the one that a decision was made in. */
static __always_inline int epoch_is_present(__u32 cell, __u32 number)
{
	struct epoch *present = bpf_map_lookup_elem(&epochs, &cell);

	return present && *(volatile __u32 *)&present->number == number;
}

/* Whether a packet that belongs to no flow may open one: of TCP only a SYN. A
 * decision for echo has port 0, which only requests call.
 */
static __always_inline int opens_a_flow(const struct packet *packet)
{
	__u8 telling = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;

	return packet->key.protocol != IPPROTO_TCP || (packet->tcp_flags & telling) == TCP_SYN;
}

#endif
