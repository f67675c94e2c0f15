/* Opens a flow by a decision that user space left. Whatever stands in the way,
 * user space decides anew: the packet is upcalled.
 */
#ifndef MARGAY_OPEN_H
#define MARGAY_OPEN_H

#include "endpoint.h"
#include "flow.h"
#include "supply.h"

static __always_inline void flow_key_reverse(struct flow_key *reversed, const struct flow_key *key)
{
	reversed->source = key->destination;
	reversed->destination = key->source;
	reversed->tail = key->tail;
	reversed->source_port = key->destination_port;
	reversed->destination_port = key->source_port;
}

/* Fills a row but for what tells the directions apart. */
static __always_inline void slot_describe(struct slot *slot, const struct party *client,
					  const struct party *server, __u32 flags, __u64 key_fold,
					  __u64 now)
{
	slot->flags = flags;
	slot->tcp_seen = 0;
	slot->packets = 0;
	slot->bytes = 0;
	slot->last_seen_ns = 0;
	slot->key_fold = key_fold;
	slot->client = client->instance;
	slot->server = server->instance;
	slot->opened_ns = now;
}

/* Inserts both directions, reverse first, neither overwriting. */
static __always_inline int flow_insert(const struct flow_key *forward, __u32 forward_slot,
				       const struct flow_key *reverse, __u32 reverse_slot)
{
	if (bpf_map_update_elem(&flows, reverse, &reverse_slot, BPF_NOEXIST))
		return 0;
	if (bpf_map_update_elem(&flows, forward, &forward_slot, BPF_NOEXIST)) {
		bpf_map_delete_elem(&flows, reverse);
		return 0;
	}
	return 1;
}

/* Opens the flow of a first packet, which is delivered to the address `to`; answers
 * its forward slot.
 */
static __always_inline struct slot *flow_open(const struct flow_key *key, const union address *to,
					      const struct party *client,
					      const struct party *server)
{
	__u32 forward_index, reverse_index, flags = 0;
	struct slot *forward, *reverse;
	struct flow_key answers;
	__u64 now;

	if (!supply_take(&forward_index))
		return NULL;
	reverse_index = forward_index + 1;
	forward = bpf_map_lookup_elem(&slots, &forward_index);
	reverse = bpf_map_lookup_elem(&slots, &reverse_index);
	if (!forward || !reverse)
		return NULL;

	forward->delivered = *key;
	if (!address_equal(to, &key->destination)) {
		forward->delivered.destination = *to;
		flags = SLOT_REWRITE;
	}
	flow_key_reverse(&answers, &forward->delivered);
	flow_key_reverse(&reverse->delivered, key);

	now = bpf_ktime_get_coarse_ns();
	slot_describe(forward, client, server, flags | SLOT_FORWARD, flow_key_fold(key), now);
	slot_describe(reverse, client, server, flags, flow_key_fold(&answers), now);
	forward->location = server->location;
	reverse->location = client->location;
	forward->ingress = client->ingress;
	reverse->ingress = server->ingress;
	forward->peer = reverse_index;
	reverse->peer = forward_index;

	if (!flow_insert(key, forward_index, &answers, reverse_index)) {
		*(volatile __u32 *)&forward->supplied = SUPPLIED_VOID;
		/* Another CPU may have opened this very flow meanwhile. */
		return flow_lookup(key);
	}
	*(volatile __u32 *)&forward->supplied = SUPPLIED_OPENED;
	return forward;
}

#endif
