/* Sends a packet that has found its flow on its way. */
#ifndef MARGAY_DELIVER_H
#define MARGAY_DELIVER_H

#include "drop.h"
#include "flow.h"
#include "rewrite.h"

/* The present way to where a flow goes; NULL: there is none. */
static __always_inline struct location_row *way_of(const struct slot *slot)
{
	struct location_cell *cell = bpf_map_lookup_elem(&locations, &slot->location);
	struct location_row *way;
	__u32 row;

	if (!cell)
		return NULL;
	/* Read once: user space may store another row at any moment. */
	row = *(volatile __u32 *)&cell->row;
	way = bpf_map_lookup_elem(&location_rows, &row);
	return way && way->kind == LOCATION_LOCAL ? way : NULL;
}

/* `flags` are the slot's, or those and SLOT_REWRITE. */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet,
				   struct slot *slot, __u32 flags)
{
	struct location_row *way = way_of(slot);

	if (!way)
		return drop(DROP_NO_LOCATION);
	flow_account(skb, slot, packet);
	if (unlikely(flags & SLOT_REWRITE) && rewrite(skb, packet, &slot->delivered))
		return drop(DROP_REWRITE_FAILED);
	return bpf_redirect_peer(way->ifindex, 0);
}

/* Likewise, for what has no transport header. */
static __always_inline int deliver_later_fragment(struct __sk_buff *skb,
						  const struct packet *packet,
						  struct slot *slot, __u32 flags)
{
	struct location_row *way = way_of(slot);

	if (!way)
		return drop(DROP_NO_LOCATION);
	flow_account(skb, slot, packet);
	if (flags & SLOT_REWRITE && rewrite_later_fragment(skb, packet, &slot->delivered))
		return drop(DROP_REWRITE_FAILED);
	return bpf_redirect_peer(way->ifindex, 0);
}

#endif
