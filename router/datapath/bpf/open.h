/* Opens a flow by a decision that user space left. Whatever stands in the way,
 * user space decides anew: the packet is upcalled.
 */
#ifndef MARGAY_OPEN_H
#define MARGAY_OPEN_H

#include "aggregate.h"
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
static __always_inline void slot_describe(struct slot *slot, const struct endpoint *client,
					  const struct endpoint *server, __u32 flags,
					  __u64 key_fold, __u64 now)
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

/* Answers the forward slot of the new flow. */
static __always_inline struct slot *flow_open(const struct packet *packet, __u32 ifindex,
					      const struct endpoint *client, __u32 client_index,
					      struct aggregate *aggregate)
{
	__u32 server_index = aggregate_target(aggregate);
	struct endpoint *server = bpf_map_lookup_elem(&endpoint_rows, &server_index);
	const union address *called;
	struct slot *forward, *reverse;
	__u32 forward_index, reverse_index, flags;
	struct flow_key answers;
	__u64 now;

	/* An instance that serves itself needs another source address. */
	if (!server || !server->ifindex || server_index == client_index)
		return NULL;
	if (!supply_take(&forward_index))
		return NULL;
	reverse_index = forward_index + 1;
	forward = bpf_map_lookup_elem(&slots, &forward_index);
	reverse = bpf_map_lookup_elem(&slots, &reverse_index);
	if (!forward || !reverse)
		return NULL;

	/* A caller address leads to its holder too, and stays as it was called. */
	called = &server->addresses[packet->is_ipv6 ? CALLED_IPV6 : CALLED_IPV4];
	flags = 0;
	forward->delivered = packet->key;
	if (!endpoint_owns(server, &packet->key.destination)) {
		forward->delivered.destination = *called;
		flags = SLOT_REWRITE;
	}
	flow_key_reverse(&answers, &forward->delivered);
	flow_key_reverse(&reverse->delivered, &packet->key);

	now = bpf_ktime_get_coarse_ns();
	slot_describe(forward, client, server, flags | SLOT_FORWARD, flow_key_fold(&packet->key),
		      now);
	slot_describe(reverse, client, server, flags, flow_key_fold(&answers), now);
	forward->location = server_index;
	reverse->location = client_index;
	forward->ingress = ifindex;
	reverse->ingress = server->ifindex;
	forward->peer = reverse_index;
	reverse->peer = forward_index;

	if (!flow_insert(&packet->key, forward_index, &answers, reverse_index)) {
		*(volatile __u32 *)&forward->supplied = SUPPLIED_VOID;
		/* Another CPU may have opened this very flow meanwhile. */
		return flow_lookup(&packet->key);
	}
	*(volatile __u32 *)&forward->supplied = SUPPLIED_OPENED;
	return forward;
}

#endif
