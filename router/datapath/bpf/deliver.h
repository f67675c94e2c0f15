/* Sends a packet that has found its flow on its way. */
#ifndef MARGAY_DELIVER_H
#define MARGAY_DELIVER_H

#include "decision.h"
#include "drop.h"
#include "endpoint.h"
#include "flow.h"
#include "peer.h"
#include "rewrite.h"
#include "upcall.h"

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
	return way && way->kind != LOCATION_NOWHERE ? way : NULL;
}

static __always_inline int take(struct __sk_buff *skb, struct location_row *way)
{
	if (likely(way->kind == LOCATION_LOCAL))
		return bpf_redirect_peer(way->ifindex, 0);
	return send_to_peer(skb, way);
}

/* A packet of a flow that is being closed: when it is, user space decides what
 * becomes of it. One on its way back from there is its sender's to repeat, and one
 * of another host that opens nothing is of a flow that is over.
 */
static __noinline int hand_up_late(struct __sk_buff *skb, __u32 ingress, int opens)
{
	__u32 index;
	struct endpoint *endpoint = endpoint_at(skb->ifindex, &index);

	if (endpoint)
		return upcall(skb, endpoint, index);
	if (ingress & PEER_INGRESS)
		return opens ? upcall_of_peer(skb, ingress & ~PEER_INGRESS) :
			       drop(DROP_NO_ADMISSION);
	return drop(DROP_UPCALL_MISS);
}

/* `more_flags` are 0 or SLOT_REWRITE: beside the slot's own. */
static __always_inline int deliver(struct __sk_buff *skb, const struct packet *packet,
				   struct slot *slot, __u32 more_flags)
{
	struct location_row *way = way_of(slot);
	__u32 flags;

	if (!way)
		return drop(DROP_NO_LOCATION);
	flags = flow_account(skb, slot, packet) | more_flags;
	if (unlikely(flags & SLOT_CLOSING)) {
		flow_discount(skb, slot);
		return hand_up_late(skb, slot->ingress, opens_a_flow(packet));
	}
	if (unlikely(flags & SLOT_REWRITE) && rewrite(skb, packet, &slot->delivered))
		return drop(DROP_REWRITE_FAILED);
	return take(skb, way);
}

/* Likewise, for what has no transport header. */
static __always_inline int deliver_later_fragment(struct __sk_buff *skb,
						  const struct packet *packet,
						  struct slot *slot, __u32 more_flags)
{
	struct location_row *way = way_of(slot);
	__u32 flags;

	if (!way)
		return drop(DROP_NO_LOCATION);
	flags = flow_account(skb, slot, packet) | more_flags;
	if (unlikely(flags & SLOT_CLOSING)) {
		flow_discount(skb, slot);
		return hand_up_late(skb, slot->ingress, 0);
	}
	if (flags & SLOT_REWRITE && rewrite_later_fragment(skb, packet, &slot->delivered))
		return drop(DROP_REWRITE_FAILED);
	return take(skb, way);
}

#endif
