/* From bytes to a flow key. */
#ifndef MARGAY_PARSE_H
#define MARGAY_PARSE_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "drop_reason.h"
#include "layout.h"

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* The longest headers that parse() looks at: Ethernet, IPv4 with all options,
 * TCP without options.
 */
#define HEADERS_LEN_MAX (ETH_HLEN + 60 + sizeof(struct tcphdr))

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* linux/icmp.h would bring in the C library's socket headers. */
#define ICMP_ECHO_REPLY 0
#define ICMP_DEST_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

#define ICMPV6_MLD_QUERY 130
#define ICMPV6_NEIGHBOUR_REDIRECT 137
#define ICMPV6_MLD2_REPORT 143

/* The flag byte of a TCP header. */
#define TCP_FLAGS_OFFSET 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct packet {
	struct flow_key key;
	__u32 transport;		/* offset of the transport header */
	__u32 source_port;		/* offset of the field behind the key's port */
	__u32 destination_port;		/* likewise */
	__u8 tcp_flags;			/* 0 unless TCP */
	__u8 is_ipv6;
};

/* What parse() answers where it does not name a drop reason. */
#define PARSED (-1)
/* A fragment, an ICMP error, or a packet with IPv6 extension headers: patient.h
 * takes another look at it.
 */
#define NOT_PLAIN (-2)

static __always_inline int address_is_multicast(const union address *address)
{
	/* 224.0.0.0/4 and 240.0.0.0/4, which holds the limited broadcast. */
	if (address->halves[0] == 0 && address->words[2] == bpf_htonl(0xffff))
		return address->bytes[12] >= 224;
	return address->bytes[0] == 0xff;
}

static __always_inline int unknown_protocol(const struct packet *packet)
{
	return address_is_multicast(&packet->key.destination) ? DROP_LOCAL_CONTROL :
								DROP_UNKNOWN_PROTOCOL;
}

static __always_inline int parse_ports(struct packet *packet, void *transport, void *end,
				       __u32 header_len)
{
	__be16 *ports = transport;

	if (transport + header_len > end)
		return DROP_TRUNCATED;
	packet->key.source_port = ports[0];
	packet->key.destination_port = ports[1];
	packet->source_port = packet->transport;
	packet->destination_port = packet->transport + 2;
	return PARSED;
}

static __always_inline int parse_tcp(struct packet *packet, void *transport, void *end)
{
	int parsed = parse_ports(packet, transport, end, sizeof(struct tcphdr));

	if (parsed == PARSED)
		packet->tcp_flags = *(__u8 *)(transport + TCP_FLAGS_OFFSET);
	return parsed;
}

/* Errors are about another packet, by which core finds the flow. */
static __always_inline int is_icmp_error(__u8 is_ipv6, __u8 type)
{
	if (is_ipv6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

static __always_inline int parse_echo(struct packet *packet, void *transport, void *end)
{
	/* ICMP echo has the same shape (RFC 792, RFC 4443 section 4). */
	struct icmp6hdr *icmp = transport;
	__u8 request = packet->is_ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST;
	__u8 reply = packet->is_ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY;

	if (transport + sizeof(*icmp) > end)
		return DROP_TRUNCATED;
	if (icmp->icmp6_type == request && icmp->icmp6_code == 0) {
		packet->key.source_port = icmp->icmp6_identifier;
	} else if (icmp->icmp6_type == reply && icmp->icmp6_code == 0) {
		packet->key.destination_port = icmp->icmp6_identifier;
	} else if (packet->is_ipv6 &&
		   ((icmp->icmp6_type >= ICMPV6_MLD_QUERY && icmp->icmp6_type <= ICMPV6_NEIGHBOUR_REDIRECT) ||
		    icmp->icmp6_type == ICMPV6_MLD2_REPORT)) {
		/* Multicast listener and neighbour discovery. */
		return DROP_LOCAL_CONTROL;
	} else if (is_icmp_error(packet->is_ipv6, icmp->icmp6_type)) {
		return NOT_PLAIN;
	} else {
		return unknown_protocol(packet);
	}
	packet->source_port = packet->transport + offsetof(struct icmp6hdr, icmp6_identifier);
	packet->destination_port = packet->source_port;
	return PARSED;
}

static __always_inline int is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;
}

static __always_inline int parse_transport(struct packet *packet, void *transport, void *end)
{
	if (packet->key.protocol == IPPROTO_TCP)
		return parse_tcp(packet, transport, end);
	if (packet->key.protocol == IPPROTO_UDP)
		return parse_ports(packet, transport, end, sizeof(struct udphdr));
	if (packet->key.protocol == (packet->is_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return parse_echo(packet, transport, end);
	if (packet->is_ipv6 && is_extension(packet->key.protocol) &&
	    !address_is_multicast(&packet->key.destination))
		return NOT_PLAIN;
	return unknown_protocol(packet);
}

static __always_inline int parse_ipv4(struct packet *packet, void *network, void *end)
{
	struct iphdr *ip = network;
	__u32 header_len;

	if (network + sizeof(*ip) > end)
		return DROP_TRUNCATED;
	header_len = ip->ihl * 4;
	if (ip->version != 4 || header_len < sizeof(*ip))
		return DROP_UNKNOWN_PROTOCOL;

	packet->key.source.words[2] = bpf_htonl(0xffff);
	packet->key.source.words[3] = ip->saddr;
	packet->key.destination.words[2] = bpf_htonl(0xffff);
	packet->key.destination.words[3] = ip->daddr;
	packet->key.protocol = ip->protocol;
	packet->transport = ETH_HLEN + header_len;
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return NOT_PLAIN;
	return parse_transport(packet, network + header_len, end);
}

static __always_inline int parse_ipv6(struct packet *packet, void *network, void *end)
{
	struct ipv6hdr *ip = network;

	if (network + sizeof(*ip) > end)
		return DROP_TRUNCATED;
	if (ip->version != 6)
		return DROP_UNKNOWN_PROTOCOL;

	packet->is_ipv6 = 1;
	__builtin_memcpy(&packet->key.source, &ip->saddr, sizeof(packet->key.source));
	__builtin_memcpy(&packet->key.destination, &ip->daddr, sizeof(packet->key.destination));
	packet->key.protocol = ip->nexthdr;
	packet->transport = ETH_HLEN + sizeof(*ip);
	return parse_transport(packet, network + sizeof(*ip), end);
}

static __always_inline int parse_frame(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;

	__builtin_memset(packet, 0, sizeof(*packet));
	if (data + sizeof(*eth) > end)
		return DROP_TRUNCATED;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(packet, data + sizeof(*eth), end);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(packet, data + sizeof(*eth), end);
	if (eth->h_proto == bpf_htons(ETH_P_ARP))
		return DROP_LOCAL_CONTROL;
	return DROP_UNKNOWN_PROTOCOL;
}

/* A frame whose linear part ends before its headers do. To make it longer costs
 * most senders a copy of what they keep for repetition.
 */
static __noinline int parse_scattered(struct __sk_buff *skb, struct packet *packet)
{
	bpf_skb_pull_data(skb, skb->len < HEADERS_LEN_MAX ? skb->len : HEADERS_LEN_MAX);
	return parse_frame(skb, packet);
}

/* Reads the headers of a plain packet; answers PARSED, NOT_PLAIN or the reason
 * to drop it.
 */
static __always_inline int parse(struct __sk_buff *skb, struct packet *packet)
{
	int parsed = parse_frame(skb, packet);

	if (unlikely(parsed == DROP_TRUNCATED && skb->data_end - skb->data < skb->len))
		return parse_scattered(skb, packet);
	return parsed;
}

#endif
