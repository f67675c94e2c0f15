/* A second look at what is not plain: fragments, ICMP errors, IPv6 extension
 * headers. Reads by helper, wherever a header may be; plain packets never come
 * here.
 */
#ifndef MARGAY_PATIENT_H
#define MARGAY_PATIENT_H

#include "extension.h"
#include "fragment.h"
#include "parse.h"

/* What patient_parse() answers beside PARSED and reasons to drop. */
#define PARSED_LATER_FRAGMENT (-3)
#define PARSED_ICMP_ERROR (-4)

/* The transport header as far as parse_transport() reads it. */
#define TRANSPORT_LEN_MAX sizeof(struct tcphdr)

static __always_inline int patient_ipv4(struct __sk_buff *skb, struct packet *packet,
					struct fragment *fragment)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return DROP_TRUNCATED;
	packet->key.source.words[2] = bpf_htonl(0xffff);
	packet->key.source.words[3] = ip.saddr;
	packet->key.destination.words[2] = bpf_htonl(0xffff);
	packet->key.destination.words[3] = ip.daddr;
	packet->key.protocol = ip.protocol;
	packet->transport = ETH_HLEN + ip.ihl * 4;
	fragment_of_ipv4(fragment, &ip);
	return PARSED;
}

static __always_inline int patient_ipv6(struct __sk_buff *skb, struct packet *packet,
					struct fragment *fragment)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return DROP_TRUNCATED;
	packet->is_ipv6 = 1;
	__builtin_memcpy(&packet->key.source, &ip.saddr, sizeof(packet->key.source));
	__builtin_memcpy(&packet->key.destination, &ip.daddr, sizeof(packet->key.destination));
	packet->key.protocol = ip.nexthdr;
	packet->transport = ETH_HLEN + sizeof(ip);
	return walk_extensions(skb, packet, fragment);
}

/* Reads the transport header from where the walk ended. */
static __always_inline int patient_transport(struct __sk_buff *skb, struct packet *packet)
{
	__u8 transport[TRANSPORT_LEN_MAX] = {};
	__u32 wanted = packet->key.protocol == IPPROTO_TCP ? sizeof(struct tcphdr) :
							     sizeof(struct udphdr);
	int parsed;

	/* UDP and ICMP both have eight bytes. */
	_Static_assert(sizeof(struct udphdr) == sizeof(struct icmp6hdr), "eight bytes");
	if (bpf_skb_load_bytes(skb, packet->transport, transport, sizeof(struct udphdr)))
		return DROP_TRUNCATED;
	if (wanted > sizeof(struct udphdr) &&
	    bpf_skb_load_bytes(skb, packet->transport, transport, sizeof(struct tcphdr)))
		return DROP_TRUNCATED;
	parsed = parse_transport(packet, transport, transport + sizeof(transport));
	return parsed == NOT_PLAIN ? PARSED_ICMP_ERROR : parsed;
}

/* Reads all headers of a packet that came from the device `ifindex`. parse() has
 * seen that it is IPv4 or IPv6 with a whole first header.
 */
static __always_inline int patient_parse(struct __sk_buff *skb, struct packet *packet,
					 __u32 ifindex)
{
	struct fragment fragment = {};
	int parsed;

	__builtin_memset(packet, 0, sizeof(*packet));
	parsed = skb->protocol == bpf_htons(ETH_P_IPV6) ? patient_ipv6(skb, packet, &fragment) :
							  patient_ipv4(skb, packet, &fragment);
	if (parsed != PARSED)
		return parsed;
	if (fragment.is_later) {
		parsed = fragment_recall(packet, &fragment, ifindex);
		return parsed == PARSED ? PARSED_LATER_FRAGMENT : parsed;
	}
	parsed = patient_transport(skb, packet);
	if (!fragment.is_first)
		return parsed;
	/* No error is so long that it must come in pieces. */
	if (parsed == PARSED_ICMP_ERROR)
		return DROP_FRAGMENT;
	return parsed == PARSED ? fragment_remember(packet, &fragment, ifindex) : parsed;
}

#endif
