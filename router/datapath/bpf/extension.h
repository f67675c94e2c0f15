/* IPv6 extension headers, from the fixed header to the transport (RFC 8200
 * section 4).
 */
#ifndef MARGAY_EXTENSION_H
#define MARGAY_EXTENSION_H

#include "fragment.h"
#include "parse.h"

/* Headers walked before a packet is given up: each kind once and destination
 * options twice, as RFC 8200 section 4.1 has them, and as many again.
 */
#define EXTENSIONS_MAX 10

/* The first bytes of every extension header. */
struct extension {
	__u8 next;
	__u8 length;		/* in units of 8 bytes, the first not counted */
	union {
		struct {
			__u8 routing_type;
			__u8 segments_left;
		};
		__be16 fragment_offset;	/* and, in the last bit, more fragments */
	};
	__be32 identification;	/* of a fragment */
};
_Static_assert(sizeof(struct extension) == 8, "extension");

#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

static __always_inline void fragment_of_ipv6(struct fragment *fragment,
					     const struct extension *header)
{
	fragment->is_later = !!(header->fragment_offset & bpf_htons(IPV6_FRAGMENT_OFFSET));
	fragment->is_first = !fragment->is_later &&
			     header->fragment_offset & bpf_htons(IPV6_MORE_FRAGMENTS);
	fragment->identification = header->identification;
	fragment->protocol = header->next;
}

/* Walks from the fixed header on; sets the packet's protocol and transport
 * offset, and `fragment` where there is such a header.
 */
static __always_inline int walk_extensions(struct __sk_buff *skb, struct packet *packet,
					   struct fragment *fragment)
{
	struct extension header;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < EXTENSIONS_MAX; i++) {
		if (!is_extension(packet->key.protocol))
			return PARSED;
		if (bpf_skb_load_bytes(skb, packet->transport, &header, sizeof(header)))
			return DROP_TRUNCATED;
		/* The destination address is not yet the one that it is for. */
		if (packet->key.protocol == IPPROTO_ROUTING && header.segments_left)
			return DROP_EXTENSION_HEADERS;
		if (packet->key.protocol == IPPROTO_FRAGMENT) {
			header.length = 0;
			fragment_of_ipv6(fragment, &header);
			if (fragment->is_later)
				return PARSED;
		}
		packet->key.protocol = header.next;
		packet->transport += (header.length + 1) * 8;
	}
	return DROP_EXTENSION_HEADERS;
}

#endif
