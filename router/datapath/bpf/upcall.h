/* Handing a first packet up to the router, through the TAP.
 *
 * The frame's source address says whose it is: 02:01 and the index of the
 * endpoint. Its destination is the TAP's own, so that the frame, written back
 * unchanged, is taken for one to this host.
 */
#ifndef MARGAY_UPCALL_H
#define MARGAY_UPCALL_H

#include "drop.h"
#include "parse.h"

/* First two bytes of the source address of a frame on the TAP. */
#define UPCALLED_FRAME 0x0201	/* from endpoint N, back from the router */
#define INJECTED_FRAME 0x0202	/* made by the router, to endpoint N */

/* Set by user space before the program is loaded. */
const volatile __u32 upcall_ifindex;
const volatile __u8 upcall_mac[ETH_ALEN];

struct upcall_addresses {
	__u8 destination[ETH_ALEN];
	__u16 kind;		/* network byte order */
	__u32 endpoint;		/* network byte order */
} __attribute__((packed));
_Static_assert(sizeof(struct upcall_addresses) == 2 * ETH_ALEN, "upcall_addresses");

/* Takes one credit; user space returns it when it is done with the packet.
 * CPUs that race here may overdraw by one packet each.
 */
static __always_inline int upcall_credit(struct endpoint *endpoint)
{
	__u64 done = *(volatile __u64 *)&endpoint->upcalls_done;
	__s64 outstanding = *(volatile __u64 *)&endpoint->upcalls_sent - done;

	if (outstanding >= (__s64)endpoint->upcall_quota)
		return 0;
	__sync_fetch_and_add(&endpoint->upcalls_sent, 1);
	return 1;
}

static __always_inline int upcall(struct __sk_buff *skb, struct endpoint *endpoint, __u32 index)
{
	struct upcall_addresses addresses;
	int i;

	if (!upcall_credit(endpoint))
		return drop(DROP_UPCALL_QUOTA);

#pragma unroll
	for (i = 0; i < ETH_ALEN; i++)
		addresses.destination[i] = upcall_mac[i];
	addresses.kind = bpf_htons(UPCALLED_FRAME);
	addresses.endpoint = bpf_htonl(index);
	/* By helper: one direct write would have the kernel unshare every packet
	 * of every flow before the program begins.
	 */
	if (bpf_skb_store_bytes(skb, 0, &addresses, sizeof(addresses), 0))
		return drop(DROP_REWRITE_FAILED);
	return bpf_redirect(upcall_ifindex, 0);
}

#endif
