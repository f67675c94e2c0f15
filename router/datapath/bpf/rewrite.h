/* Makes the packet look as its receiver shall see it.
 *
 * The helpers below know about CHECKSUM_PARTIAL and super-packets: a checksum
 * that the sender left to the device stays left to it, with its pseudo-header
 * part corrected.
 */
#ifndef MARGAY_REWRITE_H
#define MARGAY_REWRITE_H

#include "parse.h"

#define REWRITTEN 0

/* Where the transport checksum is, and how it behaves. */
struct checksum {
	__u32 offset;
	__u64 flags;		/* BPF_F_MARK_MANGLED_0: zero means "none" (UDP) */
	__u8 covers_addresses;	/* by a pseudo-header; ICMP over IPv4 has none */
};

static __always_inline struct checksum checksum_of(const struct packet *packet)
{
	struct checksum checksum = { .covers_addresses = 1 };

	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		checksum.offset = packet->transport + offsetof(struct tcphdr, check);
		break;
	case IPPROTO_UDP:
		checksum.offset = packet->transport + offsetof(struct udphdr, check);
		checksum.flags = BPF_F_MARK_MANGLED_0;
		break;
	default:
		checksum.offset = packet->transport + offsetof(struct icmp6hdr, icmp6_cksum);
		checksum.covers_addresses = packet->is_ipv6;
	}
	return checksum;
}

static __always_inline long rewrite_ipv4_address(struct __sk_buff *skb,
						 const struct checksum *checksum, __u32 offset,
						 __be32 from, __be32 to)
{
	long error;

	if (from == to)
		return REWRITTEN;
	if (checksum->covers_addresses) {
		error = bpf_l4_csum_replace(skb, checksum->offset, from, to,
					    checksum->flags | BPF_F_PSEUDO_HDR | sizeof(to));
		if (error)
			return error;
	}
	error = bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), from, to,
				    sizeof(to));
	if (error)
		return error;
	return bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

/* BPF_F_IPV6 is not passed: kernels before 6.16 refuse it, and it matters only
 * to checksums that a network card has summed, which no veth or TAP delivers.
 */
static __always_inline long rewrite_ipv6_address(struct __sk_buff *skb,
						 const struct checksum *checksum, __u32 offset,
						 const union address *from,
						 const union address *to)
{
	union address old = *from, new = *to;
	__s64 difference;
	long error;

	if (old.halves[0] == new.halves[0] && old.halves[1] == new.halves[1])
		return REWRITTEN;
	difference = bpf_csum_diff(old.words, sizeof(old), new.words, sizeof(new), 0);
	if (difference < 0)
		return difference;
	error = bpf_l4_csum_replace(skb, checksum->offset, 0, difference,
				    checksum->flags | BPF_F_PSEUDO_HDR);
	if (error)
		return error;
	return bpf_skb_store_bytes(skb, offset, &new, sizeof(new), 0);
}

static __always_inline long rewrite_port(struct __sk_buff *skb, const struct checksum *checksum,
					 __u32 offset, __be16 from, __be16 to)
{
	long error;

	if (from == to)
		return REWRITTEN;
	error = bpf_l4_csum_replace(skb, checksum->offset, from, to,
				    checksum->flags | sizeof(to));
	if (error)
		return error;
	return bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

static __always_inline long rewrite_addresses(struct __sk_buff *skb, const struct packet *packet,
					      const struct checksum *checksum,
					      const struct flow_key *to)
{
	const struct flow_key *from = &packet->key;
	long error;

	if (packet->is_ipv6) {
		error = rewrite_ipv6_address(skb, checksum,
					     ETH_HLEN + offsetof(struct ipv6hdr, saddr),
					     &from->source, &to->source);
		if (error)
			return error;
		return rewrite_ipv6_address(skb, checksum,
					    ETH_HLEN + offsetof(struct ipv6hdr, daddr),
					    &from->destination, &to->destination);
	}
	error = rewrite_ipv4_address(skb, checksum, ETH_HLEN + offsetof(struct iphdr, saddr),
				     from->source.words[3], to->source.words[3]);
	if (error)
		return error;
	return rewrite_ipv4_address(skb, checksum, ETH_HLEN + offsetof(struct iphdr, daddr),
				    from->destination.words[3], to->destination.words[3]);
}

/* Rewrites addresses and ports (an echo's identifier is the port that is not
 * 0) to those of `to`; answers REWRITTEN or an error.
 */
static __always_inline long rewrite(struct __sk_buff *skb, const struct packet *packet,
				    const struct flow_key *to)
{
	struct checksum checksum = checksum_of(packet);
	long error = rewrite_addresses(skb, packet, &checksum, to);

	if (error)
		return error;
	error = rewrite_port(skb, &checksum, packet->source_port, packet->key.source_port,
			     to->source_port);
	if (error)
		return error;
	return rewrite_port(skb, &checksum, packet->destination_port,
			    packet->key.destination_port, to->destination_port);
}

/* A later fragment has addresses only: checksum and ports are in its first one. */
static __always_inline long rewrite_later_fragment(struct __sk_buff *skb,
						   const struct packet *packet,
						   const struct flow_key *to)
{
	const struct checksum none = {};
	union address addresses[2] = { to->source, to->destination };

	if (!packet->is_ipv6)
		return rewrite_addresses(skb, packet, &none, to);
	return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), addresses,
				   sizeof(addresses), 0);
}

#endif
