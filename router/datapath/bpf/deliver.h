/* Sends a packet that has found its flow on its way. */
#ifndef MARGAY_DELIVER_H
#define MARGAY_DELIVER_H

#include "drop.h"
#include "flow.h"
#include "rewrite.h"

/* `flags` are the slot's, or those and SLOT_REWRITE. */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet,
				   struct slot *slot, __u32 flags)
{
	struct location_cell *cell = bpf_map_lookup_elem(&locations, &slot->location);
	struct location_row *way;
	__u32 row;

	if (!cell)
		return drop(DROP_NO_LOCATION);
	/* Read once: user space may store another row at any moment. */
	row = *(volatile __u32 *)&cell->row;
	way = bpf_map_lookup_elem(&location_rows, &row);
	if (!way || way->kind != LOCATION_LOCAL)
		return drop(DROP_NO_LOCATION);

	flow_account(skb, slot, packet);
	if (unlikely(flags & SLOT_REWRITE) && rewrite(skb, packet, &slot->delivered))
		return drop(DROP_REWRITE_FAILED);
	return bpf_redirect_peer(way->ifindex, 0);
}

#endif
