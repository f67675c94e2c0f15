/* Other hosts: sending packets to them, and knowing whose packets come. */
#ifndef MARGAY_PEER_H
#define MARGAY_PEER_H

#include "drop.h"
#include "encapsulation.h"
#include "maps.h"

/* Set by user space before the program is loaded. */
const volatile __u16 data_port;		/* network byte order; 0: there are no other hosts */
const volatile __u32 network_pool;	/* network byte order: virtual IPs of all hosts, IPv4 */
const volatile __u32 network_mask;	/* network byte order */
const volatile __u16 network_prefix[3];	/* network byte order: the first 48 bits, IPv6 */

/* Of the kernel's interface; linux/socket.h does not say. */
#define AF_INET 2
#define AF_INET6 10

/* Whether packets to a host, and from it, go as they are: the kernel hands no IPv6 to
 * a neighbour by IPv4.
 */
static __always_inline int goes_plain(const struct __sk_buff *skb, const struct location_row *way)
{
	return way->kind == LOCATION_NEIGHBOUR &&
	       (skb->protocol == bpf_htons(ETH_P_IP) || !address_is_ipv4(&way->to));
}

/* As it is, to a neighbour, whose family may be another than the packet's. */
static __always_inline int send_plain(const struct location_row *way)
{
	struct bpf_redir_neigh neighbour = {};

	if (address_is_ipv4(&way->to)) {
		neighbour.nh_family = AF_INET;
		neighbour.ipv4_nh = way->to.words[3];
	} else {
		neighbour.nh_family = AF_INET6;
		__builtin_memcpy(neighbour.ipv6_nh, &way->to, sizeof(neighbour.ipv6_nh));
	}
	return bpf_redirect_neigh(way->ifindex, &neighbour, sizeof(neighbour), 0);
}

static __noinline int send_to_peer(struct __sk_buff *skb, struct location_row *way)
{
	if (goes_plain(skb, way))
		return send_plain(way);
	if (encapsulate(skb, way) != ENCAPSULATED)
		return drop(DROP_REWRITE_FAILED);
	/* By the host's own routes to the other one. */
	return bpf_redirect_neigh(way->ifindex, NULL, 0, 0);
}

/* Whether an address is a virtual IP of the network. */
static __always_inline int is_virtual(const union address *address)
{
	const __u16 *head = (const __u16 *)address;

	if (address_is_ipv4(address))
		return network_mask && (address->words[3] & network_mask) == network_pool;
	return head[0] == network_prefix[0] && head[1] == network_prefix[1] &&
	       head[2] == network_prefix[2] && head[0];
}

/* Whether the packet came from the host at a location, by a way that leads there. */
static __always_inline int came_from(struct __sk_buff *skb, __u32 location,
				     const struct outer *outer)
{
	struct location_cell *cell;
	struct location_row *way;
	__u32 row;

	cell = bpf_map_lookup_elem(&locations, &location);
	if (!cell)
		return 0;
	row = *(volatile __u32 *)&cell->row;
	way = bpf_map_lookup_elem(&location_rows, &row);
	if (!way || way->kind < LOCATION_NEIGHBOUR)
		return 0;
	if (!outer->len)
		return goes_plain(skb, way) && way->ifindex == skb->ifindex;
	return way->to_port == outer->from_port && way->to.halves[0] == outer->from.halves[0] &&
	       way->to.halves[1] == outer->from.halves[1];
}

/* Whether the packet came from the host that a flow's packets come from. */
static __always_inline int is_from_peer(struct __sk_buff *skb, const struct slot *slot,
					const struct outer *outer)
{
	__u32 ingress = slot->ingress;

	return ingress & PEER_INGRESS && came_from(skb, ingress & ~PEER_INGRESS, outer);
}

#endif
