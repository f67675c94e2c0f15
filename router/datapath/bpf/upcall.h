/* Handing a first packet up to the router, through the TAP.
 *
 * The frame's source address says whose it is: 02:01 and the index of the
 * endpoint. Its destination is the TAP's own, so that the frame, written back
 * unchanged, is taken for one to this host. What another host sent is marked 02:03
 * and the index of that host's location, or 0 where it is not known.
 */
#ifndef MARGAY_UPCALL_H
#define MARGAY_UPCALL_H

#include "drop.h"
#include "maps.h"
#include "parse.h"

/* First two bytes of the source address of a frame on the TAP. */
#define UPCALLED_FRAME 0x0201	/* from endpoint N, back from the router */
#define INJECTED_FRAME 0x0202	/* made by the router, to endpoint N */
#define PEER_FRAME 0x0203	/* from the host at location N, or from an unknown one */

/* First packets of other hosts that may wait in the TAP at once. Each is answered by
 * a frame to its host, which then asks for the flow: few show what has changed.
 */
#define PEER_UPCALLS_MAX 128

/* Set by user space before the program is loaded. */
const volatile __u32 upcall_ifindex;
const volatile __u8 upcall_mac[ETH_ALEN];

struct upcall_addresses {
	__u8 destination[ETH_ALEN];
	__u16 kind;		/* network byte order */
	__u32 endpoint;		/* network byte order */
} __attribute__((packed));
_Static_assert(sizeof(struct upcall_addresses) == 2 * ETH_ALEN, "upcall_addresses");

/* Takes one of `quota` credits; user space returns it when it is done with the
 * packet. CPUs that race here may overdraw by one packet each.
 */
static __always_inline int upcall_credit(__u64 *sent, __u64 *done, __u32 quota)
{
	__u64 returned = *(volatile __u64 *)done;
	__s64 outstanding = *(volatile __u64 *)sent - returned;

	if (outstanding >= (__s64)quota)
		return 0;
	__sync_fetch_and_add(sent, 1);
	return 1;
}

static __always_inline int hand_over(struct __sk_buff *skb, __u16 kind, __u32 index)
{
	struct upcall_addresses addresses;
	int i;

#pragma unroll
	for (i = 0; i < ETH_ALEN; i++)
		addresses.destination[i] = upcall_mac[i];
	addresses.kind = bpf_htons(kind);
	addresses.endpoint = bpf_htonl(index);
	/* By helper: one direct write would have the kernel unshare every packet
	 * of every flow before the program begins.
	 */
	if (bpf_skb_store_bytes(skb, 0, &addresses, sizeof(addresses), 0))
		return drop(DROP_REWRITE_FAILED);
	return bpf_redirect(upcall_ifindex, 0);
}

static __always_inline int upcall(struct __sk_buff *skb, struct endpoint *endpoint, __u32 index)
{
	if (!upcall_credit(&endpoint->upcalls_sent, &endpoint->upcalls_done,
			   endpoint->upcall_quota))
		return drop(DROP_UPCALL_QUOTA);
	return hand_over(skb, UPCALLED_FRAME, index);
}

/* `location` is 0 where nobody checked from which host the packet came. */
static __always_inline int upcall_of_peer(struct __sk_buff *skb, __u32 location)
{
	__u32 zero = 0;
	struct peer_upcalls *all = bpf_map_lookup_elem(&peer_upcalls, &zero);

	if (!all || !upcall_credit(&all->sent, &all->done, PEER_UPCALLS_MAX))
		return drop(DROP_UPCALL_QUOTA);
	return hand_over(skb, PEER_FRAME, location);
}

#endif
