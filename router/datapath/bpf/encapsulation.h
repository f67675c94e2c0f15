/* Packets between hosts in UDP datagrams: nothing stands between the UDP header
 * and the packet, whose first four bits say what it is. No checksum: the packet
 * has its own (RFC 6935, RFC 6936).
 */
#ifndef MARGAY_ENCAPSULATION_H
#define MARGAY_ENCAPSULATION_H

#include "parse.h"

/* Of the kernel's interface since Linux 6.3 (include/uapi/linux/bpf.h); older
 * headers lack them.
 */
#define ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

#define ENCAPSULATED 0

#define OUTER_HOPS 64
#define IPV4_DONT_FRAGMENT 0x4000

struct outer_ipv4 {
	struct iphdr ip;
	struct udphdr udp;
};
_Static_assert(sizeof(struct outer_ipv4) == 28, "outer_ipv4");

struct outer_ipv6 {
	struct ipv6hdr ip;
	struct udphdr udp;
};
_Static_assert(sizeof(struct outer_ipv6) == 48, "outer_ipv6");

static __always_inline int address_is_ipv4(const union address *address)
{
	return address->halves[0] == 0 && address->words[2] == bpf_htonl(0xffff);
}

/* One's complement of the one's complement sum of a header (RFC 1071). */
static __always_inline __sum16 header_checksum(struct iphdr *ip)
{
	__u64 sum = bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline struct udphdr outer_udp(const struct location_row *way, __u32 len)
{
	return (struct udphdr){
		.source = way->from_port,
		.dest = way->to_port,
		.len = bpf_htons(len),
	};
}

static __always_inline long encapsulate_ipv4(struct __sk_buff *skb, const struct location_row *way)
{
	__u32 len = skb->len - ETH_HLEN + sizeof(struct outer_ipv4);
	struct outer_ipv4 outer = {
		.ip = {
			.version = 4,
			.ihl = sizeof(struct iphdr) / 4,
			.tot_len = bpf_htons(len),
			.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
			.ttl = OUTER_HOPS,
			.protocol = IPPROTO_UDP,
			.saddr = way->from.words[3],
			.daddr = way->to.words[3],
		},
		.udp = outer_udp(way, len - sizeof(struct iphdr)),
	};
	long error = bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
					 BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
						 BPF_F_ADJ_ROOM_ENCAP_L4_UDP);

	if (error)
		return error;
	outer.ip.check = header_checksum(&outer.ip);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
}

static __always_inline long encapsulate_ipv6(struct __sk_buff *skb, const struct location_row *way)
{
	__u32 len = skb->len - ETH_HLEN + sizeof(struct udphdr);
	struct outer_ipv6 outer = {
		.ip = {
			.version = 6,
			.payload_len = bpf_htons(len),
			.nexthdr = IPPROTO_UDP,
			.hop_limit = OUTER_HOPS,
		},
		.udp = outer_udp(way, len),
	};
	long error = bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
					 BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 |
						 BPF_F_ADJ_ROOM_ENCAP_L4_UDP);

	if (error)
		return error;
	__builtin_memcpy(&outer.ip.saddr, &way->from, sizeof(outer.ip.saddr));
	__builtin_memcpy(&outer.ip.daddr, &way->to, sizeof(outer.ip.daddr));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
}

/* Puts a packet into a datagram to another host; answers ENCAPSULATED or an
 * error. Of a super-packet the lengths are the device's to correct, as of all
 * that it cuts.
 */
static __always_inline long encapsulate(struct __sk_buff *skb, const struct location_row *way)
{
	return address_is_ipv4(&way->to) ? encapsulate_ipv4(skb, way) : encapsulate_ipv6(skb, way);
}

/* What stands around a packet of another host. */
struct outer {
	union address from;
	__u16 from_port;	/* network byte order */
	__u32 len;		/* of both headers; 0: it comes as it is */
	__u64 flags;		/* for bpf_skb_adjust_room() */
};

/* Whether the frame holds a datagram to `port` (network byte order); describes it
 * then.
 */
static __always_inline int is_encapsulated(struct __sk_buff *skb, struct outer *outer, __u16 port)
{
	struct outer_ipv4 v4;
	struct outer_ipv6 v6;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, &v4, sizeof(v4)))
			return 0;
		if (v4.ip.protocol != IPPROTO_UDP || v4.ip.ihl != sizeof(struct iphdr) / 4 ||
		    v4.udp.dest != port ||
		    v4.ip.frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
			return 0;
		outer->from.words[2] = bpf_htonl(0xffff);
		outer->from.words[3] = v4.ip.saddr;
		outer->from_port = v4.udp.source;
		outer->len = sizeof(v4);
		return 1;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &v6, sizeof(v6)))
		return 0;
	if (v6.ip.nexthdr != IPPROTO_UDP || v6.udp.dest != port)
		return 0;
	__builtin_memcpy(&outer->from, &v6.ip.saddr, sizeof(outer->from));
	outer->from_port = v6.udp.source;
	outer->len = sizeof(v6);
	return 1;
}

/* Takes the packet out; answers 0 or an error. */
static __always_inline long decapsulate(struct __sk_buff *skb, const struct outer *outer)
{
	__u8 first;
	__be16 protocol;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	long error = bpf_skb_load_bytes(skb, ETH_HLEN + outer->len, &first, sizeof(first));

	if (error)
		return error;
	if (first >> 4 == 4) {
		flags |= ADJ_ROOM_DECAP_L3_IPV4;
		protocol = bpf_htons(ETH_P_IP);
	} else {
		flags |= ADJ_ROOM_DECAP_L3_IPV6;
		protocol = bpf_htons(ETH_P_IPV6);
	}
	error = bpf_skb_adjust_room(skb, -(__s32)outer->len, BPF_ADJ_ROOM_MAC, flags);
	if (error)
		return error;
	return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol,
				   sizeof(protocol), 0);
}

#endif
