/* The three attach points of the data path, and a program that user space runs to
 * ask the kernel. One object, because they share all
 * their maps and all that follows the first look at a packet.
 */
#include "admission.h"
#include "aggregate.h"
#include "answer.h"
#include "connection.h"
#include "deliver.h"
#include "drop.h"
#include "endpoint.h"
#include "flow.h"
#include "leave.h"
#include "open.h"
#include "parse.h"
#include "patient.h"
#include "peer.h"
#include "upcall.h"

/* No helper in use asks for a GPL-compatible program. */
char LICENSE[] SEC("license") = "Apache-2.0 OR MIT";

/* What no flow table entry matched: an answer from another address, a further
 * flow of a decided client and service, or a flow that is user space's to decide.
 */
static __always_inline int miss(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 ifindex = skb->ifindex, index;
	struct endpoint *endpoint = endpoint_at(ifindex, &index);
	struct aggregate *aggregate;
	struct target server;
	struct party client;
	struct slot *slot;

	if (!endpoint)
		return drop(DROP_UNKNOWN_ENDPOINT);
	if (address_is_multicast(&packet->key.destination))
		return drop(DROP_LOCAL_CONTROL);
	if (!endpoint_owns(endpoint, &packet->key.source))
		return drop(DROP_FORGED_SOURCE);
	if (may_leave(endpoint, packet))
		return TC_ACT_OK;
	slot = answer_lookup(packet, endpoint, ifindex);
	if (slot)
		return deliver(skb, packet, slot, SLOT_REWRITE);
	aggregate = aggregate_lookup(packet, endpoint, index);
	if (aggregate && aggregate_target(aggregate, index, packet, &server)) {
		client = endpoint_party(endpoint, index);
		slot = flow_open(&packet->key, &server.called, &client, &server.party);
		if (slot)
			return deliver(skb, packet, slot, 0);
	}
	return upcall(skb, endpoint, index);
}

/* What names no ports but is its sender's own: an ICMP error, or a later fragment
 * of an answer from another address, or of a packet whose first fragment waits
 * for core's decision.
 */
static __always_inline int hand_up(struct __sk_buff *skb, const struct packet *packet, int parsed)
{
	__u32 ifindex = skb->ifindex, index;
	struct endpoint *endpoint = endpoint_at(ifindex, &index);
	struct slot *slot;

	if (!endpoint)
		return drop(DROP_UNKNOWN_ENDPOINT);
	if (!endpoint_owns(endpoint, &packet->key.source))
		return drop(DROP_FORGED_SOURCE);
	if (may_leave(endpoint, packet))
		return TC_ACT_OK;
	if (parsed == PARSED_LATER_FRAGMENT) {
		slot = answer_lookup(packet, endpoint, ifindex);
		if (slot)
			return deliver_later_fragment(skb, packet, slot, SLOT_REWRITE);
	}
	return upcall(skb, endpoint, index);
}

/* A function of its own, so that plain packets do not pay for its registers. */
static __noinline int not_plain_from_instance(struct __sk_buff *skb)
{
	struct packet packet;
	struct slot *slot;
	int parsed = patient_parse(skb, &packet, skb->ifindex);

	if (parsed == PARSED_ICMP_ERROR)
		return hand_up(skb, &packet, parsed);
	if (parsed != PARSED && parsed != PARSED_LATER_FRAGMENT)
		return drop(parsed);
	slot = flow_lookup(&packet.key);
	if (!slot)
		return parsed == PARSED ? miss(skb, &packet) : hand_up(skb, &packet, parsed);
	if (slot->ingress != skb->ifindex)
		return drop(DROP_FORGED_SOURCE);
	if (parsed == PARSED_LATER_FRAGMENT)
		return deliver_later_fragment(skb, &packet, slot, 0);
	return deliver(skb, &packet, slot, 0);
}

/* TCX ingress, host side of an instance's veth: all that the instance sends. */
SEC("classifier")
int from_instance(struct __sk_buff *skb)
{
	struct packet packet;
	struct slot *slot;
	int parsed = parse(skb, &packet);

	if (unlikely(parsed != PARSED))
		return parsed == NOT_PLAIN ? not_plain_from_instance(skb) : drop(parsed);
	slot = flow_lookup(&packet.key);
	if (unlikely(!slot))
		return miss(skb, &packet);
	if (unlikely(slot->ingress != skb->ifindex))
		return drop(DROP_FORGED_SOURCE);
	return deliver(skb, &packet, slot, 0);
}

/* The router's packet to an instance, past the flow table. */
static __always_inline int inject(__u32 index)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoint_rows, &index);

	if (!endpoint || !endpoint->ifindex)
		return drop(DROP_UNKNOWN_ENDPOINT);
	return bpf_redirect_peer(endpoint->ifindex, 0);
}

static __noinline int resume_not_plain(struct __sk_buff *skb, __u32 index)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoint_rows, &index);
	struct packet packet;
	struct slot *slot;
	int parsed;

	if (!endpoint)
		return drop(DROP_UNKNOWN_ENDPOINT);
	parsed = patient_parse(skb, &packet, endpoint->ifindex);
	if (parsed != PARSED && parsed != PARSED_LATER_FRAGMENT)
		return drop(parsed == PARSED_ICMP_ERROR ? DROP_UPCALL_MISS : parsed);
	slot = flow_lookup(&packet.key);
	if (!slot)
		return drop(DROP_UPCALL_MISS);
	if (parsed == PARSED_LATER_FRAGMENT)
		return deliver_later_fragment(skb, &packet, slot, 0);
	return deliver(skb, &packet, slot, 0);
}

/* An upcalled packet on its way back: its flow is open now. Who sent it, the
 * endpoint `index`, was checked on the way up.
 */
static __always_inline int resume(struct __sk_buff *skb, __u32 index)
{
	struct packet packet;
	struct slot *slot;
	int parsed = parse(skb, &packet);

	if (parsed != PARSED)
		return parsed == NOT_PLAIN ? resume_not_plain(skb, index) : drop(parsed);
	slot = flow_lookup(&packet.key);
	if (!slot)
		return drop(DROP_UPCALL_MISS);
	return deliver(skb, &packet, slot, 0);
}

/* TCX ingress, upcall TAP: all that the router writes. */
SEC("classifier")
int from_router(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	struct upcall_addresses *addresses = data;

	if (data + sizeof(*addresses) > (void *)(long)skb->data_end)
		return drop(DROP_TRUNCATED);
	if (addresses->kind == bpf_htons(UPCALLED_FRAME))
		return resume(skb, bpf_ntohl(addresses->endpoint));
	if (addresses->kind == bpf_htons(INJECTED_FRAME))
		return inject(bpf_ntohl(addresses->endpoint));
	return drop(DROP_UNKNOWN_ENDPOINT);
}

/* What another host sends and no flow table entry matched: a further flow of an
 * admitted client and server, or a first packet that its host's router shall ask
 * for. Nothing else comes in.
 */
static __noinline int miss_of_peer(struct __sk_buff *skb, const struct packet *packet,
				   const struct outer *outer)
{
	struct admission *admission;
	struct party client, server;
	struct slot *slot;
	__u32 from = 0;

	if (!opens_a_flow(packet) || !is_virtual(&packet->key.source) ||
	    !is_virtual(&packet->key.destination))
		return drop(DROP_NO_ADMISSION);
	admission = admission_lookup(packet);
	if (admission) {
		from = admission->from;
		if (!came_from(skb, from, outer))
			return drop(DROP_FORGED_PEER);
		client.instance = admission->client;
		client.ingress = PEER_INGRESS | from;
		client.location = from;
		if (admitted_server(admission, &server)) {
			slot = flow_open(&packet->key, &packet->key.destination, &client, &server);
			if (slot)
				return deliver(skb, packet, slot, 0);
		}
	}
	return upcall_of_peer(skb, from);
}

/* A function of its own, so that plain packets do not pay for its registers. */
static __noinline int parse_of_peer(struct __sk_buff *skb, struct packet *packet)
{
	return patient_parse(skb, packet, skb->ifindex);
}

static __noinline int later_fragment_of_peer(struct __sk_buff *skb, const struct packet *packet,
					     struct slot *slot)
{
	return deliver_later_fragment(skb, packet, slot, 0);
}

/* TCX ingress, a device by which other hosts are reached: their packets to
 * virtual IPs. All else is the host's.
 */
SEC("classifier")
int from_peer(struct __sk_buff *skb)
{
	struct outer outer = {};
	struct packet packet;
	struct slot *slot;
	int parsed;

	if (is_encapsulated(skb, &outer, data_port)) {
		if (decapsulate(skb, &outer))
			return drop(DROP_TRUNCATED);
		parsed = parse(skb, &packet);
	} else {
		parsed = parse(skb, &packet);
		if (!is_virtual(&packet.key.destination))
			return TC_ACT_OK;
	}
	if (unlikely(parsed == NOT_PLAIN))
		parsed = parse_of_peer(skb, &packet);
	if (unlikely(parsed != PARSED && parsed != PARSED_LATER_FRAGMENT))
		return drop(parsed == PARSED_ICMP_ERROR ? DROP_NO_ADMISSION : parsed);
	slot = flow_lookup(&packet.key);
	if (unlikely(!slot))
		return parsed == PARSED ? miss_of_peer(skb, &packet, &outer) :
					  drop(DROP_NO_ADMISSION);
	if (unlikely(!is_from_peer(skb, slot, &outer)))
		return drop(DROP_FORGED_PEER);
	if (unlikely(parsed == PARSED_LATER_FRAGMENT))
		return later_fragment_of_peer(skb, &packet, slot);
	return deliver(skb, &packet, slot, 0);
}

/* Run by user space alone, on a frame that asks: behind the Ethernet header up to
 * ASKED_MAX slots, each answered in its place by whether the connection lives
 * that its packets are for.
 */
SEC("classifier")
int look_at_connections(struct __sk_buff *skb)
{
	__u32 offset = ETH_HLEN;
	struct slot *slot;
	__u32 asked;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < ASKED_MAX; i++, offset += sizeof(asked)) {
		if (bpf_skb_load_bytes(skb, offset, &asked, sizeof(asked)))
			break;
		slot = bpf_map_lookup_elem(&slots, &asked);
		asked = slot && connection_lives(skb, slot);
		if (bpf_skb_store_bytes(skb, offset, &asked, sizeof(asked), 0))
			break;
	}
	return TC_ACT_OK;
}
