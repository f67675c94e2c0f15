/* The two attach points of the data path. One object, because they share all
 * their maps and all that follows the first look at a packet.
 */
#include "answer.h"
#include "deliver.h"
#include "drop.h"
#include "endpoint.h"
#include "flow.h"
#include "parse.h"
#include "upcall.h"

/* No helper in use asks for a GPL-compatible program. */
char LICENSE[] SEC("license") = "Apache-2.0 OR MIT";

/* What no flow table entry matched: an answer from another address, or a flow
 * that is new to the kernel.
 */
static __always_inline int miss(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 ifindex = skb->ifindex;
	__u32 *index = bpf_map_lookup_elem(&endpoints, &ifindex);
	struct endpoint *endpoint;
	struct slot *slot;

	if (!index)
		return drop(DROP_UNKNOWN_ENDPOINT);
	endpoint = bpf_map_lookup_elem(&endpoint_rows, index);
	if (!endpoint)
		return drop(DROP_UNKNOWN_ENDPOINT);
	if (address_is_multicast(&packet->key.destination))
		return drop(DROP_LOCAL_CONTROL);
	if (!endpoint_owns(endpoint, &packet->key.source))
		return drop(DROP_FORGED_SOURCE);
	slot = answer_lookup(packet, endpoint, ifindex);
	if (slot)
		return deliver(skb, packet, slot, slot->flags | SLOT_REWRITE);
	return upcall(skb, endpoint, *index);
}

/* TCX ingress, host side of an instance's veth: all that the instance sends. */
SEC("classifier")
int from_instance(struct __sk_buff *skb)
{
	struct packet packet;
	struct slot *slot;
	int parsed = parse(skb, &packet);

	if (unlikely(parsed != PARSED))
		return drop(parsed);
	slot = flow_lookup(&packet.key);
	if (unlikely(!slot))
		return miss(skb, &packet);
	if (unlikely(slot->ingress_ifindex != skb->ifindex))
		return drop(DROP_FORGED_SOURCE);
	return deliver(skb, &packet, slot, slot->flags);
}

/* The router's packet to an instance, past the flow table. */
static __always_inline int inject(__u32 index)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoint_rows, &index);

	if (!endpoint || !endpoint->ifindex)
		return drop(DROP_UNKNOWN_ENDPOINT);
	return bpf_redirect_peer(endpoint->ifindex, 0);
}

/* An upcalled packet on its way back: its flow is open now. Who sent it was
 * checked on the way up.
 */
static __always_inline int resume(struct __sk_buff *skb)
{
	struct packet packet;
	struct slot *slot;
	int parsed = parse(skb, &packet);

	if (parsed != PARSED)
		return drop(parsed);
	slot = flow_lookup(&packet.key);
	if (!slot)
		return drop(DROP_UPCALL_MISS);
	return deliver(skb, &packet, slot, slot->flags);
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
		return resume(skb);
	if (addresses->kind == bpf_htons(INJECTED_FRAME))
		return inject(bpf_ntohl(addresses->endpoint));
	return drop(DROP_UNKNOWN_ENDPOINT);
}
