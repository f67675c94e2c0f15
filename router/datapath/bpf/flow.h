/* From a flow key to its slot, and what the slot remembers. */
#ifndef MARGAY_FLOW_H
#define MARGAY_FLOW_H

#include "maps.h"
#include "parse.h"

static __always_inline __u64 flow_key_fold(const struct flow_key *key)
{
	return key->source.halves[0] ^ key->source.halves[1] ^ key->destination.halves[0] ^
	       key->destination.halves[1] ^ key->tail;
}

/* Finds the slot of a packet.
 *
 * A hash element is recycled at once when its key is deleted, so the value just
 * read may already be another flow's. The fold in the row tells: such a packet
 * has missed.
 */
static __always_inline struct slot *flow_lookup(const struct flow_key *key)
{
	__u32 *index = bpf_map_lookup_elem(&flows, key);
	struct slot *slot;

	if (!index)
		return NULL;
	slot = bpf_map_lookup_elem(&slots, index);
	if (!slot || slot->key_fold != flow_key_fold(key))
		return NULL;
	return slot;
}

static __always_inline void flow_note_tcp(struct slot *slot, __u8 tcp_flags)
{
	if ((tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		/* The ports are used anew: what the old connection said is void. */
		struct slot *peer = bpf_map_lookup_elem(&slots, &slot->peer);

		slot->tcp_seen = 0;
		if (peer)
			peer->tcp_seen = 0;
	}
	if (tcp_flags & TCP_FIN)
		__sync_fetch_and_or(&slot->tcp_seen, TCP_SEEN_FIN);
	if (tcp_flags & TCP_RST)
		__sync_fetch_and_or(&slot->tcp_seen, TCP_SEEN_RST);
}

static __always_inline __u64 segments_of(struct __sk_buff *skb)
{
	__u32 segments = skb->gso_segs;

	return segments ? segments : 1;
}

/* Counts a packet that is about to be delivered; answers the slot's flags as they
 * are then.
 *
 * User space marks a slot that it closes and then looks at `packets`; here the
 * packet counts itself and then looks for the mark. Whoever was first, one of the
 * two sees the other.
 */
static __always_inline __u32 flow_account(struct __sk_buff *skb, struct slot *slot,
					  const struct packet *packet)
{
	__u64 before = __sync_fetch_and_add(&slot->packets, segments_of(skb));

	/* An atomic operation whose result is used is a full memory barrier. */
	asm volatile("" : : "r"(before));
	__sync_fetch_and_add(&slot->bytes, skb->len);
	slot->last_seen_ns = bpf_ktime_get_coarse_ns();
	if (unlikely(packet->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST)))
		flow_note_tcp(slot, packet->tcp_flags);
	return *(volatile __u32 *)&slot->flags;
}

/* Takes back what flow_account() counted. */
static __always_inline void flow_discount(struct __sk_buff *skb, struct slot *slot)
{
	__sync_fetch_and_sub(&slot->packets, segments_of(skb));
	__sync_fetch_and_sub(&slot->bytes, skb->len);
}

#endif
